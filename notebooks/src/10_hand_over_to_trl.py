# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     notebook_metadata_filter: kernelspec,jupytext
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · Hand over to TRL
#
# **By the end you will have shown that** a student distilled here is a plain PEFT adapter that any other library goes on
# with: two steps of GRPO (Shao et al. 2024) in TRL, rewarded by running what the student writes in this project's sandbox.
#
# *Needs* notebook 03, or trains a small student itself · *Makes* nothing that another notebook needs · *Minutes* about 2
# on two older CPU cores. Needs TRL: `pip install trl`.

# %%
import tempfile

import pandas as pd
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from agentlib import Sandbox
from agentlib import agent, benchmarks, config, distill, figures, models, score

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %%
cfg = config.load(preset, **overrides)
student = cfg.students[0]
adapter = distill.load_or_train_preview(cfg, student, "agent_distill_ftp", benchmarks.web_search(cfg))
sorted(file.name for file in adapter.path.iterdir())

# %% [markdown]
# ## 1 · The student in plain transformers and PEFT
#
# Nothing of this project is needed to load it. The base model's name stands in `adapter_config.json`; where the hub is
# not reached, as here, the base is loaded from this project's cache.

# %%
folder = models.fetch_weights(student, cfg.weights)
tokenizer = AutoTokenizer.from_pretrained(adapter.path, padding_side="left")
base = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
model = PeftModel.from_pretrained(base, adapter.path, is_trainable=True)
model.print_trainable_parameters()

# %% [markdown]
# ## 2 · A reward that runs the action
#
# Supervised distillation copies the teacher's actions; reinforcement goes on from there with the student's own. Its
# reward needs no model: each completion is parsed and run as the agent's loop does it, and gets 1 for the right final
# answer, 0.2 for code that runs, 0 for the rest.

# %%
box = Sandbox(tools={"web_search": benchmarks.web_search(cfg)}, seconds=cfg.sandbox_seconds, memory_mb=cfg.sandbox_memory_mb)


def worth(text, gold):
    if (code := agent.read_code(text)) is None:
        return 0.0
    with box.session() as session:
        outcome = session.run(code)
    right = outcome.is_final and score.grade(outcome.answer, gold, "math").correct
    return 1.0 if right else 0.2 if outcome.failure is None else 0.0

# %%
paid = []  # the rewards of each group, for the picture below


def reward(completions, gold, **_):
    paid.append([worth(completion[0]["content"], answer) for completion, answer in zip(completions, gold, strict=True)])
    return paid[-1]


def said(text):
    return [{"role": "assistant", "content": text}]


right = "Thought: easy.\nCode:\n```py\nfinal_answer(6 * 7)\n```"
tries = [right, "```py\nprint(6 * 7)\n```", "```py\n6 *\n```", "It is 42."]
pd.DataFrame({"completion": tries, "reward": reward([said(t) for t in tries], ["42"] * 4)})

# %%
assert reward([said(t) for t in tries], ["42"] * 4) == [1.0, 0.2, 0.0, 0.0]

# %% [markdown]
# ## 3 · Two steps of GRPO
#
# The prompt is the student's own, so that reinforcement starts where distillation ended. With GPUs, raise the numbers,
# and let the student act over several steps with TRL's `environment_factory` or with rollouts of `agent.Agent`.

# %%
questions = benchmarks.load("mini-math-train", 8)
paid.clear()
rows = [{"prompt": agent.initial_messages(q.text, "student"), "gold": q.answer} for q in questions]
with tempfile.TemporaryDirectory() as out:
    settings = GRPOConfig(
        output_dir=out, max_steps=2, per_device_train_batch_size=4, num_generations=4, max_completion_length=48,
        temperature=0.8, learning_rate=1e-5, logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
        seed=cfg.seed, disable_tqdm=True,
    )  # fmt: skip
    trainer = GRPOTrainer(model=model, reward_funcs=reward, args=settings, train_dataset=Dataset.from_list(rows),
                          processing_class=tokenizer)  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # the table below says the same in fewer words
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    trainer.train()
history = pd.DataFrame([line for line in trainer.state.log_history if "reward" in line])
shown = ["step", "reward", "reward_std", "completions/mean_length", "kl" if "kl" in history else "loss"]
history[shown].astype(float).round(4)

# %% [markdown]
# A group whose completions all earn the same teaches nothing; where they differ, the adapter moves.

# %%
groups = pd.DataFrame(paid, index=[f"step {k + 1}" for k in range(len(paid))])
groups.columns = [f"completion {k + 1}" for k in groups.columns]
figures.bar_chart(groups, "reward", f"{student} · one question a step, four completions · preset {preset}",
                  alt="Bars of the reward that each completion of a group earned, a group a step.")  # fmt: skip

# %%
moved = any(not before[name].equal(p.detach()) for name, p in model.named_parameters() if p.requires_grad)
assert len(history) == 2 and moved == (history["reward_std"].astype(float) > 0).any()
box.close()

# %% [markdown]
# ## 4 · On-policy distillation
#
# The other way on from here lets the student write and the teacher grade each token (generalised knowledge distillation,
# Agarwal et al. 2024). It needs the teacher's logits, so teacher and student must share a vocabulary, as the Qwen2.5
# models do. The call, for a machine that holds both:
#
# ```python
# from trl.experimental.gkd import GKDConfig, GKDTrainer
#
# from agentlib import exchange, teach
#
# GKDTrainer(model="Qwen/Qwen2.5-1.5B-Instruct", teacher_model="Qwen/Qwen2.5-32B-Instruct",
#            args=GKDConfig(output_dir="gkd", lmbda=1.0, max_new_tokens=256), peft_config=…,
#            train_dataset=Dataset.from_list(exchange.to_messages(teach.filtered_cases(cfg, "agent_ftp")))).train()
# ```
#
# ## What we saw
#
# What this project makes is a beginning, not an end: messages in, an adapter out, and both in the forms that others read.
#
# ## Exercises
#
# 1. Pay for fewer tokens: add a small price a token to `reward`. What does the student stop writing?
# 2. Give 0.5 for an answer that is right but printed instead of given to `final_answer`. Is that a good idea?
# 3. Run twenty steps on one question. Does its reward rise, and what happens to the others?
