"""Instructive recorded cases for Figs. 2 and 3: one question answered twice, a prefix, a vote."""

from collections import Counter
from collections.abc import Sequence

from agentlib import cases, config, filtering, teach


def select_examples(cfg: config.Config, found: Sequence[dict]) -> dict:
    """Choose what Figs. 2 and 3 show among the evaluated cases `found` and the teacher's records.

    Returns {"pair": {"cot", "agent"}, "prefix", "vote"}: two transcripts of one question by the
    largest student, a teacher's first-thought prefix with its trajectory, and a step with its
    candidates. Of all pairs, it prefers an agent that searches and is right where CoT is wrong.
    """
    student = cfg.students[-1]
    of = {(c["method"], c["n"], c["id"]): c for c in found if c["model"] == student}
    pairs = [
        (of["cot_distill", 1, i], of["agent_distill_ftp", 1, i])
        for i in dict.fromkeys(c["id"] for c in found)
        if ("cot_distill", 1, i) in of and ("agent_distill_ftp", 1, i) in of
    ]
    cot, agent = max(pairs, key=_pair_clarity)
    runs = cases.read(teach.records_path(cfg, "agent_ftp"))
    prefixed = [c for c in runs if filtering.passes_filter(c)]
    taught = max(prefixed, key=lambda c: (c["tool_calls"] > 0, -len(c["prefix"]), -len(c["trace"])))
    votes = [
        (bool(c["correct"]), step)
        for c in found
        if c["n"] > 1
        for step in c.get("trace", [])
        if "candidates" in step
    ]
    prefix = {name: taught[name] for name in ("question", "prefix")}
    return {
        "pair": {"cot": _transcript(cot), "agent": _transcript(agent)},
        "vote": max(votes, key=_vote_clarity)[1],
        "prefix": prefix | {"trajectory": _transcript(taught)},
    }


def _pair_clarity(pair: tuple[dict, dict]) -> tuple:
    """How well a CoT and an agent case show why to act; the shorter trajectory of two equals."""
    cot, agent = pair
    gained = agent["correct"] - cot["correct"]
    return gained, agent["correct"], agent["tool_calls"] > 0, -len(agent["trace"])


def _vote_clarity(vote: tuple[bool, dict]) -> tuple:
    """How well a step shows what votes are for; `vote` is (whether its case is right, the step).

    Best are many candidates, a majority of code worth reading, another group, and code that fails
    and does not count; then little code.
    """
    right, step = vote
    candidates = step["candidates"]
    sizes = Counter(c["group"] for c in candidates)
    failed = sum(c["group"] is None and bool(c["code"]) for c in candidates) > 0
    contested = len(sizes) - (None in sizes) > 1
    won = contested and 2 * sizes[0] >= len(candidates)
    readable = won and "\n" in next(c["code"] for c in candidates if c["group"] == 0)
    length = sum(len(c["code"] or "") for c in candidates)
    return right and readable and failed, len(candidates), won, contested, failed, -length


def _transcript(case: dict) -> dict:
    """A case as `diagrams` takes it."""
    renamed = {"question": "question", "gold": "gold", "answer": "prediction", "correct": "correct"}
    steps = {"steps": case["trace"]} if "trace" in case else {"text": case["text"]}
    return {name: case[field] for name, field in renamed.items()} | steps
