"""The paper's figures: a table of cases in, a Figure out, the published values beside ours.

Owns Figs. 1 and 4-8, one pure function each; Figs. 2 and 3 come from `diagrams`, so that all eight are found here.
Knows nothing of models, of runs on disk, of how a number is computed (`tables`) or of how marks look (`charts`).

Published panels name the paper and, where values were read off its figures, say "digitised".
"""

import itertools
import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from agentlib.charts import (
    COLOURS,
    alt_text,
    bars,
    blank,
    finish,
    footer,
    legend,
    mark_gap,
    mark_zero,
    save,
    span,
    styled,
    whisker,
)
from agentlib.diagrams import fig2_cot_against_agent, fig3_prefix_and_vote
from agentlib.estimates import (
    PUBLISHED_AS,
    Point,
    accuracy,
    by_size,
    cases_of,
    mean_accuracy,
    mean_count,
    pick,
    published,
    size_label,
    vote_size,
)

__all__ = [
    "alt_text", "fig1_mean_accuracy", "fig2_cot_against_agent", "fig3_prefix_and_vote", "fig4_math_breakdown",
    "fig5_samples", "fig6_tokens", "fig7_code_errors", "fig8_retrieval_calls", "published", "save",
]  # fmt: skip

PUBLISHED = "published: Kang et al. 2025"
WILSON = "whiskers: 95\u00a0% Wilson interval"
PANELS = ("MATH500", "AIME", "HotpotQA", "MuSiQue")  # Figs. 5 and 6


def _benchmark(cases: pd.DataFrame, column: str) -> str | None:
    """The benchmark of these cases that stands for a published one ("MATH500"), or None if it was not run."""
    ran = set(cases["benchmark"])
    return next((name for name, theirs in PUBLISHED_AS.items() if theirs == column and name in ran), None)


def _students(cases: pd.DataFrame) -> list[str]:
    """The students, smallest first; cases without a role are all students'."""
    return by_size((cases[cases["role"] != "teacher"] if "role" in cases else cases)["model"])


def _one_student(cases: pd.DataFrame, model: str | None) -> str:
    """The student that a figure of one size shows: the one asked for, else the largest."""
    students = _students(cases)
    if not students or model not in (None, *students):
        raise ValueError(f"student {model!r} has no case, expected one of: {', '.join(students) or 'none was run'}")
    return model or students[-1]


@styled
def fig1_mean_accuracy(
    cases: pd.DataFrame,
    note: str = "",
    *,
    models: Sequence[str] | None = None,
    benchmarks: Sequence[str] | None = None,
) -> Figure:
    """Fig. 1: mean over the benchmarks of accuracy, by model size, for the five methods compared.

    `models` and `benchmarks` are those of the run (default: all in `cases`); a bar needs every benchmark. The
    whiskers add the benchmarks' Wilson intervals in squares (`estimates.mean_accuracy`). Published bars are the values
    printed in Fig. 1; a diamond is the mean of Table 2's columns where the two disagree.
    """
    cases = cases_of(cases)
    models, teachers = by_size(models or cases["model"]), set(cases["model"]) - set(_students(cases))
    benchmarks = list(benchmarks or dict.fromkeys(cases["benchmark"]))
    rows = [
        ("cot", 1, "CoT prompting", "CoT_Prompting", ("CoT", "Prompting")),
        ("cot_distill", 1, "CoT distillation", "CoT_Distill", ("CoT", "Distill")),
        ("cot_distill_rag", 1, "CoT distillation + RAG", "CoT_Distill_RAG", ("CoT", "Distill+RAG")),
        ("agent", 1, "Agent prompting", "Agent_Prompting", ("Agent", "Prompting")),
        ("agent_distill_ftp", vote_size(cases), "Agent distillation (FTP + SAG)", "Agent_Distill_ours",
         ("Agent", "Distill+FTP+SAG")),
    ]  # fmt: skip
    paper, table = published("fig1_avg"), published("table2_main").set_index(["Params", "Family", "Method"])
    ours, theirs, diamonds = [], [], []
    for k, (method, n, label, column, row) in enumerate(rows):
        chosen, points = pick(cases, method=method, n=n), []
        for model in models:
            each = [accuracy(pick(chosen, model=model, benchmark=name)) for name in benchmarks]
            # A teacher is never distilled: its place stays empty, it is not a gap in the run.
            points.append(None if model in teachers and "distill" in method else mean_accuracy(each))
        ours.append((label, method, points))
        theirs.append((label, method, [None if math.isnan(value) else Point(value) for value in paper[column]]))
        for group, (size, value) in enumerate(zip(paper["Size"], paper[column], strict=True)):
            mean = table["Avg_recomputed"].get((size, *row), value)
            if abs(mean - value) > 0.1:
                diamonds.append((group + (k - 2) * 0.84 / len(rows), mean))
    text = footer(
        note,
        [point for *_, points in ours for point in points],
        f"whiskers: 95\u00a0% interval (Wilson, added in squares over {len(benchmarks)} benchmarks)",
        "◆ mean of the columns of the published Table 2 where Fig. 1 prints another value",
    )
    figure = blank(10.5, 4.2, text)
    left, right = figure.subplots(1, 2, width_ratios=[max(2.5, len(models)), 5])
    bars(left, [size_label(model) + "\nteacher" * (model in teachers) for model in models], ours)
    left.set(title="ours", ylabel=f"mean accuracy over {len(benchmarks)} benchmarks (%)", xlabel="model size")
    bars(right, [size + "\nteacher" * (size == "32B") for size in paper["Size"]], theirs)
    right.set(title=f"{PUBLISHED}, Fig. 1", xlabel="model size")
    right.plot(*zip(*diamonds, strict=True), "D", color="black", markersize=3.5)
    finish(left)
    finish(right)
    legend(figure, ours)
    return figure


