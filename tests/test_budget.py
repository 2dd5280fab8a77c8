"""GPU-hours: estimated from tokens and sizes, more for more of anything, and said with what they
rest on."""

import dataclasses

import pytest

from agentlib import config
from agentlib.runner import budget
from agentlib.runner.budget import Tokens

SMALL = config.load(
    "laptop",
    **config.TEACHING
    | config.NO_SWEEPS
    | {"sample_counts": (1,), "trainings": 1, "questions": 10, "train_questions": 30},
)
COT, AGENT = Tokens(100, 50), Tokens(1000, 200)


def hours(cfg, part=None):
    return sum(
        row["GPU-hours"] for row in budget.rows(cfg, COT, AGENT) if part in (None, row["part"])
    )


def test_tokens_are_those_of_the_last_prompt_and_all_that_was_written():
    steps = [{"prompt_tokens": 10}, {"prompt_tokens": 40}]
    cases = [{"trace": steps, "prompt_tokens": 50, "completion_tokens": 8}, {"prompt_tokens": 20, "completion_tokens": 4},
             {"error": "outage"}]  # fmt: skip
    assert budget.tokens(cases) == Tokens(30, 6)
    with pytest.raises(ValueError, match="no finished case to take tokens from"):
        budget.tokens([{"error": "outage"}])


def test_one_part_by_hand():
    (row,) = (r for r in budget.rows(SMALL, COT, AGENT) if r["part"] == "teacher: CoT")
    size, asked = 1.54e9, 60
    by_hand = size * (2 * asked * 100 / 0.4 + 2 * asked * 50 / 0.08) / 312e12 / 3600
    assert row["GPU-hours"] == pytest.approx(by_hand, rel=0.05) and row[
        "million tokens read"
    ] == pytest.approx(0.006)


@pytest.mark.parametrize(
    ("part", "changed"), [("train", {"epochs": 8}), ("train", {"train_questions": 60}), ("evaluate", {"questions": 20}),
                          ("evaluate", {"samples": 16})]
)  # fmt: skip
def test_more_of_it_costs_more(part, changed):
    assert hours(dataclasses.replace(SMALL, **changed), part) > 1.2 * hours(SMALL, part) > 0


def test_an_index_on_a_server_and_a_recorded_teacher_cost_nothing(paper_files):
    paper = config.load("paper", questions=1, train_questions=1)
    assert hours(paper, "encode the corpus") > 1
    assert hours(dataclasses.replace(paper, retriever_url="http://x"), "encode the corpus") == 0
    assert hours(dataclasses.replace(SMALL, teacher_records="teaching"), "teacher: Agent") == 0


def test_the_paper_preset_is_said_with_its_assumptions(paper_files):
    said = budget.sentence(config.load("paper"))
    assert (
        "GPU-hours of an A100, estimated, not measured" in said
        and 5 < float(said.split()[2]) < 100_000
    )
    table = budget.table(config.load("paper"))
    assert table["GPU-hours"].iloc[-1] == pytest.approx(table["GPU-hours"].iloc[:-1].sum())
