"""Templates of factual questions of two hops over the mini encyclopedia, and the templates of every
factual benchmark.

Owns the wordings of mini-hotpot and mini-bamboogle. Facts come from `facts`. Knows nothing of
splits, nor of how many questions are asked.
"""

from agentlib.benchmarks.minisuite import facts
from agentlib.benchmarks.minisuite.hop_world import Draft, World, bridge, number, offset, which
from agentlib.benchmarks.minisuite.long_hops import (
    capital_clocks_of_region,
    capital_size_of_city,
    clocks_of_capital_in_july,
    denser_country,
    fuller_by_city,
    gap_to_capital,
    larger_by_capital,
    largest_size_of_capital,
    money_number_of_city,
    same_continent,
    same_country,
    smaller_capital,
    total_area,
)

# mini-hotpot: two hops


def currency_of_capital(w: World) -> Draft:
    c = w.country()
    if w.users_of_money[c.currency] == 1:
        text = w.say(  # a name of its own, such as Zloty; Dollar would be ambiguous
            f"What is the currency of the country whose capital is {c.capital}?",
            f"With which currency do people pay in the country that has {c.capital} as its"
            " capital?",
        )
        return bridge(
            text,
            c.id,
            answer=c.currency,
            aliases=(c.currency_code, f"{c.currency} ({c.currency_code})"),
        )
    text = w.say(
        "What is the three-letter code of the currency of the country whose capital is"
        f" {c.capital}?",
        f"Which three-letter code has the currency of the country governed from {c.capital}?",
    )
    return bridge(text, c.id, answer=c.currency_code)


def continent_of_city(w: World) -> Draft:
    city, c = w.city()
    text = w.say(
        f"Which continent is the country in which the city of {city.name} lies part of?",
        f"The city of {city.name} lies in a country of which continent?",
    )
    return bridge(text, city.id, c.id, answer=c.continent)


def capital_of_city(w: World) -> Draft:
    city, c = w.city()
    text = w.say(
        f"What is the capital of the country in which the city of {city.name} lies?",
        f"Name the capital of the country to which the city of {city.name} belongs.",
    )
    return bridge(text, city.id, c.id, answer=c.capital)


def capital_of_region(w: World) -> Draft:
    named, region, c = w.region()
    text = w.say(
        f"What is the capital of the country that {named} is a part of?",
        f"From which capital is the country governed that includes {named}?",
    )
    return bridge(text, region.id, c.id, answer=c.capital)


def size_of_region(w: World) -> Draft:
    named, region, c = w.region()
    text = w.say(
        f"How many inhabitants has the country that {named} belongs to?",
        f"What is the population of the country of which {named} is a division?",
    )
    return bridge(text, region.id, c.id, **number(c.population))


def area_of_capital(w: World) -> Draft:
    c = w.country()
    text = w.say(
        f"What is the area in square kilometres of the country whose capital is {c.capital}?",
        f"How many square kilometres does the country with the capital {c.capital} cover?",
    )
    return bridge(text, c.id, **number(c.area))


def clocks_of_city(w: World) -> Draft:
    city, c = w.city(w.with_own_clocks)
    while city.timezone != c.capital_city.timezone:
        city, c = w.city(w.with_own_clocks)
    zone = facts.zones()[city.timezone]
    text = w.say(
        f"What was the distance to UTC of the clocks in the city of {city.name} on 15 January"
        f" {facts.CLOCK_YEAR}?",
        f"On 15 January {facts.CLOCK_YEAR}, which UTC offset applied in the city of {city.name}?",
    )
    return offset(text, zone.january, city.id, zone.id)


def larger_city(w: World) -> Draft:
    (a, _), (b, _) = w.two(w.city, lambda pair: pair[0].population)
    text = w.say(
        f"Which city has more people, {a.name} or {b.name}?",
        f"Of the cities {a.name} and {b.name}, which has the larger population?",
    )
    return which(text, a.name, b.name, a.population > b.population, a.id, b.id)


