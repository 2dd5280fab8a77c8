"""The teacher's runs over training questions: CoT, agent, agent with first-thought prefix (§3.1, Table 5).

Owns those runs, the first-thought prefix's making, and where recorded teachers are found. Knows nothing
of students or figures.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from agentlib import benchmarks, cases, config, cot, prompts, records, servers
from agentlib.agent import Agent, first_thought_prefix
from agentlib.models import LanguageModel
from agentlib.sandbox import Sandbox
from agentlib.tasks import Question

log = logging.getLogger(__name__)
METHODS = {"cot": "CoT", "agent": "Agent", "agent_ftp": "Agent + first-thought prefix"}


def teacher_run(cfg: config.Config, method: str) -> records.Run:
    """The run folder of one teacher method; its name holds everything that shapes a trajectory.

    How many questions are asked does not: asking more goes on in the same folder.
    """
    if method not in METHODS:
        raise ValueError(f"teacher method {method!r} is unknown, expected one of {', '.join(METHODS)}")
    settings = ("seed", "teacher", "max_steps", "step_tokens", "cot_tokens", "context_tokens", "corpus", "passages",
                "encoder", "retriever", "top_k", "sandbox_seconds", "sandbox_memory_mb")  # fmt: skip
    shape = {name: getattr(cfg, name) for name in settings}
    shape |= {"method": method, "questions": benchmarks.fingerprint(cfg.train_sets), "prompts": prompts.version()}
    return records.Run(cfg.runs, f"teacher-{method}", shape)


def teach(cfg: config.Config, model: LanguageModel, method: str, questions: Sequence[Question], *,
          box: Sandbox | None = None, concurrency: int = 4) -> list[dict]:  # fmt: skip
    """Run one teacher method over all questions, resuming; returns the cases in the order asked.

    `agent_ftp` starts each trajectory from the first paragraph of that question's CoT, so it needs the
    finished `cot` run. `concurrency` conversations go on at a time, each to its end, so that a server
    keeps each one's prompt cached. Raises RuntimeError with the count of questions left unanswered.
    """
    labels = {"model": cfg.teacher, "role": "teacher", "method": method, "n": 1, "temperature": 0.0, "seed": cfg.seed}
    thoughts = {}
    if method == "agent_ftp":
        thoughts = {k: c["text"] for k, c in teacher_run(cfg, "cot").finished().items()}
        if lacking := [q.id for q in questions if q.id not in thoughts]:
            raise RuntimeError(
                f"{len(lacking)} questions have no CoT to take a first thought from; run method 'cot' first"
            )

    def ask(question: Question) -> dict:
        started = time.perf_counter()
        if method == "cot":
            (chain,) = cot.think(model, [question], max_new_tokens=cfg.cot_tokens, seed=cfg.seed)
            return cases.cot_case(question, chain, time.perf_counter() - started, **labels)
        agent = Agent(model, box, style="teacher", max_steps=cfg.max_steps, step_tokens=cfg.step_tokens, seed=cfg.seed)
        thought = thoughts.get(question.id, "").strip()
        prefix = first_thought_prefix(thought) if thought else None  # a CoT without words has no first thought
        (trajectory,) = agent.run([question], [prefix])
        return cases.agent_case(question, trajectory, **labels)

    with teacher_run(cfg, method) as run, ThreadPoolExecutor(concurrency) as pool:
        todo = run.todo(questions)
        jobs = {pool.submit(ask, question): question for question in todo}
        bar = tqdm(
            total=len(questions), initial=len(questions) - len(todo), desc=f"teacher {METHODS[method]}", unit="q"
        )
        try:
            for job in as_completed(jobs):
                try:
                    run.append(job.result())
                except cases.OUTAGES as error:
                    run.append(cases.error_case(jobs[job], error, **labels))
                    log.warning("question %s: %s", jobs[job].id, error)
                bar.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            bar.close()
        left, done = run.todo(questions), run.finished()
    if left:
        raise RuntimeError(
            f"{len(left)} of {len(questions)} questions are unanswered; their errors are in {run.file}, resume to try again"
        )
    return [done[q.id] for q in questions]


@contextlib.contextmanager
def open_teacher(cfg: config.Config, concurrency: int = 4) -> Iterator[LanguageModel]:
    """The teacher on the server of the configuration, or on a llama.cpp server started here."""
    with contextlib.ExitStack() as stack:
        url = cfg.teacher_server or stack.enter_context(
            servers.llama_server(cfg.teacher, slots=concurrency, context=cfg.context_tokens)
        )
        model = servers.ServerModel(url, cfg.teacher, concurrency=concurrency, choices=concurrency,
                                    max_context=cfg.context_tokens)  # fmt: skip
        stack.callback(model.close)
        yield model


def teacher_cases(cfg: config.Config, search: Callable[[str], str]) -> dict[str, list[dict]]:
    """All three methods' cases on the training questions: recorded ones, or a live teacher's, published when done."""
    if cfg.teacher_records:
        return {method: cases.read(recorded(cfg, method)) for method in METHODS}
    questions = benchmarks.training_questions(cfg)
    found = {}
    with (
        open_teacher(cfg) as model,
        Sandbox(tools={"web_search": search}, seconds=cfg.sandbox_seconds, memory_mb=cfg.sandbox_memory_mb) as box,
    ):
        for method in METHODS:
            found[method] = teach(cfg, model, method, questions, box=box)
            publish(cfg, method, found[method])
    return found


def recorded(cfg: config.Config, method: str) -> Path:
    """The committed file of a recorded teacher's cases (`teacher_records` names the preset that made them)."""
    folder = config.ROOT / "figures" / "records" / (cfg.teacher_records or cfg.preset)
    return folder / f"teacher_{method}.jsonl"


def publish(cfg: config.Config, method: str, found: Sequence[dict]) -> Path:
    """Write a teacher's cases where the figures, and presets without a teacher, find them."""
    file = cfg.records / f"teacher_{method}.jsonl"
    records.write_lines(file, found)
    return file
