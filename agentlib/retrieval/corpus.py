"""The passages of a corpus as files: read from JSON lines, stored in an index's folder, known by
their digest.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agentlib import records


@dataclass(frozen=True)
class Passage:
    """One entry of a corpus: an id that no other has, a title, and the text that is searched and
    read.
    """

    id: str
    title: str
    text: str


def contents(passage: Passage) -> str:
    """A passage as wiki-18 writes it, and as it is encoded: the title in quotes, a line end, the
    text.
    """
    return f'"{passage.title}"\n{passage.text}'


def from_document(document: dict[str, Any], default_id: str = "") -> Passage:
    """A passage from a JSON document with either title and text, or wiki-18's contents; null is
    empty.

    Its id may be called `id`, `_id` or `docid`. Raises ValueError for a document without a text.
    """
    if not isinstance(document, dict) or not ("text" in document or "contents" in document):
        found = (
            f"the fields {sorted(document)}" if isinstance(document, dict) else repr(document)[:80]
        )
        raise ValueError(f"document has {found}, expected id and contents, or id, title and text")
    named = [document[field] for field in ("id", "_id", "docid") if document.get(field) is not None]
    name, title = str(named[0]) if named else default_id, _text(document, "title")
    if document.get("text") is not None or "contents" not in document:
        return Passage(name, title, _text(document, "text"))
    first, line_end, text = _text(document, "contents").partition("\n")
    if len(first) > 1 and first[0] == first[-1] == '"':
        return Passage(name, first[1:-1], text)
    if title or not line_end:
        return Passage(name, title, first + line_end + text)
    return Passage(name, first, text)


def _text(document: dict[str, Any], field: str) -> str:
    found = document.get(field)
    if isinstance(found, list | dict):
        raise ValueError(
            f"document {document.get('id')!r} has the {field} {found!r:.80}, expected text"
        )
    return "" if found is None else str(found)


def read_passages(file: Path) -> Iterator[Passage]:
    """Passages of a JSON-lines corpus such as wiki-18.jsonl, one at a time; packed with gzip or
    not.
    """
    for number, document in enumerate(records.read_rows(file)):
        yield from_document(document, str(number))


class StoredPassages(Sequence[Passage]):
    """The corpus of an index folder, read from disk one passage at a time (wiki-18 does not fit
    into memory).
    """

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
    return (records.replace_surrogates(json.dumps(row, ensure_ascii=False)) + "\n").encode()


def digest(passages: Iterable[Passage]) -> str:
    """SHA-256 of the passages in their order."""
    found = hashlib.sha256()
    for passage in passages:
        found.update(_line(passage))
    return found.hexdigest()


def write(folder: Path, passages: Iterable[Passage]) -> tuple[str, int]:
    """Write the corpus beside the one in use (names ending in .part); returns its digest and
    count."""
    found, offsets = hashlib.sha256(), [0]
    with open(folder / "passages.jsonl.part", "wb") as stream:
        for passage in passages:
            line = _line(passage)
            found.update(line)
            stream.write(line)
            offsets.append(offsets[-1] + len(line))
    if len(offsets) == 1:
        raise ValueError(
            f"no passages were given for index {folder}, expected one or more; check the corpus"
        )
    with open(folder / "offsets.npy.part", "wb") as stream:
        np.save(stream, np.array(offsets, np.int64))
    return found.hexdigest(), len(offsets) - 1
