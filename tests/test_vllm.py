"""A real vLLM, its build for CPUs: as a server and in a process, beside our own decoding.

Two engines round differently, so greedy texts are equal up to a token where both candidates are
equally likely.
"""

import functools
import json
import shutil
import subprocess
import types

import httpx
import pytest
import torch
import vllm_environment
from conftest import SMOL

from agentlib import benchmarks, config, distill, evaluate, masks, records, training
from agentlib.models import ServerModel, language

pytestmark = [pytest.mark.server, pytest.mark.full, pytest.mark.timeout(7200)]
CLOSE = 1e-2  # nats
NEW = 12
ASKED = ["Say hi.", "Count from one to five, in words, one after the other.", "Name a colour."]
SMALL = {
    "students": (SMOL,), "benchmarks": ("teaching-math",), "panel_benchmarks": ("teaching-math",), "questions": 2, "max_steps": 1,
    "step_tokens": 12, "cot_tokens": 12, "sample_counts": (1, 8), "samples": 8, "precision": "fp32", "server_seed": "omitted",
    "lora_rank": 8, "context_tokens": 4096,
}  # fmt: skip


def talk(text):
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def search(query):
    return f"[1] {query}"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A project folder in which every method has an adapter that this project trained."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(config, "ROOT", tmp_path_factory.mktemp("project"))
        patched.setattr(distill, "training_cases", lambda cfg, method: [{"id": "q"}])
        patched.setattr(distill.cases, "conversation", lambda case: case)
        patched.setattr(distill, "take_committed", lambda cfg, run: None)
        cfg = config.load("smoke", **SMALL)
        runs = {m: distill.adapter_run(cfg, SMOL, m) for m in distill.TEACHER_OF}
        yield types.SimpleNamespace(cfg=cfg, runs=runs)


@pytest.fixture(scope="module")
def adapter(experiment, smol):
    """One small training, which all methods share."""
    taught = [[*talk(text), {"role": "assistant", "content": "Blue, said the whale."}] for text in ASKED]  # fmt: skip
    settings = training.TrainingSettings(
        lora_rank=8, lora_alpha=16, learning_rate=3e-3, epochs=4, batch_size=1, precision="fp32"
    )
    first, *others = experiment.runs.values()
    examples = masks.build_examples(taught, smol.tokenizer, 256)
    trained = training.fine_tune(SMOL, examples, settings, first.folder)
    for run in others:
        shutil.copytree(first.folder, run.folder)
    return trained.path


@pytest.fixture(scope="module")
def served(experiment, adapter):
    adapters = {run.folder.name: run.folder / "student" for run in experiment.runs.values()}
    with vllm_environment.serving(SMOL, adapters) as server:
        yield server


@pytest.fixture(scope="module")
def client(served):
    model = ServerModel(served.url, SMOL, attempts=2, max_context=4096, seeded=False)
    yield model
    model.close()


def logprobs(smol, ids, tokens):
    """The log-probabilities (tokens, vocabulary) that our weights give after each prefix."""
    with torch.inference_mode():
        logits = smol._model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1]
    return logits.float().log_softmax(-1)


