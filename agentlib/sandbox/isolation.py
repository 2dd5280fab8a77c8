"""The isolated process in which all model-written code runs: its start, its messages, its end.

Its backend is `sandlock` (Landlock and seccomp), `bwrap` (namespaces) or limits alone; on macOS
`sandbox-exec` (a profile of the system's own sandbox).
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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from agentlib.sandbox.inside import child
from agentlib.sandbox.inside import protocol as wire
from agentlib.sandbox.inside.confinement import LANDLOCK_STEPS
from agentlib.sandbox.inside.workdir import FORK_FOLDER, MAX_SCRATCH_BYTES, MAX_SCRATCH_FILES

log = logging.getLogger(__name__)

START_SECONDS = 60.0  # loading numpy and sympy on a busy machine
END_SECONDS = 10.0
MAX_PROCESSES = 1024  # of all actions together, where the backend can limit them
PARENT_OPEN_FILES = 1 << 16  # limit of this process, where its hard limit allows
SWEEP_SECONDS = 1.0  # between two looks for processes that actions have left running
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class SandboxLost(RuntimeError):
    """The isolated process could not be started, or has ended with all that ran in it.

    A new session tries to start it again.
    """


@dataclass(frozen=True)
class Protection:
    """What separates model-written code from this machine, in words."""

    backend: str
    covers: tuple[str, ...]
    lacks: tuple[str, ...]
    full: bool = False  # files, network, processes, and candidates from each other


MACOS_BACKEND = "sandbox-exec"
MACOS_COVERS = (
    "limits of each action: wall and CPU seconds, open files, output",
    "no environment of this program",
    "files: nothing is written outside the scratch folder; nothing is read in home folders, "
    "temporary folders and volumes, but for the interpreter and its packages",
    "network: nothing can be reached",
    "processes: those outside cannot be signalled, no other program is started",
)
MACOS_LACKS = (
    "it has never been run on a real Mac by its authors, only with a stand-in on Linux",
    "no limit of memory or of the number of processes",
    "candidates can signal each other, and read and write each other's scratch folders",
    "system files outside home and temporary folders can be read",
    "system calls and services of macOS are not filtered",
    "processes that an action leaves running in a session of their own are not found",
    "an action that rewrites its interpreter can pretend to be another process",
    "if the supervisor is killed, actions run on until their CPU seconds are used up",
)


def describe(backend: str, confined: bool, filtered: bool) -> Protection:
    """What `backend` covers and lacks.

    `confined`: Landlock (version 6) gives each candidate its own walls. `filtered`: system calls
    are refused from inside.
    """
    if backend == MACOS_BACKEND:
        return Protection(backend, MACOS_COVERS, MACOS_LACKS)
    steps = f"(first {LANDLOCK_STEPS} steps of a session)"
    folder = (
        f"a folder of its own for each candidate: {MAX_SCRATCH_BYTES >> 20} MB, "
        f"{MAX_SCRATCH_FILES} files"
    )
    files = (
        "files: only the interpreter, its packages and public tables of the system can be read, "
        "none written"
    )
    outer = backend != "limits"
    parts = [
        (True, "limits of each action: wall and CPU seconds, memory, open files, output"),
        (True, "no environment of this program"),
        (confined or outer, files),
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
    covers = tuple(text for holds, text in parts if holds)
    lacks = tuple(text for holds, text in parts if not holds)
    return Protection(backend, covers, lacks, full=outer and confined and filtered)


# What libraries read if it exists: that they may not read it would be an error to them.
PUBLIC_FILES = (*zoneinfo.TZPATH, *mimetypes.knownfiles, "/proc/cpuinfo", "/proc/meminfo")


def _readable_paths() -> list[str]:
    """All that can be read inside: Python, its packages, shared libraries, PUBLIC_FILES."""
    paths = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    paths += [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"]
    paths += ["/dev/null", "/dev/urandom"]
    paths += [*PUBLIC_FILES, child.__file__]
    paths += [str(Path(child.__file__).with_name(f"{name}.py")) for name in child.FILES]
    return list(dict.fromkeys(path for path in paths if os.path.exists(path)))


def _start_sandlock(command: list[str], scratch: str) -> Any:
    import sandlock

    # Room for the descriptors that it keeps, see FORKS_BEFORE_RENEWAL.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = PARENT_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, PARENT_OPEN_FILES)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    policy = sandlock.Sandbox(
        fs_readable=_readable_paths(),
        fs_writable=["/dev/null", scratch],
        clean_env=True,
        env=ENVIRONMENT,
        cwd="/",
        max_processes=MAX_PROCESSES,
        no_coredump=True,
    )
    piped, inherit = sandlock.StdioMode.PIPED, sandlock.StdioMode.INHERIT
    return policy.popen(command, stdin=piped, stdout=piped, stderr=inherit)


def _start_bwrap(command: list[str], scratch: str) -> Any:
    if not (bwrap := shutil.which("bwrap")):
        raise FileNotFoundError("the program bwrap is not installed")
    binds = []
    for path in _readable_paths():
        binds += ["--dev-bind" if path.startswith("/dev/") else "--ro-bind", path, path]
    binds += ["--bind", scratch, scratch]
    walls = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    walls += ["--clearenv"]
    for name, value in ENVIRONMENT.items():
        walls += ["--setenv", name, value]
    return _popen([bwrap, *walls, *binds, "--remount-ro", "/", "--chdir", "/", *command], "/")


def _start_limits(command: list[str], scratch: str) -> Any:
    # This folder is gone before any action runs, so that without folders of forks relative paths
    # lead nowhere.
    with tempfile.TemporaryDirectory(prefix="agentlib-") as nowhere:
        return _popen(command, nowhere)


def _popen(command: list[str], folder: str) -> Any:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=ENVIRONMENT,
        cwd=folder,
        start_new_session=True,
    )


def macos_profile(scratch: str, readable: list[str], private: Sequence[str]) -> str:
    """The profile for `sandbox-exec`, in its Scheme; of several rules that match, the last holds.

    Nothing is written but in `scratch`, no connection is made, no program but this interpreter is
    started and only processes under the same profile are signalled. What is in the folders
    `private` is not read, except for `scratch` and the paths in `readable`. All paths are real
    ones, because macOS compares those.
    """

    def matching(paths: Iterable[str]) -> str:
        return " ".join(f"(subpath {json.dumps(path, ensure_ascii=False)})" for path in paths)

    interpreters = [os.path.realpath(sys.executable), *_framework_python()]
    return "\n".join(
        (
            "(version 1)",
            "(allow default)",
            "(deny network*)",
            "(deny file-write*)",
            f'(allow file-write* {matching([scratch])} (literal "/dev/null"))',
            f"(deny file-read-data {matching(private)})",
            f"(allow file-read-data {matching([*readable, scratch])})",
            "(deny process-exec*)",
            f"(allow process-exec* {matching(dict.fromkeys([sys.executable, *interpreters]))})",
            "(deny signal)",
            "(allow signal (target same-sandbox))",
        )
    )


def _framework_python() -> list[str]:
    """The program that a framework build of Python, such as python.org's, starts in its place."""
    inner = os.path.join(sys.base_prefix, "Resources", "Python.app")
    return [inner] if os.path.exists(inner) else []


