"""The keys and values of one batch while it is read and decoded.

Owns a transformers cache that holds each prompt once for all rows sampled from it, and joining what is kept of each
prompt's past into one. Imports torch; knows nothing of text, nor of the attention that reads it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from agentlib.kv_cache import Stretch

ROOM = 64  # tokens of room made when a layer is full


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
