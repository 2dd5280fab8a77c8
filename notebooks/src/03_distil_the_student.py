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
# # 03 · Distil the student
#
# **By the end you will have shown that** a 135-million-parameter model takes on the teacher's way of acting from a few
# dozen trajectories, with loss only on what the teacher wrote.
#
# *Needs* notebook 02 · *Makes* four adapters a student · *Minutes* about 6 at `smoke` on two older CPU cores and an hour
# at `laptop` on newer ones; hours of a GPU at `paper`.
#
# *Shown* is the `laptop` experiment, drawn from its committed records; run as it stands, the notebook does `smoke`.

# %%
import dataclasses

import pandas as pd
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from agentlib import LocalModel, build_examples
from agentlib import benchmarks, config, distill, figures, masks, models, pages, prompts

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %%
cfg = config.load(preset, **overrides)
names = ["students", "tuning", "lora_rank", "lora_alpha", "learning_rate", "epochs", "batch_size", "train_examples"]
pages.show_settings(cfg, *names)

# %% [markdown]
# ## 1 · What is learnt from
#
# Four students are trained, one a row of Table 2: on the teacher's chains of thought, on those with retrieved passages
# in front (the strongest baseline: the same search, without acting), on its agent trajectories, and on those that
# started from a first-thought prefix.

# %%
web_search = benchmarks.web_search(cfg)
taught = {method: distill.conversations(cfg, method, web_search) for method in distill.TEACHER_OF}
{config.METHODS[method]: len(found) for method, found in taught.items()}

# %% [markdown]
# Conversations are plain `messages`, so they open in `datasets` and train in any other library too.

# %%
dataset = Dataset.from_list([{"id": k, "messages": v} for k, v in taught["agent_distill_ftp"].items()])
dataset

# %% [markdown]
# ## 2 · The token mask
#
# The loss is the negative log-likelihood of every thought *rₜ* and action *aₜ* given all that came before (§3).
# What the environment says (system prompt, question, observations) is context: the student must *read* it, not learn
# to predict it. Learning to predict observations would teach it to invent search results.
#
# Chat templates carry no marks for this, so the conversation is rendered here piece by piece and each piece tokenised
# by itself. Highlighted tokens are learnt, the rest is context:

# %%
student = cfg.students[0]
tokenizer = AutoTokenizer.from_pretrained(models.fetch_tokenizer(student, cfg.weights))
examples = {m: build_examples(found, tokenizer, distill.max_length_for(cfg, m)) for m, found in taught.items()}
turns = {k: [m["content"] for m in found if m["role"] == "assistant"] for k, found in taught["agent_distill_ftp"].items()}
longer = [e for e in examples["agent_distill_ftp"] if len(turns[e.id]) > 1]  # these have an observation in between
shortest = min(longer or examples["agent_distill_ftp"], key=lambda e: len(e.input_ids))
pages.show_token_mask(shortest, tokenizer)

# %% [markdown]
# Decoding only the learnt tokens gives back exactly the assistant's turns:

# %%
learnt = tokenizer.decode([token for token in shortest.labels if token != masks.IGNORED])
print(learnt)

# %%
assert learnt == "".join(turn + tokenizer.eos_token for turn in turns[shortest.id])

# %% [markdown]
# What each student reads and learns. A conversation longer than `max_length` is left out, so that no answer is cut off.

# %%
sizes = {
    config.METHODS[m]: {
        "conversations": len(taught[m]),
        "examples": len(found),
        "tokens": sum(len(e.input_ids) for e in found),
        "learnt tokens": sum(label != masks.IGNORED for e in found for label in e.labels),
    }
    for m, found in examples.items()
}
read = pd.DataFrame.from_dict(sizes, orient="index")
read

# %%
kinds = pd.DataFrame({"context": read["tokens"] - read["learnt tokens"], "learnt": read["learnt tokens"]})
figures.bar_chart(kinds, "tokens", f"tokenizer of {student} · preset {preset}",
                  alt="Bars of the tokens that are context and that are learnt, by student.")  # fmt: skip

# %% [markdown]
# ## 3 · Training
#
# LoRA adds a low-rank update to every linear layer and trains only that (rank and scale above); QLoRA does the same
# on weights held in 4 bits (`overrides = {"tuning": "qlora"}`), and `"full"` trains everything. The loop computes
# logits only at the learnt positions. Where the hardware multiplies bf16 natively, matrix products are done in it (the
# weights that are trained stay in 32 bits). It checkpoints about once a minute and goes on exactly where it stopped.
# A run taken from the committed records (`--from-records`) has its losses here, not its weights.

# %%
adapters = {
    (name, method): distill.train(cfg, name, method, web_search, recorded=True)
    for name in cfg.students
    for method in distill.TEACHER_OF
}
print(f"{len(adapters)} adapters")

# %% [markdown]
# The loss curves, in nats a learnt token. Agent turns are more regular than prose (the format repeats, and the facts
# are read off the observation), so their loss falls lower; the curves of CoT and agent are not to be compared in
# height, only each with its own start. Thin: every step, of a few trajectories; thick: the mean of the last steps.

# %%
curves = {method: adapters[student, method].losses for method in taught}
figures.loss_curves(curves, f"{student} · {cfg.tuning} · preset {cfg.preset}")

