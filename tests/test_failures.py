"""Failures are drawn fairly, sorted into known causes, and read back."""

import pytest

from agentlib import config
from agentlib.figures import failures


def case(number, benchmark, correct=False, **changed):
    return {
        "id": f"{benchmark}-{number}",
        "benchmark": benchmark,
        "question": "?",
        "gold": "1",
        "prediction": "2",
        "correct": correct,
        "stopped": "final_answer",
        "trace": [{"text": "t"}],
        "model": "m",
        "method": "agent",
        "n": 1,
        "seconds": 3.0,
    } | changed


CASES = [case(k, name, correct=k == 0) for name in ("a", "b", "c") for k in range(10)]


def test_wrong_agent_cases_are_drawn_from_all_benchmarks_in_turn():
    chain = case(99, "d", text="no trace")
    del chain["trace"]
    drawn = failures.sample_failures([*CASES, chain], 6)
    assert sorted(c["benchmark"] for c in drawn) == ["a", "a", "b", "b", "c", "c"]
    assert not any(c["correct"] for c in drawn) and len({c["id"] for c in drawn}) == 6
    assert (
        drawn
        == failures.sample_failures([*CASES, chain], 6)
        != failures.sample_failures(CASES, 6, seed=1)
    )


def test_a_benchmark_that_runs_out_leaves_its_turns_to_the_others():
    few = [case(0, "a"), *(case(k, "b") for k in range(5))]
    assert [c["benchmark"] for c in failures.sample_failures(few, 4)] == ["a", "b", "b", "b"]
    with pytest.raises(ValueError, match="6 agent cases are wrong, expected 7"):
        failures.sample_failures(few, 7)


def test_what_was_read_is_kept_with_cause_and_note(project):
    cfg = config.load("laptop")
    assert failures.read_failures(cfg) == []
    failures.write_failures(
        cfg,
        [
            (case(1, "a-slice"), "reading", "took the region's row"),
            (case(2, "b-slice"), "reading", "x"),
            (case(3, "b-slice"), "format", "y"),
        ],
    )
    found = failures.read_failures(cfg)
    assert (
        found[0]["cause"] == "reading"
        and found[0]["note"] == "took the region's row"
        and "seconds" not in found[0]
    )
    counted = failures.failure_table(found)
    assert list(counted.index[:2]) == ["reading", "format"] and list(counted["cases"][:3]) == [
        2,
        1,
        0,
    ]
    assert counted.loc["reading", "in"] == "a, b"


def test_an_unknown_cause_is_refused_before_anything_is_written(project):
    with pytest.raises(
        ValueError,
        match="cause 'bad luck' of case 'a-1' is unknown, expected one of plan, search query",
    ):
        failures.write_failures(config.load("laptop"), [(case(1, "a"), "bad luck", "")])
    assert failures.read_failures(config.load("laptop")) == []
