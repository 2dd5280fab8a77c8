"""Templates of factual questions: one to three hops over the mini encyclopedia, and comparisons.

Owns the questions' wordings and the draws of countries, cities and regions they are about. Facts come from `atlas`.
Knows nothing of splits but their names, nor of how many questions are asked.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentlib import atlas
from agentlib.atlas import City, Country, Region

MARGIN = 1.15  # compared quantities differ by this factor at least, so that a newer count would not turn them round


@dataclass(frozen=True)
class Draft:
    """A question before it has a name: `support` are the ids of the passages that hold its facts."""

    text: str
    answer: str
    subject: str
    support: tuple[str, ...] = ()
    level: str = ""
    aliases: tuple[str, ...] = ()


class World:
    """The countries, cities and regions of one half, "train" or "test", and the draws that templates make from them."""

    def __init__(self, split: str, rng: random.Random):
        countries, cities = atlas.asked()
        self.rng = rng
        self.countries = {c.code: c for c in countries if atlas.half(c.code) == split}
        capitals = {c.capital_city.id for c in countries}
        self.cities = [c for c in cities if c.country in self.countries and c.id not in capitals]
        self.regions = [r for r in atlas.asked_regions() if r.country in self.countries]

        def here(codes: tuple[str, ...]) -> bool:
            return all(atlas.half(code) == split for code in codes)

        self.users_of_money = Counter(c.currency for c in atlas.atlas()[0])
        kept = list(self.countries.values())
        self.with_own_money = [c for c in kept if here(atlas.currencies()[c.currency_code].users)]
        self.with_own_tongue = [c for c in kept if here(atlas.languages()[c.language].first_in)]
        self.with_own_clocks = [c for c in kept if here(atlas.zones()[c.capital_city.timezone].countries)]

    def say(self, *wordings: str) -> str:
        """One of several ways to ask the same."""
        return self.rng.choice(wordings)

    def country(self) -> Country:
        return self.rng.choice(list(self.countries.values()))

    def city(self, among: Sequence[Country] = ()) -> tuple[City, Country]:
        """A city that is no capital, with its country, which is one of `among` if that is given."""
        codes = {c.code for c in among}
        city = self.rng.choice([c for c in self.cities if c.country in codes] if among else self.cities)
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


def _number(value: int) -> dict:
    return {"answer": str(value), "aliases": (f"{value:,}",)}


def _bridge(text: str, *support: str, answer: str, aliases: tuple[str, ...] = ()) -> Draft:
    return Draft(text, answer, "bridge", support, aliases=aliases)


def _which(text: str, a: str, b: str, first: bool, *support: str) -> Draft:
    return Draft(text, a if first else b, "comparison", support)


# mini-hotpot: two hops


def currency_of_capital(w: World) -> Draft:
    c = w.country()
    if w.users_of_money[c.currency] == 1:
        text = w.say(  # a name of its own, such as Zloty; Dollar would be ambiguous
            f"What is the currency of the country whose capital is {c.capital}?",
            f"With which currency do people pay in the country that has {c.capital} as its capital?",
        )
        return _bridge(text, c.id, answer=c.currency, aliases=(c.currency_code, f"{c.currency} ({c.currency_code})"))
    text = w.say(
        f"What is the three-letter code of the currency of the country whose capital is {c.capital}?",
        f"Which three-letter code has the currency of the country governed from {c.capital}?",
    )
    return _bridge(text, c.id, answer=c.currency_code)


def continent_of_city(w: World) -> Draft:
    city, c = w.city()
    text = w.say(
        f"Which continent is the country in which the city of {city.name} lies part of?",
        f"The city of {city.name} lies in a country of which continent?",
    )
    return _bridge(text, city.id, c.id, answer=c.continent)


def capital_of_city(w: World) -> Draft:
    city, c = w.city()
    text = w.say(
        f"What is the capital of the country in which the city of {city.name} lies?",
        f"Name the capital of the country to which the city of {city.name} belongs.",
    )
    return _bridge(text, city.id, c.id, answer=c.capital)


def capital_of_region(w: World) -> Draft:
    named, region, c = w.region()
    text = w.say(
        f"What is the capital of the country that {named} is a part of?",
        f"From which capital is the country governed that includes {named}?",
    )
    return _bridge(text, region.id, c.id, answer=c.capital)


def size_of_region(w: World) -> Draft:
    named, region, c = w.region()
    text = w.say(
        f"How many inhabitants has the country that {named} belongs to?",
        f"What is the population of the country of which {named} is a division?",
    )
    return _bridge(text, region.id, c.id, **_number(c.population))


def area_of_capital(w: World) -> Draft:
    c = w.country()
    text = w.say(
        f"What is the area in square kilometres of the country whose capital is {c.capital}?",
        f"How many square kilometres does the country with the capital {c.capital} cover?",
    )
    return _bridge(text, c.id, **_number(c.area))


def clocks_of_city(w: World) -> Draft:
    city, c = w.city(w.with_own_clocks)
    while city.timezone != c.capital_city.timezone:
        city, c = w.city(w.with_own_clocks)
    zone = atlas.zones()[city.timezone]
    text = w.say(
        f"What was the distance to UTC of the clocks in the city of {city.name} on 15 January {atlas.CLOCK_YEAR}?",
        f"On 15 January {atlas.CLOCK_YEAR}, which UTC offset applied in the city of {city.name}?",
    )
    return _offset(text, zone.january, city.id, zone.id)


def _offset(text: str, offset: str, *support: str) -> Draft:
    sign, hours, minutes = offset[0], offset[1:3], offset[4:]
    short = f"{sign}{int(hours)}" + (f":{minutes}" if minutes != "00" else "")
    return _bridge(text, *support, answer=f"UTC{offset}", aliases=(offset, f"UTC{short}", short))


def larger_city(w: World) -> Draft:
    (a, _), (b, _) = w.two(w.city, lambda pair: pair[0].population)
    text = w.say(
        f"Which city has more people, {a.name} or {b.name}?",
        f"Of the cities {a.name} and {b.name}, which has the larger population?",
    )
    return _which(text, a.name, b.name, a.population > b.population, a.id, b.id)


def larger_country(w: World) -> Draft:
    a, b = w.two(w.country, lambda c: c.area)
    text = w.say(
        f"Which country is larger in area, {a.named} or {b.named}?",
        f"Which of the two covers more square kilometres, {a.named} or {b.named}?",
    )
    return _which(text, a.title, b.title, a.area > b.area, a.id, b.id)


# mini-bamboogle: two hops, other relations and wordings


def domain_of_city(w: World) -> Draft:
    city, c = w.city()
    text = w.say(
        f"Websites from the homeland of {city.name} usually end in which country domain?",
        f"Which internet domain stands for the country where you find {city.name}?",
    )
    return _bridge(text, city.id, c.id, answer=c.tld, aliases=(c.tld.lstrip("."),))


def phone_of_city(w: World) -> Draft:
    city, c = w.city()
    text = w.say(
        f"Which international calling code would you dial to reach someone in {city.name} from abroad?",
        f"A phone number of a shop in {city.name}, as seen from abroad, begins with which code?",
    )
    return _bridge(text, city.id, c.id, answer=c.phone, aliases=(c.phone.lstrip("+"),))


def clocks_of_capital(w: World) -> Draft:
    c = w.country()
    city = c.capital_city
    text = w.say(
        f"Which time zone do the clocks of the capital city of {c.named} follow?",
        f"A government official in the capital city of {c.named} looks at a clock: which time zone does it show?",
    )
    return _bridge(text, c.id, city.id, answer=city.timezone)


def tongue_of_capital(w: World) -> Draft:
    c = w.country()
    text = w.say(
        f"Name the language listed first for the nation governed from {c.capital}.",
        f"In which language, the first one listed, might the parliament sitting in {c.capital} debate?",
    )
    return _bridge(text, c.id, answer=c.language)


def metropolis_size(w: World) -> Draft:
    c = w.country()
    text = w.say(
        f"The biggest city of {c.named} is home to how many inhabitants?",
        f"Count the people of the most populous city in {c.named}: how many are there?",
    )
    return _bridge(text, c.id, c.largest_city.id, **_number(c.largest_city.population))


def number_of_money(w: World) -> Draft:
    c = w.rng.choice(w.with_own_money)
    money = atlas.currencies()[c.currency_code]
    text = w.say(
        f"Which number does ISO 4217 assign to the money used in {c.named}?",
        f"A bank system that cannot show letters refers to the currency of {c.named} by which number?",
    )
    return _bridge(text, c.id, money.id, answer=money.number)


def letters_of_tongue(w: World) -> Draft:
    c = w.rng.choice(w.with_own_tongue)
    tongue = atlas.languages()[c.language]
    text = w.say(
        f"Which three-letter ISO 639-3 code belongs to the language listed first for {c.named}?",
        f"A librarian tags a book in the first-listed language of {c.named}: which ISO 639-3 code is right?",
    )
    return _bridge(text, c.id, tongue.id, answer=tongue.code3)


# mini-musique: three hops


def capital_size_of_city(w: World) -> Draft:
    city, c = w.city()
    text = w.say(
        f"What is the population of the capital of the country in which the city of {city.name} lies?",
        f"How many people live in the capital of the country that the city of {city.name} belongs to?",
    )
    return _bridge(text, city.id, c.id, c.capital_city.id, **_number(c.capital_city.population))


def capital_clocks_of_region(w: World) -> Draft:
    named, region, c = w.region()
    text = w.say(
        f"Which time zone is kept in the capital of the country that {named} belongs to?",
        f"Which time zone do clocks follow in the capital of the country that includes {named}?",
    )
    return _bridge(text, region.id, c.id, c.capital_city.id, answer=c.capital_city.timezone)


def money_number_of_city(w: World) -> Draft:
    city, c = w.city(w.with_own_money)
    money = atlas.currencies()[c.currency_code]
    text = w.say(
        f"What is the ISO 4217 number of the currency of the country in which the city of {city.name} lies?",
        f"Which ISO 4217 number has the currency that people pay with in the country of the city of {city.name}?",
    )
    return _bridge(text, city.id, c.id, money.id, answer=money.number)


def clocks_of_capital_in_july(w: World) -> Draft:
    c = w.rng.choice(w.with_own_clocks)
    zone = atlas.zones()[c.capital_city.timezone]
    text = w.say(
        f"On 15 July {atlas.CLOCK_YEAR}, what was the UTC offset of the clocks in the capital of {c.named}?",
        f"How far from UTC were the clocks in the capital city of {c.named} on 15 July {atlas.CLOCK_YEAR}?",
    )
    return _offset(text, zone.july, c.id, c.capital_city.id, zone.id)


def largest_size_of_capital(w: World) -> Draft:
    while True:
        c = w.country()
        if c.largest_city != c.capital_city:
            break
    text = w.say(
        f"How many people live in the most populous city of the country whose capital is {c.capital}?",
        f"What is the population of the largest city of the country governed from {c.capital}?",
    )
    return _bridge(text, c.id, c.largest_city.id, **_number(c.largest_city.population))


def gap_to_capital(w: World) -> Draft:
    city, c = w.city()
    text = (
        f"What is the difference in population between the city of {city.name} and the capital of the country "
        "it lies in?"
    )
    gap = abs(city.population - c.capital_city.population)
    return _bridge(text, city.id, c.id, c.capital_city.id, **_number(gap))


def total_area(w: World) -> Draft:
    (a, c), (b, d) = w.two(w.city, lambda pair: pair[1].area)
    text = (
        f"What is the total area, in square kilometres, of the two countries in which the cities of {a.name} and "
        f"{b.name} lie?"
    )
    return _bridge(text, a.id, b.id, c.id, d.id, **_number(c.area + d.area))


# mini-2wiki: comparisons and bridge-comparisons


def larger_by_capital(w: World) -> Draft:
    a, b = w.two(w.country, lambda c: c.area)
    text = w.say(
        f"Which of the countries whose capitals are {a.capital} and {b.capital} has the larger area?",
        f"One country is governed from {a.capital}, another from {b.capital}. Which of the two is larger in area?",
    )
    return _which(text, a.title, b.title, a.area > b.area, a.id, b.id)


def fuller_by_city(w: World) -> Draft:
    (a, c), (b, d) = w.two(w.city, lambda pair: pair[1].population)
    text = f"Which city lies in the country with more inhabitants, {a.name} or {b.name}?"
    return _which(text, a.name, b.name, c.population > d.population, a.id, b.id, c.id, d.id)


def denser_country(w: World) -> Draft:
    a, b = w.two(w.country, lambda c: c.population / c.area)
    text = w.say(
        f"Which country has more inhabitants per square kilometre, {a.named} or {b.named}?",
        f"Where do more people live on each square kilometre, in {a.named} or in {b.named}?",
    )
    return _which(text, a.title, b.title, a.population * b.area > b.population * a.area, a.id, b.id)


def same_continent(w: World) -> Draft:
    a, b = w.two(w.country, lambda c: c.area)
    wanted = w.rng.random() < 0.5
    while (a.continent == b.continent) != wanted:
        a, b = w.two(w.country, lambda c: c.area)
    text = f"Are {a.capital} and {b.capital} capitals of countries on the same continent?"
    return _which(text, "yes", "no", wanted, a.id, b.id)


def smaller_capital(w: World) -> Draft:
    a, b = w.two(w.country, lambda c: c.capital_city.population)
    text = f"Which country's capital has fewer people, that of {a.named} or that of {b.named}?"
    first = a.capital_city.population < b.capital_city.population
    return _which(text, a.title, b.title, first, a.id, b.id, a.capital_city.id, b.capital_city.id)


def same_country(w: World) -> Draft:
    (a, c), (b, d) = w.city(), w.city()
    wanted = w.rng.random() < 0.5
    while a == b or (c == d) != wanted:
        (a, c), (b, d) = w.city(), w.city()
    text = w.say(
        f"Are the cities of {a.name} and {b.name} located in the same country?",
        f"Do the cities of {a.name} and {b.name} belong to one country?",
    )
    return _which(text, "yes", "no", wanted, a.id, b.id)


TEMPLATES = {
    "mini-hotpot": [currency_of_capital, larger_city, continent_of_city, capital_of_region, larger_country,
                    capital_of_city, clocks_of_city, size_of_region, area_of_capital],
    "mini-bamboogle": [domain_of_city, clocks_of_capital, number_of_money, phone_of_city, letters_of_tongue,
                       tongue_of_capital, metropolis_size],
    "mini-musique": [capital_size_of_city, clocks_of_capital_in_july, money_number_of_city, largest_size_of_capital,
                     capital_clocks_of_region, gap_to_capital, total_area],
    "mini-2wiki": [larger_by_capital, same_country, smaller_capital, fuller_by_city, denser_country, same_continent],
}  # fmt: skip
