"""The mini-suite: fixed, varied, split cleanly; facts stand in the passages; maths answers
recomputed independently."""

import itertools
import math
import re
from collections import Counter
from fractions import Fraction

import pytest
import sympy
from sympy.ntheory.modular import crt

from agentlib import config, prompts
from agentlib.benchmarks.minisuite import encyclopedia, suite, topics
from agentlib.benchmarks.minisuite import facts as atlas

PASSAGES = {p.id: p for p in encyclopedia.passages()}
MATH_SUBJECTS = {
    "Algebra",
    "Counting & Probability",
    "Geometry",
    "Intermediate Algebra",
    "Number Theory",
    "Prealgebra",
    "Precalculus",
}


def test_encyclopedia_is_fixed_unique_and_of_readable_length():
    passages = encyclopedia.passages()
    assert len(passages) >= 20_000
    assert len({p.id for p in passages}) == len({p.title for p in passages}) == len(passages)
    assert all(28 <= len(p.text.split()) <= 72 for p in passages)
    encyclopedia._all.cache_clear()
    for cached in (
        atlas.atlas,
        topics.places,
        atlas.regions,
        atlas.currencies,
        atlas.languages,
        atlas.zones,
    ):
        cached.cache_clear()
    assert encyclopedia.passages() == passages


def test_a_slice_keeps_what_questions_need_and_refuses_to_be_smaller():
    kept = {p.id for p in encyclopedia.passages(config.load("smoke").passages)}
    for name in (*config.FACTUAL, "mini-hotpot-train"):
        for question in suite.load(name):
            assert set(suite.support(question)) <= kept, question
    with pytest.raises(ValueError, match="at least the"):
        encyclopedia.passages(10)


@pytest.mark.parametrize("name", suite.NAMES)
def test_sets_are_large_enough_fixed_and_well_formed(name):
    questions = suite.load(name)
    assert len(questions) >= (300 if name.endswith("-train") else 100)
    assert len({q.id for q in questions}) == len({q.text for q in questions}) == len(questions)
    assert questions[:5] == suite.load(name, limit=5)
    suite._drafts.cache_clear()
    assert suite.load(name) == questions
    for q in questions:
        assert q.benchmark == name and q.id.startswith(name) and q.answer and q.text[-1] in ".?"
        assert q.split == ("train" if name.endswith("-train") else "test")
        if q.domain == "math":
            assert q.level in "12345" and Fraction(q.answer).denominator >= 1
        else:
            assert q.level == "" and q.subject in ("bridge", "comparison")


def test_prefixes_are_varied():
    assert {q.subject for q in suite.load("mini-math", limit=7)} == MATH_SUBJECTS
    assert {q.level for q in suite.load("mini-math", limit=5)} == set("12345")
    cells = {(q.subject, q.level) for q in suite.load("mini-math")}
    assert len(cells) == 35
    for name in suite.NAMES:
        openings = [re.sub(r"[-\d]+|[A-Z]\w+", "_", q.text)[:40] for q in suite.load(name, limit=5)]
        assert len(set(openings)) == 5, name


def test_train_and_test_share_nothing():
    def places(name):
        found = set()
        for question in suite.load(name):
            found |= set(suite.support(question))
        return found

    owners = {c.id: {c.code} for c in atlas.atlas()[0]} | {
        r.id: {r.country} for r in atlas.regions()
    }
    owners |= {c.id: {c.country} for c in atlas.atlas()[1]} | {
        z.id: set(z.countries) for z in atlas.zones().values()
    }
    owners |= {c.id: set(c.users) for c in atlas.currencies().values()}
    owners |= {x.id: set(x.first_in) for x in atlas.languages().values()}
    train = set().union(*(owners[i] for i in places("mini-hotpot-train")))
    for name in config.FACTUAL:
        test = set().union(*(owners[i] for i in places(name)))
        assert not train & test, name
    assert not {q.text for q in suite.load("mini-math-train")} & {
        q.text for q in suite.load("mini-math")
    }


def test_unknown_names_and_splits_are_refused():
    with pytest.raises(ValueError, match="mini-bamboogle"):
        suite.load("mini-nothing")
    with pytest.raises(ValueError, match="no split 'train'"):
        suite.load("mini-aime", split="train")
    assert suite.load("mini-math", split="train") == suite.load("mini-math-train")


