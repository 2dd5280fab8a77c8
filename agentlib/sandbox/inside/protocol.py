"""The messages between the program, the supervisor of the sandbox and its interpreters, as bytes.

"The program" is the process that opened the sandbox. A frame is a header (size of the payload in
bytes, number of the interpreter, kind of message) and the payload. This module is used on both
sides of the sandbox's walls.
"""

import os
import struct
from collections.abc import Iterator

HEADER = struct.Struct(">IIc")
SUPERVISOR = 2**32 - 1  # stands for the supervisor where a message has the number of an interpreter
MAX_FRAME_BYTES = 8 << 20
MAX_OUTPUT_BYTES = 20_000  # of one action's standard output, and as much of its standard error

# From the program to the supervisor, which passes the last two on to the interpreter.
KILL = b"K"
FORK = b"F"  # the number of the interpreter to fork (4 bytes), then what RUN carries
RUN = b"R"  # the code, as JSON
TOOL_REPLY = b"A"  # what a tool returned or raised, as JSON

# From an interpreter to the supervisor, which passes them on to the program.
STARTED = b"H"
START_FAILED = b"E"  # the error as text
TOOL_CALL = b"C"  # name, positional and keyword arguments, as JSON
DONE = b"D"  # what the action did, as JSON

# From the supervisor itself.
PROCESS = b"P"  # the id that the interpreter's process has inside the sandbox
STDOUT = b"O"
STDERR = b"S"
ENDED = b"X"  # the interpreter's process is gone; the payload is SCRATCH_FULL if that is why
SCRATCH_FULL = b"scratch"

# Made by the program for its own threads, and never sent: the whole isolated process has ended.
LOST = b"Z"


def encode_frame(number: int, kind: bytes, payload: bytes = b"") -> bytes:
    """One message as bytes."""
    return HEADER.pack(len(payload), number, kind) + payload


def decode_frames(received: bytearray) -> Iterator[tuple[int, bytes, bytes]]:
    """Take the complete (number, kind, payload) off the front of `received`.

    Raises ValueError if a payload is longer than MAX_FRAME_BYTES.
    """
    while len(received) >= HEADER.size:
        size, number, kind = HEADER.unpack_from(received)
        if size > MAX_FRAME_BYTES:
            raise ValueError(
                f"a message has {size} bytes, at most {MAX_FRAME_BYTES} are allowed; send less"
            )
        if len(received) < HEADER.size + size:
            return
        payload = bytes(received[HEADER.size : HEADER.size + size])
        del received[: HEADER.size + size]
        yield number, kind, payload


def write_all(fd: int, content: bytes) -> None:
    """Write every byte to a blocking descriptor. Raises OSError as `os.write` does."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
