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
# # 00 · Meet the agent
#
# *Can a model that is too small to know many facts answer a factual question?*
#
# **By the end you will have shown that** a model of 135 million parameters, which runs on any laptop, looks up what
# it does not know, because it was trained on fewer than two hundred runs of a larger model that does so.
#
# *Needs* nothing but the two commands of the README · *Makes* the download cache and a small search index · *Minutes*
# about 1 on two CPU cores with native bf16, after the first downloads (190 MB).
#
# *To read*: 1 (2 minutes), 2 (3), 3 (1), 4 (1), 5 (2), 6 (5), 7 (5), 8 (3), exercises (15).

# %%
import pandas as pd

from agentlib import SAG, Agent, LocalModel, Question, Sandbox
from agentlib import agent, benchmarks, cases, config, cot, distill, models, pages, prompts

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %% [markdown]
# Every setting of the project lives in one frozen `Config`. A preset fills it, and `overrides` changes single values
# by name. A misspelt name raises an error that suggests the nearest existing one. The student of this page comes with the project and belongs
# to `smoke`. So `smoke` is loaded here, also when another preset is run: those have no student before notebook 03 has trained one.

# %%
cfg = config.load("smoke", **(overrides if preset == "smoke" else {}))
pages.show_settings(cfg, "preset", "students", "benchmarks", "corpus", "max_steps", "temperature")

# %% [markdown]
# ## 1 · Wake it up
#
# Three things make an agent: a model, something to act with, and a place where it may act. The model is the smallest
# student with an adapter, a small set of extra weights. Notebook 03 trains such adapters, and this one comes with the
# repository. It acts with Python and with a search in a small encyclopedia (notebook 01 builds the index by hand). It
# acts in a sandbox, because nobody should run code from a language model without protection.

# %%
student = cfg.students[0]
if not cfg.retriever_url:
    benchmarks.build_search(cfg)
web_search = benchmarks.web_search(cfg)
adapters = {m: distill.load_or_train_preview(cfg, student, m, web_search).path for m in ("agent_distill", "cot_distill")}
model = LocalModel(student, max_context=cfg.context_tokens, precision=cfg.precision, source=cfg.weights)
limits = {"seconds": cfg.sandbox_seconds, "memory_mb": cfg.sandbox_memory_mb}
box, without_search = Sandbox(tools={"web_search": web_search}, **limits), Sandbox(**limits)
known = {q.text: q for q in benchmarks.test_questions(cfg)}
print(f"{student}: {models.find_model(student).parameters} million parameters, {model.precision} on {model.device}")

# %% [markdown]
# This function asks the model a question and draws the run as it happens. It has three switches: whether the adapter
# is on (`trained`), whether the model may search (`search`), and how many actions it tries in each step (`n`, section
# 5).

# %%
def ask(text, trained=True, search=True, n=1, draw=None):
    question = known.get(text) or Question("yours", "your question", text, "", "factual")
    model.use(adapters["agent_distill"] if trained else None)
    vote = SAG(n=n, temperature=cfg.temperature, top_p=cfg.top_p) if n > 1 else None
    settings = {"max_steps": cfg.max_steps, "step_tokens": cfg.step_tokens, "seed": cfg.seed}
    acting = Agent(model, box if search else without_search, sag=vote, **settings)
    labels = {"model": student, "method": "agent_distill" if trained else "agent", "n": n}
    draw = draw or pages.draw_live()
    (run,) = acting.run([question], watch=lambda so_far: draw(cases.agent_case(question, so_far, **labels)))
    draw(case := cases.agent_case(question, run, **labels))
    return case

# %% [markdown]
# ## 2 · One question, two students
#
# The question needs two facts: in which country a city lies, and something about that country. What do you expect of
# a model that is a thousand times smaller than the ones you may know: does it look up the first fact, the second,
# both? (This student gets this question right, but fails on most questions of this kind. Notebook 04 counts.)

# %%
question = "What is the area, in square kilometres, of the country where the city of Bandung is located?"
known.setdefault(question, Question("example", "an example", question, "1919440", "factual"))
acted = ask(question)

# %% [markdown]
# The usual way to teach a small model to reason is different: train it on the teacher's chains of thought (CoT), its
# reasoning in words only. Such a student has learnt to sound like its teacher. Does it know what its teacher knows?

