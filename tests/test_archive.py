"""Packed runs: what was finished elsewhere is put back, exactly, and never where another
configuration asks."""

import dataclasses
import shlex

import pytest

from agentlib import benchmarks, cases, config, distill, evaluate, records, teach
from agentlib.benchmarks import wiki
from agentlib.cot import CoTResult
from agentlib.models import Completion
from agentlib.runner import archive, run, train
from agentlib.training import checkpoints

SMOL = "SmolLM2-135M-Instruct"
CFG = config.load(
    "laptop",
    **config.TEACHING
    | config.NO_SWEEPS
    | {
        "students": (SMOL,),
        "benchmarks": ("teaching-math",),
        "panel_benchmarks": ("teaching-math",),
        "questions": 2,
        "train_questions": 3,
        "sample_counts": (1,),
        "trainings": 1,
        "teacher_tested": False,
    },
)
CURVE = [{"step": 0, "loss": 2.5, "tokens": 7, "learning_rate": 0.1, "seconds": 1.0}]


@pytest.fixture
def trained(project, monkeypatch):
    monkeypatch.setattr(distill, "training_cases", lambda cfg, method: [{"id": "q"}])
    monkeypatch.setattr(distill.cases, "conversation", lambda case: case)


def answered(condition, cfg=CFG):
    """The run of a condition with all its cases; their text holds what models can write: a lone
    surrogate, a line separator."""
    done = evaluate.condition_run(cfg, condition)
    with done:
        for question in benchmarks.test_questions(cfg):
            chain = CoTResult(
                question.id, (Completion("\\boxed{1} \udcff\u2028.", 3, 2, "stop"),), ("1",), "1"
            )
            done.append(cases.cot_case(question, chain, model=SMOL, method=condition.method, n=1))
    return done


def forget(*runs):
    for one in runs:
        one.folder.rename(one.folder.with_name("lost-" + one.folder.name))


def test_a_packed_run_comes_back_as_it_was_and_nothing_is_asked_again(trained):
    conditions = evaluate.plan(CFG, SMOL)
    runs = [answered(condition) for condition in conditions]
    before = [
        (r.finished(), list(records.read(r.times)), records.read_json(r.folder / "config.json"))
        for r in runs
    ]
    assert len(archive.pack(CFG)) == len(runs)
    forget(*runs)
    assert evaluate.condition_run(CFG, conditions[0]).finished() == {}
    restored = archive.restore(CFG)
    assert (restored.runs, restored.cases, restored.unmatched) == (len(runs), 2 * len(runs), ())
    assert before == [
        (r.finished(), list(records.read(r.times)), records.read_json(r.folder / "config.json"))
        for r in runs
    ]
    # no weights are loaded, none are here
    found = evaluate.evaluate_student(CFG, SMOL, box=None, search=None)
    assert len(found) == 2 * len(conditions)
    assert archive.restore(CFG).runs == 0, "what is there already is not put back again"


def test_restoring_keeps_newer_cases_and_adds_what_is_lacking(trained):
    condition = evaluate.plan(CFG, SMOL)[0]
    whole = answered(condition)
    archive.pack(CFG)
    forget(whole)
    first, second = benchmarks.test_questions(CFG)
    with whole:
        whole.append({"id": first.id, "mine": True})
        whole.append({"id": second.id, "error": "outage"})
    assert archive.restore(CFG).cases == 1
    assert (
        whole.finished()[first.id] == {"id": first.id, "mine": True}
        and "text" in whole.finished()[second.id]
    )


def test_a_run_with_less_does_not_replace_a_packed_one_with_more(trained):
    condition = evaluate.plan(CFG, SMOL)[0]
    whole = answered(condition)
    (file,) = archive.pack(CFG)
    packed = file.read_bytes()
    forget(whole)
    with whole:
        whole.append({"id": benchmarks.test_questions(CFG)[0].id})
    assert archive.pack(CFG) == [] and file.read_bytes() == packed


def test_the_same_cases_are_packed_to_the_same_bytes(trained):
    answered(evaluate.plan(CFG, SMOL)[0])
    (file,) = archive.pack(CFG)
    first = file.read_bytes()
    archive.pack(CFG)
    assert file.read_bytes() == first


