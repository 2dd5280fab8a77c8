"""Templates of contest problems, after AIME and OlymMATH: answers that want a search, and several
conditions at once.

Owns the wording and the arithmetic of mini-aime and mini-olym. Knows nothing of splits, benchmarks'
sizes, or who answers.
"""

import itertools
import math
from fractions import Fraction
from random import Random

from agentlib.benchmarks.minisuite.problems import Problem, Template, nonzero, signed

# Integer answers from 0 to 999 that want a search, after AIME: a single condition to count by
# (level 3), or more (level 5)


def multiples_but(rng: Random, level: int) -> Problem:
    a, b = rng.sample(range(3, 20), 2)
    n = rng.randint(200, 3000)
    count = sum(k % a == 0 and k % b != 0 for k in range(1, n))
    return f"How many positive integers less than {n} are divisible by {a} but not by {b}?", count


def square_rests(rng: Random, level: int) -> Problem:
    n, m = rng.randint(100, 2000), rng.randint(5, 40)
    rest = rng.randint(1, 40) ** 2 % m
    count = sum(k * k % m == rest for k in range(1, n + 1))
    return (
        (
            f"For how many integers k from 1 to {n} does k^2 leave remainder {rest} when divided by"
            f" {m}?"
        ),
        count,
    )


def digit_count(rng: Random, level: int) -> Problem:
    n, digit = rng.randint(150, 3000), rng.randint(1, 9)
    count = sum(str(digit) in str(k) for k in range(1, n + 1))
    return f"How many of the integers from 1 to {n} contain the digit {digit}?", count


def first_power(rng: Random, level: int) -> Problem:
    base, bound = rng.randint(2, 9), 10 ** rng.randint(5, 60)
    found = next(k for k in itertools.count(1) if base**k > bound)
    return (
        (
            f"What is the smallest positive integer n for which {base}^n is greater than"
            f" 10^{len(str(bound)) - 1}?"
        ),
        found,
    )


def coprime_count(rng: Random, level: int) -> Problem:
    n, m = rng.randint(100, 1200), rng.randint(30, 900)
    count = sum(math.gcd(k, m) == 1 for k in range(1, n + 1))
    return (
        f"How many of the integers from 1 to {n} have no common divisor with {m} except 1?",
        count,
    )


def largest_residue(rng: Random, level: int) -> Problem:
    a, n, m = rng.randint(2, 60), rng.randint(20, 400), rng.randint(50, 999)
    best = max(a**k % m for k in range(1, n + 1))
    return (
        (
            f"What is the largest remainder that one of {a}^1, {a}^2, ..., {a}^{n} leaves when"
            f" divided by {m}?"
        ),
        best,
    )


def digit_sums(rng: Random, level: int) -> Problem:
    total, m = rng.randint(8, 28), rng.randint(2, 13)
    count = sum(sum(map(int, str(n))) == total for n in range(m, 10000, m))
    return (
        f"How many positive multiples of {m} below 10000 have digits that add up to {total}?",
        count,
    )


