"""Runs on disk: one folder a configuration, one JSON line a case, and summaries that count honestly.

Owns the naming of run folders, appending, resuming, and the statistics of finished records. Knows
nothing of models or of what a case means.
"""

import contextlib
import fcntl
import gzip
import hashlib
import json
import logging
import os
import platform
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from scipy import stats

log = logging.getLogger(__name__)


def digest(configuration: Mapping[str, Any]) -> str:
    """Ten hex digits that name a configuration (SHA-256 of its canonical JSON)."""
    text = json.dumps(configuration, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def lock(folder: Path) -> IO:
    """Make a folder if it is not there and reserve it for this process, until the file returned is closed.

    Raises RuntimeError if another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = open(folder / "lock", "w")  # noqa: SIM115 (the caller closes it)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        if not isinstance(error, BlockingIOError):  # a network disk without locks, say
            raise
        raise RuntimeError(
            f"run folder {folder} is in use by another process; wait for it, or stop it, then start again"
        ) from None
    return held


class Run:
    """The folder `root/<name>-<hash of configuration>` with `config.json` and `records.jsonl`.

    Use it as a context manager to append; a second process that opens the same run to append is
    refused. Reading needs no lock. A case is a dict with an `id`; a case with an `error` is not
    finished, and a resumed run tries it again. `time.jsonl` tells the wall time of each time it was open, and on which machine.
    """

    def __init__(self, root: Path, name: str, configuration: Mapping[str, Any]):
        self.configuration = json.loads(json.dumps(configuration, default=str))
        self.folder = Path(root) / f"{name}-{digest(self.configuration)}"
        self.file, self.times = self.folder / "records.jsonl", self.folder / "time.jsonl"
        self.name = name
        self._stream = None

    def __enter__(self) -> "Run":
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock(self.folder))
            write_json(self.folder / "config.json", self.configuration)
            for file in (self.file, self.times):
                mend_last_line(file)
            self._stream = stack.enter_context(open(self.file, "ab", buffering=0))
            self._open = stack.pop_all()  # what fails before this lets the lock go
        self._opened, self._cases = time.monotonic(), 0
        return self

    def __exit__(self, *_: object) -> None:
        self._stream = None
        with self._open:
            if self._cases:
                spent = {"cases": self._cases, "seconds": round(time.monotonic() - self._opened, 1), "machine": machine()}
                with open(self.times, "a", encoding="utf-8") as stream:
                    stream.write(json.dumps(spent) + "\n")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one case and flush it to the disk before returning; OSError, and nothing of it written, if it is full."""
        line = (_dumps(record) + "\n").encode("utf-8")
        whole = os.fstat(self._stream.fileno()).st_size
        try:
            while line:
                line = line[self._stream.write(line) :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            self._stream.truncate(whole)
            raise OSError(
                error.errno, f"{error.strerror} for case {record.get('id')!r}: free some disk space, then resume", str(self.file)
            ) from error
        self._cases += not record.get("error")

    def finished(self) -> dict[str, dict]:
        """The finished cases by id, the last of each id; cases with an error are not among them."""
        return {r["id"]: r for r in read(self.file) if not r.get("error")} if self.file.exists() else {}

    def todo(self, items: Iterable[Any], key: str = "id") -> list[Any]:
        """Those of `items` (objects with an attribute `key`) that have no finished case yet."""
        done = self.finished()
        return [item for item in items if getattr(item, key) not in done]


def machine() -> str:
    """What the speed of this machine depends on, as far as the system tells: "2 cores of AMD EPYC with native bf16, NVIDIA H100"."""
    info, cards = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")
    told = [line.partition(":") for line in info.read_text(encoding="utf-8").splitlines()] if info.exists() else []
    names = [value.strip() for key, _, value in told if key.strip() == "model name"]
    flags = {flag for key, _, value in told if key.strip() == "flags" for flag in value.split()}
    gpus = [line.partition(":")[2].strip() for file in sorted(cards.glob("*/information"))
            for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("Model:")]  # fmt: skip
    native = " with native bf16" if flags & {"avx512_bf16", "amx_bf16"} else ""
    processor = names[0] if names else platform.processor() or platform.machine()
    return ", ".join([f"{os.cpu_count()} cores of {processor}{native}", *gpus])


def mend_last_line(file: Path) -> None:
    """Cut a last line that a killed process left half written, so that the next one does not go on in it; a whole one only gets
    its line end."""
    if not file.exists() or file.stat().st_size == 0:
        return
    with open(file, "rb+") as stream:
        content = stream.read()
        if content.endswith(b"\n"):
            return
        keep = content.rfind(b"\n") + 1
        try:
            _record(file, 0, content[keep:])
            stream.write(b"\n")
        except ValueError:
            log.warning("%s: dropped a torn last line of %d bytes; its case will be run again", file, len(content) - keep)
            stream.truncate(keep)


def read(file: Path) -> Iterator[dict]:
    """Records of a JSON-lines file that this project appends to, in order.

    Raises FileNotFoundError if there is none and ValueError naming the line if one cannot be read; a
    last line without a line end that cannot be read is a torn write and is left out.
    """
    if not Path(file).exists():
        raise FileNotFoundError(f"records file {file} is missing; run the notebook that makes it first")
    with open(file, "rb") as stream:
        for number, content in enumerate(stream, 1):
            if not content.strip():
                continue
            try:
                record = _record(file, number, content)
            except ValueError:
                if content.endswith(b"\n"):
                    raise
                log.warning("%s: left out a torn last line", file)
                return
            yield record


@contextlib.contextmanager
def unpacked(file: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file that may be packed with gzip. Raises ValueError for one that was packed and is broken."""
    with open(file, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        try:
            yield gzip.GzipFile(fileobj=stream) if packed else stream
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{file} is no whole gzip file ({error}); fetch it again") from None


def read_rows(file: Path) -> Iterator[dict]:
    """Objects of a JSON file that somebody else made: one a line or a list of them, packed with gzip or not.

    A byte order mark, empty lines and a last line without its end do no harm; half a surrogate pair becomes a question mark.
    Raises OSError for a file that cannot be opened and ValueError, naming the line or the entry, for what is no such file.
    """
    with unpacked(file) as stream:
        lines = ((n, line) for n, line in enumerate(stream, 1) if line.strip(b"\xef\xbb\xbf \t\r\n"))
        first = True
        for number, content in lines:
            try:
                record = _record(file, number, content)
            except ValueError:
                if not first:
                    raise
                yield from _entries(file, content + stream.read())  # a list, or one value over many lines
                return
            yield replace_surrogates(record)
            first = False


def _entries(file: Path, content: bytes) -> Iterator[dict]:
    """The objects of a file that is one JSON value."""
    value = _parsed(file, content)
    for number, entry in enumerate(value if isinstance(value, list) else [value], 1):
        if not isinstance(entry, dict):
            raise ValueError(f"{file} entry {number} is {type(entry).__name__}, expected a JSON object")
        yield replace_surrogates(entry)


def _record(file: Path, number: int, content: bytes) -> dict:
    """One line's object; ValueError, naming the line, if it is none."""
    record = _parsed(f"{file} line {number}", content)
    if not isinstance(record, dict):
        raise ValueError(f"{file} line {number} is {type(record).__name__}, expected a JSON object")
    return record


def _parsed(where: Any, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig", errors="surrogatepass"), parse_constant=lambda name: None)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 ({error.reason}); delete or mend it") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{where} is not JSON ({error.msg} at {line}column {error.colno}); delete or mend it") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand lists in each other
        raise ValueError(f"{where} cannot be read ({error}); delete or mend it") from None


def _dumps(value: Any, indent: int | None = None) -> str:
    """Strict JSON in UTF-8: NaN and infinities, which JSON has not, are null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=lambda name: None)
        text = json.dumps(finite, ensure_ascii=False, indent=indent)
    return replace_surrogates(text)


def write_json(file: Path, value: Any) -> None:
    """Write JSON so that a reader never sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(_dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(file)


def read_json(file: Path) -> Any:
    """Read a JSON file. Raises FileNotFoundError, or ValueError naming the file when it is not JSON."""
    try:
        return json.loads(Path(file).read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON ({error.msg} at line {error.lineno}); delete it and run again") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error.reason}); delete it and run again") from None


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole JSON-lines file at once, so that a reader never sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    with open(part, "w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(_dumps(row) + "\n")
    part.replace(file)


def replace_surrogates(value: Any) -> Any:
    """Text, or plain lists and dicts of text, that can be encoded as UTF-8: halves of a surrogate pair that belong together are
    joined, one without its other half becomes a question mark; all else stays as it is.

    Such halves come from JSON (`"\\ud83d"`), from models whose text was cut inside a character, and from users' files.
    """
    if isinstance(value, str):
        if value.isascii():
            return value
        joined = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return joined.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates(item) for key, item in value.items()}
    return value


def frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as a table, one row a case; errored cases have `correct` missing."""
    return pd.DataFrame(list(records))


def interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (fractions of 1); (nan, nan) for n = 0."""
    if n == 0:
        return (float("nan"), float("nan"))
    found = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return (float(found.low), float(found.high))


def summarise(cases: pd.DataFrame, by: Sequence[str], asked: int | Mapping | None = None) -> pd.DataFrame:
    """Accuracy per group: columns `by`, asked, answered, errors, correct, accuracy, low, high (fractions).

    `asked` is the number of questions a group was asked (an int, or a mapping from the group's key); without it, the
    distinct questions in the records. The accuracy's denominator is the questions asked, so a question that ended in an
    error, or has no line at all, counts against it and shows in `errors`. Raises ValueError for a group that holds several
    experiments, or answers to more questions than were asked.
    """
    rows = []
    for key, group in cases.groupby(list(by), sort=False, dropna=False):
        last = one_experiment(group)
        finished = last[last["correct"].notna()] if "correct" in last else last.iloc[:0].assign(correct=False)
        n = len(last) if asked is None else asked if isinstance(asked, int) else asked[key if len(by) > 1 else key[0]]
        if len(finished) > n:
            name = ", ".join(map(str, key))
            raise ValueError(f"group {name} has answers to {len(finished)} questions, expected at most the {n} asked; correct `asked`")
        right = int(finished["correct"].astype(bool).sum())
        low, high = interval(right, n)
        rows.append(
            dict(zip(by, key, strict=True))
            | {"asked": n, "answered": len(finished), "errors": n - len(finished), "correct": right}
            | {"accuracy": right / n if n else float("nan"), "low": low, "high": high}
        )
    return pd.DataFrame(rows)


def one_experiment(cases: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """The last case of each question of each group; a question is an id within a benchmark.

    Raises ValueError for a group of several models, methods or numbers of samples, or with one question answered under
    several temperatures, seeds or varied values: "the last" would then choose among experiments, and one number mix them.
    """
    question = [*by, *(name for name in ("benchmark", "id") if name in cases and name not in by)]
    for name in ("model", "method", "n", "temperature", "seed", "setting", "value"):
        if name not in cases or name in by or cases[name].nunique() < 2:
            continue
        group = list(by) if name in ("model", "method", "n") else question
        if not group or (cases.groupby(group, dropna=False)[name].nunique() > 1).any():
            values = ", ".join(map(str, cases[name].dropna().unique()))
            raise ValueError(f"the cases mix several values of {name} ({values}), expected one experiment; keep one, or group by {name}")
    return cases.drop_duplicates(question, keep="last")


def compare(a: pd.DataFrame, b: pd.DataFrame, resamples: int = 2000, seed: int = 0, *, ratio: float = 1.0,
            margin: float = 0.0) -> dict[str, float]:  # fmt: skip
    """Two methods on the same questions, paired by id and benchmark: the one interval that all paired comparisons use.
    Questions that either side has not finished are left out; n says how many were compared.

    Returns n, accuracy_a, accuracy_b, the difference b - ratio * a with a 95 % interval, the counts only one of them got
    right, and a two-sided p-value against `margin`: McNemar's exact test for ratio 1 and margin 0, else the bootstrap's. The
    interval is the percentile bootstrap over questions. Where all pairs are alike, all resamples are, and an interval of no
    width would claim certainty: there, a share of unseen questions (the upper Wilson limit of 0 in n) is taken to differ by
    as much as a question can.

    Raises ValueError when no question is shared, or when a side holds several experiments (`one_experiment`).
    """
    keys = ["benchmark", "id"]
    left, right = (one_experiment(side)[[*keys, "correct"]] for side in (a, b))
    both = left.merge(right, on=keys, suffixes=("_a", "_b")).dropna()
    if both.empty:
        raise ValueError("the two sets of records share no finished question; compare runs of the same benchmarks")
    x, y = both["correct_a"].astype(float).to_numpy(), both["correct_b"].astype(float).to_numpy()
    n, each = len(both), y - ratio * x
    difference = float(each.mean())
    if np.ptp(each) == 0:
        unseen = interval(0, n)[1]
        low, high = difference - unseen * (difference + ratio), difference + unseen * (1 - difference)
        room = 1 - difference if margin > difference else difference + ratio
        p = max(0.0, 1 - abs(margin - difference) / room) ** n if room else 1.0
    else:
        draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
        means = each[draws].mean(1)
        low, high = np.percentile(means, [2.5, 97.5])
        p = min(1.0, 2 * (1 + min((means <= margin).sum(), (means >= margin).sum())) / (1 + resamples))
    only_a, only_b = int(((x == 1) & (y == 0)).sum()), int(((x == 0) & (y == 1)).sum())
    if (ratio, margin) == (1.0, 0.0):
        p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {
        "n": n, "accuracy_a": float(x.mean()), "accuracy_b": float(y.mean()), "difference": difference,
        "low": float(low), "high": float(high), "only_a": only_a, "only_b": only_b, "p": float(p),
    }  # fmt: skip


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing all of them together (Holm 1979): compared with 0.05 they hold the chance of any false claim at 5 %."""
    order = np.argsort(p_values)
    stepped = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)))
    return [float(p) for p in stepped[np.argsort(order)]]


def slug(text: str) -> str:
    """A text as a file name: lower case, words joined by dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
