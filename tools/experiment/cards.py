"""Write the card of every committed adapter of an experiment: `python tools/experiment/cards.py
teaching`.

A card says what the student learnt from, with which settings, what it got right, and how to load
it; all of it is read from the records beside it.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from agentlib import config, figures, records, teach
from agentlib.models import weights

CARD = """---
base_model: {hub}
library_name: peft
license: apache-2.0
---

# {student}, {label}

A rank-{rank} adapter for [{hub}](https://huggingface.co/{hub}) ({licence}), trained by notebook 03
of this repository for its `smoke` preset, for workshops and for tests. It is a teaching example,
not a useful assistant.

- **Learnt from**: {examples} runs of {teacher} ({source}) over the training questions of the
  teaching set (`agentlib/benchmarks/data/DATASHEET.md`) that passed the filter: right, answered,
  every step parses. Loss only on what the teacher wrote.
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
    frame = figures.to_frame(records.read(cfg.records / "cases.jsonl"))
    own = frame[
        (frame["model"] == run["student"]) & (frame["method"] == run["method"]) & (frame["n"] == 1)
    ]
    own = own[own["training"] == 0]
    if own.empty:
        raise ValueError(f"{cfg.records / 'cases.jsonl'} has no case of {folder.name}")
    scores = []
    for name, part in own.groupby("benchmark", sort=False):
        right, asked = int(part["correct"].eq(True).sum()), len(part)
        low, high = figures.wilson_interval(right, asked)
        scores.append(
            f"{name} {right} of {asked}, {100 * right / asked:.0f} [{100 * low:.0f},"
            f" {100 * high:.0f}]"
        )
    base = weights.known(run["student"])
    names = ("lora_alpha", "learning_rate", "epochs", "batch_size", "seed", "precision")
    method = run["method"]
    return CARD.format(
        hub=base.hub,
        student=run["student"],
        label=config.METHODS[method],
        rank=run["lora_rank"],
        licence=base.licence,
        examples=records.read_json(folder / "finished.json")["examples"],
        teacher=cfg.teacher,
        source={"cot_distill": "chains of thought", "cot_distill_rag": "chains of thought"}.get(
            method, teach.METHODS["agent_ftp" if method.endswith("ftp") else "agent"]
        ),
        settings=", ".join(f"{name} {run[name]}" for name in names),
        steps=len(curve),
        first=np.mean(curve[:tenth]),
        last=np.mean(curve[-tenth:]),
        scores="; ".join(scores),
        place=folder.relative_to(config.ROOT),
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
