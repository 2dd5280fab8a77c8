"""The README is true: every module is in its table, imports only go down, and its ratios are the records'."""

import ast
import json
import re

import pytest

from agentlib import config

PACKAGE = config.ROOT / "agentlib"


def listed() -> list[tuple[int, list[str]]]:
    """The rows of the module table: floor and modules, in order."""
    text = (config.ROOT / "README.md").read_text(encoding="utf-8").partition("## The modules")[2]
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", text, flags=re.MULTILINE)
    return [(int(floor), re.findall(r"`(\w+)`", names)) for floor, names in rows]


def imported(module: str) -> set[str]:
    """The modules of the package that one of them imports, anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "agentlib":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agentlib."):
            found.add(node.module.removeprefix("agentlib."))
    return found


def test_every_module_is_in_the_table_once():
    names = [name for _, row in listed() for name in row]
    assert sorted(names) == sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def test_imports_only_go_down():
    floor = {name: (number, row.index(name)) for number, row in listed() for name in row}
    row_of = {name: tuple(row) for _, row in listed() for name in row}
    wrong = [
        f"{module} imports {other}"
        for module in floor
        for other in imported(module)
        if not (floor[other][0] < floor[module][0] or (row_of[other] == row_of[module] and floor[other] < floor[module]))
    ]
    assert wrong == []


QUOTED = [
    ("generation", "SAG, N = 8, short prompt to greedy", "**{:.2f} times** a greedy step"),
    ("generation", "questions/s, ours to smolagents", "**{:.1f} times** as fast as by smolagents"),
    ("training", "tokens/s, ours to the fastest TRL", "**{:.2f} times** as many tokens a second as TRL"),
]


@pytest.mark.parametrize(("file", "ratio", "words"), QUOTED, ids=[ratio for _, ratio, _ in QUOTED])
def test_a_ratio_is_quoted_as_it_was_measured_last(file, ratio, words):
    lines = (config.ROOT / "tests" / "benchmarks" / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
    measured = json.loads(lines[-1])["ratios"][ratio]
    assert words.format(measured) in (config.ROOT / "README.md").read_text(encoding="utf-8")
