"""The experiment of notebook 11: students that learn from their own mistakes, and the same number
of steps on their teacher's trajectories alone.

An arm is one student: what it is trained on (`lessons`), its training, its tests. Every part has a
run folder, named by all that shapes it, and can be resumed. The questions on which a student goes
wrong are training questions that its teacher was not asked. Of several trainings, all have the
data that the first one's rounds gave; they differ in their seed. The ideas are in `improve`.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentlib import benchmarks, cases, config, distill, evaluate, improve, records, teach, training
from agentlib.agent import Agent
from agentlib.benchmarks import borrowed, wiki
from agentlib.cases import Case
from agentlib.improve import Lesson
from agentlib.models import LanguageModel, weights
from agentlib.sandbox import Sandbox
from agentlib.tasks import Question
from agentlib.training import checkpoints

METHOD = "agent_distill"  # what the student of round 1 was trained by
ROUNDS = 3  # of expert iteration
RULES = ("shortest", "random", "likeliest")  # by which one of several teacher's runs is chosen
ARMS = {  # in the order of work
    "teacher": "teacher's runs only",
    "own1": "+ own runs, round 1",
    "repair": "+ repaired steps",
    "own2": "+ own runs, round 2",
    "own3": "+ own runs, round 3",
    **{f"select-{rule}": f"teacher's {rule}" for rule in RULES},
}
TESTS = ("plain", "failing", "wiki")
LOST = 0.1  # the share of searches that find nothing in the test "failing"


@dataclass(frozen=True)
class Source:
    """Runs that an arm's data come from: the name of their piece, their folder, what is asked
    there (objects with an `id`), and the training that comes first, if any."""

    name: str
    run: records.Run
    asked: Sequence[Any]
    student: records.Run | None = None

    @property
    def is_possible(self) -> bool:
        """Whether the student that is asked is trained, or comes with the project."""
        return self.student is None or checkpoints.has_weights(self.student.folder)

    @property
    def left(self) -> list[Any]:
        return self.run.todo(self.asked)


@dataclass(frozen=True)
class Candidate:
    """One right trajectory of a teacher's several, and which try it is of."""

    id: str
    case: Case


# --- questions ------------------------------------------------------------------------------------


def questions(cfg: config.Config) -> list[Question]:
    """The questions that a student goes wrong on: of each training set the first
    `improve_questions` that its teacher was not asked, the sets taking turns.

    Raises ValueError where a set has fewer of them.
    """
    return list(_questions(cfg, teach.records_path(cfg, "agent")))


@functools.cache  # as all that is named by records: they stay as they are
def _questions(cfg: config.Config, taught: Path) -> tuple[Question, ...]:
    asked = {case["id"] for case in cases.read(taught)}
    sets = []
    for name in cfg.train_sets:
        spare = [q for q in benchmarks.load(name) if q.id not in asked]
        if not 0 < cfg.improve_questions <= len(spare):
            raise ValueError(
                f"setting 'improve_questions' is {cfg.improve_questions}, expected 1 to"
                f" {len(spare)}: the questions of {name!r} that the teacher was not asked"
            )
        sets.append(spare[: cfg.improve_questions])
    return tuple(q for q in itertools.chain(*itertools.zip_longest(*sets)) if q is not None)


def taught_cases(cfg: config.Config) -> list[Case]:
    """The teacher's runs that all students are trained on."""
    return list(_taught_cases(cfg, teach.records_folder(cfg)))


@functools.cache
def _taught_cases(cfg: config.Config, folder: Path) -> tuple[Case, ...]:
    return tuple(distill.training_cases(cfg, METHOD))


def settings_for(cfg: config.Config, test: str) -> config.Config:
    """The configuration of a test: "wiki" is Bamboogle over the slice of Wikipedia, by words."""
    if test not in TESTS:
        raise ValueError(f"test {test!r} is unknown, expected one of {', '.join(TESTS)}")
    if test != "wiki":
        return cfg
    own = {
        n: getattr(config.LAPTOP, n) for n in ("corpus", "passages", "retriever", "context_tokens")
    }
    return dataclasses.replace(cfg, **own, benchmarks=("bamboogle-slice",))


