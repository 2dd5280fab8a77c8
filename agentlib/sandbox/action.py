"""One action in the sandbox, seen from outside: its outcome, and the messages that lead to it.

What an interpreter says of itself may be forged, so only its shape is trusted.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal

from agentlib.sandbox.inside import protocol as wire
from agentlib.sandbox.inside import workdir as scratch

log = logging.getLogger(__name__)
GRACE_SECONDS = 10.0  # for a fork to start, or for what was killed to be gone

FailureKind = Literal[
    "parse",  # not valid Python, or too long
    "execution",  # an exception
    "timeout",  # the action or its tool calls took too long
    "memory",  # too much memory or too many files
    "forbidden",  # the isolation refused something
    "killed",  # the interpreter ended without a result
]
REPORTED_KINDS = ("parse", "execution", "memory", "forbidden")  # by interpreters themselves
SURVIVED_KINDS = ("parse", "execution", "forbidden")  # the interpreter can be used afterwards


@dataclass(frozen=True)
class Failure:
    """Why an action failed; the message is written for a language model to read."""

    kind: FailureKind
    message: str


@dataclass(frozen=True)
class Outcome:
    """What one action did, as plain values (None, bool, int, float, str, list, dict).

    `stdout` is what was printed, `value` the repr of a last expression, `answer` what
    `final_answer` was called with if `is_final`. `tool_calls` are dicts of name, args and kwargs,
    in order. `seconds` is wall time without the tools'. `stderr` has warnings, progress and logs,
    which are not part of the result. In all texts the action's folder is named ".".
    """

    stdout: str = ""
    value: str = ""
    answer: Any = None
    is_final: bool = False
    failure: Failure | None = None
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    stderr: str = ""
    # The number of the interpreter that ran it, None if that has ended; then its session and step.
    _number: int | None = field(default=None, repr=False, compare=False)
    _ticket: tuple[int, int] = field(default=(0, 0), repr=False, compare=False)


class Trial:
    """One candidate of a `sandbox.Session` while it runs: it turns messages into an Outcome."""

    def __init__(self, session: Any, code: str, number: int, seconds: float, tool_seconds: float):
        self.session, self.code, self.number = session, replace_surrogates(code), number
        self.zygote, self.ticket = session._zygote, (session._key, session._step)
        self.seconds, self.tool_seconds_left = seconds, tool_seconds
        self.stdout, self.stderr, self.calls = b"", b"", []
        self.began, self.in_tools, self.deadline = 0.0, 0.0, 0.0
        self.kill_reason: Failure | None = None  # set when it is being killed
        self.attempts = 0  # how often its fork was requested
        self.lost = False  # whether the isolated process has ended
        self.outcome: Outcome | None = None

    def reset(self, number: int) -> None:
        """Get ready to be started again, as interpreter `number`."""
        self.outcome, self.kill_reason, self.number = None, None, number
        self.session._candidates.add(number)

    def start(self, queue: SimpleQueue) -> None:
        """Request the fork, whose messages then come in `queue`.

        The action's clock starts when the fork says that it has; until then it has GRACE_SECONDS.
        """
        self.attempts += 1
        request = json.dumps({"code": self.code}).encode()
        longest = wire.MAX_FRAME_BYTES // 2
        if len(request) > longest:
            size = f"it has {len(request)} bytes as JSON, at most {longest} can be run"
            self.finish(Failure("parse", f"the code is too long: {size}; write less code"))
        elif not self.zygote.listen(self.number, queue):
            self.handle_loss(time.monotonic())
        else:
            self.deadline = time.monotonic() + GRACE_SECONDS
            self.zygote.forks += 1
            source = self.session._interpreter.to_bytes(4, "big")
            self.zygote.send(self.number, wire.FORK, source + request)

    def handle(
        self, kind: bytes, payload: bytes, at: float, call_tool: Callable[["Trial", bytes], bytes]
    ) -> None:
        """One message, which arrived `at` (monotonic seconds).

        `call_tool` is given the trial and the request and returns the reply; what it raises is
        raised here, but for ValueError, TypeError and RecursionError: then the call is malformed.
        """
        if kind == wire.STARTED:
            self.began, self.deadline = at, at + self.seconds
        elif kind == wire.START_FAILED:
            error = payload.decode("utf-8", "replace")
            log.info("sandbox: an interpreter could not start: %s", error)
        elif kind == wire.LOST:
            self.handle_loss(at)
        elif kind == wire.STDOUT:
            self.stdout = payload
        elif kind == wire.STDERR:
            self.stderr = payload
        elif kind == wire.ENDED:
            self.handle_end(payload, at)
        elif self.kill_reason:
            pass  # it says something while it is being killed
        elif at > self.deadline:
            self.handle_deadline()
        elif kind == wire.DONE:
            self.read_result(payload, at)
        elif kind == wire.TOOL_CALL:
            self.handle_call(payload, at, call_tool)

    def handle_loss(self, at: float) -> None:
        """The isolated process has ended, and with it every interpreter."""
        self.lost = True
        self.finish(Failure("killed", "the isolated process has ended"), at)

    def handle_end(self, reason: bytes, at: float) -> None:
        """The interpreter has ended, by itself or killed for `reason`."""
        if reason == wire.SCRATCH_FULL:
            limits = (
                f"{scratch.MAX_SCRATCH_BYTES >> 20} MB or {scratch.MAX_SCRATCH_FILES} files "
                f"(in folders {scratch.MAX_SCRATCH_DEPTH} deep)"
            )
            message = f"the code wrote more than the {limits} that it may and was stopped"
            self.kill_reason = Failure("memory", message)
        died = Failure("killed", "the interpreter ended before the code did")
        self.finish(self.kill_reason or died, at)

    def handle_call(
        self, request: bytes, at: float, call_tool: Callable[["Trial", bytes], bytes]
    ) -> None:
        """A tool call: reply to it, and stop the action's clock meanwhile."""
        try:
            self.zygote.send(self.number, wire.TOOL_REPLY, call_tool(self, request))
        except (ValueError, TypeError, RecursionError):
            return self.kill(Failure("killed", "the interpreter sent a malformed tool call"))
        # This includes time spent waiting while other candidates' calls are replied to.
        away = time.monotonic() - at
        self.in_tools += away
        self.deadline += min(away, self.tool_seconds_left)
        self.tool_seconds_left = max(0.0, self.tool_seconds_left - away)

    def handle_deadline(self) -> None:
        """The deadline has passed: kill it, or give up if even that has not been confirmed."""
        if self.kill_reason:
            return self.finish(self.kill_reason)
        if not self.began:
            message = "the session's interpreter does not respond; open a new session"
            self.kill(Failure("killed", message))
        elif self.tool_seconds_left:
            message = f"the code ran longer than {self.seconds:g} s and was stopped"
            self.kill(Failure("timeout", message))
        else:
            message = "the code spent too long in its tool calls and was stopped"
            self.kill(Failure("timeout", message))

    def read_result(self, payload: bytes, at: float) -> None:
        """The interpreter's own report of a finished action."""
        constants = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
        try:
            result = json.loads(payload, parse_constant=constants.get)
            failure = None
            if result["failure"]:
                failure = Failure(*(str(replace_surrogates(part)) for part in result["failure"]))
                if failure.kind not in REPORTED_KINDS:
                    raise ValueError(f"failure of kind {failure.kind!r}")
                if failure.kind == "memory":
                    message = f"{failure.message}\nthe code needed more memory than it may use"
                    failure = Failure("memory", message)
            value = str(replace_surrogates(result["value"]))
            answer = replace_surrogates(result["answer"])
        except (ValueError, TypeError, KeyError, RecursionError):
            self.finish(Failure("killed", "the interpreter sent a malformed result"), at)
        else:
            self.finish(failure, at, value, answer, result.get("is_final") is True)

    @property
    def not_started(self) -> bool:
        """Whether it ended before the code could start.

        Another candidate may have caused that, or the machine.
        """
        if self.outcome is None or self.began or self.kill_reason:
            return False
        return self.outcome.failure.kind == "killed"

    def kill(self, failure: Failure) -> None:
        """Have the interpreter killed because of `failure`, which becomes the outcome's."""
        self.kill_reason, self.deadline = failure, time.monotonic() + GRACE_SECONDS
        self.zygote.send(self.number, wire.KILL)

    def finish(
        self,
        failure: Failure | None,
        at: float = 0.0,
        value: str = "",
        answer: Any = None,
        is_final: bool = False,
    ) -> None:
        """Set the outcome; kill the interpreter unless it can be used afterwards."""
        self.zygote.listeners.pop(self.number, None)
        alive = self.began and (failure is None or failure.kind in SURVIVED_KINDS)
        if not alive:
            self.zygote.send(self.number, wire.KILL)
        hide = self.zygote.hide_folders
        seconds = (at or time.monotonic()) - self.began - self.in_tools if self.began else 0.0
        self.outcome = Outcome(
            stdout=hide(_decode_output(self.stdout)),
            value=hide(value),
            answer=answer,
            is_final=is_final,
            failure=failure and Failure(failure.kind, hide(failure.message)),
            tool_calls=self.calls,
            seconds=max(0.0, seconds),
            stderr=hide(_decode_output(self.stderr)),
            _number=self.number if alive else None,
            _ticket=self.ticket,
        )


def _decode_output(content: bytes) -> str:
    """Captured output as text, with a note if there was more."""
    if len(content) <= wire.MAX_OUTPUT_BYTES:
        return content.decode("utf-8", "replace")
    kept = content[: wire.MAX_OUTPUT_BYTES].decode("utf-8", "ignore")
    return f"{kept}\n[output cut after {wire.MAX_OUTPUT_BYTES} bytes]"


def replace_surrogates(value: Any) -> Any:
    """JSON values in which lone surrogates, which no file can hold, are question marks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates(item) for key, item in value.items()}
    return value
