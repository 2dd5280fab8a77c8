"""Pictures of text for notebooks: trajectories, votes, passages and token masks as static HTML.

Owns how recorded cases and examples look on a page, light or dark, without a script or a server. Knows nothing of models
or of how they came about.
"""

import hashlib
import html
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from IPython.display import HTML
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from agentlib import prompts, sag
from agentlib.config import Config
from agentlib.figures.palette import GROUPS, VERMILLION
from agentlib.figures.tables import method_label
from agentlib.records import replace_surrogates

MAX_PAGES = 24  # that one click-through holds
MAX_REPEATS = 4  # lines alike that are shown one by one
# Translucent tints on the page's own colours read alike on light and dark pages; only text of code has two palettes. Hues
# are Okabe and Ito's, which colour-blind readers tell apart, and no meaning hangs on a hue alone.
_STYLE = """<style>
.al{font-size:13px;line-height:1.45;max-width:900px;margin:4px 0;
--al-word:#8a1f6a;--al-text:#0b6b3a;--al-number:#9a4a00;--al-remark:#6b7280;--al-name:#00568f}
[data-jp-theme-light=false] .al,.vscode-dark .al{--al-word:#f0a3d8;--al-text:#86d7a4;--al-number:#f5b971;--al-remark:#9aa3af;--al-name:#8cc8ff}
.al .box{border-left:4px solid;padding:4px 10px;margin:3px 0;border-radius:3px;overflow-wrap:anywhere}
.al pre,.jp-RenderedHTMLCommon .al pre{margin:2px 0;padding:0;background:transparent;color:inherit;white-space:pre-wrap;
word-break:normal;overflow-wrap:anywhere;font:12px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.al .ask{border-color:#999}.al .think{border-color:#0072B2;background:#0072B214}
.al .code{border-color:#CC79A7;background:#CC79A714}.al .see{border-color:#009E73;background:#009E7314}
.al .fail{border-color:#D55E00;background:#D55E0022}.al .end{border-color:#555;background:#99999922}
.al small{opacity:.75;display:block}.al mark{background:#E69F0066;color:inherit;border-radius:2px}
.al .p-k,.al .p-kc,.al .p-kn,.al .p-ow{color:var(--al-word);font-weight:600}.al .p-s1,.al .p-s2,.al .p-sa,.al .p-si{color:var(--al-text)}
.al .p-mi,.al .p-mf{color:var(--al-number)}.al .p-c1{color:var(--al-remark);font-style:italic}.al .p-nb,.al .p-nf,.al .p-nn{color:var(--al-name)}
.al .cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:6px;margin:4px 0}
.al .card{border-radius:4px;padding:4px 8px;border:1px solid #9996;overflow-wrap:anywhere}.al .kept{border:3px solid currentColor}
.al .beside{display:grid;grid-template-columns:1fr 1fr;gap:12px}@media(max-width:700px){.al .beside{grid-template-columns:1fr}}
.al table.list{border-collapse:collapse}.al .list td{text-align:left;vertical-align:top;padding:2px 14px 2px 0;white-space:normal;
overflow-wrap:anywhere}.al .list td:first-child{font-weight:600;white-space:nowrap}
.al .pick>input{position:absolute;opacity:0}
.al .pick>label{display:inline-block;padding:2px 9px;margin:2px;border:1px solid #9998;border-radius:11px;cursor:pointer}
.al .pick>input:checked+label{background:#0072B2;color:#fff}.al .pick>input:focus-visible+label{outline:2px solid #E69F00}
.al .pick>section{display:none}
@media print{.al .pick>section{display:block!important}}
</style>"""
_STYLE = _STYLE.replace("</style>", "".join(
    f".al .pick>input:nth-of-type({k}):checked~section:nth-of-type({k}){{display:block}}" for k in range(1, MAX_PAGES + 1)
) + "\n</style>")  # fmt: skip


def _page(inner: str) -> HTML:
    return HTML(replace_surrogates(f'{_STYLE}<div class="al">{inner}</div>'))


def _fold_repeats(text: str) -> str:
    """A text in which a line that is repeated many times stands once, with the number of times."""
    runs = [(line, len(list(run))) for line, run in itertools.groupby(text.strip().split("\n"))]
    return "\n".join(
        f"{line}\n… the same line {n - 1} times more" if n > MAX_REPEATS else "\n".join([line] * n)
        for line, n in runs
    )


def _html_box(kind: str, label: str, text: str, *, code: bool = False) -> str:
    text = _fold_repeats(text)
    body = (
        f"<pre>{html.escape(text.strip())}</pre>"
        if code
        else html.escape(text.strip()).replace("\n", "<br>")
    )
    return f'<div class="box {kind}"><small>{html.escape(label)}</small>{body}</div>'


