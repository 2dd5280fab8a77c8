"""The figures and tables: what is drawn is what the records say, a gap stays a gap, and bytes
repeat."""

import itertools
import math
import random

import matplotlib
import pandas as pd
import pytest

from agentlib import config, figures, records
from agentlib.figures import estimates, extra, statistics, style, tables

FACTUAL, MATHS = (
    [b.slice for b in config.BENCHMARKS if b.domain == domain] for domain in ("factual", "math")
)
STUDENTS = ("SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct")
TEACHER = "Qwen2.5-Coder-1.5B-Instruct"
SUBJECTS = (
    "Algebra",
    "Counting & Probability",
    "Geometry",
    "Intermediate Algebra",
    "Number Theory",
    "Prealgebra",
    "Precalculus",
)
MEASURED = (
    "fig1_mean_accuracy",
    "fig4_math_breakdown",
    "fig5_samples",
    "fig6_tokens",
    "fig7_code_errors",
    "fig8_retrieval_calls",
)


def synthetic(
    students: tuple[str, ...], teacher: str | None, questions: int, counts: tuple[int, ...]
) -> pd.DataFrame:
    """Records as an evaluation writes them, with invented but plausible values: a few errors, a
    few missing."""
    draw = random.Random(0)
    rows = []
    for model in (*students, *([teacher] if teacher else ())):
        methods = ("cot", "agent") if model == teacher else tuple(config.METHODS)
        for method, benchmark in itertools.product(methods, FACTUAL + MATHS):
            panel = benchmark in config.LAPTOP.panel_benchmarks
            voted = method in ("agent_distill", "agent_distill_ftp")
            ns = (
                counts
                if method in ("cot_distill", "agent_distill_ftp") and panel
                else (1, counts[-1])
            )
            for n, k in itertools.product(
                ns if voted or method == "cot_distill" else (1,), range(questions)
            ):
                chance = (
                    0.12
                    + 0.1 * method.startswith("agent_")
                    + 0.03 * n**0.5
                    + 0.1 * (model != STUDENTS[0])
                )
                errored = draw.random() < 0.01
                agent = method.startswith("agent")
                rows.append(
                    {
                        "id": f"{benchmark}-{k}",
                        "benchmark": benchmark,
                        "level": str(k % 5 + 1),
                        "domain": "factual" if benchmark in FACTUAL else "math",
                        "subject": SUBJECTS[k % 7] if benchmark == "math500-slice" else "",
                        "model": model,
                        "role": "teacher" if model == teacher else "student",
                        "method": method,
                        "n": n,
                        "temperature": 0.0 if n == 1 else 0.4,
                        "seed": 42,
                        "split": "test",
                        "correct": None if errored else draw.random() < chance,
                        "error": "lost" if errored else None,
                        "parse_errors": None if errored else int(agent and draw.random() < 0.2 / n),
                        "execution_errors": None
                        if errored
                        else int(agent and draw.random() < 0.3 / n),
                        "tool_calls": None if errored else int(agent) * draw.randint(0, 4),
                        "completion_tokens": (
                            None if errored else int(draw.lognormvariate(5.2 + 0.3 * agent, 0.4))
                        ),
                    }
                )
    return statistics.to_frame(rows)


@pytest.fixture(scope="module")
def smoke() -> pd.DataFrame:
    return synthetic(STUDENTS[:1], None, 2, (1, 2, 4))


@pytest.fixture(scope="module")
def laptop() -> pd.DataFrame:
    return synthetic(STUDENTS, TEACHER, 40, (1, 2, 4, 8))


