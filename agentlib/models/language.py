"""Language models: the one call that every other module makes, its arguments and its results.

A conversation is a list of {"role", "content"}; here it becomes text and tokens, and here samples
get their seeds.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jinja2 import TemplateError

from agentlib.records import replace_surrogates


@dataclass(frozen=True)
class Completion:
    """One sampled continuation; `text` includes the prefix, `completion_tokens` does not."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    # "stop" (end of turn or a stop string, which is cut off) or "length"; "paused" only where a
    # caller allows it (`LocalModel.generate`)
    finish_reason: str
    # the tokens as they were sampled, a stop string's included; () where a server does not say
    tokens: tuple[int, ...] = ()


class LanguageModel(Protocol):
    """What agents, CoT and the teacher need from a model."""

    name: str
    max_context: int  # tokens of prompt and completion together

    def generate(
        self,
        conversations: Sequence[list[dict]],
        *,
        n: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        prefixes: Sequence[str | None] | None = None,
        seed: int | None = None,
    ) -> list[list[Completion]]:
        """n completions for each conversation, in order. Temperature 0 is greedy.

        `prefixes` has a text for each conversation that the assistant's turn starts with, or None.
        With a seed, a conversation's samples do not depend on the others of the same call. Raises
        ValueError for arguments out of range.
        """
        ...

    def count(self, text: str) -> int:
        """The number of tokens of a text."""
        ...


def pausing(model: LanguageModel, n: int) -> dict[str, bool]:
    """The options of `generate` with which a model that can pause its last conversations may do so:
    it decodes many at once, and each has one sample."""
    return {"may_pause": True} if n == 1 and getattr(model, "can_pause", False) else {}


def in_process(model: Any) -> bool:
    """Whether a model decodes in this process, many conversations in one call; one on a server
    takes each conversation to its end."""
    return getattr(model, "in_process", False)


# Put inside a special token that a text only quotes. It is half a surrogate pair; no text has one
# once `quote` has replaced those of its own, so it is unambiguous.
QUOTE_MARK = "\ud800"
# Llama's templates write today's date otherwise, and no prompt would be the same tomorrow.
TEMPLATE_DATE = "26 Jul 2024"


def render(tokenizer, conversation: list[dict], prefix: str | None = None) -> str:
    """A conversation as the model reads it: chat template, open assistant turn, prefix. `encode`
    makes tokens of it.
    """
    return apply_template(tokenizer, conversation, True) + quote(tokenizer, prefix or "")


def apply_template(tokenizer, conversation: Sequence[dict], asked: bool) -> str:
    """A conversation in the tokenizer's chat template, with an open assistant turn at its end if
    one is asked for.

    What the template writes stays as it is, contents are quoted. Raises ValueError for a
    conversation that it refuses.
    """
    turns = [turn | {"content": quote(tokenizer, turn["content"])} for turn in conversation]
    try:
        return tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=asked, date_string=TEMPLATE_DATE
        )
    except (TemplateError, ValueError) as error:
        raise ValueError(
            f"chat template of {tokenizer.name_or_path!r} refuses turns of"
            f" {', '.join(turn['role'] for turn in turns)} ({error}); choose an instruction-tuned"
            " model whose template takes system, user and assistant turns"
        ) from None


def quote(tokenizer, text: str) -> str:
    """A text that `encode` reads as words: special tokens in it are cut in two, halves of surrogate
    pairs replaced.
    """
    text = replace_surrogates(text)
    for token in {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}:
        text = text.replace(token, f"{token[0]}{QUOTE_MARK}{token[1:]}")
    return text


def encode(tokenizer, rendered: str) -> list[int]:
    """The tokens of a rendered or quoted text; only the template's special tokens become such."""
    parts = rendered.split(QUOTE_MARK)
    return [
        token for part in parts for token in tokenizer(part, add_special_tokens=False)["input_ids"]
    ]


def count(tokenizer, text: str) -> int:
    """The number of tokens of a text that is part of a conversation."""
    return len(encode(tokenizer, quote(tokenizer, text)))


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """A text up to the first stop string in it."""
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]


@dataclass(frozen=True)
class StopRule:
    """When a sample ends: with an end token, a stop string, or after `max_new_tokens`."""

    tokenizer: Any
    end_tokens: Collection[int]
    stop: Sequence[str]
    max_new_tokens: int

    def finish(self, tokens: list[int]) -> tuple[str, str] | None:
        """The text of a sample's tokens and its finish reason if it ends with them, else None."""
        if tokens[-1] in self.end_tokens:
            return self.text(tokens[:-1]), "stop"
        if self.stop:
            # Most tokens have a character or more; a few more hold one that spans several tokens.
            tail = self.text(tokens[-(max(map(len, self.stop)) + 8) :])
            if any(string in tail for string in self.stop):
                return cut_at_stop(self.text(tokens), self.stop), "stop"
        return (self.text(tokens), "length") if len(tokens) == self.max_new_tokens else None

    def close(self, tokens: list[int], by_length: bool) -> tuple[str, str]:
        """The text of a sample that another engine has ended, and its finish reason: "length" if
        it says that the limit ended it and no stop string is in the text, else "stop".
        """
        whole = self.text(tokens[:-1] if tokens[-1:] and tokens[-1] in self.end_tokens else tokens)
        text = cut_at_stop(whole, self.stop)
        return text, "length" if by_length and text == whole else "stop"

    def text(self, tokens: list[int]) -> str:
        """The text of new tokens, without special ones."""
        # Needed for every token of every sample: transformers' own wrapper takes twice the time.
        quick = getattr(self.tokenizer, "backend_tokenizer", None)
        if quick is None or getattr(self.tokenizer, "clean_up_tokenization_spaces", False):
            return self.tokenizer.decode(tokens, skip_special_tokens=True)
        return quick.decode(tokens, skip_special_tokens=True)


def sample_seed(seed: int, prompt: str, index: int) -> int:
    """A 64-bit seed for one sample of one prompt, the same in every batch and run."""
    named = f"{seed}\0{index}\0{prompt}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest())


def validate_arguments(
    conversations, n, temperature, top_p, max_new_tokens, prefixes
) -> list[str | None]:
    """Check the arguments of `LanguageModel.generate`; returns a prefix or None for each
    conversation.

    Raises ValueError for numbers out of range, and for conversations that end with the assistant's
    turn.
    """
    if n < 1 or max_new_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"n={n}, max_new_tokens={max_new_tokens}, temperature={temperature}, top_p={top_p}:"
            " expected n and max_new_tokens of 1 or more, temperature of 0 or more, and top_p in"
            " (0, 1]"
        )
    prefixes = [None] * len(conversations) if prefixes is None else list(prefixes)
    if len(prefixes) != len(conversations):
        raise ValueError(
            f"{len(prefixes)} prefixes for {len(conversations)} conversations; give one each, or"
            " None"
        )
    for conversation in conversations:
        if not conversation or conversation[-1]["role"] == "assistant":
            raise ValueError(
                "a conversation must end before the assistant's turn; pass the turn's start as its"
                " prefix"
            )
    return prefixes
