"""Several trainings of one method: each counts, the interval holds them and the questions, and one
training alone gives what it gave before there were several."""

import numpy as np
import pandas as pd
import pytest

from agentlib import config
from agentlib.figures import estimates, statistics, tables


def answers(grid, benchmark="a", method="agent_distill", model="m-1B"):
    """A row for each training and question of a grid (trainings, questions) of 0 and 1."""
    return pd.DataFrame(
        {
            "model": model, "method": method, "n": 1, "benchmark": benchmark, "split": "test",
            "id": f"{benchmark}-{question}", "training": training, "correct": bool(right),
        }
        for training, row in enumerate(grid)
        for question, right in enumerate(row)
    )  # fmt: skip


def simulated(rng, trainings, questions, mean, between, ability=None):
    """Grids whose trainings differ by a normal effect and whose questions are of different ease."""
    ease = rng.normal(0, 1, questions) if ability is None else ability
    effects = rng.normal(0, between, trainings)
    chance = 1 / (1 + np.exp(-(mean + effects[:, None] + ease)))
    return rng.random((trainings, questions)) < chance


def test_one_training_is_compared_as_ever():
    rng = np.random.default_rng(1)
    x, y = rng.random(200) < 0.3, rng.random(200) < 0.4
    found = statistics.compare(answers([x]), answers([y]), ratio=0.5)
    each = y - 0.5 * x
    means = each[np.random.default_rng(0).integers(0, 200, (2000, 200))].mean(1)
    assert (found["low"], found["high"]) == tuple(np.percentile(means, [2.5, 97.5]))
    plain = [answers([side]).drop(columns="training") for side in (x, y)]
    assert statistics.compare(*plain, ratio=0.5) == found
    shuffled = [side.sample(frac=1, random_state=2) for side in plain]
    assert statistics.compare(*shuffled)["difference"] == pytest.approx(y.mean() - x.mean())


def test_each_training_counts_alike():
    grid = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
    (row,) = statistics.summarise(answers(grid), ["model"]).to_dict("records")
    assert (row["asked"], row["answered"], row["correct"]) == (12, 12, 7)
    assert row["accuracy"] == pytest.approx(7 / 12) and row["trainings"] == (1.0, 0.25, 0.5)
    assert row["low"] < 7 / 12 < row["high"]
    lacking = answers(grid).iloc[:-1]
    (row,) = statistics.summarise(lacking, ["model"]).to_dict("records")
    assert (row["asked"], row["answered"], row["errors"]) == (12, 11, 1)
    assert row["trainings"] == (1.0, 0.25, 0.5), "a question without an answer is wrong"


def test_trainings_that_differ_widen_the_interval_and_equal_ones_do_not():
    rng = np.random.default_rng(3)
    base = rng.random(400) < 0.5
    equal = np.stack([base] * 3)
    apart = np.stack([base, base | (rng.random(400) < 0.4), base & (rng.random(400) < 0.6)])
    narrow, wide = (
        statistics.compare(answers([base]), answers(grid)) for grid in (equal[:, ::-1], apart)
    )
    assert narrow["trainings_b"] == wide["trainings_b"] == 3 and narrow["trainings_a"] == 1
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])
    low, high = statistics.mean_interval([apart.astype(float)])
    assert low < apart[0].mean() < high and high - low > 0.2
    assert np.ptp(statistics.mean_interval([equal.astype(float)])) == pytest.approx(
        2 * 1.96 * np.sqrt(0.25 / 400), rel=0.1
    )


def test_benchmarks_weigh_alike_whatever_their_size():
    small, large = [[1] * 10], [[0] * 90]
    a = pd.concat([answers([[0] * 10], "small"), answers(large, "large")])
    b = pd.concat([answers(small, "small"), answers(large, "large")])
    each, mean = (statistics.compare(a, b, over_benchmarks=over) for over in (False, True))
    assert each["difference"] == pytest.approx(0.1) and mean["difference"] == pytest.approx(0.5)
    assert mean["accuracy_b"] == pytest.approx(0.5) and mean["n"] == 100
    assert mean["low"] == mean["high"] == pytest.approx(0.5), "no question of either could turn"
    point = estimates.mean_over_benchmarks(b, ["small", "large"])
    assert point.value == pytest.approx(50)


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    """Three trainings that differ: the hierarchical bootstrap sees two thirds of the variance
    between them, so it covers less often than 95 %, and far more often than one that takes all
    answers for independent."""
    rng, covered, naive = np.random.default_rng(4), 0, 0
    times, between = 200, 0.4
    for _ in range(times):
        ability = rng.normal(0, 1, 150)
        a, b = (simulated(rng, 3, 150, -1.0, between, ability) for _ in range(2))
        found = statistics.compare(answers(a), answers(b), resamples=300)
        covered += found["low"] <= 0 <= found["high"]
        spread = 1.96 * np.sqrt(sum(g.mean() * (1 - g.mean()) / g.size for g in (a, b)))
        naive += abs(found["difference"]) <= spread
    assert naive / times < 0.75 < 0.85 < covered / times < 0.99


