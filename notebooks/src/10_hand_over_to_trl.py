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
# *The student imitates its teacher. Can another library continue its training, with rewards for what the student does itself?*
#
# **By the end you will have shown that** a student distilled here is a plain adapter in the format of PEFT, Hugging Face's library for
# adapters, and that other libraries can train it further. TRL, Hugging Face's library for reinforcement learning, does two steps of GRPO
# (group relative policy optimisation, Shao et al. 2024). The reward depends on what the student's code does in this project's sandbox.
#
# *Needs* TRL (`pip install trl`); uses a student that comes with the project, or trains a small one itself · *Makes* nothing that another notebook
# needs · *Minutes* about 2 on two older CPU cores.
#
# *To read*: 1 (1 minute), 2 (3), 3 (4), 4 (2), exercises (15).

# %%
import itertools
import statistics
import tempfile

import pandas as pd
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from agentlib import Sandbox
from agentlib import agent, benchmarks, config, distill, figures, models, pages, rounds, score

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %% [markdown]
# The student is the one of notebook 11 that learnt from its teacher's runs and from its own right ones, if it comes with the project (at `smoke` it
# does); otherwise it is the plain distilled student.

# %%
cfg = config.load(preset, **overrides)
student = cfg.students[0]
if not cfg.retriever_url:
    benchmarks.build_search(cfg)
search = benchmarks.web_search(cfg)
adapter = rounds.committed(cfg, "own1")
if adapter is None:
    adapter = distill.load_or_train_preview(cfg, student, "agent_distill", search).path
pages.show_values({"files of the adapter": sorted(file.name for file in adapter.iterdir())})

# %% [markdown]
# ## 1 · The student in plain transformers and PEFT
#
# The adapter loads without this project's code: `adapter_config.json` names the base model, which transformers can download from the Hugging
# Face hub. Here the base model and its tokenizer come from this project's cache instead (`models.fetch_…`), so the cell runs without access to
# the hub. Its last line prints how many of the parameters are trained.

# %%
folder = models.fetch_weights(student, cfg.weights)
tokenizer = AutoTokenizer.from_pretrained(models.fetch_tokenizer(student, cfg.weights), padding_side="left")
base = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
model = PeftModel.from_pretrained(base, adapter, is_trainable=True)
model.print_trainable_parameters()

# %% [markdown]
# ## 2 · A reward that runs the action
#
# Supervised distillation copies the teacher's actions; reinforcement learning improves the student's own. The reward needs no model: each
# completion is parsed and run as in the agent's loop. It earns 1 for the right final answer, 0.2 for code that only runs, and 0 otherwise.
# `agent.read_code` returns the code of a completion, or None if it has no code block that can be read.

# %%
box = Sandbox(tools={"web_search": search}, seconds=cfg.sandbox_seconds, memory_mb=cfg.sandbox_memory_mb)


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
earned = reward([said(text) for text in tries], ["42"] * 4)
assert earned == [1.0, 0.2, 0.0, 0.0]
pd.DataFrame({"completion": tries, "reward": earned})

# %% [markdown]
# ## 3 · Two steps of GRPO
#
# The prompt is the one that the student was trained with, so reinforcement learning starts where distillation ended. Each training step
# samples a *group* of four completions of one question. Before you look: what does GRPO learn from a group in which all four earn the same?
#
# Here a completion is one action of at most 48 tokens. With GPUs, raise the numbers, and let the student act over several steps with TRL's
# `environment_factory` or with rollouts of `agent.Agent`.

# %%
questions = benchmarks.load("teaching-math-train", 8)
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
history[shown].astype(float).round(4) + 0.0  # no -0.0

# %% [markdown]
# The reported loss is 0 in both steps although the adapter changes: GRPO compares each reward with the mean of its group, so the terms of the
# loss cancel, but their gradients do not. If all completions of a group earn the same (`reward_std` is 0), the gradient of that step is zero,
# too. Where `completions/mean_length` is 48, every completion reached the limit of 48 tokens. The chart shows the reward of each completion:

# %%
groups = pd.DataFrame(paid, index=[f"step {k + 1}" for k in range(len(paid))])
groups.columns = [f"completion {k + 1}" for k in groups.columns]
figures.bar_chart(groups, "reward", f"{student} · one question per step, four completions · preset {preset}",
                  alt="Bars of the reward that each completion of a group earned, one group per step.")  # fmt: skip

