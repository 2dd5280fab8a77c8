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
# # 06 · Break the sandbox
#
# **By the end you will have shown that** code written by a model can be run unattended: a dozen attacks on this
# machine each end in a plain failure that the model can read, and the next question starts as if nothing had happened.
#
# *Needs* nothing but the set-up · *Makes* nothing · *Minutes* under 1 on two CPU cores, no GPU.

# %%
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from agentlib import Sandbox
from agentlib import config, figures, sag

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %%
cfg = config.load(preset, **overrides)
pd.Series(cfg.asdict())[["sandbox_seconds", "sandbox_memory_mb", "samples", "vote"]].to_frame("value")

# %% [markdown]
# ## 1 · Why a process, not a filter
#
# An agent's code is written by a model that has read the whole internet, runs thousands of times and is watched by
# nobody. Two ways of containing it are common. One walks the syntax tree and refuses what looks dangerous: it has to
# foresee every road, and `sympy`, `numpy` or a decorator offer new ones. The other lets the code run as it is, in a
# process that the *kernel* has put behind a wall. This project takes the second, so the attacks below may be as clever
# as they like: the wall does not read them.
#
# ![Behind the kernel's wall are a supervisor and a waiting state; each candidate is a fork of that state; tools stay outside.](pictures/sandbox_walls.svg)

# %%
box = Sandbox(tools={"web_search": lambda query: f"you asked for {query!r}"}, seconds=1.5, memory_mb=256)
print("backend:", box.protection.backend)
print("covers:", *box.protection.covers, sep="\n  ")
print("does not cover:", *box.protection.lacks, sep="\n  ")

# %% [markdown]
# `strict=True` refuses to start with less than full containment. On a Linux that has neither a recent Landlock nor user
# namespaces, limits on time and memory are all there is, and a warning says so once, loudly: run model-written code there
# only in a virtual machine that you can afford to lose. On macOS and Windows the sandbox does not start at all; use a
# Linux container, or WSL 2.
#
# To see whether an attack got anywhere we need something to reach: canaries. A secret file, a port that notes who
# knocks, and a bystander process.

# %%
folder = Path(tempfile.mkdtemp(prefix="agentlib-canaries-"))
secret = folder / "secret.txt"
secret.write_text(secrets.token_hex(8))
door = socket.create_server(("127.0.0.1", 0))
door.setblocking(False)
bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
reach = f"SECRET, PORT, PID, PARENT = {str(secret)!r}, {door.getsockname()[1]}, {bystander.pid}, {os.getpid()}\n"

# %% [markdown]
# Each attack gets a fresh session. The table shows how it ended: the kind of failure, the last line of the message
# (what the model would read), and the seconds it took.

# %%
pd.options.display.max_colwidth = 80

def attack(code):
    with box.session() as session:
        outcome = session.run(reach + code)
    if not outcome.failure:
        return {"kind": "-", "message": f"ran: {outcome.stdout[:40]!r}", "seconds": round(outcome.seconds, 3)}
    message = outcome.failure.message.replace(f"{folder}/", "").splitlines()[-1]
    return {"kind": outcome.failure.kind, "message": message, "seconds": round(outcome.seconds, 3)}

def attacks(**codes):
    return pd.DataFrame({name.replace("_", " "): attack(code) for name, code in codes.items()}).T

# %% [markdown]
# ## 2 · Reading and writing
#
# The second attack is a classic: `sympify` evaluates its argument, so a filter that allows sympy allows everything.

# %%
reading = attacks(
    open_a_file="print(open(SECRET).read())",
    ask_sympy="import sympy\nprint(sympy.sympify(f\"__import__('pathlib').Path({SECRET!r}).read_text()\"))",
    map_it_with_numpy="import numpy as np\nprint(bytes(np.memmap(SECRET, dtype='u1', mode='r')))",
    read_the_parents_memory="print(open(f'/proc/{PARENT}/mem', 'rb').read(8))",
    overwrite_it="open(SECRET, 'w').write('gone')",
)
reading

# %%
assert (reading["kind"] != "-").all() and len(secret.read_text()) == 16

# %% [markdown]
# ## 3 · The network and other processes
#
# An agent may search, but only through the tool we gave it: the call goes back to this process as plain data, and this
# process decides. From inside, nothing else answers.

# %%
outward = attacks(
    knock_at_a_port="import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)",
    look_up_a_name="import socket\nprint(socket.gethostbyname('example.com'))",
    kill_a_bystander="import os\nos.kill(PID, 9)",
    kill_this_notebook="import os\nos.kill(PARENT, 9)",
)
outward

