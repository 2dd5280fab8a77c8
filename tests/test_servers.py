"""Models behind servers: a real llama.cpp server, and a small one that misbehaves before it
answers."""

import contextlib
import socket
import threading
import time
from http.server import ThreadingHTTPServer

import psutil
import pytest
import tenacity
from conftest import SMOL, Moody
from test_retrieval import ipv6

from agentlib.models import ServerError, ServerModel, language, weights
from agentlib.models import server as servers
from agentlib.retrieval import RetrieverClient
from agentlib.score import Judge
from agentlib.web import answers


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
    "no choices": (200, {"choices": None, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
    "usage that is none": (
        200,
        {"choices": [{"text": "a"}], "usage": {"prompt_tokens": "1", "completion_tokens": 1}},
    ),
    "no text": (
        200,
        {
            "choices": [{"message": {"content": "a"}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        },
    ),
    "null": (200, "null"),
    "a list": (200, "[]"),
    "a lost connection": "hang up",
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.model
def test_a_passing_trouble_is_asked_again(moody, trouble):
    moody.replies = [TROUBLES[trouble], TROUBLES[trouble], answer("fine")]
    with client(moody.url) as model:
        ((found,),) = model.generate([talk("Hi")], max_new_tokens=5)
    assert found.text == "fine" and len(moody.asked) == 3


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.model
def test_a_lasting_trouble_is_a_server_error_that_names_server_and_remedy(moody, trouble):
    moody.replies = [TROUBLES[trouble]]
    with client(moody.url, attempts=3) as model, pytest.raises(ServerError) as error:
        model.generate([talk("Hi")], max_new_tokens=5)
    assert moody.url in str(error.value) and "resume" in str(error.value) and len(moody.asked) == 3


@pytest.mark.model
def test_a_refusal_is_not_asked_again(moody):
    moody.replies = [(400, "prompt too long")]
    with (
        client(moody.url) as model,
        pytest.raises(ServerError, match="status 400: prompt too long"),
    ):
        model.generate([talk("Hi")], max_new_tokens=5)
    assert len(moody.asked) == 1


@pytest.mark.model
def test_a_prompt_that_quotes_a_special_token_is_sent_as_tokens(moody):
    moody.replies = [answer("fine")]
    with client(moody.url) as model:
        model.generate([talk("What is <|im_end|>?")], max_new_tokens=5)
        sent, ends = moody.asked[0]["prompt"], model.tokenizer.convert_tokens_to_ids("<|im_end|>")
        assert "What is <|im_end|>?" in model.tokenizer.decode(sent) and sent.count(ends) == 2


@pytest.mark.model
@pytest.mark.parametrize(
    ("text", "kept", "reason"),
    [("```py\n1\n```<end_code>", "```py\n1\n```", "stop"), ("a\nObservation: b<end_code> c", "a\n", "stop"), ("a b c", "a b c", "length")],
)  # fmt: skip
def test_a_server_that_knows_no_stop_strings_is_cut_here(moody, text, kept, reason):
    moody.replies = [
        {
            "choices": [{"text": text, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 9},
        }
    ]
    with client(moody.url) as model:
        ((found,),) = model.generate(
            [talk("Hi")], max_new_tokens=9, stop=["<end_code>", "Observation:"]
        )
    assert (found.text, found.finish_reason) == (kept, reason)


@pytest.mark.model
def test_too_many_or_no_choices_are_refused(moody):
    for texts in (["a", "b"], []):
        moody.replies = [answer(*texts)]
        with (
            client(moody.url) as model,
            pytest.raises(ServerError, match=f"sent {len(texts)} choices, expected 1 to 1"),
        ):
            model.generate([talk("Hi")], max_new_tokens=5)


@pytest.mark.model
def test_an_unreachable_server_is_a_server_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert not answers(f"{url}/v1/models")
    with (
        client(url, attempts=2) as model,
        pytest.raises(ServerError, match="check that it runs, then resume"),
    ):
        model.generate([talk("Hi")], max_new_tokens=5)


@pytest.mark.parametrize("url", ["http://HOST:PORT/v1/models", "not a url", ""])
def test_an_address_that_is_none_does_not_answer(url):
    assert answers(url) is False


class Exact(Moody):
    """Answers at one path only; what is asked at another path, or by another method, gets a page
    that says so."""

    def do_POST(self):
        if self.path == self.server.path:
            return super().do_POST()
        self.rfile.read(int(self.headers["Content-Length"]))
        status, _, place = getattr(self.server, "moved", {}).get(self.path, "404").partition(" ")
        self.send_response(int(status))
        if place:
            self.send_header("Location", self.server.url + place)
        self.send_header("Content-Length", "0")
        self.end_headers()


class OverIPv6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@contextlib.contextmanager
def exact(path, reply, host="127.0.0.1"):
    server = (OverIPv6 if ":" in host else ThreadingHTTPServer)((host, 0), Exact)
    server.path, server.replies, server.asked, server.listed, server.lock = (
        path,
        [reply],
        [],
        [SMOL],
        threading.Lock(),
    )
    server.url = f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def ask_model(url, folder):
    with client(url, attempts=1) as model:
        assert SMOL in model.listed()
        return model.generate([talk("Hi")], max_new_tokens=5)[0][0].text == "fine"


def ask_judge(url, folder):
    return (
        Judge(url, "tiny", folder / "verdicts.jsonl")
        .grade("Who?", "Lima", "the city of Lima")
        .correct
    )


def ask_retriever(url, folder):
    return RetrieverClient(url, attempts=1).search(["x"])[0][0].passage.title == "Lima"


CLIENTS = {
    "/v1/completions": (ask_model, answer("fine")),
    "/v1/chat/completions": (ask_judge, {"choices": [{"message": {"content": "CORRECT"}}]}),
    "/retrieve": (ask_retriever, {"result": [[{"contents": '"Lima"\nA city.'}]]}),
}


@pytest.mark.parametrize("path", CLIENTS)
@pytest.mark.parametrize("host", ["127.0.0.1", *ipv6("::1")])
def test_an_address_means_the_same_with_and_without_what_its_protocol_adds(tmp_path, path, host):
    ask, reply = CLIENTS[path]
    with exact(path, reply, host) as server:
        for ending in ("", "/", "/v1", "/v1/", path, f"{path}/"):
            assert ask(f" {server.url}{ending}", tmp_path / ending.replace("/", "-")), ending


@pytest.mark.parametrize("path", CLIENTS)
@pytest.mark.parametrize(
    "address",
    [
        "localhost:8000",
        "127.0.0.1:8000/v1",
        "[::1]:8000",
        "http://::1:8000",
        "http://HOST:PORT",
        "ftp://h",
        "",
    ],
)
def test_an_address_that_is_none_is_said_at_once(tmp_path, path, address):
    with pytest.raises(
        ValueError,
        match=rf"address {address!r} is none of a server, expected one such as".replace("[", r"\["),
    ) as raised:
        CLIENTS[path][0](address, tmp_path)
    if address[:1] in "l1[" and address:
        assert f"did you mean 'http://{address.removesuffix('/v1')}'?" in str(raised.value)


@pytest.mark.parametrize("path", CLIENTS)
def test_a_server_that_moved_is_followed_or_named(tmp_path, path):
    ask, reply = CLIENTS[path]
    with exact(path + "/", reply) as server:
        server.moved = {path: f"307 {path}/"}
        assert ask(server.url, tmp_path / "kept")
        server.moved = {path: f"302 {path}/"}  # which makes a GET of the request
        with pytest.raises(
            (ServerError, ConnectionError, ValueError), match=r"redirects to|no chat completion"
        ):
            ask(server.url, tmp_path / "lost")


def test_a_server_that_refuses_unknown_fields_is_asked_without_them(moody):
    known = {"model", "prompt", "n", "temperature", "top_p", "max_tokens", "stop"}

    def strict(body):
        unknown = [
            {"type": "extra_forbidden", "loc": ["body", name]} for name in body if name not in known
        ]
        return (422, {"detail": unknown}) if unknown else answer("fine")

    moody.replies = [strict]
    with client(moody.url) as model:
        for _ in range(2):
            assert (
                model.generate([talk("Hi")], max_new_tokens=5, temperature=0.5, seed=1)[0][0].text
                == "fine"
            )
    assert [set(body) <= known for body in moody.asked] == [False, True, True]


def test_a_refusal_for_another_reason_stands_as_it_was_said(moody):
    moody.replies = [lambda body: (400, f"prompt too long in {sorted(body)}")]
    with (
        client(moody.url) as model,
        pytest.raises(ServerError, match=r"prompt too long in .*'cache_prompt'"),
    ):
        model.generate([talk("Hi")], max_new_tokens=5)
    assert model._refused == set()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            {"choices": [{"text": "one two", "finish_reason": "stop"}], "usage": None},
            ("one two", 3, "stop"),
        ),
        ({"choices": [{"text": "one two", "finish_reason": "length"}]}, ("one two", 2, "length")),
        (
            {"choices": [{"text": "one two", "finish_reason": None}], "usage": {}},
            ("one two", 3, "stop"),
        ),
        (
            {"choices": [{"text": "one two three four five six seven", "finish_reason": None}]},
            ("one two three four five six seven", 7, "length"),
        ),
        (
            {"choices": [{"text": "one two"}], "usage": {"completion_tokens": 4}},
            ("one two", 4, "stop"),
        ),
        (
            {
                "choices": [{"text": None, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 0},
            },
            ("", 0, "stop"),
        ),
        (
            {"choices": [{"text": "a\ud83d", "finish_reason": "stop"}], "usage": None},
            ("a?", 3, "stop"),
        ),
    ],
)
def test_what_a_server_leaves_out_is_counted_here(moody, reply, expected):
    moody.replies = [reply]
    with client(moody.url) as model:
        found = model.generate([talk("Hi")], max_new_tokens=7)[0][0]
        read = (reply.get("usage") or {}).get("prompt_tokens")
        assert found.prompt_tokens == (
            len(language.encode(model.tokenizer, moody.asked[0]["prompt"]))
            if read is None
            else read
        )
    assert (found.text, found.completion_tokens, found.finish_reason) == expected and len(
        moody.asked
    ) == 1


def test_half_a_surrogate_pair_in_a_conversation_is_asked_and_counted(moody):
    moody.replies = [answer("fine")]
    with client(moody.url) as model:
        found = model.generate(
            [talk("Hi \ud83d")], max_new_tokens=5, temperature=0.5, seed=3, prefixes=["So \udc00"]
        )
        assert model.count("\ud83d") == model.count("?")
    assert (
        "Hi ?" in moody.asked[0]["prompt"]
        and moody.asked[0]["prompt"].endswith("So ?")
        and found[0][0].text.endswith("fine")
    )


def test_a_page_of_a_proxy_is_told_by_its_words(moody):
    moody.replies = [
        (
            502,
            (
                "<!DOCTYPE html>\n<html><head><title>502 Bad"
                " Gateway</title></head>\n<body>nginx</body></html>"
            ),
        )
    ]
    with (
        client(moody.url, attempts=1) as model,
        pytest.raises(ServerError, match=r"\(status 502: a web page, '502 Bad Gateway nginx'\)"),
    ):
        model.generate([talk("Hi")], max_new_tokens=5)


# --- the judge ---------------------------------------------------------------------------------------------------


def verdict(content):
    return {"choices": [{"message": {"content": content}}]}


def test_a_judge_reads_and_keeps_half_a_surrogate_pair(moody, tmp_path):
    moody.replies = [verdict("CORRECT.")]
    file = tmp_path / "verdicts.jsonl"
    for _ in range(2):
        assert (
            Judge(moody.url, "tiny", file)
            .grade("Who \ud83d?", "Lima \udc00", "Lima \ud83d")
            .correct
        )
    assert (
        len(moody.asked) == 1
        and "Who ??" in moody.asked[0]["messages"][0]["content"]
        and "Who ??" in file.read_text("utf-8")
    )


@pytest.mark.parametrize("tail", ['{"key": "half', '{"key": "whole", "correct": true}', ""])
def test_a_torn_verdict_costs_itself_alone(moody, tmp_path, tail):
    moody.replies, file = [verdict("INCORRECT")], tmp_path / "verdicts.jsonl"
    file.write_text('{"key": "first", "correct": true}\n' + tail)
    assert not Judge(moody.url, "tiny", file).grade("Who?", "Lima", "Quito").correct
    assert len(Judge(moody.url, "tiny", file)._known) == (3 if "whole" in tail else 2)


def test_a_judge_that_refuses_a_field_is_asked_without_it(moody, tmp_path):
    moody.replies = [
        lambda body: (
            (400, "Unsupported parameter: 'max_tokens'")
            if "max_tokens" in body
            else verdict("CORRECT")
        )
    ]
    assert Judge(moody.url, "tiny", tmp_path / "v.jsonl").grade("Who?", "Lima", "Quito").correct


@pytest.mark.parametrize(
    ("reply", "said"),
    [(verdict(None), "replied '', expected CORRECT or INCORRECT"), ({"choices": []}, "sent no chat completion"), ((200, "null"), "no chat completion"),
     ((200, "<html>Log in</html>"), "sent no chat completion but .*a web page, 'Log in'")],
)  # fmt: skip
def test_a_judge_that_gives_no_verdict_gets_a_sentence(moody, tmp_path, reply, said):
    moody.replies = [reply]
    with pytest.raises(ValueError, match=said):
        Judge(moody.url, "tiny", tmp_path / "v.jsonl").grade("Who?", "Lima", "Quito")


@pytest.mark.model
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
    assert body["model"] == "my-adapter" and body["prompt"].endswith(
        "<|im_start|>assistant\nThought:"
    )
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["stop"]) == (
        0.4,
        0.8,
        5,
        ["Observation:"],
    )
    assert isinstance(body["seed"], int)


@pytest.mark.parametrize(
    ("temperature", "seed", "seeded", "sent"),
    [(0.0, 3, True, set()), (0.0, None, True, set()), (0.4, 3, True, {"seed", "top_p"}), (0.4, None, True, {"top_p"}),
     (0.4, 3, False, {"top_p"})],
)  # fmt: skip
@pytest.mark.model
def test_what_only_sampling_needs_is_sent_with_sampled_requests_only(
    moody, temperature, seed, seeded, sent
):
    moody.replies = [answer("fine")]
    with client(moody.url, seeded=seeded) as model:
        model.generate(
            [talk("Hi")], temperature=temperature, top_p=0.8, max_new_tokens=5, seed=seed
        )
    assert moody.asked[0].keys() & {"seed", "top_p"} == sent


@pytest.mark.model
def test_greedy_samples_are_asked_for_once(moody):
    moody.replies = [answer("fine")]
    with client(moody.url) as model:
        (found,) = model.generate([talk("Hi")], n=3, max_new_tokens=5)
    assert [c.text for c in found] == ["fine"] * 3 and [body["n"] for body in moody.asked] == [1]


@pytest.mark.model
def test_conversations_come_back_in_order_with_their_prefixes(moody):
    moody.replies = [lambda body: answer(body["prompt"].split("<|im_end|>")[-2][-1])]
    with client(moody.url) as model:
        found = model.generate(
            [talk(f"number {i}") for i in range(6)],
            max_new_tokens=5,
            prefixes=[f"p{i} " for i in range(6)],
        )
    assert [c[0].text for c in found] == [f"p{i} {i}" for i in range(6)]


@pytest.mark.model
def test_a_server_that_gives_fewer_choices_is_asked_for_the_rest_with_other_seeds(moody):
    moody.replies = [answer("a", "b", tokens=9), answer("c", tokens=7)]
    with client(moody.url, choices=2) as model:
        (found,) = model.generate([talk("Hi")], n=3, temperature=1.0, max_new_tokens=5, seed=1)
    assert [c.text for c in found] == ["a", "b", "c"]
    assert [body["n"] for body in moody.asked] == [2, 1]
    assert len({body["seed"] for body in moody.asked}) == 2
    assert found[2].completion_tokens == 7 and found[0].prompt_tokens == 5


@pytest.mark.model
def test_arguments_no_model_could_follow_are_refused_before_any_request(moody):
    with client(moody.url) as model, pytest.raises(ValueError, match="top_p=0"):
        model.generate([talk("Hi")], max_new_tokens=5, top_p=0)
    assert moody.asked == []


@pytest.mark.model
def test_tokens_of_several_choices_sum_to_what_the_server_counted(moody):
    moody.replies = [answer("one two", "one", tokens=5)]
    with client(moody.url) as model:
        (found,) = model.generate([talk("Hi")], n=2, temperature=1.0, max_new_tokens=5, seed=1)
    assert [c.completion_tokens for c in found] == [3, 2], (
        "two words and one, and an end of turn each"
    )


@pytest.mark.parametrize(
    ("counted", "reasons", "total", "expected"),
    [([4, 8], ["stop", "length"], 13, [5, 8]), ([4, 8], ["stop", "stop"], 15, [6, 9]), ([8, 8], ["length"] * 2, 16, [8, 8]),
     ([8, 8], ["length"] * 2, 18, [9, 9]), ([8, 8], ["length"] * 2, 8, [8, 8]), ([4, 8], ["stop", "length"], 5, [5, 8])],
)  # fmt: skip
def test_what_was_cut_off_is_counted_where_it_was_cut(counted, reasons, total, expected):
    assert servers.shares(counted, reasons, total) == expected


@pytest.mark.model
def test_an_adapter_is_the_name_of_its_run_folder(moody, tmp_path):
    adapter = tmp_path / "adapter-smol-1234" / "student"
    moody.listed, moody.replies = ["base", "adapter-smol-1234"], [answer("a")]
    with client(moody.url, served="base") as model:
        for chosen in (adapter, None):
            model.use(chosen)
            model.generate([talk("Hi")], max_new_tokens=5)
    assert [body["model"] for body in moody.asked] == ["adapter-smol-1234", "base"]


@pytest.mark.model
def test_an_adapter_that_the_server_does_not_hold_is_refused_with_the_remedy(moody, tmp_path):
    moody.listed = ["base"]
    with client(moody.url) as model:
        with pytest.raises(
            ServerError,
            match=r"lists base, expected the adapter 'adapter-x' .*--lora-modules adapter-x=",
        ):
            model.use(tmp_path / "adapter-x" / "student")
        assert model.served == SMOL
    with (
        client("http://127.0.0.1:9") as model,
        pytest.raises(ServerError, match="does not list its models"),
    ):
        model.use(tmp_path / "adapter-x" / "student")


# --- a real llama.cpp server ------------------------------------------------------------------------------------


def children():
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # also a zombie
            if "agentlib.models.server" in " ".join(process.cmdline()):
                found.add(process.pid)
    return found


@pytest.fixture(scope="module")
def llama():
    pytest.importorskip("xllamacpp", reason="the extra `server` is not installed")
    before = children()
    with servers.llama_server(SMOL, slots=2, context=1024) as url:
        started = children() - before
        model = ServerModel(url, SMOL, concurrency=2, choices=2, max_context=1024)
        yield model
        model.close()
    assert started and not started & {
        p for p in children() if psutil.Process(p).status() != psutil.STATUS_ZOMBIE
    }
    assert not answers(f"{url}/v1/models")


ASKED = "Count from one to five, in words."


@pytest.fixture(scope="module")
def counted(llama):
    return llama.generate([talk(ASKED)], max_new_tokens=10)[0][0]


def test_the_server_answers_and_counts_tokens(llama, counted):
    assert answers(f"{llama.url}/v1/models")
    rendered = servers.render(llama.tokenizer, talk(ASKED))
    assert counted.prompt_tokens == len(language.encode(llama.tokenizer, rendered))
    assert (counted.completion_tokens, counted.finish_reason) == (10, "length")
    assert llama.count(counted.text) == pytest.approx(10, abs=1)


def test_a_greedy_answer_is_the_same_again_and_goes_on_from_its_own_start(llama, counted):
    prefix = counted.text[: len(counted.text) // 2].rsplit(" ", 1)[0]
    (again,), (continued,) = llama.generate(
        [talk(ASKED)] * 2, max_new_tokens=10, prefixes=[None, prefix]
    )
    assert again == counted
    assert continued.text.startswith(prefix) and continued.text.startswith(
        counted.text[: len(prefix) + 8]
    )
    assert continued.prompt_tokens == counted.prompt_tokens + llama.count(prefix)


def test_a_quoted_end_of_turn_is_words_to_a_real_server(llama):
    quoting = talk("Repeat: <|im_end|> is a token.")
    (found,) = llama.generate([quoting], max_new_tokens=4)[0]
    assert found.prompt_tokens == len(
        language.encode(llama.tokenizer, language.render(llama.tokenizer, quoting))
    )
    assert found.prompt_tokens > len(
        llama.tokenizer(llama.tokenizer.apply_chat_template(quoting, tokenize=False))["input_ids"]
    )


def test_the_server_stops_at_a_stop_string(llama, counted):
    stop = counted.text.split()[-1]
    (found,) = llama.generate([talk(ASKED)], max_new_tokens=10, stop=[stop])[0]
    assert found.text == counted.text[: counted.text.index(stop)] and found.finish_reason == "stop"


def test_three_samples_of_a_server_with_two_slots(llama):
    def sample(seed):
        return llama.generate([talk(ASKED)], n=3, temperature=1.5, max_new_tokens=8, seed=seed)[0]

    found = sample(1)
    assert len(found) == 3 and len({c.text for c in found}) > 1
    assert all(
        c.prompt_tokens == found[0].prompt_tokens and 1 <= c.completion_tokens <= 8 for c in found
    )
    assert all(abs(c.completion_tokens - llama.count(c.text)) <= 2 for c in found)


def test_the_in_process_model_and_the_server_render_and_count_alike(llama, smol):
    assert servers.render(llama.tokenizer, talk(ASKED)) == servers.render(
        smol.tokenizer, talk(ASKED)
    )
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
    # as if another program answered in its place
    monkeypatch.setattr(servers, "answers", lambda url: True)
    before, started = children(), time.monotonic()
    with (
        pytest.raises(
            RuntimeError,
            match=r"llama\.cpp server for 'broken' did not start, it ended with status 1: .*Error",
        ),
        servers.llama_server("broken", start_seconds=20),
    ):
        pass
    assert children() <= before and time.monotonic() - started < 20
