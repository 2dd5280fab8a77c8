"""`python -m agentlib doctor`: one report on this machine and on what a preset needs of it, to read
first when something does not work and to paste into an issue.

Versions, hardware, disk, caches and network are looked up; the preset's needs are those of
`preflight`; `probes` says what was tried out.
"""

import argparse
import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from agentlib import __version__, config, records
from agentlib.runner import downloads, probes
from agentlib.runner.probes import Line, guarded

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "faiss", "jupyterlab", "papermill")
MEMORY = 5e9  # bytes; the largest notebook at `smoke` in 32 bits takes 4.8 GB


def versions(cfg: config.Config) -> Iterator[Line]:
    """Python, the system, this package and those under it, against the ranges that it declares."""
    from packaging.requirements import Requirement

    yield Line("python", f"{platform.python_version()} at {sys.executable}")
    yield Line("system", platform.platform())
    try:
        declared = importlib.metadata.requires("agentlib") or []
        yield Line("agentlib", f"{__version__} in {Path(__file__).parents[1]}")
    except importlib.metadata.PackageNotFoundError:
        declared, found = [], f"{__version__} in {Path(__file__).parents[1]}, not installed"
        yield Line("agentlib", found, "warning", "pip install . so that versions can be checked")
    ranges = {r.name: r.specifier for r in map(Requirement, declared)}
    unused = set() if "qlora" in (cfg.tuning, *cfg.sweep_tunings) else {"bitsandbytes"}
    unused |= {"faiss"} if cfg.retriever == "bm25" or cfg.retriever_url else set()
    for name in PACKAGES:
        installed = [n for n in (name, f"{name}-gpu", f"{name}-cpu") if _version(n)]
        needed = name not in {*unused, "jupyterlab"}
        if not installed:
            state = "missing" if needed else "warning"
            yield Line(
                name, "not installed", state, "run make .venv/ready, or pip install .", needed
            )
            continue
        found = _version(installed[0])
        allowed = ranges.get(installed[0])
        outside = allowed is not None and not allowed.contains(found, prereleases=True)
        value = f"{found}, expected {allowed}" if outside else found
        todo = f"pip install '{installed[0]}{allowed}'"
        yield Line(name, value, "warning" if outside else "ok", todo)


def _version(package: str) -> str:
    """Its installed version, "" without one."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def machine(cfg: config.Config) -> Iterator[Line]:
    """Cores, the precision that they compute in, and memory."""
    from agentlib.models import resolve_precision

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    speed = f"precision 'auto' is {resolve_precision('auto', 'cpu')} on them"
    yield Line("cores", f"{records.machine()}; {allowed} may be used; {speed}")
    total, free = _memory()
    yield Line(
        "memory",
        f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB of it available",
        "ok" if free >= MEMORY else "warning",
        f"close other programs: a notebook takes up to {MEMORY / 1e9:.0f} GB at smoke",
    )


def _memory() -> tuple[float, float]:
    """Bytes in all, and those that a new process can have, within a container's limit."""
    total = free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if (info := Path("/proc/meminfo")).exists():
        free = 1024 * int(re.search(r"MemAvailable:\s+(\d+)", info.read_text())[1])
    limit, used = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current"))
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        total = min(total, int(most))
        free = min(free, int(most) - int(used.read_text()))
    return total, free


def gpus(cfg: config.Config) -> Iterator[Line]:
    """The GPUs, and which students fit the smallest: the preset's, and the paper's."""
    import torch

    from agentlib.runner import fits, preflight

    cards = preflight.gpu_memory()
    names = [torch.cuda.get_device_name(k) for k in range(len(cards))]
    each = ", ".join(f"{n} with {b / 1e9:.0f} GB" for n, b in zip(names, cards, strict=True))
    yield Line("GPU", each or "none")
    for student in dict.fromkeys([*cfg.students, *config.PAPER.students]):
        own = cfg if student in cfg.students else config.PAPER
        peaks = fits.training_bytes(own, student), fits.inference_bytes(own, student)
        if None in peaks:
            yield Line(f"GPU for {student}", "its size is not known until it is in the cache")
            continue
        train, infer = map(fits.card_bytes, peaks)
        said = []
        for work, needed in ((f"training ({own.tuning})", train), ("evaluation", infer)):
            fit = f", which {'fits' if needed <= min(cards) else 'does not fit'}" if cards else ""
            said.append(f"{work} takes {needed / 1e9:.1f} GB{fit}")
        value = "; ".join(said)
        large = bool(cards) and max(train, infer) > min(cards)
        todo = "for training --set tuning=qlora, for evaluation a smaller --set batch_questions"
        yield Line(f"GPU for {student}", value, "warning" if large else "ok", todo, needed=False)


def needs(cfg: config.Config, down: set[str]) -> Iterator[Line]:
    """What `preflight` checks before a run; the needs that are not met are added to `down`."""
    from agentlib.runner import preflight

    for check in preflight.checks(cfg):
        if not check.met:
            down.add(check.need)
        value = check.found if check.met else f"{check.found}, expected {check.expected}"
        yield Line(check.need, value, "ok" if check.met else "missing", check.remedy)


def report(cfg: config.Config) -> Iterator[Line]:
    """All lines, as they are found; nothing is raised."""
    down: set[str] = set()
    why: dict[str, str] = {}
    yield from guarded("versions", partial(versions, cfg))
    yield from guarded("machine", partial(machine, cfg))
    yield from guarded("GPU", partial(gpus, cfg), needed=False)
    yield from guarded("network", partial(downloads.network, why), needed=False)
    yield from guarded("caches", partial(downloads.caches, cfg, why))
    yield from guarded("what the preset needs", partial(needs, cfg, down))
    yield from guarded("sandbox", partial(probes.sandbox, cfg))
    yield from guarded("tokenizer", partial(probes.tokens, cfg))
    yield from guarded("trained adapters", partial(probes.adapters, cfg))
    yield from guarded("servers", partial(probes.servers, cfg, down))


def text(line: Line) -> str:
    """A line to paste: `redacted`, with what to do on a second one where it is not ok."""
    todo = f"\n        to do: {line.todo}" if line.state != "ok" else ""
    return redacted(f"{line.state:<8}{line.what}: {line.value}{todo}")


def redacted(said: str) -> str:
    """A text without this user's home folder, and without passwords in addresses."""
    home = str(Path.home())
    said = said.replace(f"{home}/", "~/") if home != "/" else said
    return re.sub(r"//[^/@\s]+@", "//…@", said)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report: 0, or 1 if something that the preset needs is missing or does not work; 2,
    with a sentence, for settings that are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m agentlib doctor",
        description="Report on this machine, and on what a preset needs of it.",
    )
    parser.add_argument("--preset", default="smoke", help="smoke, laptop or paper")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="override one setting of the preset (may be repeated)",
    )
    asked = parser.parse_args(arguments)
    try:
        cfg = config.load(asked.preset, **dict(map(config.setting, asked.settings)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    began, found = time.monotonic(), []
    print(redacted(" ".join(["agentlib doctor, preset", cfg.preset, *asked.settings])))
    for line in report(cfg):
        found.append(line)
        print(text(line), flush=True)
    counts = {s: sum(x.state == s for x in found) for s in ("ok", "warning", "missing", "failed")}
    print(
        ", ".join(f"{n} {s}" for s, n in counts.items()),
        end=f"; {time.monotonic() - began:.0f} s\n",
    )
    return int(any(line.fatal for line in found))
