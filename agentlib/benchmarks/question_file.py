"""Your own questions: a file or a `datasets` id as `Question`s, checked before any work is spent on
them, and split into questions to train on and to test on.
"""

import ast
import codecs
import csv
import difflib
import io
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agentlib import records, tasks
from agentlib.tasks import Question

log = logging.getLogger(__name__)
NEEDED = ("question", "answer")
OPTIONAL = ("id", "domain", "level", "subject", "aliases")
# What data sets call them: lists of right answers in Search-R1's files, other names in HotpotQA's
# and MuSiQue's.
ALSO = {"answers": "answer", "golden_answers": "answer", "answer_aliases": "aliases"}
FORMS = (".csv", ".tsv", ".jsonl", ".json")


def from_file(
    source: str | Path, domain: str = "factual", *, name: str = "", split: str = "train"
) -> list[Question]:
    """The questions of a .csv, .tsv, .json or .jsonl file, or of a split of a data set that
    `datasets` loads by its id.

    Columns `question` and `answer` are needed; `id`, `domain` ("factual" or "math": how answers are
    graded), `level`, `subject` and `aliases` (other right answers, separated by "|") may be there,
    others are left out. An answer may be a number, a list of right answers (in maths: of the parts
    of one), or {"value", "aliases"}. `domain` is that of rows that name none; `name` what the set
    is called in records and figures (the file's own name by default). Files may be packed with gzip
    (.gz).

    Raises FileNotFoundError for a file that is not there, and ValueError, naming the row (the first
    one is 1), for what cannot be asked or graded.
    """
    name = name or _bare(Path(source)).stem
    columns, found = _table(source, split)
    for needed in NEEDED:
        if needed not in columns and (columns or found):
            near = difflib.get_close_matches(needed, columns, n=1, cutoff=0.5)
            hint = (
                f"rename the column {near[0]!r}"
                if near
                else f"its columns are {', '.join(columns)}"
            )
            raise ValueError(
                f"{source} has no column {needed!r}, expected {' and '.join(NEEDED)}; {hint}"
            )
    if not found:
        raise ValueError(f"{source} has no rows, expected one or more questions")
    for column in columns:
        if column not in (*NEEDED, *OPTIONAL) and (
            near := difflib.get_close_matches(column, OPTIONAL, n=1, cutoff=0.75)
        ):
            log.warning("%s: column %r is left out; did you mean %r?", source, column, near[0])
    made = [_question(source, number, row, domain, name) for number, row in enumerate(found, 1)]
    for what, values in (("id", [q.id for q in made]), ("question", [q.text for q in made])):
        seen: dict[str, int] = {}
        for number, value in enumerate(values, 1):
            if value in seen:
                raise ValueError(
                    f"{source}, rows {seen[value]} and {number} have the same {what}"
                    f" {value[:60]!r}, expected it once; a question that is trained on and tested"
                    " on proves nothing"
                )
            seen[value] = number
    return made


def split_questions(
    found: Sequence[Question], test: int, seed: int = 42
) -> tuple[list[Question], list[Question]]:
    """Questions to train on and `test` questions to test on, drawn at random; no question is in
    both.

    Raises ValueError unless at least one is left to train on.
    """
    if not 0 < test < len(found):
        raise ValueError(
            f"test is {test}, expected 1 to {len(found) - 1} of the {len(found)} questions"
        )
    drawn = set(np.random.default_rng(seed).permutation(len(found))[:test].tolist())
    return (
        [replace(q, split="train") for k, q in enumerate(found) if k not in drawn],
        [replace(q, split="test") for k, q in enumerate(found) if k in drawn],
    )


