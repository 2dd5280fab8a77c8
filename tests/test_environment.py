"""One set of dependencies in four files: pyproject.toml, environment.yml and the two lock files
agree."""

import json
import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from agentlib import config

PROJECT = tomllib.loads((config.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]


def conda():
    listed = yaml.safe_load((config.ROOT / "environment.yml").read_text(encoding="utf-8"))[
        "dependencies"
    ]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    return listed, [Requirement(line) for line in pip if not line.startswith("-e")], pip


def lock(name):
    lines = (config.ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(p.name): p for p in pins}


def key(requirement):
    name = canonicalize_name(requirement.name)
    return "faiss" if name in ("faiss-cpu", "faiss-gpu") else name, frozenset(requirement.extras)


def test_the_conda_environment_lists_the_packages_of_pyproject_with_the_same_ranges():
    _, pip, _ = conda()
    listed = [*CORE, *map(Requirement, PROJECT["optional-dependencies"]["vllm"])]
    assert {key(r): r.specifier for r in pip} == {key(r): r.specifier for r in listed}
    assert len(pip) == len(listed), "each once"


def test_the_conda_environment_has_the_gpu_index_and_installs_this_package_alone():
    listed, pip, lines = conda()
    assert "faiss-gpu" in {r.name for r in pip}
    assert "-e . --no-deps" in lines and "pip" in listed
    (python,) = [
        entry for entry in listed if isinstance(entry, str) and entry.startswith("python=")
    ]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(
        python.removeprefix("python=")
    )


def test_each_line_of_the_conda_environment_says_why():
    text = (config.ROOT / "environment.yml").read_text(encoding="utf-8")
    lines = [
        line
        for line in text.splitlines()
        if line.strip().startswith("- ") and any(c in line for c in "=>")
    ]
    assert lines and all("#" in line for line in lines)


@pytest.mark.parametrize("requirement", CORE, ids=lambda r: r.name)
def test_every_core_dependency_is_locked_within_its_range(requirement):
    pin = lock("requirements.lock")[canonicalize_name(requirement.name)]
    (only,) = pin.specifier
    assert only.operator == "==" and requirement.specifier.contains(only.version)
    assert requirement.marker is None or str(pin.marker) == str(requirement.marker)


def test_every_test_dependency_is_locked_in_one_of_the_two_files():
    locked = lock("requirements.lock") | lock("requirements-test.lock")
    extras = PROJECT["optional-dependencies"]
    wanted = [
        Requirement(line) for extra in ("test", "server", "retriever") for line in extras[extra]
    ]
    for requirement in wanted:
        if requirement.name != "agentlib":
            (only,) = locked[canonicalize_name(requirement.name)].specifier
            assert requirement.specifier.contains(only.version)
    assert not lock("requirements.lock").keys() & lock("requirements-test.lock").keys(), (
        "no package is pinned twice"
    )


def test_torch_is_locked_to_the_cpu_sized_release():
    assert str(lock("requirements.lock")["torch"].specifier) == "==2.13.0"


def test_locked_versions_are_the_ones_the_tests_run_with():
    from importlib import metadata

    for name in ("torch", "transformers", "peft", "numpy"):
        (only,) = lock("requirements.lock")[name].specifier
        assert metadata.version(name).partition("+")[0] == only.version


def test_the_container_of_vs_code_sets_itself_up_with_make_on_the_python_of_binder():
    file = config.ROOT / ".devcontainer" / "devcontainer.json"
    container = json.loads(file.read_text(encoding="utf-8"))
    (version,) = re.findall(r"python:(\d\.\d+)-", container["image"])
    assert f"python-{version}" == (config.ROOT / ".binder/runtime.txt").read_text().strip()
    command, target = container["postCreateCommand"].split()
    assert command == "make" and target == ".venv/ready"
    found = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=config.ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0 and "--requirement requirements.lock" in found.stdout
    assert "whose set-up is `make`" in (config.ROOT / "README.md").read_text(encoding="utf-8")
    path = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert path.endswith("/.venv/bin/python")
