"""Where an agent fails: wrong answers drawn fairly, read by a person, and sorted into causes.

Owns the draw, the causes, and the file of those that were read. Knows nothing of models, nor of how a case came about.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from agentlib import config, records

# The first thing that went wrong is the cause; what follows from it is not counted.
FAILURE_CAUSES = {
    "plan": "looks up or computes something else than the question asks",
    "search query": "a query that cannot find the passage, repeated or too vague",
    "reading": "the passage is there, the wrong value is taken from it",
    "arithmetic": "right values, wrong formula or count",
    "format": "code that does not run or parse, an answer in the wrong form",
    "gave up": "no answer before the steps ran out, though nothing above went wrong",
}
KEPT_FIELDS = (
    "id",
    "benchmark",
    "question",
    "gold",
    "prediction",
    "correct",
    "stopped",
    "trace",
    "model",
    "method",
    "n",
)


def sample_failures(cases: Sequence[Mapping], count: int = 20, seed: int = 0) -> list[Mapping]:
    """`count` of the agent cases that are wrong, the benchmarks taking turns, the same at every call.

    Raises ValueError if there are fewer.
    """
    wrong: dict[str, list[Mapping]] = {}
    for case in cases:
        if "trace" in case and case["correct"] is not None and not case["correct"]:
            wrong.setdefault(case["benchmark"], []).append(case)
    there = sum(map(len, wrong.values()))
    if there < count:
        raise ValueError(
            f"{there} agent cases are wrong, expected {count} to draw from; evaluate more questions"
        )
    for name, found in wrong.items():
        random.Random(f"{seed} {name}").shuffle(found)
    drawn: list[Mapping] = []
    while len(drawn) < count:
        drawn += [found.pop() for found in wrong.values() if found][: count - len(drawn)]
    return drawn


def write_failures(cfg: config.Config, sorted_cases: Sequence[tuple[Mapping, str, str]]) -> Path:
    """Publish cases that were read, each with its cause and a note in one line.

    Raises ValueError for a cause that is not one of `CAUSES`.
    """
    for case, cause, _ in sorted_cases:
        if cause not in FAILURE_CAUSES:
            raise ValueError(
                f"cause {cause!r} of case {case['id']!r} is unknown, expected one of {', '.join(FAILURE_CAUSES)}"
            )
    file = cfg.records / "failures.jsonl"
    rows = (
        {k: case[k] for k in KEPT_FIELDS} | {"cause": cause, "note": note}
        for case, cause, note in sorted_cases
    )
    records.write_lines(file, rows)
    return file


def read_failures(cfg: config.Config) -> list[dict]:
    """The published cases; none if nobody has read any at this preset."""
    file = cfg.records / "failures.jsonl"
    return list(records.read(file)) if file.exists() else []


def failure_table(found: Sequence[Mapping]) -> pd.DataFrame:
    """A row a cause, the commonest first: what it means, how many, in which benchmarks."""
    rows = []
    for cause, meaning in FAILURE_CAUSES.items():
        of = [case for case in found if case["cause"] == cause]
        where = ", ".join(sorted({case["benchmark"].removeprefix("mini-") for case in of}))
        rows.append(
            {"cause": cause, "what went wrong first": meaning, "cases": len(of), "in": where}
        )
    return (
        pd.DataFrame(rows).sort_values("cases", ascending=False, kind="stable").set_index("cause")
    )
