"""The isolated process in which all model-written code runs: how it is started, spoken to and ended.

Owns the choice between `sandlock` (Landlock and seccomp), `bwrap` (namespaces) and limits alone, what each of
them covers, and the two pipes. Knows nothing of sessions, of actions or of what the messages mean.
"""

import contextlib
import json
import logging
import math
import mimetypes
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import weakref
import zoneinfo
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from agentlib.sandbox.inside import child
from agentlib.sandbox.inside import protocol as wire
from agentlib.sandbox.inside.confinement import CONFINED_STEPS
from agentlib.sandbox.inside.workdir import FORK_FOLDER, SCRATCH_BYTES, SCRATCH_FILES

log = logging.getLogger(__name__)

START_SECONDS = 60.0  # loading numpy and sympy on a busy machine
END_SECONDS = 10.0
PROCESSES = 1024  # of all actions together, where the backend can limit them
OPEN_FILES = 1 << 16  # that this process may have, where its hard limit allows
SWEEP_SECONDS = 1.0  # between two looks for processes that actions have left running
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class SandboxLost(RuntimeError):
    """The isolated process could not be started, or has ended with what ran in it; a new session tries to start it again."""


@dataclass(frozen=True)
class Protection:
    """What stands between model-written code and this machine."""

    backend: str
    covers: tuple[str, ...]
    lacks: tuple[str, ...]
    full: bool = False  # files, network, processes, and candidates from each other


def describe(backend: str, confined: bool, filtered: bool) -> Protection:
    """In words, what `backend` covers; `confined` if Landlock (ABI 6) gives each candidate walls of its own, `filtered`
    if system calls are."""
    steps = f"(first {CONFINED_STEPS} steps of a session)"
    folder = (f"a folder of its own for each candidate: {SCRATCH_BYTES >> 20} MB, "
              f"{SCRATCH_FILES} files")  # fmt: skip
    outer = backend != "limits"
    parts = [
        (True, "limits of each action: wall and CPU seconds, memory, open files, output"),
        (True, "no environment of this program"),
        (confined or outer, "files: only the interpreter, its packages and public tables of the system can be read, none written"),
        (filtered or outer, "network: nothing can be reached"),
        (confined or outer, "processes: those outside cannot be signalled"),
        (confined, f"candidates cannot signal, trace or read each other {steps}"),
        (filtered, "candidates share no memory, pipe, open file or queue"),
        (confined, folder),
        (filtered or backend == "sandlock", "system calls are filtered"),
        (outer, "a second wall around the first"),
        (backend == "sandlock", "the number of processes is limited"),
        (backend == "bwrap", "hiding which files exist outside"),
    ]
    covers, lacks = (tuple(text for holds, text in parts if holds is wanted) for wanted in (True, False))
    return Protection(backend, covers, lacks, full=outer and confined and filtered)


# What libraries look up where it exists: they take it for a fault, not for "not there", that it cannot be read.
PUBLIC = (*zoneinfo.TZPATH, *mimetypes.knownfiles, "/proc/cpuinfo", "/proc/meminfo")


def _readable() -> list[str]:
    """What the interpreter needs to read, and nothing else: itself, its packages, the system's shared libraries, PUBLIC."""
    paths = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    paths += [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom"]
    paths += [*PUBLIC, child.__file__, *(str(Path(child.__file__).with_name(f"{name}.py")) for name in child.FILES)]
    return list(dict.fromkeys(path for path in paths if os.path.exists(path)))


def _start_sandlock(command: list[str], scratch: str) -> Any:
    import sandlock

    # Room for the descriptors that it keeps, see RENEWED_AFTER.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    policy = sandlock.Sandbox(
        fs_readable=_readable(), fs_writable=["/dev/null", scratch], clean_env=True, env=ENVIRONMENT, cwd="/",
        max_processes=PROCESSES, no_coredump=True,
    )  # fmt: skip
    piped, inherit = sandlock.StdioMode.PIPED, sandlock.StdioMode.INHERIT
    return policy.popen(command, stdin=piped, stdout=piped, stderr=inherit)


