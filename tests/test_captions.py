"""What every figure owes its reader: two sentences from the records, one scale, zeros as digits,
and one colour for agent prompting."""

import math

import pandas as pd
import pytest
from matplotlib.colors import to_hex
from test_figures import (
    AGENT,
    CLAIMS,
    COT,
    EXAMPLE,
    MEASURED,
    STUDENTS,
    VOTE,
    every_figure,
    synthetic,
    varied,
)

from agentlib import config, figures
from agentlib.figures import captions, estimates, extra, palette, style

BESIDE = ("fig1_mean_accuracy", "fig4_math_breakdown", "fig7_code_errors", "fig8_retrieval_calls")


@pytest.fixture(scope="module")
def laptop() -> pd.DataFrame:
    return synthetic(STUDENTS, None, 12, (1, 8))


@pytest.fixture(scope="module")
def drawn(laptop) -> dict:
    return every_figure(laptop, "note")


def words(figure) -> str:
    """What is written in a figure, as one line."""
    shown = [*figure.texts, *([figure._supxlabel] if figure._supxlabel else [])]
    return " ".join(" ".join(text.get_text() for text in shown).split())


def test_every_figure_has_a_sentence_on_what_is_seen_and_one_on_what_is_not(drawn, laptop):
    losses = {"agent": [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 0.5}]}
    greedy = estimates.select(laptop, model=STUDENTS[0], n=1)
    more = {"bars": extra.accuracy_bars(greedy), "losses": extra.loss_curves(losses)}
    for name, figure in (drawn | more).items():
        for sentence in (figure.seen, figure.not_seen):
            assert not sentence[0].islower() and sentence.endswith(".") and len(sentence) > 20, name
        shown = words(figure)
        said = f"Seen: {figure.seen} Not seen: {figure.not_seen}"
        assert said in shown and shown.count("Seen: ") == 1, name
    assert "from 2.00 to 0.50 for Agent prompting" in more["losses"].seen


def test_the_sentences_are_in_the_alt_text_and_do_not_cover_the_footer(drawn, tmp_path):
    figure = drawn["fig8_retrieval_calls"]
    svg, _ = figures.save_figure(figure, tmp_path, "fig8_retrieval_calls")
    assert figure.seen.split(";")[0] in svg.read_text(encoding="utf-8").replace("&apos;", "'")
    _, shown = figure._repr_png_()
    assert shown["alt"].endswith(f"Seen: {figure.seen} Not seen: {figure.not_seen}")
    (caption,) = [text for text in figure.texts if text.get_text().startswith("Seen: ")]
    figure.draw_without_rendering()
    box, below = caption.get_window_extent(), figure._supxlabel.get_window_extent()
    footer = [line for line in figure.get_supxlabel().split("\n") if line.strip()]
    assert box.y0 >= below.y0 + 0.9 * len(footer) * 8 * figure.dpi / 72
    assert box.x1 <= figure.bbox.x1 and box.y1 <= below.y1 + 3


@pytest.mark.parametrize("name", BESIDE)
def test_ours_and_the_published_have_one_scale(name, drawn):
    limits = {axes.get_ylim() for axes in drawn[name].axes}
    assert len(limits) == 1 and limits.pop()[0] == 0
    titles = [axes.get_title(loc="left") for axes in drawn[name].axes]
    assert any(t.startswith("ours") for t in titles) and any("published" in t for t in titles)


def test_one_scale_holds_where_ours_is_far_above_the_published(laptop):
    many = laptop.assign(tool_calls=20)
    assert {axes.get_ylim()[1] > 20 for axes in figures.fig8_retrieval_calls(many).axes} == {True}


def zeros(axes) -> int:
    return sum(text.get_gid() == style.ZERO and text.get_text() == "0" for text in axes.texts)


