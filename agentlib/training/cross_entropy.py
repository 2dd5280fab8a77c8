"""Cross-entropy over a large vocabulary in parts, so that the logits of all tokens never exist at
once.

10,000 learnt tokens of a vocabulary of 152,000 have 6 GB of logits in 32 bits, and as much again of
gradients. Here a part's gradient is computed with its logits, which are then dropped: as many
products as in one piece, in the memory of one part (the way of Liger Kernel, Hsu et al. 2024, in
plain torch).
"""

import torch

PART_BYTES = 512_000_000  # of a part's logits in 32 bits


def needs_parts(states: torch.Tensor, head: torch.nn.Module) -> bool:
    """Whether the logits of these states (tokens, width) exceed `PART_BYTES`, and the head is a
    plain matrix, which parts are made for."""
    return type(head) is torch.nn.Linear and head.bias is None and len(states) > _tokens(head)


def _tokens(head: torch.nn.Linear) -> int:
    """Of one part."""
    return max(1, PART_BYTES // (4 * head.out_features))


def in_parts(states: torch.Tensor, head: torch.nn.Linear, targets: torch.Tensor) -> torch.Tensor:
    """The summed cross-entropy (nats) of `targets` (tokens,) given states (tokens, width)."""
    return _CrossEntropy.apply(states, head.weight, targets, _tokens(head))


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states, weight, targets, size):
        total = states.new_zeros((), dtype=torch.float32)
        of_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for start in range(0, len(states), size):
            part, wanted = states[start : start + size], targets[start : start + size, None]
            logits = (part @ weight.mT).float()
            logs = logits.log_softmax(-1)
            total -= logs.gather(-1, wanted).sum()
            grad = logs.exp_().scatter_add_(-1, wanted, -torch.ones_like(logs[:, :1]))
            grad = grad.to(states.dtype)
            if of_states is not None:
                of_states[start : start + size] = grad @ weight
            if of_weight is not None:
                of_weight += grad.mT @ part
        ctx.save_for_backward(of_states, of_weight)
        return total

    @staticmethod
    def backward(ctx, grad):
        found = (None if part is None else part * grad.to(part.dtype) for part in ctx.saved_tensors)
        return *found, None, None
