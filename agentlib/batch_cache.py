"""The keys and values of one batch while it is read and decoded.

Owns a transformers cache that grows in place (transformers' own copies everything for each token) and
joining what is kept of each row's past into one. Imports torch; knows nothing of text.
"""

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, DynamicLayer

from agentlib.kv_cache import Stretch

ROOM = 128  # tokens of room made when a layer is full


class GrowingLayer(DynamicLayer):
    """Keys and values (rows, heads, tokens, width) as the filled part of a larger buffer."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Append the new tokens' keys and values; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys = key_states[:, :, :0]
            self.values = value_states[:, :, :0]
            self._buffers = (self.keys, self.values)
            self._filled = self._buffers
        if self._filled[0] is not self.keys:  # rows were repeated or have left
            self._buffers = (self.keys, self.values)
        start, stop = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if stop > self._buffers[0].shape[2]:
            self._buffers = tuple(_roomier(part, stop + ROOM) for part in (self.keys, self.values))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:stop] = states
        self.keys, self.values = self._filled = tuple(buffer[:, :, :stop] for buffer in self._buffers)
        return self.keys, self.values


def _roomier(filled: torch.Tensor, tokens: int) -> torch.Tensor:
    rows, heads, length, width = filled.shape
    buffer = filled.new_empty((rows, heads, tokens, width))
    buffer[:, :, :length] = filled
    return buffer


def joined(paths: Sequence[Sequence[tuple[Stretch, int]]], past: int) -> Cache:
    """One cache out of the stretches kept for each row, padded on the left to `past` tokens."""
    cache = Cache(layer_class_to_replicate=GrowingLayer)
    first = next((path[0][0] for path in paths if path), None)
    for layer in range(len(first.layers) if first else 0):
        pair = []
        for kind in (0, 1):
            heads, _, width = first.layers[layer][kind].shape
            whole = first.layers[layer][kind].new_zeros((len(paths), heads, past, width))
            for row, path in enumerate(paths):
                place = past - sum(count for _, count in path)
                for stretch, count in path:
                    whole[row, :, place : place + count] = stretch.layers[layer][kind][:, :count]
                    place += count
            pair.append(whole)
        cache.update(*pair, layer)
    return cache
