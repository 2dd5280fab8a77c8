"""Passages found by meaning or by words: building and searching an index of a corpus.

Owns the index folder (corpus, vectors, digest) and the agent's `web_search`. Knows nothing of agents, of how a
text becomes a vector (`encoder`), of how vectors are found (`nearest`) or of HTTP (`retrieval_server`). Defaults are
the paper's: flat inner product, top 3.

An index folder holds passages.jsonl and offsets.npy (the corpus, read from disk line by line), the files of `nearest`
or bm25/, and meta.json, written last: a folder without meta.json is an interrupted build.
"""

import functools
import hashlib
import json
import logging
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from agentlib import nearest, records
from agentlib.encoder import Encoder
from agentlib.encoder import encoder_settings as encoder_settings
from agentlib.encyclopedia import Passage
from agentlib.progress import meter

log = logging.getLogger(__name__)

ALIKE = 0.98  # cosine of a vector in an adopted index to ours; 16 bits and other libraries stay above it
KINDS = (*nearest.KINDS, "bm25")
REBUILD = "build it with notebook 01, or with agentlib.retrieval.build_index"


@dataclass(frozen=True)
class Hit:
    """A passage found, with its score: cosine for FAISS, BM25 weight for bm25; larger is nearer."""

    passage: Passage
    score: float


class Searcher(Protocol):
    """Anything that finds passages: an `Index` in this process, or a `retrieval_server.RetrieverClient`."""

    def search(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]: ...


def contents(passage: Passage) -> str:
    """A passage as wiki-18 writes it, and as it is encoded: the title in quotes, a line end, the text."""
    return f'"{passage.title}"\n{passage.text}'


def from_document(document: dict[str, Any]) -> Passage:
    """A passage from a JSON document with id and either title and text, or wiki-18's contents.

    Raises ValueError naming what is missing.
    """
    if "id" not in document or not ("text" in document or "contents" in document):
        raise ValueError(f"document has the fields {sorted(document)}, expected id and contents, or id, title and text")
    if "text" in document:
        return Passage(str(document["id"]), document.get("title", ""), document["text"])
    title, _, text = document["contents"].partition("\n")
    if len(title) > 1 and title[0] == title[-1] == '"':
        title = title[1:-1]
    return Passage(str(document["id"]), title, text)


def read_passages(file: Path) -> Iterator[Passage]:
    """Passages of a JSON-lines corpus such as wiki-18.jsonl, one at a time."""
    return map(from_document, records.read(file))


class StoredPassages(Sequence[Passage]):
    """The corpus of an index folder, read from disk one passage at a time (wiki-18 does not fit into memory)."""

    def __init__(self, folder: Path):
        self._file = Path(folder) / "passages.jsonl"
        self._bytes = np.memmap(self._file, mode="r")
        self._offsets = np.load(Path(folder) / "offsets.npy")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"passage {place} of {len(self)}")
        start, end = self._offsets[place % len(self)], self._offsets[place % len(self) + 1]
        return Passage(**json.loads(self._bytes[start:end].tobytes()))


def _line(passage: Passage) -> bytes:
    row = {"id": passage.id, "title": passage.title, "text": passage.text}
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def corpus_digest(passages: Iterable[Passage]) -> str:
    """SHA-256 of the passages in their order."""
    found = hashlib.sha256()
    for passage in passages:
        found.update(_line(passage))
    return found.hexdigest()


def _write_corpus(folder: Path, passages: Iterable[Passage]) -> tuple[str, int]:
    """Write the corpus beside the one in use (names ending in .part); returns its digest and count."""
    found, offsets = hashlib.sha256(), [0]
    with open(folder / "passages.jsonl.part", "wb") as stream:
        for passage in passages:
            line = _line(passage)
            found.update(line)
            stream.write(line)
            offsets.append(offsets[-1] + len(line))
    if len(offsets) == 1:
        raise ValueError(f"no passages were given for index {folder}, expected one or more; check the corpus")
    with open(folder / "offsets.npy.part", "wb") as stream:
        np.save(stream, np.array(offsets, np.int64))
    return found.hexdigest(), len(offsets) - 1


def build_index(
    folder: Path, passages: Iterable[Passage], encoder: Encoder | None = None, kind: str = "faiss",
    shard: int = 0, progress: bool = True,
) -> Path:  # fmt: skip
    """Make the index of a corpus in `folder`, or finish an interrupted one; returns the folder.

    All kinds but "bm25" need an `encoder` (`nearest` tells them apart); vectors are written `shard` passages at a time,
    and a build that was interrupted goes on after its last whole shard. An index that is complete for this very corpus
    and encoder is left as it is; one of another corpus is replaced. `shard` 0 takes a fiftieth of the corpus, within
    bounds. A flat index of 21 million passages of 768 numbers needs 65 GB of memory and twice that of disk.

    Raises ValueError for an unknown kind, no encoder or no passages.
    """
    folder = Path(folder)
    if kind not in KINDS:
        raise ValueError(f"index kind is {kind!r}, expected one of {', '.join(KINDS)}")
    if kind != "bm25" and encoder is None:
        raise ValueError(f"index kind {kind!r} needs an encoder and got None; give one, or choose kind 'bm25'")
    with records.lock(folder):
        return _build(Path(folder), passages, encoder, kind, shard, progress)


