"""Templates of teaching-hotpot: questions whose answer needs two passages of the teaching
encyclopedia.

Owns the wordings and the draws. A bridge leads over a first passage, which names something that the
question does not, to the answer in a second one; a comparison needs a passage of each side.
"""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from teachingset import facts, topics
from teachingset.drawing import Draft
from teachingset.places import City, Country, Region
from teachingset.world import World

# Large places of the United States that GeoNames lists and that are no cities.
NOT_CITIES = {"Paradise", "Metairie", "Metairie Terrace", "Sunrise Manor", "Country Club"}

# Words of the kind or the name of regions that would read badly or are disputed.
NOT_REGIONS = {
    "city", "town", "capital", "unit", "territory", "federal", "oblast", "okrug", "kray", "kraj",
    "south", "north", "east", "west", "centre", "central", "kosovo-metohija", "krym",
}  # fmt: skip

Template = Callable[[World], Draft]


def _say(w: World, *wordings: str) -> tuple[str, int]:
    number = w.rng.randrange(len(wordings))
    return wordings[number], number


def _bridge(
    wording: tuple[str, int], *passages: str, answer: str | int, country: str = "", **more
) -> Draft:
    text, number = wording
    aliases = more.pop("aliases", (f"{answer:,}",) if isinstance(answer, int) else ())
    return Draft(
        text,
        str(answer),
        more.pop("subject", "bridge"),
        supporting_ids=passages,
        aliases=aliases,
        places=more.pop("places", (country, passages[0])),
        wording=number,
    )


def _either(wording: tuple[str, int], options: Sequence[str], first: bool, *passages: str) -> Draft:
    text, number = wording
    options = [name.removeprefix("The ") for name in options]
    return Draft(
        text,
        options[0 if first else 1],
        "comparison",
        supporting_ids=passages,
        options=tuple(options),
        places=passages[:2],
        wording=number,
    )


def _pair(w: World, draw: Callable, size: Callable, least: float = 1.15, most: float = 3.0):
    """Two draws from different countries whose sizes differ clearly, but not by so much that one of
    them alone would settle it."""
    while True:
        a, b = draw(), draw()
        if a[1].code == b[1].code:
            continue
        small, large = sorted((size(*a), size(*b)))
        if least * small <= large <= most * small:
            return a, b


def _country(w: World) -> tuple[None, Country]:
    return None, w.country()


def _region(w: World) -> tuple[str, Region, Country]:
    """A region that reads well: no city or town, no kind repeated in the name, not disputed."""
    while True:
        named, region, country = w.region()
        kind, name = region.kind.lower(), region.name.lower()
        if not NOT_REGIONS & {*kind.split(), *name.split()} and kind.split()[-1] not in name:
            return named, region, country


# Bridges


def capital_of_city(w: World) -> Draft:
    city, c = w.city()
    wording = _say(
        w,
        f"What is the capital of the country where the city of {city.name} is located?",
        f"Name the capital of the country to which the city of {city.name} belongs.",
    )
    return _bridge(wording, city.id, c.id, answer=c.capital, country=c.id)


def capital_of_region(w: World) -> Draft:
    named, region, c = _region(w)
    wording = _say(
        w,
        f"What is the capital of the country that {named} is part of?",
        f"Which city is the capital of the country that includes {named}?",
    )
    return _bridge(wording, region.id, c.id, answer=c.capital, country=c.id)


def population_of_region(w: World) -> Draft:
    named, region, c = _region(w)
    wording = _say(
        w,
        f"How many inhabitants does the country that {named} belongs to have?",
        f"What is the population of the country that {named} is part of?",
    )
    return _bridge(wording, region.id, c.id, answer=c.population, country=c.id)


def area_of_city(w: World) -> Draft:
    city, c = w.city()
    wording = _say(
        w,
        f"What is the area, in square kilometres, of the country where the city of {city.name} is"
        " located?",
        f"How many square kilometres does the country with the city of {city.name} cover?",
    )
    return _bridge(wording, city.id, c.id, answer=c.area, country=c.id)


def phone_of_city(w: World) -> Draft:
    city, c = w.city()
    wording = _say(
        w,
        f"What is the international calling code of the country where the city of {city.name} is"
        " located?",
        f"Which calling code do you dial to phone someone in the city of {city.name} from abroad?",
    )
    return _bridge(
        wording, city.id, c.id, answer=c.phone, country=c.id, aliases=(c.phone.lstrip("+"),)
    )