QUESTION = (
    "In which country was the composer of the Brindle Suite born, and what is 48,211 × 7,309 in $?"
)
COT = {
    "question": QUESTION,
    "answer": "Norway",
    "correct": False,
    "text": (
        "The Brindle Suite was composed by Ada Holm. She was born in the north, where she learnt"
        " the violin from her uncle. I recall that the north belongs to Norway.\n\nSo 48,211 ×"
        " 7,309 is about $352,000,000.\nTherefore the answer is \\boxed{Norway}. 中文"
    ),
}
AGENT = {
    "question": QUESTION, "gold": "Denmark", "answer": "Denmark", "correct": True,
    "steps": [
        {"text": "Thought: To answer this I first find who composed the Brindle Suite, then where that person was born."
         " I will search for the suite.\nCode:\n```py\nprint(web_search('composer of Brindle Suite'))\n```",
         "code": "print(web_search('composer of Brindle Suite'))",
         "observation": "[1] Brindle Suite: The Brindle Suite is a piece for strings written in 1911 by Ada Holm.\n"
         "[2] Ada Holm: Ada Holm was a composer born in Aarhus."},
        {"text": "Thought: Ada Holm was born in Aarhus; now the country and the product.",
         "code": "place = web_search('Aarhus country')\nfor line in place.split('\\n'):\n    if 'Aarhus' in line:\n"
         "        print(line)\nprint(48211 * 7309)", "observation": "Aarhus is a city in Denmark.\n352374199"},
        {"text": "Thought: I have it.", "code": "final_answer('Denmark')", "observation": ""},
    ],
}  # fmt: skip
EXAMPLE = {
    "question": QUESTION,
    "trajectory": AGENT,
    "prefix": (
        "To answer this I first find who composed the Brindle Suite, then where that person was"
        " born."
    ),
}
VOTE = {
    "candidates": [
        {"code": "r = web_search('Ada Holm')\nprint(r)", "outcome": "Ada Holm was a composer born in Aarhus.",
         "failed": None, "group": 0},
        {"code": "print(web_search('Ada Holm born'))", "outcome": "Ada Holm was a composer born in Aarhus.",
         "failed": None, "group": 0},
        {"code": "final_answer('Norway')", "outcome": "final answer: Norway", "failed": None, "group": 3},
        {"code": "for line in r:\nprint(line)", "outcome": "IndentationError: expected an indented block",
         "failed": "parse", "group": None},
        {"code": "print(result['born'])", "outcome": "NameError: name 'result' is not defined",
         "failed": "execution", "group": None},
        {"code": "x = web_search('Ada Holm')", "outcome": "", "failed": None, "group": 5},
        {"code": "print(web_search('Holm, Ada'))", "outcome": "Ada Holm was a composer born in Aarhus.",
         "failed": None, "group": 0},
        {"code": "while True:\n    pass", "outcome": "stopped after 10 s", "failed": "timeout", "group": None},
    ],
    "chosen": 0,
}  # fmt: skip


CLAIMS = pd.DataFrame(
    {"difference": [15.0, -6.0, 1.0, math.nan], "low": [10.0, -12.0, -5.0, 0.2], "high": [20.0, -1.0, 7.0, 2.0],
     "holds": ["yes", "no", "not settled", "not run"], "margin": [0, 0, -5, 0], "published": [5.6, 0.8, 1.9, 17.4]},
    index=["acting helps", "a prefix helps", "a vote helps", "prompting fails"],
)  # fmt: skip


def every_figure(cases: pd.DataFrame, note: str) -> dict[str, matplotlib.figure.Figure]:
    found = {name: getattr(figures, name)(cases, note) for name in MEASURED}
    found["fig2_cot_against_agent"] = figures.fig2_cot_against_agent(COT, AGENT, note)
    found["fig3_prefix_and_vote"] = figures.fig3_prefix_and_vote(EXAMPLE, VOTE, note)
    found["data_efficiency"] = extra.data_efficiency(varied(cases), note)
    found["claims"] = extra.claim_chart(CLAIMS, note)
    return found


def varied(cases: pd.DataFrame) -> pd.DataFrame:
    """The greedy agent at three numbers of trajectories: right on none, on those of maths, on
    all."""
    greedy = estimates.select(cases, model=STUDENTS[0], method="agent_distill", n=1).assign(
        setting="trajectories"
    )
    right = {25: False, 50: greedy["domain"] == "math", 190: True}
    return pd.concat(
        [greedy.assign(value=value, correct=correct) for value, correct in right.items()]
    )


def heights(axes: matplotlib.axes.Axes, label: str) -> list[float]:
    return [
        bar.get_height()
        for group in axes.containers
        if getattr(group, "patches", None) and group.get_label() == label
        for bar in group
    ]


