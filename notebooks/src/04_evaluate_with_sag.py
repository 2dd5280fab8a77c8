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
# # 04 · Evaluate with self-consistent action generation
#
# *A small model tries eight actions. If most of them have the same outcome, is it the right one?*
#
# **By the end you will have shown that** methods can be compared question by question, and that
# sampling several actions, running them all and keeping the action that most candidates agree on repairs many failing steps.
#
# *Needs* notebooks 01 to 03 · *Makes* one record per question and method · *Minutes* about 5 at `smoke` on two CPU
# cores with native bf16, hours at `laptop` (resumable), hours of GPUs at `paper`.
#
# *To read*: 1 (12 minutes), 2 (2), 3 (5), 4 (2), 5 (3), 6 (10), 7 (1), 8 (1), exercises (35).
#
# The outputs *shown* are those of `smoke`: two students of the teaching set answered while the page was made, and the
# answers of the other methods to the same questions are recorded. The paper's own benchmarks are in 05b.

# %%
import re
from collections import Counter

import pandas as pd

from agentlib import SAG, Agent, LocalModel, Sandbox
from agentlib import benchmarks, cases, config, distill, evaluate, figures, pages, records, runner, sag, score

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %%
cfg = config.load(preset, **overrides)
names = ["students", "benchmarks", "questions", "samples", "sample_counts", "temperature", "top_p", "vote"]
pages.show_settings(cfg, *names)

# %% [markdown]
# ## 1 · One step of self-consistent action generation
#
# A small model often writes code that does not run. Self-consistent action generation (SAG, §3.2) samples *N* actions
# for a step, runs each from the same state, drops those that fail, groups the rest by outcome, and keeps one of the
# largest group. Here is one step of the smallest distilled student, with one candidate per row. If the largest groups
# have the same size, the vote keeps the one with the shortest candidate.

# %%
web_search = benchmarks.web_search(cfg)
box = Sandbox(tools={"web_search": web_search}, seconds=cfg.sandbox_seconds, memory_mb=cfg.sandbox_memory_mb)
student = cfg.students[0]
adapter = distill.load_or_train_preview(cfg, student, "agent_distill_ftp", web_search)
model = LocalModel(student, adapter=adapter.path, max_context=cfg.context_tokens, precision=cfg.precision, source=cfg.weights)

# %%
question = next(q for q in benchmarks.test_questions(cfg) if q.domain == "math")
sampled = {}
for temperature in (0.2, 0.8, 1.2):
    setting = SAG(n=8, temperature=temperature, top_p=cfg.top_p)
    agent = Agent(model, box, max_steps=1, sag=setting, step_tokens=128, seed=cfg.seed)
    (sampled[temperature],) = agent.run([question])
steps = {t: cases.agent_case(question, one, model=student)["trace"][0] for t, one in sampled.items()}
step = steps[0.8]
print(f"{question.text}\ngold: {question.answer}")
pages.show_vote(step)

# %% [markdown]
# In the output above, three of the eight candidates fail, and no two of the other five agree. So all groups have one
# candidate, the shortest one is kept, and none of the five is right. In a live notebook, change *N* and the temperature and watch the vote change:

# %%
pages.explore_vote(steps)

# %% [markdown]
# ### Where the vote comes from
#
# An action *a* is a text; what it does is its outcome *o*. Many texts have the same outcome: `6 * 7`, `7 * 6`, a loop
# that adds. The model's probability of an outcome is the sum over all texts that lead to it, and the vote picks the
# outcome with the largest sum. It estimates the sums from *N* samples and leaves out those that fail:
#
# ```text
# p(o | h)  =  Σ over actions a whose outcome is o:   pθ(a | h)          here h is all that came before the step
# kept      =  the o that most of o₁ … o_N are equal to
# ```
#
# Greedy decoding instead picks, roughly, the most likely *text*. If the probability of the right outcome is spread
# over many ways to write it, the most likely single text can be a wrong one.
#
# Why should agreement be a sign of being right? There are many ways to be wrong and usually one way to be right, so two wrong samples
# seldom agree. If the right outcome is the most probable one, even by a little, then with growing *N* the largest group is the right one
# more and more often. Dropping failures needs no such argument: code that raised an error is known to be bad.
#
# The same argument shows when the vote fails. If the model prefers a wrong outcome, more samples only make that
# outcome more certain: a vote cures noise, not a wrong plan. If the samples are copies of each other, as at a low
# temperature, eight of them are the evidence of one. Equal outcomes need not mean equal actions: two actions that
# print nothing agree, as in the vote above, and that is no sign of being right. And different outcomes need not mean
# that one is wrong: two good searches in different words find different passages. The first step of a factual
# question can then have as many groups as candidates, and the rule for ties decides.
#
# ### The vote by hand
#
# Ties go to the group with the shortest candidate. So the function reads the candidates from the shortest to the longest, and the first
# group of the largest size wins. If all failed, the first sample is kept.

