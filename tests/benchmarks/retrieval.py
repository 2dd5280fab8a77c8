"""What the index costs: encoding beside sentence-transformers' `encode`, and how building and searching grow.

One process, contenders in turns, medians of the rounds. `make bench` runs it on an idle machine and appends the figures
to `tests/benchmarks/retrieval.jsonl`.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import common
import numpy as np

from agentlib import config, encyclopedia, retrieval, search, weights

ROUNDS, PASSAGES = 5, 1000
SIZES = (200, 2000, 20_000)


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Remembered:
    """An encoder that has encoded everything before: what is left of building and searching is the index's own."""

    def __init__(self, encoder):
        self.encoder, self.identity, self.dimension, self.name = (
            encoder,
            encoder.identity,
            encoder.dimension,
            encoder.name,
        )

    def encode(self, texts, kind="query", progress=False):
        if kind == "query":
            return self.encoder.encode(texts, kind)
        vectors = np.random.default_rng(0).standard_normal((len(texts), self.dimension), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    from sentence_transformers import SentenceTransformer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    cfg = config.load("smoke")
    encoder = search.encoder(cfg)
    passages = encyclopedia.passages(max(SIZES))
    texts = [retrieval.contents(p) for p in passages[:: len(passages) // PASSAGES][:PASSAGES]]
    other = SentenceTransformer(str(weights.fetch(cfg.encoder)), device="cpu")
    other.max_seq_length = encoder.max_tokens
    same = np.abs(other.encode(texts[:64], normalize_embeddings=True) - encoder.encode(texts[:64], "passage")).max()
    print(f"largest difference of a vector's part: {same:.1e}")
    if same > 1e-4:
        raise RuntimeError("the two do not encode the same, so their times cannot be compared")
    work = {
        "agentlib": lambda: encoder.encode(texts, "passage"),
        "sentence-transformers": lambda: other.encode(
            texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, encode in work.items():
            value = seconds(encode)
            if number:
                times[name].append(value)
    medians = {
        name: {"texts/s": len(texts) / statistics.median(v), "seconds": statistics.median(v)}
        for name, v in times.items()
    }
    queries = [f"What is said of {p.title}?" for p in passages[:20]]
    for kind, encode in (("faiss", Remembered(encoder)), ("bm25", None)):
        for size in SIZES:
            built, asked = [], []
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as folder:
                    place = Path(folder) / "index"
                    built.append(seconds(lambda p=place, s=size, e=encode, k=kind: retrieval.build_index(
                        p, passages[:s], e, kind=k, progress=False)))  # fmt: skip
                    index = retrieval.open_index(place, encoder=encode)
                    asked.append(seconds(lambda i=index: [i.search([q]) for q in queries]) / len(queries))
            medians[f"{kind}, {size} passages"] = {
                "seconds": statistics.median(built), "ms a search": 1e3 * statistics.median(asked),
            }  # fmt: skip
    ratios = {
        "texts/s, ours to sentence-transformers": medians["agentlib"]["texts/s"]
        / medians["sentence-transformers"]["texts/s"]
    }
    common.record(__file__, medians, ratios, ("torch", "transformers", "sentence-transformers", "faiss-cpu", "bm25s"), rounds,
                  encoder=cfg.encoder, texts=len(texts))  # fmt: skip


if __name__ == "__main__":
    main()
