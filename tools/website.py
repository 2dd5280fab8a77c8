"""Executed notebooks as a site that is browsed from disk: a page each, the figures in front, no
server.

Owns how pages hang together. Knows nothing of what a notebook computes; nbconvert makes the pages.
"""

import argparse
import html
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from agentlib import config, records
from agentlib.figures import style
from agentlib.runner import notebooks
from agentlib.runner.notebooks import tidy

# The page's colours of JupyterLab, for readers whose system is dark; figures keep their white
# ground.
_DARK = {
    "jp-layout-color0": "#111418", "jp-layout-color1": "#16191d", "jp-layout-color2": "#23272d", "jp-layout-color3": "#33383f",
    "jp-content-font-color0": "#f2f2f2", "jp-content-font-color1": "#e6e6e6", "jp-content-font-color2": "#c9c9c9",
    "jp-content-font-color3": "#9a9a9a", "jp-ui-font-color0": "#f2f2f2", "jp-ui-font-color1": "#e6e6e6",
    "jp-border-color0": "#33383f", "jp-border-color1": "#33383f", "jp-border-color2": "#2a2e34", "jp-content-link-color": "#7ab8ff",
    "jp-cell-editor-background": "#1d2126", "jp-rendermime-table-row-background": "#1b1f24",
    "jp-rendermime-table-row-hover-background": "#26303a", "jp-mirror-editor-keyword-color": "#f0a3d8",
    "jp-mirror-editor-string-color": "#86d7a4", "jp-mirror-editor-number-color": "#f5b971",
    "jp-mirror-editor-comment-color": "#9aa3af", "jp-mirror-editor-operator-color": "#c9b8ff",
    "jp-mirror-editor-variable-color": "#e6e6e6", "jp-mirror-editor-punctuation-color": "#b8c7d9",
    "jp-rendermime-error-background": "#3a1d1d", "jp-cell-inprompt-font-color": "#8aa0b8", "jp-cell-outprompt-font-color": "#b89a8a",
}  # fmt: skip
_HEAD = f"""<style>
nav.al-nav{{font:14px/1.5 system-ui,sans-serif;display:flex;flex-wrap:wrap;gap:4px 14px;padding:10px 4%;border-bottom:1px solid #9996}}
nav.al-nav a{{color:#0072B2}}nav.al-nav b{{font-weight:600}}[data-jp-theme-light=false] nav.al-nav a{{color:#7ab8ff}}
body[data-jp-theme-light=false]{{{"".join(f"--{name}:{value};" for name, value in _DARK.items())}background:#16191d;color:#e6e6e6}}
.jp-RenderedHTMLCommon table{{display:block;overflow-x:auto;max-width:100%}}
@media print{{nav.al-nav,.jp-InputPrompt,.jp-OutputPrompt{{display:none}}}}
</style>
<script>addEventListener("DOMContentLoaded",()=>{{const dark=matchMedia("(prefers-color-scheme: dark)"),
set=()=>{{document.body.dataset.jpThemeLight=String(!dark.matches)}};dark.addEventListener("change",set);set()}})</script>
"""
_INDEX = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Agent distillation</title><style>
:root{color-scheme:light dark}body{font:16px/1.55 system-ui,sans-serif;max-width:1100px;margin:0 auto;padding:24px 4%}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:6px 10px;border-bottom:1px solid #9995;vertical-align:top}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:18px}figure{margin:0}
figure img{width:100%;background:#fff;border:1px solid #9995;border-radius:4px}figcaption{font-size:13px;opacity:.8}
</style></head><body>"""


def build(pages: Sequence[Path], figures: Path, out: Path, note: str = "") -> Path:
    """Write a page for each notebook and an index with the figures of a folder; returns the index.

    Pages of notebooks that are no longer there are removed. The minutes are those that papermill
    noted in an executed copy. Raises ValueError if there are no notebooks.
    """
    if not pages:
        raise ValueError("no notebooks to make a site of, expected one or more; run some first")
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures").mkdir(exist_ok=True)
    names = [notebook.stem for notebook in pages]
    for page in out.glob("[0-9][0-9]*_*.html"):
        if page.stem not in names:
            page.unlink()
    # Without the scripts of live widgets and diagrams; that for formulas is fetched aside, so that
    # a page opens offline too.
    exporter = HTMLExporter(
        template_name="lab",
        exclude_anchor_links=True,
        require_js_url="",
        mermaid_js_url="",
        embed_images=True,
    )
    rows = []
    for k, notebook in enumerate(pages):
        opened = nbformat.read(notebook, 4)
        title, claim = opening(opened)
        _describe(opened)
        where = {"name": title, "path": str(notebook.parent)}  # of the pictures that are embedded
        body, _ = exporter.from_notebook_node(opened, {"metadata": where})
        body = body.replace("</head>", f"{_HEAD}</head>", 1).replace('<script src=""></script>', "")
        body = body.replace(
            f'<script src="{exporter.mathjax_url}', f'<script async src="{exporter.mathjax_url}'
        )
        body = re.sub(r"(<body[^>]*>)", lambda found, k=k: found[1] + _nav(names, k), body, count=1)
        (out / f"{notebook.stem}.html").write_text(
            records.replace_surrogates(body), encoding="utf-8"
        )
        took = opened.metadata.get("papermill", {}).get("duration")
        rows.append(
            "<tr><td><a"
            f' href="{notebook.stem}.html">{html.escape(title)}</a></td><td>{html.escape(claim)}</td>'
            f"<td>{'' if took is None else f'{took / 60:.1f}'}</td></tr>"
        )
    index = out / "index.html"
    page = (
        f"{_INDEX}<h1>Agent distillation</h1><p>The notebooks, executed, and the figures they drew."
        f" {html.escape(note)}</p>"
        "<table><tr><th>notebook</th><th>what it"
        f" shows</th><th>minutes</th></tr>{''.join(rows)}</table><h2>Figures</h2>"
        "<div"
        f' class="figures">{"".join(_figure(file, out) for file in _in_order(figures.glob("*.svg")))}</div></body></html>\n'
    )
    index.write_text(records.replace_surrogates(page), encoding="utf-8")
    return index


def executed(cfg: config.Config, folder: Path) -> list[Path]:
    """Every numbered notebook: as this preset ran it last, or else as it is committed in
    `folder`."""
    ran = cfg.runs / "notebooks"
    return [ran / n.name if (ran / n.name).exists() else n for n in notebooks.numbered(folder)]


def opening(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """A notebook's title, and what it says a reader will have shown."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    claim = re.search(
        r"By the end you will have shown that\*{0,2}\s(.+?)(?:\n\n|\Z)", text, re.DOTALL
    )
    return (title[1] if title else "untitled"), (
        " ".join(claim[1].replace("*", "").split()).rstrip(".") if claim else ""
    )


