"""Claims: verdicts follow the numbers, both ways; gaps stay gaps; what the prefix changes is
counted."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentlib.figures import claims, statistics

SMALL, LARGE = "SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct"


def arm(model, method, right, n=1, asked=100, broken=0):
    """`asked` questions of which the first `right` are right and the last `broken` have a broken
    step."""
    return [
        {
            "model": model,
            "method": method,
            "n": n,
            "benchmark": "math500-slice",
            "id": f"q{k}",
            "correct": k < right,
            "parse_errors": int(k >= asked - broken),
            "execution_errors": 0,
            "split": "test",
        }
        for k in range(asked)
    ]


def suite(**changed):
    """Records under which every claim holds, with the right answers of some arms changed."""
    right = {"cot": 20, "agent": 50, "ftp": 55, "sag": 60, "prompted": 1, "large_cot": 30, "large_agent": 60,
             "broken": 40, "broken_sag": 10} | changed  # fmt: skip
    rows = arm(SMALL, "cot_distill", right["cot"]) + arm(SMALL, "agent_distill", right["agent"])
    rows += arm(SMALL, "agent_distill_ftp", right["ftp"], broken=right["broken"])
    rows += arm(SMALL, "agent_distill_ftp", right["sag"], n=8, broken=right["broken_sag"])
    rows += arm(SMALL, "agent", right["prompted"]) + arm(LARGE, "cot_distill", right["large_cot"])
    return pd.DataFrame(rows + arm(LARGE, "agent_distill", right["large_agent"]))


def verdict(cases, words):
    found = claims.check_claims(cases)
    (row,) = [row for name, row in found.iterrows() if words in name]
    return row


@pytest.mark.parametrize(
    ("words", "holds", "fails"),
    [
        ("P1 · 135M", {}, {"agent": 5}),
        ("P2 · 135M: agent + FTP + SAG reaches 0.5B", {}, {"sag": 10}),
        ("P3 · 135M: FTP raises", {"ftp": 90}, {"ftp": 30}),
        ("135M: SAG halves", {}, {"broken_sag": 30}),
        ("135M: SAG costs less than 5 points", {"sag": 75}, {"sag": 30}),
        ("P5 · 135M", {}, {"agent": 20, "prompted": 50}),
    ],
)
def test_a_claim_holds_or_fails_as_the_numbers_say(words, holds, fails):
    assert verdict(suite(**holds), words)["holds"] == "yes"
    assert verdict(suite(**fails), words)["holds"] == "no"


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("P1 · 135M", {"agent": 22}),
        # less than half of 40, but the interval reaches beyond the half
        ("135M: SAG halves", {"broken_sag": 19}),
        ("135M: SAG costs less than 5 points", {"ftp": 55, "sag": 51}),
    ],
)
def test_an_interval_that_spans_the_margin_settles_nothing(words, changed):
    row = verdict(suite(**changed), words)
    assert row["holds"] == "not settled" and row["low"] <= row["margin"] <= row["high"]


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=60),
    st.sampled_from(["P1", "halves", "costs less"]),
)
@settings(max_examples=40, deadline=None)
def test_no_verdict_without_the_whole_interval_on_one_side(pairs, words):
    """Two arms of any answers: the verdict never says more than its interval and its corrected
    p."""

    def arm_of(method, side, n=1):
        return [
            {
                "model": SMALL,
                "method": method,
                "n": n,
                "benchmark": "b",
                "id": k,
                "correct": pair[side],
                "split": "test",
                "parse_errors": int(pair[side]),
                "execution_errors": 0,
            }
            for k, pair in enumerate(pairs)
        ]

    cases = pd.DataFrame(
        arm_of("cot_distill", 0)
        + arm_of("agent_distill", 1)
        + arm_of("agent_distill_ftp", 0)
        + arm_of("agent_distill_ftp", 1, n=8)
    )
    row = verdict(cases, words)
    above, below = row["low"] > row["margin"], row["high"] < row["margin"]
    assert (
        row["low"] < row["high"]
        and row["low"] <= row["difference"] <= row["high"]
        and row["p (Holm)"] >= row["p"]
    )
    settled = row["holds"] != "not settled"
    assert settled == ((above or below) and row["p (Holm)"] <= 0.05)
    assert not settled or (row["holds"] == "yes") == (below if words == "halves" else above)


def test_a_comparison_is_the_same_one_everywhere():
    cases = suite()
    row, found = (
        verdict(cases, "P1 · 135M"),
        statistics.compare(
            cases[(cases["model"] == SMALL) & (cases["method"] == "cot_distill")],
            cases[(cases["model"] == SMALL) & (cases["method"] == "agent_distill")],
        ),
    )
    assert (row["difference"], row["low"], row["high"], row["p"]) == tuple(
        [100 * found[name] for name in ("difference", "low", "high")] + [found["p"]]
    )


def test_two_sides_that_score_nothing_on_a_few_questions_settle_nothing():
    none = pd.DataFrame(
        arm(SMALL, "cot_distill", 0, asked=8) + arm(SMALL, "agent_distill", 0, asked=8)
    )
    row = verdict(none, "P1 · 135M")
    assert row["holds"] == "not settled" and row["low"] < -20 and row["high"] > 20


def test_numbers_stand_beside_the_verdict_with_the_papers():
    row = verdict(suite(), "P1 · 135M")
    assert (row["a"], row["b"], row["difference"], row["n"]) == (20, 50, 30, 100)
    assert row["low"] < 30 < row["high"] and row["p"] < 0.01
    published = claims.check_claims(suite())["published"].round(1).to_dict()
    # 19.24 - 13.64, Table 2 at 0.5B
    assert published["P1 · 135M: agent distillation beats CoT distillation"] == 5.6
    # 21.90 - 21.29, CoT at 1.5B
    assert published["P2 · 135M: agent + FTP + SAG reaches 0.5B CoT distillation"] == 0.6
    # Fig. 7: 2.6 - 29.7 / 2
    assert published["P4 · 135M: SAG halves the questions with broken code (b < a/2)"] == -12.2


def test_a_student_larger_than_any_published_one_has_no_published_difference():
    large = suite().assign(
        model=lambda cases: cases["model"].replace({SMALL: "Qwen2.5-32B", LARGE: "Qwen2.5-72B"})
    )
    shown = claims.claim_table(claims.check_claims(large))
    assert shown["published"].tolist()[:3] == ["", "", ""] and "nan" not in shown.to_string()


def test_methods_that_were_not_run_leave_a_gap():
    row = verdict(suite(), "0.5B: SAG halves")
    assert row["holds"] == "not run" and row["n"] == 0 and pd.isna(row["difference"])


def test_an_answer_that_is_missing_is_neither_broken_nor_sound():
    cases = suite().astype(dict.fromkeys(("correct", "parse_errors", "execution_errors"), object))
    lost = (
        (cases["method"] == "agent_distill_ftp")
        & (cases["n"] == 1)
        & (cases["id"].isin([f"q{k}" for k in range(20)]))
    )
    cases.loc[lost, ["correct", "parse_errors", "execution_errors"]] = None
    row = verdict(cases, "135M: SAG halves")
    assert (row["n"], row["a"]) == (80, 50)
    assert claims.code_error_rates(cases).loc[(SMALL, "agent_distill_ftp", 1)].tolist() == [
        50,
        0,
        80,
    ]


def test_claims_are_shown_as_text_without_gaps_named_nan():
    shown = claims.claim_table(claims.check_claims(suite()))
    lead = shown.loc["P1 · 135M: agent distillation beats CoT distillation"]
    assert (
        lead["a (%)"] == "20.0"
        and lead["difference"].startswith("+30.0 [")
        and lead["p"] == "<0.001"
        and lead["n"] == 100
    )
    assert lead["published"] == "+5.6" and lead["margin"] == "0" and lead["p (Holm)"] == "<0.001"
    missing = claims.claim_table(claims.check_claims(suite().query("method != 'cot_distill'")))
    assert "not run" in missing["holds"].tolist() and "nan" not in missing.to_string()


def test_steps_that_broke_are_counted_by_question():
    found = claims.code_error_rates(suite())
    assert found.loc[(SMALL, "agent_distill_ftp", 1)].tolist() == [40, 0, 100]
    assert found.loc[(SMALL, "agent_distill_ftp", 8)].tolist() == [
        10,
        0,
        100,
    ] and "cot_distill" not in str(found.index)


def test_what_a_first_thought_changes_is_counted():
    def case(text, correct, calls):
        return {
            "correct": correct,
            "tool_calls": calls,
            "steps": 1,
            "parse_errors": 0,
            "execution_errors": calls,
            "trace": [{"text": text}],
        }

    found = claims.prefix_effects({
        "agent": [case("Thought: go.\nCode:\nx = 1", True, 0), case("Thought: go on.\nCode:\n", None, 1)],
        "agent_ftp": [case("Thought: one two three four.\nCode:\n", True, 2)] * 2,
    })  # fmt: skip
    assert found["right (%)"].tolist() == [50, 100]
    assert found["words of the first thought"].tolist() == [2.5, 5]
    assert found["searches per question"].tolist() == [0.5, 2]
    assert found["code failed to run (%)"].tolist() == [50, 100] and found[
        "code missing or not parsed (%)"
    ].tolist() == [0, 0]


def taught(chain, plain, started):
    """Cases of the three methods of a teacher from strings of 0 and 1, a question each."""
    return {
        method: [{"id": f"q{k}", "correct": mark == "1"} for k, mark in enumerate(marks)]
        for method, marks in (("cot", chain), ("agent", plain), ("agent_ftp", started))
    }


def test_the_prefix_is_split_by_whether_the_chain_of_thought_was_right():
    found, interaction = claims.prefix_split(
        taught("1" * 30 + "0" * 120, "1" * 20 + "0" * 10 + "1" * 84 + "0" * 36,
               "1" * 26 + "0" * 4 + "1" * 61 + "0" * 59)
    )  # fmt: skip
    assert found.index.tolist() == ["chain of thought right", "chain of thought wrong"]
    assert found[["n", "a right", "b right"]].values.tolist() == [[30, 20, 26], [120, 84, 61]]
    assert interaction["points"] == pytest.approx(100 * (6 / 30 + 23 / 120)), "20 and 19.2 points"
    assert interaction["p"] < 0.001


def test_a_prefix_that_helps_everywhere_alike_has_no_interaction():
    _, interaction = claims.prefix_split(taught("1100" * 20, "1010" * 20, "1010" * 20))
    assert interaction == {"points": 0.0, "p": 1.0}
    found, nothing = claims.prefix_split(taught("11", "10", "11"))
    assert len(found) == 1 and all(map(math.isnan, nothing.values()))


def test_questions_that_one_method_did_not_finish_are_left_out_of_the_split():
    cases = taught("1100", "1010", "1011")
    cases["agent"][0]["error"] = "lost"
    found, _ = claims.prefix_split(cases)
    assert found["n"].tolist() == [1, 2]


def test_the_ledger_of_the_vote_counts_questions_that_both_answered():
    def case(number, n, correct, broken=0, **more):
        fields = {"model": "m", "method": "agent_distill", "benchmark": "b", "id": number, "n": n}
        return fields | {"correct": correct, "parse_errors": 0, "execution_errors": broken} | more

    found = [
        case(1, 1, False, 1), case(1, 8, True),  # repaired, then right
        case(2, 1, False, 1), case(2, 8, False),  # repaired, still wrong
        case(3, 1, False, 2), case(3, 8, True, 1),  # won, with a broken step left
        case(4, 1, True), case(4, 8, None, 1),  # lost, and newly broken
        case(5, 1, True, 1), case(5, 8, True),  # repaired, was right before
        case(6, 1, True),  # the vote did not answer it
        case(1, 4, False), case(7, 1, True, method="cot_distill"), case(7, 8, True, method="cot_distill"),
        case(1, 1, True, training=1),
    ]  # fmt: skip
    ledger = claims.sag_ledger(statistics.to_frame(found))
    assert list(ledger.index) == [("m", "agent_distill", 8)]
    assert ledger.iloc[0].to_dict() == {
        "questions": 5, "broken": 4, "repaired": 3, "then right": 1, "newly broken": 1, "lost": 1,
        "won": 2,
    }  # fmt: skip


def test_without_a_vote_the_ledger_is_empty():
    row = {"model": "m", "method": "agent", "benchmark": "b", "id": 1, "n": 1, "correct": True}
    assert claims.sag_ledger(statistics.to_frame([row])).empty
