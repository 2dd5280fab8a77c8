"""Write the card of every committed adapter of an experiment: `python tools/experiment/cards.py
teaching`.

A card says what the student learnt from, with which settings, what it got right, and how to load
it; all of it is read from the records beside it.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from agentlib import config, figures, records, rounds, teach
from agentlib.models import weights

CARD = """---
base_model: {hub}
library_name: peft
license: apache-2.0
---

# {student}, {label}

A rank-{rank} adapter for [{hub}](https://huggingface.co/{hub}) ({licence}), trained by {trained}
of this repository, for workshops and for tests. It is a teaching example, not a useful assistant.

- **Learnt from**: {learnt}.
- **Settings**: {settings}. {steps} steps; the loss fell from {first:.2f} to {last:.2f} nats a token
  (means of a tenth of the steps).
- **Right answers, greedily, with the search of the teaching set**: {scores}. Per cent with 95 %
  Wilson intervals; a third of the templates is in no training question. This is one training;
  another with the same data differs by some points.
- **Limits**: it was taught English questions about countries, cities and school mathematics in one
  format. It makes up what it cannot find.

```python
from agentlib import LocalModel
model = LocalModel("{student}", adapter="{place}")
```
"""


def card(cfg: config.Config, folder: Path) -> str:
    """The card of the adapter in a folder. Raises ValueError if no recorded case is of it."""
    run = records.read_json(folder / "config.json")
    curve = [step["loss"] for step in records.read(folder / "loss.jsonl")]
    tenth = max(1, len(curve) // 10)
    arm = run.get("arm")
    file = (cfg.records.with_name("improve") if arm else cfg.records) / "cases.jsonl"
    frame = figures.to_frame(records.read(file))
    own = frame[
        (frame["model"] == run["student"]) & (frame["method"] == run["method"]) & (frame["n"] == 1)
    ]
    own = own[own["training"] == 0]
    own = own[own["arm"] == arm] if arm else own
    if own.empty:
        raise ValueError(f"{file} has no case of {folder.name}")
    scores = []
    for names, part in own.groupby(["benchmark", "test"] if arm else ["benchmark"], sort=False):
        name, right, asked = ", ".join(names), int(part["correct"].eq(True).sum()), len(part)
        low, high = figures.wilson_interval(right, asked)
        scores.append(
            f"{name} {right} of {asked}, {100 * right / asked:.0f} [{100 * low:.0f},"
            f" {100 * high:.0f}]"
        )
    base = weights.known(run["student"])
    said = ("lora_alpha", "learning_rate", "epochs", "batch_size", "seed", "precision")
    method = run["method"]
    return CARD.format(
        hub=base.hub,
        student=run["student"],
        label=config.METHODS[method] + (f", {rounds.ARMS[arm]}" if arm else ""),
        rank=run["lora_rank"],
        licence=base.licence,
        trained="the experiment of notebook 11" if arm else "notebook 03 (preset `smoke`)",
        learnt=_learnt(cfg, folder, method, arm),
        settings=", ".join(f"{name} {run[name]}" for name in said if name in run),
        steps=len(curve),
        first=np.mean(curve[:tenth]),
        last=np.mean(curve[-tenth:]),
        scores="; ".join(scores),
        place=folder.relative_to(config.ROOT),
    )


def _learnt(cfg: config.Config, folder: Path, method: str, arm: str | None) -> str:
    """What the student learnt from, in words."""
    count, own = records.read_json(folder / "finished.json")["examples"], ""
    if arm:
        said = records.read(cfg.records.with_name("improve") / "rounds.jsonl")
        (new,) = (row["new"] for row in said if row["part"] == f"arm {arm}")
        kind = "with a repaired step" if arm == "repair" else "of its own"
        count, own = count - new, f"; and {new} right runs {kind}" * bool(new)
    kind = teach.METHODS["agent_ftp" if method.endswith("ftp") else "agent"]
    source = "chains of thought" if method.startswith("cot") else kind
    return (
        f"{count} runs of {cfg.teacher} ({source}) over the training questions of the teaching set"
        " (`agentlib/benchmarks/data/DATASHEET.md`) that passed the filter: right, answered, every"
        f" step parses{own}. Loss only on what the teacher {'or the student ' * bool(own)}wrote"
    )


def main(name: str) -> int:
    """Write the cards of an experiment's adapters; returns 0."""
    cfg = dataclasses.replace(config.load("laptop", **config.EXPERIMENTS[name]), preset=name)
    for folder in sorted((cfg.records / "adapters").iterdir()):
        (folder / "README.md").write_text(card(cfg, folder), encoding="utf-8")
        print(folder / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
