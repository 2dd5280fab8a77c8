"""Running model-written Python in isolated, limited sessions that can be forked.

A session's state is a process. `run_candidates` forks it once per candidate, so every candidate
starts from the same state and none sees another; `commit` keeps the chosen fork as the new state,
so nothing runs twice. The process is the boundary: code runs unchanged, at native speed, with any
import. Each fork has a working folder of its own, with a copy of the files that were there.
Variables, imports and named files carry over from one action to the next; threads, processes,
pipes, sockets and shared memory do not. Tools run in this process.
"""

import itertools
import json
import logging
import os
import socket
import sys
import tempfile
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from agentlib.records import replace_surrogates
from agentlib.sandbox.action import GRACE_SECONDS, Failure, Outcome, Trial
from agentlib.sandbox.inside import protocol as wire
from agentlib.sandbox.inside.results import to_plain
from agentlib.sandbox.isolation import (
    AUTOMATIC,
    FORKS_BEFORE_RENEWAL,
    MACOS_BACKEND,
    STARTERS,
    Protection,
    SandboxLost,
    Zygote,
)

log = logging.getLogger(__name__)
CHOICE = "AGENTLIB_SANDBOX"  # the environment variable that stands for "auto"

MAX_FORK_ATTEMPTS = 3  # to start one candidate


class Session:
    """The interpreter of one question; its variables and imports carry over between actions.

    Use it as a context manager or call `close`. Only one thread may use it at a time.
    """

    def __init__(self, box: "Sandbox", zygote: Zygote):
        self._box, self._zygote, self._key = box, zygote, next(box._numbers)
        # The number of the interpreter with the state: 0 is the pristine one, None means closed.
        self._interpreter: int | None = 0
        self._step = 0
        self._candidates: set[int] = set()
        self._tool_replies: dict[tuple[str, str], bytes] = {}  # to this step's candidates
        zygote.sessions.add(self)

    def run_candidates(self, codes: Sequence[str]) -> list[Outcome]:
        """Run every code from the present state, isolated from each other, and keep none.

        The outcomes are in the order of the codes. Raises as `Sandbox.run_batch`.
        """
        return self._box.run_batch([(self, codes)])[0]

    def commit(self, outcome: Outcome) -> None:
        """Make the candidate with this `outcome` the state without running it again.

        The other candidates end. If its own interpreter has ended (timeout, memory, killed), the
        state stays as it was. Raises ValueError if the outcome is not from this session's last
        `run_candidates`.
        """
        if outcome._ticket != (self._key, self._step):
            raise ValueError(
                "this outcome is not of the session's last run_candidates; "
                "commit one that is, and only once"
            )
        if outcome._number is not None:
            self._candidates.discard(outcome._number)
            self._candidates.add(self._interpreter)
            self._interpreter = outcome._number
        self.discard()

    def discard(self) -> None:
        """End the candidates of the last `run_candidates`; the state stays as it was."""
        self._step += 1
        for number in self._candidates - {0}:
            self._zygote.send(number, wire.KILL)
        self._candidates.clear()
        self._tool_replies.clear()

    def run(self, code: str) -> Outcome:
        """Run one code and keep its state: `run_candidates` of one, then `commit`."""
        [outcome] = self.run_candidates([code])
        self.commit(outcome)
        return outcome

    def close(self) -> None:
        """End the session's processes. A second call does nothing."""
        if self._interpreter is not None:
            self._candidates.add(self._interpreter)
            self._interpreter = None
            self.discard()
            self._zygote.sessions.discard(self)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._zygote.to_kill.extend(self._candidates | {self._interpreter} - {0, None})


