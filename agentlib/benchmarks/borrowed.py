"""Cases without the sentences of others, as they are committed: questions are named, passages are
pointed to.

The texts of the paper's benchmarks and of Wikipedia stay in the download cache. `strip` takes them
out of a recorded case, `fill` puts them back from there, to the letter.
"""

import bisect
import functools
import itertools
import re
from collections.abc import Mapping
from pathlib import Path

from agentlib.benchmarks import sets, teaching, wiki
from agentlib.tasks import Question

ASKED = ("question", "gold", "aliases")
BORROWED = frozenset(sets.NAMES) - frozenset(teaching.SETS)
SHORT = 40  # characters: a quotation below it may stay
# What divides a text into pieces that a passage can hold whole: line ends, also those in a string's
# `repr`, and what `repr` escapes there.
_DIVIDERS = re.compile(r"(\n|\\n|\\['\"\\]|^['\"]|['\"]$)", re.MULTILINE)
_POINTER = re.compile("\ue000([^ \ue001]+) (\\d+) (\\d+)\ue001")  # passage, start, end


def is_borrowed(case: Mapping) -> bool:
    """Whether a case's question comes from others' data sets."""
    return case.get("benchmark") in BORROWED


def strip(case: dict) -> dict:
    """A case as it is committed: without the question's words and answers, with pointers for the
    pieces of the slice's passages in what its model was shown. Cases of our own sets stay as they
    are. Raises ValueError for a case that `fill` would not give back as it is.
    """
    if not is_borrowed(case):
        return case
    found = _shown(case, _point) | {"left_out": [name for name in ASKED if name in case]}
    found = {name: value for name, value in found.items() if name not in ASKED}
    if fill(found) != case:
        raise ValueError(
            f"case {case['id']} does not come back as it was once its texts are left out; was it"
            " asked with other questions or passages than those in the cache?"
        )
    return found


def fill(case: dict) -> dict:
    """A committed case with its texts, from the cache. Raises ValueError for a question that its
    benchmark does not have, and FileNotFoundError where the slice is not in the cache."""
    if "left_out" not in case:
        return case
    question = _questions(case["benchmark"], wiki.folder()).get(case["id"])
    if question is None:
        raise ValueError(
            f"case {case['id']} is of no question of {case['benchmark']}, expected one of them;"
            " its record is from another version of that set"
        )
    asked = {"question": question.text, "gold": question.answer, "aliases": [*question.aliases]}
    # the fields stand where they stood
    first = list(itertools.takewhile(lambda name: name != "split", case))
    places = [*first, *(["split"] if "split" in case else []), *case["left_out"]]
    whole = case | {name: asked[name] for name in case["left_out"]}
    ordered = {name: whole[name] for name in places} | whole
    return _shown({k: v for k, v in ordered.items() if k != "left_out"}, _quote)


def _shown(case: dict, change) -> dict:
    """A case in which what its model was shown is changed."""
    found = dict(case)
    if case.get("passages"):
        found["passages"] = change(case["passages"])
    if "trace" in case:
        found["trace"] = [
            step | {"observation": change(step["observation"])} for step in case["trace"]
        ]
    return found


def _point(text: str) -> str:
    if not wiki.folder().exists():
        return text
    return "".join(
        piece if place is None else "\ue000{} {} {}\ue001".format(*place)
        for piece in _DIVIDERS.split(text)
        for place in [_slice(wiki.folder()).find(piece)]
    )


def _quote(text: str) -> str:
    return _POINTER.sub(
        lambda found: _slice(wiki.folder()).texts[found[1]][int(found[2]) : int(found[3])], text
    )


@functools.cache
def _questions(name: str, where: Path) -> dict[str, Question]:
    return {question.id: question for question in sets.load(name, limit=10**9)}


class _Slice:
    """The passages of the slice as one text, in which a piece is looked up."""

    def __init__(self):
        found = wiki.passages()
        self.ids = [passage.id for passage in found]
        self.texts = {passage.id: passage.text for passage in found}
        self._joined = "\0".join(self.texts.values())
        sizes = (len(text) + 1 for text in self.texts.values())
        self._starts = [0, *itertools.accumulate(sizes)][:-1]
        self._known: dict[str, tuple[str, int, int] | None] = {}

    def find(self, piece: str) -> tuple[str, int, int] | None:
        """The first passage that holds a piece, with its start and end there; None for short
        pieces and for those that are in no passage."""
        if len(piece) < SHORT:
            return None
        if piece not in self._known:
            at = self._joined.find(piece)
            number = bisect.bisect_right(self._starts, at) - 1
            start = at - self._starts[number]
            self._known[piece] = None if at < 0 else (self.ids[number], start, start + len(piece))
        return self._known[piece]


@functools.cache
def _slice(where: Path) -> _Slice:
    return _Slice()