def questions_for(cfg: config.Config, test: str) -> list[Question]:
    """What a test asks: all test questions; of the factual ones those of known templates, where
    searches fail; or Bamboogle."""
    found = benchmarks.test_questions(settings_for(cfg, test))
    if test == "failing":
        found = [q for q in found if q.domain == "factual" and not getattr(q, "held_out", False)]
    return found


def available_tests() -> list[str]:
    """The tests whose questions are on this machine."""
    here = (wiki.folder() / wiki.QUESTIONS).exists()
    return [test for test in TESTS if test != "wiki" or here]


# --- what an arm learns from ----------------------------------------------------------------------


def stages(cfg: config.Config, arm: str) -> Iterator[list[Source]]:
    """The runs that an arm's data come from, in stages: what a later stage asks is known once
    those before it are finished.

    Raises ValueError for an unknown arm.
    """
    if arm not in ARMS:
        raise ValueError(f"arm {arm!r} is unknown, expected one of {', '.join(ARMS)}")
    if arm.startswith("own") or arm == "repair":
        for number in range(1, 2 if arm == "repair" else int(arm[-1]) + 1):
            asked, student = questions(cfg), student_of_round(cfg, number) if number > 1 else None
            yield [
                Source(f"rollout/{number}/{k}", rollout_run(cfg, number, k), asked, student)
                for k in runs_of_round(cfg, number)
            ]
    if arm == "repair":
        yield [Source("repair", repair_run(cfg), [question for question, _ in wrong_runs(cfg)])]
    if arm.startswith("select"):
        asked = taught_questions(cfg)
        yield [
            Source(f"sample/{k}", teach.teacher_run(cfg, "agent", k), asked)
            for k in range(1, cfg.teacher_tries)
        ]
    if arm == "select-likeliest":
        yield [Source("likelihood", likelihood_run(cfg), candidates(cfg))]


def missing(cfg: config.Config, arm: str) -> list[Source]:
    """The first sources of an arm's data that are not finished; none where it can be trained."""
    for stage in stages(cfg, arm):
        if left := [source for source in stage if source.left]:
            return left
    return []


def lessons(cfg: config.Config, arm: str) -> list[Lesson]:
    """What the student of an arm is trained on.

    Raises RuntimeError, naming the piece, where its data are not there yet.
    """
    if left := missing(cfg, arm):
        raise RuntimeError(
            f"arm {arm!r} has no data yet: {len(left[0].left)} of {len(left[0].asked)} runs of"
            f" {left[0].name!r} are left; run that piece first"
        )
    taught = [Lesson(case, None, ()) for case in taught_cases(cfg)]
    if arm == "repair":
        tried = map(Lesson.from_record, repair_run(cfg).finished().values())
        return taught + [lesson for lesson in tried if lesson.is_reasoned]
    if arm.startswith("own"):
        every = [one for number in range(1, int(arm[-1]) + 1) for one in rolled_out(cfg, number)]
        chosen = improve.choose(every)
        if silent := [one.case["id"] for one in chosen if not all(one.tokens)]:
            raise RuntimeError(
                f"the run of {silent[0]} has no sampled tokens, expected those of every turn; roll"
                " out with a model in this process"
            )
        return taught + chosen
    if arm.startswith("select"):
        found, rule = candidates(cfg), arm.removeprefix("select-")
        nats = likelihood_run(cfg).finished() if rule == "likeliest" else {}
        surprise = {place: nats[one.id]["nats"] for place, one in enumerate(found) if nats}
        chosen = improve.select([c.case for c in found], rule, surprise or None, cfg.seed)
        return [Lesson(case, None, ()) for case in chosen]
    return taught


# --- rounds of own runs ---------------------------------------------------------------------------


def student_of_round(cfg: config.Config, number: int) -> records.Run:
    """The training of the student that a round rolls out: the distilled one first, then the one of
    the round before."""
    if number > 1:
        return training_run(cfg, f"own{number - 1}")
    return _distilled(cfg, cfg.runs)


