"""Language models: the one call that every other module makes, and what it takes and gives.

Owns `Completion`, conversations as text and as tokens, and the seeds of samples. Knows nothing of weights or servers, nor of
agents: a conversation is a list of {"role", "content"}.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jinja2 import TemplateError

from agentlib.records import replace_surrogates


@dataclass(frozen=True)
class Completion:
    """One sampled continuation. `text` includes the prefix; `completion_tokens` counts what was generated."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str  # "stop" (end of turn or a stop string, which is cut off) or "length"


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


# Stands inside a special token that a text only quotes. It is half a surrogate pair, which no text has once those of its own
# are replaced, so it cannot be mistaken.
QUOTED = "\ud800"
DAY = "26 Jul 2024"  # Llama's templates write today's date otherwise, and no prompt would be the same tomorrow


def render(tokenizer, conversation: list[dict], prefix: str | None = None) -> str:
    """A conversation as the model reads it: chat template, open assistant turn, prefix. `encode` makes tokens of it."""
    return apply_template(tokenizer, conversation, True) + quote(tokenizer, prefix or "")


def apply_template(tokenizer, conversation: Sequence[dict], asked: bool) -> str:
    """A conversation in the tokenizer's chat template, with an open assistant turn at its end if one is asked for.

    What the template writes stays as it is, contents are quoted. Raises ValueError for a conversation that it refuses.
    """
    turns = [turn | {"content": quote(tokenizer, turn["content"])} for turn in conversation]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=asked, date_string=DAY)
    except (TemplateError, ValueError) as error:
        raise ValueError(
            f"chat template of {tokenizer.name_or_path!r} refuses turns of {', '.join(turn['role'] for turn in turns)} ({error}); "
            "choose an instruction-tuned model whose template takes system, user and assistant turns"
        ) from None


def quote(tokenizer, text: str) -> str:
    """A text that `encode` reads as words: special tokens in it are cut in two, halves of surrogate pairs replaced."""
    text = replace_surrogates(text)
    for token in {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}:
        text = text.replace(token, f"{token[0]}{QUOTED}{token[1:]}")
    return text


def encode(tokenizer, rendered: str) -> list[int]:
    """The tokens of a rendered or quoted text; a special token is one only where the template wrote it."""
    parts = rendered.split(QUOTED)
    return [token for part in parts for token in tokenizer(part, add_special_tokens=False)["input_ids"]]


def count(tokenizer, text: str) -> int:
    """Tokens of a text that is part of a conversation."""
    return len(encode(tokenizer, quote(tokenizer, text)))


def cut(text: str, stop: Sequence[str]) -> str:
    """A text up to the first stop string in it."""
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]


def sample_seed(seed: int, prompt: str, index: int) -> int:
    """A 64-bit seed for one sample of one prompt, whatever batch or run it is drawn in."""
    named = f"{seed}\0{index}\0{prompt}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest())


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
