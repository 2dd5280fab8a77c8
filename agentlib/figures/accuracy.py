"""The paper's figures of accuracy (Figs. 1, 4 and 5): a table of cases in, a Figure out.

The published values are drawn beside ours. Their panels name the paper and, where values were read
off its figures, say "digitised".
"""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from agentlib.config import METHODS
from agentlib.figures.captions import (
    NOT_RUN,
    caption_breakdown,
    caption_means,
    caption_samples,
    join_words,
)
from agentlib.figures.estimates import (
    Estimate,
    accuracy,
    benchmark_for,
    list_students,
    mean_accuracy,
    prepare_cases,
    read_published,
    select,
    select_student,
    size_label,
    sort_by_size,
    vote_size,
)
from agentlib.figures.palette import COLOURS
from agentlib.figures.style import (
    add_legend,
    draw_bars,
    draw_interval,
    finish_axes,
    footer_text,
    format_range,
    mark_not_run,
    new_chart,
    set_caption,
    styled,
)
from agentlib.figures.tables import PUBLISHED_ROW

PUBLISHED_NOTE = "published: Kang et al. 2025"
WILSON_NOTE = "whiskers: 95\u00a0% Wilson interval"
PANELS = ("MATH500", "AIME", "HotpotQA", "MuSiQue")  # Figs. 5 and 6


def drawn_panels(has_cases: Mapping[str, bool]) -> list[str]:
    """The panels of which there is a case of ours; all of them if there is none at all."""
    return [name for name, found in has_cases.items() if found] or list(has_cases)


def chart_width(shown: Sequence[str], panels: Sequence[str]) -> float:
    """Inches for a chart with these of its panels side by side."""
    return max(5.5, 10.5 * len(shown) / len(panels))


@styled
def fig1_mean_accuracy(
    cases: pd.DataFrame,
    note: str = "",
    *,
    models: Sequence[str] | None = None,
    benchmarks: Sequence[str] | None = None,
) -> Figure:
    """Fig. 1: mean accuracy over the benchmarks (%), by model size, of five methods.

    `models` and `benchmarks` are those of the run (default: all in `cases`); a bar needs all of the
    benchmarks. Intervals combine the benchmarks' Wilson intervals (`estimates.mean_accuracy`).
    Published bars are the values printed in Fig. 1; a diamond is the mean of Table 2's columns
    where the two disagree. Where nothing was run with a vote, the last bar of ours is a gap, and
    the distilled agent without a vote has a bar beside it, which the paper's figure has not.
    """
    cases = prepare_cases(cases)
    models = sort_by_size(models or cases["model"])
    teachers = set(cases["model"]) - set(list_students(cases))
    benchmarks = list(benchmarks or dict.fromkeys(cases["benchmark"]))
    votes = vote_size(cases)
    rows = [  # method, samples, label, column of the published Fig. 1
        ("cot", 1, METHODS["cot"], "CoT_Prompting"),
        ("cot_distill", 1, METHODS["cot_distill"], "CoT_Distill"),
        ("cot_distill_rag", 1, METHODS["cot_distill_rag"], "CoT_Distill_RAG"),
        ("agent", 1, METHODS["agent"], "Agent_Prompting"),
        ("agent_distill_ftp", votes, "Agent distillation (FTP + SAG)", "Agent_Distill_ours"),
    ]
    if not votes:
        label = f"{METHODS['agent_distill']}, no vote (ours only)"
        rows.insert(-1, ("agent_distill", 1, label, ""))
    paper = read_published("fig1_avg")
    table = read_published("table2_main").set_index(["Params", "Family", "Method"])
    ours, theirs, diamonds = [], [], []
    published = [column for *_, column in rows if column]
    for method, n, label, column in rows:
        chosen, points = select(cases, method=method, n=n), []
        for model in models:
            each = [accuracy(select(chosen, model=model, benchmark=name)) for name in benchmarks]
            # A teacher is never distilled: its place stays empty, it is not a gap in the run.
            never = model in teachers and "distill" in method
            points.append(None if never else mean_accuracy(each))
        ours.append((label, method, points))
        if not column:
            continue
        printed = [None if math.isnan(value) else Estimate(value) for value in paper[column]]
        theirs.append((label, method, printed))
        row = PUBLISHED_ROW[method, method == "agent_distill_ftp"]
        for group, (size, value) in enumerate(zip(paper["Size"], paper[column], strict=True)):
            mean = table["Avg_recomputed"].get((size, *row), value)
            if abs(mean - value) > 0.1:
                place = published.index(column) - (len(published) - 1) / 2
                diamonds.append((group + place * 0.84 / len(published), mean))
    text = footer_text(
        note,
        [point for *_, points in ours for point in points],
        "whiskers: 95\u00a0% interval "
        f"(Wilson, added in squares over {len(benchmarks)} benchmarks)",
        "◆ mean of the columns of the published Table 2 where Fig. 1 prints another value",
    )
    figure = new_chart(10.5, 4.2, text)
    left, right = figure.subplots(1, 2, width_ratios=[max(2.5, len(models)), 5])
    sizes = [size_label(model) + "\nteacher" * (model in teachers) for model in models]
    draw_bars(left, sizes, ours)
    ylabel = f"mean accuracy over {len(benchmarks)} benchmarks (%)"
    left.set(title="ours", ylabel=ylabel, xlabel="model size")
    draw_bars(right, [size + "\nteacher" * (size == "32B") for size in paper["Size"]], theirs)
    right.set(title=f"{PUBLISHED_NOTE}, Fig. 1", xlabel="model size")
    right.plot(*zip(*diamonds, strict=True), "D", color="black", markersize=3.5)
    finish_axes(left, right)
    add_legend(figure, ours)
    students = [model for model in models if model not in teachers]
    set_caption(figure, caption_means(cases, students, votes, paper))
    return figure


