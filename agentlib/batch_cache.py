"""The keys and values of one batch while it is read and decoded, and the attention that decoding uses.

Owns a transformers cache that holds each prompt once for all rows sampled from it, attention over such a cache and
while prompts are read, and joining what is kept of each prompt's past into one. Imports torch; knows nothing of text.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from agentlib.kv_cache import Stretch

NAME = "prompts_once"  # of the attention, as transformers knows it
ROOM = 64  # tokens of room made when a layer is full
BLOCK, SCORES = 64, 1 << 20  # queries read at once on a CPU, and how many scores they may have: a few MB stay in its caches


class Seats:
    """Which row belongs to which prompt, and how the rows of one prompt are brought together for it."""

    def __init__(self, owners: Sequence[int], mask: torch.Tensor):
        """`owners` (rows,), ascending: the prompt of each row. `mask` (prompts, past) is 0 at padding."""
        self.owners, self.mask, prompts, device = list(owners), mask, len(mask), mask.device
        self.prompts = prompts
        # Added to the scores of all heads and seats of a prompt.
        self.hidden = None if bool(mask.all()) else (1.0 - mask[:, None, None].to(torch.float32)) * -1e9
        counts = [self.owners.count(prompt) for prompt in range(prompts)]
        self.most = max(counts)
        self.even = min(counts) == self.most
        if not self.even:
            first = [self.owners.index(prompt) if count else 0 for prompt, count in enumerate(counts)]
            seats = [f + min(k, max(c - 1, 0)) for f, c in zip(first, counts, strict=True) for k in range(self.most)]
            places = [owner * self.most + row - first[owner] for row, owner in enumerate(self.owners)]
            self._rows_of_seats = torch.tensor(seats, device=device)
            self._seats_of_rows = torch.tensor(places, device=device)

    def gather(self, of_rows: torch.Tensor) -> torch.Tensor:
        """(rows, heads, group, x) → (prompts, heads, seats * group, x); rows are repeated to fill the seats."""
        if not self.even:
            of_rows = of_rows[self._rows_of_seats]
        _, heads, group, x = of_rows.shape
        if self.most == 1:
            return of_rows
        split = of_rows.view(self.prompts, self.most, heads, group, x).transpose(1, 2)
        return split.reshape(self.prompts, heads, self.most * group, x)

    def scatter(self, of_prompts: torch.Tensor) -> torch.Tensor:
        """(prompts, heads, seats * group, x) → (rows, heads, group, x)."""
        if self.most > 1:
            prompts, heads, seats, x = of_prompts.shape
            split = of_prompts.view(prompts, heads, self.most, seats // self.most, x).transpose(1, 2)
            of_prompts = split.reshape(prompts * self.most, heads, seats // self.most, x)
        return of_prompts if self.even else of_prompts[self._seats_of_rows]


class Parts(NamedTuple):
    """Keys or values in two parts, given to attention in place of one tensor."""

    prompt: torch.Tensor  # (prompts, heads, past, width)
    fresh: torch.Tensor  # (rows, heads, room, width), of which `filled` tokens count
    filled: int
    seats: Seats


class DecodingLayer(DynamicLayer):
    """One layer's keys and values: those of the prompts, and those of the tokens decoded since."""

    def __init__(self, prompts: tuple[torch.Tensor, torch.Tensor], seats: Seats):
        super().__init__()
        self.prompts = tuple(part.contiguous() for part in prompts)
        self.is_initialized, self.filled = True, 0
        _, heads, _, width = self.prompts[0].shape
        self.keys, self.values = (part.new_zeros((len(seats.owners), heads, 0, width)) for part in self.prompts)
        self.seats = seats

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Append one token's keys and values a row, (rows, heads, 1, width); returns the `Parts` of both."""
        if self.filled == self.keys.shape[2]:
            self.keys, self.values = (
                torch.cat([part, part.new_zeros((*part.shape[:2], ROOM, part.shape[3]))], 2)
                for part in (self.keys, self.values)
            )
        # Written into the room at once: a matrix product over a part of a buffer would first copy it.
        self.keys[:, :, self.filled : self.filled + 1] = key_states
        self.values[:, :, self.filled : self.filled + 1] = value_states
        self.filled += 1
        return tuple(
            Parts(prompt, fresh, self.filled, self.seats)
            for prompt, fresh in zip(self.prompts, (self.keys, self.values), strict=True)
        )

    def get_seq_length(self) -> int:
        return self.prompts[0].shape[2] + self.filled