# %%
def vote(outcomes, lengths):
    agreeing = {}
    for index in sorted(range(len(outcomes)), key=lambda index: lengths[index]):
        outcome = outcomes[index]
        if outcome.failure is not None:
            continue
        shown = [re.sub(" at 0x[0-9a-f]+", "", text).strip() for text in (outcome.stdout, outcome.value)]  # no addresses
        key = sag.answer_key(outcome.answer, question.domain) if outcome.is_final else tuple(shown)
        agreeing.setdefault(key, []).append(index)
    largest = max(agreeing.values(), key=len, default=[0])  # `max` keeps the first of those of one size
    return largest[0]

# %% [markdown]
# The cell tests the function on the three votes of the model above, and on five candidates whose vote is a tie: two
# give 42, two give 13, and one fails. Before you look: which of the five is kept?

# %%
candidates = ["final_answer(6 * 7)", "final_answer('42')", "final_answer(13)", "print(6 * 7); final_answer(6 + 7)", "final_answer(six)"]
with box.session() as session:
    outcomes = session.run_candidates(candidates)
lengths = [len(code) for code in candidates]
tried = [[candidate.outcome for candidate in one.steps[0].candidates] for one in sampled.values()]
tokens = [[candidate.tokens for candidate in one.steps[0].candidates] for one in sampled.values()]
for voted, length in zip([*tried, outcomes], [*tokens, lengths], strict=True):
    groups = sag.groups(voted, lengths=length, domain=question.domain)
    assert vote(voted, length) == sag.winner(groups, length)
print("of the tie, the vote keeps", candidates[vote(outcomes, lengths)])
pages.show_source(sag.groups, sag.rank, sag.winner)

# %% [markdown]
# Two groups have two candidates each, and `final_answer(13)` is the shortest of the four, so a wrong answer wins the
# tie.
#
# The reference code votes on printed text alone. So it puts candidates into one group although they call
# `final_answer` with different values, and it separates from them a candidate that prints something first. The table
# has the groups of the same five candidates, by our vote (`outcome`) and by the reference code's (`as_published`); a
# candidate that failed is in no group:

# %%
groups = {vote: [None if g is None else g + 1 for g in sag.groups(outcomes, vote)] for vote in ("outcome", "as_published")}
figures.format_numbers(pd.DataFrame(groups, index=pd.Index(candidates, name="candidate")))

# %% [markdown]
# ## 2 · Every method on every benchmark
#
# Each row of the plan is one method with one number of samples. Decoding is greedy, except where *n* > 1. A case is
# written to disk as soon as it is finished, so an interrupted run resumes where it stopped, and a run with more
# questions reuses the answers it has. At `smoke` the agent student and the CoT student answer now; the answers of all
# other methods to the same questions are recorded (setting `live_methods`). At `laptop` the same students answer
# questions of the paper's eight benchmarks, greedily.

# %%
del model
conditions = [condition for name in cfg.students for condition in evaluate.plan(cfg, name)]
runner.take_recorded(cfg)

def left(condition):
    return evaluate.condition_run(cfg, condition).todo(evaluate.questions_of(cfg, condition))

rows = [(figures.size_label(a.student), a.label, a.n, len(a.benchmarks), "now" if left(a) else "before") for a in conditions]
pd.DataFrame(rows, columns=["student", "method", "n", "benchmarks", "answered"]).set_index(["student", "method"])

# %%
found = []
for name in cfg.students:
    found += evaluate.evaluate_student(cfg, name, box=box, search=web_search)
file = evaluate.publish(cfg, found)
frame = figures.to_frame(found)
print(f"{len(frame)} cases")

# %%
asked = {name: len(benchmarks.load(name, cfg.questions)) for name in cfg.benchmarks}
counts = frame.groupby(["method", "n", "benchmark"])["id"].nunique()
assert all(count == asked[name] for (_, _, name), count in counts.items())

# %% [markdown]
# ## 3 · Table 2 at our size
#
# Accuracy in per cent, with a 95 % Wilson interval and the number of questions. With few questions an interval is
# wide. Before you look: which row will be the best, and by how much will agents beat chains of thought?

