"""Distillation: what is learnt, the loss, exact resume, and adapters that plain PEFT loads."""

import dataclasses
import json
import math
import shutil
import time

import numpy as np
import pytest
import torch
from conftest import SMOL

from agentlib import config, distill, evaluate, masks, records, training
from agentlib.masks import IGNORED, Example
from agentlib.models import language, loading, weights
from agentlib.training import Distributed, TrainingSettings, checkpoints, cross_entropy, loop

NAMES = [SMOL, "Qwen2.5-Coder-0.5B-Instruct"]
TWO_STEPS = [
    {"role": "system", "content": "Write Python."},
    {"role": "user", "content": "Question: 6 times 7?"},
    {
        "role": "assistant",
        "content": "Thought: multiply.\nCode:\n```py\nprint(6 * 7)\n```<end_code>",
    },
    {"role": "user", "content": "Observation:\n42"},
    {"role": "assistant", "content": "```py\nfinal_answer(42)\n```<end_code>"},
]


def brief(question, reply):
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": question},
        {"role": "assistant", "content": reply},
    ]


PAIRS = {f"q{i}": brief(f"{i} + 1?", f"It is {i + 1}.") for i in range(4)} | {
    "long": brief("Which is it?", "It is the blue one, I am sure.")
}


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request):
    return load_tokenizer(request.param)


def load_tokenizer(name):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(weights.fetch_tokenizer(name))


@pytest.fixture(scope="module")
def examples():
    built = masks.build_examples(PAIRS, load_tokenizer(SMOL), 60)
    assert len(built) == 5 and all(len(e.input_ids) <= 60 for e in built)
    return built


def learnt(example, tokenizer):
    """The stretches of text there is loss on."""
    runs, now = [], []
    for token, label in zip(example.input_ids, example.labels, strict=True):
        if label == IGNORED:
            runs, now = ([*runs, now], []) if now else (runs, [])
        else:
            assert label == token
            now.append(token)
    return [tokenizer.decode(run) for run in ([*runs, now] if now else runs)]


# --- masks ------------------------------------------------------------------------------------------------------


def test_each_assistant_turn_is_learnt_with_its_end_and_nothing_else(tokenizer):
    (example,) = masks.build_examples({"q": TWO_STEPS}, tokenizer, 1000)
    assert learnt(example, tokenizer) == [
        m["content"] + "<|im_end|>" for m in TWO_STEPS if m["role"] == "assistant"
    ]


def test_the_tokens_are_those_that_generation_reads(tokenizer):
    (example,) = masks.build_examples({"q": TWO_STEPS}, tokenizer, 1000)
    first = example.labels.index(next(label for label in example.labels if label != IGNORED))
    prompt = language.render(tokenizer, TWO_STEPS[:2])
    assert (
        example.input_ids[:first]
        == language.encode(tokenizer, prompt)
        == tokenizer(prompt, add_special_tokens=False)["input_ids"]
    )
    whole = tokenizer.apply_chat_template(TWO_STEPS, tokenize=False)
    assert (
        whole.startswith(tokenizer.decode(example.input_ids))
        and whole.removeprefix(tokenizer.decode(example.input_ids)).strip() == ""
    )


def test_a_single_turn_has_one_learnt_stretch(tokenizer):
    (example,) = masks.build_examples({"q": brief("Hi?", "Hello.")}, tokenizer, 1000)
    assert learnt(example, tokenizer) == ["Hello.<|im_end|>"]


@pytest.mark.model
def test_longer_conversations_are_left_out_with_a_notice(caplog):
    tokenizer = load_tokenizer(SMOL)
    built = masks.build_examples({"short": PAIRS["q0"], "long": TWO_STEPS}, tokenizer, 50)
    assert [e.id for e in built] == ["short"]
    assert "1 of 2 conversations are longer than 50 tokens" in caplog.text


