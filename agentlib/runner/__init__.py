"""The command line: notebooks headless, what a run needs and costs, servers and trainings as
commands, finished runs kept.

Owns plans and processes. Does not know how any part does its work.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(
    __name__,
    {
        "sweeps": "publish_sweeps=publish run_sweeps=run",
        "archive": "recorded_answers take_recorded unpack_run=unpack",
        "preflight": "check_continuation=continuation",
        "fits": "memory_table=table",
    },
)
