"""Distillation: what a student of each method is trained on, and its training run (§3, §4.1).

A student's examples are the teacher's cases that pass the filter; its run folder is named by that
data and by every setting that shapes the weights.
"""

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path

from agentlib import cases, config, masks, records, teach, training
from agentlib.models import weights
from agentlib.training import Adapter, Distributed, TrainingSettings, checkpoints

PREVIEW_EXAMPLES = 20  # trajectories of a student trained for a look at it
TEACHER_OF = {
    "cot_distill": "cot",
    "cot_distill_rag": "cot",
    "agent_distill": "agent",
    "agent_distill_ftp": "agent_ftp",
}
PASSAGES = ("corpus", "passages", "encoder", "retriever", "search_on", "top_k")  # and their search


def training_cases(cfg: config.Config, method: str) -> list[dict]:
    """The teacher's cases a method trains on: those the filter keeps, of the questions that
    `taught_on` says, at most `train_examples` of them."""
    if method not in TEACHER_OF:
        raise ValueError(
            f"method {method!r} is not trained, expected one of {', '.join(TEACHER_OF)}"
        )
    kept = teach.filtered_cases(cfg, TEACHER_OF[method])
    if cfg.taught_on == "matched":
        matched = _kept_by_both(cfg)
        kept = [case for case in kept if case["id"] in matched]
    return kept[: cfg.train_examples or None]


def _kept_by_both(cfg: config.Config) -> set[str]:
    """The questions of which both agents of the teacher have a run that passes the filter.

    Raises ValueError for none.
    """
    plain, prefixed = (
        {case["id"] for case in teach.filtered_cases(cfg, kind)} for kind in ("agent", "agent_ftp")
    )
    if not (both := plain & prefixed):
        raise ValueError(
            f"setting 'taught_on' is 'matched', but none of the {len(plain)} questions of which the"
            f" teacher's agent has a kept run is among the {len(prefixed)} with first-thought"
            " prefix; run the teacher on more questions"
        )
    return both


def conversations(
    cfg: config.Config, method: str, search: Callable[[str], str] | None = None
) -> dict[str, list[dict]]:
    """What a method trains on, as messages by id; CoT + RAG has what `search` finds for the
    question in front.

    That is to be the search of `passages_from`. Raises ValueError for CoT + RAG without a search.
    """
    kept = training_cases(cfg, method)
    if method == "cot_distill_rag":
        if search is None:
            raise ValueError(
                f"method {method!r} trains on retrieved passages, expected a search to get them"
                " from"
            )
        kept = [case | {"passages": search(case["question"])} for case in kept]
    return {case["id"]: cases.conversation(case) for case in kept}


def passages_from(cfg: config.Config) -> config.Config:
    """The configuration whose search finds the passages that CoT + RAG is trained on: its own, or,
    where the teacher is recorded in an experiment over another corpus, that experiment's."""
    if cfg.teacher_records not in config.EXPERIMENTS:
        return cfg
    there = config.load("laptop", **config.EXPERIMENTS[cfg.teacher_records])
    if there.corpus == cfg.corpus:
        return cfg
    own = [name for name in PASSAGES if name != "search_on"]  # which is no setting
    return dataclasses.replace(cfg, **{name: getattr(there, name) for name in own})


def train(
    cfg: config.Config,
    student: str,
    method: str,
    search: Callable[[str], str] | None = None,
    *,
    recorded: bool = False,
    group: Distributed | None = None,
) -> Adapter:
    """The student of a method, trained now unless that was done before, or it comes with the
    project.

    With `recorded` a run that was restored from records will do: its losses are there, its weights
    are not. The processes of a `group` train it together.
    """
    run = adapter_run(cfg, student, method)
    if recorded and checkpoints.is_finished(run.folder):
        return Adapter(run.folder / "student", checkpoints.losses(run.folder))
    if take_committed(cfg, run):
        return checkpoints.finished(run.folder)
    found = examples(cfg, student, method, search)
    return training.fine_tune(
        student,
        found,
        training_settings(cfg),
        run.folder,
        configuration=run.configuration,
        group=group,
    )