# %%
figures.table2(frame)

# %% [markdown]
# Here are the smallest student's greedy rows as a picture:

# %%
greedy = frame[(frame["model"] == cfg.students[0]) & (frame["n"] == 1)]
figures.accuracy_bars(greedy, f"{cfg.students[0]} · preset {preset}")

# %% [markdown]
# What does a question cost, and would it be simpler to prompt the teacher? The table has the smallest student's
# accuracy beside its cost per question. At `paper` the teacher is asked the test questions, too,
# and has rows of its own; at `smoke` and `laptop` it was not yet. Seconds depend on the machine that answered; the seconds of a batch are
# divided evenly among its questions.

# %%
tested = evaluate.evaluate_teacher(cfg, box=box, search=web_search)
small = [c for c in found if c["model"] == student and c["method"] in ("cot_distill", "agent_distill")]
costs = figures.cost_table(figures.to_frame(tested + small))
figures.format_numbers(figures.label_rows(costs))

# %% [markdown]
# Averages hide individual questions. On how many of the same questions was only one of two methods right? The table gives both accuracies
# in per cent, their difference with its 95 % interval (from a paired bootstrap over questions, as in all paired comparisons here), and the
# *p* of McNemar's exact test.

# %%
pairs = {
    "CoT distillation → agent distillation": (("cot_distill", 1), ("agent_distill", 1)),
    "agent prompting → agent distillation": (("agent", 1), ("agent_distill", 1)),
    "agent distillation → + FTP": (("agent_distill", 1), ("agent_distill_ftp", 1)),
    "+ FTP → + FTP + SAG": (("agent_distill_ftp", 1), ("agent_distill_ftp", cfg.samples)),
}
conditions = dict(tuple(frame.groupby(["model", "method", "n"])))
compared = {
    (figures.size_label(name), pair): figures.compare(conditions[name, *a], conditions[name, *b])
    for name in cfg.students for pair, (a, b) in pairs.items()
}  # fmt: skip
figures.comparison_table(compared)

# %% [markdown]
# ## 4 · What SAG repairs
#
# The table has the share of questions with at least one step whose *kept* action failed to parse or to run, in per
# cent. Before you look: by how much does a vote of eight lower it, and will accuracy rise by as much?

# %%
broken = figures.label_rows(figures.code_error_rates(frame))
figures.format_numbers(broken)

# %%
figures.bar_chart(broken.loc[figures.size_label(student), ["parse", "execution"]], "questions (%)", f"{student} · preset {preset}",
                  alt="Bars of the share of questions with a step that failed to parse or to run, by method.")  # fmt: skip

# %% [markdown]
# The next table counts what the vote changed, in questions. Of those with *broken* code by greedy decoding, how many
# does the vote *repair*, and how many of the repaired are *then right*? In how many is code *newly broken*? The last
# two columns are about all questions: *lost* were right by greedy decoding and are wrong with the vote, *won* are the
# opposite.

# %%
figures.label_rows(figures.sag_ledger(frame))

# %% [markdown]
# The vote repairs most of the broken code, but few of the repaired answers are then right. A repaired step only gives
# the plan another chance, and the plan is still the same student's.
#
# ## 5 · The same answers, graded by other rules
#
# Does a difference from the paper come from the models or from the grading? Here the same answers are graded again:
# *exact* compares the text, *as_published* uses the reference code's rules for maths (it accepts numbers within a
# ten-thousandth, but also numbers that are off by a factor of a hundred, and takes gold answers as printed). With
# `judge_server` set, an LLM also judges factual answers, as GPT-4o-mini does in the paper. Shares are in per cent;
# *cases* is the number of answers. Rows in which all gradings agree are left out.

# %%
judge = score.open_judge(cfg, cfg.runs / "judge.jsonl")
graded = score.regrade(found, judge)
figures.format_numbers(figures.label_rows(score.summarise_grades(graded, differing=True)))

# %%
disputed = score.select_disagreements(graded)
print(f"{len(disputed)} of {len(graded)} cases are graded differently")

# %% [markdown]
# @GRADES@
#
# ## 6 · Read a few
#
# Numbers say how often; transcripts say why. A chain of thought and a distilled agent on one question, side by side:

# %%
distilled = [c for c in found if c["method"] == "agent_distill_ftp" and c["model"] == student]
right, wrong = [c for c in distilled if c["correct"]], [c for c in distilled if not c["correct"]]
chosen = (right or wrong)[0]["id"]
answers = {(c["method"], c["n"]): c for c in found if (c["id"], c["model"]) == (chosen, student)}
pages.show_side_by_side(answers["cot_distill", 1], answers["agent_distill_ftp", 1])

