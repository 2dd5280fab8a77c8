"""Distillation: a student is fine-tuned on the turns its teacher wrote (§3, §4.1).

Owns the token masks, LoRA / QLoRA / full fine-tuning, checkpoints and exact resume. Knows nothing of
how cases were made, nor of figures.

The loss is the mean negative log-likelihood of every token of every assistant turn (r_t, a_t), with
its end-of-turn token; system, user and observation turns are context only.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from agentlib import cases, config, loading, models, records, teach, weights

log = logging.getLogger(__name__)
IGNORED = -100
LOOK = 20  # trajectories of a student trained for a look at it
TEACHER_OF = {
    "cot_distill": "cot",
    "cot_distill_rag": "cot",
    "agent_distill": "agent",
    "agent_distill_ftp": "agent_ftp",
}


@dataclass(frozen=True)
class Example:
    """One conversation as tokens; `labels` are the tokens where there is loss, -100 elsewhere."""

    id: str
    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Adapter:
    """A finished student: PEFT files (or a whole model, for full fine-tuning) and its loss curve."""

    path: Path
    losses: tuple[dict, ...]  # step, loss (nats a token), tokens, learning_rate, seconds


def build_examples(conversations: Mapping[str, list[dict]], tokenizer, max_length: int) -> list[Example]:
    """Conversations by id, each ending in an assistant turn, as token sequences of at most `max_length`.

    Text is cut at every turn's edges before it is tokenised, so that training sees the tokens that
    generation produces. Longer ones are left out with a notice. Raises ValueError if none is left.
    """
    examples, lengths = [], []
    for name, messages in conversations.items():
        ids: list[int] = []
        labels: list[int] = []
        for text, learn in segments(messages, tokenizer):
            tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += tokens
            labels += tokens if learn else [IGNORED] * len(tokens)
        lengths.append(len(ids))
        if len(ids) <= max_length:
            examples.append(Example(name, ids, labels))
    if not examples:
        raise ValueError(
            f"none of {len(lengths)} conversations fits in {max_length} tokens (the shortest has {min(lengths, default=0)}); "
            "raise max_length or check the filter of the teacher's trajectories"
        )
    if len(examples) < len(lengths):
        log.warning(
            "%d of %d conversations are longer than %d tokens and left out",
            len(lengths) - len(examples),
            len(lengths),
            max_length,
        )
    return examples


def segments(messages: Sequence[dict], tokenizer) -> list[tuple[str, bool]]:
    """The rendered conversation in pieces (text, whether there is loss on it)."""
    found: list[tuple[str, bool]] = []
    written = ""
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = models.render(tokenizer, messages[:number])
        after = tokenizer.apply_chat_template(messages[: number + 1], tokenize=False)
        if not before.startswith(written) or not after.startswith(before):
            raise ValueError(
                f"chat template of {tokenizer.name_or_path!r} rewrites earlier turns, expected one that only appends; "
                "choose another student or its base template"
            )
        turn = after[len(before) :]
        end = turn.rfind(tokenizer.eos_token) + len(tokenizer.eos_token) if tokenizer.eos_token in turn else len(turn)
        found += [(before[len(written) :], False), (turn[:end], True)]
        written = before + turn[:end]
    return found


def training_cases(cfg: config.Config, method: str) -> list[dict]:
    """The teacher's cases a method trains on: those the filter keeps, at most `train_examples` of them."""
    if method not in TEACHER_OF:
        raise ValueError(f"method {method!r} is not trained, expected one of {', '.join(TEACHER_OF)}")
    return teach.kept_cases(cfg, TEACHER_OF[method])[: cfg.train_examples or None]


def conversations(cfg: config.Config, method: str, search: Callable[[str], str] | None = None) -> dict[str, list[dict]]:
    """What a method trains on, as messages by id; CoT + RAG has what `search` finds for the question in front.

    Raises ValueError for CoT + RAG without a search.
    """
    kept = training_cases(cfg, method)
    if method == "cot_distill_rag":
        if search is None:
            raise ValueError(f"method {method!r} trains on retrieved passages, expected a search to get them from")
        kept = [case | {"passages": search(case["question"])} for case in kept]
    return {case["id"]: cases.conversation(case) for case in kept}


def train(cfg: config.Config, student: str, method: str, search: Callable[[str], str] | None = None, *,
          recorded: bool = False) -> Adapter:  # fmt: skip
    """The student of a method, trained now unless that was done before.

    With `recorded` a run that was restored from records will do: its losses are there, its weights are not.
    """
    from transformers import AutoTokenizer

    run = adapter_run(cfg, student, method)
    if recorded and is_finished(run):
        return Adapter(run.folder / "student", losses(run))
    if has_weights(run):
        return finished(run)
    tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(student))
    examples = build_examples(conversations(cfg, method, search), tokenizer, longest(cfg, method))
    return distill(student, examples, cfg, run)


