"""One run of each kind, to be killed by `test_kill.py`: `python killed.py KIND FOLDER`. Says
"ready" as it begins."""

import shutil
import sys
import time
from pathlib import Path

from conftest import Scripted, act

from agentlib import benchmarks, config, evaluate, masks, prompts, rounds, teach, training
from agentlib.benchmarks import teaching
from agentlib.models import weights
from agentlib.retrieval import build
from agentlib.retrieval.encoder import Encoder, encoder_settings
from agentlib.sandbox import Sandbox

SMOL = "SmolLM2-135M-Instruct"
PAUSE = 0.04  # seconds a scripted model takes to answer
REPOSITORY = config.ROOT
RECORDED = REPOSITORY / "figures" / "records" / "teaching"


class Slow(Scripted):
    """Right on every second question, a lookup on the way, at a model's leisure."""

    def __init__(self, questions):
        golds = {q.text: q.answer if k % 2 else "wrong" for k, q in enumerate(questions)}
        super().__init__(lambda conversation, prefix, k: self.answer(golds, conversation))

    def answer(self, golds, conversation):
        time.sleep(PAUSE)
        chain = conversation[0]["content"] in prompts.COT_PLAN.values()
        question = conversation[-1 if chain else 1]["content"].rpartition("Question: ")[2]
        if chain:
            return f"I think.\n\n\\boxed{{{golds[question]}}}"
        looked = len(conversation) > 2
        return act(f"final_answer({golds[question]!r})" if looked else "print(web_search('x'))")


def run(kind: str) -> None:
    if kind == "index":
        encoder = Encoder(weights.fetch("all-MiniLM-L6-v2"), **encoder_settings("all-MiniLM-L6-v2"))
        begin()
        build.build_index(
            config.ROOT / "index", teaching.passages()[:96], encoder, shard=8, progress=False
        )
    elif kind == "train":
        settings = training.TrainingSettings(
            lora_rank=4, batch_size=1, epochs=1, precision="fp32", save_seconds=0.0
        )
        examples = [
            masks.Example(f"q{k}", list(range(10, 30 + k)), [-100] * 5 + list(range(15, 30 + k)))
            for k in range(12)
        ]
        begin()
        training.fine_tune(SMOL, examples, settings, config.ROOT / "train")
    elif kind == "rounds":
        settings = {"improve_questions": 8, "improve_runs": 2, "batch_questions": 2}
        cfg = config.load("laptop", **config.IMPROVE | settings)
        for file in RECORDED.glob("teacher_agent*.jsonl"):  # they say which questions are left
            kept = config.ROOT / file.relative_to(REPOSITORY)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, kept)
        asked = rounds.questions(cfg)
        model = Slow(asked)
        with Sandbox(tools={"web_search": lambda query: f"[1] {query}"}, seconds=20.0) as box:
            begin()
            for k in range(cfg.improve_runs):
                rounds.roll_out(cfg, model, box, 1, k, asked)
    else:
        cfg = config.load("smoke", batch_questions=2, train_questions=12, questions=12)
        names = cfg.benchmarks[:2] if kind == "evaluate" else cfg.train_sets[:1]
        asked = [q for name in names for q in benchmarks.load(name, 12)]
        model = Slow(asked)
        with Sandbox(tools={"web_search": lambda query: f"[1] {query}"}, seconds=20.0) as box:
            begin()
            if kind == "evaluate":
                condition = evaluate.Condition("s", "agent", 1, names)
                evaluate.evaluate(cfg, condition, model, asked, box=box, search=None)
            else:
                for method in teach.METHODS:
                    teach.teach(cfg, model, method, asked, box=box, concurrency=2)


def begin() -> None:
    print("ready", flush=True)


if __name__ == "__main__":
    config.ROOT = Path(sys.argv[2])
    run(sys.argv[1])
