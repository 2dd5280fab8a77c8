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
# # 02 · Prompt the teacher
#
# *Let an agent begin its run with the first paragraph of its own reasoning. Does it then act better?*
#
# **By the end you will have shown that** a teacher's trajectories can be recorded, compared and filtered, and that
# the *first-thought prefix* makes the agent start from the teacher's own chain of thought.
#
# *Needs* notebook 01 · *Makes* the training trajectories and Table 5 · *Minutes* about 1 at `smoke` and `laptop`
# (recorded trajectories, one live prefix); hours of a GPU at `paper`.
#
# *To read*: 1 (3 minutes), 2 (8), 3 (6), 4 (2), 5 (3), 6 (4), exercises (25).
#
# The outputs *shown* are those of `smoke`: the teacher's recorded runs on the training questions of the teaching set.

# %%
import re
import statistics

import pandas as pd

from agentlib import Agent, LocalModel, Question, Sandbox, first_thought_prefix
from agentlib import benchmarks, cases, config, figures, filtering, masks, pages, teach, training

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %%
cfg = config.load(preset, **overrides)
names = ["teacher", "teacher_records", "train_sets", "train_questions", "max_steps", "step_tokens", "cot_tokens"]
pages.show_settings(cfg, *names)

# %% [markdown]
# ## 1 · Three ways to ask a teacher
#
# The teacher answers every training question three times:
#
# - **CoT**: it reasons in prose, without tools;
# - **agent**: it thinks, writes Python, searches, reads, answers;
# - **agent + first-thought prefix (FTP)**: as the agent, but its first turn *starts with* the first paragraph of its
#   own CoT (§3.1 of the paper). Instruction-tuned models reason best in the style that they were tuned on, and the
#   prefix lets the agent's run start in that style.
#
# ![A question goes to CoT and to the agent; the CoT's first paragraph starts a second agent; a filter keeps the right ones.](pictures/three_ways_to_ask.svg)
#
# At `smoke` and `laptop` these trajectories come from committed records: a teacher of 1.5 billion parameters, asked the
# 400 training questions of the teaching set, once each and greedily. At `paper`, and with `overrides =
# {"teacher_records": ""}`, the teacher runs now; an interrupted run resumes where it stopped.

# %%
web_search = benchmarks.web_search(cfg)
taught = teach.teacher_cases(cfg, web_search)
frame = figures.to_frame(case for found in taught.values() for case in found)
pages.show_values({figures.method_label(method, 1): f"{len(found)} questions" for method, found in taught.items()})

# %% [markdown]
# ## 2 · How good is the teacher?
#
# Our version of the paper's Table 5: the share of training questions that each method gets right, with a 95 % Wilson
# interval (the uncertainty of a share, from the number of questions) and the number of questions, *n*. Before you
# look: the same model gets the same questions, once without tools and once with Python and a search. Will the gap be
# larger on facts or in mathematics?

# %%
figures.table5(frame)

# %%
points = figures.accuracy_table(frame, split="train").drop(columns="mean").map(lambda point: point.value)
points.index = [figures.method_label(method, n) for _, method, n in points.index]
figures.bar_chart(points.T, "right (%)", f"{cfg.teacher} · preset {preset}",
                  alt="Bars of the share of training questions that the teacher gets right, by training set and method.")  # fmt: skip

# %% [markdown]
# The published teacher is Qwen2.5-32B-Instruct on HotpotQA and MATH; ours is a smaller model on other questions. So
# only the *order* of the three rows can be compared, and it differs. The published agent gains on factual questions
# and loses in mathematics, where that teacher reasons well in prose. Ours gains in both, and more in mathematics.

# %%
figures.read_published("table5_teacher_train").set_index(["Mode", "Model"])

# %% [markdown]
# Did the agent beat CoT, and did the prefix help? Both sides answered the same questions, so the table pairs them question by question. It
# gives the accuracy of each side in per cent, their difference with a 95 % interval, and McNemar's exact test on the questions that only
# one side got right.

# %%
by_method = dict(tuple(frame.groupby("method")))
pairs = {"CoT → agent": ("cot", "agent"), "agent → agent + FTP": ("agent", "agent_ftp")}
figures.comparison_table({name: figures.compare(by_method[a], by_method[b]) for name, (a, b) in pairs.items()})

