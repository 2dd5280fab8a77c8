"""Rounds of own runs as a command: on questions of their own, every part resumed, all arms with
as many steps."""

import dataclasses
import shutil

import pytest
from conftest import Scripted, act
from test_pieces import pieces

from agentlib import (
    benchmarks,
    config,
    distill,
    evaluate,
    improve,
    masks,
    records,
    rounds,
    teach,
    training,
)
from agentlib.training import loop

OWN = [
    "improve_questions=2", "improve_runs=2", "improve_later_runs=1", "improve_steps=5", "questions=3",
    "teacher_tries=2",
]  # fmt: skip
COMMAND = ["--experiment=improve", *(f"--set={setting}" for setting in OWN)]
RECORDS = config.ROOT / "figures" / "records" / "teaching"


def load(*settings):
    own = dict(map(config.setting, settings or OWN))
    cfg = config.load("laptop", **config.IMPROVE | own)
    return dataclasses.replace(cfg, preset="improve")


@pytest.fixture
def recorded(project):
    """A project that holds the teacher's records of the teaching set, and nothing else."""
    folder = project / "figures" / "records" / "teaching"
    folder.mkdir(parents=True)
    for file in RECORDS.glob("teacher_agent*.jsonl"):
        shutil.copy(file, folder)
    return project


class Student(Scripted):
    """Right in its second run of a question, wrong by a step that computes in the first; it says
    which tokens it sampled."""

    def __init__(self, cfg, tokenizer=None):
        asked = [*rounds.questions(cfg), *benchmarks.test_questions(cfg)]
        self.golds, self.tokenizer = {q.text: q.answer for q in asked}, tokenizer
        self.opened = []
        super().__init__(lambda conversation, prefix, k: "")

    def generate(self, conversations, *, seed=None, **options):
        right = seed == 42 + 1000  # the seed of the second run

        def reply(conversation, prefix, k):
            gold = self.golds[conversation[1]["content"].removeprefix("Question: ")]
            if len(conversation) == 2:
                return act("x = 1 + 1\nprint(x)" if right else "x = 1 - 1\nprint(x)")
            return act(f"final_answer({gold!r} if x == 2 else 'nothing')")

        self.reply = reply
        found = super().generate(conversations, seed=seed, **options)
        if self.tokenizer is None:
            return found
        ids = lambda text: tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
        return [[dataclasses.replace(c, tokens=ids(c.text)) for c in of_one] for of_one in found]

    def use(self, adapter):
        self.opened.append(adapter)

    def close(self):
        pass


@pytest.fixture
def student(recorded, monkeypatch, box):
    """A student with scripted runs in place of the model, and no search to build."""
    model = Student(load())
    monkeypatch.setattr(evaluate, "open_student", lambda cfg, name, conditions: (model, {}))
    monkeypatch.setattr(pieces.Workshop, "box", box)
    monkeypatch.setattr(pieces.Workshop, "search", None)
    monkeypatch.setattr(pieces.Workshop, "close", lambda self: None)
    monkeypatch.setattr(rounds, "available_tests", lambda: ["plain", "failing"])
    return model


# --- questions -------------------------------------------------------------------------------


def test_a_student_goes_wrong_on_questions_that_nobody_trains_or_tests_on(recorded):
    cfg = load("improve_questions=80", "questions=0")
    own = rounds.questions(cfg)
    assert len(own) == 160 and len({q.id for q in own}) == 160
    assert [q.benchmark for q in own[:2]] == list(cfg.train_sets)
    taught = benchmarks.training_questions(cfg)
    tested = benchmarks.test_questions(cfg)
    assert len(taught) == 400 and len(tested) == 462
    for others in (taught, tested):
        assert not {q.id for q in own} & {q.id for q in others}
        assert not {q.text for q in own} & {q.text for q in others}
    assert {q.id for q in rounds.questions(load("improve_questions=2"))} < {q.id for q in own}
    for wrong in (0, 89):
        with pytest.raises(ValueError, match=f"'improve_questions' is {wrong}, expected 1 to 88"):
            rounds.questions(load(f"improve_questions={wrong}"))


