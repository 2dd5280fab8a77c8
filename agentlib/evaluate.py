"""Every method on every student and benchmark, one record per case (§4, Table 2).

A `Condition` is a method with a number of samples on some benchmarks. Each has a run folder, which
an interrupted evaluation resumes.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentlib import benchmarks, cases, config, cot, distill, prompts, records, teach
from agentlib.agent import Agent
from agentlib.benchmarks import teaching, web_search, wiki
from agentlib.cases import Case
from agentlib.models import LanguageModel, ServerModel, open_model
from agentlib.sag import SAG
from agentlib.sandbox import Sandbox
from agentlib.scale import WorkerPool
from agentlib.tasks import Question
from agentlib.training import checkpoints

LONG_FIELDS = {
    "seconds",
    "trace",
    "text",
    "passages",
    "question",
    "answers",
    "chain_tokens",
    "last_words",
    "prefix",
}


@dataclass(frozen=True)
class Condition:
    """One method with one number of samples on some benchmarks. n = 1 is greedy; more is SAG or
    self-consistency.

    `seed` and `temperature` of the sampling stand for the configuration's where they are given.
    `training` says which of the student's trainings is asked (`distill.one_training`). `adapter` is
    the training run of another student than the method's own, and `lost` the share of searches that
    find nothing (`improve.failing`): both are those of `rounds`.
    """

    student: str
    method: str
    n: int
    benchmarks: tuple[str, ...]
    seed: int | None = None
    temperature: float | None = None
    training: int = 0
    adapter: records.Run | None = None
    lost: float = 0.0

    @property
    def label(self) -> str:
        more = {True: f" + SAG {self.n}", False: f" + self-consistency {self.n}"}[
            self.method.startswith("agent")
        ]
        return config.METHODS[self.method] + (more if self.n > 1 else "")


def plan(cfg: config.Config, student: str) -> list[Condition]:
    """What a student is evaluated on: Table 2 everywhere, each of its trainings greedily, and for
    the student of Fig. 5 its sample counts on its panels; with `samples` at 1 its agents are not
    sampled everywhere. The teacher, unless it is a student, is only prompted."""
    if student == cfg.teacher and student not in cfg.students:
        return [Condition(student, method, 1, cfg.benchmarks) for method in ("cot", "agent")]
    conditions = [
        Condition(student, method, 1, cfg.benchmarks, training=k)
        for method in config.METHODS
        for k in range(cfg.trainings if method in distill.TEACHER_OF else 1)
    ]
    if cfg.samples > 1:  # one sample is the greedy condition above
        conditions += [
            Condition(student, method, cfg.samples, cfg.benchmarks)
            for method in ("agent_distill", "agent_distill_ftp")
        ]
    shown = cfg.panel_student if cfg.panel_student in cfg.students else cfg.students[0]
    counts = sorted(n for n in cfg.sample_counts if n > 1) if student == shown else []
    conditions += [
        Condition(student, "agent_distill_ftp", n, cfg.panel_benchmarks)
        for n in counts
        if n != cfg.samples
    ]
    if counts:
        conditions.append(Condition(student, "cot_distill", counts[-1], cfg.panel_benchmarks))
    return sorted(conditions, key=lambda a: list(config.METHODS).index(a.method))


def models(cfg: config.Config) -> list[str]:
    """Who answers test questions: the students, and the teacher where it is tested too."""
    return list(dict.fromkeys([*cfg.students, *[cfg.teacher] * cfg.teacher_tested]))


def questions_of(cfg: config.Config, condition: Condition) -> list[Question]:
    """The test questions of a condition, benchmark by benchmark."""
    return [q for name in condition.benchmarks for q in benchmarks.load(name, cfg.questions)]


def condition_run(cfg: config.Config, condition: Condition) -> records.Run:
    """The run folder of one condition. Neither how many questions are asked nor the address of a
    server changes it; the kind of device and, where `engine` is "auto", the engine, on which a
    resume may go on, are in each case."""
    names = [
        "seed", "corpus", "passages", "encoder", "retriever", "search_on", "top_k", "max_steps",
        "step_tokens", "cot_tokens", "context_tokens", "sandbox_seconds", "sandbox_memory_mb",
        "precision", "weights", "student_on",
    ]  # fmt: skip
    if condition.n > 1:
        names += ["temperature", "top_p", "vote"] + ["server_seed"] * bool(cfg.student_server)
    shape = {name: getattr(_sampling(cfg, condition), name) for name in names}
    shape |= {"student": condition.student, "method": condition.method, "n": condition.n}
    if not cfg.student_server:
        shape["quantised"] = _quantised(cfg)
        shape |= cfg.chosen_engine
    shape |= {
        "prompts": prompts.version(condition.method.startswith("agent"), cfg.wording),
        "questions": benchmarks.fingerprint(condition.benchmarks),
    }
    if condition.method in distill.TEACHER_OF:
        shape["adapter"] = _adapter_run(cfg, condition).folder.name
    if condition.lost:
        shape["lost"] = condition.lost
    return records.Run(
        cfg.runs, f"eval-{records.slug(condition.student)}-{condition.method}-n{condition.n}", shape
    )


def _adapter_run(cfg: config.Config, condition: Condition) -> records.Run:
    if condition.adapter is not None:
        return condition.adapter
    own = distill.one_training(cfg, condition.training)
    return distill.adapter_run(own, condition.student, condition.method)


def _quantised(cfg: config.Config) -> bool:
    """Whether a student in this process has its weights in 4 bits, as it was or would be
    trained; adapter or not."""
    return cfg.tuning == "qlora"


def _sampling(cfg: config.Config, condition: Condition) -> config.Config:
    """The configuration with the condition's own seed and temperature."""
    own = {"seed": condition.seed, "temperature": condition.temperature}
    return dataclasses.replace(
        cfg, **{name: value for name, value in own.items() if value is not None}
    )