@pytest.mark.model
def test_conversations_in_a_list_are_known_by_their_places():
    tokenizer, talks = load_tokenizer(SMOL), list(PAIRS.values())
    places = dict(zip("01234", talks, strict=True))
    assert masks.build_examples(talks, tokenizer, 1000) == masks.build_examples(
        places, tokenizer, 1000
    )


@pytest.mark.model
def test_a_limit_no_conversation_fits_in_is_refused():
    tokenizer = load_tokenizer(SMOL)
    shortest = min(len(e.input_ids) for e in masks.build_examples(PAIRS, tokenizer, 1000))
    with pytest.raises(
        ValueError,
        match=rf"none of 5 conversations fits in 10 tokens \(the shortest has {shortest}\)",
    ):
        masks.build_examples(PAIRS, tokenizer, 10)
    with pytest.raises(ValueError, match="none of 0"):
        masks.build_examples({}, tokenizer, 10)


ROLES = "{% for m in messages %}<|{{ m.role }}|>"
TEMPLATES = {  # name: template, what is learnt behind a turn
    "as Phi-4-mini: eos unless a turn is asked for": (
        ROLES
        + "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% else"
        " %}{{ eos_token }}{% endif %}",
        "<|end|>",
    ),
    "eos behind each turn of the assistant": (
        ROLES
        + "{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}",
        "<|im_end|>",
    ),
    "as Llama: trimmed, with the day": (
        "{{ bos_token }}{{ date_string or strftime_now('%d %b %Y') }}"
        + ROLES
        + "{{ m.content | trim }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}",
        "<|im_end|>",
    ),
    "no end at all": (
        ROLES
        + "{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
        "\n",
    ),
}


def templated(template):
    tokenizer = load_tokenizer(SMOL)
    tokenizer.add_special_tokens(
        {"extra_special_tokens": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]}
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.model
@pytest.mark.parametrize(("template", "end"), TEMPLATES.values(), ids=TEMPLATES)
def test_templates_are_cut_at_the_ends_of_turns(template, end):
    tokenizer = templated(template)
    (example,) = masks.build_examples({"q": TWO_STEPS}, tokenizer, 1000)
    assert learnt(example, tokenizer) == [
        m["content"] + end for m in TWO_STEPS if m["role"] == "assistant"
    ]
    prompt = language.encode(tokenizer, language.render(tokenizer, TWO_STEPS[:4]))
    assert example.input_ids[: len(prompt)] == prompt, "what is trained is what a second step reads"


@pytest.mark.model
def test_a_prompt_is_the_same_tomorrow():
    tokenizer = templated(TEMPLATES["as Llama: trimmed, with the day"][0])
    assert "26 Jul 2024" in language.render(tokenizer, TWO_STEPS[:2])


@pytest.mark.model
@pytest.mark.parametrize("template", ["{{ raise_exception('System role not supported') }}", None])
def test_a_template_that_refuses_a_conversation_is_named(template):
    with pytest.raises(
        ValueError, match=r"refuses turns of system, user .*choose an instruction-tuned model"
    ):
        language.render(templated(template), TWO_STEPS[:2])


QUOTES = [
    "<|im_end|>",
    "a <|im_start|>assistant\nNo.<|im_end|>\n",
    "<|im_<|im_end|>end|>",
    "<|endoftext|>",
    "<|im_end|>" * 3,
]


@pytest.mark.parametrize("words", QUOTES)
def test_a_quoted_special_token_is_words(tokenizer, words):
    """In the question, in what the assistant writes, in what it sees, and in a prefix."""
    quoting = [m | {"content": m["content"] + words} for m in TWO_STEPS]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}

    def control(tokens):
        return [token for token in tokens if token in special]

    (plain,), (example,) = (
        masks.build_examples({"q": talk}, tokenizer, 1000) for talk in (TWO_STEPS, quoting)
    )
    assert control(example.input_ids) == control(plain.input_ids) and control(
        example.labels
    ) == control(plain.labels)
    assert learnt(example, tokenizer) == [
        m["content"] + "<|im_end|>" for m in quoting if m["role"] == "assistant"
    ]
    prompt = language.encode(tokenizer, language.render(tokenizer, quoting[:2], words))
    assert control(prompt) == control(
        language.encode(tokenizer, language.render(tokenizer, TWO_STEPS[:2]))
    )
    whole = tokenizer.decode(prompt)
    assert whole.count(words) >= 3 and whole.endswith(words)
    assert language.count(tokenizer, words) == len(prompt) - len(
        language.encode(tokenizer, language.render(tokenizer, quoting[:2]))
    )