# %%
moved = any(not before[name].equal(p.detach()) for name, p in model.named_parameters() if p.requires_grad)
assert len(history) == 2 and moved == (history["reward_std"].astype(float) > 0).any()

# %% [markdown]
# ## 4 · On-policy distillation
#
# There is another way to continue: the student writes, and the teacher grades each token (generalised knowledge distillation, GKD, Agarwal et
# al. 2024). It needs the teacher's logits, the scores of all possible next tokens. So teacher and student must share a vocabulary, as the
# Qwen2.5 models do. On a machine with memory for both, the call is:
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
# 1. A distilled student is a plain adapter: transformers and PEFT load it, and TRL trains it further.
# 2. The sandbox replaces a reward model: it tells a right final answer from code that only runs, and both from a failure.
# 3. Two steps show that the parts fit together, not that the student improves. GRPO learns only from groups whose rewards differ.
#
# ## Exercises
#
# Each has a check under it that tells you when it is solved; unsolved ones raise no error. One way to solve them is in this notebook;
# `make workshop` writes copies without the solutions.
#
# ### 1 · What GRPO learns from
#
# GRPO weights each completion by its *advantage*: its reward minus the mean of its group, divided by the group's standard deviation plus
# 0.0001. Write `advantages(rewards)`. Then look at the groups printed below: in which of them does a right answer have the largest advantage?

# %% tags=["exercise"]
def advantages(rewards):
    return list(rewards)
# solution
def advantages(rewards):
    mean, spread = statistics.mean(rewards), statistics.stdev(rewards)
    return [(earned - mean) / (spread + 1e-4) for earned in rewards]

for group in ([1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]):
    print(group, "→", [f"{found:+.2f}" for found in advantages(group)])

# %%
group, twice, flat = [1.0, 0.2, 0.0, 0.0], [2.5, 0.9, 0.5, 0.5], [0.2] * 4
def is_normal(found):
    return abs(sum(found)) < 1e-6 and 0.9 < statistics.stdev(found) < 1.2

pages.check_exercise("What GRPO learns from", lambda: is_normal(advantages(group)) and max(map(abs, advantages(flat))) < 1e-6 and all(
    abs(a - b) < 0.01 for a, b in zip(advantages(group), advantages(twice), strict=True)), "What if all four earn the same?")  # fmt: skip

# %% [markdown]
# ### 2 · Cheat the reward
#
# The reward of section 2 is 0.2 for code that runs. Write a turn that earns this on *any* question without working on it. A student can find
# such turns, too. Then write `stricter(text, gold)`: it is like `worth`, but code must also print something to earn the 0.2.

# %% tags=["exercise"]
cheat = "It is 42."
def stricter(text, gold):
    return worth(text, gold)
# solution
cheat = "```py\npass\n```"
def stricter(text, gold):
    earned = worth(text, gold)
    if earned == 0.2:
        with box.session() as session:
            outcome = session.run(agent.read_code(text))
        earned = 0.2 if outcome.stdout.strip() or outcome.value else 0.0
    return earned

# %%
golds = ["42", "7", "0"]
pages.check_exercise("Cheat the reward", lambda: [worth(cheat, gold) for gold in golds] == [0.2] * 3 and stricter(cheat, "42") == 0
                     and [stricter(text, "42") for text in tries] == earned, "Which code runs and does nothing?")  # fmt: skip

# %% [markdown]
# ### 3 · A price for words
#
# Write `priced(earned, tokens)`, a reward that falls with the length of a turn: of two turns with the same reward, the longer one earns less.
# But at any length, a right answer must earn more than code that only runs, and code that runs more than a failure. (The fixed price per token
# below breaks this for long turns.)

# %% tags=["exercise"]
def priced(earned, tokens):
    return earned - 0.001 * tokens
# solution
def priced(earned, tokens):
    return earned - 0.1 * tokens / (tokens + 100)

# %%
lengths = [1, 10, 100, 1_000, 100_000]
pages.check_exercise("A price for words", lambda: all(
    priced(earned, a) > priced(earned, b) for earned in (0.0, 0.2, 1.0) for a, b in itertools.pairwise(lengths)) and all(
    priced(more, 100_000) > priced(less, 1) for more, less in ((1.0, 0.2), (0.2, 0.0))), "Let the price have a limit.")  # fmt: skip

# %% [markdown]
# With more time: train for twenty steps on one question. Does its reward rise, and what happens to the rewards of other questions?

# %%
box.close()
