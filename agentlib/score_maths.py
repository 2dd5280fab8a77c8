"""Maths answers as trees: the key that equal ones share, and when two are equal.

Owns numbers, tolerances and the comparison. Knows nothing of how an answer is read (`maths_text`) or of grades. Leaves that
need algebra go to the killable process of `score_worker`. The rules that decide doubtful cases stand in the docstring of
`score`.
"""

import re
import time
from fractions import Fraction
from typing import Any, NamedTuple

from agentlib import score_worker
from agentlib.maths_text import LONGEST, WORDS, YES_NO

_NUMBER = re.compile(
    r"(?P<n>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)(?:/(?P<d>\d+)|\\cdot10\^\{(?P<p>-?\d{1,3})\})?"
    r"|(?P<s>[-+]?)(?P<w>\d*)\\frac\{(?P<a>-?\d+)\}\{(?P<b>\d+)\}"
)


class Number(NamedTuple):
    """A leaf that is a number: its exact value, whether a decimal wrote it, its figures, and the worth of one in the last."""

    value: Fraction
    decimal: bool = False
    figures: int = 0
    unit: Fraction = Fraction(0)

    @property
    def whole(self) -> bool:
        """Whether it is an integer to the last figure; 1.7e26 is not."""
        return self.value.denominator == 1 and self.unit <= 1


def _number(leaf: str) -> Number | None:
    """A leaf as a number; None if it is none.

    The noise of binary floats is rounded away: decimals keep 12 figures, and at least 3 decimal places.
    """
    m = _NUMBER.fullmatch(leaf) if len(leaf) < 400 else None
    if m is None or 0 in (int(m["d"] or 1), int(m["b"] or 1)):
        return None
    if m["b"]:
        value = int(m["w"] or 0) + Fraction(int(m["a"]), int(m["b"]))
        return Number(-value if m["s"] == "-" else value)
    value = Fraction(m["n"])
    if m["d"] or m["p"]:
        return Number(value / int(m["d"] or 1) * Fraction(10) ** int(m["p"] or 0))
    if re.fullmatch(r"[-+]?\d+", m["n"]):
        return Number(value)
    mantissa, _, exponent = m["n"].lower().partition("e")
    magnitude = len(str(int(abs(value)))) if abs(value) >= 1 else -_leading_zeros(value)
    places = max(12 - magnitude, 3)
    last = min(len(mantissa.partition(".")[2]) - int(exponent or 0), places)
    value = round(value, places)
    figures = len(re.sub(r"\D", "", mantissa).lstrip("0"))
    return Number(value, value.denominator > 1 or last < 0, figures, Fraction(10) ** -last)