def test_what_another_configuration_made_is_left_alone_and_named(trained):
    answered(evaluate.plan(CFG, SMOL)[0])
    (file,) = archive.pack(CFG)
    other = dataclasses.replace(CFG, step_tokens=17, cot_tokens=17)
    assert archive.restore(other) == archive.Restored(0, 0, (file.name,))


def test_a_restored_student_has_its_losses_and_no_weights(trained):
    one = distill.adapter_run(CFG, SMOL, "agent_distill")
    records.write_lines(one.folder / "loss.jsonl", CURVE)
    records.write_json(one.folder / "finished.json", {"steps": 1})
    (one.folder / "student").mkdir()
    archive.pack(CFG)
    forget(one)
    archive.restore(CFG)
    assert distill.train(CFG, SMOL, "agent_distill", recorded=True).losses == tuple(CURVE)
    assert checkpoints.is_finished(one.folder) and not checkpoints.has_weights(one.folder)
    with pytest.raises(
        FileNotFoundError,
        match="was restored from records and has no weights; delete it and train it",
    ):
        checkpoints.finished(one.folder)


def test_weights_that_are_not_here_are_trained_where_they_are_needed_and_the_page_says_so(
    trained, monkeypatch, capsys
):
    asked = []
    monkeypatch.setattr(distill, "train", lambda cfg, student, method, search: asked.append(cfg))
    one = distill.adapter_run(CFG, SMOL, "agent_distill")
    checkpoints.restore_losses(one.folder, CURVE, one.configuration)
    distill.load_or_train_preview(CFG, SMOL, "agent_distill")
    assert [(c.train_examples, c.epochs) for c in asked] == [(distill.PREVIEW_EXAMPLES, 1)]
    said = capsys.readouterr().out  # what a page shows: logs are left out of it
    assert (
        f"STAND-IN: the weights of {SMOL}, agent_distill are not here" in said
        and "at most 20 trajectories and one epoch" in said
    )
    assert distill.train_command(CFG, SMOL, "agent_distill") in said.splitlines()
    (one.folder / "student").mkdir()
    assert (
        distill.load_or_train_preview(CFG, SMOL, "agent_distill").path == one.folder / "student"
        and len(asked) == 1
    )
    assert capsys.readouterr().out == "", "the real student needs no word"


@pytest.mark.parametrize(
    "own",
    [
        {},
        config.TEACHING,
        {
            "learning_rate": 1e-5,
            "teacher_server": "",
            "students": ("a b", SMOL),
            "panel_benchmarks": (),
            "weights": "hub",
        },
    ],
)
def test_the_line_that_trains_the_real_student_has_its_very_settings(trained, monkeypatch, own):
    cfg, asked = config.load("laptop", **own), []
    monkeypatch.setattr(
        train.distill,
        "train",
        lambda *a, **_: asked.append(a) or checkpoints.Adapter(None, ({"loss": 1.0},)),
    )
    python, dash, module, command, *arguments = shlex.split(
        distill.train_command(cfg, SMOL, "agent_distill")
    )
    assert (python, dash, module, command) == ("python", "-m", "agentlib", "train") and train.main(
        arguments
    ) == 0
    assert asked == [(cfg, SMOL, "agent_distill", None)]


# the first two students of the teaching set, whose teacher had been asked fewer questions
EARLIER = {
    "adapter-smollm2-135m-instruct-cot_distill-067ff1a07d",
    "adapter-smollm2-135m-instruct-agent_distill-4ff5e6dc9f",
}


