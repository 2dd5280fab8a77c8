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
# # 05 · Draw the paper's figures
#
# *Eight figures carry the paper's story. Which of them look the same with models of a laptop's size?*
#
# **By the end you will have shown that** every figure of the paper can be drawn from records, with published values
# beside ours, intervals on ours, and gaps left as gaps.
#
# *Needs* the records of notebooks 02 and 04 · *Makes* eight figures, as SVG and PNG · *Minutes* under 1 on any machine, and twenty to read.
#
# *Shown* is the `laptop` experiment, drawn from its committed records; run as it stands, the notebook does `smoke`.

# %%
from agentlib import config, figures, pages, records

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %%
cfg = config.load(preset, **overrides)
frame = figures.read_cases(cfg)
examples = records.read_json(cfg.records / "examples.json")
note = figures.footer(cfg, frame)
print(note)

# %% [markdown]
# Each figure is drawn from these records and nothing else. A question without an answer counts as wrong, and the footer says how many there
# are; a method that was not run leaves a gap. Published values are those of Kang et al. 2025 (arXiv 2505.17612), from its tables or, where
# a panel says *digitised*, measured in its figures. The benchmarks of the small presets only imitate the paper's: compare the order of the
# bars, not their height.
#
# ## Figure 1 · Mean accuracy by model size
#
# The paper's claim in one picture: a model that acts is as good as a larger one that recites. Before you look: at which size will acting
# lead by more, the smaller or the larger one?

# %%
made = {}
fig = figures.fig1_mean_accuracy(frame, note, models=cfg.students, benchmarks=cfg.benchmarks)
made["fig1_mean_accuracy"] = figures.save_figure(fig, cfg.figures, "fig1_mean_accuracy")
fig

# %% [markdown]
# ## Figure 2 · Why act instead of recite
#
# The same question, answered by a student distilled from chains of thought and by one distilled from trajectories. What is the first thing
# that the left one makes up?

# %%
pair = examples["pair"]
fig = figures.fig2_cot_against_agent(pair["cot"], pair["agent"], note)
made["fig2_cot_against_agent"] = figures.save_figure(fig, cfg.figures, "fig2_cot_against_agent")
fig

# %% [markdown]
# ## Figure 3 · A first-thought prefix, and a vote
#
# The two ideas on real cases. Which candidates fail, and what do those that agree have in common?

# %%
fig = figures.fig3_prefix_and_vote(examples["prefix"], examples["vote"], note, case=examples["vote_case"])
made["fig3_prefix_and_vote"] = figures.save_figure(fig, cfg.figures, "fig3_prefix_and_vote")
fig

# %% [markdown]
# ## Figure 4 · Maths by subject and level
#
# A computation needs no memory, only a plan. Does acting help on every level, or only where the numbers are large?

# %%
fig = figures.fig4_math_breakdown(frame, note)
made["fig4_math_breakdown"] = figures.save_figure(fig, cfg.figures, "fig4_math_breakdown")
fig

# %% [markdown]
# ## Figure 5 · More samples
#
# Self-consistency over whole chains of thought against SAG over actions, by the number of samples. Which curve should rise more: a vote
# over answers, or a vote over steps?

# %%
fig = figures.fig5_samples(frame, note)
made["fig5_samples"] = figures.save_figure(fig, cfg.figures, "fig5_samples")
fig

# %% [markdown]
# ## Figure 6 · Tokens
#
# What a question costs: the tokens that the CoT student and the agent student generate by greedy decoding. Does acting take more tokens, or
# fewer?

# %%
fig = figures.fig6_tokens(frame, note)
made["fig6_tokens"] = figures.save_figure(fig, cfg.figures, "fig6_tokens")
fig

# %% [markdown]
# ## Figure 7 · Code errors with and without SAG
#
# A candidate that failed cannot win a vote unless all fail. Before you look: what share of the questions with broken code will be left at
# N = 8?

# %%
fig = figures.fig7_code_errors(frame, note)
made["fig7_code_errors"] = figures.save_figure(fig, cfg.figures, "fig7_code_errors")
fig

# %% [markdown]
# ## Figure 8 · Retrieval calls with and without the first-thought prefix
#
# In the paper the prefix makes students search less. Before you look: would that be good? A plan can save searches, but so can an answer
# that is made up before anything was read.

