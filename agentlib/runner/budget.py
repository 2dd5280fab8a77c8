"""GPU-hours of the paper preset, estimated before any are spent: tokens from recorded runs,
operations from model sizes.

Nothing of it was measured on a GPU. It is a lower bound for planning: small models use a large GPU
less fully than assumed here. The runs that vary one setting (Tables 6 to 8) are left out.

Operations are 2 per parameter and token for tokens read or written, and 6 for tokens trained on
(forward, backward, and the second forward of gradient checkpointing; frozen weights need no
gradients of their own).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from agentlib import benchmarks, config, distill, evaluate, records, teach
from agentlib.models import weights

PEAK = 312e12  # operations a second of an A100 in bf16 (NVIDIA's data sheet)
# share of the peak while reading or training, and while writing in large batches
READING, WRITING = 0.4, 0.08
# e5-base-v2; wiki-18's 100 words; wiki-18
ENCODER_PARAMETERS, PASSAGE_TOKENS, PASSAGES = 110e6, 160, 21_000_000
KEPT = 2 / 3  # of the teacher's trajectories that pass the filter: about 2,000 of 3,000 (§4.1)


@dataclass(frozen=True)
class Tokens:
    """Tokens per question: read (each once, as with prefix caching) and written."""

    read: float
    written: float


def tokens(cases: Sequence[Mapping]) -> Tokens:
    """The mean of recorded cases. Raises ValueError where there is none."""
    done = [case for case in cases if not case.get("error")]
    if not done:
        raise ValueError(
            "no finished case to take tokens from, expected some; run notebook 02 first"
        )
    read = [
        case["trace"][-1]["prompt_tokens"] if case.get("trace") else case["prompt_tokens"]
        for case in done
    ]
    return Tokens(
        sum(read) / len(done), sum(case["completion_tokens"] for case in done) / len(done)
    )


def rows(cfg: config.Config, cot: Tokens, agent: Tokens) -> Iterator[dict]:
    """The parts of a configuration's run with what each reads, writes and trains on, in tokens."""
    if cfg.corpus == "wiki-18" and cfg.retriever != "bm25" and not cfg.retriever_url:
        count = cfg.passages or PASSAGES
        yield _row(
            "encode the corpus", cfg.encoder, ENCODER_PARAMETERS, read=count * PASSAGE_TOKENS
        )
    asked = len(benchmarks.training_questions(cfg))
    if not cfg.teacher_records:
        size = weights.known(cfg.teacher).parameters * 1e6
        for method, label in teach.METHODS.items():
            each = cot if method == "cot" else agent
            yield _row(
                f"teacher: {label}", cfg.teacher, size, asked * each.read, asked * each.written
            )
    for student in evaluate.models(cfg):
        size = weights.known(student).parameters * 1e6
        for source in distill.TEACHER_OF.values() if student in cfg.students else ():
            each = cot if source == "cot" else agent
            learnt = KEPT * asked * (each.read + each.written) * cfg.epochs
            yield _row("train", student, size, trained=learnt)
        for condition in evaluate.plan(cfg, student):
            each = agent if condition.method.startswith("agent") else cot
            questions = len(evaluate.questions_of(cfg, condition))
            yield _row(
                "evaluate",
                student,
                size,
                questions * each.read,
                questions * each.written * condition.n,
            )


def _row(
    part: str,
    model: str,
    parameters: float,
    read: float = 0.0,
    written: float = 0.0,
    trained: float = 0.0,
) -> dict:
    seconds = (
        parameters * (2 * read / READING + 2 * written / WRITING + 6 * trained / READING) / PEAK
    )
    return {
        "part": part,
        "model": model,
        "million tokens read": read / 1e6,
        "written": written / 1e6,
        "trained on": trained / 1e6,
        "GPU-hours": seconds / 3600,
    }


def table(cfg: config.Config) -> pd.DataFrame:
    """One row per part and model, and their sum, with the tokens per question of the recorded
    teacher of the teaching set.
    """
    folder = config.in_repository("figures", "records", "teaching")
    cot, agent = (
        tokens(list(records.read(folder / f"teacher_{method}.jsonl")))
        for method in ("cot", "agent")
    )
    found = pd.DataFrame(rows(cfg, cot, agent)).groupby(["part", "model"], sort=False).sum()
    total = found.sum().to_frame(("total", "")).T
    return pd.concat([found, total]).rename_axis(["part", "model"])


def sentence(cfg: config.Config) -> str:
    """The sum in words, with what it rests on."""
    hours = table(cfg)["GPU-hours"].iloc[-1]
    return (
        f"at least {hours:.0f} GPU-hours of an A100, estimated, not measured: {READING:.0%} of its"
        f" peak while reading and training, {WRITING:.0%} while writing, tokens per question as our"
        " recorded teacher's"
    )
