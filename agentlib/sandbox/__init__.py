"""Model-written Python runs here, isolated, and can be tried from one state several times.

Owns the walls (Landlock, seccomp, limits), the processes behind them and what an action leaves:
text, value, answer, failure. Does not know models, prompts or votes. A session is one question's
interpreter; `inside/` is what runs within the walls.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(
    __name__,
    {"session": "Sandbox Session", "action": "Outcome Failure", "isolation": "SandboxLost"},
)
