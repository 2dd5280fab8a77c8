"""What starting costs: importing the package, and the help of its command, neither of which may
load torch.

Medians of the rounds, each a process of its own. `make bench` appends the figures to
`tests/benchmarks/starting.jsonl`.
"""

import argparse
import statistics
import subprocess
import sys
import time

import common

ROUNDS = 9
WORK = {
    "python": ["-c", "pass"],
    "import agentlib": ["-c", "import agentlib, sys; assert 'torch' not in sys.modules"],
    "agentlib.run --help": ["-m", "agentlib", "run", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in WORK}
    for number in range(rounds + 1):
        for name, arguments in WORK.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            if number:
                times[name].append(time.perf_counter() - started)
    medians = {name: {"seconds": statistics.median(values)} for name, values in times.items()}
    ratios = {
        f"{name}, to python alone": medians[name]["seconds"] / medians["python"]["seconds"]
        for name in list(WORK)[1:]
    }
    common.record(__file__, medians, ratios, (), rounds)


if __name__ == "__main__":
    main()
