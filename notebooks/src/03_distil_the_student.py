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
# # 03 · Distil the student
#
# *What does a small model learn from about two hundred recorded runs of a larger one, and what does it not learn?*
#
# **By the end you will have shown that** a model of 135 million parameters takes on the form of its teacher's runs
# from fewer than two hundred of them, with loss only on what the teacher wrote.
#
# *Needs* notebook 02 · *Makes* or loads four adapters per student · *Minutes* about 1 at `smoke` on two CPU cores
# with native bf16 and the same at `laptop` (the exercises take 2 more); hours of a GPU at `paper`.
#
# *To read*: 1 (2 minutes), 2 (6), 3 (8), 4 (8), 5 (4), 6 (2), 7 (2), exercises (45).
#
# The outputs *shown* are those of `smoke`, whose students come with the repository.

# %%
import dataclasses
import functools
import itertools
import tempfile

import pandas as pd
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentlib import LocalModel, build_examples, fine_tune
from agentlib import benchmarks, config, distill, figures, masks, models, pages, prompts, runner, training

# %% tags=["parameters"]
preset = "smoke"
overrides = {}

# %%
cfg = config.load(preset, **overrides)
names = ["students", "tuning", "lora_rank", "lora_alpha", "learning_rate", "epochs", "batch_size", "train_examples"]
pages.show_settings(cfg, *names)

# %% [markdown]
# ## 1 · Training data
#
# Four students are trained, one for each distilled row of Table 2. The first learns from the teacher's chains of
# thought, the second from the same texts with retrieved passages in front (RAG, the strongest baseline: the same
# search, without acting), the third from agent trajectories, and the fourth from trajectories that began with a
# first-thought prefix (FTP). The training data of all four are plain chat `messages`, which other libraries can train
# on, too. The numbers of conversations differ because the filter of notebook 02 keeps only runs with a right answer.
# (Of the agents' runs, the students of the teaching set learn only from those that saw every passage on which the
# answer rests: 184 of 212, and 128 of 160 with the prefix; setting `keep`.)

# %%
web_search = benchmarks.web_search(distill.passages_from(cfg))
taught = {method: distill.conversations(cfg, method, web_search) for method in distill.TEACHER_OF}
pages.show_values({config.METHODS[method]: len(found) for method, found in taught.items()})

# %% [markdown]
# ## 2 · The token mask
#
# A training example is a conversation as tokens, and a label for each token: the token itself where the student is
# trained to predict it, −100 where it is not. Only what the teacher wrote has labels: each thought *rₜ* and action
# *aₜ*, up to the token that ends the turn (§3). System prompt, question and observations are context, which the
# student reads. In the example, bold tokens carry loss:

# %%
student = cfg.students[0]
tokenizer = AutoTokenizer.from_pretrained(models.fetch_tokenizer(student, cfg.weights))
examples = {m: build_examples(found, tokenizer, distill.max_length_for(cfg, m)) for m, found in taught.items()}
turns = {k: [m["content"] for m in found if m["role"] == "assistant"] for k, found in taught["agent_distill_ftp"].items()}
longer = [e for e in examples["agent_distill_ftp"] if len(turns[e.id]) > 1]  # these have an observation in between
shortest = min(longer or examples["agent_distill_ftp"], key=lambda e: len(e.input_ids))
pages.show_token_mask(shortest, tokenizer)

# %% [markdown]
# ### The mask by hand
#
# In this model's chat template a turn is a header with the role, the words, and a token that ends the turn. The header of the
# assistant's turn carries no loss: at test time it is written for the model, which starts after it. The end of the turn does carry
# loss, or the student would never learn to stop.

# %%
def mask_by_hand(messages):
    ids, labels, context = [], [], ""
    for message in messages:
        context += f"<|im_start|>{message['role']}\n"
        if message["role"] != "assistant":
            context += f"{message['content']}<|im_end|>\n"
            continue
        for text, has_loss in ((context, False), (f"{message['content']}<|im_end|>", True)):
            tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += tokens
            labels += tokens if has_loss else [-100] * len(tokens)
        context = "\n"
    return ids, labels

# %% [markdown]
# `build_examples` does this for any student's template, leaves out what is too long, and protects words that only look like special tokens:

