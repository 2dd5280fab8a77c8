"""Passages, an index over them, and the agent's `web_search`.

Owns corpora on disk, BM25, dense vectors, building in shards, and the /retrieve protocol. Does not
know which corpus answers which questions, nor agents.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(
    __name__,
    {
        "corpus": "Passage",
        "bm25": "words",
        "index": "Hit Index Searcher as_tool open_index",
        "encoder": "Encoder",
        "build": "build_index adopt_index",
        "server": "RetrieverClient serving",
        "nearest": "DENSE_KINDS=KINDS disk_bytes memory_bytes read_vectors",
    },
)
