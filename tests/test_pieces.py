"""The pieces of the long work: each alone, a chunk at a time, resumed, and what it costs said
first."""

import contextlib
import dataclasses
import importlib.util
import re

import pytest
from conftest import Scripted, act

from agentlib import benchmarks, config, distill, records, teach
from agentlib.runner import archive

_spec = importlib.util.spec_from_file_location(
    "pieces", config.ROOT / "tools" / "experiment" / "pieces.py"
)
pieces = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pieces)

OWN = [
    "train_sets=teaching-math-train", "train_questions=5", "questions=2", "benchmarks=teaching-math",
    "panel_benchmarks=teaching-math", "students=SmolLM2-135M-Instruct", "trainings=2",
]  # fmt: skip
COMMAND = ["--experiment=teaching", *(f"--set={setting}" for setting in OWN)]


def experiment(name, settings=()):
    """The configuration of an experiment with some settings of its own."""
    own = dict(map(config.setting, settings))
    cfg = config.load("laptop", **config.EXPERIMENTS[name] | own)
    return dataclasses.replace(cfg, preset=name)


@pytest.fixture
def teacher(project, monkeypatch, box):
    """A teacher that knows every answer, in an empty project folder."""
    cfg = experiment("teaching", OWN)
    golds = {q.text: q.answer for q in benchmarks.training_questions(cfg)}

    def reply(conversation, prefix, k):
        gold = golds[conversation[-1]["content"].removeprefix("Question: ")]
        chain = "agent" not in str(conversation[0]["content"]) and "boxed" in str(conversation[0])
        return f"I see.\n\n\\boxed{{{gold}}}" if chain else act(f"final_answer({gold!r})")

    model = Scripted(reply)
    monkeypatch.setattr(teach, "open_teacher", lambda cfg: contextlib.nullcontext(model))
    monkeypatch.setattr(pieces.Workshop, "box", box)
    monkeypatch.setattr(pieces.Workshop, "close", lambda self: None)
    return model


def test_the_list_says_what_is_left_and_asks_nothing(teacher, capsys):
    assert pieces.main([*COMMAND, "--list"]) == 0 and not teacher.calls
    said = capsys.readouterr().out
    assert "teacher/cot: 5 of 5 left, about 1 min" in said and "about 0.1 h in all" in said
    assert "train/" not in said, "nothing to train on is there yet"


def test_a_piece_is_done_chunk_by_chunk_and_resumed(teacher, capsys):
    assert pieces.main([*COMMAND, "teacher/cot", "--chunk=2", "--minutes=0.0000001"]) == 0
    assert not teacher.calls, "the time was over before anything began"
    assert pieces.main([*COMMAND, "teacher/cot", "--chunk=2"]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"teacher/cot: (\d) left", said) == ["5", "3", "1"]
    calls = len(teacher.calls)
    assert pieces.main([*COMMAND, "teacher/cot"]) == 0 and len(teacher.calls) == calls
    assert pieces.main([*COMMAND, "teacher/*", "--pack"]) == 0
    cfg = experiment("teaching", OWN)
    asked = benchmarks.training_questions(cfg)
    for method in teach.METHODS:
        done = teach.teacher_run(cfg, method).finished()
        assert [done[q.id]["correct"] for q in asked] == [True] * 5
        assert f"{teach.teacher_run(cfg, method).folder.name}.jsonl.xz" in {
            file.name for file in archive.folder(cfg).iterdir()
        }


def test_students_follow_once_their_teachers_cases_are_published(teacher, monkeypatch, capsys):
    assert pieces.main([*COMMAND, "teacher/cot", "teacher/agent", "--chunk=2"]) == 0
    assert pieces.main([*COMMAND, "--list"]) == 0
    listed = capsys.readouterr().out
    assert "train/135M/agent_distill/1" in listed and "train/135M/agent_distill_ftp" not in listed
    assert pieces.main([*COMMAND, "teacher/agent_ftp"]) == 0
    trained, kept = [], []
    monkeypatch.setattr(pieces.checkpoints, "keep", lambda run, place: kept.append(run.name))

    def train(own, student, method, search):
        trained.append((method, own.seed))
        (distill.adapter_run(own, student, method).folder / "student").mkdir(parents=True)

    there = lambda folder: (folder / "student").exists()  # noqa: E731
    monkeypatch.setattr(distill, "train", train)
    monkeypatch.setattr(pieces.checkpoints, "has_weights", there)
    monkeypatch.setattr(pieces.Workshop, "search", None)
    assert pieces.main([*COMMAND, "train/135M/agent_distill/*", "--keep"]) == 0
    (name,) = kept
    assert name.startswith("adapter-smollm2-135m-instruct-agent_distill-"), "the first one only"
    assert trained == [("agent_distill", 42), ("agent_distill", 43)]
    student = Scripted(lambda *_: act("final_answer(1)"))
    student.close = student.use = lambda *_: None
    monkeypatch.setattr(pieces.evaluate, "open_student", lambda *_: (student, {}))
    assert pieces.main([*COMMAND, "ask/135M/agent/n1/0", "--chunk=1"]) == 0
    assert len(student.calls) == 2
    assert pieces.main([*COMMAND, "ask/135M/agent/n1/0"]) == 0 and len(student.calls) == 2
    assert "ask/135M/agent/n1/0: 2 of 2 left" in capsys.readouterr().out


