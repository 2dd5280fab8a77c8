"""Token masks: conversations as token sequences, with loss on what the teacher wrote and on nothing
else (§3).

The loss is the mean negative log-likelihood of every token of every assistant turn (r_t, a_t), with
its end-of-turn token; system, user and observation turns are context only.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from agentlib.models import language

log = logging.getLogger(__name__)
IGNORED = -100
STOP_TOKENS = 8  # that the tokens of a stop string may be, and what came with its last one


@dataclass(frozen=True)
class Example:
    """One conversation as tokens; `labels` are the tokens where there is loss, -100 elsewhere."""

    id: str
    input_ids: list[int]
    labels: list[int]


def build_examples(
    conversations: Mapping[str, list[dict]] | Sequence[list[dict]],
    tokenizer,
    max_length: int,
    *,
    turns: Mapping[str, Collection[int]] | None = None,
    sampled: Mapping[str, Sequence[Sequence[int]]] | None = None,
) -> list[Example]:
    """Conversations, each ending in an assistant turn, as token sequences of at most `max_length`.

    They come by id, or as a list whose places are their ids. The tokenizer is the student's own:
    `LocalModel(student).tokenizer`, or transformers' `AutoTokenizer`.

    There is loss on every assistant turn, or only on those that `turns` names for an id (the first
    is 0). `sampled` has for an id the tokens of each of its turns as a model sampled them, or ();
    these are then what is trained on, whatever the tokenizer would make of their text.

    Text is cut at every turn's edges before it is tokenised, so that training sees the tokens that
    generation produces. Longer ones are left out with a notice. Raises ValueError if none is left.
    """
    if not isinstance(conversations, Mapping):
        conversations = {str(place): messages for place, messages in enumerate(conversations)}
    examples, lengths = [], []
    for name, messages in conversations.items():
        ids: list[int] = []
        labels: list[int] = []
        learnt, drawn = (turns or {}).get(name), (sampled or {}).get(name, ())
        for place, (text, written) in enumerate(segments(messages, tokenizer)):
            turn = place // 2
            own = drawn[turn] if written and turn < len(drawn) else ()
            tokens = _tokens(tokenizer, text, own)
            ids += tokens
            learn = written and (learnt is None or turn in learnt)
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


def _tokens(tokenizer, text: str, sampled: Sequence[int]) -> list[int]:
    """A text's tokens: those that were sampled as far as they spell it (what follows a stop string
    was cut off), then the tokenizer's own. Raises ValueError for sampled ones of another text."""
    own = list(sampled)
    while own and not text.startswith(tokenizer.decode(own)):
        own.pop()
    spelt = tokenizer.decode(own) if own else ""
    if sampled and (not own or len(sampled) - len(own) > STOP_TOKENS):
        raise ValueError(
            f"sampled tokens spell {tokenizer.decode(list(sampled))[:60]!r}, expected the turn that"
            f" begins with {text[:60]!r}; give the tokens of the same run"
        )
    return own + language.encode(tokenizer, text[len(spelt) :])


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
