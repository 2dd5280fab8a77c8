"""Sketches of how parts work together: titled boxes on a grid, joined by arrows, some of them behind a wall.

Owns their arrangement. Knows nothing of what is sketched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from agentlib.figures.style import COLOURS, GREY, Chart, styled

CELL = 2.55, 1.0  # inches from one box to the next, across and down
BOX = 1.75, 0.64  # inches
WALL = 0.14  # inches between boxes and the wall around them; its title takes as much again


@dataclass(frozen=True)
class Part:
    """A box: its title, up to two lines of text, and its place on the grid, (column, row) from the top left."""

    title: str
    text: str
    place: tuple[float, float]


@styled
def sketch(parts: Sequence[Part], arrows: Sequence[tuple[str, str, str]], walls: Mapping[str, Sequence[str]] | None = None,
           *, alt: str) -> Figure:  # fmt: skip
    """Parts joined by arrows (title from, title to, words beside it; "<" before the words points it both ways), with a
    wall of the given name around the parts of these titles. `alt` says the same in a sentence.

    Raises ValueError for an arrow or a wall that names a part which is not there, or parts that share a title.
    """
    boxes = {part.title: part for part in parts}
    if len(boxes) < len(parts):
        raise ValueError(f"parts are titled {', '.join(p.title for p in parts)}, expected each title once")
    named = [*(t for a, b, _ in arrows for t in (a, b)), *(t for titles in (walls or {}).values() for t in titles)]
    if unknown := [title for title in named if title not in boxes]:
        raise ValueError(f"an arrow or wall names {unknown[0]!r}, expected one of {', '.join(boxes)}")
    across = max(p.place[0] for p in parts) * CELL[0] + BOX[0] + 4 * WALL
    down = max(p.place[1] for p in parts) * CELL[1] + BOX[1] + 5 * WALL
    figure = Chart(figsize=(across, down))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-2 * WALL, across - 2 * WALL), ylim=(down - 2 * WALL, -2 * WALL))
    axes.set_axis_off()
    for title, inside in (walls or {}).items():
        _wall(axes, title, [_corner(boxes[name]) for name in inside])
    drawn = {title: _box(axes, part) for title, part in boxes.items()}
    for start, end, words in arrows:
        _arrow(axes, boxes[start], boxes[end], drawn[start], drawn[end], words)
    figure.alt = alt
    return figure


def _corner(part: Part) -> tuple[float, float]:
    """Top left of a box, inches."""
    return part.place[0] * CELL[0], WALL + part.place[1] * CELL[1]


def _middle(part: Part) -> tuple[float, float]:
    x, y = _corner(part)
    return x + BOX[0] / 2, y + BOX[1] / 2


def _box(axes, part: Part) -> FancyBboxPatch:
    x, y = _corner(part)
    patch = FancyBboxPatch((x, y), *BOX, boxstyle="round,pad=0,rounding_size=0.08", facecolor="white", edgecolor=GREY,
                           linewidth=1, zorder=2)  # fmt: skip
    axes.add_patch(patch)
    lines = part.text.split("\n") if part.text else []
    step = 0.165
    top = y + BOX[1] / 2 - step * len(lines) / 2
    for k, line in enumerate([part.title, *lines]):
        axes.text(x + BOX[0] / 2, top + k * step, line, ha="center", va="center", fontsize=8.5 if k else 9,
                  weight="normal" if k else "bold", parse_math=False, zorder=3)  # fmt: skip
    return patch


def _wall(axes, title: str, corners: Sequence[tuple[float, float]]) -> None:
    left, right = min(x for x, _ in corners) - WALL, max(x for x, _ in corners) + BOX[0] + WALL
    top, bottom = min(y for _, y in corners) - 2 * WALL, max(y for _, y in corners) + BOX[1] + WALL
    axes.add_patch(FancyBboxPatch((left, top), right - left, bottom - top, boxstyle="round,pad=0,rounding_size=0.08",
                                  facecolor="#FBF3EC", edgecolor=COLOURS["agent_distill_ftp"], linewidth=1.2, linestyle="--",
                                  zorder=0))  # fmt: skip
    axes.text(left + 0.08, top + 0.1, title, fontsize=8.5, color="#9C4400", va="center", parse_math=False)


def _arrow(axes, start: Part, end: Part, from_patch, to_patch, words: str) -> None:
    both = words.startswith("<")
    a, b = _middle(start), _middle(end)
    axes.add_patch(FancyArrowPatch(a, b, patchA=from_patch, patchB=to_patch, shrinkA=2, shrinkB=2, linewidth=1.1, color=GREY,
                                   arrowstyle="<|-|>" if both else "-|>", mutation_scale=10, zorder=1))  # fmt: skip
    if words := words.removeprefix("<"):
        axes.text((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, words, ha="center", va="center", fontsize=8, color="black",
                  parse_math=False, zorder=4, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1})  # fmt: skip
