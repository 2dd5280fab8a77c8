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
# # 07 · Scale out
#
# **By the end you will have shown that** an index on a server, a model on a server, two training processes and two
# workers give what one process gives: the same passages, the same losses, the same cases.
#
# *Needs* the extras `server`, `retriever` and `scale` (`pip install -e '.[server,retriever,scale]'`) · *Makes* nothing that another notebook needs · *Minutes* about 3 on two older CPU cores, where
# every part runs at the size of two processes; the commands for GPUs and several machines stand beside each.

# %%
import contextlib
import dataclasses
import json
import os
import subprocess
import sys

import pandas as pd

# %%
from agentlib import Agent, Sandbox
from agentlib import benchmarks, config, distill, evaluate, figures, models, records, retrieval, runner, scale, training

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %%
cfg = config.load(preset, **overrides)
cfg = dataclasses.replace(cfg, retriever="bm25")  # quick to build; every kind of index is served the same way
names = ["students", "retriever", "retriever_url", "teacher_server", "student_server", "workers", "ray_address"]
pd.Series(cfg.asdict())[names].to_frame("value")

# %% [markdown]
# What may stand elsewhere, and the setting that says where:
#
# ![One process uses an index, model servers and workers on other machines, and adapters that were trained elsewhere.](pictures/what_may_run_elsewhere.svg)
#
# ## 1 · One index for many runs
#
# An index of Wikipedia fills a machine's memory once, not once a run. `python -m agentlib serve --preset paper --build`
# builds it and answers at `/retrieve`, in the words of Search-R1's server, so that either client works with either
# server. It listens on this machine alone unless told otherwise (`--host`), and wants a token where
# `AGENTLIB_RETRIEVER_TOKEN` is set.

# %%
benchmarks.build_search(cfg)
index = benchmarks.open_searcher(cfg)
query = ["What is the capital of Japan?"]
with retrieval.serving(index, token="workshop") as url:
    client = retrieval.RetrieverClient(url, token="workshop")
    theirs = client.search(query, 3)
    try:
        retrieval.RetrieverClient(url, attempts=1, token="").search(query)
    except ConnectionError as error:
        print(str(error).replace(url, "http://…"))
[hit.passage.title for hit in theirs[0]]

# %%
assert [hit.passage for hit in theirs[0]] == [hit.passage for hit in index.search(query, 3)[0]]

# %% [markdown]
# ## 2 · An index that fits
#
# The published index is flat: 21 million vectors in 65 GB of memory, each compared with every query. `retriever="ivfpq"`
# keeps four bits for four numbers in memory and reads the best 64 candidates' vectors from disk. Measured on a
# million random vectors that are distributed as an encoder's are (`tests/benchmarks/nearest.py`):

# %%
file = config.ROOT / "tests" / "benchmarks" / "nearest.jsonl"
measured = json.loads(file.read_text().splitlines()[-1])
index_kinds = pd.DataFrame(measured["medians"]).T.filter(regex="|".join(retrieval.DENSE_KINDS), axis=0)
index_kinds.round(2)

# %% [markdown]
# The same as a picture, a million vectors asked 32 at a time: up and to the left is better, and the number is recall@3.

# %%
figure = figures.Chart(figsize=(5.5, 3.0), layout="constrained")
panel = figure.subplots()
for name, row in index_kinds.filter(like=", 1000000 ", axis=0).iterrows():
    place = row["memory MB"], row["queries/s, 32 at a time"]
    panel.scatter(*place, color="#0072B2")
    panel.annotate(f"{name.partition(',')[0]} {row['recall@3']:.2f}", place, (6, -3), textcoords="offset points")
panel.set(xlabel="memory (MB)", ylabel="queries a second", xscale="log", yscale="log", xlim=(80, 8_000), ylim=(3, 5_000))
figure.alt = "Two kinds of index by memory and queries a second, each with its recall."
figure

# %% [markdown]
# Memory and disk grow with the number of vectors, so 21 million take, by the formulas that the tests hold to:

# %%
whole = {kind: {"memory (GB)": retrieval.memory_bytes(kind, 21_000_000, 768) / 1e9,
                "disk (GB)": retrieval.disk_bytes(kind, 21_000_000, 768) / 1e9} for kind in retrieval.DENSE_KINDS}  # fmt: skip
pd.DataFrame(whole).T.round(1)

# %% [markdown]
# ## 3 · Models on a server
#
# Teacher and students may stand on any OpenAI-compatible server. With vLLM, on the machine with the GPUs:
#
# ```
# vllm serve Qwen/Qwen2.5-32B-Instruct --tensor-parallel-size 4 --generation-config vllm --port 8000
# vllm serve Qwen/Qwen2.5-1.5B-Instruct --generation-config vllm --enable-lora --max-lora-rank 64 --port 8001 \
#     --lora-modules adapter-…=runs/paper/adapter-…/student
# python -m agentlib run --preset paper --set teacher_server=http://HOST:8000 --set student_server=http://HOST:8001
# ```
#
# Without `--generation-config vllm` the server adds what Qwen's files recommend: a repetition penalty and a top-k that
# the paper does not use. On one machine with a GPU students need no server: the extra `vllm` lets them, and a teacher
# that fits, run in the notebook's own process (setting `engine`).
#
# A first-thought prefix needs a server that goes on where the assistant's turn breaks off, instead of answering it.
# `python -m agentlib run --preset paper --check` asks the server to continue a counted row of words; here a llama.cpp
# server is asked, in a process of its own.

