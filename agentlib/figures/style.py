"""The look that all figures share: hatches, footer, bars with intervals, gaps, alt texts.

Nothing here touches pyplot or leaves settings behind, so a figure does not depend on those drawn
before it. Colours are in `palette`.
"""

import functools
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from agentlib.figures.estimates import Estimate
from agentlib.figures.palette import COLOURS, GREY
from agentlib.figures.tables import NOT_RUN

HATCHES = dict(zip(COLOURS, ("", "///", "...", "\\\\\\", "xxx", ""), strict=True))
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9,
    "axes.titlesize": 9.5, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": "#E5E5E5",
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.frameon": False, "hatch.linewidth": 0.8,
    "svg.fonttype": "path", "svg.hashsalt": "agentlib", "savefig.dpi": 150,
}  # fmt: skip
ALT_TEXT = {  # what a saved figure shows, for readers who cannot see it
    "fig1_mean_accuracy": (
        "Bars of mean accuracy over all benchmarks by model size and method, with 95 % intervals; "
        "left panel our run, right panel the published values."
    ),
    "fig2_cot_against_agent": (
        "The same question answered twice, side by side: chain-of-thought text on the left, the "
        "agent's thoughts, code and observations on the right, each marked right or wrong."
    ),
    "fig3_prefix_and_vote": (
        "Left, a first-thought prefix and the trajectory that grew from it; right, the sampled "
        "actions of one step as boxes coloured by the group they voted for, failures hatched, the "
        "chosen one outlined."
    ),
    "fig4_math_breakdown": (
        "Bars of accuracy on the maths benchmark by subject and by level for CoT, agent and agent "
        "with first-thought prefix; top row our run with intervals, bottom row the published "
        "values."
    ),
    "fig5_samples": (
        "Accuracy against the number of samples for CoT self-consistency and for self-consistent "
        "action generation by benchmark; published values dashed."
    ),
    "fig6_tokens": (
        "Histograms of generated tokens per question for CoT and agent by benchmark, with our "
        "means as lines and the published means dotted."
    ),
    "fig7_code_errors": (
        "Stacked bars of the share of questions with a parse error or an execution error, with "
        "and without self-consistent action generation, by model size; top row our run, bottom "
        "row published."
    ),
    "fig8_retrieval_calls": (
        "Bars of mean searches per question with and without first-thought prefix by model size on "
        "four factual benchmarks; top row our run with intervals, bottom row published."
    ),
    "data_efficiency": (
        "Mean accuracy of the distilled agent against the number of trajectories it was trained "
        "on, for all, the factual and the maths benchmarks, with 95 % intervals."
    ),
    "claims": (
        "Each claim of the paper as a point, the difference between its two sides, with its 95 % "
        "interval, its margin and the published difference, marked by whether it holds, does not, "
        "or is not settled."
    ),
}


class Caption(NamedTuple):
    """What is seen in a figure, and what is not: a sentence each."""

    seen: str
    not_seen: str


class Chart(Figure):
    """A Figure that shows itself in a notebook even if pyplot was never imported.

    `alt` is its alt text, for readers who cannot see it; `seen` and `not_seen` are the two
    sentences below it, "" in a figure without.
    """

    alt, seen, not_seen = "", "", ""
    footer: str | None = None  # the wrapped lines below the panels, where `styled` adds a caption

    def describe(self) -> str:
        """The alt text and both sentences."""
        return " ".join(part for part in (self.alt, *caption_parts(self)) if part)

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=100)
        return stream.getvalue(), ({"alt": text} if (text := self.describe()) else {})


def caption_parts(figure: Chart) -> list[str]:
    """The sentences of a figure as they are written below it; none in a figure without."""
    if not figure.seen:
        return []
    return [f"Seen: {figure.seen}", f"Not seen: {figure.not_seen}"]


def set_caption(figure: Chart, caption: Caption) -> None:
    """Give a chart its two sentences, which `styled` then writes below the panels."""
    figure.seen, figure.not_seen = caption


def wrap_caption(figure: Chart, width: float) -> list[str]:
    """The lines of a figure's sentences, at most `width` inches wide."""
    return [line for part in caption_parts(figure) for line in wrap_small(part, width)]


