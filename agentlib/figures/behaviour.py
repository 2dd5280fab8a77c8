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

from agentlib.figures.accuracy import PANELS, PUBLISHED_NOTE, WILSON_NOTE
from agentlib.figures.estimates import (
    Estimate,
    accuracy,
    benchmark_for,
    list_students,
    mean_count,
    prepare_cases,
    read_published,
    select,
    select_student,
    size_label,
    vote_size,
)
from agentlib.figures.palette import COLOURS
from agentlib.figures.style import (
    add_legend,
    draw_bars,
    draw_interval,
    finish_axes,
    footer_text,
    mark_not_run,
    mark_zero,
    new_chart,
    styled,
)


@styled
def fig6_tokens(cases: pd.DataFrame, note: str = "", *, model: str | None = None) -> Figure:
    """Fig. 6: generated tokens a question, CoT against agent, both greedy, on four benchmarks, for one student.

    Questions that ended in an error have no count and are left out; n says how many were counted.
    """
    cases = prepare_cases(cases, needs=("completion_tokens",))
    model = select_student(cases, model)
    student = select(cases, model=model, n=1)
    paper = read_published("fig6_token_means").set_index("Dataset")
    rows = [
        ("cot_distill", "CoT distillation", "CoT_mean_tokens", "/"),
        ("agent_distill_ftp", "Agent distillation + FTP", "Agent_mean_tokens", ""),
    ]
    tokens = {
        (column, method): select(student, benchmark=benchmark_for(student, column), method=method)["completion_tokens"]
        .dropna().astype(float)
        for column in PANELS for method, *_ in rows
    }  # fmt: skip
    counted = [Estimate(0, n=len(counts)) for counts in tokens.values() if len(counts)]
    text = footer_text(
        note,
        counted,
        "not counted: questions that ended in an error",
        "lines: means",
        f"paper, {PUBLISHED_NOTE}",
    )
    figure = new_chart(10.5, 3.9, text)
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
            axes.axvline(
                counts.mean(),
                color=COLOURS[method],
                linestyle="--" if hatch else "-",
                linewidth=1.6,
            )
        if not any(map(len, both)):
            mark_not_run(axes, 0.5)
            axes.set_xticks([])
        axes.yaxis.get_major_locator().set_params(integer=True)
        finish_axes(axes)
        axes.set_title(
            f"{benchmark_for(student, column) or column}, {size_label(model)}: means\n"
            + "\n".join(lines),
            fontsize=8.5,
        )
        axes.set_xlabel("generated tokens")
    figure.axes[0].set_ylabel("questions")
    patches = [
        Patch(facecolor=COLOURS[m], alpha=0.6, hatch=h, edgecolor="white", label=label)
        for m, label, _, h in rows
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=2)
    return figure


ERROR_KINDS = (
    ("at least one parse error", "agent_distill_ftp", ""),
    ("execution errors only", "agent", "///"),
)


def _draw_stacks(
    axes: Axes, sizes: Sequence[str], stacks: Sequence[tuple[Estimate, Estimate]]
) -> None:
    """Two bars a size, without and with SAG; each stack is (share with a parse error, share with any error)."""
    places = [group + side for group in range(len(sizes)) for side in (-0.21, 0.21)]
    for x, (parse, total) in zip(places, stacks, strict=True):
        if math.isnan(total.value):
            mark_not_run(axes, x)
            continue
        for (label, method, hatch), value, bottom in zip(
            ERROR_KINDS, (parse.value, total.value - parse.value), (0.0, parse.value), strict=True
        ):
            axes.bar(
                x,
                value,
                0.38,
                bottom,
                color=COLOURS[method],
                hatch=hatch,
                edgecolor="white",
                label=label,
            )
        draw_interval(axes, x, total)
        if total.value == 0:
            mark_zero(axes, x, 0.38, COLOURS["agent_distill_ftp"])
    axes.set_xticks(
        [*places, *range(len(sizes))], ["w/o", "w/"] * len(sizes) + [f"\n{size}" for size in sizes]
    )
    axes.set_xlim(-0.6, len(sizes) - 0.4)


