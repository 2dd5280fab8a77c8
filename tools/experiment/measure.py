"""Measure the slice of Wikipedia as a corpus: `python tools/experiment/measure.py [--encode 300]`.

Writes figures/records/laptop/wiki_slice.json: seconds to build and to open the BM25 index, and,
from `--encode` passages spread evenly, the seconds that the dense index would take here; recall of
gold passages for the questions themselves; and the table of trivial answers (`trivial`), both by
BM25.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trivial

from agentlib import benchmarks, config, records, retrieval
from agentlib.benchmarks import search, wiki
from agentlib.retrieval import build, corpus

FACTUAL = [benchmark.slice for benchmark in config.BENCHMARKS if benchmark.domain == "factual"]


@contextlib.contextmanager
def timed(into: dict, name: str) -> Iterator[None]:
    """Wall and processor seconds of a block: on a busy machine only the latter say what it
    costs."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    into[name] = {
        "seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }


def measure(encode: int) -> dict:
    """All of it, in a temporary folder."""
    cfg = config.load("laptop")
    spent: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        with timed(spent, "read and check the corpus"):
            passages = wiki.passages()
        with timed(spent, "build BM25"):
            build.build_index(Path(folder), passages, kind="bm25", progress=False)
        with timed(spent, "open BM25, checked against the corpus"):
            index = retrieval.open_index(Path(folder), passages)
        questions = [benchmarks.load(name) for name in FACTUAL]
        with timed(spent, f"{sum(map(len, questions))} searches by BM25"):
            recalls = {asked[0].benchmark: wiki.recall(asked, index) for asked in questions}
        rows = trivial.table(questions, index, benchmarks.load("hotpotqa-slice-train"))
    if encode:
        encoder = search.encoder(config.load("laptop", retriever="faiss"))
        some = [corpus.contents(p) for p in passages[:: len(passages) // encode][:encode]]
        encoder.encode(some[:8], kind="passage")  # loads
        with timed(spent, f"encode {len(some)} passages by {cfg.encoder}"):
            encoder.encode(some, kind="passage")
    return {
        "machine": records.machine(),
        "passages": len(passages),
        "seconds": spent,
        "recall@3": recalls,
        "trivial": rows.round(1).to_dict("records"),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--encode",
        type=int,
        default=0,
        help="passages to encode for the extrapolation; 0 leaves it out",
    )
    found = measure(parser.parse_args().encode)
    records.write_json(config.LAPTOP.records / "wiki_slice.json", found)
    print(found)
