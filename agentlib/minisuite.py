"""Eight small benchmarks that mirror the paper's eight, and two training sets; generated, seeded, verifiable.

Owns the factual question templates, the splits, and the order of questions. Facts come from `encyclopedia`,
maths from `problems`. Knows nothing of models, retrieval or grading.

Factual sets: mini-hotpot (two hops, in-domain), mini-bamboogle (two hops, relations and wordings never trained
on), mini-musique (three hops), mini-2wiki (comparisons and bridge-comparisons). Training and test questions
share no country, no city and no instance of a maths template. Continents, currencies and other answers recur.
"""

import functools
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from agentlib import config, encyclopedia, problems
from agentlib.encyclopedia import City, Country
from agentlib.tasks import Question

TRAIN_SETS = ("mini-hotpot-train", "mini-math-train")
NAMES = config.FACTUAL + config.MATHS + TRAIN_SETS
TEST_SIZE, TRAIN_SIZE = 120, 300
MARGIN = 1.15  # compared quantities differ by this factor at least, so that a newer count would not turn them round


@dataclass(frozen=True)
class _Draft:
    """A question before it has a name: `support` are the ids of the passages that hold its facts."""

    text: str
    answer: str
    subject: str
    support: tuple[str, ...] = ()
    level: str = ""
    aliases: tuple[str, ...] = ()


class _World:
    """The countries and cities of one half, and the draws that factual templates make from them."""

    def __init__(self, split: str, rng: random.Random):
        countries, cities = encyclopedia.asked()
        self.rng = rng
        self.countries = {c.code: c for c in countries if encyclopedia.half(c.code) == split}
        capitals = {c.capital_city.id for c in countries}
        self.cities = [c for c in cities if c.country in self.countries and c.id not in capitals]
        self.currency_users = Counter(c.currency for c in encyclopedia.atlas()[0])

    def country(self) -> Country:
        return self.rng.choice(list(self.countries.values()))

    def city(self) -> tuple[City, Country]:
        """A city that is no capital, with its country."""
        city = self.rng.choice(self.cities)
        return city, self.countries[city.country]

    def two(self, draw: Callable, size: Callable) -> tuple:
        """Two draws from different countries whose `size` differs clearly, in random order."""
        while True:
            a, b = draw(), draw()
            small, large = sorted((size(a), size(b)))
            if a != b and large >= MARGIN * small:
                return a, b


def _number(value: int) -> dict:
    return {"answer": str(value), "aliases": (f"{value:,}",)}


def _bridge(text: str, *support: str, answer: str, aliases: tuple[str, ...] = ()) -> _Draft:
    return _Draft(text, answer, "bridge", support, aliases=aliases)


def _which(text: str, a: str, b: str, first: bool, *support: str) -> _Draft:
    return _Draft(text, a if first else b, "comparison", support)


# mini-hotpot: two hops


def currency_of_capital(w: _World) -> _Draft:
    c = w.country()
    if w.currency_users[c.currency] == 1:  # a name of its own, such as Zloty; Dollar would be ambiguous
        text, answer = f"What is the currency of the country whose capital is {c.capital}?", c.currency
        return _bridge(text, c.id, answer=answer, aliases=(c.currency_code, f"{c.currency} ({c.currency_code})"))
    text = f"What is the three-letter code of the currency of the country whose capital is {c.capital}?"
    return _bridge(text, c.id, answer=c.currency_code)


def continent_of_city(w: _World) -> _Draft:
    city, c = w.city()
    text = f"Which continent is the country in which the city of {city.name} lies part of?"
    return _bridge(text, city.id, c.id, answer=c.continent)


def capital_of_city(w: _World) -> _Draft:
    city, c = w.city()
    text = f"What is the capital of the country in which the city of {city.name} lies?"
    return _bridge(text, city.id, c.id, answer=c.capital)


def area_of_capital(w: _World) -> _Draft:
    c = w.country()
    text = f"What is the area in square kilometres of the country whose capital is {c.capital}?"
    return _bridge(text, c.id, **_number(c.area))


def larger_city(w: _World) -> _Draft:
    (a, _), (b, _) = w.two(w.city, lambda pair: pair[0].population)
    text = f"Which city has more people, {a.name} or {b.name}?"
    return _which(text, a.name, b.name, a.population > b.population, a.id, b.id)


def larger_country(w: _World) -> _Draft:
    a, b = w.two(w.country, lambda c: c.area)
    return _which(
        f"Which country is larger in area, {a.named} or {b.named}?", a.title, b.title, a.area > b.area, a.id, b.id
    )


# mini-bamboogle: two hops, other relations and wordings