# %%
fig = figures.fig8_retrieval_calls(frame, note)
made["fig8_retrieval_calls"] = figures.save_figure(fig, cfg.figures, "fig8_retrieval_calls")
fig

# %%
assert len(made) == 8 and all(path.exists() for paths in made.values() for path in paths)
pages.show_values({name.partition("_")[0]: " ".join(path.name for path in paths) for name, paths in made.items()})

# %% [markdown]
# ## What we saw
#
# 1. All eight figures are drawn from records by one command. Each names the preset, the models and the questions behind a point.
# 2. The order of the bars is the finding. Their height depends on the questions, and ours are generated: on them an agent gets more right
#    than in the paper at 0.5B, a chain of thought fewer.
# 3. The intervals cover the choice of questions, not the training. How much two trainings of one student differ is in 05b.
#
# The numbers behind these figures, and which claims they settle, are in [05b](05b_tables_and_claims.ipynb); transcripts of wrong answers are
# in [05c](05c_read_the_failures.ipynb).
#
# ## Exercises
#
# Each has a check under it that tells you when it is solved; unsolved ones raise no error. One way to solve them is in this notebook;
# `make workshop` writes copies without.
#
# ### 1 · Steps instead of questions
#
# Figure 7 counts questions with an error. Count the share of *steps* with one, for each number of samples of the distilled agent.
# Why can it be larger or smaller?

# %% tags=["exercise"]
per_step = {}
# solution
agents = frame[frame["method"] == "agent_distill"]
sums = agents.groupby("n")[["parse_errors", "execution_errors", "steps"]].sum()
per_step = ((sums["parse_errors"] + sums["execution_errors"]) / sums["steps"]).to_dict()
pages.show_values({f"N = {n}": f"{share:.0%} of the steps" for n, share in per_step.items()})

# %%
def errors(n):
    of = frame[(frame["method"] == "agent_distill") & (frame["n"] == n)]
    return (of["parse_errors"] + of["execution_errors"]).sum(), of["steps"].sum()

pages.check_exercise("Steps instead of questions", lambda: set(per_step) == {1, cfg.samples} and all(
    abs(share * errors(n)[1] - errors(n)[0]) < 1e-6 for n, share in per_step.items()))  # fmt: skip

# %% [markdown]
# ### 2 · What a right answer costs
#
# Figure 6 counts the tokens per question. Count those per *right answer* instead: divide all tokens that a student wrote by the number of
# questions that it got right. Do it for CoT distillation and agent distillation (greedy, all benchmarks together) of the first student in `frame`.

# %% tags=["exercise"]
price = {}
# solution
first = frame[(frame["model"] == frame["model"].iloc[0]) & (frame["n"] == 1)]
for method in ("cot_distill", "agent_distill"):
    own = first[first["method"] == method]
    price[method] = own["completion_tokens"].sum() / max(1, own["correct"].eq(True).sum())
pages.show_values({method: f"{tokens:.0f} tokens per right answer" for method, tokens in price.items()})

# %%
def checked(method):
    own = frame[(frame["model"] == frame["model"].iloc[0]) & (frame["n"] == 1) & (frame["method"] == method)]
    return abs(price[method] * max(1, own["correct"].eq(True).sum()) - own["completion_tokens"].sum()) < 1

pages.check_exercise("What a right answer costs", lambda: all(checked(m) for m in ("cot_distill", "agent_distill")))

# %% [markdown]
# ### 3 · Where the vote helps most
#
# Figure 5 has panels for some of the benchmarks. Now take all of them: on which one does the vote change the number of right answers of agent
# distillation most, up or down? (The first student again.)

# %% tags=["exercise"]
most_changed = None
# solution
own = frame[(frame["model"] == frame["model"].iloc[0]) & (frame["method"] == "agent_distill")]
right = own.assign(right=own["correct"].eq(True)).pivot_table("right", "benchmark", "n", "sum", observed=True)
change = (right[max(right.columns)] - right[1]).abs()
most_changed = change.idxmax()
print(most_changed, int(change.max()))

# %%
def shifted(name):
    of = frame[(frame["model"] == frame["model"].iloc[0]) & (frame["method"] == "agent_distill") & (frame["benchmark"] == name)]
    counts = of["correct"].eq(True).groupby(of["n"]).sum()
    return abs(counts.loc[counts.index.max()] - counts.loc[1])

pages.check_exercise("Where the vote helps most", lambda: shifted(most_changed) == max(map(shifted, frame["benchmark"].unique())))
