"""The supervisor of the sandbox: it never runs model-written code and passes all messages.

It keeps the tree of interpreters: which exist, what each may say next, and how each ends. It runs
inside the sandbox.
"""

import contextlib
import os
import selectors
import signal
import socket
import struct
import time

from agentlib.sandbox.inside import protocol as wire
from agentlib.sandbox.inside import workdir as scratch

CHECK_SECONDS = 0.1  # between two looks at what running actions have written
MAX_REMOVALS = 20  # attempts in a row to remove a folder that remove nothing
READ_BYTES = 1 << 16


class Node:
    """One interpreter as the supervisor sees it.

    `outputs` are the files that it prints into (standard output and standard error), and
    `lifeline_write` is the pipe whose end makes the kernel kill it. `pid` is None until it speaks;
    if it is `portable`, it then says its own, because the kernel does not.
    """

    def __init__(
        self,
        channel: socket.socket,
        outputs: list[int],
        lifeline_write: int,
        folder: str,
        portable: bool = False,
    ):
        self.channel, self.outputs, self.lifeline_write = channel, outputs, lifeline_write
        self.folder = folder
        self.pid: int | None = None
        self.received, self.unsent = bytearray(), bytearray()
        self.expected = (wire.STARTED, wire.START_FAILED)  # kinds of message that it may send next
        self.portable = portable
        channel.setblocking(False)
        if not portable:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def receive(self) -> bytes:
        """What has arrived. The kernel, not the sender, says which process sent the first of it."""
        if self.pid is not None or self.portable:
            return self.channel.recv(READ_BYTES)
        content, attached, _, _ = self.channel.recvmsg(READ_BYTES, socket.CMSG_SPACE(12))
        for _, kind, record in attached:
            if kind == socket.SCM_CREDENTIALS:
                self.pid, _, _ = struct.unpack("iII", record)  # struct ucred: process, user, group
                self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        return content


