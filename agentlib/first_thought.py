"""The first-thought prefix (FTP, §3.1): the teacher's agent run starts from the first paragraph of
its own chain of thought.

A large model that is prompted as an agent reasons worse than the same model asked to think step by
step. Putting the first thought of its chain of thought at the start of its first turn keeps that
reasoning; the student needs no prefix.
"""

import re
from collections.abc import Iterable, Mapping

from agentlib import prompts

END = "\n\n"  # reference code

# Around a first thought: the tags of reasoning models, code, its label, a heading on a line of its
# own.
_FRAME = re.compile(
    r"</?(?:think|thinking|thought|reasoning)>|```.*?(?:```|\Z)", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"^\s*(?:[*_#> ]*thoughts?[ \t]*\d*[ \t]*[*_]*:[*_\s]*)+", re.IGNORECASE)
_HEADING = re.compile(
    r"^[ \t]*(?:#+[ \t].*|\*\*[^*\n]*[^*\n.!?]\*\*:?|[*_]*(?:step|part)[ \t]*\d+[*_:.)]*"
    r"|[*_]*(?:plan|approach|reasoning|analysis|explanation|solution|chain of thought)[*_]*:[*_]*)["
    r" \t]*$",
    re.IGNORECASE | re.MULTILINE,
)


def first_thought_prefix(cot: str) -> str | None:
    """The start of the agent's first turn: "Thought: ", the first paragraph of a chain of thought
    (§3.1) and a blank line (reference code); None for a chain without words.

    The blank line ends the paragraph; without it a model goes on writing it. What follows may be
    code, or more prose.

    The paragraph ends at the first blank line or heading. Headings, the tags of reasoning models,
    code and a "Thought:" that is there already are no part of it; a chain of headings alone begins
    with its first.
    """
    text = _HEADING.sub(r"\n\g<0>\n", _FRAME.sub("\n\n", cot.replace("\r\n", "\n")))
    paragraphs = [_LABEL.sub("", part).strip() for part in re.split(r"\n[ \t]*\n", text.strip())]
    paragraphs = [part for part in paragraphs if part]
    first = next(
        (part for part in paragraphs if not _HEADING.fullmatch(part)),
        paragraphs[0] if paragraphs else None,
    )
    return first and f"{prompts.THOUGHT} {first}{END}"


def first_thought_prefixes(
    chains: Iterable[Mapping], variant: str = "published"
) -> dict[str, str | None]:
    """The prefix of each question, by id, from the recorded cases of the teacher's chains of
    thought; None where the agent starts from nothing. `variant` is a key of
    `config.FIRST_THOUGHTS`.
    """
    return {chain["id"]: _prefix(chain, variant) for chain in chains}


def _prefix(chain: Mapping, variant: str) -> str | None:
    prefix = first_thought_prefix(chain["text"])
    if variant == "no_blank_line":
        return prefix and prefix.removesuffix(END)
    left_out = {"gated": lambda: not chain["correct"], "no_answer": lambda: holds_answer(chain)}
    return None if prefix is None or left_out.get(variant, bool)() else prefix


def holds_answer(chain: Mapping) -> bool:
    """Whether the first paragraph of a recorded chain of thought already has the gold answer, or
    one of its aliases, as words of its own."""
    words = f" {_words(first_thought_prefix(chain['text']) or '')} "
    golds = map(_words, (chain["gold"], *chain["aliases"]))
    return any(gold and f" {gold} " in words for gold in golds)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+|[^\w\s]", text.casefold().replace("$", " ")))