def money_of_city(w: World) -> Draft:
    city, c = w.city()
    wording = _say(
        w,
        "What is the three-letter code of the currency used in the country where the city of"
        f" {city.name} is located?",
        f"You pay in a shop in the city of {city.name}. What is the three-letter code of the"
        " national currency?",
    )
    return _bridge(wording, city.id, c.id, answer=c.currency_code, country=c.id)


def number_of_money(w: World) -> Draft:
    c = w.rng.choice(w.with_own_money)
    money = facts.currencies()[c.currency_code]
    wording = _say(
        w,
        f"Which number does the standard ISO 4217 give to the currency of {c.named}?",
        f"What is the ISO 4217 number of the currency that people pay with in {c.named}?",
    )
    return _bridge(wording, c.id, money.id, answer=money.number, country=c.id)


def language_of_region(w: World) -> Draft:
    named, region, c = _region(w)
    wording = _say(
        w,
        f"Which language is listed first for the country that {named} belongs to?",
        f"What is the first language listed for the country that includes {named}?",
    )
    return _bridge(wording, region.id, c.id, answer=c.language, country=c.id)


@functools.cache
def _cities_of_states() -> tuple[tuple[City, str, City], ...]:
    """Smaller cities of the United States whose name is their own, with the passage of their state
    and the state's clearly largest city."""
    countries, cities = facts.atlas()
    names = Counter(facts.fold(c.name) for c in cities)
    names += Counter(facts.fold(x.name) for x in (*facts.regions(),))
    names += Counter(map(facts.fold, (*(c.title for c in countries), *facts.states().values())))
    found = []
    for code, state in facts.states().items():
        inside = [c for c in cities if c.state == state]
        if len(inside) < 4 or inside[0].population < 1.15 * inside[1].population:
            continue
        if facts.fold(state) in facts.fold(inside[0].name):
            continue
        found += [
            (city, f"state-{code}", inside[0])
            for city in inside[3:]
            if names[facts.fold(city.name)] == 1
            and city.name.isascii()
            and city.population >= 75_000
            and city.name not in NOT_CITIES
        ]
    return tuple(found)


def largest_city_of_state(w: World) -> Draft:
    city, state, largest = w.rng.choice(_cities_of_states())
    wording = _say(
        w,
        f"What is the largest city of the US state in which the city of {city.name} is located?",
        f"Which city has the most inhabitants in the US state that the city of {city.name} is in?",
    )
    return _bridge(wording, city.id, state, answer=largest.name, country=state)


# Two passages and a sum


def total_area(w: World) -> Draft:
    (_, a), (_, b) = _pair(w, lambda: _country(w), lambda _, c: c.area, most=50.0)
    wording = _say(
        w,
        f"What is the total area of {a.named} and {b.named} in square kilometres?",
        f"How many square kilometres do {a.named} and {b.named} cover together?",
    )
    return _bridge(
        wording, a.id, b.id, answer=a.area + b.area, subject="comparison", places=(a.id, b.id)
    )


def population_gap(w: World) -> Draft:
    (a, _), (b, _) = _pair(w, w.city, lambda city, _: city.population, most=50.0)
    wording = _say(
        w,
        f"What is the difference in population between the cities of {a.name} and {b.name}?",
        f"By how many inhabitants do the cities of {a.name} and {b.name} differ?",
    )
    return _bridge(
        wording,
        a.id,
        b.id,
        answer=abs(a.population - b.population),
        subject="comparison",
        places=(a.id, b.id),
    )


# Comparisons with two possible answers


def larger_city(w: World) -> Draft:
    (a, _), (b, _) = _pair(w, w.city, lambda city, _: city.population)
    wording = _say(
        w,
        f"Which city has more inhabitants, {a.name} or {b.name}?",
        f"Which of the two cities is more populous, {a.name} or {b.name}?",
    )
    return _either(wording, (a.name, b.name), a.population > b.population, a.id, b.id)


def larger_country(w: World) -> Draft:
    (_, a), (_, b) = _pair(w, lambda: _country(w), lambda _, c: c.area)
    wording = _say(
        w,
        f"Which country has the larger area, {a.named} or {b.named}?",
        f"Which country covers more square kilometres, {a.named} or {b.named}?",
    )
    return _either(wording, (a.title, b.title), a.area > b.area, a.id, b.id)