@functools.cache
def _distilled(cfg: config.Config, runs: Path) -> records.Run:
    return distill.adapter_run(cfg, cfg.students[0], METHOD)


def runs_of_round(cfg: config.Config, number: int) -> range:
    """Which sampled runs of each question a round has: later rounds may have fewer."""
    return range(cfg.improve_runs if number == 1 else cfg.improve_later_runs)


def rollout_condition(cfg: config.Config, number: int) -> evaluate.Condition:
    """How the student of a round is asked the questions it may go wrong on."""
    adapter = student_of_round(cfg, number)
    return evaluate.Condition(cfg.students[0], METHOD, 1, cfg.train_sets, adapter=adapter)


def rollout_run(cfg: config.Config, number: int, k: int) -> records.Run:
    """The run folder of one sampled run of each question in a round."""
    shape = evaluate.condition_run(cfg, rollout_condition(cfg, number)).configuration
    sampled = {"run": k, "temperature": improve.TEMPERATURE, "top_p": cfg.top_p}
    return records.Run(cfg.runs, f"rollout-{records.slug(cfg.students[0])}", shape | sampled)


def roll_out(
    cfg: config.Config,
    model: LanguageModel,
    box: Sandbox,
    number: int,
    k: int,
    part: Sequence[Question],
) -> None:
    """Ask a part of the questions once, and record what comes back."""
    labels = _labels(cfg, model, round=number, temperature=improve.TEMPERATURE)

    def ask(todo: Sequence[Question]) -> Iterator[dict]:
        for lesson in improve.roll_out(model, box, todo, cfg, runs=[k], **labels):
            yield lesson.to_record()

    _collect(rollout_run(cfg, number, k), part, ask, labels | {"run": k}, f"round {number}")


def rolled_out(cfg: config.Config, number: int) -> list[Lesson]:
    """All recorded runs of a round, question by question."""
    runs = [rollout_run(cfg, number, k).finished() for k in runs_of_round(cfg, number)]
    return [
        Lesson.from_record(run[question.id])
        for question in questions(cfg)
        for run in runs
        if question.id in run
    ]


def wrong_runs(cfg: config.Config) -> list[tuple[Question, Case]]:
    """The first wrong run of each question in round 1, which the teacher is to repair."""
    found: dict[str, Case] = {}
    for lesson in rolled_out(cfg, 1):
        if not lesson.case["correct"] and lesson.case["trace"]:
            found.setdefault(lesson.case["id"], lesson.case)
    return [(question, found[question.id]) for question in questions(cfg) if question.id in found]


def repair_run(cfg: config.Config) -> records.Run:
    """The run folder of the teacher's repairs."""
    shape = evaluate.condition_run(cfg, rollout_condition(cfg, 1)).configuration
    wrong = {question.id: case["trace"] for question, case in wrong_runs(cfg)}
    own = {"teacher": cfg.teacher, "teacher_on": cfg.teacher_on, "wrong": records.digest(wrong)}
    return records.Run(cfg.runs, "repair", shape | own)


def try_repairs(
    cfg: config.Config,
    model: LanguageModel,
    teacher: LanguageModel,
    box: Sandbox,
    part: Sequence[Question],
) -> None:
    """Let the teacher repair a part of the wrong runs, and record what becomes of them."""
    wrong = {question.id: case for question, case in wrong_runs(cfg)}
    labels = _labels(cfg, model, teacher=cfg.teacher, temperature=0.0)
    student = Agent(
        model,
        box,
        max_steps=cfg.max_steps,
        step_tokens=cfg.step_tokens,
        batch=cfg.batch_questions,
        wording=cfg.wording,
        seed=cfg.seed,
    )

    def ask(todo: Sequence[Question]) -> Iterator[dict]:
        pairs = [(question, wrong[question.id]) for question in todo]
        for lesson in improve.try_repairs(student, teacher, pairs, **labels):
            yield lesson.to_record()

    _collect(repair_run(cfg), part, ask, labels, "repair")


