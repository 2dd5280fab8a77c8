"""Two processes train as one does: the same losses and weights with copies (DDP) and with shards
(FSDP), and exact resume.

They are started as users start them, by `accelerate launch`, on two CPU processes that talk through
gloo.
"""

import os
import subprocess
import sys

import pytest
import torch
from conftest import SMOL
from safetensors.torch import load_file

from agentlib import config, records, teach, training
from agentlib.masks import Example
from agentlib.runner import train
from agentlib.training import Distributed, TrainingSettings, checkpoints, distributed

# Three steps of five examples, two a step: the last step has none for the second process.
EXAMPLES = [
    Example(f"q{k}", list(range(10, 22 + 3 * k)), [-100] * 6 + list(range(16, 22 + 3 * k)))
    for k in range(5)
]
TUNING = {"lora": {"lora_dropout": 0.0}, "full": {"full_learning_rate": 1e-4}}
PROGRAM = """
import sys
from pathlib import Path
from agentlib.training import Distributed, loop
sys.path.insert(0, {tests!r})
from test_processes import EXAMPLES, settings
folder, tuning, sharded, stop = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "sharded", int(sys.argv[4])
with Distributed(sharded) as group:
    print(f"process {{group.rank}} of {{group.count}}", flush=True)
    real, steps = loop._accumulate, []
    def counted(*arguments):
        steps.append(1)
        if len(steps) > stop:
            raise SystemExit(3)
        return real(*arguments)
    loop._accumulate = counted
    loop.fine_tune("SmolLM2-135M-Instruct", EXAMPLES, settings(tuning, save_seconds=0.0), folder / "run", group=group)
"""


def settings(tuning, **changed):
    return TrainingSettings(
        tuning=tuning,
        precision="fp32",
        lora_rank=4,
        batch_size=2,
        epochs=1,
        learning_rate=1e-3,
        **TUNING[tuning] | changed,
    )


def launch(folder, tuning, kind, stop=99):
    program = folder / "program.py"
    program.write_text(PROGRAM.format(tests=str(config.ROOT / "tests")))
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                  "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")} | {
        "OMP_NUM_THREADS": "1"
    }
    return subprocess.run(
        [*accelerate, program, folder, tuning, kind, str(stop)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process's training, whole, by tuning."""
    made = {}

    def adapter(tuning):
        if tuning not in made:
            made[tuning] = training.fine_tune(
                SMOL, EXAMPLES, settings(tuning), tmp_path_factory.mktemp(tuning) / "run"
            )
        return made[tuning]

    return adapter


def same(folder, adapter):
    """Losses and saved weights of the launched run are those of the one process's."""
    found = checkpoints.finished(folder / "run")
    ours, theirs = ([step["loss"] for step in a.losses] for a in (found, adapter))
    assert ours == pytest.approx(theirs, rel=2e-4)
    (name,) = (file.name for file in adapter.path.glob("*.safetensors"))
    ours, theirs = (load_file(a.path / name) for a in (found, adapter))
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert torch.allclose(ours[key], tensor, atol=2e-4), key
    return True


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("tuning", "kind"), [("lora", "copied"), ("lora", "sharded"), ("full", "sharded")]
)
def test_two_processes_train_as_one_and_go_on_where_they_were_stopped(
    alone, tmp_path, tuning, kind
):
    adapter = alone(tuning)
    stopped = launch(tmp_path, tuning, kind, stop=2)
    assert all(f"process {rank} of 2" in stopped.stdout for rank in (0, 1)), (
        stopped.stdout + stopped.stderr[-2000:]
    )
    assert stopped.returncode != 0 and (tmp_path / "run" / "checkpoint.pt").exists()
    done = launch(tmp_path, tuning, kind)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(records.read(tmp_path / "run" / "loss.jsonl"))) == 3
    assert same(tmp_path, adapter)


def test_alone_nothing_is_spread():
    group, module = Distributed(sharded=True), torch.nn.Linear(2, 1)
    with group:
        assert group.first and not group.sharded and group.spread(module, []) is module
        assert (
            group.share([1, 2, 3]) == [1, 2, 3]
            and group.total(2.5) == 2.5
            and group.largest(7) == 7
        )
        group.backward(module(torch.ones(1, 2)).sum(), last=False)
    assert module.weight.grad.tolist() == [[1.0, 1.0]]
    assert distributed.full_tensors({"w": module.weight})["w"].tolist() == module.weight.tolist()


def test_each_process_takes_its_share(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(Distributed().share(list("abcdefg")))
    assert shares == [["a", "d", "g"], ["b", "e"], ["c", "f"]]


def test_a_checkpoint_of_other_processes_is_refused(tmp_path):
    torch.save({"random": [None, None], "losses": []}, tmp_path / "checkpoint.pt")
    with pytest.raises(
        ValueError, match="is of 2 processes, this run has 1; start as many as before, or delete it"
    ):
        checkpoints.resume(tmp_path / "checkpoint.pt", {}, None, Distributed())


def test_qlora_in_shards_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ValueError, match=r"tuning is 'qlora' in shards .* expected 'lora' or 'full' there"
    ):
        training.fine_tune(
            SMOL,
            EXAMPLES,
            TrainingSettings(tuning="qlora"),
            tmp_path / "run",
            group=Distributed(sharded=True),
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "sft"], "method 'sft' is not trained, expected one of cot_distill"),
        (["--set", "tuning=dora"], "expected one of"),
        (["--student", "GPT-2"], "GPT-2"),
    ],
)
def test_the_command_says_what_is_wrong(project, capsys, arguments, said):
    case = {"id": "q", "benchmark": "teaching-math", "question": "?", "domain": "math", "correct": True,
            "stopped": "final_answer", "parse_errors": 0,
            "trace": [{"text": "x", "observation": ""}]}  # fmt: skip
    records.write_lines(teach.records_path(config.load("smoke"), "agent_ftp"), [case])
    assert train.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_the_command_trains_what_notebook_03_takes_as_trained(project, capsys, monkeypatch):
    asked = []

    def fake(cfg, student, method, search, *, group):
        asked.append((student, method, group.count))
        return checkpoints.Adapter(project, ({"loss": 2.0}, {"loss": 1.0}))

    monkeypatch.setattr(train.distill, "train", fake)
    assert train.main(["--method", "agent_distill"]) == 0
    assert asked == [(SMOL, "agent_distill", 1)]
    assert "2 steps on 1 process, loss 2.000 → 1.000, in " in capsys.readouterr().out
