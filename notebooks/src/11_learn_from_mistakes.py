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
# # 11 · Learn from mistakes
#
# *A student copies its teacher and still fails two of three questions: can it learn from its own runs?*
#
# **By the end you will have shown that** a simple rule finds the step where a wrong run goes wrong, that a step which the teacher repairs, or a
# right run of the student, becomes a training example, and that the student is trained on exactly the tokens that it sampled.
#
# *Needs* nothing but the two commands of the README · *Makes* nothing that another notebook needs · *Minutes* about 4 at `smoke` on two
# CPU cores with native bf16.
#
# *To read*: 1 (5 minutes), 2 (4), 3 (4), 4 (5), 5 (3), 6 (3), 7 (3), exercises (25).
#
# The paper stops at imitation: the student is trained on its teacher's runs and never on its own mistakes. This notebook goes further. The
# ideas are from SCoRe (arXiv 2509.14257: repair of the earliest error), from expert iteration (training a model on its own right runs) and from
# SmartAD (ACL 2026 Findings: choosing the trajectories that suit the student).

# %%
import dataclasses
import random
import re
import tempfile
import zlib

import pandas as pd
from transformers import AutoTokenizer

from agentlib import Agent, LocalModel, Sandbox
from agentlib import benchmarks, cases, config, distill, evaluate, figures, improve, models, pages, rounds, runner, teach, training

# %% tags=["parameters"]
preset = "smoke"
overrides = {}
few = 4
runs = 4

# %% [markdown]
# The student comes with the project: it has 135 million parameters and was distilled from 184 recorded runs of a teacher. The live teacher of
# this notebook is smaller than the recorded one, so that a laptop can load it: it has half a billion parameters, and notebook 09 uses it, too.
# `few` is the number of questions of each kind (factual and maths), `runs` the number of times that the student answers each.

# %%
small = {"teacher": "Qwen2.5-Coder-0.5B-Instruct", "improve_questions": few, "improve_runs": runs}
cfg = config.load(preset, **small | overrides)
student = cfg.students[0]
pages.show_settings(cfg, "students", "teacher", "train_sets", "improve_questions", "improve_runs", "max_steps")

# %% [markdown]
# ## 1 · Where does it go wrong?
#
# This student answered each of 80 test questions once, and its runs are recorded. This cell loads those with a wrong answer. **Predict:** in
# what share of them did some code fail with an error, and in what share did all the code run and still give a wrong answer?

# %%
teaching = config.load("laptop", **config.IMPROVE)
condition = evaluate.Condition(student, "agent_distill", 1, teaching.benchmarks)
file = f"{evaluate.condition_run(teaching, condition).folder.name}.jsonl.xz"
_, recorded = runner.unpack_run(teach.records_folder(cfg) / "runs" / file)
wrong_recorded = [case for case in recorded if not case["correct"]]
kinds = [{"benchmark": case["benchmark"], "some code failed": any(step["failure"] for step in case["trace"])} for case in wrong_recorded]
pd.DataFrame(kinds).groupby("benchmark")["some code failed"].agg(["size", "sum"]).set_axis(["wrong runs", "some code failed"], axis=1)

# %% [markdown]
# On factual questions (`teaching-hotpot`) nearly all code runs, and the answer is still wrong. In maths (`teaching-math`) a third of the wrong
# runs have code that failed. So there are two kinds of first error, and the rule has two parts. A run goes wrong at the first step whose code
# failed. If no code failed, it goes wrong at the last step that decided something: if the last step only hands on what the step before it
# printed, that earlier step is to blame.
#
# Here is the rule by hand. It counts steps from 0. The regular expression reads what the last step gave to `final_answer`: group 2 is a text in
# quotes, group 3 anything else, such as a number or a variable.

