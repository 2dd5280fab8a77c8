"""The interpreters of the sandbox: processes that run one action each, and then are a snapshot to be forked again.

Owns the running of an action, its limits, and the fork. Knows nothing of sessions or of who asks. Its walls are
`sandbox_walls`', its folder `sandbox_scratch`'s, its words `sandbox_report`'s. It runs inside the sandbox.
"""

import contextlib
import ctypes
import fcntl
import gc
import io
import json
import linecache
import mmap
import os
import random
import resource
import signal
import socket
import sys
import threading
import types
import warnings
from collections.abc import Collection
from typing import Any

from agentlib.sandbox.inside import confinement as walls
from agentlib.sandbox.inside import protocol as wire
from agentlib.sandbox.inside import results as report
from agentlib.sandbox.inside import workdir as scratch

PYTHON = ctypes.PyDLL(None)  # the C library, called without letting go of the interpreter
FILE_BYTES = 16 << 20
SPARE_BYTES = 64 << 20  # memory that an interpreter has left to say that it has none left
KEPT = ("sys", "types")  # modules that actions and what runs them share


class FinalAnswer(BaseException):
    """Ends an action; not an Exception, so that `except Exception` lets it pass."""


class Capped(io.RawIOBase):
    """Descriptor 1 or 2 for the first bytes printed in an action; the rest is dropped, so a flood costs nothing."""

    def __init__(self, fd: int) -> None:
        self.fd, self.room = fd, 0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        """Never closed: the text stream around it is replaced at each action."""

    def write(self, content: Any) -> int:
        kept = bytes(content[: max(0, self.room)])
        self.room -= len(kept)
        if kept:
            os.write(self.fd, kept)
        return len(content)


