r"""Grading: is this answer right, and what is its canonical form?

Owns the verdict on maths and factual answers, the factual rules, and the answer of a chain-of-thought text. Knows
nothing of agents, tasks or records. Prediction and gold go through the same code; text is parsed but never evaluated. The
maths itself is in `maths_text` and `score_maths`.

An answer may be in a box, in a sentence ("the answer is …") or in a call `final_answer(…)` that was written as text; in
maths also in a sentence of one line that says what something is ("The remainder is 25."). Boxes joined by a comma, "and" or "or"
are a list, and a list is wrong where one value is asked for.

Maths. Units, currency, degree and percent signs are dropped, never converted: 50% is 50, not 0.5. A
prediction without the base of its gold (204 for 204_5) is right, one in another base is not. An integer
equals only itself (up to float noise, the 13th figure); two non-integers may differ by 1e-4 of a *decimal*
gold, at most 0.05. Lists without brackets, sets and unions have no order; words, tuples and matrices do. The
brackets of an interval matter; a list that is no text may stand for any bracket. "x = " before a value is dropped. The
letter i is the imaginary unit. Two exact numbers are equal if they agree in a hundred figures, however small or large they are.

A decimal stands for an exact gold (1/3, \sqrt 2) when it gives at least six figures and all of them agree, even where the
question asks for an exact fraction: code computes 61/33 as 1.8484848484848484, and the graders of this field, the paper's
among them, compare values and not forms (2/4 is 1/2, too, where lowest terms are asked for). Such a grade says "decimal of
an exact value", so that a stricter reading can be counted.

Factual. Case, punctuation, articles, the accents and strokes of Latin and Greek letters, and vowel points do not matter; all
other letters and marks do, and so do the signs in C++, C# and O-. Right when the normalised texts are equal, when both list
the same things joined by commas or "and", or when the gold is a contiguous run in a short prediction (at most 12 other words) of one of these forms:
words that end in is, was, are, were, named, called, by, in, on or at, then the gold; the gold, then is, was, are or
were and more; a title, then the gold; the gold, then a parenthesis; a number, then at most two words of unit, none of
them a scale such as million; a fuller date. Other words that negate, hedge or offer an alternative ("not", "or",
"and", "perhaps", a comma) make it wrong. A gold yes or no is right when the prediction opens with it.
"""

import ast
import functools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentlib import maths_text, score_maths, score_worker


def _words(text: str) -> list[str]:
    return text.split()


_MONTHS = _words(
    "january february march april may june july august september october november december"
)
_NUMBER_WORDS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
_LINKS = set(_words("is was are were named called by in on at"))
_TITLES = set(
    _words(
        "president king queen emperor prince princess pope saint st sir lord lady dr mr mrs ms "
        "professor"
    )
)
_DOUBT = set(
    _words(
        "not no never neither nor isnt wasnt arent werent except without unlike instead rather or "
        "either and both maybe perhaps possibly probably might versus vs"
    )
)
# An "a" before one of these words, or at the end, is no article (vitamin A is …).
_NO_NOUNS = _LINKS | set(_words("and or of for to with from has can"))
_SCALES = set(
    _words("hundred thousand million billion trillion dozen percent percentage th half")
)

_WRAPPED = re.compile(r"\\(?:text|mbox|mathrm)")  # words in LaTeX, which no algebra reads


@dataclass(frozen=True)
class Grade:
    """A verdict; `f1` is the token F1 of a factual answer (0 to 1) and 0 or 1 in maths, `reason` says why."""

    correct: bool
    exact_match: bool
    f1: float
    reason: str


def grade(
    prediction: Any, gold: str, domain: str = "math", aliases: Sequence[str] = (), *, seconds: float = 5.0
) -> Grade:
    """Compare a prediction (any value: see `maths_text.data`) with a gold answer and its aliases.

    Callable from any thread; `seconds` limits the algebra for each gold. Raises ValueError for an unknown
    domain and RuntimeError when the grading process cannot be started.
    """
    compare = {"math": _grade_maths, "factual": _grade_factual}.get(domain)
    if compare is None:
        raise ValueError(f"domain is {domain!r}, expected 'math' or 'factual'; take it from the question")
    prediction = maths_text.data(prediction)
    if maths_text.is_blank(prediction):
        return Grade(False, False, 0.0, "no answer")
    golds = [str(text) for text in (gold, *aliases) if text is not None and str(text).strip()]
    if not golds:
        return Grade(False, False, 0.0, "no gold answer")
    return max((compare(prediction, g, seconds) for g in golds), key=lambda g: (g.correct, g.exact_match, g.f1))


