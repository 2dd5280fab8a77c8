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
# *Can a model of 135 million parameters do your task, if it has one tool and a dozen examples?*
#
# **By the end you will have shown that** a file of your questions, one Python function and any teacher are enough to distil a
# small agent for your own task, and to measure what it learnt.
#
# *Needs* nothing but the two commands of the README · *Makes* your own student · *Minutes* about 6 at `smoke` on two older
# CPU cores, more with more questions; about 20 to read.

# %%
import datetime
import random
import re
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
# Three settings choose the teacher. `teacher` is the name of the model. `teacher_server` says where it runs: the address of a server with the
# interface of OpenAI's API, `""` for a llama.cpp server that is started on this machine, or `"in-process"`, the small presets' default, for a
# model that is loaded in this notebook's process. `teacher_records` names recorded runs to use in place of a live teacher; this notebook
# leaves it empty. Its default teacher has half a billion parameters: it is quick, and good enough for an easy task. Change any of this through
# `overrides`, such as `{"teacher": "my-model", "teacher_server": "http://localhost:8000"}`.

# %%
easy = {"teacher": "Qwen2.5-Coder-0.5B-Instruct", "teacher_records": "", "epochs": 3, "max_steps": 3}
cfg = config.load(preset, **easy | overrides)
pages.show_settings(cfg, "teacher", "teacher_server", "students", "epochs", "max_steps")

# %% [markdown]
# ## 1 · Your questions (3 minutes)
#
# You need a table with the columns `question` and `answer`: a `.csv`, `.tsv`, `.json` or `.jsonl` file, or the id of a data set on the
# Hugging Face hub. `domain` says how answers are graded: `"math"` compares values, `"factual"` compares names. Put your file's name into the
# parameters cell above. Without one, this cell writes a file of questions about dates, which small models get wrong without a tool.

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
# A file that cannot be used is refused before any work starts. The message says what is wrong and how to fix it:

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
# ## 2 · Your tool (2 minutes)
#
# A tool is a Python function. It runs here, outside the sandbox; the model's code calls it by name, with plain values. The model reads only
# its signature and the first line of its docstring, so these are the tool's manual. Make the tool forgiving: a first version of this one took
# only dates like 1919-12-24, and the small teacher below spent its steps on the errors. This one accepts dates as people write them.

# %%
def days_between(first: str, second: str) -> int:
    """the number of days from one date to another, such as days_between("3 March 1921", "7 May 1922")"""
    return (pd.Timestamp(second) - pd.Timestamp(first)).days

box = Sandbox(tools={"days_between": days_between}, seconds=cfg.sandbox_seconds)
days_between("1 February 2024", "2024-03-01")

# %% [markdown]
# ## 3 · Your teacher (3 minutes)
#
# The teacher answers the training questions with the long prompt, which has rules and an example. The filter of notebook 02 then keeps the
# runs with a right answer that was given through `final_answer` and whose every step could be parsed; they become the training set. Each run is
# written to disk when it ends, so an interrupted notebook resumes where it stopped.
#
# Without help, this teacher finds the number and then forgets to call `final_answer`. The paper's own idea helps: a **first thought** with
# which its turn starts (notebook 02). Here it is one sentence for all questions, from the parameters cell. Leave it empty for a teacher that
# needs none. **Predict:** the sentence tells the teacher exactly what to do. What share of its 24 runs will pass the filter?

# %%
def answer(run, agent, questions, thought=None, **labels):
    """The recorded cases of an agent on some questions; questions without a record are evaluated first."""
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

# %% [markdown]
# These are the first six right runs. Read the thoughts as well as the code:

# %%
taught_shown = sorted(taught, key=lambda case: -case["correct"])[:6]
pages.show_cases(taught_shown)

# %%
assert len(kept) >= 3, "too few to learn from: take a larger teacher, easier questions, or more of them"

# %% [markdown]
# ## 4 · Your student (2 minutes)
#
# Token masks and training loop are those of notebook 03: the student is trained on every token of the teacher's turns, thoughts included. The
# loss is in nats per token: minus the natural logarithm of the probability that the student gives to the teacher's token, on average.

