"""Instructive recorded cases: one question answered twice, a prefix, a vote that helped and one
that did not. They are chosen by how an answer was reached, not only by its grade.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from agentlib import cases, config, filtering, teach


def select_examples(cfg: config.Config, found: Sequence[dict]) -> dict:
    """Choose what Figs. 2 and 3 show among the evaluated cases `found` and the teacher's records.

    Returns {"pair": {"cot", "agent"}, "prefix", "vote", "vote_case"}: two transcripts of one
    question by the largest student, a teacher's first-thought prefix with its trajectory, and a
    step with its candidates and its case. Of all pairs, it prefers an agent that searches, took
    nothing from memory, and is right where CoT is wrong.
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
    taught = max(
        prefixed,
        key=lambda c: (
            filtering.is_reasoned(c),
            c["tool_calls"] > 0,
            -len(c["prefix"]),
            -len(c["trace"]),
        ),
    )
    case, step = select_votes(found)["helped"]
    prefix = {name: taught[name] for name in ("question", "prefix")}
    return {
        "pair": {"cot": _transcript(cot), "agent": _transcript(agent)},
        "vote": step,
        "vote_case": {name: case[name] for name in ("question", "gold", "prediction", "correct")},
        "prefix": prefix | {"trajectory": _transcript(taught)},
    }


def select_votes(found: Sequence[dict]) -> dict[str, tuple[dict, dict]]:
    """A vote that helped and one that did not, each as (its case, its step).

    "helped": of a right answer that was reached by reasoning, preferably a final vote in which a
    failing candidate and a wrong minority lose. "failed": the last vote of an answer that is wrong
    where the same student is right by greedy decoding; absent where there is none. Raises
    ValueError where no case has a vote.
    """
    votes = [
        (case, step)
        for case in found
        if case["n"] > 1
        for step in case.get("trace", [])
        if "candidates" in step
    ]
    if not votes:
        raise ValueError("no case has a vote, expected one with n > 1; evaluate an agent with SAG")
    chosen = {"helped": max(votes, key=_vote_clarity)}
    greedy = {_key(c): c["correct"] for c in found if c["n"] == 1}
    lost = [(c, s) for c, s in votes if c["correct"] is False and greedy.get(_key(c))]
    if lost:
        chosen["failed"] = max(
            lost,
            key=lambda vote: (_contested(vote[1]), len(vote[1]["candidates"]), -_length(vote[1])),
        )
    return chosen


def _key(case: Mapping) -> tuple:
    return tuple(case.get(name) for name in ("model", "method", "id", "training"))


def _pair_clarity(pair: tuple[dict, dict]) -> tuple:
    """How well a CoT and an agent case show why to act; the shorter trajectory of two equals."""
    cot, agent = pair
    gained = agent["correct"] - cot["correct"]
    good = agent["correct"] and filtering.is_reasoned(agent)
    return (
        gained and good,
        good,
        gained,
        agent["correct"],
        agent["tool_calls"] > 0,
        -len(agent["trace"]),
    )


def _vote_clarity(vote: tuple[dict, dict]) -> tuple:
    """How well a step shows what votes are for: a right and reasoned answer, a majority, another
    group, code that fails and does not count; then code worth reading, then little of it."""
    case, step = vote
    candidates = step["candidates"]
    contested = _contested(step)
    won = contested and 2 * sum(c["group"] == 0 for c in candidates) >= len(candidates)
    failed = any(c["group"] is None and c["code"] for c in candidates)
    good = bool(case["correct"]) and filtering.is_reasoned(case)
    readable = won and "\n" in next(c["code"] for c in candidates if c["group"] == 0)
    final = bool(step.get("final"))
    return (
        good and won and failed,
        len(candidates),
        readable,
        final,
        won,
        contested,
        failed,
        -_length(step),
    )


def _contested(step: Mapping) -> bool:
    """Whether its candidates have more than one outcome."""
    return len(Counter(c["group"] for c in step["candidates"] if c["group"] is not None)) > 1


def _length(step: Mapping) -> int:
    return sum(len(c["code"] or "") for c in step["candidates"])


def _transcript(case: dict) -> dict:
    """A case as `diagrams` takes it."""
    renamed = {"question": "question", "gold": "gold", "answer": "prediction", "correct": "correct"}
    steps = {"steps": case["trace"]} if "trace" in case else {"text": case["text"]}
    return {name: case[field] for name, field in renamed.items()} | steps