# %%
def first_error_by_hand(case):
    failed = [place for place, step in enumerate(case["trace"]) if step["failure"]]
    if failed:
        return failed[0]
    *before, last = case["trace"]
    given = re.fullmatch(r"""final_answer\((?:(["'])(.*)\1|(.*))\)""", last["code"].strip())
    if not before or not given:
        return len(before)
    typed, named = given[2], given[3]
    printed = before[-1]["observation"].removeprefix("Observation:").strip()
    return len(before) - ((typed or named) == printed or bool(named and named.isidentifier()))

# %%
assert all(first_error_by_hand(case) == improve.first_error(case) for case in wrong_recorded)
print(f"equal on {len(wrong_recorded)} wrong runs")
pages.show_source(improve.first_error)

# %% [markdown]
# Here is one run of each kind, with the step where it goes wrong by the rule. Read them: would you blame the same step?

# %%
def with_failure(case):
    return case["trace"][improve.first_error(case)]["failure"] is not None

examples_of = {failed: next(case for case in wrong_recorded if with_failure(case) == failed) for failed in (True, False)}
for failed, case in examples_of.items():
    print(f"{'some code failed' if failed else 'all code ran'}: step {improve.first_error(case) + 1} of {len(case['trace'])} goes wrong")
pages.show_cases(list(examples_of.values()))

# %% [markdown]
# The rule is crude. A student may search for the wrong thing and then type an answer. The rule blames the answer, although the mistake was the
# search. It does not have to be right each time, because a repair is checked: if it does not turn a wrong run into a right one, it is thrown
# away.
#
# ## 2 · The student's own runs
#
# From here on, the student runs live. It must not practise on its test questions, and on its training questions it repeats what it learnt by
# heart. The project has 208 more training questions that its recorded teacher was not asked. `rounds.questions` takes the first of them, the
# same number of each kind.

# %%
questions = rounds.questions(cfg)
known = {q.id for q in benchmarks.training_questions(cfg)} | {q.id for q in benchmarks.test_questions(cfg)}
assert not known & {q.id for q in questions}
if not cfg.retriever_url:
    benchmarks.build_search(cfg)
search = benchmarks.web_search(cfg)
adapter = distill.load_or_train_preview(cfg, student, "agent_distill")
pd.Series([q.text for q in questions], name="asked").to_frame()

# %% [markdown]
# The student answers each question several times at temperature 0.7, so that the runs differ. **Predict:** how many questions have at least one
# right run?

# %%
box = Sandbox(tools={"web_search": search}, seconds=cfg.sandbox_seconds, memory_mb=cfg.sandbox_memory_mb)
model = LocalModel(student, adapter=adapter.path, max_context=cfg.context_tokens, precision=cfg.precision, source=cfg.weights)
found = list(improve.roll_out(model, box, questions, cfg, runs=range(cfg.improve_runs), model=student, method="agent_distill", n=1))
marks = pd.DataFrame({"question": one.case["id"], "run": one.case["run"] + 1, "right": "✓" if one.case["correct"] else "·"} for one in found)
marks.pivot(index="question", columns="run", values="right")

# %%
gave = rounds.summary(found)
names = {"pass_1": "runs right", "pass_k": "questions with a right run (pass@k)", "broken": "steps that failed"}
pages.show_values({name: f"{gave[key]:.0%}" for key, name in names.items()})

# %%
assert len(found) == len(questions) * cfg.improve_runs and gave["pass_1"] <= gave["pass_k"]

# %% [markdown]
# Pass@k is the share of questions with at least one right run among k. It is never below the share of right runs. The gap between the two is
# what the student can do, but not every time. This is what it can learn from itself.
#
# ## 3 · Verified repair
#
# Take the first wrong run of each question. Its steps before the first error run again in a new sandbox. The teacher reads them and writes
# the one step that went wrong. Then the *student* finishes the run. A repair is kept (`is_reasoned`) if the run is right now and its answer
# was read or computed, not guessed. **Predict:** how many of these runs become right?

# %%
wrong = {}
for one in found:
    if not one.case["correct"] and one.case["trace"]:
        wrong.setdefault(one.case["id"], one.case)
