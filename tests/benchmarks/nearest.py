"""What the approximate index costs and finds, beside the flat one: build time, memory, disk,
recall, queries a second.

The vectors are drawn, a million of 768 numbers: an encoder's vectors of real paragraphs
(documentation of installed packages) are fitted by a mixture of low-rank Gaussians; "articles" are
drawn from it, and passages around each, so that neighbours lie as near as real ones do (both
profiles are printed and recorded). Two independent halves of 384 numbers make 768. Queries are
passages moved until their cosine to where they were is 0.8.

Each index is opened in a process of its own, so that its memory is its own. `make bench` runs it on
an idle machine and appends to `tests/benchmarks/nearest.jsonl`. Takes about 8 GB of disk under the
temporary folder, and of memory.
"""

import argparse
import ast
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import common
import numpy as np
from common import seconds

from agentlib import config
from agentlib.benchmarks import search
from agentlib.retrieval import nearest

DOCUMENTED = ("numpy", "scipy", "pandas", "sympy", "sklearn", "networkx")
PARAGRAPHS, COUNTS, QUERIES, K, ROUNDS = 8000, (100_000, 1_000_000), 960, 3, 5
# of the mixture; passages an article, what they share
CLUSTERS, RANK, PASSAGES, SHARED = 128, 64, (1, 12), (0.3, 0.85)
WHOLE = 21_000_000  # wiki-18


def paragraphs(count: int) -> list[str]:
    """Real English paragraphs of 80 to 200 characters, each once: from docstrings of installed
    packages."""
    found: dict[str, None] = {}
    for name in DOCUMENTED:
        place = Path(__import__(name).__file__).parent
        for file in sorted(place.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8", errors="ignore"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                    texts = (
                        " ".join(p.split()) for p in (ast.get_docstring(node) or "").split("\n\n")
                    )
                    found |= dict.fromkeys(
                        t for t in texts if 80 < len(t) < 200 and ">>>" not in t and "---" not in t
                    )
    some = np.random.default_rng(0).permutation(len(found))[:count]
    texts = list(found)
    return [texts[i] for i in some]


class Mixture:
    """Vectors like those it was fitted to, of twice as many numbers."""

    def __init__(self, vectors: np.ndarray):
        import faiss

        self.width = vectors.shape[1]
        means = faiss.Kmeans(self.width, CLUSTERS, niter=15, seed=0, spherical=True)
        means.train(vectors)
        near = means.index.search(vectors, 1)[1][:, 0]
        self.share = np.bincount(near, minlength=CLUSTERS) / len(vectors)
        self.parts = []
        for number in range(CLUSTERS):
            own = vectors[near == number]
            _, spread, axes = np.linalg.svd(own - own.mean(0), full_matrices=False)
            variance = spread**2 / max(1, len(own) - 1)
            rest = np.sqrt(variance[RANK:].sum() / self.width)
            self.parts.append(
                (
                    own.mean(0),
                    (np.sqrt(variance[:RANK])[:, None] * axes[:RANK]).astype(np.float32),
                    rest,
                )
            )

    def _around(self, number: int, count: int, draw: np.random.Generator) -> np.ndarray:
        _, axes, rest = self.parts[number]
        found = draw.standard_normal((count, len(axes)), np.float32) @ axes
        return found + np.float32(rest) * draw.standard_normal((count, self.width), np.float32)

    def sample(self, count: int, draw: np.random.Generator) -> np.ndarray:
        """(count, 2 x width) float32, each of length 1, in random order."""
        sizes = draw.integers(PASSAGES[0], PASSAGES[1] + 1, count)
        sizes = sizes[: np.searchsorted(sizes.cumsum(), count) + 1]
        article = np.repeat(np.arange(len(sizes)), sizes)[:count]
        cluster = draw.choice(CLUSTERS, len(sizes), p=self.share)[article]
        shared = draw.uniform(*SHARED, count).astype(np.float32)[:, None]
        found = np.empty((count, 2 * self.width), np.float32)
        for number in range(CLUSTERS):
            rows = np.flatnonzero(cluster == number)
            articles, of = np.unique(article[rows], return_inverse=True)
            for half in (slice(0, self.width), slice(self.width, None)):
                common_part = self._around(number, len(articles), draw)[of]
                own_part = self._around(number, len(rows), draw)
                mean = self.parts[number][0]
                found[rows, half] = (
                    mean + shared[rows] * common_part + np.sqrt(1 - shared[rows] ** 2) * own_part
                )
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found[draw.permutation(count)]


