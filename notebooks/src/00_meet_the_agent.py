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
# *Can a model that is too small to know anything answer a question of facts?*
#
# **By the end you will have shown that** a model of 135 million parameters, which runs on any laptop, looks up what it does not know
# and computes what it cannot do in its head, because it was trained on fewer than two hundred runs of a larger model that does so.
#
# *Needs* nothing but the two commands of the README · *Makes* the download cache and a small search index · *Minutes* about 1 on two CPU
# cores with native bf16, after the first downloads (270 MB).

# %%
import pandas as pd

from agentlib import SAG, Agent, LocalModel, Question, Sandbox
from agentlib import agent, benchmarks, cases, config, cot, distill, models, pages, prompts

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %% [markdown]
# Every setting of the project lives in one frozen `Config`. A preset fills it; `overrides` changes single values by name, and a misspelt
# name is refused with the nearest one that exists.

# %%
cfg = config.load(preset, **overrides)
pages.show_settings(cfg, "preset", "students", "benchmarks", "corpus", "max_steps", "temperature")

# %% [markdown]
# ## 1 · Wake it up (1 minute)
#
# Three things make an agent: a model, something to act with, and a place where it may act. The model is the smallest student, with the
# adapter that notebook 03 trains and this repository carries. It acts with Python and with a search in a small encyclopedia (notebook 01
# builds the index by hand). It acts in a sandbox, because nobody should run the code of a language model unguarded.

# %%
student = cfg.students[0]
benchmarks.build_search(cfg)
web_search = benchmarks.web_search(cfg)
adapters = {m: distill.load_or_train_preview(cfg, student, m, web_search).path for m in ("agent_distill", "cot_distill")}
model = LocalModel(student, max_context=cfg.context_tokens, precision=cfg.precision, source=cfg.weights)
limits = {"seconds": cfg.sandbox_seconds, "memory_mb": cfg.sandbox_memory_mb}
box, without_search = Sandbox(tools={"web_search": web_search}, **limits), Sandbox(**limits)
known = {q.text: q for q in benchmarks.test_questions(cfg)}
print(f"{student}: {models.find_model(student).parameters} million parameters, {model.precision} on {model.device}")

# %% [markdown]
# This function asks a question, and draws the run while it goes on. Four switches: is the model trained or as it was before, may it search,
# and how many actions does it try in each step (section 5).

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
# ## 2 · One question, two students (1 minute)
#
# The question needs two facts: in which country a city lies, and something about that country. What do you expect of a model that is a
# thousand times smaller than the ones you may know: does it look up the first fact, the second, both? (It is a question that this student
# gets right. On most questions of this kind it fails; notebook 04 counts.)

# %%
question = "What is the area, in square kilometres, of the country where the city of Bandung is located?"
known.setdefault(question, Question("example", "an example", question, "1919440", "factual"))
acted = ask(question)

# %% [markdown]
# The same model can be trained on the chains of thought of the same teacher instead, which is the usual way to teach a small model to reason.
# It has learnt to sound like its teacher. Does it know what its teacher knows?

# %%
model.use(adapters["cot_distill"])
(chain,) = cot.generate_cot(model, [known[question]], max_new_tokens=cfg.cot_tokens, wording=cfg.wording)
recited = cases.cot_case(known[question], chain, model=student, method="cot_distill", n=1)
pages.show_side_by_side(recited, acted)

# %% [markdown]
# One question proves nothing. Notebook 04 asks both students the same questions and counts. But the difference in kind is visible here: the
# left one *recites*, and what it does not know it makes up in the same tone. The right one *acts*, and what it says stands in what it read.

# %% [markdown]
# ## 3 · Before it was trained
#
# Same model, same prompt, the adapter switched off. What is missing: the format, the plan, or the will to search?

# %%
before = ask(question, trained=False)

# %% [markdown]
# ## 4 · Take the search away
#
# Trained again, but this time its prompt names no `web_search`, and the sandbox has none. Does it say that it cannot know?

# %%
blind = ask(question, search=False)

# %% [markdown]
# A student does what its teacher did. The teacher always had a search, so no trajectory shows what to do without one.
#
# ## 5 · Eight actions instead of one
#
# Greedy decoding writes the likeliest action. *Self-consistent action generation* (§3.2 of the paper, notebook 04) samples several, runs
# all of them, drops those that fail, and keeps one that most others agree with. Here are the first step's eight, coloured by outcome:

# %%
voted = ask(question, n=8)
pages.show_vote(voted["trace"][0])

# %% [markdown]
# ## 6 · Your turn
#
# In a live notebook, type a question or pick one, and watch it work. Its encyclopedia holds countries, regions and cities (population,
# area, currency, languages); its Python does any arithmetic. On a page that is not live, all that you can do here is shown above.

# %%
suggested = [q.text for q in list(known.values())[:: max(1, len(known) // 12)]]
pages.talk(ask, suggested)

# %% [markdown]
# ## 7 · The loop by hand (5 minutes of reading)
#
# ![The model writes code, the sandbox runs it, the model reads what was printed, until an answer is given.](pictures/agent_loop.svg)
#
# This is all that the student is told:

# %%
print(prompts.AGENT_STUDENT)

# %% [markdown]
# A teacher, or a model that was never tuned, also gets rules and four worked examples (setting `wording`).
#
# And this is the loop. The model writes a turn up to `<end_code>`. The code in it runs in a session, whose variables stay alive between
# steps. What the code printed goes back to the model as the next message. The loop ends when the code calls `final_answer`, or when the
# steps run out. Greedy decoding always takes the most likely token, so the same question gives the same words every time.

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
# `Agent` is the same loop for many questions at once. It also stops before the context is full, asks once more in plain words when the
# steps run out, and can vote over several actions a step. On this question it writes the same turns:

# %%
model.forget()
again = ask(question)
assert turns == [step["text"] for step in again["trace"]]
pages.show_source(Agent.run, agent.read_code, agent.observation_message)

# %% [markdown]
# ## 8 · The place where it acts
#
# The code runs in a process of its own, without network, without files but the interpreter's, with limits on time and memory. An endless
# loop is killed, an error comes back as text that the model can read, and a file of this machine cannot be opened.

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
# A session is one interpreter. Candidates of one step are forks of it: each starts from the same state, none sees the others, and the one
# that is kept *becomes* the session, so nothing runs twice. That is what makes eight actions a step affordable.

# %%
session = box.session()
session.run("x = 20")
left, right = session.run_candidates(["x += 1\nx", "x *= 2\nx"])
session.commit(right)
print(left.value, right.value, session.run("x").value)
session.close()

# %% [markdown]
# If something here did not work, `make doctor` says what this machine has, what it lacks and what to do.
#
# ## What we saw
#
# 1. A model of 135 million parameters cannot recite what it never knew, but it can look it up, if it has seen how.
# 2. An agent is a conversation in which one side is a Python interpreter, and the loop around it takes fifteen lines.
# 3. Training changed how the model acts, not what it knows: without the search it is as lost as before.
#
# ## Exercises
#
# 1. Ask three questions of your own in section 6. Which kind fails: where the search finds nothing, where it finds the wrong page, or where the
#    plan is wrong?
# 2. Ask the same question with `cot_distill` and five different seeds (`cot.generate_cot(..., temperature=1.0, seed=k)`). Are its made-up facts the same ones?
# 3. Give the sandbox code that allocates memory without end. Which failure comes back, and does the next session work?

# %%
box.close()
without_search.close()
