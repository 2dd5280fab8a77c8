"""What an action says of itself: its code split up, its value and answer made plain, its errors.

It makes the texts that a language model reads about its own code, and runs inside the sandbox.
"""

import ast
import dataclasses
import datetime
import enum
import json
import linecache
import numbers
import socket
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence, Set, ValuesView
from errno import EACCES, EDQUOT, EFBIG, ENETUNREACH, ENOMEM, ENOSPC, EPERM, EROFS
from typing import Any

MAX_VALUE_CHARACTERS = 2_000
MAX_ANSWER_CHARACTERS = 200_000
MAX_ERROR_CHARACTERS = 1_000
MAX_LINE_CHARACTERS = 200
MAX_FRAMES = 4  # of an error's traceback
SOURCE = "<action "  # the name of an action's source begins with this
MAX_DEPTH = 16  # of values within values
# Left out of messages, so that an error reads the same on all machines.
_MODULE_FOLDERS = sorted({f"{place}/" for place in sys.path if place}, key=len, reverse=True)


def compile_code(code: str, source: str) -> tuple[types.CodeType, types.CodeType | None]:
    """Compile an action: its statements, and separately the last one if it is an expression.

    Raises SyntaxError, ValueError, RecursionError or MemoryError.
    """
    tree = ast.parse(code, source)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = compile(ast.Expression(tree.body.pop().value), source, "eval", dont_inherit=True)
    return compile(tree, source, "exec", dont_inherit=True), last


def format_value(value: Any) -> str:
    """The text of a last expression's value: its repr, shortened; "" for None."""
    text = "" if value is None else repr(value)
    if len(text) <= MAX_VALUE_CHARACTERS:
        return text
    return f"{text[:MAX_VALUE_CHARACTERS]}... ({len(text)} characters)"


def to_plain(value: Any, other: Callable[[Any], Any] | None = None, depth: int = 0) -> Any:
    """Convert a value to JSON values.

    Numbers become ints and floats where that loses nothing, else text; sets, ranges, views,
    iterators, arrays, tables and dataclasses become lists and dicts; dates become text. Anything
    else becomes what `other` returns for it, or its text without `other`. Iterators are consumed.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, numbers.Rational):
        return int(value) if value == int(value) and int(value).bit_length() < 1024 else str(value)
    if isinstance(value, numbers.Real):
        return float(value) if float(value) == value or value != value else str(value)
    content = _unwrap(value) if depth < MAX_DEPTH else value
    if isinstance(content, dict):
        return {_plain_key(key): to_plain(item, other, depth + 1) for key, item in content.items()}
    if isinstance(content, list):
        return [to_plain(item, other, depth + 1) for item in content]
    if content is not value:
        return to_plain(content, other, depth + 1)
    has_text = (numbers.Number, datetime.date, datetime.time, datetime.timedelta)
    if other and not isinstance(value, has_text):
        return other(value)
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)


def _plain_key(key: Any) -> str:
    return str(key if isinstance(key, tuple) else to_plain(key))


def _unwrap(value: Any) -> Any:
    """The contents of a value as a dict or a list, or a simpler value; else the value itself."""
    numpy, pandas, sympy = (sys.modules.get(name) for name in ("numpy", "pandas", "sympy"))
    if hasattr(pandas, "DataFrame"):  # not while it is still being imported
        if isinstance(value, (pandas.DataFrame, pandas.Series)):
            return _unwrap_table(value, pandas)
        if value is pandas.NaT or value is pandas.NA:
            return None
    if hasattr(numpy, "ndarray") and isinstance(value, (numpy.ndarray, numpy.generic)):
        # For dates, tolist alone would give nanoseconds.
        return (value.astype(str) if value.dtype.kind in "mM" else value).tolist()
    if hasattr(sympy, "FiniteSet") and isinstance(value, (sympy.Tuple, sympy.FiniteSet)):
        return list(value.args)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        try:
            return sorted(value)  # equal sets may iterate in different orders
        except TypeError:
            return sorted(value, key=repr)
    if isinstance(value, (type, bytes, bytearray)):
        return value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(type(value), "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, (Sequence, Set, ValuesView, Iterator)) else value


def _unwrap_table(value: Any, pandas: Any) -> Any:
    """A table as a list of rows (dicts); a column as a list, or a dict if its index says more."""
    index = value.index
    counts = index.nlevels == 1 and index.name is None
    counts = counts and index.inferred_type in ("integer", "empty")
    if isinstance(value, pandas.DataFrame):
        return (value if counts else value.reset_index(allow_duplicates=True)).to_dict("records")
    return value.tolist() if counts else dict(zip(index.tolist(), value.tolist(), strict=True))


def truncate_answer(answer: Any) -> Any:
    """The answer, or the beginning of its text if that is too long."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return answer if len(text) <= MAX_ANSWER_CHARACTERS else text[:MAX_ANSWER_CHARACTERS]


def classify_error(error: BaseException) -> str:
    """The kind of failure: "memory", "forbidden" (the isolation refused something) or "execution".

    The errors that led to this one are looked at too.
    """
    cause: Any = error
    for _ in range(8):
        if not isinstance(cause, BaseException):
            break
        code = cause.errno if isinstance(cause, OSError) else None
        if isinstance(cause, MemoryError) or code in (ENOMEM, EFBIG, ENOSPC, EDQUOT):
            return "memory"
        if code in (EACCES, EPERM, EROFS, ENETUNREACH) or isinstance(cause, socket.gaierror):
            return "forbidden"
        reason = getattr(cause, "reason", None)
        if not isinstance(reason, BaseException):
            reason = cause.__cause__ or cause.__context__
        cause = reason
    return "execution"


def format_error(error: BaseException) -> str:
    """An error for a language model: the lines of its own code that led there, type and message."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(SOURCE)
    ]
    if isinstance(error, SyntaxError) and not frames:
        line = _format_line(error.lineno, (error.text or "").strip())
        return f"{line}\n{type(error).__name__}: {_shorten(str(error.msg))}"
    lines = [_format_line(f.lineno, f.line or "", f.name) for f in frames[-MAX_FRAMES:]]
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    return "\n".join([*lines, _shorten(message)])


def format_warning(
    message: Any, category: type[Warning], source: str, number: int, line: str | None = None
) -> str:
    """A warning for a language model: the line of its own code, if it is one, and the message.

    The arguments are those of `warnings.formatwarning`, which it replaces.
    """
    text = f"{category.__name__}: {_shorten(str(message))}\n"
    line = linecache.getline(source, number).strip() if source.startswith(SOURCE) else ""
    return f"{_format_line(number, line)}\n{text}" if line else text


def _format_line(number: int | None, line: str, function: str = "<module>") -> str:
    where = "" if function == "<module>" else f", in {function[:MAX_LINE_CHARACTERS]}"
    return f"line {number}{where}: {line[:MAX_LINE_CHARACTERS]}"


def _shorten(text: str) -> str:
    """A message without the folders of this machine, and not too long."""
    for folder in _MODULE_FOLDERS:
        text = text.replace(folder, "")
    return text if len(text) <= MAX_ERROR_CHARACTERS else f"{text[:MAX_ERROR_CHARACTERS]}..."
