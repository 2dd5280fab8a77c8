"""Statistics of finished records: accuracies with intervals, paired comparisons, p-values.

Shares are fractions of 1 here; `estimates` turns them into per cent. Intervals are 95 % intervals.
Cases of a student that was trained several times say which training they are of (`training`); then
intervals come from a hierarchical bootstrap, which draws trainings and, within each benchmark,
questions.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

PAIRED = ("benchmark", "id", "training")  # which answer of a method is compared with another's


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
    accuracy, low and high (fractions of 1, with the Wilson interval). Where a group has several
    trainings, the numbers are those of all of them, `accuracy` is their mean with a hierarchical
    bootstrap's interval, and `trainings` (a tuple, else empty) holds the accuracy of each.

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
        each = by_training(latest)
        times = max(1, len(each))
        distinct = each.shape[1] if len(each) else len(latest)
        n, answered = _questions_asked(asked, key, distinct) * times, len(grades)
        if answered > n:
            name = ", ".join(map(str, key))
            raise ValueError(
                f"group {name} has answers to {answered} questions, "
                f"expected at most the {n} asked; correct `asked`"
            )
        correct = int(grades.astype(bool).sum())
        low, high = wilson_interval(correct, n) if times == 1 else mean_interval([each])
        counts = {"asked": n, "answered": answered, "errors": n - answered, "correct": correct}
        shares = {"accuracy": correct / n if n else float("nan"), "low": low, "high": high}
        shares["trainings"] = tuple(each.mean(1)) if times > 1 else ()
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
    """The last case of each question in each group; a question is an id within a benchmark, asked
    of each training.

    Raises ValueError for a group that mixes experiments: several models, methods or numbers of
    samples, or one question answered under several temperatures, seeds or varied values. Otherwise
    "the last" would choose between experiments, and one number would mix them.
    """
    question = [*by, *(name for name in PAIRED if name in cases and name not in by)]
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


def by_training(cases: pd.DataFrame) -> np.ndarray:
    """Whether each question was answered right in each training, (trainings, questions) of 0 and 1;
    (0, 0) for cases of one training alone. An unanswered question is wrong."""
    if "training" not in cases or cases["training"].nunique() < 2:
        return np.zeros((0, 0))
    right = cases.assign(correct=cases["correct"].fillna(False).astype(float))
    return _grid(right).fillna(0.0).to_numpy()


def _grid(cases: pd.DataFrame) -> pd.DataFrame:
    """`correct` with a row for each training and a column for each question (benchmark, id)."""
    training = cases["training"].fillna(0) if "training" in cases else 0
    marked = cases.assign(training=training, correct=cases["correct"].astype(float))
    questions = marked[["benchmark", "id"]].drop_duplicates().itertuples(index=False, name=None)
    grid = marked.pivot(index="training", columns=["benchmark", "id"], values="correct")
    return grid[list(questions)]


def mean_interval(
    groups: Sequence[np.ndarray], resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the unweighted mean accuracy over benchmarks: a hierarchical bootstrap.

    Each of `groups` is one benchmark, (trainings, questions) of 0 and 1, with the same trainings in
    all. With k trainings the bootstrap sees (k - 1) / k of the variance between them.
    """
    rng, count = np.random.default_rng(seed), len(groups[0])
    shares = _drawn_shares(rng, count, resamples)
    means = [
        np.take_along_axis(
            shares @ each, rng.integers(0, each.shape[1], (resamples, each.shape[1])), 1
        )
        for each in groups
    ]
    found = np.mean([mean.mean(1) for mean in means], axis=0)
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def _drawn_shares(rng: np.random.Generator, count: int, resamples: int) -> np.ndarray:
    """The share that each of `count` trainings has in each resample, (resamples, count)."""
    if count == 1:
        return np.ones((resamples, 1))
    drawn = rng.integers(0, count, (resamples, count))
    return np.stack([(drawn == k).mean(1) for k in range(count)], 1)


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    resamples: int = 2000,
    seed: int = 0,
    *,
    ratio: float = 1.0,
    margin: float = 0.0,
    over_benchmarks: bool = False,
) -> dict[str, float]:
    """Compare two methods on the same questions, paired by id and benchmark.

    Questions that either side has not finished, in each of its trainings, are left out. All values
    but p are of the pairs:

    - n: how many questions were compared; only_a, only_b: how many only one side got right (of
      several trainings: in more than half of them);
    - trainings_a, trainings_b: how many trainings each side has;
    - accuracy_a, accuracy_b: fractions of 1, the mean over trainings, and with `over_benchmarks`
      the unweighted mean over benchmarks;
    - difference: accuracy_b - ratio * accuracy_a, with a 95 % interval low, high (percentile
      bootstrap, `resamples` draws of questions, the same for both sides and with `over_benchmarks`
      within each benchmark, and of each side's trainings);
    - p: two-sided, of the difference against `margin` (a fraction): McNemar's exact test for
      ratio 1, margin 0 and one training of each side, over all questions alike; otherwise from the
      bootstrap.

    If all pairs are equal, the bootstrap would give an interval of no width and claim certainty.
    Then a share of unseen questions, the upper Wilson limit of 0 in n, is assumed to differ as much
    as a question can.

    Raises ValueError if the sides share no finished question, or one mixes several experiments.
    """
    left, right = (_grid(latest_cases(side)).dropna(axis=1) for side in (a, b))
    shared = [question for question in left.columns if question in right.columns]
    if not shared:
        raise ValueError(
            "the two sets of records share no finished question; "
            "compare runs of the same benchmarks"
        )
    of_a, of_b = left[shared].to_numpy(), right[shared].to_numpy()
    x, y, n = of_a.mean(0), of_b.mean(0), len(shared)
    places = _strata([name for name, _ in shared] if over_benchmarks else [""] * n)
    weights = np.concatenate([np.full(len(p), n / len(places) / len(p)) for p in places])
    weights = weights[np.argsort(np.concatenate(places))]
    each = y - ratio * x
    difference = float((each * weights).mean())
    if np.ptp(each) == 0:
        unseen = wilson_interval(0, n)[1]
        low = difference - unseen * (difference + ratio)
        high = difference + unseen * (1 - difference)
        room = 1 - difference if margin > difference else difference + ratio
        p = max(0.0, 1 - abs(margin - difference) / room) ** n if room else 1.0
    else:
        rng = np.random.default_rng(seed)
        draws = np.concatenate(
            [p[rng.integers(0, len(p), (resamples, len(p)))] for p in places], axis=1
        )
        sides = (_drawn_shares(rng, len(side), resamples) @ side for side in (of_a, of_b))
        drawn_a, drawn_b = (np.take_along_axis(side, draws, 1) for side in sides)
        means = ((drawn_b - ratio * drawn_a) * weights[draws]).mean(1)
        low, high = np.percentile(means, [2.5, 97.5])
        beyond = min((means <= margin).sum(), (means >= margin).sum())
        p = min(1.0, 2 * (1 + beyond) / (1 + resamples))
    only_a, only_b = int(((x > 0.5) & (y <= 0.5)).sum()), int(((x <= 0.5) & (y > 0.5)).sum())
    once = len(of_a) == len(of_b) == 1 and len(places) == 1
    if once and (ratio, margin) == (1.0, 0.0):
        p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {
        "n": n,
        "trainings_a": len(of_a),
        "trainings_b": len(of_b),
        "accuracy_a": float((x * weights).mean()),
        "accuracy_b": float((y * weights).mean()),
        "difference": difference,
        "low": float(low),
        "high": float(high),
        "only_a": only_a,
        "only_b": only_b,
        "p": float(p),
    }


def _strata(names: Sequence[str]) -> list[np.ndarray]:
    """The places of each distinct name."""
    found = np.array(names)
    return [np.flatnonzero(found == name) for name in dict.fromkeys(names)]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for testing all of them together (Holm 1979), in the same order.

    Compared with 0.05, they keep the chance of any false claim at 5 %.
    """
    order = np.argsort(p_values)
    scaled = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(p) for p in corrected[np.argsort(order)]]