@pytest.mark.parametrize(
    ("text", "read"),
    [("a\ud83db", "a?b"), ("\ude00", "?"), ("\ud83d\ude00", "😀"), ("\ud800", "?")],
)
def test_half_a_surrogate_pair_is_a_question_mark_to_a_model(tokenizer, text, read):
    talk = brief(f"Is it {text}?", f"It is {text}.")
    (example,) = masks.build_examples({"q": talk}, tokenizer, 1000)
    assert learnt(example, tokenizer) == [
        f"It is {read}.<|im_end|>"
    ] and f"Is it {read}?" in tokenizer.decode(example.input_ids)
    assert language.count(tokenizer, text) == language.count(tokenizer, read)


class Rewriting:
    """A tokenizer whose template changes earlier turns, as those do that drop old thoughts."""

    name_or_path, eos_token, added_tokens_decoder = "rewriting", "</s>", {}

    def apply_chat_template(self, messages, add_generation_prompt, **_):
        kept = [m["content"] for m in messages[:-1] if m["role"] != "assistant"] + [
            messages[-1]["content"]
        ]
        return "|".join(kept) + ("|" if add_generation_prompt else "</s>")


def test_a_template_that_rewrites_earlier_turns_is_refused():
    with pytest.raises(ValueError, match="'rewriting' rewrites earlier turns"):
        masks.segments(TWO_STEPS, Rewriting())


# --- loss -------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_plain_one_over_all_logits(smol, examples):
    batch = [examples[0], examples[-1]]
    expected = 0.0
    with torch.no_grad():
        for example in batch:
            logits = smol.base(torch.tensor([example.input_ids])).logits[0].float().log_softmax(-1)
            expected -= sum(
                float(logits[i - 1, label])
                for i, label in enumerate(example.labels)
                if label != IGNORED
            )
        assert float(loop.token_loss(smol.base, batch, "cpu")) == pytest.approx(expected, rel=1e-4)


def test_a_batch_in_parts_has_the_mean_loss_a_token_and_the_same_gradients(monkeypatch):
    model = torch.nn.Linear(1, 1)

    def by_label(ids, labels):
        return model(labels[:, 1:][labels[:, 1:] != IGNORED].float()[:, None]).sum()

    batch = [
        Example("a", [1, 2, 3], [IGNORED, 2, 3]),
        Example("b", [1, 2, 3, 4], [IGNORED, IGNORED, IGNORED, 4]),
    ]
    found = {}
    for budget in (1, 10_000):
        monkeypatch.setitem(loop.MICRO_TOKENS, "cpu", budget)
        model.zero_grad()
        loss, tokens = loop._accumulate(by_label, batch, "cpu", "fp32", Distributed())
        found[budget] = (loss, float(model.weight.grad))
        assert tokens == 7
    assert found[1] == pytest.approx(found[10_000]) and found[1][1] == pytest.approx(
        (2 + 3 + 4) / 3
    )


def test_each_epoch_sees_every_example_once_in_its_own_order():
    lengths = [5, 1, 9, 2, 8, 3, 7]
    one, two = loop.order(lengths, 3, 1), loop.order(lengths, 3, 2)
    assert all(
        sorted(k for batch in epoch for k in batch) == list(range(7)) for epoch in (one, two)
    )
    assert one == loop.order(lengths, 3, 1) != two and sorted(map(len, one)) == [1, 3, 3]


