"""Guessing what comes next from what was read and written before.

Agents repeat themselves: the question's names, the last search, their own layout, what a sibling sample wrote. Whatever
followed the same two tokens last time is a draft of what follows now (prompt lookup decoding, Saxena 2023); the model
reads several drafted tokens in one go and keeps those it would have chosen itself. Owns what followed what; knows nothing of models.
"""

from collections.abc import Sequence

KEY = 2  # tokens that must be alike


class Drafts:
    """What followed each pair of tokens when it was last seen; forgets everything when it holds `budget` pairs."""

    def __init__(self, budget: int = 500_000):
        self.budget = budget
        self._followed: dict[tuple[int, ...], tuple[Sequence[int], int]] = {}

    def clear(self) -> None:
        self._followed.clear()

    def read(self, tokens: Sequence[int]) -> None:
        """Learn a whole sequence, which must not change any more but at its end."""
        if len(self._followed) > self.budget:
            self.clear()
        for place in range(KEY, len(tokens)):
            self._followed[tuple(tokens[place - KEY : place])] = (tokens, place)

    def grown(self, tokens: Sequence[int]) -> None:
        """Learn the last token of a sequence that has grown by it."""
        place = len(tokens) - 1
        self._followed[tuple(tokens[place - KEY : place])] = (tokens, place)

    def after(self, tokens: Sequence[int], count: int) -> list[int]:
        """At most `count` tokens that may come after these; none where their last two were not seen before."""
        found = self._followed.get(tuple(tokens[-KEY:])) if count > 0 else None
        return [] if found is None else list(found[0][found[1] : found[1] + count])
