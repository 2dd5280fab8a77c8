"""The training loop: LoRA, QLoRA (NF4) or full fine-tuning on masked conversations (§4.1).

It owns the order of examples, the loss, and what of a student is trained. The files of a run are in
`checkpoints`, what one process of several does in `distributed`.
"""

import collections
import contextlib
import functools
import hashlib
import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentlib import records
from agentlib.masks import IGNORED, Example
from agentlib.models import loading, weights
from agentlib.progress import meter
from agentlib.training import checkpoints
from agentlib.training.checkpoints import Adapter
from agentlib.training.distributed import Distributed
from agentlib.training.settings import TrainingSettings

# The share of the time that checkpoints may take: a whole student's weights and optimiser are GBs.
CHECKPOINT_TIME_FRACTION = 0.03


def fine_tune(
    base: str,
    examples: Sequence[Example],
    settings: TrainingSettings,
    folder: str | Path,
    *,
    configuration: Mapping[str, Any] | None = None,
    device: str | None = None,
    group: Distributed | None = None,
) -> Adapter:
    """Fine-tune a model into `folder / "student"`; a finished run is returned as it is.

    `base` is a name that `LocalModel` takes; the examples come from `build_examples` with its
    tokenizer. `folder` is made if it is missing and belongs to this one run: it gets config.json
    first, then checkpoints and the loss curve. config.json says what shaped the weights
    (`configuration`; by default the base, the settings and a digest of the examples).

    An interrupted run resumes from its last checkpoint with the same losses as an undisturbed one.
    Where the precision is bf16, matrix products are done in it; what is trained, its optimiser and
    the loss stay in 32 bits. Checkpoints are `settings.save_seconds` apart, or more where writing
    one takes long (`CHECKPOINT_TIME_FRACTION`). The processes of a `group` share each batch and
    come to the same losses as one process would; they must see the same folder, where the first of
    them writes.

    Raises ValueError for a folder that holds another run and for QLoRA in shards, RuntimeError for
    a folder that another process trains in, and FloatingPointError with the step and the batch's
    ids when the loss is not finite.
    """
    import torch

    group, folder = group or Distributed(), Path(folder)
    if group.sharded and settings.tuning == "qlora":
        raise ValueError(
            "tuning is 'qlora' in shards (FSDP), expected 'lora' or 'full' there; "
            "or leave --sharded out"
        )
    if configuration is None:
        configuration = _configuration(base, examples, settings)
    checkpoints.check_configuration(folder, configuration)
    if all(group.gathered(checkpoints.has_weights(folder))):
        return checkpoints.finished(folder)
    device = device or group.device()
    with records.lock(folder) if group.first else contextlib.nullcontext():
        if group.first:
            records.write_json(folder / "config.json", configuration)
        torch.manual_seed(settings.seed)  # the same new weights in all processes
        precision = loading.resolve_precision(settings.precision, device)
        model = _student(base, settings, device, precision)
        loss_of = group.spread(_loss_module(model), model.get_decoder().layers)
        if group.count > 1:
            torch.manual_seed(settings.seed + group.rank)  # what each drops out is its own
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        # On a GPU the fused step: the usual one takes another 4 bytes per trained number.
        optimizer = torch.optim.AdamW(
            trained.values(),
            lr=settings.peak_rate,
            weight_decay=0.0,
            fused=True if device.startswith("cuda") else None,
        )
        lengths = [len(e.input_ids) for e in examples]
        batches = _batches(lengths, settings)
        curve = checkpoints.resume(folder / "checkpoint.pt", trained, optimizer, group)
        saved = time.monotonic()
        apart = settings.save_seconds
        model.train()
        bar = meter(
            total=len(batches),
            initial=len(curve),
            desc=f"train {base}",
            unit="step",
            mininterval=5,
            disable=not group.first,
        )
        for step in range(len(curve), len(batches)):
            batch = [examples[i] for i in batches[step]]
            # Linear decay, no warm-up (reference code).
            rate = settings.peak_rate * (1 - step / len(batches))
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate
            started = time.perf_counter()
            loss, tokens = _accumulate(loss_of, batch, device, precision, group)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"loss is {loss} at step {step} on examples {[e.id for e in batch]}; "
                    "lower learning_rate"
                )
            torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds = round(time.perf_counter() - started, 3)
            curve.append(
                {
                    "step": step,
                    "loss": loss,
                    "tokens": tokens,
                    "learning_rate": rate,
                    "seconds": seconds,
                    "device": device.partition(":")[0],
                }
            )
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if group.largest((due := time.monotonic()) - saved > apart):
                checkpoints.write(folder / "checkpoint.pt", trained, optimizer, curve, group)
                saved = time.monotonic()
                if apart:
                    apart = max(settings.save_seconds, (saved - due) / CHECKPOINT_TIME_FRACTION)
        bar.close()
        checkpoints.save(model, base, folder / "student", group, settings.weights)
        if group.first:
            records.write_lines(folder / "loss.jsonl", curve)
            records.write_json(
                folder / "finished.json", {"steps": len(curve), "examples": len(examples)}
            )
            (folder / "checkpoint.pt").unlink(missing_ok=True)
        group.wait()
    return checkpoints.finished(folder)