def texts(axes: matplotlib.axes.Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_every_figure_draws_one_student_with_footer_and_alt_text(smoke, tmp_path):
    drawn = every_figure(smoke, "preset smoke · run 0123456789")
    assert set(drawn) == set(style.ALT_TEXT)
    for name, figure in drawn.items():
        assert any(
            "preset smoke" in text.get_text() for text in [*figure.texts, figure._supxlabel] if text
        )
        assert len(style.ALT_TEXT[name]) > 40


def test_the_same_records_give_the_same_bytes(smoke, tmp_path):
    for name, draw in {
        "fig8_retrieval_calls": lambda: figures.fig8_retrieval_calls(smoke, "note"),
        "fig3_prefix_and_vote": lambda: figures.fig3_prefix_and_vote(EXAMPLE, VOTE, "note"),
    }.items():
        first = figures.save_figure(draw(), tmp_path / "a", name)
        shown = draw()
        # shown in a notebook before it is saved
        assert shown._repr_png_()[0].startswith(b"\x89PNG")
        second = figures.save_figure(shown, tmp_path / "b", name)
        assert [p.name for p in first] == [f"{name}.svg", f"{name}.png"]
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
        assert b"dc:date" not in first[0].read_bytes() and b"Software" not in first[1].read_bytes()
        assert style.ALT_TEXT[name].split(",")[0].encode() in first[0].read_bytes()


def test_data_efficiency_draws_the_mean_of_each_kind_of_benchmark(smoke):
    (axes,) = extra.data_efficiency(varied(smoke)).axes
    lines = {
        line.get_label(): list(line.get_ydata())
        for line in axes.lines
        if not line.get_label().startswith("_")
    }
    assert lines == {"all benchmarks": [0, 50, 100], "factual": [0, 0, 100], "maths": [0, 100, 100]}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["25", "50", "190"]
    with pytest.raises(ValueError, match="no case varies the number of trajectories"):
        extra.data_efficiency(varied(smoke).assign(setting="seed"))


def test_claims_are_drawn_by_their_verdict_and_those_that_were_not_run_are_not():
    (axes,) = extra.claim_chart(CLAIMS).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "acting helps",
        "a prefix helps",
        "a vote helps",
    ]
    places = {
        c.get_label(): (list(c.lines[0].get_xdata()), list(c.lines[0].get_ydata()))
        for c in axes.containers
    }
    assert places == {"yes (1)": ([15], [0]), "not settled (1)": ([1], [2]), "no (1)": ([-6], [1])}
    marks = {
        line.get_label(): list(line.get_xdata())
        for line in axes.lines
        if line.get_label() in ("margin", "published, nearest size")
    }
    assert marks == {"margin": [0, 0, -5], "published, nearest size": [5.6, 0.8, 1.9]}
    with pytest.raises(ValueError, match="no claim was run"):
        extra.claim_chart(CLAIMS.iloc[3:])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_chart_of_few_claims_cuts_off_no_marker_and_no_name(count):
    figure = extra.claim_chart(CLAIMS.iloc[:count])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_ylim() == (count - 0.5, -0.5)  # the first on top
    names = [tick.get_window_extent() for tick in axes.get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(names))


def test_loss_curves_have_a_line_a_method_and_a_dot_for_a_single_step():
    curve = [{"step": k, "loss": 2.0 - k} for k in range(2)]
    (axes,) = extra.loss_curves({"cot_distill": curve, "agent_distill": curve[:1]}, "note").axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[2.0, 1.0], [2.0]] and axes.lines[
        1
    ].get_marker() == "o"


def test_bars_of_other_peoples_questions_stand_at_their_accuracy(smoke):
    mine = smoke[(smoke["benchmark"] == "math500-slice") & (smoke["n"] == 1)].assign(
        benchmark="mine"
    )
    figure = extra.accuracy_bars(mine, "note")
    (axes,) = figure.axes
    heights = [patch.get_height() for patch in axes.patches]
    rights = [100 * mine[mine["method"] == m]["correct"].eq(True).mean() for m in config.METHODS]
    assert (
        heights == pytest.approx([right for right in rights if right])
        and texts(axes) == ["0"] * rights.count(0)
        and [t.get_text() for t in axes.get_xticklabels()] == ["mine"]
        and "mine" in figure.alt
    )
    with pytest.raises(ValueError, match="method 'magic' has no colour"):
        extra.accuracy_bars(mine.assign(method="magic"))


def test_drawing_leaves_no_settings_behind_and_shows_without_pyplot(smoke):
    before = dict(matplotlib.rcParams)
    figure = figures.fig2_cot_against_agent(COT, AGENT)
    assert figure._repr_png_()[0].startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before


def test_bars_are_as_high_as_the_accuracies(laptop):
    axes = figures.fig1_mean_accuracy(laptop).axes[0]
    for method, n, label in (
        ("cot", 1, "CoT prompting"),
        ("agent_distill_ftp", 8, "Agent distillation (FTP + SAG)"),
    ):
        chosen = laptop[
            (laptop["method"] == method) & (laptop["n"] == n) & (laptop["role"] == "student")
        ]
        right = chosen["correct"].eq(True).groupby([chosen["model"], chosen["benchmark"]]).mean()
        assert heights(axes, label)[:2] == pytest.approx(
            [100 * right[model].mean() for model in STUDENTS]
        )
    assert len(heights(axes, "CoT distillation")) == 2  # a teacher is not distilled ...
    assert "not run" not in texts(axes)  # ... and that is no gap

    by_subject = figures.fig4_math_breakdown(laptop).axes[0]
    chosen = laptop[
        (laptop["benchmark"] == "math500-slice")
        & (laptop["model"] == STUDENTS[1])
        & (laptop["n"] == 8)
    ]
    right = (
        chosen[chosen["method"] == "agent_distill"]
        .groupby("subject")["correct"]
        .apply(lambda c: c.eq(True).mean())
    )
    assert heights(by_subject, "Agent distillation + SAG") == pytest.approx(
        [100 * right[s] for s in SUBJECTS if right[s]]
    )