@pytest.mark.parametrize("name", [*config.FACTUAL, "mini-hotpot-train"])
def test_bridge_answers_stand_in_the_supporting_passages(name):
    for q in suite.load(name):
        text = " ".join(PASSAGES[i].text for i in suite.support(q))
        if q.answer in ("yes", "no") or "total area" in q.text or "difference" in q.text:
            continue
        assert any(form in text for form in (q.answer, *q.aliases)), q
        named = [
            n for n in re.findall(r"[A-Z][\w'-]+", q.text)[1:] if n not in text and n != "Which"
        ]
        assert not named, q


def facts(text: str) -> dict[str, str]:
    """The facts of one passage, read back from its sentences."""
    patterns = {
        "population": r"(?:has|is) ([\d,]+)(?: inhabitants| according)",
        "area": r"(?:covers|area is) ([\d,]+) square",
        "country": r"(?:in|city of) ([A-Z][^.]*|the [A-Z][^.]*)\.",
    }
    found = {k: re.search(p, text) for k, p in patterns.items()}
    return {k: m[1].replace(",", "") for k, m in found.items() if m}


def test_comparisons_follow_from_the_passages_alone():
    checked = 0
    for q in [*suite.load("mini-hotpot"), *suite.load("mini-2wiki"), *suite.load("mini-musique")]:
        texts = [facts(PASSAGES[i].text) for i in suite.support(q)]
        if found := re.fullmatch(
            r"Which city has more people, (.+) or (.+)\?", q.text
        ) or re.fullmatch(
            r"Of the cities (.+) and (.+), which has the larger population\?", q.text
        ):
            first = int(texts[0]["population"]) > int(texts[1]["population"])
        elif found := re.fullmatch(
            r"Which (?:country is larger in area|of the two covers more square kilometres), "
            r"(?:the )?(.+) or (?:the )?(.+)\?",
            q.text,
        ):
            first = int(texts[0]["area"]) > int(texts[1]["area"])
        elif found := re.search(
            r"(?:kilometre, in|kilometre,) (?:the )?(.+) or (?:in )?(?:the )?(.+)\?", q.text
        ):
            density = [int(t["population"]) / int(t["area"]) for t in texts]
            first = density[0] > density[1]
        elif "total area" in q.text:
            assert int(q.answer) == sum(int(t["area"]) for t in texts[2:])
            checked += 1
            continue
        elif "difference in population" in q.text:
            assert int(q.answer) == abs(int(texts[0]["population"]) - int(texts[2]["population"]))
            checked += 1
            continue
        else:
            continue
        assert q.answer == found[1 if first else 2], q
        checked += 1
    assert checked >= 60


def test_names_in_questions_belong_to_one_entry_only():
    countries, cities = topics.places()
    kinds = ("city-", "country-", "state-")
    entries = [
        p.title.split(",")[0].removesuffix(" (US state)")
        for p in PASSAGES.values()
        if p.id.startswith(kinds)
    ]
    folded = [atlas.fold(e) for e in entries]
    for city in cities:
        assert folded.count(atlas.fold(city.name)) == 1, city
    assert len({c.capital for c in countries}) == len(countries)
    named = Counter(atlas.fold(r.name) for r in atlas.regions()) + Counter(folded)
    assert all(named[atlas.fold(r.name)] == 1 for r in topics.regions())


def test_the_teachers_worked_examples_are_about_nothing_that_is_asked():
    asked = " ".join(q.text for name in suite.NAMES for q in suite.load(name))
    named = ("Tainan", "Taiwan", "Ben Nevis", "Snowdon", "Sydney Opera House", "Utzon")
    shown = prompts.AGENT_TEACHER + str(prompts.COT_EXAMPLES)
    assert all(shown.count(name) > 2 and name not in asked for name in named)
    assert not any(question in asked for of in prompts.COT_EXAMPLES.values() for question, _ in of)


def test_clocks_are_those_of_the_time_zone_database():
    zones = atlas.zones()
    assert (zones["Asia/Kolkata"].january, zones["Asia/Kolkata"].july) == ("+05:30", "+05:30")
    assert (zones["America/New_York"].january, zones["America/New_York"].july) == (
        "-05:00",
        "-04:00",
    )
    assert (zones["Australia/Sydney"].january, zones["Australia/Sydney"].july) == (
        "+11:00",
        "+10:00",
    )


# Each check recomputes the answer from the wording alone, by another way than the template's.
def check_linear(m):
    x = sympy.Symbol("x")
    left, right = (re.sub(r"(\d)x", r"\1*x", side) for side in m.groups())
    return sympy.solve(sympy.Eq(sympy.sympify(left), sympy.sympify(right)), x)[0]


