"""Progress of long work with the time that is left: a bar where somebody watches, a line a minute in a log.

Owns how often and in what form it is said. Knows nothing of the work.
"""

import re
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

SECONDS = 60.0  # between two lines of a log


class Lines:
    """A stream that gets bars, drawn over themselves again and again, and passes on their latest state as a line, at most
    every `seconds` (`SECONDS`). What else comes (warnings, say) is passed on at once, or with `others=False` not at all."""

    def __init__(self, stream: TextIO, seconds: float | None = None, others: bool = True):
        self.stream, self.seconds, self.others = stream, SECONDS if seconds is None else seconds, others
        self._said = time.monotonic()

    def write(self, text: str) -> int:
        for line in re.split(r"[\r\n]+", text):
            if not line.strip():
                continue
            bar = re.search(r"\d+%\|", line) or re.search(r"\d+(it|q|step|wheel|passage|case|batch|vector) \[", line)
            if not bar:
                if self.others:
                    self.stream.write(f"{line}\n")
            elif time.monotonic() >= self._said + self.seconds:
                self.stream.write(f"{time.strftime('%H:%M:%S')}  {line.strip()}\n")
                self._said = time.monotonic()
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


def meter(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A `tqdm` bar; where standard error is neither a terminal nor a notebook's cell, a line a minute."""
    watched = sys.stderr.isatty() or "ipykernel" in type(sys.stderr).__module__
    return tqdm(items, **{"mininterval": 2.0} | options, **({} if watched else {"file": Lines(sys.stderr), "ascii": True}))
