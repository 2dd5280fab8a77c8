"""The `/retrieve` HTTP protocol of Search-R1, both sides, so that one index serves many runs.

    POST /retrieve {"queries": ["..."], "topk": 3, "return_scores": true}
    -> {"result": [[{"document": {"id", "title", "contents"}, "score": 0.8}, ...], ...]}

Without `return_scores` each document stands alone, as in Search-R1. A server with a token wants it
in each request (`Authorization: Bearer ...`); both sides take it from the environment variable
`AGENTLIB_RETRIEVER_TOKEN`, so that it stands in no configuration and no record.
"""

import contextlib
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import httpx

from agentlib import config
from agentlib.records import replace_surrogates
from agentlib.retrieval.corpus import contents, from_document
from agentlib.retrieval.index import Hit, Searcher
from agentlib.web import post, retrying, said

if TYPE_CHECKING:
    from fastapi import FastAPI


TOKEN = "AGENTLIB_RETRIEVER_TOKEN"


def application(searcher: Searcher, token: str | None = None) -> "FastAPI":
    """The web application: POST /retrieve, and GET /health with {"status": "ok"}.

    A malformed request gets status 422 with the reason, never an empty result. `token` None takes
    that of the environment; with one, a request without it gets status 401. The health page asks
    for none.
    """
    from fastapi import Depends, FastAPI, Header, HTTPException
    from pydantic import BaseModel, Field

    class Request(BaseModel):
        queries: list[str] = Field(min_length=1)
        topk: int | None = Field(3, ge=1, le=100)
        return_scores: bool = False

    app = FastAPI(title="agentlib retriever")

    token = _checked(token)

    def admitted(authorization: str = Header("")) -> None:
        if token and not secrets.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, f"this retriever wants its token; set {TOKEN} on both sides")

    @app.post("/retrieve", dependencies=[Depends(admitted)])
    def retrieve(request: Request) -> dict[str, Any]:
        found = searcher.search(request.queries, request.topk or 3)
        return {"result": [[_wire(hit, request.return_scores) for hit in hits] for hits in found]}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _checked(token: str | None) -> str:
    """A token, None being that of the environment. Raises ValueError for one that no HTTP header
    can carry.
    """
    token = os.environ.get(TOKEN, "") if token is None else token
    if not (token.isascii() and token.isprintable()):
        raise ValueError(
            f"the retriever's token holds other than printable ASCII characters; set {TOKEN} to one"
            " of letters and digits"
        )
    return token


def _wire(hit: Hit, scored: bool) -> dict[str, Any]:
    document = {"id": hit.passage.id, "title": hit.passage.title, "contents": contents(hit.passage)}
    score = None if math.isnan(hit.score) else hit.score  # of a searcher that is itself a client
    return {"document": document, "score": score} if scored else document


@contextlib.contextmanager
def serving(
    searcher: Searcher, host: str = "127.0.0.1", port: int = 0, token: str | None = None
) -> Iterator[str]:
    """A server in a thread of this process while the block runs; yields its URL. Port 0 takes a
    free one.

    Raises OSError when the port is taken, RuntimeError with the cause when the server ends before
    it is ready.
    """
    import uvicorn

    listener, address = _listen(host.strip("[]"), port)
    server = uvicorn.Server(uvicorn.Config(application(searcher, token), log_level="warning"))
    died: list[BaseException] = []

    def run() -> None:
        try:
            server.run(sockets=[listener])
        except BaseException as error:  # uvicorn exits by SystemExit, which a thread would swallow
            died.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        if not server.started or died:
            cause = f"{type(died[0]).__name__}: {died[0]}" if died else "no exception"
            raise RuntimeError(
                f"the retrieval server on {host} ended before it was ready ({cause}); its log above"
                " says more"
            )
        yield address
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _listen(host: str, port: int) -> tuple[socket.socket, str]:
    """A listening socket and its URL; the host may be an IPv6 address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise OSError(
            f"cannot listen at {host} port {port} ({reason}); choose another host or port"
        ) from None
    return listener, f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


class RetrieverClient:
    """Search on a `/retrieve` server, ours or Search-R1's, in place of an index in this process.

    `url` is the server's root or its /retrieve address; a hit that comes without a score has NaN
    for one. A failed request is tried `attempts` times with growing pauses, each for at most
    `seconds`; after that `search` raises ConnectionError, so that a lost server stops a run instead
    of lowering its score.
    """

    def __init__(
        self, url: str, seconds: float = 60.0, attempts: int = 8, token: str | None = None
    ):
        self.url = config.server_root(url) + "/retrieve"
        token = _checked(token)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(timeout=seconds, headers=headers, follow_redirects=True)
        self._refused: set[str] = set()
        self._retry = retrying(attempts)

    def search(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]:
        """As `Index.search`. Raises ConnectionError when no proper answer came back, ValueError for
        a bad request.
        """
        if not queries:
            return []
        body = {"queries": replace_surrogates(list(queries)), "topk": k, "return_scores": True}
        try:
            answer = self._retry(self._post, body)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status == 422:
                raise ValueError(
                    f"retriever at {self.url} refused the request: {said(error.response)}"
                ) from None
            raise ConnectionError(
                f"retriever at {self.url} answered {status} ({said(error.response)}); see its log"
            ) from None
        except httpx.HTTPError as error:
            raise ConnectionError(
                f"retriever at {self.url} cannot be reached ({type(error).__name__}: {error});"
                " start it with python -m agentlib serve or correct retriever_url"
            ) from None
        try:
            found = [[_hit(entry) for entry in row] for row in answer["result"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ConnectionError(
                f"retriever at {self.url} sent no /retrieve answer ({type(error).__name__}:"
                f" {error}); check the address"
            ) from None
        if len(found) != len(queries):
            raise ConnectionError(
                f"retriever at {self.url} sent {len(found)} results for {len(queries)} queries"
            )
        return found

    def _post(self, body: dict[str, Any]) -> Any:
        response = post(self._client, self.url, body, ("return_scores",), self._refused)
        if response.request.method != "POST":  # what a redirect with status 301 or 302 makes of it
            raise httpx.TooManyRedirects(f"it redirects to {response.url}, give that address")
        response.raise_for_status()
        try:
            return response.json()
        except ValueError:
            raise httpx.DecodingError(f"expected JSON, got {said(response)!r:.200}") from None


def _hit(entry: Any) -> Hit:
    """A hit as servers send it: {"document", "score"}, or the document alone, an object or only its
    contents.
    """
    document = entry["document"] if isinstance(entry, dict) and "document" in entry else entry
    score = entry.get("score") if isinstance(entry, dict) else None
    passage = from_document(
        replace_surrogates({"contents": document} if isinstance(document, str) else document)
    )
    return Hit(passage, math.nan if score is None else float(score))
