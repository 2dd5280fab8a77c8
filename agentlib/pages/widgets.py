"""Sliders and menus for a live notebook: which case is seen, which step, how a vote would go with fewer samples.

Owns what `show` draws being chosen by hand. Knows nothing of how it is drawn; every picture here has a static one there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as w

from agentlib.figures.tables import method_label
from agentlib.pages.show import revote, show_case, show_vote


def browse_cases(records: Sequence[Mapping]) -> w.Widget:
    """Menus of student, question and method over recorded cases, and a slider over the steps (0 is all of them).

    A method that did not answer the chosen question is not offered. Raises ValueError if there are no cases.
    """
    if not records:
        raise ValueError("no cases to browse, expected one or more; evaluate first (notebook 04)")
    at = {(r["model"], r["id"], (r["method"], r.get("n", 1))): r for r in records}
    student = w.Dropdown(options=list(dict.fromkeys(m for m, _, _ in at)), description="student")
    question, method = w.Dropdown(description="question"), w.Dropdown(description="method")
    step, seen = w.IntSlider(min=0, max=0, description="step"), w.HTML()

    def questions(_: Any = None) -> None:
        question.options = list(dict.fromkeys(i for m, i, _ in at if m == student.value))
        question.index = 0
        methods()

    def methods(_: Any = None) -> None:
        before = method.value
        offered = {
            method_label(key[0], key[1]): key
            for m, i, key in at
            if (m, i) == (student.value, question.value)
        }
        method.options = list(offered.items())
        method.index = (
            list(offered.values()).index(before) if before in offered.values() else 0
        )  # the same, if it can be
        draw()

    def draw(_: Any = None) -> None:
        if record := at.get((student.value, question.value, method.value)):
            step.max = len(record.get("trace", []))
            seen.value = show_case(record, step.value or None).data

    for menu, follow in ((student, questions), (question, methods), (method, draw), (step, draw)):
        menu.observe(follow, "value")
    questions()
    return w.VBox([w.HBox([student, question]), w.HBox([method, step]), seen])


def explore_vote(steps: Mapping[float, Mapping]) -> w.Widget:
    """One SAG step sampled at several temperatures: choose the temperature and how many of its candidates vote.

    `steps` maps temperatures to recorded steps with their candidates. Raises ValueError if there are none.
    """
    if not steps:
        raise ValueError("no steps to vote on, expected a recorded one for each temperature")
    temperature = w.SelectionSlider(options=sorted(steps), description="temperature")
    n, seen = w.IntSlider(min=1, max=1, description="N"), w.HTML()

    def draw(_: Any = None) -> None:
        n.max = len(steps[temperature.value]["candidates"])
        seen.value = show_vote(revote(steps[temperature.value], n.value)).data

    temperature.observe(draw, "value")
    n.observe(draw, "value")
    draw()
    n.value = n.max
    return w.VBox([w.HBox([temperature, n]), seen])
