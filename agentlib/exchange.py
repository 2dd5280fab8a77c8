"""Trajectories in other people's formats: the authors' published ones become our cases, ours become
plain messages.

The published sets (agent-distillation/Qwen2.5-32B-Instruct_{agent,cot}_trajectories_2k and
…_2k_prefix) hold one row per question: question, true_answer, generated_answer, score,
dataset_name, model_id; agents have `log_data`, a JSON text with `messages` as smolagents logs them,
chains of thought have `messages` and `response`.
"""

import ast
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentlib import cases, prompts, records, score, tasks
from agentlib.agent import read_code

log = logging.getLogger(__name__)
ROLES = {"system", "user", "assistant", "tool-call", "tool-response"}
# in the names of sets of maths problems; other sets ask for facts
MATHS = ("math", "gsm", "aime", "amc", "olym")
SCORES = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
MARKS = {"Error:", "Call id:"}  # how smolagents begins an observation of a step that failed


def from_published(rows: Iterable[Mapping[str, Any]], name: str = "published") -> list[dict]:
    """Our cases of published rows (`datasets.load_dataset(name, split="train")`), in their order,
    with the fields of cases of our own (None for what was not published: tokens, seconds, seed);
    rows without a log or an answer, or with a second system turn (a plan of smolagents, which the
    reference code leaves out too), are left out with a notice.

    A row without a score is graded by our rules, and is neither right nor wrong if it has no gold
    answer either. Raises ValueError naming the row and the field that cannot be read.
    """
    found, left_out = [], []
    for number, row in enumerate(rows):
        given = {
            field: None if isinstance(value, float) and math.isnan(value) else value
            for field, value in row.items()
        }
        try:
            case = _case(given, f"{name}-{number:04d}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"row {number} of {name} cannot be read ({type(error).__name__}: {error}); check"
                " its fields"
            ) from None
        if case is None:
            left_out.append(number)
        else:
            found.append(records.replace_surrogates(case))
    if left_out:
        log.warning(
            "%s: left out %d rows without a log or with a plan (%s)",
            name,
            len(left_out),
            ", ".join(map(str, left_out)),
        )
    return found


def _case(row: Mapping[str, Any], name: str) -> dict | None:
    agent = bool(row.get("log_data")) or "response" not in row
    told = _agent(row) if agent else _chain(row)
    if told is None:
        return None
    benchmark = str(row.get("dataset_name") or "")
    domain = "math" if any(part in benchmark.lower() for part in MATHS) else "factual"
    golds = tasks.golds(row.get("true_answer"), domain)
    question = tasks.Question(
        name,
        benchmark,
        told.pop("question"),
        golds[0] if golds else "",
        domain,
        split="train",
        aliases=golds[1:],
    )
    about = cases.about(
        question,
        {
            "model": str(row.get("model_id") or ""),
            "role": "teacher",
            "method": "agent" if agent else "cot",
            "n": 1,
            "seed": None,
            "temperature": None,
        },
    )
    answer = row.get("generated_answer") if agent else told["answers"][0]
    return about | _grade(about, answer, row.get("score")) | told


def _grade(about: Mapping[str, Any], answer: Any, published: Any) -> dict:
    """The grade fields: the published score, or else our own rules."""
    right = _score(published)
    if right is None and about["gold"]:
        return cases.graded(about, answer)
    reason = "no gold answer" if right is None else f"published score {published}"
    return {
        "prediction": answer,
        "correct": right,
        "exact_match": None,
        "f1": None,
        "reason": reason,
    }


def _score(published: Any) -> bool | None:
    """A published score as right or wrong, None where there is none: data sets write it as a
    number, a word or a text.
    """
    text = "" if published is None else str(published).strip().lower()
    if text in ("", "none", "null", "nan"):
        return None
    if text not in SCORES:
        raise ValueError(f"score {published!r}, expected 0 or 1, true or false, or nothing")
    return SCORES[text]


