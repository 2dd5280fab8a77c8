"""Which trajectories are fit to be learnt from: the paper's filter (§4.1), and whether an answer
was reached by reading and computing."""

import ast
import re
from collections.abc import Iterator

from agentlib import benchmarks
from agentlib.cases import Case


def passes_filter(case: Case) -> bool:
    """The paper's filter on teacher cases: right, answered by final_answer, no step that failed to
    parse.

    Steps that failed to run are kept: they show the student how to repair (reference code).
    """
    if case.get("error") or not case["correct"]:
        return False
    return (
        case["stopped"] == ("final_answer" if "trace" in case else "stop")
        and not case["parse_errors"]
    )


def is_reasoned(case: Case) -> bool:
    """Whether an agent's answer rests on what it read or computed: all needed passages were seen,
    where they are known, and its code holds no name that neither the question nor an observation
    before it has."""
    return benchmarks.is_supported(case) is not False and not any(_from_memory(case))


def _from_memory(case: Case) -> Iterator[str]:
    """Names typed into code that were never read. What is searched for, printed as a label or
    part of a formatted text is no claim."""
    seen = case["question"]
    for step in case.get("trace", ()):
        for name in _names(step.get("code") or ""):
            if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", seen, re.IGNORECASE):
                yield name
        seen += step.get("observation") or ""


def _names(code: str) -> Iterator[str]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Call) and _called(node) in ("web_search", "print"))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node not in skipped and isinstance(node.value, str):
            text = node.value.strip()
            if len(text) > 2 and text[0].isupper():  # a name, not a unit or a separator
                yield text


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))
