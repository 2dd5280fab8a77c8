"""The paper's tables, from points to text: ours, and ours beside the published.

Owns their rows, columns and cells. Knows nothing of runs on disk, nor of where a number comes from (`estimates`).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from agentlib import config
from agentlib.figures.estimates import (
    PUBLISHED_AS,
    Estimate,
    accuracy,
    accuracy_table,
    estimate_table,
    mean_accuracy,
    parameter_count,
    prepare_cases,
    read_published,
    select,
    size_label,
    sort_by_size,
    vote_size,
)

# Our (method, more than one sample) -> (Family, Method) of the published Table 2.
PUBLISHED_ROW = {
    ("cot", False): ("CoT", "Prompting"),
    ("cot_distill", False): ("CoT", "Distill"),
    ("cot_distill_rag", False): ("CoT", "Distill+RAG"),
    ("agent", False): ("Agent", "Prompting"),
    ("agent_distill", False): ("Agent", "Distill"),
    ("agent_distill_ftp", False): ("Agent", "Distill+FTP"),
    ("agent_distill", True): ("Agent", "Distill+SAG"),
    ("agent_distill_ftp", True): ("Agent", "Distill+FTP+SAG"),
}
NOT_RUN = "not run"
UNSETTLED = "not settled"  # of a claim: its interval spans the margin
NO_BREAK = "\N{NO-BREAK SPACE}"  # keeps an interval in one line of a narrow cell


def format_estimate(point: Estimate, count: bool = True) -> str:
    """A point as a cell of a table: "37.5 [30.1, 45.5] n=160", or without its count; questions without an answer are named."""
    if math.isnan(point.value):
        return NOT_RUN
    interval = "" if math.isnan(point.low) else f" {format_interval(point.low, point.high)}"
    gap = f" ({point.unanswered} unanswered)" if point.unanswered else ""
    return f"{point.value:.1f}{interval}" + (f" n={point.n}" if count else "") + gap


def format_interval(low: float, high: float) -> str:
    """An interval as it stands behind its number: "[30.1, 45.5]"."""
    return f"[{low:.1f},{NO_BREAK}{high:.1f}]"


def format_p(p: float) -> str:
    """A p-value with three digits: "0.046", "<0.001"; "" for NaN."""
    return "" if math.isnan(p) else "<0.001" if p < 0.0005 else f"{p:.3f}"


def format_estimates(points: pd.DataFrame) -> pd.DataFrame:
    """A table of points as text. Where all points of a column count as many questions, its head says so instead of each."""
    shown = {}
    for name, column in points.items():
        sizes = {point.n for point in column if not math.isnan(point.value)}
        alike = len(sizes) == 1
        shown[f"{name} (n={min(sizes)})" if alike else name] = [
            format_estimate(point, count=not alike) for point in column
        ]
    return pd.DataFrame(shown, index=points.index)


def method_label(method: str, n: int) -> str:
    """A method and its samples in words: "Agent distillation + FTP + SAG (n=8)"."""
    words = config.METHODS.get(method, "Agent prompting + FTP" if method == "agent_ftp" else method)
    if n == 1:
        return words
    return f"{words} + {'SAG' if method.startswith('agent') else 'self-consistency'} (n={n})"


def table2(cases: pd.DataFrame) -> pd.DataFrame:
    """Table 2 (and 3 and 4, which differ only in the models): methods by benchmarks, with intervals and n.

    Votes that were run on some benchmarks only, for Figure 5, are left to it.
    """
    points = accuracy_table(cases)
    part = [n > 1 and math.isnan(mean.value) for (_, _, n), mean in points["mean"].items()]
    points = points[[not left for left in part]] if not all(part) else points
    labels = [method_label(method, n) for _, method, n in points.index]
    index = pd.MultiIndex.from_arrays(
        [points.index.get_level_values("model"), labels], names=["model", "method"]
    )
    return format_estimates(points).set_axis(index)


def label_rows(table: pd.DataFrame) -> pd.DataFrame:
    """A table by model, method and n, with the model's size and the method's name in their place; other levels stay in front."""
    levels = table.index.to_frame(index=False)
    labels = [
        method_label(method, n) for method, n in zip(levels["method"], levels["n"], strict=True)
    ]
    words = levels.drop(columns=["method", "n"]).assign(
        model=levels["model"].map(size_label), method=labels
    )
    return table.set_axis(pd.MultiIndex.from_frame(words))


def format_numbers(table: pd.DataFrame, digits: int = 1) -> pd.DataFrame:
    """A table of numbers as text: so many digits, whole columns without, nothing where a number is missing."""

    def shown(column: pd.Series) -> pd.Series:
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            return column
        places = 0 if (column.dropna() % 1 == 0).all() else digits
        return column.map(lambda value: "" if pd.isna(value) else f"{value:.{places}f}")

    return table.apply(shown)


def comparison_table(found: Mapping[object, Mapping[str, float]]) -> pd.DataFrame:
    """Paired comparisons (`statistics.compare`), a row each, in per cent: both sides, their difference with its interval, what only
    one got right, and p."""
    rows = [
        {"n": c["n"], "a (%)": f"{100 * c['accuracy_a']:.1f}", "b (%)": f"{100 * c['accuracy_b']:.1f}",
         "b - a": f"{100 * c['difference']:+.1f} {format_interval(100 * c['low'], 100 * c['high'])}",
         "only a": c["only_a"], "only b": c["only_b"], "p": format_p(c["p"])}
        for c in found.values()
    ]  # fmt: skip
    return pd.DataFrame(rows, index=pd.Index(list(found)))


def mean_table(cases: pd.DataFrame) -> pd.DataFrame:
    """The last column of Table 2 alone, methods by model sizes: what fits on a first screen."""
    points = accuracy_table(cases)["mean"]
    sizes = [
        size_label(model) for model in sort_by_size(list(points.index.get_level_values("model")))
    ]
    found: dict[str, dict[str, Estimate]] = {}
    for (model, method, n), point in points.items():
        if not math.isnan(point.value):  # a method that was run on some benchmarks only has no mean
            found.setdefault(method_label(method, n), {})[size_label(model)] = point
    rows = {
        method: [of_size.get(size, Estimate()) for size in sizes]
        for method, of_size in found.items()
    }
    return format_estimates(estimate_table(rows, sizes)).rename_axis("method")


def table5(teacher_cases: pd.DataFrame) -> pd.DataFrame:
    """Table 5: the teacher on the training sets (columns), by CoT, agent and agent + FTP (rows)."""
    points = accuracy_table(teacher_cases, split="train").drop(columns="mean")
    labels = {"cot": "CoT", "agent": "Agent", "agent_ftp": "Agent + FTP"}
    rows = [
        f"{labels.get(method, method)}" + ("" if n == 1 else f" (n={n})")
        for _, method, n in points.index
    ]
    index = pd.MultiIndex.from_arrays(
        [points.index.get_level_values("model"), rows], names=["model", "method"]
    )
    return format_estimates(points).set_axis(index)


def table6(cases: pd.DataFrame, method: str = "agent_distill_ftp") -> pd.DataFrame:
    """Table 6: temperature of SAG (rows) by benchmark (columns) and, of several, their mean, for the largest student in `cases`."""
    cases = prepare_cases(cases, one_setting=False)
    chosen = select(cases, method=method, n=vote_size(cases))
    chosen = select(chosen, model=sort_by_size(chosen["model"])[-1]) if len(chosen) else chosen
    if chosen.empty:
        raise ValueError(
            f"no case of method {method!r} with more than one sample; run the temperature sweep first"
        )
    names = list(dict.fromkeys(chosen["benchmark"]))
    rows = {}
    for temperature in sorted(chosen["temperature"].unique()):
        points = [
            accuracy(select(chosen, temperature=temperature, benchmark=name)) for name in names
        ]
        rows[temperature] = [*points, mean_accuracy(points)] if len(points) > 1 else points
    return format_estimates(
        estimate_table(rows, [*names, "mean"] if len(names) > 1 else names)
    ).rename_axis("temperature")


def table7(cases: pd.DataFrame, method: str = "agent_distill_ftp") -> pd.DataFrame:
    """Table 7: mean and standard deviation (n - 1) of accuracy over inference seeds, a row a benchmark and model."""
    cases = prepare_cases(cases, one_setting=False)
    chosen = select(cases, method=method, n=vote_size(cases))
    if chosen.empty:
        raise ValueError(
            f"no case of method {method!r} with more than one sample; run the seeds first"
        )
    rows = []
    for benchmark, model in itertools.product(
        dict.fromkeys(chosen["benchmark"]), sort_by_size(chosen["model"])
    ):
        if not len(there := select(chosen, benchmark=benchmark, model=model)):
            continue
        seeds = [accuracy(group) for _, group in there.groupby("seed")]
        values = pd.Series([point.value for point in seeds])
        spread = {
            "mean": values.mean(),
            "std": values.std(ddof=1),
            "low": values.min(),
            "high": values.max(),
        }
        counts = {"seeds": len(seeds), "n": min(point.n for point in seeds)}
        rows.append({"benchmark": benchmark, "model": model, **spread, **counts})
    return pd.DataFrame(rows).set_index(["benchmark", "model"])


def table8(
    runs: Mapping[str, pd.DataFrame], method: str = "agent_distill_ftp", varied: str = "tuning"
) -> pd.DataFrame:
    """Table 8: kinds of fine-tuning (rows: "LoRA", "QLoRA", "full") by benchmark, or values of what else is `varied`. A
    record does not say how its model was tuned, so the caller names each run's cases."""
    rows = {}
    for label, cases in runs.items():
        points = accuracy_table(cases[cases["method"] == method])
        for (model, _, n), row in points.iterrows():
            rows[(label, size_label(model), n)] = dict(row)
    if not rows:
        raise ValueError(
            "no run to compare, expected a mapping such as {'LoRA': cases, 'QLoRA': cases}"
        )
    names = [
        *dict.fromkeys(name for row in rows.values() for name in row if name != "mean"),
        "mean",
    ]
    table = estimate_table(
        {key: [row.get(name, Estimate()) for name in names] for key, row in rows.items()}, names
    )
    return format_estimates(
        table.set_axis(pd.MultiIndex.from_tuples(rows, names=[varied, "model", "n"]))
    )


