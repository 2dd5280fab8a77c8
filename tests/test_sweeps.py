"""Variations of one setting: the plan is Tables 6-8, adapters are trained as needed, and nothing
is run twice."""

import dataclasses
from collections import Counter

import pytest
from conftest import SMOL

from agentlib import benchmarks, config, distill, evaluate, records, teach
from agentlib.runner import sweeps

CFG = config.load(
    "laptop",
    **config.TEACHING | {"questions": 2, "sweep_questions": 1, "sweep_taught": (), "trainings": 1},
)


@pytest.fixture
def kept(monkeypatch):
    """200 trajectories that passed the filter."""
    monkeypatch.setattr(
        distill, "training_cases", lambda cfg, method: [{"id": "q"}] * (cfg.train_examples or 200)
    )
    monkeypatch.setattr(distill.cases, "conversation", lambda case: case)


def settings(cfg):
    found = {}
    for variation in sweeps.plan(cfg):
        found.setdefault(variation.setting, []).append(variation)
    return found


def test_the_plan_is_tables_6_to_8_and_the_number_of_trajectories(kept):
    found = settings(CFG)
    assert [v.value for v in found["temperature"]] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert {v.condition.benchmarks for v in found["temperature"]} == {("teaching-math",)}
    assert len({v.value for v in found["seed"]}) == 5 and {
        v.condition.benchmarks for v in found["seed"]
    } == {("teaching-math",)}
    assert [v.cfg.tuning for v in found["tuning"]] == ["lora", "qlora", "full"]
    assert [(v.value, v.cfg.train_examples) for v in found["trajectories"]] == [
        (25, 25),
        (50, 50),
        (100, 100),
        (200, 0),
    ]
    assert {v.condition.student for every in found.values() for v in every} == {CFG.students[0]}
    assert sweeps.plan(config.load("smoke")) == []


def test_the_papers_preset_varies_what_the_paper_does(kept):
    found = settings(config.load("paper", students=("Qwen2.5-3B-Instruct",)))
    assert {v.condition.benchmarks for v in found["temperature"]} == {
        ("math500", "gsm-hard", "aime", "olymmath")
    }
    assert {v.condition.benchmarks for v in found["seed"]} == {("aime",)} and len(
        found["seed"]
    ) == 5


@pytest.mark.parametrize(
    ("every", "few", "asked"), [(40, 25, 25), (5, 25, 5), (5, 0, 5), (0, 25, 25), (0, 0, 0)]
)
def test_settings_are_varied_on_fewer_questions_and_never_on_more(kept, every, few, asked):
    found = settings(dataclasses.replace(CFG, questions=every, sweep_questions=few))
    assert {v.cfg.questions for setting in found for v in found[setting]} == {asked}


def test_more_trajectories_than_passed_the_filter_are_not_varied(kept, monkeypatch, caplog):
    monkeypatch.setattr(distill, "training_cases", lambda cfg, method: [{"id": "q"}] * 60)
    assert [v.value for v in settings(CFG)["trajectories"]] == [25, 50, 60]
    assert "100 trajectories are not varied: 60 passed the filter" in caplog.text


def test_what_is_not_the_same_variation_has_a_folder_of_its_own(project, kept):
    folders = {
        (v.setting, v.value): evaluate.condition_run(v.cfg, v.condition).folder
        for v in sweeps.plan(CFG)
    }
    assert folders["tuning", "lora"] == folders["trajectories", 200]
    assert folders["temperature", CFG.temperature] == folders["seed", CFG.seed]
    assert len(set(folders.values())) == len(folders) - 2


def test_a_seed_of_inference_does_not_train_another_student(project, kept):
    conditions = [v.condition for v in settings(CFG)["seed"]]
    runs = [evaluate.condition_run(CFG, condition).configuration for condition in conditions]
    assert len({run["adapter"] for run in runs}) == 1 and len({run["seed"] for run in runs}) == 5


def main_cases(cfg, condition):
    return [
        {
            "id": q.id,
            "benchmark": q.benchmark,
            "model": condition.student,
            "method": condition.method,
            "n": condition.n,
            "correct": True,
        }
        for q in benchmarks.test_questions(cfg)
    ]


