"""The paper preset, notebooks 00 to 05, with its student, teacher and index replaced by small
real ones."""

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import vllm_environment
from test_notebooks import copied

from agentlib import config, distill, teach
from agentlib.first_thought import first_thought_prefix
from agentlib.runner import notebooks

# Real ones in place of the paper's, on the command line alone: a student that wheels carry, an
# encyclopedia on a /retrieve server, and few, short answers. The rest is the paper's: its eight
# benchmarks, LoRA of rank 64 at its rate, top-p 0.8.
SMALL = {
    "students": "SmolLM2-135M-Instruct", "encoder": "all-MiniLM-L6-v2", "tuning": "lora",
    "questions": 1, "train_examples": 2, "epochs": 1, "max_steps": 2, "step_tokens": 96, "cot_tokens": 128, "context_tokens": 4096,
    "samples": 2, "sample_counts": "1,2", "sweep_temperatures": "", "sweep_seeds": 0, "sweep_tunings": "", "sweep_examples": "",
}  # fmt: skip
# The teacher is live, on a llama.cpp server, for notebook 02. One so small gets none of the first
# questions of the paper's training sets right, so what students are trained on afterwards is the
# recorded trajectories of the teaching set's teacher.
LIVE = {"teacher": "Qwen2.5-Coder-0.5B-Instruct", "train_questions": 1}
RECORDED = {"teacher_records": "teaching"}


@contextlib.contextmanager
def encyclopedia_server(folder, environment):
    """`python -m agentlib serve` over BM25; yields its URL."""
    command = [
        sys.executable,
        "-m",
        "agentlib",
        "serve",
        "--preset",
        "smoke",
        "--build",
        "--set=retriever=bm25",
        "--port=0",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment
    ) as process:
        try:
            said = process.stdout.readline()
            yield re.search(r"(http://[\d.:]+)/retrieve", said)[1]
        finally:
            process.terminate()


@pytest.fixture
def project(tmp_path, paper_home):
    """A copy of the notebooks, and the environment of a run in it."""
    (config.home() / "models").mkdir(parents=True, exist_ok=True)
    if not (paper_home / "models").exists():
        (paper_home / "models").symlink_to(config.home() / "models")
    return tmp_path, copied(tmp_path) | {"AGENTLIB_HOME": str(paper_home)}


def run(project, numbers, **settings):
    """`python -m agentlib run` of some notebooks at the paper preset."""
    folder, environment = project
    command = [sys.executable, "-m", "agentlib", "run", "--preset", "paper"]
    command += [f"--only={number}" for number in numbers]
    command += [f"--set={name}={value}" for name, value in (SMALL | settings).items()]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.full
@pytest.mark.timeout(5400)
def test_the_paper_preset_runs_from_end_to_end_on_small_replacements(project):
    with encyclopedia_server(*project) as searched:
        run(project, ("00", "01", "02"), **LIVE, retriever_url=searched)
        run(project, ("03", "04", "05", "05b"), **RECORDED, retriever_url=searched)
    check_teacher(project[0] / "figures" / "records" / "paper", LIVE["teacher"])
    check(project[0])


@pytest.mark.full
@pytest.mark.server
@pytest.mark.timeout(10800)
def test_the_paper_preset_runs_with_vllm_as_the_server_of_teacher_and_students(project):
    """The way of notebook 07: a teacher on a server; students trained here, then a server that has
    their adapters."""
    folder, name = project[0], SMALL["students"]
    with encyclopedia_server(*project) as searched:
        served = {"retriever_url": searched, "server_seed": "omitted"}
        with vllm_environment.serving(name, {}) as server:
            live = LIVE | {"teacher": name, "teacher_server": server.url}
            run(project, ("00", "01", "02"), **served, **live)
        run(project, ("03",), **served, **RECORDED)
        trained = {a.parent.name: a for a in folder.glob("runs/paper/adapter-*/student")}
        assert len(trained) > len(distill.TEACHER_OF)  # one of each method, and the page's own
        with vllm_environment.serving(name, trained) as server:
            run(project, ("04", "05", "05b"), **served, **RECORDED, student_server=server.url)
    found = folder / "figures" / "records" / "paper"
    check_teacher(found, name)
    check(folder)
    for file in ("teacher_cot", "teacher_agent", "teacher_agent_ftp", "cases"):
        lines = (found / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
        assert {json.loads(line).get("engine") for line in lines} == {"server"}, file


def check_teacher(folder: Path, teacher: str) -> None:
    """A case of each method for one question of each of the paper's training sets; the prefix is
    the start of its own CoT."""
    found = {
        m: [
            json.loads(line)
            for line in (folder / f"teacher_{m}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for m in teach.METHODS
    }
    for cases in found.values():
        assert {case["benchmark"] for case in cases} == set(config.PAPER.train_sets) and len(
            cases
        ) == len(config.PAPER.train_sets)
        assert all(
            case["model"] == teacher and case["completion_tokens"] > 0 and not case.get("error")
            for case in cases
        )
    thoughts = {case["id"]: first_thought_prefix(case["text"]) for case in found["cot"]}
    for case in found["agent_ftp"]:
        assert case["prefix"] == thoughts[case["id"]] and case["trace"][0]["text"].startswith(
            case["prefix"]
        )


def check(folder: Path) -> None:
    """What the run has left: every figure, every benchmark and method, published values beside
    ours."""
    figures, found = folder / "figures" / "paper", folder / "figures" / "records" / "paper"
    assert {f"{name}{end}" for name in notebooks.FIGURES for end in (".svg", ".png")} <= {
        path.name for path in figures.iterdir()
    }
    cases = [
        json.loads(line)
        for line in (found / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    conditions = {(case["method"], case["n"]) for case in cases}
    assert {case["benchmark"] for case in cases} == set(config.PAPER.benchmarks)
    assert conditions >= {(method, 1) for method in config.METHODS} | {
        ("agent_distill", 2),
        ("agent_distill_ftp", 2),
    }
    table = (figures / "beside_the_paper.md").read_text(encoding="utf-8")
    head, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    assert head[-2:] == ["published", "published_size"] and any(
        row[-2].replace(".", "").isdigit() for row in rows
    ), table
