"""Figures that the paper does not have: a table of cases in, a Figure out.

Owns what is drawn. Knows nothing of how a number is computed (`tables`) or how marks look (`charts`).
"""

from collections.abc import Mapping, Sequence
from textwrap import fill

import pandas as pd
from matplotlib.figure import Figure

from agentlib import config
from agentlib.figures.estimates import (
    Estimate,
    accuracy,
    add_missing_cases,
    mean_accuracy,
    prepare_cases,
    select,
    size_label,
)
from agentlib.figures.palette import COLOURS, GREY
from agentlib.figures.style import (
    HATCHES,
    add_legend,
    draw_bars,
    draw_interval,
    finish_axes,
    footer_text,
    mark_zero,
    new_chart,
    styled,
)
from agentlib.figures.tables import UNSETTLED

LINES = {  # label: domain, colour, marker
    "all benchmarks": (None, COLOURS["agent_distill"], "o"),
    "factual": ("factual", COLOURS["cot_distill"], "s"),
    "maths": ("math", COLOURS["agent_distill_ftp"], "^"),
}
VERDICTS = {  # of a claim: colour, marker
    "yes": (COLOURS["agent_distill"], "o"),
    UNSETTLED: (GREY, "o"),
    "no": (COLOURS["agent_distill_ftp"], "X"),
}


@styled
def data_efficiency(cases: pd.DataFrame, note: str = "") -> Figure:
    """Mean accuracy of the distilled agent against the number of trajectories it was trained on, `value` of a case of
    the setting "trajectories"; whiskers are 95 % intervals over questions.

    Raises ValueError if no number of trajectories was varied.
    """
    varied = cases[cases["setting"] == "trajectories"] if "setting" in cases else cases.iloc[:0]
    if varied.empty:
        raise ValueError(
            "no case varies the number of trajectories, expected some; run notebook 04 with sweep_examples set"
        )
    (model,) = varied["model"].unique()
    counts = sorted(varied["value"].astype(int).unique())

    def mean(count: int, domain: str | None) -> Estimate:
        some = prepare_cases(varied[varied["value"] == count])
        some = some if domain is None else select(some, domain=domain)
        return mean_accuracy([accuracy(group) for _, group in some.groupby("benchmark")])

    drawn = {
        label: [mean(count, domain) for count in counts] for label, (domain, *_) in LINES.items()
    }
    figure = new_chart(
        6.0,
        3.7,
        footer_text(
            note, [p for line in drawn.values() for p in line], "mean of the benchmarks, greedy"
        ),
    )
    axes = figure.subplots()
    for shift, (label, points) in zip((1.0, 0.97, 1.03), drawn.items(), strict=True):
        _, colour, marker = LINES[label]
        places = [count * shift for count in counts]
        axes.plot(
            places,
            [p.value for p in points],
            color=colour,
            marker=marker,
            markersize=5,
            label=label,
            zorder=3,
        )
        for place, point in zip(places, points, strict=True):
            draw_interval(axes, place, point, colour)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_xticks([], minor=True)
    finish_axes(axes)
    axes.set(
        title=f"Agent distillation, {size_label(model)}",
        xlabel="trajectories trained on",
        ylabel="accuracy (%)",
    )
    axes.legend(loc="best")
    return figure


@styled
def claim_chart(found: pd.DataFrame, note: str = "") -> Figure:
    """The claims of `claims.check` that were run: the difference in points, its 95 % interval, the verdict as a mark, a tick at
    the margin and a diamond at the published difference.

    Raises ValueError if none of them was run.
    """
    drawn = found.dropna(subset=["difference"])
    if drawn.empty:
        raise ValueError(
            "no claim was run, expected one or more with both sides; run notebook 04 first"
        )
    figure = new_chart(
        8.5,
        0.9 + 0.28 * len(drawn),
        " · ".join(part for part in (note, "whiskers: 95 % interval") if part),
    )
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linewidth=1, zorder=1)
    axes.plot(drawn["margin"], range(len(drawn)), "|", color="black", markersize=11, label="margin")
    axes.plot(
        drawn["published"],
        range(len(drawn)),
        "D",
        color="black",
        markersize=3.5,
        label="published, nearest size",
    )
    for verdict, (colour, marker) in VERDICTS.items():
        rows = [k for k, holds in enumerate(drawn["holds"]) if holds == verdict]
        some = drawn.iloc[rows]
        reach = [some["difference"] - some["low"], some["high"] - some["difference"]]
        axes.errorbar(some["difference"], rows, xerr=reach, fmt=marker, color=colour, markersize=6, capsize=2, elinewidth=0.9,
                      markerfacecolor="white" if verdict == UNSETTLED else colour, label=f"{verdict} ({len(rows)})")  # fmt: skip
    axes.set_yticks(range(len(drawn)), drawn.index)
    axes.invert_yaxis()
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="difference (points)")
    figure.legend(
        loc="outside upper left",
        ncols=2 + len(VERDICTS),
        title="does the claim hold?",
        alignment="left",
    )
    return figure


