"""Keys and values that outlive a call, so that each step of a conversation reads only what is new.

Owns a tree of token stretches with their attention keys and values: prompts that begin alike share the
stretches of that beginning, and a step's prompt goes on from the turn that was sampled before it. Knows
nothing of text, models or conversations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Layers = list[tuple["torch.Tensor", "torch.Tensor"]]  # a layer: keys and values, each (heads, tokens, width)


@dataclass(eq=False)
class Stretch:
    """Tokens that follow their parent's, with the keys and values computed for them there."""

    tokens: list[int]
    layers: Layers
    parent: "Stretch | None" = None
    children: list["Stretch"] = field(default_factory=list)
    used: int = 0  # when it was last read or written

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for pair in self.layers for t in pair)


class KeyValueTree:
    """What has been read before, up to `budget` bytes; what was used longest ago is dropped first."""

    def __init__(self, budget: int):
        self.budget, self.clock = budget, 0
        self.clear()

    def clear(self) -> None:
        """Forget everything: other weights give other keys and values."""
        self.root, self.held = Stretch([], []), 0

    def longest(self, tokens: Sequence[int]) -> list[tuple[Stretch, int]]:
        """The stretches that hold the longest known start of `tokens`, each with how many of its tokens count."""
        self.clock += 1
        path, node, place = [], self.root, 0
        while True:
            alike = [(_alike(child.tokens, tokens, place), child) for child in node.children]
            count, child = max(alike, key=lambda pair: pair[0], default=(0, node))
            if count == 0:
                return path
            child.used = self.clock
            path.append((child, count))
            node, place = child, place + count
            if count < len(child.tokens):
                return path

    def add(self, tokens: Sequence[int], layers: Layers, start: int) -> None:
        """Keep the keys and values of `tokens[start:]`; what is known already is not stored twice.

        Raises ValueError if the tokens before `start` are not known.
        """
        path = self.longest(tokens)
        known = sum(count for _, count in path)
        if known < start:
            raise ValueError(f"{known} tokens of this sequence are known, expected the {start} before the new ones")
        if known == len(tokens):
            return
        parent = self.root
        if path:
            parent, count = path[-1]
            if count < len(parent.tokens):
                _split(parent, count)
        rest = [tuple(t[:, known - start :].clone() for t in pair) for pair in layers]
        parent.children.append(Stretch(list(tokens[known:]), rest, parent, used=self.clock))
        self.held += parent.children[-1].bytes
        if self.held > self.budget:
            self._shrink()

    def _shrink(self) -> None:
        """Drop leaves, longest unused first, until the budget is kept."""
        everything = _below(self.root)
        while self.held > self.budget:
            leaf = min((s for s in everything if not s.children), key=lambda s: s.used)
            leaf.parent.children.remove(leaf)
            everything.remove(leaf)
            self.held -= leaf.bytes


def _alike(known: Sequence[int], tokens: Sequence[int], place: int) -> int:
    """How many of the known tokens stand at this place of the sequence."""
    for count, token in enumerate(known):
        if place + count == len(tokens) or tokens[place + count] != token:
            return count
    return len(known)


def _split(stretch: Stretch, count: int) -> None:
    """Cut a stretch in two, so that another sequence can go on from its first `count` tokens."""
    tail = Stretch(
        stretch.tokens[count:], [tuple(t[:, count:].clone() for t in pair) for pair in stretch.layers], stretch,
        stretch.children, stretch.used,
    )  # fmt: skip
    for child in tail.children:
        child.parent = tail
    stretch.layers = [tuple(t[:, :count].clone() for t in pair) for pair in stretch.layers]
    stretch.tokens, stretch.children = stretch.tokens[:count], [tail]


def _below(stretch: Stretch) -> list[Stretch]:
    found = []
    for child in stretch.children:
        found += [child, *_below(child)]
    return found
