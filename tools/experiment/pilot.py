"""Compare prompts of the teacher on questions for development, all transcripts kept: `python
tools/experiment/pilot.py --help`.

The pairs compared are the two wordings of `agentlib.prompts`: a chain of thought by a plan and
worked examples against the plain request to reason step by step; the agent with three worked
examples against four. Only dev sets are asked. A run that
is interrupted resumes; more questions continue the same run.
"""

import argparse
import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence

import pandas as pd

from agentlib import benchmarks, cases, config, cot, filtering, records
from agentlib.agent import Agent, initial_messages
from agentlib.benchmarks import search, wiki
from agentlib.config import setting
from agentlib.figures import statistics
from agentlib.models import LanguageModel, in_process, server
from agentlib.models import open_model as open_engine
from agentlib.prompts import cot_turns
from agentlib.sandbox import Sandbox
from agentlib.tasks import Question

SETS = ("hotpotqa-dev", "math-hard-dev", "math-medium-dev")
# per question on two cores that multiply bf16, until a run has measured its own
SECONDS = {"cot": 5.0, "agent": 12.0}


@dataclasses.dataclass(frozen=True)
class Condition:
    """A way to ask: "cot" or "agent", in one of the wordings of `agentlib.prompts`."""

    method: str
    wording: str

    def words(self) -> list[list[dict]]:
        """What a model is given for a question of each kind, to tell runs with other words
        apart."""
        if self.method == "agent":
            return [initial_messages("?", "teacher", wording=self.wording)]
        return [
            cot_turns("?", domain, examples=True, wording=self.wording)
            for domain in ("factual", "math")
        ]


# names of recorded runs
CONDITIONS = {
    "cot-plan": Condition("cot", "plan"),
    "cot-zero-shot": Condition("cot", "plain"),
    "agent": Condition("agent", "plan"),
    "agent-two-searches": Condition("agent", "plain"),
}
PAIRS = (("cot-plan", "cot-zero-shot"), ("agent", "agent-two-searches"))


class Penalised(server.ServerModel):
    """A server's model that makes tokens which occurred before less likely, as some models' own
    defaults do."""

    penalty = 1.0  # none

    def _post(self, body: dict) -> dict:
        # the first name is that of vLLM and SGLang; llama.cpp looks at 64 tokens unless told
        # otherwise
        if self.penalty != 1.0:
            body = body | {
                "repetition_penalty": self.penalty,
                "repeat_penalty": self.penalty,
                "repeat_last_n": -1,
            }
        return super()._post(body)


def pilot_run(cfg: config.Config, name: str, penalty: float = 1.0) -> records.Run:
    """The run folder of a condition; its name holds all that shapes a transcript but the number
    of questions."""
    names = ["seed", "teacher", "teacher_on", "precision", "context_tokens"]
    if CONDITIONS[name].method == "cot":
        names += ["cot_tokens"]
    else:
        names += [
            "max_steps",
            "step_tokens",
            "corpus",
            "retriever",
            "encoder",
            "top_k",
            "sandbox_seconds",
            "sandbox_memory_mb",
        ]
    shape = {n: getattr(cfg, n) for n in names}
    shape |= {
        "condition": name,
        "words": CONDITIONS[name].words(),
        "penalty": penalty,
        "questions": benchmarks.fingerprint(SETS),
    }
    return records.Run(cfg.runs, f"pilot-{name}", shape)


def questions_of(count: int) -> list[Question]:
    """The first `count` questions of each dev set."""
    return [q for name in SETS for q in benchmarks.load(name, count)]


def seconds_left(run: records.Run, method: str, left: int) -> float:
    """About how long the rest of a condition takes: at the rate of its own run, else at
    `SECONDS`."""
    times = list(records.read(run.times)) if run.times.exists() else []
    rate = (
        sum(t["seconds"] for t in times) / sum(t["cases"] for t in times)
        if times
        else SECONDS[method]
    )
    return left * rate


def answers(
    cfg: config.Config, name: str, model: LanguageModel, box: Sandbox, part: Sequence[Question]
) -> Iterator[cases.Case]:
    """The cases of some questions, greedily, as they are done."""
    condition, asked = CONDITIONS[name], {question.id: question for question in part}
    labels = {"model": cfg.teacher, "role": "teacher", "wording": condition.wording}
    labels |= {"method": name, "n": 1, "seed": cfg.seed, "temperature": 0.0}
    if condition.method == "cot":
        for chain in cot.generate_cot(
            model,
            part,
            max_new_tokens=cfg.cot_tokens,
            examples=True,
            wording=condition.wording,
            seed=cfg.seed,
            batch=cfg.batch_questions,
        ):
            yield cases.cot_case(asked[chain.question_id], chain, **labels)
        return
    agent = Agent(
        model,
        box,
        style="teacher",
        wording=condition.wording,
        max_steps=cfg.max_steps,
        step_tokens=cfg.step_tokens,
        batch=cfg.batch_questions,
        seed=cfg.seed,
    )
    for trajectory in agent.run(part):
        yield cases.agent_case(asked[trajectory.question_id], trajectory, **labels)


