"""The keys and values of one batch while it is read and decoded.

Owns a transformers cache that holds each prompt once for all rows sampled from it, and joining what is kept of each
prompt's past into one. Imports torch; knows nothing of text, nor of the attention that reads it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from agentlib.models.engine.prefix_cache import Stretch

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


class Places:
    """Where each row's new tokens stand among those decoded, and which of them they see.

    A row may keep fewer tokens than were read for it: its next ones then take the places of those it did not keep.
    """

    def __init__(self, rows: int, device: torch.device):
        self.lengths, self.device, self.room, self.width = [0] * rows, device, 0, 0

    def begin(self, width: int, dtype: torch.dtype) -> None:
        """Make room for `width` tokens a row."""
        self.width = width
        while self.room < max(self.lengths) + width:
            self.room += ROOM
        self.even = len(set(self.lengths)) == 1
        lengths = torch.tensor(self.lengths, device=self.device)
        self.slots = lengths[:, None] + torch.arange(width, device=self.device)
        later = torch.arange(self.room, device=self.device) > self.slots[..., None]
        # Added to the scores of all heads: (rows, 1, 1, width, room).
        self.hidden = torch.zeros(later.shape, dtype=dtype, device=self.device).masked_fill_(later, -torch.inf)[:, None, None]

    def write(self, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Put (rows, heads, width, x) into what is held, (rows, heads, room, x); returns it, larger if it was full."""
        if held.shape[2] < self.room:
            more = held.new_zeros((*held.shape[:2], self.room - held.shape[2], held.shape[3]))
            held = torch.cat([held, more], 2)
        # Written into the room at once: a matrix product over a part of a buffer would first copy it.
        if self.even:
            held[:, :, self.lengths[0] : self.lengths[0] + self.width] = new
        else:
            held[torch.arange(len(held), device=held.device)[:, None], :, self.slots] = new.transpose(1, 2)
        return held


class Parts(NamedTuple):
    """Keys or values in two parts, given to attention in place of one tensor."""

    prompt: torch.Tensor  # (prompts, heads, past, width)
    fresh: torch.Tensor  # (rows, heads, room, width)
    hidden: torch.Tensor  # added to the scores of the fresh part: (rows, 1, 1, new, room)
    seats: Seats


class DecodingLayer(DynamicLayer):
    """One layer's keys and values: those of the prompts, and those of the tokens decoded since."""

    def __init__(self, prompts: tuple[torch.Tensor, torch.Tensor], seats: Seats, places: Places):
        super().__init__()
        self.prompts = tuple(part.contiguous() for part in prompts)
        self.is_initialized = True
        _, heads, _, width = self.prompts[0].shape
        self.keys, self.values = (part.new_zeros((len(seats.owners), heads, 0, width)) for part in self.prompts)
        self.seats, self.places = seats, places

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Write the new tokens' keys and values, (rows, heads, new, width); returns the `Parts` of both."""
        self.keys, self.values = self.places.write(self.keys, key_states), self.places.write(self.values, value_states)
        return tuple(
            Parts(prompt, fresh, self.places.hidden, self.seats)
            for prompt, fresh in zip(self.prompts, (self.keys, self.values), strict=True)
        )

    def get_seq_length(self) -> int:
        return self.prompts[0].shape[2] + max(self.places.lengths)


class DecodingCache(Cache):
    """Rows decoded from the prompts of a cache that was read, at first one each. `mask` (prompts, past) is 0 at padding.

    For each forward call: `make_room`, the call, then `advance` by as many of its tokens as each row keeps.
    """

    def __init__(self, read: Cache, mask: torch.Tensor):
        self.seats = Seats(range(len(mask)), mask)
        self.places = Places(len(self.seats.owners), mask.device)
        super().__init__(layers=[DecodingLayer((x.keys, x.values), self.seats, self.places) for x in read.layers])

    def make_room(self, width: int) -> None:
        """Let the next forward call bring `width` tokens a row."""
        self.places.begin(width, self.layers[0].keys.dtype)

    def advance(self, kept: Sequence[int]) -> None:
        """Count the tokens of the last forward call that each row keeps, from its first on; none if there was no call."""
        if self.places.width:
            self.places.lengths = [length + count for length, count in zip(self.places.lengths, kept, strict=True)]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows (ascending) only, one as often as it is named; prompts without rows go when they are a quarter."""
        mask = self.seats.mask
        index = torch.tensor(rows, device=mask.device)
        owners = [self.seats.owners[row] for row in rows]
        left = sorted(set(owners))
        lean = len(left) <= 0.75 * len(mask)
        if lean:
            owners, mask = [left.index(owner) for owner in owners], mask[left]
        self.seats = Seats(owners, mask)
        self.places.lengths = [self.places.lengths[row] for row in rows]
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
