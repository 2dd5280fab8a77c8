"""The two diagrams of the paper (Figs. 2 and 3), drawn from real transcripts instead of invented ones.

Owns the wrapping of text into boxes and their arrangement. Knows nothing of tables of cases: it takes plain dicts.

A transcript is {"question", "gold", "answer", "correct", "steps": [{"text", "code", "observation"}]} for an agent
and {"question", "text", "answer", "correct"} for CoT. Text of a model is shown as written, cut with "…", never as
mathematics.
"""

import functools
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle

from agentlib import prompts
from agentlib.figures.palette import COLOURS, GREY, GROUPS
from agentlib.figures.style import Chart, styled

RIGHT, WRONG = (
    "#007A5A",
    "#B84A00",
)  # the palette's green and vermillion, darkened until text in them is readable
FILLS = {
    "text": "#FFFFFF",
    "code": "#F2F2F2",
    "observation": "#EAF4FB",
    "prefix": "#FFF1D6",
    "question": "#FFFFFF",
}
FONT_SIZE = 8.5  # font size of all text in boxes
LINE_HEIGHT = FONT_SIZE * 1.28 / 72  # inches
PADDING = 0.07  # inches, between a box and its text
GAP = 0.09  # inches, between boxes
CHARACTER_WIDTH = (
    FONT_SIZE * 0.625 / 72
)  # inches a monospaced character: 0.602 em, and room for rounding to pixels


@dataclass(frozen=True)
class Box:
    """A titled block of lines; `colour` is its title's, `fill` its background."""

    title: str
    lines: tuple[str, ...]
    fill: str = "#FFFFFF"
    colour: str = GREY
    edge: str = "#BFBFBF"
    hatch: str = ""
    thick: bool = False

    @property
    def height(self) -> float:
        return (len(self.lines) + bool(self.title)) * LINE_HEIGHT + 1.5 * PADDING


@functools.cache
def _drawable() -> frozenset[int]:
    """Code points the font can draw; a small model writes anything, and a missing glyph warns on every draw."""
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans Mono"))).get_charmap())


def wrap_text(text: str, width: float, limit: int) -> tuple[str, ...]:
    """Lines of monospaced text at most `width` inches wide; after `limit` lines the last one ends in "…"."""
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


def _thought_text(step: Mapping) -> str:
    """What a step says before its code, without the label that every thought starts with."""
    text, _ = prompts.split_turn(str(step.get("text") or ""))
    return re.sub(r"^\s*Thought:\s*", "", text).strip()


def _answer_box(transcript: Mapping, width: float) -> Box:
    """The answer with its mark; sign, words and colour all say whether it is right."""
    right = bool(transcript.get("correct"))
    colour = RIGHT if right else WRONG
    answer = transcript.get("answer")
    lines = wrap_text("no answer" if answer in (None, "") else str(answer), width, 3)
    return Box(
        "✓ right answer" if right else "✗ wrong answer",
        lines,
        colour=colour,
        edge=colour,
        thick=True,
    )


def _step_boxes(transcript: Mapping, width: float, prefix: str = "") -> list[Box]:
    """The boxes of an agent's trajectory: thought, action, observation, a step after the other."""
    boxes, steps = [], transcript.get("steps") or ()
    room = max(
        3, 18 // max(1, len(steps))
    )  # lines a box: a long trajectory shows less of each step
    for number, step in enumerate(steps, 1):
        thought = _thought_text(step)
        if number == 1 and prefix and thought.startswith(prefix.strip()):
            thought = "… " + thought[len(prefix.strip()) :].strip()
        if thought.strip("… "):
            boxes.append(
                Box(f"thought {number}", wrap_text(thought, width, min(room, 6)), FILLS["text"])
            )
        if step.get("code"):
            boxes.append(
                Box(
                    f"action {number} (code)",
                    wrap_text(step["code"], width, room + 2),
                    FILLS["code"],
                )
            )
        if step.get("observation"):
            seen = re.sub(r"^\s*Observation:\s*", "", step["observation"])
            boxes.append(
                Box(
                    f"observation {number}",
                    wrap_text(seen, width, min(room, 5)),
                    FILLS["observation"],
                )
            )
    return boxes


