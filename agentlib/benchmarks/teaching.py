"""The teaching set: teaching-hotpot and teaching-math, small, generated once and frozen, with the
passages that answer them.

For smoke runs, notebooks and workshops; results on it never stand in a table with those of the
benchmarks. `data/DATASHEET.md` says what it holds, `tools/teachingset` made it. Knows nothing of
the generator.
"""

import functools
import json
import lzma
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentlib import records, tasks
from agentlib.retrieval import Passage

DATA = Path(__file__).with_name("data")
QUESTIONS, PASSAGES = DATA / "teaching_questions.jsonl", DATA / "teaching_passages.jsonl.xz"
SETS = ("teaching-hotpot", "teaching-math", "teaching-hotpot-train", "teaching-math-train")


@dataclass(frozen=True)
class TeachingQuestion(tasks.Question):
    """A question with the template that it was made from.

    `held_out`: its template is in no training question. `options`: the answers that it offers, in
    their order, () where it offers none. `supporting_ids`: ids of the passages titled `supporting`.
    """

    template: str = ""
    held_out: bool = False
    options: tuple[str, ...] = ()
    supporting_ids: tuple[str, ...] = ()


def load(name: str, limit: int = 0) -> list[tasks.Question]:
    """The first `limit` questions (0: all) of one of `SETS`, as `TeachingQuestion`s.

    Templates take turns, so that any prefix is varied and has its share of held-out templates.
    Raises ValueError for an unknown name or a negative limit.
    """
    if name not in SETS:
        raise tasks.unknown(name, SETS)
    if limit < 0:
        raise ValueError(f"limit is {limit} questions, expected 0 (all) or more")
    return list(_questions()[name][: limit or None])


@functools.cache
def _questions() -> dict[str, tuple[TeachingQuestion, ...]]:
    found: dict[str, list[TeachingQuestion]] = {name: [] for name in SETS}
    for row in records.read_rows(QUESTIONS):
        split = row["split"]
        name = row.pop("set") + ("-train" if split == "train" else "")
        lists = {key: tuple(value) for key, value in row.items() if isinstance(value, list)}
        found[name].append(TeachingQuestion(benchmark=name, **row | lists))
    return {name: tuple(questions) for name, questions in found.items()}


@functools.cache
def _titles() -> dict[str, tuple[str, ...]]:
    """Titles of the passages that each factual question needs, by its id."""
    titles = {p.id: p.title for p in _passages()}
    return {
        q.id: tuple(titles[i] for i in q.supporting_ids)
        for questions in _questions().values()
        for q in questions
        if q.supporting_ids
    }


def is_supported(case: Mapping[str, Any]) -> bool | None:
    """Whether the model of a recorded case saw every passage that its answer rests on; None for
    questions that need none."""
    needed = _titles().get(case["id"])
    if needed is None:
        return None
    texts = [step["observation"] for step in case.get("trace", ())] + [case.get("passages") or ""]
    seen = set(re.findall(r"^\[\d+\] (.+)$", "\n".join(texts), re.MULTILINE))
    return seen.issuperset(needed)


@functools.cache
def _passages() -> tuple[Passage, ...]:
    with lzma.open(PASSAGES, "rt", encoding="utf-8") as stream:
        return tuple(Passage(**json.loads(line)) for line in stream)


@functools.cache
def _needed() -> int:
    """How many passages at the start hold all that questions need."""
    places = {p.id: place for place, p in enumerate(_passages(), 1)}
    return max(places[i] for qs in _questions().values() for q in qs for i in q.supporting_ids)


def passages(limit: int = 0) -> list[Passage]:
    """The corpus of teaching-hotpot, or its first `limit` passages; what questions need comes
    first.

    Raises ValueError for a limit that would leave questions without their passages.
    """
    if limit and limit < _needed():
        raise ValueError(
            f"limit is {limit} passages, expected 0 (all) or at least the {_needed()} that"
            " questions need"
        )
    return list(_passages()[: limit or None])