# %% [markdown]
# The agent beats CoT clearly, and the prefix makes no measurable difference: its interval includes 0. What else does
# the prefix change? The table has one row per way of prompting the agent:

# %%
figures.format_numbers(figures.prefix_effects(taught), 2)

# %% [markdown]
# With the prefix the first thought is five times as long, and 38 % of the runs have a turn without usable code: after
# the blank line that ends the prefix, this teacher often goes on in prose and forgets to act. The number of searches
# hardly changes. When does the prefix help? It is the beginning of a chain of thought, and that chain led to a right
# or to a wrong answer. Before you look: in which of the two cases should the prefix help, and in which should it
# harm? In this table *a* is the agent and *b* the agent with the prefix.

# %%
by_domain = {d: {m: [c for c in found if c["domain"] == d] for m, found in taught.items()} for d in ("math", "factual")}
splits = {domain: figures.prefix_split(found) for domain, found in by_domain.items()}
rows = {(domain, group): row for domain, (table, _) in splits.items() for group, row in table.to_dict("index").items()}
figures.comparison_table(rows)

# %%
for domain, (_, interaction) in splits.items():
    print(f"{domain}: the two rows differ by {interaction['points']:+.0f} points, p = {interaction['p']:.3f} (permutation test)")

# %% [markdown]
# On factual questions the prefix helps where the chain of thought was right, by 21 points, and makes no measurable
# difference where it was wrong. In mathematics the two rows point the same way, but the interval of each includes 0.
# So the prefix passes on what the chain had right. The split was chosen after an earlier experiment, in which the
# prefix also harmed where the chain was wrong; here no row shows harm.

# %% [markdown]
# ## 3 · One question, three answers
#
# A rule chooses the question below: if possible, one that the agent got right with a search and the chain of thought
# got wrong. First comes the chain of thought, which has no tools and writes everything from memory.

# %%
by_id = {method: {c["id"]: c for c in found} for method, found in taught.items()}
def instructive(case):  # best: a search that led to the right answer, where the chain of thought went wrong
    return filtering.passes_filter(case) and (1 + bool(case["tool_calls"] and not by_id["cot"][case["id"]]["correct"]))

chosen = max(by_id["agent_ftp"].values(), key=instructive)["id"]
pages.show_case(by_id["cot"][chosen])

# %% [markdown]
# The agent on the same question looks the fact up. Compare its second thought with what the first passage says:

# %%
pages.show_case(by_id["agent"][chosen])

# %% [markdown]
# Last comes the agent with the first-thought prefix. Its first thought begins with the first paragraph of the chain
# of thought above, word for word; what follows is the agent's own.

# %%
pages.show_case(by_id["agent_ftp"][chosen])

# %% [markdown]
# ### The prefix by hand
#
# The rule fits in one line: "Thought: ", the first paragraph of the chain of thought, and a blank line. The blank
# line, which the reference code also has, ends the paragraph.

# %%
def prefix_by_hand(chain):
    first_paragraph = re.split(r"\n\s*\n", chain.strip())[0]
    return f"Thought: {first_paragraph}\n\n"

prefix = prefix_by_hand(by_id["cot"][chosen]["text"])
print(prefix)

# %% [markdown]
# `first_thought_prefix` also skips what other teachers put around their first thought: a heading such as "Step 1", the tags of reasoning
# models, a block of code, a "Thought:" that is already there. Where the first paragraph is one line
# without any of these, both rules apply and must agree:

# %%
label = r"thoughts?|step|part|plan|approach|reasoning|analysis|explanation|solution|chain"
framed = re.compile(rf"\n|^#|\*\*|```|<\w+>|^({label})\b", re.IGNORECASE)
chains = [case["text"].strip() for case in taught["cot"] if case["text"].strip()]
plain = [chain for chain in chains if not framed.search(re.split(r"\n\s*\n", chain)[0])]
assert all(prefix_by_hand(chain) == first_thought_prefix(chain) for chain in plain)
print(f"equal on {len(plain)} plain chains of {len(chains)}")
pages.show_source(first_thought_prefix)

# %%
started = by_id["agent_ftp"][chosen]
assert started["prefix"] == prefix and started["trace"][0]["text"].startswith(started["prefix"])