def test_a_zero_is_a_digit_and_no_bar(laptop):
    wrong = laptop.assign(correct=False, parse_errors=0, execution_errors=0, tool_calls=0)
    for draw, bars in (
        (figures.fig1_mean_accuracy, 5 * len(STUDENTS)),
        (figures.fig4_math_breakdown, 3 * 7),
        (figures.fig7_code_errors, 2 * len(STUDENTS)),
        (figures.fig8_retrieval_calls, 2 * len(STUDENTS)),
    ):
        ours = draw(wrong).axes[0]
        assert len(ours.patches) == 0 and zeros(ours) == bars, draw.__name__
    table = pd.DataFrame({"asked": [3, 0]}, index=["a", "b"])
    (axes,) = extra.bar_chart(table, "questions", alt="Bars.").axes
    assert [bar.get_height() for bar in axes.patches] == [3] and zeros(axes) == 1


def test_a_bar_above_zero_has_no_digit(laptop):
    (left, right) = figures.fig1_mean_accuracy(laptop.assign(correct=True)).axes
    assert zeros(left) == zeros(right) == 0 and len(left.patches) == 5 * len(STUDENTS)


def colour_of(figure, label: str) -> set[str]:
    """The colours of what a figure's legend calls `label`."""
    (legend,) = figure.legends
    pairs = zip(legend.get_patches(), legend.get_texts(), strict=True)
    return {to_hex(patch.get_facecolor()) for patch, text in pairs if text.get_text() == label}


def test_agent_prompting_has_one_colour_and_nothing_else_has_it(drawn, laptop):
    prompting = config.METHODS["agent"]
    own = palette.COLOURS["agent"].lower()
    table = pd.DataFrame({"CoT prompting": [1], prompting: [2], "Agent prompting + FTP": [3]})
    teacher = extra.bar_chart(table, "right (%)", alt="Bars.")
    greedy = estimates.select(laptop, model=STUDENTS[0], n=1)
    curves = extra.loss_curves({"agent": [{"step": k, "loss": 1.0} for k in range(2)]})
    for figure in (drawn["fig1_mean_accuracy"], extra.accuracy_bars(greedy), teacher):
        assert colour_of(figure, prompting) == {own}
    assert to_hex(curves.axes[0].lines[0].get_color()) == own
    assert palette.COLOURS["agent"] not in palette.GROUPS + palette.SERIES
    others = [name for name in drawn if name != "fig1_mean_accuracy"]
    for figure in [
        *(drawn[name] for name in others),
        extra.bar_chart(CLAIMS[["low", "high"]], "", alt=""),
    ]:
        artists = [*figure.findobj(lambda artist: hasattr(artist, "get_facecolor"))]
        for artist in artists:
            for get in ("get_facecolor", "get_edgecolor"):
                found = getattr(artist, get, tuple)()
                assert not (isinstance(found, tuple) and found) or to_hex(found) != own


@pytest.mark.parametrize(
    "label", ["CoT prompting", "Agent distillation", "Agent distillation + FTP"]
)
def test_a_method_in_a_table_of_bars_keeps_its_colour(label):
    figure = extra.bar_chart(pd.DataFrame({"x": [1], label: [1]}), "right (%)", alt="Bars.")
    (method,) = [key for key, words_ in config.METHODS.items() if words_ == label]
    assert colour_of(figure, label) == {palette.COLOURS[method].lower()}


def searches(cases: pd.DataFrame, without: int, with_prefix: int) -> pd.DataFrame:
    """The cases, with so many searches without and with the prefix; with it one more or fewer here
    and there."""
    ftp = cases["method"] == "agent_distill_ftp"
    noise = ftp * cases["id"].str[-1].map({"0": 1, "1": -1}).fillna(0)
    count = ftp.map({True: with_prefix, False: without}) + noise
    return cases.assign(tool_calls=count, error=None)


