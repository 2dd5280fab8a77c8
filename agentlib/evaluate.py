"""Every method on every student and benchmark, one record a case (§4, Table 2).

Owns the plan of what is evaluated and the runs that do it. Knows nothing of figures.
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentlib import benchmarks, cases, config, cot, distill, prompts, records
from agentlib.agent import Agent
from agentlib.benchmarks import web_search
from agentlib.models import LanguageModel, LocalModel, ServerModel
from agentlib.progress import meter
from agentlib.sag import SAG
from agentlib.sandbox import Sandbox
from agentlib.scale import Crew
from agentlib.tasks import Question
from agentlib.training import checkpoints

log = logging.getLogger(__name__)
BIG = {"seconds", "trace", "text", "passages", "question", "answers", "chain_tokens", "last_words", "prefix"}
LOST = 3  # failures in a row after which the rest is not asked


@dataclass(frozen=True)
class Arm:
    """One method with one number of samples on some benchmarks. n = 1 is greedy; more is SAG or self-consistency.

    `seed` and `temperature` of the sampling stand for the configuration's where they are given.
    """

    student: str
    method: str
    n: int
    benchmarks: tuple[str, ...]
    seed: int | None = None
    temperature: float | None = None

    @property
    def label(self) -> str:
        more = {True: f" + SAG {self.n}", False: f" + self-consistency {self.n}"}[self.method.startswith("agent")]
        return config.METHODS[self.method] + (more if self.n > 1 else "")


def plan(cfg: config.Config, student: str) -> list[Arm]:
    """What a student is evaluated on: Table 2 everywhere, and for the student of Fig. 5 its sample counts on its panels."""
    arms = [Arm(student, method, 1, cfg.benchmarks) for method in config.METHODS]
    arms += [Arm(student, method, cfg.samples, cfg.benchmarks) for method in ("agent_distill", "agent_distill_ftp")]
    shown = cfg.panel_student if cfg.panel_student in cfg.students else cfg.students[0]
    counts = sorted(n for n in cfg.sample_counts if n > 1) if student == shown else []
    arms += [Arm(student, "agent_distill_ftp", n, cfg.panel_benchmarks) for n in counts if n != cfg.samples]
    if counts:
        arms.append(Arm(student, "cot_distill", counts[-1], cfg.panel_benchmarks))
    return sorted(arms, key=lambda a: list(config.METHODS).index(a.method))


def arm_run(cfg: config.Config, arm: Arm) -> records.Run:
    """The run folder of one arm. Neither how many questions are asked nor the address of a server changes it; the kind of
    device, on which a resume may go on, is in each case."""
    names = ["seed", "corpus", "passages", "encoder", "retriever", "search_on", "top_k", "max_steps", "step_tokens", "cot_tokens",
             "context_tokens", "sandbox_seconds", "sandbox_memory_mb", "precision", "weights", "student_on"]  # fmt: skip
    if arm.n > 1:
        names += ["temperature", "top_p", "vote"] + ["server_seed"] * bool(cfg.student_server)
    shape = {name: getattr(_sampling(cfg, arm), name) for name in names}
    shape |= {"student": arm.student, "method": arm.method, "n": arm.n}
    if not cfg.student_server:
        shape["quantised"] = _quantised(cfg)
    shape |= {"prompts": prompts.version(agent=arm.method.startswith("agent")),
              "questions": benchmarks.fingerprint(arm.benchmarks)}  # fmt: skip
    if arm.method in distill.TEACHER_OF:
        shape["adapter"] = distill.adapter_run(cfg, arm.student, arm.method).folder.name
    return records.Run(cfg.runs, f"eval-{records.slug(arm.student)}-{arm.method}-n{arm.n}", shape)


def _quantised(cfg: config.Config) -> bool:
    """Whether a student in this process has its weights in 4 bits, as it was or would be trained; adapter or not."""
    return cfg.tuning == "qlora"


def _sampling(cfg: config.Config, arm: Arm) -> config.Config:
    """The configuration with the arm's own seed and temperature."""
    own = {"seed": arm.seed, "temperature": arm.temperature}
    return dataclasses.replace(cfg, **{name: value for name, value in own.items() if value is not None})


