"""Templates of maths problems: their wording and their exact answers.

Owns the arithmetic of most of teaching-math; the rest is in `maths`, which chooses among them.

A template is a function (rng, level) -> (text, answer): its numbers are drawn from a seeded
generator and its answer, an int or a Fraction, is exact; the level is 1 to 5, larger meaning larger
numbers or more steps. Brute force is fine here; a solver may also be cleverer.
"""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from random import Random

Problem = tuple[str, int | Fraction]
Template = Callable[[Random, int], Problem]


def signed(terms: list[tuple[int, str]]) -> str:
    """A polynomial as text: [(3, "x^2"), (-1, "x"), (4, "")] is "3x^2 - x + 4"."""
    text = ""
    for coefficient, symbol in terms:
        if coefficient == 0:
            continue
        size = "" if abs(coefficient) == 1 and symbol else str(abs(coefficient))
        sign = (" - " if coefficient < 0 else " + ") if text else ("-" if coefficient < 0 else "")
        text += f"{sign}{size}{symbol}"
    return text or "0"


def nonzero(rng: Random, bound: int) -> int:
    return rng.choice([-1, 1]) * rng.randint(1, bound)


# Prealgebra


def fraction_sum(rng: Random, level: int) -> Problem:
    terms = [
        Fraction(rng.randint(1, 12), rng.randint(2, 6 + 7 * level)) for _ in range(2 + level // 3)
    ]
    return f"What is {' + '.join(map(str, terms))} as a fraction in lowest terms?", sum(
        terms, Fraction(0)
    )


def library(rng: Random, level: int) -> Problem:
    start = rng.randint(10 ** (level + 2), 10 ** (level + 3))
    bought, weeks, lost = rng.randint(113, 9871), rng.randint(12, 97), rng.randint(2, 99)
    return (
        (
            f"A library holds {start} books. Every week it buys {bought} books and loses {lost}. "
            f"How many books does it hold after {weeks} weeks?"
        ),
        start + weeks * (bought - lost),
    )


# Algebra


def linear(rng: Random, level: int) -> Problem:
    bound = 6 * 4**level
    a, c = rng.sample(range(2, bound), 2)
    b, d = nonzero(rng, bound), nonzero(rng, bound)
    return f"Solve {signed([(a, 'x'), (b, '')])} = {signed([(c, 'x'), (d, '')])} for x.", Fraction(
        d - b, a - c
    )


def system(rng: Random, level: int) -> Problem:
    bound = 3 + 8 * level
    x, y = nonzero(rng, bound * level), nonzero(rng, bound * level)
    a, b, c, d = (rng.randint(1, bound) for _ in range(4))
    text = (  # the determinant -(ad + bc) is never 0
        f"If {signed([(a, 'x'), (b, 'y')])} = {a * x + b * y} and {signed([(c, 'x'), (-d, 'y')])} ="
        f" {c * x - d * y}, what is xy?"
    )
    return text, x * y


def series(rng: Random, level: int) -> Problem:
    a, d, n = (
        rng.randint(1, 20 * level),
        rng.randint(2, 5 + 6 * level),
        rng.randint(8, 10 + 5 * 3**level),
    )
    text = (
        f"What is the sum of the first {n} terms of the arithmetic sequence {a}, {a + d},"
        f" {a + 2 * d}, ...?"
    )
    return text, n * (2 * a + (n - 1) * d) // 2


# Intermediate Algebra


def vieta(rng: Random, level: int) -> Problem:
    a, b, c = (nonzero(rng, 4 + 4 * level) for _ in range(3))
    power = 2 if level < 3 else level
    sums = [3, -a, a * a - 2 * b]
    while len(sums) <= power:
        sums.append(-a * sums[-1] - b * sums[-2] - c * sums[-3])
    polynomial = signed([(1, "x^3"), (a, "x^2"), (b, "x"), (c, "")])
    wanted = " + ".join(f"{root}^{power}" for root in "rst")
    return (
        f"Let r, s and t be the complex roots of {polynomial} = 0. What is {wanted}?",
        sums[power],
    )


def remainder(rng: Random, level: int) -> Problem:
    degree, k = 2 + level, nonzero(rng, 3 + 2 * level)
    coefficients = [rng.randint(1, 9)] + [rng.randint(-9 * level, 9 * level) for _ in range(degree)]
    symbols = [f"x^{p}" if p > 1 else "x" if p else "" for p in range(degree, -1, -1)]
    polynomial = signed(list(zip(coefficients, symbols, strict=True)))
    value = sum(c * k**p for c, p in zip(coefficients, range(degree, -1, -1), strict=True))
    return (
        f"What is the remainder when {polynomial} is divided by {signed([(1, 'x'), (-k, '')])}?",
        value,
    )


def recurrence(rng: Random, level: int) -> Problem:
    p, q, a, b = (
        rng.randint(1, 2 + level),
        nonzero(rng, 2 + level),
        rng.randint(0, 9),
        rng.randint(1, 9),
    )
    n = 4 + 2 * level
    terms = [a, b]
    while len(terms) < n:
        terms.append(p * terms[-1] + q * terms[-2])
    rule = signed([(p, "a_(n-1)"), (q, "a_(n-2)")])
    return (
        f"A sequence has a_1 = {a}, a_2 = {b} and a_n = {rule} for n > 2. What is a_{n}?",
        terms[-1],
    )


# Number Theory


def power_residue(rng: Random, level: int) -> Problem:
    base, exponent, modulus = (
        rng.randint(2, 20 * level),
        rng.randint(5, 4 * 5**level),
        rng.randint(7, 25 * level),
    )
    text = f"What is the remainder when {base}^{exponent} is divided by {modulus}?"
    return text, pow(base, exponent, modulus)


def divisors(rng: Random, level: int) -> Problem:
    n = math.prod(
        p ** rng.randint(1, 1 + (level + 1) // 2)
        for p in rng.sample([2, 3, 5, 7, 11, 13], 2 + level // 3)
    )
    n *= rng.randint(2, 10 * level)
    count = sum(1 + (d * d != n) for d in range(1, math.isqrt(n) + 1) if n % d == 0)
    return f"How many positive divisors does {n} have?", count


def multiples(rng: Random, level: int) -> Problem:
    a, b = rng.sample(range(3, 6 + 5 * level), 2)
    n = rng.randint(40, 30 * 4**level)
    total = sum(k for k in range(1, n) if k % a == 0 or k % b == 0)
    return (
        (
            f"What is the sum of all positive integers less than {n} that are divisible by {a} or"
            f" by {b}?"
        ),
        total,
    )


def digit_sums(rng: Random, level: int) -> Problem:
    total, m = rng.randint(8, 28), rng.randint(2, 13)
    count = sum(sum(map(int, str(n))) == total for n in range(m, 10000, m))
    return (
        f"How many positive multiples of {m} below 10000 have digits that add up to {total}?",
        count,
    )


def congruences(rng: Random, level: int) -> Problem:
    while True:
        moduli = rng.sample(range(5, 14), 3)
        if math.lcm(*moduli) == math.prod(moduli) <= 999:
            break
    rests = [rng.randrange(m) for m in moduli]
    found = next(
        n for n in itertools.count(1) if all(n % m == r for m, r in zip(moduli, rests, strict=True))
    )
    listed = [f"{r} when divided by {m}" for m, r in zip(moduli, rests, strict=True)]
    text = (
        f"What is the smallest positive integer that leaves remainder {listed[0]}, {listed[1]} and"
        f" {listed[2]}?"
    )
    return text, found


# Counting & Probability


def committee(rng: Random, level: int) -> Problem:
    women, men = rng.randint(3, 4 + 3 * level), rng.randint(3, 4 + 3 * level)
    size = rng.randint(3, min(3 + level, women + men - 1))
    least = rng.randint(1, min(size, women))
    ways = sum(math.comb(women, w) * math.comb(men, size - w) for w in range(least, size + 1))
    return (
        (
            f"A committee of {size} is chosen from {women} women and {men} men. "
            f"In how many ways can this be done with at least {least} women on it?"
        ),
        ways,
    )


def paths(rng: Random, level: int) -> Problem:
    m, n = rng.randint(3, 4 + 2 * level), rng.randint(3, 4 + 2 * level)
    x, y = rng.randint(1, m - 1), rng.randint(1, n - 1)
    through = math.comb(x + y, x) * math.comb(m + n - x - y, m - x)
    return (
        (
            f"How many paths lead from (0, 0) to ({m}, {n}) by steps of one unit right or up "
            f"without passing through ({x}, {y})?"
        ),
        math.comb(m + n, m) - through,
    )


def dice(rng: Random, level: int) -> Problem:
    k = 2 + (level + 1) // 2
    total = rng.randint(k + 1, 6 * k - 1)
    sides = rng.choice([4, 6, 8]) if level > 1 else 6
    total = min(total, sides * k)
    ways = sum(sum(roll) == total for roll in itertools.product(range(1, sides + 1), repeat=k))
    text = (
        f"{k} fair dice with faces 1 to {sides} are rolled. What is the probability that the sum is"
        f" {total}?"
    )
    return text, Fraction(ways, sides**k)


# Geometry


def polygon(rng: Random, level: int) -> Problem:
    corners, bound = 2 + max(level // 2, 1), 4 * 3**level
    # One corner to each direction around the origin, so that the sides never cross.
    directions = [(1, 0), (1, 2), (-1, 1), (-2, -1), (1, -2)][: corners + 1]
    points = []
    for dx, dy in directions:
        stretch = rng.randint(1, bound)
        points.append((dx * stretch, dy * stretch))
    ring = zip(points, points[1:] + points[:1], strict=True)
    doubled = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in ring)
    listed = ", ".join(map(str, points))
    return f"What is the area of the polygon with vertices {listed}, in this order?", Fraction(
        abs(doubled), 2
    )


def heron(rng: Random, level: int) -> Problem:
    a, b = (rng.randint(3 * level, 20 * level) for _ in range(2))
    c = rng.randint(abs(a - b) + 1, a + b - 1)
    sixteenfold = (a + b + c) * (-a + b + c) * (a - b + c) * (a + b - c)
    text = f"A triangle has sides {a}, {b} and {c}. What is the square of its area?"
    return text, Fraction(sixteenfold, 16)


# Precalculus


def determinant(rng: Random, level: int) -> Problem:
    size = 2 if level < 3 else 3
    m = [[rng.randint(-4 * level, 4 * level) for _ in range(size)] for _ in range(size)]
    value = 0
    for order in itertools.permutations(range(size)):
        swaps = sum(order[i] > order[j] for i, j in itertools.combinations(range(size), 2))
        value += (-1) ** swaps * math.prod(m[i][j] for i, j in enumerate(order))
    return f"What is the determinant of the matrix with rows {', '.join(map(str, m))}?", value


def complex_power(rng: Random, level: int) -> Problem:
    a, b, n = nonzero(rng, 2 + level), nonzero(rng, 2 + level), 2 + level
    x, y = 1, 0
    for _ in range(n):
        x, y = a * x - b * y, a * y + b * x
    base = signed([(a, ""), (b, "i")])
    return f"Write ({base})^{n} as x + yi with real x and y. What is x + y?", x + y