def test_figure_8_says_which_way_ours_goes(laptop):
    more = figures.fig8_retrieval_calls(searches(laptop, 1, 3))
    fewer = figures.fig8_retrieval_calls(searches(laptop, 3, 1))
    equal = figures.fig8_retrieval_calls(searches(laptop, 2, 2))
    for figure in (more, fewer, equal):
        assert figure.seen.startswith("With the prefix, the paper's searches fall at 3 of 3 sizes;")
    assert "ours goes the other way at 135M (+2.0 per question, up in 4 of 4 panels)" in more.seen
    assert "the same way" not in more.seen and "the other way" not in fewer.seen
    assert "ours goes the same way at 135M (-2.0 per question, up in 0 of 4 panels)" in fewer.seen
    assert "ours does not change measurably at 135M" in equal.seen and "way" not in equal.seen
    alone = laptop[laptop["method"] != "agent_distill"]
    assert "ours was not run" in figures.fig8_retrieval_calls(alone).seen


def test_a_change_is_paired_by_question_and_has_no_interval_where_all_agree():
    a = pd.DataFrame({"benchmark": "b", "id": ["1", "2", "3"], "calls": [1, 2, 9]})
    b = a.assign(calls=[2, 4, math.nan])
    found = captions.count_change(a, b, "calls")
    assert (found.value, found.n) == (1.5, 2) and found.low < 1 < 2 < found.high
    assert math.isnan(captions.count_change(a, a, "calls").low)
    assert math.isnan(captions.count_change(a, b.assign(id="x"), "calls").value)


def test_figure_1_says_who_leads_only_beyond_chance(laptop):
    acts = laptop["method"].eq("agent_distill_ftp")
    one = laptop[laptop["model"] == STUDENTS[0]].assign(error=None)
    ahead = figures.fig1_mean_accuracy(one.assign(correct=acts)).seen
    behind = figures.fig1_mean_accuracy(one.assign(correct=~acts)).seen
    level = figures.fig1_mean_accuracy(one.assign(correct=True)).seen
    assert "more questions right at 135M (100.0 against 0.0 %)" in ahead
    assert "fewer at 135M (0.0 against 100.0 %)" in behind and "questions right" not in behind
    assert "no difference beyond chance at 135M (100.0 against 100.0 %)" in level
    assert all("in the paper more right at all 4 sizes" in seen for seen in (ahead, behind, level))


def test_figure_5_leaves_out_a_panel_of_zeros_and_names_it(laptop):
    zero = laptop["benchmark"].eq("aime-slice")
    figure = figures.fig5_samples(laptop.assign(correct=~zero))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) == 3 and not any("aime" in title for title in titles)
    assert "aime-slice, left out: ours are 0 at every n" in figure.not_seen
    every = figures.fig5_samples(laptop.assign(correct=False))
    assert len(every.axes) == 4 and "left out" not in every.not_seen


def test_without_a_vote_no_sentence_says_what_a_vote_does(laptop):
    """What `laptop` holds until SAG has run: greedy answers of one student."""
    greedy = estimates.select(laptop, model=STUDENTS[0], n=1).assign(error=None)
    acts, recites = (greedy["method"].eq(name) for name in ("agent_distill", "cot_distill"))
    broken = greedy["benchmark"].isin(["math500-slice", "gsm-hard-slice"]).astype(int)
    cases = greedy.assign(correct=acts | recites, parse_errors=broken, execution_errors=0)
    one, four, five, seven = (
        getattr(figures, f"fig{name}")(cases)
        for name in ("1_mean_accuracy", "4_math_breakdown", "5_samples", "7_code_errors")
    )
    assert one.seen.startswith(
        "The student trained to act (without a vote) against the one trained on chains of thought:"
        " no difference beyond chance at 135M (100.0 against 100.0 %); in the paper, with a vote,"
    )
    assert "what a vote (SAG) adds to ours, which was not run with one" in one.not_seen
    assert "CoT distillation 12 of 12; ours was not run: Agent distillation + SAG and" in four.seen
    assert five.seen == "The published lines; ours was not run with more than one sample."
    assert "What more samples would give" in five.not_seen and "gains" not in five.not_seen
    assert "without sag 66.7 % of the questions at 135m have broken code" in seven.seen.lower()
    assert "ours was not run with it; in the paper fewer with it in 9 of 9" in seven.seen
    assert seven.not_seen == "What SAG changes in ours."
    zero = figures.fig5_samples(cases.assign(correct=~cases["benchmark"].eq("aime-slice")))
    assert "aime-slice, left out: ours are 0." in zero.not_seen


