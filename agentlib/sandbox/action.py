"""One action in the sandbox, seen from outside: what came of it, and the way there from one message to the next.

Owns `Outcome` and `Failure`, and the clock of an action. Knows nothing of isolation, nor of what becomes of an outcome.
What the interpreter says of itself may be forged, so only its shape is trusted.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from agentlib.sandbox.inside import protocol as wire
from agentlib.sandbox.inside import workdir as scratch

log = logging.getLogger(__name__)
GRACE_SECONDS = 10.0  # for a fork to begin, or what was killed to be gone


@dataclass(frozen=True)
class Failure:
    """Why an action did not go well; the message is written for a language model to read.

    `kind` is "parse", "execution", "timeout", "memory", "forbidden" (the isolation refused) or "killed" (the
    interpreter ended without a result).
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """What one action did: plain values only.

    `stdout` is what was printed, `value` the repr of a last expression, `answer` what `final_answer` was given if
    `is_final`, `tool_calls` dicts of name, args and kwargs in order, `seconds` wall time without the tools', `stderr` what
    went to standard error: warnings, progress and logs, which are no result. Text names the action's folder ".".
    """

    stdout: str = ""
    value: str = ""
    answer: Any = None
    is_final: bool = False
    failure: Failure | None = None
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    stderr: str = ""
    _number: int | None = field(default=None, repr=False, compare=False)  # the interpreter, None if it has ended
    _ticket: tuple[int, int] = field(default=(0, 0), repr=False, compare=False)  # session and step it belongs to