def nearest_size(model: str, sizes: Sequence[str]) -> str:
    """The published size nearest in ratio to a model's."""
    return min(
        sizes, key=lambda size: abs(math.log(parameter_count(size) / parameter_count(model)))
    )


def published_mean(model: str, method: str, voted: bool = False, larger: int = 0) -> float:
    """A method's published mean over the eight benchmarks at the size nearest to a model's, or at one `larger` by so many
    steps: the mean of the columns, because some printed averages are not (slip 1 of the paper's page). NaN where the paper
    has no such student."""
    paper = read_published("table2_main").set_index(["Params", "Family", "Method"])[
        "Avg_recomputed"
    ]
    sizes = sort_by_size(paper.index.get_level_values("Params"))
    sizes = sizes[sizes.index(nearest_size(model, sizes)) + larger :]
    return (
        float(paper.get((sizes[0], *PUBLISHED_ROW[method, voted]), math.nan)) if sizes else math.nan
    )


def compare_with_paper(cases: pd.DataFrame) -> pd.DataFrame:
    """Ours beside the published Table 2, a row a number: the same method at the published size nearest in ratio.

    A mini benchmark mirrors the published one but is another set of questions: the two are side by side so that
    the order of methods can be compared, not their level.
    """
    paper = read_published("table2_main").set_index(["Params", "Family", "Method"])
    sizes = paper.index.get_level_values("Params").unique()
    rows = []
    for (model, method, n), points in accuracy_table(cases).iterrows():
        wanted = PUBLISHED_ROW.get((method, bool(n > 1)))
        near = nearest_size(model, sizes)
        row = paper.loc[(near, *wanted)] if wanted and (near, *wanted) in paper.index else None
        for name, point in points.items():
            # The mean of the columns, because some printed averages are not (slip 1 of the paper's page).
            column = "Avg_recomputed" if name == "mean" else PUBLISHED_AS.get(name)
            theirs = math.nan if row is None or column is None else float(row[column])
            number = {
                "accuracy": point.value,
                "low": point.low,
                "high": point.high,
                "asked": point.n,
            }
            rows.append({"model": model, "method": method_label(method, n), "benchmark": name, **number,
                         "published": theirs, "published_size": near})  # fmt: skip
    return pd.DataFrame(rows)


def to_markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, its index as first columns."""
    flat = table.reset_index() if any(table.index.names) else table
    rows = [[_cell(name) for name in flat.columns], ["---"] * flat.shape[1]]
    rows += [[_cell(value) for value in row] for row in flat.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return str(value).replace("|", "\\|").replace(NO_BREAK, " ")


def save_table(table: pd.DataFrame, folder: Path, name: str, note: str = "") -> Path:
    """Write `<folder>/<name>.md`, with a line below that says what it was made of."""
    file = Path(folder) / f"{name}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(to_markdown(table) + (f"\n{note}\n" if note else ""), encoding="utf-8")
    return file
