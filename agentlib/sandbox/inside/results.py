"""What an action says of itself: its code taken apart, its value and answer as plain values, its failure in words.

Owns the texts that a language model reads of its own code. Knows nothing of processes or messages. It runs inside the
sandbox.
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

VALUE_CHARACTERS = 2_000
ANSWER_CHARACTERS = 200_000
ERROR_CHARACTERS = 1_000
DEEPEST = 16  # values within values that are looked into
# Where modules lie on this machine: an error that names one reads alike on all machines.
_PLACES = sorted({f"{place}/" for place in sys.path if place}, key=len, reverse=True)


def compiled(code: str, source: str) -> tuple[types.CodeType, types.CodeType | None]:
    """The statements, and the last one apart if it is an expression."""
    tree = ast.parse(code, source)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = compile(ast.Expression(tree.body.pop().value), source, "eval", dont_inherit=True)
    return compile(tree, source, "exec", dont_inherit=True), last


def shown(value: Any) -> str:
    """The text of a last expression's value: its repr, shortened; "" for None."""
    text = "" if value is None else repr(value)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}... ({len(text)} characters)"


def plain(value: Any, other: Callable[[Any], Any] | None = None, depth: int = 0) -> Any:
    """A value as JSON values: what a reader takes it for.

    Numbers become ints and floats where that is all of them, else their digits; sets, ranges, views, iterators, arrays,
    tables and dataclasses become lists and dicts; dates become text. All else becomes what `other` makes of it, which is
    its text if there is no `other`.
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
    content = _content(value) if depth < DEEPEST else value
    if isinstance(content, dict):
        return {_key(key): plain(item, other, depth + 1) for key, item in content.items()}
    if isinstance(content, list):
        return [plain(item, other, depth + 1) for item in content]
    if content is not value:
        return plain(content, other, depth + 1)
    if other and not isinstance(value, (numbers.Number, datetime.date, datetime.time, datetime.timedelta)):
        return other(value)
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)


def _key(key: Any) -> str:
    return str(key if isinstance(key, tuple) else plain(key))


def _content(value: Any) -> Any:
    """What is in a value, as a dict or a list, or a simpler value; the value itself where there is neither."""
    numpy, pandas, sympy = (sys.modules.get(name) for name in ("numpy", "pandas", "sympy"))
    if hasattr(pandas, "DataFrame"):  # it is not if it is only just being imported
        if isinstance(value, (pandas.DataFrame, pandas.Series)):
            return _table(value, pandas)
        if value is pandas.NaT or value is pandas.NA:
            return None
    if hasattr(numpy, "ndarray") and isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind in "mM":
        return value.astype(str).tolist()  # tolist alone would give nanoseconds
    if hasattr(sympy, "FiniteSet") and isinstance(value, (sympy.Tuple, sympy.FiniteSet)):
        return list(value.args)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        try:
            return sorted(value)  # equal sets may hold their elements in different orders
        except TypeError:
            return sorted(value, key=repr)
    if isinstance(value, (type, bytes, bytearray)):
        return value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(type(value), "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, (Sequence, Set, ValuesView, Iterator)) else value


def _table(value: Any, pandas: Any) -> Any:
    """A column as a list, or a dict where its index has a meaning; a table as a list of rows, each a dict."""
    index = value.index
    counts = index.nlevels == 1 and index.name is None and index.inferred_type in ("integer", "empty")
    if isinstance(value, pandas.DataFrame):
        return (value if counts else value.reset_index(allow_duplicates=True)).to_dict("records")
    return value.tolist() if counts else dict(zip(index.tolist(), value.tolist(), strict=True))


def bounded(answer: Any) -> Any:
    """The answer, or the beginning of its text if it is too long to keep."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return answer if len(text) <= ANSWER_CHARACTERS else text[:ANSWER_CHARACTERS]


def kind_of(error: BaseException) -> str:
    """The kind of failure: memory, forbidden (the isolation refused, however wrapped) or execution."""
    seen = 0
    cause: Any = error
    while isinstance(cause, BaseException) and seen < 8:
        code = cause.errno if isinstance(cause, OSError) else None
        if isinstance(cause, MemoryError) or code in (ENOMEM, EFBIG, ENOSPC, EDQUOT):
            return "memory"
        if code in (EACCES, EPERM, EROFS, ENETUNREACH) or isinstance(cause, socket.gaierror):
            return "forbidden"
        reason = getattr(cause, "reason", None)
        cause = reason if isinstance(reason, BaseException) else cause.__cause__ or cause.__context__
        seen += 1
    return "execution"


def explained(error: BaseException, frames_shown: int = 4) -> str:
    """An error for a language model: the lines of its own code that led there, then type and message."""
    steps = [step for step in traceback.extract_tb(error.__traceback__) if step.filename.startswith("<action ")]
    if isinstance(error, SyntaxError) and not steps:
        return f"line {error.lineno}: {(error.text or '').strip()[:200]}\n{type(error).__name__}: {_message(str(error.msg))}"
    lines = [
        f"line {step.lineno}{'' if step.name == '<module>' else f', in {step.name[:200]}'}: {(step.line or '')[:200]}"
        for step in steps[-frames_shown:]
    ]
    return "\n".join([*lines, _message("".join(traceback.format_exception_only(type(error), error)).strip())])


def warned(message: Any, category: type[Warning], source: str, number: int, line: str | None = None) -> str:
    """A warning for a language model (as `warnings.formatwarning`): the line of its own code, if it is one, and no place."""
    line = linecache.getline(source, number).strip()[:200] if source.startswith("<action ") else ""
    return f"{f'line {number}: {line}{chr(10)}' if line else ''}{category.__name__}: {_message(str(message))}\n"


def _message(text: str) -> str:
    """Words of a library: without places of this machine, and not too many."""
    for place in _PLACES:
        text = text.replace(place, "")
    return text if len(text) <= ERROR_CHARACTERS else f"{text[:ERROR_CHARACTERS]}..."
