"""`kill -9` at random moments, then again: what was finished is kept exactly once, and the end
is as if undisturbed."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from agentlib import records

SCRIPT = Path(__file__).with_name("killed.py")
KILLS = {"evaluate": 8, "teach": 6, "rounds": 4, "index": 4, "train": 4}
CLOCK = {"seconds"}  # what two runs of the same seeds may differ in


def start(kind, folder):
    """The run as a process of its own, once it has loaded what it needs."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), kind, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    line = process.stdout.readline()
    assert line == "ready\n", process.communicate()[1]
    return process


def finish(process):
    _, words = process.communicate(timeout=300)
    return process.returncode, words


def without_clock(record):
    if isinstance(record, dict):
        return {k: without_clock(v) for k, v in record.items() if k not in CLOCK}
    return [without_clock(item) for item in record] if isinstance(record, list) else record


def results(kind, folder):
    """What the run came to, comparable with another run of the same seeds."""
    if kind == "index":
        files = [p for p in sorted((folder / "index").rglob("*")) if p.is_file()]
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    found = {}
    for file in sorted(folder.rglob("loss.jsonl" if kind == "train" else "records.jsonl")):
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        key = "step" if kind == "train" else "id"
        assert max(Counter(line[key] for line in lines).values()) == 1, (
            f"a case is there twice in {file}"
        )
        found[file.parent.name] = {line[key]: without_clock(line) for line in lines}
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Results and seconds of a run that nobody kills, by kind."""
    found = {}

    def of(kind):
        if kind not in found:
            folder = tmp_path_factory.mktemp(kind)
            process, started = start(kind, folder), time.monotonic()
            code, words = finish(process)
            assert code == 0, words
            found[kind] = results(kind, folder), time.monotonic() - started
        return found[kind]

    return of


def test_the_runs_are_killed_at_least_twenty_times():
    assert sum(KILLS.values()) >= 20


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KILLS)
def test_killed_runs_end_as_an_undisturbed_one(kind, undisturbed, tmp_path):
    expected, seconds = undisturbed(kind)
    chance, kept, killed = random.Random(kind), 0, 0
    for _ in range(KILLS[kind]):
        process = start(kind, tmp_path)
        # Short enough that several kills fit before the work is done.
        time.sleep(chance.uniform(0, 2 * seconds / KILLS[kind]))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        if kind in ("evaluate", "teach", "rounds"):
            done = sum(len(list(records.read(file))) for file in tmp_path.rglob("records.jsonl"))
            assert done >= kept, "a finished case was lost"
            kept = done
    assert killed >= KILLS[kind] // 2, (
        "most runs ended before they were killed; the test shows nothing"
    )
    code, words = finish(start(kind, tmp_path))
    assert code == 0, words
    assert results(kind, tmp_path) == expected
