"""The numbers under every figure, and the paper's tables: records in, points with n and interval out.

Owns `Point`, the choice of which cases a number is made of, the published values and the tables. Knows
nothing of models, of runs on disk or of how a number is drawn. All accuracies here are per cent.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from agentlib import config, records

# Our benchmark -> its column in the published Table 2. A mini benchmark is not the published one, only its mirror.
PUBLISHED_AS = {
    "mini-hotpot": "HotpotQA", "hotpotqa": "HotpotQA", "mini-math": "MATH500", "math500": "MATH500",
    "mini-musique": "MuSiQue", "musique": "MuSiQue", "mini-bamboogle": "Bamboogle", "bamboogle": "Bamboogle",
    "mini-2wiki": "2WikiQA", "2wikimultihopqa": "2WikiQA", "mini-gsm-hard": "GSM-Hard", "gsm-hard": "GSM-Hard",
    "mini-aime": "AIME", "aime": "AIME", "mini-olym": "OlymMATH", "olymmath": "OlymMATH",
}  # fmt: skip

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
UNNAMED_SIZES = {"Phi-4-mini-instruct": 3.8e9}  # Table 4 gives the size beside the name
KEYS = ["model", "method", "n", "benchmark", "id"]  # what names one answer of one experiment


class Point(NamedTuple):
    """A number with its 95 % interval and the questions it is made of; value NaN means it was not run."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0


def size_of(model: str) -> float:
    """Parameters of a model, read from its name: "SmolLM2-135M-Instruct" is 135e6, "0.5B" is 0.5e9."""
    if model in UNNAMED_SIZES:
        return UNNAMED_SIZES[model]
    found = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([MB])(?![a-z0-9])", model, re.IGNORECASE)
    if not found:
        raise ValueError(
            f"model {model!r} has no size in its name, expected one like '135M' or '0.5B'; "
            "rename it or add it to tables.UNNAMED_SIZES"
        )
    return float(found[1]) * (1e6 if found[2].upper() == "M" else 1e9)


def size_label(model: str) -> str:
    """The size of a model as the paper writes it: "135M", "0.5B"."""
    size = size_of(model)
    return f"{size / 1e9:g}B" if size >= 5e8 else f"{size / 1e6:g}M"


def published(name: str) -> pd.DataFrame:
    """The paper's values of one figure or table: `published("fig1_avg")` reads figures/paper/paper_fig1_avg.csv."""
    folder = config.ROOT / "figures" / "paper"
    file = folder / f"paper_{name}.csv"
    if not file.exists():
        known = ", ".join(sorted(f.stem.removeprefix("paper_") for f in folder.glob("paper_*.csv")))
        raise FileNotFoundError(f"published values {name!r} are not in {folder}, expected one of: {known or 'none'}")
    return pd.read_csv(file)


def cases_of(
    cases: pd.DataFrame, split: str = "test", one_setting: bool = True, needs: Sequence[str] = ()
) -> pd.DataFrame:
    """The cases of a split, the last one of each question; checked, so that a figure fails in its first line.

    Raises ValueError if there is none, if a column is missing (`needs` names more of them), and (with `one_setting`)
    if the same question was answered under several temperatures or seeds: one bar would then mix two experiments.
    """
    if cases.empty:
        raise ValueError("the table of cases is empty, expected one row a case; run the evaluation notebook first")
    if missing := [name for name in [*KEYS, "correct", *needs] if name not in cases]:
        raise ValueError(f"the table of cases lacks {', '.join(missing)}; make it with records.frame")
    found = cases[cases["split"] == split] if "split" in cases else cases
    if found.empty:
        raise ValueError(f"the table of cases has no row of split {split!r}; pass the records of that split")
    settings = [name for name in ("temperature", "seed") if name in found]
    if one_setting:
        for name in settings:
            # Counting a question's distinct values, not the table's: CoT and agents may differ in temperature.
            if (found.groupby(KEYS)[name].nunique() > 1).any():
                values = ", ".join(map(str, sorted(found[name].dropna().unique())))
                raise ValueError(
                    f"the table of cases mixes several values of {name} ({values}); keep one and draw again"
                )
    return found.drop_duplicates([*KEYS, *([] if one_setting else settings)], keep="last")


