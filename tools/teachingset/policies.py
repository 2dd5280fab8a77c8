"""Answers that need neither two searches nor computation; on each template each must be at chance
or below.

Owns these policies. A policy gives an answer to a question, or None where it has nothing to say.
Works on drafts of the generator and on the frozen questions alike; knows nothing of how either came
about.
"""

import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from experiment import trivial

from agentlib.retrieval import Passage, Searcher

FIELDS = {  # of a passage: how it is read from the text
    "population": r"([\d,]+) inhabitants|is ([\d,]+) according",
    "area": r"([\d,]+) square kilometres",
    "rank": r"number (\d+) among",
    "latitude": r"([\d.]+)° ([NS])",
    "longitude": r"([\d.]+)° ([EW])",
}
# What decides a template with options: the places of the two deciding passages among the
# supporting ones, the field, whether more of it wins, and a low, a typical and a high value of it:
# a guess from one side alone would ask whether it has more than that.
DECIDED_BY = {
    "larger_city": (0, 1, "population", True, (150_000, 300_000, 700_000)),
    "larger_country": (0, 1, "area", True, (90_000, 250_000, 600_000)),
    "fuller_by_city": (2, 3, "population", True, (8_000_000, 15_000_000, 33_000_000)),
    "smaller_capital": (2, 3, "population", False, (700_000, 1_300_000, 2_000_000)),
    "further_north": (0, 1, "latitude", True, (12, 30, 38)),
}
COMMON_LANGUAGES = ("Arabic", "English")
COMMON_LETTERS = 0.12  # share of pairs of letters that two alike names have in common


@functools.lru_cache(100_000)
def read_field(text: str, field: str) -> float | None:
    """A number that a passage states, None where it does not; south and west are negative."""
    found = re.search(FIELDS[field], text)
    if not found:
        return None
    if field in ("latitude", "longitude"):
        return float(found[1]) * (-1 if found[2] in "SW" else 1)
    return float(next(g for g in found.groups() if g).replace(",", ""))


def plain_title(title: str | None) -> str | None:
    """The name in a title, without what tells it from others."""
    return title and re.sub(r" \(.*|, .*", "", title).removeprefix("The ")


def numbers_in(text: str) -> list[str]:
    """The numbers of a text as written, without commas and signs."""
    return [n.replace(",", "") for n in re.findall(r"\d[\d,]*(?:\.\d+)?(?:/\d+)?", text)]


def says(what: str, text: str) -> bool:
    """Whether a text has a name or number as words of its own, with or without accents; time zones
    such as America/New_York count."""
    what, text = (plain_letters(t).replace("_", " ") for t in (what, text))
    return re.search(rf"(?<![\w,.+]){re.escape(what)}(?!\w|,\d)", text) is not None


