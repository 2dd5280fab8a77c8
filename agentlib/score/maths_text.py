r"""Reads answers as they are written: LaTeX, plain text, Python and sympy spellings, any Unicode.

`to_plain_data` and `to_text` turn any value into data and text, `normalise_characters` brings
characters into one form, and `parse` reads maths into a small tree of lists, brackets and leaves.
Text is parsed, never evaluated. `maths` decides what is equal.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

MAX_CHARACTERS = 2000  # a longer text is no answer and is compared as it is
MAX_DEPTH = 8  # deeper brackets within brackets are left as text
MAX_ITEMS = 1_000  # of an iterator, which might have no end
YES_NO = {"true": "yes", "false": "no"}  # how Python's words are written as an answer

_SURROGATE = re.compile("[\ud800-\udfff]")
# The thin spaces of 1\u202f234, in contrast to spaces that end a word.
_SPACED_DIGITS = re.compile(r"(?<=\d)[\u00a0\u2007-\u200a\u202f](?=\d{3}(?!\d))")
# What Unicode's normal forms take apart (´ º ˚) or leave alone (primes, letters for apostrophes).
_LOOK_ALIKES = str.maketrans(dict.fromkeys("´′ʻʼʹʿʾ", "'") | {"″": '"', "º": "°", "˚": "°"})
_PUNCTUATION = dict.fromkeys("‘’‚‛", "'")
_PUNCTUATION |= {"٫": ".", "٬": ",", "،": ",", "、": ",", "。": ".", "−": "-"}
# Signs of maths that have a LaTeX command or an ASCII sign. Unlike other format characters,
# invisible operators count.
_SIGNS = str.maketrans(
    dict.fromkeys("×✕✖⨯", r"\times ")
    | dict.fromkeys("·⋅∙•∗\u2062", r"\cdot ")
    | dict.fromkeys("÷∕⁄", "/")
    | {"∶": ":", "\u2063": ",", "\u2064": "+", "º": "°", "˚": "°"}
    | dict.fromkeys("≤≦⩽", r"\leq ")
    | dict.fromkeys("≥≧⩾", r"\geq ")
    | {"≠": r"\neq ", "≈": r"\approx ", "±": r"\pm ", "∞": r"\infty "}
    | {"√": r"\sqrt ", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
    | {"∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset ", "∧": r"\land ", "∨": r"\lor "}
    | {"⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil "}
)


def _find_characters(kind: str) -> dict[str, str]:
    """The "<super>", "<sub>" or "<fraction>" characters of Unicode with their plain text."""
    found = {}
    for c in map(chr, range(0xA0, 0x2200)):
        tag, *codes = unicodedata.decomposition(c).split() or [""]
        complete = len(codes) >= 3 if kind == "<fraction>" else len(codes) == 1
        if tag == kind and c not in "ªº" and complete:
            found[c] = "".join(chr(int(code, 16)) for code in codes)
    return found


_SUPERSCRIPTS = _find_characters("<super>")  # ² is 2
_SUBSCRIPTS = _find_characters("<sub>")  # ₂ is 2
_FRACTIONS = _find_characters("<fraction>")  # ½ is 1⁄2
_SUPER, _SUB, _FRACTION = map("".join, (_SUPERSCRIPTS, _SUBSCRIPTS, _FRACTIONS))
_BEFORE_RAISED = re.compile(rf"(?<=\d)(?=[{_SUPER}{_FRACTION}])")  # 2½, 10⁶: a space goes there
_RATIO = re.compile(f"([{_SUPER}]+)⁄([{_SUB}]+)")  # ⁴⁄₅
_SCRIPT = re.compile(f"[{_SUPER}]+|[{_SUB}]+|[{_FRACTION}]")  # ¹⁰ or ₁₂ or ½
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[^\W\d_])")  # √12, ∛x


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
        (r"(?<=[\d})])\s*" + TEXT + r"\s*(?:\^\s*\{?\d\}?)?", _drop_unit, r"15\mbox{ cm}^2", "15"),
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
        (r"(?<![\w\\])(?:and|or)(?!\w)(?!.*(?:[<>]|\\[lgn]eq))", ", ", "1 and -2", "1 ,  -2"),
    ]
]
# 1,234 or 1 234 567, not 1,23
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)(?![\d,])")
WORDS = re.compile(r"(?=.*[A-Za-z]{2})[A-Za-z']+(?: [A-Za-z']+)*")  # Evelyn, not x
_RELATION = re.compile(r"[<>]|\\[lgn]eq(?![a-z])")
_OR = r"\bor\b|\\(?:lor|vee)(?![a-z])|(?<=\))\s*\|\s*(?=\()"  # x<1 or x>2, (x < 1) | (x > 2)
_AND = r"\band\b|&|\\(?:land|wedge)(?![a-z])"


def find_closing(text: str, start: int, brackets: str = "([{)]}") -> int:
    """The index at which the bracket at `start` closes, or -1.

    Brackets of different kinds may close each other, as those of a half-open interval do.
    """
    depth, half = 0, len(brackets) // 2
    for i in range(start, len(text)):
        depth += (text[i] in brackets[:half]) - (text[i] in brackets[half:])
        if depth == 0:
            return i
    return -1


def to_plain_data(value: Any) -> Any:
    """Any value as plain data: None, text, bool, int, float, list, set or dict.

    Arrays, ranges, views and iterators become lists (at most `MAX_ITEMS` items), other objects
    their text. Pairs of surrogates in a text become characters, single ones U+FFFD.
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
        return {key: to_plain_data(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return set(value)
    if hasattr(value, "tolist"):
        return to_plain_data(value.tolist())
    try:
        return [to_plain_data(item) for item in islice(value, MAX_ITEMS)]
    except TypeError:
        return to_plain_data(str(value))


def to_text(value: Any) -> str:
    """Plain data as text: 3.0 as "3", containers as their elements joined by commas."""
    if isinstance(value, float) and abs(value) < 2**53 and value.is_integer():
        value = int(value)
    if isinstance(value, int) and value.bit_length() > 12000:
        return hex(value)  # Python refuses to write longer decimals
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, set):
        return ", ".join(sorted(map(to_text, value)))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(to_text, value))
    return str(to_plain_data(value))


