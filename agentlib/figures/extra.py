"""Figures that are not in the paper: a table of cases, or of numbers, in; a Figure out."""

from collections.abc import Mapping, Sequence
from textwrap import TextWrapper

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from agentlib.config import METHODS
from agentlib.figures import statistics
from agentlib.figures.captions import (
    caption_bars,
    caption_claims,
    caption_efficiency,
    caption_losses,
)
from agentlib.figures.estimates import (
    Estimate,
    accuracy,
    add_missing_cases,
    mean_accuracy,
    prepare_cases,
    select,
    size_label,
)
from agentlib.figures.palette import BLUE, COLOURS, GREEN, GREY, SERIES, VERMILLION, YELLOW
from agentlib.figures.style import (
    HATCHES,
    add_legend,
    draw_bars,
    draw_interval,
    finish_axes,
    footer_text,
    mark_zero,
    new_chart,
    set_caption,
    styled,
)
from agentlib.figures.tables import METHOD_LABELS, UNSETTLED

LINES = {  # label: domain, colour, marker, line; one method, so one colour and shades of grey
    "all benchmarks": (None, GREEN, "o", "-"),
    "factual": ("factual", GREY, "s", "--"),
    "maths": ("math", "black", "^", ":"),
}
# Of bars whose column or row is a method, which the teacher's agent with a prefix is too.
METHOD_COLOURS = {label: COLOURS.get(method, YELLOW) for method, label in METHOD_LABELS.items()}
LINE_LOOKS = list(zip(SERIES[1:-1], "osD^", strict=True))  # of a chart whose lines are no methods
VERDICTS = {  # of a claim: colour, marker
    "yes": (COLOURS["agent_distill"], "o"),
    UNSETTLED: (GREY, "o"),
    "no": (COLOURS["agent_distill_ftp"], "X"),
}


@styled
def data_efficiency(cases: pd.DataFrame, note: str = "") -> Figure:
    """Mean accuracy (%) of the distilled agent against the number of training trajectories.

    That number is the `value` of cases of the setting "trajectories"; intervals are over questions.
    Raises ValueError if it was not varied.
    """
    varied = cases[cases["setting"] == "trajectories"] if "setting" in cases else cases.iloc[:0]
    if varied.empty:
        raise ValueError(
            "no case varies the number of trajectories, expected some; "
            "run notebook 04 with sweep_examples set"
        )
    (model,) = varied["model"].unique()
    counts = sorted(varied["value"].astype(int).unique())

    def mean(count: int, domain: str | None) -> Estimate:
        chosen = prepare_cases(varied[varied["value"] == count])
        chosen = chosen if domain is None else select(chosen, domain=domain)
        return mean_accuracy([accuracy(group) for _, group in chosen.groupby("benchmark")])

    drawn = {
        label: [mean(count, domain) for count in counts] for label, (domain, *_) in LINES.items()
    }
    every = [point for points in drawn.values() for point in points]
    figure = new_chart(6.0, 3.7, footer_text(note, every, "mean of the benchmarks, greedy"))
    axes = figure.subplots()
    for shift, (label, points) in zip((1.0, 0.97, 1.03), drawn.items(), strict=True):
        _, colour, marker, line = LINES[label]
        places, values = [count * shift for count in counts], [point.value for point in points]
        look = {"color": colour, "marker": marker, "markersize": 5, "linestyle": line}
        axes.plot(places, values, label=label, zorder=3, **look)
        for place, point in zip(places, points, strict=True):
            draw_interval(axes, place, point, colour)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_xticks([], minor=True)
    finish_axes(axes)
    title = f"Agent distillation, {size_label(model)}"
    axes.set(title=title, xlabel="trajectories trained on", ylabel="accuracy (%)")
    axes.legend(loc="best")
    points = dict(zip(counts, drawn["all benchmarks"], strict=True))
    ends = [varied[varied["value"] == count] for count in (counts[0], counts[-1])]
    set_caption(figure, caption_efficiency(points, statistics.compare(*ends)))
    return figure


