"""Pictures of text for notebooks: trajectories, votes, passages and token masks as static HTML.

Owns how recorded cases and examples look on a page. Knows nothing of models or of how they came about.
"""

import html
from collections.abc import Mapping, Sequence

from IPython.display import HTML

# Translucent tints on the page's own colours read alike on light and dark pages.
_STYLE = """<style>
.al{font-size:13px;line-height:1.45;max-width:900px;margin:4px 0}
.al>div{border-left:4px solid;padding:4px 10px;margin:3px 0;border-radius:3px;overflow-wrap:anywhere}
.al pre{margin:2px 0;padding:0;background:transparent;color:inherit;white-space:pre-wrap;font-size:12px}
.al .ask{border-color:#999}.al .think{border-color:#0072B2;background:#0072B214}
.al .code{border-color:#CC79A7;background:#CC79A714}.al .see{border-color:#009E73;background:#009E7314}
.al .fail{border-color:#D55E00;background:#D55E0022}.al .end{border-color:#555;background:#99999922}
.al small{opacity:.7;display:block}.al mark{background:#E69F0066;color:inherit;border-radius:2px}
.al table{border-collapse:collapse}.al td,.al th{text-align:left!important;vertical-align:top;padding:3px 8px;border:1px solid #9995}
</style>"""
_GROUPS = ("#009E7333", "#56B4E933", "#E69F0033", "#CC79A733", "#F0E44233")


def _page(inner: str) -> HTML:
    return HTML(f'{_STYLE}<div class="al">{inner}</div>')


def _box(kind: str, label: str, text: str, *, code: bool = False) -> str:
    body = html.escape(text.strip())
    return f'<div class="{kind}"><small>{html.escape(label)}</small>{f"<pre>{body}</pre>" if code else body.replace(chr(10), "<br>")}</div>'


def case(record: Mapping) -> HTML:
    """A recorded case as a conversation: question, thoughts, code, observations (errors in red), answer against gold."""
    verdict = "right" if record["correct"] else "wrong"
    parts = [_box("ask", f"question · {record['benchmark']}", record["question"])]
    if "trace" not in record:
        parts.append(_box("think", f"chain of thought · {record['completion_tokens']} tokens", record["text"]))
    for number, step in enumerate(record.get("trace", []), 1):
        thought, _, rest = step["text"].partition("Code:")
        label = f"step {number} · {step['completion_tokens']} tokens · {step['seconds']:.1f} s"
        if number == 1 and record.get("prefix"):
            label += " · starts from the first-thought prefix"
        parts.append(_box("think", label, thought))
        if step["code"] or rest.strip():
            parts.append(_box("code", "code", step["code"] or rest, code=True))
        if not step["final"]:
            seen = step["observation"].removeprefix("Observation:")
            parts.append(_box("fail" if step["failure"] else "see", "observation", seen, code=True))
    answer = f"answer {record['prediction']!r} · gold {record['gold']!r} · {verdict} · stopped: {record['stopped']}"
    parts.append(_box("end" if record["correct"] else "fail", verdict, answer))
    return _page("".join(parts))


def vote(step: Mapping) -> HTML:
    """The candidates of one SAG step, coloured by group of the vote; the kept one is marked."""
    rows = []
    for number, candidate in enumerate(step["candidates"]):
        group = candidate["group"]
        dropped = candidate["failed"] == "dropped"
        name = f"group {group + 1}" if group is not None else "dropped" if dropped else "failed"
        kept = " ← kept" if number == step["chosen"] else ""
        tint = _GROUPS[group % len(_GROUPS)] if group is not None else "#8882" if dropped else "#D55E0022"
        code = html.escape((candidate["code"] or ("(not written to its end)" if dropped else "(no code)")).strip())
        rows.append(
            f'<tr style="background:{tint}"><td>{number + 1}{kept}</td><td><pre>{code}</pre></td>'
            f"<td><pre>{html.escape(candidate['outcome'])}</pre></td><td>{name}</td></tr>"
        )
    head = "<tr><th>candidate</th><th>action</th><th>outcome</th><th>vote</th></tr>"
    return _page(f"<table>{head}{''.join(rows)}</table>")


def hits(found: Sequence) -> HTML:
    """Passages of one search with their scores, best first."""
    return _page("".join(_box("see", f"{hit.score:.3f} · {hit.passage.title}", hit.passage.text) for hit in found))


def mask(example, tokenizer) -> HTML:
    """One training example as text: tokens with loss highlighted, context plain."""
    pieces, run, learnt = [], [], None
    for token, label in [*zip(example.input_ids, example.labels, strict=True), (None, None)]:
        now = None if token is None else label != -100
        if now is not learnt and run:
            text = html.escape(tokenizer.decode(run))
            pieces.append(f"<mark>{text}</mark>" if learnt else text)
            run = []
        run.append(token)
        learnt = now
    return _page(f'<div class="ask"><pre>{"".join(pieces)}</pre></div>')
