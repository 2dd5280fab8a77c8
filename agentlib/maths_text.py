r"""Answers as they are written: characters in one form, and maths read into a small tree of lists, brackets and leaves.

Owns what a character stands for, plain values as text, and the reading of LaTeX, plain text and Python spellings. Knows
nothing of what is equal (`score_maths`). Text is parsed, never evaluated.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

LONGEST = 2000  # characters; a longer text is no answer and is compared as it stands
DEEPEST = 8  # brackets within brackets that are looked into
YES_NO = {"true": "yes", "false": "no"}  # Python's words, as an answer is written
MOST_ITEMS = 1_000  # of an iterator, which might have no end

_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACED_DIGITS = re.compile(r"(?<=\d)[\u00a0\u2007-\u200a\u202f](?=\d{3}(?!\d))")  # 1 234 with a space that is no word's end
# What Unicode's normal forms take apart (´ º ˚) or leave alone (primes, letters for apostrophes).
_LOOK_ALIKES = str.maketrans(dict.fromkeys("´′ʻʼʹʿʾ", "'") | {"″": '"', "º": "°", "˚": "°"})
_PUNCTUATION = {"٫": ".", "٬": ",", "،": ",", "、": ",", "。": ".", "−": "-"} | dict.fromkeys("‘’‚‛", "'")
# Signs of maths that have a command or an ASCII sign of their own. Unlike other format characters, invisible operators count.
_SIGNS = str.maketrans(
    dict.fromkeys("×✕✖⨯", r"\times ") | dict.fromkeys("·⋅∙•∗\u2062", r"\cdot ") | dict.fromkeys("÷∕⁄", "/")
    | dict.fromkeys("≤≦⩽", r"\leq ") | dict.fromkeys("≥≧⩾", r"\geq ") | {"≠": r"\neq ", "≈": r"\approx ", "±": r"\pm "}
    | {"√": r"\sqrt ", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]", "∞": r"\infty ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset "}
    | {"∧": r"\land ", "∨": r"\lor ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil "}
    | {"\u2063": ",", "\u2064": "+", "∶": ":", "º": "°", "˚": "°"}
)  # fmt: skip


def _compatible(kind: str) -> dict[str, str]:
    """The superscripts, subscripts or fractions of Unicode, each with the plain text that it stands for."""
    found = {}
    for c in map(chr, range(0xA0, 0x2200)):
        tag, *codes = unicodedata.decomposition(c).split() or [""]
        if tag == kind and c not in "ªº" and len(codes) == (1 if kind != "<fraction>" else max(3, len(codes))):
            found[c] = "".join(chr(int(code, 16)) for code in codes)
    return found


_SUPER, _SUB, _FRACTION = (_compatible(kind) for kind in ("<super>", "<sub>", "<fraction>"))
_RAISED = re.compile(f"(?<=\\d)(?=[{''.join((*_SUPER, *_FRACTION))}])")
_RATIO = re.compile(f"([{''.join(_SUPER)}]+)⁄([{''.join(_SUB)}]+)")
_SCRIPT = re.compile(f"[{''.join(_SUPER)}]+|[{''.join(_SUB)}]+|[{''.join(_FRACTION)}]")
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[^\W\d_])")


class Rewrite(NamedTuple):
    """One substitution and an example: this rule alone turns `before` into `after`."""

    pattern: re.Pattern
    new: str | Callable[[re.Match], str]
    before: str
    after: str


def rewrite(text: str, rules: Iterable[Rewrite]) -> str:
    """The text after all rules, in their order."""
    for rule in rules:
        text = rule.pattern.sub(rule.new, text)
    return text


TEXT = r"\\(?:text(?:normal|bf|it|rm)?|mbox|math(?:rm|bf|it|bb)|operatorname)\s*\{([^{}]*)\}"
_DEGREES = r"(?:\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-z]))"
_NESTED = r"(?:[^(),]|\([^()]*\))"
_TWO_ARGUMENTS = rf"\(({_NESTED}*,{_NESTED}*)\)"
_CONTAINERS = (
    "array|list|tuple|set|frozenset|deque|dict_values|dict_keys"
    "|Matrix|ImmutableMatrix|ImmutableDenseMatrix"
)
_NOT_UNITS = (
    "and|or|to|mod|over|plus|minus|times|choose|hundred|thousand|million|billion|trillion|dozen"
)
_UNIT = r"(?:[A-Za-z]{3,}(?: [a-z]+){0,2}|[ckm]?m|kg|g|ft|hr?)(?:\^\S+)?"
_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln"


def _drop_unit(found: re.Match) -> str:
    """Nothing for a unit; the words themselves for "and", "million", "p.m." and the like."""
    words = found[1]
    return f" {words} " if re.search(rf"\b(?:{_NOT_UNITS})\b|[ap]\.m", words) else ""


# Pattern, replacement, and an example before and after. The order counts: LaTeX spacing and signs,
# units, then the spellings of Python and sympy.
REWRITES = [
    Rewrite(re.compile(pattern), new, before, after)
    for pattern, new, before, after in [
        # Markdown or quotes around the whole
        (r"""^(\*\*|[`"'])(.+)\1$""", r"\2", "**5**", "5"),
        (
            r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![A-Za-z])\.?",
            "",
            r"\left(1, 2\right)",
            "(1, 2)",
        ),
        (r",\\!\s*|\{,\}\s*|\\!", "", r"10,\!080", "10080"),
        (r"(?<!\\)\\(?:[,;: ]|q?quad(?![a-z]))|~", " ", r"10\,000", "10 000"),
        (r"(?<!\\)\\[()\[\]]|\\?[$%]|(?<=\d)\s*per ?cent$", "", r"\(50\%\)", "50"),
        (r"(?<=\d)'(?=\d{3}(?!\d))", "", "1'234", "1234"),  # Swiss thousands
        (r"\\approx.*", "", r"\frac{2}{3} \approx 0.67", r"\frac{2}{3} "),
        (r"\\[dtc]frac(?![a-z])", r"\\frac", r"\dfrac12", r"\frac12"),
        (r"\\var(?=epsilon|theta|phi|rho|sigma|pi|kappa)", r"\\", r"\varphi", r"\phi"),
        (r"\\lt(?![a-z])", "<", r"x \lt 2", "x < 2"),
        (r"\\gt(?![a-z])", ">", r"x \gt 2", "x > 2"),
        (
            r"\s*(?:\\not\s*=|\\ne(?:q|)(?![a-z])|(?<!\d)(?<!\d )!=)\s*",
            r"\\neq ",
            "x != 2",
            r"x\neq 2",
        ),
        (r"\s*(?:<=|\\leq?(?![a-z]))\s*", r"\\leq ", "x <= 2", r"x\leq 2"),
        (r"\s*(?:>=|\\geq?(?![a-z]))\s*", r"\\geq ", r"x \ge 2", r"x\geq 2"),
        (
            rf"\\(sin|cos|tan|cot|sec|csc)\s*[({{]?\s*([\d.]+)\s*{_DEGREES}\s*[)}}]?",
            r"\\\1(\\frac{\2\\pi}{180})",
            r"\tan 15^\circ",
            r"\tan(\frac{15\pi}{180})",
        ),
        (_DEGREES + r"(?:\s*[CF](?![A-Za-z]))?", "", r"20^{\circ}C", "20"),
        (
            r"(?<=[\d})])\s*" + TEXT + r"\s*(?:\^\s*\{?\d\}?)?",
            _drop_unit,
            r"15\mbox{ cm}^2",
            "15",
        ),
        (TEXT, r" \1 ", r"\text{(B)}", " (B) "),
        (
            r"\b(?:np|numpy|sp|sympy|math|fractions|decimal)\.(?=[A-Za-z])",
            "",
            "math.sqrt(2)",
            "sqrt(2)",
        ),
        (
            r"(?<![\\A-Za-z])(?:u?int|float|complex|str|Decimal|Integer|Float)_?\d*"
            r"\(\s*'?([^()']*)'?\s*\)",
            r"\1",
            "float64(0.5)",
            "0.5",
        ),
        (
            r"\b(?:Fraction|Rational)\(\s*(-?\d+)\s*,\s*(\d+)\s*\)",
            r"\1/\2",
            "Fraction(1, 3)",
            "1/3",
        ),
        (r"\b(?:set\(\)|EmptySet(?:\(\))?)", r"\\emptyset ", "set()", r"\emptyset "),
        (
            rf"\b(?:{_CONTAINERS})\s*\(\s*([\[({{].*[\])}}])\s*(?:,\s*dtype=\w+)?\)",
            r"\1",
            "array([3, 5], dtype=int64)",
            "[3, 5]",
        ),
        (rf"\bFiniteSet\(((?:{_NESTED}|,)*)\)", r"{\1}", "FiniteSet(3, 5)", "{3, 5}"),
        (  # the keys of a dict
            r"""(?<=[{,])\s*(?:'[^']*'|"[^"]*"|[A-Za-z]\w*)\s*:\s*(?=[^,}]*[,}])""",
            "",
            "{x: 3, 'y': 5}",
            "{3,5}",
        ),
        (rf"Interval{_TWO_ARGUMENTS}", r"[\1]", "Interval(0, 2)", "[0, 2]"),
        (rf"Interval\.open{_TWO_ARGUMENTS}", r"(\1)", "Interval.open(0, 2)", "(0, 2)"),
        (rf"Interval\.Lopen{_TWO_ARGUMENTS}", r"(\1]", "Interval.Lopen(0, 2)", "(0, 2]"),
        (rf"Interval\.Ropen{_TWO_ARGUMENTS}", r"[\1)", "Interval.Ropen(0, 2)", "[0, 2)"),
        (rf"^\s*Eq\(({_NESTED}*),({_NESTED}*)\)\s*$", r"\1=\2", "Eq(x, 5)", "x= 5"),
        (r"(?<=[)\]])\s*U\s*(?=[(\[])", r"\\cup ", "[0, 2] U (3, 4)", r"[0, 2]\cup (3, 4)"),
        (r"(?<!\\)\\([{}])", r"\1", r"\{5, 3\}", "{5, 3}"),
        (r"\*\*", "^", "2**10", "2^10"),
        (r"(?:\*|\\times(?![a-z])|\\cdot(?![a-z]))\s*", r"\\cdot ", "2*x", r"2\cdot x"),
        (rf"(?<![A-Za-z\\])({_FUNCTIONS})(?=[\s(\d^])", r"\\\1 ", "cos(x)", r"\cos (x)"),
        (r"(?<![A-Za-z\\])a(sin|cos|tan)(?=\()", r"\\arc\1 ", "acos(x)", r"\arccos (x)"),
        (r"(?<![A-Za-z\\])log(?=\()", r"\\ln ", "log(2)", r"\ln (2)"),  # as Python means it
        (r"(?<![A-Za-z\\])exp\(", "e^(", "exp(2)", "e^(2)"),
        (r"(?<![A-Za-z\\])(pi|sqrt)(?![A-Za-z])", r"\\\1 ", "sqrt(2)", r"\sqrt (2)"),
        (r"(?<![A-Za-z\\])cbrt(?=\()", r"\\sqrt[3]", "cbrt(2)", r"\sqrt[3](2)"),
        (r"(?<![A-Za-z\\])(?:oo|inf|infinity)(?![A-Za-z])", r"\\infty ", "-oo", r"-\infty "),
        # the imaginary unit of Python and of sympy
        (r"(?<=\d)j(?![A-Za-z])|(?<=[-+ (])I(?![A-Za-z])", "i", "1+2j", "1+2i"),
        (r"(?<![\d/.])(\d+)\s+(\d+)/(\d+)$", r"\1\\frac{\2}{\3}", "1 4/5", r"1\frac{4}{5}"),
        (
            rf"^\s*([-+]?[\d,]*\.?\d+(?:/\d+)?)\s+(?!(?:{_NOT_UNITS})\b)"
            rf"(?:sq(?:uare)? |cubic )?{_UNIT}\s*\.?$",
            r"\1",
            "864 square inches",
            "864",
        ),
        # not where inequalities are joined
        (
            r"(?<![\w\\])(?:and|or)(?!\w)(?!.*(?:[<>]|\\[lgn]eq))",
            ", ",
            "1 and -2",
            "1 ,  -2",
        ),
    ]
]
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)(?![\d,])")
WORDS = re.compile(r"(?=.*[A-Za-z]{2})[A-Za-z']+(?: [A-Za-z']+)*")

_RELATION = re.compile(r"[<>]|\\[lgn]eq(?![a-z])")
_EITHER = r"\bor\b|\\(?:lor|vee)(?![a-z])|(?<=\))\s*\|\s*(?=\()"
_BOTH = r"\band\b|&|\\(?:land|wedge)(?![a-z])"


def closing(text: str, start: int, brackets: str = "([{)]}") -> int:
    """Where the bracket at `start` closes, or -1; a half-open interval closes with another kind than it opens."""
    depth, half = 0, len(brackets) // 2
    for i in range(start, len(text)):
        depth += (text[i] in brackets[:half]) - (text[i] in brackets[half:])
        if depth == 0:
            return i
    return -1


def data(value: Any) -> Any:
    """A value as the plain data that is graded: text without halves of surrogate pairs, numbers, lists, sets and dicts.

    Arrays, ranges, views and iterators are lists; any other object is its text.
    """
    if isinstance(value, str):
        if _SURROGATE.search(value):
            value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {key: data(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return set(value)
    if hasattr(value, "tolist"):
        return data(value.tolist())
    try:
        return [data(item) for item in islice(value, MOST_ITEMS)]
    except TypeError:
        return data(str(value))


def plain(value: Any) -> str:
    """Plain data as text: 3.0 as "3", containers as their elements joined by commas."""
    if isinstance(value, float) and abs(value) < 2**53 and value.is_integer():
        value = int(value)
    if isinstance(value, int) and value.bit_length() > 12000:
        return hex(value)  # Python refuses to write longer decimals
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)):
        return ", ".join(sorted(map(plain, value)) if isinstance(value, set) else map(plain, value))
    return str(data(value))


def is_blank(value: Any) -> bool:
    """Whether plain data is no answer: None, nothing, or white space."""
    return value is None or not plain(value).strip()


def characters(text: str) -> str:
    """A text in which what looks or means the same is one character: Unicode's NFKC, ASCII digits, spaces, dashes and
    quotation marks, nothing invisible. Letters keep their accents."""
    if text.isascii():
        return text
    text = _RAISED.sub(" ", _SPACED_DIGITS.sub("", unicodedata.normalize("NFC", text))).translate(_LOOK_ALIKES)
    return "".join(map(_character, unicodedata.normalize("NFKC", text)))


@functools.cache
def _character(c: str) -> str:
    if c.isascii() or c in _PUNCTUATION:
        return _PUNCTUATION.get(c, c)
    kind = unicodedata.category(c)
    if kind == "Nd":
        return str(unicodedata.digit(c))
    if kind == "Cf" or "\ufe00" <= c <= "\ufe0f":  # soft hyphens, marks of direction, joiners, variants of a glyph
        return ""
    return {"Zs": " ", "Zl": " ", "Zp": " ", "Pd": "-", "Pi": '"', "Pf": '"'}.get(kind, c)


def _latex_characters(text: str) -> str:
    """`characters`, with what maths writes by position or by a sign of its own as LaTeX."""
    text = _ROOT.sub(lambda m: rf"{m[1]}{{{m[2]}}}", unicodedata.normalize("NFC", text))
    text = _RATIO.sub(lambda m: rf"\frac{{{''.join(map(_SUPER.get, m[1]))}}}{{{''.join(map(_SUB.get, m[2]))}}}", text)
    text = characters(_SCRIPT.sub(_script, text).translate(_SIGNS))
    return text if text.isascii() else "".join(map(_letter, text))


def _script(found: re.Match) -> str:
    if found[0] in _FRACTION:
        return r"\frac{{{}}}{{{}}}".format(*_FRACTION[found[0]].split("⁄"))
    sign, letters = ("^", _SUPER) if found[0][0] in _SUPER else ("_", _SUB)
    return f"{sign}{{{''.join(letters[c] for c in found[0])}}}"


@functools.cache
def _letter(c: str) -> str:
    """A Greek letter as its command; currencies are dropped, as $ is."""
    if c == "°":
        return r"^\circ "
    if unicodedata.category(c) == "Sc":
        return ""
    name = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)", unicodedata.name(c, ""))
    if not name:
        return c
    word = name[2].lower().replace("lamda", "lambda")
    return f"\\{word if name[1] == 'SMALL' else word.title()} "


def tree(value: Any, depth: int = 0) -> Any:
    """An answer as a leaf (str) or as (kind, items); a kind is the two brackets of the text, or "," for a bare
    list, "py" for a list that is no text, "U" for a union and "m" for a matrix."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)) and depth < DEEPEST:
        items = [tree(v, depth + 1) for v in value]
        return items[0] if len(items) == 1 else ("{}" if isinstance(value, set) else "py", items)
    text = plain(value)
    return text if len(text) > LONGEST else _parse(_canonical(text), depth)


def _canonical(text: str) -> str:
    """One spelling for the many ways to write the same LaTeX or Python expression, its structure kept."""
    text = re.sub(r"\s", " ", (text if text.isascii() else _latex_characters(text)).strip())
    return _braced(rewrite(text, REWRITES)).strip().rstrip(".").strip()


_TAKES = re.compile(r"\\(?:frac|sqrt)(?![A-Za-z])|[\^_]")
_GROUPS = {"frac": 2, "binom": 2, "sqrt": 1, "overline": 1, "text": 1, "mathrm": 1}


def _braced(text: str) -> str:
    r"""The braces that LaTeX lets one omit, and those that are round brackets in Python: \frac12, \sqrt[3]2, x^10, sqrt(2)."""
    for m in reversed(list(_TAKES.finditer(text))):  # from the right, so that what an argument holds is complete
        head, at, arguments = m[0], m.end(), []
        if index := re.compile(r"\s*(\[[^\[\]]*\])").match(text, at) if head == r"\sqrt" else None:
            head, at = head + index[1], index.end()
        for _ in range(2 if head == r"\frac" else 1):
            if (found := _argument(text, at, head)) is None:
                break
            arguments.append(found[0])
            at = found[1]
        else:
            if re.fullmatch(r"\\sqrt\[\d*[13579]\]", head) and re.fullmatch(r"-[\d.]+", arguments[0]):  # the real root
                written = f"(-{head}{{{arguments[0][1:]}}})"
            else:
                written = head + "".join(f"{{{argument}}}" for argument in arguments)
            text = text[: m.start()] + written + text[at:]
    return text


def _argument(text: str, at: int, head: str) -> tuple[str, int] | None:
    """What a command at `head` takes from `at` on, and where it ends; None if there is nothing that it could take."""
    while text[at : at + 1] == " ":
        at += 1
    if text[at : at + 1] == "{" or (text[at : at + 1] == "(" and head != r"\frac"):
        end = closing(text, at, "{}" if text[at] == "{" else "([{)]}")
        return (text[at + 1 : end], end + 1) if end >= 0 else None
    number = r"-?\d+(?:\.\d+)?|" if head == "^" else r"-?\d+|" if head == "_" else ""
    found = re.compile(rf"{number}[A-Za-z\d]|\\([A-Za-z]+)").match(text, at)
    if found is None:
        return None
    end = found.end()
    if found[1] == "sqrt" and text[end : end + 1] == "[":
        end = text.find("]", end) + 1
    for _ in range(_GROUPS.get(found[1], 0)):
        if text[end : end + 1] != "{" or (last := closing(text, end, "{}")) < 0:
            return None
        end = last + 1
    return text[at:end], end


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
    if _RELATION.search(text) and (region := _region(text, depth)) is not None:
        return region
    if len(pieces := _split(text, r"\\cup(?![a-z])")) > 1:
        return ("U", [_parse(piece, depth + 1) for piece in pieces])
    if not bracketed and not re.search(r"[(\[]|^\{", text):  # (100,101) is a point
        text = _THOUSANDS.sub(lambda m: re.sub("[, ]", "", m[0]), text)
    if len(parts := _split(text, r"[,;]|(?<=\d)\s+(?=[\d.])")) > 1:
        return (",", [item for part in parts for item in _items(_parse(part, depth + 1))])
    if parts and parts[0] != text:  # a stray comma at one end
        return _parse(parts[0], depth + 1)
    if not _RELATION.search(text):
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


def _region(text: str, depth: int) -> Any:
    """Inequalities of one variable, alone, chained, or joined by "and" and "or", as an interval or a union of intervals; None
    where that cannot be read off. The variable's name is dropped, as in "x = 5"."""
    text = text.strip()
    if depth > DEEPEST:
        return None
    if m := re.fullmatch(r"(And|Or)\((.*)\)", text):
        text = {"And": " and ", "Or": " or "}[m[1]].join(f"({part})" for part in _split(m[2], ","))
    if text[:1] in ("(", "{") and closing(text, 0) == len(text) - 1:
        return _region(text[1:-1], depth + 1)
    text = re.sub(r"^[A-Za-z]\s*(?:\\mid(?![a-z])|:|\|)", "", text)  # {x | x > 2}
    for joint in (_EITHER, _BOTH):
        if len(parts := _split(text, joint)) > 1:
            regions = [_region(part, depth + 1) for part in parts]
            if None in regions:
                return None
            if joint == _BOTH:
                return functools.reduce(_common, regions)
            return ("U", [interval for region in regions for interval in (region[1] if region[0] == "U" else [region])])
    sides, signs = [side.strip() for side in _RELATION.split(text)], _RELATION.findall(text)
    named = [bool(re.fullmatch(r"[A-Za-z](?:_\{\w+\})?|\\(?!infty|pi)[a-z]+", side)) for side in sides]
    if named not in ([True, False], [False, True], [False, True, False]) or any(
        re.search(r"(?<![\\A-Za-z])[A-Za-z]|[,;=&|]|^$", side) for side, name in zip(sides, named, strict=True) if not name
    ):
        return None
    ends = ["(", r"-\infty", r"\infty", ")"]
    for left, sign, right, name in zip(sides, signs, sides[1:], named, strict=False):
        value = _parse(right if name else left, depth + 1)
        if sign == r"\neq":
            return ("U", [("()", [r"-\infty", value]), ("()", [value, r"\infty"])]) if len(signs) == 1 else None
        if name == (sign in ("<", r"\leq")):  # x < value, or value > x
            ends[2:] = value, "]" if sign[1:] else ")"
        else:
            ends[:2] = "[" if sign[1:] else "(", value
    if len(signs) == 2 and {r"-\infty", r"\infty"} & {*map(str, ends[1:3])}:  # 1 < x > 0
        return None
    return (ends[0] + ends[3], ends[1:3])


def _common(one: Any, other: Any) -> Any:
    """What two intervals have in common, if at most one of them has a lower end and at most one an upper end; else None."""
    if one is None or "U" in (one[0], other[0]):
        return None
    lower, without_lower = sorted((one, other), key=lambda interval: interval[1][0] == r"-\infty")
    upper, without_upper = sorted((one, other), key=lambda interval: interval[1][1] == r"\infty")
    if without_lower[1][0] != r"-\infty" or without_upper[1][1] != r"\infty":
        return None
    return (lower[0][0] + upper[0][1], [lower[1][0], upper[1][1]])