def _draw_box(
    figure: Figure, box: Box, x: float, y: float, width: float, height: float | None = None
) -> float:
    """Draw a box with its top left corner at (x, y) inches from the top left; returns the y of its lower edge."""
    total_width, total_height = figure.get_size_inches()
    height = height or box.height
    corner, across, up = (
        (x / total_width, 1 - (y + height) / total_height),
        width / total_width,
        height / total_height,
    )
    area = Rectangle(corner, across, up, facecolor=box.fill, edgecolor=box.edge, hatch=box.hatch, linewidth=0.8,
                     transform=figure.transFigure)  # fmt: skip
    figure.add_artist(area)
    if box.thick:
        # A second, empty outline: one patch has one colour for both its edge and its hatch.
        figure.add_artist(Rectangle(corner, across, up, fill=False, linewidth=2.2, edgecolor=box.colour,
                                    transform=figure.transFigure))  # fmt: skip
    top = y + PADDING
    if box.title:
        _write(figure, box.title, x + PADDING, top, color=box.colour, weight="bold")
        top += LINE_HEIGHT
    for line in box.lines:
        _write(figure, line, x + PADDING, top, family="DejaVu Sans Mono")
        top += LINE_HEIGHT
    return y + height


def _write(figure: Figure, text: str, x: float, y: float, **look: object) -> None:
    """One line of text at (x, y) inches from the top left; "$" is a dollar."""
    width, height = figure.get_size_inches()
    figure.text(
        x / width,
        1 - y / height,
        text,
        va="top",
        parse_math=False,
        **({"fontsize": FONT_SIZE} | look),
    )


def _draw_column(figure: Figure, boxes: Sequence[Box], x: float, y: float, width: float) -> float:
    """Boxes under each other; returns the y below the last."""
    for box in boxes:
        y = _draw_box(figure, box, x, y, width) + GAP
    return y


def _total_height(boxes: Sequence[Box]) -> float:
    return sum(box.height + GAP for box in boxes)


def _new_sheet(width: float, height: float, note: str) -> Chart:
    """A sheet with room for a wrapped footer below `height` inches."""
    lines = textwrap.wrap(note, int(width * 15.5))
    figure = Chart(figsize=(width, height + 0.14 + LINE_HEIGHT * len(lines)))
    figure.add_axes(
        (0, 0, 1, 1)
    ).set_axis_off()  # Jupyter's inline backend shows nothing for a figure without axes
    for k, line in enumerate(lines):
        _write(figure, line, 0.1, height + 0.04 + LINE_HEIGHT * k, fontsize=8, color=GREY)
    return figure


@styled
def fig2_cot_against_agent(cot: Mapping, agent: Mapping, note: str = "") -> Figure:
    """Fig. 2: one question answered by a CoT-distilled student (left) and by a distilled agent (right), as they wrote.

    Raises ValueError if the two answer different questions.
    """
    if cot["question"] != agent["question"]:
        raise ValueError(
            f"the CoT transcript answers {cot['question'][:60]!r} and the agent's {agent['question'][:60]!r}, "
            "expected one question; pick two transcripts with the same question id"
        )
    width, column = 10.5, 5.08
    gold = agent.get("gold", cot.get("gold", ""))
    question = Box(
        "question", wrap_text(f"{agent['question']}\n(gold answer: {gold})", width - 0.2, 5)
    )
    left = [
        Box("chain of thought", wrap_text(cot.get("text") or "(nothing written)", column, 34)),
        _answer_box(cot, column),
    ]
    right = [*_step_boxes(agent, column), _answer_box(agent, column)]
    top = 0.1 + question.height + GAP + 0.28
    figure = _new_sheet(width, top + max(_total_height(left), _total_height(right)), note)
    _draw_box(figure, question, 0.1, 0.1, width - 0.2)
    for x, boxes, title, method in (
        (0.1, left, "CoT distillation: thinks in text", "cot_distill"),
        (
            0.1 + column + 0.14,
            right,
            "Agent distillation: acts and reads what happened",
            "agent_distill_ftp",
        ),
    ):
        _write(figure, title, x, top - 0.25, fontsize=10, weight="bold", color=COLOURS[method])
        _draw_column(figure, boxes, x, top, column)
    return figure