def test_a_batch_holds_examples_of_like_length():
    lengths = np.random.default_rng(0).integers(100, 2000, 320).tolist()
    batches = loop.order(lengths, 4, 0)
    padded = sum(4 * max(lengths[k] for k in batch) for batch in batches)
    assert padded < 1.15 * sum(lengths), "shuffled alone it is 1.5"
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts != sorted(firsts) and firsts != sorted(firsts, reverse=True), (
        "not from short to long"
    )


# --- training ---------------------------------------------------------------------------------------------------


def settings(**changed):
    return TrainingSettings(
        **{
            "lora_rank": 4,
            "lora_alpha": 8,
            "lora_dropout": 0.1,
            "batch_size": 2,
            "epochs": 1,
            "learning_rate": 5e-3,
        }
        | changed
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, examples):
    """Three undisturbed steps of LoRA."""
    folder = tmp_path_factory.mktemp("lora") / "adapter"
    return folder, loop.fine_tune(SMOL, examples, settings(), folder)


def curve(adapter):
    return [line["loss"] for line in adapter.losses]


def test_training_makes_a_curve_with_a_falling_rate_and_learns(trained, examples, smol):
    _, adapter = trained
    assert [line["step"] for line in adapter.losses] == [0, 1, 2] and all(
        map(math.isfinite, curve(adapter))
    )
    rates = [line["learning_rate"] for line in adapter.losses]
    assert rates == pytest.approx([5e-3, 5e-3 * 2 / 3, 5e-3 / 3])

    def loss():
        with torch.no_grad():
            return float(loop.token_loss(smol._model, examples, "cpu"))

    before = loss()
    try:
        smol.use(adapter.path)
        assert loss() < before
    finally:
        smol.use(None)


def test_a_finished_run_is_returned_as_it_is(trained, examples, monkeypatch):
    folder, adapter = trained
    monkeypatch.setattr(loop, "_student", lambda *_: pytest.fail("it was trained again"))
    assert (
        loop.fine_tune(SMOL, examples, settings(), folder)
        == adapter
        == checkpoints.finished(folder)
    )
    assert not (folder / "checkpoint.pt").exists()


def test_a_folder_holds_one_run_and_says_what_shaped_it(trained, examples):
    folder, _ = trained
    said = json.loads((folder / "config.json").read_text())
    assert said["base"] == SMOL and said["lora_rank"] == 4 and "save_seconds" not in said
    with pytest.raises(
        ValueError,
        match=r"adapter holds a training run with epochs 1, expected 3; give another folder",
    ):
        loop.fine_tune(SMOL, examples, settings(epochs=3), folder)
    with pytest.raises(ValueError, match="holds a training run with examples"):
        loop.fine_tune(SMOL, examples[:2], settings(), folder)


def test_a_run_that_never_trained_is_replaced(tmp_path):
    with pytest.raises(ValueError, match="did you mean"):
        loop.fine_tune("SmolLM2-135M-Instuct", [], settings(), tmp_path)
    assert checkpoints.check_configuration(tmp_path, {"base": SMOL}) is None
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(
        ValueError, match="with base 'SmolLM2-135M-Instuct', expected 'SmolLM2-135M-Instruct'"
    ):
        checkpoints.check_configuration(
            tmp_path, json.loads((tmp_path / "config.json").read_text()) | {"base": SMOL}
        )


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"tuning": "dora"}, "tuning is 'dora', expected one of lora, qlora, full"),
     ({"precision": "fp16"}, "precision is 'fp16', expected one of auto, fp32, bf16"),
     ({"epochs": 0}, "epochs is 0, expected 1 or more"),
     ({"learning_rate": 0.0}, "learning_rate is 0.0, expected a number above 0"),
     ({"lora_dropout": 1.0}, "lora_dropout is 1.0")],
)  # fmt: skip
def test_settings_that_nothing_can_be_trained_with_are_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        settings(**changed)