# %% [markdown]
# Here is the same question, answered by every method. Click an answer, then one of its steps. Where several actions
# were sampled, a step shows all of them.

# %%
pages.show_cases(list(answers.values()))

# %% [markdown]
# Here is a question that the distilled agent got wrong. Which thought contains the first mistake?

# %%
pages.show_steps(wrong[0]) if wrong else print("none wrong in this run")

# %% [markdown]
# In the output above, the search finds the country, but the last thought names a city that no passage mentions.
#
# ### A vote that helped, and one that did not
#
# A rule chooses the next two votes. In the first, a failing candidate and a wrong minority lose, and the answer was
# computed or read rather than recalled. In the second, greedy decoding gave the right answer, and the vote replaces
# it with a wrong one:

# %%
shown = found if any(case["n"] > 1 for case in found) else runner.recorded_answers(cfg)  # at `laptop` none is sampled
votes = figures.select_votes(shown)
case, step = votes["helped"]
print(f"{case['question']}\ngold: {case['gold']} · answer: {case['prediction']} · {'right' if case['correct'] else 'wrong'}")
pages.show_vote(step)

# %%
case, step = votes.get("failed", (None, None))
if case:
    print(f"{case['question']}\ngold: {case['gold']} · answer: {case['prediction']} · {'right' if case['correct'] else 'wrong'}")
pages.show_vote(step) if case else print("no vote of this run lost a right answer")

# %% [markdown]
# Candidates are samples of one model. If its plan is wrong, most candidates are wrong in the same way, and their
# agreement says only how probable that plan is.
#
# In a live notebook, menus choose the student, question and method, and a slider the step:

# %%
pages.browse_cases([c for c in found if c["id"] in {d["id"] for d in distilled[:40]}])

# %% [markdown]
# ## 7 · For the diagrams
#
# Figures 2 and 3 of the paper are drawings of its ideas. Notebook 05 draws ours from real cases: one question
# answered by a CoT student and by an agent, one first-thought prefix of the teacher, and one vote. A rule chooses
# them. It prefers a question that only the agent gets right, and a vote with a failure or a disagreement in it.

# %%
chosen = figures.select_examples(cfg, shown) | {"note": "" if shown is found else "examples of the teaching set"}
records.write_json(cfg.records / "examples.json", chosen)
print("Fig. 2:", chosen["pair"]["cot"]["question"])
print("Fig. 3:", chosen["prefix"]["question"])

# %% [markdown]
# ## 8 · One setting at a time
#
# For the smallest student, one setting at a time is varied: the temperature of SAG, its seed, the kind of
# fine-tuning, and the number of trajectories (Tables 6 to 8, and one that is not in the paper). Missing adapters are
# trained here. At `smoke` and `laptop` nothing is varied. The numbers below count the answers; notebook 05b has the
# tables.

# %%
varied = runner.run_sweeps(cfg, found, box=box, search=web_search)
if varied:
    runner.publish_sweeps(cfg, varied)
pages.show_values({f"cases of {name}": count for name, count in Counter(case["setting"] for case in varied).items()})

# %% [markdown]
# ## What we saw
#
# 1. Table 2 compares prompting, distillation, retrieval, first thoughts and voting on the same questions, with the
#    uncertainty that so few questions leave.
# 2. A vote over outcomes drops code that fails. It cannot make a plan better than those that were sampled: here it
#    repairs 19 of 29 answers with broken code, and 1 of the repaired is then right.
# 3. The questions that only one side got right decide whether a method is better. Averages hide which questions these
#    are.
#
# With 40 questions of each of the two parts, the student that acts beats the one that recites. In mathematics, where a
# question needs a computation, reciting gets nothing right. Voting repairs most failing steps and hardly changes
# accuracy. The student whose teacher had the first-thought prefix gets fewer questions right than the one whose teacher
# had none, but 80 questions cannot tell whether that is more than chance. About a third of the questions are out of the
# training's domain, of kinds that the training data did not contain; notebook 11 counts these apart.
#
# ## Exercises
#
# Each has a check under it that tells you when it is solved; unsolved ones raise no error. This notebook contains one
# solution of each; `make workshop` writes copies without the solutions.
#
# ### 1 · Temperature and disagreement
#
# How many different outcomes did the vote of section 1 find at each temperature? (A failed candidate has none.)

