"""Prompt lookup decoding (Saxena 2023): drafts of the next tokens, copied from earlier ones.

Agents repeat themselves: the question's names, the last search, their own layout, what a sibling
sample wrote. Whatever followed the same two tokens last time is a draft of what follows now; the
model reads several drafted tokens in one forward call and keeps those that it would have drawn
itself.
"""

from collections.abc import Sequence

KEY_TOKENS = 2  # tokens that must be the same


class PromptLookup:
    """What followed each pair of tokens when it was last seen; emptied above `budget` pairs."""

    def __init__(self, budget: int = 500_000):
        self.budget = budget
        self._followed: dict[tuple[int, ...], tuple[Sequence[int], int]] = {}

    def clear(self) -> None:
        """Forget all pairs."""
        self._followed.clear()

    def index(self, tokens: Sequence[int]) -> None:
        """Add a whole sequence, which must not change any more except by growing."""
        if len(self._followed) > self.budget:
            self.clear()
        for place in range(KEY_TOKENS, len(tokens)):
            self._followed[tuple(tokens[place - KEY_TOKENS : place])] = (tokens, place)

    def index_last(self, tokens: Sequence[int]) -> None:
        """Add the last token of a sequence that has grown by it."""
        place = len(tokens) - 1
        self._followed[tuple(tokens[place - KEY_TOKENS : place])] = (tokens, place)

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        """At most `count` tokens that may follow these; none after an unknown pair."""
        found = self._followed.get(tuple(tokens[-KEY_TOKENS:])) if count > 0 else None
        return [] if found is None else list(found[0][found[1] : found[1] + count])