def evaluate(
    cfg: config.Config,
    condition: Condition,
    model: LanguageModel | WorkerPool | None,
    questions: Sequence[Question],
    *,
    box: Sandbox | None = None,
    search: Callable[[str], str] | None = None,
) -> list[Case]:
    """One condition over its questions, resuming; returns the cases in the order asked. Where all
    are there, no model is needed; the workers of a pool opened with `answerer` need no sandbox or
    search here.

    Raises RuntimeError with the count when questions are left unanswered; what was finished is
    kept.
    """
    if isinstance(model, WorkerPool):
        ask, labels = functools.partial(model.ask, condition), _labels(cfg, condition)
    else:
        labels = _labels(cfg, condition, model)
        ask = functools.partial(
            cases.answer_in_batches, lambda part: _cases(cfg, condition, model, part, box, search)
        )
    return cases.collect(condition_run(cfg, condition), questions, ask, labels, condition.label)


def _labels(cfg: config.Config, condition: Condition, model: LanguageModel | None = None) -> dict:
    sampling = _sampling(cfg, condition)
    return {
        "model": condition.student,
        "role": "student",
        "wording": cfg.wording,
        "method": condition.method,
        "n": condition.n,
        "seed": sampling.seed,
        "temperature": sampling.temperature if condition.n > 1 else 0.0,
        "preset": cfg.preset,
        **({"training": condition.training} if condition.method in distill.TEACHER_OF else {}),
        **({"lost": condition.lost} if condition.lost else {}),
        **{name: getattr(model, name, "server") for name in cases.ANSWERED_BY},
    }


def _cases(
    cfg: config.Config,
    condition: Condition,
    model: LanguageModel,
    todo: Sequence[Question],
    box: Sandbox | None,
    search: Callable[[str], str] | None,
) -> Iterator[Case]:
    """The cases of some questions, as they are done."""
    cfg, labels, by_id = (
        _sampling(cfg, condition),
        _labels(cfg, condition, model),
        {q.id: q for q in todo},
    )
    sampling = (
        {"n": condition.n, "temperature": cfg.temperature, "top_p": cfg.top_p}
        if condition.n > 1
        else {"n": 1}
    )
    if condition.method.startswith("agent"):
        agent = Agent(
            model,
            box,
            style="teacher" if condition.method == "agent" else "student",
            wording=cfg.wording,
            max_steps=cfg.max_steps,
            sag=SAG(**sampling, vote=cfg.vote) if condition.n > 1 else None,
            step_tokens=cfg.step_tokens,
            batch=cfg.batch_questions,
            seed=cfg.seed,
        )
        for trajectory in agent.run(todo):
            yield cases.agent_case(by_id[trajectory.question_id], trajectory, **labels)
        return
    shown = search if condition.method == "cot_distill_rag" else None
    for chain in cot.generate_cot(
        model,
        todo,
        max_new_tokens=cfg.cot_tokens,
        search=shown,
        batch=cfg.batch_questions,
        examples=condition.method == "cot",
        wording=cfg.wording,
        seed=cfg.seed,
        **sampling,
    ):
        yield cases.cot_case(by_id[chain.question_id], chain, **labels)


@contextlib.contextmanager
def answerer(
    cfg: config.Config, student: str, conditions: Iterable[Condition]
) -> Iterator[Callable[[Condition, Sequence[Question]], Iterator[dict]]]:
    """What a worker of a pool holds open for a student: its weights, its search, a sandbox of
    its own."""
    search = web_search(cfg)
    with Sandbox(
        tools={"web_search": search}, seconds=cfg.sandbox_seconds, memory_mb=cfg.sandbox_memory_mb
    ) as box:
        model, adapters = open_student(cfg, student, conditions)

        def answer(condition: Condition, questions: Sequence[Question]) -> Iterator[dict]:
            model.use(adapters.get((condition.method, condition.training)))
            yield from _cases(cfg, condition, model, questions, box, search)

        yield answer
        model.close()


