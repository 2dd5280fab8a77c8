"""The numbers under every figure and table: records in, points with n and interval out.

Owns `Point`, the choice of which cases a number is made of, and the published values. Knows nothing of models, of runs on
disk or of how a number is shown. All accuracies here are per cent.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from agentlib import config
from agentlib.figures import statistics

# Our benchmark -> its column in the published Table 2. A mini benchmark is not the published one, only its mirror.
PUBLISHED_AS = {
    "mini-hotpot": "HotpotQA", "mini-math": "MATH500", "mini-musique": "MuSiQue", "mini-bamboogle": "Bamboogle",
    "mini-2wiki": "2WikiQA", "mini-gsm-hard": "GSM-Hard", "mini-aime": "AIME", "mini-olym": "OlymMATH",
} | {name: benchmark.published for benchmark in config.BENCHMARKS for name in (benchmark.name, benchmark.slice)}  # fmt: skip
UNNAMED_SIZES = {"Phi-4-mini-instruct": 3.8e9}  # Table 4 gives the size beside the name
KEYS = ["model", "method", "n", "benchmark", "id"]  # what names one answer of one experiment
SETTINGS = ("temperature", "seed", "setting", "value")  # what else experiments may differ in


class Point(NamedTuple):
    """A number with its 95 % interval and the questions it is made of; value NaN means it was not run.

    `unanswered` of the `n` questions have no answer (an error, or no case at all); they count as wrong.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    unanswered: int = 0


def size_of(model: str) -> float:
    """Parameters of a model, read from its name: "SmolLM2-135M-Instruct" is 135e6, "0.5B" is 0.5e9."""
    if model in UNNAMED_SIZES:
        return UNNAMED_SIZES[model]
    found = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([MB])(?![a-z0-9])", model, re.IGNORECASE)
    if not found:
        raise ValueError(
            f"model {model!r} has no size in its name, expected one like '135M' or '0.5B'; "
            "rename it or add it to estimates.UNNAMED_SIZES"
        )
    return float(found[1]) * (1e6 if found[2].upper() == "M" else 1e9)


def size_label(model: str) -> str:
    """The size of a model as the paper writes it: "135M", "0.5B"."""
    size = size_of(model)
    return f"{size / 1e9:g}B" if size >= 5e8 else f"{size / 1e6:g}M"


def published(name: str) -> pd.DataFrame:
    """The paper's values of one figure or table: `published("fig1_avg")` reads figures/paper/paper_fig1_avg.csv."""
    folder = config.in_repository("figures", "paper")
    file = folder / f"paper_{name}.csv"
    if not file.exists():
        known = ", ".join(sorted(f.stem.removeprefix("paper_") for f in folder.glob("paper_*.csv")))
        raise FileNotFoundError(f"published values {name!r} are not in {folder}, expected one of: {known or 'none'}")
    return pd.read_csv(file)


def cases_of(
    cases: pd.DataFrame, split: str = "test", one_setting: bool = True, needs: Sequence[str] = ()
) -> pd.DataFrame:
    """The cases of a split, the last one of each question, with the gaps (`with_gaps`); checked, so that a figure fails in
    its first line.

    Raises ValueError if there is none, if a column is missing (`needs` names more of them), and (with `one_setting`)
    if the same question was answered under several temperatures or seeds: one bar would then mix two experiments.
    """
    if cases.empty:
        raise ValueError("the table of cases is empty, expected one row per case; run the evaluation notebook first")
    if missing := [name for name in [*KEYS, "correct", *needs] if name not in cases]:
        raise ValueError(f"the table of cases lacks {', '.join(missing)}; make it with statistics.frame")
    found = cases[cases["split"] == split] if "split" in cases else cases
    if found.empty:
        raise ValueError(f"the table of cases has no row of split {split!r}; pass the records of that split")
    varied = [] if one_setting else [name for name in SETTINGS if name in found]
    return with_gaps(statistics.one_experiment(found, [*KEYS[:3], *varied]))


