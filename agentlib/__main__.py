"""`python -m agentlib run | serve | train | doctor`: notebooks headless, an index on a server, one
student's training, a report on this machine."""

import importlib
import sys

COMMANDS = {
    "run": "run the notebooks headless, in order, at one preset",
    "serve": "serve a preset's index over HTTP, so that many runs share one machine's memory",
    "train": "train one student of one method, on one process or on several GPUs",
    "doctor": "report on this machine and on what a preset needs, to paste into an issue",
}


def main(arguments: list[str]) -> int:
    """Hand the arguments to a command of `agentlib.runner`; 2, with a sentence, for a command
    that does not exist."""
    if arguments[:1] in ([], ["-h"], ["--help"]):
        print("usage: python -m agentlib COMMAND [--help]\n")
        print("\n".join(f"  {name:6} {what}" for name, what in COMMANDS.items()))
        return 0
    if arguments[0] not in COMMANDS:
        print(
            f"error: command {arguments[0]!r} is unknown, expected one of {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    return importlib.import_module(f"agentlib.runner.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