def _bin(label: object) -> str:
    """A subject or level in one spelling: "Level 4", "L4" and 4 are one, so are "Number Theory" and "number-theory"."""
    text = str(label).lower().strip()
    if level := re.fullmatch(r"(?:level|l)?\s*(\d+)(?:\.0)?", text):
        return level[1]
    return re.sub(r"[^a-z]|and", "", text)


@styled
def fig4_math_breakdown(cases: pd.DataFrame, note: str = "", *, model: str | None = None) -> Figure:
    """Fig. 4: accuracy on MATH by subject and by level for one student (default: the largest).

    The agents are the runs with SAG, as the paper's bars are although its caption does not say so; CoT is greedy.
    Published bars are read off the figure; their sums agree with Table 2 at 3B.
    """
    cases = cases_of(cases)
    model, votes, name = _one_student(cases, model), vote_size(cases), _benchmark(cases, "MATH500")
    maths = pick(cases, model=model, benchmark=name)
    paper = published("fig4_math_breakdown_digitised").rename(columns={"Accuracy_pct_digitised": "value"})
    rows = [
        ("cot_distill", 1, "CoT", "CoT distillation"),
        ("agent_distill", votes, "Agent", "Agent distillation + SAG"),
        ("agent_distill_ftp", votes, "Agent+FTP", "Agent distillation + FTP + SAG"),
    ]
    panels = []
    for panel, column in (("category", "subject"), ("level", "level")):
        there = paper[paper["Panel"] == panel]
        bins = list(dict.fromkeys(there["Bin"]))
        found = maths.assign(bin=maths[column].map(_bin) if column in maths else "")
        ours = [
            (label, method, [accuracy(pick(found, method=method, n=n, bin=_bin(b))) for b in bins])
            for method, n, _, label in rows
        ]
        theirs = [
            (label, method, [Point(value) for value in there[there["Series"] == series]["value"]])
            for method, _, series, label in rows
        ]
        panels.append((column, bins, ours, theirs, there[there["Series"] == "CoT"]["N_questions"]))
    drawn = [point for _, _, ours, _, _ in panels for *_, points in ours for point in points]
    figure = blank(10.5, 6.4, footer(note, drawn, WILSON, PUBLISHED))
    grid = figure.subplots(2, 2, width_ratios=[7, 4.2], sharey="row")
    for (top, bottom), (column, bins, ours, theirs, sizes) in zip(grid.T, panels, strict=True):
        words = [label.replace(" ", "\n").replace("&\n", "& ") for label in bins]
        asked = [span(point.n for point in group if point.n) for group in zip(*(p for *_, p in ours), strict=True)]
        bars(top, [f"{word}\nn={n}" for word, n in zip(words, asked, strict=True)], ours)
        bars(bottom, [f"{word}\nn={n}" for word, n in zip(words, sizes, strict=True)], theirs)
        top.set_title(f"ours: {name or 'MATH'} by {column}, {size_label(model)}")
        bottom.set_title(f"published, digitised: MATH500 by {column}, 3B")
    for row in grid:
        finish(*row)
        row[0].set_ylabel("accuracy (%)")
    legend(figure, ours)
    return figure


