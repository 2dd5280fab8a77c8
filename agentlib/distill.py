"""Distillation: what a student of each method is trained on, and its training run (§3, §4.1).

Owns the choice of the teacher's cases and the folders of training runs. Knows nothing of how cases were made, of token
masks (`masks`), of the loop (`training`), nor of figures.
"""

import dataclasses
import logging
from collections.abc import Callable

from agentlib import cases, checkpoints, config, masks, records, teach, training, weights
from agentlib.checkpoints import Adapter
from agentlib.processes import Processes

log = logging.getLogger(__name__)
LOOK = 20  # trajectories of a student trained for a look at it
TEACHER_OF = {
    "cot_distill": "cot",
    "cot_distill_rag": "cot",
    "agent_distill": "agent",
    "agent_distill_ftp": "agent_ftp",
}


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
          recorded: bool = False, group: Processes | None = None) -> Adapter:  # fmt: skip
    """The student of a method, trained now unless that was done before.

    With `recorded` a run that was restored from records will do: its losses are there, its weights are not.
    The processes of a `group` train it together.
    """
    run = adapter_run(cfg, student, method)
    if recorded and checkpoints.is_finished(run):
        return Adapter(run.folder / "student", checkpoints.losses(run))
    if checkpoints.has_weights(run):
        return checkpoints.finished(run)
    return training.fine_tune(student, examples(cfg, student, method, search), cfg, run, group=group)


def examples(cfg: config.Config, student: str, method: str, search: Callable[[str], str] | None = None) -> list[masks.Example]:
    """What a method trains a student on, as its tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(student))
    return masks.build_examples(conversations(cfg, method, search), tokenizer, longest(cfg, method))


def at_hand(cfg: config.Config, student: str, method: str, search: Callable[[str], str] | None = None) -> Adapter:
    """The student of a method if its weights are here, else one trained now on a few trajectories, for a look at it."""
    if checkpoints.has_weights(run := adapter_run(cfg, student, method)):
        return checkpoints.finished(run)
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
