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
# # 09 · Bring your own questions, tool and teacher
#
# **By the end you will have shown that** a file of your questions, one Python function and any teacher are enough to distil a
# small agent for your own task, and to measure what it has learnt.
#
# *Needs* nothing but the two commands of the README · *Makes* a student of your own · *Minutes* about 6 at `smoke` on two older
# CPU cores, more with more questions.

# %%
import datetime
import random
from pathlib import Path

import pandas as pd
from transformers import AutoTokenizer

from agentlib import Agent, LocalModel, Sandbox, build_examples
from agentlib import benchmarks, cases, config, distill, filtering, figures, models, pages, records, teach, training

# %% tags=["parameters"]
preset = "smoke"
overrides = {}
questions_file = ""
test_questions = 12
first_thought = "Thought: I call final_answer with what days_between returns for the two dates."

# %% [markdown]
# Three settings say who teaches. `teacher_server` is the address of any OpenAI-compatible server (with `teacher` the model's name
# there); `""` starts llama.cpp on this machine; `"in-process"`, the small presets' default, loads the model here. This notebook's own
# default is a teacher of half a billion parameters, which is quick and will do for an easy task; any of it is changed through
# `overrides`, such as `{"teacher": "my-model", "teacher_server": "http://localhost:8000"}`.

# %%
easy = {"teacher": "Qwen2.5-Coder-0.5B-Instruct", "teacher_records": "", "epochs": 3, "max_steps": 3}
cfg = config.load(preset, **easy | overrides)
pd.Series(cfg.asdict())[["teacher", "teacher_server", "students", "epochs", "max_steps"]].to_frame("value")

# %% [markdown]
# ## 1 · Your questions
#
# A table with the columns `question` and `answer` is all: a `.csv`, `.tsv`, `.json` or `.jsonl` file, or the id of a data set on the
# hub. `domain` says how answers are graded: `"math"` compares values, `"factual"` names. Put your file's name into the parameters
# cell above. Without one, this cell writes a file of questions about dates, which small models get wrong in their heads.

# %%
draw = random.Random(cfg.seed)
def example():
    first = datetime.date(1900, 1, 1) + datetime.timedelta(draw.randrange(36_000))
    second = first + datetime.timedelta(draw.randrange(30, 9_000))
    words = draw.choice(("How many days are there from {} to {}?", "Count the days between {} and {}.",
                         "A lease ran from {} until {}. How many days was that?"))  # fmt: skip
    return words.format(f"{first:%-d %B %Y}", f"{second:%-d %B %Y}"), (second - first).days

file = Path(questions_file or cfg.runs / "days.csv")
if not questions_file:
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([example() for _ in range(36)], columns=["question", "answer"]).to_csv(file, index=False)
pd.read_csv(file).head(3).style.hide() if file.suffix == ".csv" else file.name

# %%
found = benchmarks.from_file(file, domain="math")
train, test = benchmarks.split_questions(found, test_questions)
f"{len(train)} to train on, {len(test)} to test on"

# %% [markdown]
# A file that cannot be used is refused with a sentence before any work is spent on it:

# %%
broken = cfg.runs / "broken.csv"
broken.write_text("questoin,answer\nHow many?,3\n", encoding="utf-8")
try:
    benchmarks.from_file(broken)
except ValueError as error:
    refused = str(error).replace(str(broken), broken.name)
print(refused)

# %%
assert "rename the column 'questoin'" in refused and not {q.text for q in train} & {q.text for q in test}

# %% [markdown]
# ## 2 · Your tool
#
# A tool is a Python function. It runs here, outside the sandbox; the model's code calls it by name, with plain values. The model is
# told its signature and the first line of its docstring, so these are its manual. Make it forgiving: a first version of this one took
# only dates like 1919-12-24, and the small teacher below spent its steps on the errors; this one takes dates as they are written.

# %%
def days_between(first: str, second: str) -> int:
    """the number of days from one date to another, such as days_between("3 March 1921", "7 May 1922")"""
    return (pd.Timestamp(second) - pd.Timestamp(first)).days

box = Sandbox(tools={"days_between": days_between}, seconds=cfg.sandbox_seconds)
days_between("1 February 2024", "2024-03-01")

