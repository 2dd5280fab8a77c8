"""Slides for a workshop as one HTML file without a network: `python tools/slides.py` writes it.

Their text is slides.md; a name in braces there is a number from the records of `laptop` and of the
teaching set.
"""

import argparse
import base64
import html
import re
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nbconvert.filters import markdown2html

from agentlib import cases, config, figures, filtering, records, teach

TEXT = Path(__file__).with_suffix(".md")
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>
body{{margin:0;background:#fff;color:#16191d;font:min(2.1vw,3.6vh)/1.45 system-ui,sans-serif}}
section{{box-sizing:border-box;width:100vw;height:100vh;padding:4vh 6vw 7vh;position:relative;
 display:flex;flex-direction:column;overflow:hidden;break-after:page;break-inside:avoid}}
section:first-of-type{{justify-content:center;font-size:1.2em}}
section:last-of-type{{break-after:auto}}
.live section:not(.now){{display:none}}
h1{{font-size:1.7em;line-height:1.2;margin:0 0 .5em;color:#0072B2}}
p,ul,ol,pre{{margin:.3em 0}}li{{margin:.15em 0}}
p:has(img){{flex:1;min-height:0;display:flex;justify-content:center;align-items:center}}
img{{width:100%;height:100%;object-fit:contain}}
pre{{background:#f3f5f7;padding:.7em 1em;font-size:.82em;white-space:pre-wrap}}
footer{{position:absolute;right:3vw;bottom:2vh;font-size:.6em;color:#5b6570}}
@page{{size:13.333in 7.5in;margin:0}}
@media print{{body{{font-size:20pt}}section{{width:13.333in;height:7.5in;padding:.35in .8in .5in}}
 .live section:not(.now){{display:flex}}}}
</style></head><body>{slides}<script>
const all=[...document.querySelectorAll("section")];
const go=k=>{{k=Math.max(0,Math.min(all.length-1,k||0));history.replaceState(null,"",`#${{k+1}}`);
 all.forEach((s,i)=>s.classList.toggle("now",i===k))}};
const at=()=>all.findIndex(s=>s.classList.contains("now"));
const keys={{ArrowRight:1,ArrowDown:1,PageDown:1," ":1,ArrowLeft:-1,ArrowUp:-1,PageUp:-1,
 Home:-99,End:99}};
addEventListener("keydown",e=>{{if(keys[e.key]&&!e.ctrlKey&&!e.metaKey&&!e.altKey)
 {{e.preventDefault();go(at()+keys[e.key])}}}});
addEventListener("hashchange",()=>go(location.hash.slice(1)-1));
document.body.classList.add("live");go(location.hash.slice(1)-1);
</script></body></html>
"""


def numbers() -> dict[str, str]:
    """What the text names in braces, from the committed records."""
    cfg = config.load("laptop")
    frame = figures.to_frame(records.read(cfg.records / "cases.jsonl"))
    small = figures.size_label(cfg.students[0])
    means = figures.accuracy_table(frame)["mean"]
    cot, agent = (means[cfg.students[0], m, 1] for m in ("cot_distill", "agent_distill"))
    claims = figures.check_claims(frame)
    verdicts = claims["holds"].value_counts()
    (lead,) = claims[[name.startswith(f"P1 · {small}") for name in claims.index]].to_dict("records")
    taught = list(cases.read(teach.records_path(cfg, "agent")))
    practised = figures.to_frame(records.read(teach.records_folder(cfg) / "cases.jsonl"))
    right = practised[practised["n"] == 1].groupby("method")["correct"].agg(["sum", "count"])
    return {
        "small": small,
        "asked": str(len(taught)),
        "kept": str(sum(map(filtering.passes_filter, taught))),
        "questions": str(cot.n),
        "recites": f"{cot.value:.1f}",
        "acts": f"{agent.value:.1f}",
        "gain": f"{lead['difference']:+.1f} [{lead['low']:.1f}, {lead['high']:.1f}]",
        "taught": str(right["count"]["cot_distill"]),
        "taught_recites": str(right["sum"]["cot_distill"]),
        "taught_acts": str(right["sum"]["agent_distill"]),
        "claims": str(len(claims)),
        **{word.split()[-1]: str(verdicts.get(word, 0)) for word in ("yes", "no", "not settled")},
    }


def slide(part: str, folder: Path) -> str:
    """One slide's Markdown as HTML, with its SVG pictures, named relative to a folder, within."""

    def inside(found: re.Match) -> str:
        picture = base64.b64encode((folder / html.unescape(found[1])).read_bytes()).decode()
        return f'src="data:image/svg+xml;base64,{picture}"'

    page = re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html(part))
    return re.sub(r'src="([^"]+)"', inside, page)


def build(text: str, folder: Path, values: Mapping[str, str]) -> str:
    """The page of a Markdown text whose pictures are named relative to `folder`.

    Raises KeyError for a name that `values` lacks, FileNotFoundError for a missing picture.
    """
    filled = string.Formatter().vformat(text, (), values)
    parts = re.split(r"^---$", filled, flags=re.MULTILINE)
    slides = [
        f"<section>{slide(part, folder)}<footer>{k} / {len(parts)}</footer></section>"
        for k, part in enumerate(parts, 1)
    ]
    title = html.escape(filled.strip().splitlines()[0].lstrip("# "))
    return PAGE.format(title=title, slides="\n".join(slides))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the slides and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=config.ROOT / "runs" / "slides.html")
    out = parser.parse_args(arguments).out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(build(TEXT.read_text(encoding="utf-8"), TEXT.parent, numbers()), "utf-8")
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
