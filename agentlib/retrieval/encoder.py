"""Texts become unit vectors, as in the paper's retriever: mean pooling, then L2 normalisation."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentlib import records
from agentlib.models import loading

# What each encoder was trained with, put before queries and before passages.
PREFIXES = {"e5-base-v2": ("query: ", "passage: "), "all-MiniLM-L6-v2": ("", "")}


def encoder_settings(name: str) -> dict[str, str]:
    """Arguments for `Encoder` beside its folder: the model's name and the prefixes it was trained
    with.
    """
    query, passage = PREFIXES.get(name.rsplit("/", 1)[-1], ("", ""))
    return {"name": name, "query_prefix": query, "passage_prefix": passage}


class Encoder:
    """Texts → unit vectors by a transformers model: mean over the attention mask, then
    L2-normalised.

    `folder` holds config, weights and tokenizer; `device` None takes the GPU if there is one, else
    the CPU, and `precision` is that of `loading.resolve_precision`. Raises FileNotFoundError for a
    folder without a model. Safe to share by threads.
    """

    def __init__(
        self,
        folder: Path,
        query_prefix: str = "",
        passage_prefix: str = "",
        max_tokens: int = 256,
        device: str | None = None,
        batch_size: int = 64,
        name: str = "",
        precision: str = "auto",
    ):
        import torch
        from transformers import AutoModel, AutoTokenizer

        if not (Path(folder) / "config.json").exists():
            raise FileNotFoundError(
                f"encoder folder {folder} has no config.json; get one with"
                " agentlib.models.weights.fetch('all-MiniLM-L6-v2')"
            )
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = loading.resolve_precision(precision, self.device)
        dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[self.precision]
        loading.keep_freed_memory()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=dtype).to(self.device).eval()
        self.prefixes = {"query": query_prefix, "passage": passage_prefix}
        self.max_tokens, self.batch_size = max_tokens, batch_size
        self.name = name or Path(folder).name
        self.dimension: int = self.model.config.hidden_size
        self._lock = threading.Lock()  # a fast tokenizer refuses to be used by two threads at once

    @property
    def identity(self) -> dict[str, Any]:
        """What vectors depend on; an index is searched with the identity it was built with."""
        return {
            "name": self.name,
            "max_tokens": self.max_tokens,
            "dimension": self.dimension,
            **self.prefixes,
        }

    def encode(self, texts: Sequence[str], kind: str = "query") -> np.ndarray:
        """Vectors of `texts` in their order: (n, dimension) float32, each of length 1.

        Texts of like length share a batch; those over `max_tokens` are cut. Raises ValueError for a
        kind other than "query" and "passage".
        """
        import torch

        if kind not in self.prefixes:
            raise ValueError(f"kind is {kind!r}, expected 'query' or 'passage'")
        vectors = np.empty((len(texts), self.dimension), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            prefixed = [self.prefixes[kind] + records.replace_surrogates(texts[i]) for i in rows]
            with self._lock, torch.inference_mode():
                batch = self.tokenizer(
                    prefixed,
                    padding=True,
                    truncation=True,
                    max_length=self.max_tokens,
                    return_tensors="pt",
                ).to(self.device)
                states = self.model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"].unsqueeze(-1)
            mean = (states * mask).sum(1) / mask.sum(1)
            vectors[rows] = torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
        return vectors