def test_no_bar_or_whisker_is_cut_off(laptop):
    for draw in (
        figures.fig4_math_breakdown,
        figures.fig7_code_errors,
        figures.fig8_retrieval_calls,
    ):
        for axes in draw(laptop).axes:
            assert axes.dataLim.y1 <= axes.get_ylim()[1] and axes.get_ylim()[0] == 0


def test_a_gap_stays_a_gap(laptop):
    without = laptop[laptop["method"] != "cot_distill"]
    axes = figures.fig1_mean_accuracy(without).axes[0]
    assert heights(axes, "CoT distillation") == [] and texts(axes).count("not run") == 2
    # One benchmark short is a gap too: a mean over seven is not comparable with a mean over eight.
    short = laptop[
        ~(
            (laptop["method"] == "cot")
            & (laptop["benchmark"] == "2wikimultihopqa-slice")
            & (laptop["model"] == TEACHER)
        )
    ]
    axes = figures.fig1_mean_accuracy(short).axes[0]
    assert len(heights(axes, "CoT prompting")) == 2 and texts(axes).count("not run") == 1
    # A model that was asked for and never ran.
    axes = figures.fig1_mean_accuracy(laptop, models=[*STUDENTS, "Qwen2.5-7B-Instruct"]).axes[0]
    assert texts(axes) == ["not run"]
    # A line is broken where a number of samples is missing.
    figure = figures.fig5_samples(
        laptop[~((laptop["n"] == 4) & (laptop["method"] == "agent_distill_ftp"))]
    )
    line = next(line for line in figure.axes[0].lines if line.get_label().startswith("Agent"))
    assert [math.isnan(y) for y in line.get_ydata()] == [False, False, True, False]
    assert texts(figure.axes[0]) == ["not run"]


def test_nothing_run_with_a_vote_is_a_gap_not_the_greedy_run(smoke):
    greedy = smoke[smoke["n"] == 1]
    assert "not run" in texts(figures.fig1_mean_accuracy(greedy).axes[0])
    assert texts(figures.fig7_code_errors(greedy).axes[0]).count("not run") == 1
    assert heights(figures.fig4_math_breakdown(greedy).axes[0], "Agent distillation + SAG") == []


def test_a_distilled_agent_without_a_vote_has_a_bar_of_its_own_only_where_none_has_a_vote(smoke):
    label = "Agent distillation, no vote (ours only)"
    left, right = figures.fig1_mean_accuracy(smoke[smoke["n"] == 1]).axes
    own = estimates.select(smoke, method="agent_distill", n=1)
    each = own["correct"].eq(True).groupby(own["benchmark"]).mean()
    assert heights(left, label) == pytest.approx([100 * each.mean()])
    assert heights(left, "Agent distillation (FTP + SAG)") == [] == heights(right, label)
    with_vote, theirs = figures.fig1_mean_accuracy(smoke).axes
    assert heights(with_vote, label) == [] and "not run" not in texts(with_vote)

    def places(axes):
        return [bar.get_x() for bar in axes.patches], axes.lines[0].get_xdata().tolist()

    assert places(theirs) == places(right)


def test_each_figure_of_the_teaching_set_draws_its_students_and_no_panel_without_them():
    """What a newcomer sees at `smoke`: the recorded students, beside the published values."""
    recorded = config.ROOT / "figures" / "records" / "teaching" / "cases.jsonl"
    cases = statistics.to_frame(records.read(recorded))
    for name in MEASURED:
        figure = getattr(figures, name)(cases)
        # ours are the first row: of Fig. 5 and 6 the only one, of Fig. 1 its left half
        ours = figure.axes[: {"fig1_mean_accuracy": 1, "fig4_math_breakdown": 2}.get(name)]
        ours = [axes for axes in ours if "published" not in axes.get_title(loc="left")]
        assert ours and all(style.draws_values(axes) for axes in ours), name
        words = [text for axes in ours for text in texts(axes)]
        allowed = {"fig4_math_breakdown": 1, "fig5_samples": 2}.get(name, 0)  # level 5; CoT at 8
        assert words.count("not run") == allowed, (name, words)
    titles = [axes.get_title(loc="left") for axes in figures.fig7_code_errors(cases).axes]
    assert titles == ["ours: teaching-math", "published, digitised: MATH500"]


def test_a_zero_is_drawn_and_is_not_a_gap(smoke):
    wrong = smoke.assign(correct=False)
    axes = figures.fig1_mean_accuracy(wrong).axes[0]
    assert heights(axes, "CoT prompting") == [] and texts(axes) == ["0"] * 5