# %%
messages = taught["agent_distill_ftp"]
assert all((e.input_ids, e.labels) == mask_by_hand(messages[e.id]) for e in examples["agent_distill_ftp"])
print(f"equal on {len(examples['agent_distill_ftp'])} conversations")
pages.show_source(build_examples, masks.segments)

# %% [markdown]
# The table counts the tokens that each student reads and those that it is trained on. A conversation longer than
# `max_length` is left out, because one that is cut off would lose its answer.

# %%
sizes = {
    config.METHODS[m]: {
        "conversations": len(taught[m]),
        "examples": len(found),
        "tokens": sum(len(e.input_ids) for e in found),
        "trained tokens": sum(label != masks.IGNORED for e in found for label in e.labels),
    }
    for m, found in examples.items()
}
pd.DataFrame.from_dict(sizes, orient="index")

# %% [markdown]
# ## 3 · The loss
#
# The student should act as the teacher does. A trajectory is a question followed by thoughts *r*, actions *a* and observations *o*. Its
# probability is a product over the steps, in which the student θ writes thought and action, and the environment writes the observation:
#
# ```text
# p(trajectory | q)  =  Π over steps t:   pθ(rₜ, aₜ | q, hₜ)  ·  p_env(oₜ | a₁ … aₜ)
# ```
#
# Here *q* is the question and *h* all that came before the step. Being like the teacher means giving its trajectories
# a high probability. (The mean of −ln *p* over them is the Kullback-Leibler divergence of teacher and student plus
# the teacher's own entropy, which the student cannot change.) The logarithm turns the product into a sum with two
# kinds of terms. Those of the environment do not contain θ: a sandbox prints what it prints, whatever the student
# believes. Their gradient is zero, so they drop out, and observations carry no loss. A student that is trained on
# observations, too, learns to imitate the search engine. Exercise 4 trains such a student, and shows what it writes
# after its own code.
#
# What is left is cut into tokens *x*. With *M* the positions that carry loss,
#
# ```text
# L(θ)  =  − 1/|M|  ·  Σ over i in M:   ln pθ(xᵢ | everything before xᵢ)
# ```
#
# This is the mean cross-entropy, in nats (the unit of natural logarithms) per trained token. A loss of L means that
# the student is as uncertain as if it chose among e^L equally likely tokens. Two things follow. The observation still
# matters: it is part of what comes before, so a fact that was just read costs almost nothing to write, while a fact
# that must be recalled costs a lot. And the mean is over tokens: a long thought counts more than a short action,
# although the action decides what happens. The cell computes the loss by hand and by the package, which returns the
# sum over the tokens:

# %%
dense = AutoModelForCausalLM.from_pretrained(models.fetch_weights(student, cfg.weights), dtype=torch.float32)
ids, labels = torch.tensor([shortest.input_ids]), torch.tensor([shortest.labels])

def loss_by_hand(model, ids, labels):
    logits, following = model(ids).logits[0, :-1], labels[0, 1:]  # the logits at a token predict the one after it
    carries_loss = following != -100
    log_probability = logits.log_softmax(dim=-1)[carries_loss, following[carries_loss]]
    return -log_probability.mean()

with torch.no_grad():
    untrained = loss_by_hand(dense, ids, labels).item()
    theirs = training.token_loss(dense, [shortest], "cpu").item() / (labels[0, 1:] != -100).sum().item()
assert abs(theirs - untrained) < 1e-4
print(f"{untrained:.3f} nats per trained token before training")
pages.show_source(training.token_loss)

# %% [markdown]
# ## 4 · LoRA, and one training step
#
# LoRA (low-rank adaptation) leaves each weight matrix *W* as it is and adds a product of two thin matrices. *A* has
# *r* rows, *B* has *r* columns, and the constant α scales the product:
#
# ```text
# y  =  W x  +  α/r · B A x
# ```
#
# Only *A* and *B* are trained. *B* starts at zero, so an untrained LoRA student *is* the base model. A training step
# computes the loss and its gradient, and the optimiser AdamW changes *A* and *B*. Here is one step on one trajectory.
# Before you look: how far will the loss on that trajectory fall?

