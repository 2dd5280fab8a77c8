"""How likely a model finds texts that others wrote: forward passes over examples, nothing trained.

It tests the paper's reason for the first-thought prefix directly: that trajectories which begin in
a model's own style are easier to learn from (§3.1).
"""

from collections.abc import Sequence
from typing import NamedTuple

from agentlib.masks import IGNORED, Example
from agentlib.models import loading, weights
from agentlib.progress import meter
from agentlib.training.loop import token_losses


class Likelihood(NamedTuple):
    """Of one example: the negative log-likelihood (nats) of each of its learnt tokens, in their
    order."""

    each: tuple[float, ...]

    @property
    def per_token(self) -> float:
        return sum(self.each) / len(self.each)


def likelihoods(
    base: str, examples: Sequence[Example], precision: str = "auto", source: str = "wheels"
) -> dict[str, Likelihood]:
    """The likelihood of each example under an untrained model, by the example's id.

    The examples have the model's own tokens (`masks.build_examples`). An example without learnt
    tokens has no likelihood and is left out.
    """
    import torch

    from agentlib.models.engine.attention import TRAINING

    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = loading.resolve_precision(precision, device)
    model = loading.load_weights(weights.fetch(base, source), device, precision, False, TRAINING)
    found = {}
    with torch.inference_mode():
        for example in meter(examples, desc=f"likelihood {base}", unit="q"):
            if any(label != IGNORED for label in example.labels[1:]):
                each = token_losses(model, example, device)
                found[example.id] = Likelihood(tuple(each.tolist()))
    return found