pairs = [(q, wrong[q.id]) for q in questions if q.id in wrong]
how = {"max_steps": cfg.max_steps, "step_tokens": cfg.step_tokens, "wording": cfg.wording}
with teach.open_teacher(cfg) as teacher:
    tried = list(improve.try_repairs(Agent(model, box, **how), teacher, pairs, model=student, method="agent_distill", n=1))
repaired = [one for one in tried if one.is_reasoned]
print(f"{sum(one.case['correct'] for one in tried)} of {len(tried)} runs are right now; {len(repaired)} are kept")

# %%
def changed(one):
    (place,) = one.turns
    before, now = wrong[one.case["id"]]["trace"][place]["code"], one.case["trace"][place]["code"]
    return {"question": one.case["question"], "step": place + 1, "the student's step": before, "the teacher's step": now,
            "answer": one.case["prediction"], "gold": one.case["gold"], "kept": one.is_reasoned}  # fmt: skip

pd.DataFrame(map(changed, tried)).style.hide()

# %% [markdown]
# Each row is a repair that was tried. In a kept one the teacher wrote one step, and only this step carries loss. The steps before it are the
# student's own, right or not: they are what the student will see when it gets there. Bold tokens carry loss:

# %%
tokenizer = AutoTokenizer.from_pretrained(models.fetch_tokenizer(student, cfg.weights))
for one in repaired:
    old, (place,) = wrong[one.case["id"]], one.turns
    assert one.case["correct"] and not old["correct"] and place == improve.first_error(old)
    assert [step["text"] for step in one.case["trace"][:place]] == [step["text"] for step in old["trace"][:place]]
(example,) = improve.build_examples((repaired or tried)[:1], tokenizer, cfg.max_length)
pages.show_token_mask(example, tokenizer)

# %% [markdown]
# The example above is the first repair that was kept. If none was kept, it is the first that was tried. Training uses only kept repairs.
#
# ## 4 · Expert iteration
#
# The student's right runs are training examples that no teacher had to write. At most two per question are kept: the shortest ones whose code
# differs. And a run is kept only if its answer was read or computed. Why this filter? A student that guesses "yes" and happens to be right
# would be taught to guess.

# %%
kept = improve.choose(found)
right = sum(one.case["correct"] for one in found)
print(f"{right} runs are right, {sum(one.is_reasoned for one in found)} of them by reading or computing, {len(kept)} are kept")
assert kept, "no run is kept: raise `few` or `runs` in the parameters cell"
pages.show_cases([one.case for one in sorted(kept, key=lambda one: -len(one.case["trace"]))[:4]])

# %% [markdown]
# ### The same tokens
#
# A text can be split into tokens in several ways, and a model that samples does not always split it as the tokenizer would. If the text of a
# run were tokenized again, the student could be trained on tokens that it did not choose. So each run keeps the token ids that were sampled,
# and the student is trained on these.
#
# Here is the check by hand, turn by turn. A label of -100 marks a token without loss. A trained turn ends with the tokenizer's end token. The
# sampled turn may have up to eight more tokens, because the text after a stop string (a marker that ends a turn) is cut off:

# %%
examples = improve.build_examples(kept, tokenizer, cfg.max_length)
compared = 0
for one, example in zip(kept, examples, strict=True):
    trained = [label for label in example.labels if label != -100]
    for sampled in one.tokens:
        turn, trained = trained[: trained.index(tokenizer.eos_token_id)], trained[trained.index(tokenizer.eos_token_id) + 1 :]
        shared = min(len(turn), len(sampled))
        same = next((k for k in range(shared) if turn[k] != sampled[k]), shared)
        assert len(sampled) - same <= 8, "only what follows a stop string is cut off"
        compared += same
print(f"{compared} trained tokens are the ids that were sampled, in {len(examples)} examples")

# %% [markdown]
# ### The same number of steps
#
# Training for more steps can help by itself, without new data. So the control is a student that takes the same number of steps on the teacher's
# runs alone. Each way of training is called an *arm* of the experiment. Both arms start from the base model. The six steps here show how the
# training works; they are too few to show which arm is better.

