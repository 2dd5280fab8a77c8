"""The notebooks: house rules, in step with their scripts, and the whole smoke preset run headless."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time

import jupytext
import nbformat
import pytest

from agentlib import config, notebooks

NOTEBOOKS = sorted(notebooks.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def code(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def violations(notebook) -> list[str]:
    """The house rules that a notebook breaks."""
    found = []
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if "By the end you will have shown that" not in text:
        found.append("does not say what it shows")
    if "## What we saw" not in text or "## Exercises" not in text:
        found.append("lacks 'What we saw' or 'Exercises'")
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        found.append(f"{len(tagged)} parameters cells")
    elif not 1 <= len(ast.parse(tagged[0].source).body) <= 6:
        found.append("more than six parameters")
    lengths = sorted(len(cell.source.splitlines()) for cell in cells)
    if lengths[-1] > 25 or lengths[len(lengths) // 2] > 8:
        found.append(f"cells too long: median {lengths[len(lengths) // 2]}, longest {lengths[-1]} lines")
    if not any("assert" in cell.source for cell in cells):
        found.append("asserts nothing")
    return found


@each
def test_house_rules(path):
    assert violations(nbformat.read(path, 4)) == []


def test_house_rules_can_fail():
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(["x = 1"] * 30))])
    assert len(violations(broken)) == 5


@each
def test_notebook_and_script_are_in_step(path):
    script = jupytext.read(notebooks.NOTEBOOKS / "src" / f"{path.stem}.py")
    ours = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in nbformat.read(path, 4).cells]
    theirs = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in script.cells]
    assert ours == theirs, f"run `jupytext --sync notebooks/src/{path.stem}.py`"


@each
def test_committed_outputs_are_of_a_real_run(path):
    cells = code(path)
    assert all(cell.execution_count for cell in cells if cell.source.strip()), "a cell was never run: make publish"
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert path.stat().st_size < 600_000


@each
def test_no_machine_path_in_a_notebook(path):
    found = re.findall(r"(?:/root|/home|/work|/tmp|/Users)/[\w./-]*", path.read_text(encoding="utf-8"))
    assert not found, f"paths of the machine it ran on: {sorted(set(found))}"


def test_every_notebook_names_its_figures_in_the_readme():
    text = (config.ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if path.name not in text] == []


# Smoke with less of everything, so that two runs of all notebooks take minutes.
SMALLER = {"passages": 1500, "train_examples": 6, "max_steps": 2, "step_tokens": 48, "cot_tokens": 48, "samples": 4,
           "sample_counts": "1,4"}  # fmt: skip


def copied(folder):
    """A copy of the tree's parts that notebooks need, so that a run starts afresh and leaves what is committed alone."""
    for part in ("agentlib", "notebooks", "figures", "tests/benchmarks"):
        shutil.copytree(config.ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return os.environ | {"PYTHONPATH": str(folder)}


class Tree:
    """A copy of the project in which the smoke preset is run; what a run leaves there, later ones go on from."""

    def __init__(self, folder):
        self.folder, self.environment = folder, copied(folder)
        self.records, self.figures = folder / "figures" / "records" / "smoke", folder / "figures" / "smoke"
        for made in (self.records, self.figures):
            shutil.rmtree(made, ignore_errors=True)

    def run(self, *more: str, settings: dict = SMALLER):
        """The run's output, and the seconds it took."""
        command = [sys.executable, "-m", "agentlib.run", "--preset", "smoke", *more]
        command += [f"--set={name}={value}" for name, value in settings.items()]
        started = time.monotonic()
        ran = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=self.environment)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout, time.monotonic() - started


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return Tree(tmp_path_factory.mktemp("smoke"))


@pytest.mark.slow
def test_smoke_runs_headless_makes_eight_figures_and_resumes_faster(tree):
    took, found = [], []
    for _ in range(2):
        said, seconds = tree.run("--html")
        took.append(seconds)
        total = next(line for line in said.splitlines() if line.startswith("total"))
        assert total.split()[-1] == "8", said
        drawn = {path.name for path in tree.figures.iterdir()}
        assert {f"{name}{end}" for name in notebooks.FIGURES for end in (".svg", ".png")} <= drawn
        site = (tree.folder / "runs" / "smoke" / "site" / "index.html").read_text(encoding="utf-8")
        assert all(f"figures/{name}.svg" in site for name in notebooks.FIGURES) and "04_evaluate_with_sag.html" in site
        found.append((tree.records / "cases.jsonl").read_text(encoding="utf-8"))
    assert found[0] == found[1] and len({json.loads(line)["benchmark"] for line in found[0].splitlines()}) == 8
    assert took[1] < took[0]


@pytest.mark.slow
@pytest.mark.parametrize("numbers, settings", [(["06", "08"], {}), (["07"], SMALLER), (["09"], {"epochs": 2, "max_steps": 2}), (["01", "10"], SMALLER)])
def test_notebooks_beside_the_main_line_run(tree, numbers, settings):
    """10 searches in the index of 01; the teacher of 09 needs more words than `SMALLER` leaves it."""
    tree.run(*[word for number in numbers for word in ("--only", number)], settings=settings)