def is_blank(value: Any) -> bool:
    """Whether plain data is no answer: None, an empty text or container, or white space."""
    return value is None or not to_text(value).strip()


def normalise_characters(text: str) -> str:
    """A text in which characters that look or mean the same are the same.

    Unicode's NFKC, ASCII digits, spaces, dashes and quotation marks, nothing invisible. Letters
    keep their accents.
    """
    if text.isascii():
        return text
    text = _SPACED_DIGITS.sub("", unicodedata.normalize("NFC", text))
    text = _BEFORE_RAISED.sub(" ", text).translate(_LOOK_ALIKES)
    return "".join(map(_normalise_character, unicodedata.normalize("NFKC", text)))


@functools.cache
def _normalise_character(c: str) -> str:
    if c.isascii() or c in _PUNCTUATION:
        return _PUNCTUATION.get(c, c)
    category = unicodedata.category(c)
    if category == "Nd":
        return str(unicodedata.digit(c))
    # soft hyphens, marks of direction, joiners; variants of a glyph
    if category == "Cf" or "\ufe00" <= c <= "\ufe0f":
        return ""
    return {"Zs": " ", "Zl": " ", "Zp": " ", "Pd": "-", "Pi": '"', "Pf": '"'}.get(category, c)


def _characters_to_latex(text: str) -> str:
    """`normalise_characters`, with raised and lowered characters and signs of maths as LaTeX."""
    text = _ROOT.sub(lambda m: rf"{m[1]}{{{m[2]}}}", unicodedata.normalize("NFC", text))
    text = _RATIO.sub(_ratio_to_latex, text)
    text = normalise_characters(_SCRIPT.sub(_script_to_latex, text).translate(_SIGNS))
    return text if text.isascii() else "".join(map(_letter_to_latex, text))


