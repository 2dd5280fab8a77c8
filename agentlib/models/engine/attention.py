"""Attention by plain matrix products: for reading prompts, for decoding, and for training.

On a CPU torch's fused kernel leaves much of the bf16 units idle; products over blocks take half of
its time or less. Shapes: `heads` are query heads, `shared heads` key heads, each of which serves a
group of heads / shared heads of them.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from agentlib.models.engine.batch_cache import SplitKV

GENERATING, TRAINING = "agentlib_generating", "agentlib_training"  # as transformers knows them
BLOCK_QUERIES = 64  # queries at once
MAX_BLOCK_SCORES = 1 << 20  # of these queries with all keys: a few MB stay in a CPU's caches


def attend_generating(
    module, query, key, value, attention_mask, scaling=None, dropout: float = 0.0, **kwargs
):
    """Attention of new tokens over `SplitKV`, or over plain tensors that of prompts being read.

    Query (rows, heads, new, width) → (rows, new, heads, width).
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(key, SplitKV):
        return _attend_decoded(query * scale, key, value), None
    if query.device.type == "cpu" and query.shape[2] > 1:
        return attend_causal(query * scale, key, value, attention_mask).transpose(1, 2), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
    )


def attend_training(
    module, query, key, value, attention_mask, scaling=None, dropout: float = 0.0, **kwargs
):
    """Causal attention that can be differentiated; padding is on the right and needs no mask."""
    if (
        query.device.type != "cpu"
        or dropout
        or attention_mask is not None
        or not torch.is_autocast_enabled("cpu")
    ):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return (
        _CausalAttention.apply(
            (query * scale).bfloat16(), key.bfloat16(), value.bfloat16()
        ).transpose(1, 2),
        None,
    )


def _attend_decoded(query: torch.Tensor, key: SplitKV, value: SplitKV) -> torch.Tensor:
    """Attention of decoded tokens; the rows of one prompt meet its keys in one matrix product.

    As in Hydragen (Juravsky et al. 2024). Scaled query (rows, heads, new, width) → (rows, new,
    heads, width).
    """
    rows, heads, new, width = query.shape
    shared, row_map = key.decoded.shape[1], key.row_map
    group = heads // shared
    asked = query.reshape(rows, shared, group * new, width)
    of_prompts = row_map.gather(asked) @ key.prompt.mT
    if row_map.bias is not None:
        of_prompts += row_map.bias
    of_decoded = asked @ key.decoded.mT
    of_decoded.view(rows, shared, group, new, -1).add_(key.bias)
    weights = torch.cat([row_map.scatter(of_prompts), of_decoded], -1).softmax(-1)
    past = key.prompt.shape[2]
    mixed = (
        row_map.scatter(row_map.gather(weights[..., :past]) @ value.prompt)
        + weights[..., past:] @ value.decoded
    )
    return mixed.reshape(rows, heads, new, width).transpose(1, 2)


class _QueryBlocks:
    """Causal attention in blocks of queries; heads that share keys are neighbours in a block.

    Query (rows, heads, new, width); key (rows, shared heads, past + new, width).
    """

    def __init__(self, query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor | None = None):
        rows, heads, self.new, width = query.shape
        self.key, self.bias, self.shared = key, bias, key.shape[1]
        self.past, self.split = (
            key.shape[2] - self.new,
            (rows, self.shared, heads // self.shared, self.new, width),
        )
        self.size = min(BLOCK_QUERIES, max(8, MAX_BLOCK_SCORES // (rows * heads * key.shape[2])))
        self.later = key.new_full((self.size, self.size), -torch.inf).triu(1)

    def __iter__(self):
        """(queries, how many keys they see) of each block."""
        for start in range(0, self.new, self.size):
            end = min(start + self.size, self.new)
            yield slice(start, end), self.past + end

    def cut(self, whole: torch.Tensor, block: slice) -> torch.Tensor:
        """(rows, heads, new, x) → (rows, shared heads, group * block, x)."""
        rows, shared, group, new, _ = self.split
        part = whole.view(rows, shared, group, new, -1)[:, :, :, block]
        return part.reshape(rows, shared, group * part.shape[3], -1)

    def put(self, whole: torch.Tensor, block: slice, part: torch.Tensor) -> None:
        """The opposite of `cut`."""
        rows, shared, group, new, _ = self.split
        whole.view(rows, shared, group, new, -1)[:, :, :, block] = part.view(
            rows, shared, group, block.stop - block.start, -1
        )

    def weights(self, query: torch.Tensor, block: slice, seen: int) -> torch.Tensor:
        """The weights of a block that was cut, (rows, shared heads, group * block, seen).

        Softmax adds up in 32 bits.
        """
        flat = query @ self.key[:, :, :seen].mT
        rows, shared, group, _, _ = self.split
        count = block.stop - block.start
        scores = flat.view(rows, shared, group, count, seen)
        scores[..., seen - count :] += self.later[:count, :count]
        if self.bias is not None:
            scores += self.bias[..., :seen]
        return flat.softmax(-1)


def attend_causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of the last tokens of each row, padded on the left.

    Scaled query (rows, heads, new, width), key and value (rows, shared heads, past + new, width),
    mask (rows, 1, new, past + new), False at padding, or None → query's shape.
    """
    # Each row's last token sees all that is not padding.
    bias = None if mask is None else (~mask[:, :, None, -1:]).to(query.dtype) * -1e9
    query = query.contiguous()
    blocks, mixed = _QueryBlocks(query, key, bias), torch.empty_like(query)
    for block, seen in blocks:
        weights = blocks.weights(blocks.cut(query, block), block, seen)
        blocks.put(mixed, block, weights @ value[:, :, :seen])
    return mixed


class _CausalAttention(torch.autograd.Function):
    """`attend_causal` without padding, and its gradients.

    The backward pass computes the scores again (as Dao 2023 does).
    """

    @staticmethod
    def forward(ctx, query, key, value):
        query = query.contiguous()
        blocks, mixed = _QueryBlocks(query, key), torch.empty_like(query)
        for block, seen in blocks:
            blocks.put(
                mixed,
                block,
                blocks.weights(blocks.cut(query, block), block, seen) @ value[:, :, :seen],
            )
        ctx.save_for_backward(query, key, value)
        return mixed

    @staticmethod
    def backward(ctx, grad):
        query, key, value = ctx.saved_tensors
        grad = grad.contiguous().to(query.dtype)
        of_query = torch.empty_like(query)
        of_key, of_value = (torch.zeros(part.shape, dtype=torch.float32) for part in (key, value))
        blocks = _QueryBlocks(query, key)
        for block, seen in blocks:
            asked, back = blocks.cut(query, block), blocks.cut(grad, block)
            weights = blocks.weights(asked, block, seen)
            of_value[:, :, :seen] += weights.mT @ back
            of_scores = torch._softmax_backward_data(
                back @ value[:, :, :seen].mT, weights, -1, query.dtype
            )
            blocks.put(of_query, block, of_scores @ key[:, :, :seen])
            of_key[:, :, :seen] += of_scores.mT @ asked
        return of_query, of_key.to(key.dtype), of_value.to(value.dtype)


for _name, _function in ((GENERATING, attend_generating), (TRAINING, attend_training)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, sdpa_mask)
