"""Which sandbox backends isolate on this machine: the first that a sandbox takes by itself, and
the second."""

import functools
import warnings

import pytest

from agentlib.sandbox import Sandbox

ISOLATING = {"sandlock", "bwrap"}
# What the quick tests run: the first. The second is another outer wall around the same inner ones.
BACKENDS = ("first", pytest.param("second", marks=pytest.mark.full))


@functools.cache
def first() -> str:
    """The backend that a sandbox takes; skips the test where none isolates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Sandbox() as box:
            name = box.protection.backend
    if name not in ISOLATING:
        pytest.skip(
            f"no sandbox backend isolates on this machine ({name} is left): install bubblewrap or"
            " sandlock"
        )
    return name


@functools.cache
def second() -> str:
    """The other one; skips the test where it does not work."""
    (name,) = ISOLATING - {first()}
    try:
        with Sandbox(backend=name):
            return name
    except RuntimeError as error:
        pytest.skip(f"the sandbox's second backend does not work on this machine: {error}")