def _normalise_bin(label: object) -> str:
    """One spelling of a subject ("Number Theory", "number-theory") or level ("Level 4", "L4")."""
    text = str(label).lower().strip()
    if level := re.fullmatch(r"(?:level|l)?\s*(\d+)(?:\.0)?", text):
        return level[1]
    return re.sub(r"[^a-z]|and", "", text)


@styled
def fig4_math_breakdown(cases: pd.DataFrame, note: str = "", *, model: str | None = None) -> Figure:
    """Fig. 4: accuracy (%) on MATH by subject and by level, of one student (default: the largest).

    Agents are the runs with SAG, as the paper's bars are, although its caption does not say so; CoT
    is greedy. Published bars are read off the figure; their sums agree with Table 2 at 3B.
    """
    cases = prepare_cases(cases)
    model, votes = select_student(cases, model), vote_size(cases)
    name = benchmark_for(cases, "MATH500")
    maths = select(cases, model=model, benchmark=name)
    paper = read_published("fig4_math_breakdown_digitised")
    rows = [  # method, samples, published series, label
        ("cot_distill", 1, "CoT", METHODS["cot_distill"]),
        ("agent_distill", votes, "Agent", METHODS["agent_distill"] + " + SAG"),
        ("agent_distill_ftp", votes, "Agent+FTP", METHODS["agent_distill_ftp"] + " + SAG"),
    ]
    panels = []
    for panel, column in (("category", "subject"), ("level", "level")):
        published = paper[paper["Panel"] == panel]
        bins = list(dict.fromkeys(published["Bin"]))
        found = maths.assign(bin=maths[column].map(_normalise_bin) if column in maths else "")
        ours, theirs = [], []
        for method, n, series, title in rows:
            chosen = select(found, method=method, n=n)
            points = [accuracy(select(chosen, bin=_normalise_bin(label))) for label in bins]
            ours.append((title, method, points))
            values = published[published["Series"] == series]["Accuracy_pct_digitised"]
            theirs.append((title, method, [Estimate(value) for value in values]))
        sizes = published[published["Series"] == "CoT"]["N_questions"]
        panels.append((column, bins, ours, theirs, sizes))
    drawn = [point for _, _, ours, _, _ in panels for *_, points in ours for point in points]
    figure = new_chart(10.5, 6.4, footer_text(note, drawn, WILSON_NOTE, PUBLISHED_NOTE))
    grid = figure.subplots(2, 2, width_ratios=[7, 4.2], sharey=True)
    for (top, bottom), (column, bins, ours, theirs, sizes) in zip(grid.T, panels, strict=True):
        words = [label.replace(" ", "\n").replace("&\n", "& ") for label in bins]
        groups = zip(*(points for *_, points in ours), strict=True)
        asked = [format_range(point.n for point in group if point.n) for group in groups]
        draw_bars(top, [f"{word}\nn={n}" for word, n in zip(words, asked, strict=True)], ours)
        draw_bars(bottom, [f"{word}\nn={n}" for word, n in zip(words, sizes, strict=True)], theirs)
        top.set_title(f"ours: {name or 'MATH'} by {column}, {size_label(model)}")
        bottom.set_title(f"published, digitised: MATH500 by {column}, 3B")
    finish_axes(*grid.flat)
    for row in grid:
        row[0].set_ylabel("accuracy (%)")
    add_legend(figure, ours)
    _, _, _, theirs, sizes = panels[0]
    published = {
        title: float(np.average([point.value for point in points], weights=sizes))
        for title, _, points in theirs
    }
    all_ours = [ours for _, _, ours, *_ in panels]
    size, words = size_label(model), name or "MATH"
    set_caption(figure, caption_breakdown(size, words, all_ours, published, "3B"))
    return figure


