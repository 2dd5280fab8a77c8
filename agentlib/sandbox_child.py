"""What runs inside the sandbox: a supervisor that never runs model-written code, and the interpreters that do.

Owns the wire format, the tree of forks, and the running of one action. Knows nothing of models, of tools
(a call is a message to the parent) or of how the process was isolated. Its walls are `sandbox_walls`', its folders
`sandbox_scratch`'s; it imports nothing else of this package, because only these files can be read in there.

The parent starts this file as a script. The supervisor forks the root interpreter, which loads numpy and sympy
and is never run upon. Everything else is a fork of a fork: a fork is a snapshot, so the state after an action is
simply the process that ran it, waiting to be forked again. Each fork has its own channel to the supervisor, and
the supervisor alone holds the pipes to the parent, so no action can speak in the name of another.
"""

import ast
import contextlib
import ctypes
import fcntl
import gc
import importlib.util
import io
import json
import linecache
import mmap
import os
import random
import resource
import selectors
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from collections.abc import Iterator
from errno import EACCES, EDQUOT, EFBIG, ENETUNREACH, ENOMEM, ENOSPC, EPERM, EROFS
from typing import Any


def beside(name: str) -> types.ModuleType:
    """The module in the file beside this one, without listing the folder or importing the package."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(os.path.dirname(__file__), f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PYTHON = ctypes.PyDLL(None)  # the C library, called without letting go of the interpreter
FILES = ("sandbox_scratch", "sandbox_walls")  # what this script needs beside it
scratch, walls = map(beside, FILES)

# A frame is size of payload, number of interpreter, kind, payload. Kinds, parent to supervisor: F fork and run,
# A answer of a tool, K kill. Supervisor to interpreter: F fork, R run this code, A answer. Back: H started,
# E could not start, C tool call, D done; and from the supervisor itself P the process of an interpreter (SUPERVISOR:
# its own), O what was printed, X ended without a result.
SUPERVISOR = 2**32 - 1
HEADER = struct.Struct(">IIc")
FRAME_BYTES = 8 << 20
STDOUT_BYTES = 20_000
WATCH_SECONDS = 0.1  # between two looks at what running actions have written
VALUE_CHARACTERS = 2_000
ANSWER_CHARACTERS = 200_000
FILE_BYTES = 16 << 20
KEPT = ("__builtins__", "sys", "types", "scratch", "walls")  # modules that actions and what runs them share
SPARE_BYTES = 64 << 20  # memory that an interpreter has left to say that it has none left


def frame(number: int, kind: bytes, payload: bytes = b"") -> bytes:
    """One message as bytes."""
    return HEADER.pack(len(payload), number, kind) + payload


def frames(received: bytearray) -> Iterator[tuple[int, bytes, bytes]]:
    """Take the complete (number, kind, payload) off the front of `received`; ValueError if one is over-long."""
    while len(received) >= HEADER.size:
        size, number, kind = HEADER.unpack_from(received)
        if size > FRAME_BYTES:
            raise ValueError(f"message of {size} bytes is over the limit of {FRAME_BYTES} bytes; send less")
        if len(received) < HEADER.size + size:
            return
        payload = bytes(received[HEADER.size : HEADER.size + size])
        del received[: HEADER.size + size]
        yield number, kind, payload


def write_all(fd: int, content: bytes) -> None:
    """Write every byte to a blocking descriptor."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


# --- the supervisor ---------------------------------------------------------------------------------------------


class Node:
    """One interpreter for the supervisor: its channel, what it prints into, its leash, its folder, its process (None
    until it speaks)."""

    def __init__(self, channel: socket.socket, output: int, leash: int, folder: str):
        self.channel, self.output, self.leash, self.folder, self.pid = channel, output, leash, folder, None
        self.received, self.unsent, self.expected = bytearray(), bytearray(), b"HE"
        channel.setblocking(False)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def receive(self) -> bytes:
        """What has arrived. The kernel, not the sender, says which process sent the first of it."""
        if self.pid is not None:
            return self.channel.recv(1 << 16)
        content, attached, _, _ = self.channel.recvmsg(1 << 16, socket.CMSG_SPACE(12))
        for _, kind, record in attached:
            if kind == socket.SCM_CREDENTIALS:
                self.pid = struct.unpack("iII", record)[0]
                self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        return content

    def printed(self) -> bytes:
        """What it printed so far, one byte more than the limit at most."""
        return os.pread(self.output, STDOUT_BYTES + 1, 0) if self.output >= 0 else b""


