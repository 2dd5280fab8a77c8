"""The interpreters of the sandbox: each process runs one action, and then waits to be forked again.

It holds the running of an action, its limits, and the fork. It runs inside the sandbox.
"""

import contextlib
import ctypes
import fcntl
import gc
import inspect
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
from collections.abc import Callable, Collection
from typing import Any

from agentlib.sandbox.inside import confinement as walls
from agentlib.sandbox.inside import protocol as wire
from agentlib.sandbox.inside import results as report
from agentlib.sandbox.inside import workdir as scratch

LIBC = ctypes.PyDLL(None)  # called without letting go of the interpreter's lock
MADV_COLLAPSE = 25  # <linux/mman.h>, Linux 6.1
HUGE_PAGE_BYTES = 2 << 20
MAX_FILE_BYTES = 16 << 20
SPARE_BYTES = 64 << 20  # of memory, to report that an action has used up its own
SPARE_CPU_SECONDS = 30  # after those of an action, to report and to be forked from
SHARED_MODULES = ("sys", "types")  # the only ones that actions and their runner have in common


class FinalAnswer(BaseException):
    """Ends an action; not an Exception, so that `except Exception` lets it pass."""


class CappedOutput(io.RawIOBase):
    """Descriptor 1 or 2 for the first bytes that an action prints; the rest is dropped."""

    def __init__(self, fd: int) -> None:
        self.fd, self.bytes_left = fd, 0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        """Do nothing: the text stream around it is replaced at each action."""

    def write(self, content: Any) -> int:
        kept = bytes(content[: max(0, self.bytes_left)])
        self.bytes_left -= len(kept)
        if kept:
            os.write(self.fd, kept)
        return len(content)