# %%
curve = adapters[student, "agent_distill_ftp"].losses
assert len(curve) == 1 or min(step["loss"] for step in curve) < curve[0]["loss"]

# %%
rows = {
    (figures.size_label(name), config.METHODS[m]): {
        "steps": len(a.losses), "first loss": a.losses[0]["loss"], "last loss": a.losses[-1]["loss"],
        "tokens a second": round(sum(s["tokens"] for s in a.losses) / sum(s["seconds"] for s in a.losses)),
    }
    for (name, m), a in adapters.items()
}  # fmt: skip
figures.format_numbers(pd.DataFrame.from_dict(rows, orient="index"), 2)

# %% [markdown]
# ## 4 · QLoRA: the same with weights in 4 bits
#
# Two steps of the same training on NF4 weights through bitsandbytes, to see it run on this machine and what it saves.

# %%
small = dataclasses.replace(cfg, tuning="qlora", epochs=1, batch_size=1, train_examples=2)
packed = distill.train(small, student, "agent_distill_ftp")
four_bit, full = (LocalModel(student, quantise=q, precision="fp32", source=cfg.weights) for q in (True, False))
sizes = {"32-bit": full.base.get_memory_footprint() / 1e6, "NF4": four_bit.base.get_memory_footprint() / 1e6}
pages.show_values({f"{name} weights": f"{size:.0f} MB" for name, size in sizes.items()})

# %%
assert sizes["NF4"] < sizes["32-bit"]

# %% [markdown]
# ## 5 · Before and after
#
# One question none of them trained on, asked of the same weights with and without the adapter, with the short prompt
# and greedily. The adapter is switched on and off without loading the model again.

# %%
asked = [{"role": "system", "content": prompts.AGENT_STUDENT}]
asked += [{"role": "user", "content": prompts.question_turn("What is 123456 * 654321 + 1?")}]
before = full.generate([asked], max_new_tokens=96, stop=prompts.STOP)[0][0].text
full.use(distill.load_or_train_preview(cfg, student, "agent_distill_ftp", web_search).path)
after = full.generate([asked], max_new_tokens=96, stop=prompts.STOP)[0][0].text
print("BEFORE\n" + before, "AFTER\n" + after, sep="\n\n")

# %%
assert before != after or len(curve) < 10  # a handful of steps may leave the greedy words as they were

# %% [markdown]
# ## What we saw
#
# A student learns *how to act* from very little: the format of thought and code is there after a few dozen
# trajectories. Whether it acts *well* is a question for the benchmarks of notebook 04.
#
# The loss says little about that. Chains of thought are learnt to a higher loss than trajectories because they hold numbers that
# nothing in front of them tells; a trajectory looks them up, and what it looked up is not learnt but read.
#
# ## Exercises
#
# Each has a check under it that says when you are there; an unfinished one stops nothing. One way to solve them is in this
# notebook; `make workshop` writes copies without.
#
# ### 1 · Loss on everything
#
# What share of all tokens is learnt by the agent student? (If observations were learnt too, it would be all of them, and the student
# would learn to make up search results.)

# %% tags=["exercise"]
share = None
# solution
found = examples["agent_distill"]
share = sum(label != masks.IGNORED for e in found for label in e.labels) / sum(len(e.input_ids) for e in found)
print(f"{share:.0%} of the tokens are learnt")

# %%
labels = [label for e in examples["agent_distill"] for label in e.labels]
pages.check_exercise("Loss on everything", lambda: abs(share - sum(label >= 0 for label in labels) / len(labels)) < 1e-9)

# %% [markdown]
# ### 2 · What LoRA trains
#
# LoRA replaces the update of a weight of `rows` × `columns` by a product of two thin matrices of rank *r*. Write how many numbers that
# is, then count those of the whole student.

# %% tags=["exercise"]
def lora_numbers(rows, columns, rank):
    ...
# solution
def lora_numbers(rows, columns, rank):
    return rank * (rows + columns)

# %%
full.use(None)
layers = [m.weight.shape for m in full.base.get_decoder().modules() if isinstance(m, torch.nn.Linear)]
print(f"{len(layers)} linear layers, {sum(r * c for r, c in layers) / 1e6:.0f} million numbers in them")
pages.check_exercise("What LoRA trains", lambda: lora_numbers(576, 1536, 32) == 67584 and all(
    lora_numbers(r, c, cfg.lora_rank) < r * c for r, c in layers))  # fmt: skip

# %% [markdown]
# ### 3 · How fast does it learn?
#
# For each of the four students, the first step at which its loss was below half of the first step's (or None).

# %% tags=["exercise"]
half = dict.fromkeys(taught, "?")
# solution
half = {}
for method in taught:
    curve = [step["loss"] for step in adapters[student, method].losses]
    half[method] = next((k for k, loss in enumerate(curve, 1) if loss < curve[0] / 2), None)
print(half)

# %%
def halved(method, step):
    curve = [s["loss"] for s in adapters[student, method].losses]
    return min(curve) >= curve[0] / 2 if step is None else curve[step - 1] < curve[0] / 2 <= min(curve[: step - 1])

pages.check_exercise("How fast does it learn?", lambda: all(halved(method, step) for method, step in half.items()))

# %%
assert all(adapter.losses for adapter in adapters.values())