@styled
def fig5_samples(cases: pd.DataFrame, note: str = "", *, model: str | None = None) -> Figure:
    """Fig. 5: accuracy (%) against samples, of CoT self-consistency and SAG, on four benchmarks.

    It shows one student: `model`, or by default the one that was run with the most numbers of
    samples. The paper has agent points at 1 and 8 only; ours are drawn at each number of samples
    that was run. A panel without a case of ours is left out, and so is one in which all of ours are
    0, which says nothing about samples; as long as another is not.
    """
    cases = prepare_cases(cases)
    rows = [  # method, published series, label, marker, shift to the side
        ("cot_distill", "CoT", METHODS["cot_distill"] + ", self-consistency", "o", 0.97),
        ("agent_distill_ftp", "Agent", METHODS["agent_distill_ftp"] + ", SAG", "s", 1.03),
    ]
    of_rows = cases[cases["method"].isin([row[0] for row in rows])]
    sampled = of_rows.groupby("model")["n"].nunique()
    if model is None and len(sampled):
        most = [name for name in list_students(cases) if sampled.get(name, 0) == sampled.max()]
        model = most[-1] if most else None
    model = select_student(cases, model)
    student = select(cases, model=model)
    counts = sorted(set(select(of_rows, model=model)["n"]) | {1})
    names = {column: benchmark_for(student, column) or column for column in PANELS}
    drawn, of_panel = {}, {}
    for column in PANELS:
        of_panel[column] = chosen = select(student, benchmark=names[column])
        for method, *_ in rows:
            points = [accuracy(select(chosen, method=method, n=n)) for n in counts]
            drawn[column, method] = points
    values = {
        column: [p.value for method, *_ in rows for p in drawn[column, method] if p.n]
        for column in PANELS
    }
    ran = drawn_panels({column: bool(found) for column, found in values.items()})
    shown = [column for column in ran if set(values[column]) != {0.0}] or ran
    zeros = "ours are 0 at every n" if len(counts) > 1 else "ours are 0"
    left = {
        zeros: [names[column] for column in ran if column not in shown],
        NOT_RUN: [names[column] for column in PANELS if column not in ran],
    }
    text = footer_text(
        note,
        [point for (column, _), points in drawn.items() if column in shown for point in points],
        WILSON_NOTE,
        f"dashed, {PUBLISHED_NOTE}, 3B on {join_words(shown)}; n = 2 and 4 and CoT at 8 digitised",
    )
    figure = new_chart(chart_width(shown, PANELS), 3.7, text)
    paper = read_published("fig5_sag_vs_sc_digitised")
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, column in zip(grid, shown, strict=True):
        published = select(paper, Panel=column.removesuffix("500"))
        for method, series, label, marker, shift in rows:
            theirs = select(published, Series=series)
            look = {"color": COLOURS[method], "marker": marker, "markersize": 5}
            # A NaN breaks the line, so that it bridges no number of samples that was not run.
            values = [point.value for point in drawn[column, method]]
            places = np.array(counts) * shift
            axes.plot(places, values, label=label, clip_on=False, zorder=3, **look)
            look |= {"linestyle": "--", "linewidth": 1, "alpha": 0.5, "markerfacecolor": "white"}
            axes.plot(theirs["n"], theirs["Accuracy"], label="published", **look)
            for n, point in zip(counts, drawn[column, method], strict=True):
                if not math.isnan(point.value):
                    draw_interval(axes, n * shift, point, COLOURS[method])
                elif any(drawn[column, other][counts.index(n)].n for other, *_ in rows):
                    mark_not_run(axes, n * shift**3)
                elif method == rows[0][0]:  # one mark where neither method was run
                    mark_not_run(axes, n)
        ticks = sorted({*counts, *published["n"]})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(n) for n in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(0.8, max(ticks) * 1.25)
        axes.set(title=f"{names[column]}, {size_label(model)}", xlabel="samples n")
    finish_axes(*grid)
    figure.axes[0].set_ylabel("accuracy (%)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4 if len(shown) > 2 else 2)
    reach = [
        max(p.value - p.low, p.high - p.value)
        for (column, _), points in drawn.items()
        for p in points
        if column in shown and p.n
    ]
    caption = caption_samples(
        size_label(model),
        {names[column]: of_panel[column] for column in shown},
        {method: label for method, _, label, *_ in rows},
        counts,
        left,
        max(reach, default=0.0),
    )
    set_caption(figure, caption)
    return figure
