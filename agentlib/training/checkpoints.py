"""The files of a training run: its loss curve, its checkpoint, and the finished student.

It owns what is in the run's folder, and exact resume.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentlib import records
from agentlib.models import weights
from agentlib.training.distributed import Distributed, full_tensors, shard_like

log = logging.getLogger(__name__)

ADAPTER = "adapter_model.safetensors"
RUN_FILES = ("config.json", "loss.jsonl", "finished.json")


@dataclass(frozen=True)
class Adapter:
    """A finished student: PEFT files (a whole model, after full fine-tuning) and its loss curve."""

    path: Path
    losses: tuple[dict, ...]  # step, loss (nats a token), tokens, learning_rate, seconds, device


def is_finished(folder: Path) -> bool:
    """Whether a training run has come to its end."""
    return (folder / "finished.json").exists()


def has_weights(folder: Path) -> bool:
    """Whether a training run came to its end on this machine; one restored from records has no
    weights."""
    return is_finished(folder) and (folder / "student").exists()


def losses(folder: Path) -> tuple[dict, ...]:
    """The loss curve of a finished training run."""
    return tuple(records.read(folder / "loss.jsonl"))


def restore_losses(folder: Path, curve: Sequence[Mapping], configuration: Mapping) -> None:
    """Make the folder of a training run that was finished elsewhere: its `configuration` and its
    loss curve, no weights."""
    with records.lock(folder):
        records.write_json(folder / "config.json", configuration)
        records.write_lines(folder / "loss.jsonl", curve)
        records.write_json(folder / "finished.json", {"steps": len(curve), "weights": "not here"})


def keep(folder: Path, kept: Path) -> None:
    """Copy what a finished training run made to a folder that is small enough to be committed: the
    adapter in bf16, its loss curve and configuration. The run's own adapter becomes the same one.

    Raises ValueError for a student that is no adapter.
    """
    from safetensors.torch import load_file, save_file

    student = finished(folder).path
    if not (student / ADAPTER).exists():
        raise ValueError(f"student {student} is a whole model, expected an adapter to keep")
    kept.mkdir(parents=True, exist_ok=True)
    rounded = {name: tensor.bfloat16() for name, tensor in load_file(student / ADAPTER).items()}
    save_file(rounded, kept / ADAPTER, metadata={"format": "pt"})
    for file in (student / "adapter_config.json", *(folder / name for name in RUN_FILES)):
        shutil.copyfile(file, kept / file.name)
    restore(folder, kept)


def restore(folder: Path, kept: Path) -> Adapter:
    """Make a training run's folder from what was kept of it (`keep`)."""
    with records.lock(folder):
        student = folder / "student.part"
        shutil.rmtree(student, ignore_errors=True)
        student.mkdir(parents=True)
        for name in (ADAPTER, "adapter_config.json"):
            shutil.copyfile(kept / name, student / name)
        shutil.rmtree(folder / "student", ignore_errors=True)
        student.replace(folder / "student")
        for name in RUN_FILES:
            shutil.copyfile(kept / name, folder / name)
    return finished(folder)


def finished(folder: Path) -> Adapter:
    """The adapter of a finished training run. Raises FileNotFoundError, with the remedy, if there
    is none."""
    if not is_finished(folder):
        raise FileNotFoundError(
            f"no trained student in {folder}; train it with notebook 03 (--only 03) first"
        )
    if not has_weights(folder):
        raise FileNotFoundError(
            f"{folder} was restored from records and has no weights; delete it and train it with "
            "notebook 03 (--only 03)"
        )
    return Adapter(folder / "student", losses(folder))


def check_configuration(folder: Path, configuration: Mapping) -> None:
    """Raise ValueError, naming a value that differs, for a folder that holds another run.

    What ended before its first checkpoint, such as a run with a misspelt base, is replaced.
    """
    begun = is_finished(folder) or (folder / "checkpoint.pt").exists()
    if not begun or not (folder / "config.json").exists():
        return
    held, ours = records.read_json(folder / "config.json"), json.loads(json.dumps(configuration))
    if differing := [
        name for name in held.keys() | ours.keys() if held.get(name) != ours.get(name)
    ]:
        name = min(differing)
        raise ValueError(
            f"folder {folder} holds a training run with {name} {held.get(name)!r}, expected "
            f"{ours.get(name)!r}; give another folder, or delete that one"
        )


def write(file: Path, trained: Mapping, optimizer, losses: list[dict], group: Distributed) -> None:
    """Write what exact resume needs: trained weights, optimiser, every process's random state
    (dropout), losses so far."""
    import torch

    held = optimizer.state_dict()
    held["state"] = {number: full_tensors(state) for number, state in held["state"].items()}
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    state = {
        "weights": full_tensors(trained),
        "optimizer": held,
        "losses": losses,
        "random": group.gathered((torch.get_rng_state(), cuda)),
    }
    if group.first:
        part = file.with_suffix(".part")
        torch.save(state, part)
        part.replace(file)


def resume(file: Path, trained: Mapping, optimizer, group: Distributed) -> list[dict]:
    """Put a checkpoint back into weights, optimiser and random state; returns the losses so far,
    none without a file.

    Raises ValueError for one of another number of processes.
    """
    import torch

    if not file.exists():
        return []
    state = torch.load(file, map_location="cpu", weights_only=True)
    if len(state["random"]) != group.count:
        raise ValueError(
            f"checkpoint {file} is of {len(state['random'])} processes, this run has "
            f"{group.count}; start as many as before, or delete it to train from the start"
        )
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(shard_like(state["weights"][name], weight))
    weights_of = list(trained.values())
    for number, held in state["optimizer"]["state"].items():
        like = weights_of[number]
        state["optimizer"]["state"][number] = {
            name: shard_like(tensor, like) if tensor.shape == like.shape else tensor
            for name, tensor in held.items()
        }
    optimizer.load_state_dict(state["optimizer"])
    ours, cuda = state["random"][group.rank]
    torch.set_rng_state(ours)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)
    log.info("training goes on from step %d", len(state["losses"]))
    return state["losses"]


def save(model, base: str, folder: Path, group: Distributed, source: str) -> None:
    """Adapter or model files with the tokenizer of the base (from `source`, as in `weights.fetch`),
    moved into place when complete."""
    from transformers import AutoTokenizer

    adapter = hasattr(model, "peft_config")
    every, own = ({n for n, _ in model.named_parameters(remove_duplicate=r)} for r in (False, True))
    state = {
        name: tensor for name, tensor in model.state_dict().items() if name not in every - own
    }  # tied ones once
    state = full_tensors(
        {name: tensor for name, tensor in state.items() if not adapter or "lora_" in name}
    )
    if not group.first:
        return
    fresh = folder.with_name(folder.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    if adapter:
        for settings in model.peft_config.values():
            settings.base_model_name_or_path = weights.known(base).hub or base
    # The vocabulary is never changed: no embeddings need saving, no base model need be looked up.
    model.save_pretrained(
        fresh, state_dict=state, **({"save_embedding_layers": False} if adapter else {})
    )
    AutoTokenizer.from_pretrained(weights.fetch_tokenizer(base, source)).save_pretrained(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)