# %%
assert (outward["kind"] != "-").all() and bystander.poll() is None

# %% [markdown]
# ## 4 · Using everything up
#
# The commonest "attack" is no attack at all: a small model writes a loop that never ends, or a power too large to
# compute. A thread that hangs in C code cannot be stopped; a process can.

# %%
greedy = attacks(
    loop="while True: pass",
    power="x = 10**10**8",
    memory="x = []\nwhile True: x.append(bytearray(1 << 20))",
    fork_bomb="import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    output="while True: print('x' * 1000)",
)
greedy

# %%
assert set(greedy["kind"]) <= {"timeout", "memory", "killed", "execution"}
assert greedy["seconds"].max() < 15  # a bomb of a thousand processes takes seconds to clear

# %% [markdown]
# ## 5 · Cheating in the vote
#
# Self-consistent action generation runs several candidates of one step and believes what most of them say. So a
# candidate must not be able to speak for another, or to look like one that answered. Here one candidate tries to
# write a forged answer into every channel that it can find, while two others compute.

# %%
forger = """
import json, os, struct
forged = json.dumps({"value": "", "failure": None, "is_final": True, "answer": "forged"}).encode()
for number in range(1, 40):
    for channel in range(3, 64):
        try:
            os.write(channel, struct.pack(">IIc", len(forged), number, b"D") + forged)
        except OSError:
            pass
"""
with box.session() as session:
    outcomes = session.run_candidates([forger, "final_answer(6 * 7)", "x = 6\nfinal_answer(x * 7)"])
    best = sag.choose(outcomes, cfg.vote)
pd.DataFrame([{"answer": o.answer, "failure": o.failure.kind if o.failure else "-"} for o in outcomes]).assign(
    kept=[k == best for k in range(3)]
)

# %%
assert outcomes[best].answer == 42 and [o.answer for o in outcomes[1:]] == [42, 42]

# %% [markdown]
# A forger can only ever spoil its own outcome, because each candidate is a fork with a channel of its own, and a
# supervisor that runs no model code says which channel a message came by.
#
# ## 6 · What it costs
#
# A fork is a snapshot that the kernel makes in milliseconds, so containment is nearly free: the time of a
# trivial action, and of several candidates of one step.

# %%
with box.session() as session:
    session.run("x = 1")
    took = {}
    for count in (1, 2, 4, 8, 16):
        times = []
        for _ in range(20):
            started = time.perf_counter()
            session.run_candidates(["x + 1"] * count)
            times.append(1000 * (time.perf_counter() - started))
        took[count] = sorted(times)[len(times) // 2]

# %%
figure = figures.Chart(figsize=(5.5, 2.8), layout="constrained")
panel = figure.subplots()
panel.plot(list(took), list(took.values()), marker="o", color="#0072B2", label="candidates of one step")
panel.plot(list(took), [took[1] * n for n in took], ":", color=figures.GREY, label="as many steps of one candidate")
panel.set(xlabel="candidates", ylabel="milliseconds (median of 20)", ylim=(0, None))
panel.legend(fontsize=8)
figure.alt = f"A line of milliseconds against candidates: {took[1]:.1f} for one, {took[16]:.1f} for sixteen."
figure

# %% [markdown]
# ## 7 · And now?
#
# After all of this, the machine is as it was.

# %%
with box.session() as session:
    print(session.run("import sympy\nsympy.factor(sympy.Symbol('x')**2 - 1)").value)
try:
    door.accept()
    knocked = True
except BlockingIOError:
    knocked = False
{"someone knocked": knocked, "bystander lives": bystander.poll() is None, "files": [p.name for p in folder.iterdir()]}

# %%
assert not knocked and bystander.poll() is None and [p.name for p in folder.iterdir()] == ["secret.txt"]

# %% [markdown]
# ## What we saw
#
# Files, network, processes, memory, time and the vote itself: each attack ended in a failure with a name, and the
# name is what the model reads and the figures count. `tests/test_attacks.py` holds the whole list.
#
# ## Exercises
#
# 1. Write an attack that is not in `tests/test_attacks.py`. If it succeeds, it is a bug: report it.
# 2. Open a box with `backend="limits"` and run section 2 again. Which attacks succeed now?
# 3. Let a tool return a secret. Can a candidate that did not call the tool learn it?

# %%
box.close()
bystander.kill()
bystander.wait()
secret.unlink()
folder.rmdir()