@pytest.mark.parametrize("setting", ["temperature", "seed", "tuning", "trajectories"])
def test_the_main_experiments_own_setting_is_taken_from_its_cases(setting, kept):
    own = {
        "temperature": CFG.temperature,
        "seed": CFG.seed,
        "tuning": CFG.tuning,
        "trajectories": 200,
    }
    for variation in settings(CFG)[setting]:
        main = main_cases(CFG, variation.condition)
        known = sweeps._main_cases(CFG, variation, main)
        if variation.value == own[setting]:
            assert {c["benchmark"] for c in known} == set(variation.condition.benchmarks)
            assert len(known) == CFG.sweep_questions * len(variation.condition.benchmarks)
            missing = [case for case in main if case["id"] != known[0]["id"]]
            assert sweeps._main_cases(CFG, variation, missing) == []
        else:
            assert known == []


def test_both_agents_are_taught_on_the_same_questions_and_asked_all_of_them(project):
    cfg = dataclasses.replace(CFG, sweep_taught=config.TAUGHT_ON, sweep_examples=())
    found = settings(cfg)["taught_on"]
    assert [(v.value, v.condition.method, v.cfg.taught_on, v.cfg.questions) for v in found] == [
        (value, method, value, cfg.questions)
        for value in ("all", "matched")
        for method in ("agent_distill", "agent_distill_ftp")
    ]
    assert [sweeps.is_main(cfg, v) for v in found] == [True, True, False, False]


def test_variations_that_are_answered_whole_are_found_in_their_folders(project, kept):
    cfg = dataclasses.replace(CFG, sweep_taught=("all",), sweep_examples=(), sweep_tunings=())
    assert sweeps.finished(cfg) == []
    first, second = settings(cfg)["taught_on"]
    asked = evaluate.questions_of(cfg, first.condition)
    for one, answered in ((first, asked), (second, asked[1:])):
        with evaluate.condition_run(cfg, one.condition) as run:
            for question in answered:
                run.append({"id": question.id, "method": one.condition.method})
    found = sweeps.finished(cfg)
    assert [case["id"] for case in found] == [question.id for question in asked]
    assert {(c["method"], c["setting"], c["value"]) for c in found} == {
        ("agent_distill", "taught_on", "all")
    }, "of the second one answer is missing"


def test_published_variations_are_small_and_say_what_was_varied(project):
    case = {
        "id": "q",
        "setting": "seed",
        "value": 43,
        "trace": ["long"],
        "seconds": 1.0,
        "correct": True,
    }
    (read,) = records.read(sweeps.publish(CFG, [case]))
    assert read == {"id": "q", "setting": "seed", "value": 43, "correct": True}


def taught(number):
    step = {
        "text": f"Thought: I add.\nCode:\n```py\nfinal_answer({number} + 1)\n```<end_code>",
        "observation": "",
    }
    return {
        "id": f"q{number}",
        "question": f"What is {number} + 1?",
        "domain": "math",
        "correct": True,
        "stopped": "final_answer",
        "parse_errors": 0,
        "trace": [step],
    }


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_real_student_is_trained_and_asked_for_every_variation_and_only_once(
    project, box, monkeypatch
):
    cfg = dataclasses.replace(
        CFG,
        students=(SMOL,),
        keep="right",
        benchmarks=("teaching-hotpot", "teaching-math"),
        questions=1,
        max_steps=1,
        step_tokens=16,
        samples=2,
        sweep_temperatures=(0.2, 1.0),
        sweep_seeds=2,
        sweep_examples=(1, 0),
        sweep_benchmarks=("teaching-hotpot", "teaching-math"),
        seed_benchmarks=("teaching-math",),
        epochs=1,
        batch_size=2,
        lora_rank=4,
    )
    for method in ("agent", "agent_ftp"):
        records.write_lines(teach.records_path(cfg, method), map(taught, range(2)))
    found = sweeps.run(cfg, [], box=box, search=str)
    counts = Counter((case["setting"], case["value"]) for case in found)
    assert counts == {
        ("temperature", 0.2): 2,
        ("temperature", 1.0): 2,
        ("seed", cfg.seed): 1,
        ("seed", cfg.seed + 1): 1,
        ("tuning", "lora"): 2,
        ("tuning", "qlora"): 2,
        ("tuning", "full"): 2,
        ("trajectories", 1): 2,
        ("trajectories", 2): 2,
    }
    assert {case["temperature"] for case in found if case["setting"] == "temperature"} == {0.2, 1.0}
    # everything is there: no model is loaded again
    monkeypatch.setattr(evaluate, "open_student", None)
    assert sweeps.run(cfg, [], box=box, search=str) == found
