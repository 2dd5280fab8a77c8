"""What acting costs: one SAG step beside a greedy step, many questions beside smolagents, and how
cost grows.

A student is trained first on the recorded trajectories (a minute), so that the actions are a
student's. All in one process, contenders in turns, medians of the rounds. `make bench` runs it on
an idle machine and appends the figures to `tests/benchmarks/generation.jsonl`.
"""

import argparse
import dataclasses
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common

from agentlib import benchmarks, cases, config, distill, masks, prompts, training
from agentlib.agent import Agent
from agentlib.benchmarks import search
from agentlib.models import LocalModel, weights
from agentlib.sag import SAG
from agentlib.sandbox import Sandbox

STUDENT, ROUNDS, QUESTIONS, ASKED = "SmolLM2-135M-Instruct", 5, 4, 32
HOW = {"temperature": 0.4, "top_p": 0.8}  # §4.1
STEPS, TOKENS = 2, 48  # of one question beside smolagents


def train(folder: Path, cfg: config.Config) -> Path:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(STUDENT))
    taught = {
        case["id"]: cases.conversation(case)
        for case in distill.training_cases(cfg, "agent_distill")
    }
    examples = masks.build_examples(taught, tokenizer, cfg.max_length)
    return training.fine_tune(
        STUDENT, examples, distill.training_settings(cfg), folder / "student"
    ).path