# %%
model.use(adapters["cot_distill"])
(chain,) = cot.generate_cot(model, [known[question]], max_new_tokens=cfg.cot_tokens, wording=cfg.wording)
recited = cases.cot_case(known[question], chain, model=student, method="cot_distill", n=1)
pages.show_side_by_side(recited, acted)

# %% [markdown]
# One question proves nothing. Notebook 04 asks both students the same questions and counts. But the difference in
# kind is visible here. The CoT student *recites*: it knows the country and makes up the area, in the same tone. The
# agent *acts*: each fact that it states is in a passage it has just read.

# %% [markdown]
# ## 3 · Before it was trained
#
# The model and the prompt are the same, but the adapter is off. What will be missing: the format, the plan, or the
# search?

# %%
before = ask(question, trained=False)

# %% [markdown]
# All three are missing. Five times it writes the same made-up number without any code, although the error message
# says what a step must look like.
#
# ## 4 · Take the search away
#
# The adapter is on again, but now the prompt does not mention `web_search` and the sandbox does not have it. Does the
# student say that it cannot know?

# %%
blind = ask(question, search=False)

# %% [markdown]
# It does not: it plans to find the country, and then gives the name of the city as its answer. A student does what
# its teacher did. The teacher always had a search, so no trajectory (recorded run) shows what to do without one.
#
# ## 5 · Eight actions instead of one
#
# Greedy decoding writes the most likely action. *Self-consistent action generation* (SAG; §3.2 of the paper, notebook
# 04) samples several actions, runs all of them, drops those that fail, and keeps one from the largest group with the
# same outcome. Below the run, a table has the eight candidates of its first step:

# %%
voted = ask(question, n=8)
pages.show_vote(voted["trace"][0])

# %% [markdown]
# All eight search for the same word, so here there is nothing to choose. Notebook 04 shows votes in which candidates
# fail or disagree.
#
# ## 6 · Your turn
#
# In a live notebook, type a question or pick one, and watch the student work. Its encyclopedia holds countries,
# regions and cities (population, area, currency, languages); its Python does any arithmetic. On a static page there
# is nothing to click here; sections 2 to 5 show the same kind of run.

