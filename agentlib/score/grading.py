r"""Grading: is an answer right, and what is its canonical form?

Prediction and gold go through the same code; text is parsed, never evaluated. `maths_text` reads
maths, `maths` compares it, `worker` does the algebra; the factual rules are here.

An answer may be in a box, in a sentence ("the answer is …") or in a call `final_answer(…)` that was
written as text; in maths also in a one-line sentence that says what something is ("The remainder is
25."). Boxes joined by a comma, "and" or "or" are a list, and a list is wrong where one value is
expected.

Maths
- Units, currency, degree and percent signs are dropped, never converted: 50% is 50, not 0.5.
- A prediction without the base of its gold (204 for 204_5) is right, one in another base is not.
- An integer equals only itself (up to float noise, in the 13th figure). Two non-integers may differ
  by 1e-4 of a *decimal* gold, at most 0.05.
- Two exact numbers are equal if they agree in a hundred figures, however small or large they are.
- Lists without brackets, sets and unions have no order; words, tuples and matrices do. The brackets
  of an interval matter; a Python list may stand for any bracket.
- "x = " before a value is dropped. The letter i is the imaginary unit.
- A decimal equals an exact gold (1/3, \sqrt 2) when it gives at least six figures and all of them
  agree, even where the question asks for a fraction: code computes 61/33 as 1.8484848484848484, and
  the graders of this field, the paper's among them, compare values and not forms (2/4 is 1/2, even
  where lowest terms are asked for). The reason is then "decimal of an exact value", so that a
  stricter reading can count these.

Factual
- Case, punctuation, articles, accents and strokes of Latin and Greek letters, and vowel points do
  not matter. All other letters and marks do, and so do the signs in C++, C# and O-.
- An answer is right when the normalised texts are equal, or when both list the same things, joined
  by commas or "and".
- It is also right when it contains the gold and at most 12 other words, in one of these forms:
  words that end in is, was, are, were, named, called, by, in, on or at, then the gold; the gold,
  then is, was, are or were and more; a title, then the gold; the gold, then a parenthesis; a
  number, then at most two words of unit, none of them a scale such as million; a fuller date.
- Other words that negate, hedge or offer an alternative ("not", "or", "and", "perhaps", a comma)
  make it wrong. A gold yes or no is right when the prediction opens with it.
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

from agentlib.score import maths, maths_text, worker


def _words(text: str) -> list[str]:
    return text.split()


_MONTHS = _words(
    "january february march april may june july august september october november december"
)
_NUMBER_WORDS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
_LINKING_WORDS = set(_words("is was are were named called by in on at"))
_TITLES = set(
    _words(
        "president king queen emperor prince princess pope saint st sir lord lady dr mr mrs ms "
        "professor"
    )
)
_DOUBT_WORDS = set(
    _words(
        "not no never neither nor isnt wasnt arent werent except without unlike instead rather or "
        "either and both maybe perhaps possibly probably might versus vs"
    )
)
# An "a" before one of these words, or at the end, is no article (vitamin A is …).
_NOT_NOUNS = _LINKING_WORDS | set(_words("and or of for to with from has can"))
_SCALE_WORDS = set(
    _words("hundred thousand million billion trillion dozen percent percentage th half")
)


@dataclass(frozen=True)
class Grade:
    """Whether an answer is right (`correct`), and why (`reason`, a few words).

    `exact_match`: both answers have the same canonical key. `f1`: token F1 (0 to 1) of a factual
    answer; in maths 1.0 if correct, else 0.0.
    """

    correct: bool
    exact_match: bool
    f1: float
    reason: str


def grade(
    prediction: Any,
    gold: str,
    domain: str = "math",
    aliases: Sequence[str] = (),
    *,
    seconds: float = 5.0,
) -> Grade:
    """Compare a prediction with a gold answer and its aliases; the best grade counts.

    `prediction` is any value (see `maths_text.to_plain_data`). Safe to call from any thread;
    `seconds` limits the algebra per gold answer, in seconds of its own computing. Raises ValueError
    for an unknown domain and RuntimeError when the grading process cannot be started.
    """
    compare = {"math": _grade_maths, "factual": _grade_factual}.get(domain)
    if compare is None:
        raise ValueError(
            f"domain is {domain!r}, expected 'math' or 'factual'; take it from the question"
        )
    prediction = maths_text.to_plain_data(prediction)
    if maths_text.is_blank(prediction):
        return Grade(False, False, 0.0, "no answer")
    golds = [str(text) for text in (gold, *aliases) if text is not None and str(text).strip()]
    if not golds:
        return Grade(False, False, 0.0, "no gold answer")
    grades = [compare(prediction, text, seconds) for text in golds]
    return max(grades, key=lambda g: (g.correct, g.exact_match, g.f1))


_WORDS_IN_LATEX = re.compile(r"\\(?:text|mbox|mathrm)")  # \text{Evelyn}: not compared by algebra


def correct_as_published(prediction: Any, gold: str, *, seconds: float = 5.0) -> bool:
    """Whether a maths answer is right by the rules of the reference code, reimplemented.

    For comparing its numbers with ours, not for grading. The prediction is normalised, the gold is
    not. Numbers are equal within a relative 1e-4, and also when one is a hundred times the other,
    as if it were a percentage.
    """
    prediction = maths_text.to_plain_data(prediction)
    if maths_text.is_blank(prediction):
        return False
    # Not `normalise`: these rules do not read calls, nor sentences without the word "answer".
    ours = maths.to_key(maths_text.parse(_extract(prediction)))
    theirs = gold.strip()
    if ours == theirs:
        return True
    try:
        x, y = (float(text.replace(",", "")) for text in (ours, theirs))
        return any(math.isclose(x, y * factor, rel_tol=1e-4) for factor in (1.0, 0.01, 100.0))
    except ValueError:
        pass
    too_long = max(len(ours), len(theirs)) > maths_text.MAX_CHARACTERS
    if too_long or _WORDS_IN_LATEX.search(theirs):
        return False
    try:
        return worker.shared_grader().are_equal(theirs, ours, seconds=seconds)
    except worker.GradingFailed:
        return False


def normalise(answer: Any, domain: str = "math") -> str:
    """The canonical key of an answer, for voting and exact match: equal keys, equal answers.

    A key is its own key.
    """

    def normalise_once(value: Any) -> str:
        if domain == "math":
            return maths.to_key(_parse_maths(value))
        return _to_factual_key(value)

    key = normalise_once(maths_text.to_plain_data(answer))
    for _ in range(4):
        key, last = normalise_once(key), key
        if key == last:
            break
    return key


# "the answer is 42", "Final answer: 42", "#### 42", or the line below a heading "### Answer"
_ANSWER_IS = re.compile(
    r"(?i)(?:\banswer\b[*_ ]*(?:is\b(?:[ ]*:)?|:)|####|^[#*_ ]*(?:final )?answer[*_ ]*$)"
    r"[*_\s]*([^\n]+)",
    re.MULTILINE,
)
# Between the boxes of one list: "}, \boxed{", "} or $\boxed{", "} \text{ and } y=\boxed{"
_BETWEEN_BOXES = re.compile(
    r"[\s$.]*(,|;|,?\s*(?:and\b|or\b|&)|,?\s*\\text\s*\{\s*(?:and|or)\s*\})"
    r"[\s$]*(?:[A-Za-z]\w*\s*=\s*)?\$?"
)


def extract_answer(text: str) -> str | None:
    r"""The answer at the end of a chain of thought, or None.

    The last complete \boxed{...} with the boxes joined to it; else what follows the last
    "answer is", "Answer:" or "####", up to the end of its sentence.
    """
    if boxed := _read_boxes(text):
        return boxed
    found = _ANSWER_IS.findall(text)
    if not found:
        return None
    return _first_sentence(found[-1]).strip().strip("*_").strip() or None


def _read_boxes(text: str) -> str:
    """The content of the last complete box, after that of boxes joined to it; "" without a box."""
    answer, joined_from = "", None
    for mark in reversed(list(re.finditer(r"\\f?box(?:ed)?\s*\{", text))):
        end = maths_text.find_closing(text, mark.end() - 1, "{}")
        if end < 0:
            continue
        inside = text[mark.end() : end].strip()
        if joined_from is not None:
            joint = _BETWEEN_BOXES.fullmatch(text, end + 1, joined_from)
            if not joint:
                break
            inside += f"{'' if joint[1][0] in ',;' else ' '}{joint[1]} {answer}"
        answer, joined_from = inside, mark.start()
    return answer


# Function words that open a sentence but no name, and auxiliary verbs.
_OPENERS = (
    "It|He|She|They|We|I|You|This|That|These|Those|There|The|A|An|His|Her|Its|Their|Both|All|Each|"
    "In|On|At|From|As|To|For|By|With|After|Before|When|While|Where|If|So|Thus|Hence|Therefore|Then|"
    "Since|Because|However|Also|Note|And|But|Which|Who|What"
)
_VERBS = "is|are|was|were|be|been|has|have|had|do|does|did|can|could|will|would|may|might"
# "It came out in 2004", "Paris is in France"; not "Records", "Louis", "Mr. Hyde"
_SENTENCE = re.compile(rf"(?:{_OPENERS})\b(?=.*\s[a-z])|[A-Z].*\b(?:{_VERBS})\b")


def _first_sentence(text: str) -> str:
    """A text up to the full stop that ends its first sentence, without that stop.

    A full stop ends a sentence only if another sentence follows: one with a capital and then an
    auxiliary verb, or with an opening function word and then a word in lower case. So "Bros.
    Records" and "St. Vincent and the Grenadines" continue, with no list of abbreviations.
    """
    stops = list(re.finditer(r"\.[*_\"')\]]*\s+", text))
    ends = [*(stop.start() for stop in stops[1:]), len(text)]
    for stop, end in zip(stops, ends, strict=False):
        if _SENTENCE.match(text, stop.end(), end):
            text = text[: stop.start() + 1]
            break
    # The full stop of U.S. or p.m. belongs to the abbreviation.
    return re.sub(r"(?<!\.[A-Za-z])\.([*_]*)$", r"\1", text.strip())


def _read_final_answer_call(text: str) -> Any:
    """The argument of the last call `final_answer(…)` in a text; None without one.

    Arguments that contain names are skipped, since nothing is evaluated.
    """
    for mark in reversed(list(re.finditer(r"\bfinal_answer\(", text))):
        end = maths_text.find_closing(text, mark.end() - 1)
        if end < 0:
            continue
        try:
            call = ast.parse(text[mark.start() : end + 1], mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        if len(arguments) != 1 or any(isinstance(n, ast.Name) for n in ast.walk(arguments[0])):
            continue
        try:
            return maths_text.to_plain_data(ast.literal_eval(arguments[0]))
        except ValueError:  # 1/3 is no literal
            return ast.unparse(arguments[0])
    return None


def _extract(value: Any) -> Any:
    """`extract_answer` where a text has one; other values unchanged."""
    if not isinstance(value, str) or len(value) > maths_text.MAX_CHARACTERS:
        return value
    return extract_answer(value) or value


def _unwrap(value: Any) -> Any:
    """A text without the call, sentence or box around its answer; other values unchanged."""
    if isinstance(value, str) and len(value) <= maths_text.MAX_CHARACTERS:
        answer = _read_final_answer_call(value)
        if answer is not None:
            return _unwrap(answer)
    return _extract(value)


_IS = re.compile(r"\s(?:is|are|was|were|equals)(?:\s+equal\s+to)?:?\s+")
_OPENS_WITH_NUMBER = re.compile(r"^[-+$\\(\[{]*\d")  # "25 when n", "\(-125\)"


def _read_statement(value: Any) -> Any:
    """What a one-line sentence says that something is; other values unchanged.

    "The remainder … is 25." gives 25. A sentence with several values ("is 25 when n is 3") is
    ambiguous and stays as it is.
    """
    if not isinstance(value, str) or not re.match(r"[A-Za-z]+\s", value) or "\n" in value.strip():
        return value
    _, *parts = _IS.split(value)
    if not parts or any(_OPENS_WITH_NUMBER.match(part) for part in parts[:-1]):
        return value
    return parts[-1]


def _parse_maths(value: Any) -> Any:
    """The tree (`maths_text.parse`) of the answer in a value."""
    answer = _unwrap(value)
    return maths_text.parse(_read_statement(value) if answer is value else answer)


def _grade_maths(prediction: Any, gold: str, seconds: float) -> Grade:
    exact = normalise(prediction, "math") == normalise(gold, "math")
    ours, theirs = _parse_maths(prediction), _parse_maths(gold)
    try:
        correct = exact or maths.are_equal(theirs, ours, seconds)
    except worker.GradingFailed as failure:
        return Grade(False, False, 0.0, str(failure))
    if exact:
        reason = "same form"
    elif not correct:
        reason = "not equal"
    elif maths.is_decimal_of_exact(ours, theirs):
        reason = "decimal of an exact value"
    else:
        reason = "equal"
    return Grade(correct, exact, float(correct), reason)


def _normalise_text(value: Any) -> str:
    """Lower-case text without accents or LaTeX wrapping; each number and each date in one form."""
    answer = maths_text.to_text(_unwrap(maths_text.to_text(value)))
    text = maths_text.normalise_characters(answer)[: maths_text.MAX_CHARACTERS]
    text = text.lower() if text.isascii() else _strip_accents(text.casefold())
    return maths_text.rewrite(text, TEXT_REWRITES)


def _strip_accents(text: str) -> str:
    """A text without marks that are optional or often left out.

    These are accents and strokes of Latin and Greek letters, and the points of Hebrew and Arabic.
    Marks that make another letter (й, ガ, vowels of Indic scripts) stay.
    """
    kept, base = [], " "
    for c in unicodedata.normalize("NFD", text):
        combining = unicodedata.combining(c)
        if not combining:
            base = c
        is_point = 10 <= combining <= 36  # the classes of Hebrew and Arabic points
        if not combining or not (is_point or _is_latin_or_greek(base)):
            kept.append(_to_basic_letter(c))
    return unicodedata.normalize("NFC", "".join(kept))


@functools.cache
def _is_latin_or_greek(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(("LATIN", "GREEK"))


@functools.cache
def _to_basic_letter(c: str) -> str:
    """A letter in basic spelling (ø as o, æ as ae); a sign that is no letter as a space."""
    if c.isascii():
        return c
    if m := re.fullmatch(r"(LATIN SMALL LETTER [A-Z]) WITH .*", unicodedata.name(c, "")):
        return unicodedata.lookup(m[1])
    spelt = {"æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ı": "i", "ŋ": "n"}.get(c, c)
    return spelt if unicodedata.category(c)[0] in "LMN" else " "


_MONTH = r"\b(sept|" + "|".join(rf"{m[:3]}(?:{m[3:]})?" for m in _MONTHS) + r")\b\.?"
_MONTH_OF = {m[:3]: m for m in _MONTHS} | {f"{n:02}": m for n, m in enumerate(_MONTHS, 1)}
_DAY, _YEAR = r"(0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?", r"(\d{4})"


def _write_date(year: str, month: str, day: str) -> str:
    """A date as "2001 may 5", "2001 may" or "may 5": a fuller one contains the less full one."""
    parts = (year, _MONTH_OF[month[:3]], day.lstrip("0"))
    return " ".join(part for part in parts if part)


# What `_normalise_text` rewrites: pattern, replacement, and an example before and after.
TEXT_REWRITES = [
    maths_text.Rewrite(re.compile(pattern), new, before, after)
    for pattern, new, before, after in [
        (maths_text.TEXT, r"\1", r"\text{paris}", "paris"),
        (r"(?<=\d),(?=\d{3}(?!\d))", "", "6,735", "6735"),
        (r"^\d{1,3}(?: \d{3}){2,}(?!\d)", lambda m: m[0].replace(" ", ""), "1 234 567", "1234567"),
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
        (rf"{_MONTH} {_DAY}\b", lambda m: _write_date("", m[1], m[2]), "nov 22nd", "november 22"),
    ]
]
_MINUS = r"(?<!\w)-(?=\d)|(?<=\b[a-z])-(?!\S)"  # the sign of -5 and O-, not the hyphen of 1939-1945
# What `_to_factual_key` rewrites, before articles and number words.
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
    return _are_date_words(_to_factual_key(maths_text.to_plain_data(answer)).split())


def _are_date_words(words: list[str]) -> bool:
    """Whether the words of a key are a month and numbers."""
    has_month = any(word in _MONTHS for word in words)
    return has_month and all(word in _MONTHS or word.isdigit() for word in words)


def _to_factual_key(value: Any) -> str:
    """SQuAD's normal form: lower case, no punctuation, no articles (Rajpurkar et al., 2016).

    Accents, initials, number words up to twenty and signs of numbers are brought to one form too.
    """
    text = _normalise_text(value)
    words = maths_text.rewrite(text, PUNCTUATION_REWRITES).split()
    kept = [
        word
        for word, after in zip(words, [*words[1:], ""], strict=False)
        if word not in ("an", "the") and not (word == "a" and after and after not in _NOT_NOUNS)
    ]
    kept = kept or words or text.split()
    kept = [str(_NUMBER_WORDS.index(w)) if w in _NUMBER_WORDS else w for w in kept]
    key = re.sub(r"\b([^\W\d]) (?=[^\W\d]\b)", r"\1", " ".join(kept))  # j k rowling: jk rowling
    return maths_text.YES_NO.get(key, key)


def _token_f1(prediction: str, gold: str) -> float:
    """F1 of the words that two keys share, as in SQuAD; 0 where yes or no is answered wrongly."""
    if prediction != gold and {prediction, gold} & {"yes", "no"}:
        return 0.0
    ours, theirs = prediction.split(), gold.split()
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def _grade_factual(prediction: Any, gold: str, seconds: float) -> Grade:
    ours, theirs = normalise(prediction, "factual"), normalise(gold, "factual")
    if ours == theirs:
        return Grade(True, True, 1.0, "same text")
    f1 = _token_f1(ours, theirs)
    if _split_list(prediction) == _split_list(gold):
        return Grade(True, False, f1, "same list")
    reason = _explain_containment(_normalise_text(prediction), ours.split(), theirs.split())
    return Grade(bool(reason), False, f1, reason or "different text")


def _split_list(value: Any) -> list[str]:
    """The keys of what a text lists, sorted."""
    parts = re.split(r",|;|&|\band\b", _normalise_text(value))
    return sorted(normalise(part, "factual") for part in parts if part.strip())


def _explain_containment(text: str, words: list[str], gold: list[str]) -> str:
    """Why a prediction that says more than the gold is right, or "" if it is not.

    `text` is the normalised prediction, `words` and `gold` are the words of the two keys. The forms
    that count are in the docstring of this module.
    """
    if gold in (["yes"], ["no"]):
        unsure = {"yes", "no", "or", "maybe", "perhaps", "possibly", "probably", "might"}
        says_so = words[:1] == gold and not unsure & set(words[1:])
        return f"says {gold[0]}" if says_so else ""
    numeric = len(gold) == 1 and bool(re.fullmatch(r"-?[\d.]+", gold[0]))
    is_date = _are_date_words(words)
    for at in range(len(words) - len(gold) + 1):
        before, after = words[:at], words[at + len(gold) :]
        others = before + after
        if words[at : at + len(gold)] != gold or len(others) > 12 or _DOUBT_WORDS & set(others):
            continue
        if is_date and all(word in _MONTHS or len(word) in (1, 2, 4) for word in words):
            return "a fuller date"
        other_number = numeric and any(re.search(r"\d", word) for word in others)
        if other_number or re.search(r"[,;/|\n&]", text):
            continue
        parenthesis = re.search(r"\(([^()]*)\)\s*$", text)
        if parenthesis and after == normalise(parenthesis[1], "factual").split():
            after = []
        linked = not before or before[-1] in _LINKING_WORDS
        if numeric and 1 <= len(after) <= 2 and not _SCALE_WORDS & set(after) and linked:
            return "with its unit"
        if not after and (linked or set(before) <= _TITLES):
            return "in a sentence"
        if not before and after and after[0] in ("is", "was", "are", "were"):
            return "opens a sentence"
    return ""
