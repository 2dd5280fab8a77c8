"""Progress of long work with the time left: a bar where somebody watches, a line per minute in a
log.
"""

import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

SECONDS = 60.0  # between two lines of a log


class Lines:
    """A stream for bars that are drawn over themselves again and again: writes the latest one as a
    line, at most every `SECONDS`, and drops everything else.
    """

    def __init__(self, stream: TextIO):
        self.stream, self._written = stream, time.monotonic()

    def write(self, text: str) -> int:
        *_, latest = text.split("\r")
        if latest != text and latest.strip() and time.monotonic() >= self._written + SECONDS:
            self.stream.write(f"{time.strftime('%H:%M:%S')}  {latest.splitlines()[0].strip()}\n")
            self._written = time.monotonic()
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


def meter(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A `tqdm` bar; where standard error is neither a terminal nor a notebook's cell, a line per
    minute.
    """
    watched = sys.stderr.isatty() or "ipykernel" in type(sys.stderr).__module__
    return tqdm(
        items,
        **{"mininterval": 2.0} | options,
        **({} if watched else {"file": Lines(sys.stderr), "ascii": True}),
    )