def _describe(notebook: nbformat.NotebookNode) -> None:
    """Tidy outputs, and pictures as tags with their alt text, which nbconvert would leave out;
    without one, the heading above describes it."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE) or [heading])[-1]
            continue
        cell["outputs"] = [nbformat.from_dict(output) for output in tidy(cell.get("outputs", []))]
        for output in cell["outputs"]:
            if picture := output.get("data", {}).get("image/png"):
                alt = html.escape(
                    output.get("metadata", {}).get("image/png", {}).get("alt", "")
                    or f"picture: {heading}"
                )
                tag = (
                    f'<img src="data:image/png;base64,{picture.strip()}" alt="{alt}"'
                    ' style="max-width:100%;background:#fff">'
                )
                output["data"] = {"text/html": tag}


def _nav(names: Sequence[str], at: int) -> str:
    links = [
        (
            f"<b>{name.partition('_')[0]}</b>"
            if k == at
            else f'<a href="{name}.html" title="{html.escape(name)}">{name.partition("_")[0]}</a>'
        )
        for k, name in enumerate(names)
    ]
    onward = (
        f'<a href="{names[at + 1]}.html" rel="next">next:'
        f" {html.escape(names[at + 1].partition('_')[2].replace('_', ' '))}</a>"
        if at + 1 < len(names)
        else ""
    )
    return (
        f'<nav class="al-nav"><a href="index.html">all notebooks</a>{"".join(links)}{onward}</nav>'
    )


def _in_order(files: Iterable[Path]) -> list[Path]:
    """The paper's figures by number, then the others by name."""
    return sorted(files, key=lambda file: (not file.stem.startswith("fig"), file.stem))


def _figure(file: Path, out: Path) -> str:
    shutil.copyfile(file, out / "figures" / file.name)
    alt = html.escape(style.ALT_TEXT.get(file.stem, file.stem.replace("_", " ")))
    return (
        f'<figure><img src="figures/{file.name}" alt="{alt}"'
        f' loading="lazy"><figcaption>{alt}</figcaption></figure>'
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the site of a preset and say where it is; 2, with a sentence, for a preset that does
    not exist."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="smoke", help="smoke, laptop or paper")
    try:
        cfg = config.load(parser.parse_args(arguments).preset)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        build(
            executed(cfg, notebooks.NOTEBOOKS),
            cfg.figures,
            cfg.runs / "site",
            f"Preset {cfg.preset}.",
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
