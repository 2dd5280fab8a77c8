"""Exercises: a check never fails a notebook, and a student copy holds no solution."""

import json

import nbformat
import pytest
import workshop

from agentlib import config
from agentlib.pages import exercises

COURSE = sorted(
    path
    for name in ("0[1-69]", "11")
    for path in (config.ROOT / "notebooks").glob(f"{name}_*.ipynb")
)


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
