"""The notebooks: house rules, in step with their scripts, and the whole smoke preset run
headless."""

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
from conftest import SMOL, install_tiny

from agentlib import config, records
from agentlib.models import weights
from agentlib.runner import notebooks

NOTEBOOKS = notebooks.numbered()
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
        found.append(
            f"cells too long: median {lengths[len(lengths) // 2]}, longest {lengths[-1]} lines"
        )
    if not any("assert" in cell.source for cell in cells):
        found.append("asserts nothing")
    lines = [
        line
        for cell in cells
        for line in cell.source.splitlines()
        if re.match(r"\s*(from|import) agentlib", line)
    ]
    if len(lines) > 5 or any(re.search(r"agentlib\.\w+", line) for line in lines):
        found.append("imports past the doors of the package")
    if private := {
        name
        for cell in cells
        for name in re.findall(r"\w+\._[a-z]\w*", cell.source)
        if "_repr_" not in name
    }:
        found.append(f"uses private names: {private}")
    return found


@each
def test_house_rules(path):
    assert violations(nbformat.read(path, 4)) == []


def test_house_rules_can_fail():
    broken = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("\n".join(["x = y._z", "from agentlib.sag import SAG"] * 15))
        ]
    )
    assert len(violations(broken)) == 7


@each
def test_notebook_and_script_are_in_step(path):
    script = jupytext.read(notebooks.NOTEBOOKS / "src" / f"{path.stem}.py")
    ours = [
        (cell.cell_type, cell.source, cell.metadata.get("tags", []))
        for cell in nbformat.read(path, 4).cells
    ]
    theirs = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in script.cells]
    assert ours == theirs, f"run `jupytext --sync notebooks/src/{path.stem}.py`"


@each
def test_committed_outputs_are_of_a_real_run(path):
    cells = code(path)
    assert all(cell.execution_count for cell in cells if cell.source.strip()), (
        "a cell was never run: make publish"
    )
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert path.stat().st_size < 500_000


@each
def test_no_machine_path_in_a_notebook(path):
    found = re.findall(
        r"(?:/root|/home|/work|/tmp|/Users)/[\w./-]*", path.read_text(encoding="utf-8")
    )
    assert not found, f"paths of the machine it ran on: {sorted(set(found))}"


def test_every_picture_exists_has_words_and_is_shown():
    shown = set()
    for path in NOTEBOOKS:
        for words, target in re.findall(
            r"!\[([^\]]*)\]\(([^)]+)\)", path.read_text(encoding="utf-8")
        ):
            assert len(words) > 40 and (path.parent / target).is_file(), f"{path.name}: {target}"
            shown.add(target)
    pictures = notebooks.NOTEBOOKS / "pictures"
    assert shown == {f"pictures/{picture.name}" for picture in pictures.iterdir()}


def test_every_notebook_names_its_figures_in_the_readme():
    text = (config.ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if path.name not in text] == []


# Smoke with less of everything.
SMALLER = {"questions": 1, "epochs": 1, "passages": 1500, "train_examples": 6, "max_steps": 2, "step_tokens": 48, "cot_tokens": 48, "samples": 4,
           "sample_counts": "1,4"}  # fmt: skip