def _labels(cfg: config.Config, model: LanguageModel, **more: object) -> dict:
    answered_by = {name: getattr(model, name, "server") for name in cases.ANSWERED_BY}
    asked = {"model": cfg.students[0], "role": "student", "wording": cfg.wording}
    asked |= {"method": METHOD, "n": 1, "seed": cfg.seed, "preset": cfg.preset}
    return asked | answered_by | more


def _collect(run: records.Run, part: Sequence[Question], ask, labels: dict, title: str) -> None:
    cases.collect(run, part, lambda todo: cases.answer_in_batches(ask, todo), labels, title)


# --- which of several right trajectories ----------------------------------------------------------


def taught_questions(cfg: config.Config) -> list[Question]:
    """The questions whose first try by the teacher was kept."""
    kept = {case["id"] for case in taught_cases(cfg)}
    return [q for q in benchmarks.training_questions(cfg) if q.id in kept]


def candidates(cfg: config.Config) -> list[Candidate]:
    """The teacher's right trajectories of the questions that it is asked several times."""
    found = [Candidate(f"0:{c['id']}", c) for c in taught_cases(cfg)]
    for k in range(1, cfg.teacher_tries):
        for case in teach.teacher_run(cfg, "agent", k).finished().values():
            if teach.is_kept(cfg, case):
                found.append(Candidate(f"{k}:{case['id']}", case))
    return found


def likelihood_run(cfg: config.Config) -> records.Run:
    """The run folder of how likely the untrained student finds each of the trajectories."""
    data = [cases.conversation(one.case) for one in candidates(cfg)]
    shape = {name: getattr(cfg, name) for name in ("precision", "weights", "max_length")}
    own = {"student": cfg.students[0], "data": records.digest({"d": data})}
    return records.Run(cfg.runs, "likelihood", shape | own)


def measure_likelihoods(cfg: config.Config, part: Sequence[Candidate]) -> None:
    """Record the mean negative log-likelihood (nats a token) of a part of the trajectories;
    infinity for those too long to be trained on."""
    from agentlib.masks import build_examples

    talks = {one.id: cases.conversation(one.case) for one in part}
    found = training.likelihoods(
        cfg.students[0],
        build_examples(talks, _tokenizer(cfg), cfg.max_length),
        cfg.precision,
        cfg.weights,
    )
    with likelihood_run(cfg) as run:
        for one in part:
            known = one.id in found
            run.append({"id": one.id, "nats": found[one.id].per_token if known else 1e9})


# --- trainings and tests --------------------------------------------------------------------------


def training_run(cfg: config.Config, arm: str, number: int = 0) -> records.Run:
    """The run folder of one training of an arm's student; RuntimeError where its data are not
    there yet."""
    return _training_run(cfg, cfg.runs, arm, number)


@functools.cache  # data that are all there stay as they are
def _training_run(cfg: config.Config, runs: Path, arm: str, number: int) -> records.Run:
    own = distill.one_training(cfg, number)
    data = [[cases.conversation(one.case), one.turns, one.tokens] for one in lessons(cfg, arm)]
    shape = distill.adapter_run(own, cfg.students[0], METHOD).configuration
    shape = {name: value for name, value in shape.items() if name != "epochs"}
    shape |= {"arm": arm, "steps": cfg.improve_steps, "data": records.digest({"d": data})}
    return records.Run(runs, f"adapter-{records.slug(cfg.students[0])}-{arm}", shape)


def train(cfg: config.Config, arm: str, number: int = 0) -> training.Adapter:
    """Train an arm's student from the base model, or resume that; all take as many steps."""
    run, own = training_run(cfg, arm, number), distill.one_training(cfg, number)
    if distill.take_committed(cfg, run):
        return training.load_finished(run.folder)
    settings = dataclasses.replace(distill.training_settings(own), steps=cfg.improve_steps)
    examples = improve.build_examples(lessons(cfg, arm), _tokenizer(cfg), cfg.max_length)
    return training.fine_tune(
        cfg.students[0], examples, settings, run.folder, configuration=run.configuration
    )