# %% [markdown]
# ## 4 · Live: a prefix that a local model continues
#
# Here is the same mechanism on a model that runs now. The smallest student, untrained, gets the teacher's first
# thought as the start of its turn. The prefix is appended after the chat template, so the model *continues* the text
# instead of answering it. Before you look: will it also write code?

# %%
case = by_id["agent_ftp"][chosen]
question = Question(case["id"], case["benchmark"], case["question"], case["gold"], case["domain"])
model = LocalModel(cfg.students[0], max_context=cfg.context_tokens, precision=cfg.precision)
settings = {"step_tokens": cfg.step_tokens, "wording": cfg.wording, "seed": cfg.seed}
with Sandbox(tools={"web_search": web_search}, seconds=cfg.sandbox_seconds) as box:
    agent = Agent(model, box, style="teacher", max_steps=1, **settings)
    (continued,) = agent.run([question], [prefix])
print(continued.steps[0].text)

# %%
assert continued.steps[0].text.startswith(prefix.rstrip())

# %% [markdown]
# In the output above, the untrained student continues the text but writes no code: a prefix gives a beginning, not
# the skill to act.
#
# ## 5 · Is it easier to learn from?
#
# The paper gives a reason for the prefix: a run that begins as the model itself would begin is easier to learn from.
# This can be measured before any training. How surprised is the untrained student by each kind of run on the same
# questions? Surprise is the mean of −ln *p* (its unit is the nat) over the tokens that it would be trained to write.
# If the paper's reason holds here, the difference *b − a* is below zero, and most of it comes from the first turn.

# %%
passing = [{i for i, case in by_id[m].items() if filtering.passes_filter(case)} for m in ("agent", "agent_ftp")]
shared = sorted(set.intersection(*passing))[:40]

def surprise(method):
    talks = {i: cases.conversation(by_id[method][i]) for i in shared}
    first_turns = masks.build_examples(talks, model.tokenizer, cfg.max_length, turns=dict.fromkeys(shared, (0,)))
    ends = {example.id: sum(label != -100 for label in example.labels) for example in first_turns}
    examples = masks.build_examples(talks, model.tokenizer, cfg.max_length)
    nats = {i: found.each for i, found in training.likelihoods(cfg.students[0], examples, source=cfg.weights).items()}
    return {
        "whole run": {i: statistics.mean(each) for i, each in nats.items()},
        "first turn": {i: statistics.mean(each[: ends[i]]) for i, each in nats.items()},
        "later turns": {i: statistics.mean(each[ends[i] :]) for i, each in nats.items() if each[ends[i] :]},
    }

a, b = (surprise(method) if shared else {} for method in ("agent", "agent_ftp"))
table = figures.likelihood_table({part: (a[part], b[part]) for part in a})
table if shared else print("No question has a kept run of both kinds, so there is nothing to compare.")

# %% [markdown]
# *a* is the agent, *b* the agent with the prefix. The paper's reason holds here: a whole run with the prefix is easier
# to predict, and the first turn makes it so; in the later turns there is no measurable difference. The prefix is prose
# as the model itself would write it, and this is what the untrained student knows best. But a text that is easy to
# predict is not always good to imitate: notebook 04 evaluates the students.

# %% [markdown]
# ## 6 · The filter
#
# A student imitates what it is shown, mistakes included. So how many of the runs are worth imitating? As in the
# paper, a trajectory is kept if its answer is right, if it was given by calling `final_answer`, and if every step
# could be parsed. A step whose code ran and raised an error does not count against it: such steps show the student
# how to repair an error. Here is the filter by hand, and the package's on every recorded case:

# %%
def keep(case):
    ended = "final_answer" if "trace" in case else "stop"  # a chain of thought has no steps: it must not be cut off
    return bool(case["correct"]) and case["stopped"] == ended and "parse" not in case["errors"]

recorded = [case for found in taught.values() for case in found]
assert all(keep(case) == filtering.passes_filter(case) for case in recorded)
print(f"equal on {len(recorded)} cases, of which {sum(map(keep, recorded))} are kept")
pages.show_source(filtering.passes_filter)

