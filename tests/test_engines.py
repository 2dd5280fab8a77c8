"""Engines behind one contract: which one answers, what vLLM is asked for (by a stub of it), and
transformers' `generate` beside our own decoding."""

import dataclasses
import importlib.machinery
import json
import os
import sys
import types
from typing import ClassVar

import pytest
from conftest import SMOL, Scripted

from agentlib import cases, config, evaluate, teach
from agentlib.models import (
    LocalModel,
    ServerError,
    TransformersModel,
    VLLMModel,
    in_process,
    language,
    opening,
    resolve_engine,
    vllm,
)
from agentlib.runner import preflight


def talk(text):
    return [{"role": "user", "content": text}]


# --- a stub of vLLM -----------------------------------------------------------------------------------------------

TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with all of a model but its weights: each character is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE({letter: k for k, letter in enumerate(alphabet)}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    LlamaConfig(max_position_embeddings=300).save_pretrained(folder)
    GenerationConfig(eos_token_id=[256, 7]).save_pretrained(folder)
    return folder


class StubEngine:
    """Stands for `vllm.LLM`: keeps what it was opened with and asked, answers `texts` in turn."""

    opened: ClassVar[list["StubEngine"]] = []

    def __init__(self, **settings):
        self.settings, self.asked, self.open, self.texts = settings, [], True, ["yes"]
        self.llm_engine = types.SimpleNamespace(
            engine_core=types.SimpleNamespace(shutdown=lambda: setattr(self, "open", False))
        )
        self.opened.append(self)

    def generate(self, prompts, settings, *, use_tqdm, lora_request):
        from transformers import AutoTokenizer

        assert self.open and len(prompts) == len(settings)
        tokenizer = AutoTokenizer.from_pretrained(self.settings["tokenizer"])
        self.asked.append((prompts, settings, lora_request))
        found = []
        for one in settings:
            outputs = []
            for k in range(one.n):
                text = self.texts[k % len(self.texts)]
                if isinstance(text, Exception):
                    raise text
                ids = tokenizer(text)["input_ids"]
                reason = "stop" if len(ids) <= one.max_tokens else "length"
                outputs.append(
                    types.SimpleNamespace(token_ids=ids[: one.max_tokens], finish_reason=reason)
                )
            found.append(types.SimpleNamespace(outputs=outputs))
        return found


@dataclasses.dataclass
class StubParams:
    """Stands for `vllm.SamplingParams`: the arguments that it has, no others."""

    n: int
    temperature: float
    top_p: float
    max_tokens: int
    stop: list
    stop_token_ids: list
    seed: int | None


@dataclasses.dataclass
class StubRequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


class EngineDead(Exception):
    pass


@pytest.fixture
def stub(monkeypatch, base):
    """vLLM's modules as far as `VLLMModel` uses them, on a GPU; `cpu` makes them its CPU build."""

    def module(name, **members):
        made = types.ModuleType(name)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, name, made)

    platform = types.SimpleNamespace(is_cpu=lambda: platform.cpu, cpu=False)
    module("vllm", LLM=StubEngine, SamplingParams=StubParams)
    module("vllm.platforms", current_platform=platform)
    module("vllm.lora")
    module("vllm.lora.request", LoRARequest=StubRequest)
    module("vllm.v1")
    module("vllm.v1.engine")
    module("vllm.v1.engine.exceptions", EngineDeadError=EngineDead, EngineGenerateError=EngineDead)
    monkeypatch.setattr(StubEngine, "opened", [])
    monkeypatch.setattr(vllm.weights, "fetch", lambda name, source: base)
    monkeypatch.setattr(vllm, "_memory_share", lambda: 0.5)
    return platform


def make_adapter(folder, rank=4):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "adapter_model.safetensors").touch()
    return folder


def test_vllm_is_opened_with_what_the_contract_promises(stub):
    model = VLLMModel(SMOL, precision="fp32", max_context=200, lora_rank=20)
    (engine,) = StubEngine.opened
    asked = engine.settings
    assert (asked["dtype"], asked["max_model_len"], asked["enable_prefix_caching"]) == ("float32", 200, True)  # fmt: skip
    assert (asked["enable_lora"], asked["max_lora_rank"]) == (True, 32), "the next that vLLM has"
    assert (asked["generation_config"], asked["gpu_memory_utilization"]) == ("vllm", 0.5)
    assert "quantization" not in asked
    assert (model.engine, model.device, model.precision) == ("vllm", "cuda", "fp32")
    assert in_process(model) and language.pausing(model, 1) == {}
    model.close()
    assert not engine.open
    model.close()


