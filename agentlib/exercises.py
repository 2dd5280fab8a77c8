"""Exercises of the notebooks: a check under each, and student copies without the solutions.

    python -m agentlib.exercises      # writes workshop/

A notebook is committed with its exercises solved. A cell tagged `exercise` begins with what a student is given and goes on,
below a line `# solution`, with one way to do it. Owns that format and the checks' words. Knows nothing of what is asked.
"""

import argparse
import copy
import html
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from IPython.display import HTML

from agentlib import config

TAG = "exercise"
SOLUTION = "# solution"
DONE, OPEN = "✓", "…"


def check(title: str, test: Callable[[], bool], hint: str = "") -> HTML:
    """Whether an exercise is solved, as a line to look at: an unfinished one is open, not a failure.

    `test` may raise while names are still `...` or None; what it raised is then part of the line.
    """
    try:
        solved, raised = bool(test()), ""
    except Exception as error:  # whatever half-written code raises belongs on the page, in the student's sight
        solved, raised = False, f" ({type(error).__name__}: {str(error)[:200]})"
    words = f"{DONE} {title} · solved" if solved else " · ".join(filter(None, (f"{OPEN} {title}", f"not yet{raised}", hint)))
    colour = "#009E73" if solved else "#E69F00"
    return HTML(f'<div style="border-left:4px solid {colour};padding:4px 10px">{html.escape(words)}</div>')


def student(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy of a notebook with its solutions and outputs taken out.

    Raises ValueError for an exercise without a solution line, or with nothing above it to start from.
    """
    made = copy.deepcopy(notebook)
    for cell in made["cells"]:
        if cell["cell_type"] != "code":
            continue
        cell["outputs"], cell["execution_count"] = [], None
        if TAG not in cell["metadata"].get("tags", []):
            continue
        given, found, _ = "".join(cell["source"]).partition(f"\n{SOLUTION}\n")
        if not found or not given.strip():
            raise ValueError(f"exercise cell {given[:60]!r} lacks a start, or a line {SOLUTION!r} below it; add it")
        cell["source"] = f"{given.rstrip()}\n# your turn\n"
    return made


def write(notebooks: Sequence[Path], folder: Path) -> list[Path]:
    """Student copies into a folder. One that is there already is left alone: somebody may be working in it."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for notebook in notebooks:
        if not (target := folder / notebook.name).exists():
            made = student(json.loads(notebook.read_text(encoding="utf-8")))
            target.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            written.append(target)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the copies and say where they are."""
    parser = argparse.ArgumentParser(prog="python -m agentlib.exercises", description="Write student copies of the notebooks.")
    parser.add_argument("--out", type=Path, default=config.ROOT / "workshop", help="the folder to write into")
    asked = parser.parse_args(arguments)
    notebooks = sorted((config.ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    written = write(notebooks, asked.out)
    print(f"{len(written)} student copies are written to {asked.out}; {len(notebooks) - len(written)} were there and are left alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
