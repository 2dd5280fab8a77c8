"""Build the slice of Wikipedia from the official data sets: `python tools/build_wiki.py FILE ...`.

Owns the schemas of HotpotQA, 2WikiMultihopQA, MuSiQue and Bamboogle. Knows nothing of how the slice
is used.

Each record says by its fields what it is, so the files may be given in any order, as JSON, JSON
lines or CSV, also gzipped: HotpotQA (hotpot_train_v1.1.json, hotpot_dev_distractor_v1.json, or the
rows of hotpotqa/hotpot_qa as JSON lines), 2WikiMultihopQA (train.json, dev.json and, for other
spellings of answers, id_aliases.json), MuSiQue (musique_ans_v1.0_train.jsonl and _dev.jsonl),
Bamboogle (CSV or JSON). The passages for Natural Questions are in nq-open-oracle.jsonl.gz of "Lost
in the Middle"; other passages can be given as JSON lines with `title` and `text`.
"""

import argparse
import csv
import functools
import gzip
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentlib import records
from agentlib.benchmarks import wiki


@dataclass
class Slice:
    """What was found: passages by id, and rows of questions by benchmark and id, as they are
    written."""

    passages: dict[str, dict] = field(default_factory=dict)
    questions: dict[str, dict] = field(default_factory=dict)

    def missing(self) -> tuple[list[str], list[str]]:
        """The ids of the manifest's passages and questions that no record had."""
        return [i for i in wiki.passage_ids() if i not in self.passages], [
            i for i in _wanted() if i not in self.questions
        ]


def read_records(file: Path) -> Iterator[dict]:
    """The records of a CSV file, a JSON list or JSON lines, packed or not. Raises ValueError for
    what is no such file."""
    if not file.name.removesuffix(".gz").endswith(".csv"):
        yield from records.read_rows(file)
        return
    with records.unpacked(file) as stream:
        yield from csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))


def find(official: Iterable[Mapping[str, Any]]) -> Slice:
    """The passages and questions of the manifest among official records of any of the data sets.

    Raises ValueError for a record of an unknown schema, and for a question with other words than
    the manifest's.
    """
    ids, found, aliases, answers, rows = (
        {i[-12:]: i for i in wiki.passage_ids()},
        Slice(),
        {},
        {},
        0,
    )
    for record in official:
        if "Q_id" in record:
            aliases[record["Q_id"]] = [*record.get("aliases", ()), *record.get("demonyms", ())]
            continue
        for title, text in (paragraphs := _paragraphs(record)):
            if wanted := ids.get(wiki.key(title, text)):
                found.passages[wanted] = {"id": wanted, "title": title, "text": text}
        row = _row(record, rows, paragraphs, ids)
        if row is None:
            continue
        rows += row["dataset"] == "bamboogle"  # which has no ids; its rows are numbered
        question_id = f"{row['dataset']}-{row['id']}"
        if mark := _wanted().get(question_id):
            if mark != wiki.key(row["question"], row["answer"]):
                raise ValueError(
                    f"question {question_id} reads {row['question'][:60]!r}, expected the wording"
                    " of the manifest; give the release of the data set that the module's"
                    " docstring names"
                )
            found.questions[question_id] = row
            answers[question_id] = record.get("answer_id")
    for question_id, answer in answers.items():
        row = found.questions[question_id]
        row["aliases"] = [
            a
            for a in dict.fromkeys([*row["aliases"], *aliases.get(answer, ())])
            if a != row["answer"]
        ]
    return found


@functools.cache
def _wanted() -> dict[str, str]:
    """The key of each question in the manifest, by benchmark and id."""
    sets = wiki.manifest()["sets"].values()
    return {
        f"{about['dataset']}-{line.split()[0]}": line.split()[1]
        for about in sets
        for line in about["questions"]
    }