def evaluate(cfg: config.Config, arm: Arm, model: LanguageModel | None, questions: Sequence[Question], *,
             box: Sandbox | None, search: Callable[[str], str] | None) -> list[dict]:  # fmt: skip
    """One arm over its questions, resuming; returns the cases in the order asked. Where all are there, no model is needed.

    Raises RuntimeError with the count when questions are left unanswered; what was finished is kept.
    """

    def ask(run: records.Run, todo: Sequence[Question], done: Callable[[], None]) -> Exception | None:
        def some(part: Sequence[Question]) -> None:
            for case in _cases(cfg, arm, model, part, box, search):
                run.append(case)
                done()

        return ask_all(some, run, todo, _labels(cfg, arm, model))

    return _asked(cfg, arm, questions, ask)


def evaluate_spread(cfg: config.Config, arm: Arm, crew: Crew, questions: Sequence[Question]) -> list[dict]:
    """As `evaluate`, by the workers of a crew opened with `answerer`; their cases are written here, each once."""

    def ask(run: records.Run, todo: Sequence[Question], done: Callable[[], None]) -> Exception | None:
        failure = None
        for question, found in crew.ask(arm, todo):
            if isinstance(found, Exception):
                failure, found = found, cases.error_case(question, found, **_labels(cfg, arm))
            run.append(found)
            done()
        return failure

    return _asked(cfg, arm, questions, ask)


def _asked(cfg: config.Config, arm: Arm, questions: Sequence[Question], ask: Callable) -> list[dict]:
    """The cases of an arm, after `ask` was told which are still to do."""
    with arm_run(cfg, arm) as run:
        todo = run.todo(questions)
        bar = meter(total=len(questions), initial=len(questions) - len(todo), desc=arm.label, unit="q", mininterval=2)
        try:
            failure = ask(run, todo, bar.update) if todo else None
        finally:
            bar.close()
        left, done = run.todo(questions), run.finished()
    if left:
        raise RuntimeError(
            f"{len(left)} of {len(questions)} questions are unanswered ({failure}); resume to try them again"
        ) from failure
    return [done[q.id] for q in questions]


def _labels(cfg: config.Config, arm: Arm, model: LanguageModel | None = None) -> dict:
    sampling = _sampling(cfg, arm)
    return {"model": arm.student, "role": "student", "method": arm.method, "n": arm.n, "seed": sampling.seed,
            "temperature": sampling.temperature if arm.n > 1 else 0.0, "preset": cfg.preset,
            **{name: getattr(model, name, "server") for name in ("weights", "precision", "device")}}  # fmt: skip


def ask_all(ask: Callable[[Sequence[Question]], None], run: records.Run, todo: Sequence[Question], labels: dict
            ) -> Exception | None:  # fmt: skip
    """Ask all at once; after an outage the rest one by one, so that a question nobody can answer costs only itself.

    A question that fails alone gets an error record; after `LOST` of them in a row nothing works any more, and the rest
    get one unasked. Returns the last failure.
    """
    try:
        ask(todo)
        return None
    except cases.OUTAGES as error:
        log.warning("%s; going on one question at a time", error)
        failure, failed = error, 0
    for question in run.todo(todo):
        if failed < LOST:
            try:
                ask([question])
                failed = 0
                continue
            except cases.OUTAGES as error:
                failure, failed = error, failed + 1
        run.append(cases.error_case(question, failure, **labels))
    return failure


def _cases(cfg, arm, model, todo, box, search) -> Iterator[dict]:
    cfg, labels, by_id = _sampling(cfg, arm), _labels(cfg, arm, model), {q.id: q for q in todo}
    sampling = {"n": arm.n, "temperature": cfg.temperature, "top_p": cfg.top_p} if arm.n > 1 else {"n": 1}
    if arm.method.startswith("agent"):
        agent = Agent(
            model, box, style="teacher" if arm.method == "agent" else "student", max_steps=cfg.max_steps,
            sag=SAG(**sampling, vote=cfg.vote) if arm.n > 1 else None, step_tokens=cfg.step_tokens,
            batch=cfg.batch_questions, seed=cfg.seed,
        )  # fmt: skip
        for trajectory in agent.run(todo):
            yield cases.agent_case(by_id[trajectory.question_id], trajectory, **labels)
        return
    shown = search if arm.method == "cot_distill_rag" else None
    for chain in cot.think(model, todo, max_new_tokens=cfg.cot_tokens, search=shown, batch=cfg.batch_questions,
                           examples=arm.method == "cot", seed=cfg.seed, **sampling):  # fmt: skip
        yield cases.cot_case(by_id[chain.question_id], chain, **labels)


