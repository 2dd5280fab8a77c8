"""Notebooks as files: which there are, what parameters they take, running one headless, and
publishing its outputs.
"""

import ast
import base64
import dataclasses
import io
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentlib import config

NOTEBOOKS = config.ROOT / "notebooks"
FIGURES = (
    "fig1_mean_accuracy", "fig2_cot_against_agent", "fig3_prefix_and_vote", "fig4_math_breakdown",
    "fig5_samples", "fig6_tokens", "fig7_code_errors", "fig8_retrieval_calls",
)  # fmt: skip
FIGURE_NOTEBOOK = "05"
MAIN_LINE = ("00", "01", "02", "03", "04", "05")  # with the parts of one, such as 05b
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclasses.dataclass(frozen=True)
class Line:
    """One notebook's line in the closing table."""

    notebook: str
    minutes: float
    figures: tuple[str, ...]
    failure: str = ""


def numbered(folder: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks of a folder that have a number, in its order."""
    return sorted(folder.glob("[0-9][0-9]*_*.ipynb"))


def number(notebook: Path) -> str:
    """A notebook's number: "05b" of 05b_tables_and_claims.ipynb."""
    return notebook.name.partition("_")[0]


def select(only: Sequence[str], folder: Path = NOTEBOOKS) -> list[Path]:
    """The numbered notebooks to run, 00 to 05c or those whose number is in `only`."""
    found = {number(path): path for path in numbered(folder)}
    if not found:
        raise ValueError(
            f"no numbered notebook in {folder}, expected NN_verb_object.ipynb: notebooks come with"
            " the repository, not with the installed package; clone the repository and start there"
        )
    if not only:
        return [path for name, path in found.items() if name[:2] in MAIN_LINE]
    for name in only:
        if name not in found:
            raise ValueError(f"notebook {name!r} is unknown, expected one of {', '.join(found)}")
    return [found[name] for name in sorted(set(only))]


def inspect(notebook: Path) -> dict[str, Any]:
    """The names and defaults of a notebook's parameters cell.

    Raises ValueError when there is not exactly one cell tagged `parameters`, it holds more than
    literals, or it lacks `preset` or `overrides`: papermill would silently ignore what is injected.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(
            f"{notebook.name} has {len(tagged)} cells tagged 'parameters', expected exactly one;"
            " tag it"
        )
    found = {}
    try:
        for node in ast.parse("".join(tagged[0]["source"])).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                raise ValueError("it holds more than assignments")
            found[node.targets[0].id] = ast.literal_eval(node.value)
    except (ValueError, SyntaxError) as error:
        raise ValueError(
            f"{notebook.name}: the parameters cell is not plain name = literal lines ({error});"
            " move the rest below it"
        ) from None
    if lacking := [name for name in ("preset", "overrides") if name not in found]:
        raise ValueError(
            f"{notebook.name} takes no parameter {', '.join(lacking)}, only {', '.join(found)}; add"
            " it to its cell"
        )
    return found


def execute(
    notebook: Path, cfg: config.Config, overrides: dict[str, Any], out: Path, exercises: bool = True
) -> Line:
    """Run one notebook through papermill into `out`, up to its exercises if these are not wanted;
    the line says how long it took and what it drew, or why it ended early.
    """
    import nbformat
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from agentlib.progress import Lines

    inspect(notebook)
    opened = nbformat.read(notebook, as_version=4)
    if not exercises:
        _leave_out_exercises(opened.cells)
    started, failure = time.time(), ""
    try:
        out.mkdir(parents=True, exist_ok=True)
        # which the executed copy shows, too
        if (pictures := notebook.parent / "pictures").is_dir():
            shutil.copytree(pictures, out / "pictures", dirs_exist_ok=True)
        papermill.execute_notebook(
            opened,
            out / notebook.name,
            {"preset": cfg.preset, "overrides": overrides},
            kernel_name="python3",
            cwd=NOTEBOOKS,
            progress_bar=sys.stderr.isatty(),
            request_save_on_cell_execute=True,
            extra_arguments=["--log-level=ERROR"],
            stderr_file=sys.stderr if sys.stderr.isatty() else Lines(sys.stderr),
        )
    except PapermillExecutionError as error:
        failure = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    except DeadKernelError:
        failure = (
            f"cell {_cells_begun(out / notebook.name)}: its process was killed, most likely because"
            " memory ran out; free some, or set batch_questions or batch_size lower; what was"
            " finished is kept"
        )
    except NoSuchKernel as error:
        failure = f"no kernel {error.name!r} is installed; run `python -m ipykernel install --user`"
    except OSError as error:
        failure = (
            f"{type(error).__name__}: {error}; free some disk space, or make the folder writable"
        )
    return Line(
        notebook.stem, (time.time() - started) / 60, tuple(drawn(cfg.figures, started)), failure
    )


def _leave_out_exercises(cells: Sequence[dict]) -> None:
    """Tag the code under the heading "Exercises", which ends a notebook, so that it is not run."""
    below = False
    for cell in cells:
        if cell["cell_type"] == "markdown":
            below = below or any(
                line.startswith("## Exercises") for line in cell["source"].splitlines()
            )
        elif below:
            cell["metadata"].setdefault("tags", []).append("skip-execution")


def _cells_begun(executed: Path) -> int:
    """How many code cells of a copy that papermill wrote were begun; the last of them is the one
    that a killed kernel was in.
    """
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    return sum(
        c["cell_type"] == "code" and bool(c["metadata"].get("papermill", {}).get("start_time"))
        for c in cells
    )


def drawn(folder: Path, since: float) -> list[str]:
    """The figures whose .svg and .png are both at least as new as `since` (seconds since the
    epoch).
    """
    return [
        name
        for name in FIGURES
        if all(
            (f := folder / f"{name}{end}").exists() and f.stat().st_mtime >= since
            for end in (".svg", ".png")
        )
    ]


def publish(executed: Path, notebook: Path) -> None:
    """Copy the outputs of an executed copy into the committed notebook, without what papermill
    added.

    Progress bars (standard error, or widgets, which are dead on a page) and warnings stay in the
    executed copy; paths are made relative. Raises ValueError for a copy of another text, and for
    one without its exercises.
    """
    done, kept = (json.loads(p.read_text(encoding="utf-8")) for p in (executed, notebook))
    ran = [c for c in done["cells"] if "injected-parameters" not in c["metadata"].get("tags", [])]
    if ["".join(c["source"]) for c in ran] != ["".join(c["source"]) for c in kept["cells"]]:
        raise ValueError(f"{executed} is not a run of {notebook.name} as it stands; run it again")
    if any("skip-execution" in c["metadata"].get("tags", []) for c in ran):
        raise ValueError(f"{executed} is a run without exercises; run it again with --exercises")
    for cell, source in zip(kept["cells"], ran, strict=True):
        if cell["cell_type"] == "code":
            cell["outputs"] = tidy(source["outputs"])
            for output in cell["outputs"]:
                shown = output.get("data", {})
                if picture := shown.get("image/png"):
                    shown["image/png"] = quantise_png(picture)
                if "text/html" in shown:
                    shown.pop("text/plain", None)  # the same table once more, wider than any page
            cell["execution_count"] = source["execution_count"]
    notebook.write_text(
        json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8"
    )


def tidy(outputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A cell's outputs without progress bars, warnings, widgets (dead on a page) and absolute paths
    of this machine.
    """
    kept = [o for o in outputs if o.get("name") != "stderr" and WIDGET not in o.get("data", {})]
    text = json.dumps(kept, ensure_ascii=False)
    for place, name in (
        (f"{config.ROOT}/", ""),
        (str(config.home()), "~/.cache/agentlib"),
        (str(Path.home()), "~"),
    ):
        text = text.replace(place, name)
    return json.loads(text)


def quantise_png(picture: str) -> str:
    """A base64 PNG with at most 32 colours, which charts do not miss and a notebook's size does."""
    from PIL import Image

    stream = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.quantize(32, dither=Image.Dither.NONE).save(stream, format="png", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
