"""The paper's tables as text: ours, and ours beside the published values.

Accuracies are per cent with a 95 % interval and n.
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
    mean_over_benchmarks,
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
# The paper's in-domain benchmarks -> the sets of training questions of their kind (§4.1).
TRAIN_SETS = {"hotpotqa": ("hotpotqa-train",), "math500": ("math-hard-train", "math-medium-train")}
METHOD_LABELS = config.METHODS | {
    "agent_ftp": "Agent prompting + FTP"
}  # which a teacher is run with
NOT_RUN = "not run"
UNSETTLED = "not settled"  # of a claim: its interval spans the margin
COSTS = {"steps": "steps", "tokens": "completion_tokens", "seconds": "seconds"}
NO_BREAK = "\N{NO-BREAK SPACE}"  # keeps an interval in one line of a narrow cell


def format_estimate(point: Estimate, count: bool = True) -> str:
    """An estimate as the cell of a table: "37.5 [30.1, 45.5] n=160", or without its count.

    Questions without an answer are counted in brackets; an estimate without a value is "not run".
    """
    if math.isnan(point.value):
        return NOT_RUN
    interval = "" if math.isnan(point.low) else f" {format_interval(point.low, point.high)}"
    gap = f" ({point.unanswered} unanswered)" if point.unanswered else ""
    return f"{point.value:.1f}{interval}" + (f" n={point.n}" if count else "") + gap


def format_interval(low: float, high: float) -> str:
    """An interval as it is written behind its number: "[30.1, 45.5]"."""
    return f"[{low:.1f},{NO_BREAK}{high:.1f}]"


def format_p(p: float) -> str:
    """A p-value with three digits: "0.046", "<0.001"; "" for NaN."""
    if math.isnan(p):
        return ""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def format_estimates(points: pd.DataFrame) -> pd.DataFrame:
    """A table of estimates as text.

    Where all estimates of a column have the same n, the column's head says it instead of each cell.
    """
    columns = {}
    for name, column in points.items():
        sizes = {point.n for point in column if not math.isnan(point.value)}
        same = len(sizes) == 1
        head = f"{name} (n={min(sizes)})" if same else name
        columns[head] = [format_estimate(point, count=not same) for point in column]
    return pd.DataFrame(columns, index=points.index)


def method_label(method: str, n: int) -> str:
    """A method and its number of samples in words: "Agent distillation + FTP + SAG (n=8)"."""
    words = METHOD_LABELS.get(method, method)
    if n == 1:
        return words
    return f"{words} + {'SAG' if method.startswith('agent') else 'self-consistency'} (n={n})"


def table2(cases: pd.DataFrame) -> pd.DataFrame:
    """Table 2 (and 3 and 4, which differ only in the models): methods by benchmarks, with n.

    Votes that were run on some benchmarks only, for Figure 5, are left out.
    """
    points = accuracy_table(cases)
    partial = [n > 1 and math.isnan(mean.value) for (_, _, n), mean in points["mean"].items()]
    if not all(partial):
        points = points[[not left_out for left_out in partial]]
    return _by_model(points, [method_label(method, n) for _, method, n in points.index])


def _by_model(points: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """A table of estimates as text, its rows named by model and these labels."""
    models = points.index.get_level_values("model")
    index = pd.MultiIndex.from_arrays([models, labels], names=["model", "method"])
    return format_estimates(points).set_axis(index)


def cost_table(cases: pd.DataFrame) -> pd.DataFrame:
    """What an answer takes, a row for each model, method and n: questions, per cent right, and of a
    question the steps, the tokens generated and the seconds (a batch's are shared out evenly)."""
    rows = {}
    for key, group in cases.groupby(["model", "method", "n"], sort=False):
        each = group.drop_duplicates(["benchmark", "id"], keep="last")
        means = {name: each[field].mean() for name, field in COSTS.items() if field in each}
        right = each["correct"].fillna(False).astype(float).mean()
        rows[key] = {"questions": len(each), "right (%)": 100 * right} | means
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.set_axis(pd.MultiIndex.from_tuples(table.index, names=["model", "method", "n"]))


def label_rows(table: pd.DataFrame) -> pd.DataFrame:
    """A table by model, method and n, its rows named by the model's size and the method's label.

    Other levels of the index stay in front.
    """
    levels = table.index.to_frame(index=False)
    labels = map(method_label, levels["method"], levels["n"])
    words = levels.drop(columns=["method", "n"])
    words = words.assign(model=levels["model"].map(size_label), method=list(labels))
    return table.set_axis(pd.MultiIndex.from_frame(words))


def format_numbers(table: pd.DataFrame, digits: int = 1) -> pd.DataFrame:
    """A table of numbers as text, with so many digits; whole columns have none, NaN is empty."""

    def format_column(column: pd.Series) -> pd.Series:
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            return column
        places = 0 if (column.dropna() % 1 == 0).all() else digits
        return column.map(lambda value: "" if pd.isna(value) else f"{value:.{places}f}")

    return table.apply(format_column)


def comparison_table(found: Mapping[object, Mapping[str, float]]) -> pd.DataFrame:
    """Paired comparisons (`statistics.compare`) in per cent, one row each.

    Columns: n, both sides, their difference with its interval, what only one side got right, and p.
    """
    rows = []
    for compared in found.values():
        percent = {name: 100 * compared[name] for name in ("difference", "low", "high")}
        interval = format_interval(percent["low"], percent["high"])
        rows.append(
            {
                "n": compared["n"],
                "a (%)": f"{100 * compared['accuracy_a']:.1f}",
                "b (%)": f"{100 * compared['accuracy_b']:.1f}",
                "b - a": f"{percent['difference']:+.1f} {interval}",
                "only a": compared["only_a"],
                "only b": compared["only_b"],
                "p": format_p(compared["p"]),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(list(found)))


def mean_table(cases: pd.DataFrame) -> pd.DataFrame:
    """The last column of Table 2 alone: methods by model sizes, which fits on a first screen."""
    points = accuracy_table(cases)["mean"]
    sizes = list(map(size_label, sort_by_size(points.index.get_level_values("model"))))
    found: dict[str, dict[str, Estimate]] = {}
    for (model, method, n), point in points.items():
        if not math.isnan(point.value):  # a method that was run on some benchmarks has no mean
            found.setdefault(method_label(method, n), {})[size_label(model)] = point
    rows = {
        method: [means.get(size, Estimate()) for size in sizes] for method, means in found.items()
    }
    return format_estimates(estimate_table(rows, sizes)).rename_axis("method")


def domain_table(cases: pd.DataFrame, *, trained_on: Sequence[str]) -> pd.DataFrame:
    """Means over the in-domain benchmarks (whose kind students were trained on), the others, and
    all: methods by these, in the order of Table 2.

    `trained_on` are the training sets of the students (`Config.train_sets`). In-domain are those of
    the paper's in-domain benchmarks that one of them belongs to; a group without a benchmark has no
    column. Raises ValueError for a benchmark that is none of the paper's.
    """
    cases = prepare_cases(cases)
    known = {
        name: b.in_domain and any(name in TRAIN_SETS[b.name] for name in trained_on)
        for b in config.BENCHMARKS
        for name in (b.name, b.slice)
    }
    ran = list(cases["benchmark"].unique())
    if unknown := [name for name in ran if name not in known]:
        raise ValueError(
            f"benchmark {unknown[0]!r} is none of the paper's eight, so nobody knows whether it is"
            f" in-domain; expected some of {', '.join(known)}"
        )
    groups = {
        "in-domain": [name for name in ran if known[name]],
        "out-of-domain": [name for name in ran if not known[name]],
        "all": ran,
    }
    groups = {label: names for label, names in groups.items() if names}
    order = accuracy_table(cases).index
    conditions = dict(tuple(cases.groupby(order.names, dropna=False)))
    rows = {
        key: [mean_over_benchmarks(conditions[key], names) for names in groups.values()]
        for key in order
    }
    points = estimate_table(rows, list(groups)).set_axis(order)
    return _by_model(points, [method_label(method, n) for _, method, n in order])


def supported_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Supported accuracy on the factual benchmarks: right, and every gold passage was seen.

    Questions without annotated passages (all of Bamboogle) are left out. Raises ValueError for
    cases that do not say whether they were supported.
    """
    if "supported" not in cases:
        raise ValueError(
            "the table of cases lacks 'supported', expected cases that `evaluate.publish` wrote of"
            " the slice's questions"
        )
    known = prepare_cases(cases[cases["supported"].notna()])
    supported = known["supported"].fillna(False).astype(bool)
    right = known["correct"].fillna(False).astype(bool)
    points = accuracy_table(known.assign(correct=right & supported))
    return _by_model(points, [method_label(method, n) for _, method, n in points.index])


def table5(teacher_cases: pd.DataFrame) -> pd.DataFrame:
    """Table 5: the teacher on the training sets (columns), by CoT, agent and agent + FTP (rows)."""
    points = accuracy_table(teacher_cases, split="train").drop(columns="mean")
    words = {"cot": "CoT", "agent": "Agent", "agent_ftp": "Agent + FTP"}
    labels = [
        words.get(method, method) + ("" if n == 1 else f" (n={n})") for _, method, n in points.index
    ]
    return _by_model(points, labels)


def table6(cases: pd.DataFrame, method: str = "agent_distill_ftp") -> pd.DataFrame:
    """Table 6: temperature of SAG (rows) by benchmark (columns), of the largest student in `cases`.

    Several benchmarks also have a mean. Raises ValueError if nothing was run with several samples.
    """
    cases = prepare_cases(cases, one_setting=False)
    chosen = _voted(cases, method, "the temperature sweep")
    chosen = select(chosen, model=sort_by_size(chosen["model"])[-1])
    names = list(dict.fromkeys(chosen["benchmark"]))
    rows = {}
    for temperature in sorted(chosen["temperature"].unique()):
        sampled = select(chosen, temperature=temperature)
        points = [accuracy(select(sampled, benchmark=name)) for name in names]
        rows[temperature] = [*points, mean_accuracy(points)] if len(names) > 1 else points
    table = estimate_table(rows, [*names, "mean"] if len(names) > 1 else names)
    return format_estimates(table).rename_axis("temperature")


def _voted(cases: pd.DataFrame, method: str, work: str) -> pd.DataFrame:
    """The cases of a method with SAG; raises ValueError, which names the work to run, if none."""
    chosen = select(cases, method=method, n=vote_size(cases))
    if chosen.empty:
        raise ValueError(
            f"no case of method {method!r} with more than one sample; run {work} first"
        )
    return chosen


def table7(cases: pd.DataFrame, method: str = "agent_distill_ftp") -> pd.DataFrame:
    """Table 7: accuracy (%) over inference seeds, one row per benchmark and model.

    Columns: mean, standard deviation (with n - 1), lowest, highest, seeds, and questions per seed.
    Raises ValueError if nothing was run with several samples.
    """
    chosen = _voted(prepare_cases(cases, one_setting=False), method, "the seeds")
    rows = []
    models = sort_by_size(chosen["model"])
    for benchmark, model in itertools.product(dict.fromkeys(chosen["benchmark"]), models):
        found = select(chosen, benchmark=benchmark, model=model)
        if found.empty:
            continue
        seeds = [accuracy(group) for _, group in found.groupby("seed")]
        values = pd.Series([point.value for point in seeds])
        rows.append(
            {
                "benchmark": benchmark,
                "model": model,
                "mean": values.mean(),
                "std": values.std(ddof=1),
                "low": values.min(),
                "high": values.max(),
                "seeds": len(seeds),
                "n": min(point.n for point in seeds),
            }
        )
    return pd.DataFrame(rows).set_index(["benchmark", "model"])


def table8(
    runs: Mapping[str, pd.DataFrame], method: str = "agent_distill_ftp", varied: str = "tuning"
) -> pd.DataFrame:
    """Table 8: kinds of fine-tuning, or values of what else was `varied` (rows), by benchmark.

    `runs` maps each kind ("LoRA", "QLoRA", "full") to its cases, because a record does not say how
    its model was tuned. Raises ValueError if there are no runs.
    """
    rows = {}
    for label, cases in runs.items():
        points = accuracy_table(cases[cases["method"] == method])
        for (model, _, n), row in points.iterrows():
            rows[(label, size_label(model), n)] = dict(row)
    if not rows:
        raise ValueError(
            "no run to compare, expected a mapping such as {'LoRA': cases, 'QLoRA': cases}"
        )
    names = dict.fromkeys(name for row in rows.values() for name in row if name != "mean")
    names = [*names, "mean"]
    points = {key: [row.get(name, Estimate()) for name in names] for key, row in rows.items()}
    index = pd.MultiIndex.from_tuples(rows, names=[varied, "model", "n"])
    return format_estimates(estimate_table(points, names).set_axis(index))


def nearest_size(model: str, sizes: Sequence[str]) -> str:
    """The published size that is nearest in ratio to a model's."""
    wanted = parameter_count(model)
    return min(sizes, key=lambda size: abs(math.log(parameter_count(size) / wanted)))


def published_mean(model: str, method: str, voted: bool = False, larger: int = 0) -> float:
    """A method's published mean (%) over the eight benchmarks, at the size nearest to a model's.

    `voted` is the run with SAG; `larger` moves to the next larger sizes by so many steps. It is the
    mean of the columns of Table 2, because some printed averages are not. NaN where the paper has
    no such student.
    """
    paper = read_published("table2_main").set_index(["Params", "Family", "Method"])
    sizes = sort_by_size(paper.index.get_level_values("Params"))
    sizes = sizes[sizes.index(nearest_size(model, sizes)) + larger :]
    if not sizes:
        return math.nan
    return float(paper["Avg_recomputed"].get((sizes[0], *PUBLISHED_ROW[method, voted]), math.nan))


def compare_with_paper(cases: pd.DataFrame) -> pd.DataFrame:
    """Our accuracies (%) beside those of the published Table 2, one row per number.

    Each is compared with the same method at the published size nearest in ratio. Ours are other
    models, and a slice has only some of a benchmark's questions: compare the ranking of methods,
    not the scores.
    """
    paper = read_published("table2_main").set_index(["Params", "Family", "Method"])
    sizes = paper.index.get_level_values("Params").unique()
    rows = []
    for (model, method, n), points in accuracy_table(cases).iterrows():
        near = nearest_size(model, sizes)
        key = (near, *PUBLISHED_ROW.get((method, bool(n > 1)), ()))
        row = paper.loc[key] if len(key) > 1 and key in paper.index else {}
        for name, point in points.items():
            # The mean of the columns, because some printed averages are not that.
            column = "Avg_recomputed" if name == "mean" else PUBLISHED_AS.get(name)
            rows.append(
                {
                    "model": model,
                    "method": method_label(method, n),
                    "benchmark": name,
                    "accuracy": point.value,
                    "low": point.low,
                    "high": point.high,
                    "asked": point.n,
                    "published": float(row.get(column, math.nan)),
                    "published_size": near,
                }
            )
    return pd.DataFrame(rows)


def to_markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, with its index as the first columns."""
    flat = table.reset_index() if any(table.index.names) else table
    rows = [[_cell(name) for name in flat.columns], ["---"] * flat.shape[1]]
    rows += [[_cell(value) for value in row] for row in flat.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return str(value).replace("|", "\\|").replace(NO_BREAK, " ")


def save_table(table: pd.DataFrame, folder: Path, name: str, note: str = "") -> Path:
    """Write `<folder>/<name>.md`, with `note` below it, which says where the numbers are from."""
    file = Path(folder) / f"{name}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(to_markdown(table) + (f"\n{note}\n" if note else ""), encoding="utf-8")
    return file
