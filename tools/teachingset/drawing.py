"""Which of many drafts become questions: no answer too often, and every policy right half of the
time.

Owns the selection. Knows nothing of what is asked.
"""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

MAX_SHARE = 0.1  # of a template's questions that may have the same answer
MAX_USE = 2  # questions of a template that may name one place
SWAPS = 120_000


@dataclass(frozen=True)
class Draft:
    """A question before it has a name. `options` are the answers it offers, in its order;
    `places` what no two questions should share too often."""

    text: str
    answer: str
    subject: str
    template: str = ""
    supporting_ids: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    level: str = ""
    options: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    wording: int = 0


def draw_open(
    draw: Callable[[int], Draft],
    count: int,
    is_fit: Callable[[Draft], bool],
    taken: set[str],
    tries: int = 4000,
) -> list[Draft]:
    """`count` drafts with different texts, none in `taken`, and with golds and places spread.

    `draw` gets the place in the list. Raises ValueError if the template cannot give so many.
    """
    chosen: list[Draft] = []
    golds, places = Counter(), Counter()
    most = max(1, math.floor(MAX_SHARE * count))
    for _ in range(tries):
        if len(chosen) == count:
            return chosen
        draft = draw(len(chosen))
        if (
            draft.text not in taken | {d.text for d in chosen}
            and golds[draft.answer] < most
            and all(places[p] < MAX_USE for p in draft.places)
            and is_fit(draft)
        ):
            chosen.append(draft)
            golds[draft.answer] += 1
            places.update(draft.places)
    name = chosen[0].template if chosen else draft.template
    raise ValueError(
        f"template {name!r} gives {len(chosen)} fit questions in {tries} draws, expected {count};"
        " widen its draws or drop it"
    )


def select_balanced(
    pool: Sequence[Draft],
    count: int,
    features: np.ndarray,
    contexts: np.ndarray,
    rng: random.Random,
) -> list[Draft]:
    """`count` drafts of the pool on which each feature sums to zero, or to one where it abstains.

    `features` has a row for each draft and a column for each policy: 1 where it is right, -1 where
    it is wrong, 0 where it abstains. `contexts` has columns of 1 and -1 for what a question shows
    of itself, such as its wording. Made small are also the sums that rules of several policies
    would use: three policies (follow the third where the first two agree), or a context and a
    policy. The product of two policies says only whether they agree. Golds and places are spread as
    in `draw_open`. Raises ValueError if no such selection is found.
    """
    few = len({d.answer for d in pool}) <= 2  # yes and no
    most = count if few else max(1, math.floor(MAX_SHARE * count))
    width = features.shape[1]
    combined = [
        features[:, list(three)].prod(1) for three in itertools.combinations(range(width), 3)
    ]
    combined += [c * f for c in contexts.T for f in features.T] + list(contexts.T)
    table = np.column_stack([features, *combined]).astype(np.int64)
    weights = np.ones(table.shape[1], np.int64)
    weights[:width] = 2000  # a single policy weighs more than several together
    weights[-contexts.shape[1] * (width + 1) :] = 4

    golds, places = Counter(), Counter()

    def is_free(draft: Draft) -> bool:
        return golds[draft.answer] < most and all(places[p] < MAX_USE for p in draft.places)

    def add(draft: Draft, times: int) -> None:
        golds[draft.answer] += times
        for place in draft.places:
            places[place] += times

    chosen: list[int] = []
    for k in rng.sample(range(len(pool)), len(pool)):
        if len(chosen) < count and is_free(pool[k]):
            chosen.append(k)
            add(pool[k], 1)
    if len(chosen) < count:
        raise ValueError(
            f"template {pool[0].template!r} gives {len(chosen)} questions with spread answers,"
            f" expected {count}; widen its draws or drop it"
        )
    inside = set(chosen)
    sums = table[chosen].sum(0)
    cost = int((weights * sums * sums).sum())
    best = (cost, sorted(chosen))
    for step in range(SWAPS):
        place, new = rng.randrange(count), rng.randrange(len(pool))
        old = chosen[place]
        if new in inside:
            continue
        add(pool[old], -1)
        if is_free(pool[new]):
            changed = sums - table[old] + table[new]
            after = int((weights * changed * changed).sum())
            heat = 8000 * (1 - step / SWAPS) ** 2
            if after <= cost or rng.random() < math.exp((cost - after) / max(heat, 1e-9)):
                inside.remove(old)
                inside.add(new)
                chosen[place], sums, cost = new, changed, after
                add(pool[new], 1)
                if cost < best[0]:
                    best = (cost, sorted(chosen))
                continue
        add(pool[old], 1)
    kept = best[1]
    left = features[kept].sum(0)
    abstains = (features[kept] == 0).any(0)  # then the sum may be odd
    if (np.abs(left) > abstains).any():
        raise ValueError(
            f"template {pool[0].template!r} leaves policies unbalanced by {left.tolist()}, expected"
            " 0; enlarge the pool or drop it"
        )
    rng.shuffle(kept)
    return [pool[k] for k in kept]


def take_turns(groups: Sequence[Sequence[Draft]]) -> list[Draft]:
    """All drafts in one list in which each group is spread evenly and starts after the one before
    it, so that any prefix has its share of each."""
    keyed = [
        ((k + (number + 0.5) / len(groups)) / len(group), number, draft)
        for number, group in enumerate(groups)
        for k, draft in enumerate(group)
    ]
    return [draft for _, _, draft in sorted(keyed, key=lambda row: row[:2])]
