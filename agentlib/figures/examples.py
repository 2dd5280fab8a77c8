"""Real cases that tell something, for the diagrams (Figs. 2 and 3): one question answered twice, a prefix, a vote.

Owns the choice among recorded cases. Knows nothing of how they came about, nor of how they are drawn.
"""

from collections import Counter
from collections.abc import Sequence

from agentlib import cases, config, teach


def select_examples(cfg: config.Config, found: Sequence[dict]) -> dict:
    """A CoT and an agent case of one question, a prefix and a vote, of the largest student and the teacher.

    Prefers an agent that searches and is right where CoT is wrong, and a vote that a majority wins over failures and
    another group.
    """
    student = cfg.students[-1]
    of = {(c["method"], c["n"], c["id"]): c for c in found if c["model"] == student}
    pairs = [
        (of["cot_distill", 1, i], of["agent_distill_ftp", 1, i])
        for i in dict.fromkeys(c["id"] for c in found)
        if ("cot_distill", 1, i) in of and ("agent_distill_ftp", 1, i) in of
    ]
    thought, acted = max(pairs, key=lambda pair: (pair[1]["correct"] - pair[0]["correct"], pair[1]["correct"],
                                                  pair[1]["tool_calls"] > 0, -len(pair[1]["trace"])))  # fmt: skip
    prefixed = [c for c in cases.read(teach.recorded(cfg, "agent_ftp")) if cases.kept(c)]
    example = max(
        prefixed, key=lambda c: (c["tool_calls"] > 0, -len(c["prefix"]), -len(c["trace"]))
    )
    votes = [
        (bool(c["correct"]), step)
        for c in found
        if c["n"] > 1
        for step in c.get("trace", [])
        if "candidates" in step
    ]
    return {
        "pair": {"cot": _transcript(thought), "agent": _transcript(acted)}, "vote": max(votes, key=_vote_clarity)[1],
        "prefix": {"question": example["question"], "prefix": example["prefix"], "trajectory": _transcript(example)},
    }  # fmt: skip


def _vote_clarity(vote: tuple[bool, dict]) -> tuple:
    """How well a step of a case that is right or not shows what votes are for: many candidates, a majority of code worth
    reading, another group, code that fails and does not count; then in few words."""
    right, step = vote
    candidates = step["candidates"]
    sizes = Counter(c["group"] for c in candidates)
    failed = sum(c["group"] is None and bool(c["code"]) for c in candidates)
    groups = len(sizes) - (None in sizes)
    won = groups > 1 and 2 * sizes[0] >= len(candidates)
    read = won and "\n" in next(c["code"] for c in candidates if c["group"] == 0)
    length = sum(len(c["code"] or "") for c in candidates)
    return (
        right and won and read and failed > 0,
        len(candidates),
        won,
        groups > 1,
        failed > 0,
        -length,
    )


def _transcript(case: dict) -> dict:
    shown = {
        "question": case["question"],
        "gold": case["gold"],
        "answer": case["prediction"],
        "correct": case["correct"],
    }
    return shown | ({"steps": case["trace"]} if "trace" in case else {"text": case["text"]})