class Supervisor:
    """Passes messages between the program (descriptors 0 and 1) and the interpreters.

    It has interpreters forked, and kills them. With `portable_folder` it uses nothing that only
    Linux has, and what interpreters print goes into files of that folder, without names there.
    """

    def __init__(self, portable_folder: str = "") -> None:
        self.portable_folder = portable_folder
        self.nodes: dict[int, Node] = {}
        self.selector = selectors.DefaultSelector()
        # Folders of interpreters that have ended, and how often removing each has failed.
        self.to_remove: dict[str, int] = {}

    def add(
        self,
        number: int,
        channel: socket.socket,
        outputs: list[int],
        lifeline_write: int,
        folder: str,
    ) -> None:
        portable = bool(self.portable_folder)
        self.nodes[number] = Node(channel, outputs, lifeline_write, folder, portable)
        self.selector.register(channel, selectors.EVENT_READ, number)

    def send_program(self, number: int, kind: bytes, payload: bytes = b"") -> None:
        with contextlib.suppress(OSError):  # the program is gone, which `run` is about to notice
            wire.write_all(1, wire.encode_frame(number, kind, payload))

    def send_output(self, number: int, node: Node) -> None:
        """Pass on what an interpreter has printed: at most one byte more than the limit of each."""
        for kind, fd in zip((wire.STDOUT, wire.STDERR), node.outputs, strict=False):
            self.send_program(number, kind, os.pread(fd, wire.MAX_OUTPUT_BYTES + 1, 0))

    def run(self) -> None:
        """Serve until the program closes its end. ValueError if a frame is too long."""
        received = bytearray()
        self.selector.register(0, selectors.EVENT_READ, None)
        self.send_program(wire.SUPERVISOR, wire.PROCESS, b"%d" % os.getpid())
        checked = 0.0
        while True:
            idle = len(self.nodes) <= 1 and not self.to_remove
            for key, ready in self.selector.select(None if idle else CHECK_SECONDS):
                if key.data is None:
                    content = os.read(0, READ_BYTES)
                    if not content:
                        return
                    received += content
                    for number, kind, payload in wire.decode_frames(received):
                        self.handle_request(number, kind, payload)
                elif key.data in self.nodes and self.nodes[key.data].channel is key.fileobj:
                    self.handle_interpreter(key.data, ready)
            if time.monotonic() > checked + CHECK_SECONDS:
                self.check_folders()
                checked = time.monotonic()

    def check_folders(self) -> None:
        """End what has written too much, and remove the folders of what has ended."""
        folders = {node.folder for node in self.nodes.values()} | self.to_remove.keys()
        for number, node in list(self.nodes.items()):
            if node.folder and number:
                found, complete = scratch.list_entries(node.folder, folders)
                size = sum(512 * state.st_blocks for _, state in found)
                if not complete or size > scratch.MAX_SCRATCH_BYTES:
                    self.end(number, wire.SCRATCH_FULL)
        used = [node.folder for node in self.nodes.values()]
        for folder in sorted(self.to_remove, key=len, reverse=True):
            if any(other == folder or other.startswith(f"{folder}/") for other in used):
                continue
            failed = 0 if scratch.remove_folder(folder) else self.to_remove[folder] + 1
            self.to_remove[folder] = failed
            if failed > MAX_REMOVALS or not os.path.lexists(folder):
                del self.to_remove[folder]  # what is too deep goes when the sandbox is closed

    def handle_request(self, number: int, kind: bytes, payload: bytes) -> None:
        """One message of the program."""
        if kind == wire.FORK:
            self.fork(number, int.from_bytes(payload[:4], "big"), payload[4:])
        elif number in self.nodes and kind == wire.TOOL_REPLY:
            self.nodes[number].expected = (wire.TOOL_CALL, wire.DONE)
            self.send(number, wire.TOOL_REPLY, payload)
        elif number in self.nodes:
            self.end(number)

    def fork(self, number: int, source: int, request: bytes) -> None:
        """Have interpreter `source` fork itself into `number`, which alone gets the code to run."""
        if source not in self.nodes:
            return self.send_program(number, wire.ENDED)
        ours, theirs = socket.socketpair()
        outputs = [self.open_output(name) for name in ("stdout", "stderr")]
        lifeline_read, lifeline_write = os.pipe()
        origin = self.nodes[source].folder
        folder = f"{origin}/{scratch.FORK_FOLDER}{number}" if origin else ""
        self.add(number, ours, outputs, lifeline_write, folder)
        try:
            passed = [theirs.fileno(), *outputs, lifeline_read]
            frame = wire.encode_frame(number, wire.FORK)
            socket.send_fds(self.nodes[source].channel, [frame], passed)
        except OSError:
            self.end(number)
        else:
            self.send(number, wire.RUN, request)
        finally:
            theirs.close()
            os.close(lifeline_read)

    def open_output(self, name: str) -> int:
        """A file without a name, for what one interpreter prints."""
        if not self.portable_folder:
            return os.memfd_create(name, os.MFD_CLOEXEC)
        place = os.path.join(self.portable_folder, f".{name}")
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(place)
        return fd

    def send(self, number: int, kind: bytes, payload: bytes) -> None:
        self.nodes[number].unsent += wire.encode_frame(number, kind, payload)
        self.flush(number)

    def flush(self, number: int) -> None:
        """Send what the channel takes now: one that does not read must not stop the others."""
        node = self.nodes[number]
        try:
            while node.unsent:
                del node.unsent[: node.channel.send(node.unsent[:READ_BYTES])]
        except BlockingIOError:
            pass
        except OSError:
            return self.end(number)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if node.unsent else 0)
        self.selector.modify(node.channel, wanted, number)

    def handle_interpreter(self, number: int, ready: int) -> None:
        """One interpreter has sent something, has ended, or can take more."""
        node = self.nodes[number]
        if ready & selectors.EVENT_WRITE:
            self.flush(number)
        if not ready & selectors.EVENT_READ or number not in self.nodes:
            return
        try:
            content = node.receive()
            node.received += content
            for _, kind, payload in wire.decode_frames(node.received):
                self.pass_on(number, node, kind, payload)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            content = b""
        if not content:
            self.end(number)

    def pass_on(self, number: int, node: Node, kind: bytes, payload: bytes) -> None:
        """Give the program one message of an interpreter.

        Raises ValueError if it is not that interpreter's turn: an action that floods the channel or
        forges messages gets no further.
        """
        if kind not in node.expected:
            raise ValueError(f"a message of kind {kind!r}, expected one of {node.expected}")
        node.expected = (wire.TOOL_CALL, wire.DONE) if kind == wire.STARTED else ()
        if kind == wire.STARTED:
            if node.portable and node.pid is None:
                node.pid = self.read_pid(payload)
            self.send_program(number, wire.PROCESS, b"%d" % node.pid)
        if kind == wire.DONE:
            self.send_output(number, node)
        self.send_program(number, kind, payload)

    def read_pid(self, payload: bytes) -> int:
        """The process that a portable interpreter says it is; ValueError if it cannot be true."""
        pid = int(payload)
        others = {os.getpid(), *(node.pid for node in self.nodes.values())}
        if pid <= 1 or pid in others:
            raise ValueError(f"process {pid} is none of an interpreter that has just started")
        return pid

    def end(self, number: int, reason: bytes = b"") -> None:
        """Kill an interpreter with its process group, and tell the program."""
        node = self.nodes.pop(number)
        if node.folder:
            self.to_remove[node.folder] = 0
        if node.pid is not None:
            with contextlib.suppress(OSError):
                os.killpg(node.pid, signal.SIGKILL)
        self.send_output(number, node)
        self.send_program(number, wire.ENDED, reason)
        self.selector.unregister(node.channel)
        node.channel.close()
        for fd in (*node.outputs, node.lifeline_write):
            if fd >= 0:
                os.close(fd)