class Trial:
    """One candidate of a `sandbox.Session` while it runs: collects what its interpreter says into an Outcome."""

    def __init__(self, session: Any, code: str, number: int, seconds: float, tool_seconds: float):
        self.session, self.code, self.number = session, sound(code), number
        self.zygote, self.ticket = session._zygote, (session._key, session._step)
        self.seconds, self.tool_seconds_left = seconds, tool_seconds
        self.stdout, self.stderr, self.calls = b"", b"", []
        self.began, self.in_tools, self.deadline = 0.0, 0.0, 0.0
        self.ending: Failure | None = None  # why it is being killed
        self.tries, self.lost = 0, False  # how often its fork was asked for; whether the isolated process ended
        self.outcome: Outcome | None = None

    def renew(self, number: int) -> None:
        """Make it ready to be started again, as interpreter `number`."""
        self.outcome, self.ending, self.number = None, None, number
        self.session._candidates.add(number)

    def start(self, queue: SimpleQueue) -> None:
        """Ask for the fork. The clock of the action starts when the fork says so, a coarser one now."""
        self.tries += 1
        request = json.dumps({"code": self.code}).encode()
        if len(request) > wire.FRAME_BYTES // 2:
            limit = f"it has {len(request)} bytes as JSON, at most {wire.FRAME_BYTES // 2} can be run"
            self.finish(Failure("parse", f"the code is too long: {limit}; write less code"))
        elif not self.zygote.listen(self.number, queue):
            self.hear(b"Z", b"", time.monotonic(), None)
        else:
            self.deadline = time.monotonic() + GRACE_SECONDS
            self.zygote.forks += 1
            self.zygote.send(self.number, b"F", self.session._node.to_bytes(4, "big") + request)

    def hear(self, kind: bytes, payload: bytes, at: float, answer: Callable[["Trial", bytes], bytes]) -> None:
        """One message, which arrived `at` (monotonic seconds)."""
        if kind == b"H":
            self.began, self.deadline = at, at + self.seconds
        elif kind == b"E":
            log.info("sandbox: an interpreter could not begin: %s", payload.decode("utf-8", "replace"))
        elif kind == b"Z":
            self.lost = True
            self.finish(Failure("killed", "the isolated process has ended"), at)
        elif kind == b"O":
            self.stdout = payload
        elif kind == b"S":
            self.stderr = payload
        elif kind == b"X":
            if payload == b"scratch":
                self.ending = Failure("memory", f"the code wrote more than the {scratch.SCRATCH_BYTES >> 20} MB or "
                                      f"{scratch.SCRATCH_FILES} files (in folders {scratch.SCRATCH_DEPTH} deep) that it may "
                                      "and was stopped")  # fmt: skip
            self.finish(self.ending or Failure("killed", "the interpreter ended before the code did"), at)
        elif self.ending:
            pass
        elif at > self.deadline:
            self.overdue()
        elif kind == b"D":
            self.conclude(payload, at)
        elif kind == b"C":
            try:
                self.zygote.send(self.number, b"A", answer(self, payload))
            except (ValueError, TypeError, RecursionError):
                return self.kill(Failure("killed", "the interpreter sent a malformed tool call"))
            # Time in the tool, and in line for it behind other candidates' calls, is not the action's.
            away = time.monotonic() - at
            self.in_tools += away
            self.deadline += min(away, self.tool_seconds_left)
            self.tool_seconds_left = max(0.0, self.tool_seconds_left - away)

    def conclude(self, payload: bytes, at: float) -> None:
        """The interpreter's own account of a finished action; it may be forged, so only its shape is trusted."""
        try:
            result = json.loads(payload, parse_constant={"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}.get)
            failure = Failure(*(str(sound(part)) for part in result["failure"])) if result["failure"] else None
            if failure and failure.kind not in ("parse", "execution", "memory", "forbidden"):
                raise ValueError
            if failure and failure.kind == "memory":
                failure = Failure("memory", f"{failure.message}\nthe code needed more memory than it may use")
            value, answer = str(sound(result["value"])), sound(result["answer"])
        except (ValueError, TypeError, KeyError, RecursionError):
            self.finish(Failure("killed", "the interpreter sent a malformed result"), at)
        else:
            self.finish(failure, at, value, answer, result.get("is_final") is True)

    @property
    def unborn(self) -> bool:
        """Whether it ended before the code could begin, which may be another candidate's doing, or the machine's."""
        return self.outcome is not None and not self.began and self.outcome.failure.kind == "killed" and not self.ending

    def overdue(self) -> None:
        """The deadline has passed: first kill, then, if even that is not confirmed, give up on it."""
        if self.ending:
            return self.finish(self.ending)
        if not self.began:
            self.kill(Failure("killed", "the session's interpreter does not respond; open a new session"))
        elif self.tool_seconds_left:
            self.kill(Failure("timeout", f"the code ran longer than {self.seconds:g} s and was stopped"))
        else:
            self.kill(Failure("timeout", "the code spent too long in its tool calls and was stopped"))

    def kill(self, failure: Failure) -> None:
        self.ending, self.deadline = failure, time.monotonic() + GRACE_SECONDS
        self.zygote.send(self.number, b"K")

    def finish(
        self, failure: Failure | None, at: float = 0.0, value: str = "", answer: Any = None, final: bool = False
    ) -> None:
        self.zygote.listeners.pop(self.number, None)
        alive = self.began and (failure is None or failure.kind in ("parse", "execution", "forbidden"))
        if not alive:
            self.zygote.send(self.number, b"K")
        seconds = (at or time.monotonic()) - self.began - self.in_tools if self.began else 0.0
        here = self.zygote.relative
        self.outcome = Outcome(
            here(_printed(self.stdout)), here(value), answer, final,
            failure and Failure(failure.kind, here(failure.message)), self.calls, max(0.0, seconds),
            here(_printed(self.stderr)), _number=self.number if alive else None, _ticket=self.ticket,
        )  # fmt: skip


def _printed(content: bytes) -> str:
    """Captured output as text, with a note if there was more."""
    if len(content) <= wire.STDOUT_BYTES:
        return content.decode("utf-8", "replace")
    kept = content[: wire.STDOUT_BYTES].decode("utf-8", "ignore")
    return f"{kept}\n[output cut after {wire.STDOUT_BYTES} bytes]"


def sound(value: Any) -> Any:
    """JSON values with text that can be written to a file: lone surrogates become question marks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [sound(item) for item in value]
    if isinstance(value, dict):
        return {sound(key): sound(item) for key, item in value.items()}
    return value