def pairs(rng: Random, level: int) -> Problem:
    a, b = rng.sample(range(3, 30), 2)
    total = rng.randint(300, 3000)
    count = sum((total - a * x) % b == 0 and total > a * x for x in range(1, total // a + 1))
    return f"How many pairs (x, y) of positive integers satisfy {a}x + {b}y = {total}?", count


def last_digits(rng: Random, level: int) -> Problem:
    n, power = rng.randint(30, 900), rng.randint(3, 17)
    total = sum(pow(k, power, 1000) for k in range(1, n + 1)) % 1000
    return (
        f"What is the remainder when 1^{power} + 2^{power} + ... + {n}^{power} is divided by 1000?",
        total,
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


def spaced_subsets(rng: Random, level: int) -> Problem:
    n, m = rng.randint(9, 14), rng.randint(2, 7)
    rest = rng.randrange(m)
    count = sum(
        s & (s >> 1) == 0 and sum(i + 1 for i in range(n) if s >> i & 1) % m == rest
        for s in range(1, 1 << n)
    )
    return (
        (
            f"How many nonempty subsets of {{1, 2, ..., {n}}} contain no two consecutive integers"
            f" and have a sum that leaves remainder {rest} when divided by {m}?"
        ),
        count,
    )


def self_inverse(rng: Random, level: int) -> Problem:
    n, d = rng.randint(300, 3000), rng.choice([6, 10, 12, 14, 15, 18, 20, 21, 30])
    count = sum(math.gcd(k, n) == 1 and (k * k - 1) % d == 0 for k in range(1, n + 1))
    text = (
        f"How many integers k with 1 <= k <= {n} are coprime to {n} and have k^2 - 1 divisible by"
        f" {d}?"
    )
    return text, count


AIME: dict[int, list[Template]] = {
    3: [multiples_but, square_rests, digit_count, first_power, coprime_count, largest_residue],
    5: [digit_sums, pairs, last_digits, congruences, spaced_subsets, self_inverse],
}


# Several conditions at once, exact answers, after OlymMATH


def quadratic_roots(rng: Random, level: int) -> Problem:
    p, n = rng.choice([11, 13, 17, 19, 23, 29, 31]), rng.randint(200, 2000)
    r, s = rng.randrange(p), rng.randrange(p)
    a, b = (-r - s) % p, r * s % p
    total = sum(k for k in range(1, n + 1) if (k * k + a * k + b) % p == 0 and k % 2)
    polynomial = signed([(1, "k^2"), (a, "k"), (b, "")])
    return (
        (
            f"What is the sum of all odd integers k from 1 to {n} for which {polynomial} is"
            f" divisible by {p}?"
        ),
        total,
    )


def power_sums(rng: Random, level: int) -> Problem:
    e1, e2, e3, power = nonzero(rng, 9), nonzero(rng, 15), nonzero(rng, 15), rng.randint(5, 8)
    sums = [3, e1, e1 * e1 - 2 * e2]
    while len(sums) <= power:
        sums.append(e1 * sums[-1] - e2 * sums[-2] + e3 * sums[-3])
    return (
        (
            f"Complex numbers x, y and z satisfy x + y + z = {e1}, xy + yz + zx = {e2} and xyz ="
            f" {e3}. What is x^{power} + y^{power} + z^{power}?"
        ),
        sums[power],
    )


def dice_product(rng: Random, level: int) -> Problem:
    k, m = rng.randint(3, 5), rng.choice([4, 6, 8, 9, 10, 12, 15, 16, 18, 20, 24, 30, 36])
    total = rng.randint(2, 5)
    good = sum(
        math.prod(roll) % m == 0 and sum(roll) % total == 0
        for roll in itertools.product(range(1, 7), repeat=k)
    )
    return (
        (
            f"{k} fair six-sided dice are rolled. What is the probability that the product of the"
            f" numbers is divisible by {m} and their sum is divisible by {total}?"
        ),
        Fraction(good, 6**k),
    )


def lattice(rng: Random, level: int) -> Problem:
    a, b, m = rng.randint(12, 60), rng.randint(12, 60), rng.randint(2, 5)
    count = sum(
        b * x + a * y < a * b and (x + 2 * y) % m == 0 for x in range(1, a) for y in range(1, b)
    )
    return (
        (
            "How many points with integer coordinates lie strictly inside the triangle with"
            f" vertices (0, 0), ({a}, 0) and (0, {b}) and have x + 2y divisible by {m}?"
        ),
        count,
    )


def residue_walk(rng: Random, level: int) -> Problem:
    p, q, m, n = rng.randint(1, 6), rng.randint(1, 6), rng.randint(5, 23), rng.randint(100, 900)
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    rule = signed([(p, "a_(n-1)"), (q, "a_(n-2)")])
    terms = [a % m, b % m]
    while len(terms) < n:
        terms.append((p * terms[-1] + q * terms[-2]) % m)
    wanted = rng.choice(terms)
    return (
        (
            f"Let a_1 = {a}, a_2 = {b} and a_n = {rule} for n > 2. For how many n from 1 to {n}"
            f" does a_n leave remainder {wanted} when divided by {m}?"
        ),
        terms.count(wanted),
    )


def largest_of(rng: Random, level: int) -> Problem:
    k, sides = rng.randint(3, 6), rng.randint(5, 20)
    expected = sum((Fraction(1) - Fraction(v - 1, sides) ** k) for v in range(1, sides + 1))
    text = (
        f"{k} numbers are drawn with replacement from 1 to {sides}. What is the expected value of"
        " the largest?"
    )
    return text, expected


OLYM: dict[int, list[Template]] = {
    5: [quadratic_roots, power_sums, dice_product, lattice, residue_walk, largest_of]
}
