"""What questions over the mini encyclopedia are drawn from, and what a drawn question is.

Owns the draws of countries, cities and regions of one half, and `Draft`. Knows nothing of what is
asked about them.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentlib.benchmarks.minisuite import facts, topics
from agentlib.benchmarks.minisuite.places import City, Country, Region

# compared quantities differ by this factor at least, so that a newer count would not turn them
# round
MARGIN = 1.15


@dataclass(frozen=True)
class Draft:
    """A question before it has a name: `support` are the ids of the passages that hold its
    facts."""

    text: str
    answer: str
    subject: str
    support: tuple[str, ...] = ()
    level: str = ""
    aliases: tuple[str, ...] = ()


class World:
    """The countries, cities and regions of one half, "train" or "test", and the draws that
    templates make from them."""

    def __init__(self, split: str, rng: random.Random):
        countries, cities = topics.places()
        self.rng = rng
        self.countries = {c.code: c for c in countries if topics.split_of_country(c.code) == split}
        capitals = {c.capital_city.id for c in countries}
        self.cities = [c for c in cities if c.country in self.countries and c.id not in capitals]
        self.regions = [r for r in topics.regions() if r.country in self.countries]

        def here(codes: tuple[str, ...]) -> bool:
            return all(topics.split_of_country(code) == split for code in codes)

        self.users_of_money = Counter(c.currency for c in facts.atlas()[0])
        kept = list(self.countries.values())
        self.with_own_money = [c for c in kept if here(facts.currencies()[c.currency_code].users)]
        self.with_own_tongue = [c for c in kept if here(facts.languages()[c.language].first_in)]
        self.with_own_clocks = [
            c for c in kept if here(facts.zones()[c.capital_city.timezone].countries)
        ]

    def say(self, *wordings: str) -> str:
        """One of several ways to ask the same."""
        return self.rng.choice(wordings)

    def country(self) -> Country:
        return self.rng.choice(list(self.countries.values()))

    def city(self, among: Sequence[Country] = ()) -> tuple[City, Country]:
        """A city that is no capital, with its country, which is one of `among` if that is given."""
        codes = {c.code for c in among}
        city = self.rng.choice(
            [c for c in self.cities if c.country in codes] if among else self.cities
        )
        return city, self.countries[city.country]

    def region(self) -> tuple[str, Region, Country]:
        """A region, in words and as it is listed, with its country."""
        region = self.rng.choice(self.regions)
        return f"the {region.kind.lower()} of {region.name}", region, self.countries[region.country]

    def two(self, draw: Callable, size: Callable) -> tuple:
        """Two draws from different countries whose `size` differs clearly, in random order."""
        while True:
            a, b = draw(), draw()
            small, large = sorted((size(a), size(b)))
            if a != b and large >= MARGIN * small:
                return a, b


def number(value: int) -> dict:
    """A count as an answer, with and without commas."""
    return {"answer": str(value), "aliases": (f"{value:,}",)}


def bridge(text: str, *support: str, answer: str, aliases: tuple[str, ...] = ()) -> Draft:
    """A question whose facts follow from each other."""
    return Draft(text, answer, "bridge", support, aliases=aliases)


def which(text: str, a: str, b: str, first: bool, *support: str) -> Draft:
    """A question whose answer is `a` if the first holds, else `b`."""
    return Draft(text, a if first else b, "comparison", support)


def offset(text: str, offset: str, *support: str) -> Draft:
    """A question whose answer is a distance to UTC, such as "+05:30"."""
    sign, hours, minutes = offset[0], offset[1:3], offset[4:]
    short = f"{sign}{int(hours)}" + (f":{minutes}" if minutes != "00" else "")
    return bridge(text, *support, answer=f"UTC{offset}", aliases=(offset, f"UTC{short}", short))
