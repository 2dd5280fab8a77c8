"""Every setting of the project, once, and every place on disk.

The presets are `smoke`, `laptop` and `paper`. Methods and benchmarks get their names here; caches,
runs, records and figures their paths.

A `Config` is frozen and flat, so that one `--set name=value` reaches any of it and two runs with
the same values share one folder. Paper values carry their source in a comment: "§" is a section of
arXiv 2505.17612, "code" its reference implementation at commit 0f6cae3.
"""

import ast
import dataclasses
import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def _root(folder: Path) -> Path:
    """`folder`, in which the package is, if that is a clone of the repository; else the current
    one."""
    clone = (folder / "notebooks").is_dir() and (folder / "pyproject.toml").exists()
    return folder if clone else Path.cwd()


# Where runs, records and figures are: the clone, or the folder in which a process imports the
# installed package for the first time.
ROOT = _root(Path(__file__).resolve().parent.parent)


@dataclass(frozen=True)
class Benchmark:
    """One of the paper's eight benchmarks (Table 1), the same for every preset."""

    name: str
    published: str  # its column in Table 2
    domain: str  # "factual" or "math": how its answers are graded
    asked: int  # test questions on a laptop
    in_domain: bool = False  # students are trained on questions of its kind

    @property
    def slice(self) -> str:
        """Its test questions on a laptop: those that the slice of Wikipedia answers, or the
        first ones of a maths file."""
        return f"{self.name}-slice"


BENCHMARKS = (
    Benchmark("hotpotqa", "HotpotQA", "factual", 200, in_domain=True),
    Benchmark("bamboogle", "Bamboogle", "factual", 125),
    Benchmark("musique", "MuSiQue", "factual", 98),
    Benchmark("2wikimultihopqa", "2WikiQA", "factual", 200),
    Benchmark("math500", "MATH500", "math", 100, in_domain=True),
    Benchmark("gsm-hard", "GSM-Hard", "math", 100),
    Benchmark("aime", "AIME", "math", 30),
    Benchmark("olymmath", "OlymMATH", "math", 50),
)

# The methods compared (Table 2). A method says how a model was trained and prompted; `n` samples a
# step (agent: SAG) or a question (CoT: self-consistency) is a second, independent setting of a
# case.
METHODS = {
    "cot": "CoT prompting",
    "cot_distill": "CoT distillation",
    "cot_distill_rag": "CoT distillation + RAG",
    "agent": "Agent prompting",
    "agent_distill": "Agent distillation",
    "agent_distill_ftp": "Agent distillation + FTP",
}


# What the teacher's agent starts from (§3.1); all but the first are this project's variations.
FIRST_THOUGHTS = {
    "published": "the first paragraph of each chain of thought",
    "gated": "only of chains that were right, which is known in training",
    "no_answer": "only of paragraphs that do not hold the answer yet",
    "no_blank_line": "as published, but without the blank line after the paragraph",
}
WEIGHTS = ("wheels", "hub")
WORDINGS = ("plain", "plan")
TAUGHT_ON = ("all", "matched")
ENGINES = ("auto", "vllm", "transformers", "own")
IN_PROCESS = "in-process"  # a teacher by transformers, many questions in one batch
AT_LEAST_ONE = {
    "top_k", "max_steps", "teacher_tries", "step_tokens", "cot_tokens", "context_tokens", "samples",
    "batch_questions", "trainings", "epochs", "batch_size", "lora_rank", "lora_alpha", "max_length",
    "cot_max_length", "sandbox_memory_mb", "improve_runs", "improve_later_runs", "improve_steps",
}  # fmt: skip
ABOVE_ZERO = {"top_p", "learning_rate", "full_learning_rate", "sandbox_seconds"}