def test_the_settings_of_a_training_are_the_papers_and_those_of_a_configuration():
    assert (
        distill.training_settings(dataclasses.replace(config.PAPER, tuning="lora"))
        == TrainingSettings()
    )
    smoke = distill.training_settings(
        config.load("smoke", tuning="full", full_learning_rate=3e-5, weights="hub")
    )
    assert (smoke.peak_rate, smoke.batch_size, smoke.weights) == (
        3e-5,
        config.SMOKE.batch_size,
        "hub",
    )


def test_an_unfinished_run_names_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="train it with notebook 03"):
        checkpoints.finished(tmp_path / "adapter")


def test_the_adapter_is_plain_peft(trained):
    saved = json.loads((trained[1].path / "adapter_config.json").read_text())
    assert (saved["r"], saved["lora_alpha"], saved["base_model_name_or_path"]) == (
        4,
        8,
        f"HuggingFaceTB/{SMOL}",
    )
    assert {p.name for p in trained[1].path.iterdir()} >= {
        "adapter_model.safetensors",
        "tokenizer.json",
    }


def test_an_interrupted_run_goes_on_with_the_losses_of_an_undisturbed_one(
    trained, examples, tmp_path, monkeypatch
):
    folder, real, calls = tmp_path / "adapter", loop._accumulate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_accumulate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.fine_tune(SMOL, examples, settings(save_seconds=0), folder)
    assert (folder / "checkpoint.pt").exists() and not (folder / "finished.json").exists()
    torch.rand(7)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_accumulate", lambda *a: (calls.append(1), real(*a))[1])
        resumed = loop.fine_tune(SMOL, examples, settings(save_seconds=0), folder)
    assert len(calls) == 4, "two steps before, one after"
    assert curve(resumed) == pytest.approx(curve(trained[1]), rel=1e-5)
    assert weights._content(resumed.path / "adapter_config.json") == weights._content(
        trained[1].path / "adapter_config.json"
    )
    ours, theirs = (load_adapter(a.path) for a in (resumed, trained[1]))
    assert all(torch.allclose(ours[k], theirs[k], atol=1e-5) for k in theirs)