class Interpreter:
    """One process: it runs one action, then waits to be forked. `serve` never returns."""

    def __init__(self, channel: int, settings: dict[str, Any]):
        self.channel, self.settings, self.step = channel, settings, 0
        self.folder, self.dead_end = settings["scratch"], scratch.open_dead_end()
        self.written: scratch.Entries = []  # what is in the folder after the action
        self.pid, self.lock = os.getpid(), threading.Lock()
        self.final: list[Any] = []
        self.main = types.ModuleType("__main__")
        sys.modules["__main__"] = self.main
        self.outputs = CappedOutput(1), CappedOutput(2)
        tools = {name: self.make_tool(name) for name in settings["tools"]}
        self.names = {"final_answer": self.final_answer} | tools

    def serve(self) -> None:
        """Fork on request; a fork runs its code, reports, and serves in turn."""
        channel = socket.socket(fileno=self.channel)
        self.become_snapshot()
        while True:
            try:
                request, passed, _, _ = socket.recv_fds(channel, wire.HEADER.size, 4)
            except OSError:
                os._exit(1)
            if len(request) < wire.HEADER.size or len(passed) != 4:
                os._exit(0)
            if quick_fork():  # in the origin, also if it failed: the supervisor sees the fork's end
                for fd in passed:
                    os.close(fd)
                continue
            channel.close()
            channel = socket.socket(fileno=passed[0])
            try:
                self.become_fork(*passed, wire.HEADER.unpack(request)[1])
            except BaseException as error:  # the machine is full, or the session broken
                self.write(wire.START_FAILED, repr(error)[:500].encode("utf-8", "replace"))
                os._exit(1)
            _, request = self.read()
            result = self.execute(json.loads(request)["code"])
            if os.getpid() != self.pid:
                os._exit(0)  # the action forked, and this process of its own has run to the end
            self.written = scratch.list_entries(self.folder)[0] if self.folder else []
            self.become_snapshot()
            self.write(wire.DONE, json.dumps(result).encode())

    def become_snapshot(self) -> None:
        """Wait to be forked: the kernel forgets forks that end, and no alarm goes off."""
        self.on_child = signal.signal(signal.SIGCHLD, signal.SIG_IGN) or signal.SIG_DFL
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        set_soft_limit(resource.RLIMIT_CPU, None)
        set_soft_limit(resource.RLIMIT_NOFILE, None)

    def become_fork(
        self, channel: int, output: int, errors: int, lifeline_read: int, number: int
    ) -> None:
        """Take what a fork has for itself: process group, channel, outputs, folder, files, limits.

        The descriptors are those of `Supervisor.fork`, `number` is its number. Raises OSError.
        """
        self.channel, self.pid, self.step = channel, os.getpid(), self.step + 1
        self.lock, self.final = threading.Lock(), []
        signal.signal(signal.SIGCHLD, self.on_child)
        # A session gets its own share of the processor: a fork bomb must not starve who ends it.
        os.setsid()
        for given, capped in zip((output, errors), self.outputs, strict=True):
            os.dup2(given, capped.fd)
            os.close(given)
            capped.bytes_left = wire.MAX_OUTPUT_BYTES + 1
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(c, "utf-8", "replace", write_through=True) for c in self.outputs
        )
        os.set_inheritable(channel, False)
        self.die_with(lifeline_read)
        origin = self.folder
        if origin:
            self.folder = f"{origin}/{scratch.FORK_FOLDER}{number}"
            os.mkdir(self.folder, 0o700)
            scratch.copy_entries(self.written, origin, self.folder)
            if "tempfile" in sys.modules:
                sys.modules["tempfile"].tempdir = None  # it may be the origin's folder
        spared = {channel, lifeline_read, self.dead_end, *self.settings["readable"]}
        scratch.separate_files(self.written, origin, self.folder, spared, self.dead_end)
        if origin:
            place = scratch.enter_folder(self.folder)
            confine = self.step <= walls.LANDLOCK_STEPS and not self.settings["portable"]
            if confine and not walls.apply_landlock(self.settings["readable"], place):
                raise OSError("Landlock could not be applied to this candidate")
            os.close(place)
        set_soft_limit(resource.RLIMIT_CPU, self.settings["cpu_seconds"])
        self.limit_memory(self.settings["memory_bytes"])
        set_soft_limit(resource.RLIMIT_NOFILE, scratch.MAX_OPEN_FILES - scratch.RUNNER_FILES)
        self.write(wire.STARTED, b"%d" % self.pid if self.settings["portable"] else b"")

    def limit_memory(self, limit: int | None) -> None:
        """Limit the address space, None is as much as the hard limit allows; macOS has none."""
        if not self.settings["portable"]:
            set_soft_limit(resource.RLIMIT_AS, limit)

    def die_with(self, lifeline_read: int) -> None:
        """Have the kernel kill this process group when the pipe's other end closes.

        macOS cannot: there an action that the supervisor could not end stops at its CPU limit.
        """
        os.set_inheritable(lifeline_read, False)
        if self.settings["portable"]:
            return
        fcntl.fcntl(lifeline_read, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline_read, fcntl.F_SETOWN, -self.pid)
        flags = fcntl.fcntl(lifeline_read, fcntl.F_GETFL)
        fcntl.fcntl(lifeline_read, fcntl.F_SETFL, flags | os.O_ASYNC)

    def write(self, kind: bytes, payload: bytes = b"") -> None:
        wire.write_all(self.channel, wire.encode_frame(0, kind, payload))

    def read(self) -> tuple[bytes, bytes]:
        """The next message to this interpreter: its kind and payload.

        Not a byte more is read: what follows may carry descriptors.
        """
        size, _, kind = wire.HEADER.unpack(self.read_bytes(wire.HEADER.size))
        return kind, self.read_bytes(size)

    def read_bytes(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            part = os.read(self.channel, min(size - len(content), 1 << 20))
            if not part:
                os._exit(0)
            content += part
        return content

    def final_answer(self, answer: Any = None) -> None:
        """Give the answer to the question; nothing after this call runs.

        Raises TypeError for a function, a class or a module, whose text says nothing.
        """
        if inspect.isroutine(answer) or inspect.isclass(answer) or inspect.ismodule(answer):
            raise TypeError(
                "final_answer() takes the answer itself (text, a number, a list, a dict), not"
                f" {getattr(answer, '__name__', 'a function')!r}, which is a"
                f" {type(answer).__name__}"
            )
        if not self.final:
            self.final.append(report.truncate_answer(report.to_plain(answer)))
        raise FinalAnswer

    def make_tool(self, name: str) -> Callable[..., Any]:
        """A function that has the program call the tool `name`, and returns what that returned.

        It raises TypeError for arguments that are not plain values, ValueError if they are too
        long, and RuntimeError if the tool raises or if a process of the action calls it.
        """

        def refuse(value: Any) -> None:
            raise TypeError(
                f"{name}() takes plain values (text, numbers, lists, dicts), "
                f"not {type(value).__name__}"
            )

        def call(*args: Any, **kwargs: Any) -> Any:
            plain = [name, report.to_plain(args, refuse), report.to_plain(kwargs, refuse)]
            request = json.dumps(plain).encode()
            if os.getpid() != self.pid:
                raise RuntimeError(
                    f"{name}() can only be called by the action itself, not by a process it started"
                )
            if len(request) > wire.MAX_FRAME_BYTES // 2:
                raise ValueError(
                    f"{name}() was given {len(request)} bytes, "
                    f"at most {wire.MAX_FRAME_BYTES // 2} can be sent"
                )
            with self.lock:
                self.write(wire.TOOL_CALL, request)
                reply = json.loads(self.read()[1])
            if "error" in reply:
                raise RuntimeError(reply["error"])
            return reply["value"]

        call.__name__ = call.__qualname__ = name
        return call

    def execute(self, code: str) -> dict[str, Any]:
        """Run one action in the session's namespace; what happened, as plain values."""
        source = f"{report.SOURCE}{self.step}>"
        value, failure = "", None
        self.main.__dict__.update(self.names)
        try:
            try:
                linecache.cache[source] = (len(code), None, code.splitlines(keepends=True), source)
                body, last = report.compile_code(code, source)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                failure = ["parse", report.format_error(error)]
            else:
                exec(body, self.main.__dict__)
                if last is not None:
                    value = report.format_value(eval(last, self.main.__dict__))
        except FinalAnswer:
            self.limit_memory(None)
        except BaseException as error:  # whatever an action raises is its outcome, SystemExit too
            self.limit_memory(None)
            failure = [report.classify_error(error), report.format_error(error)]
        if self.final:  # even if the code went on after a bare `except`
            return {"value": "", "failure": None, "is_final": True, "answer": self.final[0]}
        return {"value": value, "failure": failure, "is_final": False, "answer": None}


def set_soft_limit(kind: int, limit: int | None) -> None:
    """Limit what this process uses of a resource; None is as much as its hard limit allows."""
    hard = resource.getrlimit(kind)[1]
    if limit is None or (hard != resource.RLIM_INFINITY and limit > hard):
        limit = hard
    resource.setrlimit(kind, (limit, hard))


def quick_fork() -> int:
    """Fork without Python's hooks, which take as long as the fork; -1 if it fails.

    They only repair what other threads left behind, so with several threads they are run.
    """
    if len(sys._current_frames()) == 1:
        return LIBC.fork()
    randomness = random.getstate()
    try:
        pid = os.fork()
    except OSError:
        return -1
    if pid == 0:
        random.setstate(randomness)  # Python's hooks reseed, but a fork must equal its origin
    return pid


def use_huge_pages() -> None:
    """Ask the kernel to keep Python's objects in huge pages.

    A fork then copies a few hundred entries, not 12,000. The kernel may refuse; it only costs time.
    """
    for page in {id(thing) // HUGE_PAGE_BYTES for thing in gc.get_objects()}:
        start, size = ctypes.c_void_p(page * HUGE_PAGE_BYTES), ctypes.c_size_t(HUGE_PAGE_BYTES)
        LIBC.madvise(start, size, MADV_COLLAPSE)


def measure_address_space() -> int:
    """Bytes of address space in use, found by bisection, since /proc may not be readable.

    With which limit can another megabyte still be mapped?
    """
    low, high = 0, 1 << 46
    while high - low > 1 << 20:
        middle = (low + high) // 2
        set_soft_limit(resource.RLIMIT_AS, middle)
        try:
            mmap.mmap(-1, 1 << 20).close()
            high = middle
        except (OSError, MemoryError):
            low = middle
    set_soft_limit(resource.RLIMIT_AS, None)
    return high


def protect_imports(runner: Collection[types.ModuleType]) -> None:
    """Give the `runner` modules copies of the modules that they import.

    An action that replaces a function of, say, `json` then does not break what runs it.
    """
    for module in runner:
        for name, value in list(vars(module).items()):
            if not isinstance(value, types.ModuleType) or value in runner:
                continue
            if name not in SHARED_MODULES:
                setattr(module, name, types.SimpleNamespace(**vars(value)))


def run_root(channel: int, settings: dict[str, Any], runner: Collection[types.ModuleType]) -> None:
    """Be the interpreter that all others are forked from; never returns.

    `channel` is a descriptor, `runner` are the modules that run actions.
    """
    try:
        prepare_root(channel, settings, runner).serve()
    finally:
        os._exit(1)


def prepare_root(
    channel: int, settings: dict[str, Any], runner: Collection[types.ModuleType]
) -> Interpreter:
    """Load numpy and sympy, clear the environment, set hard limits, put up the walls, say so."""
    devnull = os.open("/dev/null", os.O_RDWR)
    os.dup2(devnull, 0)
    os.dup2(devnull, 1)
    import numpy
    import sympy  # noqa: F401

    os.dup2(devnull, 2)
    os.closerange(3, channel)
    os.closerange(channel + 1, scratch.MAX_OPEN_FILES)
    os.environ.clear()
    os.environ["HOME"] = "."  # the fork's folder, for libraries that keep a cache there
    sys.argv = [""]
    warnings.formatwarning = report.format_warning
    if int(numpy.__version__.partition(".")[0]) > 1:
        # [1, 2] and not [np.int64(1), np.int64(2)]: the same output as without numpy
        numpy.set_printoptions(legacy="1.25")
    sys.set_int_max_str_digits(0)  # thousands of digits are an ordinary result; time is the limit
    random.seed(0)
    numpy.random.seed(0)
    set_hard_limits(settings)
    gc.collect()
    if not settings["portable"]:
        use_huge_pages()
    gc.freeze()  # collections in a fork then do not touch, and so copy, what was loaded here
    protect_imports(runner)
    if settings["portable"]:  # the profile around this process is all there is
        settings["readable"] = {}
        os.chdir(settings["scratch"])
        return announce(channel, settings, confined=False, filtered=False)
    settings["readable"] = walls.open_paths(settings["readable"])
    place = scratch.enter_folder(settings["scratch"])
    confined = walls.apply_landlock(settings["readable"], place)
    os.close(place)
    if not confined:  # candidates could meet in a folder, so they have none
        os.chmod(settings["scratch"], 0)
        os.chdir("/")
        settings["scratch"] = ""
    return announce(channel, settings, confined=confined, filtered=walls.apply_seccomp())


def announce(channel: int, settings: dict[str, Any], **walls_up: bool) -> Interpreter:
    """The root interpreter, which says which walls of its own it has put up."""
    interpreter = Interpreter(channel, settings)
    interpreter.write(wire.STARTED, json.dumps(walls_up).encode())
    return interpreter


def set_hard_limits(settings: dict[str, Any]) -> None:
    """Limit this process and its forks for good; the limits of an action go into `settings`."""
    settings["cpu_seconds"] = int(settings["seconds"]) + 2
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: settings["cpu_seconds"] + SPARE_CPU_SECONDS,
        resource.RLIMIT_NOFILE: scratch.MAX_OPEN_FILES,
        resource.RLIMIT_FSIZE: MAX_FILE_BYTES,
    }
    settings["memory_bytes"] = None
    if not settings["portable"]:
        settings["memory_bytes"] = measure_address_space() + (settings["memory_mb"] << 20)
        limits[resource.RLIMIT_AS] = settings["memory_bytes"] + SPARE_BYTES
    for kind, limit in limits.items():
        set_soft_limit(kind, limit)
        soft = resource.getrlimit(kind)[0]
        resource.setrlimit(kind, (soft, soft))
