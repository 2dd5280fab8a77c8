"""The messages between the parent, the supervisor of the sandbox and its interpreters, as bytes.

Owns the wire format and its limits. Knows nothing of what a message makes anybody do. It runs on both sides of the
sandbox's walls.

A frame is size of payload, number of interpreter, kind, payload. Kinds, parent to supervisor: F fork and run,
A answer of a tool, K kill. Supervisor to interpreter: F fork, R run this code, A answer. Back: H started,
E could not start, C tool call, D done; and from the supervisor itself P the process of an interpreter (SUPERVISOR:
its own), O what was printed, S what went to standard error, X ended without a result.
"""

import os
import struct
from collections.abc import Iterator

SUPERVISOR = 2**32 - 1
HEADER = struct.Struct(">IIc")
FRAME_BYTES = 8 << 20
STDOUT_BYTES = 20_000


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