def pick(cases: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The cases whose columns have these values."""
    for name, value in values.items():
        cases = cases[cases[name] == value] if name in cases else cases.iloc[:0]
    return cases


def vote_size(cases: pd.DataFrame) -> int:
    """N of self-consistent action generation: the most samples an agent was run with; 0 if none had more than one."""
    voted = cases[cases["method"].str.startswith("agent") & (cases["n"] > 1)]
    return int(voted["n"].max()) if len(voted) else 0


def by_size(models: Sequence[str]) -> list[str]:
    """Distinct model names, smallest first."""
    return sorted(dict.fromkeys(models), key=lambda model: (size_of(model), model))


def _point(row: Mapping) -> Point:
    """A row of `records.summarise` in per cent."""
    return Point(100 * row["accuracy"], 100 * row["low"], 100 * row["high"], int(row["asked"]))


def accuracy(cases: pd.DataFrame) -> Point:
    """Per cent correct of all questions asked (an error is not correct), with the Wilson interval."""
    return _point(records.summarise(cases.assign(all="all"), ["all"]).iloc[0]) if len(cases) else Point()


def mean_accuracy(points: Sequence[Point]) -> Point:
    """The unweighted mean of accuracies with its interval; not run if any of them is.

    The interval squares and adds the distances of the Wilson limits (MOVER; Zou and Donner 2008). Unlike a
    bootstrap or a normal approximation it does not shrink to nothing when a small benchmark scores 0 or 100 %.
    """
    if not points or any(math.isnan(point.value) for point in points):
        return Point()
    value, low, high, n = np.array(points).T
    below, above = np.hypot.reduce(value - low), np.hypot.reduce(high - value)
    middle = value.mean()
    return Point(middle, middle - below / len(points), middle + above / len(points), int(n.sum()))


def mean_count(values: pd.Series) -> Point:
    """The mean of a count a question, with Student's t interval; none where the questions show no spread."""
    values = values.dropna().astype(float)
    if values.empty:
        return Point()
    mean, n = values.mean(), len(values)
    if values.nunique() == 1:
        return Point(mean, n=n)  # a whisker of no length would claim certainty
    half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return Point(mean, max(0.0, mean - half), mean + half, n)


def text(point: Point, count: bool = True) -> str:
    """A point as a cell of a table: "37.5 [30.1, 45.5] n=160", or without its count."""
    if math.isnan(point.value):
        return NOT_RUN
    interval = "" if math.isnan(point.low) else f" [{point.low:.1f}, {point.high:.1f}]"
    return f"{point.value:.1f}{interval}" + (f" n={point.n}" if count else "")


def cells(points: pd.DataFrame) -> pd.DataFrame:
    """A table of points as text. Where all points of a column count as many questions, its head says so instead of each."""
    shown = {}
    for name, column in points.items():
        sizes = {point.n for point in column if not math.isnan(point.value)}
        alike = len(sizes) == 1
        shown[f"{name} (n={min(sizes)})" if alike else name] = [text(point, count=not alike) for point in column]
    return pd.DataFrame(shown, index=points.index)


def method_label(method: str, n: int) -> str:
    """A method and its samples in words: "Agent distillation + FTP + SAG (n=8)"."""
    words = config.METHODS.get(method, "Agent prompting + FTP" if method == "agent_ftp" else method)
    if n == 1:
        return words
    return f"{words} + {'SAG' if method.startswith('agent') else 'self-consistency'} (n={n})"


def accuracy_points(cases: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """A `Point` for each model, method and n (rows) and benchmark (columns), then their mean (column "mean").

    Rows go from the largest model to the smallest, as in Table 2. A mean over fewer benchmarks than the table
    has columns would compare unlike things, so it is not run.
    """
    cases = cases_of(cases, split)
    known = [*config.FACTUAL, *config.MATHS, *config.PAPER.benchmarks, *config.LAPTOP.train_sets]
    order = {name: i for i, name in enumerate(known)}
    columns = sorted(cases["benchmark"].unique(), key=lambda name: (order.get(name, len(order)), name))
    rank = {name: i for i, name in enumerate([*list(config.METHODS)[:4], "agent_ftp", *list(config.METHODS)[4:]])}
    found: dict[tuple, dict[str, Point]] = {}
    for row in records.summarise(cases, ["model", "method", "n", "benchmark"]).to_dict("records"):
        found.setdefault((row["model"], row["method"], int(row["n"])), {})[row["benchmark"]] = _point(row)
    rows = {}
    for key in sorted(found, key=lambda key: (-size_of(key[0]), key[0], rank.get(key[1], len(rank)), key[2])):
        points = [found[key].get(name, Point()) for name in columns]
        rows[key] = [*points, mean_accuracy(points)]
    table = _of_points(rows, [*columns, "mean"])
    return table.set_axis(pd.MultiIndex.from_tuples(rows, names=["model", "method", "n"]))


def table2(cases: pd.DataFrame) -> pd.DataFrame:
    """Table 2 (and 3 and 4, which differ only in the models): methods by benchmarks, with intervals and n."""
    points = accuracy_points(cases)
    labels = [method_label(method, n) for _, method, n in points.index]
    index = pd.MultiIndex.from_arrays([points.index.get_level_values("model"), labels], names=["model", "method"])
    return cells(points).set_axis(index)


def means(cases: pd.DataFrame) -> pd.DataFrame:
    """The last column of Table 2 alone, methods by model sizes: what fits on a first screen."""
    points = accuracy_points(cases)["mean"]
    sizes = [size_label(model) for model in by_size(list(points.index.get_level_values("model")))]
    found: dict[str, dict[str, Point]] = {}
    for (model, method, n), point in points.items():
        if not math.isnan(point.value):  # a method that was run on some benchmarks only has no mean
            found.setdefault(method_label(method, n), {})[size_label(model)] = point
    rows = {method: [of_size.get(size, Point()) for size in sizes] for method, of_size in found.items()}
    return cells(_of_points(rows, sizes)).rename_axis("method")


def table5(teacher_cases: pd.DataFrame) -> pd.DataFrame:
    """Table 5: the teacher on the training sets (columns), by CoT, agent and agent + FTP (rows)."""
    points = accuracy_points(teacher_cases, split="train").drop(columns="mean")
    labels = {"cot": "CoT", "agent": "Agent", "agent_ftp": "Agent + FTP"}
    rows = [f"{labels.get(method, method)}" + ("" if n == 1 else f" (n={n})") for _, method, n in points.index]
    index = pd.MultiIndex.from_arrays([points.index.get_level_values("model"), rows], names=["model", "method"])
    return cells(points).set_axis(index)


def table6(cases: pd.DataFrame, method: str = "agent_distill_ftp") -> pd.DataFrame:
    """Table 6: temperature of SAG (rows) by benchmark (columns) and their mean, for the largest student in `cases`."""
    cases = cases_of(cases, one_setting=False)
    chosen = pick(cases, method=method, n=vote_size(cases))
    chosen = pick(chosen, model=by_size(chosen["model"])[-1]) if len(chosen) else chosen
    if chosen.empty:
        raise ValueError(f"no case of method {method!r} with more than one sample; run the temperature sweep first")
    names = list(dict.fromkeys(chosen["benchmark"]))
    rows = {}
    for temperature in sorted(chosen["temperature"].unique()):
        points = [accuracy(pick(chosen, temperature=temperature, benchmark=name)) for name in names]
        rows[temperature] = [*points, mean_accuracy(points)]
    return cells(_of_points(rows, [*names, "mean"])).rename_axis("temperature")


def _of_points(rows: Mapping, columns: Sequence[str]) -> pd.DataFrame:
    """A table whose cells are points, filled cell by cell: pandas would otherwise unpack the tuples into columns."""
    table = pd.DataFrame(index=list(rows), columns=list(columns), dtype=object)
    for key, points in rows.items():
        for name, point in zip(table.columns, points, strict=True):
            table.at[key, name] = point
    return table


def table7(cases: pd.DataFrame, method: str = "agent_distill_ftp") -> pd.DataFrame:
    """Table 7: mean and standard deviation (n - 1) of accuracy over inference seeds, a row a benchmark and model."""
    cases = cases_of(cases, one_setting=False)
    chosen = pick(cases, method=method, n=vote_size(cases))
    if chosen.empty:
        raise ValueError(f"no case of method {method!r} with more than one sample; run the seeds first")
    rows = []
    for benchmark, model in itertools.product(dict.fromkeys(chosen["benchmark"]), by_size(chosen["model"])):
        if not len(there := pick(chosen, benchmark=benchmark, model=model)):
            continue
        seeds = [accuracy(group) for _, group in there.groupby("seed")]
        values = pd.Series([point.value for point in seeds])
        spread = {"mean": values.mean(), "std": values.std(ddof=1), "low": values.min(), "high": values.max()}
        counts = {"seeds": len(seeds), "n": min(point.n for point in seeds)}
        rows.append({"benchmark": benchmark, "model": model, **spread, **counts})
    return pd.DataFrame(rows).set_index(["benchmark", "model"])


def table8(runs: Mapping[str, pd.DataFrame], method: str = "agent_distill_ftp") -> pd.DataFrame:
    """Table 8: kinds of fine-tuning (rows: "LoRA", "QLoRA", "full") by benchmark. A record does not say how its
    model was tuned, so the caller names each run's cases."""
    rows = {}
    for label, cases in runs.items():
        points = accuracy_points(cases[cases["method"] == method])
        for (model, _, n), row in points.iterrows():
            rows[(label, model, n)] = dict(row)
    if not rows:
        raise ValueError("no run to compare, expected a mapping such as {'LoRA': cases, 'QLoRA': cases}")
    names = [*dict.fromkeys(name for row in rows.values() for name in row if name != "mean"), "mean"]
    table = _of_points({key: [row.get(name, Point()) for name in names] for key, row in rows.items()}, names)
    return cells(table.set_axis(pd.MultiIndex.from_tuples(rows, names=["tuning", "model", "n"])))


def compare_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Ours beside the published Table 2, a row a number: the same method at the published size nearest in ratio.

    A mini benchmark mirrors the published one but is another set of questions: the two are side by side so that
    the order of methods can be compared, not their level.
    """
    paper = published("table2_main").set_index(["Params", "Family", "Method"])
    sizes = paper.index.get_level_values("Params").unique()
    rows = []
    for (model, method, n), points in accuracy_points(cases).iterrows():
        wanted = PUBLISHED_ROW.get((method, bool(n > 1)))
        near = min(sizes, key=lambda size: abs(math.log(size_of(size) / size_of(model))))
        row = paper.loc[(near, *wanted)] if wanted and (near, *wanted) in paper.index else None
        for name, point in points.items():
            # The mean of the columns, because some printed averages are not (slip 1 of the paper's page).
            column = "Avg_recomputed" if name == "mean" else PUBLISHED_AS.get(name)
            theirs = math.nan if row is None or column is None else float(row[column])
            number = {"accuracy": point.value, "low": point.low, "high": point.high, "asked": point.n}
            rows.append({"model": model, "method": method_label(method, n), "benchmark": name, **number,
                         "published": theirs, "published_size": near})  # fmt: skip
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, its index as first columns."""
    flat = table.reset_index() if any(table.index.names) else table
    rows = [[_cell(name) for name in flat.columns], ["---"] * flat.shape[1]]
    rows += [[_cell(value) for value in row] for row in flat.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return str(value).replace("|", "\\|")


def save(table: pd.DataFrame, folder: Path, name: str, note: str = "") -> Path:
    """Write `<folder>/<name>.md`, with a line below that says what it was made of."""
    file = Path(folder) / f"{name}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(markdown(table) + (f"\n{note}\n" if note else ""), encoding="utf-8")
    return file