def test_of_methods_that_have_as_many_right_none_leads(laptop):
    greedy = estimates.select(laptop, model=STUDENTS[0], n=1).assign(error=None)
    level = extra.accuracy_bars(greedy.assign(correct=False))
    assert level.seen == "Every method has as many right, over all benchmarks: 0 of 96."
    ahead = extra.accuracy_bars(greedy.assign(correct=greedy["method"].eq("agent")))
    assert "Agent prompting (96 of 96), fewest: " in ahead.seen


@pytest.mark.parametrize(
    "name, panels", [("fig6_tokens", 3), ("fig7_code_errors", 4), ("fig8_retrieval_calls", 6)]
)
def test_a_panel_of_which_nothing_was_run_is_left_out_and_named(name, panels, laptop):
    gone = {
        "fig6_tokens": "aime-slice",
        "fig7_code_errors": "aime-slice",
        "fig8_retrieval_calls": "musique-slice",
    }[name]
    figure = getattr(figures, name)(laptop[laptop["benchmark"] != gone])
    column = estimates.PUBLISHED_AS[gone]
    assert len(figure.axes) == panels and f"{column}, left out: not run" in figure.not_seen


@pytest.mark.parametrize("name", MEASURED)
def test_a_figure_of_nothing_that_was_run_says_so(name, laptop):
    figure = getattr(figures, name)(
        estimates.select(laptop, method="cot", benchmark="olymmath-slice")
    )
    assert "not run" in figure.seen, figure.seen


def test_the_diagrams_sentences_are_those_of_their_transcripts():
    pair = figures.fig2_cot_against_agent(COT, AGENT)
    assert "recites answers Norway (wrong)" in pair.seen
    assert "takes 3 steps and answers Denmark (right)" in pair.seen
    silent = figures.fig2_cot_against_agent({**COT, "answer": None}, {**AGENT, "correct": False})
    assert "gives no answer (wrong)" in silent.seen and "Denmark (wrong)" in silent.seen
    vote = figures.fig3_prefix_and_vote(EXAMPLE, VOTE)
    assert "3 of 8 candidates agree with the one kept, 3 failed" in vote.seen
    assert "to a right answer" in vote.seen
    run = {"question": "Which of two?", "gold": "4", "prediction": "5", "correct": False}
    figure = figures.fig3_prefix_and_vote(EXAMPLE, VOTE, case=run)
    shown = "\n".join(text.get_text() for text in figure.texts)
    assert "Which of two?" in shown and "wanted: 4" in shown and "wrong answer" in shown
    assert "the run ends with a wrong answer" in figure.seen


def test_an_observation_that_says_nothing_after_the_last_step_is_not_drawn():
    silent = {
        "text": "Thought: done",
        "code": "final_answer(1)",
        "observation": "Observation:\n(nothing was printed)",
    }
    steps = [{**silent, "code": "x = 1"}, silent]
    shown = [
        t.get_text() for t in figures.fig2_cot_against_agent(COT, {**AGENT, "steps": steps}).texts
    ]
    assert shown.count("(nothing was printed)") == 1 and "observation 2" not in shown


def test_a_claim_is_named_by_its_verdict_and_trajectories_by_their_ends(laptop):
    claims = extra.claim_chart(CLAIMS)
    assert claims.seen.startswith(
        "1 of 3 claims hold; not true here: a prefix helps; not settled: a vote"
    )
    assert claims.not_seen.startswith("1 claim with a side that was not run;")
    assert "benchmarks" not in claims.not_seen  # which may be the paper's own
    grown = extra.data_efficiency(varied(laptop))
    assert "from 0.0 to 100.0 %, up at each step: more than chance" in grown.seen
    flat = extra.data_efficiency(varied(laptop).assign(correct=True))
    assert "up at each step" not in flat.seen and "no more than chance explains" in flat.seen