def at_hand(cfg: config.Config, student: str, method: str, search: Callable[[str], str] | None = None) -> Adapter:
    """The student of a method if its weights are here, else one trained now on a few trajectories, for a look at it."""
    if has_weights(run := adapter_run(cfg, student, method)):
        return finished(run)
    few = dataclasses.replace(cfg, train_examples=min(LOOK, cfg.train_examples or LOOK), epochs=1)
    log.warning("the weights of %s, %s are not here; a student of %d trajectories stands in for it", student, method,
                few.train_examples)  # fmt: skip
    return train(few, student, method, search)


def longest(cfg: config.Config, method: str) -> int:
    """The length (tokens) above which a method leaves a conversation out."""
    return cfg.max_length if TEACHER_OF[method] != "cot" else cfg.cot_max_length


def adapter_run(cfg: config.Config, student: str, method: str) -> records.Run:
    """The run folder of one student's training; its name holds the data and everything that shapes the weights."""
    names = ["seed", "tuning", "lora_rank", "lora_alpha", "lora_dropout", "learning_rate", "full_learning_rate",
             "epochs", "batch_size", "max_length", "cot_max_length", "precision"]  # fmt: skip
    if method == "cot_distill_rag":
        names += ["corpus", "passages", "encoder", "retriever", "top_k"]
    data = [cases.conversation(c) for c in training_cases(cfg, method)]
    shape = {n: getattr(cfg, n) for n in names} | {
        "student": student,
        "method": method,
        "data": records.digest({"d": data}),
    }
    return records.Run(cfg.runs, f"adapter-{records.slug(student)}-{method}", shape)


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


def distill(base: str, examples: Sequence[Example], cfg: config.Config, run: records.Run, *, save_seconds: float = 60.0,
            device: str | None = None) -> Adapter:  # fmt: skip
    """Fine-tune `base` on the examples into `run.folder / "student"`; a finished run is returned as it is.

    An interrupted run goes on from its last checkpoint with the same losses as an undisturbed one. Where the
    precision is bf16, matrix products are done in it; what is trained, its optimiser and the loss stay in 32 bits.
    Raises FloatingPointError with the step and the batch's ids when the loss is not finite.
    """
    import torch

    if has_weights(run):
        return finished(run)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with run:
        torch.manual_seed(cfg.seed)
        precision = loading.resolve_precision(cfg.precision, device)
        model = _student(base, cfg, device, precision)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        optimizer = torch.optim.AdamW(trained.values(), lr=_peak_rate(cfg), weight_decay=0.0)
        lengths = [len(e.input_ids) for e in examples]
        batches = [b for epoch in range(cfg.epochs) for b in order(lengths, cfg.batch_size, cfg.seed + epoch)]
        curve = _resume(run.folder / "checkpoint.pt", trained, optimizer)
        saved = time.monotonic()
        model.train()
        bar = tqdm(total=len(batches), initial=len(curve), desc=f"train {base}", unit="step", mininterval=5)
        for step in range(len(curve), len(batches)):
            batch = [examples[i] for i in batches[step]]
            rate = _peak_rate(cfg) * (1 - step / len(batches))  # linear decay, no warm-up (reference code)
            for group in optimizer.param_groups:
                group["lr"] = rate
            started = time.perf_counter()
            loss, tokens = _accumulate(model, batch, device, precision)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"loss is {loss} at step {step} on examples {[e.id for e in batch]}; lower learning_rate"
                )
            torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            curve.append({"step": step, "loss": loss, "tokens": tokens, "learning_rate": rate,
                           "seconds": round(time.perf_counter() - started, 3)})  # fmt: skip
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if time.monotonic() - saved > save_seconds:
                _checkpoint(run.folder / "checkpoint.pt", trained, optimizer, curve)
                saved = time.monotonic()
        bar.close()
        _save(model, base, run.folder / "student")
        records.write_lines(run.folder / "loss.jsonl", curve)
        records.write_json(run.folder / "finished.json", {"steps": len(curve), "examples": len(examples)})
        (run.folder / "checkpoint.pt").unlink(missing_ok=True)
    return finished(run)


GROUPED = 8  # batches whose examples are sorted by length among each other, so that little is padded


def order(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """One epoch's batches of example numbers, shuffled, with examples of like length (tokens) together."""
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(lengths)).tolist()
    batches = []
    for start in range(0, len(shuffled), GROUPED * batch_size):
        alike = sorted(shuffled[start : start + GROUPED * batch_size], key=lambda k: lengths[k])
        batches += [alike[k : k + batch_size] for k in range(0, len(alike), batch_size)]
    return [batches[k] for k in random.permutation(len(batches))]


