"""What the encyclopedia knows of a country, a city, a region, a currency, a language and a
time zone.

Owns the fields of each. Knows nothing of where their values come from.
"""

from dataclasses import dataclass

_WITH_ARTICLE = {
    "Bahamas", "Comoros", "Gambia", "Ivory Coast", "Maldives", "Philippines", "Seychelles",
    "Isle of Man", "Democratic Republic of the Congo", "Republic of the Congo", "Vatican",
}  # fmt: skip


@dataclass(frozen=True)
class City:
    """A city as GeoNames lists it; `rank` is its place by population among the listed cities of
    its country."""

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
    """A country or territory; `area` is in km², 0 where GeoNames' whole number would mislead;
    codes are ISO 3166."""

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
        plural = self.title.endswith(
            ("Islands", "Republic", "Emirates", "States", "Kingdom", "Territory")
        )
        return (
            f"the {self.title}"
            if plural or self.title in _WITH_ARTICLE
            else self.title.replace("The ", "the ")
        )


@dataclass(frozen=True)
class Region:
    """A first-level division of a country in ISO 3166-2, such as Marche, a Region of Italy with
    the code IT-57."""

    id: str
    title: str
    name: str
    kind: str
    code: str
    country: str


@dataclass(frozen=True)
class Currency:
    """A currency of ISO 4217: `number` is its three digits, `users` the codes of countries that
    pay with it."""

    id: str
    title: str
    name: str
    code: str
    number: str
    users: tuple[str, ...]


@dataclass(frozen=True)
class Language:
    """A language with its codes in ISO 639-3 (three letters) and 639-1 (two); `first_in` are
    country codes."""

    id: str
    title: str
    name: str
    code3: str
    code2: str
    first_in: tuple[str, ...]


@dataclass(frozen=True)
class Zone:
    """A time zone with its distance to UTC in `facts.CLOCK_YEAR`, such as "+05:30", on the 15th
    of January and of July."""

    id: str
    title: str
    january: str
    july: str
    countries: tuple[str, ...]
