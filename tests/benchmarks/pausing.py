"""What it is worth that the last quarter of a batch pauses: an agent over many questions, with and
without, in turns.

An untrained 0.5B student writes turns of very unlike lengths. `make bench` appends the figures to
`tests/benchmarks/pausing.jsonl`.
"""

import argparse
import statistics
import time

import common

from agentlib import benchmarks, config
from agentlib.agent import Agent
from agentlib.models import LocalModel
from agentlib.sandbox import Sandbox

STUDENT, ROUNDS, ASKED, BATCH = "Qwen2.5-Coder-0.5B-Instruct", 3, 48, 24


def measure(model: LocalModel, box: Sandbox, asked: list, pause: bool) -> tuple[float, int]:
    """Seconds of the whole and tokens that were sampled, with nothing kept from before."""
    model.forget()
    model.can_pause = pause
    began = time.perf_counter()
    agent = Agent(model, box, style="teacher", max_steps=4, step_tokens=256, batch=BATCH)
    tokens = sum(trajectory.completion_tokens for trajectory in agent.run(asked))
    return time.perf_counter() - began, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--questions", type=int, default=ASKED)
    chosen = parser.parse_args()
    cfg = config.load("laptop")
    asked = benchmarks.load("teaching-math", chosen.questions)
    model = LocalModel(STUDENT, max_context=cfg.context_tokens)
    seconds: dict[str, list[float]] = {"together": [], "pausing": []}
    sampled: dict[str, int] = {}
    with Sandbox(tools={}) as box:
        for _ in range(chosen.rounds):
            for name in seconds:
                spent, sampled[name] = measure(model, box, asked, name == "pausing")
                seconds[name].append(round(spent, 1))
                print(f"{name:10} {spent:7.1f} s, {sampled[name]} tokens", flush=True)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    common.record(
        __file__,
        {name: {"seconds": medians[name], "tokens": sampled[name]} for name in seconds},
        {
            "all wait for the last / the last quarter pauses": medians["together"]
            / medians["pausing"]
        },
        ("torch", "transformers"),
        chosen.rounds,
        student=STUDENT,
        questions=len(asked),
        batch=BATCH,
        precision=model.precision,
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
