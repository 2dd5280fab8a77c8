"""Two kinds of trajectories, compared by how hard they are for a student."""

import numpy as np
import pytest

from agentlib.figures import likelihood


def test_only_shared_questions_are_compared_and_in_pairs():
    noise = dict(enumerate(np.random.default_rng(0).normal(2, 1, 200)))
    a = {str(k): value for k, value in noise.items()} | {"only a": 99.0}
    b = {str(k): value - 0.1 for k, value in noise.items()} | {"only b": -99.0}
    row = likelihood.likelihood_table({"whole": (a, b)}).loc["whole"]
    # paired: the questions differ by 1 nat, their sides by exactly 0.1
    assert row["questions"] == 200 and row["b - a"] == "-0.100 [-0.100, -0.100]"
    assert float(row["a"]) - float(row["b"]) == pytest.approx(0.1, abs=1e-3)


def test_the_interval_is_as_wide_as_the_mean_of_differences_varies():
    draw = np.random.default_rng(1)
    a = {str(k): 0.0 for k in range(400)}
    b = {str(k): value for k, value in enumerate(draw.normal(0, 1, 400))}
    said = likelihood.likelihood_table({"x": (a, b)}).loc["x", "b - a"]
    low, high = map(float, said.split("[")[1].rstrip("]").split(", "))
    assert 0.15 < high - low < 0.25  # 2 * 1.96 / 20


def test_sides_that_share_nothing_are_refused():
    with pytest.raises(ValueError, match="'first turn' share no question"):
        likelihood.likelihood_table({"first turn": ({"q": 1.0}, {"r": 1.0})})
