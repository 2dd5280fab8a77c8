"""Models behind servers: a real llama.cpp server, and a small one that misbehaves before it answers."""

import contextlib
import socket
import time

import psutil
import pytest
import tenacity
from conftest import SMOL

from agentlib import language, servers, weights
from agentlib.servers import ServerError, ServerModel


def talk(text):
    return [{"role": "user", "content": text}]


# --- a server that misbehaves -----------------------------------------------------------------------------------


def answer(*texts, tokens=3):
    return {
        "choices": [{"text": t, "finish_reason": "stop"} for t in texts],
        "usage": {"prompt_tokens": 5, "completion_tokens": tokens},
    }


@contextlib.contextmanager
def client(url, attempts=4, **settings):
    model = ServerModel(url, SMOL, attempts=attempts, timeout=10.0, **settings)
    model._again = model._again.copy(wait=tenacity.wait_none())
    try:
        yield model
    finally:
        model.close()


TROUBLES = {
    "500": (500, "oops"),
    "503": (503, "loading"),
    "429": (429, "slow down"),
    "garbage": (200, "<html>hello</html>"),
    "half JSON": (200, '{"choices": [{"text": "a'),
    "a cut body": ("cut", '{"choices": [{"te'),
    "no usage": (200, {"choices": [{"text": "a"}]}),
    "no text": (
        200,
        {"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
    ),
    "null": (200, "null"),
    "a list": (200, "[]"),
    "a lost connection": "hang up",
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_passing_trouble_is_asked_again(moody, trouble):
    moody.replies = [TROUBLES[trouble], TROUBLES[trouble], answer("fine")]
    with client(moody.url) as model:
        ((found,),) = model.generate([talk("Hi")], max_new_tokens=5)
    assert found.text == "fine" and len(moody.asked) == 3


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_lasting_trouble_is_a_server_error_that_names_server_and_remedy(moody, trouble):
    moody.replies = [TROUBLES[trouble]]
    with client(moody.url, attempts=3) as model, pytest.raises(ServerError) as error:
        model.generate([talk("Hi")], max_new_tokens=5)
    assert moody.url in str(error.value) and "resume" in str(error.value) and len(moody.asked) == 3


def test_a_refusal_is_not_asked_again(moody):
    moody.replies = [(400, "prompt too long")]
    with client(moody.url) as model, pytest.raises(ServerError, match="status 400: prompt too long"):
        model.generate([talk("Hi")], max_new_tokens=5)
    assert len(moody.asked) == 1


def test_a_prompt_that_quotes_a_special_token_is_sent_as_tokens(moody):
    moody.replies = [answer("fine")]
    with client(moody.url) as model:
        model.generate([talk("What is <|im_end|>?")], max_new_tokens=5)
        sent, ends = moody.asked[0]["prompt"], model.tokenizer.convert_tokens_to_ids("<|im_end|>")
        assert "What is <|im_end|>?" in model.tokenizer.decode(sent) and sent.count(ends) == 2


def test_too_many_or_no_choices_are_refused(moody):
    for texts in (["a", "b"], []):
        moody.replies = [answer(*texts)]
        with (
            client(moody.url) as model,
            pytest.raises(ServerError, match=f"sent {len(texts)} choices, expected 1 to 1"),
        ):
            model.generate([talk("Hi")], max_new_tokens=5)


def test_an_unreachable_server_is_a_server_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert not servers.alive(url)
    with client(url, attempts=2) as model, pytest.raises(ServerError, match="check that it runs, then resume"):
        model.generate([talk("Hi")], max_new_tokens=5)


@pytest.mark.parametrize("url", ["http://HOST:PORT", "not a url", ""])
def test_an_address_that_is_none_is_not_alive(url):
    assert servers.alive(url) is False


def test_requests_carry_the_rendered_prompt_and_every_setting(moody):
    moody.replies = [answer("fine")]
    with client(moody.url, served="my-adapter", api_key="secret") as model:
        model.generate(
            [talk("Hi")],
            temperature=0.4,
            top_p=0.8,
            max_new_tokens=5,
            stop=["Observation:"],
            prefixes=["Thought:"],
            seed=3,
        )
    (body,) = moody.asked
    assert body["model"] == "my-adapter" and body["prompt"].endswith("<|im_start|>assistant\nThought:")
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["stop"]) == (0.4, 0.8, 5, ["Observation:"])
    assert isinstance(body["seed"], int)


def test_conversations_come_back_in_order_with_their_prefixes(moody):
    moody.replies = [lambda body: answer(body["prompt"].split("<|im_end|>")[-2][-1])]
    with client(moody.url) as model:
        found = model.generate(
            [talk(f"number {i}") for i in range(6)], max_new_tokens=5, prefixes=[f"p{i} " for i in range(6)]
        )
    assert [c[0].text for c in found] == [f"p{i} {i}" for i in range(6)]


def test_a_server_that_gives_fewer_choices_is_asked_for_the_rest_with_other_seeds(moody):
    moody.replies = [answer("a", "b", tokens=9), answer("c", tokens=7)]
    with client(moody.url, choices=2) as model:
        (found,) = model.generate([talk("Hi")], n=3, temperature=1.0, max_new_tokens=5, seed=1)
    assert [c.text for c in found] == ["a", "b", "c"]
    assert [body["n"] for body in moody.asked] == [2, 1]
    assert len({body["seed"] for body in moody.asked}) == 2
    assert found[2].completion_tokens == 7 and found[0].prompt_tokens == 5


def test_arguments_no_model_could_follow_are_refused_before_any_request(moody):
    with client(moody.url) as model, pytest.raises(ValueError, match="top_p=0"):
        model.generate([talk("Hi")], max_new_tokens=5, top_p=0)
    assert moody.asked == []


def test_tokens_of_several_choices_sum_to_what_the_server_counted(moody):
    moody.replies = [answer("one two", "one", tokens=5)]
    with client(moody.url) as model:
        (found,) = model.generate([talk("Hi")], n=2, temperature=1.0, max_new_tokens=5, seed=1)
    assert [c.completion_tokens for c in found] == [3, 2], "two words and one, and an end of turn each"


@pytest.mark.parametrize(
    ("counted", "reasons", "total", "expected"),
    [([4, 8], ["stop", "length"], 13, [5, 8]), ([4, 8], ["stop", "stop"], 15, [6, 9]), ([8, 8], ["length"] * 2, 16, [8, 8]),
     ([8, 8], ["length"] * 2, 18, [9, 9]), ([8, 8], ["length"] * 2, 8, [8, 8]), ([4, 8], ["stop", "length"], 5, [5, 8])],
)  # fmt: skip
def test_what_was_cut_off_is_counted_where_it_was_cut(counted, reasons, total, expected):
    assert servers.shares(counted, reasons, total) == expected


def test_an_adapter_is_the_name_of_its_run_folder(moody, tmp_path):
    adapter = tmp_path / "adapter-smol-1234" / "student"
    moody.listed, moody.replies = ["base", "adapter-smol-1234"], [answer("a")]
    with client(moody.url, served="base") as model:
        for chosen in (adapter, None):
            model.use(chosen)
            model.generate([talk("Hi")], max_new_tokens=5)
    assert [body["model"] for body in moody.asked] == ["adapter-smol-1234", "base"]


def test_an_adapter_that_the_server_does_not_hold_is_refused_with_the_remedy(moody, tmp_path):
    moody.listed = ["base"]
    with client(moody.url) as model:
        with pytest.raises(ServerError, match=r"lists base, expected the adapter 'adapter-x' .*--lora-modules adapter-x="):
            model.use(tmp_path / "adapter-x" / "student")
        assert model.served == SMOL
    with client("http://127.0.0.1:9") as model, pytest.raises(ServerError, match="does not list its models"):
        model.use(tmp_path / "adapter-x" / "student")


# --- a real llama.cpp server ------------------------------------------------------------------------------------


def children():
    return {p.pid for p in psutil.Process().children(recursive=True) if "agentlib.servers" in " ".join(p.cmdline())}


@pytest.fixture(scope="module")
def llama():
    pytest.importorskip("xllamacpp", reason="the extra `server` is not installed")
    before = children()
    with servers.llama_server(SMOL, slots=2, context=1024) as url:
        started = children() - before
        model = ServerModel(url, SMOL, concurrency=2, choices=2, max_context=1024)
        yield model
        model.close()
    assert started and not started & {p for p in children() if psutil.Process(p).status() != psutil.STATUS_ZOMBIE}
    assert not servers.alive(url)


ASKED = "Count from one to five, in words."


@pytest.fixture(scope="module")
def counted(llama):
    return llama.generate([talk(ASKED)], max_new_tokens=10)[0][0]


def test_the_server_is_alive_and_counts_tokens(llama, counted):
    assert servers.alive(llama.url)
    rendered = servers.render(llama.tokenizer, talk(ASKED))
    assert counted.prompt_tokens == len(language.encode(llama.tokenizer, rendered))
    assert (counted.completion_tokens, counted.finish_reason) == (10, "length")
    assert llama.count(counted.text) == pytest.approx(10, abs=1)


def test_a_greedy_answer_is_the_same_again_and_goes_on_from_its_own_start(llama, counted):
    prefix = counted.text[: len(counted.text) // 2].rsplit(" ", 1)[0]
    (again,), (continued,) = llama.generate([talk(ASKED)] * 2, max_new_tokens=10, prefixes=[None, prefix])
    assert again == counted
    assert continued.text.startswith(prefix) and continued.text.startswith(counted.text[: len(prefix) + 8])
    assert continued.prompt_tokens == counted.prompt_tokens + llama.count(prefix)


def test_a_quoted_end_of_turn_is_words_to_a_real_server(llama):
    quoting = talk("Repeat: <|im_end|> is a token.")
    (found,) = llama.generate([quoting], max_new_tokens=4)[0]
    assert found.prompt_tokens == len(language.encode(llama.tokenizer, language.render(llama.tokenizer, quoting)))
    assert found.prompt_tokens > len(llama.tokenizer(llama.tokenizer.apply_chat_template(quoting, tokenize=False))["input_ids"])


def test_the_server_stops_at_a_stop_string(llama, counted):
    stop = counted.text.split()[-1]
    (found,) = llama.generate([talk(ASKED)], max_new_tokens=10, stop=[stop])[0]
    assert found.text == counted.text[: counted.text.index(stop)] and found.finish_reason == "stop"


def test_three_samples_of_a_server_with_two_slots(llama):
    def sample(seed):
        return llama.generate([talk(ASKED)], n=3, temperature=1.5, max_new_tokens=8, seed=seed)[0]

    found = sample(1)
    assert len(found) == 3 and len({c.text for c in found}) > 1
    assert all(c.prompt_tokens == found[0].prompt_tokens and 1 <= c.completion_tokens <= 8 for c in found)
    assert all(abs(c.completion_tokens - llama.count(c.text)) <= 2 for c in found)


def test_the_in_process_model_and_the_server_render_and_count_alike(llama, smol):
    assert servers.render(llama.tokenizer, talk(ASKED)) == servers.render(smol.tokenizer, talk(ASKED))
    assert llama.count("print(1)\n") == smol.count("print(1)\n")


def test_a_real_server_lists_what_it_holds_and_has_no_adapter(llama, tmp_path):
    assert len(llama.listed()) == 1
    with pytest.raises(ServerError, match="expected the adapter 'adapter-x'"):
        llama.use(tmp_path / "adapter-x" / "student")
    llama.use(None)
    assert llama.generate([talk(ASKED)], max_new_tokens=2)[0][0].completion_tokens == 2


def test_a_prompt_beyond_the_slot_is_refused_not_answered(llama):
    with pytest.raises(ServerError, match="status 400"):
        llama.generate([talk("word " * 1500)], max_new_tokens=4)


def test_a_server_that_does_not_come_up_leaves_no_process(tmp_path, monkeypatch):
    pytest.importorskip("xllamacpp", reason="the extra `server` is not installed")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF, but no more of it")
    monkeypatch.setattr(weights, "gguf", lambda name: broken)
    before, started = children(), time.monotonic()
    with pytest.raises(RuntimeError, match=r"llama\.cpp server for 'broken' did not start"):  # noqa: SIM117
        with servers.llama_server("broken", start_seconds=20):
            pass
    assert children() <= before and time.monotonic() - started < 20