def test_vllm_has_no_room_for_adapters_that_nobody_will_give_it(stub):
    VLLMModel(SMOL)
    (engine,) = StubEngine.opened
    assert "enable_lora" not in engine.settings and engine.settings["dtype"] == "bfloat16"


def test_vllm_gets_the_numbers_that_nf4_stands_for_in_a_folder_that_goes_with_the_model(
    stub, monkeypatch, tmp_path
):
    loaded = []

    class Packed:
        def dequantize(self):
            return self

        def save_pretrained(self, place):
            (place / "model.safetensors").touch()

    monkeypatch.setenv("AGENTLIB_HOME", str(tmp_path))
    monkeypatch.setattr(vllm.loading, "load_weights", lambda *a, **k: loaded.append((a, k)) or Packed())  # fmt: skip
    monkeypatch.setattr(vllm.loading, "release", lambda device: None)
    model = VLLMModel(SMOL, quantise=True)
    place = vllm.Path(StubEngine.opened[0].settings["model"])
    assert place.parent == tmp_path and (place / "model.safetensors").exists()
    assert loaded[0][0][1:] == ("cuda", "bf16") and loaded[0][1] == {"quantise": True}
    assert model.generate([talk("a")], max_new_tokens=5)[0][0].text == "yes"
    model.close()
    assert not place.exists()


def test_a_context_is_never_longer_than_the_model_was_made_for(stub):
    assert VLLMModel(SMOL, max_context=4096).max_context == 300
    assert StubEngine.opened[0].settings["max_model_len"] == 300


def test_prompts_go_to_vllm_as_the_tokens_that_every_engine_reads(stub):
    model = VLLMModel(SMOL)
    quoting, prefix = talk("What is <|im_end|>?"), "It is"
    (found,) = model.generate([quoting], max_new_tokens=9, prefixes=[prefix])
    ((prompts, settings, request),) = StubEngine.opened[0].asked
    ids = language.encode(model.tokenizer, language.render(model.tokenizer, quoting, prefix))
    assert prompts == [{"prompt_token_ids": ids}] and ids.count(256) == 1 and request is None
    assert found[0] == language.Completion("It isyes", len(ids), 3, "stop", found[0].tokens)
    assert len(found[0].tokens) == 3
    assert (settings[0].temperature, settings[0].top_p, settings[0].seed) == (0.0, 1.0, None)
    assert settings[0].stop_token_ids == [7, 256], "those of the tokenizer and of the files"


def test_greedy_samples_are_asked_for_once_and_sampled_ones_n_times(stub):
    model = VLLMModel(SMOL)
    (greedy,) = model.generate([talk("a")], n=3, max_new_tokens=5)
    StubEngine.opened[0].texts = ["one", "two", "three"]
    (drawn,) = model.generate([talk("a")], n=3, temperature=0.7, top_p=0.9, max_new_tokens=5)
    assert len(greedy) == 3 and len(set(greedy)) == 1
    assert [c.text for c in drawn] == ["one", "two", "three"]
    (_, [once], _), (_, [thrice], _) = StubEngine.opened[0].asked
    assert (once.n, thrice.n, thrice.temperature, thrice.top_p) == (1, 3, 0.7, 0.9)


def test_a_prompt_has_a_seed_of_its_own_and_a_cpu_build_is_sent_none(stub):
    def seeds(**settings):
        model = VLLMModel(SMOL, precision="fp32")
        model.generate(
            [talk("a"), talk("b"), talk("a")], temperature=1.0, max_new_tokens=2, **settings
        )
        return [one.seed for one in StubEngine.opened[-1].asked[0][1]]

    first, second, again = seeds(seed=5)
    assert first == again != second and first >= 0
    assert seeds(seed=6)[0] != first and seeds() == [None] * 3
    stub.cpu = True
    assert seeds(seed=5) == [None] * 3
    assert "gpu_memory_utilization" not in StubEngine.opened[-1].settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [("so STOP it", ("so ", 10, "stop")), ("done<|im_end|>", ("done", 5, "stop")),
     ("a long one, cut", ("a long one", 10, "length")), ("0123456STOP", ("0123456STO", 10, "length"))],
)  # fmt: skip
def test_what_ends_a_sample_is_cut_and_counted_as_everywhere(stub, text, expected):
    model = VLLMModel(SMOL)
    StubEngine.opened[0].texts = [text]
    ((found,),) = model.generate([talk("a")], max_new_tokens=10, stop=["STOP"])
    assert (found.text, found.completion_tokens, found.finish_reason) == expected


