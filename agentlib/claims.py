"""What the paper claims, held against our records: each claim a number with its interval, its test and a verdict.

Owns the list of claims and how each is read off the cases. Knows nothing of how cases are made or drawn. Shares
and differences are per cent, of questions.
"""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from agentlib import estimates, records, tables

AGENT, FTP, COT = "agent_distill", "agent_distill_ftp", "cot_distill"
MARGIN = 15.0  # points by which agent distillation is to lead
FAILS = 10.0  # per cent; a student below it cannot act
LEVEL = 5.0  # points that may be lost where nothing is to be lost


def check(cases: pd.DataFrame) -> pd.DataFrame:
    """A row a claim: what was measured, the difference (b - a) with its 95 % interval, the exact McNemar p, n, and
    whether it `holds` ("yes", "no", or "open" where the interval spans the claim).

    The interval squares and adds the distances of the two Wilson limits (Newcombe 1998, method 10). It leaves the
    pairing out, which makes it wide rather than narrow, and does not shrink to nothing where both sides score 0.

    A claim whose methods were not run has verdict "not run".
    """
    sizes, n = estimates.by_size(list(cases["model"])), estimates.vote_size(cases)
    rows = []
    for model in sizes:
        label = estimates.size_label(model)
        rows.append(_lead(f"{label}: agent distillation leads CoT distillation by {MARGIN:.0f} points",
                          _arm(cases, model, COT), _arm(cases, model, AGENT), MARGIN))  # fmt: skip
    if len(sizes) > 1:
        small, large = sizes[0], sizes[1]
        rows.append(_lead(
            f"{estimates.size_label(small)} agent + FTP + SAG reaches {estimates.size_label(large)} CoT distillation",
            _arm(cases, large, COT), _arm(cases, small, FTP, n), 0.0,
        ))  # fmt: skip
    prompted = _arm(cases, sizes[0], "agent")
    rows.append(_below(f"{estimates.size_label(sizes[0])}: agent prompting fails (below {FAILS:.0f} %)", prompted, FAILS))
    rows.append(_lead(f"{estimates.size_label(sizes[0])}: distillation makes the agent", prompted,
                      _arm(cases, sizes[0], AGENT), 0.0))  # fmt: skip
    for model in sizes:
        label = estimates.size_label(model)
        rows.append(_errors(f"{label}: SAG halves the questions with a broken step", _arm(cases, model, FTP),
                            _arm(cases, model, FTP, n)))  # fmt: skip
        rows.append(_lead(f"{label}: SAG does not lower accuracy", _arm(cases, model, FTP),
                          _arm(cases, model, FTP, n), 0.0, level=True))  # fmt: skip
        rows.append(_lead(f"{label}: FTP raises accuracy", _arm(cases, model, AGENT), _arm(cases, model, FTP), 0.0))
    return pd.DataFrame(rows).set_index("claim")


def table(found: pd.DataFrame) -> pd.DataFrame:
    """The claims of `check` as text: where there are two sides, the interval is that of the difference."""
    def row(claim: pd.Series) -> dict[str, object]:
        span = "" if math.isnan(claim["low"]) else f" {tables.interval_text(claim['low'], claim['high'])}"
        sides = {side: "" if math.isnan(claim[side]) else f"{claim[side]:.1f}" for side in ("a", "b")}
        one_sided = math.isnan(claim["difference"])
        return {"a (%)": sides["a"], "b (%)": sides["b"] + (span if one_sided else ""),
                "b - a": "" if one_sided else f"{claim['difference']:+.1f}{span}", "p": tables.p_text(claim["p"]),
                "n": int(claim["n"]), "holds": claim["holds"]}  # fmt: skip

    return pd.DataFrame([row(claim) for _, claim in found.iterrows()], index=found.index)


def _arm(cases: pd.DataFrame, model: str, method: str, n: int = 1) -> pd.DataFrame:
    return estimates.pick(cases, model=model, method=method, n=n)


def _row(claim: str, verdict: str, **numbers: float) -> dict:
    empty = dict.fromkeys(("a", "b", "difference", "low", "high", "p"), math.nan) | {"n": 0}
    return {"claim": claim, **empty, **numbers, "holds": verdict}


