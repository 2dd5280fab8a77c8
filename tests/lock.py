"""Write the three lock files from what is installed: `python tests/lock.py` after changing
pyproject.toml.

requirements.lock holds the core, requirements-test.lock what the extra `test` adds,
requirements-bench.lock what `bench` adds to both. Versions are those of this environment; build
tags such as +cpu are dropped, so that each machine gets its own build.
"""

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def closure(name: str, extras: frozenset[str], seen: dict[tuple, str]) -> dict[tuple, str]:
    """All distributions a requirement brings, by canonical name and extras."""
    key = (canonicalize_name(name), extras)
    if key in seen:
        return seen
    distribution = metadata.distribution(name)
    seen[key] = distribution.version.partition("+")[0]
    for line in distribution.requires or []:
        needed = Requirement(line)
        if needed.marker is None or any(
            needed.marker.evaluate({"extra": extra}) for extra in extras or {""}
        ):
            closure(needed.name, frozenset(needed.extras), seen)
    return seen


def pins(*extras: str) -> dict[str, str]:
    found = {}
    for (name, _), version in closure("agentlib", frozenset(extras), {}).items():
        found[name] = version
    found.pop("agentlib")
    return found


def only_on(name: str) -> str:
    """The platform marker of a direct requirement, if it has one."""
    for line in metadata.requires("agentlib") or []:
        needed = Requirement(line)
        if (
            canonicalize_name(needed.name) == name
            and needed.marker
            and "extra" not in str(needed.marker)
        ):
            return f" ; {needed.marker}"
    return ""


def main() -> None:
    core = pins() | {"setuptools": metadata.version("setuptools")}
    test = {name: version for name, version in pins("test").items() if name not in core}
    bench = {name: version for name, version in pins("bench").items() if name not in core | test}
    for file, found in (
        ("requirements.lock", core),
        ("requirements-test.lock", test),
        ("requirements-bench.lock", bench),
    ):
        lines = [f"{name}=={version}{only_on(name)}" for name, version in sorted(found.items())]
        head = (
            "# Written by tests/lock.py from pyproject.toml; the two commands of the README install"
            " from it.\n"
        )
        (ROOT / file).write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
