"""The README is true: its ratios are those of the records."""

import json

import pytest

from agentlib import config

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