class Supervisor:
    """Relays between the parent (descriptors 0 and 1) and the interpreters; forks, kills and reaps them."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.selector = selectors.DefaultSelector()
        self.left: dict[str, int] = {}  # folders of ended interpreters, and how often removing them has failed

    def adopt(self, number: int, channel: socket.socket, output: int, leash: int, folder: str) -> None:
        self.nodes[number] = Node(channel, output, leash, folder)
        self.selector.register(channel, selectors.EVENT_READ, number)

    def tell(self, number: int, kind: bytes, payload: bytes = b"") -> None:
        with contextlib.suppress(OSError):  # the parent is gone, which `run` is about to notice
            write_all(1, frame(number, kind, payload))

    def run(self) -> None:
        """Until the parent closes its end."""
        received = bytearray()
        self.selector.register(0, selectors.EVENT_READ, None)
        self.tell(SUPERVISOR, b"P", b"%d" % os.getpid())
        looked = 0.0
        while True:
            for key, ready in self.selector.select(WATCH_SECONDS if len(self.nodes) > 1 or self.left else None):
                if key.data is None:
                    content = os.read(0, 1 << 16)
                    if not content:
                        return
                    received += content
                    for number, kind, payload in frames(received):
                        self.obey(number, kind, payload)
                elif key.data in self.nodes and self.nodes[key.data].channel is key.fileobj:
                    self.hear(key.data, ready)
            if time.monotonic() > looked + WATCH_SECONDS:
                self.watch()
                looked = time.monotonic()

    def watch(self) -> None:
        """End what has written too much, and remove the folders of what has ended."""
        folders = {node.folder for node in self.nodes.values()} | self.left.keys()
        for number, node in list(self.nodes.items()):
            if node.folder and number:
                found, whole = scratch.entries(node.folder, folders)
                if not whole or sum(512 * state.st_blocks for _, state in found) > scratch.SCRATCH_BYTES:
                    self.end(number, b"scratch")
        for folder in sorted(self.left, key=len, reverse=True):
            if any(node.folder == folder or node.folder.startswith(f"{folder}/") for node in self.nodes.values()):
                continue
            self.left[folder] = 0 if scratch.remove(folder) else self.left[folder] + 1
            if self.left[folder] > 20 or not os.path.lexists(folder):
                del self.left[folder]  # what is too deep goes when the sandbox is closed

    def obey(self, number: int, kind: bytes, payload: bytes) -> None:
        """One message of the parent."""
        if kind == b"F":
            self.fork(number, int.from_bytes(payload[:4], "big"), payload[4:])
        elif number in self.nodes and kind == b"A":
            self.nodes[number].expected = b"CD"
            self.send(number, b"A", payload)
        elif number in self.nodes:
            self.end(number)

    def fork(self, number: int, source: int, request: bytes) -> None:
        """Have interpreter `source` fork itself into `number`; the code goes to the fork, so no other sees it."""
        if source not in self.nodes:
            return self.tell(number, b"X")
        ours, theirs = socket.socketpair()
        output = os.memfd_create("output", os.MFD_CLOEXEC)
        collar, leash = os.pipe()
        origin = self.nodes[source].folder
        self.adopt(number, ours, output, leash, f"{origin}/{scratch.FORK_FOLDER}{number}" if origin else "")
        try:
            socket.send_fds(self.nodes[source].channel, [frame(number, b"F")], [theirs.fileno(), output, collar])
        except OSError:
            self.end(number)
        else:
            self.send(number, b"R", request)
        finally:
            theirs.close()
            os.close(collar)

    def send(self, number: int, kind: bytes, payload: bytes) -> None:
        self.nodes[number].unsent += frame(number, kind, payload)
        self.flush(number)

    def flush(self, number: int) -> None:
        """Send what the channel takes now; an interpreter that does not read must not stop the others."""
        node = self.nodes[number]
        try:
            while node.unsent:
                del node.unsent[: node.channel.send(node.unsent[: 1 << 16])]
        except BlockingIOError:
            pass
        except OSError:
            return self.end(number)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if node.unsent else 0)
        self.selector.modify(node.channel, wanted, number)

    def hear(self, number: int, ready: int) -> None:
        """One interpreter has something to say, has ended, or can take more."""
        node = self.nodes[number]
        if ready & selectors.EVENT_WRITE:
            self.flush(number)
        if not ready & selectors.EVENT_READ or number not in self.nodes:
            return
        try:
            content = node.receive()
            node.received += content
            for _, kind, payload in frames(node.received):
                if kind not in node.expected:  # an action that floods or forges messages gets no further
                    raise ValueError
                node.expected = b"CD" if kind == b"H" else b""
                if kind == b"H":
                    self.tell(number, b"P", b"%d" % node.pid)
                if kind == b"D":
                    self.tell(number, b"O", node.printed())
                self.tell(number, kind, payload)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            content = b""
        if not content:
            self.end(number)

    def end(self, number: int, reason: bytes = b"") -> None:
        """Kill an interpreter with its process group, and say so."""
        node = self.nodes.pop(number)
        if node.folder:
            self.left[node.folder] = 0
        if node.pid is not None:
            with contextlib.suppress(OSError):
                os.killpg(node.pid, signal.SIGKILL)
        self.tell(number, b"O", node.printed())
        self.tell(number, b"X", reason)
        self.selector.unregister(node.channel)
        node.channel.close()
        for fd in (node.output, node.leash):
            if fd >= 0:
                os.close(fd)


# --- an interpreter ---------------------------------------------------------------------------------------------


class FinalAnswer(BaseException):
    """Ends an action; not an Exception, so that `except Exception` lets it pass."""


class Capped(io.RawIOBase):
    """Descriptor 1 for the first bytes printed in an action; the rest is dropped, so a flood costs nothing."""

    def __init__(self) -> None:
        self.room = STDOUT_BYTES + 1

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def close(self) -> None:
        """Never closed: the text stream around it is replaced at each action."""

    def write(self, content: Any) -> int:
        kept = bytes(content[: max(0, self.room)])
        self.room -= len(kept)
        if kept:
            os.write(1, kept)
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
        self.capped = Capped()
        self.names = {"final_answer": self.final_answer} | {name: self.tool(name) for name in settings["tools"]}

    def serve(self) -> None:
        """Fork on request; a fork runs its code, reports, and serves in turn."""
        channel = socket.socket(fileno=self.channel)
        self.rest()
        while True:
            try:
                request, passed, _, _ = socket.recv_fds(channel, HEADER.size, 3)
            except OSError:
                os._exit(1)
            if len(request) < HEADER.size or len(passed) != 3:
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
                self.begin(*passed, HEADER.unpack(request)[1])
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

    def begin(self, channel: int, output: int, collar: int, number: int) -> None:
        """Become the fork: own process group, channel, output, folder, files and limits."""
        self.channel, self.pid, self.step = channel, os.getpid(), self.step + 1
        self.lock, self.final = threading.Lock(), []
        signal.signal(signal.SIGCHLD, self.on_child)
        os.setpgid(0, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        self.capped.room = STDOUT_BYTES + 1
        sys.stdout = sys.stderr = io.TextIOWrapper(self.capped, "utf-8", "replace", write_through=True)
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
        write_all(self.channel, frame(0, kind, payload))

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

        size, _, kind = HEADER.unpack(exactly(HEADER.size))
        return kind, exactly(size)

    def final_answer(self, answer: Any = None) -> None:
        """Give the answer to the question; nothing after this call runs."""
        if not self.final:
            self.final.append(bounded(plain(answer)))
        raise FinalAnswer

    def tool(self, name: str):
        """A function that asks the parent to call the tool `name`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                request = json.dumps([name, args, kwargs]).encode()
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"{name}() takes plain values (text, numbers, lists, dicts), but an argument is not: {error}"
                ) from None
            if os.getpid() != self.pid:
                raise RuntimeError(f"{name}() can only be called by the action itself, not by a process it started")
            if len(request) > FRAME_BYTES // 2:
                raise ValueError(f"{name}() was given {len(request)} bytes, at most {FRAME_BYTES // 2} can be sent")
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
        linecache.cache[source] = (len(code), None, code.splitlines(keepends=True), source)
        value, failure = "", None
        self.main.__dict__.update(self.names)
        try:
            try:
                body, last = compiled(code, source)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                failure = ["parse", explained(error)]
            else:
                exec(body, self.main.__dict__)
                if last is not None:
                    value = shown(eval(last, self.main.__dict__))
        except BaseException as error:  # whatever an action raises is its outcome, SystemExit and all
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
            failure = None if isinstance(error, FinalAnswer) else [kind_of(error), explained(error)]
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


