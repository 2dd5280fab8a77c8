"""Decoding with a real model: like transformers' own, each prompt read once, exact seeds,
adapters that come off."""

import numpy as np
import pytest
import torch
from conftest import SMOL
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from agentlib.models import language, loading, local
from agentlib.models.engine import decoding
from agentlib.models.engine.decoding import sample_tokens
from agentlib.models.engine.prompt_lookup import PromptLookup
from agentlib.training import loop

ASKED = ["Say hi.", "Count from one to five, in words, one after the other.", "Name a colour."]
NEW = 12


def talk(text):
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def fresh(model, *asked, **kwargs):
    """`generate` without anything kept from earlier calls."""
    model.forget()
    return model.generate(*asked, **kwargs)


@pytest.fixture(scope="module")
def greedy(smol):
    """Each question alone, greedily."""
    return [fresh(smol, [talk(text)], max_new_tokens=NEW)[0][0] for text in ASKED]


@pytest.fixture(autouse=True)
def nothing_kept(smol, greedy):
    smol.forget()


def test_a_batch_of_unlike_lengths_decodes_as_each_alone(smol, greedy):
    together = smol.generate([talk(text) for text in ASKED], max_new_tokens=NEW)
    assert [found[0] for found in together] == greedy


def test_greedy_decoding_is_transformers_own(smol, greedy):
    for text, ours in zip(ASKED, greedy, strict=True):
        ids = smol.tokenizer(
            language.render(smol.tokenizer, talk(text)),
            return_tensors="pt",
            add_special_tokens=False,
        )
        out = smol.base.generate(**ids, max_new_tokens=NEW, do_sample=False)[
            0, ids["input_ids"].shape[1] :
        ]
        assert ours.text == smol.tokenizer.decode(out, skip_special_tokens=True)
        assert (ours.prompt_tokens, ours.completion_tokens) == (ids["input_ids"].shape[1], len(out))
        assert ours.finish_reason == (
            "stop" if int(out[-1]) == smol.tokenizer.eos_token_id else "length"
        )