@dataclass(frozen=True)
class Config:
    """One preset with its overrides. Lengths are tokens, times seconds, rates as in the
    optimiser."""

    preset: str = "paper"
    seed: int = 42  # code

    # who teaches, who learns
    teacher: str = "Qwen2.5-32B-Instruct"  # §4.1
    # URL of an OpenAI-compatible server; "" starts llama.cpp here; or IN_PROCESS
    teacher_server: str = ""
    teacher_records: str = ""  # folder of recorded trajectories to use instead of a live teacher
    # §4.1; more are sampled for questions without a right answer until `teacher_kept` are there
    teacher_tries: int = 1
    teacher_kept: int = 0
    students: tuple[str, ...] = (
        "Qwen2.5-0.5B-Instruct",
        "Qwen2.5-1.5B-Instruct",
        "Qwen2.5-3B-Instruct",
        "Qwen2.5-7B-Instruct",
    )  # §4.1
    student_server: str = ""  # "" runs students in this process
    # "omitted": sampled requests to a server carry no seed (vLLM's CPU engine dies of one)
    server_seed: str = "sent"
    # pinned packages, which hold 4-bit files, for the models they have; "hub" for the official ones
    weights: str = "wheels"

    # what is asked
    benchmarks: tuple[str, ...] = tuple(benchmark.name for benchmark in BENCHMARKS)  # Table 1
    train_sets: tuple[str, ...] = ("hotpotqa-train", "math-hard-train", "math-medium-train")  # §4.1
    # test questions a benchmark; 0 is all of them, of a "-slice" as many as `BENCHMARKS` says
    questions: int = 0
    train_questions: int = 0  # training questions a set; 0 is all of them
    panel_benchmarks: tuple[str, ...] = ("math500", "aime", "hotpotqa", "musique")  # Figs. 5 and 6
    # Fig. 5; the first of `students` where it is not one of them
    panel_student: str = "Qwen2.5-3B-Instruct"

    # retrieval
    corpus: str = "wiki-18"  # code
    passages: int = 0  # 0 is the whole corpus
    encoder: str = "e5-base-v2"  # code
    retriever: str = "faiss"  # flat (code); "ivfpq" in a twentieth of its memory, or "bm25"
    retriever_url: str = ""  # a running /retrieve server; "" searches in this process
    top_k: int = 3  # code

    # which trajectories students learn from: the "right" ones that pass the filter (§4.1), or of
    # these only the "supported" ones, which saw every passage that the answer rests on
    keep: str = "right"
    # on which questions' runs: "all" that were kept, or the "matched" ones, of which both agents of
    # the teacher, with and without first-thought prefix, have a run that was kept
    taught_on: str = "all"
    # which first thoughts the teacher's agent starts from: a key of `FIRST_THOUGHTS`
    first_thought: str = "published"
    # how a chain of thought is asked for, and how many worked examples an agent's teacher sees;
    # "plan" is that of older runs
    wording: str = "plain"
    # the agent (§3, §4.1)
    max_steps: int = 5  # §4.1
    step_tokens: int = 1024  # code
    cot_tokens: int = 4096  # code
    context_tokens: int = 10240  # code: the length trained on
    samples: int = 8  # §3.2: N of self-consistent action generation
    sample_counts: tuple[int, ...] = (1, 2, 4, 8)  # Fig. 5
    temperature: float = 0.4  # §4.1
    top_p: float = 0.8  # code
    sweep_temperatures: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)  # Table 6
    sweep_benchmarks: tuple[str, ...] = ("math500", "gsm-hard", "aime", "olymmath")  # Table 6
    seed_benchmarks: tuple[str, ...] = ("aime",)  # Table 7
    # test questions a benchmark where one setting is varied; 0 is as many as elsewhere
    sweep_questions: int = 0
    sweep_seeds: int = 5  # Table 7
    sweep_tunings: tuple[str, ...] = ("lora", "qlora", "full")  # Table 8, and QLoRA
    sweep_examples: tuple[int, ...] = (25, 50, 100, 0)  # trajectories; 0 is all
    sweep_taught: tuple[str, ...] = ()  # values of `taught_on` to compare
    # of an LLM that also grades factual answers, as in §4.1; "" grades by rules alone
    judge_server: str = ""
    judge: str = "gpt-4o-mini"  # §4.1
    vote: str = "outcome"  # "as_published" votes on printed text only
    batch_questions: int = 32  # conversations decoded together
    # whether the teacher answers the test questions too, by prompting: as CoT and as agent
    teacher_tested: bool = False
    # methods asked afresh, greedily, where the answers of all are recorded in `teacher_records`;
    # () asks all of them
    live_methods: tuple[str, ...] = ()
    # Ray workers that the teacher's runs and the evaluation are spread over; 0 is this process
    workers: int = 0
    # of the cluster's head, such as "auto"; "" starts a cluster on this machine
    ray_address: str = ""
    sandbox_seconds: float = 10.0
    sandbox_memory_mb: int = 1024
    precision: str = "auto"  # "fp32", "bf16", or bf16 wherever the hardware multiplies it natively
    # what decodes in this process: "vllm", "transformers" or "own"; "auto" is vLLM where it is
    # installed and a GPU is there, else transformers on a GPU, else our own
    engine: str = "auto"

    # distillation (§4.1)
    tuning: str = "qlora"  # "lora" (the paper), "qlora" (NF4, this project's variation) or "full"
    lora_rank: int = 64  # §4.1
    lora_alpha: int = 128  # code
    lora_dropout: float = 0.05  # code
    learning_rate: float = 2e-4  # §4.1
    full_learning_rate: float = 1e-5  # Table 8: full fine-tuning
    epochs: int = 2  # §4.1
    batch_size: int = 8  # §4.1
    max_length: int = 10240  # code: agent trajectories
    cot_max_length: int = 4096  # code
    train_examples: int = 0  # trajectories to train on; 0 is all that passed the filter
    # of each distilled student (§4.1: 1), with seeds seed, seed + 1, …; SAG and sweeps: the first
    trainings: int = 1

    # students that learn from their own runs (`rounds`): training questions of each set that the
    # teacher was not asked and that they are rolled out on, 0 is none; runs of each in the first
    # round and in a later one; and the optimiser steps of every student
    improve_questions: int = 0
    improve_runs: int = 8
    improve_later_runs: int = 8
    improve_steps: int = 480

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            found, expected = getattr(self, field.name), type(field.default)
            if expected is float and type(found) is int:
                object.__setattr__(self, field.name, float(found))
            elif expected is tuple and isinstance(found, list):
                object.__setattr__(self, field.name, tuple(found))
            elif not isinstance(found, expected) or (
                expected is not bool and isinstance(found, bool)
            ):
                raise ValueError(
                    f"setting {field.name!r} is {found!r} ({type(found).__name__}), expected "
                    f"{expected.__name__} such as {field.default!r}"
                )
        choices = {
            "tuning": ("lora", "qlora", "full"),
            "vote": ("outcome", "as_published"),
            "retriever": ("faiss", "ivfpq", "bm25"),
            "precision": ("auto", "fp32", "bf16"),
            "engine": ENGINES,
            "weights": WEIGHTS,
            "keep": ("right", "supported"),
            "taught_on": TAUGHT_ON,
            "first_thought": FIRST_THOUGHTS,
            "wording": WORDINGS,
            "server_seed": ("sent", "omitted"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"setting {name!r} is {getattr(self, name)!r}, expected one of"
                    f" {', '.join(allowed)}"
                )
        for field in dataclasses.fields(self):
            found = getattr(self, field.name)
            if isinstance(field.default, tuple):
                kind = type(field.default[0]) if field.default else str
                if wrong := [item for item in found if not isinstance(item, kind)]:
                    raise ValueError(
                        f"setting {field.name!r} holds {wrong[0]!r}, expected only {kind.__name__}"
                        " values"
                    )
                known = {"live_methods": METHODS, "sweep_taught": TAUGHT_ON}.get(field.name, found)
                if unknown := [item for item in found if item not in known]:
                    raise ValueError(
                        f"setting {field.name!r} holds {unknown[0]!r}, expected some of"
                        f" {', '.join(known)}"
                    )
            elif isinstance(found, int | float) and field.name != "seed":
                low = 1 if field.name in AT_LEAST_ONE else 0
                if found < low or (field.name in ABOVE_ZERO and found == 0):
                    more = "a number above 0" if field.name in ABOVE_ZERO else f"{low} or more"
                    raise ValueError(f"setting {field.name!r} is {found}, expected {more}")
        for name in ("teacher_server", "student_server", "retriever_url", "judge_server"):
            if (address := getattr(self, name)) and address != IN_PROCESS and "://" not in address:
                try:
                    server_root(address)
                except ValueError as error:
                    raise ValueError(f"setting {name!r}: {error}") from None
        if self.top_p > 1:
            raise ValueError(
                f"setting 'top_p' is {self.top_p}, expected a probability, above 0 and at most 1"
            )

    def asdict(self) -> dict[str, Any]:
        """All settings as plain values, in the order they are declared."""
        return dataclasses.asdict(self)

    @property
    def search_on(self) -> str:
        """Where the search runs, as far as that shapes a result: a server's address does not."""
        return "server" if self.retriever_url else IN_PROCESS

    @property
    def student_on(self) -> str:
        """Where students run, as `search_on`."""
        return "server" if self.student_server else IN_PROCESS

    @property
    def teacher_on(self) -> str:
        """Where the teacher runs, as `search_on`; "llama.cpp" is the one started here, on the
        4-bit file."""
        return {"": "llama.cpp", IN_PROCESS: IN_PROCESS}.get(self.teacher_server, "server")

    @property
    def chosen_engine(self) -> dict[str, str]:
        """The engine, as far as it names a run: not where `auto` chooses it, as a resume may go on
        on another machine."""
        return {} if self.engine == "auto" else {"engine": self.engine}

    @property
    def runs(self) -> Path:
        """Run folders of this preset: trajectories, indexes, adapters, every case (not
        committed)."""
        return ROOT / "runs" / self.preset

    @property
    def records(self) -> Path:
        """The small results that figures are drawn from (committed for `laptop`)."""
        return ROOT / "figures" / "records" / self.preset

    @property
    def figures(self) -> Path:
        """Where this preset's figures are written."""
        return ROOT / "figures" / self.preset


PAPER = Config(retriever_url="", tuning="qlora", teacher_tested=True)
SWEEPS = ("sweep_temperatures", "sweep_seeds", "sweep_tunings", "sweep_examples")
NO_SWEEPS = {name: type(getattr(PAPER, name))() for name in (*SWEEPS, "sweep_taught")}

# Small models on a CPU, whatever they are asked.
_SMALL = dataclasses.replace(
    PAPER,
    preset="laptop",
    teacher="Qwen2.5-Coder-1.5B-Instruct",
    teacher_server=IN_PROCESS,
    teacher_tries=4,
    teacher_kept=150,
    students=("SmolLM2-135M-Instruct",),
    panel_student="SmolLM2-135M-Instruct",
    encoder="all-MiniLM-L6-v2",
    sweep_questions=25,
    tuning="lora",
    lora_rank=8,  # 5 MB an adapter
    lora_alpha=16,
    lora_dropout=0.0,  # its random numbers take a seventh of a training step on a CPU
    learning_rate=5e-4,
    epochs=4,  # a tenth of the paper's trajectories: more and smaller steps
    batch_size=2,
    max_length=2048,
    cot_max_length=1024,
)

# The teaching set at full length: what the committed students learned from and were asked.
TEACHING = (
    {
        "teacher_records": "",
        "benchmarks": ("teaching-hotpot", "teaching-math"),
        "train_sets": ("teaching-hotpot-train", "teaching-math-train"),
        "panel_benchmarks": ("teaching-hotpot", "teaching-math"),
        # settings are varied on mathematics alone, to save time
        "sweep_benchmarks": ("teaching-math",),
        "seed_benchmarks": ("teaching-math",),
        "questions": 0,
        "train_questions": 200,
        "keep": "supported",
        "corpus": "teaching",
        "passages": 1600,  # all that questions need, and some more
        "retriever": "faiss",
        "step_tokens": 256,
        "cot_tokens": 512,
        "context_tokens": 4096,
        "samples": 8,
        "sample_counts": (1, 2, 4, 8),
        "trainings": 3,
    }
    | {name: getattr(PAPER, name) for name in SWEEPS}
    | {"sweep_taught": TAUGHT_ON}
)
# The paper's eight benchmarks at a laptop's size, over real passages, asked of the students of the
# teaching set. What was cut, and that the students learn from the teaching set, was decided before
# a test question was asked (figures/records/laptop/plan.md); what is planned there and not done yet
# (more trainings, SAG) is not asked here either.
LAPTOP = dataclasses.replace(
    _SMALL,
    **TEACHING
    | {
        "teacher_records": "teaching",
        "benchmarks": tuple(benchmark.slice for benchmark in BENCHMARKS),
        "panel_benchmarks": ("math500-slice", "aime-slice", "hotpotqa-slice", "musique-slice"),
        "sweep_benchmarks": ("math500-slice", "gsm-hard-slice", "aime-slice", "olymmath-slice"),
        "seed_benchmarks": ("aime-slice",),
        "questions": 30,
        "corpus": "wiki-slice",
        "passages": 0,
        "retriever": "bm25",  # in seconds; its index finds 95 % of gold passages by their titles
        "step_tokens": 512,
        "cot_tokens": 1024,
        "context_tokens": 6144,  # an agent's prompt and five searches
        "samples": 1,
        "sample_counts": (),
        "trainings": 1,
    }
    | NO_SWEEPS,
)
# The teaching set in minutes: its committed students answer some of its test questions afresh.
SMOKE = dataclasses.replace(
    _SMALL,
    **TEACHING
    | {
        "preset": "smoke",
        "teacher_records": "teaching",
        "live_methods": ("cot_distill", "agent_distill"),
        "questions": 40,  # a set; for the difference between the first students a power of 82 %
        "trainings": 1,
        "teacher_tested": False,
        "sample_counts": (),
    }
    | NO_SWEEPS,
)
# Students that learn from their own runs on the teaching set (notebook 11): from its recorded
# teacher, on questions that this teacher was not asked.
IMPROVE = TEACHING | {
    "teacher_records": "teaching",
    "improve_questions": 80,
    "improve_steps": 240,  # cut, like the questions, before any arm was asked (its plan.md)
    "questions": 120,
    "improve_later_runs": 4,
    "teacher_tries": 4,
    "trainings": 1,  # to begin with; three are planned
}
EXPERIMENTS = {"teaching": TEACHING, "improve": IMPROVE}

PRESETS = {"smoke": SMOKE, "laptop": LAPTOP, "paper": PAPER}


def load(preset: str, **overrides: Any) -> Config:
    """The frozen settings of a preset, with overrides by name.

    Raises ValueError, naming the nearest known name, for an unknown preset or setting, and for a
    value of the wrong type.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is unknown, expected one of {', '.join(PRESETS)}")
    known = [f.name for f in dataclasses.fields(Config) if f.name != "preset"]
    for name in overrides:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(known)}"
            raise ValueError(f"setting {name!r} is unknown; {hint}")
    return dataclasses.replace(PRESETS[preset], **overrides)


def server_root(address: str) -> str:
    """A server's address without what requests add to it (/v1, /retrieve), so that it may be given
    with or without.

    Raises ValueError for what is no http address.
    """
    root = re.sub(
        r"((?<!/)/v1(/(chat/)?completions|/models)?|/retrieve)?/*$", "", address.strip().rstrip("/")
    )
    try:
        parts = urlsplit(root)
        known = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and (parts.port is None or parts.port)
            and " " not in root
        )
    except ValueError:  # a port that is no number, an IPv6 address without its brackets
        known = False
    if not known:
        bare = not address.strip().startswith("http") and re.match(
            r"[\w.-]+(:\d+)?(/|$)|\[[\da-fA-F:]+\]", root
        )
        hint = (
            f"did you mean 'http://{root}'?"
            if bare
            else "write it whole, an IPv6 address in brackets"
        )
        raise ValueError(
            f"address {address!r} is none of a server, expected one such as http://127.0.0.1:8000;"
            f" {hint}"
        )
    return root


def in_repository(*parts: str) -> Path:
    """A file or folder of the repository that is not in the package, such as the published values.

    Raises FileNotFoundError where it is missing.
    """
    place = ROOT.joinpath(*parts)
    if not place.exists():
        raise FileNotFoundError(
            f"{'/'.join(parts)} is not in {ROOT}, expected it there: it comes with the repository,"
            " not with the installed package; clone the repository and start there"
        )
    return place


def home() -> Path:
    """The download cache: `$AGENTLIB_HOME`, or `~/.cache/agentlib`."""
    return Path(os.environ.get("AGENTLIB_HOME") or Path.home() / ".cache" / "agentlib")


def setting(text: str) -> tuple[str, Any]:
    """A `--set name=value` as a name and a value of that setting's type (lists as
    comma-separated words)."""
    name, equals, value = text.partition("=")
    fields = {f.name: type(f.default) for f in dataclasses.fields(Config)}
    if not equals:
        raise ValueError(f"--set {text!r} has no '=', expected name=value such as questions=5")
    kind = fields.get(name)
    if kind is tuple:
        words = [w.strip() for w in value.split(",") if w.strip()]
        return name, [_number(w) for w in words]
    if kind is bool:
        return name, {"true": True, "false": False}.get(value.strip().lower(), value)
    if kind in (int, float):
        try:
            found = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found = value
        return name, found
    return name, value


def _number(word: str) -> int | float | str:
    """A word as the number that it spells, else as it is."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