# %%
student = cfg.students[0]
asked = benchmarks.load(cfg.benchmarks[0], 2)
with models.llama_server(student, slots=2, context=cfg.context_tokens) as url:
    said = runner.check_continuation(url, student)
    model = models.ServerModel(url, student, max_context=cfg.context_tokens)
    with retrieval.serving(index) as retriever, contextlib.closing(model):
        tool = benchmarks.web_search(dataclasses.replace(cfg, retriever_url=retriever))
        with Sandbox(tools={"web_search": tool}) as box:
            found = list(Agent(model, box, max_steps=2, step_tokens=64).run(asked))
print("first-thought prefix:", said or "continued")
rows = zip(asked, found, strict=True)
pd.DataFrame([{"question": q.text, "steps": len(t.steps), "stopped": t.stopped} for q, t in rows])

# %%
assert len(found) == 2

# %% [markdown]
# ## 4 · Training by several processes
#
# ```
# accelerate launch --multi_gpu --num_processes 4 -m agentlib train --preset paper --student Qwen2.5-7B-Instruct
# accelerate launch --multi_gpu --num_processes 4 -m agentlib train --preset paper --student Qwen2.5-7B-Instruct --sharded
# ```
#
# The first keeps a copy of the student in each process (DDP), the second a shard (FSDP). Every batch is divided among
# the processes, and gradients and losses are summed over its tokens, so the number of processes changes no result.
# Notebook 03 takes what was trained this way as trained. The same command starts two processes on a machine without a
# GPU, which talk through gloo; here they are beside one:

# %%
method = "agent_distill_ftp"
few = dataclasses.replace(cfg, train_examples=4, epochs=1, batch_size=2, precision="fp32", tuning="lora")
changed = [f"--set={n}={getattr(few, n)}" for n in ("train_examples", "epochs", "batch_size", "precision", "tuning")]
launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1",
          "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "-m", "agentlib", "train"]  # fmt: skip
command = [*launch, f"--preset={preset}", f"--student={student}", f"--method={method}", *changed]
one_core = os.environ | {"OMP_NUM_THREADS": "1"}
done = subprocess.run(command, cwd=config.ROOT, env=one_core, capture_output=True, text=True)
print(done.stdout.strip().replace(str(config.ROOT) + "/", "") or done.stderr[-2000:])

# %%
assert "on 2 processes" in done.stdout

# %%
run = distill.adapter_run(few, student, method)
two = training.load_finished(run.folder)
alone = records.Run(cfg.runs, "alone", run.configuration)
examples, settings = distill.examples(few, student, method), distill.training_settings(few)
one = training.fine_tune(student, examples, settings, alone.folder, configuration=alone.configuration)
ran = {"one process": one, "two processes": two}
losses = pd.DataFrame({name: [s["loss"] for s in run.losses] for name, run in ran.items()})
losses.rename_axis("step").round(4)

# %%
assert (losses["one process"] - losses["two processes"]).abs().max() < 1e-3

# %% [markdown]
# ## 5 · Questions over a cluster
#
# `workers=2` spreads a teacher's runs and the evaluation over Ray workers; `ray_address="auto"` joins a cluster of
# several machines. Each worker holds its model and its sandbox; the process that asks writes the records, each case once.
# A worker that is killed loses only what it had not finished, and those questions go to another.

# %%
spread = dataclasses.replace(few, workers=2, benchmarks=cfg.benchmarks[:2], questions=2, max_steps=1, step_tokens=32)
condition = evaluate.Condition(student, "agent", 1, spread.benchmarks)
questions = benchmarks.test_questions(spread)
with scale.WorkerPool(lambda: evaluate.answerer(spread, student, [condition]), 2, chunk=2, models=True) as pool:
    evaluate.condition_run(spread, condition).file.unlink(missing_ok=True)
    theirs = evaluate.evaluate(spread, condition, pool, questions)
pd.DataFrame(theirs)[["id", "stopped", "steps", "completion_tokens"]]

# %%
evaluate.condition_run(spread, condition).file.unlink()
with evaluate.answerer(spread, student, [condition]) as answer:
    ours = {case["id"]: case for case in answer(condition, questions)}
words = [(case["trace"][0]["text"], ours[case["id"]]["trace"][0]["text"]) for case in theirs]
assert all(a == b for a, b in words) and len(words) == len(questions)

# %% [markdown]
# ## What we saw
#
# Nothing of the method changes with the number of machines: a server answers as the index in this process does, two
# processes come to the losses of one, and two workers write the cases that one would have written.
#
# What only GPUs can show is not shown here: `faiss-gpu`, bf16 under FSDP, vLLM with its adapters.
#
# ## Exercises
#
# 1. Start `python -m agentlib serve --set retriever=bm25 --build` in a terminal and run notebook 04 with
#    `overrides = {"retriever_url": "http://127.0.0.1:8000"}`. What happens to a run whose server you stop, and when you
#    start both again?
# 2. Launch section 4 with three processes. Which step has a process without an example, and why is its loss still right?
# 3. Raise `retrieval.nearest.RERANKED` to 256. What happens to recall, and what to queries a second?