def compiled(code: str, source: str) -> tuple[types.CodeType, types.CodeType | None]:
    """The statements, and the last one apart if it is an expression."""
    tree = ast.parse(code, source)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = compile(ast.Expression(tree.body.pop().value), source, "eval", dont_inherit=True)
    return compile(tree, source, "exec", dont_inherit=True), last


def shown(value: Any) -> str:
    """The text of a last expression's value: its repr, shortened; "" for None."""
    text = "" if value is None else repr(value)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}... ({len(text)} characters)"


def plain(value: Any, depth: int = 0) -> Any:
    """An answer as JSON values: numbers, text, lists and dicts stay, numpy becomes Python, all else becomes text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value) if value.bit_length() < 1024 else str(value)
    if isinstance(value, float):
        return float(value)
    if depth < 16:
        if isinstance(value, (list, tuple)):
            return [plain(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {str(key): plain(item, depth + 1) for key, item in value.items()}
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            return plain(value.tolist(), depth + 1)
    return str(value)


def bounded(answer: Any) -> Any:
    """The answer, or the beginning of its text if it is too long to keep."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return answer if len(text) <= ANSWER_CHARACTERS else text[:ANSWER_CHARACTERS]


def kind_of(error: BaseException) -> str:
    """The kind of failure: memory, forbidden (the isolation refused, however wrapped) or execution."""
    seen = 0
    cause: Any = error
    while isinstance(cause, BaseException) and seen < 8:
        code = cause.errno if isinstance(cause, OSError) else None
        if isinstance(cause, MemoryError) or code in (ENOMEM, EFBIG, ENOSPC, EDQUOT):
            return "memory"
        if code in (EACCES, EPERM, EROFS, ENETUNREACH) or isinstance(cause, socket.gaierror):
            return "forbidden"
        reason = getattr(cause, "reason", None)
        cause = reason if isinstance(reason, BaseException) else cause.__cause__ or cause.__context__
        seen += 1
    return "execution"


