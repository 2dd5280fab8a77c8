"""Eight small benchmarks that mirror the paper's eight, and two training sets; generated, seeded,
verifiable.

Owns the splits and the order of questions. Factual templates come from `hops`, maths from
`problems`, `word_problems` and `contest_problems`. Knows nothing of models, retrieval or grading.

Factual sets: mini-hotpot (two hops, in-domain), mini-bamboogle (two hops, relations and wordings
never trained on), mini-musique (three hops), mini-2wiki (comparisons and bridge-comparisons).
Training and test questions share no country, no city and no instance of a maths template.
Continents, currencies and other answers recur.
"""

import functools
import hashlib
import itertools
import random
from fractions import Fraction

from agentlib import config
from agentlib.benchmarks.minisuite import contest_problems, hops, problems, word_problems
from agentlib.benchmarks.minisuite.hop_world import Draft, World
from agentlib.tasks import Question

TRAIN_SETS = ("mini-hotpot-train", "mini-math-train")
NAMES = config.FACTUAL + config.MATHS + TRAIN_SETS
SEED = 17
TEST_SIZE, TRAIN_SIZE = 120, 300

MATHS_TEMPLATES = {
    "mini-gsm-hard": word_problems.GSM_HARD,
    "mini-aime": contest_problems.AIME,
    "mini-olym": contest_problems.OLYM,
}


def _maths(base: str, place: int, rng: random.Random) -> Draft:
    """The draft at a place of a maths set: subjects, levels and templates take turns."""
    if base == "mini-math":
        level, groups = place % 5 + 1, problems.MATH
        subject = list(groups)[place % len(groups)]
        templates = groups[subject]
    else:
        groups, subject = MATHS_TEMPLATES[base], ""
        level = list(groups)[place % len(groups)]
        templates = groups[level]
    template = templates[place // len(groups) % len(templates)]
    text, answer = template(rng, level)
    if base == "mini-aime" and not 1 <= answer <= 999:
        return _maths(base, place, rng)
    if isinstance(answer, Fraction) and answer.denominator > 1 and "fraction" not in text:
        text += " Give an exact fraction."
    return Draft(text, str(answer), subject, level=str(level))


def _split_of(text: str) -> str:
    return "train" if hashlib.sha256(text.encode()).digest()[0] % 2 else "test"


@functools.cache
def _drafts(base: str, split: str) -> tuple[Draft, ...]:
    """All questions of a set. Templates take turns, so any prefix is varied; no text occurs
    twice."""
    rng = random.Random(f"{SEED} {base} {split}")
    size = TRAIN_SIZE if split == "train" else TEST_SIZE
    world = World(split, rng) if base in hops.TEMPLATES else None
    drafts: dict[str, Draft] = {}
    for turn in itertools.count():
        if len(drafts) == size or turn > 20 * size:
            break
        for _ in range(200):  # a template that has said all it can misses its turn
            if world:
                templates = hops.TEMPLATES[base]
                draft = templates[turn % len(templates)](world)
            else:
                draft = _maths(base, turn, rng)
            if draft.text not in drafts and (world or _split_of(draft.text) == split):
                drafts[draft.text] = draft
                break
    if len(drafts) < size:
        raise ValueError(
            f"{base} {split} yields {len(drafts)} distinct questions, expected {size}; add"
            " templates"
        )
    return tuple(drafts.values())


def _base(name: str, split: str) -> tuple[str, str]:
    """The family and the split that a name means; raises ValueError for what is not offered."""
    if name not in NAMES:
        raise ValueError(f"benchmark {name!r} is unknown, expected one of {', '.join(NAMES)}")
    base = name.removesuffix("-train")
    split = "train" if base != name else split
    offered = ("test", "train") if f"{base}-train" in NAMES else ("test",)
    if split not in offered:
        raise ValueError(
            f"benchmark {name!r} has no split {split!r}, expected one of {', '.join(offered)}"
        )
    return base, split


def load(name: str, split: str = "test", limit: int = 0) -> list[Question]:
    """The first `limit` questions (0: all) of a benchmark or training set, the same at every call.

    `name` is one of `NAMES`; a training set's name settles the split. Templates, subjects and
    levels take turns, so that a few questions are a varied few. `subject` is one of MATH's seven
    for mini-math and "bridge" or "comparison" for factual sets; `level` is "1" to "5" for mini-math
    (larger numbers) and mini-gsm-hard (more steps), "3" or "5" for mini-aime (one condition to
    count by, or more) and "5" for mini-olym. Raises ValueError for an unknown name or split.
    """
    base, split = _base(name, split)
    shown = f"{base}-train" if split == "train" else base
    domain = "factual" if base in hops.TEMPLATES else "math"
    questions = [
        Question(
            f"{shown}-{i:04d}",
            shown,
            d.text,
            d.answer,
            domain,
            d.level,
            d.subject,
            split,
            d.aliases,
        )
        for i, d in enumerate(_drafts(base, split))
    ]
    return questions[:limit] if limit else questions


def support(question: Question) -> tuple[str, ...]:
    """Ids of the passages that hold the facts a question of this suite needs; () for maths."""
    base, split = _base(question.benchmark, question.split)
    place = int(question.id.rsplit("-", 1)[1])
    return _drafts(base, split)[place].support