def _configuration(
    base: str, examples: Sequence[Example], settings: TrainingSettings
) -> dict[str, Any]:
    """What shapes the weights of a run: base, settings, and a digest (SHA-256) of the examples."""
    data = json.dumps([[e.id, e.input_ids, e.labels] for e in examples])
    return {"base": base, **settings.shape, "examples": hashlib.sha256(data.encode()).hexdigest()}


BATCHES_SORTED_TOGETHER = (
    8  # batches whose examples are sorted by length among each other, so that little is padded
)


def order(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """One epoch's batches of example numbers, shuffled, examples of like length together."""
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(lengths)).tolist()
    batches = []
    for start in range(0, len(shuffled), BATCHES_SORTED_TOGETHER * batch_size):
        alike = sorted(
            shuffled[start : start + BATCHES_SORTED_TOGETHER * batch_size], key=lambda k: lengths[k]
        )
        batches += [alike[k : k + batch_size] for k in range(0, len(alike), batch_size)]
    return [batches[k] for k in random.permutation(len(batches))]


def _batches(lengths: Sequence[int], settings: TrainingSettings) -> list[list[int]]:
    """The batches of a run: of all `epochs`, or the first `steps` of as many as it takes."""
    epochs = itertools.count() if settings.steps and lengths else range(settings.epochs)
    every = (
        batch
        for epoch in epochs
        for batch in order(lengths, settings.batch_size, settings.seed + epoch)
    )
    return list(itertools.islice(every, settings.steps or None))


def token_loss(model, batch: Sequence[Example], device: str):
    """Summed negative log-likelihood (nats) of a batch's learnt tokens."""
    return _negative_log_likelihood(model, *_padded(batch, device))