def test_a_mean_over_benchmarks_draws_a_training_for_all_of_them_together():
    rng = np.random.default_rng(5)
    better = np.array([[0.8], [0.5], [0.2]])
    grids = [rng.random((3, 300)) < better for _ in range(4)]
    cases = pd.concat([answers(grid, name) for grid, name in zip(grids, "abcd", strict=True)])
    point = estimates.mean_over_benchmarks(cases, list("abcd"))
    apart = estimates.mean_accuracy([estimates.accuracy(answers(grid, "a")) for grid in grids])
    assert point.value == pytest.approx(apart.value) and len(point.trainings) == 3
    assert point.trainings == pytest.approx([80, 50, 20], abs=6)
    assert point.high - point.low > 1.5 * (apart.high - apart.low)
    table = estimates.accuracy_table(cases)
    assert table["mean"].iloc[0] == point and table["a"].iloc[0].n == 900


def test_missing_cases_are_added_for_each_training():
    cases = answers([[1, 0, 1], [1, 1, 0]]).iloc[:-1]
    found = estimates.add_missing_cases(cases)
    assert len(found) == 6 and found.iloc[-1][["training", "id", "error"]].tolist() == [
        1,
        "a-2",
        "no case",
    ]


def slice_cases(supported, right, benchmark="hotpotqa-slice", method="agent"):
    cases = answers([right], benchmark, method)
    return cases.assign(supported=supported)


def test_supported_accuracy_counts_what_is_right_and_was_seen():
    cases = pd.concat(
        [
            slice_cases([True, True, False, False], [1, 0, 1, 0]),
            slice_cases([True, None, False, None], [1, 1, 1, 1], "musique-slice"),
        ]
    )
    found = tables.supported_table(cases)
    assert found.iloc[0].tolist()[0].startswith("25.0") and "50.0" in found.iloc[0].tolist()[1]
    assert [name.partition(" ")[2] for name in found.columns[:2]] == ["(n=4)", "(n=2)"]
    with pytest.raises(ValueError, match="lacks 'supported'"):
        tables.supported_table(cases.drop(columns="supported"))


def test_domains_have_means_of_their_own():
    grids = {"hotpotqa-slice": [1, 1], "math500-slice": [1, 0], "aime-slice": [0, 0, 0, 1]}
    cases = pd.concat([answers([grid], name) for name, grid in grids.items()])
    found = tables.domain_table(cases, trained_on=config.PAPER.train_sets)
    assert [column.split(" ")[0] for column in found] == ["in-domain", "out-of-domain", "all"]
    assert [cell.partition(" ")[0] for cell in found.iloc[0]] == ["75.0", "25.0", "58.3"]
    with pytest.raises(ValueError, match="benchmark 'mine' is none of the paper's eight"):
        tables.domain_table(answers([[1]], "mine"), trained_on=())


def test_in_domain_is_only_what_these_students_were_trained_on():
    grids = {"hotpotqa-slice": [1, 1], "math500-slice": [1, 0], "aime-slice": [0, 0, 0, 1]}
    cases = pd.concat([answers([grid], name) for name, grid in grids.items()])

    def means(*trained_on):
        found = tables.domain_table(cases, trained_on=trained_on)
        return {column.split(" ")[0]: cell.split(" ")[0] for column, cell in found.iloc[0].items()}

    assert means(*config.LAPTOP.train_sets) == {"out-of-domain": "58.3", "all": "58.3"}
    maths = {"in-domain": "50.0", "out-of-domain": "62.5", "all": "58.3"}
    assert means("math-hard-train") == means("math-medium-train") == maths
    known = {name for b in config.BENCHMARKS if b.in_domain for name in tables.TRAIN_SETS[b.name]}
    assert known == set(config.PAPER.train_sets)
