"""The passages of a corpus nearest to a query by words (BM25, Robertson et al. 1994), through bm25s.

Owns what a word is, and the folder bm25/ of an index. Knows nothing of encoders or vectors (`nearest`).
"""

import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from agentlib.corpora import StoredPassages, contents


def _words(texts: Iterable[str], progress: bool = False) -> list[list[str]]:
    """Texts as lower-case words without accents or English stop words."""
    import bm25s

    plain = [unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() for text in texts]
    return bm25s.tokenize(plain, stopwords="en", return_ids=False, show_progress=progress)


def build(folder: Path, stored: StoredPassages, progress: bool) -> None:
    """Index a corpus by its words, in `folder / "bm25"`."""
    import bm25s

    index = bm25s.BM25()
    index.index(_words((contents(p) for p in stored), progress), show_progress=progress)
    shutil.rmtree(folder / "bm25", ignore_errors=True)
    index.save(folder / "bm25", show_progress=False)


def load(folder: Path) -> Any:
    """What `build` made."""
    import bm25s

    return bm25s.BM25.load(folder / "bm25", show_progress=False)


def search(index: Any, queries: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in the corpus and weights (queries, k), best first; place -1 where no word is shared."""
    places, scores = index.retrieve(_words(queries), k=k, show_progress=False)
    return np.where(scores > 0, places, -1), scores
