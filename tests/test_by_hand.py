"""What notebooks build by hand is short, runs, and equals the package's functions.

The cells run as they are on the page, on small inputs; the notebooks assert the same on real data.
"""

import ast
import itertools
import math
import random
import re
import types

import jupytext
import numpy as np
import pytest
from conftest import SMOL, Scripted, act, ask, install_tiny

from agentlib import (
    LocalModel,
    agent,
    config,
    distill,
    figures,
    filtering,
    first_thought,
    masks,
    pages,
    prompts,
    records,
    retrieval,
    sag,
    training,
)
from agentlib.models import weights
from agentlib.runner import notebooks
from agentlib.sandbox import Failure, Outcome

MOST_LINES = 20


def cell(number: str, part: str) -> str:
    """The one code cell of a notebook that has `part` in it."""
    (script,) = (notebooks.NOTEBOOKS / "src").glob(f"{number}_*.py")
    found = [c.source for c in jupytext.read(script).cells if c.cell_type == "code"]
    (source,) = [source for source in found if part in source]
    return source


def by_hand(number: str, name: str, **given):
    """A function as a notebook defines it, which sees the names that are given."""
    tree = ast.parse(cell(number, f"def {name}("))
    (made,) = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == name]
    assert made.end_lineno - made.lineno < MOST_LINES
    exec(compile(ast.Module([made], []), f"{number}: {name}", "exec"), given)
    return given[name]


SEARCH_THEN_ANSWER = [
    act("x = 6\nprint(web_search('seven'))"),
    "Thought: I think, and write no code.",
    act("1 / 0"),
    act("x * 7"),
    act("final_answer(x * 7)"),
    act("final_answer('never reached')"),
]


@pytest.mark.parametrize("steps", [2, 6])
def test_the_agents_loop(box, steps):
    """The same turns, after the same observations, whether it answers or runs out of steps."""

    def scripted():
        model = Scripted(lambda talk, *_: SEARCH_THEN_ANSWER[len(talk) // 2 - 1])
        model.forget = lambda: None
        return model

    ours, theirs, cfg = scripted(), scripted(), types.SimpleNamespace(step_tokens=96)
    given = {"model": ours, "box": box, "cfg": cfg, "prompts": prompts, "agent": agent}
    turns = by_hand("00", "think_run_read", **given)(ask().text, steps)
    (run,) = agent.Agent(theirs, box, max_steps=steps, step_tokens=96).run([ask()])
    assert turns == [step.text for step in run.steps] and len(turns) == min(steps, 5)
    read = [call["conversations"] for call in ours.calls]
    assert read == [call["conversations"] for call in theirs.calls[: len(turns)]]
    assert "[1] seven" in read[1][0][-1]["content"]


TOWNS = [
    retrieval.Passage(f"t{k}", f"Town {k}", f"{words} {words.split()[0]} by the river {k % 3}")
    for k, words in enumerate(("red mill", "blue mill", "red tower", "old grey bridge", "mill"))
]


class ByWord:
    """An encoder whose vector of a text is the sum of one random vector for each word."""

    name, dimension, identity = "by-word", 16, {"name": "by-word"}

    def encode(self, texts, kind="query"):
        draw = {w: np.random.default_rng(list(w.encode())).standard_normal(16) for t in texts
                for w in retrieval.words(t)}  # fmt: skip
        sums = [sum(draw[word] for word in retrieval.words(text)) for text in texts]
        return np.array([one / np.linalg.norm(one) for one in sums], np.float32)


@pytest.mark.parametrize("query", ["red mill", "the bridge", "tower 2", "blue river"])
def test_search_by_meaning(tmp_path, query):
    folder = retrieval.build_index(tmp_path, TOWNS, ByWord(), progress=False)
    given = {"np": np, "encoder": ByWord(), "passages": TOWNS}
    # vectors of any length: the cosine divides by it
    given["vectors"] = 3 * retrieval.read_vectors(folder)
    titles, cosine = by_hand("01", "search_by_meaning", **given)(query, 3)
    (hits,) = retrieval.open_index(folder, TOWNS, ByWord()).search([query], 3)
    assert titles == [hit.passage.title for hit in hits]
    assert np.allclose(cosine, [hit.score for hit in hits], atol=1e-6)


@pytest.mark.parametrize("query", ["red mill", "mill mill river", "grey", "nowhere"])
def test_scores_by_words(tmp_path, query):
    retrieval.build_index(tmp_path, TOWNS, kind="bm25", progress=False)
    texts = [retrieval.words(f"{town.title} {town.text}") for town in TOWNS]
    given = {"np": np, "math": math, "retrieval": retrieval, "documents": texts}
    given["lengths"] = np.array([len(text) for text in texts])
    ours = by_hand("01", "score_by_words", **given)(query)
    (hits,) = retrieval.open_index(tmp_path, TOWNS).search([query], len(TOWNS))
    theirs = {hit.passage.id: hit.score for hit in hits}
    assert np.allclose(ours, [theirs.get(town.id, 0.0) for town in TOWNS], rtol=1e-5)
    assert bool(theirs) == (query != "nowhere")


@pytest.mark.parametrize(
    "chain",
    [
        "I look up Doha.\n\nIt is the capital of Qatar.\n\n\\boxed{1}",
        "  One paragraph only.  ",
        "Two sentences. In one paragraph.\n \t\nThen the rest.\n\n",
    ],
)
def test_the_prefix(chain):
    assert by_hand("02", "prefix_by_hand", re=re)(chain) == first_thought.first_thought_prefix(
        chain
    )


def test_the_filter_on_every_kind_of_case():
    keep, kept = by_hand("02", "keep"), 0
    ends, errors = ("final_answer", "max_steps", "stop", "length"), ([], ["parse"], ["execution"])
    for correct, stopped, found, acts in itertools.product((1, 0), ends, errors, (True, False)):
        case = {"correct": correct, "stopped": stopped, "errors": found}
        case["parse_errors"] = found.count("parse")
        case |= {"trace": []} if acts else {}
        assert keep(case) == filtering.passes_filter(case), case
        kept += keep(case)
    assert kept == 4  # an agent's and a chain's, each with no error or one that was repaired


@pytest.mark.model
def test_the_token_mask():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(SMOL))
    turns = ["You solve it.", "What is 6 * 7?", "Thought: I act.\nCode:\n```py\n6 * 7\n```"]
    turns += ["Observation:\n42", "Thought: done.\nCode:\n```py\nfinal_answer(42)\n```"]
    roles = ["system", "user", "assistant", "user", "assistant"]
    talk = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]
    mask = by_hand("03", "mask_by_hand", tokenizer=tokenizer)
    for messages in (talk[:3], talk):
        (example,) = masks.build_examples([messages], tokenizer, 500)
        assert mask(messages) == (example.input_ids, example.labels)


