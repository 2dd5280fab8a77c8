"""The command that runs the notebooks in order, headless, at one preset: checks first, a table of
minutes last.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agentlib import config
from agentlib.runner import notebooks


def _estimate(cfg: config.Config, numbers: Sequence[str]) -> str:
    from agentlib.runner import costs  # imports all that is planned; only long runs need it

    return costs.estimate(cfg, numbers) if {"02", "03", "04"} & set(numbers) else ""


def _gpu_hours(cfg: config.Config) -> str:
    from agentlib import tasks
    from agentlib.runner import budget

    if not tasks.is_downloaded():
        return (
            "GPU-hours are estimated once the question files are in the cache; notebook 02"
            " downloads them"
        )
    return f"{budget.table(cfg).round(1).to_string()}\n{budget.sentence(cfg)}"


def _check(cfg: config.Config, numbers: Sequence[str]) -> int:
    from agentlib.runner import preflight

    found = preflight.checks(cfg, numbers)
    print(preflight.table(found).to_string())
    if cfg.preset == "paper":
        print(f"\n{_gpu_hours(cfg)}")
    elif expected := _estimate(cfg, numbers):
        print(f"\n{expected}")
    return 0 if all(check.met for check in found) else 2


def _restore(cfg: config.Config) -> str:
    from agentlib.runner import archive

    found = archive.restore(cfg)
    said = f"{found.runs} runs with {found.cases} cases are restored from {archive.folder(cfg)}"
    if found.unmatched:
        said += (
            f"; {len(found.unmatched)} packed runs there are of other settings, such as"
            f" {found.unmatched[0]}"
        )
    return said


def _keep(cfg: config.Config) -> int:
    from agentlib.runner import archive, costs

    costs.measure(cfg)
    # which takes minutes; nothing of it need be kept
    return len(archive.pack(cfg)) if cfg.preset != "smoke" else 0


def short(figures: Sequence[str]) -> str:
    """Figures by their numbers."""
    return ", ".join(name.partition("_")[0] for name in figures)


def take_home(cfg: config.Config) -> str:
    """What a newcomer should take from the run, from its records; "" if there are none."""
    from agentlib import figures, records

    file = cfg.records / "cases.jsonl"
    if not file.exists():
        return ""
    found = figures.take_home(figures.to_frame(records.read(file)), cfg.students[0])
    return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(found, 1))


def table(lines: Sequence[notebooks.Line]) -> str:
    """The closing table: notebook, minutes, figures it made."""
    rows = [("notebook", "minutes", "figures"), ("--------", "-------", "-------")]
    for line in lines:
        rows.append(
            (line.notebook, f"{line.minutes:.1f}", line.failure or short(line.figures) or "-")
        )
    rows.append(
        (
            "total",
            f"{sum(line.minutes for line in lines):.1f}",
            f"{sum(len(line.figures) for line in lines)}",
        )
    )
    widths = [max(len(row[k]) for row in rows) for k in (0, 1)]
    return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c}" for a, b, c in rows)


def set_aside(folder: Path) -> Path | None:
    """Move a preset's run folders out of the way (never deleting them), so that a run starts from
    scratch.
    """
    if not folder.exists():
        return None
    kept = folder.with_name(f"{folder.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
    folder.rename(kept)
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebooks; 0 when all of them ran and all figures are there."""
    parser = argparse.ArgumentParser(
        prog="python -m agentlib run", description="Run the notebooks headless, in order."
    )
    parser.add_argument("--preset", default="smoke", help="smoke, laptop or paper")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NN",
        help="run this notebook (may be repeated)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="override one setting of the preset (may be repeated)",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=(
            "keep what earlier runs finished (the default), or set it aside and start from scratch"
        ),
    )
    parser.add_argument(
        "--from-records",
        action="store_true",
        help="reuse committed results and run only what is missing",
    )
    parser.add_argument(
        "--exercises",
        action="store_true",
        help="run the solutions of the exercises, too (as --publish does)",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help=(
            "write outputs back into notebooks/, and finished runs into figures/records/ (for"
            " committing)"
        ),
    )
    parser.add_argument(
        "--pack",
        action="store_true",
        help="only pack the runs finished so far into figures/records/ (for committing)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="dry run: list what is done, what is missing and the estimated hours",
    )
    asked = parser.parse_args(arguments)
    from agentlib.runner import preflight  # not above: --help is to be quick

    try:
        overrides = dict(config.setting(text) for text in asked.settings)
        cfg = config.load(asked.preset, **overrides)
        chosen = notebooks.select(asked.only)
        for notebook in chosen:
            notebooks.inspect(notebook)
        if asked.pack:
            print(f"{_keep(cfg)} runs of {cfg.runs} are packed in {cfg.records}")
            return 0
        numbers = [notebooks.number(n) for n in chosen]
        if asked.check:
            return _check(cfg, numbers)
        problems = preflight.problems(cfg, numbers)
    except (ValueError, OSError) as error:
        problems = [str(error)]
    if problems:
        print("\n".join(f"error: {p}" for p in problems), file=sys.stderr)
        return 2
    if not asked.resume and (kept := set_aside(cfg.runs)):
        print(f"earlier runs are set aside in {kept}")
    if asked.from_records:
        try:
            print(_restore(cfg))
        # RuntimeError: another process has the run
        except (ValueError, OSError, RuntimeError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    from agentlib.runner import archive

    archive.take_recorded(cfg)
    if expected := _estimate(cfg, numbers):
        print(expected)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    lines = []
    for notebook in chosen:
        print(f"{time.strftime('%H:%M:%S')}  {notebook.stem} …", flush=True)
        try:
            line = notebooks.execute(
                notebook,
                cfg,
                overrides,
                cfg.runs / "notebooks",
                exercises=asked.exercises or asked.publish,
            )
        except KeyboardInterrupt:
            print(
                f"error: interrupted in {notebook.stem}; what was finished is kept, run again to"
                " resume",
                file=sys.stderr,
            )
            return 130
        lines.append(line)
        if line.failure:
            break
        print(
            f"          {line.minutes:.1f}"
            f" minutes{', drew ' if line.figures else ''}{short(line.figures)}",
            flush=True,
        )
        if asked.publish:
            notebooks.publish(cfg.runs / "notebooks" / notebook.name, notebook)
    if asked.publish:
        _keep(cfg)
    print(f"\n{table(lines)}")
    made = {name for line in lines for name in line.figures}
    lacking = [name for name in notebooks.FIGURES if name not in made]
    if lines[-1].failure:
        copy = cfg.runs / "notebooks" / f"{lines[-1].notebook}.ipynb"
        print(
            f"error: {lines[-1].notebook} failed ({lines[-1].failure}); see {copy}, then run again",
            file=sys.stderr,
        )
        return 1
    if notebooks.FIGURE_NOTEBOOK in numbers and lacking:
        print(
            f"error: figures not made: {', '.join(lacking)}; see notebook"
            f" {notebooks.FIGURE_NOTEBOOK}",
            file=sys.stderr,
        )
        return 1
    if notebooks.FIGURE_NOTEBOOK in numbers and (said := take_home(cfg)):
        print(f"\nWhat this run shows:\n{said}")
    return 0