def with_gaps(cases: pd.DataFrame, asked: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """The cases, and a row with neither answer nor grade for each question that was asked and has no case.

    All arms of an experiment are asked the same questions of a benchmark: those in `asked` (ids by benchmark) and those of
    which any arm has a case. An arm without any case of a benchmark was not run on it, so nothing is added there.
    """
    about = [name for name in ("benchmark", "id", "split", "domain", "level", "subject") if name in cases]
    questions = dict(tuple(cases.drop_duplicates(["benchmark", "id"])[about].groupby("benchmark", sort=False)))
    labels = [name for name in ("model", "role", "method", "n", *SETTINGS) if name in cases]
    lacking = []
    for _, arm in cases.groupby([*labels, "benchmark"], sort=False, dropna=False):
        benchmark = arm["benchmark"].iloc[0]
        known = questions[benchmark].set_index("id")
        ids = [i for i in dict.fromkeys([*(asked or {}).get(benchmark, ()), *known.index]) if i not in set(arm["id"])]
        if ids:
            rows = known.reindex(ids).assign(**arm[labels].iloc[0], benchmark=benchmark, error="no case")
            if "split" in rows:
                rows["split"] = arm["split"].iloc[0]
            lacking.append(rows.reset_index())
    return pd.concat([cases, *lacking], ignore_index=True) if lacking else cases


def pick(cases: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The cases whose columns have these values."""
    for name, value in values.items():
        cases = cases[cases[name] == value] if name in cases else cases.iloc[:0]
    return cases


def vote_size(cases: pd.DataFrame) -> int:
    """N of self-consistent action generation: the most samples an agent was run with; 0 if none had more than one."""
    voted = cases[cases["method"].str.startswith("agent") & (cases["n"] > 1)]
    return int(voted["n"].max()) if len(voted) else 0


def by_size(models: Sequence[str]) -> list[str]:
    """Distinct model names, smallest first."""
    return sorted(dict.fromkeys(models), key=lambda model: (size_of(model), model))


def _point(row: Mapping) -> Point:
    """A row of `statistics.summarise` in per cent."""
    return Point(100 * row["accuracy"], 100 * row["low"], 100 * row["high"], int(row["asked"]), int(row["errors"]))


def accuracy(cases: pd.DataFrame) -> Point:
    """Per cent correct of all questions asked (an error is not correct), with the Wilson interval.

    Raises ValueError for cases of several experiments, such as two models (`statistics.one_experiment`).
    """
    return _point(statistics.summarise(cases.assign(all="all"), ["all"]).iloc[0]) if len(cases) else Point()


def mean_accuracy(points: Sequence[Point]) -> Point:
    """The unweighted mean of accuracies with its interval; not run if any of them is.

    The interval squares and adds the distances of the Wilson limits (MOVER; Zou and Donner 2008). Unlike a
    bootstrap or a normal approximation it does not shrink to nothing when a small benchmark scores 0 or 100 %.
    """
    if not points or any(math.isnan(point.value) for point in points):
        return Point()
    value, low, high, n, unanswered = np.array(points).T
    below, above = np.hypot.reduce(value - low), np.hypot.reduce(high - value)
    middle = value.mean()
    return Point(middle, middle - below / len(points), middle + above / len(points), int(n.sum()), int(unanswered.sum()))


def mean_count(values: pd.Series) -> Point:
    """The mean of a count a question, with Student's t interval; none where the questions show no spread."""
    values = values.dropna().astype(float)
    if values.empty:
        return Point()
    mean, n = values.mean(), len(values)
    if values.nunique() == 1:
        return Point(mean, n=n)  # a whisker of no length would claim certainty
    half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return Point(mean, max(0.0, mean - half), mean + half, n)


def accuracy_points(cases: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """A `Point` for each model, method and n (rows) and benchmark (columns), then their mean (column "mean").

    Rows go from the largest model to the smallest, as in Table 2. A mean over fewer benchmarks than the table
    has columns would compare unlike things, so it is not run.
    """
    cases = cases_of(cases, split)
    known = [*config.FACTUAL, *config.MATHS, *config.PAPER.benchmarks, *config.SLICE["benchmarks"], *config.LAPTOP.train_sets]
    order = {name: i for i, name in enumerate(known)}
    columns = sorted(cases["benchmark"].unique(), key=lambda name: (order.get(name, len(order)), name))
    rank = {name: i for i, name in enumerate([*list(config.METHODS)[:4], "agent_ftp", *list(config.METHODS)[4:]])}
    found: dict[tuple, dict[str, Point]] = {}
    for row in statistics.summarise(cases, ["model", "method", "n", "benchmark"]).to_dict("records"):
        found.setdefault((row["model"], row["method"], int(row["n"])), {})[row["benchmark"]] = _point(row)
    rows = {}
    for key in sorted(found, key=lambda key: (-size_of(key[0]), key[0], rank.get(key[1], len(rank)), key[2])):
        points = [found[key].get(name, Point()) for name in columns]
        rows[key] = [*points, mean_accuracy(points)]
    table = of_points(rows, [*columns, "mean"])
    return table.set_axis(pd.MultiIndex.from_tuples(rows, names=["model", "method", "n"]))


def of_points(rows: Mapping, columns: Sequence[str]) -> pd.DataFrame:
    """A table whose cells are points, filled cell by cell: pandas would otherwise unpack the tuples into columns."""
    table = pd.DataFrame(index=list(rows), columns=list(columns), dtype=object)
    for key, points in rows.items():
        for name, point in zip(table.columns, points, strict=True):
            table.at[key, name] = point
    return table


def benchmark_of(cases: pd.DataFrame, column: str) -> str | None:
    """The benchmark of these cases that stands for a published one ("MATH500"), or None if it was not run."""
    ran = set(cases["benchmark"])
    return next((name for name, theirs in PUBLISHED_AS.items() if theirs == column and name in ran), None)


def students_of(cases: pd.DataFrame) -> list[str]:
    """The students, smallest first; cases without a role are all students'."""
    return by_size((cases[cases["role"] != "teacher"] if "role" in cases else cases)["model"])


def one_student(cases: pd.DataFrame, model: str | None) -> str:
    """The student that a figure of one size shows: the one asked for, else the largest."""
    students = students_of(cases)
    if not students or model not in (None, *students):
        raise ValueError(f"student {model!r} has no case, expected one of: {', '.join(students) or 'none was run'}")
    return model or students[-1]
