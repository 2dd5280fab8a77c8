"""The same answers graded in other ways, beside ours: exact match, the reference code's rules, an LLM judge (§4.1).

Owns the comparison. Knows nothing of models or of how an answer came about. A difference between two tables of accuracy
can so be traced to the grading, or not.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from agentlib import config
from agentlib.progress import meter
from agentlib.score import grading
from agentlib.score.judge import KEY, Judge


def open_judge(cfg: config.Config, cache_file: Path) -> Judge | None:
    """The judge of a configuration, or None where it names no server."""
    if not cfg.judge_server:
        return None
    return Judge(cfg.judge_server, cfg.judge, cache_file, api_key=os.environ.get(KEY, ""))


def verdicts(cases: Sequence[Mapping], judge: Judge | None = None) -> pd.DataFrame:
    """A row a finished case: whether it is right by `ours`, by `exact` match, `as_published` (maths), by the `judge`
    (factual, where there is one). A grading that a case has not is missing, not wrong."""
    rows = []
    for case in meter([c for c in cases if not c.get("error")], desc="grade in other ways", unit="case", mininterval=2):
        maths = case["domain"] == "math"
        row = {name: case[name] for name in ("benchmark", "model", "method", "n", "id")}
        row["questions"] = "maths" if maths else "factual"
        row |= {"ours": case["correct"], "exact": case["exact_match"], "as_published": None, "judge": None}
        if maths:
            row["as_published"] = grading.correct_as_published(case["prediction"], case["gold"])
        elif judge:
            row["judge"] = judge.grade(case["question"], case["prediction"], case["gold"]).correct
        rows.append(row)
    return pd.DataFrame(rows)


def table(found: pd.DataFrame, differing: bool = False) -> pd.DataFrame:
    """Accuracy (%) by kind of question and method under each grading, with the number of questions; with `differing` only the
    rows in which two gradings differ."""
    grouped = found.groupby(["questions", "model", "method", "n"], sort=False)
    shares = grouped[["ours", "exact", "as_published", "judge"]].agg(lambda column: 100 * column.dropna().astype(bool).mean())
    shares = shares.dropna(axis=1, how="all").assign(cases=grouped.size())
    if differing:
        graded = shares.drop(columns="cases")
        shares = shares[graded.max(axis=1) > graded.min(axis=1)]
    return shares.sort_index(level=["questions", "model"], sort_remaining=False)


def disagreements(found: pd.DataFrame) -> pd.DataFrame:
    """The cases that two gradings see differently."""
    shown = found[["ours", "as_published", "judge"]]
    differ = shown.apply(lambda row: len({bool(v) for v in row.dropna()}) > 1, axis=1)
    return found[differ]
