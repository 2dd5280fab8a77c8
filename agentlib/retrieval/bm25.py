"""Passages by the words they share with a query (BM25, Robertson et al. 1994), through bm25s;
`words` says what a word is.
"""

import functools
import itertools
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from agentlib.progress import meter
from agentlib.retrieval.corpus import StoredPassages, contents

# What an index of words depends on, as one of vectors does on its encoder; raise the version when
# `words` changes.
IDENTITY = {"name": "words", "version": 2}
NAMED = {"þ": "th", "ð": "d"}  # letters whose ASCII spelling is not in their Unicode names
# Thai to Burmese, Khmer, Japanese and Chinese are written without spaces between words.
UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]+"
)
NOT_ASCII, WORD = re.compile("[^\0-\x7f]+"), re.compile("[a-z0-9_\x80-\U0010ffff]+")


@functools.lru_cache(10_000)
def _plain(run: str) -> str:
    """A run of other characters than ASCII in its normal form; what is part of no word becomes a
    space.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", run).casefold())
    plain = unicodedata.normalize("NFKC", "".join(map(_plain_character, folded)))
    return UNSPACED.sub(_letters_and_pairs, plain)


@functools.cache
def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    category, name = unicodedata.category(character), unicodedata.name(character, "")
    if category == "Cf" or name.startswith(("MODIFIER LETTER", "VARIATION SELECTOR")):
        return ""  # soft hyphens, zero-width characters, the okina
    if unicodedata.combining(character) not in (0, 7, 8, 9):
        return ""  # accents; these four classes make other letters, as in kana and in Hindi
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category[0] not in "LMN":
        return " "
    if character in NAMED:
        return NAMED[character]
    base = name.partition(" WITH ")[0].rpartition(" ")[2]
    if name.startswith("LATIN") and len(base) <= 2:
        # "LATIN SMALL LETTER L WITH STROKE" and "LATIN SMALL LIGATURE OE" have no decomposition
        return base
    return character


def _letters_and_pairs(run: re.Match) -> str:
    return f" {' '.join([*run[0], *(a + b for a, b in itertools.pairwise(run[0]))])} "


@functools.cache
def _stop_words() -> frozenset[str]:
    from bm25s.stopwords import STOPWORDS_EN

    return frozenset(STOPWORDS_EN) - {"a"}


def words(text: str) -> list[str]:
    """The words of a text in one normal form: NFKC in lower case, without accents. Numbers and
    single letters are words.

    Where a script leaves no spaces each letter is a word, and each two neighbours. English stop
    words are left out, but not "a", which may be a vitamin's name.
    """
    stop, plain = _stop_words(), NOT_ASCII.sub(lambda run: _plain(run[0]), text).lower()
    return [word for word in WORD.findall(plain) if word not in stop]


def build(folder: Path, stored: StoredPassages, progress: bool) -> None:
    """Index a corpus by its words, in `folder / "bm25"`."""
    import bm25s

    index = bm25s.BM25()
    vocabulary = {"": 0}  # numbers, so that a word of 21 million passages is in memory once
    passages = meter(stored, desc="split into words", unit="passage", disable=not progress)
    numbers = [
        [vocabulary.setdefault(word, len(vocabulary)) for word in words(contents(p))]
        for p in passages
    ]
    index.index((numbers, vocabulary), show_progress=progress)
    shutil.rmtree(folder / "bm25", ignore_errors=True)
    index.save(folder / "bm25", show_progress=False)


def load(folder: Path) -> Any:
    """The index that `build` saved."""
    import bm25s

    return bm25s.BM25.load(folder / "bm25", show_progress=False)


def search(index: Any, queries: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the corpus and scores, both (queries, k), best first, of equal ones the first in
    the corpus; position -1 where no word is shared.
    """
    found = [_best(_scores(index, words(query)), k) for query in queries]
    places, scores = (np.stack(part) for part in zip(*found, strict=True))
    return np.where(scores > 0, places, -1), scores


def _scores(index: Any, asked: list[str]) -> np.ndarray:
    return index.get_scores(asked) if asked else np.zeros(index.scores["num_docs"], np.float32)


def _best(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of the k best scores and these. Which of equal ones bm25s itself returns depends
    on the processor: numpy sorts by other instructions where it can."""
    scores = np.nan_to_num(scores)
    lowest = np.partition(scores, len(scores) - k)[len(scores) - k]
    among = np.flatnonzero(scores >= lowest)
    places = among[np.argsort(-scores[among], kind="stable")][:k]
    return places, scores[places]
