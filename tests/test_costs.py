"""What a run takes: wall times are kept beside its cases, become rates, and rates become an
estimate before the start."""

import pytest

from agentlib import benchmarks, config, distill, evaluate, records, teach
from agentlib.runner import costs

CFG = config.load(
    "laptop",
    **config.TEACHING
    | config.NO_SWEEPS
    | {
        "questions": 8,
        "train_questions": 3,
        "sample_counts": (1,),
        "trainings": 1,
        "teacher_tested": False,
        "epochs": 2,
        "batch_size": 4,
    },
)


@pytest.fixture
def trained(project, monkeypatch):
    """Ten trajectories a method, none of them trained on yet."""
    kept = [{"id": f"q{k}"} for k in range(10)]
    monkeypatch.setattr(
        distill, "training_cases", lambda cfg, method: kept[: cfg.train_examples or None]
    )
    monkeypatch.setattr(distill.cases, "conversation", lambda case: case)


def test_a_run_keeps_the_time_it_was_open_and_what_it_finished(tmp_path):
    run = records.Run(tmp_path, "eval", {})
    with run:
        run.append({"id": "a"})
        run.append({"id": "b", "error": "outage"})
    with run:
        pass  # nothing was done: no line
    with run:
        run.append({"id": "b"})
    first, second = records.read(run.times)
    assert (
        (first["cases"], second["cases"]) == (1, 1)
        and first["seconds"] >= 0
        and first["machine"] == records.machine()
    )


def spend(part, seconds, cases, machine=None):
    part.run.folder.mkdir(parents=True, exist_ok=True)
    records.write_lines(
        part.run.times,
        [{"seconds": seconds, "cases": cases, "machine": machine or records.machine()}],
    )


def test_parts_are_the_teacher_the_adapters_and_every_arm(trained):
    found = list(costs.parts(CFG))
    assert [p.work for p in found] == ["teacher"] * 3 + ["training"] * 4 + ["evaluation"] * len(
        evaluate.plan(CFG, CFG.students[0])
    )
    assert {p.planned for p in found if p.work == "teacher"} == {6}
    # epochs times steps: ten cases, four a step
    assert {p.planned for p in found if p.work == "training"} == {2 * 3}
    assert {p.planned for p in found if p.work == "evaluation"} == {16}


def test_what_is_finished_counts_as_done(trained):
    condition = evaluate.plan(CFG, CFG.students[0])[0]
    questions = benchmarks.test_questions(CFG)
    with evaluate.condition_run(CFG, condition) as run:
        for question in questions[:5]:
            run.append({"id": question.id})
    (part,) = (p for p in costs.parts(CFG) if p.run.folder == run.folder)
    assert (part.planned, part.done) == (16, 5)


def test_rates_become_an_estimate(trained):
    assert costs.estimate(CFG) == ""
    for part in costs.parts(CFG):
        if part.work == "training":
            records.write_lines(part.run.folder / "loss.jsonl", [{"seconds": 60.0}] * 6)
            records.write_json(part.run.folder / "finished.json", {})
            (part.run.folder / "student").mkdir()
        else:
            spend(part, 600.0, 10)  # a minute a question
    costs.measure(CFG)
    conditions = len(evaluate.plan(CFG, CFG.students[0]))
    said = costs.estimate(CFG)
    hours = (3 * 6 + 16 * conditions) / 60
    assert said.startswith(
        f"about {hours:.1f} h are left (teacher 18 min, evaluation {16 * conditions / 60:.1f} h)"
    ), said
    assert costs.estimate(CFG, ["02"]).startswith("about 18 min are left (teacher 18 min)")
    assert costs.estimate(CFG, ["03"]) == "nothing long is left to do: all cases are there"
    for part in costs.parts(CFG):
        if part.work == "training":
            # its losses alone are here, and questions are left to ask it
            (part.run.folder / "student").rmdir()
    assert "training 24 min" in costs.estimate(CFG)


def test_a_student_without_weights_is_trained_again_only_where_questions_are_left(trained):
    def steps():
        return [p.done for p in costs.parts(CFG) if p.work == "training"]

    for part in costs.parts(CFG):
        if part.work == "training":
            records.write_json(part.run.folder / "finished.json", {})
    assert steps() == [0, 0, 0, 0]
    for part in costs.parts(CFG):
        if part.work == "evaluation":
            with part.run as run:
                for question in benchmarks.test_questions(CFG):
                    run.append({"id": question.id})
    assert steps() == [6, 6, 6, 6]


