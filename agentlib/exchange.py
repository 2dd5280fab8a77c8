"""Trajectories in other people's formats: the authors' published ones become our cases, ours become plain messages.

Owns the mapping of fields and roles. Knows nothing of training or of where files come from.

The published sets (agent-distillation/Qwen2.5-32B-Instruct_{agent,cot}_trajectories_2k and …_2k_prefix) hold a row a
question: question, true_answer, generated_answer, score, dataset_name, model_id; agents have `log_data`, a JSON text
with `messages` as smolagents logs them, chains of thought have `messages` and `response`.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentlib import cases, prompts, records
from agentlib.agent import read_code

log = logging.getLogger(__name__)
ROLES = {"system", "user", "assistant", "tool-call", "tool-response"}
MARKS = {"Error:", "Call id:"}  # how smolagents begins an observation of a step that failed


def load_published(name: str, split: str = "train") -> list[dict]:
    """Our cases of one of the authors' sets, from the Hugging Face hub or a folder on disk; needs `datasets`."""
    from datasets import load_dataset

    return from_published(load_dataset(name, split=split), name.rpartition("/")[2])


def from_published(rows: Iterable[Mapping[str, Any]], name: str = "published") -> list[dict]:
    """Our cases of published rows, in their order; rows without a log, or with a second system turn (a plan of
    smolagents, which the reference code leaves out too), are left out with a notice.

    Raises ValueError naming the row and the field that cannot be read.
    """
    found, left_out = [], []
    for number, row in enumerate(rows):
        try:
            case = _agent(row) if "log_data" in row else _chain(row)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"row {number} of {name} cannot be read ({type(error).__name__}: {error}); check its fields") from None
        if case is None:
            left_out.append(number)
        else:
            found.append({"id": f"{name}-{number:04d}", **_about(row), **case})
    if left_out:
        log.warning("%s: left out %d rows without a log or with a plan (%s)", name, len(left_out), ", ".join(map(str, left_out)))
    return found


def _about(row: Mapping[str, Any]) -> dict:
    benchmark = str(row.get("dataset_name") or "")
    score = row.get("score")
    return {
        "benchmark": benchmark, "domain": "math" if "math" in benchmark.lower() else "factual", "split": "train",
        "model": str(row.get("model_id") or ""), "role": "teacher", "gold": row.get("true_answer"),
        "prediction": row.get("generated_answer"), "correct": True if score is None else bool(score),
    }  # fmt: skip


def _agent(row: Mapping[str, Any]) -> dict | None:
    """An agent's steps: what the assistant wrote, and what came back before it wrote again."""
    data = row["log_data"]
    data = json.loads(data) if isinstance(data, str) and data else data
    if not data:
        return None
    turns = [(_role(m["role"]), _text(m["content"])) for m in data["messages"]]
    if [role for role, _ in turns].count("system") > 1:
        return None
    question = row.get("question") or next(text for role, text in turns if role == "user").removeprefix("New task:\n").strip()
    trace: list[dict] = []
    for role, text in turns:
        if role == "assistant":
            trace.append({"text": prompts.close_turn(text), "code": read_code(text), "observation": "", "failure": None, "final": False})
        elif role in ("tool-response", "user") and trace:
            seen = text if text.startswith(prompts.OBSERVATION) else f"{prompts.OBSERVATION}\n{text}"
            trace[-1]["observation"] += ("\n" if trace[-1]["observation"] else "") + seen
    if not trace:
        raise ValueError("log_data has no assistant turn")
    for step in trace:
        if step["code"] is None:
            step["failure"] = "parse"
        elif any(f"\n{mark}" in step["observation"] for mark in MARKS):
            step["failure"] = "execution"
    trace[-1]["final"] = "final_answer" in (trace[-1]["code"] or "")
    failures = [step["failure"] for step in trace]
    return {
        "question": question, "trace": trace, "steps": len(trace), "stopped": "final_answer" if trace[-1]["final"] else "max_steps",
        "parse_errors": failures.count("parse"), "execution_errors": failures.count("execution"),
        "tool_calls": sum((step["code"] or "").count("web_search(") for step in trace), "prefix": "",
    }  # fmt: skip


def _chain(row: Mapping[str, Any]) -> dict:
    asked = [_text(m["content"]) for m in row["messages"] if _role(m["role"]) == "user"]
    return {"question": row.get("question") or asked[-1], "text": row["response"], "stopped": "stop", "steps": 1,
            "parse_errors": 0, "execution_errors": 0, "tool_calls": 0}  # fmt: skip


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
    """Cases as rows of {"id", "messages"}: the conversations students are trained on, which TRL and others take."""
    return [{"id": case["id"], "messages": cases.conversation(case)} for case in found]


def export(found: Sequence[Mapping[str, Any]], file: Path) -> Path:
    """Write cases as JSON lines of messages; `datasets.load_dataset("json", data_files=file)` reads them."""
    records.write_lines(Path(file), to_messages(found))
    return Path(file)