# What people keep for themselves on a Mac; `realpath` because /tmp and /var are links there.
PRIVATE_FOLDERS = ("~", "/Users", "/Volumes", "/tmp", "/var/tmp", "/var/folders", "/var/root")


def _start_macos(command: list[str], scratch: str) -> Any:
    if not (program := shutil.which(MACOS_BACKEND)):
        raise FileNotFoundError(f"the program {MACOS_BACKEND} is not on this machine's PATH")
    private = [os.path.realpath(os.path.expanduser(path)) for path in PRIVATE_FOLDERS]
    private.append(os.path.realpath(tempfile.gettempdir()))
    readable = [path for path in map(os.path.realpath, _readable_paths()) if path not in private]
    readable += [sys.executable]
    profile = macos_profile(scratch, list(dict.fromkeys(readable)), list(dict.fromkeys(private)))
    return _popen([program, "-p", profile, *command], "/")


STARTERS = {
    "sandlock": _start_sandlock,
    "bwrap": _start_bwrap,
    "limits": _start_limits,
    MACOS_BACKEND: _start_macos,
}
AUTOMATIC = ("sandlock", "bwrap", "limits")  # what "auto" tries, in this order
# After so many forks new sessions get a new process: sandlock 0.9 keeps a descriptor in this one
# for every process group.
FORKS_BEFORE_RENEWAL = dict.fromkeys(STARTERS, math.inf) | {"sandlock": 1000}