@functools.lru_cache(100_000)
def plain_letters(text: str) -> str:
    """A text without accents."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(c for c in parts if not unicodedata.combining(c))


def names_in(text: str) -> list[str]:
    """The names of a text: its capitalised words after the first one, joined where they touch."""
    return re.findall(r"(?<=[ (])[A-Z][\w'’-]*(?: (?:of |and |the )?[A-Z][\w'’-]*)*", text)


def alike(a: str, b: str) -> float:
    """The share of pairs of neighbouring letters that two names have in common."""
    first, second = ({"".join(p) for p in itertools.pairwise(x.lower())} for x in (a, b))
    return len(first & second) / len(first | second)


class Policies:
    """All policies over a corpus. `trained` are the training questions, for the commonest
    answers."""

    def __init__(
        self, passages: Sequence[Passage], searcher: Searcher | None, trained: Sequence[Any] = ()
    ):
        self.by_id = {p.id: p for p in passages}
        self.texts = [p.text for p in passages]
        self.searcher, self.trained = searcher, trained
        self.mentions = functools.cache(lambda name: sum(name in text for text in self.texts))

    def answers(self, questions: Sequence[Any]) -> list[dict[str, str | None]]:
        """What each policy answers to each question of one template."""
        golds = Counter(q.answer for q in questions).most_common(1)[0][0]
        same = [q.answer for q in self.trained if q.template == questions[0].template]
        constants = {"commonest gold": golds, "yes": "yes", "no": "no"}
        if same:
            constants["commonest training gold"] = Counter(same).most_common(1)[0][0]
        titles: list[str | None] = [None] * len(questions)
        if questions[0].supporting_ids:
            titles = [plain_title(t) for t in trivial.first_titles(questions, self.searcher)]
        return [
            constants | {"title of the first passage": title} | self.guesses(question)
            for question, title in zip(questions, titles, strict=True)
        ]

    def guesses(self, question: Any) -> dict[str, str | None]:
        """What the policies that need no other question answer to one."""
        if not question.supporting_ids:
            return self._maths(question)
        if not question.options:
            return self._open(question)
        if set(question.options) == {"yes", "no"}:
            return self._yes_or_no(question)
        return self._options(question)

    def _maths(self, question: Any) -> dict[str, str | None]:
        numbers = numbers_in(question.text)
        return {
            "echo the first number": numbers[0],
            "echo the last number": numbers[-1],
            "echo the largest number": max(numbers, key=lambda n: eval_fraction(n)),
            "zero": "0",
            "one": "1",
            "two": "2",
        }

    def _open(self, question: Any) -> dict[str, str | None]:
        said = [*names_in(question.text), *numbers_in(question.text)]
        first = self.by_id[question.supporting_ids[0]]
        seen = names_in(" " + first.text) + numbers_in(first.text)
        counted = Counter(s for s in seen if s not in said)
        zone = re.search(r"time zone \w+/(?:\w+/)?([\w-]+)", first.text)
        return {
            "after one hop: the city of the time zone": zone and zone[1].replace("_", " "),
            "alphabetically first name": min(said),
            "alphabetically last name": max(said),
            "echo the first name": said[0],
            "echo the last name": said[-1],
            "after one hop: a name": next(
                (s for s in names_in(" " + first.text) if s not in said), None
            ),
            "after one hop: the commonest name": counted.most_common(1)[0][0],
            "after one hop: the largest number": max(
                numbers_in(first.text), key=float, default=None
            ),
        }

    def _options(self, question: Any) -> dict[str, str | None]:
        a, b = question.options

        def more(x: float | None, y: float | None) -> str | None:
            return None if x is None or y is None or x == y else a if x > y else b

        texts = [self.by_id[i].text for i in question.supporting_ids]

        found = {
            "first option": a,
            "second option": b,
            "alphabetically first": min(a, b),
            "alphabetically last": max(a, b),
            "longer name": more(len(a), len(b)),
            "mentioned more often": more(self.mentions(a), self.mentions(b)),
        }
        i, j, decides, larger_wins, marks = DECIDED_BY[question.template]
        for field in FIELDS:
            if field != decides or i > 1:
                found[f"after one hop: {field}"] = more(*(read_field(t, field) for t in texts[:2]))
        for side, own, other in ((i, a, b), (j, b, a)):
            value = read_field(texts[side], decides)
            for mark, size in zip(marks, ("low", "typical", "high"), strict=True):
                found[f"after one side: {'first' if own is a else 'second'}, {size}"] = (
                    own if (value > mark) == larger_wins else other
                )
        return found

    def _yes_or_no(self, question: Any) -> dict[str, str | None]:
        a, b = (self.by_id[i] for i in question.supporting_ids[:2])

        def says(holds: bool) -> str:
            return "yes" if holds else "no"

        found = {
            "first option": "yes",
            "second option": "no",
            "alphabetically first": "no",
            "alphabetically last": "yes",
            "the names begin alike": says(a.title[0] == b.title[0]),
            "the names look alike": says(alike(a.title, b.title) > COMMON_LETTERS),
            "the first name is longer": says(len(a.title) > len(b.title)),
            "the names are in order": says(a.title < b.title),
        }
        continents = [re.search(r"(?:in|of) ([A-Z][\w ]+)\.", p.text) for p in (a, b)]
        if question.template == "same_language":
            found["the same continent"] = says(continents[0][1] == continents[1][1])
        for number, passage in enumerate((a, b)):
            side = f"after one side: {'second' if number else 'first'}"
            if language := re.search(r"first language listed is (\w+)", passage.text):
                found[side] = says(language[1] in COMMON_LANGUAGES)
            else:
                found[side] = says(read_field(passage.text, "rank") > 3)
        return found


def eval_fraction(number: str) -> float:
    """The size of a number written as 12, 1.5 or 3/4."""
    above, _, below = number.partition("/")
    return float(above) / float(below or 1)
