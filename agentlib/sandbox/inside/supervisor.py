"""The supervisor of the sandbox: it never runs model-written code, and all messages pass through it.

Owns the tree of interpreters: who is there, what they may say, and their end. Knows nothing of what an action does, of
tools (a call is a message to the parent) or of how the process was isolated. It runs inside the sandbox.
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

WATCH_SECONDS = 0.1  # between two looks at what running actions have written


class Node:
    """One interpreter for the supervisor: its channel, what it prints into (standard output and standard error), its leash,
    its folder, its process (None until it speaks)."""

    def __init__(self, channel: socket.socket, outputs: list[int], leash: int, folder: str):
        self.channel, self.outputs, self.leash, self.folder, self.pid = channel, outputs, leash, folder, None
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

    def printed(self) -> list[tuple[bytes, bytes]]:
        """What it printed so far, as messages: of each output one byte more than the limit at most."""
        return [(kind, os.pread(fd, wire.STDOUT_BYTES + 1, 0)) for kind, fd in zip((b"O", b"S"), self.outputs, strict=False)]


class Supervisor:
    """Relays between the parent (descriptors 0 and 1) and the interpreters; forks, kills and reaps them."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.selector = selectors.DefaultSelector()
        self.left: dict[str, int] = {}  # folders of ended interpreters, and how often removing them has failed

    def adopt(self, number: int, channel: socket.socket, outputs: list[int], leash: int, folder: str) -> None:
        self.nodes[number] = Node(channel, outputs, leash, folder)
        self.selector.register(channel, selectors.EVENT_READ, number)

    def tell(self, number: int, kind: bytes, payload: bytes = b"") -> None:
        with contextlib.suppress(OSError):  # the parent is gone, which `run` is about to notice
            wire.write_all(1, wire.frame(number, kind, payload))

    def tell_printed(self, number: int, node: Node) -> None:
        for kind, content in node.printed():
            self.tell(number, kind, content)

    def run(self) -> None:
        """Until the parent closes its end."""
        received = bytearray()
        self.selector.register(0, selectors.EVENT_READ, None)
        self.tell(wire.SUPERVISOR, b"P", b"%d" % os.getpid())
        looked = 0.0
        while True:
            for key, ready in self.selector.select(WATCH_SECONDS if len(self.nodes) > 1 or self.left else None):
                if key.data is None:
                    content = os.read(0, 1 << 16)
                    if not content:
                        return
                    received += content
                    for number, kind, payload in wire.frames(received):
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
        outputs = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdout", "stderr")]
        collar, leash = os.pipe()
        origin = self.nodes[source].folder
        self.adopt(number, ours, outputs, leash, f"{origin}/{scratch.FORK_FOLDER}{number}" if origin else "")
        try:
            passed = [theirs.fileno(), *outputs, collar]
            socket.send_fds(self.nodes[source].channel, [wire.frame(number, b"F")], passed)
        except OSError:
            self.end(number)
        else:
            self.send(number, b"R", request)
        finally:
            theirs.close()
            os.close(collar)

    def send(self, number: int, kind: bytes, payload: bytes) -> None:
        self.nodes[number].unsent += wire.frame(number, kind, payload)
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
            for _, kind, payload in wire.frames(node.received):
                if kind not in node.expected:  # an action that floods or forges messages gets no further
                    raise ValueError
                node.expected = b"CD" if kind == b"H" else b""
                if kind == b"H":
                    self.tell(number, b"P", b"%d" % node.pid)
                if kind == b"D":
                    self.tell_printed(number, node)
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
        self.tell_printed(number, node)
        self.tell(number, b"X", reason)
        self.selector.unregister(node.channel)
        node.channel.close()
        for fd in (*node.outputs, node.leash):
            if fd >= 0:
                os.close(fd)
