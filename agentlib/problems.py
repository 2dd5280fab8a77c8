"""Templates of maths problems: each draws its numbers from a seeded generator and computes its exact answer.

Owns the wording and the arithmetic of the four maths benchmarks of the mini-suite. Knows nothing of splits,
benchmarks' sizes, or who answers.

A template is a function (rng, level) -> (text, answer): the answer an int or a Fraction, the level 1 to 5, larger
meaning larger numbers; where a set lists templates by level, also more steps. Brute force is fine here; a solver may also be cleverer.
"""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from random import Random

Problem = tuple[str, int | Fraction]
Template = Callable[[Random, int], Problem]


def _signed(terms: list[tuple[int, str]]) -> str:
    """A polynomial as text: [(3, "x^2"), (-1, "x"), (4, "")] is "3x^2 - x + 4"."""
    text = ""
    for coefficient, symbol in terms:
        if coefficient == 0:
            continue
        size = "" if abs(coefficient) == 1 and symbol else str(abs(coefficient))
        sign = (" - " if coefficient < 0 else " + ") if text else ("-" if coefficient < 0 else "")
        text += f"{sign}{size}{symbol}"
    return text or "0"


def _nonzero(rng: Random, bound: int) -> int:
    return rng.choice([-1, 1]) * rng.randint(1, bound)


# Prealgebra


def discount(rng: Random, level: int) -> Problem:
    n, price, off = 20 * rng.randint(1, 4**level), rng.randint(3, 9 * 3**level), 5 * rng.randint(1, 9)
    text = f"A shop sells {n} lamps at {price} dollars each and takes {off}% off the total. What is paid, in dollars?"
    return text, n * price * (100 - off) // 100


