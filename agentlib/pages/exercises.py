"""A check under each exercise of the notebooks.

A notebook is committed with its exercises solved. A cell tagged `exercise` starts with what a
student is given; below a line `# solution` is one way to solve it. `make workshop` writes copies
without the solutions.
"""

import html
from collections.abc import Callable

from IPython.display import HTML

from agentlib.figures.palette import GREEN, ORANGE

DONE, OPEN = "✓", "…"


def check_exercise(title: str, test: Callable[[], bool], hint: str = "") -> HTML:
    """One line that says whether an exercise is solved; an unsolved one is open, not a failure.

    `test` may raise an exception, for example while names are still `...` or None. The line then
    says what it raised.
    """
    try:
        solved, raised = bool(test()), ""
    except Exception as error:  # whatever half-written code raises, the student should see it
        solved, raised = False, f" ({type(error).__name__}: {str(error)[:200]})"
    parts = (
        [f"{DONE} {title}", "solved"] if solved else [f"{OPEN} {title}", f"not yet{raised}", hint]
    )
    words = html.escape(" · ".join(filter(None, parts)))
    colour = GREEN if solved else ORANGE
    return HTML(f'<div style="border-left:4px solid {colour};padding:4px 10px">{words}</div>')
