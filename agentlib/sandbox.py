"""Running model-written Python: isolated, limited, forkable sessions.

Owns sessions and their candidates, and the calls of tools (which stay in this process). Knows nothing of models or of
how a candidate is chosen. The isolated process is `isolation`'s, one action's way and clock are `sandbox_action`'s; what
runs inside begins with `sandbox_child`.

A session's state is a process. `try_each` forks it once a candidate, so every candidate starts from the same
state and none sees another; `commit` keeps the chosen fork as the new state, so nothing is run a second time.
The process is the boundary: code runs unchanged, at native speed, with any import. The working folder is each
fork's own, with a copy of what its origin wrote. Variables, imports and named files live on from one action to the
next; threads, processes, pipes, sockets and shared memory do not.
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

from agentlib import sandbox_wire as wire
from agentlib.isolation import RENEWED_AFTER, STARTERS, Protection, SandboxLost, Zygote
from agentlib.sandbox_action import GRACE_SECONDS, Failure, Outcome, Trial, sound
from agentlib.sandbox_report import plain

log = logging.getLogger(__name__)

BIRTHS = 3  # how often the fork of one candidate is asked for


class Session:
    """The interpreter of one question: its variables and imports live from one committed action to the next.

    Use it as a context manager or call `close`. One thread at a time.
    """

    def __init__(self, box: "Sandbox", zygote: Zygote):
        self._box, self._zygote, self._key = box, zygote, next(box._numbers)
        self._node: int | None = 0  # the interpreter that holds the state; 0 is the pristine one; None when closed
        self._step = 0
        self._candidates: set[int] = set()
        self._answers: dict[tuple[str, str], bytes] = {}  # of tools, to this step's candidates
        zygote.sessions.add(self)

    def try_each(self, codes: Sequence[str]) -> list[Outcome]:
        """Run every code from the present state, apart from each other; keep none. Raises as `Sandbox.try_many`."""
        return self._box.try_many([(self, codes)])[0]

    def commit(self, outcome: Outcome) -> None:
        """Make the candidate that gave `outcome` the state, without running it again; the others end.

        If its interpreter has ended (timeout, memory, killed) the state stays as it was. Raises ValueError for
        an outcome that is not of this session's last `try_each`.
        """
        if outcome._ticket != (self._key, self._step):
            raise ValueError("this outcome is not of the session's last try_each; commit one that is, and only once")
        if outcome._number is not None:
            self._candidates.discard(outcome._number)
            self._candidates.add(self._node)
            self._node = outcome._number
        self._next()

    def dismiss(self) -> None:
        """End the candidates of the last `try_each`; the state stays as it was."""
        self._next()

    def run(self, code: str) -> Outcome:
        """Run one code and keep its state."""
        [outcome] = self.try_each([code])
        self.commit(outcome)
        return outcome

    def close(self) -> None:
        """End the session's processes. A second call does nothing."""
        if self._node is not None:
            self._candidates.add(self._node)
            self._node = None
            self._next()
            self._zygote.sessions.discard(self)

    def _next(self) -> None:
        self._step += 1
        for number in self._candidates - {0}:
            self._zygote.send(number, b"K")
        self._candidates.clear()
        self._answers.clear()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._zygote.doomed.extend(self._candidates | {self._node} - {0, None})