def _padded(batch: Sequence[Example], device: str):
    """Token ids and labels (examples, longest), padded on the right, where no token with loss
    looks: no mask is needed."""
    import torch

    width = max(len(e.input_ids) for e in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, example in enumerate(batch):
        ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
        labels[row, : len(example.labels)] = torch.tensor(example.labels)
    return ids.to(device), labels.to(device)


def token_losses(model, example: Example, device: str):
    """Negative log-likelihoods (nats) of an example's learnt tokens, in 32 bits; for inference."""
    import torch

    from agentlib.training import cross_entropy

    states, targets, head = _learnt(model, *_padded([example], device))
    parts = zip(cross_entropy.split(states, head), cross_entropy.split(targets, head), strict=True)
    of_tokens = functools.partial(torch.nn.functional.cross_entropy, reduction="none")
    return torch.cat([of_tokens(head(part).float(), wanted) for part, wanted in parts])


def _learnt(model, ids, labels):
    """The states (tokens, width) from which the learnt tokens are predicted, these tokens, and the
    model's last layer."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    learnt = labels[:, 1:] != IGNORED
    return hidden[:, :-1][learnt], labels[:, 1:][learnt], causal.get_output_embeddings()


def _negative_log_likelihood(model, ids, labels):
    """Summed over the learnt tokens (nats); logits are made only for those."""
    import torch

    from agentlib.training import cross_entropy

    states, targets, head = _learnt(model, ids, labels)
    if cross_entropy.needs_parts(states, head):
        return cross_entropy.in_parts(states, head, targets)
    return torch.nn.functional.cross_entropy(head(states).float(), targets, reduction="sum")


def _loss_module(model):
    """The student as a module from ids and labels to their loss; several processes can wrap it."""
    import torch

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.student = model

        def forward(self, ids, labels):
            return _negative_log_likelihood(self.student, ids, labels)

    return Loss()


# Padded tokens run through the model at once; a batch larger than this is split. A CPU is busy with
# one sequence, so padding would only be wasted work; other devices (mps, xpu) were not measured,
# and may have little memory.
MICRO_TOKENS = collections.defaultdict(lambda: 512, cuda=8192)


def _accumulate(
    loss_of, batch: Sequence[Example], device: str, precision: str, group: Distributed
) -> tuple[float, int]:
    """Gradients of the batch's mean loss per token, in parts of like length; returns that loss and
    the tokens read.

    `loss_of` is a module from ids and labels to their summed loss. Each process takes its share of
    the batch.
    """
    import torch

    learnt = sum(label != IGNORED for e in batch for label in e.labels[1:])
    by_length = sorted(batch, key=lambda e: -len(e.input_ids))
    parts = _parts(group.share(by_length), MICRO_TOKENS[device.partition(":")[0]])
    # Processes meet in every part, so all have as many; a part without loss adds nothing.
    nothing = Example(
        by_length[-1].id, by_length[-1].input_ids, [IGNORED] * len(by_length[-1].input_ids)
    )
    parts += [[nothing]] * (group.largest(len(parts)) - len(parts))
    total = 0.0
    for number, part in enumerate(parts, 1):
        # Each weight is used once in a pass: copies in bf16, kept to its end, would save nothing.
        with torch.autocast(
            device.partition(":")[0],
            torch.bfloat16,
            enabled=precision == "bf16",
            cache_enabled=False,
        ):
            loss = loss_of(*_padded(part, device)) / learnt
        group.backward(loss, last=number == len(parts))
        total += float(loss.detach())
    return group.total(total), sum(len(e.input_ids) for e in batch)


def _parts(examples: Sequence[Example], tokens: int) -> list[list[Example]]:
    """Examples, longest first, in parts that hold at most so many padded tokens, or one example."""
    parts: list[list[Example]] = []
    for example in examples:
        if parts and len(parts[-1][0].input_ids) * (len(parts[-1]) + 1) <= tokens:
            parts[-1].append(example)
        else:
            parts.append([example])
    return parts


def _student(base: str, settings: TrainingSettings, device: str, precision: str):
    """The base model with what is to be trained: LoRA on all linear layers (frozen or NF4 weights),
    or all of it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    from agentlib.models.engine.attention import TRAINING

    # Trained weights are held in 32 bits; on a CPU, where memory is not short, frozen ones too.
    held = (
        "fp32"
        if settings.tuning == "full" or (device == "cpu" and settings.tuning == "lora")
        else precision
    )
    model = loading.load_weights(
        weights.fetch(base, settings.weights), device, held, settings.tuning == "qlora", TRAINING
    )
    if device == "cpu" and settings.tuning == "lora" and precision == "bf16":
        # Products would round these weights to bf16 each time; embeddings and norms stay.
        for module in model.get_decoder().modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = module.weight.data.bfloat16()
    if device != "cpu" or settings.tuning == "qlora":
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    if settings.tuning == "full":
        return model
    lora = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, lora)
    if precision == "bf16":
        # Products take bf16 anyway; a copy in 32 bits between them would only cost time.
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = False
    return model
