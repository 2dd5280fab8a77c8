"""Exercises: a check never fails a notebook, and a student copy holds no solution."""

import ast
import itertools
import json
import random
import statistics
import types

import nbformat
import pandas as pd
import pytest
import workshop

from agentlib import Sandbox, agent, config, retrieval, score
from agentlib.pages import exercises
from agentlib.runner import notebooks

COURSE = notebooks.numbered(config.ROOT / "notebooks")


def cells(path, tag=None):
    return [
        c
        for c in nbformat.read(path, 4).cells
        if c.cell_type == "code" and (tag is None or tag in c.metadata.get("tags", []))
    ]


def test_a_check_says_solved_not_yet_and_why_not():
    assert "✓ 1 · solved" in exercises.check_exercise("1", lambda: True).data
    assert (
        "… 1 · not yet · Look above."
        in exercises.check_exercise("1", lambda: False, "Look above.").data
    )
    assert "TypeError" in exercises.check_exercise("1", lambda: len(...) == 3).data


@pytest.mark.parametrize("path", COURSE, ids=lambda p: p.stem)
def test_the_course_has_three_solved_exercises_a_notebook_each_with_its_check(path):
    every = cells(path)
    asked = [k for k, cell in enumerate(every) if workshop.TAG in cell.metadata.get("tags", [])]
    assert len(asked) >= 3
    for k in asked:
        assert "pages.check_exercise(" in every[k + 1].source
        shown = "".join(
            output.get("data", {}).get("text/html", "") for output in every[k + 1].outputs
        )
        assert exercises.DONE in shown, f"not solved: {every[k].source}"


@pytest.mark.parametrize("path", COURSE, ids=lambda p: p.stem)
def test_a_student_copy_keeps_the_question_and_loses_the_solution_and_every_output(path, tmp_path):
    (made,) = workshop.write([path], tmp_path)
    for solved, given in zip(cells(path, workshop.TAG), cells(made, workshop.TAG), strict=True):
        start, _, solution = solved.source.partition(f"\n{workshop.SOLUTION}\n")
        assert given.source == f"{start}\n# your turn\n" and solution.strip()
        compile(given.source, str(made), "exec")
    assert not [cell for cell in cells(made) if cell.outputs or cell.execution_count]
    for cell in cells(made):
        folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert folded == ("pages.check_exercise(" in cell.source)
        assert not (folded and workshop.TAG in cell.metadata.get("tags", []))
    assert len(cells(made)) == len(cells(path))
    assert (tmp_path / "pictures" / "agent_loop.svg").exists()


def test_a_copy_that_somebody_works_in_is_left_alone(tmp_path, capsys):
    assert workshop.main(["--out", str(tmp_path)]) == 0
    mine = tmp_path / COURSE[0].name
    mine.write_text("my work")
    assert workshop.main(["--out", str(tmp_path)]) == 0
    assert mine.read_text() == "my work" and capsys.readouterr().out.splitlines()[-1].startswith(
        "0 student"
    )


@pytest.mark.parametrize("source", ["answer = 42", "\n# solution\nanswer = 42"])
def test_an_exercise_without_a_start_or_a_solution_is_refused(source):
    cell = {
        "cell_type": "code",
        "source": source,
        "metadata": {"tags": ["exercise"]},
        "outputs": [],
        "execution_count": 1,
    }
    with pytest.raises(ValueError, match="lacks a start"):
        workshop.student(json.loads(json.dumps({"cells": [cell]})))


# --- exercises that need no model: the start is not yet the solution, the solution is --------------


def exercised(number: str, solved: bool, **given) -> dict[str, str]:
    """What the checks of a notebook say of its exercises, as given or solved, by their titles."""
    said = {}
    given |= {"pages": types.SimpleNamespace(check_exercise=exercises.check_exercise, **SHOWN)}
    (path,) = (path for path in COURSE if path.name.startswith(number))
    every = cells(path)
    for exercise, check in itertools.pairwise(every):
        if workshop.TAG not in exercise.metadata.get("tags", []):
            continue
        names = dict(given)
        exec(exercise.source if solved else exercise.source.partition(workshop.SOLUTION)[0], names)
        *before, last = ast.parse(check.source).body
        exec(compile(ast.Module(before, []), path.name, "exec"), names)
        line = eval(compile(ast.Expression(last.value), path.name, "eval"), names).data
        said[last.value.args[0].value] = line
    return said


SHOWN = {"show_values": lambda values: values}
FIVE = types.SimpleNamespace(answers=("436", "11", "130,111", "Indonesia", None))


def scope_of_00(box):
    question = types.SimpleNamespace(answer="1919440")
    cot = types.SimpleNamespace(generate_cot=lambda *_, **__: [FIVE])
    model, adapters = types.SimpleNamespace(use=lambda path: None), {"cot_distill": "path"}
    names = {"known": {"q": question}, "question": "q", "cot": cot, "model": model}
    return names | {
        "adapters": adapters,
        "Sandbox": Sandbox,
        "without_search": box,
        "cfg": config.SMOKE,
    }


def scope_of_08(box):
    last = {
        file.stem: json.loads(file.read_text().splitlines()[-1])
        for file in (config.ROOT / "tests" / "benchmarks").glob("*.jsonl")
    }
    steps, action = last["generation"]["medians"], last["sandbox"]["medians"]
    voted = {
        f"{p} prompt": {
            1: steps[f"greedy, {p} prompt"]["seconds a step"],
            8: steps[f"SAG, N = 8, {p} prompt"]["seconds a step"],
        }
        for p in ("short", "long")
    }
    sides = {"ours": action["agentlib sandlock"], "peer": action["smolagents"]}
    return sides | {"voted": voted, "random": random}


def scope_of_10(box):
    names = {"agent": agent, "score": score, "box": box, "pd": pd, "statistics": statistics}
    (path,) = (path for path in COURSE if path.stem.startswith("10"))
    sources = [cell.source for cell in cells(path)]
    for part in ("def worth(", "def reward("):
        (source,) = [source for source in sources if part in source]
        exec(source[source.index("\n\n\ndef") if "box = " in source else 0 :], names)
    return names | {"itertools": itertools}


SCOPES = {
    "00": scope_of_00,
    "07": lambda box: {"json": json, "retrieval": retrieval},
    "08": scope_of_08,
    "10": scope_of_10,
}


@pytest.mark.parametrize("number", SCOPES)
def test_an_exercise_is_solved_by_its_solution_and_not_by_its_start(number, box):
    scope = SCOPES[number](box)
    solved, given = (exercised(number, done, **scope) for done in (True, False))
    assert len(solved) == 3 and solved.keys() == given.keys()
    assert all(exercises.DONE in line for line in solved.values()), solved
    assert all(f"{exercises.OPEN} " in line for line in given.values()), given