def test_a_failing_search_is_tried_on_questions_that_need_one(recorded):
    cfg = load("questions=0")
    asked = rounds.questions_for(cfg, "failing")
    assert len(asked) == 144 and {q.benchmark for q in asked} == {"teaching-hotpot"}
    assert not any(q.held_out for q in asked)
    assert len(rounds.questions_for(cfg, "plain")) == 462
    wiki = rounds.settings_for(cfg, "wiki")
    assert wiki.benchmarks == ("bamboogle-slice",) and wiki.retriever == "bm25"
    with pytest.raises(ValueError, match="test 'exam' is unknown, expected one of plain"):
        rounds.settings_for(cfg, "exam")


# --- the command -----------------------------------------------------------------------------


def names(said):
    return [line.partition(":")[0] for line in said.splitlines() if line.startswith("improve/")]


def test_the_list_has_what_can_be_done_now(student, capsys):
    assert pieces.main([*COMMAND, "--list"]) == 0 and not student.calls
    assert names(capsys.readouterr().out) == [
        "improve/train/teacher/0", "improve/ask/teacher/plain/0", "improve/ask/teacher/failing/0",
        "improve/rollout/1/0", "improve/rollout/1/1", "improve/sample/1",
    ]  # fmt: skip
    assert pieces.main([*COMMAND, "improve/rollout/9"]) == 2
    assert "no piece is called improve/rollout/9" in capsys.readouterr().err
    assert pieces.main([*COMMAND, "--set=improve_questions=500"]) == 2
    assert "improve_questions' is 500, expected 1 to 88" in capsys.readouterr().err


def test_runs_are_recorded_question_by_question_and_resumed(student, capsys):
    assert pieces.main([*COMMAND, "improve/rollout/1/0", "--chunk=3"]) == 0
    assert "improve/rollout/1/0: 1 left" in capsys.readouterr().out
    calls = len(student.calls)
    assert pieces.main([*COMMAND, "improve/rollout/1/0"]) == 0 and len(student.calls) == calls
    cfg = load()
    done = rounds.rollout_run(cfg, 1, 0).finished()
    assert set(done) == {q.id for q in rounds.questions(cfg)}
    assert {(r["round"], r["run"], r["temperature"]) for r in done.values()} == {(1, 0, 0.7)}
    with pytest.raises(
        RuntimeError, match=r"arm 'own1' has no data yet: 4 of 4 runs of 'rollout/1/1'"
    ):
        rounds.lessons(cfg, "own1")
    with pytest.raises(ValueError, match="arm 'own9' is unknown, expected one of teacher, own1"):
        rounds.lessons(cfg, "own9")


def test_what_a_student_is_trained_on_has_its_sampled_tokens_or_is_refused(student, capsys):
    assert pieces.main([*COMMAND, "improve/rollout/1/*"]) == 2
    assert "has no sampled tokens, expected those of every turn" in capsys.readouterr().err
    assert len(rounds.rolled_out(load(), 1)) == 8, "the runs are kept"


