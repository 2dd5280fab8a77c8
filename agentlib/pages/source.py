"""The source of a function of the package, folded, to read beside the same idea built by hand.

The markup is plain: pages that strip styles, such as GitHub's, still fold and show it.
"""

import html
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from IPython.display import HTML

from agentlib import config


def show_source(*things: Callable[..., Any]) -> HTML:
    """The source of functions or classes, one fold each that names the thing and its file.

    Raises ValueError for something whose source cannot be read, such as a builtin.
    """
    return HTML("".join(map(_fold, things)))


def _fold(thing: Callable[..., Any]) -> str:
    try:
        source, file = inspect.getsource(thing), Path(inspect.getfile(thing))
    except (TypeError, OSError):
        raise ValueError(
            f"the source of {thing!r} cannot be read, expected a function or a class written in"
            " Python; give one"
        ) from None
    inside = file.is_relative_to(config.ROOT)
    place = file.relative_to(config.ROOT).as_posix() if inside else file.name
    head = f"source of <code>{html.escape(thing.__qualname__)}</code>, {html.escape(place)}"
    body = html.escape(textwrap.dedent(source).rstrip())
    return f"<details><summary>{head}</summary><pre>{body}</pre></details>"
