"""Agent distillation: teach a small model to think, write Python, search and read the results.

The paper (Kang et al., NeurIPS 2025, arXiv 2505.17612) fine-tunes small models on the trajectories
of a large agent. Its steps in code; agentlib/README.md says which file each is in:

    question = Question("q1", "mine", "Which country has Lima as its capital?", "Peru", "factual")
    passages = [Passage("1", "Lima", "Lima is the capital of Peru.")]
    web_search = as_tool(open_index(build_index("index", passages, kind="bm25")))
    model = LocalModel("SmolLM2-135M-Instruct")             # untuned: it gets the teacher's prompt

    with Sandbox(tools={"web_search": web_search}) as box:  # model-written Python runs isolated
        agent = Agent(model, box, style="teacher", sag=SAG(n=8))  # SAG: a vote over 8 actions
        trajectory = next(agent.run([question]))            # a Trajectory: steps, answer, tokens
    grade(trajectory.answer, question.answer, "factual")    # maths by value, facts by words

    prefix = first_thought_prefix("I look up Lima.")        # what the teacher's agent starts from
    conversations = [cases.conversation(cases.agent_case(question, trajectory))]
    settings = TrainingSettings(tuning="lora", epochs=2)    # defaults are the paper's
    examples = build_examples(conversations, model.tokenizer, max_length=2048)  # tokens and masks
    adapter = fine_tune(model.name, examples, settings, "student")  # an adapter in PEFT's format
    model.use(adapter.path)                                 # the same weights, now the student

A conversation is a list of {"role", "content"}; loss is on the assistant's words alone. Results are
written to the folders that are named, here "index" and "student" in the current one.

Modules hold the paper's ideas (`agent`, `first_thought`, `sag`, `cot`, `masks`) and its experiment
(`cases`, `teach`, `distill`, `evaluate`); rooms hold what they stand on: `sandbox`, `models`,
`retrieval`, `score`, `training`, `benchmarks`, `figures`, `pages`, `runner`. Names are loaded when
they are first used, so that importing the package is quick.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

__version__ = "0.1.0"

if os.name == "nt":
    raise ImportError(
        "agentlib does not run on Windows itself, expected Linux or macOS; use WSL 2: run"
        " `wsl --install`, and clone the project inside it"
    )


def export(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package whose names are loaded when they are
    first used (PEP 562).

    `modules` maps a module of the package to the names it offers, separated by spaces; "new=old"
    offers one under a new name.
    """
    place = {
        name.partition("=")[0]: (module, name.rpartition("=")[2])
        for module, names in modules.items()
        for name in names.split()
    }

    def load(name: str) -> Any:
        if name not in place:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, found = place[name]
        return getattr(importlib.import_module(f"{package}.{module}"), found)

    return load, lambda: sorted(place), sorted(place)


__getattr__, __dir__, __all__ = export(
    __name__,
    {
        "agent": "Agent Trajectory",
        "benchmarks": "load_questions=load",
        "config": "Config load_config=load",
        "first_thought": "first_thought_prefix",
        "masks": "build_examples",
        "models": "LocalModel ServerModel",
        "retrieval": "Passage build_index open_index as_tool",
        "sag": "SAG",
        "sandbox": "Sandbox",
        "score": "grade",
        "tasks": "Question",
        "training": "TrainingSettings fine_tune",
    },
)