@pytest.mark.model
def test_every_arm_takes_as_many_steps_and_learns_what_it_should(
    student, smol, monkeypatch, capsys
):
    cfg, tokenizer = load(), smol.tokenizer
    student.tokenizer = tokenizer
    teacher = Scripted(lambda *_: act("x = 2"))
    monkeypatch.setattr(pieces.Workshop, "teacher", lambda self: teacher)
    trained = {}

    def fine_tune(base, examples, settings, folder, *, configuration):
        trained[configuration["arm"]] = examples, settings
        (folder / "student").mkdir(parents=True)
        (folder / "finished.json").write_text("{}")
        (folder / "loss.jsonl").write_text("")

    monkeypatch.setattr(training, "fine_tune", fine_tune)
    for name in ("improve/rollout/1/*", "improve/repair", "improve/train/*"):
        assert pieces.main([*COMMAND, name]) == 0, capsys.readouterr().err
    # round 2 is asked of the student that was trained in round 1, and only once it is
    weights = rounds.training_run(cfg, "own1").folder / "student"
    weights.rename(weights.with_name("away"))
    assert pieces.main([*COMMAND, "improve/rollout/2/*"]) == 2
    weights.with_name("away").rename(weights)
    assert pieces.main([*COMMAND, "improve/rollout/2/*"]) == 0
    first, second = (rounds.rollout_run(cfg, number, 0).configuration for number in (1, 2))
    assert second["adapter"] == rounds.training_run(cfg, "own1").folder.name != first["adapter"]
    assert [len(rounds.rolled_out(cfg, number)) for number in (1, 2)] == [8, 4], "a run less each"
    assert pieces.main([*COMMAND, "improve/train/own2/0"]) == 0, capsys.readouterr().err

    assert list(trained) == ["teacher", "own1", "repair", "own2"]
    taught = len(distill.training_cases(cfg, "agent_distill"))
    counts = {arm: len(examples) for arm, (examples, _) in trained.items()}
    # the right runs of both maths questions; those of the factual ones read no passage
    assert counts["own1"] == counts["repair"] == counts["own2"] == taught + 2 > counts["teacher"]
    assert {settings.steps for _, settings in trained.values()} == {5}
    for examples, settings in trained.values():
        assert len(loop._batches([len(e.input_ids) for e in examples], settings)) == 5

    # a repaired run has loss on the teacher's step alone, an own run the tokens that were sampled
    for example in trained["repair"][0][-2:]:
        learnt = [label for label in example.labels if label != masks.IGNORED]
        assert tokenizer.decode(learnt) == act("x = 2") + "<end_code><|im_end|>"
    for lesson, example in zip(
        rounds.lessons(cfg, "own1")[-2:], trained["own1"][0][-2:], strict=True
    ):
        assert lesson.case["run"] == 1 and lesson.case["correct"]
        learnt = [label for label in example.labels if label != masks.IGNORED]
        for tokens in lesson.tokens:
            assert learnt[: len(tokens)] == list(tokens)
            learnt = learnt[learnt.index(tokenizer.eos_token_id) + 1 :]
        assert not learnt

    assert pieces.main([*COMMAND, "improve/ask/own1/*", "--pack"]) == 0, capsys.readouterr().err
    answers, said = (list(records.read(file)) for file in rounds.publish(cfg))
    assert {(a["arm"], a["benchmark"]) for a in answers} == {
        ("own1", name) for name in cfg.benchmarks
    }
    assert {a["test"] for a in answers} >= {"in-domain", "failing search"}
    assert not any("trace" in a for a in answers)
    assert "experiment improve" in (cfg.figures / "arms.svg").read_text(encoding="utf-8")
    parts = {row["part"]: row for row in said}
    assert parts["round 1"]["pass_1"] == 0.5 and parts["round 1"]["pass_k"] == 1.0
    assert parts["round 1"]["kept"] == 2 and parts["repairs"]["kept"] == 2
    assert parts["arm own1"]["new"] == 2
    assert {parts[f"arm {arm}"]["steps"] for arm in trained} == {5}
    packed = list((cfg.records / "runs").iterdir())
    assert packed and all(file.suffix == ".xz" for file in packed)

    # another machine, which has the records alone, goes on where this one stopped
    assert pieces.main([*COMMAND, "--list", "--pack"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    shutil.rmtree(cfg.runs)
    for cached in (rounds._training_run, rounds._distilled):
        cached.cache_clear()
    assert pieces.main([*COMMAND, "--list"]) == 0
    listed = capsys.readouterr().out
    assert "improve/rollout/1/1: 4 rows put back from the records" in listed
    assert "improve/train/own1/0: 0 of 5 left" in listed, "its questions are answered"
    assert "improve/train/teacher/0: 5 of 5 left" in listed, "its questions are not"
    assert [list(records.read(file)) for file in rounds.publish(cfg)] == [answers, said]


def test_of_the_teachers_tries_one_is_selected_for_each_question(recorded, monkeypatch):
    cfg = load()
    asked = rounds.taught_questions(cfg)
    assert len(asked) == len(distill.training_cases(cfg, "agent_distill")) == 184
    longer = [
        c | {"completion_tokens": 10**6} for c in distill.training_cases(cfg, "agent_distill")
    ]
    shorter = longer[0] | {"completion_tokens": 1}
    with teach.teacher_run(cfg, "agent", 1) as run:
        for case in [shorter, *longer[1:]]:
            run.append(case)
    assert len(rounds.candidates(cfg)) == 2 * 184
    chosen = {one.case["id"]: one.case for one in rounds.lessons(cfg, "select-shortest")}
    assert len(chosen) == 184 and chosen[shorter["id"]]["completion_tokens"] == 1
    assert max(case["completion_tokens"] for case in chosen.values()) < 10**6
    assert len(rounds.lessons(cfg, "select-random")) == 184
    with pytest.raises(RuntimeError, match="368 of 368 runs of 'likelihood' are left"):
        rounds.lessons(cfg, "select-likeliest")
    with rounds.likelihood_run(cfg) as run:
        for one in rounds.candidates(cfg):
            run.append({"id": one.id, "nats": 0.1 if one.id.startswith("1:") else 0.2})
    likeliest = rounds.lessons(cfg, "select-likeliest")
    assert [one.case["completion_tokens"] for one in likeliest] == [1, *[10**6] * 183]


# --- what a round gave -----------------------------------------------------------------------


def test_the_student_of_an_arm_comes_with_the_project():
    cfg = load("questions=0")
    folder = rounds.committed(config.load("smoke"), "own1")
    made = records.read_json(folder / "config.json")
    assert (made["arm"], made["steps"]) == ("own1", cfg.improve_steps)
    assert made["student"] == cfg.students[0] and made["lora_rank"] == cfg.lora_rank
    card = (folder / "README.md").read_text(encoding="utf-8")
    new = next(
        row["new"]
        for row in records.read(config.ROOT / "figures" / "records" / "improve" / "rounds.jsonl")
        if row["part"] == "arm own1"
    )
    assert f"and {new} right runs of its own" in card and folder.name in card
    assert rounds.committed(config.load("laptop"), "own1") == folder
    assert rounds.committed(config.load("laptop", teacher_records=""), "own1") is None
    with pytest.raises(ValueError, match="arm 'own9' is unknown, expected one of teacher, own1"):
        rounds.committed(cfg, "own9")


def test_a_round_is_summed_up_in_shares_of_runs_of_questions_and_of_steps():
    def run(name, correct, failures):
        trace = [
            {"code": f"x = {k}", "failure": f, "observation": "", "text": ""}
            for k, f in enumerate(failures)
        ]
        case = {
            "id": name, "benchmark": "none", "question": "?", "correct": correct, "trace": trace, "stopped": "final_answer",
            "parse_errors": 0, "completion_tokens": len(failures),
        }  # fmt: skip
        return improve.Lesson(case, None, ())

    found = rounds.summary(
        [run("a", True, [None, "execution"]), run("a", False, [None]), run("b", False, ["parse"]), run("b", False, [None])]
    )  # fmt: skip
    assert found == {
        "questions": 2, "runs": 4, "right": 1, "pass_1": 0.25, "pass_k": 0.5, "steps": 5, "broken": 0.4, "kept": 1,
        "kept_questions": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="a round has no runs"):
        rounds.summary([])


# --- as many steps ---------------------------------------------------------------------------


def test_a_training_of_so_many_steps_is_the_beginning_of_more_epochs():
    settings = training.TrainingSettings(batch_size=2, epochs=3)
    lengths = list(range(10, 17))
    whole = loop._batches(lengths, settings)
    assert len(whole) == 3 * 4
    for steps in (1, 5, 12):
        some = loop._batches(lengths, dataclasses.replace(settings, steps=steps))
        assert some == whole[:steps]
    assert len(loop._batches(lengths, dataclasses.replace(settings, steps=30))) == 30
    assert loop._batches([], dataclasses.replace(settings, steps=30)) == []
    with pytest.raises(ValueError, match="steps is -1, expected 0"):
        dataclasses.replace(settings, steps=-1)
    assert "steps" not in settings.shape
    assert dataclasses.replace(settings, steps=4).shape["steps"] == 4
