"""Three engines on a CPU: our decoding, transformers' `generate` and vLLM's build for CPUs.

The same weights in 32 bits, the same prompts as token ids, one answer a prompt (greedy) and four
(sampled). Each engine is a process of its own, and they are measured in turns while the others
wait. vLLM lives in an environment of its own, which `tests/vllm_environment.py` makes. Appends to
`tests/benchmarks/engines.jsonl`; for an idle machine.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
STUDENT, ROUNDS, ASKED, NEW = "SmolLM2-135M-Instruct", 5, 16, 64
WORK = {
    "greedy": {"n": 1, "temperature": 0.0},
    "n = 4": {"n": 4, "temperature": 0.4, "top_p": 0.8},  # §4.1
}
ENGINES = ("own", "transformers", "vllm")


def questions() -> list:
    """Prompts of students: of both kinds of the teaching set's test questions."""
    from agentlib import benchmarks, config, prompts

    cfg = config.load("smoke")
    each = ASKED // len(cfg.benchmarks)
    asked = [question for name in cfg.benchmarks for question in benchmarks.load(name, each)]
    return [
        [
            {"role": "system", "content": prompts.AGENT_STUDENT},
            {"role": "user", "content": question.text},
        ]
        for question in asked
    ]


def work(engine: str, asked: Path) -> None:
    """Answer each line of standard input, the name of a piece of work, with a line: its tokens and
    seconds. What libraries print goes to standard error."""
    from agentlib.models import open_model

    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    conversations = json.loads(asked.read_text(encoding="utf-8"))
    model = open_model(STUDENT, engine=engine, precision="fp32", max_context=2048)
    answers.write("ready\n")
    for line in sys.stdin:
        model.forget() if hasattr(model, "forget") else model._llm.reset_prefix_cache()
        started = time.perf_counter()
        found = model.generate(conversations, max_new_tokens=NEW, **WORK[line.strip()])
        seconds = time.perf_counter() - started
        tokens = sum(one.completion_tokens for samples in found for one in samples)
        answers.write(json.dumps([tokens, seconds]) + "\n")
    model.close()


class Worker:
    """One engine in a process of its own."""

    def __init__(self, engine: str, asked: Path):
        import vllm_environment

        python, environment = sys.executable, None
        if engine == "vllm":
            python, environment = vllm_environment.python(), vllm_environment.environment()
        self.process = subprocess.Popen(
            [str(python), __file__, "--worker", engine, "--asked", str(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.engine = engine
        self._line()

    def _line(self) -> str:
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"the process of engine {self.engine!r} ended, see its output above")
        return line

    def ask(self, name: str) -> float:
        """Tokens a second of one piece of work."""
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        tokens, seconds = json.loads(self._line())
        return tokens / seconds

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=120)


def main(rounds: int) -> None:
    import tempfile

    import common

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        asked = Path(folder) / "asked.json"
        asked.write_text(json.dumps(questions()), encoding="utf-8")
        workers = {}
        for engine in ENGINES:
            workers[engine] = Worker(engine, asked)
            stack.callback(workers[engine].close)
        found: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds + 1):  # the first warms up
            for name in WORK:
                for engine, worker in workers.items():
                    rate = worker.ask(name)
                    if number:
                        found.setdefault((engine, name), []).append(rate)
                        print(f"{engine:14} {name:8} {rate:8.1f} tokens/s", flush=True)
    rates = {key: statistics.median(values) for key, values in found.items()}
    medians = {f"{engine}, {name}": {"tokens/s": rate} for (engine, name), rate in rates.items()}
    ratios = {
        f"tokens/s, {name}, ours to {other}": rates["own", name] / rates[other, name]
        for name in WORK
        for other in ENGINES[1:]
    }
    common.record(
        __file__,
        medians,
        ratios,
        ("torch", "transformers"),
        rounds,
        student=STUDENT,
        precision="fp32",
        asked=ASKED,
        new_tokens=NEW,
        vllm=_vllm_version(),
    )


def _vllm_version() -> str:
    import vllm_environment

    return vllm_environment.VERSION


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--asked", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.asked)
    else:
        sys.path.insert(0, str(TESTS))
        main(given.rounds)
