"""The encyclopedia that the teaching set's passages are taken from: over 20,000 short passages of
true facts about places, currencies, languages and clocks.

Owns the sentences that state the facts of `facts`, and the order of passages. Knows nothing of the
questions asked about them, of indexes or of models.

A fact sits in one place: a city's passage names its country but not the country's currency or
continent, and a country's passage names its currency but not the currency's number, so a question
about those needs a second look-up.
"""

import functools
import random

from agentlib.retrieval import Passage
from teachingset import facts, topics
from teachingset.places import City, Country, Currency, Language, Region, Zone

SEED = 17


def _country_text(c: Country, rng: random.Random) -> str:
    sentences = [
        rng.choice(
            [
                f"The capital of {c.named} is {c.capital}.",
                f"{c.capital} is the capital of {c.named}.",
            ]
        ),
        rng.choice(
            [
                f"Its currency is the {c.currency} ({c.currency_code}).",
                f"People there pay with the {c.currency} (currency code {c.currency_code}).",
            ]
        ),
    ]
    if c.area:
        sentences.append(
            rng.choice(
                [
                    f"It covers {c.area:,} square kilometres.",
                    f"Its area is {c.area:,} square kilometres.",
                ]
            )
        )
    sentences.append(f"It has {c.population:,} inhabitants according to the GeoNames data.")
    if c.largest_city and c.largest_city.name != c.capital:
        sentences.append(f"The most populous city listed there is {c.largest_city.name}.")
    if c.language:
        sentences.append(f"The first language listed is {c.language}.")
    codes = [f"calling code is {c.phone}"] * bool(c.phone) + [f"internet domain is {c.tld}"] * bool(
        c.tld
    )
    if codes:
        sentences.append(f"Its {' and its '.join(codes)}.")
    if c.neighbours:
        shown = list(c.neighbours[:3])
        more = " among others" if len(c.neighbours) > 3 else ""
        borders = f"It borders {_listed(shown)}{more}."
        # the least asked-about fact gives way in a long entry
        if len(" ".join([*sentences, borders]).split()) <= 60:
            sentences.append(borders)
    first = f"{c.named[0].upper()}{c.named[1:]} is " + rng.choice(
        [f"a country or territory in {c.continent}.", f"part of the continent of {c.continent}."]
    )
    rng.shuffle(sentences)
    return " ".join([first, *sentences])


def _city_text(city: City, countries: dict[str, Country], rng: random.Random) -> str:
    country = countries[city.country]
    place = f"the US state of {city.state}, {country.named}" if city.state else country.named
    first = rng.choice([f"{city.name} is a city in {place}.", f"{city.name} lies in {place}."])
    if country.capital_city is city:
        first = f"{city.name} is the capital city of {place}."
    ns, ew = "N" if city.latitude >= 0 else "S", "E" if city.longitude >= 0 else "W"
    sentences = [
        rng.choice(
            [
                f"According to the GeoNames data {city.name} has {city.population:,} inhabitants.",
                f"The population of {city.name} is {city.population:,} "
                "according to the GeoNames data.",
            ]
        ),
        rng.choice(
            [
                f"Clocks there follow the time zone {city.timezone}.",
                f"The city keeps the time zone {city.timezone}.",
            ]
        ),
        rng.choice(
            [
                f"It is found at {abs(city.latitude)}° {ns} and {abs(city.longitude)}° {ew}.",
                f"Its coordinates are {abs(city.latitude)}° {ns}, {abs(city.longitude)}° {ew}.",
            ]
        ),
        f"By population it is number {city.rank} among the cities listed for {country.named}.",
    ]
    rng.shuffle(sentences)
    return " ".join([first, *sentences])


def _state_text(name: str, code: str, cities: list[City]) -> str:
    largest = "; ".join(f"{c.name} with {c.population:,} inhabitants" for c in cities[:3])
    listed = (
        f" Its largest cities in this encyclopedia are, by the GeoNames data: {largest}."
        if cities
        else ""
    )
    return (
        f"{name} is one of the states or the federal district of the United States, abbreviated"
        f" {code} in postal addresses. It is also the first-level administrative division to which"
        f" its cities belong.{listed}"
    )