def _build(folder: Path, passages: Iterable[Passage], encoder: Encoder | None, kind: str, shard: int, progress: bool
           ) -> Path:  # fmt: skip
    digest, count = _write_corpus(folder, passages)
    meta = {"digest": digest, "count": count, "kind": kind, "encoder": encoder.identity if encoder else None}
    if _json(folder / "meta.json") == meta:
        log.info("index %s is complete for this corpus; nothing to do", folder)
        for name in ("passages.jsonl", "offsets.npy"):
            (folder / f"{name}.part").unlink()
        _forget_shards(folder)
        return folder
    (folder / "meta.json").unlink(missing_ok=True)  # from here on the folder counts as unfinished
    for name in ("passages.jsonl", "offsets.npy"):
        (folder / f"{name}.part").replace(folder / name)
    stored = StoredPassages(folder)
    if kind == "bm25":
        _build_bm25(folder, stored, progress)
    else:
        shard = shard or min(max(count // 50, 256), 65536)
        shards, plan = folder / "shards", meta | {"shard": shard}
        if _json(folder / "building.json") != plan:
            shutil.rmtree(shards, ignore_errors=True)
            records.write_json(folder / "building.json", plan)
        shards.mkdir(exist_ok=True)
        _encode_shards(shards, stored, encoder, shard, progress)
        nearest.build(folder, sorted(shards.glob("*.npy")), encoder.dimension, kind, progress)
    records.write_json(folder / "meta.json", meta)
    _forget_shards(folder)  # only now: until the index is whole they are hours of work
    return folder


def adopt_index(folder: Path, file: Path, passages: Iterable[Passage], encoder: Encoder, checked: int = 64) -> Path:
    """Take a flat index that others built of this very corpus, such as Search-R1's of wiki-18, instead of building one.

    `checked` passages, spread evenly, are encoded and held against the vectors in the file, which takes a minute and
    finds another encoder, other prefixes, another corpus or another order. The file is linked, or copied where it lies
    on another disk. Raises ValueError for an index that does not fit, and where a finished one is already.
    """
    import faiss

    index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    if not isinstance(index, faiss.IndexFlat) or index.d != encoder.dimension:
        raise ValueError(
            f"index {file} is a {type(index).__name__} of {index.d} numbers, expected a flat one of {encoder.dimension}, "
            f"as {encoder.name} gives; give the index of that encoder"
        )
    folder = Path(folder)
    with records.lock(folder):
        if (folder / "meta.json").exists():
            raise ValueError(f"index {folder} is finished already; delete it first to take {file} instead")
        digest, count = _write_corpus(folder, passages)
        for name in ("passages.jsonl", "offsets.npy"):
            (folder / f"{name}.part").replace(folder / name)
        if count != index.ntotal:
            raise ValueError(f"index {file} holds {index.ntotal} vectors, the corpus {count} passages; give the corpus it was built of")
        stored, places = StoredPassages(folder), np.linspace(0, count - 1, min(checked, count)).astype(int)
        ours = encoder.encode([contents(stored[int(p)]) for p in places], kind="passage")
        theirs = np.stack([index.reconstruct(int(p)) for p in places])
        alike = (ours * theirs).sum(1) / np.linalg.norm(theirs, axis=1)
        if (worst := float(alike.min())) < ALIKE:
            raise ValueError(
                f"passage {places[alike.argmin()]} of index {file} has cosine {worst:.3f} to what {encoder.name} makes of it, "
                f"expected {ALIKE} or more; give the corpus, in its order, and the encoder that it was built with"
            )
        (folder / "index.faiss").unlink(missing_ok=True)
        try:
            (folder / "index.faiss").hardlink_to(file)
        except OSError:
            shutil.copyfile(file, folder / "index.faiss")
        records.write_json(folder / "meta.json", {"digest": digest, "count": count, "kind": "faiss", "encoder": encoder.identity})
    return folder


def _forget_shards(folder: Path) -> None:
    shutil.rmtree(folder / "shards", ignore_errors=True)
    (folder / "building.json").unlink(missing_ok=True)


def _json(file: Path) -> Any:
    return records.read_json(file) if file.exists() else None


def _encode_shards(shards: Path, stored: StoredPassages, encoder: Encoder, size: int, progress: bool) -> None:
    """Write the vectors of every shard that is not there yet; each file appears whole or not at all."""
    with meter(total=len(stored), desc=f"encode with {encoder.name}", unit="passage", disable=not progress) as bar:
        for start in range(0, len(stored), size):
            file = shards / f"{start:012d}.npy"
            some = stored[start : start + size]
            if file.exists():
                if progress:
                    bar.initial += len(some)  # so that the time left is judged by this run's speed alone
            else:
                part = file.with_suffix(".part")
                with open(part, "wb") as stream:
                    np.save(stream, encoder.encode([contents(p) for p in some], kind="passage"))
                part.replace(file)
            bar.update(len(some))


def _words(texts: Iterable[str], progress: bool = False) -> list[list[str]]:
    """Texts as lower-case words without accents or English stop words."""
    import bm25s

    plain = [unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() for text in texts]
    return bm25s.tokenize(plain, stopwords="en", return_ids=False, show_progress=progress)


def _build_bm25(folder: Path, stored: StoredPassages, progress: bool) -> None:
    import bm25s

    index = bm25s.BM25()
    index.index(_words((contents(p) for p in stored), progress), show_progress=progress)
    shutil.rmtree(folder / "bm25", ignore_errors=True)
    index.save(folder / "bm25", show_progress=False)


class Index:
    """A built index: its `passages`, its `meta`, and `search`."""

    def __init__(self, meta: dict[str, Any], passages: StoredPassages, nearest: Callable):
        self.meta, self.passages, self._nearest = meta, passages, nearest

    def __len__(self) -> int:
        return len(self.passages)

    def search(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]:
        """The `k` best passages of each query, best first (fewer where the corpus is smaller).

        BM25 leaves out passages that share no word with the query. Raises ValueError for k below 1 or for
        queries that are not a list of texts.
        """
        if isinstance(queries, str) or not all(isinstance(q, str) for q in queries):
            raise ValueError(f"queries are {queries!r:.80}, expected a list of texts")
        if k < 1:
            raise ValueError(f"k is {k}, expected 1 or more")
        if not queries:
            return []
        places, scores = self._nearest(list(queries), min(k, len(self)))
        return [
            [Hit(self.passages[int(p)], float(s)) for p, s in zip(row, marks, strict=True) if p >= 0]
            for row, marks in zip(places, scores, strict=True)
        ]


def open_index(folder: Path, passages: Iterable[Passage] | None = None, encoder: Encoder | None = None) -> Index:
    """The index built in `folder`, on the GPU if faiss finds one.

    `passages`, when given, must be the corpus it was built from; `encoder` the one it was built with (bm25 needs
    none). Raises FileNotFoundError when the index is missing or unfinished, ValueError when either differs.
    """
    folder = Path(folder)
    meta = _json(folder / "meta.json")
    if meta is None:
        state = "is unfinished" if (folder / "building.json").exists() else "is missing"
        raise FileNotFoundError(f"index {folder} {state}; {REBUILD}")
    if passages is not None and (found := corpus_digest(passages)) != meta["digest"]:
        raise ValueError(
            f"corpus changed since the index {folder} was built (digest {found[:10]}, expected {meta['digest'][:10]}); "
            f"rebuild: {REBUILD}"
        )
    stored = StoredPassages(folder)
    if meta["kind"] == "bm25":
        return Index(meta, stored, functools.partial(_nearest_by_words, _open_bm25(folder)))
    found = encoder.identity if encoder else None
    if found != meta["encoder"]:
        raise ValueError(f"index {folder} was built with the encoder {meta['encoder']}, got {found}; give that one")
    return Index(meta, stored, functools.partial(_nearest_by_meaning, nearest.Nearest(folder), encoder))


def _open_bm25(folder: Path) -> Any:
    import bm25s

    return bm25s.BM25.load(folder / "bm25", show_progress=False)


def _nearest_by_meaning(index: nearest.Nearest, encoder: Encoder, queries: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
    return index.search(encoder.encode(queries, kind="query"), k)


def _nearest_by_words(index: Any, queries: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
    places, scores = index.retrieve(_words(queries), k=k, show_progress=False)
    return np.where(scores > 0, places, -1), scores


def as_tool(searcher: Searcher, k: int = 3) -> Callable[[str], str]:
    """The agent's `web_search(query)`: the `k` best passages as numbered text.

    The function returned raises ValueError for a query that is empty or no text.
    """

    def web_search(query: str) -> str:
        """Search the encyclopedia; returns the best passages, each with its title."""
        if not isinstance(query, str) or not query.strip():
            raise ValueError(f"web_search got the query {query!r}, expected a text such as 'capital of France'")
        hits = searcher.search([query], k)[0]
        if not hits:
            return f"No passage matches {query!r}; try other words."
        return "\n\n".join(f"[{i}] {hit.passage.title}\n{hit.passage.text}" for i, hit in enumerate(hits, 1))

    return web_search
