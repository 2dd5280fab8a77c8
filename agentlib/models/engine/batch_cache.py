"""The keys and values of one batch while it is read and decoded.

Each prompt is held once for all rows that are sampled from it, and the tokens decoded since in a
buffer with slots for each row. Names of shapes: a query head group is the query heads that share
one key head; `width` is that of a head.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from agentlib.models.engine.prefix_cache import Node, PrefixCache

SLOTS_ADDED = 64  # for each row, when its slots are full


class RowMap:
    """Which row belongs to which prompt; brings the rows of one prompt together for it."""

    def __init__(self, owners: Sequence[int], mask: torch.Tensor):
        """`owners` (rows,) is each row's prompt, ascending; `mask` (prompts, past) 0 at padding."""
        self.owners, self.mask, prompts, device = list(owners), mask, len(mask), mask.device
        self.prompts = prompts
        # Added to the scores of all heads and rows of a prompt; None without padding.
        self.bias = (
            None if bool(mask.all()) else (1.0 - mask[:, None, None].to(torch.float32)) * -1e9
        )
        counts = [self.owners.count(prompt) for prompt in range(prompts)]
        self.most = max(counts)  # rows of one prompt
        self.even = min(counts) == self.most
        if not self.even:
            first = [
                self.owners.index(prompt) if count else 0 for prompt, count in enumerate(counts)
            ]
            rows = [
                f + min(k, max(c - 1, 0))
                for f, c in zip(first, counts, strict=True)
                for k in range(self.most)
            ]
            places = [
                owner * self.most + row - first[owner] for row, owner in enumerate(self.owners)
            ]
            self._rows_of_places = torch.tensor(rows, device=device)
            self._places_of_rows = torch.tensor(places, device=device)

    def gather(self, of_rows: torch.Tensor) -> torch.Tensor:
        """(rows, heads, group, x) → (prompts, heads, most * group, x).

        Prompts with fewer rows than `most` have one repeated.
        """
        if not self.even:
            of_rows = of_rows[self._rows_of_places]
        _, heads, group, x = of_rows.shape
        if self.most == 1:
            return of_rows
        split = of_rows.view(self.prompts, self.most, heads, group, x).transpose(1, 2)
        return split.reshape(self.prompts, heads, self.most * group, x)

    def scatter(self, of_prompts: torch.Tensor) -> torch.Tensor:
        """The opposite of `gather`: (prompts, heads, most * group, x) → (rows, heads, group, x)."""
        if self.most > 1:
            prompts, heads, groups, x = of_prompts.shape
            split = of_prompts.view(prompts, heads, self.most, groups // self.most, x).transpose(
                1, 2
            )
            of_prompts = split.reshape(prompts * self.most, heads, groups // self.most, x)
        return of_prompts if self.even else of_prompts[self._places_of_rows]


class Slots:
    """The slots of each row's new tokens in the buffer of decoded ones, and which each token sees.

    A row may keep fewer tokens than were read for it: its next ones then take the slots of those it
    did not keep.
    """

    def __init__(self, rows: int, device: torch.device):
        self.lengths, self.device, self.capacity, self.width = [0] * rows, device, 0, 0

    def reserve(self, width: int, dtype: torch.dtype) -> None:
        """Choose the slots of the next `width` tokens of each row."""
        self.width = width
        while self.capacity < max(self.lengths) + width:
            self.capacity += SLOTS_ADDED
        self.even = len(set(self.lengths)) == 1
        lengths = torch.tensor(self.lengths, device=self.device)
        self.new = lengths[:, None] + torch.arange(width, device=self.device)
        later = torch.arange(self.capacity, device=self.device) > self.new[..., None]
        # Added to the scores of all heads: (rows, 1, 1, width, capacity).
        bias = torch.zeros(later.shape, dtype=dtype, device=self.device).masked_fill_(
            later, -torch.inf
        )
        self.bias = bias[:, None, None]

    def write(self, buffer: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Write (rows, heads, width, x) into a buffer (rows, heads, capacity, x).

        Returns the buffer, or a larger one if it was full.
        """
        if buffer.shape[2] < self.capacity:
            more = buffer.new_zeros(
                (*buffer.shape[:2], self.capacity - buffer.shape[2], buffer.shape[3])
            )
            buffer = torch.cat([buffer, more], 2)
        # Attention reads the whole buffer: a matrix product over a part of one would first copy it.
        if self.even:
            buffer[:, :, self.lengths[0] : self.lengths[0] + self.width] = new
        else:
            buffer[torch.arange(len(buffer), device=buffer.device)[:, None], :, self.new] = (
                new.transpose(1, 2)
            )
        return buffer


class SplitKV(NamedTuple):
    """Keys or values in two parts, given to attention in place of one tensor."""

    prompt: torch.Tensor  # (prompts, heads, past, width)
    decoded: torch.Tensor  # (rows, heads, capacity, width)
    bias: torch.Tensor  # added to the scores of the decoded part: (rows, 1, 1, new, capacity)
    row_map: RowMap


class DecodingLayer(DynamicLayer):
    """One layer's keys and values: those of the prompts, and those of the tokens decoded since."""

    def __init__(self, prompts: tuple[torch.Tensor, torch.Tensor], row_map: RowMap, slots: Slots):
        super().__init__()
        self.prompts = tuple(part.contiguous() for part in prompts)
        self.is_initialized = True
        _, heads, _, width = self.prompts[0].shape
        self.keys, self.values = (
            part.new_zeros((len(row_map.owners), heads, 0, width)) for part in self.prompts
        )
        self.row_map, self.slots = row_map, slots

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Write the new tokens' keys and values, (rows, heads, new, width).

        Returns keys and values as `SplitKV`.
        """
        self.keys, self.values = (
            self.slots.write(self.keys, key_states),
            self.slots.write(self.values, value_states),
        )
        return tuple(
            SplitKV(prompt, decoded, self.slots.bias, self.row_map)
            for prompt, decoded in zip(self.prompts, (self.keys, self.values), strict=True)
        )

    def get_seq_length(self) -> int:
        return self.prompts[0].shape[2] + max(self.slots.lengths)


class DecodingCache(Cache):
    """Rows decoded from prompts that were read, at first one row per prompt.

    `mask` (prompts, past) is 0 at padding. For each forward call: `reserve`, the call, then
    `advance` by as many of its tokens as each row keeps.
    """

    def __init__(self, read: Cache, mask: torch.Tensor):
        self.row_map = RowMap(range(len(mask)), mask)
        self.slots = Slots(len(self.row_map.owners), mask.device)
        super().__init__(
            layers=[
                DecodingLayer((x.keys, x.values), self.row_map, self.slots) for x in read.layers
            ]
        )

    def reserve(self, width: int) -> None:
        """Let the next forward call bring `width` tokens for each row."""
        self.slots.reserve(width, self.layers[0].keys.dtype)

    def advance(self, kept: Sequence[int]) -> None:
        """Keep this many of each row's first tokens of the last forward call, if there was one."""
        if self.slots.width:
            self.slots.lengths = [
                length + count for length, count in zip(self.slots.lengths, kept, strict=True)
            ]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows (ascending) only, each as often as it is named.

        Prompts without rows are removed once they are a quarter.
        """
        mask = self.row_map.mask
        index = torch.tensor(rows, device=mask.device)
        owners = [self.row_map.owners[row] for row in rows]
        left = sorted(set(owners))
        compact = len(left) <= 0.75 * len(mask)
        if compact:
            owners, mask = [left.index(owner) for owner in owners], mask[left]
        self.row_map = RowMap(owners, mask)
        self.slots.lengths = [self.slots.lengths[row] for row in rows]
        for layer in self.layers:
            layer.keys, layer.values, layer.row_map = (
                layer.keys[index],
                layer.values[index],
                self.row_map,
            )
            if compact:
                layer.prompts = tuple(part[left] for part in layer.prompts)


def join_paths(paths: Sequence[Sequence[tuple[Node, int]]], past: int) -> Cache:
    """One cache from each prompt's nodes (`PrefixCache.match`), padded on the left to `past`."""
    cache = DynamicCache()
    first = next((path[0][0] for path in paths if path), None)
    for number in range(len(first.layers) if first else 0):
        pair = []
        for kind in (0, 1):
            heads, _, width = first.layers[number][kind].shape
            whole = first.layers[number][kind].new_zeros((len(paths), heads, past, width))
            for row, path in enumerate(paths):
                place = past - sum(count for _, count in path)
                for node, count in path:
                    whole[row, :, place : place + count] = node.layers[number][kind][:, :count]
                    place += count
            pair.append(whole)
        layer = DynamicLayer()
        layer.update(*pair)
        cache.layers.append(layer)
    return cache


def store_row(
    prefixes: PrefixCache, before: list[int], tokens: list[int], cache: Cache, row: int, place: int
) -> None:
    """Store the keys and values of `tokens`, which follow `before`, in the prefix cache.

    They are in this row of a batch's cache, beginning at `place`. Does nothing where the tokens
    before are not in the prefix cache any more.
    """
    if tokens and prefixes.known_length(before) == len(before):
        span = slice(place, place + len(tokens))
        layers = [(layer.keys[row, :, span], layer.values[row, :, span]) for layer in cache.layers]
        prefixes.add(before + tokens, layers, len(before))