def test_a_student_that_came_with_the_project_is_not_trained(trained):
    first, *others = [part for part in costs.parts(CFG) if part.work == "training"]
    distill.committed(CFG, first.run).mkdir(parents=True)
    done = {p.name: p.done for p in costs.parts(CFG) if p.work == "training"}
    assert done == {first.name: 6} | {part.name: 0 for part in others}


def test_steps_timed_on_another_kind_of_device_do_not_count(trained):
    (part,) = [p for p in costs.parts(CFG) if p.name.endswith("-agent_distill")]
    elsewhere = [{"seconds": 1.0, "device": "cuda"}] * 4
    for rows, rate in ((elsewhere, None), ([*elsewhere, {"seconds": 9.0, "device": "cpu"}], 9.0)):
        records.write_lines(part.run.folder / "loss.jsonl", rows)
        records.write_json(part.run.folder / "finished.json", {})
        (part.run.folder / "student").mkdir(exist_ok=True)
        known = records.read_json(costs.measure(CFG))["parts"].get(part.name)
        assert (known and known["seconds"] / known["units"]) == rate


PUBLISHED = {
    "work": "teacher",
    "unit": "question",
    "machine": "8 cores of another",
    "seconds": 100.0,
    "units": 10,
}


def test_a_machine_without_runs_keeps_what_was_published(trained):
    records.write_json(CFG.records / "costs.json", {"parts": {"teacher-cot": PUBLISHED}})
    assert records.read_json(costs.measure(CFG))["parts"] == {"teacher-cot": PUBLISHED}


def test_each_part_names_the_machine_it_was_measured_on(trained):
    """Runs that were restored bring other machines' times, or times without a machine, and
    losses without weights."""
    records.write_json(
        CFG.records / "costs.json",
        {"parts": {"teacher-cot": PUBLISHED, "teacher-agent": PUBLISHED}},
    )
    by_name = {part.name: part for part in costs.parts(CFG)}
    spend(by_name["teacher-cot"], 1.0, 10, "16 cores of a server")
    spend(by_name["teacher-agent"], 30.0, 10)
    (training,) = [part for name, part in by_name.items() if name.endswith("-agent_distill")]
    records.write_lines(training.run.folder / "loss.jsonl", [{"seconds": 60.0}] * 6)
    records.write_json(training.run.folder / "finished.json", {})
    found = records.read_json(costs.measure(CFG))["parts"]
    assert found["teacher-cot"] == PUBLISHED and training.name not in found
    assert found["teacher-agent"] == PUBLISHED | {"seconds": 30.0, "machine": records.machine()}
    said = costs.estimate(CFG, ["02"])
    assert (
        f"as measured on 8 cores of another and on {records.machine()}; this machine has"
        f" {records.machine()}" in said
    )


COMMITTED = sorted((config.ROOT / "figures" / "records").glob("*/costs.json"))


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.parent.name)
def test_every_committed_part_names_its_machine(file):
    for name, part in records.read_json(file)["parts"].items():
        assert (
            set(part) == {"work", "unit", "machine", "seconds", "units"}
            and "cores of" in part["machine"]
        ), name


def test_parts_without_a_rate_are_named(trained):
    records.write_json(CFG.records / "costs.json", {"parts": {"teacher-cot": PUBLISHED}})
    said = costs.estimate(CFG)
    assert "more than 1 min are left (teacher 1 min), as measured on 8 cores of another" in said
    assert "parts were never measured (teacher-agent, teacher-agent_ftp, " in said


def test_nothing_left_says_so(trained, monkeypatch):
    records.write_json(CFG.records / "costs.json", {"parts": {}})
    done = [
        costs.Part("teacher", "teacher-cot", "question", 3, 3, teach.teacher_run(CFG, "cot"), "02")
    ]
    monkeypatch.setattr(costs, "parts", lambda cfg: done)
    assert costs.estimate(CFG) == "nothing long is left to do: all cases are there"