@pytest.mark.parametrize("name", MEASURED)
def test_partial_records_draw_and_empty_ones_say_so(name, smoke):
    draw = getattr(figures, name)
    with pytest.raises(ValueError, match="empty"):
        draw(smoke.iloc[:0])
    with pytest.raises(ValueError, match="benchmark"):
        draw(smoke.drop(columns="benchmark"))
    one = smoke[(smoke["method"] == "cot") & (smoke["benchmark"] == "olymmath-slice")]
    figure = draw(one)  # nothing of what most of the figures show
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    "name, second",
    [("model", "Qwen2.5-7B"), ("method", "agent"), ("n", 8), ("temperature", 0.7), ("seed", 43)],
)
def test_one_accuracy_never_mixes_two_experiments(smoke, name, second):
    one = estimates.select(smoke, method="cot", n=1)
    with pytest.raises(ValueError, match=f"several values of {name}"):
        estimates.accuracy(pd.concat([one, one.assign(**{name: second, "correct": True})]))


def test_an_id_in_two_benchmarks_is_two_questions(smoke):
    one = estimates.select(smoke, method="cot", n=1, benchmark="math500-slice").assign(correct=True)
    assert estimates.accuracy(pd.concat([one, one.assign(benchmark="aime-slice", correct=False)]))[
        ::3
    ] == (50, 4)


def test_a_question_without_a_case_counts_as_wrong_and_is_named(laptop):
    """Asked is what any arm of the experiment has a case of, and what the caller knows that was
    asked."""
    right = laptop.assign(correct=True)
    arm = (
        (right["model"] == STUDENTS[0])
        & (right["method"] == "cot")
        & (right["benchmark"] == "math500-slice")
    )
    lost = right[~(arm & (right["level"] == "1"))]  # 8 of 40 questions
    assert len(right) - len(lost) == 8
    point = estimates.accuracy_table(lost).loc[(STUDENTS[0], "cot", 1), "math500-slice"]
    assert (point.value, point.n, point.unanswered) == (80, 40, 8)
    row = tables.table2(lost).loc[(STUDENTS[0], "CoT prompting")]
    assert (
        row["math500-slice (n=40)"].endswith("(8 unanswered)")
        and row["mean (n=320)"].startswith("97.5 [")
        and "(8 un" in row["mean (n=320)"]
    )
    assert tables.mean_table(lost).loc["CoT prompting", "135M (n=320)"].startswith("97.5")
    assert "8 answers missing, counted as wrong" in figures.fig1_mean_accuracy(
        lost
    ).get_supxlabel().replace("\n", " ")
    axes = extra.accuracy_bars(estimates.select(lost, model=STUDENTS[0], n=1)).axes[0]
    assert (
        heights(axes, "CoT prompting")[
            list(dict.fromkeys(laptop["benchmark"])).index("math500-slice")
        ]
        == 80
    )
    # ten that no arm has
    whole = estimates.add_missing_cases(
        right, {"math500-slice": [f"math500-slice-{k}" for k in range(50)]}
    )
    assert (
        estimates.accuracy(
            estimates.select(whole, model=STUDENTS[0], method="cot", benchmark="math500-slice")
        )[::3]
    ) == (80, 50)
    assert set(whole[whole["error"] == "no case"]["domain"].dropna()) <= {
        "math"
    } and estimates.add_missing_cases(right).equals(right)


def test_a_gap_is_counted_within_its_own_setting_and_missing_labels_part_nothing(smoke):
    one = estimates.select(smoke, method="cot", n=1, benchmark="math500-slice").assign(correct=True)
    varied = pd.concat([one.assign(seed=1), one.iloc[:1].assign(seed=2)])
    assert [
        estimates.accuracy(group)[::3]
        for _, group in estimates.add_missing_cases(varied).groupby("seed")
    ] == [(100, 2), (50, 2)]
    unlabelled = one.assign(setting=None, value=float("nan"))
    assert estimates.add_missing_cases(unlabelled).equals(unlabelled)


def test_two_seeds_in_one_figure_are_refused(smoke):
    both = pd.concat([smoke, smoke.assign(seed=43)])
    with pytest.raises(ValueError, match="seed"):
        figures.fig1_mean_accuracy(both)
    again = pd.concat([smoke.assign(correct=None), smoke])  # a retried error is the same experiment
    assert tables.table2(again).equals(tables.table2(smoke))


def test_code_errors_are_counted_once_a_question(smoke):
    cases = smoke.assign(parse_errors=2, execution_errors=3)
    axes = figures.fig7_code_errors(cases).axes[0]
    assert heights(axes, "at least one parse error") == [100, 100]
    assert heights(axes, "execution errors only") == [] == texts(axes)


