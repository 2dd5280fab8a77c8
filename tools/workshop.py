"""Student copies of the notebooks, without the solutions: `python tools/workshop.py` writes
workshop/."""

import argparse
import copy
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentlib import config
from agentlib.runner.notebooks import numbered

TAG = "exercise"
SOLUTION = "# solution"
CHECK = "pages.check_exercise("


def student(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy of a notebook with its solutions and outputs taken out, and its checks folded.

    A check often says in code what the answer must be, so JupyterLab and Colab show only that there
    is one; a click unfolds it.

    Raises ValueError for an exercise without a solution line, or with nothing above it to start
    from.
    """
    made = copy.deepcopy(notebook)
    for cell in made["cells"]:
        if cell["cell_type"] != "code":
            continue
        cell["outputs"], cell["execution_count"] = [], None
        if CHECK in "".join(cell["source"]):
            cell["metadata"] |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
        if TAG not in cell["metadata"].get("tags", []):
            continue
        given, found, _ = "".join(cell["source"]).partition(f"\n{SOLUTION}\n")
        if not found or not given.strip():
            raise ValueError(
                f"exercise cell {given[:60]!r} lacks a start, or a line {SOLUTION!r} below it;"
                " add it"
            )
        cell["source"] = f"{given.rstrip()}\n# your turn\n"
    return made


def write(notebooks: Sequence[Path], folder: Path) -> list[Path]:
    """Student copies into a folder, with the pictures that they show.

    A copy that exists already is left alone: somebody may be working in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pictures in {notebook.parent / "pictures" for notebook in notebooks}:
        shutil.copytree(pictures, folder / "pictures", dirs_exist_ok=True)
    written = []
    for notebook in notebooks:
        if not (target := folder / notebook.name).exists():
            made = student(json.loads(notebook.read_text(encoding="utf-8")))
            target.write_text(
                json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            written.append(target)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the copies and say where they are."""
    parser = argparse.ArgumentParser(description="Write student copies of the notebooks.")
    parser.add_argument(
        "--out", type=Path, default=config.ROOT / "workshop", help="the folder to write into"
    )
    asked = parser.parse_args(arguments)
    notebooks = numbered(config.ROOT / "notebooks")
    written = write(notebooks, asked.out)
    print(
        f"{len(written)} student copies are written to {asked.out}; {len(notebooks) - len(written)}"
        " were there and are left alone"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
