"""The teacher's runs over training questions: CoT, agent, agent with first-thought prefix (§3.1, Table 5).

Owns those runs, the first-thought prefix's making, and where recorded teachers are found. Knows nothing
of students or figures.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from agentlib import benchmarks, cases, config, cot, prompts, records
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
          box: Sandbox | None = None, batch: int = 4) -> list[dict]:  # fmt: skip
    """Run one teacher method over all questions, resuming; returns the cases in the order asked.

    `agent_ftp` starts each trajectory from the first paragraph of that question's CoT, so it needs the
    finished `cot` run. Few conversations at a time (`batch`) keep a server's prompt cache warm. Raises
    RuntimeError with the count when questions are left unanswered.
    """
    labels = {"model": cfg.teacher, "role": "teacher", "method": method, "n": 1, "temperature": 0.0, "seed": cfg.seed}
    by_id = {q.id: q for q in questions}
    thoughts = {}
    if method == "agent_ftp":
        thoughts = {k: c["text"] for k, c in teacher_run(cfg, "cot").finished().items()}
        if lacking := [q.id for q in questions if q.id not in thoughts]:
            raise RuntimeError(f"{len(lacking)} questions have no CoT to take a first thought from; run method 'cot' first")
    with teacher_run(cfg, method) as run:
        todo = run.todo(questions)
        bar = tqdm(total=len(questions), initial=len(questions) - len(todo), desc=f"teacher {METHODS[method]}", unit="q")
        try:
            if method == "cot":
                started = time.perf_counter()
                for chain in cot.think(model, todo, max_new_tokens=cfg.cot_tokens, batch=batch, seed=cfg.seed):
                    seconds, started = time.perf_counter() - started, time.perf_counter()
                    run.append(cases.cot_case(by_id[chain.question_id], chain, seconds, **labels))
                    bar.update()
            else:
                agent = Agent(model, box, style="teacher", max_steps=cfg.max_steps, step_tokens=cfg.step_tokens,
                              batch=batch, seed=cfg.seed)  # fmt: skip
                prefixes = [first_thought_prefix(thoughts[q.id]) if thoughts else None for q in todo]
                for trajectory in agent.run(todo, prefixes):
                    run.append(cases.agent_case(by_id[trajectory.question_id], trajectory, **labels))
                    bar.update()
        except RuntimeError as error:
            left = run.todo(questions)
            for question in left:
                run.append(cases.error_case(question, error, **labels))
            raise RuntimeError(f"{len(left)} of {len(questions)} questions are unanswered ({error}); resume to try them again") from error
        finally:
            bar.close()
        done = run.finished()
    return [done[q.id] for q in questions]


def recorded(cfg: config.Config, method: str) -> Path:
    """The committed file of a recorded teacher's cases (`teacher_records` names the preset that made them)."""
    folder = config.ROOT / "figures" / "records" / (cfg.teacher_records or cfg.preset)
    return folder / f"teacher_{method}.jsonl"


def publish(cfg: config.Config, method: str, found: Sequence[dict]) -> Path:
    """Write a teacher's cases where the figures, and presets without a teacher, find them."""
    file = cfg.records / f"teacher_{method}.jsonl"
    records.write_lines(file, found)
    return file