# %% tags=["exercise"]
distinct = dict.fromkeys(steps, 0)
# solution
distinct = {t: len({c["group"] for c in s["candidates"] if c["group"] is not None}) for t, s in steps.items()}
pages.show_values({f"temperature {t}": f"{count} outcomes" for t, count in distinct.items()})

# %%
pages.check_exercise(
    "Temperature and disagreement",
    lambda: all(set(range(distinct[t])) == {c["group"] for c in s["candidates"]} - {None} for t, s in steps.items()),
)

# %% [markdown]
# ### 2 · An outcome key of your own
#
# The vote compares final answers as values, by `sag.answer_key`. Write a key of your own. It must be equal for
# *3.14159* and *3.1416*, and for *Lima.* and *lima*, but differ for two different names and for numbers that differ
# by 0.01 or more.

# %% tags=["exercise"]
def my_key(answer):
    return str(answer)
# solution
def my_key(answer):
    try:
        return round(float(answer), 3)
    except (TypeError, ValueError):
        return sag.answer_key(answer)

# %%
same, different = [("3.14159", 3.1416), ("Lima.", "lima"), ("7", 7)], ["Lima", "Quito", 3, 4, 3.01, 69782, 69783]
pages.check_exercise("An outcome key of your own", lambda: all(my_key(a) == my_key(b) for a, b in same) and len(
    set(map(my_key, different))) == len(different))  # fmt: skip

# %% [markdown]
# ### 3 · Break the vote
#
# The question is *What is 6 times 7?* Write four actions of which two give the right answer and none fails, and let the vote keep a
# wrong one. (Ties go to the group with the shortest candidate.)

# %% tags=["exercise"]
rigged = ["final_answer(6 * 7)", "final_answer(42)", "final_answer(13)", "final_answer(6 + 7)"]
# solution
rigged = ["product = 6 * 7\nfinal_answer(product)", "print(6 * 7)\nfinal_answer(42)", "final_answer(13)", "final_answer(6 + 7)"]

# %%
def kept_answer(actions):
    with box.session() as session:
        tried = session.run_candidates(actions)
    lengths = [len(code) for code in actions]
    right = sum(o.failure is None and o.answer == 42 for o in tried)
    return right, all(o.is_final for o in tried), tried[sag.winner(sag.groups(tried, lengths=lengths, domain="math"), lengths)].answer

def broken_vote(actions):
    right, finished, kept = kept_answer(actions)
    return len(actions) == 4 and right == 2 and finished and kept != 42

pages.check_exercise("Break the vote", lambda: broken_vote(rigged), "Two against two is a tie: who is the shortest?")

# %% [markdown]
# ### 4 · Accuracy against N
#
# Recorded candidates can be voted on again: `pages.revote(step, n)` returns the step as its first `n` candidates
# would have decided it. The votes below are the last ones on maths questions, in which a student gave its answer.
# What share of the kept candidates is right, at each N of `counts`? (`score.grade(answer, gold, "math").correct`; an
# outcome reads `final answer: 42`.)

# %%
votes = [
    (case["gold"], step) for case in found for step in case.get("trace", [])
    if case["domain"] == "math" and step["final"] and len(step.get("candidates", [])) == cfg.samples
    and all(candidate["failed"] != "dropped" for candidate in step["candidates"])
]
counts = [n for n in (1, 2, 4, 8) if n <= cfg.samples]
print(f"{len(votes)} votes")

# %% tags=["exercise"]
right_at = dict.fromkeys(counts, 0.0)
# solution
def kept_is_right(gold, step, n):
    voted = pages.revote(step, n)
    words = voted["candidates"][voted["chosen"]]["outcome"]
    return words.startswith("final answer: ") and score.grade(words.removeprefix("final answer: "), gold, "math").correct

right_at = {n: sum(kept_is_right(*vote, n) for vote in votes) / max(1, len(votes)) for n in right_at}
pages.show_values({f"N = {n}": f"{share:.0%}" for n, share in right_at.items()})

# %%
def share(n):
    kept = [(gold, pages.revote(step, n)) for gold, step in votes]
    words = [(gold, voted["candidates"][voted["chosen"]]["outcome"]) for gold, voted in kept]
    right = [score.grade(text[14:], gold, "math").correct for gold, text in words if text.startswith("final answer: ")]
    return sum(right) / max(1, len(votes))

pages.check_exercise("Accuracy against N", lambda: votes and all(abs(right_at[n] - share(n)) < 1e-9 for n in counts),
                     "Vote with the first N only.")  # fmt: skip

# %%
box.close()
