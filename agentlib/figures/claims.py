"""The paper's claims, tested on our records: a difference, its interval, a test and a verdict.

Shares and differences are per cent of questions.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from agentlib.figures import estimates, statistics, tables

AGENT, FTP, COT, PROMPTED = "agent_distill", "agent_distill_ftp", "cot_distill", "agent"
SAG_TOLERANCE = 5.0  # points of accuracy that SAG may cost; our tolerance, the paper names none


def check_claims(cases: pd.DataFrame) -> pd.DataFrame:
    """Test each claim for each student, one row per test.

    - P1: agent distillation beats CoT distillation (the primary claim).
    - P2: with FTP and SAG, it reaches the next larger CoT-distilled student.
    - P3: FTP raises accuracy.
    - P4: SAG halves the questions with broken code (difference: b - a / 2), and does not lower
      accuracy by more than `SAG_TOLERANCE`.
    - P5: prompting alone does not make a small model act.

    Columns: the two sides `a` and `b`, their `difference` with its 95 % interval (`low`, `high`),
    the `margin` it is tested against, `p`, `p (Holm)` corrected over all rows, `n` questions,
    whether the claim `holds`, and the `published` difference at the nearest size. Interval and p
    are those of `statistics.compare`.

    `holds` is "yes" or "no" if the whole interval is on one side of the margin and the corrected p
    is at most 0.05, otherwise "not settled"; "not run" if a side has no cases.
    """
    sizes, n = estimates.list_students(cases), estimates.vote_size(cases)
    paper = tables.published_mean

    def answers(model: str, method: str, samples: int = 1) -> pd.DataFrame:
        return estimates.select(cases, model=model, method=method, n=samples)

    rows = []
    for model in sizes:
        a, b = answers(model, COT), answers(model, AGENT)
        published = paper(model, AGENT) - paper(model, COT)
        rows.append(
            _test_claim("P1", model, "agent distillation beats CoT distillation", a, b, published)
        )
    for model, larger in itertools.pairwise(sizes):
        words = f"agent + FTP + SAG reaches {estimates.size_label(larger)} CoT distillation"
        a, b = answers(larger, COT), answers(model, FTP, n)
        published = paper(model, FTP, voted=True) - paper(model, COT, larger=1)
        rows.append(_test_claim("P2", model, words, a, b, published))
    for model in sizes:
        a, b = answers(model, AGENT), answers(model, FTP)
        published = paper(model, FTP) - paper(model, AGENT)
        rows.append(_test_claim("P3", model, "FTP raises accuracy", a, b, published))
    for model in sizes:
        greedy, voted = answers(model, FTP), answers(model, FTP, n)
        a, b = _with_broken_code(greedy), _with_broken_code(voted)
        words, published = (
            "SAG halves the questions with broken code (b < a/2)",
            _published_halving(model),
        )
        rows.append(_test_claim("P4", model, words, a, b, published, ratio=0.5, below=True))
        words = f"SAG costs less than {SAG_TOLERANCE:.0f} points"
        published = paper(model, FTP, voted=True) - paper(model, FTP)
        rows.append(
            _test_claim("P4", model, words, greedy, voted, published, margin=-SAG_TOLERANCE)
        )
    for model in sizes:
        a, b = answers(model, PROMPTED), answers(model, AGENT)
        published = paper(model, AGENT) - paper(model, PROMPTED)
        rows.append(
            _test_claim("P5", model, "agent distillation beats agent prompting", a, b, published)
        )
    found = pd.DataFrame(rows).set_index("claim")
    tested = found["p"].notna()
    found.loc[tested, "p (Holm)"] = statistics.holm(found.loc[tested, "p"])
    found["holds"] = [_verdict(row) for _, row in found.iterrows()]
    return found.drop(columns="below")


def _test_claim(
    number: str,
    model: str,
    words: str,
    a: pd.DataFrame,
    b: pd.DataFrame,
    published: float,
    *,
    ratio: float = 1.0,
    margin: float = 0.0,
    below: bool = False,
) -> dict[str, object]:
    """Test that b - ratio * a is above `margin` (points), or, with `below`, under it."""
    row = {"claim": f"{number} · {estimates.size_label(model)}: {words}"}
    row |= {"margin": margin, "below": below, "published": published}
    if a.empty or b.empty:
        columns = ("a", "b", "difference", "low", "high", "p", "p (Holm)")
        return row | dict.fromkeys(columns, math.nan) | {"n": 0}
    found = statistics.compare(a, b, ratio=ratio, margin=margin / 100, over_benchmarks=True)
    shares = {"a": found["accuracy_a"], "b": found["accuracy_b"]}
    shares |= {name: found[name] for name in ("difference", "low", "high")}
    percent = {name: 100 * share for name, share in shares.items()}
    return row | percent | {"p": found["p"], "n": found["n"]}


def _verdict(row: pd.Series) -> str:
    if not row["n"]:
        return tables.NOT_RUN
    if row["p (Holm)"] > 0.05 or row["low"] <= row["margin"] <= row["high"]:
        return tables.UNSETTLED
    return "yes" if (row["high"] < row["margin"]) == row["below"] else "no"


def claim_table(found: pd.DataFrame) -> pd.DataFrame:
    """The result of `check_claims` as text, the published difference last."""
    rows = []
    for _, claim in found.iterrows():
        interval = tables.format_interval(claim["low"], claim["high"])
        measured = {
            "a (%)": f"{claim['a']:.1f}",
            "b (%)": f"{claim['b']:.1f}",
            "difference": f"{claim['difference']:+.1f} {interval}",
        }
        rows.append(
            {
                **(measured if claim["n"] else dict.fromkeys(measured, "")),
                "margin": f"{claim['margin']:.0f}",
                "p": tables.format_p(claim["p"]),
                "p (Holm)": tables.format_p(claim["p (Holm)"]),
                "n": int(claim["n"]),
                "holds": claim["holds"],
                "published": "" if math.isnan(claim["published"]) else f"{claim['published']:+.1f}",
            }
        )
    return pd.DataFrame(rows, index=found.index)


def _published_halving(model: str) -> float:
    """The published b - a / 2 for the questions with broken code, without (a) and with SAG (b).

    It is the mean of the three benchmarks of Fig. 7, digitised, at the size nearest to the model's.
    """
    found = estimates.read_published("fig7_code_errors_digitised")
    near = tables.nearest_size(model, found["Model"].unique())
    shares = found[found["Model"] == near].groupby("Setting")["Total_err_pct"].mean()
    return shares["w/ SAG"] - shares["w/o SAG"] / 2


def _with_broken_code(cases: pd.DataFrame) -> pd.DataFrame:
    """The cases, `correct` now meaning that a kept action failed to parse or to run."""
    errors = cases["parse_errors"] + cases["execution_errors"]
    return cases.assign(correct=(errors > 0).where(errors.notna(), None))


def prefix_effects(taught: Mapping[str, Sequence[dict]]) -> pd.DataFrame:
    """What the first-thought prefix changes in the teacher's runs, one row per method.

    `taught` maps methods to recorded cases (`teach.teacher_cases`). Columns: how many answers are
    right, words of the first thought, searches, steps, and the questions with a step whose code is
    missing or does not parse, or fails to run.
    """
    rows = {}
    for method in ("agent", "agent_ftp"):
        found = pd.DataFrame(taught[method])
        words = found["trace"].map(
            lambda trace: len(trace[0]["text"].partition("Code:")[0].split()) if trace else 0
        )
        unparsed, failing = (
            found[kind].dropna() > 0 for kind in ("parse_errors", "execution_errors")
        )
        rows[tables.method_label(method, 1)] = {
            "questions": len(found),
            "right (%)": 100 * found["correct"].fillna(False).astype(bool).mean(),
            "words of the first thought": words.mean(),
            "searches per question": found["tool_calls"].mean(),
            "steps per question": found["steps"].mean(),
            "code missing or not parsed (%)": 100 * unparsed.mean(),
            "code failed to run (%)": 100 * failing.mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def prefix_split(
    taught: Mapping[str, Sequence[dict]], permutations: int = 10_000, seed: int = 0
) -> tuple[pd.DataFrame, dict[str, float]]:
    """What the prefix does where the teacher's chain of thought was right, and where it was wrong.

    `taught` maps "cot", "agent" and "agent_ftp" to recorded cases; questions that all three
    finished count. The table has a row for each of the two groups: n, how many the agent got right
    without (a) and with the prefix (b), and `statistics.compare` of them. Beside it: the
    interaction, the difference of the two rows' differences in points, with a two-sided p from
    permuting which questions' chains were right.
    """
    graded = {
        method: {case["id"]: bool(case["correct"]) for case in found if not case.get("error")}
        for method, found in taught.items()
    }
    asked = [k for k in graded["cot"] if k in graded["agent"] and k in graded["agent_ftp"]]
    chain, plain, started = (
        np.array([graded[method][k] for k in asked], float)
        for method in ("cot", "agent", "agent_ftp")
    )
    rows = {}
    for words, among in (("right", chain == 1), ("wrong", chain == 0)):
        if among.any():
            sides = (_as_cases(side[among]) for side in (plain, started))
            counts = {"a right": int(plain[among].sum()), "b right": int(started[among].sum())}
            rows[f"chain of thought {words}"] = counts | statistics.compare(*sides)
    change = started - plain

    def interaction(right: np.ndarray) -> np.ndarray:
        """Of each row of `right` (draws, questions)."""
        inside, outside = right.sum(-1), (1 - right).sum(-1)
        return right @ change / inside - (1 - right) @ change / outside

    if 0 < chain.sum() < len(chain):
        rng = np.random.default_rng(seed)
        drawn = interaction(rng.permuted(np.tile(chain, (permutations, 1)), axis=1))
        found = float(interaction(chain))
        p = (1 + (np.abs(drawn) >= abs(found) - 1e-12).sum()) / (1 + permutations)
    else:
        found = p = math.nan
    return pd.DataFrame.from_dict(rows, orient="index"), {"points": 100 * found, "p": float(p)}


def _as_cases(right: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"benchmark": "", "id": range(len(right)), "correct": right == 1})


def sag_ledger(cases: pd.DataFrame) -> pd.DataFrame:
    """What the vote did to each agent's answers, question by question against greedy decoding.

    One row per model and method, in questions: how many both answered; those with a kept action
    that failed by greedy decoding; of these, how many have none with the vote (repaired), and how
    many of the repaired became right; those that only the vote broke; those right by greedy
    decoding that the vote lost, and those that it won. Of several trainings the first counts.
    """
    rows = {}
    for (model, method), group in cases.groupby(["model", "method"], sort=False):
        size = int(group["n"].max())
        if not method.startswith("agent") or size == 1:
            continue
        if "training" in group:
            group = group[group["training"].fillna(0) == 0]
        sides = (statistics.latest_cases(estimates.select(group, n=n)) for n in (1, size))
        both = pd.merge(*sides, on=["benchmark", "id"], suffixes=("", "_voted"))
        greedy, voted = both["correct"].eq(True), both["correct_voted"].eq(True)
        broken, still = (
            both[f"parse_errors{side}"] + both[f"execution_errors{side}"] > 0
            for side in ("", "_voted")
        )
        counts = {
            "questions": both["id"].notna(), "broken": broken, "repaired": broken & ~still,
            "then right": broken & ~still & ~greedy & voted, "newly broken": ~broken & still,
            "lost": greedy & ~voted, "won": ~greedy & voted,
        }  # fmt: skip
        rows[model, method, size] = {name: int(found.sum()) for name, found in counts.items()}
    index = pd.MultiIndex.from_tuples(rows, names=["model", "method", "n"])
    return pd.DataFrame(list(rows.values()), index=index)


def code_error_rates(cases: pd.DataFrame) -> pd.DataFrame:
    """Share (%) of agents' finished questions with a kept action that failed to parse, or to run.

    One row per model, method and n.
    """
    agents = cases[cases["method"].str.startswith("agent") & cases["parse_errors"].notna()]
    parse, execution = agents["parse_errors"] > 0, agents["execution_errors"] > 0
    groups = agents.assign(parse=parse, execution=execution).groupby(["model", "method", "n"])
    return (100 * groups[["parse", "execution"]].mean()).assign(questions=groups.size())
