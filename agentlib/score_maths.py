r"""Maths answers: one canonical form for the many ways to write one, and when two are equal.

Owns the reading of LaTeX, plain text and Python spellings into a small tree of lists, brackets and leaves, the
key of that tree, and the comparison. Knows nothing of grades. Text is parsed, never evaluated; leaves that
need algebra go to the killable process of `score_worker`. The rules that decide doubtful cases stand in the
docstring of `score`.
"""

import re
import time
from fractions import Fraction
from typing import Any

from agentlib import score_worker

LONGEST = 2000  # characters; a longer text is no answer and is compared as it stands
DEEPEST = 8  # brackets within brackets that are looked into

_SYMBOLS = str.maketrans(
    {"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "√": r"\sqrt ", "∞": r"\infty "}
    | {"∪": r"\cup ", "∈": r"\in ", "≤": r"\leq ", "≥": r"\geq ", "±": r"\pm ", "°": r"^\circ ", "²": "^2", "³": "^3"}
    | {"½": r"\frac12 ", "\u00a0": " ", "€": "", "£": "", "\t": " ", "\n": " ", "θ": r"\theta "}
)
_TEXT = r"\\(?:text(?:normal|bf|it|rm)?|mbox|math(?:rm|bf|it)|operatorname)\s*\{([^{}]*)\}"
_NESTED = r"(?:[^(),]|\([^()]*\))"
_CALL = rf"({_NESTED}*,{_NESTED}*)"
_NOT_UNITS = "and|or|to|mod|over|plus|minus|times|choose|hundred|thousand|million|billion|trillion|dozen"
# In this order: LaTeX spacing and signs, units, Python and sympy spellings, then the braces LaTeX lets one omit.
_REWRITES = [
    (re.compile(pattern), new)
    for pattern, new in [
        (r"""^(\*\*|[`"'])(.+)\1$""", r"\2"),  # Markdown or quotes around the whole
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![A-Za-z])\.?", ""),
        (r",\\!\s*|\{,\}\s*|\\!", ""),
        (r"(?<!\\)\\(?:[,;: ]|q?quad(?![a-z]))|~", " "),
        (r"(?<!\\)\\[()\[\]]|\\?[$%]|(?<=\d)\s*per ?cent$", ""),
        (r"\\approx.*", ""),
        (r"\\[dtc]frac(?![a-z])", r"\\frac"),
        (r"\s*(?:<=|\\leq?(?![a-z]))\s*", r"\\leq "),
        (r"\s*(?:>=|\\geq?(?![a-z]))\s*", r"\\geq "),
        (
            r"\\(sin|cos|tan|cot|sec|csc)\s*[({]?\s*([\d.]+)\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree)\s*[)}]?",
            r"\\\1(\\frac{\2\\pi}{180})",
        ),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-z])", ""),
        (
            r"(?<=[\d})])\s*" + _TEXT + r"\s*(?:\^\s*\{?\d\}?)?",
            lambda m: f" {m[1]} " if re.search(rf"\b(?:{_NOT_UNITS})\b|[ap]\.m", m[1]) else "",
        ),
        (_TEXT, r" \1 "),
        (r"\bMatrix\s*\(\s*(\[.*\])\s*\)", r"\1"),
        (rf"Interval\({_CALL}\)", r"[\1]"),
        (rf"Interval\.open\({_CALL}\)", r"(\1)"),
        (rf"Interval\.Lopen\({_CALL}\)", r"(\1]"),
        (rf"Interval\.Ropen\({_CALL}\)", r"[\1)"),
        (rf"^\s*Eq\(({_NESTED}*),({_NESTED}*)\)\s*$", r"\1=\2"),
        (r"(?<=[)\]])\s*U\s*(?=[(\[])", r"\\cup "),
        (r"(?<!\\)\\([{}])", r"\1"),
        (r"\*\*", "^"),
        (r"(?:\*|\\times(?![a-z])|\\cdot(?![a-z]))\s*", r"\\cdot "),
        (r"(?<![A-Za-z\\])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln)(?=[\s(\d^])", r"\\\1 "),
        (r"(?<![A-Za-z\\])a(sin|cos|tan)(?=\()", r"\\arc\1 "),
        (r"(?<![A-Za-z\\])log(?=\()", r"\\ln "),  # Python's log is the natural one
        (r"(?<![A-Za-z\\])exp\(", "e^("),
        (r"(?<![A-Za-z\\])(pi|sqrt)(?![A-Za-z])", r"\\\1 "),
        (r"(?<![A-Za-z\\])(?:oo|inf|infinity)(?![A-Za-z])", r"\\infty "),
        (r"\+\s*\\infty", r"\\infty "),
        (r"(?<=\d)j(?![A-Za-z])|(?<=[-+ (])I(?![A-Za-z])", "i"),
        (r"(\^|_)\s*(-?\d+(?:(?<=\^\d)\.\d+)?)", r"\1{\2}"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (r"\\sqrt\s+([A-Za-z]|\\pi)", r"\\sqrt{\1}"),
        (r"\\frac\s*(\d|\\pi(?![a-z]))\s*(?=[\d{\\])", r"\\frac{\1}"),
        (r"\\frac\s*(\{[^{}]*\})\s*(?:(\d)|(\{))", lambda m: rf"\frac{m[1]}" + (m[3] or f"{{{m[2]}}}")),
        (r"(?<![\d/.])(\d+)\s+(\d+)/(\d+)$", r"\1\\frac{\2}{\3}"),
        (
            rf"^\s*([-+]?[\d,]*\.?\d+(?:/\d+)?)\s+(?!(?:{_NOT_UNITS})\b)(?:sq(?:uare)? |cubic )?"
            r"(?:[A-Za-z]{3,}(?: [a-z]+){0,2}|[ckm]?m|kg|g|ft|hr?)(?:\^\S+)?\s*\.?$",
            r"\1",
        ),
        (r"(?<![\w\\])(?:and|or)(?!\w)(?![^<>]*[<>])", ", "),
    ]
]
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)(?![\d,])")
_NUMBER = re.compile(
    r"(?P<n>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)(?:/(?P<d>\d+)|\\cdot10\^\{(?P<p>-?\d{1,3})\})?"
    r"|(?P<s>[-+]?)(?P<w>\d*)\\frac\{(?P<a>-?\d+)\}\{(?P<b>\d+)\}"
)
_WORDS = re.compile(r"(?=.*[A-Za-z]{2})[A-Za-z']+(?: [A-Za-z']+)*")


