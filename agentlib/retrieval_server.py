"""The `/retrieve` HTTP protocol of Search-R1, both sides, so that one index serves many runs.

Owns the request and response format, the server and the client. Knows nothing of how an index finds passages.

    POST /retrieve {"queries": ["..."], "topk": 3, "return_scores": true}
    -> {"result": [[{"document": {"id", "title", "contents"}, "score": 0.8}, ...], ...]}

Without `return_scores` each document stands alone, as in Search-R1.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import httpx
import tenacity

from agentlib.retrieval import Hit, Searcher, contents, from_document

if TYPE_CHECKING:
    from fastapi import FastAPI


def application(searcher: Searcher) -> "FastAPI":
    """The web application: POST /retrieve, and GET /health with {"status": "ok"}.

    A malformed request gets status 422 with the reason, never an empty result.
    """
    from fastapi import FastAPI
    from pydantic import BaseModel, Field

    class Request(BaseModel):
        queries: list[str] = Field(min_length=1)
        topk: int | None = Field(3, ge=1, le=100)
        return_scores: bool = False

    app = FastAPI(title="agentlib retriever")

    @app.post("/retrieve")
    def retrieve(request: Request) -> dict[str, Any]:
        found = searcher.search(request.queries, request.topk or 3)
        return {"result": [[_wire(hit, request.return_scores) for hit in hits] for hits in found]}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _wire(hit: Hit, scored: bool) -> dict[str, Any]:
    document = {"id": hit.passage.id, "title": hit.passage.title, "contents": contents(hit.passage)}
    return {"document": document, "score": hit.score} if scored else document


def serve(searcher: Searcher, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Answer requests until interrupted."""
    import uvicorn

    uvicorn.run(application(searcher), host=host, port=port, log_level="warning")


@contextlib.contextmanager
def serving(searcher: Searcher, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """A server in a thread of this process while the block runs; yields its URL. Port 0 takes a free one.

    Raises OSError when the port is taken.
    """
    import uvicorn

    listener = socket.create_server((host, port))
    server = uvicorn.Server(uvicorn.Config(application(searcher), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _passing(error: BaseException) -> bool:
    """Whether trying again may help: the network, a server that starts or is overloaded, half an answer."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (429, 500, 502, 503, 504)
    return isinstance(error, httpx.TransportError | httpx.DecodingError)


class RetrieverClient:
    """Search on a `/retrieve` server, ours or Search-R1's, in place of an index in this process.

    `url` is the server's root or its /retrieve address. A failed request is tried `attempts` times with growing
    pauses, each for at most `seconds`; after that `search` raises ConnectionError, so that a lost server stops a
    run instead of lowering its score.
    """

    def __init__(self, url: str, seconds: float = 60.0, attempts: int = 8):
        self.url = url.rstrip("/").removesuffix("/retrieve") + "/retrieve"
        self._client = httpx.Client(timeout=seconds)
        self._retry = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_passing),
            stop=tenacity.stop_after_attempt(attempts),
            wait=tenacity.wait_exponential_jitter(initial=1.0, max=20.0, jitter=1.0),  # over a minute in all
            reraise=True,
        )

    def search(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]:
        """As `Index.search`. Raises ConnectionError when no proper answer came back, ValueError for a bad request."""
        if not queries:
            return []
        body = {"queries": list(queries), "topk": k, "return_scores": True}
        try:
            answer = self._retry(self._post, body)
        except httpx.HTTPStatusError as error:
            status, said = error.response.status_code, error.response.text[:200]
            if status == 422:
                raise ValueError(f"retriever at {self.url} refused the request: {said}") from None
            raise ConnectionError(f"retriever at {self.url} answered {status} ({said}); see its log") from None
        except httpx.HTTPError as error:
            raise ConnectionError(
                f"retriever at {self.url} cannot be reached ({type(error).__name__}: {error}); start it with "
                "agentlib.retrieval_server.serve or correct retriever_url"
            ) from None
        try:
            found = [[Hit(from_document(r["document"]), float(r["score"])) for r in row] for row in answer["result"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ConnectionError(
                f"retriever at {self.url} sent no /retrieve answer ({type(error).__name__}: {error}); check the address"
            ) from None
        if len(found) != len(queries):
            raise ConnectionError(f"retriever at {self.url} sent {len(found)} results for {len(queries)} queries")
        return found

    def _post(self, body: dict[str, Any]) -> Any:
        response = self._client.post(self.url, json=body)
        response.raise_for_status()
        try:
            return response.json()
        except ValueError:
            raise httpx.DecodingError("the answer is not JSON") from None
