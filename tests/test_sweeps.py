"""Variations of one setting: the plan is Tables 6-8, adapters are trained as needed, and nothing is run twice."""

import dataclasses

import pytest

from agentlib import benchmarks, config, distill, evaluate, records, sweeps

CFG = dataclasses.replace(config.load("laptop"), questions=2)


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """200 trajectories that passed the filter."""
    monkeypatch.setattr(distill, "training_cases", lambda cfg, method: [{"id": "q"}] * (cfg.train_examples or 200))
    monkeypatch.setattr(distill.cases, "conversation", lambda case: case)


def settings(cfg):
    found = {}
    for variation in sweeps.plan(cfg):
        found.setdefault(variation.setting, []).append(variation)
    return found


def test_the_plan_is_tables_6_to_8_and_the_number_of_trajectories():
    found = settings(CFG)
    assert [v.value for v in found["temperature"]] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert {v.arm.benchmarks for v in found["temperature"]} == {config.MATHS}
    assert len({v.value for v in found["seed"]}) == 5 and {v.arm.benchmarks for v in found["seed"]} == {("mini-aime",)}
    assert [v.cfg.tuning for v in found["tuning"]] == ["lora", "qlora", "full"]
    assert [v.cfg.train_examples for v in found["trajectories"]] == [25, 50, 100, 0]
    assert {v.arm.student for every in found.values() for v in every} == {CFG.students[0]}
    assert sweeps.plan(config.load("smoke")) == []


def test_more_trajectories_than_passed_the_filter_are_not_varied(monkeypatch, caplog):
    monkeypatch.setattr(distill, "training_cases", lambda cfg, method: [{"id": "q"}] * 60)
    assert [v.value for v in settings(CFG)["trajectories"]] == [25, 50, 0]
    assert "100 trajectories are not varied: 60 passed the filter" in caplog.text


def test_every_variation_has_a_folder_of_its_own(project):
    folders = {(v.setting, v.value): evaluate.arm_run(v.cfg, v.arm).folder for v in sweeps.plan(CFG)}
    assert folders["tuning", "lora"] == folders["trajectories", 0]
    assert len(set(folders.values())) == len(folders) - 1


def test_a_seed_of_inference_does_not_train_another_student(project):
    arms = [v.arm for v in settings(CFG)["seed"]]
    runs = [evaluate.arm_run(CFG, arm).configuration for arm in arms]
    assert len({run["adapter"] for run in runs}) == 1 and len({run["seed"] for run in runs}) == 5


def main_cases(cfg, arm):
    return [
        {"id": q.id, "benchmark": q.benchmark, "model": arm.student, "method": arm.method, "n": arm.n, "correct": True}
        for q in benchmarks.test_questions(cfg)
    ]  # fmt: skip


@pytest.mark.parametrize("setting", ["temperature", "seed", "tuning", "trajectories"])
def test_the_main_experiments_own_setting_is_taken_from_its_cases(setting):
    own = {"temperature": CFG.temperature, "seed": CFG.seed, "tuning": CFG.tuning, "trajectories": CFG.train_examples}
    for variation in settings(CFG)[setting]:
        main = main_cases(CFG, variation.arm)
        known = sweeps._already(CFG, variation, main)
        if variation.value == own[setting]:
            assert {c["benchmark"] for c in known} == set(variation.arm.benchmarks)
            assert len(known) == CFG.questions * len(variation.arm.benchmarks)
            assert sweeps._already(CFG, variation, main[1:]) == [] or main[0]["benchmark"] not in variation.arm.benchmarks
        else:
            assert known == []


def test_published_variations_are_small_and_say_what_was_varied(project):
    case = {"id": "q", "setting": "seed", "value": 43, "trace": ["long"], "seconds": 1.0, "correct": True}
    (read,) = records.read(sweeps.publish(CFG, [case]))
    assert read == {"id": "q", "setting": "seed", "value": 43, "correct": True}