@styled
def claim_chart(found: pd.DataFrame, note: str = "") -> Figure:
    """The claims of `claims.check_claims` that were run: the difference in points and its interval.

    The marker shows the verdict, a tick the margin, a diamond the published difference. Raises
    ValueError if no claim was run.
    """
    drawn = found.dropna(subset=["difference"])
    if drawn.empty:
        raise ValueError(
            "no claim was run, expected one or more with both sides; run notebook 04 first"
        )
    footer = " · ".join(part for part in (note, "whiskers: 95 % interval") if part)
    figure = new_chart(8.5, 1.4 + 0.28 * len(drawn), footer)
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linewidth=1, zorder=1)
    marks = {"margin": ("|", 11, "margin"), "published": ("D", 3.5, "published, nearest size")}
    for column, (marker, size, label) in marks.items():
        look = {"color": "black", "markersize": size, "label": label}
        axes.plot(drawn[column], range(len(drawn)), marker, **look)
    for verdict, (colour, marker) in VERDICTS.items():
        rows = [k for k, holds in enumerate(drawn["holds"]) if holds == verdict]
        some = drawn.iloc[rows]
        reach = [some["difference"] - some["low"], some["high"] - some["difference"]]
        look = {"fmt": marker, "color": colour, "markersize": 6, "capsize": 2, "elinewidth": 0.9}
        look |= {"markerfacecolor": "white" if verdict == UNSETTLED else colour}
        label = f"{verdict} ({len(rows)})"
        axes.errorbar(some["difference"], rows, xerr=reach, label=label, **look)
    axes.set_yticks(range(len(drawn)), drawn.index)
    axes.set_ylim(len(drawn) - 0.5, -0.5)  # the first on top, no marker cut off
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="difference (points)")
    columns, title = 2 + len(VERDICTS), "does the claim hold?"
    figure.legend(loc="outside upper left", ncols=columns, title=title, alignment="left")
    set_caption(figure, caption_claims(found))
    return figure


