"""Maths answers as trees (`maths_text.parse`): their canonical key, and when two are equal.

Numbers, tolerances and the comparison of lists are decided here; leaves that need algebra go to
the process of `worker`. The docstring of `grading` states the rules for doubtful cases.
"""

import re
from fractions import Fraction
from typing import Any, NamedTuple

from agentlib.score import worker
from agentlib.score.maths_text import MAX_CHARACTERS, WORDS, YES_NO

# -12, .5, 1e-05, 3/4, 2.5\cdot10^{3}, or a (mixed) fraction 1\frac{4}{5}
_NUMBER = re.compile(
    r"(?P<n>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)"
    r"(?:/(?P<d>\d+)|\\cdot10\^\{(?P<p>-?\d{1,3})\})?"
    r"|(?P<s>[-+]?)(?P<w>\d*)\\frac\{(?P<a>-?\d+)\}\{(?P<b>\d+)\}"
)
_WORDS = re.compile(r"[A-Za-z' ]+")  # also of one letter, unlike `maths_text.WORDS`
_WITH_BASE = re.compile(r"(-?[0-9A-Z]+)_\{(\d+)\}")  # 204_{5}


class Number(NamedTuple):
    """A leaf that is a number.

    `decimal`: whether it was written as one. `figures`: how many significant figures it gives.
    `last_place`: what one unit in its last figure is worth.
    """

    value: Fraction
    decimal: bool = False
    figures: int = 0
    last_place: Fraction = Fraction(0)

    @property
    def is_whole(self) -> bool:
        """Whether it is an integer to the last figure; 1.7e26 is not."""
        return self.value.denominator == 1 and self.last_place <= 1


def _read_number(leaf: str) -> Number | None:
    """A leaf as a number; None if it is none.

    Decimals are rounded to 12 figures, and at least 3 decimal places, so that the noise of binary
    floats goes.
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


def to_key(node: Any) -> str:
    """The tree as text: what is equal without algebra has the same key."""
    if isinstance(node, str):
        if (number := _read_number(node)) is not None:
            return _write_number(number.value)
        if _WORDS.fullmatch(node):
            return YES_NO.get(node.lower(), node.lower())
        # Not before \frac: 2 \cdot \frac12 is no mixed number.
        return re.sub(r"(?<![A-Za-z])\\cdot\s*(?=[A-Za-z(]|\\(?!frac))", "", node)
    kind, items = node
    keys = [to_key(item) for item in items]
    if _is_unordered(kind, items):
        keys.sort()
    if kind in (",", "U"):
        return (", " if kind == "," else r"\cup ").join(keys)
    opening, end = kind if kind[0] in "([{" else "[]"
    return opening + ", ".join(keys) + end


def _write_number(value: Fraction) -> str:
    """A number in one way: "1234", "0.5", "1/3"."""
    if value.denominator == 1:
        return str(value.numerator)
    if 10**12 % value.denominator == 0:
        sign, whole = "-" if value < 0 else "", abs(value) * 10**12
        text = f"{whole.numerator:013d}"
        text = f"{sign}{text[:-12]}.{text[-12:]}".rstrip("0")
        if _read_number(text).value == value:
            return text
    return f"{value.numerator}/{value.denominator}"


def _is_unordered(kind: str, items: list[Any]) -> bool:
    """Whether the items may come in any order: bare lists, sets and unions, but not words."""
    words = all(isinstance(item, str) and _WORDS.fullmatch(item) for item in items)
    return kind in (",", "{}", "U") and not words


def are_equal(gold: Any, prediction: Any, seconds: float) -> bool:
    """Whether two trees are equal; raises `worker.GradingFailed` after `seconds` of computing."""
    return _are_equal_trees(gold, prediction, worker.Budget(seconds))


def _are_equal_trees(gold: Any, prediction: Any, budget: worker.Budget) -> bool:
    if isinstance(gold, str) and isinstance(prediction, str):
        return _are_equal_leaves(gold, prediction, budget)
    if isinstance(gold, str) or isinstance(prediction, str):  # an inequality for an interval
        leaf = gold if isinstance(gold, str) else prediction
        if not re.search(r"[<>]|\\[lg]eq", leaf):
            return False
        return _ask_worker(to_key(gold), to_key(prediction), Fraction(0), budget)
    (kind, golds), (other, predictions) = gold, prediction
    if not _may_stand_for(other, kind, len(golds)) or len(golds) != len(predictions):
        return False
    if not _is_unordered(kind, golds):
        pairs = zip(golds, predictions, strict=True)
        return all(_are_equal_trees(a, b, budget) for a, b in pairs)
    left = list(predictions)
    for a in golds:
        match = next((i for i, b in enumerate(left) if to_key(a) == to_key(b)), None)
        if match is None:
            candidates = enumerate(left)
            match = next((i for i, b in candidates if _are_equal_trees(a, b, budget)), None)
        if match is None:
            return False
        del left[match]
    return True


def _may_stand_for(prediction: str, gold: str, length: int) -> bool:
    """Whether a node of kind `prediction` can equal one of kind `gold` with `length` items."""
    if prediction == gold:
        return True
    if "U" in (prediction, gold):
        return False
    if gold in (",", "{}", "m"):
        return prediction in (",", "{}", "[]", "()", "m", "py")
    bare_tuple = prediction == "," and gold in ("()", "py") and length > 2  # two may be roots
    return prediction == "py" or bare_tuple


def _are_equal_leaves(gold: str, prediction: str, budget: worker.Budget) -> bool:
    if to_key(gold) == to_key(prediction):
        return True
    if m := _WITH_BASE.fullmatch(gold):  # the question names the base
        return prediction == m[1]
    if _WITH_BASE.fullmatch(prediction) or (WORDS.fullmatch(gold) and WORDS.fullmatch(prediction)):
        return False
    if len(gold) > MAX_CHARACTERS or len(prediction) > MAX_CHARACTERS:
        return False
    a, b = _read_number(gold), _read_number(prediction)
    tolerance = _tolerance(a, b)
    if a and b:
        return abs(a.value - b.value) <= tolerance
    if (a or b) and re.fullmatch(r"[A-Za-z' ]{4,}", prediction if a else gold):
        return False
    # Integers and decimals in full are what the grammar of the worker reads best.
    gold = _write_number(a.value) if a else gold
    prediction = _write_number(b.value) if b else prediction
    return _ask_worker(gold, prediction, tolerance, budget)


def is_decimal_of_exact(prediction: Any, gold: Any) -> bool:
    """Whether the prediction is a decimal and the gold an exact value."""
    if not (isinstance(gold, str) and isinstance(prediction, str)):
        return False
    a, b = _read_number(gold), _read_number(prediction)
    return bool(b and b.decimal and not (a and a.decimal))


def _tolerance(gold: Number | None, prediction: Number | None) -> Fraction:
    """How far apart (absolute) two leaves may be; None stands for one that is no plain number."""
    if (gold and gold.is_whole) or (prediction and prediction.is_whole):
        return Fraction(0)
    if gold and gold.decimal:
        return min(abs(gold.value) / 10000, Fraction(1, 20))
    if prediction and prediction.decimal and prediction.figures >= 6:
        return prediction.last_place  # whether the last figure was rounded or cut off
    return Fraction(0)


def _ask_worker(gold: str, prediction: str, tolerance: Fraction, budget: worker.Budget) -> bool:
    grader = worker.shared_grader()
    return grader.are_equal(gold, prediction, tolerance=tolerance, seconds=budget)
