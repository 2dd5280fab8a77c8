"""Recorded cases, votes, passages and token masks as static HTML for notebooks.

The pages need no script and no server, and are readable on light and dark backgrounds. They also
read without their styles, which GitHub removes: labels are bold, steps fold, a vote is a table, and
what only such a page needs has the class `plain` and is hidden by the styles.
"""

import hashlib
import html
import itertools
import math
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

MAX_PAGES = 24  # of one click-through
MAX_REPEATS = 4  # equal lines in a row that are shown one by one
HR = '<hr class="plain">'  # parts two boxes where there are no styles
MAX_UNWRAPPED = 100  # characters of a line that needs no wrapping on a page without styles
UNCLICKABLE = (
    "Everything is shown below. In Jupyter, and on the pages that <code>make site</code> writes, "
    "you can choose:"
)
# Translucent tints on the page's own background suit light and dark pages; only code has two
# palettes. Colours are those of `palette`, and no meaning depends on a colour alone.
_STYLE = (
    """<style>
.al{font-size:13px;line-height:1.45;max-width:900px;margin:4px 0;
--al-word:#8a1f6a;--al-text:#0b6b3a;--al-number:#9a4a00;--al-remark:#6b7280;--al-name:#00568f}
[data-jp-theme-light=false] .al,.vscode-dark .al{
--al-word:#f0a3d8;--al-text:#86d7a4;--al-number:#f5b971;--al-remark:#9aa3af;--al-name:#8cc8ff}
.al .box{border-left:4px solid;padding:4px 10px;margin:3px 0;border-radius:3px;
overflow-wrap:anywhere}
.al .plain{display:none}.al .box p{margin:0}
.al .box .label,.al .vote .name{font-size:smaller;opacity:.75}
.al .label b{font-weight:inherit}
.al pre,.jp-RenderedHTMLCommon .al pre,.al .box code,.al .vote code{display:block;margin:2px 0;
padding:0;background:transparent;color:inherit;
white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;
font:12px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.al .ask{border-color:#999}.al .think{border-color:#0072B2;background:#0072B214}
.al .code{border-color:#CC79A7;background:#CC79A714}
.al .see{border-color:#009E73;background:#009E7314}
.al .fail{border-color:#D55E00;background:#D55E0022}
.al .end{border-color:#555;background:#99999922}
.al .mask b{background:#E69F0066;border-radius:2px}
.al .p-k,.al .p-kc,.al .p-kn,.al .p-ow{color:var(--al-word);font-weight:600}
.al .p-s1,.al .p-s2,.al .p-sa,.al .p-si{color:var(--al-text)}
.al .p-mi,.al .p-mf{color:var(--al-number)}.al .p-c1{color:var(--al-remark);font-style:italic}
.al .p-nb,.al .p-nf,.al .p-nn{color:var(--al-name)}
.al table.vote{display:block;margin:4px 0}
.al .vote>tbody{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:6px}
.al .vote tr.card,.al .vote td{display:block;text-align:left}.al .vote td{padding:0}
.al .vote td.name{display:inline}.al .name+.name::before{content:" · "}
.al .card{border-radius:4px;padding:4px 8px;border:1px solid #9996;overflow-wrap:anywhere}
.al .kept{border:3px solid currentColor}
.al .beside{display:grid;grid-template-columns:1fr 1fr;gap:12px}
.al .beside h4.title{font:inherit;font-weight:600;margin:0}
@media(max-width:700px){.al .beside{grid-template-columns:1fr}}
.al table.list{border-collapse:collapse}
.al .list td{text-align:left;vertical-align:top;padding:2px 14px 2px 0;white-space:normal;
overflow-wrap:anywhere}.al .list td:first-child{font-weight:600;white-space:nowrap}
.al .pick>input{position:absolute;opacity:0}
.al .pick>label{display:inline-block;padding:2px 9px;margin:2px;border:1px solid #9998;
border-radius:11px;cursor:pointer}
.al .pick>input:checked+label{background:#0072B2;color:#fff}
.al .pick>input:focus-visible+label{outline:2px solid #E69F00}
.al .pick>section{display:none}
.al .walk>input:first-of-type:checked~section{display:block}
.al .walk>input:first-of-type:checked~section .vote{display:none}
@media print{.al .pick>section,.al .walk .vote{display:block!important}}
"""
    + "".join(
        f".al .pick>input:nth-of-type({k}):checked~section.page-{k}{{display:block}}"
        for k in range(1, MAX_PAGES + 1)
    )
    + "\n</style>"
)


