"""Decides whether two expressions are equal, in a process that can be killed, and its client.

A comparison may hang or take all memory, and math-verify's own time limit is a signal, which works
in the main thread only. So `Grader`, in the caller's process, sends JSON through a pipe to `main`,
in a worker that parses LaTeX with a grammar (nothing is evaluated as Python) and compares with
math-verify and sympy.

The worker is started by this file's path, not by multiprocessing or concurrent.futures: their
spawned children import the caller's `__main__`, so that grading at the top level of a plain script
would start the script again, and forked ones copy a process that has threads (torch's).
"""

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

TIMED_OUT = "grading timed out"
START_SECONDS = 120.0  # importing sympy on a loaded machine
MEMORY_BYTES = 2 << 30
PATIENCE = 20  # times as long may a comparison take on the clock as it may compute
REQUIREMENT = "math-verify[antlr4_13_2]"  # brings sympy and the LaTeX grammar


@dataclass
class Budget:
    """Seconds that the worker may still compute for one answer. They are its own, not the clock's:
    a grade must not depend on what else the machine does."""

    left: float


class GradingFailed(Exception):
    """A comparison that could not be finished; the message becomes the reason of the `Grade`."""


class Grader:
    """Starts the worker at the first question; may be shared between threads.

    Call `close`, or use it in a `with` block.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._pipe: Connection | None = None
        self._owner_pid = 0

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the worker; a later question starts a new one."""
        with self._lock:
            self._stop()

    def are_equal(
        self,
        gold: str,
        prediction: str,
        *,
        tolerance: Fraction = Fraction(0),
        seconds: float | Budget = 5.0,
    ) -> bool:
        """Whether two LaTeX expressions are equal; the letter i is the imaginary unit.

        Two numbers may differ by `tolerance` (absolute). What is computed is taken from a budget.
        Raises GradingFailed when `seconds` of the worker's own time are used up or it runs out of
        memory, and RuntimeError when no worker can be started.
        """
        budget = seconds if isinstance(seconds, Budget) else Budget(seconds)
        if budget.left <= 0:
            raise GradingFailed(TIMED_OUT)
        question = {"gold": gold, "prediction": prediction, "tolerance": str(tolerance)}
        with self._lock:
            ours = self._process is not None and self._owner_pid == os.getpid()
            if not ours or self._process.poll() is not None:
                self._start()
            worker = self._process
            try:
                answer = self._ask(question | {"seconds": budget.left}, PATIENCE * budget.left)
            except TimeoutError:
                budget.left = 0.0
                raise GradingFailed(TIMED_OUT) from None
            except (EOFError, OSError):
                if worker.returncode == -signal.SIGPROF:
                    budget.left = 0.0
                    raise GradingFailed(TIMED_OUT) from None
                raise GradingFailed("grading ran out of memory") from None
            budget.left -= answer["seconds"]
            return answer["equal"]

    def _start(self) -> None:
        self._stop()
        self._pipe, theirs = Pipe()
        # -P keeps this folder off the import path, where `config` or `records` could hide an
        # installed module. What a library prints goes to the error stream.
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve()), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,
            start_new_session=True,  # an interrupt meant for a notebook's kernel must not reach it
        )
        theirs.close()
        self._owner_pid = os.getpid()
        try:
            greeting = self._ask(None, START_SECONDS)
        except TimeoutError:
            why = f"was not ready in {START_SECONDS:.0f} s; is the machine overloaded? Try again"
        except (EOFError, OSError):
            why = (
                f"ended with status {process.returncode} before it was ready; "
                "its own message is above, or in the notebook's log"
            )
        else:
            if "missing" not in greeting:
                return
            self._stop()
            why = (
                f"cannot import {greeting['missing']!r} ({greeting['error']}); "
                f"install it: {sys.executable} -m pip install '{REQUIREMENT}'"
            )
        raise RuntimeError(f"the grading worker {why}")

    def _ask(self, question: dict | None, seconds: float) -> dict:
        """The worker's answer; its greeting where `question` is None.

        Raises TimeoutError, or EOFError when the worker has ended.
        """
        try:
            if question is not None:
                self._pipe.send_bytes(json.dumps(question).encode())
            if not self._pipe.poll(seconds):
                raise TimeoutError
            return json.loads(self._pipe.recv_bytes())
        except BaseException:  # an interrupt too: the next question must not get this one's answer
            self._stop()
            raise

    def _stop(self) -> None:
        if self._process is not None and self._owner_pid == os.getpid():
            self._process.kill()
            self._process.wait()
            self._pipe.close()
        self._process = self._pipe = None


@functools.cache
def shared_grader() -> Grader:
    """The one grader of this process; its worker stops at exit."""
    grader = Grader()
    atexit.register(grader.close)
    return grader


def main(pipe: Connection) -> None:
    """Answer questions until the pipe closes. Runs in the worker only."""
    import logging
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)  # math-verify warns that its own time limit is off

    def send(message: dict) -> None:
        pipe.send_bytes(json.dumps(message).encode())

    try:
        import math_verify
        import sympy
        from latex2sympy2_extended import latex2sympy
    except ImportError as error:
        send({"missing": error.name or "math_verify", "error": str(error)})
        return

    def parse(text: str) -> sympy.Basic:
        found = latex2sympy(text, is_real=None, convert_degrees=False, normalization_config=None)
        # A decimal means the number that is written, not the nearest binary fraction.
        found = found.xreplace({f: sympy.Rational(str(f)) for f in found.atoms(sympy.Float)})
        return found.xreplace({x: sympy.I for x in found.free_symbols if x.name == "i"})

    def is_number(expression: object) -> bool:
        return isinstance(expression, sympy.Expr) and not expression.free_symbols

    def are_close(a: sympy.Expr, b: sympy.Expr, tolerance: sympy.Rational) -> bool:
        if isinstance(a, sympy.Rational) and isinstance(b, sympy.Rational):
            return bool(abs(a - b) <= tolerance)
        terms = [abs(sympy.N(term, 5)) for x in (a, b) for term in sympy.Add.make_args(x)]
        if not all(term.is_finite for term in terms):
            return a == b and a in (sympy.oo, -sympy.oo)
        # Cancellation leaves an error relative to the largest term. Use enough figures that
        # integers hidden in large expressions still differ when they differ by one.
        largest = max(terms)
        figures = min(110 + max(0, int(sympy.log(largest + 1, 10).evalf(5))), 4000)
        difference = abs(sympy.N(a - b, 15, maxn=figures))
        noise = min(largest, 1) * sympy.Float(10, 15) ** -100
        return bool(difference <= max(tolerance, noise))

    def are_equal(gold: str, prediction: str, tolerance: str) -> bool:
        a, b = parse(gold), parse(prediction)
        if is_number(a) and is_number(b):
            return are_close(a.doit(), b.doit(), sympy.Rational(tolerance))
        return tolerance == "0" and bool(
            math_verify.verify(
                a, b, float_rounding=12, allow_set_relation_comp=True, timeout_seconds=None
            )
        )

    send({})
    while True:
        try:
            question = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        # The default action of both is to end this process: once it has computed for so long, and
        # where the parent, which waits for as long as the second, has died.
        seconds, began = question.pop("seconds"), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.alarm(int(PATIENCE * seconds) + 2)
        try:
            equal = are_equal(**question)
        except MemoryError:
            raise SystemExit(1) from None
        except Exception:  # text that is no expression equals nothing
            equal = False
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        send({"equal": equal, "seconds": time.process_time() - began})


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