@pytest.fixture(scope="module")
def tiny_llama():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **shape, **heads)).eval()


def test_the_loss(tiny_llama):
    import torch

    ids = [random.Random(0).randrange(50) for _ in range(30)]
    labels = [-100 if k % 3 else token for k, token in enumerate(ids)]
    loss = by_hand("03", "loss_by_hand")
    with torch.no_grad():
        ours = loss(tiny_llama, torch.tensor([ids]), torch.tensor([labels])).item()
        whole = training.token_loss(tiny_llama, [masks.Example("x", ids, labels)], "cpu").item()
    assert ours == pytest.approx(whole / sum(label != -100 for label in labels[1:]), rel=1e-5)


def test_one_lora_layer(tiny_llama, capsys):
    import torch
    from peft import LoraConfig, get_peft_model

    rank, alpha = 4, 8
    shape = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(tiny_llama, shape).eval()
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:  # zero before the first step
            torch.nn.init.normal_(weight)
    given = {"tuned": tuned, "ids": torch.arange(30)[None], "torch": torch}
    exec(cell("03", "by_hand = x @ W.T"), given | {"rank": rank, "alpha": alpha})
    assert "A (4, 32), B (64, 4)" in capsys.readouterr().out


@pytest.mark.model
def test_one_training_step(tmp_path, monkeypatch, capsys):
    """The cells of section 4 as they are on the page, on a random model of two layers."""
    import dataclasses
    import tempfile

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    install_tiny(tmp_path, SMOL)
    monkeypatch.setenv("AGENTLIB_HOME", str(tmp_path))
    random.seed(0)
    ids = [random.randrange(40_000) for _ in range(60)]
    shortest = masks.Example("x", ids, [-100 if k % 3 else token for k, token in enumerate(ids)])
    given = {
        "cfg": config.load("smoke"), "student": SMOL, "shortest": shortest,
        "ids": torch.tensor([ids]), "labels": torch.tensor([shortest.labels]),
        "loss_by_hand": by_hand("03", "loss_by_hand"),
        "dense": AutoModelForCausalLM.from_pretrained(weights.fetch(SMOL), dtype=torch.float32),
        "torch": torch, "dataclasses": dataclasses, "tempfile": tempfile, "distill": distill,
        "LoraConfig": LoraConfig, "get_peft_model": get_peft_model, "LocalModel": LocalModel,
        "training": training, "fine_tune": training.fine_tune, "pages": pages,
    }  # fmt: skip
    with torch.no_grad():
        loss = given["loss_by_hand"](given["dense"], given["ids"], given["labels"])
    given["untrained"] = loss.item()
    for part in ("optimizer.step()", "step = fine_tune("):
        source = cell("03", part)
        assert len(source.splitlines()) <= MOST_LINES
        exec(source, given)
    assert given["second"] < given["untrained"] and "fine_tune: loss" in capsys.readouterr().out


def test_the_vote_with_every_tie():
    kinds = [
        Outcome(answer=42, is_final=True),
        Outcome(answer="13", is_final=True),
        Outcome(stdout="<f at 0x7f>"),
        Outcome(failure=Failure("parse", "no")),
    ]
    question = types.SimpleNamespace(domain="math")
    vote, kept = by_hand("04", "vote", re=re, sag=sag, question=question), set()
    for some, lengths in itertools.product(
        itertools.product(kinds, repeat=4), [(1, 2, 3, 4), (4, 3, 2, 1), (2, 2, 1, 1)]
    ):
        theirs = sag.winner(sag.groups(some, lengths=lengths, domain="math"), lengths)
        assert vote(some, lengths) == theirs
        kept.add(theirs)
    assert kept == {0, 1, 2, 3}


def test_the_bootstrap_on_the_committed_cases(tmp_path, capsys):
    """On those of the teaching set, which are as those of `laptop` and do not wait for its run."""
    committed = records.read(config.ROOT / "figures" / "records" / "teaching" / "cases.jsonl")
    once = [case for case in committed if not case.get("training")]
    records.write_lines(tmp_path / "cases.jsonl", once)
    settings = types.SimpleNamespace(load=lambda _: types.SimpleNamespace(records=tmp_path))
    given = {"np": np, "config": settings, "figures": figures, "records": records, "pages": pages}
    for part in ("draw = np.random.default_rng(0)", "theirs = figures.compare("):
        source = cell("05b", part)
        assert len(source.splitlines()) <= MOST_LINES
        exec(source, given)
    assert "points [" in capsys.readouterr().out and given["low"] < given["high"]