def _region_text(region: Region, country: Country, rng: random.Random) -> str:
    kind = region.kind.lower()
    first = rng.choice(
        [
            f"{region.name} is a division of {country.named}, of the kind called {kind}.",
            f"{region.name} ({kind}) is one of the first-level divisions of {country.named}.",
        ]
    )
    sentences = [
        rng.choice(
            [
                f"The standard ISO 3166-2 gives it the code {region.code}.",
                f"Its code in the standard ISO 3166-2 is {region.code}.",
            ]
        ),
        rng.choice(
            [
                "It should not be taken for a city, a lake or a river that may have the same name.",
                "Cities, rivers or mountains of the same name may exist and are other entries.",
            ]
        ),
    ]
    rng.shuffle(sentences)
    return " ".join([first, *sentences])


def _currency_text(currency: Currency, rng: random.Random) -> str:
    users = len(currency.users)
    sentences = [
        rng.choice([f"The standard ISO 4217 gives it the number {currency.number}.",
                    f"Its number in the standard ISO 4217 is {currency.number}."]),
        f"By the GeoNames data {users} "
        f"{'country or territory pays' if users == 1 else 'countries or territories pay'} with it.",
        "The number is for systems that cannot show letters, "
        "and stays when the name is translated.",
    ]  # fmt: skip
    rng.shuffle(sentences)
    return " ".join(
        [f"{currency.name} is the currency with the letter code {currency.code}.", *sentences]
    )


def _language_text(language: Language, rng: random.Random) -> str:
    places = len(language.first_in)
    sentences = [
        rng.choice([f"Its three-letter code in the standard ISO 639-3 is {language.code3}.",
                    f"The standard ISO 639-3 gives it the three letters {language.code3}."]),
        f"The shorter code, of ISO 639-1, is {language.code2}.",
        f"By the GeoNames data it is the first language listed for {places} "
        f"{'country or territory' if places == 1 else 'countries or territories'}.",
        "Both codes are used by libraries and on the web.",
    ]  # fmt: skip
    rng.shuffle(sentences)
    return " ".join([f"{language.name} is a language.", *sentences])


def _zone_text(name: str, zone: Zone, rng: random.Random) -> str:
    clocks = [
        f"On 15 {month} {facts.CLOCK_YEAR} its clocks showed UTC{offset}."
        for month, offset in (("January", zone.january), ("July", zone.july))
    ]
    note = rng.choice(
        ["So it keeps one time the whole year.", "Its clocks are not changed with the seasons."]
    )
    if zone.january != zone.july:
        note = rng.choice(
            ["So its clocks are changed twice a year.", "Its clocks change with the seasons."]
        )
    return " ".join(
        [
            f"{name} is a time zone of the time zone database, named after a city in it.",
            *clocks,
            note,
        ]
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


@functools.cache
def passages() -> tuple[Passage, ...]:
    """The encyclopedia, always in the same order: what can be asked about, then the rest."""
    countries, cities = facts.atlas()
    by_code = {c.code: c for c in countries}

    def seeded(key: str) -> random.Random:
        return random.Random(f"{SEED} {key}")

    asked, asked_cities = topics.places()
    needed = (
        {c.id for c in asked_cities}
        | {c.largest_city.id for c in asked}
        | {r.id for r in topics.regions()}
    )
    needed |= {c.id for c in countries} | {facts.zones()[c.timezone].id for c in asked_cities}
    needed |= {
        entry.id for kind in (facts.currencies(), facts.languages()) for entry in kind.values()
    }
    every = [Passage(c.id, c.title, _country_text(c, seeded(c.id))) for c in countries]
    every += [Passage(c.id, c.title, _city_text(c, by_code, seeded(c.id))) for c in cities]
    every += [
        Passage(r.id, r.title, _region_text(r, by_code[r.country], seeded(r.id)))
        for r in facts.regions()
    ]
    every += [
        Passage(c.id, c.title, _currency_text(c, seeded(c.id))) for c in facts.currencies().values()
    ]
    every += [
        Passage(x.id, x.title, _language_text(x, seeded(x.id))) for x in facts.languages().values()
    ]
    every += [
        Passage(z.id, z.title, _zone_text(name, z, seeded(z.id)))
        for name, z in facts.zones().items()
    ]
    every += [
        Passage(
            f"state-{code}",
            f"{name} (US state)",
            _state_text(name, code, [c for c in cities if c.state == name]),
        )
        for code, name in facts.states().items()
    ]
    core, rest = ([p for p in every if (p.id in needed) is wanted] for wanted in (True, False))
    random.Random(SEED).shuffle(core)
    random.Random(SEED + 1).shuffle(rest)
    return tuple(core + rest)
