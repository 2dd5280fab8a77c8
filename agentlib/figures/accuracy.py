"""The paper's figures of accuracy (Figs. 1, 4 and 5): a table of cases in, a Figure out, the published values beside ours.

Owns one pure function a figure. Knows nothing of models, of runs on disk, of how a number is computed (`estimates`) or of
how marks look (`charts`).

Published panels name the paper and, where values were read off its figures, say "digitised".
"""

import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from agentlib.figures.estimates import (
    Point,
    accuracy,
    benchmark_of,
    by_size,
    cases_of,
    mean_accuracy,
    one_student,
    pick,
    published,
    size_label,
    students_of,
    vote_size,
)
from agentlib.figures.style import COLOURS, bars, blank, finish, footer, legend, mark_gap, span, styled, whisker

PUBLISHED = "published: Kang et al. 2025"
WILSON = "whiskers: 95\u00a0% Wilson interval"
PANELS = ("MATH500", "AIME", "HotpotQA", "MuSiQue")  # Figs. 5 and 6


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
    models, teachers = by_size(models or cases["model"]), set(cases["model"]) - set(students_of(cases))
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
    model, votes, name = one_student(cases, model), vote_size(cases), benchmark_of(cases, "MATH500")
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
        most = [name for name in students_of(cases) if sampled.get(name, 0) == sampled.max()]
        model = most[-1] if most else None
    model = one_student(cases, model)
    student = pick(cases, model=model)
    counts = sorted(set(student[student["method"].isin([row[0] for row in rows])]["n"]) | {1})
    drawn = {
        (column, method): [
            accuracy(pick(student, benchmark=benchmark_of(student, column), method=method, n=n)) for n in counts
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
        axes.set(title=f"{benchmark_of(student, column) or column}, {size_label(model)}", xlabel="samples n")
    figure.axes[0].set_ylabel("accuracy (%)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)
    return figure
