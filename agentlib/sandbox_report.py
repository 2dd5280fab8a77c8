"""What an action says of itself: its code taken apart, its value and answer as plain values, its failure in words.

Owns the texts that a language model reads of its own code. Knows nothing of processes or messages. It runs inside the
sandbox.
"""

import ast
import json
import socket
import sys
import traceback
import types
from errno import EACCES, EDQUOT, EFBIG, ENETUNREACH, ENOMEM, ENOSPC, EPERM, EROFS
from typing import Any

VALUE_CHARACTERS = 2_000
ANSWER_CHARACTERS = 200_000
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


def plain(value: Any, depth: int = 0) -> Any:
    """An answer as JSON values: numbers, text, lists and dicts stay, numpy becomes Python, all else becomes text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value) if value.bit_length() < 1024 else str(value)
    if isinstance(value, float):
        return float(value)
    if depth < 16:
        if isinstance(value, (list, tuple)):
            return [plain(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {str(key): plain(item, depth + 1) for key, item in value.items()}
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            return plain(value.tolist(), depth + 1)
    return str(value)


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
        return f"line {error.lineno}: {(error.text or '').strip()[:200]}\n{type(error).__name__}: {error.msg}"
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    for place in _PLACES:
        message = message.replace(place, "")
    lines = [
        f"line {step.lineno}{'' if step.name == '<module>' else f', in {step.name}'}: {(step.line or '')[:200]}"
        for step in steps[-frames_shown:]
    ]
    return "\n".join([*lines, message if len(message) <= 1000 else f"{message[:1000]}..."])