def run_condition(
    cfg: config.Config,
    name: str,
    model: LanguageModel,
    box: Sandbox,
    questions: Sequence[Question],
    penalty: float = 1.0,
    concurrency: int = 2,
) -> list[cases.Case]:
    """The cases of a condition, those that are there already and those still to ask: in batches by
    a model in this process, else `concurrency` at a time. RuntimeError where an outage left some.
    """
    answer = functools.partial(answers, cfg, name, model, box)
    ask = (
        functools.partial(cases.answer_in_batches, answer)
        if in_process(model)
        else functools.partial(cases.answer_concurrently, answer, threads=concurrency)
    )
    return cases.collect(pilot_run(cfg, name, penalty), questions, ask, {"method": name}, name)


def table(found: Sequence[dict]) -> pd.DataFrame:
    """A row for each condition and kind of question: how many were right, pass the filter, were
    supported, and at what cost."""
    rows = []
    for name, domain in dict.fromkeys((case["method"], case["domain"]) for case in found):
        some = [case for case in found if (case["method"], case["domain"]) == (name, domain)]
        right, n = sum(case["correct"] for case in some), len(some)
        low, high = statistics.wilson_interval(right, n)
        supported = [wiki.is_supported(case) for case in some if "trace" in case]
        rows.append(
            {
                "condition": name,
                "domain": domain,
                "n": n,
                "right": right,
                "low": round(100 * low, 1),
                "high": round(100 * high, 1),
                "F1": round(sum(case["f1"] for case in some) / n, 2),
                "kept": sum(map(filtering.passes_filter, some)),
                "supported": (
                    sum(map(bool, supported)) if any(s is not None for s in supported) else None
                ),
                "searched once or less": (
                    sum(case["tool_calls"] < 2 for case in some) if supported else None
                ),
                "cut": sum(case["stopped"] not in ("stop", "final_answer") for case in some),
                "tokens": round(sum(case["completion_tokens"] for case in some) / n),
            }
        )
    return pd.DataFrame(rows)


def comparisons(found: Sequence[dict]) -> pd.DataFrame:
    """The pairs on the questions that both sides have: difference (second less first) with a 95
    % interval, and McNemar's p."""
    frame = pd.DataFrame(found)
    rows = []
    for (first, second), domain in (
        (pair, domain) for pair in PAIRS for domain in frame["domain"].unique()
    ):
        sides = [
            frame[(frame["method"] == name) & (frame["domain"] == domain)]
            for name in (first, second)
        ]
        if not any(side.empty for side in sides):
            rows.append(
                {"first": first, "second": second, "domain": domain, **statistics.compare(*sides)}
            )
    return pd.DataFrame(rows)


@contextlib.contextmanager
def open_model(cfg: config.Config, penalty: float, slots: int) -> Iterator[LanguageModel]:
    """The teacher as the settings say: in this process, on the server they name, or on a llama.cpp
    server started here."""
    if cfg.teacher_server == config.IN_PROCESS:
        if penalty != 1.0:
            raise ValueError(
                f"--penalty {penalty} is for a model on a server, expected 1 in this process; add"
                " --set teacher_server="
            )
        model = open_engine(
            cfg.teacher,
            engine=cfg.engine,
            max_context=cfg.context_tokens,
            precision=cfg.precision,
            source=cfg.weights,
        )
        with contextlib.closing(model):
            yield model
        return
    with contextlib.ExitStack() as stack:
        url = cfg.teacher_server or stack.enter_context(
            server.llama_server(cfg.teacher, slots=slots, context=cfg.context_tokens)
        )
        model = Penalised(
            url,
            cfg.teacher,
            concurrency=slots,
            choices=slots,
            max_context=cfg.context_tokens,
            source=cfg.weights,
        )
        model.penalty = penalty
        stack.callback(model.close)
        yield model


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what is left and how long it takes, then ask it and print the tables; 2, with a
    sentence, for wrong settings."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".")
    parser.add_argument(
        "--condition", action="append", choices=CONDITIONS, help="may be repeated; all by default"
    )
    parser.add_argument("--questions", type=int, default=20, help=f"of each of {', '.join(SETS)}")
    parser.add_argument("--penalty", type=float, default=1.0, help="repetition penalty; 1 is none")
    parser.add_argument("--slots", type=int, default=2, help="conversations at a time on a server")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--check", action="store_true", help="only say what is left")
    asked = parser.parse_args(arguments)
    try:
        cfg = config.load("laptop", **dict(map(setting, asked.settings)))
        questions, total, wanted = (
            questions_of(asked.questions),
            0.0,
            asked.condition or list(CONDITIONS),
        )
        for name in wanted:
            run = pilot_run(cfg, name, asked.penalty)
            left = len(run.todo(questions))
            total += (seconds := seconds_left(run, CONDITIONS[name].method, left))
            print(
                f"{name}: {left} of {len(questions)} questions are left, about {seconds / 60:.0f}"
                f" min; transcripts in {run.folder}"
            )
        print(f"about {total / 3600:.1f} h in all", flush=True)
        if asked.check:
            return 0
        if any(pilot_run(cfg, name, asked.penalty).todo(questions) for name in wanted):
            search.build(cfg)
            with (
                open_model(cfg, asked.penalty, asked.slots) as model,
                Sandbox(
                    tools={"web_search": search.web_search(cfg)},
                    seconds=cfg.sandbox_seconds,
                    memory_mb=cfg.sandbox_memory_mb,
                ) as box,
            ):
                for name in wanted:
                    run_condition(cfg, name, model, box, questions, asked.penalty, asked.slots)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    runs = [pilot_run(cfg, name, asked.penalty).finished() for name in wanted]
    found = [done[question.id] for done in runs for question in questions]
    print(table(found).to_string(index=False))
    print(comparisons(found).round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