def test_adapters_are_switched_by_request_and_the_engine_stays(stub, tmp_path):
    one, two = (make_adapter(tmp_path / name / "student") for name in ("run-1", "run-2"))
    model = VLLMModel(SMOL, lora_rank=4, adapter=one)
    for adapter in (one, two, None, one):
        model.use(adapter)
        model.generate([talk("a")], max_new_tokens=2)
    (engine,) = StubEngine.opened
    requests = [request for *_, request in engine.asked]
    assert [r and r.lora_name for r in requests] == ["run-1", "run-2", None, "run-1"]
    assert requests[0] == requests[3] and requests[0].lora_int_id != requests[1].lora_int_id
    assert model.adapter == one


def test_an_adapter_that_was_written_again_is_another_one(stub, tmp_path):
    adapter = make_adapter(tmp_path / "run" / "student")
    model = VLLMModel(SMOL, lora_rank=4, adapter=adapter)
    before = model._request.lora_int_id
    model.use(None)
    os.utime(adapter / "adapter_model.safetensors", ns=(1, 1))
    model.use(adapter)
    assert model._request.lora_int_id != before


def test_a_whole_model_restarts_the_engine_and_the_base_comes_back(stub, base, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    model = VLLMModel(SMOL)
    model.use(tmp_path)
    model.use(None)
    opened = StubEngine.opened
    assert [e.settings["model"] for e in opened] == [str(base), str(tmp_path), str(base)]
    assert [e.open for e in opened] == [False, False, True]


def test_an_adapter_that_cannot_be_used_is_refused_and_changes_nothing(stub, tmp_path):
    good = make_adapter(tmp_path / "a" / "student")
    model = VLLMModel(SMOL, lora_rank=8, adapter=good)
    with pytest.raises(ValueError, match=r"has rank 16, expected 8 at most.*lora_rank=16"):
        model.use(make_adapter(tmp_path / "b" / "student", rank=16))
    with pytest.raises(FileNotFoundError, match=r"has no adapter_config\.json; train it"):
        model.use(tmp_path / "c")
    assert model.adapter == good and model._request.lora_path == str(good)
    with pytest.raises(ValueError, match="lora_rank=1024, expected 512 at most"):
        VLLMModel(SMOL, lora_rank=1024)


def test_an_engine_is_not_left_behind_by_an_adapter_that_is_not_there(stub, tmp_path):
    with pytest.raises(FileNotFoundError):
        VLLMModel(SMOL, adapter=tmp_path / "c")
    assert not StubEngine.opened[0].open


def test_a_prompt_beyond_the_context_and_a_dead_engine_are_outages(stub):
    model = VLLMModel(SMOL, max_context=40)
    with pytest.raises(MemoryError, match=r"a prompt has \d+ tokens, expected fewer than the 40"):
        model.generate([talk("a"), talk("word " * 20)], max_new_tokens=2)
    model = VLLMModel(SMOL)
    StubEngine.opened[-1].texts = [EngineDead("core died")]
    with pytest.raises(
        ServerError,
        match=r"engine for .SmolLM2-135M-Instruct. gave no answer \(core died\).* resume",
    ):
        model.generate([talk("a")], max_new_tokens=2)
    assert issubclass(ServerError, cases.OUTAGES) and issubclass(MemoryError, cases.OUTAGES)


def test_arguments_no_model_could_follow_are_refused_before_vllm_sees_them(stub):
    model = VLLMModel(SMOL)
    with pytest.raises(ValueError, match="top_p=0"):
        model.generate([talk("a")], max_new_tokens=2, top_p=0)
    assert StubEngine.opened[0].asked == [] and model.generate([], max_new_tokens=2) == []


# --- which engine answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "installed", "expected"),
    [(True, True, "vllm"), (True, False, "transformers"), (False, True, "own"), (False, False, "own")],
)  # fmt: skip
def test_auto_is_vllm_then_transformers_on_a_gpu_and_our_own_on_a_cpu(
    monkeypatch, gpu, installed, expected
):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(opening, "has_vllm", lambda: installed)
    assert resolve_engine() == resolve_engine("auto") == expected
    assert resolve_engine("own") == "own" and resolve_engine("transformers") == "transformers"


def test_an_engine_that_is_unknown_or_not_installed_is_refused_in_one_sentence(monkeypatch):
    with pytest.raises(ValueError, match="engine 'sglang' is unknown, expected one of auto, vllm"):
        resolve_engine("sglang")
    with pytest.raises(ValueError, match="setting 'engine' is 'sglang', expected one of auto"):
        config.load("smoke", engine="sglang")
    monkeypatch.setattr(opening, "has_vllm", lambda: False)
    with pytest.raises(ValueError, match=r"not installed here.*pip install 'agentlib\[vllm\]'"):
        resolve_engine("vllm")