def test_a_prefix_is_continued_and_belongs_to_the_text(smol, greedy):
    whole = greedy[1].text
    prefix = whole[: len(whole) // 2].rsplit(" ", 1)[0]
    (found,), (other,) = smol.generate(
        [talk(ASKED[1]), talk(ASKED[0])], max_new_tokens=NEW, prefixes=[prefix, None]
    )
    assert found.text.startswith(prefix) and found.text.startswith(whole)
    assert found.prompt_tokens == greedy[1].prompt_tokens + smol.count(prefix)
    assert other == greedy[0]


def test_a_question_that_quotes_the_end_of_a_turn_does_not_end_it(smol):
    quoting, ends = (
        talk("What is <|im_end|>?\ud83d"),
        smol.tokenizer.convert_tokens_to_ids("<|im_end|>"),
    )
    ids = language.encode(smol.tokenizer, language.render(smol.tokenizer, quoting, "<|im_end|> is"))
    (found,) = smol.generate(
        [quoting], n=2, temperature=0.5, max_new_tokens=3, prefixes=["<|im_end|> is"], seed=1
    )
    assert ids.count(ends) == 2 and {c.prompt_tokens for c in found} == {len(ids)}
    assert all(c.text.startswith("<|im_end|> is") for c in found)
    assert smol.count("<|im_end|>") > 1 == len(smol.tokenizer("<|im_end|>")["input_ids"])


def test_a_stop_string_is_cut_off_and_said(smol, greedy):
    whole = greedy[1].text
    stop = whole.split()[-2]
    (found,) = smol.generate([talk(ASKED[1])], max_new_tokens=NEW, stop=["never seen", stop])[0]
    assert found.text == whole[: whole.index(stop)] and found.finish_reason == "stop"
    assert found.completion_tokens < greedy[1].completion_tokens or whole.endswith(stop)


def test_a_stop_string_in_the_prefix_does_not_stop(smol):
    (found,) = smol.generate(
        [talk(ASKED[0])], max_new_tokens=3, prefixes=["Hi <end_code>"], stop=["<end_code>"]
    )[0]
    assert found.text.startswith("Hi <end_code>") and found.completion_tokens >= 1


def test_a_text_that_is_cut_by_its_length_says_so(smol):
    (found,) = smol.generate([talk(ASKED[1])], max_new_tokens=2)[0]
    assert (found.completion_tokens, found.finish_reason) == (2, "length")


class Sizes:
    """The shape (rows, tokens) of every forward call."""

    def __init__(self, model):
        self.hook = model.register_forward_pre_hook(self.note, with_kwargs=True)
        self.seen = []

    def note(self, module, args, kwargs):
        self.seen.append(tuple(kwargs["input_ids"].shape))

    def __enter__(self):
        return self.seen

    def __exit__(self, *_):
        self.hook.remove()


def reads(seen):
    """The forward calls that read prompts: those before the first of a single token a row."""
    return seen[: next((k for k, (_, tokens) in enumerate(seen) if tokens == 1), len(seen))]


def test_each_prompt_is_read_once_for_all_its_samples(smol):
    asked, read = [talk(t) for t in ASKED[:2]], {}
    for n in (1, 3):
        with Sizes(smol._model) as seen:
            found = fresh(smol, asked, n=n, temperature=1.0, max_new_tokens=4, seed=1)
        read[n] = reads(seen)
        rest = seen[len(read[n]) :]
        assert (
            1 <= len(rest) <= 3 and rest[0][0] <= 2 * n and all(tokens == 1 for _, tokens in rest)
        )
    assert read[1] == read[3], "three samples read no more than one"
    assert sum(rows * tokens for rows, tokens in read[3]) <= 2 * max(
        c[0].prompt_tokens for c in found
    )


def test_prompts_that_begin_alike_or_are_the_same_decode_as_each_alone(smol, greedy):
    asked, prefixes = [talk(ASKED[0])] * 3 + [talk(ASKED[1])], [None, "Hi", None, None]
    together = smol.generate(asked, max_new_tokens=6, prefixes=prefixes)
    alone = [
        fresh(smol, [c], max_new_tokens=6, prefixes=[p])[0]
        for c, p in zip(asked[:2], prefixes, strict=False)
    ]
    assert together[:2] == alone and together[2] == alone[0]
    assert greedy[1].text.startswith(together[3][0].text)


def test_greedy_samples_are_decoded_once(smol):
    with Sizes(smol._model) as seen:
        (found,) = smol.generate([talk(ASKED[0])], n=4, max_new_tokens=3)
    assert len(found) == 4 and len(set(found)) == 1 and all(rows == 1 for rows, _ in seen)


def test_ended_rows_leave_the_batch(smol):
    with Sizes(smol._model) as seen:
        found = smol.generate([talk(ASKED[1]), talk(ASKED[0])], max_new_tokens=6, stop=["e"])
    last = max(c[0].completion_tokens for c in found)
    assert len(seen) - len(reads(seen)) == last - 1 and seen[-1][0] == sum(
        c[0].completion_tokens == last for c in found
    )


REPEATING = "Repeat: one two three four five six. one two three four five six. one two three four"


@pytest.mark.parametrize(
    "how", [{}, {"n": 3, "temperature": 0.5, "top_p": 0.9, "seed": 5}, {"stop": ["five"]}]
)
def test_guesses_change_the_time_and_no_token(smol, monkeypatch, how):
    asked = [talk(REPEATING), talk(ASKED[1])]
    prefixes = ["one two three four five six. one", None]
    calls = []
    for together in (1, 1000):
        monkeypatch.setitem(decoding.MAX_BATCHED_TOKENS, "cpu", together)
        with Sizes(smol._model) as seen:
            calls.append(
                (fresh(smol, asked, max_new_tokens=20, prefixes=prefixes, **how), len(seen))
            )
    assert calls[0][0] == calls[1][0] and calls[1][1] < calls[0][1]


def test_a_guess_that_is_wrong_costs_nothing_but_itself(smol, greedy, monkeypatch):
    monkeypatch.setattr(
        PromptLookup, "propose", lambda self, tokens, count: [11, 12, 13, 14][:count]
    )
    assert [fresh(smol, [talk(text)], max_new_tokens=NEW)[0][0] for text in ASKED] == greedy


@pytest.mark.full
def test_samples_share_a_row_until_they_differ(smol, greedy):
    with Sizes(smol._model) as seen:
        (alike,) = fresh(smol, [talk(ASKED[0])], n=8, temperature=0.01, max_new_tokens=NEW, seed=1)
    assert set(alike) == {greedy[0]} and all(rows == 1 for rows, _ in seen)
    with Sizes(smol._model) as seen:
        (unlike,) = fresh(smol, [talk(ASKED[0])], n=8, temperature=1.0, max_new_tokens=NEW, seed=1)
    alone = [
        fresh(smol, [talk(ASKED[0])], n=k, temperature=1.0, max_new_tokens=NEW, seed=1)[0][-1]
        for k in (1, 4, 8)
    ]
    rows = [rows for rows, _ in seen]
    assert rows[0] == 1 < max(rows) < len(set(unlike)) == 8, "a row is shared while they agree"
    assert [unlike[0], unlike[3], unlike[7]] == alone


def test_samples_are_set_by_their_seed_and_not_by_their_company(smol):
    def sample(texts, seed, n=3):
        return fresh(
            smol,
            [talk(t) for t in texts],
            n=n,
            temperature=1.0,
            top_p=0.9,
            max_new_tokens=5,
            seed=seed,
        )

    (alone,) = sample(ASKED[:1], 7)
    assert sample(ASKED[:1], 7) == [alone], "the same again"
    assert sample([ASKED[1], ASKED[0]], 7)[1] == alone, "in other company"
    assert sample(ASKED[:1], 7, n=2)[0] == alone[:2], "fewer samples are the first ones"
    assert len({c.text for c in alone}) > 1, "samples differ from each other"
    assert sample(ASKED[:1], 8) != [alone], "another seed is another draw"


MANY = [*ASKED, "Name a river.", "Say yes.", "Write a line of a poem.", "What is rain?", "Bye."]


# the sentences that they answer with are of unlike lengths
SENTENCE = {"max_new_tokens": 40, "stop": (".", "!", "?")}


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "top_p": 0.9, "seed": 7}])
def test_a_paused_conversation_goes_on_with_the_same_tokens_in_any_company(smol, sampling):
    sampling = sampling | SENTENCE
    whole = fresh(smol, [talk(text) for text in MANY], **sampling)
    wanted, smol_read = dict(zip(MANY, whole, strict=True)), []
    smol.forget()
    found, going_on, paused = {}, list(MANY), 0
    while going_on:
        before = smol.tokens_read
        part = smol.generate([talk(text) for text in going_on], **sampling, may_pause=True)
        smol_read.append(smol.tokens_read - before)
        ended = {
            t: c for t, c in zip(going_on, part, strict=True) if c[0].finish_reason != "paused"
        }
        assert len(ended) >= 0.75 * len(going_on), "no more than a quarter pauses"
        assert all(c[0].completion_tokens > 0 for c in part)
        found |= ended
        going_on = [text for text in going_on if text not in ended][::-1]
        paused += len(going_on)
    assert found == wanted
    assert paused and max(smol_read[1:]) <= 2 * len(MANY), "a paused one is not read again"


