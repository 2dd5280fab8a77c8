"""The pages for people: every command in them exists and runs, every link leads somewhere, every picture is described."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from agentlib import claims, config, records, tables

PAGES = [config.ROOT / "README.md", config.ROOT / "notebooks" / "README.md"]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
BLOCKS = "\n".join(re.findall(r"^```\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
WORDS = re.findall(r"`((?:make|python -m) [^`]+)`", TEXT) + [line.partition("#")[0].strip() for line in BLOCKS.splitlines()]
COMMANDS = sorted({words for words in WORDS if words.startswith(("make ", "python "))})


def test_there_are_commands_to_check():
    assert {"make reproduce", "make test", "make workshop", "make lab"} <= set(COMMANDS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_a_make_command_expands_to_what_this_environment_can_start(command, tmp_path):
    """What each target calls, without calling it: the smoke run, the tests and the site have tests of their own."""
    for part in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-test.lock", "requirements-bench.lock"):
        shutil.copy(config.ROOT / part, tmp_path / part)
    said = subprocess.run([*command.split(), "--dry-run"], cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    for module in set(re.findall(r"python -m (agentlib\.\w+)", said.stdout)):
        helped = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=config.ROOT)
        assert helped.returncode == 0 and "usage" in helped.stdout, module
    for option in re.findall(r"agentlib\.run .*?(--[a-z-]+)", said.stdout):
        assert option in subprocess.run([sys.executable, "-m", "agentlib.run", "--help"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("command", ["make workshop", "make figures PRESET=laptop"])
def test_quick_commands_are_really_run(command, tmp_path):
    """In a copy of the tree with this environment, so that nothing is installed and nothing committed is touched."""
    for part in ("agentlib", "notebooks", "figures"):
        shutil.copytree(config.ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(config.ROOT / part, tmp_path / part)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "ready").touch()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "figures" / "laptop").glob("*.svg")}
    ran = subprocess.run([*command.split(), f"BIN={os.path.dirname(sys.executable)}"], cwd=tmp_path, capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(tmp_path)})  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    if command == "make workshop":
        assert len(list((tmp_path / "workshop").glob("*.ipynb"))) == len(list((tmp_path / "notebooks").glob("[0-9]*.ipynb")))
    else:
        after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "figures" / "laptop").glob("*.svg")}
        assert len(after) >= 8 and all(after[name] > before.get(name, 0) for name in after)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_lead_to_files_and_pictures_have_words(page):
    for words, target in re.findall(r"!?\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert words.strip(), f"a link or picture without words: {target}"
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.fixture(scope="module")
def laptop():
    folder = config.load("laptop").records
    return records.frame(records.read(folder / "cases.jsonl"))


def test_the_means_on_the_page_are_those_of_the_records(laptop):
    beside = tables.compare_table(laptop).query("benchmark == 'mean' and model.str.contains('0.5B')").set_index("method")["published"]
    means = tables.means(laptop)
    assert list(means) == ["135M (n=320)", "0.5B (n=320)"] and "320 questions a cell" in " ".join(TEXT.split())
    for method, cells in means.iterrows():
        assert f"| {method} | {cells.iloc[0]} | {cells.iloc[1]} | {beside[method]:.1f} |".replace(tables.GAP, " ") in TEXT, method


def test_temperature_and_seed_move_as_little_as_the_page_says():
    varied = records.frame(records.read(config.load("laptop").records / "sweeps.jsonl"))
    assert "by more than two of 25 questions" in " ".join(TEXT.split())
    for setting in ("temperature", "seed"):
        right = varied[varied["setting"] == setting].groupby("value")["correct"].agg(["sum", "count"])
        assert len(right) == 5 and (right["count"] == 25).all() and right["sum"].max() - right["sum"].min() <= 2, setting


def test_trajectories_help_as_much_as_the_page_says():
    varied = records.frame(records.read(config.load("laptop").records / "sweeps.jsonl"))
    right = varied[varied["setting"] == "trajectories"].groupby("value")["correct"].agg(["mean", "count"])
    assert (right["count"] == 200).all() and len(right) == 4
    *fewer, every = [f"{int(number)} give {100 * row['mean']:.1f} %" for number, row in sorted(right.iterrows(), key=lambda r: int(r[0]))]
    assert f"{', '.join(fewer)}, all {every}" in " ".join(TEXT.split())


def test_kinds_of_fine_tuning_differ_as_the_page_says():
    varied = records.frame(records.read(config.load("laptop").records / "sweeps.jsonl"))
    right = varied[varied["setting"] == "tuning"].groupby("value")["correct"].agg(["mean", "count"])
    assert (right["count"] == 200).all() and set(right.index) == {"lora", "qlora", "full"}
    of = {kind: f"{100 * mean:.1f} %" for kind, mean in right["mean"].items()}
    assert f"LoRA {of['lora']}, QLoRA {of['qlora']}, full fine-tuning {of['full']} of the same 200" in " ".join(TEXT.split())


def test_the_differences_on_the_page_are_those_of_the_claims(laptop):
    found = claims.check(laptop).dropna(subset=["difference"])
    assert len(found) == 10
    for claim, row in found.iterrows():
        assert f"{row['difference']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]" in TEXT, claim