def open_student(
    cfg: config.Config, student: str, conditions: Iterable[Condition]
) -> tuple[LanguageModel, dict[tuple[str, int], Path]]:
    """A student with its weights loaded once, in this process or on the server at
    `cfg.student_server`, which holds the adapters under their run folders' names; and its adapters
    for those of the conditions that have one, by method and training.

    Raises FileNotFoundError or ServerError, before anything is asked, for an adapter that is not
    there.
    """
    trained = {
        (c.method, c.training): _adapter_run(cfg, c)
        for c in conditions
        if c.method in distill.TEACHER_OF
    }
    for run in trained.values():
        distill.take_committed(cfg, run)
    adapters = {key: checkpoints.finished(run.folder).path for key, run in trained.items()}
    if not cfg.student_server:
        return (
            open_model(
                student,
                engine=cfg.engine,
                max_context=cfg.context_tokens,
                lora_rank=cfg.lora_rank if adapters and cfg.tuning != "full" else 0,
                quantise=_quantised(cfg),
                unpack=True,
                precision=cfg.precision,
                source=cfg.weights,
            ),
            adapters,
        )
    model = ServerModel(
        cfg.student_server,
        student,
        max_context=cfg.context_tokens,
        concurrency=cfg.batch_questions,
        source=cfg.weights,
        seeded=cfg.server_seed == "sent",
    )
    for adapter in adapters.values():
        model.use(adapter)
    return model, adapters


def evaluate_student(
    cfg: config.Config, student: str, *, box: Sandbox, search: Callable[[str], str]
) -> list[dict]:
    """All conditions of one student, in this process or over `cfg.workers` Ray workers; each
    loads its weights once, and not at all where every case is there already."""
    found, conditions = [], plan(cfg, student)
    asked = {condition: questions_of(cfg, condition) for condition in conditions}
    pending = [one for one in conditions if condition_run(cfg, one).todo(asked[one])]
    with contextlib.ExitStack() as stack:
        model, adapters = None, None
        if pending and cfg.workers:
            opened = functools.partial(answerer, cfg, student, tuple(pending))
            model = stack.enter_context(
                WorkerPool(
                    opened,
                    cfg.workers,
                    chunk=cfg.batch_questions,
                    address=cfg.ray_address,
                    models=not cfg.student_server,
                )
            )
        elif pending:
            model, adapters = open_student(cfg, student, pending)
            stack.callback(model.close)
        for condition, questions in asked.items():
            if adapters is not None and condition in pending:
                model.use(adapters.get((condition.method, condition.training)))
            found += evaluate(cfg, condition, model, questions, box=box, search=search)
    return found + fewer_chains(found, cfg.sample_counts)


def evaluate_teacher(
    cfg: config.Config, *, box: Sandbox, search: Callable[[str], str]
) -> list[dict]:
    """The teacher on the test questions, as CoT and as agent: why not prompt the larger model?

    None where it is not tested, or where its runs are recorded and these are not among them.
    """
    if not cfg.teacher_tested:
        return []
    asked = {one: questions_of(cfg, one) for one in plan(cfg, cfg.teacher)}
    left = any(condition_run(cfg, one).todo(questions) for one, questions in asked.items())
    if left and cfg.teacher_records:
        return []
    with contextlib.ExitStack() as stack:
        alone = dataclasses.replace(cfg, workers=0)
        model = stack.enter_context(teach.open_teacher(alone)) if left else None
        return [
            case
            for one, questions in asked.items()
            for case in evaluate(cfg, one, model, questions, box=box, search=search)
        ]


def fewer_chains(found: Sequence[dict], counts: Iterable[int]) -> list[dict]:
    """Self-consistency at smaller n from the chains of the largest: its first n samples are that
    run's samples."""
    derived = []
    for case in found:
        if case["n"] > 1 and "answers" in case:
            for n in (n for n in counts if 1 < n < case["n"]):
                answer = cot.majority(case["answers"][:n])
                graded = cases.graded(case, answer)
                derived.append(
                    case
                    | graded
                    | {"n": n, "completion_tokens": sum(case["chain_tokens"][:n]), "derived": True}
                )
    return derived


def publish(cfg: config.Config, found: Sequence[dict]) -> Path:
    """Write the small form of all cases, without transcripts and timings, for the figures.

    The same seeds on the same machine give the same file; full cases stay in their run folders.
    """
    file = cfg.records / "cases.jsonl"
    records.write_lines(file, map(without_transcripts, found))
    return file


def without_transcripts(case: dict) -> dict:
    """A case without transcripts and timings; of the slice's and the teaching set's questions it
    says instead whether the gold passages were seen (`supported`, None where none are known)."""
    short = {k: v for k, v in case.items() if k not in LONG_FIELDS}
    seen = "trace" in case or "text" in case
    known = case.get("benchmark") in {*wiki.SETS, *teaching.SETS}
    if known and seen and not case.get("error"):
        short["supported"] = benchmarks.is_supported(case)
    return short
