"""The published cases of a preset, as a table, and the line that says what stands behind it."""

import pandas as pd

from agentlib import benchmarks, config, records
from agentlib.figures.estimates import add_missing_cases
from agentlib.figures.statistics import to_frame


def read_cases(cfg: config.Config) -> pd.DataFrame:
    """The cases that notebook 04 published for these settings, one row each, and a row without an
    answer for each question that was asked and has none. (Where the questions are not on this
    machine, only those are known to have been asked that some condition has an answer to.)

    Raises FileNotFoundError where notebook 04 has not run.
    """
    file = cfg.records / "cases.jsonl"
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is not there, expected the cases of preset {cfg.preset!r}; run notebook 04"
            " first, or give --from-records"
        )
    known = cfg.benchmarks if benchmarks.are_here(cfg.benchmarks) else ()
    asked = {name: [q.id for q in benchmarks.load(name, cfg.questions)] for name in known}
    return add_missing_cases(to_frame(records.read(file)), asked)


def footer(cfg: config.Config, frame: pd.DataFrame) -> str:
    """What a figure says of itself: preset, models, questions per benchmark."""
    each = sorted(set(frame.groupby("benchmark")["id"].nunique()))
    count = "-".join(str(n) for n in dict.fromkeys((each[0], each[-1])))
    noun = "question" if count == "1" else "questions"
    models = ", ".join(frame["model"].unique())
    return f"preset {cfg.preset} · {models} · {count} {noun} per benchmark"
