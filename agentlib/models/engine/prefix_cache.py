"""A prefix cache: keys and values that outlive a call.

Each step of a conversation reads only what is new. Prompts that begin alike share one copy of that
beginning, and a step's prompt continues from the turn that was sampled before it (as in SGLang's
radix tree, Zheng et al. 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Keys and values of each layer, both (heads, tokens, width).
Layers = list[tuple["torch.Tensor", "torch.Tensor"]]


@dataclass(eq=False)
class Node:
    """A run of tokens that follow those of the parent, with their keys and values."""

    tokens: list[int]
    layers: Layers
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list)
    last_used: int = 0  # on the cache's clock

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for pair in self.layers for t in pair)


class PrefixCache:
    """A tree of token runs of at most `budget` bytes; it evicts the least recently used leaf."""

    def __init__(self, budget: int):
        self.budget, self.clock = budget, 0
        self.clear()

    def clear(self) -> None:
        """Forget everything: other weights give other keys and values."""
        self.root, self.bytes = Node([], []), 0

    def match(self, tokens: Sequence[int]) -> list[tuple[Node, int]]:
        """The nodes along the longest known prefix of `tokens`, each with its number of matches."""
        self.clock += 1
        path, node, place = [], self.root, 0
        while True:
            matches = [(_matching(child.tokens, tokens, place), child) for child in node.children]
            count, child = max(matches, key=lambda pair: pair[0], default=(0, node))
            if count == 0:
                return path
            child.last_used = self.clock
            path.append((child, count))
            node, place = child, place + count
            if count < len(child.tokens):
                return path

    def known_length(self, tokens: Sequence[int]) -> int:
        """The length of the longest known prefix of `tokens`."""
        return sum(count for _, count in self.match(tokens))

    def add(self, tokens: Sequence[int], layers: Layers, start: int) -> None:
        """Store the keys and values of `tokens[start:]`; what is known already is not stored twice.

        Raises ValueError if the tokens before `start` are not known.
        """
        path = self.match(tokens)
        known = sum(count for _, count in path)
        if known < start:
            raise ValueError(
                f"{known} tokens of this sequence are known, expected the {start} before the new"
                " ones"
            )
        if known == len(tokens):
            return
        parent = self.root
        if path:
            parent, count = path[-1]
            if count < len(parent.tokens):
                _split(parent, count)
        rest = [tuple(t[:, known - start :].clone() for t in pair) for pair in layers]
        parent.children.append(Node(list(tokens[known:]), rest, parent, last_used=self.clock))
        self.bytes += parent.children[-1].bytes
        if self.bytes > self.budget:
            self._evict()

    def _evict(self) -> None:
        """Remove leaves, the least recently used first, until the budget is kept."""
        nodes = _descendants(self.root)
        while self.bytes > self.budget:
            leaf = min(
                (node for node in nodes if not node.children), key=lambda node: node.last_used
            )
            leaf.parent.children.remove(leaf)
            nodes.remove(leaf)
            self.bytes -= leaf.bytes


def _matching(known: Sequence[int], tokens: Sequence[int], place: int) -> int:
    """How many of the known tokens, from their first, the sequence has at this place."""
    for count, token in enumerate(known):
        if place + count == len(tokens) or tokens[place + count] != token:
            return count
    return len(known)


def _split(node: Node, count: int) -> None:
    """Split a node in two, so that another sequence can continue from its first `count` tokens."""
    tail = Node(
        node.tokens[count:],
        [tuple(t[:, count:].clone() for t in pair) for pair in node.layers],
        node,
        node.children,
        node.last_used,
    )
    for child in tail.children:
        child.parent = tail
    node.layers = [tuple(t[:, :count].clone() for t in pair) for pair in node.layers]
    node.tokens, node.children = node.tokens[:count], [tail]


def _descendants(node: Node) -> list[Node]:
    found = []
    for child in node.children:
        found += [child, *_descendants(child)]
    return found