def check_vieta(m):
    polynomial = sympy.Poly(re.sub(r"(\d)x", r"\1*x", m[1]).replace("^", "**"), sympy.Symbol("x"))
    companion = sympy.Matrix(3, 3, [0, 0, 0, 1, 0, 0, 0, 1, 0])
    for i, c in enumerate(reversed(polynomial.all_coeffs()[1:])):
        companion[i, 2] = -c
    return (companion ** int(m[2])).trace()


def check_committee(m):
    size, women, men, least = map(int, m.groups())
    people = "w" * women + "m" * men
    return sum(c.count("w") >= least for c in itertools.combinations(people, size))


def check_paths(m):
    right, up, x, y = map(int, m.groups())
    ways = {}
    for i, j in itertools.product(range(right + 1), range(up + 1)):
        ways[i, j] = (
            0
            if (i, j) == (x, y)
            else ways.get((i - 1, j), 0) + ways.get((i, j - 1), 0)
            if i + j
            else 1
        )
    return ways[right, up]


def check_heron(m):
    a, b, c = map(int, m.groups())
    x = Fraction(a * a + b * b - c * c, 2 * a)  # foot of the height on side a
    return (b * b - x * x) * a * a / 4


def check_divisors(m):
    return sympy.divisor_count(int(m[1]))


def check_determinant(m):
    return sympy.Matrix(
        [[int(v) for v in row.split(",")] for row in re.findall(r"\[(.*?)\]", m[0])]
    ).det()


def check_complex(m):
    base = sympy.sympify(re.sub(r"\bi", "1*I", re.sub(r"(\d)i", r"\1*I", m[1])))
    value = sympy.expand(base ** int(m[2]))
    return sympy.re(value) + sympy.im(value)


def check_polygon(m):
    return abs(
        sympy.Polygon(*[tuple(map(int, p.split(","))) for p in re.findall(r"\((.*?)\)", m[1])]).area
    )


