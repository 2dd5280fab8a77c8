"""The numbers under every figure and table: records in, estimates with n and interval out.

Accuracies are per cent; intervals are 95 % intervals. Also here: which cases a number is computed
from, and the paper's published values.
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

# Our benchmark -> its column in the published Table 2.
PUBLISHED_AS = {b.name: b.published for b in config.BENCHMARKS}
PUBLISHED_AS |= {b.slice: b.published for b in config.BENCHMARKS}
# The teaching set has its own panels in figures, above published ones of the same kind of question;
# it is in no table with the published numbers.
PANELS_OF = {"teaching-hotpot": "HotpotQA", "teaching-math": "MATH500"}
# Rows of a table, top to bottom: the students' methods, and the teacher's agent with a prefix.
METHOD_ORDER = (
    "cot",
    "cot_distill",
    "cot_distill_rag",
    "agent",
    "agent_ftp",
    "agent_distill",
    "agent_distill_ftp",
)
BENCHMARK_ORDER = (
    *config.PAPER.benchmarks,
    *config.LAPTOP.benchmarks,
    *config.TEACHING["benchmarks"],
    *config.TEACHING["train_sets"],
)
KNOWN_SIZES = {"Phi-4-mini-instruct": 3.8e9}  # Table 4 gives the size beside the name
# which identify one answer of one experiment; of several trainings, each has its own
KEYS = ["model", "method", "n", "benchmark", "id"]
SETTINGS = ("temperature", "seed", "setting", "value")  # what else experiments may differ in


class Estimate(NamedTuple):
    """A number with its 95 % interval, from `n` questions; the value NaN means "not run".

    `unanswered` of the `n` questions have no answer (an error, or no case); they count as wrong.
    `trainings` are the values of several trainings, whose mean `value` is; `n` then counts each
    question once a training.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    unanswered: int = 0
    trainings: tuple[float, ...] = ()


def parameter_count(model: str) -> float:
    """Parameters of a model, read from its name: "SmolLM2-135M-Instruct" has 135e6, "0.5B" 0.5e9.

    Raises ValueError for a name without a size.
    """
    if model in KNOWN_SIZES:
        return KNOWN_SIZES[model]
    found = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([MB])(?![a-z0-9])", model, re.IGNORECASE)
    if not found:
        raise ValueError(
            f"model {model!r} has no size in its name, expected one like '135M' or '0.5B'; "
            "rename it or add it to estimates.KNOWN_SIZES"
        )
    return float(found[1]) * (1e6 if found[2].upper() == "M" else 1e9)


def size_label(model: str) -> str:
    """The size of a model as the paper writes it: "135M", "0.5B"."""
    size = parameter_count(model)
    return f"{size / 1e9:g}B" if size >= 5e8 else f"{size / 1e6:g}M"


def read_published(name: str) -> pd.DataFrame:
    """The paper's values of one figure or table: "fig1_avg" is figures/paper/paper_fig1_avg.csv.

    Raises FileNotFoundError, with the names that exist.
    """
    folder = config.in_repository("figures", "paper")
    file = folder / f"paper_{name}.csv"
    if not file.exists():
        known = ", ".join(sorted(f.stem.removeprefix("paper_") for f in folder.glob("paper_*.csv")))
        raise FileNotFoundError(
            f"published values {name!r} are not in {folder}, expected one of: {known or 'none'}"
        )
    return pd.read_csv(file)


def prepare_cases(
    cases: pd.DataFrame, split: str = "test", one_setting: bool = True, needs: Sequence[str] = ()
) -> pd.DataFrame:
    """The last case of each question of a split, and a row for each question without a case.

    Checks what a figure relies on, so that it fails in its first line. Raises ValueError if no case
    is left, if a column is missing (`needs` names more columns), and (with `one_setting`) if a
    question was answered under several temperatures or seeds: one bar would then mix two
    experiments.
    """
    if cases.empty:
        raise ValueError(
            "the table of cases is empty, expected one row per case; "
            "run the evaluation notebook first"
        )
    if missing := [name for name in [*KEYS, "correct", *needs] if name not in cases]:
        raise ValueError(
            f"the table of cases lacks {', '.join(missing)}; make it with statistics.to_frame"
        )
    found = cases[cases["split"] == split] if "split" in cases else cases
    if found.empty:
        raise ValueError(
            f"the table of cases has no row of split {split!r}; pass the records of that split"
        )
    varied = [] if one_setting else [name for name in SETTINGS if name in found]
    return add_missing_cases(statistics.latest_cases(found, [*KEYS[:3], *varied]))


