"""Statistics of finished records: accuracies with intervals, paired comparisons, p-values.

Shares are fractions of 1 here; `estimates` turns them into per cent. Intervals are 95 % intervals.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats


def to_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as a table, one row per case. `correct` is missing where a case ended in an error."""
    return pd.DataFrame(list(records))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of a proportion, as fractions of 1; (nan, nan) for n = 0."""
    if n == 0:
        return (float("nan"), float("nan"))
    found = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return (float(found.low), float(found.high))


def summarise(
    cases: pd.DataFrame, by: Sequence[str], asked: int | Mapping | None = None
) -> pd.DataFrame:
    """Accuracy of each group of cases, one row per group.

    Columns: those in `by`, then asked, answered, errors and correct (numbers of questions), and
    accuracy, low and high (fractions of 1, with the Wilson interval).

    `asked` is how many questions each group was asked: one number, or a mapping from the group's
    key. Without it, the distinct questions in the records count. Accuracy divides by the questions
    asked, so a question that ended in an error, or has no record at all, counts as wrong.

    Raises ValueError for a group that mixes several experiments (`latest_cases`), or that has more
    answers than questions asked.
    """
    rows = []
    for key, group in cases.groupby(list(by), sort=False, dropna=False):
        latest = latest_cases(group)
        grades = latest["correct"].dropna() if "correct" in latest else pd.Series(dtype=bool)
        n, answered = _questions_asked(asked, key, len(latest)), len(grades)
        if answered > n:
            name = ", ".join(map(str, key))
            raise ValueError(
                f"group {name} has answers to {answered} questions, "
                f"expected at most the {n} asked; correct `asked`"
            )
        correct = int(grades.astype(bool).sum())
        low, high = wilson_interval(correct, n)
        counts = {"asked": n, "answered": answered, "errors": n - answered, "correct": correct}
        shares = {"accuracy": correct / n if n else float("nan"), "low": low, "high": high}
        rows.append({**dict(zip(by, key, strict=True)), **counts, **shares})
    return pd.DataFrame(rows)


def _questions_asked(asked: int | Mapping | None, key: tuple, found: int) -> int:
    """How many questions the group `key` was asked, of which `found` have a record."""
    if asked is None:
        return found
    if isinstance(asked, int):
        return asked
    return asked[key if len(key) > 1 else key[0]]


def latest_cases(cases: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """The last case of each question in each group; a question is an id within a benchmark.

    Raises ValueError for a group that mixes experiments: several models, methods or numbers of
    samples, or one question answered under several temperatures, seeds or varied values. Otherwise
    "the last" would choose between experiments, and one number would mix them.
    """
    question = [*by, *(name for name in ("benchmark", "id") if name in cases and name not in by)]
    for name in ("model", "method", "n", "temperature", "seed", "setting", "value"):
        if name not in cases or name in by or cases[name].nunique() < 2:
            continue
        group = list(by) if name in ("model", "method", "n") else question
        if not group or (cases.groupby(group, dropna=False)[name].nunique() > 1).any():
            values = ", ".join(map(str, cases[name].dropna().unique()))
            raise ValueError(
                f"the cases mix several values of {name} ({values}), expected one experiment; "
                f"keep one, or group by {name}"
            )
    return cases.drop_duplicates(question, keep="last")


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    resamples: int = 2000,
    seed: int = 0,
    *,
    ratio: float = 1.0,
    margin: float = 0.0,
) -> dict[str, float]:
    """Compare two methods on the same questions, paired by id and benchmark.

    Questions that either side has not finished are left out. All values but p are of the pairs:

    - n: how many questions were compared; only_a, only_b: how many only one side got right;
    - accuracy_a, accuracy_b: fractions of 1;
    - difference: accuracy_b - ratio * accuracy_a, with a 95 % interval low, high (percentile
      bootstrap over questions, `resamples` draws);
    - p: two-sided, of the difference against `margin` (a fraction): McNemar's exact test for
      ratio 1 and margin 0, otherwise from the bootstrap.

    If all pairs are equal, the bootstrap would give an interval of no width and claim certainty.
    Then a share of unseen questions, the upper Wilson limit of 0 in n, is assumed to differ as much
    as a question can.

    Raises ValueError if the sides share no finished question, or one mixes several experiments.
    """
    keys = ["benchmark", "id"]
    left, right = (latest_cases(side)[[*keys, "correct"]] for side in (a, b))
    both = left.merge(right, on=keys, suffixes=("_a", "_b")).dropna()
    if both.empty:
        raise ValueError(
            "the two sets of records share no finished question; "
            "compare runs of the same benchmarks"
        )
    x, y = both["correct_a"].astype(float).to_numpy(), both["correct_b"].astype(float).to_numpy()
    n, each = len(both), y - ratio * x
    difference = float(each.mean())
    if np.ptp(each) == 0:
        unseen = wilson_interval(0, n)[1]
        low = difference - unseen * (difference + ratio)
        high = difference + unseen * (1 - difference)
        room = 1 - difference if margin > difference else difference + ratio
        p = max(0.0, 1 - abs(margin - difference) / room) ** n if room else 1.0
    else:
        draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
        means = each[draws].mean(1)
        low, high = np.percentile(means, [2.5, 97.5])
        beyond = min((means <= margin).sum(), (means >= margin).sum())
        p = min(1.0, 2 * (1 + beyond) / (1 + resamples))
    only_a, only_b = int(((x == 1) & (y == 0)).sum()), int(((x == 0) & (y == 1)).sum())
    if (ratio, margin) == (1.0, 0.0):
        p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {
        "n": n,
        "accuracy_a": float(x.mean()),
        "accuracy_b": float(y.mean()),
        "difference": difference,
        "low": float(low),
        "high": float(high),
        "only_a": only_a,
        "only_b": only_b,
        "p": float(p),
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for testing all of them together (Holm 1979), in the same order.

    Compared with 0.05, they keep the chance of any false claim at 5 %.
    """
    order = np.argsort(p_values)
    scaled = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(p) for p in corrected[np.argsort(order)]]