# %% [markdown]
# ## 3 · Your teacher
#
# The teacher answers the training questions with the long prompt; its right answers become the training set. A case is written to
# disk when it is done, so an interrupted run goes on where it stopped.
#
# This teacher finds the number and then forgets to call `final_answer`, so without help the filter keeps none of its runs. What helps is
# the paper's own idea, a **first thought** that its turn starts with (notebook 02); here it is one sentence for all questions, from the
# parameters cell. Leave it empty for a teacher that needs none.

# %%
def answer(run, agent, questions, thought=None, **labels):
    """The recorded cases of an agent on some questions, asking those that are not there yet."""
    with run:
        asked = {q.id: q for q in run.todo(questions)}
        for trajectory in agent.run(list(asked.values()), [thought or None] * len(asked)):
            run.append(cases.agent_case(asked[trajectory.question_id], trajectory, n=1, **labels))
    return list(run.finished().values())

shape = {"questions": records.digest({q.id: [q.text, q.answer] for q in found}), "steps": cfg.max_steps}
how = {"max_steps": cfg.max_steps, "step_tokens": cfg.step_tokens, "wording": cfg.wording}
with teach.open_teacher(cfg) as model:
    teacher = Agent(model, box, style="teacher", **how)
    taught_by = {"teacher": cfg.teacher, "told": teacher.tools, "thought": first_thought}
    run = records.Run(cfg.runs, "own-teacher", shape | taught_by)
    taught = answer(run, teacher, train, first_thought, model=cfg.teacher, method="agent")
kept = [case for case in taught if filtering.passes_filter(case)]
print(f"{len(kept)} of {len(taught)} trajectories are kept\n\nwhat the teacher was told:\n{teacher.tools}")

# %%
pages.show_cases(sorted(taught, key=lambda case: -case["correct"])[:6])

# %%
assert len(kept) >= 3, "too few to learn from: take a larger teacher, easier questions, or more of them"

# %% [markdown]
# ## 4 · Your student
#
# The same masks and the same loop as in notebook 03.

# %%
student = cfg.students[0]
tokenizer = AutoTokenizer.from_pretrained(models.fetch_tokenizer(student, cfg.weights))
examples = build_examples({case["id"]: cases.conversation(case) for case in kept}, tokenizer, cfg.max_length)
learnt = {"student": student, "cases": records.digest({c["id"]: c["trace"] for c in kept}), "rate": cfg.learning_rate}
run = records.Run(cfg.runs, "own-student", shape | learnt | {"epochs": cfg.epochs, "tuning": cfg.tuning})
settings = distill.training_settings(cfg)
adapter = training.fine_tune(student, examples, settings, run.folder, configuration=run.configuration)
print(f"{len(adapter.losses)} steps, loss {adapter.losses[0]['loss']:.2f} → {adapter.losses[-1]['loss']:.2f} nats a token")

# %%
assert adapter.losses[-1]["loss"] < adapter.losses[0]["loss"]

# %% [markdown]
# ## 5 · Did it learn?
#
# The student before and after, on questions that nobody was trained on: before with the teacher's long prompt, which is the best an
# untuned model can get, after with the short one.

# %%
model = LocalModel(student, max_context=cfg.context_tokens, precision=cfg.precision, source=cfg.weights)
answers = []
for method, path, style in (("agent", None, "teacher"), ("agent_distill", adapter.path, "student")):
    model.use(path)
    agent = Agent(model, box, style=style, **how)
    who = {"adapter": adapter.path.parent.name if path else "", "told": agent.tools}
    run = records.Run(cfg.runs, f"own-{method}", shape | who)
    answers += answer(run, agent, test, model=student, method=method)
frame = figures.to_frame(answers)
figures.summarise(frame, ["method"]).round(2)

# %%
figures.accuracy_bars(frame, f"{file.name} · {len(test)} questions · {student}")

# %%
pages.show_cases(sorted((c for c in answers if c["method"] == "agent_distill"), key=lambda case: -case["correct"])[:6])

# %% [markdown]
# ## What we saw
#
# Nothing here is about dates. Change the file, the function and the teacher, and the notebook is yours. With a dozen test questions the
# interval is wide; more cost only time.
#
# ## Exercises
#
# 1. Take the tool away (`tools={}`) and run again. What does the teacher do instead, and does the student still learn it?
# 2. Add a second function, such as `weekday(date)`, and questions that need both.
# 3. Bring a file from your own work. Which of its questions should be `factual`, which `math`?

# %%
box.close()
assert {case["method"] for case in answers} == {"agent", "agent_distill"}