def add_missing_cases(
    cases: pd.DataFrame, asked: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """The cases, and a row without an answer for each question that was asked but has no case.

    All conditions (model, method, n, settings) of an experiment are asked the same questions of a
    benchmark: those in `asked` (ids by benchmark) and those of which any condition has a case. A
    condition without any case of a benchmark was not run on it, so nothing is added there.
    """
    facts = ("benchmark", "id", "split", "domain", "level", "subject")
    distinct = cases.drop_duplicates(["benchmark", "id"])[[name for name in facts if name in cases]]
    questions = dict(tuple(distinct.groupby("benchmark", sort=False)))
    labels = [
        name for name in ("model", "role", "method", "n", "training", *SETTINGS) if name in cases
    ]
    added = []
    for _, condition in cases.groupby([*labels, "benchmark"], sort=False, dropna=False):
        benchmark = condition["benchmark"].iloc[0]
        known = questions[benchmark].set_index("id")
        wanted = dict.fromkeys([*(asked or {}).get(benchmark, ()), *known.index])
        found = set(condition["id"])
        if missing := [question for question in wanted if question not in found]:
            rows = known.reindex(missing).assign(**condition[labels].iloc[0], benchmark=benchmark)
            rows["error"] = "no case"
            if "split" in rows:
                rows["split"] = condition["split"].iloc[0]
            added.append(rows.reset_index())
    return pd.concat([cases, *added], ignore_index=True) if added else cases


def select(cases: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The cases whose columns have these values."""
    for name, value in values.items():
        cases = cases[cases[name] == value] if name in cases else cases.iloc[:0]
    return cases


def vote_size(cases: pd.DataFrame) -> int:
    """N of self-consistent action generation: the most samples an agent was run with.

    0 if no agent was run with more than one.
    """
    voted = cases[cases["method"].str.startswith("agent") & (cases["n"] > 1)]
    return int(voted["n"].max()) if len(voted) else 0


def sort_by_size(models: Sequence[str]) -> list[str]:
    """Distinct model names, smallest first."""
    return sorted(dict.fromkeys(models), key=lambda model: (parameter_count(model), model))


def _to_estimate(row: Mapping) -> Estimate:
    """A row of `statistics.summarise` in per cent."""
    shares = (100 * row[name] for name in ("accuracy", "low", "high"))
    each = tuple(100 * share for share in row["trainings"])
    return Estimate(*shares, int(row["asked"]), int(row["errors"]), each)


def accuracy(cases: pd.DataFrame) -> Estimate:
    """Per cent correct of all questions asked (an error is not correct), with the Wilson interval.

    Raises ValueError for cases of several experiments, such as two models.
    """
    if cases.empty:
        return Estimate()
    return _to_estimate(statistics.summarise(cases.assign(all="all"), ["all"]).iloc[0])


def mean_accuracy(points: Sequence[Estimate]) -> Estimate:
    """The unweighted mean of accuracies with its interval; not run if one of them was not.

    The interval adds the squared distances to the Wilson limits (MOVER; Zou and Donner 2008).
    Unlike a bootstrap or a normal approximation, it keeps its width where a small benchmark scores
    0 or 100 %.
    """
    if not points or any(math.isnan(point.value) for point in points):
        return Estimate()
    value, low, high, n, unanswered = np.array([point[:5] for point in points]).T
    below, above = np.hypot.reduce(value - low), np.hypot.reduce(high - value)
    mean, count = value.mean(), len(points)
    interval = mean - below / count, mean + above / count
    return Estimate(mean, *interval, int(n.sum()), int(unanswered.sum()))


def mean_over_benchmarks(cases: pd.DataFrame, names: Sequence[str]) -> Estimate:
    """The unweighted mean accuracy of one condition over benchmarks; not run if one has no case.

    Of one training it is `mean_accuracy` of the benchmarks; of several its interval is the
    hierarchical bootstrap's, in which a training is drawn for all benchmarks together.
    """
    chosen = [select(cases, benchmark=name) for name in names]
    points = [accuracy(of_one) for of_one in chosen]
    found = mean_accuracy(points)
    if math.isnan(found.value) or len({len(point.trainings) for point in points}) > 1:
        return found
    if not points[0].trainings:
        return found
    low, high = statistics.mean_interval(list(map(statistics.by_training, chosen)))
    each = tuple(float(value) for value in np.mean([p.trainings for p in points], axis=0))
    return found._replace(low=100 * low, high=100 * high, trainings=each)


def mean_count(values: pd.Series) -> Estimate:
    """The mean count per question, with Student's t interval; none where all counts are equal."""
    values = values.dropna().astype(float)
    if values.empty:
        return Estimate()
    mean, n = values.mean(), len(values)
    if values.nunique() == 1:
        return Estimate(mean, n=n)  # an interval of no width would claim certainty
    half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return Estimate(mean, max(0.0, mean - half), mean + half, n)


def accuracy_table(cases: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """An `Estimate` per model, method and n (rows) and benchmark (columns), and their mean.

    Rows go from the largest model to the smallest, as in Table 2. A mean over fewer benchmarks than
    the table has columns would compare different things, so it counts as not run.
    """
    cases = prepare_cases(cases, split)
    columns = sorted(
        cases["benchmark"].unique(), key=lambda name: (_rank(name, BENCHMARK_ORDER), name)
    )
    found: dict[tuple, dict[str, Estimate]] = {}
    for row in statistics.summarise(cases, [*KEYS[:3], "benchmark"]).to_dict("records"):
        key = row["model"], row["method"], int(row["n"])
        found.setdefault(key, {})[row["benchmark"]] = _to_estimate(row)
    conditions = dict(tuple(cases.groupby(KEYS[:3], dropna=False)))

    def order(key: tuple[str, str, int]) -> tuple:
        model, method, n = key
        return -parameter_count(model), model, _rank(method, METHOD_ORDER), n

    rows = {}
    for key in sorted(found, key=order):
        points = [found[key].get(name, Estimate()) for name in columns]
        rows[key] = [*points, mean_over_benchmarks(conditions[key], columns)]
    table = estimate_table(rows, [*columns, "mean"])
    return table.set_axis(pd.MultiIndex.from_tuples(rows, names=["model", "method", "n"]))


def _rank(name: str, order: Sequence[str]) -> int:
    """The place of a name in an order; names that are not in it come last."""
    return order.index(name) if name in order else len(order)


def estimate_table(rows: Mapping, columns: Sequence[str]) -> pd.DataFrame:
    """A table whose cells are estimates.

    It is filled cell by cell, because pandas would otherwise unpack the tuples into columns.
    """
    table = pd.DataFrame(index=list(rows), columns=list(columns), dtype=object)
    for key, points in rows.items():
        for name, point in zip(table.columns, points, strict=True):
            table.at[key, name] = point
    return table


def benchmark_for(cases: pd.DataFrame, column: str) -> str | None:
    """Our benchmark in these cases whose panel is drawn with a published one's ("MATH500"): one
    that mirrors it, or part of the teaching set; None without one."""
    ran, panels = set(cases["benchmark"]), PUBLISHED_AS | PANELS_OF
    return next((name for name, theirs in panels.items() if theirs == column and name in ran), None)


def list_students(cases: pd.DataFrame) -> list[str]:
    """The students, smallest first; cases without a role are all students'."""
    return sort_by_size((cases[cases["role"] != "teacher"] if "role" in cases else cases)["model"])


def select_student(cases: pd.DataFrame, model: str | None) -> str:
    """The student that a figure of one size shows: `model`, or by default the largest.

    Raises ValueError if it has no case.
    """
    students = list_students(cases)
    if not students or model not in (None, *students):
        raise ValueError(
            f"student {model!r} has no case, "
            f"expected one of: {', '.join(students) or 'none was run'}"
        )
    return model or students[-1]