def _start_bwrap(command: list[str], scratch: str) -> Any:
    if not (bwrap := shutil.which("bwrap")):
        raise FileNotFoundError("the program bwrap is not installed")
    binds = [word for path in _readable() if not path.startswith("/dev/") for word in ("--ro-bind", path, path)]
    binds += [word for path in ("/dev/null", "/dev/urandom") for word in ("--dev-bind", path, path)]
    binds += ["--bind", scratch, scratch]
    walls = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    walls += [word for name, value in ENVIRONMENT.items() for word in ("--setenv", name, value)]
    return _popen([bwrap, *walls, *binds, "--remount-ro", "/", "--chdir", "/", *command], "/")


def _start_limits(command: list[str], scratch: str) -> Any:
    # A folder that is gone before any action runs: relative paths lead nowhere where there are no folders of forks.
    with tempfile.TemporaryDirectory(prefix="agentlib-") as nowhere:
        return _popen(command, nowhere)


def _popen(command: list[str], folder: str) -> Any:
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=ENVIRONMENT, cwd=folder,
        start_new_session=True,
    )  # fmt: skip


STARTERS = {"sandlock": _start_sandlock, "bwrap": _start_bwrap, "limits": _start_limits}
# Forks after which new sessions get a new process: sandlock 0.9 keeps a descriptor in this one for every process group.
RENEWED_AFTER = {"sandlock": 1000, "bwrap": math.inf, "limits": math.inf}


def _descendants(pid: int) -> list[int]:
    """Process ids under `pid`, children first; empty where the kernel does not list children."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    found = [int(word) for word in listed.split()]
    return found + [below for one in found for below in _descendants(one)]


def _inside(pid: int) -> tuple[int, int]:
    """A process's id and its group's, as they are known inside; (0, 0) if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()  # not always text: a process chooses its name
        outside = {b"NSpid": pid, b"NSpgid": os.getpgid(pid)}  # known by the same numbers in a kernel without namespaces
    except OSError:
        return 0, 0
    found = dict(line.split(b":", 1) for line in status.splitlines() if line.startswith(tuple(outside)))
    return tuple(int(found[name].split()[-1]) if name in found else number for name, number in outside.items())


