"""What questions may be about: of the atlas, what is plainly named, undisputed and known by one
name only.

Owns that choice, and which half of a split a country belongs to. Knows nothing of questions.
"""

import functools
import hashlib
import math
from collections import Counter, defaultdict

from teachingset import facts
from teachingset.places import City, Country, Region

REGIONS_PER_COUNTRY = 2  # of a country, that questions may name
# Not asked about: disputed or several capitals, territories of other states, or clashing names.
NOT_ASKED = {
    "BI", "BO", "CG", "CW", "EH", "GE", "GF", "GP", "GQ", "GU", "HK", "IL", "LK", "MM", "MO", "MQ",
    "NC", "PF", "PR", "PS", "RE", "TW", "US", "XK", "YT", "ZA",
}  # fmt: skip


@functools.cache
def regions() -> tuple[Region, ...]:
    """A few regions of each country asked about, plainly named, whose name belongs to no other
    entry."""
    countries, cities = facts.atlas()
    taken = Counter(facts.fold(r.name) for r in facts.regions()) + Counter(
        facts.fold(c.name) for c in cities
    )
    taken += Counter(facts.fold(c.title) for c in countries) + Counter(
        map(facts.fold, facts.states().values())
    )
    codes = {c.code for c in places()[0]}
    groups: dict[str, list[Region]] = defaultdict(list)
    for region in sorted(facts.regions(), key=lambda r: hashlib.sha256(r.code.encode()).digest()):
        plain = region.name.isascii() and region.name.replace(" ", "").replace("-", "").isalpha()
        if region.country in codes and plain and taken[facts.fold(region.name)] == 1:
            groups[region.country].append(region)
    return tuple(r for code in sorted(groups) for r in groups[code][:REGIONS_PER_COUNTRY])


@functools.cache
def places() -> tuple[tuple[Country, ...], tuple[City, ...]]:
    """What questions may be about: countries with an unambiguous capital, and their larger, plainly
    named cities.

    The name of each such city belongs to one entry only. Cities are the capitals and, of each
    country, the next few by population. Both halves of a split draw from here.
    """
    countries, cities = facts.atlas()
    taken = Counter(facts.fold(c.name) for c in cities) + Counter(
        facts.fold(c.title) for c in countries
    )
    taken += Counter(map(facts.fold, facts.states().values()))
    fit = tuple(
        c
        for c in countries
        if c.code not in NOT_ASKED
        and c.population >= 300_000
        and c.area
        and c.language
        and c.capital_city
        and c.largest_city
        and taken[facts.fold(c.capital)] == 1
    )
    codes = {c.code: c.capital for c in fit}
    named: dict[str, list[City]] = defaultdict(list)
    for city in sorted(cities, key=lambda c: c.rank):
        plain = (
            city.name.isascii() and taken[facts.fold(city.name)] == 1 and city.population >= 50_000
        )
        if city.country in codes and plain and city.name != codes[city.country]:
            named[city.country].append(city)
    chosen = [c.capital_city for c in fit]
    for group in named.values():
        for city in group[: facts.CITIES_PER_COUNTRY]:
            if not any(_close(city, other) for other in chosen):
                chosen.append(city)
    return fit, tuple(chosen)


def _close(a: City, b: City) -> bool:
    """Whether one is likely a borough or suburb of the other: within a quarter of a degree,
    about 28 km."""
    return (
        a.country == b.country
        and math.hypot(a.latitude - b.latitude, a.longitude - b.longitude) < 0.25
    )


def split_of_country(country: str) -> str:
    """ "train" or "test" for a country code; a city goes with its country, so the two never share
    either."""
    return "train" if hashlib.sha256(f"half {country}".encode()).digest()[0] % 2 else "test"
