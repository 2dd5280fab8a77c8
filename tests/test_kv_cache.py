"""What is kept of earlier calls: always the keys and values of exactly these tokens in exactly this order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.cache_utils import DynamicLayer

from agentlib.batch_cache import GrowingLayer, joined
from agentlib.kv_cache import KeyValueTree, _below

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)


def true_layers(tokens, start=0):
    """Keys and values that depend on all tokens up to their own, as attention's do: one layer, one head, width 2."""
    seen = [float(hash(tuple(tokens[: k + 1])) % 10_007) for k in range(len(tokens))]
    keys = torch.tensor([[[value, -value] for value in seen]])[:, start:]
    return [(keys, keys + 0.5)]


def remembered(path):
    return torch.cat([s.layers[0][0][:, :count] for s, count in path], 1)


@given(sequences, st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_the_longest_known_start_comes_with_its_own_keys_and_values(kept, asked):
    tree = KeyValueTree(10**9)
    for tokens in kept:
        tree.add(tokens, true_layers(tokens), 0)
    path = tree.longest(asked)
    known = sum(count for _, count in path)
    alike = [next((k for k, (a, b) in enumerate(zip(t, asked, strict=False)) if a != b), min(len(t), len(asked))) for t in kept]
    assert known == max(alike)
    if known:
        assert torch.equal(remembered(path), true_layers(asked)[0][0][:, :known])
    for tokens in kept:
        assert torch.equal(remembered(tree.longest(tokens)), true_layers(tokens)[0][0])


@given(sequences)
def test_nothing_is_stored_twice_and_the_books_are_right(kept):
    tree = KeyValueTree(10**9)
    for tokens in kept:
        for _ in range(2):
            known = sum(count for _, count in tree.longest(tokens))
            tree.add(tokens, true_layers(tokens, known), known)
    starts = {tuple(t[: k + 1]) for t in kept for k in range(len(t))}
    assert sum(len(s.tokens) for s in _below(tree.root)) == len(starts)
    assert tree.held == sum(s.bytes for s in _below(tree.root)) == len(starts) * 16


@given(sequences, st.integers(1, 10))
def test_a_full_tree_drops_what_was_used_longest_ago_and_tells_no_lies(kept, room):
    tree = KeyValueTree(room * 16)
    for tokens in kept:
        tree.add(tokens, true_layers(tokens), 0)
        assert tree.held == sum(s.bytes for s in _below(tree.root)) <= room * 16
        path = tree.longest(tokens)
        if path:
            known = sum(count for _, count in path)
            assert torch.equal(remembered(path), true_layers(tokens)[0][0][:, :known])
    if len(kept[-1]) <= room:
        assert sum(count for _, count in tree.longest(kept[-1])) == len(kept[-1]), "the newest is the last to go"


def test_tokens_cannot_be_kept_without_those_before_them():
    tree = KeyValueTree(10**9)
    with pytest.raises(ValueError, match="0 tokens of this sequence are known, expected the 2 before the new ones"):
        tree.add([1, 2, 3], true_layers([1, 2, 3], 2), 2)


def test_a_growing_layer_holds_what_transformers_own_would():
    torch.manual_seed(0)
    ours, theirs, rows = GrowingLayer(), DynamicLayer(), 2
    for step, tokens in enumerate([7, 1, 1, 150, 1, 1, 1]):
        new = torch.randn(rows, 3, tokens, 4), torch.randn(rows, 3, tokens, 4)
        for found, expected in zip(ours.update(*new), theirs.update(*new), strict=True):
            assert torch.equal(found, expected)
        if step == 1:
            for layer in (ours, theirs):
                layer.batch_repeat_interleave(2)
            rows = 4
        if step == 4:
            for layer in (ours, theirs):
                layer.batch_select_indices(torch.tensor([0, 3]))
            rows = 2
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_rows_of_unlike_pasts_are_joined_with_padding_on_the_left():
    tree = KeyValueTree(10**9)
    for tokens in ([1, 2, 3], [1, 5]):
        tree.add(tokens, true_layers(tokens), 0)
    paths = [tree.longest(tokens) for tokens in ([1, 2, 3], [1, 5, 9], [7])]
    keys = joined(paths, 3).layers[0].keys
    assert torch.equal(keys[0], true_layers([1, 2, 3])[0][0])
    assert torch.equal(keys[1, :, 1:], true_layers([1, 5])[0][0]) and not keys[1, :, 0].any() and not keys[2].any()
    assert joined([[], []], 0).get_seq_length() == 0
