"""The package outside a clone: a wheel holds all of it, and a user's example runs elsewhere."""

import os
import subprocess
import sys
import zipfile

import pytest
from conftest import SMOL, install_tiny

from agentlib import config

EXAMPLE = """
from agentlib import Agent, LocalModel, Passage, Question, Sandbox, TrainingSettings
from agentlib import as_tool, build_examples, build_index, fine_tune, grade, open_index

passages = [
    Passage("1", "Lima", "Lima is the capital of Peru."),
    Passage("2", "Oslo", "Oslo is the capital of Norway."),
    Passage("3", "Titicaca", "Lake Titicaca is the largest lake of South America."),
]
web_search = as_tool(open_index(build_index("index", passages, kind="bm25", progress=False)), k=1)
print(web_search("What is the capital of Norway?"))

model = LocalModel("SmolLM2-135M-Instruct")
question = Question("q1", "mine", "What is the capital of Peru?", "Lima", "factual")
first = "Thought: I search.\\n```py\\nfinal_answer(web_search('capital of Peru').split()[1])\\n```"
with Sandbox(tools={"web_search": web_search}) as box:
    agent = Agent(model, box, style="student", max_steps=2, step_tokens=8)
    trajectory = next(agent.run([question], prefixes=[first]))
print(trajectory.answer, grade(trajectory.answer, question.answer, "factual").correct)

def conversation(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

conversations = [conversation(f"What is {n} plus {n}?", f"It is {2 * n}.") for n in (1, 2, 3)]
examples = build_examples(conversations, model.tokenizer, max_length=256)
adapter = fine_tune(model.name, examples, TrainingSettings(lora_rank=4, batch_size=1), "student")
model.use(adapter.path)
said = model.generate([conversations[0][:1]], max_new_tokens=4)[0][0]
print(len(adapter.losses), "steps;", said.completion_tokens, "tokens")
"""

PLACES = """
from agentlib import config
from agentlib.figures import estimates

print(config.__file__)
print(config.load("smoke").runs)
try:
    estimates.read_published("fig1_avg")
except FileNotFoundError as error:
    print(error)
"""


def tracked() -> list[str]:
    """The package's files under version control, or about to be, but for its map."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "agentlib"]
    listed = subprocess.run(command, cwd=config.ROOT, capture_output=True, text=True, check=True)
    return sorted(
        name
        for name in set(listed.stdout.split())
        if not name.endswith(".md") and (config.ROOT / name).exists()
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the checkout, built from a copy, since building leaves files behind."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in [*tracked(), "pyproject.toml", "README.md", "LICENSE"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((config.ROOT / name).read_bytes())
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", built, source)
    (file,) = built.glob("agentlib-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder into which the wheel is installed, as site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    pip("install", "--no-deps", "--target", folder, wheel)
    return folder


def pip(*arguments):
    command = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        *map(str, arguments),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def python(installed, folder, *arguments, **environment):
    """What the installed package does in another folder; this checkout is not on the path."""
    environment |= {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )


def contents(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_wheel_holds_every_module_and_data_file(wheel):
    with zipfile.ZipFile(wheel) as packed:
        assert sorted(name for name in packed.namelist() if ".dist-info/" not in name) == tracked()


@pytest.mark.model
@pytest.mark.isolation
def test_an_example_runs_from_an_empty_folder(installed, tmp_path):
    """A search over three passages, an agent that calls it, a grade, and a student."""
    home, folder, before = tmp_path / "home", tmp_path / "work", contents(installed)
    install_tiny(home, SMOL)
    folder.mkdir()
    (folder / "example.py").write_text(EXAMPLE, encoding="utf-8")
    ran = python(installed, folder, "example.py", AGENTLIB_HOME=str(home))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "[1] Oslo",
        "Oslo is the capital of Norway.",
        "Lima True",
        "6 steps; 4 tokens",
    ]
    assert {path.name for path in folder.iterdir()} == {"example.py", "index", "student"}
    assert (folder / "student" / "student" / "adapter_model.safetensors").exists()
    assert contents(installed) == before, "nothing is written into the installed package"


def test_runs_go_to_the_current_folder_and_what_only_a_clone_has_is_named(installed, tmp_path):
    ran = python(installed, tmp_path, "-c", PLACES)
    assert ran.returncode == 0, ran.stderr
    file, runs, said = ran.stdout.splitlines()
    assert file.startswith(str(installed)) and runs == str(tmp_path / "runs" / "smoke")
    assert said.startswith(f"figures/paper is not in {tmp_path}") and "clone the repository" in said


@pytest.mark.parametrize(("arguments", "said"), [
    (["run"], "not with the installed package; clone the repository"),
    (["run", "--only", "03", "--check"], "clone the repository"),
    (["train"], "teacher_agent_ftp.jsonl is missing"),
    (["serve", "--set", "retriever=bm25"], "build it with"),
])  # fmt: skip
def test_a_command_outside_a_clone_says_in_a_sentence_what_it_lacks(
    installed, tmp_path, arguments, said
):
    ran = python(installed, tmp_path, "-m", "agentlib", *arguments)
    assert ran.returncode == 2 and said in ran.stderr and len(ran.stderr.splitlines()) == 1, (
        ran.stderr
    )


def test_windows_is_told_where_to_go():
    code = "import os; os.name = 'nt'; import agentlib"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: agentlib does not run on Windows itself" in done.stderr
    assert "wsl --install" in done.stderr
