"""The places of one half of the teaching set, and the draws that templates make from them.

Owns these draws. Knows nothing of what is asked about a place.
"""

import random

from teachingset import facts, topics
from teachingset.places import City, Country, Region


class World:
    """The countries, cities and regions of one half, "train" or "test"."""

    def __init__(self, split: str, rng: random.Random):
        countries, cities = topics.places()
        self.rng = rng
        self.countries = {c.code: c for c in countries if topics.split_of_country(c.code) == split}
        capitals = {c.capital_city.id for c in countries}
        self.cities = [c for c in cities if c.country in self.countries and c.id not in capitals]
        self.regions = [r for r in topics.regions() if r.country in self.countries]
        self.with_own_money = [  # countries whose currency is paid with in this half only
            c
            for c in self.countries.values()
            if all(
                topics.split_of_country(user) == split
                for user in facts.currencies()[c.currency_code].users
            )
        ]

    def country(self) -> Country:
        return self.rng.choice(list(self.countries.values()))

    def city(self) -> tuple[City, Country]:
        """A city that is no capital, with its country."""
        city = self.rng.choice(self.cities)
        return city, self.countries[city.country]

    def region(self) -> tuple[str, Region, Country]:
        """A region, in words and as it is listed, with its country."""
        region = self.rng.choice(self.regions)
        return f"the {region.kind.lower()} of {region.name}", region, self.countries[region.country]