def _table(source: str | Path, split: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns in lower case, called as in `NEEDED` and `OPTIONAL`, and the rows."""
    file = Path(source)
    form = _bare(file).suffix.lower()
    if form in FORMS:
        if not file.exists():
            raise FileNotFoundError(
                f"{file} is not there, expected a file of questions; the folder is {Path.cwd()}"
            )
        try:
            header, rows = (
                _separated(file, form)
                if form in (".csv", ".tsv")
                else ([], _unwrapped(list(records.read_rows(file))))
            )
        except (ValueError, csv.Error) as error:
            raise ValueError(
                f"{file} cannot be read as {form[1:]} ({str(error)[:200]}); is it UTF-8, one row a"
                " question?"
            ) from None
    elif file.is_file():
        raise ValueError(
            f"{file} ends in {file.suffix!r}, expected {', '.join(FORMS)}, or the id of a data set"
        )
    else:
        from datasets import load_dataset

        header, rows = [], load_dataset(str(source), split=split).to_list()
    named = [_named(row) for row in rows]
    return (
        list(dict.fromkeys(key for row in [_named(dict.fromkeys(header)), *named] for key in row)),
        named,
    )


def _named(row: dict[str, Any]) -> dict[str, Any]:
    found = {str(key).strip().lower(): value for key, value in row.items()}
    for other, name in ALSO.items():
        if other in found and found.get(name) is None:
            found[name] = found.pop(other)
    return found


def _bare(file: Path) -> Path:
    return file.with_suffix("") if file.suffix.lower() == ".gz" else file


def _unwrapped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a JSON file that is one object: of columns, as pandas writes a table, or around a
    list of rows.
    """
    if len(rows) != 1:
        return rows
    columns = {
        key: dict(enumerate(v)) if isinstance(v, list) else v
        for key, v in rows[0].items()
        if isinstance(v, list | dict)
    }
    if len(columns) == len(rows[0]) and "question" in map(str.lower, columns):
        places = dict.fromkeys(place for column in columns.values() for place in column)
        return [{key: column.get(place) for key, column in columns.items()} for place in places]
    lists = [
        v
        for v in rows[0].values()
        if isinstance(v, list) and v and all(isinstance(row, dict) for row in v)
    ]
    return lists[0] if len(lists) == 1 and "question" not in map(str.lower, rows[0]) else rows


def _separated(file: Path, form: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a table of commas (or of semicolons or tabs, where its header has no
    comma) or of tabs.
    """
    with records.unpacked(file) as stream:
        content = stream.read()
    text = content.decode(
        "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    )
    lines = io.StringIO(text, newline="")
    first = text.lstrip().partition("\n")[0]
    mark = "\t" if form == ".tsv" else next((mark for mark in ",;\t" if mark in first), ",")
    table = _fields(lines, mark)
    header = [name.strip().lower() for name in next(table, [])]
    rows = []
    for number, fields in enumerate(table, 1):
        if any(field.strip() for field in fields[len(header) :]):
            raise ValueError(
                f"row {number} has {len(fields)} fields, expected {len(header)}: put a text that"
                f" holds {mark!r} in quotes, and double those within it"
            )
        rows.append(dict(itertools.zip_longest(header, fields[: len(header)], fillvalue="")))
    return header, [records.replace_surrogates(row) for row in rows]


def _fields(lines: Iterator[str], mark: str) -> Iterator[list[str]]:
    """The fields of each row that is not empty. Quotes that do not go around a field are part of
    its text.
    """
    width = 0
    for line in lines:
        plain = line.rstrip("\r\n").split(mark)
        if not any(field.strip() for field in plain):
            continue
        fields = [_unquoted(field) for field in plain]
        opened = any(field.lstrip()[:1] == '"' and field.count('"') % 2 for field in plain)
        if mark != "\t" or opened or len(plain) != (width or len(plain)):
            reader = csv.reader(
                itertools.chain([line], lines), delimiter=mark, strict=True, skipinitialspace=True
            )
            try:
                fields = next(reader)
            except csv.Error:
                if reader.line_num > 1 or line.count('"') % 2:
                    raise
        width = width or len(fields)
        yield fields


def _unquoted(field: str) -> str:
    text = field.strip()
    inner = text[1:-1]
    around = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if around else field


def _question(source: str | Path, number: int, row: dict, domain: str, name: str) -> Question:
    at = {key: _text(row.get(key)) for key in ("question", *OPTIONAL)}
    if isinstance(row.get("question"), list | dict):
        raise ValueError(
            f"{source}, row {number}: 'question' is {row['question']!r:.80}, expected some text"
        )
    kind = at["domain"] or domain
    if kind not in ("factual", "math"):
        raise ValueError(
            f"{source}, row {number}: domain is {kind!r}, expected 'factual' or 'math', how its"
            " answer is graded"
        )
    try:
        right = [
            text for text in map(_text, tasks.golds(_listed(row.get("answer"), kind), kind)) if text
        ]
    except ValueError as error:
        raise ValueError(f"{source}, row {number}: {error}") from None
    for needed, found in (("question", at["question"]), ("answer", right)):
        if not found:
            raise ValueError(
                f"{source}, row {number}: {needed!r} is empty, expected some text; fill it or"
                " delete the row"
            )
    aliases = tuple(
        alias.strip()
        for alias in _text(_listed(row.get("aliases"), "factual")).split("|")
        if alias.strip()
    )
    return Question(
        at["id"] or f"{name}-{number - 1:04d}",
        name,
        at["question"],
        right[0],
        kind,
        at["level"],
        at["subject"],
        aliases=(*right[1:], *aliases),
    )


def _listed(value: Any, kind: str) -> Any:
    """A list or an object that a table's cell holds as its Python or JSON text; in maths brackets
    mean something else.
    """
    if (
        kind == "math"
        or not isinstance(value, str)
        or value.strip()[:2] not in ("['", '["', "{'", '{"')
    ):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return value


def _text(value: object) -> str:
    """A cell as text; lists of a data set as their parts, numbers as they are written."""
    if isinstance(value, list | tuple):
        return "|".join(map(_text, value))
    return (tasks.gold(value) or "").strip()