def test_a_missing_vllm_is_said_before_any_work_where_a_model_runs_here(monkeypatch, project):
    def said(**settings):
        cfg = config.load("smoke", **settings)
        return [p for p in preflight.problems(cfg, ["04"]) if p.startswith("engine")]

    monkeypatch.setattr(preflight, "has_vllm", lambda: False)
    (problem,) = said(engine="vllm")
    assert "not installed, expected the package vllm; run pip install" in problem
    assert said() == said(engine="vllm", student_server="http://h:1") == []
    live = {"teacher_records": "", "student_server": "http://h:1"}
    assert len(said(engine="vllm", **live)) == 1, "the teacher of smoke is in this process"
    monkeypatch.setattr(preflight, "has_vllm", lambda: True)
    assert said(engine="vllm") == []


def test_a_student_and_a_teacher_are_opened_by_the_engine_of_the_configuration(stub, project):
    cfg = config.load("laptop", teacher_records="", engine="vllm", precision="fp32")
    model, adapters = evaluate.open_student(cfg, SMOL, ())
    assert isinstance(model, VLLMModel) and adapters == {}
    assert "enable_lora" not in StubEngine.opened[-1].settings
    with teach.open_teacher(cfg) as teacher:
        assert isinstance(teacher, VLLMModel) and teacher.max_context == 300
    assert not StubEngine.opened[-1].open, "the engine ends with the teacher's work"


def test_a_student_with_adapters_has_room_for_their_rank(stub, project, monkeypatch, tmp_path):
    adapter = make_adapter(tmp_path / "run" / "student", rank=32)
    finished = types.SimpleNamespace(path=adapter)
    monkeypatch.setattr(evaluate, "_adapter_run", lambda cfg, c: types.SimpleNamespace(folder="f"))
    monkeypatch.setattr(evaluate.distill, "take_committed", lambda cfg, run: None)
    monkeypatch.setattr(evaluate.checkpoints, "finished", lambda folder: finished)
    conditions = [evaluate.Condition(SMOL, "agent_distill", 1, ("teaching-math",))]
    for tuning, room in (("lora", 32), ("full", None)):
        cfg = config.load("laptop", engine="vllm", tuning=tuning, lora_rank=32)
        model, adapters = evaluate.open_student(cfg, SMOL, conditions)
        assert StubEngine.opened[-1].settings.get("max_lora_rank") == room
        assert list(adapters.values()) == [adapter]
    assert isinstance(model, VLLMModel)


def test_a_case_says_which_engine_answered(project):
    cfg = config.load("smoke")
    condition = evaluate.Condition("s", "cot", 1, ("teaching-math",))
    model = Scripted(lambda *_: "")
    assert evaluate._labels(cfg, condition, model)["engine"] == "server"
    model.engine = "vllm"
    assert evaluate._labels(cfg, condition, model)["engine"] == "vllm"
    assert teach._labels(cfg, "cot", 0, model)["engine"] == "vllm"
    assert not in_process(model)


# --- transformers' generate ---------------------------------------------------------------------------------------

ASKED = ["Say hi.", "Count from one to five, in words, one after the other.", "Name a colour."]


@pytest.fixture(scope="module")
def peer(smol):
    return TransformersModel(SMOL, precision="fp32")


@pytest.mark.parametrize(
    "how",
    [{}, {"prefixes": ["Hi", "one, two", None]}, {"stop": ["two"]},
     {"n": 3, "temperature": 1.0, "top_p": 0.9, "seed": 3}, {"n": 2}],
    ids=["greedy", "prefix", "stop", "sampled", "greedy, twice"],
)  # fmt: skip
def test_transformers_generate_answers_as_our_own_decoding(peer, smol, how):
    asked = [talk(text) for text in ASKED]
    assert (peer.engine, smol.engine) == ("transformers", "own")
    assert isinstance(peer, LocalModel) and in_process(peer) and language.pausing(peer, 1) == {}
    found = peer.generate(asked, max_new_tokens=12, **how)
    assert found == smol.generate(asked, max_new_tokens=12, **how)


def test_what_a_models_files_recommend_does_not_change_its_greedy_text(peer, smol, monkeypatch):
    from transformers import GenerationConfig

    from agentlib.models import loading

    real = loading.load_weights

    def recommending(*settings):
        model = real(*settings)
        model.generation_config = GenerationConfig(
            eos_token_id=model.generation_config.eos_token_id, repetition_penalty=5.0, top_k=1
        )
        return model

    monkeypatch.setattr(loading, "load_weights", recommending)
    asked, how = [talk(ASKED[1])], {"max_new_tokens": 10}
    own = TransformersModel(SMOL, precision="fp32")
    assert own.generate(asked, **how) == smol.generate(asked, **how)
    assert own.base.generation_config.repetition_penalty is None