def _paragraphs(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Title and text of each paragraph of a record, white space made one blank."""
    if "paragraphs" in record:  # MuSiQue
        pairs = [(p["title"], p["paragraph_text"]) for p in record["paragraphs"]]
    elif isinstance(record.get("context"), Mapping):  # HotpotQA as rows of `datasets`
        pairs = [
            (t, " ".join(s))
            for t, s in zip(record["context"]["title"], record["context"]["sentences"], strict=True)
        ]
    elif "context" in record:  # HotpotQA and 2WikiMultihopQA
        pairs = [(title, " ".join(sentences)) for title, sentences in record["context"]]
    elif "ctxs" in record:
        pairs = [(c["title"], c["text"]) for c in record["ctxs"]]
    else:
        pairs = [(record["title"], record["text"])] if {"title", "text"} <= record.keys() else []
    return [(wiki.plain(title), wiki.plain(text)) for title, text in pairs]


def _row(
    record: Mapping[str, Any],
    number: int,
    paragraphs: Sequence[tuple[str, str]],
    ids: Mapping[str, str],
) -> dict | None:
    """A record's question as a row of the slice; None where it only has passages."""
    if "ctxs" in record or {"title", "text"} <= record.keys():
        return None
    if "Question" in record:
        return _question(
            "bamboogle", str(number), record["Question"], record["Answer"], (), None, None, (), ids
        )
    if "paragraphs" in record:
        hops = record["id"].partition("hop")[0]
        gold = [
            pair
            for pair, p in zip(paragraphs, record["paragraphs"], strict=True)
            if p["is_supporting"]
        ]
        return _question(
            "musique",
            record["id"],
            record["question"],
            record["answer"],
            record["answer_aliases"],
            record["id"].partition("__")[0],
            f"{hops}hop",
            gold,
            ids,
        )
    if "context" in record:
        facts = record["supporting_facts"]
        titles = facts["title"] if isinstance(facts, Mapping) else [title for title, _ in facts]
        gold = [pair for pair in paragraphs if pair[0] in set(map(wiki.plain, titles))]
        dataset = "2wikimultihopqa" if "evidences" in record else "hotpotqa"
        return _question(
            dataset,
            record.get("_id") or record["id"],
            record["question"],
            record["answer"],
            (),
            record["type"],
            record.get("level"),
            gold,
            ids,
        )
    raise ValueError(
        f"record has the fields {sorted(record)}, expected one of HotpotQA, 2WikiMultihopQA,"
        " MuSiQue or Bamboogle, or a passage with title and text"
    )


def _question(
    dataset: str,
    number: str,
    text: str,
    answer: str,
    aliases: Sequence[str],
    kind: str | None,
    level: str | None,
    gold: Sequence[tuple[str, str]],
    ids: Mapping[str, str],
) -> dict:
    return {
        "dataset": dataset,
        "id": number,
        "question": wiki.plain(text),
        "answer": wiki.plain(answer),
        "aliases": list(aliases),
        "type": kind,
        "level": level,
        "supporting_titles": list(dict.fromkeys(title for title, _ in gold)),
        "supporting_ids": [ids[k] for k in (wiki.key(*pair) for pair in gold) if k in ids],
    }


def write(found: Slice, folder: Path) -> None:
    """Write the slice in the manifest's order; the same records give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows, order in (
        (wiki.PASSAGES, found.passages, wiki.passage_ids()),
        (wiki.QUESTIONS, found.questions, _wanted()),
    ):
        lines = "".join(json.dumps(rows[i], ensure_ascii=False) + "\n" for i in order if i in rows)
        part = folder / f"{name}.part"
        part.write_bytes(gzip.compress(lines.encode(), mtime=0))
        part.replace(folder / name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the slice in the download cache; 1 where questions are missing, 2, with a sentence,
    for files of no use."""
    parser = argparse.ArgumentParser(
        prog="python tools/build_wiki.py",
        description=__doc__.partition(":")[0] + ".",
        epilog=__doc__.partition("\n\n")[2].partition("\n\n")[2],
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    try:
        found = find(
            record for file in parser.parse_args(arguments).files for record in read_records(file)
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write(found, wiki.folder())
    passages, questions = found.missing()
    print(
        f"{len(found.passages)} passages and {len(found.questions)} questions are in"
        f" {wiki.folder()}"
    )
    if passages:
        print(
            f"{len(passages)} passages were in none of the files, such as {passages[0]}: the corpus"
            " is smaller without them"
        )
    if questions:
        print(
            f"{len(questions)} questions were in none of the files, such as {questions[0]}; give"
            " the files that have them"
        )
    return 1 if questions else 0


if __name__ == "__main__":
    sys.exit(main())