@contextlib.contextmanager
def answerer(cfg: config.Config, student: str, methods: Iterable[str]
             ) -> Iterator[Callable[[Arm, Sequence[Question]], Iterator[dict]]]:  # fmt: skip
    """What a worker of a crew holds open for a student: its weights, its search, a sandbox of its own."""
    search = web_search(cfg)
    with Sandbox(tools={"web_search": search}, seconds=cfg.sandbox_seconds, memory_mb=cfg.sandbox_memory_mb) as box:
        model, adapters = open_student(cfg, student, methods)

        def answer(arm: Arm, questions: Sequence[Question]) -> Iterator[dict]:
            model.use(adapters.get(arm.method))
            yield from _cases(cfg, arm, model, questions, box, search)

        yield answer
        model.close()


def open_student(cfg: config.Config, student: str, methods: Iterable[str]) -> tuple[LanguageModel, dict[str, Path]]:
    """A student with its weights loaded once, in this process or on the server at `cfg.student_server`, which holds the
    adapters under their run folders' names; and its adapters for those of the methods that have one.

    Raises FileNotFoundError or ServerError, before anything is asked, for an adapter that is not there.
    """
    trained = [m for m in distill.TEACHER_OF if m in methods]
    adapters = {m: checkpoints.finished(distill.adapter_run(cfg, student, m)).path for m in trained}
    if not cfg.student_server:
        return LocalModel(student, max_context=cfg.context_tokens, quantise=_quantised(cfg), unpack=True,
                          precision=cfg.precision, source=cfg.weights), adapters  # fmt: skip
    model = ServerModel(cfg.student_server, student, max_context=cfg.context_tokens, concurrency=cfg.batch_questions,
                        source=cfg.weights, seeded=cfg.server_seed == "sent")  # fmt: skip
    for adapter in adapters.values():
        model.use(adapter)
    return model, adapters


def evaluate_student(cfg: config.Config, student: str, *, box: Sandbox, search: Callable[[str], str]) -> list[dict]:
    """All arms of one student, in this process or over `cfg.workers` Ray workers; each loads its weights once, and not
    at all where every case is there already."""
    found, arms = [], plan(cfg, student)
    asked = {arm: [q for name in arm.benchmarks for q in benchmarks.load(name, cfg.questions)] for arm in arms}
    pending = {arm.method for arm in arms if arm_run(cfg, arm).todo(asked[arm])}
    with contextlib.ExitStack() as stack:
        model, adapters, crew = None, {}, None
        if pending and cfg.workers:
            opened = functools.partial(answerer, cfg, student, tuple(sorted(pending)))
            crew = stack.enter_context(Crew(opened, cfg.workers, chunk=cfg.batch_questions, address=cfg.ray_address,
                                            models=not cfg.student_server))  # fmt: skip
        elif pending:
            model, adapters = open_student(cfg, student, pending)
            stack.callback(model.close)
        for arm, questions in asked.items():
            if crew and arm.method in pending:
                found += evaluate_spread(cfg, arm, crew, questions)
                continue
            if model and arm.method in pending:
                model.use(adapters.get(arm.method))
            found += evaluate(cfg, arm, model, questions, box=box, search=search)
    return found + fewer_chains(found, cfg.sample_counts)


def fewer_chains(found: Sequence[dict], counts: Iterable[int]) -> list[dict]:
    """Self-consistency at smaller n from the chains of the largest: its first n samples are that run's samples."""
    derived = []
    for case in found:
        if case["n"] > 1 and "answers" in case:
            for n in (n for n in counts if 1 < n < case["n"]):
                answer = cot.majority(case["answers"][:n])
                graded = cases.graded(case, answer)
                derived.append(
                    case | graded | {"n": n, "completion_tokens": sum(case["chain_tokens"][:n]), "derived": True}
                )
    return derived


def publish(cfg: config.Config, found: Sequence[dict]) -> Path:
    """Write the small form of all cases, without transcripts and timings, for the figures.

    The same seeds on the same machine give the same file; full cases stay in their run folders.
    """
    file = cfg.records / "cases.jsonl"
    records.write_lines(file, map(small, found))
    return file


def small(case: dict) -> dict:
    """A case without transcripts and timings."""
    return {k: v for k, v in case.items() if k not in BIG}
