"""Questions of your own: a file or a `datasets` id as `Question`s, checked before any work is spent on them.

Owns what such a file must look like, and its division into questions to train on and to test on. Knows nothing of models.
"""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from agentlib.tasks import Question

NEEDED = ("question", "answer")
OPTIONAL = ("id", "domain", "level", "subject", "aliases")
READERS = {
    ".csv": lambda file: pd.read_csv(file, dtype=str, keep_default_na=False),
    ".tsv": lambda file: pd.read_csv(file, dtype=str, keep_default_na=False, sep="\t"),
    ".jsonl": lambda file: pd.read_json(file, lines=True, dtype=False),
    ".json": lambda file: pd.read_json(file, dtype=False),
}


def questions(source: str | Path, domain: str = "factual", *, name: str = "", split: str = "train") -> list[Question]:
    """The questions of a .csv, .tsv, .json or .jsonl file, or of a split of a data set that `datasets` loads by its id.

    Columns `question` and `answer` are needed; `id`, `domain` ("factual" or "math": how answers are graded), `level`,
    `subject` and `aliases` (other right answers, separated by "|") may be there, others are left out. `domain` is that of rows
    that name none; `name` what the set is called in records and figures (the file's own name by default).

    Raises FileNotFoundError for a file that is not there, and ValueError, naming the row (the first one is 1), for what
    cannot be asked or graded.
    """
    name = name or Path(source).stem
    table = _table(source, split)
    found = table.rename(columns={c: c.strip().lower() for c in map(str, table.columns)})
    for needed in NEEDED:
        if needed not in found.columns:
            near = difflib.get_close_matches(needed, map(str, found.columns), n=1, cutoff=0.5)
            hint = f"rename the column {near[0]!r}" if near else f"its columns are {', '.join(map(str, found.columns))}"
            raise ValueError(f"{source} has no column {needed!r}, expected {' and '.join(NEEDED)}; {hint}")
    if found.empty:
        raise ValueError(f"{source} has no rows, expected one or more questions")
    made = [_question(source, number, row, domain, name) for number, row in enumerate(found.to_dict("records"), 1)]
    for what, values in (("id", [q.id for q in made]), ("question", [q.text for q in made])):
        seen: dict[str, int] = {}
        for number, value in enumerate(values, 1):
            if value in seen:
                raise ValueError(f"{source}, rows {seen[value]} and {number} have the same {what} {value[:60]!r}, expected it "
                                 "once; a question that is trained on and tested on proves nothing")  # fmt: skip
            seen[value] = number
    return made


def divide(found: Sequence[Question], test: int, seed: int = 42) -> tuple[list[Question], list[Question]]:
    """Questions to train on and `test` questions to test on, drawn at random; no question is in both.

    Raises ValueError unless at least one is left to train on.
    """
    if not 0 < test < len(found):
        raise ValueError(f"test is {test}, expected 1 to {len(found) - 1} of the {len(found)} questions")
    drawn = set(np.random.default_rng(seed).permutation(len(found))[:test].tolist())
    return ([replace(q, split="train") for k, q in enumerate(found) if k not in drawn],
            [replace(q, split="test") for k, q in enumerate(found) if k in drawn])  # fmt: skip


def _table(source: str | Path, split: str) -> pd.DataFrame:
    file = Path(source)
    if file.suffix.lower() in READERS:
        if not file.exists():
            raise FileNotFoundError(f"{file} is not there, expected a file of questions; the folder is {Path.cwd()}")
        try:
            return READERS[file.suffix.lower()](file)
        except (ValueError, UnicodeDecodeError) as error:  # what pandas raises for files of another form
            raise ValueError(f"{file} cannot be read as {file.suffix[1:]} ({str(error)[:200]}); is it UTF-8, one row a question?") from None
    if file.is_file():
        raise ValueError(f"{file} ends in {file.suffix!r}, expected {', '.join(READERS)}, or the id of a data set")
    from datasets import load_dataset

    return load_dataset(str(source), split=split).to_pandas()


def _question(source: str | Path, number: int, row: dict, domain: str, name: str) -> Question:
    at = {key: _text(row.get(key)) for key in (*NEEDED, *OPTIONAL)}
    for needed in NEEDED:
        if not at[needed]:
            raise ValueError(f"{source}, row {number}: {needed!r} is empty, expected some text; fill it or delete the row")
    kind = at["domain"] or domain
    if kind not in ("factual", "math"):
        raise ValueError(f"{source}, row {number}: domain is {kind!r}, expected 'factual' or 'math', how its answer is graded")
    aliases = tuple(alias.strip() for alias in at["aliases"].split("|") if alias.strip())
    return Question(at["id"] or f"{name}-{number - 1:04d}", name, at["question"], at["answer"], kind, at["level"], at["subject"],
                    aliases=aliases)  # fmt: skip


def _text(value: object) -> str:
    """A cell as text; lists of a data set as their parts, numbers as they are written."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, list | tuple | np.ndarray):
        return "|".join(map(_text, value))
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
