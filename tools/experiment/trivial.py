"""Answers without thought, which a method has to beat: a constant, an option of the question, a
title.

Owns these policies and the table of what they get. Knows nothing of models or of how answers are
graded.
"""

import re
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from agentlib import score
from agentlib.figures import statistics
from agentlib.retrieval import Searcher
from agentlib.tasks import Question

# Words that a name may hold in the middle, written small.
_INSIDE = "of|the|and|de|la|le|du|von|van|der|den|des|da|di|del|in|on|at|for|to|a|an|with"
# at the start of a question, no part of a name
_VERB = r"(?:Is|Are|Was|Were|Do|Does|Did|Has|Have|Had|Can|Between|Of) "
_WORD = r"[^\s,?()]*[A-Z0-9][^\s,?()]*"
_NAME = rf"{_WORD}(?: (?:(?:{_INSIDE}) )*{_WORD})*(?: \([^)]*\))?"


def yes_or_no(questions: Sequence[Question]) -> str:
    """The commoner of "yes" and "no" among the gold answers, "no" where there are as many of
    each."""
    counted = Counter(q.answer.lower() for q in questions)
    return "yes" if counted["yes"] > counted["no"] else "no"


def first_option(question: Question) -> str | None:
    """The first of two names that a question offers ("…, A or B?", "Did A or B …"), None where
    it offers none."""
    before, found, _ = re.sub(f"^{_VERB}", "", question.text).partition(" or ")
    if not found:
        return None
    last = re.split(r"[,:;] ", before)[-1] if re.search(r"[,:;] ", before) else before
    names = re.findall(_NAME, last)
    return names[-1] if names else None


def first_titles(questions: Sequence[Question], searcher: Searcher) -> list[str | None]:
    """The title of the first passage found for each question itself, without the bracket that
    tells it from others."""
    found = searcher.search([q.text for q in questions], 1)
    return [re.sub(r" \([^)]*\)$", "", hits[0].passage.title) if hits else None for hits in found]


def answers(
    questions: Sequence[Question], searcher: Searcher, trained: Sequence[Question]
) -> dict[str, list[str | None]]:
    """What each policy answers to each question; the constant is the commoner one in the
    training questions."""
    constant = yes_or_no(trained)
    return {
        f'always "{constant}"': [constant] * len(questions),
        "the question's first option": [first_option(q) for q in questions],
        "title of the first passage": first_titles(questions, searcher),
    }


def table(
    sets: Sequence[Sequence[Question]], searcher: Searcher, trained: Sequence[Question]
) -> pd.DataFrame:
    """A row for each set and policy: n, how often it answers, how often it is right, with a 95 %
    Wilson interval in per cent."""
    rows = []
    for questions in sets:
        for policy, given in answers(questions, searcher, trained).items():
            right = sum(
                score.grade(a, q.answer, q.domain, q.aliases).correct
                for a, q in zip(given, questions, strict=True)
                if a
            )
            low, high = statistics.wilson_interval(right, len(questions))
            rows.append(
                {
                    "benchmark": questions[0].benchmark,
                    "policy": policy,
                    "n": len(questions),
                    "answered": sum(a is not None for a in given),
                    "right": right,
                    "per cent": 100 * right / len(questions),
                    "low": 100 * low,
                    "high": 100 * high,
                }
            )
    return pd.DataFrame(rows)
