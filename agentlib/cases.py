"""One question asked once is a case: a record with its answer, its grade and what it cost; and how
many are collected.

A `Case` is what run folders hold, one JSON line each. This module makes cases of an agent's
trajectories and of chains of thought, asks every question of a run once (in batches, concurrently
on a server, or by the workers of a cluster), and writes a case as the conversation that a student
is trained on.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Literal, TypedDict

from agentlib import prompts, records, score
from agentlib.agent import Step, Trajectory, initial_messages, observation_message
from agentlib.benchmarks import borrowed
from agentlib.cot import CoTResult
from agentlib.models import ServerError
from agentlib.progress import meter
from agentlib.sandbox import SandboxLost
from agentlib.scale import WorkerLost
from agentlib.tasks import Question

log = logging.getLogger(__name__)
# What keeps a question from being answered and is no fault of the program: servers, retrievers
# (ConnectionError), sandboxes, workers, a device's memory. Anything else is a bug, which stops a
# run: tried again, it would only come again.
OUTAGES = (ServerError, SandboxLost, WorkerLost, ConnectionError, TimeoutError, MemoryError)
MAX_CONSECUTIVE_FAILURES = 3
# What a case says of the model that answered, "server" where it runs elsewhere.
ANSWERED_BY = ("weights", "precision", "device", "engine")


class Case(TypedDict, total=False):
    """One question asked once, as a run folder records it. Tokens are the model's own, seconds are
    wall time.

    A case with `error` is not finished and a resumed run asks its question again. Agents have
    `trace`, chains of thought `text`.
    """

    id: str
    benchmark: str
    domain: Literal["factual", "math"]
    level: str
    subject: str
    split: str
    question: str
    gold: str
    aliases: list[str]
    # who was asked, and how
    model: str
    role: Literal["teacher", "student"]
    wording: str  # of its prompts (`config.Config.wording`); older records do not say
    method: str  # a key of `config.METHODS`, or of `teach.METHODS`
    n: int  # samples per step (SAG) or per question (self-consistency); 1 is greedy
    temperature: float
    seed: int
    preset: str
    precision: str
    device: str
    engine: str  # "own", "transformers" or "vllm"; older records, all by our own, do not say
    weights: str
    # the answer
    prediction: str | None
    correct: bool
    exact_match: bool
    f1: float
    reason: str
    stopped: Literal["final_answer", "max_steps", "context_full", "stop", "length"]
    error: str  # the outage that kept it from being answered
    # what it took
    steps: int
    errors: list[str]  # kinds of failure (`sandbox.Failure.kind`), a step each
    parse_errors: int
    execution_errors: int
    tool_calls: int
    candidates: int  # sampled actions of all steps
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    # an agent's
    prefix: str  # the first-thought prefix, "" without
    last_words: str  # its answer without code after the last step
    # a step each: text, code, observation, failure, final, tokens, seconds, candidates of a vote
    trace: list[dict[str, Any]]
    tools: str
    search: bool
    # a chain of thought's
    answers: list[str | None]
    chain_tokens: list[int]
    passages: str
    text: str


def agent_case(question: Question, trajectory: Trajectory, **labels: Any) -> Case:
    """The record of an agent's trajectory. `labels`: model, role, method, n, temperature, seed, …

    `parse_errors` and `execution_errors` count steps whose kept action failed; `candidates` all
    sampled actions; `trace` holds every step.
    """
    steps = trajectory.steps
    kinds = [s.outcome.failure.kind for s in steps if s.outcome.failure]
    return (
        {
            **_asked(question, trajectory.answer, labels),
            "stopped": trajectory.stopped,
            "steps": len(steps),
            "errors": kinds,
            "parse_errors": kinds.count("parse"),
            "execution_errors": len(kinds) - kinds.count("parse"),
            "tool_calls": sum(len(s.outcome.tool_calls) for s in steps),
            "candidates": sum(len(step.candidates) for step in steps),
            "prompt_tokens": trajectory.prompt_tokens,
            "completion_tokens": trajectory.completion_tokens,
            "seconds": round(sum(s.seconds for s in steps), 3),
            "prefix": trajectory.prefix,
            "last_words": trajectory.final_turn.text if trajectory.final_turn else "",
            "trace": [_step(s) for s in steps],
        }
        | ({"tools": trajectory.tools} if trajectory.tools else {})
        | ({} if trajectory.search else {"search": False})
    )


def cot_case(question: Question, chain: CoTResult, **labels: Any) -> Case:
    """The record of a chain of thought; `answers` are those of all chains, in the order sampled.
    Without a label `wording` it was asked for in the plain one.
    """
    stopped = "length" if all(c.finish_reason == "length" for c in chain.completions) else "stop"
    return {
        **_asked(question, chain.answer, {"wording": "plain", **labels}),
        "stopped": stopped,
        "steps": 1,
        "errors": [],
        "parse_errors": 0,
        "execution_errors": 0,
        "tool_calls": 1 if chain.passages else 0,
        "prompt_tokens": chain.completions[0].prompt_tokens,
        "completion_tokens": sum(c.completion_tokens for c in chain.completions),
        "seconds": round(chain.seconds, 3),
        "answers": list(chain.answers),
        "chain_tokens": [c.completion_tokens for c in chain.completions],
        "passages": chain.passages,
        "text": chain.text,
    }


def error_case(question: Question, error: Exception, **labels: Any) -> Case:
    """The record of a question that an outage kept from being asked; a resumed run tries it
    again. Any other error is raised as it is."""
    if not isinstance(error, OUTAGES):
        raise error
    return {**about(question, labels), "error": f"{type(error).__name__}: {error}"}


def about(question: Question, labels: Mapping[str, Any]) -> dict:
    """The fields of a record that say what was asked, and of whom."""
    asked = {
        k: getattr(question, k) for k in ("id", "benchmark", "domain", "level", "subject", "split")
    }
    return {
        **asked,
        "question": question.text,
        "gold": question.answer,
        "aliases": list(question.aliases),
        **labels,
    }


def _asked(question: Question, answer: Any, labels: Mapping[str, Any]) -> dict:
    asked = about(question, labels)
    return asked | graded(asked, answer)


def graded(about: Mapping[str, Any], answer: Any) -> dict:
    """The grade fields of an answer to the question that a record is about; None, not wrong, where
    no gold answer is known."""
    if not about["gold"]:
        unknown = dict.fromkeys(("correct", "exact_match", "f1"))
        return {"prediction": answer, **unknown, "reason": "no gold answer"}
    grade = score.grade(answer, about["gold"], about["domain"], tuple(about["aliases"]))
    return {
        "prediction": answer,
        "correct": grade.correct,
        "exact_match": grade.exact_match,
        "f1": grade.f1,
        "reason": grade.reason,
    }


def _step(step: Step) -> dict:
    found = {
        "text": step.text,
        "code": step.code,
        "observation": observation_message(step.outcome),
        "failure": step.outcome.failure.kind if step.outcome.failure else None,
        "final": step.outcome.is_final,
        "prompt_tokens": step.prompt_tokens,
        "completion_tokens": step.completion_tokens,
        "seconds": round(step.seconds, 3),
    }
    if len(step.candidates) > 1:
        found["candidates"] = [
            {
                "code": c.code,
                "outcome": _short(c.outcome),
                "failed": c.outcome.failure.kind if c.outcome.failure else None,
                "group": c.group,
                "tokens": c.tokens,
            }
            for c in step.candidates
        ]
        found["chosen"] = next(
            i for i, c in enumerate(step.candidates) if c.outcome is step.outcome
        )
    return found


def _short(outcome: Any) -> str:
    """An outcome in a few words."""
    if outcome.failure is not None:
        return (
            f"{outcome.failure.kind}:"
            f" {(outcome.failure.message or 'no code block').strip().splitlines()[-1]}"
        )
    if outcome.is_final:
        return f"final answer: {outcome.answer}"
    return prompts.shorten(
        "\n".join(p for p in (outcome.stdout.strip(), outcome.value) if p) or "(nothing printed)",
        160,
    )


def answer_in_batches(
    answer: Callable[[Sequence[Question]], Iterator[Case]], questions: Sequence[Question]
) -> Iterator[tuple[Question, Case | Exception]]:
    """Each question with its case, or with the outage that kept it from one: all together, and
    after an outage the rest one by one, so that a question which nobody can answer costs only
    itself.

    After `MAX_CONSECUTIVE_FAILURES` in a row nothing works any more, and the remaining questions
    get the last outage unasked.
    """
    left = {question.id: question for question in questions}
    try:
        for case in answer(questions):
            yield left.pop(case["id"]), case
        return
    except OUTAGES as error:
        log.warning("%s; the remaining questions are asked one by one", error)
        failure, failed = error, 0
    for question in left.values():
        if failed < MAX_CONSECUTIVE_FAILURES:
            try:
                (case,) = answer([question])
                failed = 0
                yield question, case
                continue
            except OUTAGES as error:
                failure, failed = error, failed + 1
        yield question, failure


def answer_concurrently(
    answer: Callable[[Sequence[Question]], Iterator[Case]],
    questions: Sequence[Question],
    threads: int,
) -> Iterator[tuple[Question, Case | Exception]]:
    """As `answer_in_batches`, by `threads` that take one question at a time: on a server, each
    conversation to its end."""
    with contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(threads)
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        jobs = {
            pool.submit(lambda question: list(answer([question])), question): question
            for question in questions
        }
        for job in as_completed(jobs):
            error = job.exception()
            if isinstance(error, OUTAGES):
                log.warning("question %s: %s", jobs[job].id, error)
                yield jobs[job], error
            else:
                (case,) = job.result()  # a bug is raised here
                yield jobs[job], case


def collect(
    run: records.Run,
    questions: Sequence[Question],
    answer: Callable[[Sequence[Question]], Iterator[tuple[Question, Case | Exception]]],
    labels: Mapping[str, Any],
    title: str,
) -> list[Case]:
    """The cases of all questions in the order given; those that the run lacks are asked now, and
    written as they come.

    `answer` gives, for questions, each one with its case or the outage that kept it from one, in
    any order. Raises RuntimeError with the count of questions left unanswered; what was finished is
    kept, and a resumed run asks only the rest.
    """
    failure = None
    with run:
        todo = run.todo(questions)
        with meter(
            total=len(questions), initial=len(questions) - len(todo), desc=title, unit="q"
        ) as bar:
            for question, found in answer(todo) if todo else ():
                if isinstance(found, Exception):
                    failure, found = found, error_case(question, found, **labels)
                run.append(found)
                bar.update()
        left, done = run.todo(questions), run.finished()
    if left:
        raise RuntimeError(
            f"{len(left)} of {len(questions)} questions are unanswered ({failure}); their errors"
            f" are in {run.file}, resume to try them again"
        ) from failure
    return [done[question.id] for question in questions]


def conversation(case: Case) -> list[dict]:
    """A recorded case as the messages a student is trained on, with the student's own prompt."""
    if "trace" in case:
        messages = initial_messages(
            case["question"], "student", case.get("tools", ""), case.get("search", True)
        )
        for number, step in enumerate(case["trace"], 1):
            messages.append({"role": "assistant", "content": step["text"]})
            if number < len(case["trace"]):
                messages.append({"role": "user", "content": step["observation"]})
        return messages
    # older records, such as those of the first experiments (LOG.md), do not say how they were asked
    asked = prompts.cot_turns(
        case["question"],
        case["domain"],
        case.get("passages", ""),
        wording=case.get("wording", "plan"),
    )
    return [*asked, {"role": "assistant", "content": case["text"]}]


REQUIRED = ("id", "question", "domain", "correct", "stopped", "parse_errors")


def read(file: Path) -> list[Case]:
    """Recorded cases of a file, with the texts that `borrowed.strip` left out. Raises ValueError
    naming the line that is broken or lacks a field."""
    found = []
    for number, case in enumerate(map(borrowed.fill, records.read(file)), 1):
        if not case.get("error"):
            missing = [f for f in REQUIRED if f not in case] + (
                ["trace or text"] if {"trace", "text"}.isdisjoint(case) else []
            )
            if missing:
                raise ValueError(
                    f"{file} record {number} lacks {', '.join(missing)}; delete or mend that line"
                )
        found.append(case)
    return found