def committed(cfg: config.Config, arm: str) -> Path | None:
    """The folder of an arm's student that comes with the project; None where none does.

    Raises ValueError for an unknown arm.
    """
    if arm not in ARMS:
        raise ValueError(f"arm {arm!r} is unknown, expected one of {', '.join(ARMS)}")
    kept = teach.records_folder(cfg) / "adapters"
    return next(iter(sorted(kept.glob(f"adapter-{records.slug(cfg.students[0])}-{arm}-*"))), None)


def _tokenizer(cfg: config.Config):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(weights.fetch_tokenizer(cfg.students[0], cfg.weights))


def condition(cfg: config.Config, arm: str, test: str, number: int = 0) -> evaluate.Condition:
    """How an arm's student is asked in a test; its settings are `settings_for`."""
    return evaluate.Condition(
        cfg.students[0],
        METHOD,
        1,
        settings_for(cfg, test).benchmarks,
        training=number,
        adapter=training_run(cfg, arm, number),
        lost=LOST if test == "failing" else 0.0,
    )


# --- results --------------------------------------------------------------------------------------


def publish(cfg: config.Config) -> tuple[Path, Path]:
    """Write what is finished for the figure: `cases.jsonl`, a line for each answer with its `arm`
    and `test`, and `rounds.jsonl`, a line for each round, the repairs, and each arm's data."""
    ready = [arm for arm in ARMS if not missing(cfg, arm)]
    held_out = {q.id for q in benchmarks.test_questions(cfg) if getattr(q, "held_out", False)}
    answers = []
    for arm, test, k in itertools.product(ready, available_tests(), range(cfg.trainings)):
        run = evaluate.condition_run(settings_for(cfg, test), condition(cfg, arm, test, k))
        for case in run.finished().values():
            plain = "new templates" if case["id"] in held_out else "in-domain"
            name = {"plain": plain, "failing": "failing search", "wiki": "Bamboogle"}[test]
            short = evaluate.without_transcripts(case) | {"arm": arm, "test": name}
            hidden = borrowed.ASKED if borrowed.is_borrowed(case) else ()  # others' texts
            answers.append({key: value for key, value in short.items() if key not in hidden})
    said = [
        {"part": f"round {number}"} | summary(rolled_out(cfg, number))
        for number in range(1, ROUNDS + 1)
        if f"own{number}" in ready
    ]
    if "repair" in ready:
        tried = [Lesson.from_record(row) for row in repair_run(cfg).finished().values()]
        kept = sum(one.is_reasoned for one in tried)
        right = sum(one.case["correct"] for one in tried)
        said.append({"part": "repairs", "runs": len(tried), "right": right, "kept": kept})
    of_teacher = len(taught_cases(cfg))
    for arm in ready:
        count = len(lessons(cfg, arm))
        new = max(0, count - of_teacher)
        said.append(
            {"part": f"arm {arm}", "examples": count, "new": new, "steps": cfg.improve_steps}
        )
    files = cfg.records / "cases.jsonl", cfg.records / "rounds.jsonl"
    for file, rows in zip(files, (answers, said), strict=True):
        records.write_lines(file, rows)
    return files


def summary(found: Sequence[Lesson]) -> Mapping[str, Any]:
    """What a round of runs gave, as numbers and fractions of 1: how many runs were right
    (`pass_1`), for how many questions any was (`pass_k`), how many steps failed (`broken`), and how
    many runs of how many questions are kept to learn from.

    Raises ValueError for no runs.
    """
    if not found:
        raise ValueError("a round has no runs, expected some; roll the student out first")
    steps = [step for one in found for step in one.case["trace"]]
    asked = {one.case["id"] for one in found}
    right = [one.case["id"] for one in found if one.case["correct"]]
    kept = improve.choose(found)
    return {
        "questions": len(asked),
        "runs": len(found),
        "right": len(right),
        "pass_1": len(right) / len(found),
        "pass_k": len(set(right)) / len(asked),
        "steps": len(steps),
        "broken": sum(bool(step["failure"]) for step in steps) / max(1, len(steps)),
        "kept": len(kept),
        "kept_questions": len({one.case["id"] for one in kept}),
    }