def _candidate_boxes(step: Mapping, width: float) -> list[Box]:
    """The sampled actions of one step, coloured by the group they voted for; one that failed or was dropped has none."""
    seen = list(
        dict.fromkeys(
            c["group"]
            for c in step["candidates"]
            if not c.get("failed") and c.get("group") is not None
        )
    )
    boxes = []
    for number, candidate in enumerate(step["candidates"], 1):
        chosen = number - 1 == step["chosen"]
        failed = candidate.get("failed")
        group = candidate.get("group")
        voted = not failed and group is not None
        outcome = (
            "dropped"
            if failed == "dropped"
            else f"✗ {failed}"
            if failed
            else f"group {chr(65 + seen.index(group))}"
            if voted
            else "no vote"
        )
        code = candidate.get("code") or (
            "(not written to its end)" if failed == "dropped" else "(no code)"
        )
        lines = (*wrap_text(code, width, 6), "",
                 *wrap_text(f"→ {candidate.get('outcome') or 'nothing'}", width, 2))  # fmt: skip
        boxes.append(Box(
            f"{number} · {outcome}" + (" · chosen" if chosen else ""), lines,
            fill=_lighten(GROUPS[seen.index(group) % len(GROUPS)]) if voted else "#F0F0F0",
            edge="#BFBFBF" if not failed else "#CDCDCD", hatch="" if not failed else "///",
            colour="black", thick=chosen,
        ))  # fmt: skip
    return boxes


def _lighten(colour: str) -> str:
    """The colour mixed with white until black text on it is easy to read."""
    parts = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(255 - (255 - part) * 0.45):02X}" for part in parts)


@styled
def fig3_prefix_and_vote(example: Mapping, step: Mapping, note: str = "") -> Figure:
    """Fig. 3: (a) a first-thought prefix and the trajectory that grew from it; (b) one SAG step and its vote.

    `example` is {"question", "prefix", "trajectory": transcript}; `step` is {"candidates": [{"code", "outcome",
    "failed", "group"}], "chosen": index}. Raises ValueError for a step without candidates or a choice outside them.
    """
    count = len(step.get("candidates") or ())
    if not 0 <= step.get("chosen", -1) < count:
        raise ValueError(
            f"the step chose candidate {step.get('chosen')!r} of {count}, expected an index from 0 to {count - 1}; "
            "pass a step that was sampled with SAG"
        )
    width, column = 10.5, 4.6
    x = 0.1 + column + 0.16
    small = (width - 0.1 - x - GAP) / 2
    trajectory = example["trajectory"]
    left = [Box("question", wrap_text(example["question"], column, 5)),
            Box("first-thought prefix: first paragraph of the teacher's CoT", wrap_text(example["prefix"], column, 9),
                FILLS["prefix"], colour="black", edge=COLOURS["agent"]),
            *_step_boxes(trajectory, column, example["prefix"]), _answer_box(trajectory, column)]  # fmt: skip
    boxes = _candidate_boxes(step, small)
    pairs = [boxes[k : k + 2] for k in range(0, count, 2)]
    votes = [
        c["group"] for c in step["candidates"] if not c.get("failed") and c.get("group") is not None
    ]
    seen = list(dict.fromkeys(votes))
    tally = (
        ", ".join(f"{chr(65 + k)}: {votes.count(group)}" for k, group in enumerate(seen))
        or "none, all failed"
    )
    dropped = sum(c.get("failed") == "dropped" for c in step["candidates"])
    early = f", dropped when it was decided {dropped}" if dropped else ""
    vote = Box("the vote", wrap_text(f"votes {tally}; failed {count - len(votes) - dropped} of {count}{early}. "
                                f"Chosen: {step['chosen'] + 1}", 2 * small + GAP, 3))  # fmt: skip
    right = sum(max(box.height for box in pair) + GAP for pair in pairs) + vote.height + GAP
    top = 0.4
    figure = _new_sheet(width, top + max(_total_height(left), right), note)
    _write(figure, "(a) first-thought prefix (teacher)", 0.1, 0.12, fontsize=10, weight="bold")
    _write(figure, f"(b) self-consistent action generation: {count} candidates for one step", x, 0.12, fontsize=10,
           weight="bold")  # fmt: skip
    _draw_column(figure, left, 0.1, top, column)
    y = top
    for pair in pairs:
        height = max(box.height for box in pair)
        for k, box in enumerate(pair):
            _draw_box(figure, box, x + k * (small + GAP), y, small, height)
        y += height + GAP
    _draw_box(figure, vote, x, y, 2 * small + GAP)
    return figure
