"""What several test files share: the small real model, a sandbox, a scripted model, and a private project folder."""

import os
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, settings

from agentlib import config
from agentlib.models import Completion
from agentlib.tasks import Question

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A busy machine is no failure of a property.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
SMOL = "SmolLM2-135M-Instruct"


class Scripted:
    """A `LanguageModel` with canned replies: `reply(conversation, prefix, k)` gives the text of sample k.

    Tokens are words. `calls` keeps what each call was asked, as it stood at that moment.
    """

    name = "scripted"

    def __init__(self, reply: Callable[[list[dict], str, int], str], max_context: int = 100_000):
        self.reply, self.max_context = reply, max_context
        self.calls: list[dict] = []

    def generate(self, conversations: Sequence[list[dict]], *, n=1, temperature=0.0, top_p=1.0, max_new_tokens,
                 stop=(), prefixes=None, seed=None):  # fmt: skip
        prefixes = [None] * len(conversations) if prefixes is None else list(prefixes)
        asked = [[dict(turn) for turn in c] for c in conversations]
        self.calls.append({"conversations": asked, "prefixes": prefixes, "n": n, "temperature": temperature,
                           "max_new_tokens": max_new_tokens, "stop": tuple(stop)})  # fmt: skip
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


def ask(number: int = 0, text: str = "What is 6 times 7?", answer: str = "42", domain: str = "math") -> Question:
    return Question(f"q-{number}", "mini-math" if domain == "math" else "mini-hotpot", text, answer, domain)


@pytest.fixture(scope="session")
def smol():
    """SmolLM2-135M in this process, in 32 bits; tests that switch its adapter switch it back."""
    from agentlib.models import LocalModel

    return LocalModel(SMOL, precision="fp32")


@pytest.fixture(scope="session")
def box():
    """A sandbox whose search returns what it was asked."""
    from agentlib.sandbox import Sandbox

    with Sandbox(tools={"web_search": lambda query: f"[1] {query}"}, seconds=5.0, memory_mb=512) as opened:
        yield opened


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project folder in place of the real one: runs, records and figures land here."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    return tmp_path