# %%
settings = dataclasses.replace(
    distill.training_settings(cfg), tuning="lora", epochs=1, batch_size=1, lora_dropout=0.0, precision="fp32"
)
rank, alpha = settings.lora_rank, settings.lora_alpha
torch.manual_seed(settings.seed)
tuned = get_peft_model(dense, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"))
trained = [weights for weights in tuned.parameters() if weights.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)

first = loss_by_hand(tuned, ids, labels)
first.backward()
torch.nn.utils.clip_grad_norm_(trained, 1.0)
optimizer.step()
with torch.no_grad():
    second = loss_by_hand(tuned, ids, labels).item()
assert abs(first.item() - untrained) < 1e-4 and second < first.item()
print(f"loss {first.item():.3f} → {second:.3f}, {sum(w.numel() for w in trained) / 1e6:.1f} million numbers trained")

# %% [markdown]
# Here is one layer by hand, on the embeddings of the trajectory's tokens. It gives the same as the LoRA layer of the
# library PEFT:

# %%
layer = tuned.get_decoder().layers[0].mlp.up_proj
W, A, B = layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
with torch.no_grad():
    x = tuned.get_input_embeddings()(ids)[0]
    by_hand = x @ W.T + alpha / rank * (x @ A.T) @ B.T
    assert torch.allclose(by_hand, layer(x), atol=1e-6) and not torch.equal(layer(x), x @ W.T)
print(f"W {tuple(W.shape)}, A {tuple(A.shape)}, B {tuple(B.shape)}")

# %% [markdown]
# The package takes the same step: `fine_tune` on that one trajectory starts and ends at the same loss.

# %%
with tempfile.TemporaryDirectory() as folder:
    step = fine_tune(student, [shortest], settings, folder, device="cpu")
    after_step = LocalModel(student, adapter=step.path, device="cpu", precision="fp32", source=cfg.weights)
with torch.no_grad():
    third = training.token_loss(after_step.base, [shortest], "cpu").item() / (labels[0, 1:] != -100).sum().item()
assert abs(step.losses[0]["loss"] - first.item()) < 1e-3 and abs(third - second) < 1e-3
print(f"fine_tune: loss {step.losses[0]['loss']:.3f} → {third:.3f}")
pages.show_source(fine_tune)

# %% [markdown]
# ## 5 · Training
#
# The real training repeats that step for every batch of every epoch. QLoRA does the same while the frozen weights are
# held in 4 bits (`overrides = {"tuning": "qlora"}`), and `"full"` trains all weights. Where the hardware multiplies
# bf16 (16-bit numbers) natively, matrix products are done in it; the weights that are trained stay in 32 bits.
# Training saves a checkpoint about once a minute and resumes exactly from the last one.

# %%
adapters = {}
for k in reversed(range(cfg.trainings)):  # of several trainings, the first is shown below
    one = distill.one_training(cfg, k)
    for name, method in itertools.product(cfg.students, distill.TEACHER_OF):
        adapters[name, method] = distill.train(one, name, method, web_search, recorded=True)
print(f"{len(adapters)} adapters")

# %% [markdown]
# These four students come with the repository; the same call trained them. The next one is trained now, on twelve
# trajectories:

# %%
few = dataclasses.replace(cfg, train_examples=12, epochs=2)
mine = distill.train(few, student, "agent_distill", web_search)
print(*(f"step {s['step']:2}: {s['loss']:.3f} nats per token" for s in mine.losses[:: max(1, len(mine.losses) // 6)]), sep="\n")

# %% [markdown]
# Next come the loss curves of the four students, in nats per trained token. Before you look: which loss falls lower,
# that of prose or that of actions, and does a lower loss mean a better student? A thin line shows every step, a thick
# one a moving average.

# %%
curves = {method: adapters[student, method].losses for method in taught}
curve = curves["agent_distill_ftp"]
assert len(curve) == 1 or min(step["loss"] for step in curve) < curve[0]["loss"]
figures.loss_curves(curves, f"{student} · {cfg.tuning} · preset {cfg.preset}")

# %% [markdown]
# Agent turns are more regular than prose: the format repeats, and the facts can be copied from the observation. So
# their loss ends lower. The levels of a CoT curve and an agent curve therefore cannot be compared; compare each curve
# with its own start. The table has the first and the last loss of each training:

# %%
rows = {
    (figures.size_label(name), config.METHODS[m]): {
        "steps": len(a.losses), "first loss": a.losses[0]["loss"], "last loss": a.losses[-1]["loss"],
        "tokens per second": round(sum(s["tokens"] for s in a.losses) / sum(s["seconds"] for s in a.losses)),
    }
    for (name, m), a in adapters.items()
}  # fmt: skip
figures.format_numbers(pd.DataFrame.from_dict(rows, orient="index"), 2)

# %% [markdown]
# ## 6 · QLoRA: the same with weights in 4 bits
#
# Here are two steps of the same training on weights in NF4, a 4-bit format of the library bitsandbytes. The base
# model is held in 4 bits and frozen; only the adapter is trained. How much memory will the weights take: half, a
# quarter, less?

# %%
small = dataclasses.replace(cfg, tuning="qlora", epochs=1, batch_size=1, train_examples=2)
packed = distill.train(small, student, "agent_distill_ftp")
four_bit, full = (LocalModel(student, quantise=q, precision="fp32", source=cfg.weights) for q in (True, False))
sizes = {"32-bit": full.base.get_memory_footprint() / 1e6, "NF4": four_bit.base.get_memory_footprint() / 1e6}
assert sizes["NF4"] < sizes["32-bit"]
two_steps = {"QLoRA, two steps": [f"loss {one['loss']:.3f}" for one in packed.losses]}
pages.show_values({f"{name} weights": f"{size:.0f} MB" for name, size in sizes.items()} | two_steps)

# %% [markdown]
# Less than a third: the linear layers shrink to 4 bits, but not everything does, such as the embeddings. (The two
# losses are of two different trajectories, so they do not show progress.)
#
# ### Which GPU holds which student
#
# Weights are only one part of the memory that training takes. The others are the adapter with its gradients and
# optimiser state, the hidden states between the layers for the longest conversation, and one layer's activations.
# Logits are computed for a few hundred tokens at a time. The table estimates training of the paper's students (QLoRA
# on conversations of up to 10,240 tokens) and their evaluation, 32 questions at a time; a smaller `batch_questions`
# takes less. The formula is tested on small students. We have not measured the students in this table.

# %%
paper = config.load("paper")
memory = runner.memory_table(paper, cards=(12e9, 16e9, 24e9, 80e9))
assert list(memory.index) == list(paper.students)
memory

# %% [markdown]
# ## 7 · Before and after
#
# The same weights get one new question without and with the adapter, both times with the short prompt and by greedy
# decoding. Before you look: what will the untrained model do with a product of two six-digit numbers, and what the
# trained one? The adapter is switched on without loading the model again.

# %%
asked = [{"role": "system", "content": prompts.AGENT_STUDENT}]
asked += [{"role": "user", "content": prompts.question_turn("What is 123456 * 654321 + 1?")}]
before = full.generate([asked], max_new_tokens=96, stop=prompts.STOP)[0][0].text
full.use(distill.load_or_train_preview(cfg, student, "agent_distill_ftp", web_search).path)
after = full.generate([asked], max_new_tokens=96, stop=prompts.STOP)[0][0].text
print("BEFORE\n" + before, "AFTER\n" + after, sep="\n\n")
assert before != after or len(curve) < 10  # a handful of steps may leave the greedy words as they were

# %% [markdown]
# In the output above, the untrained model computes in its head, and is wrong. The trained one writes code, and the code
# is right, although the plan before it is not: it says "add" where the question multiplies.
#
# ## What we saw
#
# 1. The student is trained on what the teacher wrote, never on what the sandbox answered. A mask decides that, token
#    by token.
# 2. LoRA trains a few per cent of the weights. One step on one trajectory already lowers its loss, and the first
#    thing that changes is the form: the untrained model answers in prose, the trained one starts with a thought.
#    Notebook 05b measures how accuracy grows with the number of trajectories.
# 3. The loss does not say whether a student acts *well*. Chains of thought keep a higher loss than trajectories. One
#    reason is that they contain facts that cannot be derived from the context; a trajectory looks them up and copies
#    them. Notebook 04 evaluates the students on questions.
#
# ## Exercises
#
# Each has a check under it that tells you when it is solved; unsolved ones raise no error. This notebook contains one
# solution of each; `make workshop` writes copies without the solutions. Exercises 4 and 5 train small students, which
# takes longer than the others.
#
# ### 1 · The classic bug
#
# Many training scripts also train on the header of the assistant's turn, `<|im_start|>assistant` and the line end after it. Build that
# mask from `mask_by_hand`. Then compare the two losses of the untrained model: which is lower, and is that a better student?

# %% tags=["exercise"]
def mask_with_header(messages):
    ids, labels = mask_by_hand(messages)
    return ids, labels
# solution
def mask_with_header(messages):
    ids, labels = mask_by_hand(messages)
    header = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    for place in range(len(ids)):
        if ids[place : place + len(header)] == header:
            labels[place : place + len(header)] = header
    return ids, labels

with torch.no_grad(), tuned.disable_adapter():
    wrong = torch.tensor([mask_with_header(messages[shortest.id])[1]])
    print(f"{untrained:.3f} nats without the header, {loss_by_hand(tuned, ids, wrong).item():.3f} with it")

# %%
def decoded(messages):
    ids, labels = mask_with_header(messages)
    trained = [token for token, label in zip(ids, labels, strict=True) if label == token]
    return len(trained) == sum(label != -100 for label in labels) and tokenizer.decode(trained)

expected = "".join(f"<|im_start|>assistant\n{turn}<|im_end|>" for turn in turns[shortest.id])
pages.check_exercise("The classic bug", lambda: decoded(messages[shortest.id]) == expected, "Decode the tokens that carry loss.")

# %% [markdown]
# ### 2 · What LoRA trains
#
# LoRA replaces the update of a weight of `rows` × `columns` by a product of two thin matrices of rank *r*. Write how many numbers that
# is, then count those of the whole student.

# %% tags=["exercise"]
def lora_numbers(rows, columns, rank):
    ...
# solution
def lora_numbers(rows, columns, rank):
    return rank * (rows + columns)

# %%
full.use(None)
layers = [m.weight.shape for m in full.base.get_decoder().modules() if isinstance(m, torch.nn.Linear)]
print(f"{len(layers)} linear layers, {sum(r * c for r, c in layers) / 1e6:.0f} million numbers in them")
pages.check_exercise("What LoRA trains", lambda: lora_numbers(576, 1536, 32) == 67584 and all(
    lora_numbers(r, c, cfg.lora_rank) < r * c for r, c in layers))  # fmt: skip

# %% [markdown]
# ### 3 · The most surprising token
#
# The loss is a mean, and few tokens make most of it. Which trained token of the trajectory of section 3 does the untrained model expect
# least? Give its position in `ids[0]`.

# %% tags=["exercise"]
surprising = None
# solution
with torch.no_grad(), tuned.disable_adapter():
    surprise = -tuned(ids).logits[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None])[:, 0]
surprising = 1 + surprise.masked_fill(labels[0, 1:] == -100, 0).argmax().item()
print(f"{tokenizer.decode(ids[0, surprising])!r} after {tokenizer.decode(ids[0, surprising - 8 : surprising])!r}")

# %%
with torch.no_grad(), tuned.disable_adapter():
    each = torch.nn.functional.cross_entropy(tuned(ids).logits[0, :-1], labels[0, 1:], reduction="none")
pages.check_exercise("The most surprising token", lambda: each[surprising - 1] == each.max() > 0, "Logits at a token predict the next one.")

# %% [markdown]
# ### 4 · Unmask the observations
#
# Section 3 says why observations carry no loss. Now break the rule. Write `unmask`, a mask with loss on *everything* from the teacher's
# first word on: its turns, the replies of the sandbox, and the headers in between.

# %% tags=["exercise"]
def unmask(messages):
    return mask_by_hand(messages)
# solution
def unmask(messages):
    ids, labels = mask_by_hand(messages)
    start = next(k for k, label in enumerate(labels) if label != -100)
    return ids, labels[:start] + ids[start:]

# %%
talks = distill.conversations(dataclasses.replace(cfg, train_examples=0), "agent_distill").values()
looked_up = [  # each search cut to its first passage, to save time
    [*m[:3], {"role": "user", "content": m[3]["content"].split("\n\n")[0]}, m[4]]
    for m in talks if len(m) > 4 and "web_search(" in m[2]["content"]
]  # fmt: skip

def is_unmasked(messages):
    ids, labels = unmask(messages)
    text = tokenizer.decode([label for label in labels if label != -100])
    return text.startswith(messages[2]["content"]) and messages[3]["content"] in text and tokenizer.decode(ids).endswith(text)

pages.check_exercise("Unmask the observations", lambda: looked_up and all(map(is_unmasked, looked_up)), "Decode what carries loss.")

# %% [markdown]
# Now see what your mask does. Two students learn from the same twenty trajectories, one with your mask and one with
# `mask_by_hand`. Then each gets the question of another trajectory and the teacher's first turn, whose code searches.
# *Nobody runs that code.* What does each student write next? And how surprised is each by the reply that the search
# really gave?

# %%
*shown, unseen = sorted(looked_up, key=lambda m: len(mask_by_hand(m)[0]))[:21]
searched = len(mask_by_hand(unseen[:3])[0])  # the number of tokens before the reply
tokens, own = mask_by_hand(unseen)
replied = [token if label == -100 else -100 for token, label in zip(tokens, own, strict=True)]
replied[:searched] = [-100] * searched
unseen_ids, own_turns, reply = (torch.tensor([found], device=full.base.device) for found in (tokens, own, replied))

def few_step_student(mask, examples, **changed):
    chosen = [masks.Example(str(k), *mask(messages)) for k, messages in enumerate(examples)]
    with tempfile.TemporaryDirectory() as folder:
        full.use(fine_tune(student, chosen, dataclasses.replace(settings, **changed), folder).path)
    return full.base

def without_a_sandbox(mask):
    model = few_step_student(mask, shown)
    with torch.no_grad():
        written = model.generate(unseen_ids[:, :searched], max_new_tokens=80, do_sample=False)[0, searched:]
        return tokenizer.decode(written), loss_by_hand(model, unseen_ids, reply).item()

# %%
for name, mask in {"your mask": unmask, "mask_by_hand": mask_by_hand}.items():
    written, surprise = without_a_sandbox(mask)
    print(f"--- trained with {name}: {surprise:.2f} nats per token of the real reply; it writes\n{written.strip()}\n")
print(f"--- the real reply begins\n{unseen[3]['content']}")

# %% [markdown]
# The first student writes the sandbox's turn itself: its header, the word "Observation", and then words of its own that
# no search gave. The second ends its turn and waits. At test time the loop stops at the end of the code, which hides
# this habit but does not remove it.

# %% [markdown]
# ### 5 · A rank of your own
#
# The rank *r* is a choice: the paper takes 64, we take 8. How much smaller can it be? `loss_at(rank)` trains a
# student of that rank on six of these trajectories, one step each, and returns its loss on the trajectory it has not
# seen. Find the smallest power of two whose loss is at most 0.1 nats above that of this preset's rank. Write your
# prediction down first.

# %%
@functools.cache
def loss_at(rank):
    model = few_step_student(mask_by_hand, shown[:6], lora_rank=rank, lora_alpha=2 * rank)  # α/r stays 2
    with torch.no_grad():
        return loss_by_hand(model, unseen_ids, own_turns).item()

# %% tags=["exercise"]
smallest = None
# solution
smallest = 1
while loss_at(smallest) > loss_at(cfg.lora_rank) + 0.1:
    smallest *= 2
print(*(f"rank {rank}: {loss_at(rank):.3f} nats" for rank in sorted({1, smallest, cfg.lora_rank})), sep="\n")

# %%
def is_smallest(rank):
    enough, half = (loss_at(r) <= loss_at(cfg.lora_rank) + 0.1 for r in (rank, max(1, rank // 2)))
    return enough and (rank == 1 or not half) and rank.bit_count() == 1

pages.check_exercise("A rank of your own", lambda: smallest is not None and is_smallest(smallest), "Try half of it, too.")
