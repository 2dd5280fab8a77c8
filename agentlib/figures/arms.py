"""What students learnt from their own mistakes (notebook 11): a chart and tables, from the records
that `rounds.publish` writes.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from textwrap import TextWrapper

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from agentlib import config, records
from agentlib.figures import statistics
from agentlib.figures.captions import join_words
from agentlib.figures.estimates import accuracy, select
from agentlib.figures.palette import BLUE, GREEN, VERMILLION
from agentlib.figures.style import (
    Caption,
    draw_interval,
    finish_axes,
    footer_text,
    mark_not_run,
    mark_zero,
    new_chart,
    set_caption,
    styled,
)
from agentlib.figures.tables import format_interval, format_p

LABELS = {  # of the arms, in the order they are drawn
    "teacher": "teacher only",
    "repair": "repairs",
    "own1": "own runs, round 1",
    "own2": "own runs, round 2",
    "own3": "own runs, round 3",
    "select-shortest": "shortest of the teacher's",
    "select-random": "random of the teacher's",
    "select-likeliest": "likeliest of the teacher's",
}
TESTS = {  # colour, hatch
    "in-domain": (GREEN, ""),
    "new templates": (BLUE, "///"),
    "Bamboogle": (BLUE, "..."),
    "failing search": (VERMILLION, "xxx"),
}
CONTROL = "teacher"  # as many steps on the teacher's runs alone


def read_arms(cfg: config.Config) -> tuple[pd.DataFrame, list[dict]]:
    """The answers and the yields that the experiment of notebook 11 published.

    Raises FileNotFoundError, with the command, where it has not run.
    """
    folder = config.ROOT / "figures" / "records" / "improve"
    if not (folder / "cases.jsonl").exists():
        raise FileNotFoundError(
            f"{folder / 'cases.jsonl'} is not there, expected the answers of the arms; run `python"
            " tools/experiment/pieces.py --experiment improve --pack`"
        )
    return (
        statistics.to_frame(records.read(folder / "cases.jsonl")),
        list(records.read(folder / "rounds.jsonl")),
    )


def arm_differences(cases: pd.DataFrame) -> pd.DataFrame:
    """Each arm against the control on the same questions, test by test: n, the difference in points
    with its interval, and p, corrected for all of them together (Holm)."""
    rows = []
    for test in _tests(cases):
        group = select(cases, test=test)
        control = select(group, arm=CONTROL)
        for arm in LABELS:
            if arm != CONTROL and len(mine := select(group, arm=arm)) and len(control):
                found = statistics.compare(control, mine)
                points = {k: 100 * found[k] for k in ("difference", "low", "high")}
                rows.append({"test": test, "arm": LABELS[arm], "n": found["n"], **points})
                rows[-1]["p"] = found["p"]
    table = pd.DataFrame(rows, columns=["test", "arm", "n", "difference", "low", "high", "p"])
    return table.assign(p=statistics.holm(list(table["p"])))


def arm_table(cases: pd.DataFrame) -> pd.DataFrame:
    """`arm_differences` as text, one row for each test and arm."""
    found = arm_differences(cases)
    spread = [
        f"{row.difference:+.1f} {format_interval(row.low, row.high)}" for row in found.itertuples()
    ]
    shown = found[["test", "arm", "n"]].assign(difference=spread)
    return shown.assign(p=list(map(format_p, found["p"]))).set_index(["test", "arm"])


def _tests(cases: pd.DataFrame) -> list[str]:
    return [test for test in TESTS if test in set(cases["test"])]


@styled
def arm_chart(cases: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy (%) of each arm, a bar for each test, with 95 % intervals; the questions of all
    benchmarks of a test together.

    `cases` have the columns `arm` and `test`. Raises ValueError where they lack these, or hold an
    arm or a test without a name here.
    """
    for column, known in (("arm", LABELS), ("test", TESTS)):
        if column not in cases or cases.empty:
            raise ValueError(f"the cases have no {column!r}, expected those of `read_arms`")
        if unknown := sorted(set(cases[column]) - set(known)):
            raise ValueError(
                f"{column} {unknown[0]!r} is unknown, expected one of {', '.join(known)}"
            )
    arms, tests = [arm for arm in LABELS if arm in set(cases["arm"])], _tests(cases)
    drawn = {
        (test, arm): accuracy(select(cases, test=test, arm=arm)) for test in tests for arm in arms
    }
    footer = footer_text(note, drawn.values(), "whiskers: 95\u00a0% interval")
    figure = new_chart(max(7.0, 1.15 * len(arms)), 3.0, footer)
    axes = figure.subplots()
    width, wrap = 0.84 / len(tests), TextWrapper(13, break_long_words=False)
    for (k, test), (place, arm) in itertools.product(enumerate(tests), enumerate(arms)):
        colour, hatch = TESTS[test]
        x, point = place + (k - (len(tests) - 1) / 2) * width, drawn[test, arm]
        if math.isnan(point.value):
            mark_not_run(axes, x)
            continue
        if point.value:
            look = {"color": colour, "hatch": hatch, "edgecolor": "white"}
            axes.bar(x, point.value, width, linewidth=0.6, **look)
        else:
            mark_zero(axes, x, whisker=True)
        draw_interval(axes, x, point)
    axes.set_xticks(range(len(arms)), [wrap.fill(LABELS[arm]) for arm in arms])
    axes.set_ylabel("right answers (%)")
    finish_axes(axes)
    patches = [
        Patch(facecolor=TESTS[t][0], hatch=TESTS[t][1], edgecolor="white", label=t) for t in tests
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=len(patches))
    figure.alt = (
        f"Bars of accuracy of {join_words([LABELS[arm] for arm in arms])} in the tests"
        f" {join_words(tests)}, with 95 % intervals."
    )
    set_caption(figure, _caption(arm_differences(cases)))
    return figure


def _caption(found: pd.DataFrame) -> Caption:
    """What the chart shows: the differences from the control that are more than chance."""
    clear = found[found["p"] < 0.05]
    said = [f"{row.arm} {row.difference:+.1f} points ({row.test})" for row in clear.itertuples()]
    seen = (
        f"against as many steps on the teacher's runs alone: {join_words(said)}."
        if said
        else "no arm differs beyond chance from as many steps on the teacher's runs alone."
    )
    return Caption(
        seen[0].upper() + seen[1:],
        "Differences within the whiskers: they are over questions and the trainings that were run.",
    )


def round_table(rows: Iterable[Mapping]) -> pd.DataFrame:
    """What each round of own runs gave, in per cent, from the lines that `rounds.publish` wrote:
    runs right, questions with any right run, steps that failed; and how many runs were kept."""
    found = [row for row in rows if row["part"].startswith("round")]
    table = {
        row["part"]: {
            "questions": row["questions"],
            "runs per question": row["runs"] / row["questions"],
            "runs right (%)": 100 * row["pass_1"],
            "questions with a right run (%)": 100 * row["pass_k"],
            "broken steps (%)": 100 * row["broken"],
            "kept runs": row["kept"],
            "of questions": row["kept_questions"],
        }
        for row in found
    }
    return pd.DataFrame.from_dict(table, orient="index")
