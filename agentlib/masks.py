"""Token masks: conversations as token sequences, with loss on what the teacher wrote and on nothing
else (§3).

The loss is the mean negative log-likelihood of every token of every assistant turn (r_t, a_t), with
its end-of-turn token; system, user and observation turns are context only.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentlib.models import language

log = logging.getLogger(__name__)
IGNORED = -100


@dataclass(frozen=True)
class Example:
    """One conversation as tokens; `labels` are the tokens where there is loss, -100 elsewhere."""

    id: str
    input_ids: list[int]
    labels: list[int]


def build_examples(
    conversations: Mapping[str, list[dict]] | Sequence[list[dict]], tokenizer, max_length: int
) -> list[Example]:
    """Conversations, each ending in an assistant turn, as token sequences of at most `max_length`.

    They come by id, or as a list whose places are their ids. The tokenizer is the student's own:
    `LocalModel(student).tokenizer`, or transformers' `AutoTokenizer`.

    Text is cut at every turn's edges before it is tokenised, so that training sees the tokens that
    generation produces. Longer ones are left out with a notice. Raises ValueError if none is left.
    """
    if not isinstance(conversations, Mapping):
        conversations = {str(place): messages for place, messages in enumerate(conversations)}
    examples, lengths = [], []
    for name, messages in conversations.items():
        ids: list[int] = []
        labels: list[int] = []
        for text, learn in segments(messages, tokenizer):
            tokens = language.encode(tokenizer, text)
            ids += tokens
            labels += tokens if learn else [IGNORED] * len(tokens)
        lengths.append(len(ids))
        if len(ids) <= max_length:
            examples.append(Example(name, ids, labels))
    if not examples:
        raise ValueError(
            f"none of {len(lengths)} conversations fits in {max_length} tokens (the shortest has"
            f" {min(lengths, default=0)}); raise max_length or check the filter of the teacher's"
            " trajectories"
        )
    if len(examples) < len(lengths):
        log.warning(
            "%d of %d conversations are longer than %d tokens and left out",
            len(lengths) - len(examples),
            len(lengths),
            max_length,
        )
    return examples


def segments(messages: Sequence[dict], tokenizer) -> list[tuple[str, bool]]:
    """The rendered conversation in pieces (text, whether there is loss on it), for
    `language.encode`."""
    found: list[tuple[str, bool]] = []
    written, eos = "", tokenizer.eos_token or ""
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = language.render(tokenizer, messages[:number])
        after = language.apply_template(tokenizer, messages[: number + 1], asked=False)
        going_on = language.apply_template(
            tokenizer, [*messages[: number + 1], {"role": "user", "content": "?"}], asked=True
        )
        if not going_on.startswith(after):
            # Phi's template ends what is not asked to go on, not the turn
            after = after.removesuffix(eos)
        if (
            not before.startswith(written)
            or not after.startswith(before)
            or not going_on.startswith(after)
        ):
            raise ValueError(
                f"chat template of {tokenizer.name_or_path!r} rewrites earlier turns, expected one"
                " that only appends; choose another student or its base template"
            )
        turn = after[len(before) :]
        end = turn.rfind(eos) + len(eos) if eos in turn else len(turn)
        found += [(before[len(written) :], False), (turn[:end], True)]
        written = before + turn[:end]
    return found
