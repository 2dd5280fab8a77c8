"""Self-consistent action generation: of several candidate actions, keep the one most agree on
(§3.2).

Candidates are sampled and run by `agent`. Here they get a key by what came of them, candidates with
equal keys form a group, and the largest group wins.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from agentlib import score
from agentlib.sandbox import Outcome

Vote = Literal["outcome", "as_published"]
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")


@dataclass(frozen=True)
class SAG:
    """Self-consistent action generation: how candidates are sampled (N, temperature and nucleus of
    §4.1 and the reference code) and compared."""

    n: int = 8
    temperature: float = 0.4
    top_p: float = 0.8
    vote: Vote = "outcome"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"SAG has n={self.n}, expected 1 or more candidates")
        if self.vote not in ("outcome", "as_published"):
            raise ValueError(f"SAG has vote={self.vote!r}, expected 'outcome' or 'as_published'")


def outcome_key(
    outcome: Outcome, vote: Vote = "outcome", domain: str | None = None
) -> Hashable | None:
    """What a candidate is compared by; None for one that failed. `domain` is the question's.

    "outcome": final answers by their normalised value, other actions by what they printed and their
    last value, in which an object's address is not compared. "as_published": printed text alone, so
    final answers are never compared by value.
    """
    if outcome.failure is not None:
        return None
    if vote == "as_published":
        return outcome.stdout.strip()
    if outcome.is_final:
        return ("answer", answer_key(outcome.answer, domain))
    return ("output", *(_ADDRESS.sub("", text.strip()) for text in (outcome.stdout, outcome.value)))


# a fraction or a decimal that stands alone
_DIGITS = re.compile(r"(?<![^\s(\[{,])-?\d+(?:/\d+|\.\d+)(?![^\s)\]},])")


def answer_key(answer: object, domain: str | None = None) -> str:
    """One key for answers to a question of `domain` ("math" or "factual") that are the same: those
    with the same normal form under the grader, and in maths those whose numbers agree in 12 figures
    (1/3 and 0.3333333333333333).

    Answers that only algebra (1+x, x+1) or only a tolerance (0.333333, 1/3) finds equal have two
    keys: equality within a tolerance is not transitive, so no key can express it. Nor can one key
    serve both domains: as a name, 1/2 is the same as 1-2. Without a domain, a date or an answer
    with words is compared as a name, any other as maths.
    """
    if domain == "factual":
        return score.normalise(answer, domain)
    key = score.normalise(answer, "math")
    if domain is None and (re.search(r"(?<![\\A-Za-z])[^\W\d_]{2}", key) or score.is_date(answer)):
        return score.normalise(answer, "factual")
    return _DIGITS.sub(_twelve_figures, key)


def _twelve_figures(number: re.Match) -> str:
    try:
        rounded = score.normalise(float(Fraction(number[0])))
    except OverflowError:
        return number[0]
    return rounded if re.search(r"[./]", rounded) else number[0]


def groups(
    outcomes: Sequence[Outcome],
    vote: Vote = "outcome",
    lengths: Sequence[int] | None = None,
    domain: str | None = None,
) -> list[int | None]:
    """The group of each candidate, numbered from the largest down; None for failed ones.

    Groups of one size are ordered by their first candidate: the shortest by `lengths` (tokens),
    then in sample order.
    """
    return rank([outcome_key(outcome, vote, domain) for outcome in outcomes], lengths)


def rank(keys: Sequence[Hashable | None], lengths: Sequence[int] | None = None) -> list[int | None]:
    """`groups` of candidates whose outcome keys are known."""
    counted = Counter(keys[index] for index in _order(keys, lengths) if keys[index] is not None)
    ranked = [key for key, _ in counted.most_common()]
    return [None if key is None else ranked.index(key) for key in keys]


def choose(
    outcomes: Sequence[Outcome],
    vote: Vote = "outcome",
    lengths: Sequence[int] | None = None,
    domain: str | None = None,
) -> int:
    """Index of the candidate to keep: the first of the largest group (first as in `groups`).

    If all failed it is sample 0; candidates are independent samples, so this is the paper's random
    one.
    """
    if not outcomes:
        raise ValueError("no outcomes to choose from, expected one or more candidates")
    return winner(groups(outcomes, vote, lengths, domain), lengths)


def winner(numbered: Sequence[int | None], lengths: Sequence[int] | None = None) -> int:
    """`choose` among candidates whose groups are known."""
    return next((index for index in _order(numbered, lengths) if numbered[index] == 0), 0)


def _order(candidates: Sequence, lengths: Sequence[int] | None) -> list[int]:
    if lengths is None:
        return list(range(len(candidates)))
    return [index for _, index in sorted(zip(lengths, range(len(candidates)), strict=True))]
