"""Which sandbox backends work on this machine: the first that a sandbox takes by itself, and the second."""

import functools

import pytest

from agentlib.sandbox import Sandbox

ISOLATING = {"sandlock", "bwrap"}
# What the quick tests run: the first. The second is the same walls behind another outer one.
BACKENDS = ("first", pytest.param("second", marks=pytest.mark.full))


@functools.cache
def first() -> str:
    """The backend that `Sandbox(strict=True)` takes; skips the test where there is none."""
    try:
        with Sandbox(strict=True) as box:
            return box.protection.backend
    except RuntimeError as error:
        pytest.skip(f"no sandbox backend isolates on this machine: {error}")


@functools.cache
def second() -> str:
    """The other one; skips the test where it does not work."""
    (name,) = ISOLATING - {first()}
    try:
        with Sandbox(strict=True, backend=name):
            return name
    except RuntimeError as error:
        pytest.skip(f"the sandbox backend {name} does not work on this machine: {error}")
