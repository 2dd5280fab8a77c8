"""The paper's figures of how students work (Figs. 6 to 8: tokens, errors, searches): a table of cases in, a Figure out.

Owns one pure function a figure. Knows nothing of models, of runs on disk, of how a number is computed (`estimates`) or of
how marks look (`charts`). Published panels are as in `accuracy_figures`.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from agentlib.figures.accuracy import PANELS, PUBLISHED, WILSON
from agentlib.figures.estimates import (
    Point,
    accuracy,
    benchmark_of,
    cases_of,
    mean_count,
    one_student,
    pick,
    published,
    size_label,
    students_of,
    vote_size,
)
from agentlib.figures.style import COLOURS, bars, blank, finish, footer, legend, mark_gap, mark_zero, styled, whisker


@styled
def fig6_tokens(cases: pd.DataFrame, note: str = "", *, model: str | None = None) -> Figure:
    """Fig. 6: generated tokens a question, CoT against agent, both greedy, on four benchmarks, for one student.

    Questions that ended in an error have no count and are left out; n says how many were counted.
    """
    cases = cases_of(cases, needs=("completion_tokens",))
    model = one_student(cases, model)
    student = pick(cases, model=model, n=1)
    paper = published("fig6_token_means").set_index("Dataset")
    rows = [
        ("cot_distill", "CoT distillation", "CoT_mean_tokens", "/"),
        ("agent_distill_ftp", "Agent distillation + FTP", "Agent_mean_tokens", ""),
    ]
    tokens = {
        (column, method): pick(student, benchmark=benchmark_of(student, column), method=method)["completion_tokens"]
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
            f"{benchmark_of(student, column) or column}, {size_label(model)}: means\n" + "\n".join(lines), fontsize=8.5
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
    students, votes, paper = students_of(cases), vote_size(cases), published("fig7_code_errors_digitised")
    agents = cases[cases["method"] == "agent_distill_ftp"]
    agents = agents if len(agents) else cases[cases["method"] == "agent_distill"]
    # An errored case has no count of errors: it is neither clean nor faulty.
    agents = agents[agents["correct"].notna()]
    sizes, panels = list(dict.fromkeys(paper["Model"])), ("MATH500", "GSM-Hard", "AIME")
    stacks: dict[str, list[tuple[Point, Point]]] = {column: [] for column in panels}
    for column in panels:
        for model, n in itertools.product(students, (1, votes)):
            found = pick(agents, model=model, benchmark=benchmark_of(cases, column), n=n)
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
        top.set_title(f"ours: {benchmark_of(cases, column) or column}")
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
    students = students_of(cases)
    paper = published("fig8_retrieval_calls_digitised")
    rows = [
        ("agent_distill", "Without_FTP", "Agent distillation"),
        ("agent_distill_ftp", "With_FTP", "Agent distillation + FTP"),
    ]
    panels, drawn = ("HotpotQA", "Bamboogle", "MuSiQue", "2WikiQA"), []
    for column in panels:
        name = benchmark_of(cases, column)
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
        top.set_title(f"ours: {benchmark_of(cases, column) or column}")
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