# %%
suggested = [q.text for q in list(known.values())[:: max(1, len(known) // 12)]]
pages.talk(ask, suggested)

# %% [markdown]
# ## 7 · The loop by hand
#
# ![The model writes code, the sandbox runs it, the model reads what was printed, until an answer is given.](pictures/agent_loop.svg)
#
# This prompt is all that the student is told. After it comes the question:

# %%
print(prompts.AGENT_STUDENT)

# %% [markdown]
# In the experiments, a teacher or an untuned model also gets rules and four worked examples (setting `wording`).
# Section 3 left them out, so that only the adapter differed.
#
# And this is the loop. The model writes a turn up to `<end_code>`. The code in it runs in a session, whose variables
# stay alive between steps. What the code printed goes back to the model as the next message. The loop ends when the
# code calls `final_answer`, or when the steps run out. This is greedy decoding: it always takes the most likely
# token, so the same question gives the same words every time.

# %%
def think_run_read(question, steps):
    messages = [{"role": "system", "content": prompts.AGENT_STUDENT}, {"role": "user", "content": f"Question: {question}"}]
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

# %%
model.use(adapters["agent_distill"])
turns = think_run_read(question, cfg.max_steps)
print(*turns, sep="\n\n")

# %% [markdown]
# `Agent` is the same loop for many questions at once. It also stops before the context is full, asks for the answer
# once more when the steps run out, and can vote over several actions per step. On this question it writes the same
# turns:

# %%
model.forget()
again = ask(question)
assert turns == [step["text"] for step in again["trace"]]
pages.show_source(Agent.run, agent.read_code, agent.observation_message)

# %% [markdown]
# ## 8 · The place where it acts
#
# The code runs in a process of its own, with limits on time and memory. It has no network and can read no files
# except the interpreter's own. Below, an endless loop is killed, an error comes back as text that the model can read,
# and a file of this machine is refused.

# %%
hostile = ["while True: pass", "1 / 0", "open('/etc/passwd').read()"]
with Sandbox(seconds=2.0) as strict_box, strict_box.session() as other:
    failures = {code: other.run(code).failure for code in hostile}
pd.DataFrame({"what came back": {code: f"{f.kind}: {f.message}" if f else "allowed" for code, f in failures.items()}})

# %%
assert failures["while True: pass"].kind == "timeout" and failures["1 / 0"].kind == "execution"
print("backend:", box.protection.backend, "\ncovers:", *box.protection.covers, sep="\n  ")
print("does not cover:", *box.protection.lacks, sep="\n  ")

# %% [markdown]
# A session is one interpreter. Candidates of one step are forks of it: each starts from the same state, none sees the
# others, and the one that is kept *becomes* the session, so nothing runs twice. That makes eight actions per step
# affordable.

# %%
session = box.session()
session.run("x = 20")
left, right = session.run_candidates(["x += 1\nx", "x *= 2\nx"])
session.commit(right)
print(left.value, right.value, session.run("x").value)
session.close()

# %% [markdown]
# If something here did not work, run `make doctor`. It says what this machine has, what it lacks and what to do.
#
# ## What we saw
#
# 1. A model of 135 million parameters cannot recite what it never knew, but it can look it up if training has shown
#    it how.
# 2. An agent is a conversation in which one side is a Python interpreter, and the loop around it takes fifteen lines.
# 3. Training changed how the model acts, not what it knows: without the search its answer is as wrong as before
#    training.
#
# ## Exercises
#
# Each has a check under it that tells you when it is solved; unsolved ones raise no error. One way to solve them is in this notebook;
# `make workshop` writes copies without.
#
# ### 1 · Made up five times
#
# Collect the answers of five chains of thought of the reciting student (adapter `cot_distill`) to the question of section 2, sampled at
# temperature 1 with `cot.generate_cot(..., n=5)`. Does it make up the same fact each time? And what would a vote over these answers say?

# %% tags=["exercise"]
invented = []
# solution
model.use(adapters["cot_distill"])
(five,) = cot.generate_cot(model, [known[question]], n=5, temperature=1.0, max_new_tokens=cfg.cot_tokens, wording=cfg.wording)
invented = list(five.answers)
print(*invented, sep=" | ")

# %%
pages.check_exercise("Made up five times", lambda: len(invented) == 5 and len(set(invented)) > 1
                     and known[question].answer not in invented, "A `CoTResult` has the answers of all its chains.")  # fmt: skip

# %% [markdown]
# ### 2 · An error is no undo
#
# Write two actions for one session. The first fails with an error. The second answers 42, but only because of what the first did before it
# failed: alone, it must fail. What does this mean for a student that repairs its own step?

# %% tags=["exercise"]
two_actions = ["1 / 0", "final_answer(42)"]
# solution
two_actions = ["answer = 6 * 7\n1 / 0", "final_answer(answer)"]

# %%
def run_all(actions):
    with without_search.session() as session:
        return [session.run(code) for code in actions]

def is_no_undo(actions):
    (broken, repaired), (alone,) = run_all(actions), run_all(actions[1:])
    return broken.failure.kind == "execution" and repaired.answer == 42 and alone.failure is not None

pages.check_exercise("An error is no undo", lambda: is_no_undo(two_actions), "A session's variables stay alive between steps.")

# %% [markdown]
# ### 3 · Another limit
#
# Section 8 stopped an endless loop by the clock. Write code that the sandbox stops for its memory instead, before the two seconds are over.
# Does the next session work?

# %% tags=["exercise"]
hungry = "while True: pass"
# solution
hungry = "kept = []\nwhile True: kept.append(bytearray(1 << 20))"

# %%
def is_stopped_for_memory(code):
    with Sandbox(seconds=2.0, memory_mb=256) as small_box:
        with small_box.session() as session:
            stopped = session.run(code)
        with small_box.session() as session:
            return stopped.failure.kind == "memory" and session.run("6 * 7").value == "42"

pages.check_exercise("Another limit", lambda: is_stopped_for_memory(hungry), "What can a program ask for without end, beside time?")

# %% [markdown]
# With more time: ask three questions of your own in section 6. Which kind fails: where the search finds nothing, where it finds the wrong
# page, or where the plan is wrong?

# %%
box.close()
without_search.close()
