"""Questions: what is asked, the gold answer, and the paper's own train and test sets.

Owns `Question` and the loaders of the published files. Knows nothing of models or grading.
"""

import functools
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentlib import config

log = logging.getLogger(__name__)
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


@dataclass(frozen=True)
class Published:
    """One file of the reference repository (data_processor/ at commit 0f6cae3)."""

    file: str
    sha256: str
    domain: str
    split: str = "test"


# name -> file; the checksums are those of the files as published
PUBLISHED = {
    "hotpotqa": Published("hotpotqa_500_20250422.json", "770b2740d2d5195f983dbeae3c770900edab776b5986b4cbff3194443a771b00", "factual"),
    "bamboogle": Published("bamboogle_125_20250507.json", "f6c5f3dd17521cf33a1d597d75525d65673687b3219ffe0339eae21b28d69be4", "factual"),
    "musique": Published("musique_500_20250504.json", "683634bcc958a79b144cffb815d4f56002dc22ed7358e11b897f9ff03ba69110", "factual"),
    "2wikimultihopqa": Published("2wikimultihopqa_500_20250511.json", "5034d0e66b38f5e54f20934cbb02ff1d38f0b292efe81da05b5ebdeafcb1bb07", "factual"),
    "math500": Published("math_500_20250414.json", "32ae376ee63aee4a1e59ea167afebffa0031250b154d1805d13522c60c6069cb", "math"),
    "gsm-hard": Published("gsm_hard_500_20250507.json", "970c69744216a75fe04eb86ff1adaf208df5191e2731c6ef0610bd2312266498", "math"),
    "aime": Published("aime_90_20250504.json", "445868439c6c88c8f3ac99c9aabae90606cac43ade63597936bec37a22d510c0", "math"),
    "olymmath": Published("olymath_200_20250511.json", "dc105d5747a37031d1f981865dd5603d533488a435b8a2a0722fd167081912d1", "math"),
    "hotpotqa-train": Published("hotpotqa_1000_20250402.json", "35ae8108e8cb856813dc4aeb7de261b794ec2424ddb19c81449d1007a71f1fb8", "factual", "train"),
    "math-hard-train": Published("math_1000_20250414.json", "71240de787bb08c59b09bbb5fa4daa2cb536849da29dfdd25bf9e27c7eff344b", "math", "train"),
    "math-medium-train": Published("math_medium_1000_20250430.json", "af3aaef02faf2264aa32e30ca9b531b26ca7662f6be87a718ef3f5eb139e31ba", "math", "train"),
}  # fmt: skip


def load(name: str, limit: int = 0) -> list[Question]:
    """The questions of one of the paper's sets, downloaded once and checked by SHA-256; 0 is all of them.

    Raises ValueError for an unknown name, and for a file whose entries lack a question or an id.
    """
    if name not in PUBLISHED:
        raise ValueError(f"question set {name!r} is unknown, expected one of {', '.join(PUBLISHED)}")
    return list(_published(name, config.home() / "tasks"))[: limit or None]


@functools.cache  # a plan asks for the same sets many times
def _published(name: str, folder: Path) -> tuple[Question, ...]:
    import pooch

    source = PUBLISHED[name]
    file = pooch.retrieve(
        SOURCE + source.file,
        known_hash=source.sha256,
        fname=source.file,
        path=folder,
        progressbar=True,
    )
    return tuple(read(Path(file), name, source.domain, source.split))


def here() -> bool:
    """Whether all of the paper's question files are in the cache, so that nothing need be downloaded."""
    return all((config.home() / "tasks" / source.file).exists() for source in PUBLISHED.values())


def read(file: Path, name: str, domain: str, split: str) -> list[Question]:
    """Questions of one published file. Repeated questions and those without a gold answer are left out, with a notice."""
    entries = json.loads(file.read_text(encoding="utf-8"))["examples"]
    found: dict[str, Question] = {}
    left_out: list[str] = []
    for number, entry in enumerate(entries):
        if not {"id", "question"} <= entry.keys():
            raise ValueError(
                f"{file} entry {number} has fields {sorted(entry)}, expected 'id', 'question' and 'answer'"
            )
        answer = gold(entry.get("answer"))
        text = entry["question"].strip()
        if answer is None or text in found:
            left_out.append(str(entry["id"]))
            continue
        level = str(entry.get("level") or "").removeprefix("Level ")
        found[text] = Question(
            f"{name}-{entry['id']}", name, text, answer, domain, level, str(entry.get("type") or entry.get("subject") or ""), split
        )
    if left_out:
        log.warning(
            "%s: left out %d entries without a gold answer or asked twice (ids %s)",
            name,
            len(left_out),
            ", ".join(left_out),
        )
    if not found:
        raise ValueError(f"{file} has no question with a gold answer, expected at least one; check the field 'answer'")
    return list(found.values())


def gold(answer: Any) -> str | None:
    """A gold answer as text: whole floats without their ".0" (GSM-Hard), lists joined, nulls as None."""
    if answer is None or answer == "":
        return None
    if isinstance(answer, float) and answer.is_integer():
        return str(int(answer))
    if isinstance(answer, list):
        return ", ".join(map(str, answer)) or None
    return str(answer)