class Interpreter:
    """One process: it runs one action, then waits to be forked. `serve` never returns."""

    def __init__(self, channel: int, settings: dict[str, Any]):
        self.channel, self.settings, self.step = channel, settings, 0
        self.folder, self.dead = settings["scratch"], scratch.dead_end()
        self.written: scratch.Entries = []  # what lies in the folder after the action
        self.pid, self.lock = os.getpid(), threading.Lock()
        self.final: list[Any] = []
        self.main = types.ModuleType("__main__")
        sys.modules["__main__"] = self.main
        self.outputs = Capped(1), Capped(2)
        self.names = {"final_answer": self.final_answer} | {name: self.tool(name) for name in settings["tools"]}

    def serve(self) -> None:
        """Fork on request; a fork runs its code, reports, and serves in turn."""
        channel = socket.socket(fileno=self.channel)
        self.rest()
        while True:
            try:
                request, passed, _, _ = socket.recv_fds(channel, wire.HEADER.size, 4)
            except OSError:
                os._exit(1)
            if len(request) < wire.HEADER.size or len(passed) != 4:
                os._exit(0)
            try:
                pid = quick_fork()
            except OSError:
                pid = -1
            if pid:
                for fd in passed:
                    os.close(fd)
                continue
            channel.close()
            channel = socket.socket(fileno=passed[0])
            try:
                self.begin(*passed, wire.HEADER.unpack(request)[1])
            except BaseException as error:  # the machine is full, or an earlier action broke its own interpreter
                self.write(b"E", repr(error)[:500].encode("utf-8", "replace"))
                os._exit(1)
            _, request = self.read()
            result = self.execute(json.loads(request)["code"])
            if os.getpid() != self.pid:
                os._exit(0)  # a process that the action forked has come to the end of the action: not its turn
            self.written = scratch.entries(self.folder)[0] if self.folder else []
            self.rest()
            self.write(b"D", json.dumps(result).encode())

    def rest(self) -> None:
        """From now on only a snapshot: forks that end are forgotten by the kernel, and no alarm goes off."""
        self.on_child = signal.signal(signal.SIGCHLD, signal.SIG_IGN) or signal.SIG_DFL
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE):
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (hard, hard))

    def begin(self, channel: int, output: int, errors: int, collar: int, number: int) -> None:
        """Become the fork: own process group, channel, outputs, folder, files and limits."""
        self.channel, self.pid, self.step = channel, os.getpid(), self.step + 1
        self.lock, self.final = threading.Lock(), []
        signal.signal(signal.SIGCHLD, self.on_child)
        os.setsid()  # a process group of its own, and a share of the processor of its own: a fork bomb must not starve who ends it
        for given, capped in zip((output, errors), self.outputs, strict=True):
            os.dup2(given, capped.fd)
            os.close(given)
            capped.room = wire.STDOUT_BYTES + 1
        sys.stdout, sys.stderr = (io.TextIOWrapper(c, "utf-8", "replace", write_through=True) for c in self.outputs)
        os.set_inheritable(channel, False)
        # If the supervisor goes, the other end of this pipe does, and the kernel kills this process group.
        os.set_inheritable(collar, False)
        fcntl.fcntl(collar, 10, signal.SIGKILL)  # F_SETSIG
        fcntl.fcntl(collar, fcntl.F_SETOWN, -self.pid)
        fcntl.fcntl(collar, fcntl.F_SETFL, fcntl.fcntl(collar, fcntl.F_GETFL) | os.O_ASYNC)
        origin = self.folder
        if origin:
            self.folder = f"{origin}/{scratch.FORK_FOLDER}{number}"
            os.mkdir(self.folder, 0o700)
            scratch.copy_scratch(self.written, origin, self.folder)
            if "tempfile" in sys.modules:
                sys.modules["tempfile"].tempdir = None  # it may have chosen the origin's folder
        spared = {channel, collar, self.dead, *self.settings["readable"]}
        scratch.own_files(self.written, origin, self.folder, spared, self.dead)
        if origin:
            place = scratch.enter(self.folder)
            if self.step <= walls.CONFINED_STEPS and not walls.confine(self.settings["readable"], place):
                raise OSError("the walls of a candidate could not be raised")
            os.close(place)
        self.allow(self.settings["cpu_seconds"], self.settings["memory_bytes"])
        self.write(b"H")

    def allow(self, cpu_seconds: int, memory_bytes: int) -> None:
        """Soft limits of this action; the hard ones leave room to report and to wait."""
        limits = {resource.RLIMIT_CPU: cpu_seconds, resource.RLIMIT_AS: memory_bytes,
                  resource.RLIMIT_NOFILE: scratch.OPEN_FILES - 16}  # fmt: skip
        for kind, soft in limits.items():
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))

    def write(self, kind: bytes, payload: bytes = b"") -> None:
        wire.write_all(self.channel, wire.frame(0, kind, payload))

    def read(self) -> tuple[bytes, bytes]:
        """The next message (kind, payload) to this interpreter, exactly: what follows it may carry descriptors."""

        def exactly(size: int) -> bytes:
            content = b""
            while len(content) < size:
                part = os.read(self.channel, min(size - len(content), 1 << 20))
                if not part:
                    os._exit(0)
                content += part
            return content

        size, _, kind = wire.HEADER.unpack(exactly(wire.HEADER.size))
        return kind, exactly(size)

    def final_answer(self, answer: Any = None) -> None:
        """Give the answer to the question; nothing after this call runs."""
        if not self.final:
            self.final.append(report.bounded(report.plain(answer)))
        raise FinalAnswer

    def tool(self, name: str):
        """A function that asks the parent to call the tool `name`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            def refuse(value: Any) -> None:
                raise TypeError(f"{name}() takes plain values (text, numbers, lists, dicts), not {type(value).__name__}")

            request = json.dumps([name, report.plain(args, refuse), report.plain(kwargs, refuse)]).encode()
            if os.getpid() != self.pid:
                raise RuntimeError(f"{name}() can only be called by the action itself, not by a process it started")
            if len(request) > wire.FRAME_BYTES // 2:
                raise ValueError(f"{name}() was given {len(request)} bytes, at most {wire.FRAME_BYTES // 2} can be sent")
            with self.lock:
                self.write(b"C", request)
                reply = json.loads(self.read()[1])
            if "error" in reply:
                raise RuntimeError(reply["error"])
            return reply["value"]

        call.__name__ = call.__qualname__ = name
        return call

    def execute(self, code: str) -> dict[str, Any]:
        """Run one action in the session's namespace; what happened, as plain values."""
        source = f"<action {self.step}>"
        value, failure = "", None
        self.main.__dict__.update(self.names)
        try:
            try:
                linecache.cache[source] = (len(code), None, code.splitlines(keepends=True), source)
                body, last = report.compiled(code, source)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                failure = ["parse", report.explained(error)]
            else:
                exec(body, self.main.__dict__)
                if last is not None:
                    value = report.shown(eval(last, self.main.__dict__))
        except BaseException as error:  # whatever an action raises is its outcome, SystemExit and all
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
            failure = None if isinstance(error, FinalAnswer) else [report.kind_of(error), report.explained(error)]
        final = bool(self.final)
        return {
            "value": "" if final else value, "failure": None if final else failure,
            "is_final": final, "answer": self.final[0] if final else None,
        }  # fmt: skip