def committed(cfg: config.Config, run: records.Run) -> Path:
    """Where the adapter of a training run is kept with the project, if it is."""
    return teach.records_folder(cfg) / "adapters" / run.folder.name


def take_committed(cfg: config.Config, run: records.Run) -> bool:
    """Whether a student's weights are in its run folder, put there now if they are committed."""
    kept = committed(cfg, run)
    if not checkpoints.has_weights(run.folder) and kept.exists():
        checkpoints.restore(run.folder, kept)
    return checkpoints.has_weights(run.folder)


def one_training(cfg: config.Config, number: int) -> config.Config:
    """The configuration of one of `cfg.trainings` trainings of each student; 0 is the first."""
    return dataclasses.replace(cfg, seed=cfg.seed + number, trainings=1)


def training_settings(cfg: config.Config) -> TrainingSettings:
    """What of a configuration shapes the training of a student."""
    shared = {field.name for field in dataclasses.fields(TrainingSettings)}
    shared -= {"save_seconds", "steps"}  # which are no settings of a configuration
    return TrainingSettings(**{name: getattr(cfg, name) for name in shared})


def examples(
    cfg: config.Config, student: str, method: str, search: Callable[[str], str] | None = None
) -> list[masks.Example]:
    """What a method trains a student on, as its tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(student, cfg.weights))
    return masks.build_examples(
        conversations(cfg, method, search), tokenizer, max_length_for(cfg, method)
    )


def load_or_train_preview(
    cfg: config.Config, student: str, method: str, search: Callable[[str], str] | None = None
) -> Adapter:
    """The student of a method if its weights are here, else one trained now on a few
    trajectories, for a look at it; that, and the line that trains the real one, is printed."""
    if take_committed(cfg, run := adapter_run(cfg, student, method)):
        return checkpoints.finished(run.folder)
    few = dataclasses.replace(
        cfg, train_examples=min(PREVIEW_EXAMPLES, cfg.train_examples or PREVIEW_EXAMPLES), epochs=1
    )
    # Printed, not logged: a reader of the page must see whose answers these are, and pages show no
    # logs.
    print(
        f"STAND-IN: the weights of {student}, {method} are not here, so what follows is by a"
        f" student of at most {few.train_examples} trajectories and one epoch. To train the real"
        f" one:\n{train_command(cfg, student, method)}"
    )
    return train(few, student, method, search)


def train_command(cfg: config.Config, student: str, method: str) -> str:
    """The line for a shell that trains a student with exactly these settings."""
    preset = config.PRESETS[cfg.preset].asdict()
    own = {name: value for name, value in cfg.asdict().items() if value != preset[name]}
    settings = [
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in own.items()
    ]
    sets = "".join(f" --set {shlex.quote(setting)}" for setting in settings)
    return (
        f"python -m agentlib train --preset {cfg.preset} --student {shlex.quote(student)} --method"
        f" {method}{sets}"
    )


def max_length_for(cfg: config.Config, method: str) -> int:
    """The length (tokens) above which a method leaves a conversation out."""
    return cfg.max_length if TEACHER_OF[method] != "cot" else cfg.cot_max_length


def adapter_run(cfg: config.Config, student: str, method: str) -> records.Run:
    """The run folder of one student's training; its name holds the data and everything that
    shapes the weights."""
    names = [
        "seed", "tuning", "lora_rank", "lora_alpha", "lora_dropout", "learning_rate",
        "full_learning_rate", "epochs", "batch_size", "max_length", "cot_max_length", "precision",
        "weights",
    ]  # fmt: skip
    data = [cases.conversation(c) for c in training_cases(cfg, method)]
    shape = {n: getattr(cfg, n) for n in names} | {
        "student": student,
        "method": method,
        "data": records.digest({"d": data}),
    }
    if method == "cot_distill_rag":
        shape |= {n: getattr(passages_from(cfg), n) for n in PASSAGES}
    return records.Run(cfg.runs, f"adapter-{records.slug(student)}-{method}", shape)