@pytest.mark.full
def test_checkpoints_that_take_long_are_written_seldom(examples, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(checkpoints, "write", lambda *_: (written.append(1), time.sleep(1)))
    adapter = loop.fine_tune(SMOL, examples, settings(save_seconds=0.001), tmp_path / "adapter")
    assert len(adapter.losses) == 3 and len(written) == 1, "the next was due after half a minute"


def load_adapter(folder):
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_a_loss_that_is_no_number_stops_with_step_and_ids(examples, tmp_path, monkeypatch):
    real = loading.load_weights

    def poisoned(*arguments, **settings):
        model = real(*arguments, **settings)
        model.get_input_embeddings().weight.data[examples[0].input_ids[0]] = float("nan")
        return model

    monkeypatch.setattr(loading, "load_weights", poisoned)
    folder = tmp_path / "adapter"
    with pytest.raises(FloatingPointError) as error:
        loop.fine_tune(SMOL, examples[:1], settings(), folder)
    assert (
        "at step 0" in str(error.value)
        and "'q0'" in str(error.value)
        and "learning_rate" in str(error.value)
    )
    assert not (folder / "finished.json").exists()


def test_qlora_trains_on_a_cpu_and_saves_an_adapter_that_plain_peft_loads(examples, tmp_path):
    from peft import PeftModel

    folder = tmp_path / "adapter"
    adapter = loop.fine_tune(SMOL, examples[:3], settings(tuning="qlora"), folder)
    assert len(adapter.losses) == 2 and all(map(math.isfinite, curve(adapter)))
    plain = loading.load_weights(weights.fetch(SMOL), "cpu", "fp32", quantise=False)
    loaded = PeftModel.from_pretrained(plain, adapter.path)
    found = {k: v for k, v in loaded.named_parameters() if "lora_B" in k}
    saved = load_adapter(adapter.path)
    assert found and all(torch.equal(v, saved[k.replace(".default", "")]) for k, v in found.items())
    assert any(v.abs().sum() > 0 for v in found.values())


@pytest.mark.full
def test_full_tuning_saves_a_whole_model_that_differs_from_its_base(examples, tmp_path, smol):
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "adapter"
    adapter = loop.fine_tune(
        SMOL, examples[:1], settings(tuning="full", full_learning_rate=1e-3), folder
    )
    assert len(adapter.losses) == 1 and adapter.losses[0]["learning_rate"] == 1e-3
    assert not (adapter.path / "adapter_config.json").exists()
    model = AutoModelForCausalLM.from_pretrained(adapter.path)
    try:
        smol.use(adapter.path)
        with torch.no_grad():
            ids = torch.tensor([examples[0].input_ids])
            assert torch.allclose(smol._model(ids).logits, model(ids).logits, atol=1e-4)
    finally:
        smol.use(None)
    layer = "model.layers.0.mlp.down_proj.weight"
    assert not torch.equal(model.state_dict()[layer], smol.base.state_dict()[layer])


# --- what a student is trained on -------------------------------------------------------------------------------


def teacher_case(number, **changed):
    return {
        "id": f"q{number}",
        "question": f"{number}?",
        "benchmark": "teaching-math-train",
        "domain": "math",
        "correct": True,
        "stopped": "final_answer",
        "parse_errors": 0,
        "trace": [{"text": "```py\nfinal_answer(1)\n```<end_code>", "observation": ""}],
    } | changed


def chain_case(number):
    case = teacher_case(number, stopped="stop", text="It is \\boxed{1}.")
    return {name: value for name, value in case.items() if name != "trace"}


def test_training_cases_are_those_the_filter_keeps(project):
    cfg = config.load("smoke", train_examples=2)
    file = distill.teach.records_path(cfg, "agent")
    records.write_lines(
        file,
        [
            teacher_case(0, correct=False),
            *map(teacher_case, range(1, 5)),
            {"id": "q9", "error": "x"},
        ],
    )
    assert [c["id"] for c in distill.training_cases(cfg, "agent_distill")] == ["q1", "q2"]
    assert len(distill.training_cases(config.load("smoke", train_examples=0), "agent_distill")) == 4
    records.write_lines(file, [teacher_case(0, correct=False)])
    with pytest.raises(
        ValueError, match=r"teacher_agent\.jsonl has no case that passes the filter"
    ):
        distill.training_cases(cfg, "agent_distill")
    with pytest.raises(ValueError, match="'agent' is not trained, expected one of cot_distill"):
        distill.training_cases(cfg, "agent")


def test_matched_students_learn_from_the_questions_that_both_agents_have_a_kept_run_of(project):
    cfg = config.load("smoke", taught_on="matched")
    prefixed = [teacher_case(2), teacher_case(3, correct=False), *map(teacher_case, (5, 4))]
    for kind, found in {
        "agent": map(teacher_case, range(1, 5)),
        "agent_ftp": prefixed,
        "cot": [chain_case(1), chain_case(2)],
    }.items():
        records.write_lines(distill.teach.records_path(cfg, kind), found)

    def ids(method, **own):
        own_cfg = dataclasses.replace(cfg, **own)
        return [case["id"] for case in distill.training_cases(own_cfg, method)]

    assert ids("agent_distill") == ["q2", "q4"] and ids("agent_distill_ftp") == ["q2", "q4"]
    assert ids("cot_distill") == ["q2"], "of the other methods' runs, those of these questions"
    assert ids("agent_distill", train_examples=1) == ["q2"]
    assert ids("agent_distill_ftp", taught_on="all") == ["q2", "q5", "q4"]
    folders = {
        distill.adapter_run(dataclasses.replace(cfg, taught_on=one), "s", "agent_distill").folder
        for one in config.TAUGHT_ON
    }
    assert len(folders) == 2, "named by the data"
    records.write_lines(distill.teach.records_path(cfg, "agent_ftp"), [teacher_case(9)])
    with pytest.raises(ValueError, match="none of the 4 questions of which"):
        ids("agent_distill")


def test_what_is_trained_on_are_conversations_and_rag_has_passages_in_front(project):
    cfg = config.load("smoke")
    chain = {
        **teacher_case(1),
        "question": "Where is Lima?",
        "stopped": "stop",
        "text": "In Peru. \\boxed{Peru}",
    }
    del chain["trace"]
    records.write_lines(distill.teach.records_path(cfg, "cot"), [chain])
    (plain,) = distill.conversations(cfg, "cot_distill").values()
    (shown,) = distill.conversations(
        cfg, "cot_distill_rag", lambda text: f"FOUND for {text}"
    ).values()
    assert "FOUND" not in str(plain) and "FOUND for Where is Lima?" in shown[-2]["content"]
    assert plain[-1] == shown[-1] == {"role": "assistant", "content": chain["text"]}
    with pytest.raises(
        ValueError, match="'cot_distill_rag' trains on retrieved passages, expected a search"
    ):
        distill.conversations(cfg, "cot_distill_rag")


def test_a_student_that_was_trained_is_not_trained_again(project, monkeypatch):
    cfg = config.load("smoke")
    records.write_lines(distill.teach.records_path(cfg, "agent"), [teacher_case(1)])
    run = distill.adapter_run(cfg, SMOL, "agent_distill")
    records.write_lines(run.folder / "loss.jsonl", [{"step": 0, "loss": 1.0}])
    records.write_json(run.folder / "finished.json", {})
    (run.folder / "student").mkdir()
    monkeypatch.setattr(loop, "fine_tune", None)  # would be called
    assert distill.train(cfg, SMOL, "agent_distill").losses == ({"step": 0, "loss": 1.0},)


def test_a_committed_adapter_is_the_student_wherever_it_is_needed(project, trained, monkeypatch):
    cfg = config.load("smoke")
    records.write_lines(distill.teach.records_path(cfg, "agent"), [teacher_case(1)])
    run = distill.adapter_run(cfg, SMOL, "agent_distill")
    shutil.copytree(trained[0], run.folder)
    exact, kept = load_adapter(run.folder / "student"), distill.committed(cfg, run)
    checkpoints.keep(run.folder, kept)
    assert sum(f.stat().st_size for f in kept.iterdir()) < 1.1 * sum(
        2 * tensor.numel() for tensor in exact.values()
    )
    own = load_adapter(run.folder / "student")
    assert all(
        own[name].dtype == torch.bfloat16 and torch.equal(own[name], exact[name].bfloat16())
        for name in exact
    ), "the run's own adapter is rounded, too"
    shutil.rmtree(cfg.runs)
    monkeypatch.setattr(loop, "fine_tune", None)  # would be called
    adapter = distill.train(cfg, SMOL, "agent_distill")
    assert adapter.losses == trained[1].losses and adapter.path == run.folder / "student"
    assert all(torch.equal(load_adapter(adapter.path)[name], own[name]) for name in own)
    shutil.rmtree(cfg.runs)
    one = evaluate.Condition(SMOL, "agent_distill", 1, cfg.benchmarks)
    model, adapters = evaluate.open_student(cfg, SMOL, [one])
    model.use(adapters["agent_distill", 0])
    assert model.adapter == run.folder / "student"


def test_a_whole_model_is_too_large_to_be_kept(tmp_path):
    (tmp_path / "run" / "student").mkdir(parents=True)
    records.write_json(tmp_path / "run" / "finished.json", {})
    records.write_lines(tmp_path / "run" / "loss.jsonl", [])
    with pytest.raises(ValueError, match="is a whole model, expected an adapter"):
        checkpoints.keep(tmp_path / "run", tmp_path / "kept")


def test_the_folder_of_a_training_names_its_data_and_all_that_shapes_the_weights(project):
    file = distill.teach.records_path(config.load("smoke"), "agent")
    records.write_lines(file, [teacher_case(1), teacher_case(2)])

    def folder(**changed):
        return distill.adapter_run(config.load("smoke", **changed), SMOL, "agent_distill").folder

    first = folder()
    assert first == folder(questions=9) == folder(temperature=0.9)
    assert (
        len(
            {
                first,
                folder(lora_rank=4),
                folder(epochs=3),
                folder(tuning="qlora"),
                folder(train_examples=1),
            }
        )
        == 5
    )
    records.write_lines(file, [teacher_case(1), teacher_case(2, question="Changed?")])
    assert folder() != first


@pytest.mark.model
def test_the_likelihood_of_an_example_is_that_of_its_learnt_tokens():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    talks = {
        "plain": [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "1 2 3"}],
        "odd": [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "zx qv k"}],
    }
    own = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(SMOL))
    examples = masks.build_examples(talks, own, 128)
    found = training.likelihoods(SMOL, examples, precision="fp32")
    model = AutoModelForCausalLM.from_pretrained(weights.fetch(SMOL), dtype=torch.float32)
    for example in examples:
        ids, labels = (torch.tensor([part]) for part in (example.input_ids, example.labels))
        with torch.inference_mode():
            mean = float(model(input_ids=ids, labels=labels).loss)
        assert found[example.id].per_token == pytest.approx(mean, rel=1e-4)
        assert len(found[example.id].each) == sum(label != -100 for label in example.labels)
    assert found["plain"].per_token < found["odd"].per_token
    nothing = masks.Example("nothing", [1, 2, 3], [-100] * 3)
    assert training.likelihoods(SMOL, [nothing], precision="fp32") == {}


