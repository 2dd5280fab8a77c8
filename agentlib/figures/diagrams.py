"""The paper's two diagrams (Figs. 2 and 3), drawn from real transcripts.

A transcript is a plain dict: {"question", "gold", "answer", "correct", "steps": [{"text", "code",
"observation"}]} of an agent, {"question", "text", "answer", "correct"} of CoT. A model's text is
shown as written, cut with "…", never as mathematics.
"""

import dataclasses
import functools
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle

from agentlib import prompts
from agentlib.figures.captions import caption_pair, caption_vote
from agentlib.figures.palette import COLOURS, GREY, GROUPS, YELLOW
from agentlib.figures.style import (
    SMALL_LINE,
    Caption,
    Chart,
    set_caption,
    styled,
    wrap_caption,
    wrap_small,
)
from agentlib.figures.tables import NOT_RUN

RIGHT, WRONG = "#007A5A", "#B84A00"  # green and vermillion, darkened until text is readable
EDGE, FAILED_EDGE = "#BFBFBF", "#CDCDCD"
FILLS = {
    "text": "#FFFFFF",
    "code": "#F2F2F2",
    "observation": "#EAF4FB",
    "prefix": "#FBF8D3",
    "no vote": "#F0F0F0",
}
FONT_SIZE = 8.5  # points, of all text in boxes
LINE_HEIGHT = FONT_SIZE * 1.28 / 72  # inches
PADDING = 0.07  # inches, between a box and its text
GAP = 0.09  # inches, between boxes
# Inches per monospaced character: 0.602 em, and room for rounding to pixels.
CHARACTER_WIDTH = FONT_SIZE * 0.625 / 72


@dataclass(frozen=True)
class Box:
    """A titled block of lines; `colour` is that of its title, `fill` its background."""

    title: str
    lines: tuple[str, ...]
    fill: str = "#FFFFFF"
    colour: str = GREY
    edge: str = EDGE
    hatch: str = ""
    thick: bool = False

    @property
    def height(self) -> float:
        return (len(self.lines) + bool(self.title)) * LINE_HEIGHT + 1.5 * PADDING


@functools.cache
def _drawable() -> frozenset[int]:
    """Code points that the font can draw.

    A small model writes anything, and a missing glyph would warn on every draw.
    """
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans Mono"))).get_charmap())


