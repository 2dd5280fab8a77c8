"""Passages found by meaning or by words in a built index, and the agent's `web_search`. Defaults
are the paper's: flat inner product, top 3.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from agentlib import records
from agentlib.retrieval import bm25, corpus, nearest
from agentlib.retrieval.corpus import Passage
from agentlib.retrieval.encoder import Encoder

REBUILD = "build it with notebook 01, or with agentlib.retrieval.build.build_index"


@dataclass(frozen=True)
class Hit:
    """A passage found, with its score: cosine for FAISS, BM25 weight for bm25; larger is nearer."""

    passage: Passage
    score: float


class Searcher(Protocol):
    """Anything that finds passages: an `Index` in this process, or a `server.RetrieverClient`."""

    def search(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]: ...


class Index:
    """A built index: its `passages`, its `meta`, and `search`."""

    def __init__(self, meta: dict[str, Any], passages: corpus.StoredPassages, nearest: Callable):
        self.meta, self.passages, self._nearest = meta, passages, nearest

    def __len__(self) -> int:
        return len(self.passages)

    def search(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]:
        """The `k` best passages of each query, best first (fewer where the corpus is smaller).

        BM25 leaves out passages that share no word with the query. Raises ValueError for k below 1
        or for queries that are not a list of texts.
        """
        if isinstance(queries, str) or not all(isinstance(q, str) for q in queries):
            raise ValueError(f"queries are {queries!r:.80}, expected a list of texts")
        if k < 1:
            raise ValueError(f"k is {k}, expected 1 or more")
        if not queries:
            return []
        places, scores = self._nearest(list(queries), min(k, len(self)))
        return [
            [
                Hit(self.passages[int(p)], float(s))
                for p, s in zip(row, marks, strict=True)
                if p >= 0
            ]
            for row, marks in zip(places, scores, strict=True)
        ]


def open_index(
    folder: Path, passages: Iterable[Passage] | None = None, encoder: Encoder | None = None
) -> Index:
    """The index built in `folder`, on the GPU if faiss finds one.

    `passages`, when given, must be the corpus it was built from; `encoder` the one it was built
    with (bm25 needs none). Raises FileNotFoundError when the index is missing or unfinished,
    ValueError when either differs.
    """
    folder = Path(folder)
    if not (folder / "meta.json").exists():
        state = "is unfinished" if (folder / "building.json").exists() else "is missing"
        raise FileNotFoundError(f"index {folder} {state}; {REBUILD}")
    meta = records.read_json(folder / "meta.json")
    if passages is not None and (found := corpus.digest(passages)) != meta["digest"]:
        raise ValueError(
            f"corpus changed since the index {folder} was built (digest {found[:10]}, expected"
            f" {meta['digest'][:10]}); rebuild: {REBUILD}"
        )
    stored = corpus.StoredPassages(folder)
    if meta["kind"] == "bm25":
        if meta["encoder"] != bm25.IDENTITY:
            raise ValueError(
                f"index {folder} was built of words in the form {meta['encoder']}, expected"
                f" {bm25.IDENTITY}; rebuild: {REBUILD}"
            )
        return Index(meta, stored, functools.partial(bm25.search, bm25.load(folder)))
    found = encoder.identity if encoder else None
    if found != meta["encoder"]:
        raise ValueError(
            f"index {folder} was built with the encoder {meta['encoder']}, got {found}; give"
            " that one"
        )
    return Index(
        meta, stored, functools.partial(_nearest_by_meaning, nearest.Nearest(folder), encoder)
    )


def _nearest_by_meaning(
    index: nearest.Nearest, encoder: Encoder, queries: list[str], k: int
) -> tuple[np.ndarray, np.ndarray]:
    return index.search(encoder.encode(queries, kind="query"), k)


def as_tool(searcher: Searcher, k: int = 3) -> Callable[[str], str]:
    """The agent's `web_search(query)`: the `k` best passages as numbered text.

    The function returned raises ValueError for a query that is empty or no text.
    """

    def web_search(query: str) -> str:
        """Search the encyclopedia; returns the best passages, each with its title."""
        if not isinstance(query, str) or not query.strip():
            raise ValueError(
                f"web_search got the query {query!r}, expected a text such as 'capital of France'"
            )
        hits = searcher.search([query], k)[0]
        if not hits:
            return f"No passage matches {query!r}; try other words."
        return "\n\n".join(
            f"[{i}] {hit.passage.title}\n{hit.passage.text}" for i, hit in enumerate(hits, 1)
        )

    return web_search