@styled
def fig7_code_errors(cases: pd.DataFrame, note: str = "") -> Figure:
    """Fig. 7: share of questions with a parse or execution error, without and with SAG, by size, on three maths sets.

    A bar is the share of finished questions with at least one such error in a kept action. Its lower part are those
    with a parse error (whatever else happened), its upper part those with execution errors only, so that the parts
    add up. Agents are distilled with FTP, or without where that was not run. The paper states no denominator.
    """
    cases = prepare_cases(cases, needs=("parse_errors", "execution_errors"))
    students, votes, paper = (
        list_students(cases),
        vote_size(cases),
        read_published("fig7_code_errors_digitised"),
    )
    agents = cases[cases["method"] == "agent_distill_ftp"]
    agents = agents if len(agents) else cases[cases["method"] == "agent_distill"]
    # An errored case has no count of errors: it is neither clean nor faulty.
    agents = agents[agents["correct"].notna()]
    sizes, panels = list(dict.fromkeys(paper["Model"])), ("MATH500", "GSM-Hard", "AIME")
    stacks: dict[str, list[tuple[Estimate, Estimate]]] = {column: [] for column in panels}
    for column in panels:
        for model, n in itertools.product(students, (1, votes)):
            found = select(agents, model=model, benchmark=benchmark_for(cases, column), n=n)
            parse, execution = (found[kind] > 0 for kind in ("parse_errors", "execution_errors"))
            # The same count and interval as an accuracy, of another yes or no.
            stacks[column].append(
                tuple(accuracy(found.assign(correct=hit)) for hit in (parse, parse | execution))
            )
    drawn = [total for column in panels for _, total in stacks[column]]
    text = footer_text(note, drawn, f"{WILSON_NOTE} of the whole bar", "w/o, w/: without and with SAG",
                  "denominator, ours: finished questions; published: not stated", PUBLISHED_NOTE)  # fmt: skip
    figure = new_chart(10.5, 5.6, text)
    grid = figure.subplots(2, 3, sharey="row")
    for (top, bottom), column in zip(grid.T, panels, strict=True):
        there = paper[paper["Dataset"] == column.removesuffix("500")].set_index(
            ["Model", "Setting"]
        )
        values = [there.loc[key] for key in itertools.product(sizes, ("w/o SAG", "w/ SAG"))]
        _draw_stacks(top, [size_label(model) for model in students], stacks[column])
        _draw_stacks(
            bottom,
            sizes,
            [(Estimate(row["Parse_err_pct"]), Estimate(row["Total_err_pct"])) for row in values],
        )
        top.set_title(f"ours: {benchmark_for(cases, column) or column}")
        bottom.set_title(f"published, digitised: {column}")
    for row in grid:
        finish_axes(*row)
    grid[0, 0].set_ylabel("% of finished questions")
    grid[1, 0].set_ylabel("% as published")
    patches = [
        Patch(facecolor=COLOURS[m], hatch=hatch, edgecolor="white", label=label)
        for label, m, hatch in ERROR_KINDS
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=2)
    return figure


@styled
def fig8_retrieval_calls(cases: pd.DataFrame, note: str = "") -> Figure:
    """Fig. 8: mean `web_search` calls a question without and with FTP, greedy, by size, on the four factual sets.

    Whiskers are Student's t intervals of the mean. Errored questions have no count and are left out.
    """
    cases = prepare_cases(cases, needs=("tool_calls",))
    students = list_students(cases)
    paper = read_published("fig8_retrieval_calls_digitised")
    rows = [
        ("agent_distill", "Without_FTP", "Agent distillation"),
        ("agent_distill_ftp", "With_FTP", "Agent distillation + FTP"),
    ]
    panels, drawn = ("HotpotQA", "Bamboogle", "MuSiQue", "2WikiQA"), []
    for column in panels:
        name = benchmark_for(cases, column)
        for method, _, _ in rows:
            found = [
                select(cases, model=model, benchmark=name, method=method, n=1) for model in students
            ]
            drawn.append([mean_count(one["tool_calls"]) for one in found])
    whiskers = "whiskers: 95\u00a0% t interval of the mean, none where all agree, cut at 3 times the tallest bar"
    figure = new_chart(
        10.5,
        5.2,
        footer_text(note, [point for line in drawn for point in line], whiskers, PUBLISHED_NOTE),
    )
    grid = figure.subplots(2, 4, sharey="row")
    for k, ((top, bottom), column) in enumerate(zip(grid.T, panels, strict=True)):
        there = paper[paper["Dataset"] == column]
        ours = [(label, method, drawn[2 * k + i]) for i, (method, _, label) in enumerate(rows)]
        theirs = [
            (label, method, [Estimate(value) for value in there[series]])
            for method, series, label in rows
        ]
        draw_bars(top, [size_label(model) for model in students], ours)
        draw_bars(bottom, list(there["Model"]), theirs)
        top.set_title(f"ours: {benchmark_for(cases, column) or column}")
        bottom.set_title(f"published, digitised: {column}")
        bottom.set_xlabel("model size")
    tallest = max(
        (point.value for line in drawn for point in line if not math.isnan(point.value)),
        default=0.0,
    )
    for row in grid:
        finish_axes(*row)
        row[0].set_ylabel("searches a question")
    if 0 < tallest < grid[0, 0].get_ylim()[1] / 3:
        grid[0, 0].set_ylim(
            0, 3 * tallest
        )  # of two questions the interval is so long that no bar could be seen
    add_legend(figure, ours)
    return figure
