"""Real multi-hop questions and 53,082 passages of Wikipedia that answer them: the paper's factual
benchmarks at a laptop's size.

`tools/build_wiki.py` builds the files in the download cache; the manifest here says which questions
and passages they must hold, in which order. The manifest holds no text. A passage's id ends in the
start of a SHA-1 of its title and text, so each passage is checked against its own id.
"""

import functools
import hashlib
import json
import logging
import lzma
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentlib import config, records
from agentlib.retrieval import Passage, Searcher, corpus
from agentlib.tasks import Question

log = logging.getLogger(__name__)
MANIFEST = Path(__file__).with_name("wiki_manifest.json")
PASSAGE_IDS = Path(__file__).with_name("wiki_passages.txt.xz")  # in the corpus's order
PASSAGES, QUESTIONS = "passages.jsonl.gz", "questions.jsonl.gz"
# data sets whose name in the files is shorter than the benchmark's
FULL_NAMES = {"2wiki": "2wikimultihopqa"}
SETS = (
    "hotpotqa-slice",
    "bamboogle-slice",
    "musique-slice",
    "2wikimultihopqa-slice",
    "hotpotqa-dev",
    "hotpotqa-slice-train",
    "hotpotqa-easy-train",
)
OPENING = 12  # words of a passage by which it is recognised in an observation


def plain(text: str) -> str:
    """A text with each run of white space as one blank: copies of the data sets differ in it."""
    return " ".join(text.split())


def key(first: str, second: str) -> str:
    """Twelve hex digits that name a passage (title, text) or a question (its words, its answer)."""
    return hashlib.sha1(f"{plain(first)}\t{plain(second)}".encode()).hexdigest()[:12]


@functools.cache
def manifest() -> dict[str, Any]:
    """`files`: SHA-256 of the ready-made files. `sets`: the data set and split of each, how many of
    its first questions are in the paper's own test file, and "id key" for each question.
    """
    return json.loads(MANIFEST.read_text(encoding="utf-8"))


@functools.cache
def passage_ids() -> tuple[str, ...]:
    """The ids of the corpus, in its order."""
    return tuple(lzma.decompress(PASSAGE_IDS.read_bytes()).decode().split())


def folder() -> Path:
    """The folder of the slice in the download cache."""
    return config.home() / "tasks" / "wiki"


def read(file: Path) -> list[dict]:
    """The rows of a file of the slice. Raises FileNotFoundError saying how it is made."""
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is missing; build it from the official data sets with `python"
            " tools/build_wiki.py FILE …`"
        )
    return list(records.read_rows(file))


@functools.cache
def _passages(where: Path) -> tuple[Passage, ...]:
    found = tuple(map(corpus.from_document, read(where / PASSAGES)))
    if wrong := [p.id for p in found if p.id[-12:] != key(p.title, p.text)]:
        raise ValueError(
            f"{where / PASSAGES} has {len(wrong)} changed passages such as {wrong[0]}, expected the"
            " text that its id is made of; delete the file and build it again"
        )
    ids = {p.id for p in found}
    if [p.id for p in found] != [i for i in passage_ids() if i in ids]:
        raise ValueError(
            f"{where / PASSAGES} has passages that are not in the manifest, or another order,"
            " expected its order; delete the file and build it again"
        )
    if len(found) < len(passage_ids()):
        log.warning(
            "%s holds %d of the %d passages; its scores cannot be compared with those on all of"
            " them",
            where / PASSAGES,
            len(found),
            len(passage_ids()),
        )
    return found


def passages() -> list[Passage]:
    """The corpus, each passage checked against its id.

    A slice that was built without some of its sources has fewer passages, which a warning says.
    Raises FileNotFoundError where the file is missing, and ValueError for passages that are
    changed, unknown or in another order.
    """
    return list(_passages(folder()))


