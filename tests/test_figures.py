"""The figures and tables: what is drawn is what the records say, a gap stays a gap, and bytes repeat."""

import itertools
import json
import math
import random
from pathlib import Path

import matplotlib
import pandas as pd
import pytest

from agentlib import charts, config, figures, records, tables

STUDENTS = ("SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct")
TEACHER = "Qwen2.5-Coder-1.5B-Instruct"
SUBJECTS = ("Algebra", "Counting & Probability", "Geometry", "Intermediate Algebra", "Number Theory", "Prealgebra",
            "Precalculus")  # fmt: skip
DISTILLED = ("cot_distill", "cot_distill_rag", "agent_distill", "agent_distill_ftp")
MEASURED = ("fig1_mean_accuracy", "fig4_math_breakdown", "fig5_samples", "fig6_tokens", "fig7_code_errors",
            "fig8_retrieval_calls")  # fmt: skip


def synthetic(students: tuple[str, ...], teacher: str | None, questions: int, counts: tuple[int, ...]) -> pd.DataFrame:
    """Records as an evaluation writes them, with invented but plausible values: a few errors, a few missing."""
    draw = random.Random(0)
    rows = []
    for model in (*students, *([teacher] if teacher else ())):
        methods = ("cot", "agent") if model == teacher else tuple(config.METHODS)
        for method, benchmark in itertools.product(methods, config.FACTUAL + config.MATHS):
            panel = benchmark in config.LAPTOP.panel_benchmarks
            voted = method in ("agent_distill", "agent_distill_ftp")
            ns = counts if method in ("cot_distill", "agent_distill_ftp") and panel else (1, counts[-1])
            for n, k in itertools.product(ns if voted or method == "cot_distill" else (1,), range(questions)):
                chance = 0.12 + 0.1 * method.startswith("agent_") + 0.03 * n**0.5 + 0.1 * (model != STUDENTS[0])
                errored = draw.random() < 0.01
                agent = method.startswith("agent")
                rows.append({
                    "id": f"{benchmark}-{k}", "benchmark": benchmark, "level": str(k % 5 + 1),
                    "domain": "factual" if benchmark in config.FACTUAL else "math",
                    "subject": SUBJECTS[k % 7] if benchmark == "mini-math" else "",
                    "model": model, "role": "teacher" if model == teacher else "student", "method": method, "n": n,
                    "temperature": 0.0 if n == 1 else 0.4, "seed": 42, "split": "test",
                    "correct": None if errored else draw.random() < chance, "error": "lost" if errored else None,
                    "parse_errors": None if errored else int(agent and draw.random() < 0.2 / n),
                    "execution_errors": None if errored else int(agent and draw.random() < 0.3 / n),
                    "tool_calls": None if errored else int(agent) * draw.randint(0, 4),
                    "completion_tokens": None if errored else int(draw.lognormvariate(5.2 + 0.3 * agent, 0.4)),
                })  # fmt: skip
    return records.frame(rows)


@pytest.fixture(scope="module")
def smoke() -> pd.DataFrame:
    return synthetic(STUDENTS[:1], None, 2, (1, 2, 4))


@pytest.fixture(scope="module")
def laptop() -> pd.DataFrame:
    return synthetic(STUDENTS, TEACHER, 40, (1, 2, 4, 8))


QUESTION = "In which country was the composer of the Brindle Suite born, and what is 48,211 × 7,309 in $?"
COT = {
    "question": QUESTION, "answer": "Norway", "correct": False,
    "text": "The Brindle Suite was composed by Ada Holm. She was born in the north, where she learnt the violin from "
    "her uncle. I recall that the north belongs to Norway.\n\nSo 48,211 × 7,309 is about $352,000,000.\n"
    "Therefore the answer is \\boxed{Norway}. 中文",
}  # fmt: skip
AGENT = {
    "question": QUESTION, "gold": "Denmark", "answer": "Denmark", "correct": True,
    "steps": [
        {"text": "Thought: To answer this I first find who composed the Brindle Suite, then where that person was born."
         " I will search for the suite.\nCode:\n```py\nprint(web_search('composer of Brindle Suite'))\n```",
         "code": "print(web_search('composer of Brindle Suite'))",
         "observation": "[1] Brindle Suite: The Brindle Suite is a piece for strings written in 1911 by Ada Holm.\n"
         "[2] Ada Holm: Ada Holm was a composer born in Aarhus."},
        {"text": "Thought: Ada Holm was born in Aarhus; now the country and the product.",
         "code": "place = web_search('Aarhus country')\nfor line in place.split('\\n'):\n    if 'Aarhus' in line:\n"
         "        print(line)\nprint(48211 * 7309)", "observation": "Aarhus is a city in Denmark.\n352374199"},
        {"text": "Thought: I have it.", "code": "final_answer('Denmark')", "observation": ""},
    ],
}  # fmt: skip
EXAMPLE = {
    "question": QUESTION, "trajectory": AGENT,
    "prefix": "To answer this I first find who composed the Brindle Suite, then where that person was born.",
}  # fmt: skip
VOTE = {
    "candidates": [
        {"code": "r = web_search('Ada Holm')\nprint(r)", "outcome": "Ada Holm was a composer born in Aarhus.",
         "failed": None, "group": 0},
        {"code": "print(web_search('Ada Holm born'))", "outcome": "Ada Holm was a composer born in Aarhus.",
         "failed": None, "group": 0},
        {"code": "final_answer('Norway')", "outcome": "final answer: Norway", "failed": None, "group": 3},
        {"code": "for line in r:\nprint(line)", "outcome": "IndentationError: expected an indented block",
         "failed": "parse", "group": None},
        {"code": "print(result['born'])", "outcome": "NameError: name 'result' is not defined",
         "failed": "execution", "group": None},
        {"code": "x = web_search('Ada Holm')", "outcome": "", "failed": None, "group": 5},
        {"code": "print(web_search('Holm, Ada'))", "outcome": "Ada Holm was a composer born in Aarhus.",
         "failed": None, "group": 0},
        {"code": "while True:\n    pass", "outcome": "stopped after 10 s", "failed": "timeout", "group": None},
    ],
    "chosen": 0,
}  # fmt: skip


def every_figure(cases: pd.DataFrame, note: str) -> dict[str, matplotlib.figure.Figure]:
    found = {name: getattr(figures, name)(cases, note) for name in MEASURED}
    found["fig2_cot_against_agent"] = figures.fig2_cot_against_agent(COT, AGENT, note)
    found["fig3_prefix_and_vote"] = figures.fig3_prefix_and_vote(EXAMPLE, VOTE, note)
    return found