def assert_alike(smol, conversation, ours, theirs, prefix=None):
    """Equal texts, or parted where both next tokens are equally likely."""
    tokenizer = smol.tokenizer
    ids = language.encode(tokenizer, language.render(tokenizer, conversation, prefix))
    first, second = (
        language.encode(tokenizer, language.quote(tokenizer, c.text.removeprefix(prefix or "")))
        for c in (ours, theirs)
    )
    parted = next((k for k, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if parted is None:
        assert ours == theirs
        return
    row = logprobs(smol, ids, first[: parted + 1])[parted]
    assert abs(float(row[first[parted]] - row[second[parted]])) < CLOSE, (ours, theirs)


def trained_answers(smol, adapter, **how):
    try:
        smol.use(adapter)
        return smol.generate([talk(text) for text in ASKED], **how)
    finally:
        smol.use(None)


# --- the server ---------------------------------------------------------------------------------------------------


def test_the_base_and_our_adapter_answer_through_vllm_what_they_answer_here(client, smol, adapter):
    asked = [talk(text) for text in ASKED]
    base = smol.generate(asked, max_new_tokens=NEW)
    tuned = trained_answers(smol, adapter, max_new_tokens=NEW)
    assert [c.text for (c,) in base] != [c.text for (c,) in tuned], "the training changed something"
    for ours, used in ((base, None), (tuned, adapter)):
        client.use(used)
        try:
            theirs = client.generate(asked, max_new_tokens=NEW)
            smol.use(used)
            for conversation, (one,), (other,) in zip(asked, ours, theirs, strict=True):
                assert_alike(smol, conversation, one, other)
        finally:
            smol.use(None)
            client.use(None)


@pytest.mark.parametrize("tuned", [False, True], ids=["base", "adapter"])
def test_log_probabilities_agree(served, experiment, smol, adapter, tuned):
    run, *_ = experiment.runs.values()
    ids = language.encode(smol.tokenizer, language.render(smol.tokenizer, talk(ASKED[1])))
    body = {
        "model": run.folder.name if tuned else SMOL, "prompt": ids, "max_tokens": NEW, "temperature": 0,
        "logprobs": 1, "return_tokens_as_token_ids": True,
    }  # fmt: skip
    (choice,) = httpx.post(f"{served.url}/v1/completions", json=body, timeout=600).json()["choices"]
    found = choice["logprobs"]
    tokens = [int(token.removeprefix("token_id:")) for token in found["tokens"]]
    assert len(tokens) == NEW or tokens[-1] in smol._end_tokens
    try:
        smol.use(adapter if tuned else None)
        ours = logprobs(smol, ids, tokens)
    finally:
        smol.use(None)
    expected = [float(row[token]) for row, token in zip(ours, tokens, strict=True)]
    assert found["token_logprobs"] == pytest.approx(expected, abs=CLOSE)


def test_eight_samples_of_a_step_come_from_one_request(client, smol):
    (found,) = client.generate(
        [talk(ASKED[2])], n=8, temperature=0.8, top_p=0.8, max_new_tokens=NEW
    )
    read = len(language.encode(smol.tokenizer, language.render(smol.tokenizer, talk(ASKED[2]))))
    assert len(found) == 8 and len({c.text for c in found}) > 1
    assert all(c.prompt_tokens == read and 1 <= c.completion_tokens <= NEW for c in found)


def test_a_prefix_is_continued(client, smol):
    conversation, prefix = talk(ASKED[1]), "One, two, three,"
    how = {"max_new_tokens": 6, "prefixes": [prefix]}
    ((ours,),), ((theirs,),) = smol.generate([conversation], **how), client.generate([conversation], **how)  # fmt: skip
    assert theirs.text.startswith(prefix) and theirs.prompt_tokens == ours.prompt_tokens
    assert_alike(smol, conversation, ours, theirs, prefix)


def test_a_whole_small_evaluation_with_a_student_server(served, experiment, adapter, box):
    cfg = config.load("smoke", **SMALL, student_server=served.url)
    found = evaluate.evaluate_student(cfg, SMOL, box=box, search=search)
    plan = evaluate.plan(cfg, SMOL)
    assert {(c["method"], c["n"]) for c in found} == {(one.method, one.n) for one in plan}
    assert len(found) == 2 * len(plan) and not any(c.get("error") for c in found)
    assert {c["engine"] for c in found} == {"server"}
    voted = [c for c in found if c["n"] == 8 and c["method"].startswith("agent")]
    assert voted and all(c["candidates"] == 8 * c["steps"] for c in voted)


# --- in a process -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inside(adapter, tmp_path_factory):
    """What one `VLLMModel` in vLLM's environment answers to each of these, by name."""
    asked = [talk(text) for text in ASKED]
    plain = {"conversations": asked, "max_new_tokens": NEW}
    tuned = str(adapter)
    requests = {
        "base": plain | {"adapter": None},
        "adapter": plain | {"adapter": tuned},
        "base again": plain | {"adapter": None},
        "adapter again": plain | {"adapter": tuned},
        "sampled": plain | {"adapter": None, "n": 4, "temperature": 1.0, "top_p": 0.9, "seed": 1},
        "prefix": plain | {"adapter": None, "prefixes": ["Hi", "One, two, three,", None]},
        "stop": plain | {"adapter": None, "stop": ["e", "o"]},
    }
    folder = tmp_path_factory.mktemp("inside")
    sent = {"model": SMOL, "context": 4096, "requests": list(requests.values())}
    (folder / "asked.json").write_text(json.dumps(sent), encoding="utf-8")
    interpreter = vllm_environment.python_or_fail()
    script = vllm_environment.Path(__file__).with_name("vllm_inside.py")
    done = subprocess.run(
        [interpreter, script, folder / "asked.json", folder / "answers.json"],
        capture_output=True,
        text=True,
        env=vllm_environment.environment(),
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    said = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    found = [
        [[language.Completion(**c) for c in each] for each in answer] for answer in said["found"]
    ]
    return said | {"found": dict(zip(requests, found, strict=True))}


def test_an_adapter_is_switched_on_and_off_without_starting_again(inside, smol, adapter):
    found = inside["found"]
    assert (inside["engine"], inside["device"], inside["restarted"]) == ("vllm", "cpu", False)
    base = smol.generate([talk(text) for text in ASKED], max_new_tokens=NEW)
    tuned = trained_answers(smol, adapter, max_new_tokens=NEW)
    assert found["base"] != found["adapter"]
    for name, ours, used in (
        ("base", base, None), ("base again", base, None), ("adapter", tuned, adapter), ("adapter again", tuned, adapter),
    ):  # fmt: skip
        try:
            smol.use(used)
            for text, (one,), (other,) in zip(ASKED, ours, found[name], strict=True):
                assert_alike(smol, talk(text), one, other)
        finally:
            smol.use(None)


def test_four_samples_share_a_prompt_and_differ(inside, smol):
    for text, found in zip(ASKED, inside["found"]["sampled"], strict=True):
        read = language.encode(smol.tokenizer, language.render(smol.tokenizer, talk(text)))
        assert len(found) == 4 and len({c.text for c in found}) > 1
        assert all(c.prompt_tokens == len(read) and 1 <= c.completion_tokens <= NEW for c in found)
        assert all((c.finish_reason == "length") <= (c.completion_tokens == NEW) for c in found)
        for said in (c.text for c in found if "\ufffd" not in c.text):  # half a character
            tokens = language.encode(smol.tokenizer, language.quote(smol.tokenizer, said))
            rows = logprobs(smol, read, tokens).exp()
            above = [float(row[row > row[k]].sum()) for row, k in zip(rows, tokens, strict=True)]
            assert max(above, default=0.0) < 0.9 + CLOSE, "each token is of the nucleus"


@pytest.mark.parametrize(
    ("name", "how"),
    [("prefix", {"prefixes": ["Hi", "One, two, three,", None]}), ("stop", {"stop": ["e", "o"]})],
)
def test_prefixes_and_stop_strings_in_a_process_are_those_of_our_decoding(inside, smol, name, how):
    ours = smol.generate([talk(text) for text in ASKED], max_new_tokens=NEW, **how)
    prefixes = how.get("prefixes", [None] * len(ASKED))
    for text, prefix, (one,), (other,) in zip(ASKED, prefixes, ours, inside["found"][name], strict=True):  # fmt: skip
        assert_alike(smol, talk(text), one, other, prefix)


# --- a server that is lost, last of all as it ends the one above ----------------------------------------------------


def test_a_server_killed_half_way_and_started_again_loses_nothing(
    served, experiment, adapter, monkeypatch
):
    condition = evaluate.Condition(SMOL, "cot", 1, ("teaching-math",))
    asked = benchmarks.load("teaching-math", 6)
    cfg = config.load("smoke", **SMALL | {"batch_questions": 2}, student_server=served.url)
    monkeypatch.setattr(evaluate, "ServerModel", functools.partial(ServerModel, attempts=1))
    model, _ = evaluate.open_student(cfg, SMOL, ())
    real, calls = model.generate, []

    def generate(*conversations, **how):
        calls.append(conversations)
        if len(calls) == 2:
            served.kill()
        return real(*conversations, **how)

    model.generate = generate
    with pytest.raises(RuntimeError, match="4 of 6 questions are unanswered"):
        evaluate.evaluate(cfg, condition, model, asked)
    model.close()
    run = evaluate.condition_run(cfg, condition)
    before = run.finished()
    assert set(before) == {q.id for q in asked[:2]}
    served.start()
    again = config.load("smoke", **SMALL | {"batch_questions": 2}, student_server=served.url)
    assert evaluate.condition_run(again, condition).folder == run.folder
    model, _ = evaluate.open_student(again, SMOL, ())
    found = evaluate.evaluate(again, condition, model, asked)
    model.close()
    assert [c["id"] for c in found] == [q.id for q in asked] and found[:2] == [*before.values()]
    lines = [r for r in records.read(run.file) if not r.get("error")]
    assert sorted(r["id"] for r in lines) == sorted(q.id for q in asked)