def test_table_means_are_the_means_of_their_columns(laptop):
    points, shown = estimates.accuracy_table(laptop), tables.table2(laptop)
    assert len(points.columns) == 9 == len(shown.columns)
    half_run = [
        tables.method_label(method, n)
        for (_, method, n), mean in points["mean"].items()
        if math.isnan(mean.value)
    ]
    assert (
        len(shown) == len(points) - len(half_run) < len(points)
        and "not run" not in shown.to_numpy()
    )
    greedy = points.loc[(STUDENTS[0], "cot", 1)]
    assert greedy["mean"].value == pytest.approx(sum(point.value for point in greedy.iloc[:-1]) / 8)
    assert (
        greedy["mean"].low < greedy["mean"].value < greedy["mean"].high and greedy["mean"].n == 320
    )
    assert shown.loc[(STUDENTS[0], "CoT prompting"), "mean (n=320)"] == tables.format_estimate(
        greedy["mean"], count=False
    )
    # n = 2 ran on four benchmarks only
    half = points.loc[(STUDENTS[0], "agent_distill_ftp", 2)]
    assert math.isnan(half["mean"].value) and tables.format_estimate(half["mean"]) == "not run"


def test_means_are_the_last_column_of_table_2_by_size(laptop):
    short, long = tables.mean_table(laptop), tables.table2(laptop)
    assert list(short.columns) == ["135M (n=320)", "0.5B (n=320)", "1.5B (n=320)"]
    assert (
        short.loc["Agent distillation", "135M (n=320)"]
        == long.loc[(STUDENTS[0], "Agent distillation"), "mean (n=320)"]
    )
    voted = (laptop["method"] == "cot_distill") & (laptop["n"] == 8)
    # run on one of eight: no mean
    panels = tables.mean_table(laptop[~voted | (laptop["benchmark"] == "aime-slice")])
    assert set(short.index) - set(panels.index) == {"CoT distillation + self-consistency (n=8)"}
    alone = tables.mean_table(
        laptop[~((laptop["model"] == STUDENTS[1]) & (laptop["method"] == "agent"))]
    )
    assert (
        alone.loc["Agent prompting", "0.5B (n=320)"]
        == tables.NOT_RUN
        != alone.loc["Agent prompting", "135M (n=320)"]
    )


def test_how_many_were_asked_stands_once_where_it_can():
    point = estimates.Estimate(50.0, 40.0, 60.0, 40)
    shown = tables.format_estimates(
        pd.DataFrame(
            {"a": [point, estimates.Estimate()], "b": [point, point._replace(n=25)]}
        ).astype(object)
    )
    assert shown.to_dict("list") == {
        "a (n=40)": ["50.0 [40.0,\xa060.0]", tables.NOT_RUN],
        "b": ["50.0 [40.0,\xa060.0] n=40", "50.0 [40.0,\xa060.0] n=25"],
    }


def test_numbers_are_shown_as_people_write_them():
    table = pd.DataFrame({"n": [300.0, 20.0], "share": [1 / 3, None], "name": ["a", "b"]})
    assert tables.format_numbers(table, 2).to_dict("list") == {
        "n": ["300", "20"],
        "share": ["0.33", ""],
        "name": ["a", "b"],
    }
    assert tables.format_numbers(table.iloc[:0]).empty
    assert [tables.format_p(p) for p in (0.0001, 0.0456, math.nan)] == ["<0.001", "0.046", ""]
    index = pd.MultiIndex.from_tuples(
        [("maths", STUDENTS[0], "agent", 8)], names=["questions", "model", "method", "n"]
    )
    assert list(tables.label_rows(pd.DataFrame({"ours": [1]}, index=index)).index) == [
        ("maths", "135M", "Agent prompting + SAG (n=8)")
    ]


def test_a_comparison_is_shown_with_its_interval_and_p():
    found = {"n": 320, "accuracy_a": 0.05, "accuracy_b": 0.2, "difference": 0.15, "low": 0.1, "high": 0.2,
             "only_a": 8, "only_b": 56, "p": 1e-9}  # fmt: skip
    shown = tables.comparison_table({("135M", "a to b"): found}).loc[("135M", "a to b")]
    assert shown.tolist() == [320, "5.0", "20.0", "+15.0 [10.0,\xa020.0]", 8, 56, "<0.001"]


def test_a_table_is_saved_as_markdown_with_its_note(laptop, tmp_path):
    file = tables.save_table(tables.mean_table(laptop), tmp_path / "new", "table", "preset laptop")
    lines = file.read_text(encoding="utf-8").splitlines()
    assert (
        lines[0] == "| method | 135M (n=320) | 0.5B (n=320) | 1.5B (n=320) |"
        and lines[1] == "| --- | --- | --- | --- |"
    )
    assert lines[-1] == "preset laptop" and f"| {tables.NOT_RUN} |" in file.read_text()
    odd = pd.DataFrame({"a|b": ["x|y"], "share": [1 / 3], "none": [float("nan")]})
    assert tables.to_markdown(odd).splitlines()[::2] == [
        "| a\\|b | share | none |",
        "| x\\|y | 0.333333 |  |",
    ]


