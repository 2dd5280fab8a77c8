"""Menus and sliders for a live notebook; `show` has a static picture of everything they draw."""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as w
from IPython.display import display

from agentlib.figures.tables import method_label
from agentlib.pages.show import revote, show_case, show_vote


def draw_live() -> Callable[[Mapping], None]:
    """What draws a case below the cell when it is called first, and there again at each later
    call: a run is watched while it goes on."""
    handle = None

    def draw(case: Mapping) -> None:
        nonlocal handle
        if handle is None:
            handle = display(show_case(case), display_id=True)
        else:
            handle.update(show_case(case))

    return draw


def talk(ask: Callable[..., object], suggested: Sequence[str] = ()) -> w.Widget:
    """A line for a question, switches, and the run below it, drawn step by step.

    Calls `ask(question, trained=, search=, n=, draw=)`, which runs an agent and calls `draw` with
    its case so far, after each step and at the end. `suggested` are questions to pick from.
    """
    question = w.Combobox(
        options=list(suggested),
        placeholder="type a question, or pick one",
        description="question",
        ensure_option=False,
        layout=w.Layout(width="100%"),
    )
    trained = w.ToggleButtons(options=[("trained", True), ("as it was before", False)])
    search = w.Checkbox(value=True, description="may search")
    n = w.ToggleButtons(options=[("one action a step", 1), ("vote over 8", 8)])
    button, page = w.Button(description="Ask", button_style="primary"), w.HTML()

    def draw(case: Mapping) -> None:
        page.value = show_case(case).data

    def run(_: Any) -> None:
        if not question.value.strip():
            page.value = "Type a question first, or pick one from the list."
            return
        button.disabled, page.value = True, "The first step is being written."
        try:
            ask(question.value, trained=trained.value, search=search.value, n=n.value, draw=draw)
        except Exception as error:
            page.value = f"It stopped: {html.escape(str(error))}"
            raise
        finally:
            button.disabled = False

    button.on_click(run)
    return w.VBox([question, w.HBox([trained, search]), w.HBox([n, button]), page])


def browse_cases(records: Sequence[Mapping]) -> w.Widget:
    """Menus of student, question and method over recorded cases, and a slider over the steps (0:
    all).

    Only methods that answered the chosen question are offered. Raises ValueError if there are no
    cases.
    """
    if not records:
        raise ValueError("no cases to browse, expected one or more; evaluate first (notebook 04)")
    cases = {(r["model"], r["id"], (r["method"], r.get("n", 1))): r for r in records}
    students = list(dict.fromkeys(model for model, _, _ in cases))
    student = w.Dropdown(options=students, description="student")
    question, method = w.Dropdown(description="question"), w.Dropdown(description="method")
    step, page = w.IntSlider(min=0, max=0, description="step"), w.HTML()

    def update_questions(_: Any = None) -> None:
        question.options = list(dict.fromkeys(i for m, i, _ in cases if m == student.value))
        question.index = 0
        update_methods()

    def update_methods(_: Any = None) -> None:
        before, chosen = method.value, (student.value, question.value)
        answered = [key for model, i, key in cases if (model, i) == chosen]
        method.options = [(method_label(*key), key) for key in answered]
        method.index = answered.index(before) if before in answered else 0
        draw()

    def draw(_: Any = None) -> None:
        if record := cases.get((student.value, question.value, method.value)):
            step.max = len(record.get("trace", []))
            page.value = show_case(record, step.value or None).data

    followers = (
        (student, update_questions),
        (question, update_methods),
        (method, draw),
        (step, draw),
    )
    for menu, follow in followers:
        menu.observe(follow, "value")
    update_questions()
    return w.VBox([w.HBox([student, question]), w.HBox([method, step]), page])


def explore_vote(steps: Mapping[float, Mapping]) -> w.Widget:
    """One SAG step at several temperatures: choose the temperature and how many candidates vote.

    `steps` maps temperatures to recorded steps with candidates. Raises ValueError if there are
    none.
    """
    if not steps:
        raise ValueError("no steps to vote on, expected a recorded one for each temperature")
    temperature = w.SelectionSlider(options=sorted(steps), description="temperature")
    n, page = w.IntSlider(min=1, max=1, description="N"), w.HTML()

    def draw(_: Any = None) -> None:
        n.max = len(steps[temperature.value]["candidates"])
        page.value = show_vote(revote(steps[temperature.value], n.value)).data

    temperature.observe(draw, "value")
    n.observe(draw, "value")
    draw()
    n.value = n.max
    return w.VBox([w.HBox([temperature, n]), page])
