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
# # 08 · Measure speed
#
# *What do eight samples cost, compared with one? And is our code fast or slow beside the usual libraries?*
#
# **By the end you will have shown that** eight sampled actions cost far less than eight times one, that two cores gain nothing from more
# than eight questions at a time, and that the tricks behind this do not change the text of greedy decoding.
#
# *Needs* nothing but the set-up · *Makes* nothing · *Minutes* under 1 on two CPU cores, no GPU (`make bench` repeats all measurements in
# about an hour).

# %%
import json
import re
import time

import pandas as pd
from IPython.display import display

from agentlib import LocalModel
from agentlib import config, figures, models, prompts

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %%
cfg = config.load(preset, **overrides)
folder = config.ROOT / "tests" / "benchmarks"
last = {file.stem: json.loads(file.read_text().splitlines()[-1]) for file in sorted(folder.glob("*.jsonl"))}
shown = ["date", "cpu", "cores", "rounds"]
pd.DataFrame({name: {what: record.get(what, "") for what in shown} for name, record in last.items()}).T

# %% [markdown]
# ## 1 · Against what people would use instead
#
# Seconds depend on the machine, so the table has ratios: *times* is our median divided by that of the other side (*against*), both measured
# in turns in one run. Where *better* says "less", a ratio below 1 is better. A step of eight samples cannot beat one of a single sample, so
# there the question is how far from 8 the ratio is. The records are the last lines of `tests/benchmarks/*.jsonl`.

# %%
steps, training, retrieval = (last[name]["ratios"] for name in ("generation", "training", "retrieval"))
action, start = last["sandbox"]["medians"], last["starting"]["ratios"]
ours, peer = action["agentlib sandlock"], action["smolagents"]
eight = next(k for k in ("SAG, N = 8, no early stop", "SAG, N = 8") if f"{k}, short prompt to greedy" in steps)
rows = [
    ("SAG step of 8, short prompt: seconds", "greedy step", steps[f"{eight}, short prompt to greedy"], "less"),
    ("SAG step of 8, long prompt: seconds", "greedy step", steps[f"{eight}, long prompt to greedy"], "less"),
    ("prompt tokens computed", "each prompt read anew", steps["prompt tokens, computed to read anew"], "less"),
    ("32 questions: questions/s", "smolagents", steps["questions/s, ours to smolagents"], "more"),
    ("LoRA: tokens/s", "fastest TRL", training["tokens/s, ours to the fastest TRL"], "more"),
    ("LoRA: peak memory", "fastest TRL", training["peak memory, ours to the fastest TRL"], "less"),
    ("QLoRA: peak memory", "LoRA in 32 bits", training["peak memory, QLoRA to LoRA fp32"], "less"),
    ("QLoRA: tokens/s", "LoRA in 32 bits", training["tokens/s, QLoRA to LoRA fp32"], "more"),
    ("encoding: texts/s", "sentence-transformers", retrieval["texts/s, ours to sentence-transformers"], "more"),
    ("encoding, both in 32 bits: texts/s", "sentence-transformers", retrieval["texts/s, both in fp32"], "more"),
    ("encoding, both in bf16: texts/s", "sentence-transformers", retrieval["texts/s, both in bf16"], "more"),
    ("tight loop: steps/s", "smolagents", ours["loop, million steps/s"] / peer["loop, million steps/s"], "more"),
    ("trivial action: ms", "smolagents", ours["trivial action, ms"] / peer["trivial action, ms"], "less"),
    ("agentlib.run --help: seconds", "Python alone", start["agentlib.run --help, to python alone"], "less"),
]

# %%
table = pd.DataFrame(rows, columns=["work", "against", "times", "better"])
table.round(2)

# %% [markdown]
# The same as a picture: right of the line ours is better, left of it worse. Where less is better, the ratio is inverted.

# %%
compared = table.set_index(table["work"] + " against " + table["against"])
figures.ratio_chart(compared, alt=f"A line per comparison, from 1 to how many times as good ours is; {len(table)} comparisons.")

# %% [markdown]
# A comparison of training with TRL is fair only at equal loss. So all rows had the same trajectories, batches, masks and learning rates:

# %%
pd.DataFrame(last["training"]["medians"]).T.round(3)

# %% [markdown]
# ## 2 · How cost grows
#
# Time against the number of samples per step, of questions at a time, and of passages in the index. Along the dotted line, time grows as
# fast as that number. Before you look: which of the three curves will stay below it?