@functools.cache
def _rows(where: Path) -> dict[str, dict]:
    rows = read(where / QUESTIONS)
    return {f"{FULL_NAMES.get(row['dataset'], row['dataset'])}-{row['id']}": row for row in rows}


@functools.cache
def _questions(name: str, where: Path) -> tuple[Question, ...]:
    about, rows, found = manifest()["sets"][name], _rows(where), []
    for number, mark in map(str.split, about["questions"]):
        question_id = f"{about['dataset']}-{number}"
        row = rows.get(question_id)
        if row is None or key(row["question"], row["answer"]) != mark:
            raise ValueError(
                f"{where / QUESTIONS} {'lacks' if row is None else 'has another wording of'}"
                f" question {question_id}, expected that of the manifest; delete the file and build"
                " it again"
            )
        found.append(
            Question(
                question_id,
                name,
                plain(row["question"]),
                plain(row["answer"]),
                "factual",
                row["level"] or "",
                row["type"] or "",
                about["split"],
                tuple(row["aliases"]),
                tuple(row["supporting_titles"] or ()),
            )
        )
    return tuple(found)


def load(name: str) -> list[Question]:
    """All questions of one of `SETS`, in the manifest's order, each checked against its key.

    Raises FileNotFoundError where the slice is not in the cache, and ValueError for a question that
    is missing or changed.
    """
    return list(_questions(name, folder()))


@functools.cache
def _passages_by_id(where: Path) -> dict[str, Passage]:
    return {p.id: p for p in _passages(where)}


def gold_passages(question_id: str) -> list[Passage]:
    """The annotated passages with the facts a question needs. Bamboogle has no annotation, so it
    has none.
    """
    row, by_id = _rows(folder())[question_id], _passages_by_id(folder())
    return [by_id[i] for i in row["supporting_ids"] or ()]


def find_seen(gold: Sequence[Passage], observations: Iterable[str]) -> list[Passage]:
    """The gold passages whose title and first `OPENING` words are in one of the observations.

    The first words suffice because long observations are shortened. Some articles are in the corpus
    twice, as two data sets have them; either copy counts.
    """
    texts = [f" {_words(text)} " for text in observations]
    return [p for p in gold if any(f" {_opening(p)} " in text for text in texts)]


def _words(text: str) -> str:
    """The words of a text, without punctuation; the same for a text and for its `repr`."""
    return " ".join(re.findall(r"\w+", text.replace("\\n", "\n").casefold()))


def _opening(passage: Passage) -> str:
    return " ".join([_words(passage.title), *_words(passage.text).split()[:OPENING]])


def recall(questions: Sequence[Question], searcher: Searcher, k: int = 3) -> dict[str, float]:
    """What a search for the questions themselves finds among its first `k`: the share of gold
    passages, of questions with all of theirs, and of questions with any. Questions without
    annotated passages are left out of it and of `n`.
    """
    asked = [(q, gold) for q in questions if (gold := gold_passages(q.id))]
    if not asked:
        return {"n": 0}
    found = searcher.search([q.text for q, _ in asked], k)
    texts = [[corpus.contents(hit.passage) for hit in hits] for hits in found]
    counts = [
        (len(find_seen(gold, text)), len(gold))
        for (_, gold), text in zip(asked, texts, strict=True)
    ]
    n = len(counts)
    return {
        "n": n,
        "passages": sum(some for some, _ in counts) / sum(every for _, every in counts),
        "all": sum(some == every for some, every in counts) / n,
        "any": sum(some > 0 for some, _ in counts) / n,
    }


def is_supported(case: Mapping[str, Any]) -> bool | None:
    """Whether the model of a recorded case saw every gold passage; None for questions without
    annotated passages.

    An answer that is correct and supported was looked up, not remembered or guessed.
    """
    gold = gold_passages(case["id"]) if case["domain"] == "factual" else []
    texts = [step["observation"] for step in case.get("trace", ())] + [case.get("passages") or ""]
    return len(find_seen(gold, texts)) == len(gold) if gold else None