@styled
def accuracy_bars(cases: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy (%) of each method on each benchmark in a table of cases, with Wilson intervals.

    Raises ValueError for a method that is not one of `config.METHODS`.
    """
    if unknown := sorted(set(cases["method"]) - set(METHODS)):
        raise ValueError(
            f"method {unknown[0]!r} has no colour, expected one of {', '.join(METHODS)}"
        )
    cases = add_missing_cases(cases)
    names = list(dict.fromkeys(cases["benchmark"]))
    series = []
    for method, label in METHODS.items():
        chosen = select(cases, method=method)
        if len(chosen):
            points = [accuracy(select(chosen, benchmark=name)) for name in names]
            series.append((label, method, points))
    drawn = [point for *_, points in series for point in points]
    footer = footer_text(note, drawn, "whiskers: 95\u00a0% Wilson interval")
    words = [name.replace("-slice", "-\nslice") for name in names]
    longest = max(len(line) for word in words for line in word.split("\n"))
    across = len(names) * max(0.19 * len(series), 0.1 + 0.072 * longest)  # inches
    figure = new_chart(max(6.0, 0.8 + across), 3.2, footer)
    axes = figure.subplots()
    draw_bars(axes, words, series)
    finish_axes(axes)
    axes.set(ylabel="accuracy (%)")
    add_legend(figure, series)
    labels = ", ".join(label for label, *_ in series)
    figure.alt = f"Bars of accuracy on {', '.join(names)} for {labels}, with 95 % intervals."
    set_caption(figure, caption_bars(series))
    return figure


@styled
def loss_curves(curves: Mapping[str, Sequence[Mapping]], note: str = "") -> Figure:
    """Training loss (nats per token with loss) against the step, one line per method.

    `curves` maps methods to what `checkpoints.losses` reads. A step sees only a few trajectories,
    so its loss is a thin line, and the mean of the last steps (a twentieth of all) a thick one.
    """
    last = max(1, max(map(len, curves.values())) // 20)
    footer = f"{note} · thick: mean of the last {last} steps" if last > 1 else note
    figure = new_chart(7.5, 3.2, footer)
    axes, ends = figure.subplots(), {}
    for method, curve in curves.items():
        steps = [step["step"] + 1 for step in curve]
        losses = pd.Series([step["loss"] for step in curve])
        if last > 1:
            axes.plot(steps, losses, color=COLOURS[method], linewidth=0.7, alpha=0.3)
        means, marker = losses.rolling(last, min_periods=1).mean(), "o" if len(curve) == 1 else ""
        ends[METHODS[method]] = float(losses[:last].mean()), float(losses[-last:].mean())
        axes.plot(steps, means, color=COLOURS[method], marker=marker, label=METHODS[method])
    finish_axes(axes)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.legend()
    labels = ", ".join(METHODS[method] for method in curves)
    figure.alt = f"Lines of training loss against the step, for {labels}."
    set_caption(figure, caption_losses(ends))
    return figure


@styled
def bar_chart(table: pd.DataFrame, ylabel: str, note: str = "", *, alt: str) -> Figure:
    """A table of numbers as bars: one group per row, one colour and hatch per column.

    A column that is a method has the method's colour in all figures. `alt` says in a sentence what
    it shows. Raises ValueError for an empty table, or for more columns than there are colours.
    """
    looks = list(zip(SERIES, HATCHES.values(), strict=True))
    if table.empty or len(table.columns) > len(looks):
        raise ValueError(
            f"table has {len(table)} rows and {len(table.columns)} columns, "
            f"expected rows and 1 to {len(looks)} columns"
        )
    across = max(5.5, 0.24 * table.size, 0.95 * len(table))  # inches
    figure = new_chart(across, 3.0, note)
    axes = figure.subplots()
    width, patches = 0.84 / len(table.columns), []
    for k, (name, (colour, hatch)) in enumerate(zip(table.columns, looks, strict=False)):
        places = [row + (k - (len(table.columns) - 1) / 2) * width for row in range(len(table))]
        look = {"color": METHOD_COLOURS.get(name, colour), "hatch": hatch, "edgecolor": "white"}
        tall = [(place, v) for place, v in zip(places, table[name], strict=True) if v != 0]
        if tall:
            axes.bar(*zip(*tall, strict=True), width, label=str(name), linewidth=0.6, **look)
        for place, value in zip(places, table[name], strict=True):
            if value == 0:
                mark_zero(axes, place)
        patches.append(Patch(facecolor=look["color"], hatch=hatch, edgecolor="white", label=name))
    letters = int((across - 0.8) / len(table) / 0.072)  # which fit below a group
    wrap = TextWrapper(letters, break_long_words=False, break_on_hyphens=False)
    axes.set_xticks(range(len(table)), [wrap.fill(str(label)) for label in table.index])
    axes.set_xlim(-0.6, len(table) - 0.4)  # as wide where the outer bars are all zero
    finish_axes(axes)
    axes.set(ylabel=ylabel)
    columns = len(table.columns)
    figure.legend(handles=patches, loc="outside upper left", ncols=columns, handlelength=1.6)
    figure.alt = alt
    return figure


@styled
def line_chart(
    lines: Mapping[str, Mapping[float, float]],
    xlabel: str,
    ylabel: str,
    note: str = "",
    *,
    guide: str = "",
    log: bool = False,
    alt: str,
) -> Figure:
    """Lines of values by number, such as milliseconds by candidates: one line per name.

    `guide` names a dotted line that grows in proportion, from the first point of the first line. On
    `log` scales such a line has slope one. Raises ValueError for no line, or more than there are
    colours.
    """
    if not 1 <= len(lines) <= len(LINE_LOOKS) or not all(lines.values()):
        raise ValueError(
            f"{len(lines)} lines to draw, expected 1 to {len(LINE_LOOKS)}, each with a point"
        )
    figure = new_chart(5.5, 2.9, note)
    axes = figure.subplots()
    for (name, points), (colour, marker) in zip(lines.items(), LINE_LOOKS, strict=False):
        axes.plot(list(points), list(points.values()), marker=marker, color=colour, label=name)
    if guide:
        first = next(iter(lines.values()))
        (start, value), *_ = first.items()
        axes.plot(list(first), [value * n / start for n in first], ":", color=GREY, label=guide)
    if log:
        numbers = sorted({number for points in lines.values() for number in points})
        span = axes.dataLim.y1 / axes.dataLim.y0
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:g}")  # 20, not 2 x 10^1
        axes.yaxis.set_minor_formatter("{x:g}" if span < 8 else "")
        axes.grid(True, axis="y")
    else:
        finish_axes(axes)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(fontsize=8)
    figure.alt = alt
    return figure


@styled
def ratio_chart(table: pd.DataFrame, note: str = "", *, alt: str) -> Figure:
    """How many times as good one side of each comparison is, on a logarithmic scale around 1.

    A row has a name, `times` (a ratio) and `better`: where that is "less", the ratio is inverted.
    Raises ValueError for an empty table, or a ratio that is not above 0.
    """
    if table.empty or not (table["times"] > 0).all():
        raise ValueError(f"table has {len(table)} rows, expected some, all with ratios above 0")
    gain = table["times"].where(table["better"] == "more", 1 / table["times"])
    figure = new_chart(8.5, 1.2 + 0.22 * len(table), note)
    axes = figure.subplots()
    for label, colour, marker, chosen in (
        ("better", BLUE, "o", gain >= 1),
        ("worse", VERMILLION, "X", gain < 1),
    ):
        rows = [row for row, one in enumerate(chosen) if one]
        axes.scatter(gain[chosen], rows, color=colour, marker=marker, label=label, zorder=3)
        axes.hlines(rows, 1, gain[chosen], color=colour, linewidth=1)
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_yticks(range(len(table)), table.index)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="times as good")
    axes.grid(True, axis="x")
    axes.legend(fontsize=8)
    figure.alt = alt
    return figure


@styled
def scatter_chart(
    points: Mapping[str, tuple[float, float]], xlabel: str, ylabel: str, note: str = "", *, alt: str
) -> Figure:
    """Named points on two logarithmic scales, such as memory against speed.

    Raises ValueError if there is no point, or one that has no logarithm.
    """
    if not points or not all(x > 0 and y > 0 for x, y in points.values()):
        raise ValueError(f"points are {dict(points)}, expected some, with values above 0")
    figure = new_chart(5.5, 3.0, note)
    axes = figure.subplots()
    for name, place in points.items():
        axes.scatter(*place, color=BLUE)
        axes.annotate(name, place, (6, -3), textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.margins(x=0.35, y=0.25)
    axes.grid(True, axis="y")
    figure.alt = alt
    return figure