def test_what_is_varied_is_trained_asked_and_published_beside_the_main_experiment(
    teacher, monkeypatch, capsys
):
    own = ["--set=sweep_taught=all,matched", "--set=sweep_examples=2", "--set=questions=1"]
    command = [*COMMAND, *own]
    assert pieces.main([*command, "teacher/*"]) == 0
    assert pieces.main([*command, "--list"]) == 0
    listed = re.findall(r"^vary/\S+(?=:)", capsys.readouterr().out, re.MULTILINE)
    trained = {name for name in listed if name.startswith("vary/train/135M/agent_distill/")}
    # of this teacher all runs are kept, with and without prefix: the matched students are the others
    assert {name.rpartition("/")[2] for name in trained} == {
        "tuning=qlora", "tuning=full", "trajectories=2",
    }  # fmt: skip
    assert "vary/ask/135M/agent_distill_ftp/taught_on=matched" in listed
    assert "vary/ask/135M/agent_distill/taught_on=all" not in listed, "that is the main experiment"
    student = Scripted(lambda *_: act("final_answer(1)"))
    student.close = student.use = lambda *_: None
    opened = []
    monkeypatch.setattr(pieces.Workshop, "search", None)
    monkeypatch.setattr(
        pieces.evaluate, "open_student", lambda cfg, *_: opened.append(cfg.tuning) or (student, {})
    )
    varied = [f"vary/ask/135M/agent_distill/{name}=*" for name in ("tuning", "trajectories")]
    assert pieces.main([*command, *varied, "ask/135M/agent_distill/n1/*", "--pack"]) == 0
    assert set(opened) == {"lora", "qlora", "full"}, "each with its own settings"
    cfg = experiment("teaching", [*OWN, *(o[6:] for o in own)])
    found = records.read(cfg.records / "sweeps.jsonl")
    assert {(c["setting"], c["value"]) for c in found} >= {
        ("tuning", "qlora"), ("tuning", "full"), ("trajectories", 2), ("taught_on", "all"),
    }  # fmt: skip


def test_what_is_no_piece_is_said(teacher, capsys):
    assert pieces.main([*COMMAND, "teacher/ctt"]) == 2
    assert "error: no piece is called teacher/ctt; --list shows all" in capsys.readouterr().err
    assert pieces.main(["--set=questons=3"]) == 2 and "questions" in capsys.readouterr().err


@pytest.mark.parametrize("name", config.EXPERIMENTS)
def test_an_experiment_has_the_published_way_to_ask_whatever_its_preset(name):
    for preset in config.PRESETS:
        cfg = config.load(preset, **config.EXPERIMENTS[name])
        assert (cfg.first_thought, cfg.wording) == ("published", "plain")


def test_an_experiment_has_runs_and_records_of_its_own(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(pieces, "pieces", lambda cfg, shop, keep=False: seen.append(cfg) or [])
    assert pieces.main(["--experiment=teaching", "--list", "--set=questions=3"]) == 2
    (cfg,) = set(seen)
    assert cfg.benchmarks == config.TEACHING["benchmarks"] and cfg.questions == 3
    assert cfg.runs.name == cfg.records.name == "teaching" and cfg.samples == 8
    assert cfg.runs != config.load("laptop").runs


def test_the_eight_benchmarks_are_asked_of_the_committed_students_of_the_teaching_set():
    """Also CoT + RAG: trained on passages of the teaching set, asked over those of Wikipedia."""
    asked, taught = config.load("laptop"), experiment("teaching")
    assert asked.benchmarks == tuple(b.slice for b in config.BENCHMARKS)
    for method in distill.TEACHER_OF:
        names = [distill.adapter_run(c, c.students[0], method).folder.name for c in (asked, taught)]
        assert names[0] == names[1]
        assert distill.committed(
            asked, distill.adapter_run(asked, asked.students[0], method)
        ).exists()
    assert distill.passages_from(asked).corpus == "teaching" != asked.corpus
    assert distill.passages_from(taught) == taught