@pytest.mark.parametrize("name", ["laptop", "teaching"])
def test_the_committed_runs_are_those_of_the_experiments_as_they_are_now(name, request):
    """A setting that is added to a run's configuration renames the packed runs too, or
    `--from-records` finds none of them."""
    if name == "laptop":
        request.getfixturevalue("paper_files")
        if not (wiki.folder() / wiki.QUESTIONS).exists():
            pytest.skip("the slice of Wikipedia is not here; `python tools/build_wiki.py` makes it")
    own = config.EXPERIMENTS.get(name, {})
    cfg = dataclasses.replace(config.load("laptop", **own), preset=name)
    asked = {run.folder.name: run.configuration for _, run in archive.runs(cfg)}
    packed = {
        file.name.removesuffix(".jsonl.xz"): archive.unpack(file)[0]["configuration"]
        for file in archive.folder(cfg).glob("*.jsonl.xz")
    }
    assert packed
    for folder, found in packed.items():
        if folder.startswith("pilot-"):  # those of tools/experiment/pilot.py: `test_pilot`
            continue
        if folder in EARLIER or found.get("adapter") in EARLIER:  # other data, and no other setting
            changed = "data" if folder in EARLIER else "adapter"
            others = ({**other, changed: found[changed]} for other in asked.values())
            assert folder not in asked and found in others, folder
        else:
            assert found == asked.get(folder), folder


def test_later_tries_of_the_teacher_are_packed_too(trained):
    for attempt in (0, 2):
        with teach.teacher_run(CFG, "cot", attempt) as one:
            one.append({"id": "q", "attempt": attempt})
    assert len(archive.pack(CFG)) == 2


def test_a_broken_file_is_named(trained):
    answered(evaluate.plan(CFG, SMOL)[0])
    (file,) = archive.pack(CFG)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(
        ValueError,
        match=r"packed run .*\.jsonl\.xz cannot be read .*; check it out again, or delete it",
    ):
        archive.unpack(file)


def test_the_command_says_what_it_took_from_records(trained):
    answered(evaluate.plan(CFG, SMOL)[0])
    archive.pack(CFG)
    assert run._restore(CFG).startswith("0 runs with 0 cases are restored from ")
    assert run._restore(dataclasses.replace(CFG, cot_tokens=17, step_tokens=17)).endswith(
        ".jsonl.xz"
    )


def test_the_command_packs_what_is_finished_so_far(trained, capsys, monkeypatch):
    answered(evaluate.plan(CFG, SMOL)[0])
    monkeypatch.setattr(run.config, "load", lambda preset, **_: CFG)
    assert run.main(["--preset", "laptop", "--pack"]) == 0
    assert (
        capsys.readouterr().out.startswith("1 runs of ")
        and len(list(archive.folder(CFG).iterdir())) == 1
    )
    assert records.read_json(CFG.records / "costs.json")["parts"]


def test_a_preset_without_packed_runs_has_nothing_to_restore(project):
    assert archive.restore(config.load("paper")) == archive.Restored(0, 0, ())


def test_packed_runs_without_the_teachers_records_are_a_sentence(project, capsys, monkeypatch):
    archive.folder(CFG).mkdir(parents=True)
    monkeypatch.setattr(run.config, "load", lambda preset, **_: CFG)
    assert run.main(["--preset", "laptop", "--from-records", "--only", "03"]) == 2
    assert "error: records file" in capsys.readouterr().err


def test_recorded_answers_stand_for_what_is_not_asked_afresh(trained, project):
    whole = dataclasses.replace(CFG, preset="recorded", questions=3)
    few = dataclasses.replace(
        CFG, preset="few", teacher_records="recorded", live_methods=("cot_distill",), questions=2
    )
    conditions = evaluate.plan(whole, SMOL)
    for condition in conditions:
        run = answered(condition, whole)
        archive.pack_run(whole, "evaluation", run)
    taken = archive.take_recorded(few)
    fresh = [c for c in evaluate.plan(few, SMOL) if c not in taken]
    assert [(c.method, c.n) for c in fresh] == [("cot_distill", 1)]
    for condition in evaluate.plan(few, SMOL):
        found = evaluate.condition_run(few, condition).finished()
        asked = {q.id for q in evaluate.questions_of(few, condition)}
        assert set(found) == (asked if condition in taken else set())
    assert archive.take_recorded(dataclasses.replace(few, live_methods=())) == []
    assert archive.take_recorded(dataclasses.replace(few, questions=4)) == [], "one lacks"
    assert archive.take_recorded(dataclasses.replace(few, step_tokens=7, cot_tokens=7)) == []


def test_a_method_that_is_to_be_asked_afresh_must_be_one():
    with pytest.raises(ValueError, match="'live_methods' holds 'agnet', expected some of cot, "):
        config.load("smoke", live_methods=("agnet",))
