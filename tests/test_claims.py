"""Claims: verdicts follow the numbers, both ways; gaps stay gaps; what the prefix and the early stop change is counted."""

import pandas as pd
import pytest

from agentlib import claims

SMALL, LARGE = "SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct"


def arm(model, method, right, n=1, asked=100, broken=0, candidates=1, dropped=0):
    """`asked` questions of which the first `right` are right and the last `broken` have a broken step."""
    return [
        {"model": model, "method": method, "n": n, "benchmark": "mini-math", "id": f"q{k}", "correct": k < right,
         "parse_errors": int(k >= asked - broken), "execution_errors": 0, "candidates": candidates, "dropped": dropped,
         "split": "test"}
        for k in range(asked)
    ]  # fmt: skip


def suite(**changed):
    """Records under which every claim holds, with the right answers of some arms changed."""
    right = {"cot": 20, "agent": 50, "ftp": 55, "sag": 60, "prompted": 1, "large_cot": 30, "large_agent": 60,
             "broken": 40, "broken_sag": 10} | changed  # fmt: skip
    rows = arm(SMALL, "cot_distill", right["cot"]) + arm(SMALL, "agent_distill", right["agent"])
    rows += arm(SMALL, "agent_distill_ftp", right["ftp"], broken=right["broken"])
    rows += arm(SMALL, "agent_distill_ftp", right["sag"], n=8, broken=right["broken_sag"], candidates=8, dropped=2)
    rows += arm(SMALL, "agent", right["prompted"]) + arm(LARGE, "cot_distill", right["large_cot"])
    return pd.DataFrame(rows + arm(LARGE, "agent_distill", right["large_agent"]))


def verdict(cases, words):
    found = claims.check(cases)
    (row,) = [row for name, row in found.iterrows() if words in name]
    return row


@pytest.mark.parametrize(
    ("words", "holds", "fails"),
    [
        ("135M: agent distillation leads", {}, {"agent": 15}),
        ("135M agent + FTP + SAG reaches 0.5B", {}, {"sag": 10}),
        ("135M: agent prompting fails", {}, {"prompted": 60}),
        ("135M: distillation makes the agent", {}, {"agent": 20, "prompted": 50}),
        ("135M: SAG halves", {}, {"broken_sag": 30}),
        ("135M: SAG does not lower", {"sag": 75}, {"sag": 30}),
        ("135M: FTP raises", {"ftp": 90}, {"ftp": 30}),
    ],
)
def test_a_claim_holds_or_fails_as_the_numbers_say(words, holds, fails):
    assert verdict(suite(**holds), words)["holds"] == "yes"
    assert verdict(suite(**fails), words)["holds"] == "no"


def test_what_the_interval_leaves_open_is_called_open():
    row = verdict(suite(agent=30), "135M: agent distillation leads")
    assert row["holds"] == "open" and row["low"] < claims.MARGIN < row["high"]


def test_two_sides_that_score_nothing_on_a_few_questions_settle_nothing():
    none = pd.DataFrame(arm(SMALL, "cot_distill", 0, asked=8) + arm(SMALL, "agent_distill", 0, asked=8))
    row = verdict(none, "135M: agent distillation leads")
    assert row["holds"] == "open" and row["low"] < -20 and row["high"] > 20


def test_numbers_stand_beside_the_verdict():
    row = verdict(suite(), "135M: agent distillation leads")
    assert (row["a"], row["b"], row["difference"], row["n"]) == (20, 50, 30, 100)
    assert row["low"] < 30 < row["high"] and row["p"] < 0.01


def test_methods_that_were_not_run_leave_a_gap():
    row = verdict(suite(), "0.5B: SAG halves")
    assert row["holds"] == "not run" and row["n"] == 0 and pd.isna(row["difference"])


def test_claims_are_shown_as_text_without_gaps_named_nan():
    shown = claims.table(claims.check(suite()))
    lead = shown.loc["135M: agent distillation leads CoT distillation by 15 points"]
    assert lead["a (%)"] == "20.0" and lead["b - a"].startswith("+30.0 [") and lead["p"] == "<0.001" and lead["n"] == 100
    fails = shown.loc["135M: agent prompting fails (below 10 %)"]
    assert (fails["a (%)"], fails["b - a"], fails["p"]) == ("", "", "") and fails["b (%)"].startswith("1.0 [")
    missing = claims.table(claims.check(suite().query("method != 'cot_distill'")))
    assert "not run" in missing["holds"].tolist() and "nan" not in missing.to_string()


def test_steps_that_broke_are_counted_by_question():
    found = claims.broken_steps(suite())
    assert found.loc[(SMALL, "agent_distill_ftp", 1)].tolist() == [40, 0, 100]
    assert found.loc[(SMALL, "agent_distill_ftp", 8)].tolist() == [10, 0, 100] and "cot_distill" not in str(found.index)


def test_samples_left_unfinished_are_counted():
    found = claims.early_stop(suite())
    assert found.loc[(SMALL, "agent_distill_ftp", 8)].to_dict() == {
        "candidates": 800, "dropped": 200, "left unfinished (%)": 25.0,
    }  # fmt: skip


def test_what_a_first_thought_changes_is_counted():
    def case(text, correct, calls):
        return {"correct": correct, "tool_calls": calls, "steps": 1, "parse_errors": 0, "execution_errors": calls,
                "trace": [{"text": text}]}  # fmt: skip

    found = claims.first_thoughts({
        "agent": [case("Thought: go.\nCode:\nx = 1", True, 0), case("Thought: go on.\nCode:\n", None, 1)],
        "agent_ftp": [case("Thought: one two three four.\nCode:\n", True, 2)] * 2,
    })  # fmt: skip
    assert found["right (%)"].tolist() == [50, 100]
    assert found["words of the first thought"].tolist() == [2.5, 5]
    assert found["searches a question"].tolist() == [0.5, 2]
    assert found["questions with a broken step (%)"].tolist() == [50, 100]