class Sandbox:
    """An isolated process with numpy and sympy loaded, of which every session is a fork.

    `tools` are functions of this process that the code can call by name, with plain values. An
    action may take `seconds` of wall time, `tool_seconds` in all for its tool calls, and
    `memory_mb` MiB beyond the bare interpreter. At most `workers` candidates run at once (by
    default, as many as there are processors). `backend` is "sandlock" (Landlock and seccomp),
    "bwrap" (namespaces), "limits" (no isolation, with a warning) or "auto": the first that works.
    On macOS there is only "sandbox-exec", by this choice and with a warning: a profile of the
    system's own sandbox, which lacks what `protection.lacks` names. The environment variable
    AGENTLIB_SANDBOX makes the choice for every sandbox that is left at "auto".

    Raises RuntimeError if the backend does not work here, or if it isolates less than fully and
    `strict` is set, and ValueError for an unknown backend or a bad tool.
    """

    def __init__(
        self,
        tools: Mapping[str, Callable[..., Any]] | None = None,
        seconds: float = 10.0,
        memory_mb: int = 1024,
        strict: bool = False,
        backend: str = "auto",
        workers: int | None = None,
        tool_seconds: float = 120.0,
    ):
        if backend == "auto":
            backend = os.environ.get(CHOICE) or "auto"
        if backend not in ("auto", *STARTERS):
            known = ", ".join(["auto", *STARTERS])
            raise ValueError(
                f"sandbox backend {backend!r} is unknown, expected one of {known}; correct the"
                f" argument, or the variable {CHOICE}"
            )
        _refuse_platform(backend)
        for name, tool in (tools or {}).items():
            if not callable(tool):
                raise ValueError(
                    f"tool {name!r} is {tool!r}, expected a function that the code can call"
                )
            if not name.isidentifier() or name == "final_answer":
                raise ValueError(
                    f"tool name {name!r} cannot be used, "
                    "expected a Python name other than final_answer"
                )
        self.tools, self.seconds, self.tool_seconds = dict(tools or {}), seconds, tool_seconds
        self.workers = workers or os.cpu_count() or 1
        self.protection: Protection
        self._settings = {"tools": list(self.tools), "seconds": seconds, "memory_mb": memory_mb}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = False
        # Isolated processes that were replaced; each ends with the last of its sessions.
        self._retired: list[tuple[Zygote, weakref.finalize]] = []
        reasons = []
        for name in AUTOMATIC if backend == "auto" else (backend,):
            try:
                self._start(name)
            except Exception as error:  # whatever a backend raises where it cannot work
                reasons.append(f"{name}: {error}")
                log.info("sandbox: backend %s does not work here (%s)", name, error)
                continue
            if name in ("limits", MACOS_BACKEND) or (strict and not self.protection.full):
                self._warn_or_refuse(strict, reasons)
            break
        else:
            why = "; ".join(reasons)
            remedy = "install bubblewrap or sandlock"
            if backend == MACOS_BACKEND:
                remedy = "run in a Linux container or virtual machine"
            raise RuntimeError(f"no sandbox could be started ({why}); {remedy}")

    def _warn_or_refuse(self, strict: bool, reasons: list[str]) -> None:
        """Warn that the backend isolates less than fully; RuntimeError if `strict`."""
        why = f" ({'; '.join(reasons)})" if reasons else ""
        lacks = "; ".join(self.protection.lacks)
        if strict:
            self._finalizer()
            raise RuntimeError(
                f"strict=True but the backend is {self.protection.backend!r}{why}, "
                f"which lacks: {lacks}; "
                "use Linux 6.12 or later with Landlock (pip install sandlock) or install bubblewrap"
            )
        remedy = "Install sandlock or bubblewrap."
        if self.protection.backend == MACOS_BACKEND:
            remedy = "Run in a Linux container for walls that were tested."
        warnings.warn(
            f"MODEL-WRITTEN CODE IS NOT FULLY ISOLATED{why}; missing: {lacks}. {remedy}",
            stacklevel=3,
        )

    def _start(self, backend: str) -> None:
        self._zygote = Zygote(backend, self._settings)
        self._finalizer = weakref.finalize(self, self._zygote.close)
        if backend != "limits":
            try:
                self._check_isolation()
            except BaseException:
                self._finalizer()
                raise
        self.protection = self._zygote.protection

    def _check_isolation(self) -> None:
        """Raise RuntimeError if a file or a port of this machine can be reached from inside."""
        server = socket.create_server(("127.0.0.1", 0))
        with tempfile.NamedTemporaryFile("w", prefix="agentlib-") as secret, server:
            secret.write("reached")
            secret.flush()
            connect = f"import socket\nsocket.create_connection({server.getsockname()!r}, 5)"
            attempts = {
                "files": f"print(open({secret.name!r}).read())",
                "network": f"{connect}\nprint('reached')",
            }
            if self._zygote.backend == MACOS_BACKEND:  # its rules for writing are others
                attempts["files to write"] = f"print(open({secret.name!r}, 'a').write('reached'))"
            with Session(self, self._zygote) as session:
                outcomes = session.run_candidates(list(attempts.values()))
            for what, outcome in zip(attempts, outcomes, strict=True):
                refused = outcome.failure and outcome.failure.kind != "killed"
                if "reached" in outcome.stdout or not refused:
                    raise RuntimeError(f"{what} could be reached from inside ({outcome})")

    def session(self) -> Session:
        """A fresh interpreter for one question; costs nothing until it runs something.

        If the isolated process has ended, or has made FORKS_BEFORE_RENEWAL forks, a new one is
        started first; sessions that are open keep theirs. Raises RuntimeError if the sandbox is
        closed or the new process does not start.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the sandbox is closed; open a new one")
            if not self._zygote.alive:
                log.warning("sandbox: the isolated process had ended and is started again")
                self._finalizer()
                self._start(self.protection.backend)
            elif self._zygote.forks >= FORKS_BEFORE_RENEWAL[self.protection.backend]:
                self._retired.append((self._zygote, self._finalizer))
                self._start(self.protection.backend)
            for zygote, finalizer in self._retired.copy():
                if not zygote.sessions:
                    finalizer()
                    self._retired.remove((zygote, finalizer))
            return Session(self, self._zygote)

    def run_batch(self, batch: Sequence[tuple[Session, Sequence[str]]]) -> list[list[Outcome]]:
        """`run_candidates` of several sessions at once, at most `workers` candidates at a time.

        The candidates that the sessions had end. A tool is called once for equal arguments of one
        session's candidates. Tools are called in this thread, one after another. The code sees what
        a tool raises, except ConnectionError and TimeoutError, which are raised here: an outage
        must stop a run, not lower its score.

        Raises ValueError if a session is in the batch twice, RuntimeError if one is closed, and
        SandboxLost if the isolated process has ended.
        """
        if len({id(session) for session, _ in batch}) < len(batch):
            raise ValueError("a session is in the batch twice; give all its codes in one list")
        for session, _ in batch:
            if session._interpreter is None:
                raise RuntimeError("the session is closed; open a new one with box.session()")
        groups: list[list[Trial]] = []
        for session, codes in batch:
            session.discard()
            groups.append([self._trial(session, code) for code in codes])
            session._candidates.update(trial.number for trial in groups[-1])
        trials = [trial for group in groups for trial in group]
        self._run_trials(trials)
        not_started = [trial for trial in trials if trial.not_started]
        if not_started and self._wait_until_forkable():
            for trial in not_started:
                trial.reset(next(self._numbers))
                trial.attempts = 0
            self._run_trials(not_started)
        return [[trial.outcome for trial in group] for group in groups]

    def _trial(self, session: Session, code: str) -> Trial:
        return Trial(session, code, next(self._numbers), self.seconds, self.tool_seconds)

    def _run_trials(self, trials: list[Trial]) -> None:
        """Run the trials until each has an outcome, `workers` at a time.

        One that cannot start is tried again when nothing else runs, and alone: another action may
        have used up all processes, and goes on doing so until its time is over. Raises SandboxLost
        if the isolated process has ended.
        """
        queue: SimpleQueue = SimpleQueue()
        waiting: deque[Trial] = deque(trials)
        again: deque[Trial] = deque()
        running: dict[int, Trial] = {}
        try:
            while waiting or again or running:
                while (again and not running) or (
                    waiting and not again and len(running) < self.workers
                ):
                    trial = (again or waiting).popleft()
                    time.sleep(0.1 * trial.attempts)
                    trial.start(queue)
                    if not trial.outcome:
                        running[trial.number] = trial
                if not running:
                    continue
                self._handle_next(queue, running)
                for trial in running.values():
                    retry = trial.attempts < MAX_FORK_ATTEMPTS and not trial.lost
                    if trial.not_started and retry:
                        log.info("sandbox: an action could not begin and is tried again")
                        trial.reset(next(self._numbers))
                        again.append(trial)
                running = {
                    number: trial
                    for number, trial in running.items()
                    if not trial.outcome and trial.number == number
                }
        finally:
            for trial in running.values():  # none, unless interrupted or stopped by a tool's outage
                trial.finish(Failure("killed", "interrupted"))
        for trial in trials:
            if trial.lost:
                raise SandboxLost(
                    f"the sandbox's isolated process has ended ({trial.zygote.end_reason}) "
                    "and its sessions are lost; open new sessions"
                )

    def _handle_next(self, queue: SimpleQueue, running: dict[int, Trial]) -> None:
        """Wait for the next message to a running trial, or the next deadline, and handle it."""
        wait = min(trial.deadline for trial in running.values()) - time.monotonic()
        try:
            number, kind, payload, at = queue.get(timeout=max(0.0, wait))
        except Empty:
            for trial in running.values():
                if trial.deadline <= time.monotonic():
                    trial.handle_deadline()
        else:
            if number in running:
                running[number].handle(kind, payload, at, self._call_tool)

    def _wait_until_forkable(self) -> bool:
        """Whether the pristine interpreter could not be forked for a while, but now it can.

        False if it can at once: then the session itself is broken. If it cannot for GRACE_SECONDS,
        ends the isolated process and raises SandboxLost. By then the processes of an action that
        was ended are gone, but sandlock 0.9 goes on counting those that slept.
        """
        began = time.monotonic()
        for attempt in itertools.count():
            with Session(self, self._zygote) as fresh:
                trial = self._trial(fresh, "1")
                trial.attempts = MAX_FORK_ATTEMPTS  # once only, after a pause
                self._run_trials([trial])
            if not trial.not_started:
                return attempt > 0
            if time.monotonic() > began + GRACE_SECONDS:
                self._zygote.abort(
                    "it could start no interpreter; "
                    "look for missing memory, processes or disk space"
                )
                raise SandboxLost(
                    f"the sandbox's isolated process was ended: {self._zygote.end_reason}; "
                    "open new sessions"
                )

    def _call_tool(self, trial: Trial, request: bytes) -> bytes:
        """The reply, as JSON, to a tool call, from the tool or from an equal call in this step.

        Raises ValueError or TypeError if the request is malformed.
        """
        name, args, kwargs = json.loads(request)
        args, kwargs = replace_surrogates(args), replace_surrogates(kwargs)
        if name not in self.tools or not isinstance(args, list) or not isinstance(kwargs, dict):
            raise ValueError(f"no such tool call: {name!r}")
        trial.calls.append({"name": name, "args": args, "kwargs": kwargs})
        replies = trial.session._tool_replies
        key = (name, json.dumps([args, kwargs], sort_keys=True))
        if key not in replies:
            try:
                value = to_plain(self.tools[name](*args, **kwargs), _refuse_value)
                reply = json.dumps({"value": value}).encode()
                if len(reply) > wire.MAX_FRAME_BYTES:
                    raise ValueError(
                        f"the answer has {len(reply)} bytes, "
                        f"at most {wire.MAX_FRAME_BYTES} can be sent"
                    )
            except (ConnectionError, TimeoutError):  # an outage: there is no answer to go on with
                raise
            except Exception as error:  # the code that called the tool sees it, and may go on
                log.info("sandbox: tool %s failed", name, exc_info=True)
                message = f"{name} failed: {type(error).__name__}: {str(error)[:2000]}"
                reply = json.dumps({"error": message}).encode()
            replies[key] = reply
        return replies[key]

    def close(self) -> None:
        """End every process of every session. A second call does nothing."""
        self._closed = True
        for finalizer in (self._finalizer, *(finalizer for _, finalizer in self._retired)):
            finalizer()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse_platform(backend: str) -> None:
    """RuntimeError if this system cannot have the backend."""
    macos = sys.platform == "darwin"
    if macos and backend != MACOS_BACKEND:
        raise RuntimeError(
            "the sandbox is built on Linux processes, this is macOS; run in a Linux container"
            " (.devcontainer opens in VS Code and in Codespaces), in Colab or Binder, or choose"
            f' backend="{MACOS_BACKEND}" (Sandbox; {CHOICE}={MACOS_BACKEND} for all of them), which'
            " isolates less and which we have never run on a real Mac"
        )
    if backend == MACOS_BACKEND and not macos:
        raise RuntimeError(
            f'backend="{MACOS_BACKEND}" is the sandbox of macOS, this is {sys.platform}; '
            'use backend="auto"'
        )
    if not macos and sys.platform != "linux":
        raise RuntimeError(
            f"the sandbox is built on Linux processes, this is {sys.platform}; "
            "run in a Linux container or virtual machine (on Windows: WSL 2)"
        )


def _refuse_value(value: Any) -> None:
    raise TypeError(
        f"it returned a {type(value).__name__}, expected plain values (text, numbers, lists, dicts)"
    )
