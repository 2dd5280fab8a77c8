"""What is kept of earlier calls: always the keys and values of exactly these tokens in exactly
this order."""

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.cache_utils import Cache, DynamicLayer

from agentlib.models.engine.attention import BLOCK_QUERIES, attend_generating, attend_training
from agentlib.models.engine.batch_cache import SLOTS_ADDED, DecodingCache, join_paths
from agentlib.models.engine.prefix_cache import PrefixCache, _descendants
from agentlib.models.engine.prompt_lookup import PromptLookup

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)


def true_layers(tokens, start=0):
    """Keys and values that depend on all tokens up to their own, as attention's do: one layer,
    one head, width 2."""
    seen = [float(hash(tuple(tokens[: k + 1])) % 10_007) for k in range(len(tokens))]
    keys = torch.tensor([[[value, -value] for value in seen]])[:, start:]
    return [(keys, keys + 0.5)]


def remembered(path):
    return torch.cat([s.layers[0][0][:, :count] for s, count in path], 1)


@given(sequences, st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_the_longest_known_start_comes_with_its_own_keys_and_values(kept, asked):
    tree = PrefixCache(10**9)
    for tokens in kept:
        tree.add(tokens, true_layers(tokens), 0)
    path = tree.match(asked)
    known = sum(count for _, count in path)
    alike = [
        next(
            (k for k, (a, b) in enumerate(zip(t, asked, strict=False)) if a != b),
            min(len(t), len(asked)),
        )
        for t in kept
    ]
    assert known == max(alike)
    if known:
        assert torch.equal(remembered(path), true_layers(asked)[0][0][:, :known])
    for tokens in kept:
        assert torch.equal(remembered(tree.match(tokens)), true_layers(tokens)[0][0])


@given(sequences)
def test_nothing_is_stored_twice_and_the_books_are_right(kept):
    tree = PrefixCache(10**9)
    for tokens in kept:
        for _ in range(2):
            known = sum(count for _, count in tree.match(tokens))
            tree.add(tokens, true_layers(tokens, known), known)
    starts = {tuple(t[: k + 1]) for t in kept for k in range(len(t))}
    assert sum(len(s.tokens) for s in _descendants(tree.root)) == len(starts)
    assert tree.bytes == sum(s.bytes for s in _descendants(tree.root)) == len(starts) * 16


@given(sequences, st.integers(1, 10))
def test_a_full_tree_drops_what_was_used_longest_ago_and_tells_no_lies(kept, room):
    tree = PrefixCache(room * 16)
    for tokens in kept:
        tree.add(tokens, true_layers(tokens), 0)
        assert tree.bytes == sum(s.bytes for s in _descendants(tree.root)) <= room * 16
        path = tree.match(tokens)
        if path:
            known = sum(count for _, count in path)
            assert torch.equal(remembered(path), true_layers(tokens)[0][0][:, :known])
    if len(kept[-1]) <= room:
        assert sum(count for _, count in tree.match(kept[-1])) == len(kept[-1]), (
            "the newest is the last to go"
        )


def test_tokens_cannot_be_kept_without_those_before_them():
    tree = PrefixCache(10**9)
    with pytest.raises(
        ValueError, match="0 tokens of this sequence are known, expected the 2 before the new ones"
    ):
        tree.add([1, 2, 3], true_layers([1, 2, 3], 2), 2)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("width", [1, 3])
def test_attention_over_prompts_held_once_is_attention_over_repeated_ones(padded, width):
    """Rows leave one by one, then whole prompts; some keep fewer tokens than were read, as after
    a wrong guess."""
    torch.manual_seed(0)
    prompts, copies, shared, group, past, size = 5, 4, 2, 3, 9, 8
    keys, values = torch.randn(2, prompts, shared, past, size)
    mask = torch.ones(prompts, past, dtype=torch.long)
    if padded:
        mask[1, :5] = 0
    layer = DynamicLayer()
    layer.update(keys, values)
    cache = DecodingCache(Cache(layers=[layer]), mask)
    cache.select([prompt for prompt in range(prompts) for _ in range(copies)])
    left = list(range(prompts * copies))
    whole = {
        row: (
            keys[row // copies][:, mask[row // copies].bool()],
            values[row // copies][:, mask[row // copies].bool()],
        )
        for row in left
    }
    leaving = {
        3: [0],
        5: [4, 6, 7],
        SLOTS_ADDED + 2: [16, 17, 18, 19],
        SLOTS_ADDED + 3: [5],
        SLOTS_ADDED + 4: [8, 9, 11],
    }
    held = []
    for step in range(SLOTS_ADDED + 6):
        if step in leaving:
            cache.select([k for k, row in enumerate(left) if row not in leaving[step]])
            left = [row for row in left if row not in leaving[step]]
        query, new = (
            torch.randn(len(left), shared * group, width, size),
            torch.randn(2, len(left), shared, width, size),
        )
        cache.reserve(width)
        found, _ = attend_generating(None, query, *cache.update(*new, 0), None)
        kept = [1 + (row + step) % width for row in left]
        for k, row in enumerate(left):
            seen = [torch.cat([part, n[k]], 1) for part, n in zip(whole[row], new, strict=True)]
            total = seen[0].shape[1]
            allowed = torch.ones(width, total, dtype=torch.bool).tril(total - width)
            expected = torch.nn.functional.scaled_dot_product_attention(
                query[k : k + 1], *(part[None] for part in seen), attn_mask=allowed, enable_gqa=True
            )
            assert torch.allclose(found[k], expected[0].transpose(0, 1), atol=1e-5)
            whole[row] = tuple(part[:, : total - width + kept[k]] for part in seen)
        cache.advance(kept)
        held.append(cache.row_map.prompts)
    assert cache.get_seq_length() == past + max(cache.slots.lengths)
    assert held[SLOTS_ADDED + 2] == 5 and held[-1] == 3, (
        "prompts without rows are dropped once they are a quarter"
    )


@pytest.mark.parametrize("new", [2, BLOCK_QUERIES, 3 * BLOCK_QUERIES + 5])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("past", [0, 7])
def test_attention_while_prompts_are_read_is_torchs_own(new, padded, past):
    torch.manual_seed(0)
    rows, shared, group, width = 3, 2, 3, 8
    query = torch.randn(rows, shared * group, new, width)
    keys, values = torch.randn(2, rows, shared, past + new, width)
    own = torch.ones(rows, past + new, dtype=torch.bool)
    if padded:
        own[1, : past + new - 2] = False
        own[2, :1] = False
    mask = own[:, None, None] & torch.ones(new, past + new, dtype=torch.bool).tril(past)
    found, _ = attend_generating(None, query, keys, values, mask if padded else None)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, enable_gqa=True
    )
    real = own[:, past:]  # a padded token has no attention to speak of
    assert found.isfinite().all() and torch.allclose(
        found[real], expected.transpose(1, 2)[real], atol=1e-5
    )


@pytest.mark.parametrize("new", [5, 2 * BLOCK_QUERIES + 3])
def test_trainings_attention_and_its_gradients_are_as_near_as_torchs_own(new):
    torch.manual_seed(0)
    parts = [torch.randn(2, heads, new, 16) for heads in (6, 2, 2)]
    back = torch.randn(2, new, 6, 16)

    def results(attention, dtype):
        given = [part.to(dtype).requires_grad_() for part in parts]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = attention(*given)
        return [out, *torch.autograd.grad(out, given, back.to(out.dtype))]

    def torchs(query, key, value):
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(query, key, value, is_causal=True, enable_gqa=True).transpose(1, 2)

    exact = results(torchs, torch.float32)
    ours = results(
        lambda query, key, value: attend_training(None, query, key, value, None)[0], torch.bfloat16
    )
    peers = results(torchs, torch.bfloat16)
    for one, other, true in zip(ours, peers, exact, strict=True):
        error, usual = ((found.float() - true).abs().mean() for found in (one, other))
        assert one.shape == true.shape and error < max(3 * usual, 0.02 * true.abs().mean()), (
            error,
            usual,
        )


def test_what_a_batch_held_is_free_when_its_decoding_ends():
    layer = DynamicLayer()
    layer.update(*torch.randn(2, 1, 1, 3, 4))
    cache = DecodingCache(Cache(layers=[layer]), torch.ones(1, 3))
    gone = weakref.ref(cache)
    gc.disable()
    try:
        del cache
        assert gone() is None, (
            "no circle of references keeps gigabytes until the collector comes by"
        )
    finally:
        gc.enable()


def test_rows_of_unlike_pasts_are_joined_with_padding_on_the_left():
    tree = PrefixCache(10**9)
    for tokens in ([1, 2, 3], [1, 5]):
        tree.add(tokens, true_layers(tokens), 0)
    paths = [tree.match(tokens) for tokens in ([1, 2, 3], [1, 5, 9], [7])]
    keys = join_paths(paths, 3).layers[0].keys
    assert torch.equal(keys[0], true_layers([1, 2, 3])[0][0])
    assert (
        torch.equal(keys[1, :, 1:], true_layers([1, 5])[0][0])
        and not keys[1, :, 0].any()
        and not keys[2].any()
    )
    assert join_paths([[], []], 0).get_seq_length() == 0


# --- guesses ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=3, max_size=30), st.integers(0, 5))
def test_a_guess_is_what_followed_the_same_two_tokens_last(tokens, count):
    lookup, grown = PromptLookup(), []
    lookup.index(grown)
    for token in tokens:
        grown.append(token)
        lookup.index_last(grown)
    pair = tokens[-2:]
    last = max((k for k in range(2, len(tokens)) if tokens[k - 2 : k] == pair), default=None)
    assert lookup.propose(tokens, count) == ([] if last is None else tokens[last : last + count])


def test_guesses_are_forgotten_when_they_are_too_many():
    lookup = PromptLookup(budget=3)
    lookup.index([1, 2, 3, 4, 5, 6, 7])
    assert lookup.propose([1, 2], 2) == [3, 4]
    lookup.index([8, 9, 1])
    assert lookup.propose([1, 2], 2) == [] and lookup.propose([8, 9], 2) == [1]
