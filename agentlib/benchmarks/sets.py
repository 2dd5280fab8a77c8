"""A configuration's questions, to train on and to test on: the paper's sets, their parts for a
laptop, or the teaching set.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from itertools import chain, zip_longest
from typing import Any

from agentlib import config, records, tasks
from agentlib.benchmarks import teaching, wiki
from agentlib.tasks import Question

# Parts of the paper's maths files: name -> the file's set, and what it becomes. Every tenth
# training question is for choosing prompts and settings and is never trained on.
PARTS = {b.slice: (b.name, "test") for b in config.BENCHMARKS if b.domain == "math"} | {
    "math-hard-slice-train": ("math-hard-train", "train"),
    "math-medium-slice-train": ("math-medium-train", "train"),
    "math-hard-dev": ("math-hard-train", "dev"),
    "math-medium-dev": ("math-medium-train", "dev"),
}
ASKED = {b.slice: b.asked for b in config.BENCHMARKS}
NAMES = (*tasks.PUBLISHED, *wiki.SETS, *PARTS, *teaching.SETS)


def load(name: str, limit: int = 0) -> list[Question]:
    """The first `limit` questions of a set, by name; 0 is all of them, and of a benchmark's
    "-slice" as many as a laptop is asked (`config.BENCHMARKS`), so that a larger limit continues
    the same run. Unknown: ValueError listing all names.
    """
    if name in tasks.PUBLISHED:
        return tasks.load(name, limit)
    if name in teaching.SETS:
        return teaching.load(name, limit)
    if name not in NAMES:
        raise tasks.unknown(name, NAMES)
    found = wiki.load(name) if name in wiki.SETS else _part(name)
    return found[: limit or ASKED.get(name)]


def are_here(names: Iterable[str]) -> bool:
    """Whether the questions of these sets are on this machine, so that nothing need be downloaded
    or built."""

    def is_here(name: str) -> bool:
        if name in wiki.SETS:
            return (wiki.folder() / wiki.QUESTIONS).exists()
        return name in teaching.SETS or tasks.is_downloaded([PARTS.get(name, (name,))[0]])

    return all(map(is_here, names))


def _part(name: str) -> list[Question]:
    whole, split = PARTS[name]
    questions = tasks.load(whole)
    chosen = (
        questions
        if split == "test"
        else [q for k, q in enumerate(questions) if (k % 10 == 9) == (split == "dev")]
    )
    return [dataclasses.replace(q, benchmark=name, split=split) for q in chosen]


def test_questions(cfg: config.Config) -> list[Question]:
    """All test questions of a configuration, benchmark by benchmark."""
    return [q for name in cfg.benchmarks for q in load(name, cfg.questions)]


def training_questions(cfg: config.Config) -> list[Question]:
    """All training questions of a configuration, the sets taking turns, so that a few are a fair
    mix.
    """
    sets = [load(name, cfg.train_questions) for name in cfg.train_sets]
    return [q for q in chain.from_iterable(zip_longest(*sets)) if q is not None]


def fingerprint(names: tuple[str, ...]) -> str:
    """Ten hex digits that name the wording of whole sets, whatever part of them is asked."""
    return records.digest({q.id: [q.text, q.answer] for name in names for q in load(name)})


def is_supported(case: Mapping[str, Any]) -> bool | None:
    """Whether the model of a recorded case saw every passage that its answer rests on; None where
    nobody has said which those are."""
    if case["benchmark"] in teaching.SETS:
        return teaching.is_supported(case)
    return wiki.is_supported(case) if case["benchmark"] in wiki.SETS else None


def supporting_passages(question: teaching.TeachingQuestion) -> tuple[str, ...]:
    """Ids of the passages that a question of the teaching set needs; () for maths."""
    return question.supporting_ids