# %%
student = cfg.students[0]
tokenizer = AutoTokenizer.from_pretrained(models.fetch_tokenizer(student, cfg.weights))
examples = build_examples({case["id"]: cases.conversation(case) for case in kept}, tokenizer, cfg.max_length)
learnt = {"student": student, "cases": records.digest({c["id"]: c["trace"] for c in kept}), "rate": cfg.learning_rate}
run = records.Run(cfg.runs, "own-student", shape | learnt | {"epochs": cfg.epochs, "tuning": cfg.tuning})
settings = distill.training_settings(cfg)
adapter = training.fine_tune(student, examples, settings, run.folder, configuration=run.configuration)
print(f"{len(adapter.losses)} steps, loss {adapter.losses[0]['loss']:.2f} → {adapter.losses[-1]['loss']:.2f} nats per token")

# %% [markdown]
# ## 5 · Did it learn? (3 minutes)
#
# This cell evaluates the student before and after training, on questions that it was not trained on. The untrained student (`agent` in the
# table) gets the teacher's long prompt, the trained one (`agent_distill`) a short prompt without rules and example. `low` and `high` are the
# ends of a 95 % interval for the accuracy. **Predict:** how many of the test questions does each get right?

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

# %% [markdown]
# How does the trained student find its answers? The cases below are its first six right runs, and their answers come from the tool.
# **Predict before you open them:** in how many of the six does the thought name the right number, too?

# %%
student_shown = sorted((c for c in answers if c["method"] == "agent_distill"), key=lambda case: -case["correct"])[:6]
pages.show_cases(student_shown)

# %% [markdown]
# ## 6 · What the thoughts say (4 minutes)
#
# Each thought is written before the code runs, so a number in it cannot come from the tool. This cell takes the last number of each thought
# on this page and puts it beside the answer, which the code got from `days_between`. The pattern `\d+` finds the numbers:

# %%
def number_in_thought(case):
    """The last number of the first thought, None if it has none."""
    found = re.findall(r"\d+", case["trace"][0]["text"].partition("\nCode:")[0])
    return int(found[-1]) if found else None

rows = [
    {"who": who, "question": case["question"], "the thought says": number_in_thought(case), "the tool returned": case["prediction"]}
    for who, shown in (("teacher", taught_shown), ("student", student_shown)) for case in shown
]  # fmt: skip
said = pd.DataFrame(rows)
said.style.hide()

# %%
agree = said["the thought says"] == said["the tool returned"]
print(f"{agree.sum()} of the {len(said)} thoughts name the number that was answered")
pages.show_values({who: f"names {sorted(set(part['the thought says']))}" for who, part in said.groupby("who", sort=False)})

# %% [markdown]
# Not one thought on this page names the number that was answered. For "How many days are there from 16 September 1975 to 19 March 1977?" the
# student thinks "The number of days between 16 September 1975 and 19 March 1977 is 10 days", and in the same turn writes code that returns
# 550. It then answers 550, which is right. The cases were chosen by their right answers, so all twelve answers are right; all twelve thoughts
# are wrong. The field's word for this is **unfaithful** reasoning: the text before the action does not say how the answer was found.
#
# Where does the habit come from? The teacher does the same: the given first sentence says to call the tool, and the teacher adds a result that
# it made up. The filter does not read thoughts, so these trajectories pass. The loss covers thoughts as well as code, so the student learns
# both habits: to call the tool, and to announce a number first. In six thoughts it names only two numbers, 10 and 14, and the teacher uses
# both. The page shows the first six of the teacher's eleven kept runs and of the student's twelve; the others are not counted.
#
# So a right answer is no evidence that the thought before it is true, and a fluent thought is no evidence that the answer is right. Here the
# mistake does no harm, because the code ignores the number. It could do harm if a later step used it, or if the tool were missing. Check
# what was *executed* and what came back, and treat a thought as text that the model was trained to produce.

# %% [markdown]
# ## What we saw
#
# 1. With one tool and eleven trajectories to train on, the student answered twelve of twelve test questions; the untuned model, with a longer
#    prompt, answered none.
# 2. The student learnt to call the tool, not to count days: every thought shown names a wrong number, and the tool supplies the right one.
# 3. Its teacher's thoughts do the same. The filter does not check thoughts, so the student was trained on them.
#
# Only the questions, the tool and the first thought are about dates. Change these, and the teacher if you like, and the notebook does your
# task.
#
# ## Exercises (20 minutes)
#
# Each has a check under it that tells you when it is solved; unsolved ones raise no error. One way to solve them is in this notebook;
# `make workshop` writes copies without the solutions.
#
# ### 1 · Repair the teacher
#
# If you dropped every trajectory with a false thought, all six of the teacher's above would go. Repair them instead: `repair` takes a
# teacher's turn and returns it without the sentence that invents a result. The sentence that says what to do and the code must not change.

