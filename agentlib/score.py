r"""Grading: is this answer right, and what is its canonical form?

Owns the verdict on maths and factual answers, the factual rules, and the answer of a chain-of-thought text. Knows
nothing of agents, tasks or records. Prediction and gold go through the same code; text is parsed but never evaluated. The
maths itself is in `maths_text` and `score_maths`.

Maths. Units, currency, degree and percent signs are dropped, never converted: 50% is 50, not 0.5. A
prediction without the base of its gold (204 for 204_5) is right, one in another base is not. An integer
equals only itself (up to float noise, the 13th figure); two non-integers may differ by 1e-4 of a *decimal*
gold, at most 0.05; a decimal stands for an exact gold (1/3, \sqrt 2) when it gives at least six figures and
all of them agree. Lists without brackets, sets and unions have no order; words, tuples and matrices do. The
brackets of an interval matter; a list that is no text may stand for any bracket. "x = " before a value is dropped.

Factual. Right when the normalised texts are equal, when both list the same things joined by commas or "and",
or when the gold is a contiguous run in a short prediction (at most 12 other words) of one of these forms:
words that end in is, was, are, were, named, called, by, in, on or at, then the gold; the gold, then is, was, are or
were and more; a title, then the gold; the gold, then a parenthesis; a number, then at most two words of unit, none of
them a scale such as million; a fuller date. Other words that negate, hedge or offer an alternative ("not", "or",
"and", "perhaps", a comma) make it wrong. A gold yes or no is right when the prediction opens with it.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentlib import maths_text, score_maths, score_worker

_MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"]
_COUNTS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]
_LINKS = {"is", "was", "are", "were", "named", "called", "by", "in", "on", "at"}
_TITLES = set(["president", "king", "queen", "emperor", "prince", "princess", "pope", "saint", "st", "sir", "lord", "lady", "dr", "mr", "mrs", "ms", "professor"])
_DOUBT = set(
    ["not", "no", "never", "neither", "nor", "isnt", "wasnt", "arent", "werent", "except", "without", "unlike", "instead", "rather", "or", "either", "and", "both", "maybe", "perhaps", "possibly", "probably", "might", "versus", "vs"]
)
_SCALES = set(["hundred", "thousand", "million", "billion", "trillion", "dozen", "percent", "percentage", "th", "half"])


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
    """Compare a prediction (plain values as they leave a sandbox) with a gold answer and its aliases.

    Callable from any thread; `seconds` limits the algebra for each gold. Raises ValueError for an unknown
    domain and RuntimeError when the grading process cannot be started.
    """
    compare = {"math": _grade_maths, "factual": _grade_factual}.get(domain)
    if compare is None:
        raise ValueError(f"domain is {domain!r}, expected 'math' or 'factual'; take it from the question")
    if prediction is None or not maths_text.plain(prediction).strip():
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
    if prediction is None or not maths_text.plain(prediction).strip():
        return False
    ours, theirs = normalise(prediction, "math"), gold.strip()
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
        return score_worker.shared().equal(theirs, ours, seconds=seconds)
    except score_worker.GradingFailed:
        return False


def normalise(answer: Any, domain: str = "math") -> str:
    """The canonical key of an answer, for voting and exact match; answers with equal keys are equal."""

    def once(value: Any) -> str:
        return score_maths.key(_maths_tree(value)) if domain == "math" else _factual_key(value)

    key = once(answer)
    for _ in range(4):  # so that a key is its own key
        key, last = once(key), key
        if key == last:
            break
    return key


def extract_answer(text: str) -> str | None:
    r"""The answer a chain of thought ends with: the last complete \boxed{...}, else what follows the last
    "answer is", "Answer:" or "####"; None when there is neither."""
    for start in reversed([m.end() for m in re.finditer(r"\\f?box(?:ed)?\s*\{", text)]):
        if (end := maths_text.closing(text, start - 1, "{}")) >= 0:
            return text[start:end].strip()
    found = re.findall(r"(?i)(?:\banswer\b[*_ ]*(?:is\b(?:[ ]*:)?|:)|####)[*_\s]*([^\n]+)", text)
    if not found:
        return None
    # A full stop ends the answer, but not after an initial or a title such as "J." or "Dr.".
    answer = re.split(r"(?<!\b[A-Z])(?<!\b[A-Z][a-z])(?<!\bMrs)\.(?:\s|\**$)", found[-1])[0]
    return answer.strip().strip("*_").strip() or None


def _bare(value: Any) -> Any:
    """A text without the sentence or the box around its answer; other values as they are."""
    return extract_answer(value) or value if isinstance(value, str) and len(value) <= maths_text.LONGEST else value


def _maths_tree(value: Any) -> Any:
    return maths_text.tree(_bare(value))


def _grade_maths(prediction: Any, gold: str, seconds: float) -> Grade:
    exact = normalise(prediction, "math") == normalise(gold, "math")
    try:
        correct = exact or score_maths.same(_maths_tree(gold), _maths_tree(prediction), seconds)
    except score_worker.GradingFailed as failure:
        return Grade(False, False, 0.0, str(failure))
    return Grade(correct, exact, float(correct), "same form" if exact else "equal" if correct else "not equal")


def _factual_text(value: Any) -> str:
    """Lower case without accents, LaTeX wrapping, or the many ways to write a number or a date."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = _bare(maths_text.plain(value))[: maths_text.LONGEST]
    text = re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", text)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).lower()
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.replace("–", "-").replace("—", "-").replace("−", "-"))
    text = re.sub(r"(?<![\d.])(\d+)\.0+(?![\d.])", r"\1", text)
    return _dates(text)