def fraction_sum(rng: Random, level: int) -> Problem:
    terms = [Fraction(rng.randint(1, 12), rng.randint(2, 6 + 7 * level)) for _ in range(2 + level // 3)]
    return f"What is {' + '.join(map(str, terms))} as a fraction in lowest terms?", sum(terms, Fraction(0))


def removed_average(rng: Random, level: int) -> Problem:
    k, mean, gone = rng.randint(4, 5 + 10 * level), rng.randint(10, 40 * level), rng.randint(1, 60 * level)
    text = f"The average of {k} numbers is {mean}. One of them, {gone}, is removed. What is the average of the rest?"
    return text, Fraction(k * mean - gone, k - 1)


# Algebra


def linear(rng: Random, level: int) -> Problem:
    bound = 6 * 4**level
    a, c = rng.sample(range(2, bound), 2)
    b, d = _nonzero(rng, bound), _nonzero(rng, bound)
    return f"Solve {_signed([(a, 'x'), (b, '')])} = {_signed([(c, 'x'), (d, '')])} for x.", Fraction(d - b, a - c)


def system(rng: Random, level: int) -> Problem:
    bound = 3 + 8 * level
    x, y = _nonzero(rng, bound * level), _nonzero(rng, bound * level)
    a, b, c, d = (rng.randint(1, bound) for _ in range(4))
    text = (  # the determinant -(ad + bc) is never 0
        f"If {_signed([(a, 'x'), (b, 'y')])} = {a * x + b * y} and {_signed([(c, 'x'), (-d, 'y')])} = {c * x - d * y}"
        ", what is xy?"
    )
    return text, x * y


def series(rng: Random, level: int) -> Problem:
    a, d, n = rng.randint(1, 20 * level), rng.randint(2, 5 + 6 * level), rng.randint(8, 10 + 5 * 3**level)
    text = f"What is the sum of the first {n} terms of the arithmetic sequence {a}, {a + d}, {a + 2 * d}, ...?"
    return text, n * (2 * a + (n - 1) * d) // 2


# Intermediate Algebra


def vieta(rng: Random, level: int) -> Problem:
    a, b, c = (_nonzero(rng, 4 + 4 * level) for _ in range(3))
    power = 2 if level < 3 else level
    sums = [3, -a, a * a - 2 * b]
    while len(sums) <= power:
        sums.append(-a * sums[-1] - b * sums[-2] - c * sums[-3])
    polynomial = _signed([(1, "x^3"), (a, "x^2"), (b, "x"), (c, "")])
    wanted = " + ".join(f"{root}^{power}" for root in "rst")
    return f"Let r, s and t be the complex roots of {polynomial} = 0. What is {wanted}?", sums[power]


def remainder(rng: Random, level: int) -> Problem:
    degree, k = 2 + level, _nonzero(rng, 3 + 2 * level)
    coefficients = [rng.randint(1, 9)] + [rng.randint(-9 * level, 9 * level) for _ in range(degree)]
    symbols = [f"x^{p}" if p > 1 else "x" if p else "" for p in range(degree, -1, -1)]
    polynomial = _signed(list(zip(coefficients, symbols, strict=True)))
    value = sum(c * k**p for c, p in zip(coefficients, range(degree, -1, -1), strict=True))
    return f"What is the remainder when {polynomial} is divided by {_signed([(1, 'x'), (-k, '')])}?", value


def recurrence(rng: Random, level: int) -> Problem:
    p, q, a, b = rng.randint(1, 2 + level), _nonzero(rng, 2 + level), rng.randint(0, 9), rng.randint(1, 9)
    n = 4 + 2 * level
    terms = [a, b]
    while len(terms) < n:
        terms.append(p * terms[-1] + q * terms[-2])
    rule = _signed([(p, "a_(n-1)"), (q, "a_(n-2)")])
    return f"A sequence has a_1 = {a}, a_2 = {b} and a_n = {rule} for n > 2. What is a_{n}?", terms[-1]


# Number Theory


def power_residue(rng: Random, level: int) -> Problem:
    base, exponent, modulus = rng.randint(2, 20 * level), rng.randint(5, 4 * 5**level), rng.randint(7, 25 * level)
    text = f"What is the remainder when {base}^{exponent} is divided by {modulus}?"
    return text, pow(base, exponent, modulus)


def divisors(rng: Random, level: int) -> Problem:
    n = math.prod(p ** rng.randint(1, 1 + (level + 1) // 2) for p in rng.sample([2, 3, 5, 7, 11, 13], 2 + level // 3))
    n *= rng.randint(2, 10 * level)
    count = sum(1 + (d * d != n) for d in range(1, math.isqrt(n) + 1) if n % d == 0)
    return f"How many positive divisors does {n} have?", count


def multiples(rng: Random, level: int) -> Problem:
    a, b = rng.sample(range(3, 6 + 5 * level), 2)
    n = rng.randint(40, 30 * 4**level)
    total = sum(k for k in range(1, n) if k % a == 0 or k % b == 0)
    return f"What is the sum of all positive integers less than {n} that are divisible by {a} or by {b}?", total


# Counting & Probability


def committee(rng: Random, level: int) -> Problem:
    women, men = rng.randint(3, 4 + 3 * level), rng.randint(3, 4 + 3 * level)
    size = rng.randint(3, min(3 + level, women + men - 1))
    least = rng.randint(1, min(size, women))
    ways = sum(math.comb(women, w) * math.comb(men, size - w) for w in range(least, size + 1))
    return (
        f"A committee of {size} is chosen from {women} women and {men} men. "
        f"In how many ways can this be done with at least {least} women on it?"
    ), ways


def paths(rng: Random, level: int) -> Problem:
    m, n = rng.randint(3, 4 + 2 * level), rng.randint(3, 4 + 2 * level)
    x, y = rng.randint(1, m - 1), rng.randint(1, n - 1)
    through = math.comb(x + y, x) * math.comb(m + n - x - y, m - x)
    return (
        f"How many paths lead from (0, 0) to ({m}, {n}) by steps of one unit right or up "
        f"without passing through ({x}, {y})?"
    ), math.comb(m + n, m) - through


def dice(rng: Random, level: int) -> Problem:
    k = 2 + (level + 1) // 2
    total = rng.randint(k + 1, 6 * k - 1)
    sides = rng.choice([4, 6, 8]) if level > 1 else 6
    total = min(total, sides * k)
    ways = sum(sum(roll) == total for roll in itertools.product(range(1, sides + 1), repeat=k))
    text = f"{k} fair dice with faces 1 to {sides} are rolled. What is the probability that the sum is {total}?"
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
    return f"What is the area of the polygon with vertices {listed}, in this order?", Fraction(abs(doubled), 2)


def heron(rng: Random, level: int) -> Problem:
    a, b = (rng.randint(3 * level, 20 * level) for _ in range(2))
    c = rng.randint(abs(a - b) + 1, a + b - 1)
    sixteenfold = (a + b + c) * (-a + b + c) * (a - b + c) * (a + b - c)
    text = f"A triangle has sides {a}, {b} and {c}. What is the square of its area?"
    return text, Fraction(sixteenfold, 16)


def box(rng: Random, level: int) -> Problem:
    a, b, c = (rng.randint(2, 8 * 2**level) for _ in range(3))
    text = f"A box has edges {a}, {b} and {c}. What is the square of its space diagonal plus its surface area?"
    return text, a * a + b * b + c * c + 2 * (a * b + b * c + c * a)


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
    a, b, n = _nonzero(rng, 2 + level), _nonzero(rng, 2 + level), 2 + level
    x, y = 1, 0
    for _ in range(n):
        x, y = a * x - b * y, a * y + b * x
    base = _signed([(a, ""), (b, "i")])
    return f"Write ({base})^{n} as x + yi with real x and y. What is x + y?", x + y


def cosine(rng: Random, level: int) -> Problem:
    size = 2 if level < 3 else 3
    u, v = ([_nonzero(rng, 3 + 2 * level) for _ in range(size)] for _ in range(2))
    dot = sum(p * q for p, q in zip(u, v, strict=True))
    norms = sum(p * p for p in u) * sum(q * q for q in v)
    text = f"Let t be the angle between the vectors {tuple(u)} and {tuple(v)}. What is cos^2(t)?"
    return text, Fraction(dot * dot, norms)


MATH: dict[str, list[Template]] = {
    "Algebra": [linear, system, series],
    "Counting & Probability": [committee, paths, dice],
    "Geometry": [polygon, heron, box],
    "Intermediate Algebra": [vieta, remainder, recurrence],
    "Number Theory": [power_residue, divisors, multiples],
    "Prealgebra": [discount, fraction_sum, removed_average],
    "Precalculus": [determinant, complex_power, cosine],
}


# Word problems with large numbers, after GSM-Hard: from one operation (level 1) to five


def _large(rng: Random, level: int) -> int:
    return rng.randint(10 ** (level + 2), 10 ** (level + 3))


def press(rng: Random, level: int) -> Problem:
    books, pages = rng.randint(1013, 98765), rng.randint(113, 987)
    return f"A press prints {books} books of {pages} pages each. How many pages does it print?", books * pages


def harbour(rng: Random, level: int) -> Problem:
    may, june = rng.randint(12345, 987654), rng.randint(12345, 987654)
    text = f"A harbour received {may} containers in May and {june} in June. How many did it receive in the two months?"
    return text, may + june


def election(rng: Random, level: int) -> Problem:
    second, lead = rng.randint(12345, 987654), rng.randint(1013, 98765)
    first = second + lead
    text = f"In an election one list got {first} votes and another {second}. How many votes lie between them?"
    return text, lead


def stadium(rng: Random, level: int) -> Problem:
    rows, seats, empty = rng.randint(113, 987), rng.randint(113, 987), rng.randint(1013, 9876)
    text = f"A stadium has {rows} rows of {seats} seats, and {empty} seats stay empty. How many people sit in it?"
    return text, rows * seats - empty


def parcels(rng: Random, level: int) -> Problem:
    vans, each, more = rng.randint(113, 987), rng.randint(113, 987), rng.randint(1013, 98765)
    text = f"A post office sends out {vans} vans with {each} parcels each, and {more} parcels by train. How many parcels leave?"
    return text, vans * each + more


def shares(rng: Random, level: int) -> Problem:
    heirs, each, debt = rng.randint(3, 29), rng.randint(1013, 98765), rng.randint(1013, 98765)
    return (
        f"Out of {heirs * each + debt} dollars {debt} dollars of debt are paid; {heirs} heirs share the rest equally. "
        "How many dollars does each get?"
    ), each


def harvest(rng: Random, level: int) -> Problem:
    trees, each, price, cost = _large(rng, level), rng.randint(41, 397), rng.randint(3, 19), _large(rng, level)
    return (
        f"Maria owns {trees} apple trees. Each tree gives {each} apples, and she sells every apple for {price} cents. "
        f"She pays {cost} cents for transport. How many cents does she keep?"
    ), trees * each * price - cost


def library(rng: Random, level: int) -> Problem:
    start, bought, weeks = _large(rng, level), rng.randint(113, 9871), rng.randint(12, 97)
    lost = rng.randint(2, 99)
    return (
        f"A library holds {start} books. Every week it buys {bought} books and loses {lost}. "
        f"How many books does it hold after {weeks} weeks?"
    ), start + weeks * (bought - lost)


def salary(rng: Random, level: int) -> Problem:
    hours, wage, people, bonus = rng.randint(31, 59), rng.randint(17, 98), _large(rng, level), rng.randint(101, 999)
    return (
        f"A company employs {people} people. Each works {hours} hours a week for {wage} dollars an hour and receives "
        f"a bonus of {bonus} dollars once a year. How many dollars does the company pay them in a year of 52 weeks?"
    ), people * (hours * wage * 52 + bonus)


def tank(rng: Random, level: int) -> Problem:
    inflow, hours = rng.randint(1013, 9973), rng.randint(24, 240)
    outflow, start = rng.randint(101, 997), _large(rng, level)
    return (
        f"A reservoir contains {start} litres. For {hours} hours a pipe adds {inflow} litres an hour while a leak "
        f"takes away {outflow} litres an hour. Then half of the water is pumped out. How many litres are left?"
    ), Fraction(start + hours * (inflow - outflow), 2)


def ages(rng: Random, level: int) -> Problem:
    first, times, more = _large(rng, level), rng.randint(3, 29), _large(rng, level)
    return (
        f"Tom has {first} stamps. Ana has {times} times as many as Tom, and Ben has {more} fewer than Ana and Tom "
        f"together. How many stamps do the three have in all?"
    ), 2 * (first + first * times) - more


def loans(rng: Random, level: int) -> Problem:
    price, months = 100 * _large(rng, level), rng.randint(24, 96)
    down, extra = rng.choice([10, 15, 20, 25, 35]), rng.randint(13, 89)
    return (
        f"A machine costs {price} dollars. The buyer pays {down}% at once and the rest in {months} equal monthly "
        f"payments, each with a fee of {extra} dollars added. How many dollars are paid in all?"
    ), price + months * extra


GSM_HARD: dict[int, list[Template]] = {
    1: [press, harbour, election], 2: [stadium, parcels, shares], 3: [harvest, library], 4: [salary, ages], 5: [tank, loans],
}  # fmt: skip


# Integer answers from 0 to 999 that want a search, after AIME: a single condition to count by (level 3), or more (level 5)


def multiples_but(rng: Random, level: int) -> Problem:
    a, b = rng.sample(range(3, 20), 2)
    n = rng.randint(200, 3000)
    count = sum(k % a == 0 and k % b != 0 for k in range(1, n))
    return f"How many positive integers less than {n} are divisible by {a} but not by {b}?", count


def square_rests(rng: Random, level: int) -> Problem:
    n, m = rng.randint(100, 2000), rng.randint(5, 40)
    rest = rng.randint(1, 40) ** 2 % m
    count = sum(k * k % m == rest for k in range(1, n + 1))
    return f"For how many integers k from 1 to {n} does k^2 leave remainder {rest} when divided by {m}?", count


def digit_count(rng: Random, level: int) -> Problem:
    n, digit = rng.randint(150, 3000), rng.randint(1, 9)
    count = sum(str(digit) in str(k) for k in range(1, n + 1))
    return f"How many of the integers from 1 to {n} contain the digit {digit}?", count


def first_power(rng: Random, level: int) -> Problem:
    base, bound = rng.randint(2, 9), 10 ** rng.randint(5, 60)
    found = next(k for k in itertools.count(1) if base**k > bound)
    return f"What is the smallest positive integer n for which {base}^n is greater than 10^{len(str(bound)) - 1}?", found


def coprime_count(rng: Random, level: int) -> Problem:
    n, m = rng.randint(100, 1200), rng.randint(30, 900)
    count = sum(math.gcd(k, m) == 1 for k in range(1, n + 1))
    return f"How many of the integers from 1 to {n} have no common divisor with {m} except 1?", count


def largest_residue(rng: Random, level: int) -> Problem:
    a, n, m = rng.randint(2, 60), rng.randint(20, 400), rng.randint(50, 999)
    best = max(a**k % m for k in range(1, n + 1))
    return f"What is the largest remainder that one of {a}^1, {a}^2, ..., {a}^{n} leaves when divided by {m}?", best


def digit_sums(rng: Random, level: int) -> Problem:
    total, m = rng.randint(8, 28), rng.randint(2, 13)
    count = sum(sum(map(int, str(n))) == total for n in range(m, 10000, m))
    return f"How many positive multiples of {m} below 10000 have digits that add up to {total}?", count


def pairs(rng: Random, level: int) -> Problem:
    a, b = rng.sample(range(3, 30), 2)
    total = rng.randint(300, 3000)
    count = sum((total - a * x) % b == 0 and total > a * x for x in range(1, total // a + 1))
    return f"How many pairs (x, y) of positive integers satisfy {a}x + {b}y = {total}?", count


def last_digits(rng: Random, level: int) -> Problem:
    n, power = rng.randint(30, 900), rng.randint(3, 17)
    total = sum(pow(k, power, 1000) for k in range(1, n + 1)) % 1000
    return f"What is the remainder when 1^{power} + 2^{power} + ... + {n}^{power} is divided by 1000?", total


def congruences(rng: Random, level: int) -> Problem:
    while True:
        moduli = rng.sample(range(5, 14), 3)
        if math.lcm(*moduli) == math.prod(moduli) <= 999:
            break
    rests = [rng.randrange(m) for m in moduli]
    found = next(n for n in itertools.count(1) if all(n % m == r for m, r in zip(moduli, rests, strict=True)))
    listed = [f"{r} when divided by {m}" for m, r in zip(moduli, rests, strict=True)]
    text = f"What is the smallest positive integer that leaves remainder {listed[0]}, {listed[1]} and {listed[2]}?"
    return text, found


def spaced_subsets(rng: Random, level: int) -> Problem:
    n, m = rng.randint(9, 14), rng.randint(2, 7)
    rest = rng.randrange(m)
    count = sum(s & (s >> 1) == 0 and sum(i + 1 for i in range(n) if s >> i & 1) % m == rest for s in range(1, 1 << n))
    return (
        f"How many nonempty subsets of {{1, 2, ..., {n}}} contain no two consecutive integers and have a sum that "
        f"leaves remainder {rest} when divided by {m}?"
    ), count


def self_inverse(rng: Random, level: int) -> Problem:
    n, d = rng.randint(300, 3000), rng.choice([6, 10, 12, 14, 15, 18, 20, 21, 30])
    count = sum(math.gcd(k, n) == 1 and (k * k - 1) % d == 0 for k in range(1, n + 1))
    text = f"How many integers k with 1 <= k <= {n} are coprime to {n} and have k^2 - 1 divisible by {d}?"
    return text, count


AIME: dict[int, list[Template]] = {
    3: [multiples_but, square_rests, digit_count, first_power, coprime_count, largest_residue],
    5: [digit_sums, pairs, last_digits, congruences, spaced_subsets, self_inverse],
}  # fmt: skip


# Several conditions at once, exact answers, after OlymMATH


def quadratic_roots(rng: Random, level: int) -> Problem:
    p, n = rng.choice([11, 13, 17, 19, 23, 29, 31]), rng.randint(200, 2000)
    r, s = rng.randrange(p), rng.randrange(p)
    a, b = (-r - s) % p, r * s % p
    total = sum(k for k in range(1, n + 1) if (k * k + a * k + b) % p == 0 and k % 2)
    polynomial = _signed([(1, "k^2"), (a, "k"), (b, "")])
    return f"What is the sum of all odd integers k from 1 to {n} for which {polynomial} is divisible by {p}?", total


def power_sums(rng: Random, level: int) -> Problem:
    e1, e2, e3, power = _nonzero(rng, 9), _nonzero(rng, 15), _nonzero(rng, 15), rng.randint(5, 8)
    sums = [3, e1, e1 * e1 - 2 * e2]
    while len(sums) <= power:
        sums.append(e1 * sums[-1] - e2 * sums[-2] + e3 * sums[-3])
    return (
        f"Complex numbers x, y and z satisfy x + y + z = {e1}, xy + yz + zx = {e2} and xyz = {e3}. "
        f"What is x^{power} + y^{power} + z^{power}?"
    ), sums[power]


def dice_product(rng: Random, level: int) -> Problem:
    k, m = rng.randint(3, 5), rng.choice([4, 6, 8, 9, 10, 12, 15, 16, 18, 20, 24, 30, 36])
    total = rng.randint(2, 5)
    good = sum(math.prod(roll) % m == 0 and sum(roll) % total == 0 for roll in itertools.product(range(1, 7), repeat=k))
    return (
        f"{k} fair six-sided dice are rolled. What is the probability that the product of the numbers is divisible "
        f"by {m} and their sum is divisible by {total}?"
    ), Fraction(good, 6**k)


def lattice(rng: Random, level: int) -> Problem:
    a, b, m = rng.randint(12, 60), rng.randint(12, 60), rng.randint(2, 5)
    count = sum(b * x + a * y < a * b and (x + 2 * y) % m == 0 for x in range(1, a) for y in range(1, b))
    return (
        f"How many points with integer coordinates lie strictly inside the triangle with vertices (0, 0), ({a}, 0) "
        f"and (0, {b}) and have x + 2y divisible by {m}?"
    ), count


def residue_walk(rng: Random, level: int) -> Problem:
    p, q, m, n = rng.randint(1, 6), rng.randint(1, 6), rng.randint(5, 23), rng.randint(100, 900)
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    rule = _signed([(p, "a_(n-1)"), (q, "a_(n-2)")])
    terms = [a % m, b % m]
    while len(terms) < n:
        terms.append((p * terms[-1] + q * terms[-2]) % m)
    wanted = rng.choice(terms)
    return (
        f"Let a_1 = {a}, a_2 = {b} and a_n = {rule} for n > 2. For how many n from 1 to {n} does a_n leave remainder "
        f"{wanted} when divided by {m}?"
    ), terms.count(wanted)


def largest_of(rng: Random, level: int) -> Problem:
    k, sides = rng.randint(3, 6), rng.randint(5, 20)
    expected = sum((Fraction(1) - Fraction(v - 1, sides) ** k) for v in range(1, sides + 1))
    text = f"{k} numbers are drawn with replacement from 1 to {sides}. What is the expected value of the largest?"
    return text, expected


OLYM: dict[int, list[Template]] = {5: [quadratic_roots, power_sums, dice_product, lattice, residue_walk, largest_of]}