def _ratio_to_latex(found: re.Match) -> str:
    above = "".join(_SUPERSCRIPTS[c] for c in found[1])
    below = "".join(_SUBSCRIPTS[c] for c in found[2])
    return rf"\frac{{{above}}}{{{below}}}"


def _script_to_latex(found: re.Match) -> str:
    if found[0] in _FRACTIONS:
        above, below = _FRACTIONS[found[0]].split("⁄")
        return rf"\frac{{{above}}}{{{below}}}"
    sign, letters = ("^", _SUPERSCRIPTS) if found[0][0] in _SUPERSCRIPTS else ("_", _SUBSCRIPTS)
    return f"{sign}{{{''.join(letters[c] for c in found[0])}}}"


@functools.cache
def _letter_to_latex(c: str) -> str:
    """A Greek letter as its command, the degree sign as LaTeX, a currency sign as nothing."""
    if c == "°":
        return r"^\circ "
    if unicodedata.category(c) == "Sc":
        return ""
    name = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)", unicodedata.name(c, ""))
    if not name:
        return c
    word = name[2].lower().replace("lamda", "lambda")
    return f"\\{word if name[1] == 'SMALL' else word.title()} "


def parse(value: Any, depth: int = 0) -> Any:
    """An answer as a tree: a leaf (str) or a node (kind, items).

    A kind is the two brackets of the text, such as "[)"; or "," for a bare list, "py" for a Python
    list, "U" for a union, "m" for a matrix and for a row of it.
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)) and depth < MAX_DEPTH:
        items = [parse(v, depth + 1) for v in value]
        return items[0] if len(items) == 1 else ("{}" if isinstance(value, set) else "py", items)
    text = to_text(value)
    return text if len(text) > MAX_CHARACTERS else _parse_text(_normalise_spelling(text), depth)


def _normalise_spelling(text: str) -> str:
    """One spelling for the many ways to write the same LaTeX or Python expression."""
    text = re.sub(r"\s", " ", (text if text.isascii() else _characters_to_latex(text)).strip())
    return _add_braces(rewrite(text, REWRITES)).strip().rstrip(".").strip()


_TAKES_ARGUMENTS = re.compile(r"\\(?:frac|sqrt)(?![A-Za-z])|[\^_]")
_ARGUMENTS_OF = {"frac": 2, "binom": 2, "sqrt": 1, "overline": 1, "text": 1, "mathrm": 1}
_INDEX = re.compile(r"\s*(\[[^\[\]]*\])")  # [3] of \sqrt[3]{2}


def _add_braces(text: str) -> str:
    r"""Braces where LaTeX allows none, and where Python has round brackets.

    \frac12, \sqrt[3]2, x^10 and \sqrt(2) become \frac{1}{2}, \sqrt[3]{2}, x^{10} and \sqrt{2}.
    """
    # From the right, so that what an argument holds is complete.
    for m in reversed(list(_TAKES_ARGUMENTS.finditer(text))):
        head, at, arguments = m[0], m.end(), []
        if head == r"\sqrt" and (index := _INDEX.match(text, at)):
            head, at = head + index[1], index.end()
        for _ in range(2 if head == r"\frac" else 1):
            if (found := _read_argument(text, at, head)) is None:
                break
            argument, at = found
            arguments.append(argument)
        else:
            written = head + "".join(f"{{{argument}}}" for argument in arguments)
            odd = re.fullmatch(r"\\sqrt\[\d*[13579]\]", head)
            if odd and re.fullmatch(r"-[\d.]+", arguments[0]):  # the real root
                written = f"(-{head}{{{arguments[0][1:]}}})"
            text = text[: m.start()] + written + text[at:]
    return text


def _read_argument(text: str, at: int, head: str) -> tuple[str, int] | None:
    """The argument from index `at` of the command `head`, and its end; None if there is none."""
    while text[at : at + 1] == " ":
        at += 1
    if text[at : at + 1] == "{" or (text[at : at + 1] == "(" and head != r"\frac"):
        end = find_closing(text, at, "{}" if text[at] == "{" else "([{)]}")
        return (text[at + 1 : end], end + 1) if end >= 0 else None
    # LaTeX takes one character of x^10; what is meant is the whole number.
    number = {"^": r"-?\d+(?:\.\d+)?|", "_": r"-?\d+|"}.get(head, "")
    found = re.compile(rf"{number}[A-Za-z\d]|\\([A-Za-z]+)").match(text, at)
    if found is None:
        return None
    end = found.end()
    if found[1] == "sqrt" and text[end : end + 1] == "[":
        end = text.find("]", end) + 1
    for _ in range(_ARGUMENTS_OF.get(found[1], 0)):
        if text[end : end + 1] != "{" or (last := find_closing(text, end, "{}")) < 0:
            return None
        end = last + 1
    return text[at:end], end


def _split(text: str, separator: str) -> list[str]:
    """The parts that are not blank between separators outside all brackets."""
    parts, depth, last = [], 0, 0
    for m in re.finditer(rf"[(\[{{]|[)\]}}]|{separator}", text):
        if m[0] in ("(", "[", "{"):
            depth += 1
        elif m[0] in (")", "]", "}"):
            depth -= 1
        elif depth == 0:
            parts.append(text[last : m.start()])
            last = m.end()
    return [p for p in (*parts, text[last:]) if p.strip()]


_MATRIX = re.compile(r"\\begin\{[pbBv]?(?:small)?matrix\}(.*)\\end\{[a-zA-Z]+\}")
_MEMBER_OF = re.compile(r"^[A-Za-z](?:_\{\w+\})?\s*\\in(?![a-z])\s*")  # x \in [0, 1]
_ASSIGNED = re.compile(r"^[A-Za-z]*(?:_\{\w+\})?(\([a-z]\))?\s*=(?!=)")  # x = 5, f(x) = 2x
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")  # a letter that is in no command
_PLUS_MINUS = re.compile(r"\\pm(?![a-z])\s*")


def _parse_text(text: str, depth: int, bracketed: bool = False) -> Any:
    """The tree of a text in one spelling; `bracketed` for the inside of brackets."""
    text = text.strip()
    if depth > MAX_DEPTH:
        return text
    if text.startswith("Union(") and text.endswith(")"):
        text = r"\cup ".join(_split(text[6:-1], ","))
    if m := _MATRIX.fullmatch(text):
        rows = [
            [_parse_text(cell, depth + 1) for cell in row.split("&")]
            for row in m[1].split(r"\\")
            if row.strip()
        ]
        return ("m", [row[0] if len(row) == 1 else ("m", row) for row in rows])
    text = _MEMBER_OF.sub("", text)
    if _RELATION.search(text) and (region := _parse_inequalities(text, depth)) is not None:
        return region
    if len(pieces := _split(text, r"\\cup(?![a-z])")) > 1:
        return ("U", [_parse_text(piece, depth + 1) for piece in pieces])
    if not bracketed and not re.search(r"[(\[]|^\{", text):  # (100,101) is a point
        text = _THOUSANDS.sub(lambda m: re.sub("[, ]", "", m[0]), text)
    if len(parts := _split(text, r"[,;]|(?<=\d)\s+(?=[\d.])")) > 1:
        nodes = [_parse_text(part, depth + 1) for part in parts]
        return (",", [item for node in nodes for item in _list_items(node)])
    if parts and parts[0] != text:  # a stray comma at one end
        return _parse_text(parts[0], depth + 1)
    if not _RELATION.search(text):
        name = _ASSIGNED.match(text)
        # y = 2x + 3 stays an equation, x = 5 and f(x) = 2x are names for what follows.
        if name and (name[1] or not _LETTER.search(text, name.end())):
            text = text[name.end() :].strip()
    if len(text) > 2 and text[0] in "([{" and find_closing(text, 0) == len(text) - 1:
        inner = _parse_text(text[1:-1], depth + 1, bracketed=True)
        if not isinstance(inner, tuple) or inner[0] != ",":
            return inner
        items = inner[1]  # an interval never contains infinity, whatever its bracket
        start = "(" if items[0] == r"-\infty" else text[0]
        end = ")" if items[-1] == r"\infty" else text[-1]
        return start + end, items
    if _PLUS_MINUS.search(text):
        return (",", [_parse_text(_PLUS_MINUS.sub(sign, text), depth + 1) for sign in "+-"])
    if WORDS.fullmatch(text):
        return text
    # White space counts only between a command and a letter: \pi x
    text = re.sub(r"(\\[A-Za-z]+\s)\s*(?=[A-Za-z])|\s+", lambda m: m[1] or "", text)
    return text.removeprefix("+")


def _list_items(node: Any) -> list[Any]:
    r"""The items of a bare list, such as 2 \pm x within 2 \pm x, 3; else the node alone."""
    return node[1] if isinstance(node, tuple) and node[0] == "," else [node]


_VARIABLE = re.compile(r"[A-Za-z](?:_\{\w+\})?|\\(?!infty|pi)[a-z]+")
_NOT_A_NUMBER = re.compile(rf"{_LETTER.pattern}|[,;=&|]|^$")


def _parse_inequalities(text: str, depth: int) -> Any:
    """Inequalities of one variable as an interval or a union of intervals; else None.

    They may be alone, chained (1 < x < 2), or joined by "and" and "or". The name of the variable is
    dropped, as in "x = 5".
    """
    text = text.strip()
    if depth > MAX_DEPTH:
        return None
    if m := re.fullmatch(r"(And|Or)\((.*)\)", text):
        text = f" {m[1].lower()} ".join(f"({part})" for part in _split(m[2], ","))
    if text[:1] in ("(", "{") and find_closing(text, 0) == len(text) - 1:
        return _parse_inequalities(text[1:-1], depth + 1)
    text = re.sub(r"^[A-Za-z]\s*(?:\\mid(?![a-z])|:|\|)", "", text)  # {x | x > 2}
    for joint in (_OR, _AND):
        if len(parts := _split(text, joint)) > 1:
            regions = [_parse_inequalities(part, depth + 1) for part in parts]
            if None in regions:
                return None
            if joint == _AND:
                return functools.reduce(_intersect, regions)
            return ("U", [one for r in regions for one in (r[1] if r[0] == "U" else [r])])
    sides = [side.strip() for side in _RELATION.split(text)]
    signs = _RELATION.findall(text)
    is_name = [bool(_VARIABLE.fullmatch(side)) for side in sides]
    if is_name not in ([True, False], [False, True], [False, True, False]):
        return None
    if any(_NOT_A_NUMBER.search(s) for s, name in zip(sides, is_name, strict=True) if not name):
        return None
    lower, upper, brackets = None, None, ["(", ")"]
    for left, sign, right, name in zip(sides, signs, sides[1:], is_name, strict=False):
        value = _parse_text(right if name else left, depth + 1)
        if sign == r"\neq":
            below, above = ("()", [r"-\infty", value]), ("()", [value, r"\infty"])
            return ("U", [below, above]) if len(signs) == 1 else None
        closed = sign in (r"\leq", r"\geq")
        if name == (sign in ("<", r"\leq")):  # x < value, or value > x
            upper, brackets[1] = value, "]" if closed else ")"
        else:
            lower, brackets[0] = value, "[" if closed else "("
    if len(signs) == 2 and None in (lower, upper):  # 1 < x > 0
        return None
    ends = [r"-\infty" if lower is None else lower, r"\infty" if upper is None else upper]
    return ("".join(brackets), ends)


def _intersect(one: Any, other: Any) -> Any:
    """The intersection of two intervals; None if both have a lower end, or both an upper end."""
    if one is None or "U" in (one[0], other[0]):
        return None
    lower, without_lower = sorted((one, other), key=lambda interval: interval[1][0] == r"-\infty")
    upper, without_upper = sorted((one, other), key=lambda interval: interval[1][1] == r"\infty")
    if without_lower[1][0] != r"-\infty" or without_upper[1][1] != r"\infty":
        return None
    return (lower[0][0] + upper[0][1], [lower[1][0], upper[1][1]])