# %% tags=["exercise"]
def repair(turn):
    return turn
# solution
def repair(turn):
    thought, code = turn.split("\nCode:", 1)
    plan = re.split(r"(?<=\.)\s", thought)[0]
    return f"{plan}\nCode:{code}"

print(repair(taught_shown[0]["trace"][0]["text"]))

# %%
def is_repaired(turn):
    code, plan = turn.partition("\nCode:")[2], "final_answer with what days_between returns"
    thought, _, after = repair(turn).partition("\nCode:")
    return after == code and plan in thought and thought.startswith("Thought:") and not re.search(r"\d", thought)

pages.check_exercise("Repair the teacher", lambda: all(is_repaired(case["trace"][0]["text"]) for case in taught_shown),
                     "Print one turn before and after.")  # fmt: skip

# %% [markdown]
# ### 2 · A tool that does not guess
#
# A student that trusts its tool inherits the tool's mistakes. In many countries 1.2.2024 is the first of February and 1.3.2024 the first of
# March, 29 days later. The tool reads the month first:

# %%
days_between("1.2.2024", "1.3.2024")

# %% [markdown]
# Write `careful_days`. If both dates have one meaning (the month is a word, or the year comes first), it counts as before. If a date has two
# meanings, it raises a ValueError that says what to write instead. It must also refuse a pair in the wrong order.

# %% tags=["exercise"]
def careful_days(first: str, second: str) -> int:
    return days_between(first, second)
# solution
def careful_days(first: str, second: str) -> int:
    """the number of days from one date to a later one, such as careful_days("3 March 1921", "7 May 1922")"""
    for date in (first, second):
        if not re.search(r"[A-Za-z]{3}", date) and not re.match(r"\d{4}-", date):
            raise ValueError(f"{date!r} can be read in two ways; write it as '3 March 1921' or '1921-03-03'")
    if (days := days_between(first, second)) < 0:
        raise ValueError(f"{second!r} is before {first!r}; give the earlier date first")
    return days

# %%
def refuses(*dates):
    try:
        return careful_days(*dates) is None
    except ValueError as error:
        return len(str(error)) > 20

counted = {("1 February 2024", "2024-03-01"): 29, ("Mar 3, 1921", "7 May 1922"): 430, ("1921-03-03", "1921-03-03"): 0}
unclear = [("1.2.2024", "1.3.2024"), ("2/1/2024", "1 March 2024"), ("2024-01-02", "03-04-2024"), ("7 May 1922", "3 March 1921")]
pages.check_exercise("A tool that does not guess", lambda: all(careful_days(*dates) == days for dates, days in counted.items())
                     and all(refuses(*dates) for dates in unclear), "Which of the pairs in this cell is it?")  # fmt: skip

# %% [markdown]
# ### 3 · How sure is twelve of twelve?
#
# The table of section 5 gives an interval beside the accuracy. If all answers are right, how many test questions are needed until the lower
# end of the 95 % interval is at least 0.9? Use `figures.wilson_interval(right, asked)`, which returns both ends.

# %% tags=["exercise"]
needed = len(test)
# solution
needed = next(n for n in range(1, 1000) if figures.wilson_interval(n, n)[0] >= 0.9)
print(f"{needed} of {needed}: {figures.wilson_interval(needed, needed)[0]:.3f}; {len(test)} of {len(test)}: "
      f"{figures.wilson_interval(len(test), len(test))[0]:.3f}")  # fmt: skip

# %%
def low(n):
    return figures.wilson_interval(n, n)[0]

pages.check_exercise("How sure is twelve of twelve?", lambda: low(needed - 1) < 0.9 <= low(needed), "Is it the smallest number?")

# %% [markdown]
# With more time: take the tool away (`tools={}`) and run the notebook again. What does the teacher do instead, and how many of its runs are
# kept? Then train on the repaired turns of exercise 1. Do the student's thoughts still name a number?

# %%
box.close()