def larger_country(w: World) -> Draft:
    a, b = w.two(w.country, lambda c: c.area)
    text = w.say(
        f"Which country is larger in area, {a.named} or {b.named}?",
        f"Which of the two covers more square kilometres, {a.named} or {b.named}?",
    )
    return which(text, a.title, b.title, a.area > b.area, a.id, b.id)


# mini-bamboogle: two hops, other relations and wordings


def domain_of_city(w: World) -> Draft:
    city, c = w.city()
    text = w.say(
        f"Websites from the homeland of {city.name} usually end in which country domain?",
        f"Which internet domain stands for the country where you find {city.name}?",
    )
    return bridge(text, city.id, c.id, answer=c.tld, aliases=(c.tld.lstrip("."),))


def phone_of_city(w: World) -> Draft:
    city, c = w.city()
    text = w.say(
        f"Which international calling code would you dial to reach someone in {city.name} from"
        " abroad?",
        f"A phone number of a shop in {city.name}, as seen from abroad, begins with which code?",
    )
    return bridge(text, city.id, c.id, answer=c.phone, aliases=(c.phone.lstrip("+"),))


def clocks_of_capital(w: World) -> Draft:
    c = w.country()
    city = c.capital_city
    text = w.say(
        f"Which time zone do the clocks of the capital city of {c.named} follow?",
        f"A government official in the capital city of {c.named} looks at a clock: which time zone"
        " does it show?",
    )
    return bridge(text, c.id, city.id, answer=city.timezone)


def tongue_of_capital(w: World) -> Draft:
    c = w.country()
    text = w.say(
        f"Name the language listed first for the nation governed from {c.capital}.",
        f"In which language, the first one listed, might the parliament sitting in {c.capital}"
        " debate?",
    )
    return bridge(text, c.id, answer=c.language)


def metropolis_size(w: World) -> Draft:
    c = w.country()
    text = w.say(
        f"The biggest city of {c.named} is home to how many inhabitants?",
        f"Count the people of the most populous city in {c.named}: how many are there?",
    )
    return bridge(text, c.id, c.largest_city.id, **number(c.largest_city.population))


def number_of_money(w: World) -> Draft:
    c = w.rng.choice(w.with_own_money)
    money = facts.currencies()[c.currency_code]
    text = w.say(
        f"Which number does ISO 4217 assign to the money used in {c.named}?",
        f"A bank system that cannot show letters refers to the currency of {c.named} by which"
        " number?",
    )
    return bridge(text, c.id, money.id, answer=money.number)


def letters_of_tongue(w: World) -> Draft:
    c = w.rng.choice(w.with_own_tongue)
    tongue = facts.languages()[c.language]
    text = w.say(
        f"Which three-letter ISO 639-3 code belongs to the language listed first for {c.named}?",
        f"A librarian tags a book in the first-listed language of {c.named}: which ISO 639-3 code"
        " is right?",
    )
    return bridge(text, c.id, tongue.id, answer=tongue.code3)


TEMPLATES = {
    "mini-hotpot": [
        currency_of_capital,
        larger_city,
        continent_of_city,
        capital_of_region,
        larger_country,
        capital_of_city,
        clocks_of_city,
        size_of_region,
        area_of_capital,
    ],
    "mini-bamboogle": [
        domain_of_city,
        clocks_of_capital,
        number_of_money,
        phone_of_city,
        letters_of_tongue,
        tongue_of_capital,
        metropolis_size,
    ],
    "mini-musique": [
        capital_size_of_city,
        clocks_of_capital_in_july,
        money_number_of_city,
        largest_size_of_capital,
        capital_clocks_of_region,
        gap_to_capital,
        total_area,
    ],
    "mini-2wiki": [
        larger_by_capital,
        same_country,
        smaller_capital,
        fuller_by_city,
        denser_country,
        same_continent,
    ],
}
