"""The check that is prepared for a GPU runs whole at tiny shapes without one, and says what it
could not do."""

import importlib.util
import json
import os
import subprocess
import sys
import time

import pytest

from agentlib import config

FILE = config.ROOT / "tests" / "benchmarks" / "gpu.py"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(FILE.parent))
    spec = importlib.util.spec_from_file_location("gpu_check", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.isolation
@pytest.mark.timeout(1900)  # on a busy machine its imports alone take minutes
def test_the_check_runs_whole_without_a_card(tmp_path, gpu):
    """A piece of an earlier run is kept; the only thing missing is a faiss for GPUs."""
    folder = tmp_path / "cpu"
    folder.mkdir()
    kept = {"name": "0.5B × 256, agentlib", "found": {"tokens/s": 12345.0, "peak GB": 1.0}}
    (folder / "pieces.jsonl").write_text(json.dumps(kept) + "\n")
    before = FILE.with_suffix(".jsonl").exists()
    ran = subprocess.run(
        [sys.executable, str(FILE), "--cpu", "--folder", str(tmp_path), "--minutes", "30"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(config.ROOT)},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    record = json.loads((folder / "gpu.jsonl").read_text())
    assert record["card"] == "none" and FILE.with_suffix(".jsonl").exists() == before
    assert record["medians"][kept["name"]] == kept["found"]
    assert set(record["not_done"]) == {"search, faiss-gpu"}, record["not_done"]
    assert "faiss-gpu" in record["not_done"]["search, faiss-gpu"] and "not done" in ran.stdout
    assert set(record["medians"]) | set(record["not_done"]) == set(gpu.PIECES)
    assert all(value > 0 for row in record["medians"].values() for value in row.values())
    losses = [record["medians"][f"0.5B LoRA, {who}"]["first loss"] for who in ("agentlib", "TRL")]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    again = [json.loads(line)["name"] for line in (folder / "pieces.jsonl").open()]
    assert set(again) == set(record["medians"]), "all but what is missing is kept for a second run"


def test_a_piece_that_fails_hangs_or_dies_is_named(gpu, tmp_path):
    def refuses(setting):
        raise OSError("no room")

    pieces = {
        "fails": (9, refuses, ()),
        "hangs": (9, lambda setting: time.sleep(60), ()),
        "dies": (9, lambda setting: os._exit(7), ()),
    }
    gpu.PIECES.clear()
    gpu.PIECES.update(pieces)
    setting = gpu.Setting(True, tmp_path)
    assert gpu.run(setting, "fails", 60) == {"why": "OSError: no room"}
    assert "more than its 1 seconds" in gpu.run(setting, "hangs", 1)["why"]
    assert "exit code 7" in gpu.run(setting, "dies", 60)["why"]


def test_ours_is_set_beside_its_peer(gpu):
    assert gpu.ratios(
        {
            "a, agentlib": {"tokens/s": 30.0, "peak GB": 2.0},
            "a, TRL": {"tokens/s": 20.0, "peak GB": 4.0},
            "b, agentlib": {"tokens/s": 1.0, "peak GB": 1.0},
            "search, faiss-cpu": {"queries/s": 5.0},
            "search, faiss-gpu": {"queries/s": 50.0},
        }
    ) == {
        "a, tokens/s, ours to TRL": 1.5,
        "a, peak GB, ours to TRL": 0.5,
        "search, queries/s, faiss-gpu to faiss-cpu": 10.0,
    }


def test_without_a_card_one_sentence_says_what_to_do(gpu, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit, match="no GPU here, expected one; pass --cpu"):
        gpu.card(gpu.Setting(False, tmp_path))
