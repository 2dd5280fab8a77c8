"""Make the teaching set: `python tools/teachingset/build.py` writes its questions and passages into
the package, the same bytes each time; `--check` compares and writes nothing.

The committed questions are frozen. They were drawn before equally good passages of a search had an
order, on which the choice among questions with options rests: of five kinds with options, 128 of
all 1,070 questions would be others now. `--check` says so.

Owns the corpus, the splits, the number of questions and the files. The data sheet beside the files
is written by `datasheet`.
"""

import argparse
import json
import lzma
import random
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools, for the modules beside this

from agentlib.retrieval import Passage, Searcher, build_index, open_index
from teachingset import datasheet, drawing, encyclopedia, facts, factual, maths
from teachingset.drawing import Draft
from teachingset.policies import Policies, plain_title, says
from teachingset.world import World

DATA = Path(__file__).resolve().parents[2] / "agentlib" / "benchmarks" / "data"
SEED = 22
PASSAGES = 8000
POOL = 3000  # drafts of a template with options, of which a few are selected
# Questions of a template. With options: multiples of eight, so that three policies can be at half
# together. Without: so many that a tenth is a whole number.
COUNTS = {
    "teaching-hotpot": {"train": {"open": 24, "choice": 24}, "test": {"open": 10, "choice": 16}},
    "teaching-math": {"train": {"open": 20}, "test": {"open": 10}},
}


def corpus() -> list[Passage]:
    """The passages that questions may need, then distractors: those that share a word of a name
    with them, then the others, larger cities first."""
    every = encyclopedia.passages()
    needed = factual.may_be_asked()
    words = {w for p in every if p.id in needed for w in _name_words(p.title)}
    core = [p for p in every if p.id in needed]
    other_kinds = [
        p for p in every if p.id not in needed and not p.id.startswith(("city", "region"))
    ]
    rest = [p for p in every if p.id not in needed and p.id.startswith(("city", "region"))]
    namesakes = [p for p in rest if words & _name_words(p.title)]
    size = {c.id: c.population for c in facts.atlas()[1]}
    others = sorted(
        (p for p in rest if not words & _name_words(p.title)),
        key=lambda p: (-size.get(p.id, 0), p.id),
    )
    tail = [*other_kinds, *namesakes, *others][: PASSAGES - len(core)]
    random.Random(SEED).shuffle(core)
    random.Random(SEED + 1).shuffle(tail)
    return core + tail


def _name_words(title: str) -> set[str]:
    """The words by which a name is taken for another, without what entries of a kind share."""
    return {w for w in re.findall(r"\w{4,}", plain_title(title).lower())}


def search_by_words(passages: list[Passage], folder: Path) -> Searcher:
    """BM25 over the passages, built in a folder."""
    return open_index(build_index(folder, passages, kind="bm25", progress=False))


def _factual(spec: factual.Spec, split: str, count: int, policies: Policies) -> list[Draft]:
    """The questions of one factual template in one split."""
    rng = random.Random(f"{SEED} {spec.name} {split}")
    world = World(split, rng)

    def draw(_: int = 0) -> Draft:
        return _named(spec.template(world), spec.name)

    if not spec.is_choice:
        return drawing.draw_open(draw, count, _needs_two_passages(policies), set())
    drawn = {d.text: d for d in (draw() for _ in range(POOL))}
    pool = [d for d in drawn.values() if not _names_other_side(d, policies)]
    return drawing.select_balanced(pool, count, features(pool, policies), contexts(pool), rng)


def _named(draft: Draft, template: str) -> Draft:
    return Draft(**draft.__dict__ | {"template": template})


def _needs_two_passages(policies: Policies) -> Callable[[Draft], bool]:
    """Whether no passage alone joins what the question names to its answer, and the answer is not
    the title of the first passage found."""

    def is_fit(draft: Draft) -> bool:
        named = plain_title(policies.by_id[draft.supporting_ids[0]].title)
        golds = {draft.answer, *draft.aliases}
        if any(says(gold, draft.text) for gold in golds):
            return False
        if any(says(gold, text) for text in policies.texts if named in text for gold in golds):
            return False
        return policies.answers([draft])[0]["title of the first passage"] not in golds

    return is_fit


def _names_other_side(draft: Draft, policies: Policies) -> bool:
    """Whether the passage of one side names the other, as the time zone Asia/Aden does in Yemen."""
    a, b = (policies.by_id[i] for i in draft.supporting_ids[:2])
    return says(plain_title(b.title), a.text) or says(plain_title(a.title), b.text)