def _agent(row: Mapping[str, Any]) -> dict | None:
    """An agent's steps: what the assistant wrote, and what came back before it wrote again."""
    data = row.get("log_data")
    data = json.loads(data) if isinstance(data, str) and data else data
    if not data:
        return None
    turns = [(_role(m["role"]), _text(m["content"])) for m in data["messages"]]
    if [role for role, _ in turns].count("system") > 1:
        return None
    question = (
        row.get("question")
        or next(text for role, text in turns if role == "user").removeprefix("New task:\n").strip()
    )
    trace: list[dict] = []
    for role, text in turns:
        if role == "assistant":
            trace.append(
                {
                    "text": prompts.close_turn(text),
                    "code": read_code(text),
                    "observation": "",
                    "failure": None,
                    "final": False,
                    "prompt_tokens": None,
                    "completion_tokens": None,
                    "seconds": None,
                }
            )
        elif role in ("tool-response", "user") and trace:
            seen = (
                text if text.startswith(prompts.OBSERVATION) else f"{prompts.OBSERVATION}\n{text}"
            )
            trace[-1]["observation"] += ("\n" if trace[-1]["observation"] else "") + seen
    if not trace:
        raise ValueError("log_data has no assistant turn")
    calls = [_calls(step["code"]) for step in trace]
    for step, called in zip(trace, calls, strict=True):
        if step["code"] is None:
            step["failure"] = "parse"
        elif any(f"\n{mark}" in step["observation"] for mark in MARKS):
            step["failure"] = "parse" if called is None else "execution"
    trace[-1]["final"] = trace[-1]["failure"] is None and "final_answer" in (calls[-1] or [])
    failures = [step["failure"] for step in trace if step["failure"]]
    return {
        "question": question,
        "trace": trace,
        "steps": len(trace),
        "stopped": "final_answer" if trace[-1]["final"] else "max_steps",
        "errors": failures,
        "parse_errors": failures.count("parse"),
        "execution_errors": failures.count("execution"),
        "tool_calls": sum((called or []).count("web_search") for called in calls),
        "candidates": len(trace),
        "prompt_tokens": None,
        "completion_tokens": None,
        "seconds": None,
        "prefix": "",
        "last_words": "",
    }


def _calls(code: str | None) -> list[str] | None:
    """The names that code calls and does not define itself; None for code that does not parse."""
    try:
        nodes = list(ast.walk(ast.parse(code or "")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    called = [
        node.func.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return [name for name in called if name not in own]


def _chain(row: Mapping[str, Any]) -> dict | None:
    asked = [_text(m["content"]) for m in row["messages"] or () if _role(m["role"]) == "user"]
    if not isinstance(row["response"], str):
        return None
    answer = row.get("generated_answer")
    answer = score.extract_answer(row["response"]) if answer is None else answer
    return {
        "question": row.get("question") or asked[-1],
        "text": row["response"],
        "wording": "plain",
        "stopped": "stop",
        "steps": 1,
        "errors": [],
        "parse_errors": 0,
        "execution_errors": 0,
        "tool_calls": 0,
        "prompt_tokens": None,
        "completion_tokens": None,
        "seconds": None,
        "answers": [answer],
        "chain_tokens": [None],
        "passages": "",
    }


def _role(role: str) -> str:
    """A role as smolagents writes it: "MessageRole.TOOL_CALL", "tool-call"."""
    plain = str(role).removeprefix("MessageRole.").lower().replace("_", "-")
    if plain not in ROLES:
        raise ValueError(f"role {role!r}, expected one of {', '.join(sorted(ROLES))}")
    return plain


def _text(content: Any) -> str:
    """A turn's text: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    if any(part.get("type", "text") != "text" for part in content):
        raise ValueError("a turn holds more than text")
    return "".join(part["text"] for part in content)


def to_messages(found: Sequence[Mapping[str, Any]]) -> list[dict]:
    """Cases as rows of {"id", "messages"}: the conversations students are trained on, which TRL and
    `datasets` take. As a file: `records.write_lines(file, to_messages(found))`.
    """
    return [
        {"id": case["id"], "messages": records.replace_surrogates(cases.conversation(case))}
        for case in found
    ]
