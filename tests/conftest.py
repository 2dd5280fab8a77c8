"""What several test files share: the small real model, a sandbox, a scripted model, and a
private project folder."""

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import HealthCheck, settings

from agentlib import config, records, tasks
from agentlib.models import Completion
from agentlib.tasks import Question

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A busy machine is no failure of a property.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
SMOL = "SmolLM2-135M-Instruct"
NEEDS = {  # what a test that uses a fixture needs; test files mark what their own fixtures hide
    "smol": "model", "tokenizer": "model", "examples": "model", "encoder": "model", "llama": "server", "box": "isolation",
    "tree": "notebook", "cluster": "cluster", "browser": "browser",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in NEEDS.keys() & set(item.fixturenames):
            item.add_marker(NEEDS[name])


class Scripted:
    """A `LanguageModel` with canned replies: `reply(conversation, prefix, k)` gives the text of
    sample k.

    Tokens are words. `calls` keeps what each call was asked, as it stood at that moment.
    """

    name = "scripted"

    def __init__(self, reply: Callable[[list[dict], str, int], str], max_context: int = 100_000):
        self.reply, self.max_context = reply, max_context
        self.calls: list[dict] = []

    def generate(
        self,
        conversations: Sequence[list[dict]],
        *,
        n=1,
        temperature=0.0,
        top_p=1.0,
        max_new_tokens,
        stop=(),
        prefixes=None,
        seed=None,
    ):
        prefixes = [None] * len(conversations) if prefixes is None else list(prefixes)
        asked = [[dict(turn) for turn in c] for c in conversations]
        self.calls.append(
            {
                "conversations": asked,
                "prefixes": prefixes,
                "n": n,
                "temperature": temperature,
                "max_new_tokens": max_new_tokens,
                "stop": tuple(stop),
            }
        )
        found = []
        for conversation, prefix in zip(asked, prefixes, strict=True):
            texts = [(prefix or "") + self.reply(conversation, prefix or "", k) for k in range(n)]
            read = self.count(" ".join(turn["content"] for turn in conversation))
            found.append([Completion(text, read, self.count(text), "stop") for text in texts])
        return found

    def count(self, text: str) -> int:
        return len(text.split())


def act(code: str, thought: str = "I go on.") -> str:
    """A turn as a model writes it (the stop string is cut off)."""
    return f"Thought: {thought}\nCode:\n```py\n{code}\n```"


def ask(
    number: int = 0, text: str = "What is 6 times 7?", answer: str = "42", domain: str = "math"
) -> Question:
    benchmark = "teaching-math" if domain == "math" else "teaching-hotpot"
    return Question(f"q-{number}", benchmark, text, answer, domain)


@pytest.fixture(scope="session")
def smol():
    """SmolLM2-135M in this process, in 32 bits; tests that switch its adapter switch it back."""
    from agentlib.models import LocalModel

    return LocalModel(SMOL, precision="fp32")


@pytest.fixture(scope="session")
def box():
    """A sandbox whose search returns what it was asked."""
    from agentlib.sandbox import Sandbox

    with Sandbox(
        tools={"web_search": lambda query: f"[1] {query}"}, seconds=5.0, memory_mb=512
    ) as opened:
        yield opened


def install_tiny(home, name):
    """A random model of two layers with SmolLM2's tokenizer, in place of a real one's weights."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from agentlib.models import weights

    tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(SMOL))
    torch.manual_seed(0)
    tokens = {
        name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        **tokens,
    )
    fresh, folder = home / "fresh", home / "models" / records.slug(name)
    folder.mkdir(parents=True)
    LlamaForCausalLM(shape).save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    weights._install(fresh, folder / "dense")


class Moody(BaseHTTPRequestHandler):
    """Plays the server's list of replies one a request, the last one for ever; keeps what it was
    asked."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            replies = self.server.replies
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
        reply = reply(body) if callable(reply) else reply
        if reply == "hang up":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, content = reply if isinstance(reply, tuple) else (200, reply)
        content = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        cut = status == "cut"
        self.send_response(200 if cut else status)
        self.send_header("Content-Length", str(len(content) * (2 if cut else 1)))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = cut

    def do_GET(self):
        listed = json.dumps({"data": [{"id": name} for name in self.server.listed]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(listed)))
        self.end_headers()
        self.wfile.write(listed)

    def log_message(self, *_):
        pass


@pytest.fixture
def moody():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    server.asked, server.replies, server.listed, server.lock = [], [], [], threading.Lock()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project folder in place of the real one: runs, records and figures land here."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def paper_home(tmp_path_factory):
    """A download cache that holds the paper's real files."""
    for folder in (config.ROOT.parent / "shared" / "data", config.home() / "tasks"):
        if all((folder / p.file).exists() for p in tasks.PUBLISHED.values()):
            home = tmp_path_factory.mktemp("home")
            shutil.copytree(folder, home / "tasks")
            return home
    pytest.skip(
        "the paper's question files are not here; tasks.load downloads them when they are first"
        " used"
    )


@pytest.fixture
def paper_files(paper_home, monkeypatch):
    """The paper's question files are in the cache."""
    monkeypatch.setenv("AGENTLIB_HOME", str(paper_home))