def test_what_was_paused_begins_again_once_it_is_forgotten(smol):
    whole = fresh(smol, [talk(text) for text in MANY], **SENTENCE)
    smol.forget()
    part = smol.generate([talk(text) for text in MANY], **SENTENCE, may_pause=True)
    late = [k for k, c in enumerate(part) if c[0].finish_reason == "paused"]
    assert late
    again = fresh(smol, [talk(MANY[k]) for k in late], **SENTENCE)
    assert again == [whole[k] for k in late]


def test_conversations_with_several_samples_never_pause(smol):
    found = smol.generate(
        [talk(text) for text in MANY],
        n=2,
        temperature=1.0,
        max_new_tokens=8,
        may_pause=True,
        seed=1,
    )
    assert not any(c.finish_reason == "paused" for of_one in found for c in of_one)


def test_without_a_seed_samples_are_fresh(smol):
    draws = {
        smol.generate([talk(ASKED[1])], temperature=2.0, max_new_tokens=4)[0][0].text
        for _ in range(3)
    }
    assert len(draws) > 1


def test_text_is_neither_lost_nor_tidied_by_tokens(smol):
    text = "a , b . don 't\n```py\nprint( 1 )\n\n  x\t= 'é…'"
    assert (
        smol.tokenizer.decode(smol.tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    )
    assert smol.count("Hello world") == 2


def test_a_small_cache_budget_splits_the_batch_and_changes_no_text(smol, greedy, monkeypatch):
    monkeypatch.setattr(local, "BATCH_CACHE_BYTES", 1)
    with Sizes(smol._model) as seen:
        found = smol.generate([talk(text) for text in ASKED[:2]], max_new_tokens=NEW)
    assert [c[0] for c in found] == greedy[:2] and all(rows == 1 for rows, _ in seen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.1}, r"top_p=1\.1"),
        ({"prefixes": []}, "0 prefixes for 1 conversations"),
    ],
)
def test_arguments_no_model_could_follow_are_refused(smol, arguments, message):
    with pytest.raises(ValueError, match=message):
        smol.generate([talk("Hi")], **({"max_new_tokens": 2} | arguments))