def profile(vectors: np.ndarray) -> list[float]:
    """Mean cosine of 500 vectors to their 1st, 3rd, 10th and 100th neighbour."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    scores, _ = index.search(vectors[:500], 101)
    return [round(float(scores[:, place].mean()), 3) for place in (1, 3, 10, 100)]


def anonymous_mb() -> float:
    """Memory of this process that is not a file's pages."""
    return common._status_mb("RssAnon")


def opened(folder: Path, queries: np.ndarray, rounds: int) -> dict:
    """What an index takes once it is open, and how fast it answers; run in a process of its own."""
    import faiss  # noqa: F401 (its own memory is not the index's)

    before = anonymous_mb()
    index = nearest.Nearest(folder)
    places, _ = index.search(queries, K)
    memory = anonymous_mb() - before
    np.save(folder / "found.npy", places)
    row = {"memory MB": memory}
    for asked, each in ((len(queries), len(queries)), (96, 32), (40, 1)):
        taken = [
            seconds(
                lambda n=asked, e=each: [
                    index.search(queries[i : i + e], K) for i in range(0, n, e)
                ]
            )
            for _ in range(rounds)
        ]
        row[f"queries/s, {each} at a time"] = asked / statistics.median(taken)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--open", type=Path, help="(for itself) measure this index")
    asked = parser.parse_args()
    if asked.open:
        print(
            json.dumps(opened(asked.open, np.load(asked.open.parent / "queries.npy"), asked.rounds))
        )
        return
    real = search.encoder(config.load("smoke")).encode(paragraphs(PARAGRAPHS), "passage")
    mixture, draw = Mixture(real), np.random.default_rng(1)
    profiles = {"real": profile(real), "drawn": profile(mixture.sample(len(real), draw))}
    print("cosine to the 1st, 3rd, 10th, 100th neighbour:", profiles)
    medians, ratios = {}, {}
    for count in asked.counts:
        with tempfile.TemporaryDirectory() as place:
            place = Path(place)
            (place / "shards").mkdir()
            files = []
            vectors = mixture.sample(count, draw)
            for start in range(0, count, 65536):
                files.append(place / "shards" / f"{start:012d}.npy")
                np.save(files[-1], vectors[start : start + 65536])
            some = vectors[draw.choice(count, QUERIES, replace=False)]
            moved = draw.standard_normal(some.shape, np.float32)
            queries = some + 0.75 * moved / np.linalg.norm(moved, axis=1, keepdims=True)
            np.save(place / "queries.npy", queries / np.linalg.norm(queries, axis=1, keepdims=True))
            del vectors, some
            for kind in nearest.KINDS:
                (place / kind).mkdir()
                built = seconds(
                    lambda k=kind, p=place, f=files: nearest.build(p / k, f, 768, k, progress=True)
                )
                disk = sum(file.stat().st_size for file in (place / kind).iterdir()) / 1e6
                done = subprocess.run(
                    [
                        sys.executable,
                        __file__,
                        "--open",
                        place / kind,
                        "--rounds",
                        str(asked.rounds),
                    ],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                found, exact = (np.load(place / k / "found.npy") for k in (kind, "faiss"))
                recall = np.mean(
                    [len(set(a) & set(b)) / K for a, b in zip(found, exact, strict=True)]
                )
                row = {
                    "build s": built,
                    "disk MB": disk,
                    "recall@3": recall,
                    **json.loads(done.stdout),
                }
                medians[f"{kind}, {count} vectors"] = row
                flat = medians[f"faiss, {count} vectors"]
                if kind != "faiss" and count == max(asked.counts):
                    ratios |= {
                        f"{kind}, recall@3 of flat": recall,
                        f"{kind}, memory to flat": row["memory MB"] / flat["memory MB"],
                    }
                    ratios |= {
                        f"{kind}, {q} to flat": row[q] / flat[q] for q in row if "queries" in q
                    }
                if kind == "ivfpq":
                    (place / kind / "vectors.f16").unlink()
    whole = {
        kind: {
            "memory GB": nearest.memory_bytes(kind, WHOLE, 768) / 1e9,
            "disk GB": nearest.disk_bytes(kind, WHOLE, 768) / 1e9,
        }
        for kind in nearest.KINDS
    }
    common.record(
        __file__,
        medians,
        ratios,
        ("faiss-cpu", "numpy"),
        asked.rounds,
        queries=QUERIES,
        profiles=profiles,
        whole=whole,
    )


if __name__ == "__main__":
    main()