# %%
counts = {
    figures.method_label(method, 1): {
        "asked": len(found),
        "right": sum(bool(c.get("correct")) for c in found),
        "kept": sum(filtering.passes_filter(c) for c in found),
        "of them with a repaired error": sum(filtering.passes_filter(c) and c["execution_errors"] > 0 for c in found),
        "searches per question": round(sum(c["tool_calls"] for c in found) / len(found), 2),
        "tokens per question": round(sum(c["completion_tokens"] for c in found) / len(found)),
    }
    for method, found in taught.items()
}
yields = pd.DataFrame.from_dict(counts, orient="index")
yields

# %%
figures.bar_chart(yields[["asked", "right", "kept"]], "questions", f"{cfg.teacher} · preset {preset}",
                  alt="Bars of the questions asked, answered right, and kept, by method.")  # fmt: skip

# %% [markdown]
# Why were the others dropped? The table counts the agents' runs by stop reason and by whether the answer was right:

# %%
frame[frame["method"] != "cot"].groupby(["method", "stopped", "correct"]).size().unstack(fill_value=0)

# %% [markdown]
# Most dropped runs ended with a wrong answer. Some with a right one are dropped, too: they ran out of steps, or one of
# their steps did not parse. With the prefix these are 73 of 233, because of the turns without code.
#
# ## What we saw
#
# 1. As an agent, the teacher looks facts up instead of recalling them. Its runs can be checked step by step, and the
#    filter keeps those with a right answer.
# 2. The prefix passes on the beginning of a chain of thought, with what is right in it and what is wrong.
# 3. Table 5 above shows what the prefix does to the teacher's own accuracy. Whether it makes better *students* is
#    another question, which notebook 04 measures.
#
# The teacher of the teaching set has 1.5 billion parameters. It gets 217 of 400 training questions right as an agent,
# 109 by chain of thought; the gain is larger in mathematics. The prefix makes its first thought longer: 82 words
# instead of 17. It also makes turns without usable code more frequent: 153 of 400 runs with it have a turn whose code
# is missing or does not parse, 10 without it. So the agent with the prefix gets more answers right (233), and fewer of
# its runs are kept (160 instead of 212).
#
# ## Exercises
#
# Each has a check under it that tells you when it is solved; unsolved ones raise no error. This notebook contains one
# solution of each; `make workshop` writes copies without the solutions.
#
# ### 1 · Who made which mistake?
#
# Collect the ids of the questions that the chain of thought got right and the agent got wrong. Then read one of them
# with `pages.show_side_by_side`.

# %% tags=["exercise"]
lost = []
# solution
lost = [i for i, c in by_id["cot"].items() if c["correct"] and not by_id["agent"][i]["correct"]]
pages.show_side_by_side(by_id["cot"][lost[0]], by_id["agent"][lost[0]]) if lost else print("the agent lost none")

# %%
compared = figures.compare(by_method["cot"], by_method["agent"])
pages.check_exercise("Who made which mistake?", lambda: len(set(lost)) == len(lost) == compared["only_a"], "Compare with section 2.")

# %% [markdown]
# ### 2 · A prefix of your own
#
# Write a first thought and let the model of section 4 continue it. Does it follow?

# %% tags=["exercise"]
mine, followed = "Thought: ", None
# solution
mine = "Thought: I will search first, and compute nothing in my head."
with Sandbox(tools={"web_search": web_search}, seconds=cfg.sandbox_seconds) as box:
    agent = Agent(model, box, style="teacher", max_steps=1, **settings)
    (followed,) = agent.run([question], [mine])
print(followed.steps[0].text)

# %%
pages.check_exercise("A prefix of your own", lambda: len(mine.split()) > 4 and followed.steps[0].text.startswith(mine))

# %% [markdown]
# ### 3 · A stricter filter
#
# Keep only trajectories of the agent in which nothing went wrong on the way. How many are lost, and what would a
# student no longer learn from the rest?

# %% tags=["exercise"]
strict = taught["agent"]
# solution
strict = [c for c in taught["agent"] if filtering.passes_filter(c) and not c["execution_errors"]]
print(f"{len(strict)} of {sum(filtering.passes_filter(c) for c in taught['agent'])} are left; none of them shows how to repair an error")

# %%
row = counts[figures.method_label("agent", 1)]
pages.check_exercise("A stricter filter", lambda: len(strict) == row["kept"] - row["of them with a repaired error"])