def domain_of_city(w: _World) -> _Draft:
    city, c = w.city()
    text = f"Websites from the homeland of {city.name} usually end in which country domain?"
    return _bridge(text, city.id, c.id, answer=c.tld, aliases=(c.tld.lstrip("."),))


def phone_of_city(w: _World) -> _Draft:
    city, c = w.city()
    text = f"Which international calling code would you dial to reach someone in {city.name} from abroad?"
    return _bridge(text, city.id, c.id, answer=c.phone, aliases=(c.phone.lstrip("+"),))


def clocks_of_capital(w: _World) -> _Draft:
    c = w.country()
    city = c.capital_city
    text = f"Which time zone do the clocks of the capital city of {c.named} follow?"
    return _bridge(text, c.id, city.id, answer=city.timezone)


def tongue_of_capital(w: _World) -> _Draft:
    c = w.country()
    text = f"Name the language listed first for the nation governed from {c.capital}."
    return _bridge(text, c.id, answer=c.language)


def metropolis_size(w: _World) -> _Draft:
    c = w.country()
    text = f"The biggest city of {c.named} is home to how many inhabitants?"
    return _bridge(text, c.id, c.largest_city.id, **_number(c.largest_city.population))


# mini-musique: three hops


def capital_size_of_city(w: _World) -> _Draft:
    city, c = w.city()
    text = f"What is the population of the capital of the country in which the city of {city.name} lies?"
    return _bridge(text, city.id, c.id, c.capital_city.id, **_number(c.capital_city.population))


def capital_clocks_of_city(w: _World) -> _Draft:
    city, c = w.city()
    text = f"Which time zone is kept in the capital of the country that the city of {city.name} belongs to?"
    return _bridge(text, city.id, c.id, c.capital_city.id, answer=c.capital_city.timezone)


def largest_size_of_capital(w: _World) -> _Draft:
    while True:
        c = w.country()
        if c.largest_city != c.capital_city:
            break
    text = f"How many people live in the most populous city of the country whose capital is {c.capital}?"
    return _bridge(text, c.id, c.largest_city.id, **_number(c.largest_city.population))


def gap_to_capital(w: _World) -> _Draft:
    city, c = w.city()
    text = (
        f"What is the difference in population between the city of {city.name} and the capital of the country "
        "it lies in?"
    )
    gap = abs(city.population - c.capital_city.population)
    return _bridge(text, city.id, c.id, c.capital_city.id, **_number(gap))


def total_area(w: _World) -> _Draft:
    (a, c), (b, d) = w.two(w.city, lambda pair: pair[1].area)
    text = (
        f"What is the total area, in square kilometres, of the two countries in which the cities of {a.name} and "
        f"{b.name} lie?"
    )
    return _bridge(text, a.id, b.id, c.id, d.id, **_number(c.area + d.area))


# mini-2wiki: comparisons and bridge-comparisons


def larger_by_capital(w: _World) -> _Draft:
    a, b = w.two(w.country, lambda c: c.area)
    text = f"Which of the countries whose capitals are {a.capital} and {b.capital} has the larger area?"
    return _which(text, a.title, b.title, a.area > b.area, a.id, b.id)


def fuller_by_city(w: _World) -> _Draft:
    (a, c), (b, d) = w.two(w.city, lambda pair: pair[1].population)
    text = f"Which city lies in the country with more inhabitants, {a.name} or {b.name}?"
    return _which(text, a.name, b.name, c.population > d.population, a.id, b.id, c.id, d.id)


def same_continent(w: _World) -> _Draft:
    a, b = w.two(w.country, lambda c: c.area)
    wanted = w.rng.random() < 0.5
    while (a.continent == b.continent) != wanted:
        a, b = w.two(w.country, lambda c: c.area)
    text = f"Are {a.capital} and {b.capital} capitals of countries on the same continent?"
    return _which(text, "yes", "no", wanted, a.id, b.id)


def smaller_capital(w: _World) -> _Draft:
    a, b = w.two(w.country, lambda c: c.capital_city.population)
    text = f"Which country's capital has fewer people, that of {a.named} or that of {b.named}?"
    first = a.capital_city.population < b.capital_city.population
    return _which(text, a.title, b.title, first, a.id, b.id, a.capital_city.id, b.capital_city.id)


def same_country(w: _World) -> _Draft:
    (a, c), (b, d) = w.city(), w.city()
    wanted = w.rng.random() < 0.5
    while a == b or (c == d) != wanted:
        (a, c), (b, d) = w.city(), w.city()
    text = f"Are the cities of {a.name} and {b.name} located in the same country?"
    return _which(text, "yes", "no", wanted, a.id, b.id)