# %%
def series(record, start, end, of):
    """{number: value} of the medians whose names are `start`, a number, `end`."""
    named = re.compile(f"{re.escape(start)}([0-9]+){re.escape(end)}")
    found = {named.fullmatch(name): row[of] for name, row in last[record]["medians"].items() if of in row}
    return {int(name[1]): value for name, value in found.items() if name}

# %%
greedy = {p: last["generation"]["medians"][f"greedy, {p} prompt"]["seconds a step"] for p in ("short", "long")}
voted = {f"{p} prompt": {1: greedy[p]} | series("generation", "SAG, N = ", f", {p} prompt", "seconds a step") for p in greedy}
together = {"agentlib": series("generation", "agentlib, ", " questions", "seconds")}
found = {k: series("retrieval", f"{k}, ", " passages", "ms a search") for k in ("faiss", "bm25")}
for across, up, lines in (("samples per step", "seconds", voted), ("questions at a time", "seconds", together),
                          ("passages", "milliseconds per search", found)):  # fmt: skip
    chart = figures.line_chart(lines, across, up, guide="in proportion", log=True, alt=f"Lines of {up} against {across}.")
    display(chart)

# %% [markdown]
# The second curve follows the dotted line: on two cores, 16 or 32 questions at a time are not faster per question than 8, which keep both
# cores busy. Questions per second:

# %%
rates = series("generation", "agentlib, ", " questions", "questions/s")
assert max(rates.values()) < 1.1 * min(rates.values())
pd.Series(rates, name="questions/s").round(2).rename_axis("at a time").to_frame()

# %% [markdown]
# ## 3 · Here and now: the same text, in less time
#
# Decoding reads a prompt once for all its samples. It also *guesses* (prompt lookup): it searches the prompt, earlier answers and other
# samples for the last two tokens, and takes what followed them as a guess. The model checks the guess in the same pass as the next token
# and keeps what it would have chosen itself. Guesses change the time, never the greedy text. Here the same question is answered with and
# without them:

# %%
model = LocalModel(cfg.students[0], max_context=cfg.context_tokens, precision="fp32", source=cfg.weights)
words = "Copy this line three times: def area(width, height): return width * height"
asked = [[{"role": "system", "content": prompts.AGENT_STUDENT}, {"role": "user", "content": words}]]

def timed(together, n=1, temperature=0.0):
    models.MAX_BATCHED_TOKENS["cpu"] = together
    model.forget()
    started = time.perf_counter()
    (found,) = model.generate(asked, n=n, temperature=temperature, max_new_tokens=64, seed=1)
    return found, time.perf_counter() - started

# %%
usual = models.MAX_BATCHED_TOKENS["cpu"]
timed(usual)  # warm up
plain, without = timed(1)
guessed, with_guesses = timed(usual)
eight, of_eight = timed(usual, n=8, temperature=0.4)
print(guessed[0].text)
took = {"without guesses": without, "with guesses": with_guesses, "eight samples": of_eight}
pd.Series(took, name="seconds").round(2).to_frame()

# %%
assert plain == guessed and len(eight) == 8

# %% [markdown]
# Guesses save less than a fifth here: an answer that does not repeat its prompt leaves little to guess. Eight samples cost two to three times as much
# as the greedy answer, far less than eight times. That is more than in section 1, which measures whole steps of a trained student: running
# the code is part of both sides of that ratio.
#
# ## 4 · On a GPU
#
# `python tests/benchmarks/gpu.py` compares generation and training with transformers and TRL on one GPU in ten minutes, with random weights
# in the shapes of the paper's students.

# %%
card = last.get("gpu")
pd.DataFrame(card["medians"]).T.round(2) if card else "Not measured on a GPU yet."

# %% [markdown]
# ## What we saw
#
# 1. Eight samples cost far less than eight times one, because they share the prompt and each pass over the weights.
# 2. Beside smolagents, TRL and sentence-transformers our code is faster, or as fast at equal precision. Only a trivial action is slower,
#    because it runs in a sandbox process of its own.
# 3. On two cores, more than eight questions at a time gain nothing, and guesses gain little in an answer with nothing to copy.
#
# ## Exercises
#
# 1. Ask for a text that repeats its prompt word for word, and for one that cannot be guessed, such as sixty random digits. How much do guesses
#    save in each?
# 2. On your machine, beyond how many questions at a time does the speed stop growing?

# %%
model.close()