class Sandbox:
    """An isolated process with numpy and sympy loaded, of which every session is a fork.

    `tools` are functions of this process that the code can call by name, with plain values. An action may take
    `seconds` of wall time besides its tool calls, which may take `tool_seconds` in all, and `memory_mb` MiB
    beyond the bare interpreter. At most `workers` candidates run at once. `backend` is "sandlock" (Landlock and
    seccomp), "bwrap" (namespaces), "limits" (no isolation, with a warning) or "auto": the first that works here.

    Raises RuntimeError if the backend does not work, or if only limits are left and `strict` is set.
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
        if sys.platform != "linux":
            raise RuntimeError(
                f"the sandbox is built on Linux processes, this is {sys.platform}; run in a Linux container or virtual "
                "machine (on Windows: WSL 2)"
            )
        if backend not in ("auto", *STARTERS):
            raise ValueError(f"sandbox backend {backend!r} is unknown, expected auto, {', '.join(STARTERS)}")
        for name, tool in (tools or {}).items():
            if not callable(tool):
                raise ValueError(f"tool {name!r} is {tool!r}, expected a function that the code can call")
            if not name.isidentifier() or name == "final_answer":
                raise ValueError(f"tool name {name!r} cannot be used, expected a Python name other than final_answer")
        self.tools, self.seconds, self.tool_seconds = dict(tools or {}), seconds, tool_seconds
        self.workers = workers or os.cpu_count() or 1
        self.protection: Protection
        self._settings = {"tools": list(self.tools), "seconds": seconds, "memory_mb": memory_mb}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = False
        self._retired: list[tuple[Zygote, weakref.finalize]] = []  # they end with the last of their sessions
        reasons = []
        for name in STARTERS if backend == "auto" else (backend,):
            try:
                self._start(name)
            except Exception as error:  # whatever a backend raises where it cannot work
                reasons.append(f"{name}: {error}")
                log.info("sandbox: backend %s does not work here (%s)", name, error)
                continue
            if name == "limits" or (strict and not self.protection.full):
                self._accept(strict, reasons)
            break
        else:
            raise RuntimeError(f"no sandbox could be started ({'; '.join(reasons)}); install bubblewrap or sandlock")

    def _accept(self, strict: bool, reasons: list[str]) -> None:
        """Less than full containment: say what is not protected, or refuse if `strict`."""
        why = f" ({'; '.join(reasons)})" if reasons else ""
        lacks = "; ".join(self.protection.lacks)
        if strict:
            self._finalizer()
            raise RuntimeError(
                f"strict=True but the backend is {self.protection.backend!r}{why}, which lacks: {lacks}; "
                "use Linux 6.12 or later with Landlock (pip install sandlock), or install bubblewrap"
            )
        warnings.warn(
            f"MODEL-WRITTEN CODE IS NOT FULLY ISOLATED{why}; missing: {lacks}. Install sandlock or bubblewrap.",
            stacklevel=3,
        )

    def _start(self, backend: str) -> None:
        self._zygote = Zygote(backend, self._settings)
        self._finalizer = weakref.finalize(self, self._zygote.close)
        if backend != "limits":
            try:
                self._probe()
            except BaseException:
                self._finalizer()
                raise
        self.protection = self._zygote.protection

    def _probe(self) -> None:
        """Raise RuntimeError unless a file and a port of this machine are really out of reach."""
        server = socket.create_server(("127.0.0.1", 0))
        with tempfile.NamedTemporaryFile("w", prefix="agentlib-") as secret, server:
            secret.write("reached")
            secret.flush()
            attempts = {
                "files": f"print(open({secret.name!r}).read())",
                "network": f"import socket\nsocket.create_connection({server.getsockname()!r}, 5)\nprint('reached')",
            }
            with Session(self, self._zygote) as session:
                for what, outcome in zip(attempts, session.try_each(list(attempts.values())), strict=True):
                    if "read\n" in outcome.stdout or not outcome.failure or outcome.failure.kind == "killed":
                        raise RuntimeError(f"{what} could be reached from inside ({outcome})")

    def session(self) -> Session:
        """A fresh interpreter for one question; costs nothing until it runs something.

        Starts the isolated process anew if it has ended, or has done its share (`RENEWED_AFTER`); sessions that are
        open stay where they are. Raises RuntimeError if the sandbox is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the sandbox is closed; open a new one")
            if not self._zygote.alive:
                log.warning("sandbox: the isolated process had ended and is started again")
                self._finalizer()
                self._start(self.protection.backend)
            elif self._zygote.forks >= RENEWED_AFTER[self.protection.backend]:
                self._retired.append((self._zygote, self._finalizer))
                self._start(self.protection.backend)
            for zygote, finalizer in self._retired.copy():
                if not zygote.sessions:
                    finalizer()
                    self._retired.remove((zygote, finalizer))
            return Session(self, self._zygote)

    def try_many(self, batch: Sequence[tuple[Session, Sequence[str]]]) -> list[list[Outcome]]:
        """`try_each` of several sessions at once, at most `workers` candidates at a time.

        The candidates that the sessions had end. A tool is asked once for equal arguments of one session's candidates.
        Tools are called from this thread, one after another; what a tool raises
        is an error for the code that called it, except ConnectionError and TimeoutError, which are raised here: an
        outage must stop a run, not lower its score.
        Raises ValueError if a session is there twice, RuntimeError if one is closed, SandboxLost if the isolated process ended.
        """
        if len({id(session) for session, _ in batch}) < len(batch):
            raise ValueError("a session is in the batch twice; give all its codes in one list")
        for session, _ in batch:
            if session._node is None:
                raise RuntimeError("the session is closed; open a new one with box.session()")
        trials: list[list[Trial]] = []
        for session, codes in batch:
            session._next()
            trials.append([Trial(session, c, next(self._numbers), self.seconds, self.tool_seconds) for c in codes])
            session._candidates.update(trial.number for trial in trials[-1])
        everyone = [trial for group in trials for trial in group]
        self._race(everyone)
        unborn = [trial for trial in everyone if trial.unborn]
        if unborn and self._await_births():
            for trial in unborn:
                trial.renew(next(self._numbers))
                trial.tries = 0
            self._race(unborn)
        return [[trial.outcome for trial in group] for group in trials]

    def _race(self, trials: list[Trial]) -> None:
        """Run the trials to their outcomes, `workers` at a time.

        One that cannot begin is tried again once nothing else runs, and alone: another action may have used up all
        processes, and goes on doing so until its time is over. Raises SandboxLost if the isolated process has ended.
        """
        queue: SimpleQueue = SimpleQueue()
        waiting, unborn, running = deque(trials), deque(), {}
        try:
            while waiting or unborn or running:
                while (not running and unborn) or (not unborn and waiting and len(running) < self.workers):
                    trial = (unborn or waiting).popleft()
                    time.sleep(0.1 * trial.tries)
                    trial.start(queue)
                    if not trial.outcome:
                        running[trial.number] = trial
                if not running:
                    continue
                patience = min(trial.deadline for trial in running.values()) - time.monotonic()
                try:
                    number, kind, payload, at = queue.get(timeout=max(0.0, patience))
                except Empty:
                    for trial in list(running.values()):
                        if trial.deadline <= time.monotonic():
                            trial.overdue()
                else:
                    if number in running:
                        running[number].hear(kind, payload, at, self._answer)
                for trial in running.values():
                    if trial.unborn and not trial.lost and trial.tries < BIRTHS:
                        log.info("sandbox: an action could not begin and is tried again")
                        trial.renew(next(self._numbers))
                        unborn.append(trial)
                running = {n: trial for n, trial in running.items() if not trial.outcome and trial.number == n}
        finally:
            for trial in running.values():  # only if an interrupt, or a tool's outage, came in between
                trial.finish(Failure("killed", "interrupted"))
        for lost in (trial for trial in trials if trial.lost):
            raise SandboxLost(
                f"the sandbox's isolated process has ended ({lost.zygote.ending}) and its sessions are lost; "
                "open new sessions"
            )

    def _await_births(self) -> bool:
        """Whether the pristine interpreter could not be forked at once, but can be now.

        If it could be at once, a session has broken itself. Ends the isolated process and raises SandboxLost if it
        cannot be for GRACE_SECONDS: the processes of an action that was ended are gone by then, but sandlock 0.9 goes on
        counting those that slept.
        """
        began = time.monotonic()
        for attempt in itertools.count():
            with Session(self, self._zygote) as fresh:
                trial = Trial(fresh, "1", next(self._numbers), self.seconds, self.tool_seconds)
                trial.tries = BIRTHS  # once only, after a pause
                self._race([trial])
            if not trial.unborn:
                return attempt > 0
            if time.monotonic() > began + GRACE_SECONDS:
                self._zygote.fail("it could start no interpreter; look for missing memory, processes or disk space")
                raise SandboxLost(f"the sandbox's isolated process was ended: {self._zygote.ending}; open new sessions")

    def _answer(self, trial: Trial, call: bytes) -> bytes:
        """Call the tool, or take the answer that the session's step has already; the reply as JSON."""
        name, args, kwargs = json.loads(call)
        args, kwargs = sound(args), sound(kwargs)
        if name not in self.tools or not isinstance(args, list) or not isinstance(kwargs, dict):
            raise ValueError(f"no such tool call: {name!r}")
        trial.calls.append({"name": name, "args": args, "kwargs": kwargs})
        known, key = trial.session._answers, (name, json.dumps([args, kwargs], sort_keys=True))
        if key not in known:
            try:
                reply = json.dumps({"value": plain(self.tools[name](*args, **kwargs), _refuse)}).encode()
                if len(reply) > wire.FRAME_BYTES:
                    raise ValueError(f"the answer has {len(reply)} bytes, at most {wire.FRAME_BYTES} can be sent")
            except (ConnectionError, TimeoutError):  # an outage: no answer that a model should go on from
                raise
            except Exception as error:  # the code that called the tool is to see it, and may go on
                log.info("sandbox: tool %s failed", name, exc_info=True)
                reply = json.dumps({"error": f"{name} failed: {type(error).__name__}: {str(error)[:2000]}"}).encode()
            known[key] = reply
        return known[key]

    def close(self) -> None:
        """End every process of every session. A second call does nothing."""
        self._closed = True
        for finalizer in (self._finalizer, *(finalizer for _, finalizer in self._retired)):
            finalizer()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse(value: Any) -> None:
    raise TypeError(f"it returned a {type(value).__name__}, expected plain values (text, numbers, lists, dicts)")