def _dates(text: str) -> str:
    """Dates as "2001 may 5", "2001 may" or "may 5", so that a fuller date contains the less full one."""
    name = "sept|" + "|".join(f"{m[:3]}(?:{m[3:]})?" if m != "may" else m for m in _MONTHS)
    day, year = r"(0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?", r"(\d{4})"

    def write(y: str, m: str, d: str) -> str:
        month = _MONTHS[int(m) - 1] if m.isdigit() else next(full for full in _MONTHS if full.startswith(m[:3]))
        return " ".join(part for part in (y, month, d.lstrip("0")) if part)

    month = rf"\b({name})\b\.?"
    text = re.sub(r"\b(\d{4})-(0[1-9]|1[0-2])-(\d\d)\b", lambda m: write(*m.groups()), text)
    text = re.sub(rf"{month} {day},? {year}\b", lambda m: write(m[3], m[1], m[2]), text)
    text = re.sub(rf"\b{day} (?:of )?{month},? {year}\b", lambda m: write(m[3], m[2], m[1]), text)
    text = re.sub(rf"{month},? (?:of )?{year}\b", lambda m: write(m[2], m[1], ""), text)
    text = re.sub(rf"\b{day} (?:of )?{month}(?! \d)", lambda m: write("", m[2], m[1]), text)
    return re.sub(rf"{month} {day}\b", lambda m: write("", m[1], m[2]), text)


def _factual_key(value: Any) -> str:
    """SQuAD's normal form (lower case, no punctuation, no articles) of `_factual_text`; accents, initials, number
    words up to twenty and signs of numbers are brought to one form too."""
    text = _factual_text(value)
    spaced = re.sub(r"(?<!\d)\.|\.(?!\d)|['’`´ʼ]", "", text)
    spaced = re.sub(r"(?<![\w ])-(?=\d)|(?<=\s)-(?=\d)|^-(?=\d)", "~", spaced)  # a sign, not a hyphen
    words = re.sub(r"[^\w~.%]|_", " ", spaced).replace("~", "-").replace("%", " percent ").split()
    kept = [w for w in words if w not in ("a", "an", "the")] or words or text.split()
    kept = [str(_COUNTS.index(w)) if w in _COUNTS else w for w in kept]
    key = re.sub(r"\b([^\W\d]) (?=[^\W\d]\b)", r"\1", " ".join(kept))  # J. K. Rowling is J.K. Rowling
    return {"true": "yes", "false": "no"}.get(key, key)


def _f1(prediction: str, gold: str) -> float:
    if prediction != gold and {prediction, gold} & {"yes", "no"}:
        return 0.0
    ours, theirs = prediction.split(), gold.split()
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def _grade_factual(prediction: Any, gold: str, seconds: float) -> Grade:
    if isinstance(prediction, (list, tuple)) and len(prediction) == 1:
        prediction = prediction[0]
    ours, theirs = normalise(prediction, "factual"), normalise(gold, "factual")
    if ours == theirs:
        return Grade(True, True, 1.0, "same text")
    found = _f1(ours, theirs)
    if _parts(prediction) == _parts(gold):
        return Grade(True, False, found, "same list")
    reason = _contained(_factual_text(prediction), ours.split(), theirs.split())
    return Grade(bool(reason), False, found, reason or "different text")


def _parts(value: Any) -> list[str]:
    return sorted(normalise(p, "factual") for p in re.split(r",|;|&|\band\b", _factual_text(value)) if p.strip())


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