def explained(error: BaseException, frames_shown: int = 4) -> str:
    """An error for a language model: the lines of its own code that led there, then type and message."""
    steps = [step for step in traceback.extract_tb(error.__traceback__) if step.filename.startswith("<action ")]
    if isinstance(error, SyntaxError) and not steps:
        return f"line {error.lineno}: {(error.text or '').strip()[:200]}\n{type(error).__name__}: {error.msg}"
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    lines = [
        f"line {step.lineno}{'' if step.name == '<module>' else f', in {step.name}'}: {(step.line or '')[:200]}"
        for step in steps[-frames_shown:]
    ]
    return "\n".join([*lines, message if len(message) <= 1000 else f"{message[:1000]}..."])


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


def start_root(channel: int, settings: dict[str, Any]) -> None:
    """The interpreter that all others are forks of: numpy and sympy loaded, limits set, environment empty."""
    silence = os.open("/dev/null", os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 1)
    import numpy
    import sympy  # noqa: F401

    os.dup2(silence, 2)
    os.closerange(3, channel)
    os.closerange(channel + 1, scratch.OPEN_FILES)
    os.environ.clear()
    sys.argv = [""]
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
    for names in (globals(), vars(scratch), vars(walls)):
        # An action may replace functions in the modules that these have imported; what runs it keeps its own.
        used = [name for name, value in names.items() if isinstance(value, types.ModuleType)]
        names.update({name: types.SimpleNamespace(**vars(names[name])) for name in used if name not in KEPT})
    settings["readable"] = walls.hold(settings["readable"])
    if not walls.confine(settings["readable"], place := scratch.enter(settings["scratch"])):
        os.chmod(settings["scratch"], 0)  # candidates could meet in a folder, so there is none
        os.chdir("/")
        settings["scratch"] = ""
    os.close(place)
    standing = {"confined": bool(settings["scratch"]), "filtered": walls.filter_calls()}
    interpreter = Interpreter(channel, settings)
    interpreter.write(b"H", json.dumps(standing).encode())
    interpreter.serve()


def start() -> None:
    """The script: supervisor in this process, root interpreter (number 0) in a fork of it."""
    walls.shed_privileges()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ours, theirs = socket.socketpair()
    settings = json.loads(sys.argv[1])
    if os.fork() == 0:
        ours.close()
        try:
            start_root(theirs.detach(), settings)
        finally:
            os._exit(1)
    theirs.close()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets orphans as they end
    supervisor = Supervisor()
    supervisor.adopt(0, ours, -1, -1, settings["scratch"])
    try:
        supervisor.run()
    except Exception:
        traceback.print_exc()  # on the program's own standard error: the parent then reports that the process ended
    finally:
        for number in list(supervisor.nodes):
            supervisor.end(number)
        with contextlib.suppress(OSError):  # the parent removes the rest, if it was not killed
            for name in os.listdir(settings["scratch"]):
                scratch.remove(os.path.join(settings["scratch"], name))
        os._exit(0)


if __name__ == "__main__":
    start()