def correct_as_published(prediction: Any, gold: str, *, seconds: float = 5.0) -> bool:
    """Whether a maths answer is right by the reference code's rules, in our words: to compare its numbers with ours, not
    to grade with.

    The prediction is brought to one form, the gold stays as it is printed; numbers are equal within a ten-thousandth, and
    so are a hundredth and the hundredfold of the gold, as if one of them were per cent.
    """
    prediction = maths_text.data(prediction)
    if maths_text.is_blank(prediction):
        return False
    # Not `normalise`: these rules read no answer out of a call or a sentence without "answer".
    ours, theirs = score_maths.key(maths_text.tree(_extracted(prediction))), gold.strip()
    if ours == theirs:
        return True
    try:
        x, y = (float(text.replace(",", "")) for text in (ours, theirs))
        return any(math.isclose(x, y * factor, rel_tol=1e-4) for factor in (1.0, 0.01, 100.0))
    except ValueError:
        pass
    if _WRAPPED.search(theirs) or max(len(ours), len(theirs)) > maths_text.LONGEST:
        return False
    try:
        return score_worker.shared_grader().are_equal(theirs, ours, seconds=seconds)
    except score_worker.GradingFailed:
        return False


def normalise(answer: Any, domain: str = "math") -> str:
    """The canonical key of an answer, for voting and exact match; answers with equal keys are equal."""

    def once(value: Any) -> str:
        return score_maths.key(_maths_tree(value)) if domain == "math" else _factual_key(value)

    key = once(maths_text.data(answer))
    for _ in range(4):  # so that a key is its own key
        key, last = once(key), key
        if key == last:
            break
    return key


def extract_answer(text: str) -> str | None:
    r"""The answer a chain of thought ends with: the last complete \boxed{...} and those joined to it, else what follows the
    last "answer is", "Answer:" or "####" up to the sentence's end; None when there is neither."""
    if boxed := _boxes(text):
        return boxed
    found = _ANSWER_IS.findall(text)
    return _first_sentence(found[-1]).strip().strip("*_").strip() or None if found else None


_ANSWER_IS = re.compile(
    r"(?i)(?:\banswer\b[*_ ]*(?:is\b(?:[ ]*:)?|:)|####|^[#*_ ]*(?:final )?answer[*_ ]*$)[*_\s]*([^\n]+)", re.MULTILINE
)
# What stands between boxes that are one list.
_JOINT = re.compile(r"[\s$.]*(,|;|,?\s*(?:and\b|or\b|&)|,?\s*\\text\s*\{\s*(?:and|or)\s*\})[\s$]*(?:[A-Za-z]\w*\s*=\s*)?\$?")


def _boxes(text: str) -> str:
    """What the last complete box holds, after those that are joined to it; "" if there is none."""
    marks = reversed(list(re.finditer(r"\\f?box(?:ed)?\s*\{", text)))
    boxes = ((m.start(), m.end(), end) for m in marks if (end := maths_text.closing(text, m.end() - 1, "{}")) >= 0)
    answer, after = "", 0
    for mark, start, end in boxes:
        inside = text[start:end].strip()
        if after:
            if not (joint := _JOINT.fullmatch(text, end + 1, after)):
                break
            inside += f"{'' if joint[1][0] in ',;' else ' '}{joint[1]} {answer}"
        answer, after = inside, mark
        if not after:
            break
    return answer


