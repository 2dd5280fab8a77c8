"""What running an action costs: this sandbox beside smolagents' LocalPythonExecutor and a Jupyter
kernel.

`make bench` runs it in a minute or two on an idle machine: every contender in this one run, in
turns, medians of 15. It prints a table and appends the figures to `tests/benchmarks/sandbox.jsonl`.
"""

import argparse
import statistics
import warnings

import common
import pandas as pd
from common import seconds
from jupyter_client.manager import start_new_kernel
from smolagents import LocalPythonExecutor

from agentlib.sandbox import Sandbox

LOOP = "total = 0\nfor k in range({steps}):\n    total += k * k % 7\ntotal"
# of the tight loop; smolagents is timed on a tenth, since it takes as long as ten million here
STEPS = 300_000
ROUNDS = 15
QUIET = ["--log-level=ERROR"]


class Ours:
    """One session of our sandbox on one backend."""

    def __init__(self, backend: str):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that `limits` isolates less is what is measured here
            self.box = Sandbox(backend=backend)
        self.session = self.box.session()
        self.run("x = 1")

    def run(self, code: str) -> None:
        outcome = self.session.run(code)
        if outcome.failure:
            raise RuntimeError(outcome.failure)

    def candidates(self, code: str, count: int) -> None:
        outcomes = self.session.run_candidates([code] * count)
        self.session.commit(outcomes[0])

    def start(self) -> None:
        with self.box.session() as fresh:
            fresh.run("1")

    def close(self) -> None:
        self.box.close()


class Smolagents:
    """smolagents' interpreter of syntax trees, in this process. It has no snapshots: candidates
    run one after another."""

    def __init__(self):
        self.executor = LocalPythonExecutor([], max_print_outputs_length=10_000)
        self.start()

    def start(self) -> None:
        self.executor = LocalPythonExecutor([])
        self.executor.send_tools({})
        self.executor("x = 1")

    def run(self, code: str) -> None:
        self.executor(code)

    def candidates(self, code: str, count: int) -> None:
        for _ in range(count):
            self.executor(code)

    def close(self) -> None:
        pass


class Jupyter:
    """An IPython kernel, spoken to over its sockets. It has no snapshots either."""

    def __init__(self):
        self.manager, self.client = start_new_kernel(extra_arguments=QUIET)
        self.run("x = 1")

    def run(self, code: str) -> None:
        reply = self.client.execute_interactive(
            code, store_history=False, output_hook=lambda _: None, timeout=60
        )
        if reply["content"]["status"] != "ok":
            raise RuntimeError(reply["content"])

    def candidates(self, code: str, count: int) -> None:
        for _ in range(count):
            self.run(code)

    def start(self) -> None:
        manager, client = start_new_kernel(extra_arguments=QUIET)
        client.execute_interactive("1", output_hook=lambda _: None, timeout=60)
        client.stop_channels()
        manager.shutdown_kernel(now=True)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    contenders = {"agentlib sandlock": Ours("sandlock")}
    try:
        contenders["agentlib bwrap"] = Ours("bwrap")
    except RuntimeError as error:
        print(f"without bwrap, which does not work here: {error}")
    contenders |= {
        "agentlib limits": Ours("limits"),
        "smolagents": Smolagents(),
        "Jupyter kernel": Jupyter(),
    }
    times: dict[str, dict[str, list[float]]] = {name: {} for name in contenders}
    work = {
        "trivial action, ms": (rounds, lambda c, name: 1e3 * seconds(lambda: c.run("x + 1"))),
        "8 candidates, ms": (
            rounds,
            lambda c, name: 1e3 * seconds(lambda: c.candidates("x + 1", 8)),
        ),
        "loop, million steps/s": (5, lambda c, name: loop(c, name)),
        "start of a session, ms": (5, lambda c, name: 1e3 * seconds(c.start)),
    }
    for what, (count, measure) in work.items():
        for number in range(count + 1):  # in turns, the first round only to warm up
            for name, contender in contenders.items():
                value = measure(contender, name)
                if number:
                    times[name].setdefault(what, []).append(value)
    for contender in contenders.values():
        contender.close()
    table = pd.DataFrame(
        {name: {what: statistics.median(v) for what, v in of.items()} for name, of in times.items()}
    ).T
    speed = table["loop, million steps/s"]
    ratios = {"steps/s, ours to smolagents": speed["agentlib sandlock"] / speed["smolagents"]}
    common.record(
        __file__,
        table.T.to_dict(),
        ratios,
        ("smolagents", "ipykernel", "sandlock", "numpy", "sympy"),
        rounds,
    )


def loop(contender, name: str) -> float:
    """Million steps per second."""
    steps = STEPS // 10 if name == "smolagents" else STEPS
    return steps / 1e6 / seconds(lambda: contender.run(LOOP.format(steps=steps)))


if __name__ == "__main__":
    main()
