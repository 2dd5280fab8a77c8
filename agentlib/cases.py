"""One case: what a question got from a method, as one plain record, and that record read back.

Owns the fields of a record and the form of a recorded trajectory. Knows nothing of how cases are
produced, nor of figures.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentlib import prompts, records, score
from agentlib.agent import Step, Trajectory, observe, opening
from agentlib.cot import Chain
from agentlib.models import ServerError
from agentlib.sandbox import SandboxLost
from agentlib.scale import WorkerLost
from agentlib.tasks import Question


def agent_case(question: Question, trajectory: Trajectory, **labels: Any) -> dict:
    """The record of an agent's trajectory. `labels`: model, role, method, n, temperature, seed, …

    `parse_errors` and `execution_errors` count steps whose kept action failed; `candidates` all sampled actions; `trace`
    holds every step.
    """
    steps = trajectory.steps
    kinds = [s.outcome.failure.kind for s in steps if s.outcome.failure]
    return {
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
        "last_words": trajectory.last_words.text if trajectory.last_words else "",
        "trace": [_step(s) for s in steps],
    } | ({"tools": trajectory.tools} if trajectory.tools else {}) | ({} if trajectory.search else {"search": False})


def cot_case(question: Question, chain: Chain, **labels: Any) -> dict:
    """The record of a chain of thought; `answers` are those of all chains, in the order sampled."""
    stopped = "length" if all(c.finish_reason == "length" for c in chain.completions) else "stop"
    return {
        **_asked(question, chain.answer, labels),
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


# What keeps a question from being answered and is no fault of the program: servers, retrievers (ConnectionError), sandboxes,
# workers, a device's memory. Anything else is a bug, which stops a run: tried again, it would only come again.
OUTAGES = (ServerError, SandboxLost, WorkerLost, ConnectionError, TimeoutError, MemoryError)


def error_case(question: Question, error: Exception, **labels: Any) -> dict:
    """The record of a question that an outage kept from being asked; a resumed run tries it again. Any other error is
    raised as it is."""
    if not isinstance(error, OUTAGES):
        raise error
    return {**about(question, labels), "error": f"{type(error).__name__}: {error}"}


def about(question: Question, labels: Mapping[str, Any]) -> dict:
    """The fields of a record that say what was asked, and of whom."""
    asked = {k: getattr(question, k) for k in ("id", "benchmark", "domain", "level", "subject", "split")}
    return {**asked, "question": question.text, "gold": question.answer, "aliases": list(question.aliases), **labels}


def _asked(question: Question, answer: Any, labels: Mapping[str, Any]) -> dict:
    asked = about(question, labels)
    return asked | graded(asked, answer)


def graded(about: Mapping[str, Any], answer: Any) -> dict:
    """The grade fields of an answer to the question that a record is about."""
    grade = score.grade(answer, about["gold"], about["domain"], tuple(about["aliases"]))
    return {
        "prediction": answer, "correct": grade.correct, "exact_match": grade.exact_match, "f1": grade.f1,
        "reason": grade.reason,
    }  # fmt: skip


def _step(step: Step) -> dict:
    found = {
        "text": step.text, "code": step.code, "observation": observe(step.outcome),
        "failure": step.outcome.failure.kind if step.outcome.failure else None,
        "final": step.outcome.is_final, "prompt_tokens": step.prompt_tokens,
        "completion_tokens": step.completion_tokens, "seconds": round(step.seconds, 3),
    }  # fmt: skip
    if len(step.candidates) > 1:
        found["candidates"] = [
            {"code": c.code, "outcome": _short(c.outcome), "failed": c.outcome.failure.kind if c.outcome.failure else None,
             "group": c.group, "tokens": c.tokens} for c in step.candidates
        ]  # fmt: skip
        found["chosen"] = next(i for i, c in enumerate(step.candidates) if c.outcome is step.outcome)
    return found


def _short(outcome: Any) -> str:
    """An outcome in a few words."""
    if outcome.failure is not None:
        return f"{outcome.failure.kind}: {(outcome.failure.message or 'no code block').strip().splitlines()[-1]}"
    if outcome.is_final:
        return f"final answer: {outcome.answer}"
    return prompts.shorten(
        "\n".join(p for p in (outcome.stdout.strip(), outcome.value) if p) or "(nothing printed)", 160
    )


def conversation(case: Mapping[str, Any]) -> list[dict]:
    """A recorded case as the messages a student is trained on, with the student's own prompt."""
    if "trace" in case:
        messages = opening(case["question"], "student", case.get("tools", ""), case.get("search", True))
        for number, step in enumerate(case["trace"], 1):
            messages.append({"role": "assistant", "content": step["text"]})
            if number < len(case["trace"]):
                messages.append({"role": "user", "content": step["observation"]})
        return messages
    asked = prompts.cot_turns(case["question"], case["domain"], case.get("passages", ""))
    return [*asked, {"role": "assistant", "content": case["text"]}]


def kept(case: Mapping[str, Any]) -> bool:
    """The paper's filter on teacher cases: right, answered by final_answer, no step that failed to parse.

    Steps that failed to run are kept: they show the student how to repair (reference code).
    """
    if case.get("error") or not case["correct"]:
        return False
    return case["stopped"] == ("final_answer" if "trace" in case else "stop") and not case["parse_errors"]


REQUIRED = ("id", "question", "domain", "correct", "stopped", "parse_errors")


def read(file: Path) -> list[dict]:
    """Recorded cases of a file. Raises ValueError naming the line that is broken or lacks a field."""
    found = []
    for number, case in enumerate(records.read(file), 1):
        if not case.get("error"):
            missing = [f for f in REQUIRED if f not in case] + (
                ["trace or text"] if {"trace", "text"}.isdisjoint(case) else []
            )
            if missing:
                raise ValueError(f"{file} record {number} lacks {', '.join(missing)}; delete or mend that line")
        found.append(case)
    return found
