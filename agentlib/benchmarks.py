"""A configuration's questions: which sets it trains on, which it is tested on.

Owns the choice between the paper's sets and the mini-suite. Knows nothing of models.
"""

from itertools import chain, zip_longest

from agentlib import config, minisuite, records, tasks
from agentlib.tasks import Question


def load(name: str, limit: int = 0) -> list[Question]:
    """The questions of one set, by name; 0 is all of them. Unknown: ValueError listing all names."""
    if name in tasks.PUBLISHED:
        return tasks.load(name, limit)
    if name in minisuite.NAMES:
        return minisuite.load(name, "train" if name.endswith("-train") else "test", limit)
    raise tasks.unknown(name, [*tasks.PUBLISHED, *minisuite.NAMES])


def test_questions(cfg: config.Config) -> list[Question]:
    """All test questions of a configuration, benchmark by benchmark."""
    return [q for name in cfg.benchmarks for q in load(name, cfg.questions)]


def training_questions(cfg: config.Config) -> list[Question]:
    """All training questions of a configuration, the sets taking turns, so that a few are a fair mix."""
    sets = [load(name, cfg.train_questions) for name in cfg.train_sets]
    return [q for q in chain.from_iterable(zip_longest(*sets)) if q is not None]


def fingerprint(names: tuple[str, ...]) -> str:
    """Ten hex digits that name the wording of whole sets, whatever part of them is asked."""
    return records.digest({q.id: [q.text, q.answer] for name in names for q in load(name)})