def fuller_by_city(w: World) -> Draft:
    (a, c), (b, d) = _pair(w, w.city, lambda _, country: country.population)
    wording = _say(
        w,
        f"Which city is located in the country with more inhabitants, {a.name} or {b.name}?",
        f"Which city belongs to the more populous country, {a.name} or {b.name}?",
    )
    return _either(wording, (a.name, b.name), c.population > d.population, a.id, b.id, c.id, d.id)


def smaller_capital(w: World) -> Draft:
    (_, a), (_, b) = _pair(w, lambda: _country(w), lambda _, c: c.capital_city.population)
    wording = _say(
        w,
        f"Which country has the capital with fewer inhabitants, {a.named} or {b.named}?",
        f"Which of the two countries has the less populous capital, {a.named} or {b.named}?",
    )
    first = a.capital_city.population < b.capital_city.population
    passages = a.id, b.id, a.capital_city.id, b.capital_city.id
    return _either(wording, (a.title, b.title), first, *passages)


def further_north(w: World) -> Draft:
    while True:
        (a, c), (b, d) = w.city(), w.city()
        if c != d and 1 <= abs(a.latitude - b.latitude) <= 12:
            break
    wording = _say(
        w,
        f"Which city lies further north, {a.name} or {b.name}?",
        f"Which of the two cities has the more northerly latitude, {a.name} or {b.name}?",
    )
    return _either(wording, (a.name, b.name), a.latitude > b.latitude, a.id, b.id)


def _near(a: Country, b: Country) -> bool:
    return a.continent == b.continent and a.code != b.code


def same_country(w: World) -> Draft:
    wanted = w.rng.random() < 0.5
    while True:
        (a, c), (b, d) = w.city(), w.city()
        if a != b and (c == d if wanted else _near(c, d) and c.language == d.language):
            break
        if a != b and not wanted and _near(c, d) and w.rng.random() < 0.1:
            break
    wording = _say(
        w,
        f"Are the cities of {a.name} and {b.name} located in the same country?",
        f"Do the cities of {a.name} and {b.name} belong to the same country?",
    )
    return _either(wording, ("yes", "no"), c == d, a.id, b.id)


def same_language(w: World) -> Draft:
    wanted = w.rng.random() < 0.5
    shared = Counter(c.language for c in w.countries.values())
    among = [c for c in w.countries.values() if shared[c.language] > 1]
    while True:
        a, b = w.rng.choice(among), w.rng.choice(among)
        near = a.continent == b.continent or w.rng.random() < 0.3
        if a != b and (a.language == b.language) == wanted and near:
            break
    wording = _say(
        w,
        f"Is the first language listed for {a.named} also the first one listed for {b.named}?",
        f"Is the same language listed first for {a.named} and for {b.named}?",
    )
    return _either(wording, ("yes", "no"), wanted, a.id, b.id)


@dataclass(frozen=True)
class Spec:
    """A template and whether it is asked only in the test set."""

    template: Template
    held_out: bool = False
    is_choice: bool = False  # whether it has two possible answers

    @property
    def name(self) -> str:
        return self.template.__name__


SPECS = (
    Spec(capital_of_city),
    Spec(larger_city, is_choice=True),
    Spec(phone_of_city),
    Spec(language_of_region, held_out=True),
    Spec(total_area),
    Spec(same_country, is_choice=True),
    Spec(further_north, held_out=True, is_choice=True),
    Spec(number_of_money),
    Spec(population_of_region),
    Spec(population_gap, held_out=True),
    Spec(larger_country, is_choice=True),
    Spec(capital_of_region),
    Spec(smaller_capital, held_out=True, is_choice=True),
    Spec(area_of_city),
    Spec(fuller_by_city, is_choice=True),
    Spec(same_language, held_out=True, is_choice=True),
    Spec(money_of_city),
    Spec(largest_city_of_state, held_out=True),
)


def may_be_asked() -> set[str]:
    """The ids of all passages that a question may need."""
    countries, cities = topics.places()
    found = {c.id for c in (*countries, *cities, *topics.regions())}
    found |= {facts.currencies()[c.currency_code].id for c in countries}
    for city, state, largest in _cities_of_states():
        found |= {city.id, state, largest.id}
    return found