def questions(cfg: config.Config, count: int) -> list:
    each = -(-count // len(cfg.benchmarks))
    return [q for name in cfg.benchmarks for q in benchmarks.load(name, each)][:count]


def in_turns(rounds: int, work: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """The values of each contender, in the rounds' order; one round before them warms up."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, measure in work.items():
            value = measure()
            if number:
                found[name].append(value)
                print(f"{name:44} {value:8.3f}", flush=True)
    return found


def steps(model: LocalModel, box: Sandbox, asked: list, how: SAG, style: str) -> float:
    """Mean seconds of a first step, one question at a time, each prompt read anew."""
    seconds = 0.0
    for question in asked:
        model.forget()
        acting = Agent(model, box, style=style, max_steps=1, sag=how, step_tokens=96)
        (trajectory,) = acting.run([question])
        seconds += trajectory.steps[0].seconds
    return seconds / len(asked)


def measure_sag(model: LocalModel, box: Sandbox, asked: list, rounds: int) -> tuple[dict, dict]:
    kinds = {"greedy": SAG(n=1, temperature=0.0, top_p=1.0)}
    kinds |= {f"SAG, N = {n}": SAG(n=n, **HOW) for n in (2, 4, 8, 16)}
    medians, ratios = {}, {}
    for style, prompt in (("student", "short prompt"), ("teacher", "long prompt")):
        work = {
            f"{name}, {prompt}": lambda how=how, style=style: steps(model, box, asked, how, style)
            for name, how in kinds.items()
        }
        found = {name: statistics.median(values) for name, values in in_turns(rounds, work).items()}
        medians |= {name: {"seconds a step": value} for name, value in found.items()}
        base = found[f"greedy, {prompt}"]
        ratios |= {
            f"{name} to greedy": value / base
            for name, value in found.items()
            if not name.startswith("greedy")
        }
    return medians, ratios


def answer_all(model: LocalModel, box: Sandbox, asked: list, style: str) -> float:
    model.forget()
    started = time.perf_counter()
    list(Agent(model, box, style=style, max_steps=STEPS, step_tokens=TOKENS).run(asked))
    return time.perf_counter() - started


class Smolagents:
    """CodeAgent with TransformersModel: the same weights, precision, words, search and limits as
    ours."""

    def __init__(self, tool: Callable[[str], str], style: str):
        from smolagents import CodeAgent, LogLevel, TransformersModel
        from smolagents import tool as as_tool

        words = prompts.AGENT_TEACHER if style == "teacher" else prompts.AGENT_STUDENT
        final = {"pre_messages": prompts.LAST_TURN, "post_messages": prompts.LAST_TURN}
        managed = {"task": "", "report": ""}
        plan = dict.fromkeys(
            ("initial_plan", "update_plan_pre_messages", "update_plan_post_messages"), ""
        )

        @as_tool
        def web_search(query: str) -> str:
            """Search.

            Args:
                query: What to look for.
            """
            return tool(query)

        model = TransformersModel(
            str(weights.fetch(STUDENT)),
            device_map="cpu",
            torch_dtype="bfloat16",
            max_new_tokens=TOKENS,
            do_sample=False,
        )
        self.agent = CodeAgent(
            tools=[web_search],
            model=model,
            max_steps=STEPS,
            verbosity_level=LogLevel.OFF,
            code_block_tags=("```(?:python|py)", "```<end_code>"),
            prompt_templates={
                "system_prompt": "{% raw %}" + words + "{% endraw %}",
                "planning": plan,
                "managed_agent": managed,
                "final_answer": final,
            },
        )

    def answer_all(self, asked: list) -> float:
        started = time.perf_counter()
        for question in asked:
            self.agent.run(question.text)
        return time.perf_counter() - started


def measure_questions(
    model: LocalModel, box: Sandbox, tool, asked: list, rounds: int
) -> tuple[dict, dict]:
    """Questions a second with the untuned model and the long prompt, which smolagents' users
    have."""
    logging.getLogger("smolagents").setLevel(logging.ERROR)
    other = Smolagents(tool, "teacher")
    counts = (len(asked) // 4, len(asked) // 2, len(asked))
    ours = {
        f"agentlib, {n} questions": lambda n=n: answer_all(model, box, asked[:n], "teacher")
        for n in counts
    }
    found = in_turns(
        rounds, ours | {f"smolagents, {len(asked)} questions": lambda: other.answer_all(asked)}
    )
    medians = {
        name: {
            "seconds": statistics.median(v),
            "questions/s": int(name.split()[-2]) / statistics.median(v),
        }
        for name, v in found.items()
    }
    whole, smol = (
        medians[f"{name}, {len(asked)} questions"]["questions/s"]
        for name in ("agentlib", "smolagents")
    )
    return medians, {"questions/s, ours to smolagents": whole / smol}


def measure_reading(model: LocalModel, box: Sandbox, asked: list) -> dict:
    """Prompt tokens computed in conversations of three steps, to the distinct ones: those with
    another start."""
    distinct: set[int] = set()
    read = model._read

    def noted(prompt_ids):
        for prompt in prompt_ids:
            start = 0
            for token in prompt:
                start = hash((start, token))
                distinct.add(start)
        return read(prompt_ids)

    model.forget()
    model._read, before = noted, model.tokens_read
    try:
        trajectories = list(
            Agent(model, box, max_steps=3, step_tokens=96, sag=SAG(n=8, **HOW)).run(asked)
        )
    finally:
        del model._read
    anew = sum(t.prompt_tokens for t in trajectories)
    computed = model.tokens_read - before
    print(
        f"prompt tokens: {computed} computed, {len(distinct)} distinct, {anew} if read anew at each"
        " step"
    )
    return {
        "prompt tokens, computed to distinct": computed / len(distinct),
        "prompt tokens, computed to read anew": computed / anew,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    cfg = dataclasses.replace(config.load("smoke"), epochs=2)
    search.build(cfg)
    tool = search.web_search(cfg)
    with tempfile.TemporaryDirectory() as folder, Sandbox(tools={"web_search": tool}) as box:
        model = LocalModel(STUDENT, adapter=train(Path(folder), cfg))
        medians, ratios = measure_sag(model, box, questions(cfg, QUESTIONS), rounds)
        ratios |= measure_reading(model, box, questions(cfg, QUESTIONS))
        model.use(None)
        more, further = measure_questions(model, box, tool, questions(cfg, ASKED), rounds)
    common.record(
        __file__,
        medians | more,
        ratios | further,
        ("torch", "transformers", "smolagents"),
        rounds,
        student=STUDENT,
        precision=model.precision,
        questions=QUESTIONS,
        asked=ASKED,
    )


if __name__ == "__main__":
    main()