def features(pool: list[Draft], policies: Policies) -> np.ndarray:
    """A row for each draft: 1 where a policy is right, -1 where it is wrong, 0 where it abstains.
    Policies that are the opposite of another are left out."""
    given = policies.answers(pool)
    left_out = {"commonest gold", "commonest training gold", "yes", "no", "second option"}
    left_out |= {"alphabetically last"}
    if "yes" in pool[0].options:
        left_out |= {"alphabetically first"}  # which is "no"
    names = [name for name in given[0] if name not in left_out]
    table = np.array(
        [
            [
                0 if row[n] not in draft.options else 1 if row[n] == draft.answer else -1
                for n in names
            ]
            for draft, row in zip(pool, given, strict=True)
        ]
    )
    return table[:, np.abs(table).sum(0) > 0]


def contexts(pool: list[Draft]) -> np.ndarray:
    """What a question shows of itself, as 1 or -1: its wording, and whether its names are long."""
    size = [sum(map(len, d.options)) if "yes" not in d.options else len(d.text) for d in pool]
    typical = np.median(size)
    return np.array(
        [[2 * d.wording - 1, 1 if n > typical else -1] for d, n in zip(pool, size, strict=True)]
    )


def _maths(spec: maths.Spec, counts: dict[str, int]) -> dict[str, list[Draft]]:
    """The questions of a maths template by split; no text is in both."""
    found: dict[str, list[Draft]] = {}
    taken: set[str] = set()
    for split in ("train", "test"):
        if split == "train" and spec.held_out:
            continue
        rng = random.Random(f"{SEED} {spec.name} {split}")
        found[split] = drawing.draw_open(
            lambda place, rng=rng: maths.draw(spec, rng, place), counts[split], maths.is_fit, taken
        )
        taken |= {d.text for d in found[split]}
    return found


def questions(policies: Policies, only: tuple[str, ...] = ()) -> list[dict]:
    """All questions as they are written, or those of some templates."""
    titles = {i: p.title for i, p in policies.by_id.items()}
    groups: dict[tuple[str, str], list[list[Draft]]] = {}
    held_out = {s.name for s in (*factual.SPECS, *maths.SPECS) if s.held_out}
    for spec in factual.SPECS:
        for split in ("train", "test"):
            if (only and spec.name not in only) or (spec.held_out and split == "train"):
                continue
            count = COUNTS["teaching-hotpot"][split]["choice" if spec.is_choice else "open"]
            groups.setdefault(("teaching-hotpot", split), []).append(
                _factual(spec, split, count, policies)
            )
    for spec in maths.SPECS:
        if only and spec.name not in only:
            continue
        counts = {split: of["open"] for split, of in COUNTS["teaching-math"].items()}
        for split, drafts in _maths(spec, counts).items():
            groups.setdefault(("teaching-math", split), []).append(drafts)
    rows = []
    for name, split in sorted(groups):
        numbers: dict[str, int] = {}
        for d in drawing.take_turns(groups[name, split]):
            numbers[d.template] = number = numbers.get(d.template, 0) + 1
            rows.append(
                {
                    "id": f"{name}{'-train' * (split == 'train')}-{d.template}-{number:02}",
                    "set": name,
                    "split": split,
                    "text": d.text,
                    "answer": d.answer,
                    "aliases": list(d.aliases),
                    "domain": "factual" if d.supporting_ids else "math",
                    "level": d.level,
                    "subject": d.subject,
                    "template": d.template,
                    "held_out": d.template in held_out,
                    "options": list(d.options),
                    "supporting": [titles[i] for i in d.supporting_ids],
                    "supporting_ids": list(d.supporting_ids),
                }
            )
    return rows


def lines(rows: list[dict]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def packed(passages: list[Passage]) -> bytes:
    """The corpus as it is written: JSON lines, packed by LZMA with fixed settings."""
    rows = [{"id": p.id, "title": p.title, "text": p.text} for p in passages]
    return lzma.compress(lines(rows), preset=9 | lzma.PRESET_EXTREME)


def make(only: tuple[str, ...] = ()) -> dict[str, bytes]:
    """The files by name; with `only`, the questions of these templates."""
    passages = corpus()
    with tempfile.TemporaryDirectory() as folder:
        policies = Policies(passages, search_by_words(passages, Path(folder) / "index"))
        rows = questions(policies, only)
        sheet = datasheet.write(rows, passages, policies)
    return {
        "teaching_questions.jsonl": lines(rows),
        "teaching_passages.jsonl.xz": packed(passages),
        "DATASHEET.md": sheet.encode(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or say which differ; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args(arguments)
    files = make()
    if options.check:
        wrong = [
            name
            for name, content in files.items()
            if not (DATA / name).exists() or (DATA / name).read_bytes() != content
        ]
        print(f"differ: {', '.join(wrong)}" if wrong else "the files are what the generator makes")
        return bool(wrong)
    DATA.mkdir(exist_ok=True)
    for name, content in files.items():
        (DATA / name).write_bytes(content)
        print(f"{DATA / name}: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