def wrap_text(text: str, width: float, limit: int) -> tuple[str, ...]:
    """Lines of monospaced text, at most `width` inches wide.

    If there are more than `limit` lines, the last one that is kept ends in "…".
    """
    columns = max(8, int((width - 2 * PADDING) / CHARACTER_WIDTH))
    text = str(text).strip().replace("\r\n", "\n").expandtabs(4)
    text = "".join(c if c == "\n" or ord(c) in _drawable() else "□" for c in text)
    lines: list[str] = []
    for line in text.split("\n"):
        indent = line[: min(len(line) - len(line.lstrip()), columns // 2)]
        lines += textwrap.wrap(indent + line.lstrip(), columns, subsequent_indent=indent) or [""]
    lines = [line for k, line in enumerate(lines) if line or (k and lines[k - 1])]
    if len(lines) > limit:
        lines = [*lines[: limit - 1], lines[limit - 1][: columns - 2].rstrip() + " …"]
    return tuple(lines)


def _unlabelled(text: str) -> str:
    """A thought without the label that every thought starts with."""
    return re.sub(r"^\s*Thought:\s*", "", text).strip()


def _thought_text(step: Mapping) -> str:
    """What a step says before its code."""
    text, _ = prompts.split_turn(str(step.get("text") or ""))
    return _unlabelled(text)


def _answer_box(transcript: Mapping, width: float) -> Box:
    """The answer with its mark: sign, words and colour all say whether it is right."""
    right, answer = bool(transcript.get("correct")), transcript.get("answer")
    title, colour = ("✓ right answer", RIGHT) if right else ("✗ wrong answer", WRONG)
    lines = wrap_text("no answer" if answer in (None, "") else str(answer), width, 3)
    return Box(title, lines, colour=colour, edge=colour, thick=True)


def _verdict_box(case: Mapping, width: float) -> Box:
    """What the run with this vote ended with, beside the answer that was wanted."""
    box = _answer_box(case | {"answer": case["prediction"]}, width)
    gold = wrap_text(f"wanted: {case['gold']}", width, 2)
    return dataclasses.replace(box, lines=(*box.lines, *gold))


def _step_boxes(transcript: Mapping, width: float, prefix: str = "") -> list[Box]:
    """The boxes of an agent's trajectory: thought, action and observation of each step.

    A first thought that starts with `prefix` is shown without it.
    """
    boxes, steps, prefix = [], transcript.get("steps") or (), _unlabelled(prefix)
    room = max(3, 18 // max(1, len(steps)))  # lines per box: a long trajectory shows less of each
    for number, step in enumerate(steps, 1):
        thought = _thought_text(step)
        if number == 1 and prefix and thought.startswith(prefix):
            thought = "… " + thought[len(prefix) :].strip()
        if thought.strip("… "):
            lines = wrap_text(thought, width, min(room, 6))
            boxes.append(Box(f"thought {number}", lines, FILLS["text"]))
        if step.get("code"):
            lines = wrap_text(step["code"], width, room + 2)
            boxes.append(Box(f"action {number} (code)", lines, FILLS["code"]))
        seen = re.sub(r"^\s*Observation:\s*", "", step.get("observation") or "").strip()
        silent = number == len(steps) and seen == prompts.NOTHING_PRINTED  # after the final answer
        if seen and not silent:
            lines = wrap_text(seen, width, min(room, 5))
            boxes.append(Box(f"observation {number}", lines, FILLS["observation"]))
    return boxes


def _draw_box(
    figure: Figure, box: Box, x: float, y: float, width: float, height: float | None = None
) -> float:
    """Draw a box whose top left corner is at (x, y) inches from the figure's top left.

    Returns the y of its lower edge.
    """
    total_width, total_height = figure.get_size_inches()
    height = height or box.height
    corner = x / total_width, 1 - (y + height) / total_height
    size = width / total_width, height / total_height
    look = {"facecolor": box.fill, "edgecolor": box.edge, "hatch": box.hatch, "linewidth": 0.8}
    figure.add_artist(Rectangle(corner, *size, transform=figure.transFigure, **look))
    if box.thick:
        # A second, empty outline: one patch has one colour for both its edge and its hatch.
        look = {"fill": False, "linewidth": 2.2, "edgecolor": box.colour}
        figure.add_artist(Rectangle(corner, *size, transform=figure.transFigure, **look))
    top = y + PADDING
    if box.title:
        _write(figure, box.title, x + PADDING, top, color=box.colour, weight="bold")
        top += LINE_HEIGHT
    for line in box.lines:
        _write(figure, line, x + PADDING, top, family="DejaVu Sans Mono")
        top += LINE_HEIGHT
    return y + height


def _write(figure: Figure, text: str, x: float, y: float, **look: object) -> None:
    """One line of text at (x, y) inches from the top left; a "$" is a dollar sign."""
    width, height = figure.get_size_inches()
    look = {"fontsize": FONT_SIZE, "va": "top", "parse_math": False} | look
    figure.text(x / width, 1 - y / height, text, **look)


def _draw_column(figure: Figure, boxes: Sequence[Box], x: float, y: float, width: float) -> float:
    """Draw boxes below each other; returns the y below the last one."""
    for box in boxes:
        y = _draw_box(figure, box, x, y, width) + GAP
    return y


def _total_height(boxes: Sequence[Box]) -> float:
    return sum(box.height + GAP for box in boxes)


def _new_sheet(width: float, height: float, note: str, caption: Caption) -> Chart:
    """A sheet with room for a caption and a wrapped footer below `height` inches."""
    figure = Chart()
    set_caption(figure, caption)
    said, lines = wrap_caption(figure, width), wrap_small(note, width)
    figure.set_size_inches(width, height + 0.14 + SMALL_LINE * len(said + lines))
    # Jupyter's inline backend shows nothing for a figure without axes.
    figure.add_axes((0, 0, 1, 1)).set_axis_off()
    for k, line in enumerate(said + lines):
        look = {"fontsize": 8, "color": "black" if k < len(said) else GREY}
        _write(figure, line, 0.1, height + 0.04 + SMALL_LINE * k, **look)
    return figure


@styled
def fig2_cot_against_agent(cot: Mapping, agent: Mapping, note: str = "") -> Figure:
    """Fig. 2: one question answered by a CoT-distilled student (left) and by a distilled agent.

    Raises ValueError if the two transcripts answer different questions.
    """
    if cot["question"] != agent["question"]:
        raise ValueError(
            f"the CoT transcript answers {cot['question'][:60]!r} and the agent's "
            f"{agent['question'][:60]!r}, expected one question; "
            "pick two transcripts with the same question id"
        )
    width, column = 10.5, 5.08
    gold = agent.get("gold", cot.get("gold", ""))
    lines = wrap_text(f"{agent['question']}\n(gold answer: {gold})", width - 0.2, 5)
    question = Box("question", lines)
    thoughts = wrap_text(cot.get("text") or "(nothing written)", column, 34)
    left = [Box("chain of thought", thoughts), _answer_box(cot, column)]
    right = [*_step_boxes(agent, column), _answer_box(agent, column)]
    top = 0.1 + question.height + GAP + 0.28
    height = top + max(_total_height(left), _total_height(right))
    figure = _new_sheet(width, height, note, caption_pair(cot, agent))
    _draw_box(figure, question, 0.1, 0.1, width - 0.2)
    title = {"fontsize": 10, "weight": "bold"}
    x = 0.1
    words, colour = "CoT distillation: thinks in text", COLOURS["cot_distill"]
    _write(figure, words, x, top - 0.25, color=colour, **title)
    _draw_column(figure, left, x, top, column)
    x = 0.1 + column + 0.14
    words, colour = (
        "Agent distillation + FTP: acts and reads what happened",
        COLOURS["agent_distill_ftp"],
    )
    _write(figure, words, x, top - 0.25, color=colour, **title)
    _draw_column(figure, right, x, top, column)
    return figure


def _candidate_boxes(step: Mapping, width: float) -> list[Box]:
    """The sampled actions of one step, coloured by the group of their vote (grey without one)."""
    letters = _group_letters(step)
    boxes = []
    for number, candidate in enumerate(step["candidates"], 1):
        group, failed = _vote(candidate), candidate.get("failed")
        title, fill = "no vote", FILLS["no vote"]
        if failed:
            title = f"✗ {failed}"
        elif group is not None:
            title = f"group {letters[group]}"
            fill = _lighten(GROUPS[list(letters).index(group) % len(GROUPS)])
        chosen = number - 1 == step["chosen"]
        outcome = wrap_text(f"→ {candidate.get('outcome') or 'nothing'}", width, 2)
        box = Box(
            f"{number} · {title}" + (" · chosen" if chosen else ""),
            (*wrap_text(candidate.get("code") or "(no code)", width, 6), "", *outcome),
            fill,
            colour="black",
            edge=FAILED_EDGE if failed else EDGE,
            hatch="///" if failed else "",
            thick=chosen,
        )
        boxes.append(box)
    return boxes


def _vote(candidate: Mapping) -> int | None:
    """The group a candidate votes for; None if it failed or was dropped."""
    return None if candidate.get("failed") else candidate.get("group")


def _group_letters(step: Mapping) -> dict[int, str]:
    """A letter for each group that candidates of a step voted for, in order of appearance."""
    votes = [_vote(candidate) for candidate in step["candidates"]]
    groups = dict.fromkeys(vote for vote in votes if vote is not None)
    return {group: chr(65 + k) for k, group in enumerate(groups)}


def _vote_box(step: Mapping, width: float) -> Box:
    """The tally of a step's votes."""
    candidates = step["candidates"]
    votes = [vote for vote in map(_vote, candidates) if vote is not None]
    counts = [f"{letter}: {votes.count(group)}" for group, letter in _group_letters(step).items()]
    # In older records, "dropped" candidates were not sampled to their end, because the vote was
    # decided: none of them failed.
    dropped = sum(candidate.get("failed") == "dropped" for candidate in candidates)
    failed = len(candidates) - len(votes) - dropped
    early = f", dropped {dropped}" if dropped else ""
    words = (
        f"votes {', '.join(counts) or 'none, all failed'}; "
        f"failed {failed} of {len(candidates)}{early}. Chosen: {step['chosen'] + 1}"
    )
    return Box("the vote", wrap_text(words, width, 3))


def _lighten(colour: str) -> str:
    """The colour mixed with white, until black text on it is easy to read."""
    parts = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(255 - (255 - part) * 0.45):02X}" for part in parts)


@styled
def fig3_prefix_and_vote(
    example: Mapping, step: Mapping | None, note: str = "", *, case: Mapping | None = None
) -> Figure:
    """Fig. 3: (a) a first-thought prefix and the trajectory that continues it; (b) one SAG step.

    `example` is {"question", "prefix", "trajectory": transcript}; `step` is {"candidates":
    [{"code", "outcome", "failed", "group"}], "chosen": index}, and `case`, where it is known, the
    {"question", "gold", "prediction", "correct"} that the step belongs to. Without a step, (b) says
    "not run". Raises ValueError for a step without candidates, or whose choice is not one of them.
    """
    count = len(step.get("candidates") or ()) if step else 0
    if step is not None and not 0 <= step.get("chosen", -1) < count:
        raise ValueError(
            f"the step chose candidate {step.get('chosen')!r} of {count}, "
            f"expected an index from 0 to {count - 1}; pass a step that was sampled with SAG"
        )
    width, column = 10.5, 4.6
    x = 0.1 + column + 0.16
    small = (width - 0.1 - x - GAP) / 2
    trajectory = example["trajectory"]
    prefix = Box(
        "first-thought prefix: first paragraph of the teacher's CoT",
        wrap_text(example["prefix"], column, 9),
        FILLS["prefix"],
        colour="black",
        edge=YELLOW,
    )
    left = [
        Box("question", wrap_text(example["question"], column, 5)),
        prefix,
        *_step_boxes(trajectory, column, example["prefix"]),
        _answer_box(trajectory, column),
    ]
    boxes = _candidate_boxes(step, small) if step else []
    pairs = [boxes[k : k + 2] for k in range(0, count, 2)]
    wide = 2 * small + GAP
    asked = [Box("question", wrap_text(case["question"], wide, 5))] if case else []
    none = Box("the vote", wrap_text(f"{NOT_RUN}: no action was sampled more than once", wide, 3))
    ends = [_vote_box(step, wide) if step else none, *([_verdict_box(case, wide)] if case else [])]
    right = sum(max(box.height for box in pair) + GAP for pair in pairs)
    right += _total_height([*asked, *ends])
    top = 0.4
    votes = [_vote(candidate) for candidate in step["candidates"]] if step else []
    caption = caption_vote(example, step, votes, case)
    figure = _new_sheet(width, top + max(_total_height(left), right), note, caption)
    title = {"fontsize": 10, "weight": "bold"}
    _write(figure, "(a) first-thought prefix (teacher)", 0.1, 0.12, **title)
    words = "(b) self-consistent action generation"
    words += f": {count} candidates for one step" if step else ""
    _write(figure, words, x, 0.12, **title)
    _draw_column(figure, left, 0.1, top, column)
    _draw_column(figure, asked, x, top, wide)
    y = top + _total_height(asked)
    for pair in pairs:
        height = max(box.height for box in pair)
        for k, box in enumerate(pair):
            _draw_box(figure, box, x + k * (small + GAP), y, small, height)
        y += height + GAP
    _draw_column(figure, ends, x, y, wide)
    return figure