def test_the_other_tables(smoke, laptop):
    train = laptop[laptop["role"] == "teacher"].assign(
        split="train", benchmark="math500-slice-train"
    )
    train = pd.concat([train, train[train["method"] == "agent"].assign(method="agent_ftp")])
    assert list(tables.table5(train).loc[TEACHER].index) == ["CoT", "Agent", "Agent + FTP"]

    sweep = pd.concat(
        [
            smoke.assign(temperature=t, correct=smoke["correct"] if t < 1 else True)
            for t in (0.2, 1.0)
        ]
    )
    assert tables.table6(sweep).filter(like="mean").loc[1.0].item().startswith("100.0")

    assert list(tables.table6(sweep[sweep["benchmark"] == "math500-slice"])) == [
        "math500-slice (n=2)"
    ]

    seeds = pd.concat([smoke.assign(seed=k, correct=k > 1) for k in range(4)])
    assert len(tables.table7(seeds)) == 8 * seeds["model"].nunique()
    row = tables.table7(seeds).loc["aime-slice", STUDENTS[0]]
    assert (row["mean"], row["seeds"], row["n"]) == (50, 4, 2)
    assert row["std"] == pytest.approx(pd.Series([0, 0, 100, 100]).std())

    tuned = tables.table8({"LoRA": smoke, "QLoRA": smoke[smoke["benchmark"] == "math500-slice"]})
    assert tuned.filter(like="aime-slice").loc[
        ("QLoRA", "135M", 1)
    ].item() == "not run" and tuned.columns[-1].startswith("mean")

    beside = tables.compare_with_paper(laptop).set_index(["model", "method", "benchmark"])
    row = beside.loc[(STUDENTS[1], "CoT distillation", "hotpotqa-slice")]
    assert (row["published"], row["published_size"], row["asked"]) == (13.2, "0.5B", 40)


def test_published_values_load_and_agree_with_themselves():
    for file in (config.ROOT / "figures" / "paper").glob("paper_*.csv"):
        assert len(figures.read_published(file.stem.removeprefix("paper_")))
    table = figures.read_published("table2_main")
    assert set(estimates.PUBLISHED_AS.values()) <= set(table.columns)
    assert table[list(dict.fromkeys(estimates.PUBLISHED_AS.values()))].mean(
        axis=1
    ).tolist() == pytest.approx(table["Avg_recomputed"].tolist(), abs=0.01)
    with pytest.raises(FileNotFoundError, match="fig1_avg"):
        figures.read_published("fig9")


def test_sizes_are_read_from_names():
    names = [
        "Qwen2.5-32B-Instruct",
        "SmolLM2-135M-Instruct",
        "Qwen2.5-Coder-0.5B-Instruct",
        "Phi-4-mini-instruct",
    ]
    assert [estimates.size_label(name) for name in estimates.sort_by_size(names)] == [
        "135M",
        "0.5B",
        "3.8B",
        "32B",
    ]
    with pytest.raises(ValueError, match="all-MiniLM-L6-v2"):
        estimates.parameter_count("all-MiniLM-L6-v2")


def test_diagrams_show_what_was_written():
    figure = figures.fig3_prefix_and_vote(EXAMPLE, VOTE)
    shown = "\n".join(text.get_text() for text in figure.texts)
    assert (
        "1 · group A · chosen" in shown
        and "4 · ✗ parse" in shown
        and "votes A: 3, B: 1, C: 1; failed 3 of 8" in shown
    )
    # the prefix is not repeated in the first thought
    assert shown.count("first find who composed") == 1
    # in earlier records
    unfinished = {"code": None, "outcome": "", "failed": "dropped", "group": None}
    early = {**VOTE, "candidates": [*VOTE["candidates"][:-1], unfinished]}
    shown = "\n".join(
        text.get_text() for text in figures.fig3_prefix_and_vote(EXAMPLE, early).texts
    )
    assert "8 · ✗ dropped" in shown and ", dropped 1" in shown
    long = {**COT, "text": "word " * 2000}
    assert any(
        text.get_text().endswith("…") for text in figures.fig2_cot_against_agent(long, AGENT).texts
    )


def test_a_vote_that_was_not_run_is_a_gap_beside_the_prefix():
    figure = figures.fig3_prefix_and_vote(EXAMPLE, None, "note")
    shown = "\n".join(text.get_text() for text in figure.texts)
    assert "first find who composed" in shown and "not run: no action was sampled" in shown
    assert "candidate" not in shown and "votes" not in shown
    assert "a vote, which was not run" in figure.not_seen and "vote" not in figure.seen


def test_diagrams_refuse_what_cannot_be_compared():
    with pytest.raises(ValueError, match="one question"):
        figures.fig2_cot_against_agent({**COT, "question": "another"}, AGENT)
    with pytest.raises(ValueError, match="candidate 9"):
        figures.fig3_prefix_and_vote(EXAMPLE, {**VOTE, "chosen": 9})
    failed = [{**c, "failed": "parse", "group": None} for c in VOTE["candidates"]]
    figure = figures.fig3_prefix_and_vote(EXAMPLE, {"candidates": failed, "chosen": 0})
    assert any("none, all failed" in text.get_text() for text in figure.texts)


