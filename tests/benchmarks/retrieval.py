"""What the index costs: encoding beside sentence-transformers' `encode`, and how building and
searching grow.

One process, contenders in turns, medians of the rounds. `make bench` runs it on an idle machine and
appends the figures to `tests/benchmarks/retrieval.jsonl`.
"""

import argparse
import dataclasses
import statistics
import tempfile
from pathlib import Path

import common
import numpy as np
from common import seconds

from agentlib import config
from agentlib.benchmarks import search, teaching
from agentlib.models import weights
from agentlib.retrieval import build, corpus
from agentlib.retrieval import index as retrieval
from agentlib.retrieval.encoder import encoder_settings

ROUNDS, PASSAGES = 5, 1000
# of the index; the teaching corpus has 8,000, so the largest holds most of it five times
SIZES = (350, 3500, 35_000)


class Remembered:
    """An encoder that has encoded everything before: what is left of building and searching is
    the index's own."""

    def __init__(self, encoder):
        self.encoder, self.identity, self.dimension, self.name = (
            encoder,
            encoder.identity,
            encoder.dimension,
            encoder.name,
        )

    def encode(self, texts, kind="query"):
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
    exact = retrieval.Encoder(
        weights.fetch(cfg.encoder), **encoder_settings(cfg.encoder), precision="fp32"
    )
    once = teaching.passages()
    texts = [corpus.contents(p) for p in once[:: len(once) // PASSAGES][:PASSAGES]]
    again = range(-(-max(SIZES) // len(once)))
    passages = [dataclasses.replace(p, id=f"{p.id} {number}") for number in again for p in once]
    others = {}
    for precision in ("float32", "bfloat16"):
        others[precision] = SentenceTransformer(
            str(weights.fetch(cfg.encoder)), device="cpu", model_kwargs={"torch_dtype": precision}
        )
        others[precision].max_seq_length = encoder.max_tokens
    same = np.abs(
        others["float32"].encode(texts[:64], normalize_embeddings=True)
        - exact.encode(texts[:64], "passage")
    ).max()
    print(f"largest difference of a vector's part in 32 bits: {same:.1e}")
    if same > 1e-4:
        raise RuntimeError("the two do not encode the same, so their times cannot be compared")

    def peer(precision: str):
        return lambda: others[precision].encode(
            texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False
        )

    work = {
        "agentlib": lambda: encoder.encode(texts, "passage"),
        "agentlib fp32": lambda: exact.encode(texts, "passage"),
        "sentence-transformers": peer("float32"),
        "sentence-transformers bf16": peer("bfloat16"),
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
            if size > len(passages):
                raise RuntimeError(f"{len(passages)} passages, expected {size}")
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as folder:
                    place = Path(folder) / "index"
                    built.append(
                        seconds(
                            lambda p=place, s=size, e=encode, k=kind: build.build_index(
                                p, passages[:s], e, kind=k, progress=False
                            )
                        )
                    )
                    index = retrieval.open_index(place, encoder=encode)
                    asked.append(
                        seconds(lambda i=index: [i.search([q]) for q in queries]) / len(queries)
                    )
            medians[f"{kind}, {size} passages"] = {
                "seconds": statistics.median(built),
                "ms a search": 1e3 * statistics.median(asked),
            }
    rate = {name: row["texts/s"] for name, row in medians.items() if "texts/s" in row}
    ratios = {
        "texts/s, ours to sentence-transformers": rate["agentlib"] / rate["sentence-transformers"],
        "texts/s, both in fp32": rate["agentlib fp32"] / rate["sentence-transformers"],
        "texts/s, both in bf16": rate["agentlib"] / rate["sentence-transformers bf16"],
    }
    common.record(
        __file__,
        medians,
        ratios,
        ("torch", "transformers", "sentence-transformers", "faiss-cpu", "bm25s"),
        rounds,
        encoder=cfg.encoder,
        precision=encoder.precision,
        texts=len(texts),
    )


if __name__ == "__main__":
    main()
