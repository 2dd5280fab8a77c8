"""What training a student costs: this package beside TRL's SFTTrainer, and QLoRA's NF4 weights
beside LoRA in 32 bits.

The same recorded trajectories, batches, learning rates and labels for all, each contender in
processes of its own that take turns; medians of the rounds. Memory is the highest resident size
from loading the weights to the last step, less what the libraries took before. `make bench` runs it
on an idle machine and appends the figures to `tests/benchmarks/training.jsonl`.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time

import common
import numpy as np

STUDENT, BATCH, EXAMPLES, ROUNDS = "SmolLM2-135M-Instruct", 4, 8, 5
TRL = {
    "TRL as it comes": {},
    "TRL without checkpointing or padding": {
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": BATCH,
    },
}
OURS = {
    "agentlib": {},
    "agentlib LoRA fp32": {"precision": "fp32"},
    "agentlib QLoRA": {"tuning": "qlora"},
}


def settings(**changes):
    from agentlib import config

    cfg = dataclasses.replace(
        config.load("smoke"), epochs=2, batch_size=BATCH, learning_rate=2e-4, lora_dropout=0.0
    )
    return dataclasses.replace(cfg, **changes)


def examples(cfg):
    """Recorded trajectories of the teacher as tokens, in the order in which ours trains on them."""
    from transformers import AutoTokenizer

    from agentlib import cases, distill, masks
    from agentlib.models import weights

    tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(STUDENT))
    taught = {
        case["id"]: cases.conversation(case)
        for case in distill.training_cases(cfg, "agent_distill")
    }
    return masks.build_examples(taught, tokenizer, cfg.max_length)[:EXAMPLES], tokenizer


def ours(changes: dict) -> list[dict]:
    import bitsandbytes  # noqa: F401 (libraries are no memory of the training)
    import peft  # noqa: F401

    from agentlib import distill
    from agentlib.training import loop

    cfg = settings(**changes)
    found, _ = examples(cfg)
    with tempfile.TemporaryDirectory() as folder:
        common.start()
        return list(loop.fine_tune(STUDENT, found, distill.training_settings(cfg), folder).losses)


def trl(changes: dict) -> list[dict]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from agentlib.models import loading, weights
    from agentlib.training import loop

    cfg = settings()
    found, tokenizer = examples(cfg)
    lengths = [len(e.input_ids) for e in found]
    rows = [
        found[k]
        for epoch in range(cfg.epochs)
        for batch in loop.order(lengths, BATCH, cfg.seed + epoch)
        for k in batch
    ]
    steps: list[dict] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            self.started = time.perf_counter()

        def on_step_end(self, args, state, *rest, **kwargs):
            part = rows[len(steps) * BATCH : (len(steps) + 1) * BATCH]
            steps.append(
                {
                    "seconds": time.perf_counter() - self.started,
                    "tokens": sum(len(e.input_ids) for e in part),
                }
            )

        def on_log(self, args, state, control, logs, **kwargs):
            if "loss" in logs:
                steps[-1]["loss"] = logs["loss"]

    with tempfile.TemporaryDirectory() as folder:
        common.start()
        trainer = SFTTrainer(
            model=loading.load_weights(weights.fetch(STUDENT), "cpu", "fp32", quantise=False),
            args=SFTConfig(
                output_dir=folder,
                use_cpu=True,
                num_train_epochs=1,
                learning_rate=cfg.learning_rate,
                logging_steps=1,
                lr_scheduler_type="linear",
                warmup_steps=0,
                weight_decay=0.0,
                max_grad_norm=1.0,
                save_strategy="no",
                report_to="none",
                max_length=None,
                seed=cfg.seed,
                disable_tqdm=True,
                train_sampling_strategy="sequential",
                **{"per_device_train_batch_size": BATCH} | changes,
            ),
            train_dataset=Dataset.from_list(
                [{"input_ids": e.input_ids, "labels": e.labels} for e in rows]
            ),
            processing_class=tokenizer,
            callbacks=[Watch()],
            peft_config=LoraConfig(
                r=cfg.lora_rank,
                lora_alpha=cfg.lora_alpha,
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
        torch.manual_seed(cfg.seed)
        trainer.train()
    return steps


def child(name: str) -> None:
    steps = ours(OURS[name]) if name in OURS else trl(TRL[name])
    later = steps[1:]  # the first step warms up
    print(
        json.dumps(
            {
                "tokens/s": sum(s["tokens"] for s in later) / sum(s["seconds"] for s in later),
                "peak MB": common.peak_mb(),
                "libraries MB": common.started,
                "losses": [s["loss"] for s in steps],
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--child")
    asked = parser.parse_args()
    if asked.child:
        return child(asked.child)
    found: dict[str, list[dict]] = {}
    for _ in range(asked.rounds):
        for name in (*OURS, *TRL):
            done = subprocess.run(
                [sys.executable, __file__, "--child", name], stdout=subprocess.PIPE, check=True
            )
            found.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
            print(
                f"{name:40} {found[name][-1]['tokens/s']:6.0f} tokens/s "
                f" {found[name][-1]['peak MB']:6.0f} MB",
                flush=True,
            )
    medians = {
        name: (
            {what: statistics.median(run[what] for run in runs) for what in ("tokens/s", "peak MB")}
            | {"first loss": runs[0]["losses"][0], "mean loss": float(np.mean(runs[0]["losses"]))}
        )
        for name, runs in found.items()
    }
    best = max(TRL, key=lambda name: medians[name]["tokens/s"])
    mine, fp32, nf4 = (medians[name] for name in OURS)
    ratios = {
        "tokens/s, ours to the fastest TRL": mine["tokens/s"] / medians[best]["tokens/s"],
        "tokens/s, ours to TRL as it comes": (
            mine["tokens/s"] / medians["TRL as it comes"]["tokens/s"]
        ),
        "peak memory, ours to the fastest TRL": mine["peak MB"] / medians[best]["peak MB"],
        "peak memory, ours to TRL as it comes": (
            mine["peak MB"] / medians["TRL as it comes"]["peak MB"]
        ),
        "mean loss, ours to the fastest TRL": mine["mean loss"] / medians[best]["mean loss"],
        "peak memory, QLoRA to LoRA fp32": nf4["peak MB"] / fp32["peak MB"],
        "tokens/s, QLoRA to LoRA fp32": nf4["tokens/s"] / fp32["tokens/s"],
    }
    common.record(
        __file__,
        medians,
        ratios,
        ("trl", "transformers", "peft", "torch", "bitsandbytes"),
        asked.rounds,
        student=STUDENT,
        examples=EXAMPLES,
        batch=BATCH,
    )


if __name__ == "__main__":
    main()
