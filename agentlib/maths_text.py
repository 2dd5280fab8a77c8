r"""Maths answers as they are written, read into a small tree of lists, brackets and leaves.

Owns the reading of LaTeX, plain text and Python spellings. Knows nothing of what is equal (`score_maths`). Text is parsed,
never evaluated.
"""

import re
from typing import Any

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
WORDS = re.compile(r"(?=.*[A-Za-z]{2})[A-Za-z']+(?: [A-Za-z']+)*")


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
    if WORDS.fullmatch(text):
        return text
    text = re.sub(r"(\\[A-Za-z]+\s)\s*(?=[A-Za-z])|\s+", lambda m: m[1] or "", text)
    return text.removeprefix("+")


def _items(node: Any) -> list[Any]:
    """The elements of a list within a list (2 \\pm x, 3), or the one element."""
    return node[1] if isinstance(node, tuple) and node[0] == "," else [node]