def _highlight(code: str) -> str:
    return f"<pre>{highlight(code.strip(), PythonLexer(), HtmlFormatter(nowrap=True, classprefix='p-')).rstrip()}</pre>"


def _tabs(labels: Sequence[str], pages: Sequence[str], name: str) -> str:
    """Pages of which one is seen at a time, chosen by its label: radio buttons, so the keyboard works and no script is needed."""
    if len(pages) > MAX_PAGES:
        raise ValueError(
            f"{len(pages)} pages are too many for one click-through, expected at most {MAX_PAGES}; pick some"
        )
    key = hashlib.sha1("".join(pages).encode()).hexdigest()[
        :10
    ]  # alike on each run, and unlike its neighbours on the page
    heads = "".join(
        f'<input type="radio" name="al-{key}" id="al-{key}-{k}" aria-label="{html.escape(f"{name} {label}")}"{" checked" if not k else ""}>'
        f'<label for="al-{key}-{k}">{html.escape(label)}</label>'
        for k, label in enumerate(labels)
    )
    return (
        f'<div class="pick">{heads}{"".join(f"<section>{page}</section>" for page in pages)}</div>'
    )


# --- names and values --------------------------------------------------------------------------------------------


def show_values(values: Mapping[str, object]) -> HTML:
    """Names and what they stand for, a row each; several values are joined, an empty one is a dash."""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(_join(value))}</td></tr>"
        for name, value in values.items()
    )
    return _page(f'<table class="list">{rows}</table>')


def show_settings(cfg: Config, *names: str) -> HTML:
    """Some settings of a configuration. Raises AttributeError for a name that it has not."""
    return show_values({name: getattr(cfg, name) for name in names})


def _join(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_join(part)}" for name, part in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) or "–"
    return str(value) if value not in ("", None) else "–"


# --- a case ------------------------------------------------------------------------------------------------------


def show_case(record: Mapping, step: int | None = None) -> HTML:
    """A recorded case as a conversation: question, thoughts, code, observations (errors in red), answer against gold.

    With `step` (from 1) only that one, between question and answer.
    """
    return _page(_case_html(record, step))


def show_steps(record: Mapping) -> HTML:
    """A recorded case to click through: all of it, or a step at a time, with the candidates of a vote side by side."""
    return _page(_steps_html(record))


def show_cases(records: Sequence[Mapping]) -> HTML:
    """Several cases to click through, each a step at a time; at most `MOST_PAGES`. Raises ValueError if there are more."""
    told = [[r["id"] for r in records], [r["model"] for r in records], [_method(r) for r in records]]
    told = [column for column in told if len(set(column)) > 1]  # what tells them apart
    labels = [" · ".join([*names, _verdict(r)]) for r, *names in zip(records, *told, strict=True)]
    return _page(_tabs(labels, [_steps_html(r) for r in records], "case"))


def show_side_by_side(left: Mapping, right: Mapping) -> HTML:
    """Two answers to one question side by side, such as a chain of thought and an agent's run."""
    columns = "".join(
        f"<div><b>{html.escape(_method(r))}</b>{_case_html(r, None)}</div>" for r in (left, right)
    )
    return _page(f'<div class="beside">{columns}</div>')


def _method(record: Mapping) -> str:
    return method_label(record["method"], record.get("n", 1))


def _verdict(record: Mapping) -> str:
    """Whether a case's answer is right, in words."""
    correct = record.get("correct")
    return (
        "not answered"
        if record.get("error")
        else "not graded"
        if correct is None or correct != correct
        else "right"
        if correct
        else "wrong"
    )


def _format_cost(record: Mapping) -> str:
    """Length and time of a step or a case, as far as they are known."""
    tokens, seconds = record.get("completion_tokens"), record.get("seconds")
    return "".join(
        [
            f" · {tokens} tokens" if tokens is not None else "",
            f" · {seconds:.1f} s" if seconds is not None else "",
        ]
    )


def _steps_html(record: Mapping) -> str:
    if len(record.get("trace", [])) < 2 and not any(
        "candidates" in step for step in record.get("trace", [])
    ):
        return _case_html(record, None)
    numbers = range(1, len(record["trace"]) + 1)
    return _tabs(
        ["all", *(f"step {k}" for k in numbers)],
        [_case_html(record, None), *(_case_html(record, k) for k in numbers)],
        "show",
    )


