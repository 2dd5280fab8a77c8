"""Templates of word problems with large numbers, after GSM-Hard: from one operation (level 1) to
five.

Owns the wording and the arithmetic of mini-gsm-hard. Knows nothing of splits, benchmarks' sizes, or
who answers.
"""

from fractions import Fraction
from random import Random

from agentlib.benchmarks.minisuite.problems import Problem, Template


def _large(rng: Random, level: int) -> int:
    return rng.randint(10 ** (level + 2), 10 ** (level + 3))


def press(rng: Random, level: int) -> Problem:
    books, pages = rng.randint(1013, 98765), rng.randint(113, 987)
    return (
        f"A press prints {books} books of {pages} pages each. How many pages does it print?",
        books * pages,
    )


def harbour(rng: Random, level: int) -> Problem:
    may, june = rng.randint(12345, 987654), rng.randint(12345, 987654)
    text = (
        f"A harbour received {may} containers in May and {june} in June. How many did it receive in"
        " the two months?"
    )
    return text, may + june


def election(rng: Random, level: int) -> Problem:
    second, lead = rng.randint(12345, 987654), rng.randint(1013, 98765)
    first = second + lead
    text = (
        f"In an election one list got {first} votes and another {second}. How many votes lie"
        " between them?"
    )
    return text, lead


def stadium(rng: Random, level: int) -> Problem:
    rows, seats, empty = rng.randint(113, 987), rng.randint(113, 987), rng.randint(1013, 9876)
    text = (
        f"A stadium has {rows} rows of {seats} seats, and {empty} seats stay empty. How many people"
        " sit in it?"
    )
    return text, rows * seats - empty


def parcels(rng: Random, level: int) -> Problem:
    vans, each, more = rng.randint(113, 987), rng.randint(113, 987), rng.randint(1013, 98765)
    text = (
        f"A post office sends out {vans} vans with {each} parcels each, and {more} parcels by"
        " train. How many parcels leave?"
    )
    return text, vans * each + more


def shares(rng: Random, level: int) -> Problem:
    heirs, each, debt = rng.randint(3, 29), rng.randint(1013, 98765), rng.randint(1013, 98765)
    return (
        (
            f"Out of {heirs * each + debt} dollars {debt} dollars of debt are paid; {heirs} heirs"
            " share the rest equally. How many dollars does each get?"
        ),
        each,
    )


def harvest(rng: Random, level: int) -> Problem:
    trees, each, price, cost = (
        _large(rng, level),
        rng.randint(41, 397),
        rng.randint(3, 19),
        _large(rng, level),
    )
    return (
        (
            f"Maria owns {trees} apple trees. Each tree gives {each} apples, and she sells every"
            f" apple for {price} cents. She pays {cost} cents for transport. How many cents does"
            " she keep?"
        ),
        trees * each * price - cost,
    )


def library(rng: Random, level: int) -> Problem:
    start, bought, weeks = _large(rng, level), rng.randint(113, 9871), rng.randint(12, 97)
    lost = rng.randint(2, 99)
    return (
        (
            f"A library holds {start} books. Every week it buys {bought} books and loses {lost}. "
            f"How many books does it hold after {weeks} weeks?"
        ),
        start + weeks * (bought - lost),
    )


def salary(rng: Random, level: int) -> Problem:
    hours, wage, people, bonus = (
        rng.randint(31, 59),
        rng.randint(17, 98),
        _large(rng, level),
        rng.randint(101, 999),
    )
    return (
        (
            f"A company employs {people} people. Each works {hours} hours a week for {wage} dollars"
            f" an hour and receives a bonus of {bonus} dollars once a year. How many dollars does"
            " the company pay them in a year of 52 weeks?"
        ),
        people * (hours * wage * 52 + bonus),
    )


def tank(rng: Random, level: int) -> Problem:
    inflow, hours = rng.randint(1013, 9973), rng.randint(24, 240)
    outflow, start = rng.randint(101, 997), _large(rng, level)
    return (
        (
            f"A reservoir contains {start} litres. For {hours} hours a pipe adds {inflow} litres an"
            f" hour while a leak takes away {outflow} litres an hour. Then half of the water is"
            " pumped out. How many litres are left?"
        ),
        Fraction(start + hours * (inflow - outflow), 2),
    )


def ages(rng: Random, level: int) -> Problem:
    first, times, more = _large(rng, level), rng.randint(3, 29), _large(rng, level)
    return (
        (
            f"Tom has {first} stamps. Ana has {times} times as many as Tom, and Ben has {more}"
            " fewer than Ana and Tom together. How many stamps do the three have in all?"
        ),
        2 * (first + first * times) - more,
    )


def loans(rng: Random, level: int) -> Problem:
    price, months = 100 * _large(rng, level), rng.randint(24, 96)
    down, extra = rng.choice([10, 15, 20, 25, 35]), rng.randint(13, 89)
    return (
        (
            f"A machine costs {price} dollars. The buyer pays {down}% at once and the rest in"
            f" {months} equal monthly payments, each with a fee of {extra} dollars added. How many"
            " dollars are paid in all?"
        ),
        price + months * extra,
    )


GSM_HARD: dict[int, list[Template]] = {
    1: [press, harbour, election],
    2: [stadium, parcels, shares],
    3: [harvest, library],
    4: [salary, ages],
    5: [tank, loans],
}
