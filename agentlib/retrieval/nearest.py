"""Nearest vectors by inner product: exact, or approximate in a twentieth of the memory.

- `faiss`: flat, exact, every vector in memory in 32 bits; the published retriever (§4.1 uses
  Search-R1's).
- `ivfpq`: an inverted file of product-quantised vectors (Jégou et al. 2011) in memory, four bits
  for four numbers, whose
  tables fit into registers (André et al. 2015); the best `RERANKED` candidates are scored again
  with vectors in 16 bits
  that stay on disk.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentlib.progress import meter

log = logging.getLogger(__name__)

KINDS = ("faiss", "ivfpq")
RERANKED = 64  # candidates of `ivfpq` whose exact scores are read from disk
PROBED = 64  # lists of `ivfpq` that a query visits, at most an eighth of them
TRAINED_ON = 64  # vectors a list that its centre is found from
CODE = 4  # numbers that four bits stand for
# vectors below which a flat index is small and quantisers have too little to learn from
FEWEST = 10_000


def lists(count: int) -> int:
    """How many lists an inverted file of `count` vectors has: about four times the square root, a
    power of two.
    """
    return 2 ** round(math.log2(4 * math.sqrt(count)))


def memory_bytes(kind: str, count: int, dimension: int) -> float:
    """About what an open index of `count` vectors takes of memory."""
    if kind == "faiss":
        return 4 * dimension * count
    return (dimension / CODE / 2 + 8) * count + 4 * dimension * lists(count)


def disk_bytes(kind: str, count: int, dimension: int) -> float:
    """About what an index of `count` vectors takes of disk."""
    return memory_bytes(kind, count, dimension) + (2 * dimension * count if kind == "ivfpq" else 0)


def build(
    folder: Path,
    shards: Sequence[Path],
    dimension: int,
    kind: str = "faiss",
    progress: bool = False,
) -> None:
    """Make index.faiss in `folder` from the vectors (n, dimension) of all shards in their order
    (float32 .npy files).

    Fewer than `FEWEST` vectors are indexed flat, whatever the kind. What `ivfpq` learns is kept in
    the first shard's folder until the index is whole, so that an interrupted build does not learn
    it again.
    """
    import faiss

    if kind not in KINDS:
        raise ValueError(f"kind of FAISS index is {kind!r}, expected one of {', '.join(KINDS)}")
    parts = [np.load(file, mmap_mode="r") for file in shards]
    count = sum(map(len, parts))
    if kind != "faiss" and count < FEWEST:
        log.info("%d vectors are indexed flat, %s starts at %d", count, kind, FEWEST)
        kind = "faiss"
    if kind == "ivfpq":
        index = _learnt(Path(shards[0]).parent / "learnt.faiss", parts, count, dimension)
        _write_vectors(folder / "vectors.f16", parts)
    else:
        index = faiss.IndexFlatIP(dimension)
    with meter(
        total=count, desc=f"index ({kind})", unit="vector", disable=not progress or kind == "faiss"
    ) as bar:
        for part in parts:
            # a shard may be larger than what is to be held at once
            for start in range(0, len(part), 65536):
                some = np.ascontiguousarray(part[start : start + 65536], np.float32)
                index.add(some)
                bar.update(len(some))
    faiss.write_index(index, str(folder / "index.faiss.part"))
    (folder / "index.faiss.part").replace(folder / "index.faiss")
    if kind != "ivfpq":
        (folder / "vectors.f16").unlink(missing_ok=True)


def _learnt(file: Path, parts: Sequence[np.ndarray], count: int, dimension: int) -> Any:
    """An empty inverted file whose centres and codes were learnt from vectors drawn evenly from all
    parts.
    """
    import faiss

    if file.exists():
        return faiss.read_index(str(file))
    number = lists(count)
    step = max(1, count // (TRAINED_ON * number))
    sample = np.concatenate([np.asarray(part[::step], np.float32) for part in parts])
    quantiser = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFPQFastScan(
        quantiser, dimension, number, dimension // CODE, 4, faiss.METRIC_INNER_PRODUCT
    )
    log.info("learning %d lists from %d vectors", number, len(sample))
    index.train(sample)
    faiss.write_index(index, str(file.with_suffix(".part")))
    file.with_suffix(".part").replace(file)
    return index


def _write_vectors(file: Path, parts: Sequence[np.ndarray]) -> None:
    """All vectors in 16 bits, row after row."""
    part_file = file.with_name(file.name + ".part")
    with open(part_file, "wb") as stream:
        for part in parts:
            for start in range(0, len(part), 65536):
                part[start : start + 65536].astype(np.float16).tofile(stream)
    part_file.replace(file)


def read_vectors(folder: Path) -> np.ndarray:
    """The vectors (passages, dimension) of a finished dense index, in the order of its corpus.

    Those of a flat index are float32 and all in memory; those of `ivfpq` are float16 and stay on
    disk. Raises FileNotFoundError for a folder without a dense index.
    """
    import faiss

    if not (folder / "index.faiss").exists():
        raise FileNotFoundError(
            f"folder {folder} has no index.faiss, expected a dense index; build one with"
            " agentlib.retrieval.build_index and an encoder"
        )
    index = faiss.read_index(str(folder / "index.faiss"))
    if isinstance(index, faiss.IndexFlat):
        return index.reconstruct_n(0, index.ntotal)
    return _stored_vectors(folder, index)


def _stored_vectors(folder: Path, index: Any) -> np.ndarray:
    """The vectors of an `ivfpq` index that stay on disk."""
    return np.memmap(folder / "vectors.f16", np.float16, "r", shape=(index.ntotal, index.d))


class Nearest:
    """An index opened for searching."""

    def __init__(self, folder: Path):
        import faiss

        self.index = faiss.read_index(str(folder / "index.faiss"))
        self.vectors = None
        if isinstance(self.index, faiss.IndexIVFPQFastScan):
            self.index.nprobe = max(1, min(PROBED, self.index.nlist // 8))
            self.vectors = _stored_vectors(folder, self.index)
        elif getattr(faiss, "get_num_gpus", lambda: 0)():
            options = faiss.GpuMultipleClonerOptions()
            # 21 million passages: 32 GB, spread over the GPUs there are
            options.shard = options.useFloat16 = True
            self.index = faiss.index_cpu_to_all_gpus(self.index, co=options)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and inner products (queries, k) of the nearest vectors, best first; -1 where fewer
        were found.
        """
        if self.vectors is None:
            scores, places = self.index.search(queries, k)
            return places, scores
        _, candidates = self.index.search(queries, max(k, RERANKED))
        places, scores = (
            np.full((len(queries), k), -1),
            np.full((len(queries), k), -np.inf, np.float32),
        )
        for row, found in enumerate(candidates):
            found = np.sort(found[found >= 0])  # in the order they lie on disk
            exact = self.vectors[found].astype(np.float32) @ queries[row]
            best = np.argsort(-exact, kind="stable")[:k]
            places[row, : len(best)], scores[row, : len(best)] = found[best], exact[best]
        return places, scores
