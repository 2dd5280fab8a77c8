"""Builds the index of a corpus in shards, so that an interrupted build resumes after the last one;
or adopts an existing index.

An index folder holds passages.jsonl and offsets.npy (`corpus`), the files of `nearest` or bm25/,
and meta.json, written last: a folder without meta.json is an interrupted build.
"""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from agentlib import records
from agentlib.progress import meter
from agentlib.retrieval import bm25, corpus, nearest
from agentlib.retrieval.corpus import Passage
from agentlib.retrieval.encoder import Encoder

log = logging.getLogger(__name__)

KINDS = (*nearest.KINDS, "bm25")
# cosine of a vector in an adopted index to ours; 16 bits and other libraries stay above it
ALIKE = 0.98


def build_index(
    folder: Path,
    passages: Iterable[Passage],
    encoder: Encoder | None = None,
    kind: str = "faiss",
    shard: int = 0,
    progress: bool = True,
) -> Path:
    """Make the index of a corpus in `folder`, or finish an interrupted one; returns the folder.

    All kinds but "bm25" need an `encoder` (`nearest` tells them apart); vectors are written `shard`
    passages at a time, and a build that was interrupted goes on after its last whole shard. An
    index that is complete for this very corpus and encoder is left as it is; one of another corpus
    is replaced. `shard` 0 takes a fiftieth of the corpus, within bounds. A flat index of 21 million
    passages of 768 numbers needs 65 GB of memory and twice that of disk.

    Raises ValueError for an unknown kind, no encoder or no passages.
    """
    folder = Path(folder)
    if kind not in KINDS:
        raise ValueError(f"index kind is {kind!r}, expected one of {', '.join(KINDS)}")
    if kind != "bm25" and encoder is None:
        raise ValueError(
            f"index kind {kind!r} needs an encoder and got None; give one, or choose kind 'bm25'"
        )
    with records.lock(folder):
        return _build(Path(folder), passages, encoder, kind, shard, progress)


def _build(
    folder: Path,
    passages: Iterable[Passage],
    encoder: Encoder | None,
    kind: str,
    shard: int,
    progress: bool,
) -> Path:
    digest, count = corpus.write(folder, passages)
    identity = bm25.IDENTITY if kind == "bm25" else encoder.identity
    meta = {"digest": digest, "count": count, "kind": kind, "encoder": identity}
    if _meta(folder / "meta.json") == meta:
        log.info("index %s is complete for this corpus; nothing to do", folder)
        for name in ("passages.jsonl", "offsets.npy"):
            (folder / f"{name}.part").unlink()
        _forget_shards(folder)
        return folder
    (folder / "meta.json").unlink(missing_ok=True)  # from here on the folder counts as unfinished
    for name in ("passages.jsonl", "offsets.npy"):
        (folder / f"{name}.part").replace(folder / name)
    stored = corpus.StoredPassages(folder)
    if kind == "bm25":
        bm25.build(folder, stored, progress)
    else:
        shard = shard or min(max(count // 50, 256), 65536)
        shards, plan = folder / "shards", meta | {"shard": shard}
        if _meta(folder / "building.json") != plan:
            shutil.rmtree(shards, ignore_errors=True)
            records.write_json(folder / "building.json", plan)
        shards.mkdir(exist_ok=True)
        _encode_shards(shards, stored, encoder, shard, progress)
        nearest.build(folder, sorted(shards.glob("*.npy")), encoder.dimension, kind, progress)
    records.write_json(folder / "meta.json", meta)
    _forget_shards(folder)  # only now: until the index is whole they are hours of work
    return folder


def adopt_index(
    folder: Path, file: Path, passages: Iterable[Passage], encoder: Encoder, checked: int = 64
) -> Path:
    """Take a flat index that others built of this very corpus, such as Search-R1's of wiki-18,
    instead of building one.

    `checked` passages, spread evenly, are encoded and held against the vectors in the file, which
    takes a minute and finds another encoder, other prefixes, another corpus or another order. The
    file is linked, or copied where it lies on another disk. Raises ValueError for an index that
    does not fit, and where a finished one is already.
    """
    import faiss

    index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    if not isinstance(index, faiss.IndexFlat) or index.d != encoder.dimension:
        raise ValueError(
            f"index {file} is a {type(index).__name__} of {index.d} numbers, expected a flat one of"
            f" {encoder.dimension}, as {encoder.name} gives; give the index of that encoder"
        )
    folder = Path(folder)
    with records.lock(folder):
        if (folder / "meta.json").exists():
            raise ValueError(
                f"index {folder} is finished already; delete it first to take {file} instead"
            )
        digest, count = corpus.write(folder, passages)
        for name in ("passages.jsonl", "offsets.npy"):
            (folder / f"{name}.part").replace(folder / name)
        if count != index.ntotal:
            raise ValueError(
                f"index {file} holds {index.ntotal} vectors, the corpus {count} passages; give the"
                " corpus it was built of"
            )
        stored, places = (
            corpus.StoredPassages(folder),
            np.linspace(0, count - 1, min(checked, count)).astype(int),
        )
        ours = encoder.encode([corpus.contents(stored[int(p)]) for p in places], kind="passage")
        theirs = np.stack([index.reconstruct(int(p)) for p in places])
        alike = (ours * theirs).sum(1) / np.linalg.norm(theirs, axis=1)
        if (worst := float(alike.min())) < ALIKE:
            raise ValueError(
                f"passage {places[alike.argmin()]} of index {file} has cosine {worst:.3f} to what"
                f" {encoder.name} makes of it, expected {ALIKE} or more; give the corpus, in its"
                " order, and the encoder that it was built with"
            )
        (folder / "index.faiss").unlink(missing_ok=True)
        try:
            (folder / "index.faiss").hardlink_to(file)
        except OSError:
            shutil.copyfile(file, folder / "index.faiss")
        records.write_json(
            folder / "meta.json",
            {"digest": digest, "count": count, "kind": "faiss", "encoder": encoder.identity},
        )
    return folder


def _forget_shards(folder: Path) -> None:
    shutil.rmtree(folder / "shards", ignore_errors=True)
    (folder / "building.json").unlink(missing_ok=True)


def _meta(file: Path) -> Any:
    return records.read_json(file) if file.exists() else None


def _encode_shards(
    shards: Path, stored: corpus.StoredPassages, encoder: Encoder, size: int, progress: bool
) -> None:
    """Write the vectors of every shard that is not there yet; each file appears whole or not at
    all.
    """
    with meter(
        total=len(stored), desc=f"encode with {encoder.name}", unit="passage", disable=not progress
    ) as bar:
        for start in range(0, len(stored), size):
            file = shards / f"{start:012d}.npy"
            some = stored[start : start + size]
            if file.exists():
                if progress:
                    # so that the time left is judged by this run's speed alone
                    bar.initial += len(some)
            else:
                part = file.with_suffix(".part")
                with open(part, "wb") as stream:
                    np.save(
                        stream, encoder.encode([corpus.contents(p) for p in some], kind="passage")
                    )
                part.replace(file)
            bar.update(len(some))