def _page(inner: str) -> HTML:
    return HTML(replace_surrogates(f'{_STYLE}<div class="al">{inner}</div>'))


def _fold_repeats(text: str) -> str:
    """The text, in which a line that is repeated many times is written once, with its count."""
    lines = []
    for line, run in itertools.groupby(text.strip().split("\n")):
        count = len(list(run))
        if count > MAX_REPEATS:
            lines += [line, f"… the same line {count - 1} times more"]
        else:
            lines += [line] * count
    return "\n".join(lines)


def _html_box(kind: str, label: str, text: str, *, note: str = "", code: bool = False) -> str:
    """A box of a CSS class `kind` with a label and a note behind it; `code` keeps spaces and uses a
    monospaced font."""
    text = _fold_repeats(text).strip()
    if not code:
        body = _break_lines(text)
    elif max(map(len, text.split("\n"))) <= MAX_UNWRAPPED:
        body = f"<pre>{html.escape(text)}</pre>"
    else:
        body = f"<code>{_break_lines(text)}</code>"
    return _box(kind, label, body if body.startswith("<pre>") else f"<p>{body}</p>", note)


def _break_lines(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def _box(kind: str, label: str, body: str, note: str = "") -> str:
    """A box around HTML. Without styles, too, it is indented and its label is a bold line."""
    label = f'<p class="label"><b>{html.escape(label)}</b>{html.escape(note)}</p>'
    return f'<blockquote class="box {kind}">{label}{body}</blockquote>'


def _fold(label: str, inner: str) -> str:
    """A part of a page. Only without styles has it a line above, a bold heading, and a fold."""
    heading = f'<summary class="plain"><b>{html.escape(label)}</b></summary>'
    return f"{HR}<details open>{heading}{inner}</details>"


def _highlight(code: str) -> str:
    """Python code in colour."""
    coloured = highlight(code.strip(), PythonLexer(), HtmlFormatter(nowrap=True, classprefix="p-"))
    return f"<pre>{coloured.rstrip()}</pre>"


def _choices(labels: Sequence[str], name: str, pages: str, lead: str = UNCLICKABLE) -> str:
    """Labels of which one is chosen, to put in front of the sections that they show.

    `lead` is read before the labels where styles, and so the choice, are missing. The labels
    are radio buttons, so the keyboard works and no script is needed. Raises ValueError for more
    than `MAX_PAGES` of them.
    """
    if len(labels) > MAX_PAGES:
        raise ValueError(
            f"{len(labels)} pages are too many for one click-through, "
            f"expected at most {MAX_PAGES}; pick some"
        )
    # The same on each run, and different from that of its neighbours on the page.
    key = hashlib.sha1(pages.encode()).hexdigest()[:10]
    buttons = []
    for k, label in enumerate(labels):
        words, checked = html.escape(f"{name} {label}"), "" if k else " checked"
        buttons.append(
            f'<input type="radio" name="al-{key}" id="al-{key}-{k}" aria-label="{words}"{checked}>'
            f'<label for="al-{key}-{k}">{html.escape(label)}</label>'
        )
    return f'<span class="plain">{lead} </span>' + '<span class="plain"> | </span>'.join(buttons)


def _tabs(labels: Sequence[str], pages: Sequence[str], name: str) -> str:
    """Pages of which one is visible, chosen by its label; without styles, one after the other.

    Raises ValueError for more than `MAX_PAGES` pages.
    """
    choices = _choices(labels, name, "".join(pages))
    sections = (
        f'<section class="page-{k}">{_fold(label, page)}</section>'
        for k, (label, page) in enumerate(zip(labels, pages, strict=True), 1)
    )
    return f'<div class="pick">{choices}{"".join(sections)}</div>'


# --- names and values -----------------------------------------------------------------------------


def show_values(values: Mapping[str, object]) -> HTML:
    """Names and their values, one row each: lists joined by commas, an empty value as a dash."""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(_join(value))}</td></tr>"
        for name, value in values.items()
    )
    return _page(f'<table class="list">{rows}</table>')


def show_settings(cfg: Config, *names: str) -> HTML:
    """Some settings of a configuration. Raises AttributeError for a name that is not a setting."""
    return show_values({name: getattr(cfg, name) for name in names})


def _join(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_join(part)}" for name, part in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) or "–"
    return str(value) if value not in ("", None) else "–"


