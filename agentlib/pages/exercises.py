"""A check under each exercise of the notebooks.

A notebook is committed with its exercises solved. A cell tagged `exercise` begins with what a student is given and continues,
below a line `# solution`, with one way to do it; `make workshop` writes copies without the solutions.
"""

import html
from collections.abc import Callable

from IPython.display import HTML

from agentlib.figures.palette import GREEN, ORANGE

DONE, OPEN = "✓", "…"


def check_exercise(title: str, test: Callable[[], bool], hint: str = "") -> HTML:
    """Whether an exercise is solved, as a line to look at: an unfinished one is open, not a failure.

    `test` may raise while names are still `...` or None; what it raised is then part of the line.
    """
    try:
        solved, raised = bool(test()), ""
    except (
        Exception
    ) as error:  # whatever half-written code raises belongs on the page, in the student's sight
        solved, raised = False, f" ({type(error).__name__}: {str(error)[:200]})"
    words = (
        f"{DONE} {title} · solved"
        if solved
        else " · ".join(filter(None, (f"{OPEN} {title}", f"not yet{raised}", hint)))
    )
    colour = GREEN if solved else ORANGE
    return HTML(
        f'<div style="border-left:4px solid {colour};padding:4px 10px">{html.escape(words)}</div>'
    )
