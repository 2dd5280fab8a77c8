"""Language models: the one call that every other module makes, and what it takes and gives.

Owns `Completion`, the rendering of conversations, and the seeds of samples. Knows nothing of weights or servers, nor of
agents: a conversation is a list of {"role", "content"}.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Completion:
    """One sampled continuation. `text` includes the prefix; `completion_tokens` counts what was generated."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str  # "stop" (end of turn or a stop string, which is cut off), "length", or "dropped" (`Enough`)


# Told the samples that have just ended, by number of conversation and of sample; says of which conversations it has
# enough: their other samples are dropped.
Enough = Callable[[dict[tuple[int, int], Completion]], Collection[int]]


class LanguageModel(Protocol):
    """What agents, CoT and the teacher need of a model."""

    name: str
    max_context: int  # tokens of prompt and completion together

    def generate(self, conversations: Sequence[list[dict]], *, n: int = 1, temperature: float = 0.0,
                 top_p: float = 1.0, max_new_tokens: int, stop: Sequence[str] = (),
                 prefixes: Sequence[str | None] | None = None, seed: int | None = None) -> list[list[Completion]]:  # fmt: skip
        """n completions for each conversation, in order. Temperature 0 is greedy.

        `prefixes` are texts, one a conversation or None, that the assistant's turn starts with. With a
        seed, a conversation's samples do not depend on what else is asked in the same call.
        """
        ...

    def count(self, text: str) -> int:
        """Tokens of a text."""
        ...


def render(tokenizer, conversation: list[dict], prefix: str | None = None) -> str:
    """A conversation as the model reads it: chat template, open assistant turn, prefix."""
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    return text + (prefix or "")


def sample_seed(seed: int, prompt: str, index: int) -> int:
    """A 64-bit seed for one sample of one prompt, whatever batch or run it is drawn in."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{index}\0{prompt}".encode(), digest_size=8).digest())


def checked(conversations, n, temperature, top_p, max_new_tokens, prefixes) -> list[str | None]:
    """Refuse arguments that no model could follow; returns one prefix a conversation."""
    if n < 1 or max_new_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"n={n}, max_new_tokens={max_new_tokens}, temperature={temperature}, top_p={top_p}: expected n and "
            "max_new_tokens of 1 or more, temperature of 0 or more, and top_p in (0, 1]"
        )
    prefixes = [None] * len(conversations) if prefixes is None else list(prefixes)
    if len(prefixes) != len(conversations):
        raise ValueError(f"{len(prefixes)} prefixes for {len(conversations)} conversations; give one each, or None")
    for conversation in conversations:
        if not conversation or conversation[-1]["role"] == "assistant":
            raise ValueError("a conversation must end before the assistant's turn; pass the turn's start as its prefix")
    return prefixes
