"""Write the manifest of the Wikipedia slice from its ready-made files: `python
tools/experiment/manifest.py FOLDER`.

The sets are taken in file order: the paper's own questions first, then more of the same data set. A
question whose words occurred before is left out.
"""

import hashlib
import json
import lzma
import sys
from pathlib import Path

from agentlib.benchmarks import wiki

# name: data set, split, then (set, level or None for any, at most or None for all) of
# questions.jsonl.gz
SETS = {
    "hotpotqa-slice": ("hotpotqa", "test", ("test", None, None)),
    "bamboogle-slice": ("bamboogle", "test", ("test", None, None)),
    "musique-slice": ("musique", "test", ("test_paper", None, None), ("validation", None, 44)),
    "2wikimultihopqa-slice": ("2wiki", "test", ("test", None, None), ("heldout", None, 140)),
    "hotpotqa-dev": ("hotpotqa", "dev", ("dev", None, None)),
    "hotpotqa-slice-train": ("hotpotqa", "train", ("train", ("hard", "medium"), None)),
    "hotpotqa-easy-train": ("hotpotqa", "train", ("train", ("easy",), None)),
}


def manifest(folder: Path) -> dict:
    """The manifest of the two files in a folder."""
    rows, used, sets = wiki.read(folder / wiki.QUESTIONS), set(), {}
    for name, (dataset, split, *parts) in SETS.items():
        chosen, in_paper = [], 0
        for kind, levels, most in parts:
            some = [
                r
                for r in rows
                if (r["dataset"], r["set"]) == (dataset, kind)
                and (levels is None or r["level"] in levels)
            ]
            for row in some[:most]:
                if row["question"] not in used:
                    used.add(row["question"])
                    chosen.append(f"{row['id']} {wiki.key(row['question'], row['answer'])}")
                    in_paper += split == "test" and row["paper_set"] is not None
        about = {
            "dataset": wiki.FULL_NAMES.get(dataset, dataset),
            "split": split,
            "in_paper": in_paper,
        }
        sets[name] = about | {"questions": chosen}
    return {
        "files": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in (wiki.PASSAGES, wiki.QUESTIONS)
        },
        "sets": sets,
    }


def passage_ids(folder: Path) -> list[str]:
    """The passages' ids in the order of the file."""
    return [row["id"] for row in wiki.read(folder / wiki.PASSAGES)]


if __name__ == "__main__":
    at = Path(sys.argv[1])
    wiki.MANIFEST.write_text(json.dumps(manifest(at), indent=0) + "\n", encoding="utf-8")
    wiki.PASSAGE_IDS.write_bytes(lzma.compress("\n".join(passage_ids(at)).encode(), preset=9))
