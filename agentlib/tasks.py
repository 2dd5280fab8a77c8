"""Questions: what is asked, the gold answer, and the paper's own train and test sets.

Owns `Question` and the loaders. Knows nothing of models or grading.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pooch

from agentlib import config

# Files of the reference repository (data_processor/ at commit 0f6cae3): name -> (folder, file, SHA-256, domain).
SOURCE = "https://raw.githubusercontent.com/Nardien/agent-distillation/0f6cae3/data_processor/"


@dataclass(frozen=True)
class Question:
    """One question with its gold answer. `domain` is "math" or "factual"; `level` is "" where there is none."""

    id: str
    benchmark: str
    text: str
    answer: str
    domain: str
    level: str = ""
    subject: str = ""
    split: str = "test"
    aliases: tuple[str, ...] = ()

    def asdict(self) -> dict:
        return asdict(self)
