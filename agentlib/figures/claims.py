"""What the paper claims, held against our records: each claim a number with its interval, its test and a verdict.

Owns the list of claims and how each is read off the cases. Knows nothing of how cases are made or drawn. Shares
and differences are per cent, of questions.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from agentlib.figures import estimates, statistics, tables

AGENT, FTP, COT, PROMPTED = "agent_distill", "agent_distill_ftp", "cot_distill", "agent"
SAG_TOLERANCE = 5.0  # points of accuracy that SAG may cost; our tolerance, the paper names none


def check_claims(cases: pd.DataFrame) -> pd.DataFrame:
    """A row per claim and student: both sides, the difference with its 95 % interval, its `margin`, p, p after Holm's
    correction over all rows, n, whether it `holds`, and the `published` difference at the nearest size.

    P1: agent distillation beats CoT distillation (the primary claim); P2: with FTP and SAG it reaches the next larger
    CoT-distilled student; P3: FTP raises accuracy; P4: SAG halves the questions with broken code (difference: b - a / 2)
    and does not lower accuracy; P5: prompting alone does not make a small model act.

    Intervals and p are those of `statistics.compare`. "yes" and "no" need the whole interval on one side of the margin and a
    corrected p of at most 0.05; everything else is "not settled". A claim whose methods were not run is "not run".
    """
    sizes, n = estimates.list_students(cases), estimates.vote_size(cases)

    def arm(model: str, method: str, samples: int = 1) -> pd.DataFrame:
        return estimates.select(cases, model=model, method=method, n=samples)

    rows = [_test_claim("P1", model, "agent distillation beats CoT distillation", arm(model, COT), arm(model, AGENT),
                 _published(model, COT, AGENT)) for model in sizes]  # fmt: skip
    for model, larger in itertools.pairwise(sizes):
        rows.append(_test_claim("P2", model, f"agent + FTP + SAG reaches {estimates.size_label(larger)} CoT distillation",
                         arm(larger, COT), arm(model, FTP, n), _published_reach(model)))  # fmt: skip
    for model in sizes:
        rows.append(
            _test_claim(
                "P3",
                model,
                "FTP raises accuracy",
                arm(model, AGENT),
                arm(model, FTP),
                _published(model, AGENT, FTP),
            )
        )
    for model in sizes:
        greedy, voted = arm(model, FTP), arm(model, FTP, n)
        rows.append(_test_claim("P4", model, "SAG halves the questions with broken code (b < a/2)", _with_broken_code(greedy), _with_broken_code(voted),
                         _published_halving(model), ratio=0.5, below=True))  # fmt: skip
        rows.append(_test_claim("P4", model, f"SAG costs less than {SAG_TOLERANCE:.0f} points", greedy, voted,
                         _published(model, FTP, FTP, voted=True), margin=-SAG_TOLERANCE))  # fmt: skip
    for model in sizes:
        rows.append(_test_claim("P5", model, "agent distillation beats agent prompting", arm(model, PROMPTED), arm(model, AGENT),
                         _published(model, PROMPTED, AGENT)))  # fmt: skip
    found = pd.DataFrame(rows).set_index("claim")
    tested = found["p"].notna()
    found.loc[tested, "p (Holm)"] = statistics.holm(found.loc[tested, "p"])
    found["holds"] = [_verdict(row) for _, row in found.iterrows()]
    return found.drop(columns="below")


def _test_claim(number: str, model: str, words: str, a: pd.DataFrame, b: pd.DataFrame, published: float, *, ratio: float = 1.0,
         margin: float = 0.0, below: bool = False) -> dict[str, object]:  # fmt: skip
    """A claim on b - ratio * a: to lie above `margin`, or (`below`) under it."""
    row = {
        "claim": f"{number} · {estimates.size_label(model)}: {words}",
        "margin": margin,
        "below": below,
        "published": published,
    }
    if a.empty or b.empty:
        return (
            row
            | dict.fromkeys(("a", "b", "difference", "low", "high", "p", "p (Holm)"), math.nan)
            | {"n": 0}
        )
    found = statistics.compare(a, b, ratio=ratio, margin=margin / 100)
    names = {
        "a": "accuracy_a",
        "b": "accuracy_b",
        "difference": "difference",
        "low": "low",
        "high": "high",
    }
    return (
        row
        | {name: 100 * found[key] for name, key in names.items()}
        | {"p": found["p"], "n": found["n"]}
    )


def _verdict(row: pd.Series) -> str:
    if not row["n"]:
        return tables.NOT_RUN
    if row["p (Holm)"] > 0.05 or row["low"] <= row["margin"] <= row["high"]:
        return tables.UNSETTLED
    return "yes" if (row["high"] < row["margin"]) == row["below"] else "no"


def claim_table(found: pd.DataFrame) -> pd.DataFrame:
    """The claims of `check` as text; the published difference stands last."""

    def row(claim: pd.Series) -> dict[str, object]:
        ran = claim["n"] > 0
        difference = (
            f"{claim['difference']:+.1f} {tables.format_interval(claim['low'], claim['high'])}"
        )
        return {"a (%)": f"{claim['a']:.1f}" if ran else "", "b (%)": f"{claim['b']:.1f}" if ran else "",
                "difference": difference if ran else "", "margin": f"{claim['margin']:.0f}", "p": tables.format_p(claim["p"]),
                "p (Holm)": tables.format_p(claim["p (Holm)"]), "n": int(claim["n"]), "holds": claim["holds"],
                "published": "" if math.isnan(claim["published"]) else f"{claim['published']:+.1f}"}  # fmt: skip

    return pd.DataFrame([row(claim) for _, claim in found.iterrows()], index=found.index)


def _published(model: str, a: str, b: str, voted: bool = False) -> float:
    """b - a of two methods' published means at the size nearest to a model's; with `voted`, b is the run with SAG."""
    return tables.published_mean(model, b, voted) - tables.published_mean(model, a)


def _published_reach(model: str) -> float:
    return tables.published_mean(model, FTP, True) - tables.published_mean(model, COT, larger=1)


def _published_halving(model: str) -> float:
    """b - a / 2 of the published shares of questions with broken code, mean of the three benchmarks of Fig. 7 (digitised)."""
    found = estimates.read_published("fig7_code_errors_digitised")
    near = tables.nearest_size(model, found["Model"].unique())
    shares = found[found["Model"] == near].groupby("Setting")["Total_err_pct"].mean()
    return shares["w/ SAG"] - shares["w/o SAG"] / 2


def _with_broken_code(cases: pd.DataFrame) -> pd.DataFrame:
    """The cases with "a kept action failed to parse or to run" as what is counted; unknown where there was no answer."""
    errors = cases["parse_errors"] + cases["execution_errors"]
    return cases.assign(correct=(errors > 0).where(errors.notna(), None))


def prefix_effects(taught: Mapping[str, Sequence[dict]]) -> pd.DataFrame:
    """What the first-thought prefix changes in the teacher's runs, a row per method: yield, thoughts, searches, and the
    questions with a step whose code is missing or does not parse, or fails to run."""
    rows = {}
    for method in ("agent", "agent_ftp"):
        found = pd.DataFrame(taught[method])
        words = found["trace"].map(
            lambda trace: len(trace[0]["text"].partition("Code:")[0].split()) if trace else 0
        )
        rows[tables.method_label(method, 1)] = {
            "questions": len(found), "right (%)": 100 * found["correct"].fillna(False).astype(bool).mean(),
            "words of the first thought": words.mean(), "searches a question": found["tool_calls"].mean(),
            "steps a question": found["steps"].mean(),
            "code missing or not parsed (%)": 100 * (found["parse_errors"].dropna() > 0).mean(),
            "code failed to run (%)": 100 * (found["execution_errors"].dropna() > 0).mean(),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def code_error_rates(cases: pd.DataFrame) -> pd.DataFrame:
    """Share (%) of agents' finished questions with a step whose kept action failed to parse or to run, a row per model,
    method and n."""
    agents = cases[cases["method"].str.startswith("agent") & cases["parse_errors"].notna()]
    shares = agents.assign(
        parse=agents["parse_errors"] > 0, execution=agents["execution_errors"] > 0
    )
    by_arm = shares.groupby(["model", "method", "n"])
    return (100 * by_arm[["parse", "execution"]].mean()).assign(questions=by_arm.size())


def early_stop(cases: pd.DataFrame) -> pd.DataFrame:
    """Samples that SAG's exact early stop left unfinished, a row a model, method and n; all chosen actions are those
    of the full vote."""
    voted = cases[cases["method"].str.startswith("agent") & (cases["n"] > 1)]
    rows = voted.groupby(["model", "method", "n"])[["candidates", "dropped"]].sum().astype(int)
    return rows.assign(**{"left unfinished (%)": 100 * rows["dropped"] / rows["candidates"]})
