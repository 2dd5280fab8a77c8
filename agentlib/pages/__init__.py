"""How cases, votes and masks look on a notebook's page, and the checks of its exercises.

Owns static HTML and widgets. Does not know models or how a case came about.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(__name__, {
    "exercises": "check",
})  # fmt: skip