# --- the loss of many tokens, in parts ----------------------------------------------------------


@pytest.mark.parametrize("part_tokens", [1, 3, 7])
@pytest.mark.parametrize("trained_head", [False, True])
def test_cross_entropy_in_parts_is_that_of_one_piece(monkeypatch, part_tokens, trained_head):
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50, bias=False).requires_grad_(trained_head)
    states, targets = torch.randn(10, 16), torch.randint(0, 50, (10,))
    monkeypatch.setattr(cross_entropy, "PART_BYTES", 4 * 50 * part_tokens)
    found = []
    for whole in (True, False):
        own = states.clone().requires_grad_()
        head.weight.grad = None
        if whole:
            loss = torch.nn.functional.cross_entropy(head(own), targets, reduction="sum")
        else:
            assert cross_entropy.needs_parts(own, head)
            loss = cross_entropy.in_parts(own, head, targets)
        (loss / 7).backward()
        found.append([loss.detach(), own.grad, head.weight.grad])
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_parts_are_for_many_tokens_and_a_plain_head():
    small = torch.nn.Linear(4, 10, bias=False)
    many = torch.zeros(cross_entropy.PART_BYTES // 40 + 1, 1).expand(-1, 4)
    assert cross_entropy.needs_parts(many, small)
    assert not cross_entropy.needs_parts(many[:-1], small)
    assert not cross_entropy.needs_parts(many, torch.nn.Linear(4, 10))


@pytest.mark.model
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_student_trains_alike_with_its_loss_in_parts(monkeypatch, tmp_path, tuning):
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(SMOL))
    examples = masks.build_examples(PAIRS, own, 128)
    settings = TrainingSettings(
        tuning=tuning, epochs=1, batch_size=2, precision="fp32", lora_rank=4
    )
    curves = []
    for name, size in (("whole", cross_entropy.PART_BYTES), ("parts", 4 * len(own) * 3)):
        monkeypatch.setattr(cross_entropy, "PART_BYTES", size)
        trained = training.fine_tune(SMOL, examples, settings, tmp_path / name, device="cpu")
        curves.append([step["loss"] for step in trained.losses])
    # in one piece it is torch's own log_softmax, which is off by up to 2e-5 a token in 32 bits (more
    # on AVX2 than on AVX-512); in parts the error is a hundred times smaller
    assert curves[0][0] == pytest.approx(curves[1][0], rel=5e-5)
    # Adam's first step is the sign of each gradient, and some are zero but for rounding
    assert curves[0] == pytest.approx(curves[1], rel=2e-4)
