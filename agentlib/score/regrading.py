"""Regrading: the same answers graded in other ways, to compare with our grades.

The other ways are exact match, the rules of the reference code and an LLM judge (§4.1). They show
whether a difference between two tables of accuracy comes from the grading.
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


def regrade(cases: Sequence[Mapping], judge: Judge | None = None) -> pd.DataFrame:
    """One row per finished case, with whether it is right under each grading.

    The columns are `ours`, `exact` (match), `as_published` (maths only) and `judge` (factual, if
    there is one). A grading that does not apply is missing, not wrong.
    """
    finished = [case for case in cases if not case.get("error")]
    rows = []
    for case in meter(finished, desc="regrade", unit="case", mininterval=2):
        maths = case["domain"] == "math"
        row = {name: case[name] for name in ("benchmark", "model", "method", "n", "id")}
        row |= {"questions": "maths" if maths else "factual", "ours": case["correct"]}
        row |= {"exact": case["exact_match"], "as_published": None, "judge": None}
        if maths:
            row["as_published"] = grading.correct_as_published(case["prediction"], case["gold"])
        elif judge:
            answer = (case["question"], case["prediction"], case["gold"])
            row["judge"] = judge.grade(*answer).correct
        rows.append(row)
    return pd.DataFrame(rows)


def summarise(regraded: pd.DataFrame, differing: bool = False) -> pd.DataFrame:
    """Accuracy (%) under each grading, and the number of cases, by kind of question and method.

    With `differing`, only the rows in which two gradings differ.
    """
    grouped = regraded.groupby(["questions", "model", "method", "n"], sort=False)
    shares = grouped[["ours", "exact", "as_published", "judge"]].agg(
        lambda column: 100 * column.dropna().astype(bool).mean()
    )
    shares = shares.dropna(axis=1, how="all").assign(cases=grouped.size())
    if differing:
        graded = shares.drop(columns="cases")
        shares = shares[graded.max(axis=1) > graded.min(axis=1)]
    return shares.sort_index(level=["questions", "model"], sort_remaining=False)


def select_disagreements(regraded: pd.DataFrame) -> pd.DataFrame:
    """The rows that two gradings other than exact match grade differently."""
    gradings = regraded[["ours", "as_published", "judge"]]
    differ = gradings.apply(lambda row: row.dropna().astype(bool).nunique() > 1, axis=1)
    return regraded[differ]