def _descendants(pid: int) -> list[int]:
    """Process ids under `pid`, children first; empty where the kernel does not list children."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    found = [int(word) for word in listed.split()]
    return found + [below for one in found for below in _descendants(one)]


def _ids_inside(pid: int) -> tuple[int, int]:
    """A process's id and its group's, as they are known inside; (0, 0) if it has ended."""
    try:
        # Bytes, since a process chooses its name, which need not be text.
        status = Path(f"/proc/{pid}/status").read_bytes()
        # A kernel without namespaces gives no other ids than these.
        ids = {b"NSpid": pid, b"NSpgid": os.getpgid(pid)}
    except OSError:
        return 0, 0
    for line in status.splitlines():
        name, _, values = line.partition(b":")
        if name in ids:
            ids[name] = int(values.split()[-1])  # the last is that of the innermost namespace
    return ids[b"NSpid"], ids[b"NSpgid"]


class Zygote:
    """The isolated process: sends it messages, and puts its messages into the queues that wait.

    `settings` are for the interpreters. Raises SandboxLost if it does not start, and whatever
    the backend raises.
    """

    def __init__(self, backend: str, settings: dict[str, Any]):
        self.backend, self.alive, self.owner_pid = backend, True, os.getpid()
        self.end_reason = "was the machine out of memory?"  # unless another is known
        self.listeners: dict[int, SimpleQueue] = {}
        # Interpreters of sessions that were garbage-collected: a finaliser must not write itself.
        self.to_kill: deque[int] = deque()
        self.lock = threading.Lock()
        self.pids: dict[int, int] = {}  # of supervisor and interpreters, as they are known inside
        self.forks = 0  # requested so far
        self.sessions: weakref.WeakSet = weakref.WeakSet()  # the open ones
        self.orphans: dict[int, float] = {}  # processes of no interpreter, and when first seen
        ready: SimpleQueue = SimpleQueue()
        self.listeners[0] = ready
        self.scratch = os.path.realpath(tempfile.mkdtemp(prefix="agentlib-"))
        self.folders = re.compile(rf"{re.escape(self.scratch)}(/{re.escape(FORK_FOLDER)}\d+)*")
        inside = settings | {"scratch": self.scratch, "readable": _readable_paths()}
        inside["portable"] = backend == MACOS_BACKEND
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
        if kind != wire.STARTED:
            self.close()
            late = f"was not ready within {START_SECONDS:.0f} s"
            why = "ended before it was ready" if kind else late
            raise SandboxLost(f"the {backend} process {why}")
        del self.listeners[0]
        self.protection = describe(backend, **json.loads(payload))

    def _listen(self) -> None:
        """The reader's thread: whatever ends it ends the process too, and all who wait are told."""
        try:
            self._read()
        except Exception as error:
            log.info("sandbox: reading from the isolated process failed", exc_info=True)
            self.abort(f"reading from it failed: {type(error).__name__}: {error}")
        finally:
            with self.lock:
                self.alive = False
            for number, queue in self.listeners.copy().items():
                queue.put((number, wire.LOST, b"", time.monotonic()))

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
            for number, kind, payload in wire.decode_frames(received):
                if kind == wire.PROCESS:
                    self.pids[number] = int(payload)
                    continue
                if kind == wire.ENDED:
                    self.pids.pop(number, None)
                if queue := self.listeners.get(number):
                    queue.put((number, kind, payload, now))

    def _sweep(self) -> None:
        """Kill what actions have started and is in no living interpreter's process group."""
        ids = {pid: _ids_inside(pid) for pid in _descendants(self.pid)}
        top = self.pids.get(wire.SUPERVISOR)
        supervisors = [pid for pid, (inside, _) in ids.items() if inside == top] or [self.pid]
        known = set(self.pids.values())
        now = time.monotonic()
        # A process that was not there when the ids were read waits for the next look.
        self.orphans = {
            pid: self.orphans.get(pid, now)
            for supervisor in supervisors
            for pid in _descendants(supervisor)
            if pid in ids and known.isdisjoint(ids[pid])
        }
        for pid, since in self.orphans.items():
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
            message = b""
            while self.to_kill:
                message += wire.encode_frame(self.to_kill.popleft(), wire.KILL)
            message += wire.encode_frame(number, kind, payload)
            with contextlib.suppress(OSError, ValueError):
                wire.write_all(self.process.stdin.fileno(), message)

    def hide_folders(self, text: str) -> str:
        """The text with "." for every fork's folder, so that equal results have equal texts."""
        return self.folders.sub(".", text)

    def abort(self, why: str) -> None:
        """End the process, since it is of no use any more; all who wait are told why."""
        log.warning("sandbox: the isolated process is ended, since %s", why)
        self.end_reason = why
        self._kill()

    def _kill(self) -> None:
        """End the process and all its descendants, even those that left their process group."""
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
        if os.getpid() != self.owner_pid:
            return  # this is a fork of the program, which inherited the object and not the process
        if self.alive:
            self._kill()
        try:
            self.process.stdin.close()
            self.process.kill()
            self.process.wait(timeout=END_SECONDS)
        except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
            log.warning("sandbox: end_reason the isolated process failed (%s)", error)
        self.reader.join(timeout=END_SECONDS)
        self.process.stdout.close()
        try:
            os.rmdir(self.scratch)
        except OSError:  # coreutils cope with folders without permissions, and with very deep ones
            for words in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
                command = [*words, "--", self.scratch]
                subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