def wrap_small(text: str, width: float) -> list[str]:
    """The lines of a text of 8 points that is `width` inches wide."""
    return textwrap.wrap(text, int(width * 15.5), break_on_hyphens=False)


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `<folder>/<name>.svg` and `.png`; returns both paths.

    The same records give the same bytes. The SVG has the figure's alt text and its two sentences as
    its description.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figure.alt = ALT_TEXT.get(name, getattr(figure, "alt", ""))
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    said = figure.describe() if isinstance(figure, Chart) else figure.alt
    about = {"Date": None, "Creator": None, "Title": name, "Description": said or None}
    with matplotlib.rc_context(STYLE):
        figure.savefig(svg, metadata=about)
        figure.savefig(png, metadata={"Software": None})
    return [svg, png]


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorate a drawing function: it draws with `STYLE`, then the layout is fixed.

    A chart's two sentences (`set_caption`) are written between its panels and its footer.

    None of the style stays in matplotlib's settings. Constrained layout would move a little each
    time a figure is rendered: fixed, a figure is saved as the same bytes whether or not it was
    shown before.
    """

    @functools.wraps(draw)
    def drawn(*args: object, **options: object) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **options)
            lines = wrap_caption(figure, figure.get_figwidth()) if figure.footer is not None else []
            if lines:  # room above the footer, which the layout keeps free
                figure.set_figheight(figure.get_figheight() + SMALL_LINE * len(lines))
                figure.supxlabel("\n".join([*lines, figure.footer]), **FOOTER_LOOK)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            if lines:
                _blacken(figure, len(lines))
        return figure

    return drawn


SMALL_LINE = 8 * 1.3 / 72  # inches, of the lines below a figure
FOOTER_LOOK = {"fontsize": 8, "color": GREY, "x": 0.01, "ha": "left"}


def _blacken(figure: Chart, count: int) -> None:
    """Write the first lines below a chart, its two sentences, in black, and the rest as it was."""
    lines = figure.get_supxlabel().split("\n")
    box = figure._supxlabel.get_window_extent().transformed(figure.transFigure.inverted())
    look = FOOTER_LOOK | {"va": "top", "y": box.y1, "transform": figure.transFigure}
    figure.supxlabel("\n".join([" "] * count + lines[count:]), **FOOTER_LOOK)
    figure.text(s="\n".join(lines[:count]), **look | {"color": "black"})


def new_chart(width: float, height: float, footer: str) -> Chart:
    """An empty chart of a width and height in inches, with its footer wrapped to the width."""
    figure = Chart(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    figure.footer = "\n".join(wrap_small(footer, width))
    figure.supxlabel(figure.footer, **FOOTER_LOOK)
    return figure


def format_range(counts: Iterable[int]) -> str:
    """The range of some counts: "40", "2-16", or "0" if there are none."""
    counts = sorted(counts) or [0]
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]}-{counts[-1]}"


def footer_text(note: str, points: Iterable[Estimate | None], *more: str) -> str:
    """The footer of a figure: `note`, the n of the points drawn, missing answers, and `more`."""
    drawn = [point for point in points if point is not None and not math.isnan(point.value)]
    n, missing = format_range(point.n for point in drawn), sum(point.unanswered for point in drawn)
    asked = f"{n} question{'' if n == '1' else 's'} per point"
    gap = f"{missing} answers missing, counted as wrong" if missing else ""
    return " · ".join(part for part in (note, asked, gap, *more) if part)


def mark_not_run(axes: Axes, x: float) -> None:
    """Write "not run" in place of a value; grey and upright, so that it is not read as one."""
    look = {"rotation": 90, "fontsize": 8, "color": GREY, "ha": "center", "va": "bottom"}
    axes.text(x, 0.02, NOT_RUN, transform=axes.get_xaxis_transform(), **look)


ZERO = "zero"  # the gid of the text that stands for a value of 0


def mark_zero(axes: Axes, x: float, whisker: bool = False) -> None:
    """Write a small "0" on the axis in place of a bar of height 0: it is a value, not a gap.

    Where a `whisker` rises from it, the digit is left of that.
    """
    place = {"xytext": (-1.5 if whisker else 0, 1), "textcoords": "offset points"}
    look = {"fontsize": 7.5, "ha": "right" if whisker else "center", "va": "bottom", "gid": ZERO}
    axes.annotate("0", (x, 0), **place, **look)


def draws_values(axes: Axes) -> bool:
    """Whether a panel shows any value, which "not run" is not and a zero is."""
    zeros = any(text.get_gid() == ZERO for text in axes.texts)
    return bool(axes.patches or axes.lines or zeros)


def draw_interval(axes: Axes, x: float, point: Estimate, colour: str = "black") -> None:
    """Draw the 95 % interval of a point, of which the value need not be the middle."""
    if not math.isnan(point.low):
        reach = [[max(0.0, point.value - point.low)], [max(0.0, point.high - point.value)]]
        axes.errorbar(x, point.value, reach, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2)


def draw_bars(
    axes: Axes, labels: Sequence[str], series: Sequence[tuple[str, str, Sequence[Estimate | None]]]
) -> None:
    """Draw groups of bars with their intervals, one group per label.

    `series` holds (label, method, one estimate per group); None leaves a place empty and unmarked.
    """
    width = 0.84 / len(series)
    for group in range(len(labels)):
        here = [points[group] for *_, points in series]
        if all(point is None or math.isnan(point.value) for point in here):
            mark_not_run(axes, group)  # once for the whole group
            continue
        for k, ((label, method, _), point) in enumerate(zip(series, here, strict=True)):
            x = group + (k - (len(series) - 1) / 2) * width
            if point is None:
                continue
            if math.isnan(point.value):
                mark_not_run(axes, x)
                continue
            look = {"color": COLOURS[method], "hatch": HATCHES[method], "edgecolor": "white"}
            if point.value == 0:
                mark_zero(axes, x, whisker=not math.isnan(point.low))
            else:
                axes.bar(x, point.value, width, linewidth=0.6, label=label, **look)
            draw_interval(axes, x, point)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.6, len(labels) - 0.4)


def finish_axes(*panels: Axes) -> None:
    """Give panels, ours and the published, one scale from zero and a grid; no scale where nothing
    was drawn."""
    tops = [axes.dataLim.y1 for axes in panels if axes.patches or axes.lines]
    for axes in panels:
        axes.set_ylim(0, 1.06 * max(tops, default=1.0) or 1.0)
        axes.tick_params(axis="x", length=0)
        axes.grid(True, axis="y")
        if not draws_values(axes):
            axes.tick_params(axis="y", labelleft=False, length=0)
            axes.grid(False)


def add_legend(figure: Figure, series: Sequence[tuple[str, str, Sequence]]) -> None:
    """One legend above all panels for all series, drawn or not, in as many rows as it needs."""
    patches = [
        Patch(facecolor=COLOURS[method], hatch=HATCHES[method], edgecolor="white", label=label)
        for label, method, _ in series
    ]
    needed = sum(0.45 + 0.075 * len(label) for label, *_ in series)  # inches, about
    columns = math.ceil(len(patches) / math.ceil(needed / figure.get_figwidth()))
    figure.legend(handles=patches, loc="outside upper left", ncols=columns, handlelength=1.6)
