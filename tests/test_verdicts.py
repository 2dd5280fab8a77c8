"""The same answers under other gradings: each says yes and no, and what a case has not stays
missing."""

import pandas as pd
import pytest

from agentlib import config, score
from agentlib.runner import preflight
from agentlib.score import judge as judge_module
from agentlib.score import regrading


def case(number, benchmark, prediction, gold, correct, **more):
    domain = "math" if benchmark == "math500-slice" else "factual"
    return {
        "id": f"q{number}",
        "benchmark": benchmark,
        "domain": domain,
        "question": f"Question {number}?",
        "model": "m",
        "method": "agent",
        "n": 1,
        "prediction": prediction,
        "gold": gold,
        "aliases": [],
        "correct": correct,
        "exact_match": correct,
    } | more


@pytest.mark.parametrize(
    ("prediction", "gold", "right"),
    [
        ("42", "42", True), ("42.001", "42", True), ("42.1", "42", False), ("4200", "42", True), ("0.42", "42", True),
        (r"\frac{1}{2}", r"\frac{1}{2}", True), ("1/2", r"\frac{1}{2}", True), ("2/3", r"\frac{1}{2}", False),
        ("Evelyn", r"\text{Evelyn}", False), (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}", False), (None, "1", False),
        ("2x+1", "1+2x", True), ("The answer is 42", "42", True), ("The remainder is 42.", "42", False), ("final_answer(42)", "42", False),
    ],
)  # fmt: skip
def test_the_published_rules_have_the_published_faults(prediction, gold, right):
    assert score.correct_as_published(prediction, gold) is right


def test_ours_sees_what_the_published_rules_do_not():
    assert score.grade("Evelyn", r"\text{Evelyn}").correct and not score.grade("4200", "42").correct


class Lenient:
    """A judge that takes everything for right but "Paris"."""

    def grade(self, question, prediction, gold):
        return score.Grade(prediction != "Paris", False, 0.0, "judged")


CASES = [case(1, "math500-slice", "4200", "42", False), case(2, "math500-slice", "42", "42", True), case(3, "hotpotqa-slice", "Lima", "Lima", True),
         case(4, "hotpotqa-slice", "Paris", "Lima", False), case(5, "hotpotqa-slice", "Lima, Peru", "Lima", False),
         {"id": "q6", "error": "outage"}]  # fmt: skip


def test_each_grading_stands_beside_ours():
    found = regrading.regrade(CASES, Lenient())
    assert found["ours"].tolist() == [False, True, True, False, False]
    assert (
        found["as_published"].tolist()[:2] == [True, True]
        and found["as_published"].isna().tolist()[2:] == [True] * 3
    )
    assert found["judge"].isna().tolist()[:2] == [True, True] and found["judge"].tolist()[2:] == [
        True,
        False,
        True,
    ]
    table = regrading.summarise(found)
    assert table.loc[("maths", "m", "agent", 1), ["ours", "as_published", "cases"]].tolist() == [
        50.0,
        100.0,
        2,
    ]
    assert table.loc[("factual", "m", "agent", 1), ["ours", "judge"]].tolist() == pytest.approx(
        [100 / 3, 200 / 3]
    )
    assert regrading.select_disagreements(found)["id"].tolist() == ["q1", "q5"]
    assert len(regrading.summarise(found, differing=True)) == 2
    assert regrading.summarise(found[found["id"] == "q2"], differing=True).empty


def test_without_a_judge_there_is_no_column_for_one():
    found = regrading.regrade(CASES)
    assert "judge" not in regrading.summarise(found) and isinstance(
        regrading.select_disagreements(found), pd.DataFrame
    )
    assert regrading.open_judge(config.load("smoke"), None) is None


def test_the_judge_of_a_configuration_is_asked_with_its_key(moody, tmp_path, monkeypatch):
    monkeypatch.setenv(judge_module.KEY, "k3y")
    cfg = config.load("smoke", judge_server=moody.url, judge="tiny")
    moody.replies, moody.listed = [{"choices": [{"message": {"content": "CORRECT"}}]}], ["tiny"]
    judge = regrading.open_judge(cfg, tmp_path / "verdicts.jsonl")
    assert regrading.regrade(CASES[4:5], judge)["judge"].tolist() == [True]
    assert (
        moody.asked[0]["model"] == "tiny" and judge._client.headers["authorization"] == "Bearer k3y"
    )
    (check,) = preflight._judge(cfg)
    assert check.met


def test_a_judge_that_is_not_up_is_said_before_a_run():
    cfg = config.load("smoke", judge_server="http://127.0.0.1:9/v1")
    (found,) = [p for p in preflight.problems(cfg) if "judge" in p]
    assert found.startswith(
        "judge gpt-4o-mini: http://127.0.0.1:9/v1 does not answer, expected an answer; start it,"
        " set AGENTLIB_JUDGE_KEY"
    )