def _lead(claim: str, a: pd.DataFrame, b: pd.DataFrame, margin: float, level: bool = False) -> dict:
    """Whether b is right on `margin` points more of the questions than a; `level`: whether it is not behind."""
    if a.empty or b.empty:
        return _row(claim, tables.NOT_RUN)
    found = records.compare(a, b)
    difference, low, high = _difference(found)
    if level:
        verdict = "no" if high < 0 else "yes" if low > -LEVEL else "open"
    else:
        verdict = "yes" if low > 0 and difference >= margin else "no" if high <= margin else "open"
    return _row(claim, verdict, a=100 * found["accuracy_a"], b=100 * found["accuracy_b"], difference=difference, low=low,
                high=high, p=found["p"], n=found["n"])  # fmt: skip


def _below(claim: str, cases: pd.DataFrame, limit: float) -> dict:
    """Whether the accuracy is below a limit, by its Wilson interval."""
    point = estimates.accuracy(cases.assign(id=cases["benchmark"] + cases["id"]))
    if math.isnan(point.value):
        return _row(claim, tables.NOT_RUN)
    verdict = "yes" if point.high < limit else "no" if point.low > limit else "open"
    return _row(claim, verdict, b=point.value, low=point.low, high=point.high, n=point.n)


def _errors(claim: str, a: pd.DataFrame, b: pd.DataFrame) -> dict:
    """Whether b has at most half of a's questions with a step that failed to parse or to run."""
    if a.empty or b.empty:
        return _row(claim, tables.NOT_RUN)

    def broken(cases: pd.DataFrame) -> pd.DataFrame:
        return cases.assign(correct=(cases["parse_errors"] + cases["execution_errors"]) > 0)

    found = records.compare(broken(a), broken(b))
    difference, low, high = _difference(found)
    halved = 2 * found["accuracy_b"] <= found["accuracy_a"]
    verdict = "open" if found["p"] > 0.05 else "yes" if halved else "no"
    return _row(claim, verdict, a=100 * found["accuracy_a"], b=100 * found["accuracy_b"], n=found["n"], p=found["p"],
                difference=difference, low=low, high=high)  # fmt: skip


def _difference(found: Mapping[str, float]) -> tuple[float, float, float]:
    """b - a of a comparison, in points, with its interval."""
    sides = []
    for name in ("accuracy_a", "accuracy_b"):
        share, n = found[name], found["n"]
        low, high = records.interval(round(share * n), n)
        sides.append((share, share - low, high - share))
    (a, below_a, above_a), (b, below_b, above_b) = sides
    return 100 * (b - a), 100 * (b - a - math.hypot(below_b, above_a)), 100 * (b - a + math.hypot(above_b, below_a))


def first_thoughts(taught: Mapping[str, Sequence[dict]]) -> pd.DataFrame:
    """What the first-thought prefix changes in the teacher's runs, a row a method: yield, thoughts, searches."""
    rows = {}
    for method in ("agent", "agent_ftp"):
        found = pd.DataFrame(taught[method])
        words = found["trace"].map(lambda trace: len(trace[0]["text"].partition("Code:")[0].split()) if trace else 0)
        rows[tables.method_label(method, 1)] = {
            "questions": len(found), "right (%)": 100 * found["correct"].fillna(False).astype(bool).mean(),
            "words of the first thought": words.mean(), "searches a question": found["tool_calls"].mean(),
            "steps a question": found["steps"].mean(),
            "questions with a broken step (%)": 100 * (found["parse_errors"] + found["execution_errors"] > 0).mean(),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def broken_steps(cases: pd.DataFrame) -> pd.DataFrame:
    """Share (%) of agents' questions with a step whose kept action failed to parse or to run, a row a model, method and n."""
    agents = cases[cases["method"].str.startswith("agent")]
    shares = agents.assign(parse=agents["parse_errors"] > 0, execution=agents["execution_errors"] > 0)
    by_arm = shares.groupby(["model", "method", "n"])
    return (100 * by_arm[["parse", "execution"]].mean()).assign(questions=by_arm.size())


def early_stop(cases: pd.DataFrame) -> pd.DataFrame:
    """Samples that SAG's exact early stop left unfinished, a row a model, method and n; all chosen actions are those
    of the full vote."""
    voted = cases[cases["method"].str.startswith("agent") & (cases["n"] > 1)]
    rows = voted.groupby(["model", "method", "n"])[["candidates", "dropped"]].sum().astype(int)
    return rows.assign(**{"left unfinished (%)": 100 * rows["dropped"] / rows["candidates"]})
