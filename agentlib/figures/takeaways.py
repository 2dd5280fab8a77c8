"""What a run showed, in three sentences: acting against reciting, the vote, the first-thought
prefix. Each says its numbers and whether so few questions can settle it.
"""

from collections.abc import Mapping

import pandas as pd

from agentlib.figures import statistics
from agentlib.figures.estimates import size_label


def take_home(cases: pd.DataFrame, student: str) -> list[str]:
    """Three sentences about a student, fewer where a method of one was not run. `cases` as of
    `to_frame`; of several trainings the first."""
    mine = cases[cases["model"] == student]
    if "training" in mine:
        mine = mine[mine["training"].fillna(0) == 0]
    sides = {key: part for key, part in mine.groupby(["method", "n"])}
    name = size_label(student)
    found = []
    if compared := _compare(sides, ("cot_distill", 1), ("agent_distill", 1)):
        found.append(
            f"Acting against reciting: of {compared['n']} questions the {name} student that acts"
            f" got {_count(compared, 'b')} right, the same model taught to recite"
            f" {_count(compared, 'a')}; {_verdict(compared)}."
        )
    votes = sorted(n for method, n in sides if method == "agent_distill" and n > 1)
    if votes and (compared := _compare(sides, ("agent_distill", 1), ("agent_distill", votes[-1]))):
        one, many = (_broken(sides["agent_distill", n]) for n in (1, votes[-1]))
        found.append(
            f"A vote over {votes[-1]} actions (SAG): {many} runs with code that failed instead of"
            f" {one}, and {_count(compared, 'b')} of {compared['n']} questions right instead of"
            f" {_count(compared, 'a')}; {_verdict(compared)}."
        )
    if compared := _compare(sides, ("agent_distill", 1), ("agent_distill_ftp", 1)):
        found.append(
            f"The first-thought prefix: its student got {_count(compared, 'b')} of"
            f" {compared['n']} right, the one taught without it {_count(compared, 'a')};"
            f" {_verdict(compared)}."
        )
    return found


def _compare(sides: Mapping, a: tuple[str, int], b: tuple[str, int]) -> dict:
    return statistics.compare(sides[a], sides[b]) if a in sides and b in sides else {}


def _broken(cases: pd.DataFrame) -> int:
    """How many runs kept a step whose code failed to parse or to run."""
    return int((cases["parse_errors"] + cases["execution_errors"] > 0).sum())


def _count(compared: Mapping, side: str) -> int:
    return round(compared["n"] * compared[f"accuracy_{side}"])


def _verdict(compared: Mapping) -> str:
    points = f"{100 * compared['difference']:+.0f} points, p = {compared['p']:.2g}"
    if compared["p"] < 0.05:
        return f"{points}: more than chance"
    return f"{points}: no difference that so few questions can show"