# --- a case ---------------------------------------------------------------------------------------


def show_case(record: Mapping, step: int | None = None) -> HTML:
    """A recorded case as a conversation: question, thoughts, code, observations, answer and gold.

    Errors are red. With `step` (from 1), only that step is shown between question and answer.
    """
    return _page(_case_html(record, step))


def show_steps(record: Mapping) -> HTML:
    """A recorded case to click through: all of it, or one step at a time.

    A single step also shows the candidates of its vote side by side.
    """
    return _page(_steps_html(record))


def show_cases(records: Sequence[Mapping]) -> HTML:
    """Several cases to click through, each one step at a time.

    Labels name what the cases differ in. Raises ValueError for more than `MAX_PAGES` cases.
    """
    columns = [
        [r["id"] for r in records],
        [r["model"] for r in records],
        list(map(_method, records)),
    ]
    columns = [column for column in columns if len(set(column)) > 1]
    names = zip(*columns, map(_verdict, records), strict=True)
    pages = [_steps_html(record, lead="Parts:") for record in records]
    return _page(_tabs([" · ".join(parts) for parts in names], pages, "case"))


def show_side_by_side(left: Mapping, right: Mapping) -> HTML:
    """Two answers to one question side by side, such as a chain of thought and an agent's run."""
    columns = (
        f'<div><h4 class="title">{html.escape(_method(r))}</h4>{_case_html(r, None)}</div>'
        for r in (left, right)
    )
    return _page(f'<div class="beside">{HR.join(columns)}</div>')


def _method(record: Mapping) -> str:
    return method_label(record["method"], record.get("n", 1))


def _verdict(record: Mapping) -> str:
    """Whether a case's answer is right, in words."""
    correct = record.get("correct")
    if record.get("error"):
        return "not answered"
    if correct is None or math.isnan(correct):
        return "not graded"
    return "right" if correct else "wrong"


def _format_cost(record: Mapping) -> str:
    """Tokens and seconds of a step or a case, as far as they are known."""
    tokens, seconds = record.get("completion_tokens"), record.get("seconds")
    known = [] if tokens is None else [f" · {tokens} tokens"]
    return "".join(known if seconds is None else [*known, f" · {seconds:.1f} s"])


def _steps_html(record: Mapping, lead: str = UNCLICKABLE) -> str:
    trace = record.get("trace", [])
    if len(trace) < 2 and not any("candidates" in step for step in trace):
        return _case_html(record, None)
    question, *steps, answer = _case_parts(record, with_votes=True)
    labels = ["all", *(f"step {k}" for k in range(1, len(trace) + 1))]
    choices = _choices(labels, "show", "".join([question, *steps, answer]), lead)
    sections = (f'<section class="page-{k}">{step}</section>' for k, step in enumerate(steps, 2))
    return f'<div class="pick walk">{choices}{question}{"".join(sections)}{answer}</div>'


def _case_html(record: Mapping, only: int | None) -> str:
    question, *steps, answer = _case_parts(record, with_votes=only is not None)
    if only is not None and "trace" in record:
        steps = steps[only - 1 : only]
    return "".join([question, *steps, answer])


def _case_parts(record: Mapping, with_votes: bool) -> list[str]:
    """The question, each step (or the chain of thought, or the error), and the answer graded."""
    verdict = _verdict(record)
    parts = [_html_box("ask", "question", record["question"], note=f" · {record['benchmark']}")]
    if record.get("error"):
        return [*parts, _html_box("fail", f"verdict: {verdict}", record["error"])]
    if "trace" not in record:
        cost = _format_cost(record | {"seconds": None})
        parts.append(_html_box("think", "chain of thought", record["text"], note=cost))
    trace = record.get("trace", [])
    for number, step in enumerate(trace, 1):
        boxes = _step_html(step, number, record.get("prefix"), with_votes)
        parts.append(_fold(f"step {number} of {len(trace)}", boxes))
    if record["stopped"] is None:
        return [*parts, HR + _html_box("end", "running", f"step {len(trace) + 1} is being written")]
    answer = f"answer {_shorten(record['prediction'])!r}"
    if record["gold"]:
        answer = f"{answer} · gold {record['gold']!r} · {verdict}"
    answer = f"{answer} · stopped: {record['stopped']}"
    kind = "fail" if verdict == "wrong" else "end"
    parts.append(HR + _html_box(kind, f"verdict: {verdict}", answer))
    return parts