def test_a_conversation_that_ends_with_the_assistant_is_refused(smol):
    with pytest.raises(ValueError, match="must end before the assistant's turn"):
        smol.generate([[*talk("Hi"), {"role": "assistant", "content": "Hel"}]], max_new_tokens=2)


def test_no_conversations_have_no_completions(smol):
    assert smol.generate([], max_new_tokens=2) == []


# --- adapters ---------------------------------------------------------------------------------------------------


def make_adapter(folder, seed):
    """A random LoRA adapter, saved as PEFT saves it, on the small model's shapes (its weights
    are not needed)."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from agentlib.models import weights

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(weights.fetch(SMOL)))
    modules = ["q_proj", "down_proj"]
    lora = LoraConfig(
        r=4, lora_alpha=64, target_modules=modules, task_type="CAUSAL_LM", init_lora_weights=False
    )
    get_peft_model(base, lora).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return [make_adapter(root / f"a{seed}", seed) for seed in (0, 1)]


def say(model, length=NEW):
    return model.generate([talk(ASKED[1])], max_new_tokens=length)[0][0]


def fingerprint(model):
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def test_switching_adapters_changes_the_text_and_taking_them_off_restores_every_bit(
    smol, greedy, adapters
):
    before = fingerprint(smol.base)
    try:
        smol.use(adapters[0])
        first = say(smol)
        smol.use(adapters[1])
        second = say(smol)
        smol.use(adapters[0])
        assert say(smol) == first
    finally:
        smol.use(None)
    assert len({greedy[1].text, first.text, second.text}) == 3
    after = fingerprint(smol.base)
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert say(smol) == greedy[1]


def test_a_merged_adapter_speaks_as_peft_itself(smol, adapters):
    from peft import PeftModel

    ids = smol.tokenizer("The capital of France", return_tensors="pt")["input_ids"]
    plain = loading.load_weights(local.weights.fetch(SMOL), "cpu", "fp32", False)
    with torch.inference_mode():
        expected = PeftModel.from_pretrained(plain, adapters[0]).eval()(ids).logits
        try:
            smol.use(adapters[0])
            found = smol._model(ids).logits
        finally:
            smol.use(None)
    assert torch.allclose(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.full
def test_unpacked_weights_are_the_numbers_that_nf4_stands_for(adapters):
    from bitsandbytes.functional import dequantize_4bit

    packed, unpacked = (
        local.LocalModel(
            SMOL, quantise=True, unpack=u, device="cpu", precision="fp32", max_context=512
        )
        for u in (False, True)
    )
    held = {
        name: m.weight
        for name, m in packed.base.named_modules()
        if type(m).__name__ == "Linear4bit"
    }
    plain = dict(unpacked.base.named_modules())
    assert held and not any(type(m).__name__ == "Linear4bit" for m in plain.values())
    for name, weight in held.items():
        assert torch.equal(
            dequantize_4bit(weight.data, weight.quant_state).float(), plain[name].weight
        ), name
    before, first = unpacked.base.get_input_embeddings().weight.clone(), say(unpacked)
    unpacked.use(adapters[0])
    # merged, as into weights that never were packed
    assert unpacked._originals and say(unpacked) != first
    unpacked.use(None)
    assert say(unpacked) == first and torch.equal(
        before, unpacked.base.get_input_embeddings().weight
    )
    half = local.LocalModel(
        SMOL, quantise=True, unpack=True, device="cpu", precision="bf16", max_context=512
    )
    assert any(type(m).__name__ == "Linear4bit" for m in half.base.modules())


@pytest.mark.full
def test_a_folder_without_an_adapter_is_refused_and_changes_nothing(smol, greedy, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no adapter_config\.json; train it"):
        smol.use(tmp_path)
    assert (
        smol.adapter is None
        and smol.generate([talk(ASKED[0])], max_new_tokens=NEW)[0][0] == greedy[0]
    )


@pytest.mark.full
def test_a_damaged_adapter_is_refused_each_time_and_the_model_stays_usable(adapters, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "adapter_config.json").write_text((adapters[0] / "adapter_config.json").read_text())
    (bad / "adapter_model.safetensors").write_bytes(b"not safetensors")
    model = local.LocalModel(SMOL, precision="fp32")
    plain, before = say(model, 3), fingerprint(model.base)
    model.use(adapters[0])
    tuned = say(model, 3)
    for _ in range(2):
        with pytest.raises(Exception):  # noqa: B017  whatever safetensors says
            model.use(bad)
    model.use(adapters[0])
    assert say(model, 3) == tuned
    model.use(None)
    after = fingerprint(model.base)
    assert say(model, 3) == plain and before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


# --- what is kept from call to call -------------------------------------------------------------------------------


def three_steps(model, forget):
    """Two conversations of three turns, answered greedily; every turn, and the prompt tokens
    asked and read."""
    talks = [talk(ASKED[0] + " Then stop."), talk(ASKED[1])]
    model.forget()
    said, asked, before = [], 0, model.tokens_read
    for step in range(3):
        found = [completion for (completion,) in model.generate(talks, max_new_tokens=10)]
        said.append([c.text for c in found])
        asked += sum(c.prompt_tokens for c in found)
        for conversation, completion in zip(talks, found, strict=True):
            conversation += [
                {"role": "assistant", "content": completion.text},
                {"role": "user", "content": f"Observation: {step}"},
            ]
        if forget:
            model.forget()
    return (
        said,
        asked,
        model.tokens_read - before,
        sum(
            len(language.encode(model.tokenizer, language.render(model.tokenizer, t)))
            for t in talks
        ),
    )


@pytest.mark.full
def test_a_conversation_reads_only_what_is_new_and_says_the_same(smol):
    plain, asked, read_all, _ = three_steps(smol, forget=True)
    kept, _, read, whole = three_steps(smol, forget=False)
    assert kept == plain and read < 0.6 * read_all <= 0.6 * asked
    assert read <= whole, "no token of the conversations is read twice"


@pytest.mark.full
def test_prompts_of_unlike_length_are_read_without_much_padding_and_say_the_same(smol, monkeypatch):
    words = "A long passage about rivers, lakes and the sea. "
    asked = [talk(words * times + ASKED[0]) for times in (0, 30, 1, 2, 0, 12)]
    alone = [fresh(smol, [conversation], max_new_tokens=8)[0][0] for conversation in asked]
    computed, forward = [], type(smol._model).forward

    def noted(self, *args, **settings):
        computed.append(settings["input_ids"].numel())
        return forward(self, *args, **settings)

    monkeypatch.setattr(type(smol._model), "forward", noted)
    smol.forget()
    before = smol.tokens_read
    _, logits, _ = smol._read(
        [smol.tokenizer(language.render(smol.tokenizer, c))["input_ids"] for c in asked]
    )
    assert len(logits) == len(asked)
    assert sum(computed) <= 1.3 * (smol.tokens_read - before) + len(asked), computed
    assert [found for (found,) in fresh(smol, asked, max_new_tokens=8)] == alone


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=40))
def test_groups_by_length_hold_each_once_and_pad_little(lengths):
    groups = local._group_by_length(lengths)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        own = [lengths[row] for row in group]
        assert max(own) * len(own) <= local.MAX_PADDING_RATIO * sum(own)


@pytest.mark.full
def test_samples_of_a_step_are_gone_on_from(smol):
    (found,) = smol.generate([talk(ASKED[1])], n=3, temperature=1.0, max_new_tokens=10, seed=3)
    for completion in found:
        going_on = [
            *talk(ASKED[1]),
            {"role": "assistant", "content": completion.text},
            {"role": "user", "content": "On."},
        ]
        before = smol.tokens_read
        (kept,) = smol.generate([going_on], max_new_tokens=6)[0]
        read = smol.tokens_read - before
        assert (
            read <= kept.prompt_tokens - found[0].prompt_tokens - completion.completion_tokens + 4
        )
        assert fresh(smol, [going_on], max_new_tokens=6)[0][0] == kept
        fresh(smol, [talk(ASKED[1])], n=3, temperature=1.0, max_new_tokens=10, seed=3)


@pytest.mark.full
def test_an_adapter_never_goes_on_from_what_the_base_read(smol, adapters):
    base = smol.generate([talk(ASKED[1])], max_new_tokens=NEW)[0][0]
    try:
        smol.use(adapters[0])
        tuned = smol.generate([talk(ASKED[1])], max_new_tokens=NEW)[0][0]
        assert tuned == fresh(smol, [talk(ASKED[1])], max_new_tokens=NEW)[0][0] != base
    finally:
        smol.use(None)


@pytest.mark.full
def test_what_is_kept_stays_within_its_budget_and_changes_no_text(smol, monkeypatch):
    plain = three_steps(smol, forget=True)[0]
    monkeypatch.setattr(smol._prefixes, "budget", 3_000_000)
    assert three_steps(smol, forget=False)[0] == plain and 0 < smol._prefixes.bytes <= 3_000_000


def test_a_batch_that_does_not_fit_the_device_is_a_memory_error_and_nothing_is_kept(
    smol, monkeypatch
):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    smol.generate([talk("Hi.")], max_new_tokens=1)
    monkeypatch.setattr(smol, "_decode", full)
    with pytest.raises(MemoryError, match="cpu has no room for 2 conversations at once"):
        smol.generate([talk("Hi."), talk("Hello.")], max_new_tokens=1)
    assert (
        smol._prefixes.known_length(
            smol.tokenizer(language.render(smol.tokenizer, talk("Hi.")))["input_ids"]
        )
        == 0
    )


# --- precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("found", "expected"), [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"),
                                                 ({"avx2": True, "avx512_bf16": False}, "fp32"), ({}, "fp32")])  # fmt: skip
def test_bf16_is_chosen_only_where_the_hardware_multiplies_it(monkeypatch, found, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert loading.resolve_precision("auto", "cpu") == expected
    assert (
        loading.resolve_precision("fp32", "cpu") == "fp32"
        and loading.resolve_precision("bf16", "cpu") == "bf16"
    )
    assert loading.resolve_precision("auto", "cuda") == "bf16"


@pytest.mark.parametrize("kind", ["mps", "xpu", "npu"])
def test_a_device_that_was_not_measured_is_used_like_a_cpu(kind):
    assert (
        decoding.MAX_BATCHED_TOKENS[kind]
        == decoding.MAX_BATCHED_TOKENS["cpu"]
        < decoding.MAX_BATCHED_TOKENS["cuda"]
    )
    assert loop.MICRO_TOKENS[kind] == loop.MICRO_TOKENS["cpu"] < loop.MICRO_TOKENS["cuda"]
    assert loading.resolve_precision("auto", kind) == "bf16"


def test_an_unknown_precision_is_refused_with_those_that_are_known():
    with pytest.raises(
        ValueError, match="precision 'fp16' is unknown, expected auto, fp32 or bf16"
    ):
        loading.resolve_precision("fp16", "cpu")


@pytest.mark.full
def test_a_bf16_model_speaks_nearly_as_the_32_bit_one(smol):
    half = local.LocalModel(SMOL, precision="bf16")
    ids = smol.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        one, other = (m._model(ids).logits[0, -1].float().softmax(-1) for m in (smol, half))
    assert half.base.dtype == torch.bfloat16 and float((one - other).abs().sum()) < 0.1
    assert int(one.argmax()) == int(other.argmax())


# --- sampling ---------------------------------------------------------------------------------------------------


def nucleus(logits, temperature, top_p):
    """The distribution that nucleus sampling draws from, token by token (numpy, float64)."""
    scaled = logits.astype(np.float64) / temperature
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    size = min(int((np.cumsum(p[order]) < top_p).sum()) + 1, len(p))
    kept = np.zeros_like(p)
    kept[order[:size]] = p[order[:size]]
    return kept / kept.sum()


def frequencies(logits, temperature, top_p, grid=4000):
    """How often each token is picked over an even grid of draws: the distribution to within
    1/grid."""
    rows = torch.tensor(logits).expand(grid, -1)
    found = sample_tokens(rows, temperature, top_p, (np.arange(grid) + 0.5) / grid)
    return np.bincount(found.numpy(), minlength=len(logits)) / grid


@settings(max_examples=40)
@given(
    logits=arrays.arrays(
        np.float32, st.integers(1, 40), elements=st.floats(-8, 8, width=16), unique=True
    ),
    temperature=st.sampled_from([0.4, 1.0, 1.7]),
    top_p=st.sampled_from([0.11, 0.5, 0.83, 0.97, 1.0]),
)
def test_tokens_are_drawn_from_the_nucleus(logits, temperature, top_p):
    expected = nucleus(logits, temperature, top_p)
    edge = np.cumsum(np.sort(nucleus(logits, temperature, 1.0))[::-1])
    if np.abs(edge[:-1] - top_p).min(initial=1) < 1e-5:
        return  # rounding decides on which side of the edge a token falls
    assert np.abs(frequencies(logits, temperature, top_p) - expected).max() <= 2 / 4000


@pytest.mark.parametrize("top_p", [0.5, 0.99, 1.0])
def test_a_large_flat_vocabulary_is_drawn_from_beyond_the_first_candidates(top_p):
    logits = np.linspace(0, 0.01, 1000, dtype=np.float32)
    found = frequencies(logits, 1.0, top_p, grid=8000)
    assert np.abs(found - nucleus(logits, 1.0, top_p)).max() <= 3 / 8000
    assert (found > 0).sum() == pytest.approx(1000 * top_p, abs=3)


def test_temperature_zero_takes_the_largest():
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert sample_tokens(logits, 0.0, 1.0, np.array([0.99, 0.99])).tolist() == [1, 0]


def test_a_tiny_nucleus_is_greedy():
    assert sample_tokens(
        torch.tensor([[0.0, 3.0, 1.0]] * 3), 1.0, 0.01, np.array([0.0, 0.5, 0.999999])
    ).tolist() == [1, 1, 1]


def test_sample_seeds_differ_by_prompt_index_and_seed():
    seeds = {language.sample_seed(s, p, i) for s in (1, 2) for p in ("a", "b") for i in (0, 1)}
    assert len(seeds) == 8 and all(0 <= s < 2**64 for s in seeds)
    assert language.sample_seed(1, "a", 0) == language.sample_seed(1, "a", 0)


def test_a_model_with_a_window_shorter_than_the_context_is_refused():
    from transformers import MistralConfig, Qwen2Config

    with pytest.raises(
        ValueError, match="'M' attends to the last 512 tokens only, expected all 1024"
    ):
        loading.check_sliding_window("M", MistralConfig(sliding_window=512), 1024)
    loading.check_sliding_window("M", MistralConfig(sliding_window=1024), 1024)
    loading.check_sliding_window(
        "Q", Qwen2Config(sliding_window=512, use_sliding_window=False), 1024
    )
