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
# **By the end you will have shown that** sampling eight actions costs far less than eight times one, that many questions
# at once are answered several times faster than one after another, and that none of this changes a single greedy token.
#
# *Needs* nothing but the set-up · *Makes* nothing · *Minutes* under 1 on two CPU cores, no GPU (`make bench`, which
# measures everything below anew, takes about an hour).

# %%
import json
import re
import time

import pandas as pd

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
# ## 1 · Ratios, each from one run
#
# Seconds depend on the machine, so every claim is a ratio of medians whose two sides took turns in one run. The records
# behind this table are the last lines of `tests/benchmarks/*.jsonl`.

# %%
steps, training, retrieval = (last[name]["ratios"] for name in ("generation", "training", "retrieval"))
action = last["sandbox"]["medians"]
ours, peer = action["agentlib sandlock"], action["smolagents"]
start = last["starting"]["medians"]
# A record of the time when SAG could stop early holds both ways; today's code is the one without.
eight = next(k for k in ("SAG, N = 8, no early stop", "SAG, N = 8") if f"{k}, short prompt to greedy" in steps)
rows = [
    ("SAG step of 8, short prompt", "greedy step", steps[f"{eight}, short prompt to greedy"], "≤", 2.0),
    ("SAG step of 8, long prompt", "greedy step", steps[f"{eight}, long prompt to greedy"], "≤", 2.0),
    ("32 questions, questions/s", "smolagents", steps["questions/s, ours to smolagents"], "≥", 5.0),
    ("prompt tokens computed", "distinct tokens", steps["prompt tokens, computed to distinct"], "≤", 1.2),
    ("LoRA, tokens/s", "fastest TRL", training["tokens/s, ours to the fastest TRL"], "≥", 1.7),
    ("LoRA, peak memory", "fastest TRL", training["peak memory, ours to the fastest TRL"], "≤", 1.0),
    ("QLoRA, peak memory", "LoRA fp32", training["peak memory, QLoRA to LoRA fp32"], "≤", 0.45),
    ("QLoRA, tokens/s", "LoRA fp32", training["tokens/s, QLoRA to LoRA fp32"], "≥", 0.8),
    ("encoding, texts/s", "sentence-transformers", retrieval["texts/s, ours to sentence-transformers"], "≥", 1.0),
    ("encoding in fp32, texts/s", "sentence-transformers", retrieval["texts/s, both in fp32"], "≥", 1.0),
    ("encoding in bf16, texts/s", "sentence-transformers in bf16", retrieval["texts/s, both in bf16"], "≥", 1.0),
    ("tight loop, steps/s", "smolagents", ours["loop, million steps/s"] / peer["loop, million steps/s"], "≥", 20.0),
    ("trivial action, ms", "", ours["trivial action, ms"], "≤", 5.0),
    ("import agentlib, s", "", start["import agentlib"]["seconds"], "≤", 0.5),
    ("agentlib.run --help, s", "", start["agentlib.run --help"]["seconds"], "≤", 0.5),
]

# %%
table = pd.DataFrame(rows, columns=["work", "against", "measured", "", "aim"])
at_most = table[""] == "≤"
table["reached"] = (table["measured"] <= table["aim"]).where(at_most, table["measured"] >= table["aim"])
table.round(2)

# %% [markdown]
# The same by how far each is from its aim: right of the line it is reached.

# %%
figure = figures.Chart(figsize=(8.5, 4.2), layout="constrained")
panel = figure.subplots()
share = (table["aim"] / table["measured"]).where(at_most, table["measured"] / table["aim"])
for label, rows in table.groupby(table["reached"].map({True: "reached", False: "not reached"})).groups.items():
    colour, mark = ("#0072B2", "o") if label == "reached" else ("#D55E00", "X")
    panel.scatter(share[rows], rows, color=colour, marker=mark, label=label, zorder=3)
    panel.hlines(rows, 1, share[rows], color=colour, linewidth=1)
panel.axvline(1, color=figures.GREY, linewidth=1)
names = [f"{work} to {against}" if against else work for work, against in zip(table["work"], table["against"], strict=True)]
panel.set_yticks(table.index, names, fontsize=8)
ticks = [0.5, 1, 2, 4, 8, 16]
panel.set(xscale="log", xlabel="times better than the aim")
panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
panel.set_xticks([], minor=True)
panel.invert_yaxis()
panel.legend(fontsize=8)
figure.alt = f"A line a ratio from its aim to what was measured; {table['reached'].sum()} of {len(table)} aims are reached."
figure

# %%
assert table["measured"].gt(0).all() and len(table) == 15

# %% [markdown]
# Training beside TRL is only fair at equal loss: the same trajectories, batches, masks and learning rates went into all.

# %%
pd.DataFrame(last["training"]["medians"]).T.round(3)

# %% [markdown]
# ## 2 · How cost grows
#
# With the number of samples a step, of questions asked at once, and of passages indexed. Along the dotted line cost
# grows as fast as the work.

# %%
def series(record, start, end, of):
    """{number: value} of the medians whose names are `start`, a number, `end`."""
    named = re.compile(f"{re.escape(start)}([0-9]+){re.escape(end)}")
    found = {named.fullmatch(name): row[of] for name, row in last[record]["medians"].items() if of in row}
    return {int(name[1]): value for name, value in found.items() if name}

# %%
figure = figures.Chart(figsize=(9.5, 3.0), layout="constrained")
panels = figure.subplots(1, 3)
greedy = {p: last["generation"]["medians"][f"greedy, {p} prompt"]["seconds a step"] for p in ("short", "long")}
voted = {p: series("generation", "SAG, N = ", f", {p} prompt", "seconds a step") for p in greedy}
found = {k: series("retrieval", f"{k}, ", " passages", "ms a search") for k in ("faiss", "bm25")}
curves = [
    ("samples a step", "seconds", {f"{p} prompt": {1: greedy[p]} | voted[p] for p in greedy}),
    ("questions at once", "seconds", {"agentlib": series("generation", "agentlib, ", " questions", "seconds")}),
    ("passages", "ms a search", found),
]
for panel, (across, up, lines) in zip(panels, curves, strict=True):
    for (label, points), colour, mark in zip(lines.items(), ("#0072B2", "#D55E00"), "os", strict=False):
        panel.plot(list(points), list(points.values()), marker=mark, color=colour, label=label)
    first = next(iter(lines.values()))
    one = next(iter(first))
    panel.plot(list(first), [first[one] * n / one for n in first], ":", color=figures.GREY, label="as the work")
    panel.set(xlabel=across, ylabel=up, xscale="log", yscale="log")
    for axis in (panel.xaxis, panel.yaxis):  # 20, not 2 x 10^1
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}" if panel is panels[1] else "")
    panel.legend(fontsize=7.5)
figure

# %% [markdown]
# ## 3 · Here and now: the same text, in less time
#
# Decoding reads a prompt once for all its samples. It also *guesses*: whatever followed the last two tokens before (in the
# prompt, in an earlier answer, in another sample) is read along with the next token, and kept if the model would have
# chosen it. Guesses change the time, never the greedy text. Here the same question is answered with and without them.

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
# ## What we saw
#
# The table says where each aim stands, reached or not. Three things carry most of it: a prompt is read once, by whoever
# needs it; all samples of all questions share each pass over the weights; and logits without loss
# are not computed.
#
# ## Exercises
#
# 1. Ask for something that cannot be guessed (a random number of 60 digits). How much is left of the gain?
# 2. From how many questions at once on does this machine gain nothing more?

# %%
model.close()