FACTUAL_TEMPLATES = {
    "mini-hotpot": [currency_of_capital, larger_city, continent_of_city, larger_country, capital_of_city,
                    area_of_capital],
    "mini-bamboogle": [domain_of_city, clocks_of_capital, phone_of_city, tongue_of_capital, metropolis_size],
    "mini-musique": [capital_size_of_city, largest_size_of_capital, capital_clocks_of_city, gap_to_capital, total_area],
    "mini-2wiki": [larger_by_capital, same_country, smaller_capital, fuller_by_city, same_continent],
}  # fmt: skip
MATHS_TEMPLATES = {"mini-gsm-hard": problems.GSM_HARD, "mini-aime": problems.AIME, "mini-olym": problems.OLYM}


def _maths(base: str, place: int, rng: random.Random) -> _Draft:
    """The draft at a place of a maths set: subjects, levels and templates take turns."""
    level = place % 5 + 1 if base in ("mini-math", "mini-gsm-hard") else 5
    if base == "mini-math":
        subjects = list(problems.MATH)
        subject = subjects[place % len(subjects)]
        templates = problems.MATH[subject]
        template = templates[place // len(subjects) % len(templates)]
    else:
        templates = MATHS_TEMPLATES[base]
        subject, template = "", templates[place % len(templates)]
    text, answer = template(rng, level)
    if base == "mini-aime" and not 1 <= answer <= 999:
        return _maths(base, place, rng)
    if isinstance(answer, Fraction) and answer.denominator > 1 and "fraction" not in text:
        text += " Give an exact fraction."
    return _Draft(text, str(answer), subject, level=str(level))


def _split_of(text: str) -> str:
    return "train" if hashlib.sha256(text.encode()).digest()[0] % 2 else "test"


@functools.cache
def _drafts(base: str, split: str) -> tuple[_Draft, ...]:
    """All questions of a set. Templates take turns, so any prefix is varied; no text occurs twice."""
    rng = random.Random(f"{encyclopedia.SEED} {base} {split}")
    size = TRAIN_SIZE if split == "train" else TEST_SIZE
    world = _World(split, rng) if base in FACTUAL_TEMPLATES else None
    drafts: dict[str, _Draft] = {}
    for turn in itertools.count():
        if len(drafts) == size or turn > 20 * size:
            break
        for _ in range(200):  # a template that has said all it can misses its turn
            if world:
                templates = FACTUAL_TEMPLATES[base]
                draft = templates[turn % len(templates)](world)
            else:
                draft = _maths(base, turn, rng)
            if draft.text not in drafts and (world or _split_of(draft.text) == split):
                drafts[draft.text] = draft
                break
    if len(drafts) < size:
        raise ValueError(f"{base} {split} yields {len(drafts)} distinct questions, expected {size}; add templates")
    return tuple(drafts.values())


def _base(name: str, split: str) -> tuple[str, str]:
    """The family and the split that a name means; raises ValueError for what is not offered."""
    if name not in NAMES:
        raise ValueError(f"benchmark {name!r} is unknown, expected one of {', '.join(NAMES)}")
    base = name.removesuffix("-train")
    split = "train" if base != name else split
    offered = ("test", "train") if f"{base}-train" in NAMES else ("test",)
    if split not in offered:
        raise ValueError(f"benchmark {name!r} has no split {split!r}, expected one of {', '.join(offered)}")
    return base, split


def load(name: str, split: str = "test", limit: int = 0) -> list[Question]:
    """The first `limit` questions (0: all) of a benchmark or training set, the same at every call.

    `name` is one of `NAMES`; a training set's name settles the split. Templates, subjects and levels take turns,
    so that a few questions are a varied few. `subject` is one of MATH's seven for mini-math and "bridge" or
    "comparison" for factual sets; `level` is "1" to "5" for mini-math and mini-gsm-hard (larger numbers,
    more steps) and "5" for mini-aime and mini-olym. Raises ValueError for an unknown name or split.
    """
    base, split = _base(name, split)
    shown = f"{base}-train" if split == "train" else base
    domain = "factual" if base in FACTUAL_TEMPLATES else "math"
    questions = [
        Question(f"{shown}-{i:04d}", shown, d.text, d.answer, domain, d.level, d.subject, split, d.aliases)
        for i, d in enumerate(_drafts(base, split))
    ]
    return questions[:limit] if limit else questions


def support(question: Question) -> tuple[str, ...]:
    """Ids of the passages that hold the facts a question of this suite needs; () for maths."""
    base, split = _base(question.benchmark, question.split)
    place = int(question.id.rsplit("-", 1)[1])
    return _drafts(base, split)[place].support