def copied(folder):
    """A copy of the tree's parts that notebooks need, so that a run starts from nothing and
    leaves what is committed alone."""
    for part in ("agentlib", "notebooks", "figures", "tools", "tests/benchmarks"):
        shutil.copytree(
            config.ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(config.ROOT / "pyproject.toml", folder)
    return os.environ | {"PYTHONPATH": str(folder)}


class Tree:
    """A copy of the project in which the smoke preset is run; what a run leaves there, later
    ones go on from."""

    def __init__(self, folder, **environment):
        self.folder, self.environment = folder, copied(folder) | environment
        self.records, self.figures = (
            folder / "figures" / "records" / "smoke",
            folder / "figures" / "smoke",
        )
        for made in (self.records, self.figures):
            shutil.rmtree(made, ignore_errors=True)

    def run(self, *more: str, settings: dict = SMALLER):
        """The run's output, and the seconds it took."""
        command = [
            sys.executable,
            "-m",
            "agentlib",
            "run",
            "--preset",
            "smoke",
            "--exercises",
            *more,
        ]
        command += [f"--set={name}={value}" for name, value in settings.items()]
        started = time.monotonic()
        ran = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=self.environment
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout, time.monotonic() - started

    def changed(self) -> list[str]:
        """The files under version control that are no longer as they are committed: what `git
        status` would show."""
        tracked = subprocess.run(
            ["git", "ls-files", "notebooks", "figures"],
            cwd=config.ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return [
            name
            for name in tracked.stdout.splitlines()
            if "records/smoke" not in name
            and (self.folder / name).read_bytes() != (config.ROOT / name).read_bytes()
        ]


# Texts of a random model end only where they are cut; two steps show that a run goes on after the
# first.
TINY = {
    "questions": 1,
    "epochs": 1,
    "passages": 1500,
    "train_examples": 4,
    "max_steps": 2,
    "step_tokens": 24,
    "cot_tokens": 24,
    "samples": 4,
    "sample_counts": "1,4",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tree whose models are random and tiny, but for the encoder."""
    home = tmp_path_factory.mktemp("home")
    for name in (SMOL, "Qwen2.5-Coder-0.5B-Instruct"):
        install_tiny(home, name)
    encoder = records.slug(config.SMOKE.encoder)
    weights.fetch(config.SMOKE.encoder)
    (home / "models" / encoder).symlink_to(config.home() / "models" / encoder)
    return Tree(tmp_path_factory.mktemp("tiny"), AGENTLIB_HOME=str(home))


@pytest.mark.model
@pytest.mark.notebook
@pytest.mark.timeout(1800)
def test_the_main_line_runs_whole_on_a_tiny_model(tiny):
    """Notebooks 00 to 05 as `make reproduce` runs them, with every figure; nothing that is
    committed changes."""
    said, _ = tiny.run(settings=TINY)
    assert (
        next(line for line in said.splitlines() if line.startswith("total")).split()[-1] == "8"
    ), said
    assert {f"{name}{end}" for name in notebooks.FIGURES for end in (".svg", ".png")} <= {
        path.name for path in tiny.figures.iterdir()
    }
    built = subprocess.run(
        [sys.executable, "tools/website.py"],
        cwd=tiny.folder,
        env=tiny.environment,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    site = (tiny.folder / "runs" / "smoke" / "site" / "index.html").read_text(encoding="utf-8")
    assert (
        all(f"figures/{name}.svg" in site for name in notebooks.FIGURES)
        and "04_evaluate_with_sag.html" in site
    )
    cases = [
        json.loads(line)
        for line in (tiny.records / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert {case["benchmark"] for case in cases} == set(config.SMOKE.benchmarks) and not any(
        case.get("error") for case in cases
    )
    assert tiny.changed() == []


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return Tree(tmp_path_factory.mktemp("smoke"))


@pytest.mark.full
@pytest.mark.timeout(5400)
def test_smoke_runs_headless_makes_eight_figures_and_resumes_faster(tree):
    """On the real model, from nothing and once more."""
    took, found = [], []
    for _ in range(2):
        said, seconds = tree.run(settings={})
        took.append(seconds)
        assert (
            next(line for line in said.splitlines() if line.startswith("total")).split()[-1] == "8"
        ), said
        found.append((tree.records / "cases.jsonl").read_text(encoding="utf-8"))
    assert found[0] == found[1]
    asked = {json.loads(line)["benchmark"] for line in found[0].splitlines()}
    assert asked == set(config.SMOKE.benchmarks)
    assert re.search(
        r"^1\. Acting against reciting: .+: more than chance\.$", said, re.MULTILINE
    ), said
    assert took[1] < took[0] and tree.changed() == []


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "numbers, settings",
    [
        (["06", "08"], {}),
        (["07"], SMALLER),
        (["09"], {"epochs": 2, "max_steps": 2}),
        (["01", "10"], SMALLER),
        (["11"], {}),
    ],
)
def test_notebooks_beside_the_main_line_run(tree, numbers, settings):
    """10 searches in the index of 01; the teacher of 09 needs more words than `SMALLER` leaves
    it."""
    tree.run(*[word for number in numbers for word in ("--only", number)], settings=settings)


# --- the story ----------------------------------------------------------------------------------


def story(path):
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]


PREDICT = re.compile(r"Before you look|\*\*Predict|What do you expect")


@each
def test_a_notebook_opens_with_a_question_asks_for_a_prediction_and_ends_with_three_sentences(path):
    text = "\n\n".join(story(path))
    assert re.match(r"# \d\d[a-z]? · [^\n]+\n\n\*[^*]+\?\*\n\n\*\*By the end you will have", text)
    (saw,) = re.findall(r"^## What we saw\n\n(.+?)(?=\n\n[^ ])", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^(\d)\. ", saw, re.MULTILINE) == ["1", "2", "3"]
    assert PREDICT.search(text)


@each
def test_a_notebook_says_how_long_each_section_takes_to_read(path):
    text = "\n\n".join(story(path))
    sections = re.findall(r"^## (\d) · ", text, re.MULTILINE)
    if not sections:  # of figures or tables, which have names
        assert re.search(r"\*To read\*: .+ \(\d+ minutes\), .*exercises \(\d+\)\.$", text, re.M)
        return
    headed = re.findall(r"^## (\d) · .+ \(\d+ minutes?\)$", text, re.MULTILINE)
    if headed == sections:  # 06 and 09: in the headings
        assert re.search(r"^## Exercises \(\d+ minutes\)$", text, re.MULTILINE)
        return
    said = re.search(r"\*To read\*: (.+?)\.$", text, re.MULTILINE)
    assert said and re.findall(r"(\d) \(\d+(?: minutes?)?\)", said[1]) == sections
    assert "exercises (" in said[1]