def check_pairs(m):
    a, b, total = map(int, m.groups())
    return sum(
        a * x + b * y == total for x in range(1, total // a + 1) for y in range(1, total // b + 1)
    )


def check_last_digits(m):
    power, n = int(m[1]), int(m[2])
    return sum(k**power for k in range(1, n + 1)) % 1000


def check_congruences(m):
    rests, moduli = [int(m[i]) for i in (1, 3, 5)], [int(m[i]) for i in (2, 4, 6)]
    return int(crt(moduli, rests)[0]) or sympy.ilcm(*moduli)


def check_power_sums(m):
    e1, e2, e3, power = map(int, m.groups())
    return (sympy.Matrix([[e1, -e2, e3], [1, 0, 0], [0, 1, 0]]) ** power).trace()


def check_lattice(m):
    a, b, k = map(int, m.groups())
    inside = (
        (x, y) for x in range(1, a) for y in range(1, b) if Fraction(x, a) + Fraction(y, b) < 1
    )
    return sum((x + 2 * y) % k == 0 for x, y in inside)


def check_largest(m):
    k, sides = int(m[1]), int(m[2])
    ways = [v**k - (v - 1) ** k for v in range(1, sides + 1)]
    return sum(Fraction(v * w, sides**k) for v, w in enumerate(ways, 1))


def check_library(m):
    start, bought, lost, weeks = map(int, m.groups())
    for _ in range(weeks):
        start += bought - lost
    return start


def check_press(m):
    return sum([int(m[2])] * int(m[1]))


def check_shares(m):
    money, debt, heirs = map(int, m.groups())
    assert (money - debt) % heirs == 0, "a whole number of dollars"
    return Fraction(money - debt, heirs)


def check_multiples_but(m):
    n, a, b = (int(x) - (k == 0) for k, x in enumerate(m.groups()))
    return n // a - n // sympy.ilcm(a, b)


def check_square_rests(m):
    n, rest, modulus = map(int, m.groups())
    roots = [r for r in range(modulus) if pow(r, 2, modulus) == rest]
    return sum(len(range(r or modulus, n + 1, modulus)) for r in roots)


def check_digit_count(m):
    n, digit = map(int, m.groups())
    return n + 1 - sum(1 for k in range(n + 1) if not set(f"{k}") & {f"{digit}"})


def check_first_power(m):
    base, exponent = map(int, m.groups())
    n = sympy.floor(exponent / sympy.log(base, 10)) - 1
    while sympy.Integer(base) ** n <= sympy.Integer(10) ** exponent:
        n += 1
    return n


def check_coprime(m):
    n, number = map(int, m.groups())
    primes = list(sympy.primefactors(number))
    chosen = (c for size in range(len(primes) + 1) for c in itertools.combinations(primes, size))
    return sum((-1) ** len(c) * (n // math.prod(c)) for c in chosen)


def check_largest_residue(m):
    base, n, modulus = int(m[1]), int(m[2]), int(m[3])
    seen, value = set(), 1
    for _ in range(n):
        value = value * base % modulus
        seen.add(value)
    return max(seen)


CHECKS = {
    r"prints (\d+) books of (\d+) pages": check_press,
    r"Out of (\d+) dollars (\d+) dollars of debt are paid; (\d+) heirs": check_shares,
    r"less than (\d+) are divisible by (\d+) but not by (\d+)": check_multiples_but,
    r"k from 1 to (\d+) does k\^2 leave remainder (\d+) when divided by (\d+)": check_square_rests,
    r"from 1 to (\d+) contain the digit (\d)": check_digit_count,
    r"n for which (\d)\^n is greater than 10\^(\d+)": check_first_power,
    r"from 1 to (\d+) have no common divisor with (\d+)": check_coprime,
    r"one of (\d+)\^1, .*\^(\d+) leaves when divided by (\d+)": check_largest_residue,
    r"Solve (.+) = (.+) for x\.": check_linear,
    r"Let r, s and t be the complex roots of (.+) = 0\. What is r\^(\d+)": check_vieta,
    r"A committee of (\d+) is chosen from (\d+) women and (\d+) men.*at least (\d+)": (
        check_committee
    ),
    r"How many paths lead from \(0, 0\) to \((\d+), (\d+)\).*through \((\d+), (\d+)\)": check_paths,
    r"A triangle has sides (\d+), (\d+) and (\d+)\.": check_heron,
    r"How many positive divisors does (\d+)": check_divisors,
    r"What is the determinant of .+\?": check_determinant,
    r"Write \((.+)\)\^(\d+) as x": check_complex,
    r"polygon with vertices (.+), in this": check_polygon,
    r"How many pairs .+ satisfy (\d+)x \+ (\d+)y = (\d+)": check_pairs,
    r"1\^(\d+) \+ 2\^\d+ \+ \.\.\. \+ (\d+)\^": check_last_digits,
    r"remainder (\d+) when divided by (\d+), (\d+) when divided by (\d+) and (\d+) when divided by (\d+)\?": (
        check_congruences
    ),
    r"x \+ y \+ z = (-?\d+), xy \+ yz \+ zx = (-?\d+) and xyz = (-?\d+)\. What is x\^(\d+)": (
        check_power_sums
    ),
    r"\(0, 0\), \((\d+), 0\) and \(0, (\d+)\) and have x \+ 2y divisible by (\d+)": check_lattice,
    r"(\d+) numbers are drawn with replacement from 1 to (\d+)": check_largest,
    r"holds (\d+) books. Every week it buys (\d+) books and loses (\d+)\. .+ after (\d+) weeks": (
        check_library
    ),
}


@pytest.mark.parametrize("pattern", CHECKS)
def test_maths_answers_by_another_way(pattern):
    asked = [q for name in (*config.MATHS, "mini-math-train") for q in suite.load(name)]
    found = [(q, m) for q in asked if (m := re.search(pattern, q.text))]
    assert len(found) >= 5
    for question, match in found[:8]:
        if CHECKS[pattern] is check_committee and int(match[2]) + int(match[3]) > 22:
            continue  # too many committees to list
        assert Fraction(question.answer) == Fraction(str(CHECKS[pattern](match))), question


def test_word_problems_take_as_many_operations_as_their_level_says():
    """Level 1 needs two of the text's numbers, and each further level at least as many."""
    numbers = {}
    for question in suite.load("mini-gsm-hard"):
        numbers.setdefault(question.level, []).append(len(re.findall(r"\d+", question.text)))
    assert (
        sorted(numbers) == list("12345") and set(numbers["1"]) == {2} and set(numbers["2"]) == {3}
    )
    assert all(min(numbers[level]) >= 3 for level in "345")
    assert {q.level for q in suite.load("mini-aime")} == {"3", "5"}


def test_aime_answers_are_whole_numbers_below_1000():
    assert all(q.answer.isdigit() and int(q.answer) <= 999 for q in suite.load("mini-aime"))