# %%
taught = rounds.lessons(cfg, "teacher")[:8]
settings = dataclasses.replace(distill.training_settings(cfg), steps=6)
losses = {}
for arm, lessons in {"teacher's runs": taught, "teacher's and own runs": taught + kept}.items():
    with tempfile.TemporaryDirectory() as folder:
        built = improve.build_examples(lessons, tokenizer, cfg.max_length)
        losses[arm] = [step["loss"] for step in training.fine_tune(student, built, settings, folder).losses]
assert {len(curve) for curve in losses.values()} == {6}
pd.DataFrame(losses, index=pd.RangeIndex(1, 7, name="step")).round(2)

# %% [markdown]
# One round has three parts: sample runs of the student, choose among them, and train from the base model on the teacher's runs and all chosen
# runs so far. The next round samples runs of the student that this training made. The experiment plans three rounds, with 240 steps for every
# arm.
#
# ## 5 · Which of several right runs?
#
# If a question has several right runs, one can be chosen: the shortest, a random one, or the one that is most likely under the *untrained*
# student (lowest mean negative log-likelihood, in nats per token: the loss of notebook 03). A likely text is close to how the model writes
# anyway. Here the runs are the student's own; the experiment chooses among several runs of a teacher. **Predict:** is the likeliest run often
# the shortest?

# %%
several = [one for one in found if one.is_reasoned]
built = improve.build_examples(several, tokenizer, cfg.max_length)
nats = training.likelihoods(student, built, cfg.precision, cfg.weights)
surprise = {int(name.partition(":")[0]): likelihood.per_token for name, likelihood in nats.items()}
place_of = {id(one.case): place for place, one in enumerate(several)}
rows = {}
for rule in rounds.RULES:
    chosen = improve.select([one.case for one in several], rule, surprise)
    tokens = sum(case["completion_tokens"] for case in chosen) / len(chosen)
    rows[rule] = {"runs": len(chosen), "mean tokens": tokens, "mean nats": sum(surprise[place_of[id(c)]] for c in chosen) / len(chosen)}
pd.DataFrame.from_dict(rows, orient="index").round(2)

# %%
assert min(row["mean tokens"] for row in rows.values()) == rows["shortest"]["mean tokens"]
assert min(row["mean nats"] for row in rows.values()) == rows["likeliest"]["mean nats"]

# %% [markdown]
# The table has one chosen run per question, so it rests on a handful of runs: it shows how the rules work, not which one is best.
#
# ## 6 · A search that fails
#
# Tools fail. `improve.failing` answers a fixed share of all queries with "No passage matches". These are the same queries each time, so that
# all students meet the same failures: a checksum of the query (`zlib.crc32`) decides. By hand, on the queries that the student wrote above:

# %%
queries = sorted({q for one in found for step in one.case["trace"] for q in re.findall(r'web_search\("([^"]*)"\)', step["code"] or "")})
lost = improve.failing(search, 0.1)
fails = {query: lost(query).startswith("No passage matches") for query in queries}
for query, failed in fails.items():
    assert failed == (zlib.crc32(f"42 {query}".encode()) / 2**32 < 0.1)
print(f"{sum(fails.values())} of {len(fails)} queries would find nothing")

# %% [markdown]
# In the experiment one query in ten finds nothing. Here no query finds anything, so that one run shows what the student does then.
# **Predict:** does it try other words, or does it answer from memory?

# %%
factual = next(q for q in questions if q.domain == "factual")
nothing = {"web_search": improve.failing(search, 1.0)}
with Sandbox(tools=nothing, seconds=cfg.sandbox_seconds, memory_mb=cfg.sandbox_memory_mb) as broken:
    (run,) = Agent(model, broken, **how).run([factual])
pages.show_case(cases.agent_case(factual, run, model=student, method="agent_distill", n=1))