@styled
def fig5_samples(cases: pd.DataFrame, note: str = "", *, model: str | None = None) -> Figure:
    """Fig. 5: accuracy against samples, CoT self-consistency and SAG, on four benchmarks, for one student: the one asked for,
    else that with the most numbers of samples.

    The paper has agent points at 1 and 8 only; ours are drawn at every number of samples that was run.
    """
    cases = cases_of(cases)
    rows = [
        ("cot_distill", "CoT", "CoT distillation, self-consistency", "o", 0.97),
        ("agent_distill_ftp", "Agent", "Agent distillation + FTP, SAG", "s", 1.03),
    ]
    sampled = cases[cases["method"].isin([row[0] for row in rows])].groupby("model")["n"].nunique()
    if model is None and len(sampled):
        most = [name for name in _students(cases) if sampled.get(name, 0) == sampled.max()]
        model = most[-1] if most else None
    model = _one_student(cases, model)
    student = pick(cases, model=model)
    counts = sorted(set(student[student["method"].isin([row[0] for row in rows])]["n"]) | {1})
    drawn = {
        (column, method): [
            accuracy(pick(student, benchmark=_benchmark(student, column), method=method, n=n)) for n in counts
        ]
        for column in PANELS
        for method, *_ in rows
    }
    points = [point for line in drawn.values() for point in line]
    figure = blank(10.5, 3.7, footer(note, points, WILSON, f"dashed, {PUBLISHED} on the "
                                     "benchmark mirrored, 3B; n = 2 and 4 and CoT at 8 digitised"))  # fmt: skip
    paper = published("fig5_sag_vs_sc_digitised")
    for axes, column in zip(figure.subplots(1, 4), PANELS, strict=True):
        for method, series, label, marker, shift in rows:
            there = paper[(paper["Panel"] == column.removesuffix("500")) & (paper["Series"] == series)]
            look = {"color": COLOURS[method], "marker": marker, "markersize": 5}
            # A NaN breaks the line, so a number of samples that was not run is not bridged over.
            values = [point.value for point in drawn[column, method]]
            axes.plot(np.array(counts) * shift, values, label=label, clip_on=False, zorder=3, **look)
            axes.plot(there["n"], there["Accuracy"], linestyle="--", linewidth=1, alpha=0.5, markerfacecolor="white",
                      label="published", **look)  # fmt: skip
            for n, point in zip(counts, drawn[column, method], strict=True):
                if math.isnan(point.value):
                    alone = any(drawn[column, other][counts.index(n)].n for other, *_ in rows)
                    if alone or method == rows[0][0]:  # one mark where neither series was run
                        mark_gap(axes, n * shift**3 if alone else n)
                else:
                    whisker(axes, n * shift, point, COLOURS[method])
        ticks = sorted({*counts, *there["n"]})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(n) for n in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(0.8, max(ticks) * 1.25)
        finish(axes)
        axes.set(title=f"{_benchmark(student, column) or column}, {size_label(model)}", xlabel="samples n")
    figure.axes[0].set_ylabel("accuracy (%)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)
    return figure


@styled
def fig6_tokens(cases: pd.DataFrame, note: str = "", *, model: str | None = None) -> Figure:
    """Fig. 6: generated tokens a question, CoT against agent, both greedy, on four benchmarks, for one student.

    Questions that ended in an error have no count and are left out; n says how many were counted.
    """
    cases = cases_of(cases, needs=("completion_tokens",))
    model = _one_student(cases, model)
    student = pick(cases, model=model, n=1)
    paper = published("fig6_token_means").set_index("Dataset")
    rows = [
        ("cot_distill", "CoT distillation", "CoT_mean_tokens", "/"),
        ("agent_distill_ftp", "Agent distillation + FTP", "Agent_mean_tokens", ""),
    ]
    tokens = {
        (column, method): pick(student, benchmark=_benchmark(student, column), method=method)["completion_tokens"]
        .dropna().astype(float)
        for column in PANELS for method, *_ in rows
    }  # fmt: skip
    counted = [Point(0, n=len(counts)) for counts in tokens.values() if len(counts)]
    text = footer(note, counted, "not counted: questions that ended in an error", "lines: means", f"paper, {PUBLISHED}")
    figure = blank(10.5, 3.9, text)
    for axes, column in zip(figure.subplots(1, 4), PANELS, strict=True):
        both = [tokens[column, method] for method, *_ in rows]
        top = max([t.max() for t in both if len(t)], default=1.0)
        lines = []
        for counts, (method, label, theirs, hatch) in zip(both, rows, strict=True):
            family = label.split()[0]
            beside = f"paper {paper.loc[column.removesuffix('500'), theirs]:.1f}"
            if counts.empty:
                lines.append(f"{family} not run, {beside}")
                continue
            lines.append(f"{family} {counts.mean():.1f} (n={len(counts)}), {beside}")
            axes.hist(counts, bins=np.linspace(0, max(top, 1) * 1.001, 17), label=label, color=COLOURS[method],
                      alpha=0.6, hatch=hatch, edgecolor="white", linewidth=0.6)  # fmt: skip
            axes.axvline(counts.mean(), color=COLOURS[method], linestyle="--" if hatch else "-", linewidth=1.6)
        if not any(map(len, both)):
            mark_gap(axes, 0.5)
            axes.set_xticks([])
        axes.yaxis.get_major_locator().set_params(integer=True)
        finish(axes)
        axes.set_title(
            f"{_benchmark(student, column) or column}, {size_label(model)}: means\n" + "\n".join(lines), fontsize=8.5
        )
        axes.set_xlabel("generated tokens")
    figure.axes[0].set_ylabel("questions")
    patches = [
        Patch(facecolor=COLOURS[m], alpha=0.6, hatch=h, edgecolor="white", label=label) for m, label, _, h in rows
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=2)
    return figure


ERRORS = (("at least one parse error", "agent_distill_ftp", ""), ("execution errors only", "agent", "///"))


def _stacks(axes: Axes, sizes: Sequence[str], stacks: Sequence[tuple[Point, Point]]) -> None:
    """Two bars a size, without and with SAG; each stack is (share with a parse error, share with any error)."""
    places = [group + side for group in range(len(sizes)) for side in (-0.21, 0.21)]
    for x, (parse, total) in zip(places, stacks, strict=True):
        if math.isnan(total.value):
            mark_gap(axes, x)
            continue
        for (label, method, hatch), value, bottom in zip(
            ERRORS, (parse.value, total.value - parse.value), (0.0, parse.value), strict=True
        ):
            axes.bar(x, value, 0.38, bottom, color=COLOURS[method], hatch=hatch, edgecolor="white", label=label)
        whisker(axes, x, total)
        if total.value == 0:
            mark_zero(axes, x, 0.38, COLOURS["agent_distill_ftp"])
    axes.set_xticks([*places, *range(len(sizes))], ["w/o", "w/"] * len(sizes) + [f"\n{size}" for size in sizes])
    axes.set_xlim(-0.6, len(sizes) - 0.4)


@styled
def fig7_code_errors(cases: pd.DataFrame, note: str = "") -> Figure:
    """Fig. 7: share of questions with a parse or execution error, without and with SAG, by size, on three maths sets.

    A bar is the share of finished questions with at least one such error in a kept action. Its lower part are those
    with a parse error (whatever else happened), its upper part those with execution errors only, so that the parts
    add up. Agents are distilled with FTP, or without where that was not run. The paper states no denominator.
    """
    cases = cases_of(cases, needs=("parse_errors", "execution_errors"))
    students, votes, paper = _students(cases), vote_size(cases), published("fig7_code_errors_digitised")
    agents = cases[cases["method"] == "agent_distill_ftp"]
    agents = agents if len(agents) else cases[cases["method"] == "agent_distill"]
    # An errored case has no count of errors: it is neither clean nor faulty.
    agents = agents[agents["correct"].notna()]
    sizes, panels = list(dict.fromkeys(paper["Model"])), ("MATH500", "GSM-Hard", "AIME")
    stacks: dict[str, list[tuple[Point, Point]]] = {column: [] for column in panels}
    for column in panels:
        for model, n in itertools.product(students, (1, votes)):
            found = pick(agents, model=model, benchmark=_benchmark(cases, column), n=n)
            parse, execution = (found[kind] > 0 for kind in ("parse_errors", "execution_errors"))
            # The same count and interval as an accuracy, of another yes or no.
            stacks[column].append(tuple(accuracy(found.assign(correct=hit)) for hit in (parse, parse | execution)))
    drawn = [total for column in panels for _, total in stacks[column]]
    text = footer(note, drawn, f"{WILSON} of the whole bar", "w/o, w/: without and with SAG",
                  "denominator, ours: finished questions; published: not stated", PUBLISHED)  # fmt: skip
    figure = blank(10.5, 5.6, text)
    grid = figure.subplots(2, 3, sharey="row")
    for (top, bottom), column in zip(grid.T, panels, strict=True):
        there = paper[paper["Dataset"] == column.removesuffix("500")].set_index(["Model", "Setting"])
        values = [there.loc[key] for key in itertools.product(sizes, ("w/o SAG", "w/ SAG"))]
        _stacks(top, [size_label(model) for model in students], stacks[column])
        _stacks(bottom, sizes, [(Point(row["Parse_err_pct"]), Point(row["Total_err_pct"])) for row in values])
        top.set_title(f"ours: {_benchmark(cases, column) or column}")
        bottom.set_title(f"published, digitised: {column}")
    for row in grid:
        finish(*row)
    grid[0, 0].set_ylabel("% of finished questions")
    grid[1, 0].set_ylabel("% as published")
    patches = [Patch(facecolor=COLOURS[m], hatch=hatch, edgecolor="white", label=label) for label, m, hatch in ERRORS]
    figure.legend(handles=patches, loc="outside upper left", ncols=2)
    return figure


@styled
def fig8_retrieval_calls(cases: pd.DataFrame, note: str = "") -> Figure:
    """Fig. 8: mean `web_search` calls a question without and with FTP, greedy, by size, on the four factual sets.

    Whiskers are Student's t intervals of the mean. Errored questions have no count and are left out.
    """
    cases = cases_of(cases, needs=("tool_calls",))
    students = _students(cases)
    paper = published("fig8_retrieval_calls_digitised")
    rows = [
        ("agent_distill", "Without_FTP", "Agent distillation"),
        ("agent_distill_ftp", "With_FTP", "Agent distillation + FTP"),
    ]
    panels, drawn = ("HotpotQA", "Bamboogle", "MuSiQue", "2WikiQA"), []
    for column in panels:
        name = _benchmark(cases, column)
        for method, _, _ in rows:
            found = [pick(cases, model=model, benchmark=name, method=method, n=1) for model in students]
            drawn.append([mean_count(one["tool_calls"]) for one in found])
    whiskers = "whiskers: 95\u00a0% t interval of the mean, none where all agree, cut at 3 times the tallest bar"
    figure = blank(10.5, 5.2, footer(note, [point for line in drawn for point in line], whiskers, PUBLISHED))
    grid = figure.subplots(2, 4, sharey="row")
    for k, ((top, bottom), column) in enumerate(zip(grid.T, panels, strict=True)):
        there = paper[paper["Dataset"] == column]
        ours = [(label, method, drawn[2 * k + i]) for i, (method, _, label) in enumerate(rows)]
        theirs = [(label, method, [Point(value) for value in there[series]]) for method, series, label in rows]
        bars(top, [size_label(model) for model in students], ours)
        bars(bottom, list(there["Model"]), theirs)
        top.set_title(f"ours: {_benchmark(cases, column) or column}")
        bottom.set_title(f"published, digitised: {column}")
        bottom.set_xlabel("model size")
    tallest = max((point.value for line in drawn for point in line if not math.isnan(point.value)), default=0.0)
    for row in grid:
        finish(*row)
        row[0].set_ylabel("searches a question")
    if 0 < tallest < grid[0, 0].get_ylim()[1] / 3:
        grid[0, 0].set_ylim(0, 3 * tallest)  # of two questions the interval is so long that no bar could be seen
    legend(figure, ours)
    return figure
