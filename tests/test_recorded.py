"""The published cases of a preset as a table."""

import dataclasses

import pytest

from agentlib import config, records
from agentlib.figures import recorded

CFG = dataclasses.replace(
    config.load("smoke"), benchmarks=("teaching-math",), questions=3, corpus="teaching"
)


def publish(folder, monkeypatch, cases):
    monkeypatch.setattr(config.Config, "records", folder)
    records.write_lines(folder / "cases.jsonl", cases)


def case(k, **more):
    fields = {
        "id": f"teaching-math-{k:04}",
        "benchmark": "teaching-math",
        "split": "test",
        "domain": "math",
    }
    return fields | {"model": "a", "method": "agent", "n": 1, "correct": True} | more


def test_a_question_without_a_case_is_a_row_without_an_answer(tmp_path, monkeypatch):
    from agentlib import benchmarks

    asked = [q.id for q in benchmarks.load("teaching-math", 3)]
    publish(tmp_path, monkeypatch, [case(0) | {"id": name} for name in asked[:2]])
    frame = recorded.read_cases(CFG)
    assert list(frame["id"]) == asked and frame["correct"].isna().tolist() == [False, False, True]
    said = recorded.footer(CFG, frame)
    assert said == "preset smoke · a · 3 questions per benchmark"


def test_without_records_it_says_which_notebook_makes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(config.Config, "records", tmp_path)
    with pytest.raises(FileNotFoundError, match="run notebook 04 first"):
        recorded.read_cases(CFG)
