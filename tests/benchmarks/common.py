"""What the benchmarks share: the record of one run, and the memory of one process."""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd


def machine() -> dict[str, Any]:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def record(
    file: str,
    medians: dict[str, dict],
    ratios: dict[str, float],
    versions: Sequence[str],
    rounds: int,
    **more: Any,
) -> None:
    """Print one run's table and ratios, and append them to the benchmark's own .jsonl."""
    print(pd.DataFrame(medians).T.round(2).to_string())
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    line = {
        "date": time.strftime("%Y-%m-%d"),
        **machine(),
        "rounds": rounds,
        "versions": {name: metadata.version(name) for name in versions},
        **more,
        "medians": medians,
        "ratios": ratios,
    }
    with open(Path(file).with_suffix(".jsonl"), "a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def seconds(work: Callable[[], Any]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


started = 0.0  # resident MB at the `start`


def start() -> None:
    """Let the peak of this process's resident memory start anew (Linux), from what it holds now."""
    global started
    Path("/proc/self/clear_refs").write_text("5")
    started = _status_mb("VmRSS")


def peak_mb() -> float:
    """The highest resident memory of this process since `start` above what it held then, in MB."""
    return _status_mb("VmHWM") - started


def _status_mb(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024 / 1e6