# Words of the closed classes: those that open a sentence but no name, and verbs.
_OPENERS = (
    "It|He|She|They|We|I|You|This|That|These|Those|There|The|A|An|His|Her|Its|Their|Both|All|Each|In|On|At|From|As|To|For|By|"
    "With|After|Before|When|While|Where|If|So|Thus|Hence|Therefore|Then|Since|Because|However|Also|Note|And|But|Which|Who|What"
)
_VERBS = "is|are|was|were|be|been|has|have|had|do|does|did|can|could|will|would|may|might"
_SENTENCE = re.compile(rf"(?:{_OPENERS})\b(?=.*\s[a-z])|[A-Z].*\b(?:{_VERBS})\b")


def _first_sentence(text: str) -> str:
    """A text up to the full stop that ends its first sentence.

    A full stop ends a sentence if a sentence follows: a capital, and then a verb of the closed class, or a word that opens
    sentences and one in lower case. So "Bros. Records" and "St. Vincent and the Grenadines" go on, whatever is abbreviated.
    """
    ends = [m for m in re.finditer(r"\.[*_\"')\]]*\s+", text)]
    for m, last in zip(ends, [*(m.start() for m in ends[1:]), len(text)], strict=False):
        if _SENTENCE.match(text, m.end(), last):
            text = text[: m.start() + 1]
            break
    # The stop of U.S. or p.m. is its own.
    return re.sub(r"(?<!\.[A-Za-z])\.([*_]*)$", r"\1", text.strip())