class DecodingCache(Cache):
    """`copies` rows decoded from each prompt of a cache that was read. `mask` (prompts, past) is 0 at padding."""

    def __init__(self, read: Cache, mask: torch.Tensor, copies: int):
        self.seats = Seats([prompt for prompt in range(len(mask)) for _ in range(copies)], mask)
        super().__init__(layers=[DecodingLayer((x.keys, x.values), self.seats) for x in read.layers])

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows (ascending) only; prompts without rows go when they are a quarter of all."""
        mask = self.seats.mask
        index = torch.tensor(rows, device=mask.device)
        owners = [self.seats.owners[row] for row in rows]
        left = sorted(set(owners))
        lean = len(left) <= 0.75 * len(mask)
        if lean:
            owners, mask = [left.index(owner) for owner in owners], mask[left]
        self.seats = Seats(owners, mask)
        for layer in self.layers:
            layer.keys, layer.values, layer.seats = layer.keys[index], layer.values[index], self.seats
            if lean:
                layer.prompts = tuple(part[left] for part in layer.prompts)


def attend(module, query, key, value, attention_mask, scaling=None, dropout: float = 0.0, **kwargs):
    """Attention of one new token a row over `Parts`; over plain tensors that of prompts being read (causal, left padding).

    The rows of one prompt meet its keys in one matrix product (as in Hydragen, Juravsky et al. 2024), and on a CPU
    even single rows are many times faster than with torch's fused kernel, which is made for long queries.
    Query (rows, heads, 1, width) → (rows, 1, heads, width).
    """
    if not isinstance(key, Parts):
        if query.device.type == "cpu" and not dropout and query.shape[2] > 1:
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            return _read(query * scale, key, value, attention_mask).transpose(1, 2), None
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    rows, heads, _, width = query.shape
    shared, seats = key.fresh.shape[1], key.seats
    asked = (query * (width**-0.5 if scaling is None else scaling)).view(rows, shared, heads // shared, width)
    of_prompts = (seats.gather(asked) @ key.prompt.mT).float()
    if seats.hidden is not None:
        of_prompts += seats.hidden
    of_fresh = (asked @ key.fresh.mT).float()
    of_fresh[..., key.filled :] = -torch.inf
    weights = torch.cat([seats.scatter(of_prompts), of_fresh], -1).softmax(-1).to(query.dtype)
    past = key.prompt.shape[2]
    mixed = seats.scatter(seats.gather(weights[..., :past]) @ value.prompt) + weights[..., past:] @ value.fresh
    return mixed.reshape(rows, 1, heads, width), None


def _read(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Causal attention of the last tokens of each row by matrix products over blocks of queries.

    In bf16 on a CPU it takes half the time of torch's fused kernel. Scaled query (rows, heads, new, width), key and value
    (rows, shared heads, past + new, width), mask (rows, 1, new, past + new), False at padding, or None → query's shape.
    """
    rows, heads, new, width = query.shape
    shared, total = key.shape[1:3]
    group, past = heads // shared, total - new
    size = min(BLOCK, max(8, SCORES // (rows * heads * total)))
    # Each row's last token sees all that is not padding.
    hidden = None if mask is None else (~mask[:, :, None, -1:]).to(torch.float32) * -1e9
    later = torch.full((size, size), -torch.inf).triu(1)
    query = query.view(rows, shared, group, new, width)
    mixed = torch.empty_like(query)
    for start in range(0, new, size):
        end = min(start + size, new)
        count, seen = end - start, past + end
        asked = query[:, :, :, start:end].reshape(rows, shared, group * count, width)
        scores = (asked @ key[:, :, :seen].mT).float().view(rows, shared, group, count, seen)
        scores[..., past + start :] += later[:count, :count]
        if hidden is not None:
            scores += hidden[..., :seen]
        weights = scores.softmax(-1).to(query.dtype).view(rows, shared, group * count, seen)
        mixed[:, :, :, start:end] = (weights @ value[:, :, :seen]).view(rows, shared, group, count, width)
    return mixed.view(rows, heads, new, width)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def joined(paths: Sequence[Sequence[tuple[Stretch, int]]], past: int) -> Cache:
    """One cache out of the stretches kept for each prompt, padded on the left to `past` tokens."""
    cache = DynamicCache()
    first = next((path[0][0] for path in paths if path), None)
    for number in range(len(first.layers) if first else 0):
        pair = []
        for kind in (0, 1):
            heads, _, width = first.layers[number][kind].shape
            whole = first.layers[number][kind].new_zeros((len(paths), heads, past, width))
            for row, path in enumerate(paths):
                place = past - sum(count for _, count in path)
                for stretch, count in path:
                    whole[row, :, place : place + count] = stretch.layers[number][kind][:, :count]
                    place += count
            pair.append(whole)
        layer = DynamicLayer()
        layer.update(*pair)
        cache.layers.append(layer)
    return cache