@styled
def accuracy_bars(cases: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy of each method on each benchmark of a table of cases, per cent, with 95 % Wilson intervals.

    Raises ValueError for a method that is not one of `config.METHODS`.
    """
    if strange := sorted(set(cases["method"]) - set(config.METHODS)):
        raise ValueError(
            f"method {strange[0]!r} has no colour, expected one of {', '.join(config.METHODS)}"
        )
    cases = add_missing_cases(cases)
    names = list(dict.fromkeys(cases["benchmark"]))
    methods = [m for m in config.METHODS if m in set(cases["method"])]
    series = [
        (
            config.METHODS[m],
            m,
            [accuracy(select(cases, method=m, benchmark=name)) for name in names],
        )
        for m in methods
    ]
    said = footer_text(
        note, [p for *_, points in series for p in points], "whiskers: 95\u00a0% Wilson interval"
    )
    figure = new_chart(max(6.0, 0.19 * len(names) * len(methods)), 3.2, said)
    axes = figure.subplots()
    draw_bars(axes, names, series)
    finish_axes(axes)
    axes.set(ylabel="accuracy (%)")
    add_legend(figure, series)
    figure.alt = f"Bars of accuracy on {', '.join(names)} for {', '.join(label for label, *_ in series)}, with 95 % intervals."
    return figure


@styled
def loss_curves(curves: Mapping[str, Sequence[Mapping]], note: str = "") -> Figure:
    """Training losses (nats a learnt token) against the step, a line a method; `curves` are those of `checkpoints.losses`.

    A step sees a few trajectories only, so its loss is drawn thin, and thick the mean of the last steps, a twentieth of all.
    """
    last = max(1, max(map(len, curves.values())) // 20)
    figure = new_chart(
        7.5, 3.2, f"{note} · thick: mean of the last {last} steps" if last > 1 else note
    )
    axes = figure.subplots()
    for method, curve in curves.items():
        steps, losses = (
            [step["step"] + 1 for step in curve],
            pd.Series([step["loss"] for step in curve]),
        )
        if last > 1:
            axes.plot(steps, losses, color=COLOURS[method], linewidth=0.7, alpha=0.3)
        axes.plot(steps, losses.rolling(last, min_periods=1).mean(), color=COLOURS[method],
                  marker="o" if len(curve) == 1 else "", label=config.METHODS[method])  # fmt: skip
    finish_axes(axes)
    axes.set(xlabel="step", ylabel="loss (nats a token)")
    axes.legend()
    figure.alt = f"Lines of training loss against the step, for {', '.join(config.METHODS[m] for m in curves)}."
    return figure


@styled
def bar_chart(table: pd.DataFrame, ylabel: str, note: str = "", *, alt: str) -> Figure:
    """A table of numbers as bars: a group a row, a colour and hatch a column. `alt` says in a sentence what it shows.

    Raises ValueError for an empty table, or more columns than there are colours.
    """
    looks = list(zip(COLOURS.values(), HATCHES.values(), strict=True))
    if table.empty or len(table.columns) > len(looks):
        raise ValueError(
            f"table has {len(table)} rows and {len(table.columns)} columns, expected rows and 1 to {len(looks)} columns"
        )
    across = max(5.5, 0.24 * table.size, 0.95 * len(table))  # inches
    figure = new_chart(across, 3.0, note)
    axes = figure.subplots()
    width = 0.84 / len(table.columns)
    for k, (name, (colour, hatch)) in enumerate(zip(table.columns, looks, strict=False)):
        places = [row + (k - (len(table.columns) - 1) / 2) * width for row in range(len(table))]
        axes.bar(
            places,
            table[name],
            width,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.6,
            label=str(name),
        )
        for place, value in zip(places, table[name], strict=True):
            if value == 0:
                mark_zero(axes, place, width, colour)
    letters = int((across - 0.8) / len(table) / 0.072)  # that fit below a group
    axes.set_xticks(
        range(len(table)),
        [
            fill(str(label), letters, break_long_words=False, break_on_hyphens=False)
            for label in table.index
        ],
    )
    finish_axes(axes)
    axes.set(ylabel=ylabel)
    figure.legend(loc="outside upper left", ncols=len(table.columns), handlelength=1.6)
    figure.alt = alt
    return figure
