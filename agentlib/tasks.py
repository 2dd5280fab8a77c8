"""Questions: what is asked, the gold answer, and the paper's own train and test sets."""

import difflib
import functools
import logging
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentlib import config, records

log = logging.getLogger(__name__)
SOURCE = "https://raw.githubusercontent.com/Nardien/agent-distillation/0f6cae3/data_processor/"


@dataclass(frozen=True)
class Question:
    """One question with its gold answer. `domain` is "math" or "factual"; `level` is "" where
    there is none."""

    id: str
    benchmark: str
    text: str
    answer: str
    domain: str
    level: str = ""
    subject: str = ""
    split: str = "test"
    aliases: tuple[str, ...] = ()
    # titles of the passages that hold the facts it needs, where its data set names them
    supporting: tuple[str, ...] = ()

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
    """The questions of one of the paper's sets, downloaded once and checked by SHA-256; 0 is all of
    them.

    Raises ValueError for an unknown name, and for a file whose entries lack a question or an id.
    """
    if name not in PUBLISHED:
        raise unknown(name, PUBLISHED)
    return list(_published(name, config.home() / "tasks"))[: limit or None]


def unknown(name: str, known: Iterable[str]) -> ValueError:
    """What to raise for a set's name that is none: the known ones, and the one that was probably
    meant."""
    spelt = {_letters(other): other for other in known}
    spelt |= {
        _letters(source.file.rpartition("_")[0]): other
        for other, source in PUBLISHED.items()
        if other in known
    }
    near = [
        letters for letters in spelt if letters.startswith(_letters(name))
    ] or difflib.get_close_matches(_letters(name), spelt)
    hint = f"; did you mean {spelt[near[0]]!r}?" if near and name.strip() else ""
    return ValueError(f"question set {name!r} is unknown, expected one of {', '.join(known)}{hint}")


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


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


def is_downloaded(names: Iterable[str] = tuple(PUBLISHED)) -> bool:
    """Whether the question files of these of the paper's sets are in the cache, so that nothing
    need be downloaded."""
    return all((config.home() / "tasks" / PUBLISHED[name].file).exists() for name in names)


def read(file: Path, name: str, domain: str, split: str) -> list[Question]:
    """Questions of one published file. Repeated questions and those without a gold answer are left
    out, with a notice.

    Raises ValueError for an entry without a question or an id, and for two questions of one id.
    """
    entries = list(records.read_rows(file))
    if len(entries) == 1 and isinstance(entries[0].get("examples"), list):
        entries = entries[0]["examples"]
    found: dict[str, Question] = {}
    ids: dict[str, int] = {}
    left_out: list[str] = []
    for number, entry in enumerate(entries):
        if entry.get("id") is None or not isinstance(entry.get("question"), str):
            raise ValueError(
                f"{file} entry {number} has fields"
                f" {sorted(k for k, v in entry.items() if v is not None)}, expected 'id',"
                " 'question' and 'answer'"
            )
        right, text = golds(entry.get("answer"), domain), entry["question"].strip()
        if not right or text in found:
            left_out.append(str(entry["id"]))
            continue
        if (first := ids.setdefault(str(entry["id"]), number)) != number:
            raise ValueError(
                f"{file} entries {first} and {number} have the same id {entry['id']!r}, expected it"
                " once; number them anew"
            )
        level = str(entry.get("level") or "").removeprefix("Level ")
        aliases = (
            *right[1:],
            *golds(entry.get("answer_aliases") or entry.get("aliases"), "factual"),
        )
        found[text] = Question(
            f"{name}-{entry['id']}",
            name,
            text,
            right[0],
            domain,
            level,
            str(entry.get("type") or entry.get("subject") or ""),
            split,
            aliases,
        )
    if left_out:
        log.warning(
            "%s: left out %d entries without a gold answer or asked twice (ids %s)",
            name,
            len(left_out),
            ", ".join(left_out),
        )
    if not found:
        raise ValueError(
            f"{file} has no question with a gold answer, expected at least one; check the field"
            " 'answer'"
        )
    return list(found.values())


def golds(answer: Any, domain: str) -> tuple[str, ...]:
    """The right answers that data sets write as one value, the first of them first; none for null
    or nothing.

    A list holds other names of one answer (NQ), so does {"value", "aliases"} (TriviaQA) and
    {"text"} (SQuAD); a list in maths holds the parts of one answer. Raises ValueError for other
    objects.
    """
    if isinstance(answer, dict):
        if answer.keys().isdisjoint(("value", "text")):
            raise ValueError(
                f"answer is an object with the fields {sorted(answer)}, expected a text, a list, or"
                " value and aliases"
            )
        named = [answer.get("value", answer.get("text")), answer.get("aliases")]
        return tuple(dict.fromkeys(text for part in named for text in golds(part, domain)))
    if isinstance(answer, list | tuple) and domain != "math":
        return tuple(dict.fromkeys(text for part in answer for text in golds(part, domain)))
    text = gold(answer)
    return () if text is None else (text,)


def gold(answer: Any) -> str | None:
    """A gold answer as text: whole floats without their ".0" (GSM-Hard), lists joined, nulls as
    None."""
    if answer is None or answer == "" or answer != answer:  # NaN is unlike itself
        return None
    if isinstance(answer, float) and answer.is_integer():
        return str(int(answer))
    if isinstance(answer, list | tuple):
        return ", ".join(text for text in map(gold, answer) if text is not None) or None
    return str(answer)
