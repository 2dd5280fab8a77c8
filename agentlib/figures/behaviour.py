"""The paper's figures of how students work (Figs. 6 to 8: tokens, code errors, searches).

Like `accuracy`: a table of cases in, a Figure out, published values beside ours.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from agentlib.config import METHODS
from agentlib.figures.accuracy import PANELS, PUBLISHED_NOTE, WILSON_NOTE, chart_width, drawn_panels
from agentlib.figures.captions import caption_errors, caption_searches, caption_tokens
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
from agentlib.figures.palette import COLOURS, LIGHT_VERMILLION
from agentlib.figures.style import (
    add_legend,
    draw_bars,
    draw_interval,
    finish_axes,
    footer_text,
    mark_not_run,
    mark_zero,
    new_chart,
    set_caption,
    styled,
)


@styled
def fig6_tokens(cases: pd.DataFrame, note: str = "", *, model: str | None = None) -> Figure:
    """Fig. 6: generated tokens per question, CoT against agent, both greedy, on four benchmarks.

    The published means are dotted lines. A panel without a case of ours is left out.

    It shows one student (default: the largest). Questions that ended in an error have no count and
    are left out; n is the number of questions counted.
    """
    cases = prepare_cases(cases, needs=("completion_tokens",))
    model = select_student(cases, model)
    student = select(cases, model=model, n=1)
    paper = read_published("fig6_token_means").set_index("Dataset")
    rows = [  # method, published column, hatch
        ("cot_distill", "CoT_mean_tokens", "/"),
        ("agent_distill_ftp", "Agent_mean_tokens", ""),
    ]
    tokens = {}
    for column in PANELS:
        chosen = select(student, benchmark=benchmark_for(student, column))
        for method, *_ in rows:
            counts = select(chosen, method=method)["completion_tokens"]
            tokens[column, method] = counts.dropna().astype(float)
    text = footer_text(
        note,
        [Estimate(0, n=len(counts)) for counts in tokens.values() if len(counts)],
        "not counted: questions that ended in an error",
        "lines: means",
        f"dotted: means of the paper, {PUBLISHED_NOTE}",
    )
    names = {column: benchmark_for(student, column) or column for column in PANELS}
    shown = drawn_panels({c: any(len(tokens[c, method]) for method, *_ in rows) for c in PANELS})
    figure = new_chart(chart_width(shown, PANELS), 3.9, text)
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, column in zip(grid, shown, strict=True):
        both = [tokens[column, method] for method, *_ in rows]
        longest = max([counts.max() for counts in both if len(counts)], default=1.0)
        bins = np.linspace(0, max(longest, 1) * 1.001, 17)
        title = [f"{names[column]}, {size_label(model)}: means"]
        for counts, (method, theirs, hatch) in zip(both, rows, strict=True):
            family = METHODS[method].split()[0]
            mean = paper.loc[column.removesuffix("500"), theirs]
            published = f"paper {mean:.1f}"
            if counts.empty:
                title.append(f"{family} not run, {published}")
                continue
            title.append(f"{family} {counts.mean():.1f} (n={len(counts)}), {published}")
            axes.hist(counts, bins=bins, linewidth=0.6, **_histogram_look(method, hatch))
            style = "--" if hatch else "-"
            axes.axvline(counts.mean(), color=COLOURS[method], linestyle=style, linewidth=1.6)
            axes.axvline(mean, color=COLOURS[method], linestyle=":", linewidth=1.6)
        if not any(map(len, both)):
            mark_not_run(axes, 0.5)
            axes.set_xticks([])
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_title("\n".join(title), fontsize=8.5)
        axes.set_xlabel("generated tokens")
    finish_axes(*grid)
    figure.axes[0].set_ylabel("questions")
    patches = [Patch(**_histogram_look(method, hatch)) for method, _, hatch in rows]
    figure.legend(handles=patches, loc="outside upper left", ncols=2)
    counted = {names[c]: [tokens[c, method] for method, *_ in rows] for c in PANELS}
    published = {
        column: tuple(paper.loc[column.removesuffix("500"), theirs] for _, theirs, _ in rows)
        for column in PANELS
    }
    set_caption(figure, caption_tokens(size_label(model), counted, published))
    return figure


def _histogram_look(method: str, hatch: str) -> dict[str, object]:
    look = {"facecolor": COLOURS[method], "hatch": hatch, "edgecolor": "white", "alpha": 0.6}
    return look | {"label": METHODS[method]}


ERROR_KINDS = (  # two shades of the method's colour: no other method is in the figure
    ("at least one parse error", COLOURS["agent_distill_ftp"], ""),
    ("execution errors only", LIGHT_VERMILLION, "///"),
)


def _draw_stacks(
    axes: Axes, sizes: Sequence[str], stacks: Sequence[tuple[Estimate, Estimate]]
) -> None:
    """Two stacked bars per size, without and with SAG.

    A stack is (share of questions with a parse error, share with any error), both in per cent.
    """
    places = [group + side for group in range(len(sizes)) for side in (-0.21, 0.21)]
    for x, (parse, total) in zip(places, stacks, strict=True):
        if math.isnan(total.value):
            mark_not_run(axes, x)
            continue
        bottom = 0.0
        for (label, colour, hatch), top in zip(ERROR_KINDS, (parse, total), strict=True):
            look = {"color": colour, "hatch": hatch, "edgecolor": "white", "label": label}
            if top.value > bottom:
                axes.bar(x, top.value - bottom, 0.38, bottom, **look)
            bottom = top.value
        draw_interval(axes, x, total)
        if total.value == 0:
            mark_zero(axes, x, whisker=not math.isnan(total.low))
    labels = ["w/o", "w/"] * len(sizes) + [f"\n{size}" for size in sizes]
    axes.set_xticks([*places, *range(len(sizes))], labels)
    axes.set_xlim(-0.6, len(sizes) - 0.4)


@styled
def fig7_code_errors(cases: pd.DataFrame, note: str = "") -> Figure:
    """Fig. 7: share of questions (%) with a parse or execution error, without and with SAG.

    A bar is the share of finished questions with at least one such error in a kept action. Its
    lower part are the questions with a parse error (whatever else happened), its upper part those
    with execution errors only, so that the parts add up. Agents are distilled with FTP, or without
    where that was not run. The paper states no denominator. A panel without a case of ours is left
    out.
    """
    cases = prepare_cases(cases, needs=("parse_errors", "execution_errors"))
    students, votes = list_students(cases), vote_size(cases)
    paper = read_published("fig7_code_errors_digitised")
    agents = cases[cases["method"] == "agent_distill_ftp"]
    agents = agents if len(agents) else cases[cases["method"] == "agent_distill"]
    # A case that ended in an error has no count of code errors: it is neither clean nor faulty.
    agents = agents[agents["correct"].notna()]
    sizes, panels = list(dict.fromkeys(paper["Model"])), ("MATH500", "GSM-Hard", "AIME")
    stacks: dict[str, list[tuple[Estimate, Estimate]]] = {column: [] for column in panels}
    for column in panels:
        chosen = select(agents, benchmark=benchmark_for(cases, column))
        for model, n in itertools.product(students, (1, votes)):
            found = select(chosen, model=model, n=n)
            parse, execution = found["parse_errors"] > 0, found["execution_errors"] > 0
            # The same count and interval as for accuracy, of another yes or no.
            shares = (accuracy(found.assign(correct=hit)) for hit in (parse, parse | execution))
            stacks[column].append(tuple(shares))
    text = footer_text(
        note,
        [total for column in panels for _, total in stacks[column]],
        f"{WILSON_NOTE} of the whole bar",
        "w/o, w/: without and with SAG",
        "denominator, ours: finished questions; published: not stated",
        PUBLISHED_NOTE,
    )
    shown = drawn_panels({c: any(total.n for _, total in stacks[c]) for c in panels})
    figure = new_chart(chart_width(shown, panels), 5.6, text)
    grid = figure.subplots(2, len(shown), sharey=True, squeeze=False)
    published_pairs = []
    for (top, bottom), column in zip(grid.T, shown, strict=True):
        published = select(paper, Dataset=column.removesuffix("500"))
        published = published.set_index(["Model", "Setting"])[["Parse_err_pct", "Total_err_pct"]]
        rows = itertools.product(sizes, ("w/o SAG", "w/ SAG"))
        theirs = [tuple(Estimate(value) for value in published.loc[row]) for row in rows]
        _draw_stacks(top, [size_label(model) for model in students], stacks[column])
        _draw_stacks(bottom, sizes, theirs)
        totals = [total for _, total in theirs]
        published_pairs += zip(totals[::2], totals[1::2], strict=True)
        top.set_title(f"ours: {benchmark_for(cases, column) or column}")
        bottom.set_title(f"published, digitised: {column}")
    finish_axes(*grid.flat)
    grid[0, 0].set_ylabel("% of finished questions")
    grid[1, 0].set_ylabel("% as published")
    patches = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=label)
        for label, colour, hatch in ERROR_KINDS
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=2)
    labels = [size_label(model) for model in students]
    pairs = {column: _totals_in_pairs(stacks[column]) for column in shown}
    left = [column for column in panels if column not in shown]
    set_caption(figure, caption_errors(pairs, published_pairs, labels, left))
    return figure


def _totals_in_pairs(
    stacks: Sequence[tuple[Estimate, Estimate]],
) -> list[tuple[Estimate, Estimate]]:
    """The whole bars of `_draw_stacks`, without and with SAG, one pair per size."""
    totals = [total for _, total in stacks]
    return list(zip(totals[::2], totals[1::2], strict=True))


@styled
def fig8_retrieval_calls(cases: pd.DataFrame, note: str = "") -> Figure:
    """Fig. 8: mean `web_search` calls per question, without and with FTP, on four factual sets.

    Agents are greedy. Intervals are Student's t intervals of the mean. Questions that ended in an
    error have no count and are left out, as is a panel without a case of ours. The caption says
    whether ours changes the way the published one does.
    """
    cases = prepare_cases(cases, needs=("tool_calls",))
    students = list_students(cases)
    paper = read_published("fig8_retrieval_calls_digitised")
    rows = [("agent_distill", "Without_FTP"), ("agent_distill_ftp", "With_FTP")]
    panels, columns = [], ("HotpotQA", "Bamboogle", "MuSiQue", "2WikiQA")
    for column in columns:
        published, ours, theirs = select(paper, Dataset=column), [], []
        for method, series in rows:
            chosen = select(cases, benchmark=benchmark_for(cases, column), method=method, n=1)
            points = [mean_count(select(chosen, model=model)["tool_calls"]) for model in students]
            ours.append((METHODS[method], method, points))
            theirs.append((METHODS[method], method, list(map(Estimate, published[series]))))
        panels.append((column, ours, theirs, list(published["Model"])))
    ran = {
        column: any(point.n for *_, points in ours for point in points)
        for column, ours, *_ in panels
    }
    shown = drawn_panels(ran)
    panels = [panel for panel in panels if panel[0] in shown]
    drawn = [point for _, ours, *_ in panels for *_, points in ours for point in points]
    intervals = (
        "whiskers: 95\u00a0% t interval of the mean, none where all agree, "
        "cut at 3 times the tallest bar"
    )
    text = footer_text(note, drawn, intervals, PUBLISHED_NOTE)
    figure = new_chart(chart_width(shown, columns), 5.2, text)
    grid = figure.subplots(2, len(panels), sharey=True, squeeze=False)
    for (top, bottom), (column, ours, theirs, sizes) in zip(grid.T, panels, strict=True):
        draw_bars(top, [size_label(model) for model in students], ours)
        draw_bars(bottom, sizes, theirs)
        top.set_title(f"ours: {benchmark_for(cases, column) or column}")
        bottom.set_title(f"published, digitised: {column}")
        bottom.set_xlabel("model size")
    finish_axes(*grid.flat)
    for row in grid:
        row[0].set_ylabel("searches per question")
    published = [point for *_, theirs, _ in panels for *_, points in theirs for point in points]
    values = [point.value for point in (*drawn, *published) if not math.isnan(point.value)]
    if 3 * max(values) < grid[0, 0].get_ylim()[1]:
        # From two questions, an interval can be so long that no bar would be visible.
        grid[0, 0].set_ylim(0, 3 * max(values))
    add_legend(figure, ours)
    names = [benchmark_for(cases, column) for column in columns]
    greedy = cases[cases["benchmark"].isin(names) & (cases["n"] == 1)]
    left = [column for column in columns if column not in shown]
    set_caption(figure, caption_searches(greedy, students, paper, left))
    return figure