# %% [markdown]
# In the committed run the student did not try other words: it answered from memory. The answer is right, but the filter of section 4 would drop
# this run, because the answer was neither read nor computed.
#
# ## 7 · Did it help?
#
# The questions of the teaching set are made from templates. The experiment trains one student for each arm, all for the same number of steps,
# and tests them in three ways: on questions of templates that were in the training, on questions of new templates (and on Bamboogle, if its
# slice of Wikipedia is on this machine), and on factual questions where one search in ten finds nothing. What would count as help was written
# down [before any arm was tested](../figures/records/improve/plan.md). **Predict:** which arm wins on known templates? Does the same arm win on
# new ones?

# %%
try:
    answers, yields = figures.read_arms(cfg)
except FileNotFoundError:
    answers, yields = pd.DataFrame(), []
drawn = figures.arm_chart(answers, f"experiment improve · {student}") if len(answers) else None
if drawn is None:
    print("No arm is tested yet, so there is no figure; `python tools/experiment/pieces.py --experiment improve --pack` trains and tests them.")
drawn

# %% [markdown]
# Each arm against the control on the same questions: the difference in points with its 95 % interval. *p* allows for testing all rows at once.

# %%
figures.arm_table(answers) if drawn else figures.NOT_RUN

# %% [markdown]
# This table shows the runs that each round gave, and how many of them were kept. If a round adds few new questions, the next one has little to
# learn from.

# %%
figures.format_numbers(figures.round_table(yields)) if yields else print("No rounds are recorded yet.")

# %%
for row in yields:
    if row["part"] == "repairs":
        print(f"One step of the teacher was tried in {row['runs']} wrong runs: {row['right']} became right, {row['kept']} were kept.")

# %%
if drawn:
    assert set(answers["arm"]) <= set(rounds.ARMS) and len(yields) >= answers["arm"].nunique()
    for (test, arm), marks in answers.groupby(["test", "arm"], sort=False)["correct"]:
        print(f"{test}, {rounds.ARMS[arm]}: {marks.sum()} of {len(marks)} right")

# %% [markdown]
# The student that also learnt from its own right runs is better where it practised: on test questions of known templates it gets 74 of 159 right,
# the control 57. On templates that are new to both, it gets 8 of 81 right and the control 11, a difference that may be chance. So it does more
# reliably what it could already do now and then; that anything carries over to new kinds of questions is not seen. Searches that fail hurt neither
# student: on the factual questions of known templates the control gets 23 of 79 right with one search in ten failing and 22 without, the other
# student 32 and 30.
#
# The student that also learnt from 37 repaired steps gets 62 of 159 right on known templates, 8 of 81 on new ones, and 25 of 79 when searches
# fail. None of the three differs from the control by more than chance. There are fewer repairs than own runs, since a step of the teacher turns
# a wrong run into a right one in 49 of 123 tries.
#
# The better student was then rolled out again, on the same practice questions: in round 2, 50% of its runs are right, after 43% in round 1. But
# four of its runs solve hardly more questions than eight did before (103 of 160 after 99), so there is little new to learn from. The student of
# round 2 gets 66 of 159 right on known templates, 10 of 81 on new ones, and 24 of 79 when searches fail: no better than that of round 1, and
# not more than chance better than the control.
#
# This is one training of each arm; another one could differ by several points. Not tested yet: round 3, the choice among the teacher's runs,
# and Bamboogle.

# %% [markdown]
# ## What we saw
#
# 1. A rule of two parts points at the step where a wrong run goes wrong; built by hand, it agrees with the package's on every recorded wrong
#    run.
# 2. Repairs and the student's own runs are kept only after a check: each kept run is right, and its answer was read or computed.
# 3. The student is trained on the token ids that it sampled, and both arms took the same number of steps, so that they can be compared.
#
# This page's few questions do not show which arm helps, or by how much. Section 7 does, for the arms that are tested so far: own right runs help
# on known kinds of questions, and not on new ones; that repaired steps or a second round help is not seen.
#
# ## Exercises
#
# Each has a check under it that tells you when it is solved; unsolved ones raise no error. One way to solve them is in this notebook;
# `make workshop` writes copies without the solutions.
#
# ### 1 · Find the first error
#
# Below are three recorded wrong runs. For each, write down the number of the step where it goes wrong by the rule of section 1, counted from 1.
# For which of them would you have chosen another step?