class Zygote:
    """The isolated process: sends it messages, hands each message of an interpreter to the queue that waits for it."""

    def __init__(self, backend: str, settings: dict[str, Any]):
        self.backend, self.alive, self.owner = backend, True, os.getpid()
        self.ending = "was the machine out of memory?"  # why it is no longer alive, as far as that is known
        self.listeners: dict[int, SimpleQueue] = {}
        self.doomed: deque[int] = deque()  # of sessions that were dropped; a finaliser must not write itself
        self.lock = threading.Lock()
        self.pids: dict[int, int] = {}  # of the supervisor and the interpreters, as they are known inside
        self.forks = 0  # that were asked for
        self.sessions: weakref.WeakSet = weakref.WeakSet()  # that are open
        self.strays: dict[int, float] = {}  # processes that belong to none of them, and when they were first seen
        ready: SimpleQueue = SimpleQueue()
        self.listeners[0] = ready
        self.scratch = os.path.realpath(tempfile.mkdtemp(prefix="agentlib-"))
        self.folders = re.compile(rf"{re.escape(self.scratch)}(/{re.escape(FORK_FOLDER)}\d+)*")
        inside = settings | {"scratch": self.scratch, "readable": _readable()}
        command = [sys.executable, "-s", "-P", "-B", child.__file__, json.dumps(inside)]
        try:
            self.process = STARTERS[backend](command, self.scratch)
        except BaseException:
            os.rmdir(self.scratch)
            raise
        self.pid = self.process.pid
        self.reader = threading.Thread(target=self._listen, name="sandbox", daemon=True)
        self.reader.start()
        try:
            _, kind, payload, _ = ready.get(timeout=START_SECONDS)
        except Empty:
            kind = payload = b""
        if kind != b"H":
            self.close()
            raise SandboxLost(
                f"the {backend} process "
                + ("ended before it was ready" if kind else f"was not ready within {START_SECONDS:.0f} s")
            )
        del self.listeners[0]
        self.protection = describe(backend, **json.loads(payload))

    def _listen(self) -> None:
        """The reader's thread: whatever ends it, the process ends with it, and all who wait are told."""
        try:
            self._read()
        except Exception as error:
            log.info("sandbox: reading from the isolated process failed", exc_info=True)
            self.fail(f"reading from it failed: {type(error).__name__}: {error}")
        finally:
            with self.lock:
                self.alive = False
            for number, queue in self.listeners.copy().items():
                queue.put((number, b"Z", b"", time.monotonic()))

    def _read(self) -> None:
        received = bytearray()
        source = self.process.stdout.fileno()
        swept = time.monotonic()
        ready = select.poll()  # select.select cannot wait for descriptors above 1023
        ready.register(source, select.POLLIN)
        while True:
            readable = ready.poll(1000 * SWEEP_SECONDS)
            if time.monotonic() > swept + SWEEP_SECONDS:
                self._sweep()
                swept = time.monotonic()
            if not readable:
                continue
            if not (content := os.read(source, 1 << 16)):
                return
            received += content
            now = time.monotonic()
            for number, kind, payload in wire.frames(received):
                if kind == b"P":
                    self.pids[number] = int(payload)
                    continue
                if kind == b"X":
                    self.pids.pop(number, None)
                if queue := self.listeners.get(number):
                    queue.put((number, kind, payload, now))

    def _sweep(self) -> None:
        """Kill what actions have started and no longer belongs to a living interpreter's process group."""
        tree = {pid: _inside(pid) for pid in _descendants(self.pid)}
        supervisor = [pid for pid, (inner, _) in tree.items() if inner == self.pids.get(wire.SUPERVISOR)]
        known = set(self.pids.values())
        found = {pid for top in supervisor or [self.pid] for pid in _descendants(top)}
        found = {pid for pid in found if not known & set(tree.get(pid, known))}
        now = time.monotonic()
        self.strays = {pid: self.strays.get(pid, now) for pid in found}
        for pid, since in self.strays.items():
            if now > since + SWEEP_SECONDS / 2:  # a fork that has just begun is not known yet
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def listen(self, number: int, queue: SimpleQueue) -> bool:
        """Send what interpreter `number` says to `queue`; False if the process has ended."""
        with self.lock:
            if self.alive:
                self.listeners[number] = queue
            return self.alive

    def send(self, number: int, kind: bytes, payload: bytes = b"") -> None:
        """One message to the supervisor; lost if it has ended, which `_listen` reports."""
        with self.lock:
            message = b"".join(wire.frame(self.doomed.popleft(), b"K") for _ in range(len(self.doomed)))
            with contextlib.suppress(OSError, ValueError):
                wire.write_all(self.process.stdin.fileno(), message + wire.frame(number, kind, payload))

    def relative(self, text: str) -> str:
        """A text in which the folders of forks, which differ from one to the next, are named as they are from inside."""
        return self.folders.sub(".", text)

    def fail(self, why: str) -> None:
        """End the process since it is of no use any more; all who wait are told why."""
        log.warning("sandbox: the isolated process is ended, since %s", why)
        self.ending = why
        self._kill()

    def _kill(self) -> None:
        """End the process and all below it, those that left their process group too."""
        for _ in range(50):
            if not (found := _descendants(self.pid)):
                break
            for pid in found:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        with contextlib.suppress(OSError, RuntimeError):
            self.process.kill()

    def close(self) -> None:
        """End every process."""
        if os.getpid() != self.owner:
            return  # a fork of this program has inherited the object, not the process
        if self.alive:
            self._kill()
        try:
            self.process.stdin.close()
            self.process.kill()
            self.process.wait(timeout=END_SECONDS)
        except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
            log.warning("sandbox: ending the isolated process failed (%s)", error)
        self.reader.join(timeout=END_SECONDS)
        self.process.stdout.close()
        try:
            os.rmdir(self.scratch)
        except OSError:  # coreutils, since there may be folders without permissions, or deeper than Python recurses
            for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
                subprocess.run([*command, "--", self.scratch], check=False, stderr=subprocess.DEVNULL)
