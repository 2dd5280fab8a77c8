"""Cross-entropy over a large vocabulary in parts, so that the logits of all tokens with loss never
exist at once.

10,000 such tokens of a vocabulary of 152,000 have 6 GB of logits in 32 bits, and as much again of
gradients. Here a part's gradient is computed with its logits, which are then dropped: as many
products as in one piece, in the memory of one part (the way of Liger Kernel, Hsu et al. 2024, in
plain torch). torch's own `linear_cross_entropy` (2.13) does the same, but gives the sum of a loss
in 16 bits (4 % off at 400 tokens) and takes 3 to 5 times as long on a CPU.
"""

import torch

PART_BYTES = 256_000_000  # of a part's logits in 32 bits


def needs_parts(states: torch.Tensor, head: torch.nn.Module) -> bool:
    """Whether the logits of these states (tokens, width) exceed `PART_BYTES`, and the head is a
    plain matrix, which parts are made for."""
    return type(head) is torch.nn.Linear and head.bias is None and len(states) > _tokens(head)


def _tokens(head: torch.nn.Linear) -> int:
    """Of one part."""
    return max(1, PART_BYTES // (4 * head.out_features))


def split(values: torch.Tensor, head: torch.nn.Linear) -> tuple[torch.Tensor, ...]:
    """Values (tokens, …) in parts of which the logits fit into `PART_BYTES`."""
    return values.split(_tokens(head))


def in_parts(states: torch.Tensor, head: torch.nn.Linear, targets: torch.Tensor) -> torch.Tensor:
    """The summed cross-entropy (nats) of `targets` (tokens,) given states (tokens, width), in 32
    bits.

    Products are done in the precision of autocast where it is on, else in that of the states.
    """
    device = states.device.type
    precision = states.dtype
    if torch.is_autocast_enabled(device):
        precision = torch.get_autocast_dtype(device)
    return _CrossEntropy.apply(states, head.weight, targets, _tokens(head), precision)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states, weight, targets, size, precision):
        total = states.new_zeros((), dtype=torch.float32)
        of_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        matrix = weight.to(precision)  # once, not for each part
        for start in range(0, len(states), size):
            part, wanted = states[start : start + size].to(precision), targets[start : start + size]
            # One tensor of a part's size in 32 bits: logits, then probabilities, then gradients.
            values = (part @ matrix.mT).float()
            values -= values.amax(-1, keepdim=True)
            total -= values.gather(-1, wanted[:, None]).sum()
            sums = values.exp_().sum(-1, keepdim=True)
            total += sums.log().sum()
            grad = None
            if of_states is not None or of_weight is not None:
                values /= sums
                grad = values.scatter_add_(-1, wanted[:, None], -torch.ones_like(sums))
                grad = grad.to(precision)
            del values  # before anything else of its size is made
            if of_states is not None:
                of_states[start : start + size] = grad @ matrix
            if of_weight is not None:
                of_weight += grad.mT @ part
            del grad
        ctx.save_for_backward(of_states, of_weight)
        return total

    @staticmethod
    def backward(ctx, grad):
        found = (None if part is None else part * grad.to(part.dtype) for part in ctx.saved_tensors)
        return *found, None, None, None