def _leading_zeros(value: Fraction) -> int:
    """Zeros between the point and the first figure of a number below 1."""
    return max(0, len(str(value.denominator // abs(value.numerator))) - 1) if value else 0


def key(node: Any) -> str:
    """The tree as text: what is equal without algebra has the same key."""
    if isinstance(node, str):
        if (found := _number(node)) is not None:
            return _write(found.value)
        if re.fullmatch(r"[A-Za-z' ]+", node):
            word = node.lower()
            return YES_NO.get(word, word)
        # Not before \frac: 2 \cdot \frac12 is no mixed number.
        return re.sub(r"(?<![A-Za-z])\\cdot\s*(?=[A-Za-z(]|\\(?!frac))", "", node)
    kind, items = node
    keys = [key(item) for item in items]
    if kind in (",", "{}", "U") and not _all_words(items):
        keys.sort()
    if kind in (",", "U"):
        return (", " if kind == "," else r"\cup ").join(keys)
    opening, end = kind if kind[0] in "([{" else "[]"
    return opening + ", ".join(keys) + end


def _write(value: Fraction) -> str:
    """A number in one way: "1234", "0.5", "1/3"."""
    if value.denominator == 1:
        return str(value.numerator)
    if 10**12 % value.denominator == 0:
        sign, whole = "-" if value < 0 else "", abs(value) * 10**12
        text = f"{whole.numerator:013d}"
        text = f"{sign}{text[:-12]}.{text[-12:]}".rstrip("0")
        if _number(text).value == value:
            return text
    return f"{value.numerator}/{value.denominator}"


def _all_words(items: list[Any]) -> bool:
    return all(isinstance(item, str) and re.fullmatch(r"[A-Za-z' ]+", item) for item in items)


def same(gold: Any, prediction: Any, seconds: float) -> bool:
    """Whether two trees are equal; raises `score_worker.GradingFailed` when that takes over `seconds`."""
    return _same(gold, prediction, time.monotonic() + seconds)


def _same(gold: Any, prediction: Any, end: float) -> bool:
    if isinstance(gold, str) and isinstance(prediction, str):
        return _leaves(gold, prediction, end)
    if isinstance(gold, str) or isinstance(prediction, str):  # an inequality for an interval
        leaf = gold if isinstance(gold, str) else prediction
        return bool(re.search(r"[<>]|\\[lg]eq", leaf)) and _ask(key(gold), key(prediction), Fraction(0), end)
    (kind, ours), (other, theirs) = gold, prediction
    fits = kind == other or other == "py" or (kind in (",", "{}", "m") and other in (",", "{}", "[]", "()", "m"))
    fits = fits or (kind in ("()", "py") and other == "," and len(ours) > 2)
    if not fits or len(ours) != len(theirs) or (kind != other and "U" in (kind, other)):
        return False
    if kind not in (",", "{}", "U") or _all_words(ours):
        return all(_same(a, b, end) for a, b in zip(ours, theirs, strict=True))
    left = list(theirs)
    for a in ours:
        match = next((i for i, b in enumerate(left) if key(a) == key(b)), None)
        if match is None:
            match = next((i for i, b in enumerate(left) if _same(a, b, end)), None)
        if match is None:
            return False
        del left[match]
    return True


def _leaves(gold: str, prediction: str, end: float) -> bool:
    if key(gold) == key(prediction):
        return True
    if m := re.fullmatch(r"(-?[0-9A-Z]+)_\{(\d+)\}", gold):  # the question names the base
        return prediction == m[1]
    if re.fullmatch(r"(-?[0-9A-Z]+)_\{(\d+)\}", prediction) or (WORDS.fullmatch(gold) and WORDS.fullmatch(prediction)):
        return False
    if len(gold) > LONGEST or len(prediction) > LONGEST:
        return False
    a, b = _number(gold), _number(prediction)
    if a and b:
        return abs(a.value - b.value) <= _tolerance(a, b)
    if (a or b) and re.fullmatch(r"[A-Za-z' ]{4,}", prediction if a else gold):
        return False
    # An exact spelling of the integers and decimals is what the worker's grammar reads best.
    return _ask(_write(a.value) if a else gold, _write(b.value) if b else prediction, _tolerance(a, b), end)


def rounded(gold: Any, prediction: Any) -> bool:
    """Whether the prediction is a decimal and the gold an exact value."""
    if not (isinstance(gold, str) and isinstance(prediction, str)):
        return False
    a, b = _number(gold), _number(prediction)
    return bool(b and b.decimal and not (a and a.decimal))


def _tolerance(gold: Number | None, prediction: Number | None) -> Fraction:
    """How far apart two numbers may be (absolute); None stands for an expression that is not a plain number."""
    if (gold and gold.whole) or (prediction and prediction.whole):
        return Fraction(0)
    if gold and gold.decimal:
        return min(abs(gold.value) / 10000, Fraction(1, 20))
    if prediction and prediction.decimal and prediction.figures >= 6:
        return prediction.unit  # whether the last figure was rounded or cut off
    return Fraction(0)


def _ask(gold: str, prediction: str, within: Fraction, end: float) -> bool:
    left = end - time.monotonic()
    if left <= 0:
        raise score_worker.GradingFailed("grading timed out")
    return score_worker.shared_grader().are_equal(gold, prediction, tolerance=within, seconds=left)
