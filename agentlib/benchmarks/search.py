"""A configuration's search: its corpus, its index, and the `web_search` its agents call."""

from collections.abc import Callable, Iterable
from pathlib import Path

from agentlib import config, records
from agentlib.benchmarks import teaching, wiki
from agentlib.models import weights
from agentlib.retrieval import Passage, index
from agentlib.retrieval import build as indexing
from agentlib.retrieval import corpus as corpora
from agentlib.retrieval.encoder import Encoder, encoder_settings

CORPORA = ("teaching", "wiki-slice", "wiki-18")
SMALL = ("teaching", "wiki-slice")  # read in seconds


def corpus(cfg: config.Config) -> Iterable[Passage]:
    """The passages of a configuration. Unknown corpus: ValueError; a corpus not on disk:
    FileNotFoundError.
    """
    if cfg.corpus == "teaching":
        return teaching.passages(cfg.passages)
    if cfg.corpus == "wiki-slice":
        if cfg.passages:
            raise ValueError(
                f"setting 'passages' is {cfg.passages}, expected 0 for the corpus 'wiki-slice': its"
                " first passages do not answer its questions"
            )
        return wiki.passages()
    if cfg.corpus == "wiki-18":
        file = config.home() / "corpora" / "wiki-18.jsonl"
        if not file.exists():
            raise FileNotFoundError(
                f"corpus 'wiki-18' is not at {file}; put Search-R1's wiki-18.jsonl there, or set"
                " retriever_url to a server"
            )
        return corpora.read_passages(file)
    raise ValueError(f"corpus {cfg.corpus!r} is unknown, expected one of {', '.join(CORPORA)}")


def index_folder(cfg: config.Config) -> Path:
    """Where a configuration's index lies, named by what shapes it."""
    names = ["corpus", "passages", "retriever"] + ["encoder", "weights", "precision"] * (
        cfg.retriever != "bm25"
    )
    shape = {name: getattr(cfg, name) for name in names}
    return cfg.runs / f"index-{cfg.retriever}-{records.digest(shape)}"


def encoder(cfg: config.Config) -> Encoder | None:
    """The encoder of a dense index, None for BM25."""
    if cfg.retriever == "bm25":
        return None
    folder = weights.fetch(cfg.encoder, cfg.weights)
    return Encoder(folder, **encoder_settings(cfg.encoder), precision=cfg.precision)


def build(cfg: config.Config) -> Path:
    """Build a configuration's index, going on where an interrupted build stopped; a finished one is
    kept.
    """
    return indexing.build_index(index_folder(cfg), corpus(cfg), encoder(cfg), kind=cfg.retriever)


def adopt(cfg: config.Config, file: Path) -> Path:
    """Take a flat index that others built of a configuration's corpus, after a check, as its
    index."""
    if cfg.retriever != "faiss":
        raise ValueError(
            f"setting 'retriever' is {cfg.retriever!r}, expected 'faiss' for an index that others"
            " built: those are flat"
        )
    return indexing.adopt_index(index_folder(cfg), file, corpus(cfg), encoder(cfg))


def open_searcher(cfg: config.Config) -> index.Searcher:
    """The finished index, checked against its corpus, or a client of the /retrieve server at
    `retriever_url`.
    """
    if cfg.retriever_url:
        from agentlib.retrieval import RetrieverClient

        return RetrieverClient(cfg.retriever_url)
    folder = index_folder(cfg)
    # The corpus of 21 million passages is not read again to compare it.
    passages = corpus(cfg) if cfg.corpus in SMALL else None
    return index.open_index(folder, passages, encoder(cfg))


def web_search(cfg: config.Config) -> Callable[[str], str]:
    """The agents' tool: the top passages for a query, as text."""
    return index.as_tool(open_searcher(cfg), cfg.top_k)
