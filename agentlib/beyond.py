"""Figures that the paper does not have: a table of cases in, a Figure out.

Owns what is drawn. Knows nothing of how a number is computed (`tables`) or how marks look (`charts`).
"""

import pandas as pd
from matplotlib.figure import Figure

from agentlib.charts import COLOURS, blank, finish, footer, styled, whisker
from agentlib.tables import Point, accuracy, cases_of, mean_accuracy, pick, size_label

LINES = {  # label: domain, colour, marker
    "all benchmarks": (None, COLOURS["agent_distill"], "o"),
    "factual": ("factual", COLOURS["cot_distill"], "s"),
    "maths": ("math", COLOURS["agent_distill_ftp"], "^"),
}


@styled
def data_efficiency(cases: pd.DataFrame, note: str = "") -> Figure:
    """Mean accuracy of the distilled agent against the number of trajectories it was trained on, `value` of a case of
    the setting "trajectories"; whiskers are 95 % intervals over questions.

    Raises ValueError if no number of trajectories was varied.
    """
    varied = cases[cases["setting"] == "trajectories"] if "setting" in cases else cases.iloc[:0]
    if varied.empty:
        raise ValueError("no case varies the number of trajectories, expected some; run notebook 04 with sweep_examples set")
    (model,) = varied["model"].unique()
    counts = sorted(varied["value"].astype(int).unique())

    def mean(count: int, domain: str | None) -> Point:
        some = cases_of(varied[varied["value"] == count])
        some = some if domain is None else pick(some, domain=domain)
        return mean_accuracy([accuracy(group) for _, group in some.groupby("benchmark")])

    drawn = {label: [mean(count, domain) for count in counts] for label, (domain, *_) in LINES.items()}
    figure = blank(6.0, 3.7, footer(note, [p for line in drawn.values() for p in line], "mean of the benchmarks, greedy"))
    axes = figure.subplots()
    for shift, (label, points) in zip((1.0, 0.97, 1.03), drawn.items(), strict=True):
        _, colour, marker = LINES[label]
        places = [count * shift for count in counts]
        axes.plot(places, [p.value for p in points], color=colour, marker=marker, markersize=5, label=label, zorder=3)
        for place, point in zip(places, points, strict=True):
            whisker(axes, place, point, colour)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_xticks([], minor=True)
    finish(axes)
    axes.set(title=f"Agent distillation, {size_label(model)}", xlabel="trajectories trained on", ylabel="accuracy (%)")
    axes.legend(loc="best")
    return figure