# %%
ids = ["teaching-math-dice-01", "teaching-math-divisors-01", "teaching-hotpot-further_north-01"]
three = [case for name in ids for case in recorded if case["id"] == name]
pages.show_cases(three)

# %% tags=["exercise"]
goes_wrong_at = {name: 0 for name in ids}
# solution
goes_wrong_at = {
    "teaching-math-dice-01": 1,  # its code fails
    "teaching-math-divisors-01": 2,  # 7 occurs twice and 2 once; the last step only hands on the product
    "teaching-hotpot-further_north-01": 2,  # both latitudes were read; the choice between them is wrong
}

# %%
pages.check_exercise("Find the first error", lambda: goes_wrong_at == {case["id"]: improve.first_error(case) + 1 for case in three},
                     "Did any code fail? If not, what did the last step do with what was there?")  # fmt: skip

# %% [markdown]
# ### 2 · Write a filter
#
# A run can be right by luck. Which city is larger, A or B? A student that always says "A" is right half of the time. Write `is_echo(case)`: it
# is true if the question already contains the answer, and no observation before the last step contains it.

# %% tags=["exercise"]
def is_echo(case):
    return False
# solution
def is_echo(case):
    answer = str(case["prediction"])
    seen = "".join(step["observation"] for step in case["trace"][:-1])
    return answer.lower() in case["question"].lower() and answer.lower() not in seen.lower()

# %%
def run_of(answer, *seen):
    steps = [{"observation": text} for text in (*seen, "")]
    return {"question": "Which city has more inhabitants, Peshawar or Daegu?", "prediction": answer, "trace": steps}

echoes = {is_echo(run_of("Peshawar")), is_echo(run_of("peshawar", "No passage matches."))}
fair = {is_echo(run_of("Peshawar", "Peshawar has 1,218,773 inhabitants.", "Daegu has 2,566,540")), is_echo(run_of("Lahore")), is_echo(run_of(7))}
pages.check_exercise("Write a filter", lambda: echoes == {True} and fair == {False}, "What did the student see before its last step?")

# %% [markdown]
# ### 3 · Which round stops helping?
#
# Below are made-up results of a control and three rounds on 200 questions, with accuracies of about 30, 42, 49 and 50 per cent. Write
# `last_useful_round(results)`: the number of the last round that beats the round before it by more than chance (p below 0.05).
# `figures.compare(before, after)` gives the `difference` and its `p`. Before you run it: which round will it be?

# %%
draw = random.Random(3)
levels = [draw.random() for _ in range(200)]
made_up = [
    pd.DataFrame({"id": range(200), "benchmark": "made up", "correct": [level < share for level in levels]})
    for share in (0.30, 0.42, 0.49, 0.50)
]  # fmt: skip

# %% tags=["exercise"]
def last_useful_round(results):
    return 0
# solution
def last_useful_round(results):
    useful = 0
    for number in range(1, len(results)):
        found = figures.compare(results[number - 1], results[number])
        if found["difference"] > 0 and found["p"] < 0.05:
            useful = number
    return useful

print(last_useful_round(made_up))

# %%
pages.check_exercise("Which round stops helping?", lambda: last_useful_round(made_up) == 2 and last_useful_round(made_up[:1]) == 0
                     and last_useful_round([*made_up, made_up[0]]) == 2, "Compare each round with the one before it.")  # fmt: skip

# %% [markdown]
# With more time: for the runs in which all code ran, let the teacher repair the *last* step instead of the first error. Are more repairs
# kept? Then run the experiment with your own filter.

# %%
box.close()
assert {one.case["method"] for one in found} == {"agent_distill"}
