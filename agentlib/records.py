"""Runs on disk: one folder per configuration, one JSON line per case, resumable; and JSON files in
general.
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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

log = logging.getLogger(__name__)


def digest(configuration: Mapping[str, Any]) -> str:
    """Ten hex digits that name a configuration (SHA-256 of its canonical JSON)."""
    text = json.dumps(configuration, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def lock(folder: Path) -> IO:
    """Make a folder if it is not there and reserve it for this process, until the file returned is
    closed.

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
            f"run folder {folder} is in use by another process; wait for it, or stop it, then start"
            " again"
        ) from None
    return held


class Run:
    """The folder `root/<name>-<hash of configuration>` with `config.json` and `records.jsonl`.

    Use it as a context manager to append; a second process that opens the same run to append is
    refused. Reading needs no lock. A case is a dict with an `id`; a case with an `error` is not
    finished, and a resumed run tries it again. `time.jsonl` records how long it was open each time,
    and on which machine.
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
                repair_last_line(file)
            self._stream = stack.enter_context(open(self.file, "ab", buffering=0))
            self._open = stack.pop_all()  # what fails before this lets the lock go
        self._opened, self._cases = time.monotonic(), 0
        return self

    def __exit__(self, *_: object) -> None:
        self._stream = None
        with self._open:
            if self._cases:
                spent = {
                    "cases": self._cases,
                    "seconds": round(time.monotonic() - self._opened, 1),
                    "machine": machine(),
                }
                with open(self.times, "a", encoding="utf-8") as stream:
                    stream.write(json.dumps(spent) + "\n")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one case and flush it to the disk before returning; OSError, and nothing of it
        written, if it is full.
        """
        line = (_dumps(record) + "\n").encode("utf-8")
        whole = os.fstat(self._stream.fileno()).st_size
        try:
            while line:
                line = line[self._stream.write(line) :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            self._stream.truncate(whole)
            raise OSError(
                error.errno,
                f"{error.strerror} for case {record.get('id')!r}: free some disk space, then"
                " resume",
                str(self.file),
            ) from error
        self._cases += not record.get("error")

    def finished(self) -> dict[str, dict]:
        """The finished cases by id, the last of each id; cases with an error are not among them."""
        return (
            {r["id"]: r for r in read(self.file) if not r.get("error")}
            if self.file.exists()
            else {}
        )

    def todo(self, items: Iterable[Any], key: str = "id") -> list[Any]:
        """Those of `items` (objects with an attribute `key`) that have no finished case yet."""
        done = self.finished()
        return [item for item in items if getattr(item, key) not in done]


def machine() -> str:
    """What the speed of this machine depends on, as far as the system tells: "2 cores of AMD EPYC
    with native bf16, NVIDIA H100".
    """
    info, cards = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")
    told = (
        [line.partition(":") for line in info.read_text(encoding="utf-8").splitlines()]
        if info.exists()
        else []
    )
    names = [value.strip() for key, _, value in told if key.strip() == "model name"]
    flags = {flag for key, _, value in told if key.strip() == "flags" for flag in value.split()}
    gpus = [
        line.partition(":")[2].strip()
        for file in sorted(cards.glob("*/information"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("Model:")
    ]
    native = " with native bf16" if flags & {"avx512_bf16", "amx_bf16"} else ""
    processor = names[0] if names else platform.processor() or platform.machine()
    return ", ".join([f"{os.cpu_count()} cores of {processor}{native}", *gpus])


def repair_last_line(file: Path) -> None:
    """Cut a last line that a killed process left half written, so that the next one starts on a
    line of its own; a complete one only gets its line end.
    """
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
            log.warning(
                "%s: dropped a torn last line of %d bytes; its case will be run again",
                file,
                len(content) - keep,
            )
            stream.truncate(keep)


def read(file: Path) -> Iterator[dict]:
    """Records of a JSON-lines file that this project appends to, in order.

    Raises FileNotFoundError if there is none and ValueError naming the line if one cannot be read;
    a last line without a line end that cannot be read is a torn write and is left out.
    """
    if not Path(file).exists():
        raise FileNotFoundError(
            f"records file {file} is missing; run the notebook that makes it first"
        )
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
    """The bytes of a file that may be packed with gzip. Raises ValueError for one that was packed
    and is broken.
    """
    with open(file, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        try:
            yield gzip.GzipFile(fileobj=stream) if packed else stream
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{file} is no whole gzip file ({error}); fetch it again") from None


def read_rows(file: Path) -> Iterator[dict]:
    """Objects of a JSON file that somebody else made: one a line or a list of them, packed with
    gzip or not.

    A byte order mark, empty lines and a last line without its end do no harm; half a surrogate pair
    becomes a question mark. Raises OSError for a file that cannot be opened and ValueError, naming
    the line or the entry, for what is no such file.
    """
    with unpacked(file) as stream:
        lines = (
            (n, line) for n, line in enumerate(stream, 1) if line.strip(b"\xef\xbb\xbf \t\r\n")
        )
        first = True
        for number, content in lines:
            try:
                record = _record(file, number, content)
            except ValueError:
                if not first:
                    raise
                # a list, or one value over many lines
                yield from _entries(file, content + stream.read())
                return
            yield replace_surrogates(record)
            first = False


def _entries(file: Path, content: bytes) -> Iterator[dict]:
    """The objects of a file that is one JSON value."""
    value = _parsed(file, content)
    for number, entry in enumerate(value if isinstance(value, list) else [value], 1):
        if not isinstance(entry, dict):
            raise ValueError(
                f"{file} entry {number} is {type(entry).__name__}, expected a JSON object"
            )
        yield replace_surrogates(entry)


def _record(file: Path, number: int, content: bytes) -> dict:
    """One line's object; ValueError, naming the line, if it is none."""
    record = _parsed(f"{file} line {number}", content)
    if not isinstance(record, dict):
        raise ValueError(f"{file} line {number} is {type(record).__name__}, expected a JSON object")
    return record


def _parsed(where: Any, content: bytes) -> Any:
    try:
        return json.loads(
            content.decode("utf-8-sig", errors="surrogatepass"), parse_constant=lambda name: None
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 ({error.reason}); delete or correct it") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(
            f"{where} is not JSON ({error.msg} at {line}column {error.colno}); delete or correct it"
        ) from None
    # a number of thousands of digits, a thousand lists in each other
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} cannot be read ({error}); delete or correct it") from None


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
    """Read a JSON file. Raises FileNotFoundError, or ValueError naming the file when it is not
    JSON.
    """
    return _parsed(file, Path(file).read_bytes())


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole JSON-lines file at once, so that a reader never sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    with open(part, "w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(_dumps(row) + "\n")
    part.replace(file)


def replace_surrogates(value: Any) -> Any:
    """Text, or plain lists and dicts of text, that can be encoded as UTF-8: halves of a surrogate
    pair that belong together are joined, one without its other half becomes a question mark; all
    else stays as it is.

    Such halves come from JSON (`"\\ud83d"`), from models whose text was cut inside a character, and
    from users' files.
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


def slug(text: str) -> str:
    """A text as a file name: lower case, words joined by dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
