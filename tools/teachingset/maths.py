"""Templates of teaching-math: problems after MATH's subjects, from one multiplication to a search.

Owns the choice of templates with their subjects and levels, some wordings, and which draws are
degenerate. Most of the arithmetic is in `problems`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from teachingset import problems
from teachingset.drawing import Draft
from teachingset.policies import numbers_in
from teachingset.problems import Problem, Template


def pages_printed(rng: Random, level: int) -> Problem:
    books, pages = rng.randint(113, 9876), rng.randint(113, 987)
    return (
        f"A press prints {books} books of {pages} pages each. How many pages does it print in all?",
        books * pages,
    )


def equal_shares(rng: Random, level: int) -> Problem:
    heirs, each, debt = rng.randint(3, 29), rng.randint(1013, 9876), rng.randint(1013, 9876)
    return (
        f"An estate is worth {heirs * each + debt} dollars. First a debt of {debt} dollars is paid,"
        f" then {heirs} heirs share the rest equally. How many dollars does each heir get?",
        each,
    )


def discount(rng: Random, level: int) -> Problem:
    n = 20 * rng.randint(1, 4**level)
    price, off = rng.randint(3, 9 * 3**level), 5 * rng.randint(1, 9)
    return (
        f"A shop sells {n} lamps at {price} dollars each and takes {off}% off the total. How many"
        " dollars does the customer pay?",
        n * price * (100 - off) // 100,
    )


def average_of_rest(rng: Random, level: int) -> Problem:
    k, gone = rng.randint(4, 5 + 10 * level), rng.randint(1, 60 * level)
    mean = rng.randint(10, 40 * level)
    return (
        f"The average of {k} numbers is {mean}. The number {gone} is removed from them. What is the"
        " average of the remaining numbers?",
        Fraction(k * mean - gone, k - 1),
    )


def box(rng: Random, level: int) -> Problem:
    a, b, c = (rng.randint(2, 8 * 2**level) for _ in range(3))
    return (
        f"A box has edges of lengths {a}, {b} and {c}. What is the sum of its volume and its"
        " surface area, as a number without units?",
        a * b * c + 2 * (a * b + b * c + c * a),
    )


@dataclass(frozen=True)
class Spec:
    """A template, its subject, the levels that take turns, and whether only the test set has it."""

    template: Template
    subject: str
    levels: tuple[int, ...]
    held_out: bool = False

    @property
    def name(self) -> str:
        return self.template.__name__


SPECS = (
    Spec(problems.linear, "Algebra", (1, 2, 3)),
    Spec(problems.committee, "Counting & Probability", (2, 3, 4)),
    Spec(problems.heron, "Geometry", (2, 3, 4), held_out=True),
    Spec(pages_printed, "Prealgebra", (1,)),
    Spec(problems.power_residue, "Number Theory", (1, 2, 3, 4)),
    Spec(problems.vieta, "Intermediate Algebra", (3, 4, 5), held_out=True),
    Spec(problems.determinant, "Precalculus", (1, 2, 3, 4)),
    Spec(problems.series, "Algebra", (1, 2, 3, 4)),
    Spec(equal_shares, "Prealgebra", (1,), held_out=True),
    Spec(problems.polygon, "Geometry", (2, 3, 4, 5)),
    Spec(problems.recurrence, "Intermediate Algebra", (2, 3, 4, 5)),
    Spec(problems.congruences, "Number Theory", (4,), held_out=True),
    Spec(discount, "Prealgebra", (1, 2, 3)),
    Spec(problems.multiples, "Number Theory", (2, 3, 4, 5)),
    Spec(problems.system, "Algebra", (2, 3, 4), held_out=True),
    Spec(problems.paths, "Counting & Probability", (3, 4, 5)),
    Spec(problems.remainder, "Intermediate Algebra", (1, 2, 3, 4)),
    Spec(problems.complex_power, "Precalculus", (2, 3, 4), held_out=True),
    Spec(box, "Geometry", (1, 2, 3)),
    Spec(problems.fraction_sum, "Prealgebra", (1, 2, 3)),
    Spec(problems.dice, "Counting & Probability", (2, 3, 4), held_out=True),
    Spec(problems.divisors, "Number Theory", (1, 2, 3, 4)),
    Spec(problems.library, "Prealgebra", (2, 3)),
    Spec(problems.digit_sums, "Number Theory", (4,), held_out=True),
)


def draw(spec: Spec, rng: Random, place: int) -> Draft:
    """The draft at a place of a template's list: its levels take turns."""
    level = spec.levels[place % len(spec.levels)]
    text, answer = spec.template(rng, level)
    if isinstance(answer, Fraction) and answer.denominator > 1 and "fraction" not in text:
        text += " Give an exact fraction."
    return Draft(text, str(answer), spec.subject, spec.name, level=str(level))


def _differ_by_themselves(text: str) -> bool:
    """Neither of two divisors divides the other, so that both conditions count."""
    a, b = map(int, numbers_in(text)[-2:])
    return a % b != 0 and b % a != 0


FIT: dict[str, Callable[[str], bool]] = {  # what else a template's draw must have
    "multiples": _differ_by_themselves,
    "power_residue": lambda text: int(numbers_in(text)[0]) % int(numbers_in(text)[2]) > 1,
}


def is_fit(draft: Draft) -> bool:
    """Whether a draft is not degenerate: its answer is not 0, 1 or -1 and no number of the text."""
    said = {Fraction(n) for n in numbers_in(draft.text)}
    answer = abs(Fraction(draft.answer))
    return answer not in said | {0, 1} and FIT.get(draft.template, lambda text: True)(draft.text)
