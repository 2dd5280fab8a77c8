"""The killable process that decides whether two expressions are equal, and its client.

Owns both sides of a pipe that carries JSON lines: `Grader` in our process, `main` in the worker, where
LaTeX is parsed (by a grammar; nothing is evaluated as Python) and compared by math-verify and sympy.
Knows nothing of answers, units or domains. A process, because a comparison may hang or eat all memory,
and math-verify's own limit is a signal, which works in the main thread only.
"""

import atexit
import functools
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

START_SECONDS = 120.0  # importing sympy on a loaded machine
MEMORY_BYTES = 2 << 30
REQUIREMENT = "math-verify[antlr4_13_2]"  # brings sympy and the LaTeX grammar


class GradingFailed(Exception):
    """A comparison that came to no end; the message is the reason a `Grade` carries."""


class Grader:
    """A lazily started worker, safe to share between threads; `close` it or use it in a `with` block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._owner = 0

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the worker; a later question starts a fresh one."""
        with self._lock:
            self._stop()

    def equal(self, gold: str, prediction: str, *, within: Fraction = Fraction(0), seconds: float = 5.0) -> bool:
        """Whether two LaTeX expressions are equal; numbers may differ by `within` (absolute). The letter i is the imaginary unit.

        Raises GradingFailed after `seconds`, or when the worker runs out of memory, and RuntimeError when
        no worker can be started.
        """
        with self._lock:
            if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
                self._start()
            question = {"gold": gold, "prediction": prediction, "within": str(within), "seconds": seconds}
            try:
                self._process.stdin.write(json.dumps(question).encode() + b"\n")
                self._process.stdin.flush()
                answer = self._line(seconds)
            except (TimeoutError, OSError) as error:
                self._stop()
                late = isinstance(error, TimeoutError)
                raise GradingFailed("grading timed out" if late else "grading ran out of memory") from None
            return json.loads(answer)["equal"]

    def _start(self) -> None:
        if self._owner == os.getpid():
            self._stop()
        # -P keeps this folder off the import path, where `config` or `records` could hide an installed module.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt meant for a notebook's kernel must not reach it
        )
        self._owner = os.getpid()
        why = f"was not ready within {START_SECONDS:.0f} s; is the machine overloaded? Try again"
        try:
            greeting = json.loads(self._line(START_SECONDS))
            if "lacks" not in greeting:
                return
            why = f"cannot import {greeting['lacks']!r} ({greeting['said']}); install it: {sys.executable} -m pip install '{REQUIREMENT}'"
        except OSError as error:
            if not isinstance(error, TimeoutError):
                status = self._process.wait()
                why = f"ended with status {status} before it was ready; its own words are above, or in the notebook's log"
        self._stop()
        raise RuntimeError(f"the grading worker {why}")

    def _line(self, seconds: float) -> bytes:
        """One line from the worker; TimeoutError when it takes too long, BrokenPipeError when it died."""
        end, found, pipe = time.monotonic() + seconds, b"", self._process.stdout.fileno()
        ready = select.poll()
        ready.register(pipe, select.POLLIN)
        while not found.endswith(b"\n"):
            if not ready.poll(max(0.0, end - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(pipe, 65536)
            if not part:
                raise BrokenPipeError
            found += part
        return found

    def _stop(self) -> None:
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
        self._process = None


@functools.cache
def shared() -> Grader:
    """The one worker of this process, started by its first question and stopped at exit."""
    grader = Grader()
    atexit.register(grader.close)
    return grader


def main() -> None:
    """Answer questions until the pipe closes. Runs in the worker only."""
    import logging
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)  # math-verify warns that its own time limit is off; ours replaces it
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    try:
        import math_verify
        import sympy
        from latex2sympy2_extended import latex2sympy
    except ImportError as error:
        print(json.dumps({"lacks": error.name or "math_verify", "said": str(error)}), file=replies, flush=True)
        return

    def parse(text: str) -> sympy.Basic:
        found = latex2sympy(text, is_real=None, convert_degrees=False, normalization_config=None)
        # A decimal means the number that is written, not the nearest binary fraction.
        found = found.xreplace({f: sympy.Rational(str(f)) for f in found.atoms(sympy.Float)})
        return found.xreplace({symbol: sympy.I for symbol in found.free_symbols if symbol.name == "i"})

    def number(expression: object) -> bool:
        return isinstance(expression, sympy.Expr) and not expression.free_symbols

    def near(a: sympy.Expr, b: sympy.Expr, within: sympy.Rational) -> bool:
        if isinstance(a, sympy.Rational) and isinstance(b, sympy.Rational):
            return bool(abs(a - b) <= within)
        terms = [abs(sympy.N(term, 5)) for x in (a, b) for term in sympy.Add.make_args(x)]
        if not all(term.is_finite for term in terms):
            return a == b and a in (sympy.oo, -sympy.oo)
        # What is left of equal numbers is as small beside their terms as the figures reckoned with are many. Enough of them
        # that integers hidden in large expressions still differ when they differ by one.
        largest = max(terms)
        figures = min(110 + max(0, int(sympy.log(largest + 1, 10).evalf(5))), 4000)
        left = abs(sympy.N(a - b, 15, maxn=figures))
        return bool(left <= max(within, min(largest, 1) * sympy.Float(10, 15) ** -100))

    def equal(gold: str, prediction: str, within: str) -> bool:
        a, b = parse(gold), parse(prediction)
        if number(a) and number(b):
            return near(a.doit(), b.doit(), sympy.Rational(within))
        return within == "0" and bool(
            math_verify.verify(a, b, float_rounding=12, allow_set_relation_comp=True, timeout_seconds=None)
        )

    print("{}", file=replies, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        # When the parent is gone nobody is left to kill us: the default action of this alarm does.
        signal.alarm(int(question.pop("seconds")) + 2)
        try:
            found = equal(**question)
        except MemoryError:
            raise SystemExit(1) from None
        except Exception:  # text that is no expression equals nothing
            found = False
        signal.alarm(0)
        print(json.dumps({"equal": found}), file=replies, flush=True)


if __name__ == "__main__":
    main()