def _called(text: str) -> Any:
    """The value of the last call `final_answer(…)` that is written in a text; None if there is none, or names stand in it."""
    for m in reversed(list(re.finditer(r"\bfinal_answer\(", text))):
        if (end := maths_text.closing(text, m.end() - 1)) < 0:
            continue
        try:
            call = ast.parse(text[m.start() : end + 1], mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if len(given) != 1 or any(isinstance(node, ast.Name) for node in ast.walk(given[0])):
            continue
        try:
            return maths_text.data(ast.literal_eval(given[0]))
        except ValueError:  # 1/3 is no literal
            return ast.unparse(given[0])
    return None


def _extracted(value: Any) -> Any:
    return extract_answer(value) or value if isinstance(value, str) and len(value) <= maths_text.LONGEST else value


def _bare(value: Any) -> Any:
    """A text without the call, the sentence or the box around its answer; other values as they are."""
    written = isinstance(value, str) and "final_answer(" in value and len(value) <= maths_text.LONGEST
    if written and (called := _called(value)) is not None:
        return _bare(called)
    return _extracted(value)


_IS = re.compile(r"\s(?:is|are|was|were|equals)(?:\s+equal\s+to)?:?\s+")


def _stated(value: Any) -> Any:
    """What a sentence of one line says that something is: 25 of "The remainder … is 25."; other values as they are.

    A sentence that gives several values ("is 25 when n is 3") says nothing so clearly.
    """
    if not isinstance(value, str) or not re.match(r"[A-Za-z]+\s", value) or "\n" in value.strip():
        return value
    _, *said = _IS.split(value)
    if not said or any(re.match(r"[-+$\\(\[{]*\d", part) for part in said[:-1]):
        return value
    return said[-1]


def _maths_tree(value: Any) -> Any:
    bare = _bare(value)
    return maths_text.tree(_stated(value) if bare is value else bare)


def _grade_maths(prediction: Any, gold: str, seconds: float) -> Grade:
    exact = normalise(prediction, "math") == normalise(gold, "math")
    ours, theirs = _maths_tree(prediction), _maths_tree(gold)
    try:
        correct = exact or score_maths.same(theirs, ours, seconds)
    except score_worker.GradingFailed as failure:
        return Grade(False, False, 0.0, str(failure))
    equal = "decimal of an exact value" if score_maths.rounded(theirs, ours) else "equal"
    return Grade(correct, exact, float(correct), "same form" if exact else equal if correct else "not equal")


def _normalise_text(value: Any) -> str:
    """Lower-case text without accents or LaTeX wrapping; each number and each date in one form."""
    value = maths_text.plain(_bare(maths_text.plain(value)))
    text = maths_text.characters(value)[: maths_text.LONGEST]
    text = text.lower() if text.isascii() else _unaccented(text.casefold())
    return maths_text.rewrite(text, TEXT_REWRITES)


def _unaccented(text: str) -> str:
    """A text without what is optional or often left out: accents and strokes of Latin and Greek letters, the points of Hebrew
    and Arabic. Marks that make another letter of it (й, ガ, vowels of Indic scripts) stay."""
    kept, base = [], " "
    for c in unicodedata.normalize("NFD", text):
        place = unicodedata.combining(c)
        if not place:
            base = c
        if not place or not (_accented(base) or 10 <= place <= 36):  # the classes of those points
            kept.append(_letter(c))
    return unicodedata.normalize("NFC", "".join(kept))


@functools.cache
def _accented(base: str) -> bool:
    return unicodedata.name(base, "").startswith(("LATIN", "GREEK"))


@functools.cache
def _letter(c: str) -> str:
    """A letter as those write it who do not have it; a sign that is no letter, mark or number is a space."""
    if c.isascii():
        return c
    if m := re.fullmatch(r"(LATIN SMALL LETTER [A-Z]) WITH .*", unicodedata.name(c, "")):
        return unicodedata.lookup(m[1])
    spelt = {"æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ı": "i", "ŋ": "n"}.get(c, c)
    return spelt if unicodedata.category(c)[0] in "LMN" else " "


_MONTH = r"\b(sept|" + "|".join(rf"{m[:3]}(?:{m[3:]})?" for m in _MONTHS) + r")\b\.?"
_MONTH_NAMES = {m[:3]: m for m in _MONTHS} | {f"{n:02}": m for n, m in enumerate(_MONTHS, 1)}
_DAY, _YEAR = r"(0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?", r"(\d{4})"


def _write_date(year: str, month: str, day: str) -> str:
    """A date as "2001 may 5", "2001 may" or "may 5": a fuller one contains the less full one."""
    parts = (year, _MONTH_NAMES[month[:3]], day.lstrip("0"))
    return " ".join(part for part in parts if part)


# What `_normalise_text` rewrites: pattern, replacement, and an example before and after.
TEXT_REWRITES = [
    maths_text.Rewrite(re.compile(pattern), new, before, after)
    for pattern, new, before, after in [
        (maths_text.TEXT, r"\1", r"\text{paris}", "paris"),
        (r"(?<=\d),(?=\d{3}(?!\d))", "", "6,735", "6735"),
        (
            r"^\d{1,3}(?: \d{3}){2,}(?!\d)",
            lambda m: m[0].replace(" ", ""),
            "1 234 567",
            "1234567",
        ),
        (r"(?<![\d.])(\d+)\.0+(?![\d.])", r"\1", "1234.0", "1234"),
        (
            r"\b(\d{4})-(0[1-9]|1[0-2])-(\d\d)\b",
            lambda m: _write_date(*m.groups()),
            "2001-05-05",
            "2001 may 5",
        ),
        (
            rf"{_MONTH} {_DAY},? {_YEAR}\b",
            lambda m: _write_date(m[3], m[1], m[2]),
            "may 5th, 2001",
            "2001 may 5",
        ),
        (
            rf"\b{_DAY} (?:of )?{_MONTH},? {_YEAR}\b",
            lambda m: _write_date(m[3], m[2], m[1]),
            "5 of may, 2001",
            "2001 may 5",
        ),
        (
            rf"{_MONTH},? (?:of )?{_YEAR}\b",
            lambda m: _write_date(m[2], m[1], ""),
            "sept. 1999",
            "1999 september",
        ),
        (
            rf"\b{_DAY} (?:of )?{_MONTH}(?! \d)",
            lambda m: _write_date("", m[2], m[1]),
            "22 november",
            "november 22",
        ),
        (
            rf"{_MONTH} {_DAY}\b",
            lambda m: _write_date("", m[1], m[2]),
            "nov 22nd",
            "november 22",
        ),
    ]
]
_MINUS = r"(?<!\w)-(?=\d)|(?<=\b[a-z])-(?!\S)"  # the sign of -5 and O-, not the hyphen of 1939-1945
# What `_factual_key` rewrites, before articles and number words.
PUNCTUATION_REWRITES = [
    maths_text.Rewrite(re.compile(pattern), new, before, after)
    for pattern, new, before, after in [
        (r"(?<!\d)\.|\.(?!\d)|['`]", "", "l.a. o'brien 10.8.", "la obrien 10.8"),
        # not the signs of C++ and C#
        (r"(?<![a-z+#])[+#]+|[+#]+(?=\w)", " ", "+222 c++", " 222 c++"),
        (rf"(?!{_MINUS})[^\w.%+#\x80-\U0010ffff]|_", " ", "fleur-de-lis: -5", "fleur de lis  -5"),
        (r"%", " percent ", "50%", "50 percent "),
    ]
]


def is_date(answer: Any) -> bool:
    """Whether an answer is a date and nothing more, in words or as 2001-05-05."""
    words = _factual_key(maths_text.data(answer)).split()
    return bool(set(words) & set(_MONTHS)) and all(word in _MONTHS or word.isdigit() for word in words)


def _factual_key(value: Any) -> str:
    """SQuAD's normal form: lower case, no punctuation, no articles (Rajpurkar et al., 2016).

    Accents, initials, number words up to twenty and signs of numbers are brought to one form too.
    """
    text = _normalise_text(value)
    words = maths_text.rewrite(text, PUNCTUATION_REWRITES).split()
    kept = [
        word
        for word, after in zip(words, [*words[1:], ""], strict=False)
        if word not in ("an", "the") and not (word == "a" and after and after not in _NO_NOUNS)
    ]
    kept = kept or words or text.split()
    kept = [str(_NUMBER_WORDS.index(w)) if w in _NUMBER_WORDS else w for w in kept]
    key = re.sub(r"\b([^\W\d]) (?=[^\W\d]\b)", r"\1", " ".join(kept))  # j k rowling: jk rowling
    return maths_text.YES_NO.get(key, key)


def _f1(prediction: str, gold: str) -> float:
    if prediction != gold and {prediction, gold} & {"yes", "no"}:
        return 0.0
    ours, theirs = prediction.split(), gold.split()
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def _grade_factual(prediction: Any, gold: str, seconds: float) -> Grade:
    ours, theirs = normalise(prediction, "factual"), normalise(gold, "factual")
    if ours == theirs:
        return Grade(True, True, 1.0, "same text")
    found = _f1(ours, theirs)
    if _parts(prediction) == _parts(gold):
        return Grade(True, False, found, "same list")
    reason = _contained(_normalise_text(prediction), ours.split(), theirs.split())
    return Grade(bool(reason), False, found, reason or "different text")


def _parts(value: Any) -> list[str]:
    return sorted(normalise(p, "factual") for p in re.split(r",|;|&|\band\b", _normalise_text(value)) if p.strip())


def _contained(text: str, words: list[str], gold: list[str]) -> str:
    """Why a prediction that says more than the gold is still right, or "" (the rule of the module's docstring)."""
    if gold in (["yes"], ["no"]):
        unsure = {"yes", "no", "or", "maybe", "perhaps", "possibly", "probably", "might"} & set(words[1:])
        return f"says {gold[0]}" if words[:1] == gold and not unsure else ""
    numeric = len(gold) == 1 and bool(re.fullmatch(r"-?[\d.]+", gold[0]))
    for at in range(len(words) - len(gold) + 1):
        before, after = words[:at], words[at + len(gold) :]
        if words[at : at + len(gold)] != gold or len(before) + len(after) > 12 or _DOUBT & set(before + after):
            continue
        if all(w in _MONTHS or (w.isdigit() and len(w) in (1, 2, 4)) for w in words) and set(words) & set(_MONTHS):
            return "a fuller date"
        if re.search(r"[,;/|\n&]", text) or (numeric and any(re.search(r"\d", w) for w in before + after)):
            continue
        parenthesis = re.search(r"\(([^()]*)\)\s*$", text)
        if parenthesis and after == normalise(parenthesis[1], "factual").split():
            after = []
        if numeric and len(after) <= 2 and after and not _SCALES & set(after) and (not before or before[-1] in _LINKS):
            return "with its unit"
        if not after and (not before or before[-1] in _LINKS or set(before) <= _TITLES):
            return "in a sentence"
        if not before and after and after[0] in ("is", "was", "are", "were"):
            return "opens a sentence"
    return ""