def token_loss(model, batch: Sequence[Example], device: str):
    """Summed negative log-likelihood (nats) of a batch's learnt tokens; logits are made only for those."""
    import torch

    width = max(len(e.input_ids) for e in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, example in enumerate(batch):
        ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
        labels[row, : len(example.labels)] = torch.tensor(example.labels)
    ids, labels = ids.to(device), labels.to(device)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    # Padding stands on the right, where no token that counts looks: no mask is needed.
    hidden = causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    learnt = labels[:, 1:] != IGNORED
    logits = causal.get_output_embeddings()(hidden[:, :-1][learnt])
    return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][learnt], reduction="sum")


# Padded tokens run through the model at once; a batch larger than this is split. A CPU is busy with one
# sequence, so padding would only be work thrown away.
MICRO_TOKENS = {"cpu": 512, "cuda": 8192}


def _accumulate(model, batch: Sequence[Example], device: str, precision: str) -> tuple[float, int]:
    """Gradients of the batch's mean loss a token, in parts of like length; returns that loss and the tokens read."""
    import torch

    learnt = sum(label != IGNORED for e in batch for label in e.labels[1:])
    total = 0.0
    parts: list[list[Example]] = []
    for example in sorted(batch, key=lambda e: -len(e.input_ids)):
        if parts and len(parts[-1][0].input_ids) * (len(parts[-1]) + 1) <= MICRO_TOKENS[device.partition(":")[0]]:
            parts[-1].append(example)
        else:
            parts.append([example])
    for part in parts:
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=precision == "bf16"):
            loss = token_loss(model, part, device) / learnt
        loss.backward()
        total += float(loss.detach())
    return total, sum(len(e.input_ids) for e in batch)


def _peak_rate(cfg: config.Config) -> float:
    return cfg.full_learning_rate if cfg.tuning == "full" else cfg.learning_rate


def _student(base: str, cfg: config.Config, device: str, precision: str):
    """The base model with what is to be trained: LoRA on all linear layers (frozen or NF4 weights), or all of it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    from agentlib.attention import TRAINING

    # Weights that are trained are held in 32 bits; on a CPU, where memory is not what is short, frozen ones too.
    held = "fp32" if cfg.tuning == "full" or (device == "cpu" and cfg.tuning == "lora") else precision
    model = loading.load_weights(weights.fetch(base), device, held, cfg.tuning == "qlora", TRAINING)
    if device == "cpu" and cfg.tuning == "lora" and precision == "bf16":
        # Products would round these weights to bf16 each time; embeddings and norms stay as they are.
        for module in model.get_decoder().modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = module.weight.data.bfloat16()
    if device != "cpu" or cfg.tuning == "qlora":
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    if cfg.tuning == "full":
        return model
    lora = LoraConfig(
        r=cfg.lora_rank, lora_alpha=cfg.lora_alpha, lora_dropout=cfg.lora_dropout, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip
    model = get_peft_model(model, lora)
    if precision == "bf16":
        # Products take bf16 anyway; a copy in 32 bits between them would change nothing but the time.
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = False
    return model


def _checkpoint(file: Path, trained: Mapping, optimizer, losses: list[dict]) -> None:
    """What exact resume needs: trained weights, optimiser, random state (dropout), losses so far."""
    import torch

    part = file.with_suffix(".part")
    state = {
        "weights": dict(trained),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "losses": losses,
    }
    if torch.cuda.is_available():
        state["cuda_random"] = torch.cuda.get_rng_state_all()
    torch.save(state, part)
    part.replace(file)


def _resume(file: Path, trained: Mapping, optimizer) -> list[dict]:
    import torch

    if not file.exists():
        return []
    state = torch.load(file, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if "cuda_random" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda_random"])
    log.info("training goes on from step %d", len(state["losses"]))
    return state["losses"]


def _save(model, base: str, folder: Path) -> None:
    """Adapter or model files with the tokenizer, moved into place when complete."""
    import shutil

    from transformers import AutoTokenizer

    fresh = folder.with_name(folder.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    if hasattr(model, "peft_config"):
        for settings in model.peft_config.values():
            settings.base_model_name_or_path = weights.known(base).hub or base
    # The vocabulary is never changed, so no embeddings need saving (and no base model need be looked up).
    model.save_pretrained(fresh, **({"save_embedding_layers": False} if hasattr(model, "peft_config") else {}))
    AutoTokenizer.from_pretrained(weights.fetch_tokenizer(base)).save_pretrained(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)
