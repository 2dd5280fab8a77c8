"""Why an agent fails: a fair sample of wrong answers, read one by one and sorted into causes."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from agentlib import config, records

# What went wrong first is the cause; what follows from it is not counted.
FAILURE_CAUSES = {
    "plan": "looks up or computes something else than the question asks",
    "search query": "a query that cannot find the passage, repeated or too vague",
    "reading": "the passage is there, the wrong value is taken from it",
    "arithmetic": "right values, wrong formula or count",
    "format": "code that does not run or parse, an answer in the wrong form",
    "gave up": "no answer before the steps ran out, though nothing above went wrong",
}
KEPT_FIELDS = (  # of a case that is published
    "id", "benchmark", "question", "gold", "prediction", "correct", "stopped", "trace",
    "model", "method", "n",
)  # fmt: skip


def sample_failures(cases: Sequence[Mapping], count: int = 20, seed: int = 0) -> list[Mapping]:
    """`count` wrong agent cases, evenly from the benchmarks, the same ones for each `seed`.

    Raises ValueError if there are fewer.
    """
    wrong: dict[str, list[Mapping]] = {}
    for case in cases:
        if "trace" in case and case["correct"] is not None and not case["correct"]:
            wrong.setdefault(case["benchmark"], []).append(case)
    if (total := sum(map(len, wrong.values()))) < count:
        raise ValueError(
            f"{total} agent cases are wrong, expected {count} to draw from; evaluate more questions"
        )
    for name, found in wrong.items():
        random.Random(f"{seed} {name}").shuffle(found)
    drawn: list[Mapping] = []
    while len(drawn) < count:
        drawn += [found.pop() for found in wrong.values() if found][: count - len(drawn)]
    return drawn


def write_failures(cfg: config.Config, sorted_cases: Sequence[tuple[Mapping, str, str]]) -> Path:
    """Publish cases that were read; each comes with its cause and a note of one line.

    Raises ValueError for a cause that is not one of `FAILURE_CAUSES`.
    """
    for case, cause, _ in sorted_cases:
        if cause not in FAILURE_CAUSES:
            raise ValueError(
                f"cause {cause!r} of case {case['id']!r} is unknown, "
                f"expected one of {', '.join(FAILURE_CAUSES)}"
            )
    file = cfg.records / "failures.jsonl"
    rows = (
        {k: case[k] for k in KEPT_FIELDS} | {"cause": cause, "note": note}
        for case, cause, note in sorted_cases
    )
    records.write_lines(file, rows)
    return file


def read_failures(cfg: config.Config) -> list[dict]:
    """The published cases of this preset; none if nobody has read any."""
    file = cfg.records / "failures.jsonl"
    return list(records.read(file)) if file.exists() else []


def failure_table(found: Sequence[Mapping]) -> pd.DataFrame:
    """One row per cause, the commonest first: its meaning, number of cases, and benchmarks."""
    rows = []
    for cause, meaning in FAILURE_CAUSES.items():
        chosen = [case for case in found if case["cause"] == cause]
        where = ", ".join(sorted({case["benchmark"].removesuffix("-slice") for case in chosen}))
        row = {"cause": cause, "what went wrong first": meaning, "cases": len(chosen), "in": where}
        rows.append(row)
    table = pd.DataFrame(rows).set_index("cause")
    return table.sort_values("cases", ascending=False, kind="stable")
