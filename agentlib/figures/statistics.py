"""Statistics of finished records: accuracy with its interval, paired comparisons, corrected p-values.

Owns the numbers that a figure or a claim shows. Knows nothing of files, models or drawing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats


def to_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as a table, one row a case; errored cases have `correct` missing."""
    return pd.DataFrame(list(records))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (fractions of 1); (nan, nan) for n = 0."""
    if n == 0:
        return (float("nan"), float("nan"))
    found = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return (float(found.low), float(found.high))


def summarise(
    cases: pd.DataFrame, by: Sequence[str], asked: int | Mapping | None = None
) -> pd.DataFrame:
    """Accuracy per group: columns `by`, asked, answered, errors, correct, accuracy, low, high (fractions).

    `asked` is the number of questions a group was asked (an int, or a mapping from the group's key); without it, the
    distinct questions in the records. The accuracy's denominator is the questions asked, so a question that ended in an
    error, or has no line at all, counts against it and shows in `errors`. Raises ValueError for a group that holds several
    experiments, or answers to more questions than were asked.
    """
    rows = []
    for key, group in cases.groupby(list(by), sort=False, dropna=False):
        last = latest_cases(group)
        finished = (
            last[last["correct"].notna()]
            if "correct" in last
            else last.iloc[:0].assign(correct=False)
        )
        n = (
            len(last)
            if asked is None
            else asked
            if isinstance(asked, int)
            else asked[key if len(by) > 1 else key[0]]
        )
        if len(finished) > n:
            name = ", ".join(map(str, key))
            raise ValueError(
                f"group {name} has answers to {len(finished)} questions, expected at most the {n} asked; correct `asked`"
            )
        right = int(finished["correct"].astype(bool).sum())
        low, high = wilson_interval(right, n)
        rows.append(
            dict(zip(by, key, strict=True))
            | {"asked": n, "answered": len(finished), "errors": n - len(finished), "correct": right}
            | {"accuracy": right / n if n else float("nan"), "low": low, "high": high}
        )
    return pd.DataFrame(rows)


def latest_cases(cases: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """The last case of each question of each group; a question is an id within a benchmark.

    Raises ValueError for a group of several models, methods or numbers of samples, or with one question answered under
    several temperatures, seeds or varied values: "the last" would then choose among experiments, and one number mix them.
    """
    question = [*by, *(name for name in ("benchmark", "id") if name in cases and name not in by)]
    for name in ("model", "method", "n", "temperature", "seed", "setting", "value"):
        if name not in cases or name in by or cases[name].nunique() < 2:
            continue
        group = list(by) if name in ("model", "method", "n") else question
        if not group or (cases.groupby(group, dropna=False)[name].nunique() > 1).any():
            values = ", ".join(map(str, cases[name].dropna().unique()))
            raise ValueError(
                f"the cases mix several values of {name} ({values}), expected one experiment; keep one, or group by {name}"
            )
    return cases.drop_duplicates(question, keep="last")


def compare(a: pd.DataFrame, b: pd.DataFrame, resamples: int = 2000, seed: int = 0, *, ratio: float = 1.0,
            margin: float = 0.0) -> dict[str, float]:  # fmt: skip
    """Two methods on the same questions, paired by id and benchmark: the one interval that all paired comparisons use.
    Questions that either side has not finished are left out; n says how many were compared.

    Returns n, accuracy_a, accuracy_b, the difference b - ratio * a with a 95 % interval, the counts only one of them got
    right, and a two-sided p-value against `margin`: McNemar's exact test for ratio 1 and margin 0, else the bootstrap's. The
    interval is the percentile bootstrap over questions. Where all pairs are alike, all resamples are, and an interval of no
    width would claim certainty: there, a share of unseen questions (the upper Wilson limit of 0 in n) is taken to differ by
    as much as a question can.

    Raises ValueError when no question is shared, or when a side holds several experiments (`one_experiment`).
    """
    keys = ["benchmark", "id"]
    left, right = (latest_cases(side)[[*keys, "correct"]] for side in (a, b))
    both = left.merge(right, on=keys, suffixes=("_a", "_b")).dropna()
    if both.empty:
        raise ValueError(
            "the two sets of records share no finished question; compare runs of the same benchmarks"
        )
    x, y = both["correct_a"].astype(float).to_numpy(), both["correct_b"].astype(float).to_numpy()
    n, each = len(both), y - ratio * x
    difference = float(each.mean())
    if np.ptp(each) == 0:
        unseen = wilson_interval(0, n)[1]
        low, high = (
            difference - unseen * (difference + ratio),
            difference + unseen * (1 - difference),
        )
        room = 1 - difference if margin > difference else difference + ratio
        p = max(0.0, 1 - abs(margin - difference) / room) ** n if room else 1.0
    else:
        draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
        means = each[draws].mean(1)
        low, high = np.percentile(means, [2.5, 97.5])
        p = min(
            1.0, 2 * (1 + min((means <= margin).sum(), (means >= margin).sum())) / (1 + resamples)
        )
    only_a, only_b = int(((x == 1) & (y == 0)).sum()), int(((x == 0) & (y == 1)).sum())
    if (ratio, margin) == (1.0, 0.0):
        p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {
        "n": n, "accuracy_a": float(x.mean()), "accuracy_b": float(y.mean()), "difference": difference,
        "low": float(low), "high": float(high), "only_a": only_a, "only_b": only_b, "p": float(p),
    }  # fmt: skip


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing all of them together (Holm 1979): compared with 0.05 they hold the chance of any false claim at 5 %."""
    order = np.argsort(p_values)
    stepped = np.minimum(
        1.0, np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1))
    )
    return [float(p) for p in stepped[np.argsort(order)]]