def test_a_table_of_numbers_is_drawn_as_bars_of_its_height() -> None:
    table = pd.DataFrame({"asked": [10, 8], "kept": [4, 0]}, index=["CoT", "agent"])
    figure = extra.bar_chart(table, "questions", alt="Bars.")
    (axes,) = figure.axes
    assert [round(bar.get_height()) for bar in axes.patches] == [10, 8, 4]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["CoT", "agent"]
    assert texts(axes) == ["0"], "a zero is written, or nobody sees that it is there"
    left, right = axes.get_xlim()
    assert left < -0.42 and right > len(table) - 0.58, "every group's whole width is in the chart"
    with pytest.raises(ValueError, match="expected rows"):
        extra.bar_chart(table.iloc[:0], "questions", alt="")


def test_lines_ratios_and_points_are_drawn_where_their_numbers_are() -> None:
    lines = {"steps": {1: 12.0, 2: 19.0, 8: 70.0}, "more": {1: 20.0, 8: 30.0}}
    for log in (False, True):
        (axes,) = extra.line_chart(lines, "n", "ms", guide="in proportion", log=log, alt="").axes
        drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
        assert drawn == {"steps": [12, 19, 70], "more": [20, 30], "in proportion": [12, 24, 96]}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "8"]

    table = pd.DataFrame(
        {"times": [0.5, 4.0, 2.0], "better": ["less", "more", "less"]}, index=[*"abc"]
    )
    (axes,) = extra.ratio_chart(table, alt="").axes
    points = {dots.get_label(): dots.get_offsets().tolist() for dots in axes.collections[::2]}
    assert points == {"better": [[2, 0], [4, 1]], "worse": [[0.5, 2]]}

    (axes,) = extra.scatter_chart(
        {"flat": (3000, 6), "small": (150, 1200)}, "MB", "/s", alt=""
    ).axes
    assert texts(axes) == ["flat", "small"]


def test_charts_of_numbers_refuse_what_they_cannot_draw() -> None:
    with pytest.raises(ValueError, match="0 lines"):
        extra.line_chart({}, "n", "ms", alt="")
    with pytest.raises(ValueError, match="each with a point"):
        extra.line_chart({"steps": {}}, "n", "ms", alt="")
    with pytest.raises(ValueError, match="above 0"):
        extra.ratio_chart(pd.DataFrame({"times": [0.0], "better": ["more"]}), alt="")
    with pytest.raises(ValueError, match="above 0"):
        extra.scatter_chart({"flat": (0, 6)}, "MB", "/s", alt="")


@pytest.mark.parametrize("groups", [1, 4, 7])
def test_long_names_below_bars_keep_out_of_each_other(groups) -> None:
    names = [
        "Agent prompting",
        "Agent distillation",
        "Agent distillation + FTP + SAG (n=8)",
        "CoT distillation + RAG",
    ]
    table = pd.DataFrame(
        {"parse": range(groups), "execution": range(groups)},
        index=[names[k % 4] for k in range(groups)],
    )
    figure = extra.bar_chart(table, "questions", alt="Bars.")
    figure.draw_without_rendering()
    places = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(places)) and len(places) == groups


def test_the_names_of_eight_benchmarks_keep_out_of_each_other(laptop) -> None:
    greedy = laptop[(laptop["n"] == 1) & (laptop["model"] == STUDENTS[0])]
    for cases in (greedy, greedy[greedy["method"] == "cot"]):
        figure = extra.accuracy_bars(cases)
        figure.draw_without_rendering()
        labels = figure.axes[0].get_xticklabels()
        assert [label.get_text().replace("\n", "") for label in labels] == [*FACTUAL, *MATHS]
        places = [label.get_window_extent() for label in labels]
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(places))


def test_figure_5_names_each_number_of_samples_that_is_drawn(smoke):
    for axes in figures.fig5_samples(smoke[smoke["n"] == 1]).axes:
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4", "8"]


def test_a_legend_stays_within_its_figure(laptop) -> None:
    figure = extra.accuracy_bars(laptop[(laptop["n"] == 1) & (laptop["model"] == STUDENTS[0])])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.x1 and len(legend.get_texts()) == len(
        config.METHODS
    )


def test_what_an_answer_takes_counts_each_question_once():
    rows = [
        {"model": "m", "method": "cot", "n": 1, "benchmark": "b", "id": k, "correct": right}
        | {"completion_tokens": tokens, "seconds": 2.0}
        for k, right, tokens in ((1, True, 10), (2, None, 30), (2, False, 50))
    ]
    table = tables.cost_table(statistics.to_frame(rows))
    assert table.loc["m", "cot", 1].to_dict() == {
        "questions": 2, "right (%)": 50, "tokens": 30, "seconds": 2,
    }  # fmt: skip