def closing(text: str, start: int, brackets: str = "([{)]}") -> int:
    """Where the bracket at `start` closes, or -1; a half-open interval closes with another kind than it opens."""
    depth, half = 0, len(brackets) // 2
    for i in range(start, len(text)):
        depth += (text[i] in brackets[:half]) - (text[i] in brackets[half:])
        if depth == 0:
            return i
    return -1


def plain(value: Any) -> str:
    """A sandbox's value as text: 3.0 as "3", containers as their elements joined by commas."""
    if isinstance(value, float) and abs(value) < 2**53 and value.is_integer():
        value = int(value)
    if isinstance(value, int) and value.bit_length() > 12000:
        return hex(value)  # Python refuses to write longer decimals
    if isinstance(value, dict):
        value = list(value.values())
    return ", ".join(map(plain, value)) if isinstance(value, (list, tuple, set)) else str(value)


def tree(value: Any, depth: int = 0) -> Any:
    """An answer as a leaf (str) or as (kind, items); a kind is the two brackets of the text, or "," for a bare
    list, "py" for a list that is no text, "U" for a union and "m" for a matrix."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)) and depth < DEEPEST:
        items = [tree(v, depth + 1) for v in value]
        return items[0] if len(items) == 1 else ("py", items)
    text = plain(value)
    return text if len(text) > LONGEST else _parse(_canonical(text), depth)


def _canonical(text: str) -> str:
    """One spelling for the many ways to write the same LaTeX or Python expression, its structure kept."""
    text = text.strip().translate(_SYMBOLS)
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    for name in (r"\sqrt", "^"):  # a call's brackets are LaTeX's braces
        at = text.find(name)
        while at >= 0:
            after = at + len(name)
            start = after + len(text[after:]) - len(text[after:].lstrip())
            if text[start : start + 1] == "(":
                if (end := closing(text, start)) < 0:
                    break
                text = text[:after] + "{" + text[start + 1 : end] + "}" + text[end + 1 :]
            at = text.find(name, after)
    return text.strip().rstrip(".").strip()


def _split(text: str, separator: str) -> list[str]:
    """Parts between separators that stand outside all brackets."""
    parts, depth, last = [], 0, 0
    for m in re.finditer(rf"[(\[{{]|[)\]}}]|{separator}", text):
        if m[0] in tuple("([{"):
            depth += 1
        elif m[0] in tuple(")]}"):
            depth -= 1
        elif depth == 0:
            parts.append(text[last : m.start()])
            last = m.end()
    return [p for p in (*parts, text[last:]) if p.strip()]


def _parse(text: str, depth: int, bracketed: bool = False) -> Any:
    text = text.strip()
    if depth > DEEPEST:
        return text
    if text.startswith("Union(") and text.endswith(")"):
        text = r"\cup ".join(_split(text[6:-1], ","))
    if m := re.fullmatch(r"\\begin\{[pbBv]?(?:small)?matrix\}(.*)\\end\{[a-zA-Z]+\}", text):
        rows = [[_parse(cell, depth + 1) for cell in row.split("&")] for row in m[1].split(r"\\") if row.strip()]
        return ("m", [row[0] if len(row) == 1 else ("m", row) for row in rows])
    text = re.sub(r"^[A-Za-z](?:_\{\w+\})?\s*\\in(?![a-z])\s*", "", text)
    if len(pieces := _split(text, r"\\cup(?![a-z])")) > 1:
        return ("U", [_parse(piece, depth + 1) for piece in pieces])
    if not bracketed and not re.search(r"[(\[]|^\{", text):  # (100,101) is a point
        text = _THOUSANDS.sub(lambda m: re.sub("[, ]", "", m[0]), text)
    if len(parts := _split(text, r"[,;]|(?<=\d)\s+(?=[\d.])")) > 1:
        return (",", [item for part in parts for item in _items(_parse(part, depth + 1))])
    if parts and parts[0] != text:  # a stray comma at one end
        return _parse(parts[0], depth + 1)
    if not re.search(r"[<>]|\\[lgn]eq", text):
        name = re.match(r"[A-Za-z]*(?:_\{\w+\})?(\([a-z]\))?\s*=(?!=)", text)
        # y = 2x + 3 stays an equation, x = 5 and f(x) = 2x are names for what follows.
        if name and (name[1] or not re.search(r"(?<![\\A-Za-z])[A-Za-z]", text[name.end() :])):
            text = text[name.end() :].strip()
    if len(text) > 2 and text[0] in "([{" and closing(text, 0) == len(text) - 1:
        inner = _parse(text[1:-1], depth + 1, bracketed=True)
        if not isinstance(inner, tuple) or inner[0] != ",":
            return inner
        items = inner[1]  # infinity is no end that an interval could contain
        return ("(" if items[0] == r"-\infty" else text[0]) + (")" if items[-1] == r"\infty" else text[-1]), items
    if re.search(r"\\pm(?![a-z])", text):
        return (",", [_parse(re.sub(r"\\pm(?![a-z])\s*", sign, text), depth + 1) for sign in "+-"])
    if _WORDS.fullmatch(text):
        return text
    text = re.sub(r"(\\[A-Za-z]+\s)\s*(?=[A-Za-z])|\s+", lambda m: m[1] or "", text)
    return text.removeprefix("+")


def _items(node: Any) -> list[Any]:
    """The elements of a list within a list (2 \\pm x, 3), or the one element."""
    return node[1] if isinstance(node, tuple) and node[0] == "," else [node]


def _number(leaf: str) -> tuple[Fraction, bool, int] | None:
    """A leaf as an exact number, whether it was a decimal, and its significant figures; None if it is no number.

    The noise of binary floats is rounded away: decimals keep 12 figures, and at least 3 decimal places.
    """
    m = _NUMBER.fullmatch(leaf) if len(leaf) < 400 else None
    if m is None or 0 in (int(m["d"] or 1), int(m["b"] or 1)):
        return None
    if m["b"]:
        value = int(m["w"] or 0) + Fraction(int(m["a"]), int(m["b"]))
        return (-value if m["s"] == "-" else value), False, 0
    value, decimal = Fraction(m["n"]), not re.fullmatch(r"[-+]?\d+", m["n"])
    if m["d"] or m["p"]:
        return value / int(m["d"] or 1) * Fraction(10) ** int(m["p"] or 0), False, 0
    if decimal:
        magnitude = len(str(int(abs(value)))) if abs(value) >= 1 else -_leading_zeros(value)
        value = round(value, max(12 - magnitude, 3))
    digits = re.sub(r"[eE].*|\D", "", m["n"]).lstrip("0")
    return value, decimal and value.denominator > 1, len(digits)


def _leading_zeros(value: Fraction) -> int:
    """Zeros between the point and the first figure of a number below 1."""
    return max(0, len(str(value.denominator // abs(value.numerator))) - 1) if value else 0


def key(node: Any) -> str:
    """The tree as text: what is equal without algebra has the same key."""
    if isinstance(node, str):
        if (found := _number(node)) is not None:
            return _write(found[0])
        if re.fullmatch(r"[A-Za-z' ]+", node):
            return node.lower()
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
        if _number(text)[0] == value:
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
        return bool(re.search(r"[<>]|\\[lg]eq", leaf)) and _ask(key(gold), key(prediction), 0.0, end)
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
    if re.fullmatch(r"(-?[0-9A-Z]+)_\{(\d+)\}", prediction) or (_WORDS.fullmatch(gold) and _WORDS.fullmatch(prediction)):
        return False
    if len(gold) > LONGEST or len(prediction) > LONGEST:
        return False
    a, b = _number(gold), _number(prediction)
    if a and b:
        return abs(a[0] - b[0]) <= _tolerance(a, b)
    if (a or b) and re.fullmatch(r"[A-Za-z' ]{4,}", prediction if a else gold):
        return False
    within = _tolerance(a, b)
    # An exact spelling of the integers and decimals is what the worker's grammar reads best.
    return _ask(_write(a[0]) if a else gold, _write(b[0]) if b else prediction, float(within), end)


def _tolerance(gold: tuple | None, prediction: tuple | None) -> Fraction:
    """How far apart two numbers may be (absolute); None stands for an expression that is not a plain number."""
    if (gold and gold[0].denominator == 1) or (prediction and prediction[0].denominator == 1):
        return Fraction(0)
    if gold and gold[1]:
        return min(abs(gold[0]) / 10000, Fraction(1, 20))
    if prediction and prediction[1] and prediction[2] >= 6:
        # One unit of the last figure, whether it was rounded or cut off.
        text = _write(prediction[0])
        return Fraction(1, 10 ** len(text.partition(".")[2])) if "." in text else abs(prediction[0]) / 10**10
    return Fraction(0)


def _ask(gold: str, prediction: str, within: float, end: float) -> bool:
    left = end - time.monotonic()
    if left <= 0:
        raise score_worker.GradingFailed("grading timed out")
    return score_worker.shared().equal(gold, prediction, within=within, seconds=left)