def quick_fork() -> int:
    """`os.fork` without Python's hooks, which cost as much as the fork and mend only what other threads left behind."""
    if len(sys._current_frames()) == 1:
        return PYTHON.fork()
    randomness = random.getstate()
    pid = os.fork()
    if pid == 0:
        random.setstate(randomness)  # Python's hooks reseed, but a fork must equal its origin
    return pid


def collapse() -> None:
    """Have the kernel keep Python's objects in pages of 2 MB: a fork then copies a few hundred entries, not 12,000.

    Best effort: the kernel may refuse, and nothing but time depends on it.
    """
    size = 1 << 21
    for place in {id(thing) // size for thing in gc.get_objects()}:
        PYTHON.madvise(ctypes.c_void_p(place * size), ctypes.c_size_t(size), 25)  # MADV_COLLAPSE, Linux 6.1


def address_space() -> int:
    """Bytes of address space in use, found by asking for a megabyte under ever closer limits: /proc may be absent."""
    low, high = 0, 1 << 46
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    while high - low > 1 << 20:
        middle = (low + high) // 2
        resource.setrlimit(resource.RLIMIT_AS, (middle if hard < 0 else min(middle, hard), hard))
        try:
            mmap.mmap(-1, 1 << 20).close()
            high = middle
        except (OSError, MemoryError):
            low = middle
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return high


def keep(own: Collection[types.ModuleType]) -> None:
    """Give the modules that run actions copies of those they import, in which an action cannot replace functions."""
    for module in own:
        for name, value in list(vars(module).items()):
            if isinstance(value, types.ModuleType) and value not in own and name not in KEPT:
                setattr(module, name, types.SimpleNamespace(**vars(value)))


def be_root(channel: int, settings: dict[str, Any], own: Collection[types.ModuleType]) -> None:
    """Be the interpreter that all others are forks of, to the end of this process. `own` are the modules that run actions."""
    try:
        root(channel, settings, own).serve()
    finally:
        os._exit(1)


def root(channel: int, settings: dict[str, Any], own: Collection[types.ModuleType]) -> Interpreter:
    """An interpreter with numpy and sympy loaded, limits set, no environment, behind its walls; it has said so."""
    silence = os.open("/dev/null", os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 1)
    import numpy
    import sympy  # noqa: F401

    os.dup2(silence, 2)
    os.closerange(3, channel)
    os.closerange(channel + 1, scratch.OPEN_FILES)
    os.environ.clear()
    os.environ["HOME"] = "."  # the fork's own folder: libraries that keep a cache there complain where they find no home
    sys.argv = [""]
    warnings.formatwarning = report.warned
    if int(numpy.__version__.partition(".")[0]) > 1:
        numpy.set_printoptions(legacy="1.25")  # [1, 2], not [np.int64(1), np.int64(2)]: as much output as without numpy
    sys.set_int_max_str_digits(0)  # a sum of a thousand digits is an ordinary result here; the clock is the limit
    random.seed(0)
    numpy.random.seed(0)
    settings["cpu_seconds"] = int(settings["seconds"]) + 2
    settings["memory_bytes"] = address_space() + (settings["memory_mb"] << 20)
    cpu = settings["cpu_seconds"] + 30
    limits = {
        resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: cpu, resource.RLIMIT_NOFILE: scratch.OPEN_FILES,
        resource.RLIMIT_FSIZE: FILE_BYTES, resource.RLIMIT_AS: settings["memory_bytes"] + SPARE_BYTES,
    }  # fmt: skip
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))
    gc.collect()
    collapse()
    gc.freeze()  # collections in a fork need not touch, and so copy, what was loaded here
    keep(own)
    settings["readable"] = walls.hold(settings["readable"])
    if not walls.confine(settings["readable"], place := scratch.enter(settings["scratch"])):
        os.chmod(settings["scratch"], 0)  # candidates could meet in a folder, so there is none
        os.chdir("/")
        settings["scratch"] = ""
    os.close(place)
    standing = {"confined": bool(settings["scratch"]), "filtered": walls.filter_calls()}
    interpreter = Interpreter(channel, settings)
    interpreter.write(b"H", json.dumps(standing).encode())
    return interpreter
