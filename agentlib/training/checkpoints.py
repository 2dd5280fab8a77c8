"""The files of a training run: its loss curve, its checkpoint, and the finished student.

Owns what lies in the run's folder, and exact resume. Knows nothing of examples or of how a step is made.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentlib import records
from agentlib.models import weights
from agentlib.training.distributed import Distributed, full_tensors, shard_like

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapter:
    """A finished student: PEFT files (or a whole model, for full fine-tuning) and its loss curve."""

    path: Path
    losses: tuple[dict, ...]  # step, loss (nats a token), tokens, learning_rate, seconds, device


def is_finished(run: records.Run) -> bool:
    """Whether a training run has come to its end."""
    return (run.folder / "finished.json").exists()


def has_weights(run: records.Run) -> bool:
    """Whether a training run has come to its end on this machine; one restored from records has no weights."""
    return is_finished(run) and (run.folder / "student").exists()


def losses(run: records.Run) -> tuple[dict, ...]:
    """The loss curve of a finished training run."""
    return tuple(records.read(run.folder / "loss.jsonl"))


def restore_losses(run: records.Run, curve: Sequence[Mapping]) -> None:
    """Make the folder of a training run that was finished elsewhere: its loss curve, no weights."""
    with records.lock(run.folder):
        records.write_json(run.folder / "config.json", run.configuration)
        records.write_lines(run.folder / "loss.jsonl", curve)
        records.write_json(run.folder / "finished.json", {"steps": len(curve), "weights": "not here"})


def finished(run: records.Run) -> Adapter:
    """The adapter of a finished training run. Raises FileNotFoundError naming the remedy if there is none."""
    if not is_finished(run):
        raise FileNotFoundError(f"no trained student in {run.folder}; train it with notebook 03 (--only 03) first")
    if not has_weights(run):
        raise FileNotFoundError(
            f"{run.folder} was restored from records and has no weights; delete it and train it with notebook 03 (--only 03)"
        )
    return Adapter(run.folder / "student", losses(run))


def write(file: Path, trained: Mapping, optimizer, losses: list[dict], group: Distributed) -> None:
    """Write what exact resume needs: trained weights, optimiser, every process's random state (dropout), losses so far."""
    import torch

    held = optimizer.state_dict()
    held["state"] = {number: full_tensors(state) for number, state in held["state"].items()}
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    state = {"weights": full_tensors(trained), "optimizer": held, "losses": losses,
             "random": group.gathered((torch.get_rng_state(), cuda))}  # fmt: skip
    if group.first:
        part = file.with_suffix(".part")
        torch.save(state, part)
        part.replace(file)


def resume(file: Path, trained: Mapping, optimizer, group: Distributed) -> list[dict]:
    """Put a checkpoint back into weights, optimiser and random state; returns the losses so far, none without a file.

    Raises ValueError for one of another number of processes.
    """
    import torch

    if not file.exists():
        return []
    state = torch.load(file, map_location="cpu", weights_only=True)
    if len(state["random"]) != group.count:
        raise ValueError(
            f"checkpoint {file} is of {len(state['random'])} processes, this run has {group.count}; start as many as "
            "before, or delete it to train from the start"
        )
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(shard_like(state["weights"][name], weight))
    weights_of = list(trained.values())
    for number, held in state["optimizer"]["state"].items():
        like = weights_of[number]
        state["optimizer"]["state"][number] = {
            name: shard_like(tensor, like) if tensor.shape == like.shape else tensor for name, tensor in held.items()
        }
    optimizer.load_state_dict(state["optimizer"])
    ours, cuda = state["random"][group.rank]
    torch.set_rng_state(ours)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)
    log.info("training goes on from step %d", len(state["losses"]))
    return state["losses"]


def save(model, base: str, folder: Path, group: Distributed, source: str) -> None:
    """Adapter or model files with the tokenizer of the base (from `source`, as in `weights.fetch`), moved into place when complete."""
    from transformers import AutoTokenizer

    adapter = hasattr(model, "peft_config")
    every, own = ({n for n, _ in model.named_parameters(remove_duplicate=r)} for r in (False, True))
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in every - own}  # tied ones once
    state = full_tensors({name: tensor for name, tensor in state.items() if not adapter or "lora_" in name})
    if not group.first:
        return
    fresh = folder.with_name(folder.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    if adapter:
        for settings in model.peft_config.values():
            settings.base_model_name_or_path = weights.known(base).hub or base
    # The vocabulary is never changed, so no embeddings need saving (and no base model need be looked up).
    model.save_pretrained(fresh, state_dict=state, **({"save_embedding_layers": False} if adapter else {}))
    AutoTokenizer.from_pretrained(weights.fetch_tokenizer(base, source)).save_pretrained(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)
