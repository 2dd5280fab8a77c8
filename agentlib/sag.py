"""Self-consistent action generation: of several candidate actions, keep the one most agree on (§3.2).

Owns the outcome keys, the vote, and when it is decided before all have ended. Knows nothing of models, sampling or
training.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from agentlib import score
from agentlib.sandbox import Outcome

Vote = Literal["outcome", "as_published"]
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")


@dataclass(frozen=True)
class SAG:
    """How candidates are sampled and compared: N, temperature and nucleus of §4.1 and the reference code.

    `early_stop`: candidates whose votes can no longer change the choice are not sampled to their end.
    """

    n: int = 8
    temperature: float = 0.4
    top_p: float = 0.8
    vote: Vote = "outcome"
    early_stop: bool = True

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"SAG has n={self.n}, expected 1 or more candidates")
        if self.vote not in ("outcome", "as_published"):
            raise ValueError(f"SAG has vote={self.vote!r}, expected 'outcome' or 'as_published'")


def outcome_key(outcome: Outcome, vote: Vote = "outcome") -> Hashable | None:
    """What a candidate is compared by; None for one that failed.

    "outcome": final answers by their normalised value, other actions by what they printed and their last value, in which an
    object's address is not compared. "as_published": printed text alone, so final answers are never compared by value.
    """
    if outcome.failure is not None:
        return None
    if vote == "as_published":
        return outcome.stdout.strip()
    if outcome.is_final:
        return ("answer", answer_key(outcome.answer))
    return ("output", *(_ADDRESS.sub("", text.strip()) for text in (outcome.stdout, outcome.value)))


def answer_key(answer: object) -> str:
    """One key for answers that are the same value, numbers as numbers and names as names."""
    key = score.normalise(answer, "math")
    return key if any(c.isdigit() for c in key) else score.normalise(answer, "factual")


def groups(outcomes: Sequence[Outcome], vote: Vote = "outcome", lengths: Sequence[int] | None = None) -> list[int | None]:
    """The group of each candidate, numbered from the largest down; None for failed ones.

    Groups of one size are ordered by their first candidate: the shortest by `lengths` (tokens), then in sample order.
    """
    keys = [outcome_key(outcome, vote) for outcome in outcomes]
    counted = Counter(keys[index] for index in _order(outcomes, lengths) if keys[index] is not None)
    ranked = [key for key, _ in counted.most_common()]
    return [None if key is None else ranked.index(key) for key in keys]


def choose(outcomes: Sequence[Outcome], vote: Vote = "outcome", lengths: Sequence[int] | None = None) -> int:
    """Index of the candidate to keep: the first of the largest group (first as in `groups`).

    If all failed it is sample 0; candidates are independent samples, so this is the paper's random one.
    """
    if not outcomes:
        raise ValueError("no outcomes to choose from, expected one or more candidates")
    numbered = groups(outcomes, vote, lengths)
    return next((index for index in _order(outcomes, lengths) if numbered[index] == 0), 0)


def decided(outcomes: Sequence[Outcome], left: int, vote: Vote = "outcome") -> bool:
    """Whether `left` longer candidates, whatever their outcomes, would leave the choice among `outcomes` as it is.

    `outcomes` are in the order of their lengths. Exact: another group wins by more votes than the leading one, or by
    as many if it has the shorter first candidate, which a group that none has voted for yet cannot have.
    """
    numbered = groups(outcomes, vote)
    sizes = Counter(group for group in numbered if group is not None)
    if left == 0 or not sizes:
        return left == 0
    reach = {group: size + left + (numbered.index(group) < numbered.index(0)) for group, size in sizes.items() if group}
    return sizes[0] >= max(reach.values(), default=left)


def _order(outcomes: Sequence[Outcome], lengths: Sequence[int] | None) -> list[int]:
    if lengths is None:
        return list(range(len(outcomes)))
    return [index for _, index in sorted(zip(lengths, range(len(outcomes)), strict=True))]
