"""Templates of factual questions of three hops, and of comparisons, over the mini encyclopedia.

Owns the wordings of mini-musique and mini-2wiki. Facts come from `facts`. Knows nothing of splits,
nor of how many questions are asked.
"""

from agentlib.benchmarks.minisuite import facts
from agentlib.benchmarks.minisuite.hop_world import Draft, World, bridge, number, offset, which

# mini-musique: three hops


def capital_size_of_city(w: World) -> Draft:
    city, c = w.city()
    text = w.say(
        f"What is the population of the capital of the country in which the city of {city.name}"
        " lies?",
        f"How many people live in the capital of the country that the city of {city.name}"
        " belongs to?",
    )
    return bridge(text, city.id, c.id, c.capital_city.id, **number(c.capital_city.population))


def capital_clocks_of_region(w: World) -> Draft:
    named, region, c = w.region()
    text = w.say(
        f"Which time zone is kept in the capital of the country that {named} belongs to?",
        f"Which time zone do clocks follow in the capital of the country that includes {named}?",
    )
    return bridge(text, region.id, c.id, c.capital_city.id, answer=c.capital_city.timezone)


def money_number_of_city(w: World) -> Draft:
    city, c = w.city(w.with_own_money)
    money = facts.currencies()[c.currency_code]
    text = w.say(
        "What is the ISO 4217 number of the currency of the country in which the city of"
        f" {city.name} lies?",
        "Which ISO 4217 number has the currency that people pay with in the country of the city of"
        f" {city.name}?",
    )
    return bridge(text, city.id, c.id, money.id, answer=money.number)


def clocks_of_capital_in_july(w: World) -> Draft:
    c = w.rng.choice(w.with_own_clocks)
    zone = facts.zones()[c.capital_city.timezone]
    text = w.say(
        f"On 15 July {facts.CLOCK_YEAR}, what was the UTC offset of the clocks in the capital of"
        f" {c.named}?",
        f"How far from UTC were the clocks in the capital city of {c.named} on 15 July"
        f" {facts.CLOCK_YEAR}?",
    )
    return offset(text, zone.july, c.id, c.capital_city.id, zone.id)


def largest_size_of_capital(w: World) -> Draft:
    while True:
        c = w.country()
        if c.largest_city != c.capital_city:
            break
    text = w.say(
        "How many people live in the most populous city of the country whose capital is"
        f" {c.capital}?",
        f"What is the population of the largest city of the country governed from {c.capital}?",
    )
    return bridge(text, c.id, c.largest_city.id, **number(c.largest_city.population))


def gap_to_capital(w: World) -> Draft:
    city, c = w.city()
    text = (
        f"What is the difference in population between the city of {city.name} and the capital of"
        " the country it lies in?"
    )
    gap = abs(city.population - c.capital_city.population)
    return bridge(text, city.id, c.id, c.capital_city.id, **number(gap))


def total_area(w: World) -> Draft:
    (a, c), (b, d) = w.two(w.city, lambda pair: pair[1].area)
    text = (
        "What is the total area, in square kilometres, of the two countries in which the cities of"
        f" {a.name} and {b.name} lie?"
    )
    return bridge(text, a.id, b.id, c.id, d.id, **number(c.area + d.area))


# mini-2wiki: comparisons and bridge-comparisons


def larger_by_capital(w: World) -> Draft:
    a, b = w.two(w.country, lambda c: c.area)
    text = w.say(
        f"Which of the countries whose capitals are {a.capital} and {b.capital} has the larger"
        " area?",
        f"One country is governed from {a.capital}, another from {b.capital}. Which of the two is"
        " larger in area?",
    )
    return which(text, a.title, b.title, a.area > b.area, a.id, b.id)


def fuller_by_city(w: World) -> Draft:
    (a, c), (b, d) = w.two(w.city, lambda pair: pair[1].population)
    text = f"Which city lies in the country with more inhabitants, {a.name} or {b.name}?"
    return which(text, a.name, b.name, c.population > d.population, a.id, b.id, c.id, d.id)


def denser_country(w: World) -> Draft:
    a, b = w.two(w.country, lambda c: c.population / c.area)
    text = w.say(
        f"Which country has more inhabitants per square kilometre, {a.named} or {b.named}?",
        f"Where do more people live on each square kilometre, in {a.named} or in {b.named}?",
    )
    return which(text, a.title, b.title, a.population * b.area > b.population * a.area, a.id, b.id)


def same_continent(w: World) -> Draft:
    a, b = w.two(w.country, lambda c: c.area)
    wanted = w.rng.random() < 0.5
    while (a.continent == b.continent) != wanted:
        a, b = w.two(w.country, lambda c: c.area)
    text = f"Are {a.capital} and {b.capital} capitals of countries on the same continent?"
    return which(text, "yes", "no", wanted, a.id, b.id)


def smaller_capital(w: World) -> Draft:
    a, b = w.two(w.country, lambda c: c.capital_city.population)
    text = f"Which country's capital has fewer people, that of {a.named} or that of {b.named}?"
    first = a.capital_city.population < b.capital_city.population
    return which(text, a.title, b.title, first, a.id, b.id, a.capital_city.id, b.capital_city.id)


def same_country(w: World) -> Draft:
    (a, c), (b, d) = w.city(), w.city()
    wanted = w.rng.random() < 0.5
    while a == b or (c == d) != wanted:
        (a, c), (b, d) = w.city(), w.city()
    text = w.say(
        f"Are the cities of {a.name} and {b.name} located in the same country?",
        f"Do the cities of {a.name} and {b.name} belong to one country?",
    )
    return which(text, "yes", "no", wanted, a.id, b.id)