def _case_html(record: Mapping, only: int | None) -> str:
    parts = [_html_box("ask", f"question · {record['benchmark']}", record["question"])]
    if record.get("error"):
        return "".join([*parts, _html_box("fail", _verdict(record), record["error"])])
    if "trace" not in record:
        parts.append(
            _html_box(
                "think",
                f"chain of thought{_format_cost(record | {'seconds': None})}",
                record["text"],
            )
        )
    for number, step in enumerate(record.get("trace", []), 1):
        if only not in (None, number):
            continue
        thought, action = prompts.split_turn(step["text"])
        label = f"step {number}{_format_cost(step)}"
        if number == 1 and record.get("prefix"):
            label += " · starts from the first-thought prefix"
        if only and "candidates" in step:
            parts.append(_vote_html(step))
        parts.append(_html_box("think", label, thought))
        if step["code"]:
            parts.append(
                f'<div class="box code"><small>code</small>{_highlight(_fold_repeats(step["code"]))}</div>'
            )
        elif written := action.removeprefix("Code:").strip():  # no code could be read from it
            parts.append(_html_box("code", "code", written, code=True))
        if not step["final"]:
            seen = step["observation"].removeprefix("Observation:")
            parts.append(
                _html_box("fail" if step["failure"] else "see", "observation", seen, code=True)
            )
    answer = f"answer {_shorten(record['prediction'])!r} · gold {record['gold']!r} · {_verdict(record)} · stopped: {record['stopped']}"
    parts.append(
        _html_box("fail" if _verdict(record) == "wrong" else "end", _verdict(record), answer)
    )
    return "".join(parts)


def _shorten(answer: object, most: int = 200) -> object:
    if not isinstance(answer, str):
        return answer
    answer = _fold_repeats(answer)
    return f"{answer[:most]} …" if len(answer) > most else answer


# --- a vote ------------------------------------------------------------------------------------------------------


def show_vote(step: Mapping) -> HTML:
    """The candidates of one SAG step side by side, coloured and named by group of the vote; the kept one is framed."""
    return _page(_vote_html(step))


def revote(step: Mapping, n: int) -> dict:
    """The step as it would have been voted on with its first `n` candidates, by the vote's own rule (`sag`).

    Older records lack the candidates' lengths (`tokens`), which break ties; there sample order does. Raises ValueError for an
    `n` that the step does not have.
    """
    if not 1 <= n <= len(step["candidates"]):
        raise ValueError(
            f"n is {n}, expected 1 to {len(step['candidates'])}, the candidates of the step"
        )
    if n == len(step["candidates"]):
        return dict(step)
    first = step["candidates"][:n]
    lengths = [c["tokens"] for c in first] if all("tokens" in c for c in first) else None
    groups = sag.rank([c["group"] for c in first], lengths)
    renamed = [c | {"group": group} for c, group in zip(first, groups, strict=True)]
    return dict(step) | {"candidates": renamed, "chosen": sag.winner(groups, lengths)}


def _vote_html(step: Mapping) -> str:
    sizes = Counter(c["group"] for c in step["candidates"] if c["group"] is not None)
    cards = []
    for number, candidate in enumerate(step["candidates"]):
        group, dropped = candidate["group"], candidate["failed"] == "dropped"
        name = (
            f"group {group + 1}, {sizes[group]} of {len(step['candidates'])}"
            if group is not None
            else "dropped"
            if dropped
            else "failed"
        )
        kept = number == step["chosen"]
        tint = (
            f"{GROUPS[group % len(GROUPS)]}33"
            if group is not None
            else "#8882"
            if dropped
            else f"{VERMILLION}22"
        )
        code = (
            _highlight(candidate["code"])
            if candidate["code"]
            else "<i>not written to its end</i>"
            if dropped
            else "<i>no code</i>"
        )
        cards.append(
            f'<div class="card{" kept" if kept else ""}" style="background:{tint}"><small>candidate {number + 1} · {name}'
            f"{' · <b>kept</b>' if kept else ''}</small>{code}<pre>→ {html.escape(candidate['outcome'])}</pre></div>"
        )
    return f'<div class="cards">{"".join(cards)}</div>'


# --- passages and masks ------------------------------------------------------------------------------------------


def show_passages(found: Sequence) -> HTML:
    """Passages of one search with their scores, best first."""
    return _page(
        "".join(
            _html_box("see", f"{hit.score:.3f} · {hit.passage.title}", hit.passage.text)
            for hit in found
        )
    )


def show_token_mask(example, tokenizer) -> HTML:
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
    return _page(f'<div class="box ask"><pre>{"".join(pieces)}</pre></div>')