def _step_html(step: Mapping, number: int, prefix: str | None, with_vote: bool) -> str:
    """The boxes of one step: its vote, thought, code and observation, as far as it has them."""
    thought, action = prompts.split_turn(step["text"])
    note = _format_cost(step)
    if number == 1 and prefix:
        note += " · starts from the first-thought prefix"
    parts = [_vote_html(step)] if with_vote and "candidates" in step else []
    parts.append(_html_box("think", f"step {number} · thought", thought, note=note))
    if step["code"]:
        parts.append(_box("code", "code", _highlight(_fold_repeats(step["code"]))))
    elif written := action.removeprefix("Code:").strip():  # from which no code could be read
        parts.append(_html_box("code", "code", written, code=True))
    if not step["final"]:
        seen, failure = step["observation"].removeprefix("Observation:"), step["failure"]
        kind, note = ("fail", f" · failed ({failure})") if failure else ("see", "")
        parts.append(_html_box(kind, "observation", seen, note=note, code=True))
    return "".join(parts)


def _shorten(answer: object, most: int = 200) -> object:
    if not isinstance(answer, str):
        return answer
    answer = _fold_repeats(answer)
    return f"{answer[:most]} …" if len(answer) > most else answer


# --- a vote ---------------------------------------------------------------------------------------


def show_vote(step: Mapping) -> HTML:
    """The candidates of one SAG step side by side, coloured and named by group; the kept one is
    framed. Without styles it is a table with a row per candidate, in bold the kept one's.
    """
    return _page(_vote_html(step))


def revote(step: Mapping, n: int) -> dict:
    """The step as it would have been voted on with its first `n` candidates, by the rule of `sag`.

    Older records lack the candidates' lengths (`tokens`), which break ties; there the sample order
    breaks them. Raises ValueError for an `n` that the step does not have.
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
    candidates = step["candidates"]
    sizes = Counter(c["group"] for c in candidates if c["group"] is not None)
    rows = []
    for number, candidate in enumerate(candidates):
        group = candidate["group"]
        if group is not None:
            name, tint = f"group {group + 1}, {sizes[group]} of {len(candidates)}", _tint(group)
        elif candidate["failed"] == "dropped":  # in older records: not sampled to its end
            name, tint = "dropped", "#8882"
        else:
            name, tint = "failed", f"{VERMILLION}22"
        names, css = [f"candidate {number + 1}", name], "card"
        if number == step["chosen"]:
            names, css = [f"<b>{names[0]}</b>", f"<b>{name} · kept</b>"], "card kept"
        code = _highlight(candidate["code"]) if candidate["code"] else "<i>no code</i>"
        cells = "".join(f'<td class="name">{cell}</td>' for cell in names)
        rows.append(
            f'<tr class="{css}" style="background:{tint}">{cells}'
            f"<td>{code}</td><td><code>→ {_break_lines(candidate['outcome'])}</code></td></tr>"
        )
    heads = "".join(f"<th>{head}</th>" for head in ("candidate", "group", "code", "outcome"))
    return (
        '<details open><summary class="plain"><b>vote</b> · the row in bold is kept</summary>'
        f'<table class="vote"><thead class="plain"><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></details>"
    )


def _tint(group: int) -> str:
    """The translucent colour of a group of the vote."""
    return f"{GROUPS[group % len(GROUPS)]}33"


# --- passages and masks ---------------------------------------------------------------------------


def show_passages(found: Sequence) -> HTML:
    """The passages of one search with their scores, best first."""
    boxes = (
        _html_box("see", f"{hit.score:.3f} · {hit.passage.title}", hit.passage.text)
        for hit in found
    )
    return _page("".join(boxes))


def show_token_mask(example, tokenizer) -> HTML:
    """One training example as text: tokens with loss are bold and highlighted, the others plain."""
    labelled = list(zip(example.input_ids, example.labels, strict=True))
    pieces = []
    for has_loss, run in itertools.groupby(labelled, key=lambda pair: pair[1] != -100):
        text = _break_lines(tokenizer.decode([token for token, _ in run]))
        pieces.append(f"<b>{text}</b>" if has_loss else text)
    trained = sum(label != -100 for _, label in labelled)
    note = (
        f" · bold: the {trained} of {len(labelled)} tokens with loss, which the student is trained"
        " to write; the others it only reads"
    )
    body = f'<p><code class="mask">{"".join(pieces)}</code></p>'  # wraps without styles, too
    return _page(_box("ask", "token mask", body, note))
