"""What one GPU does: generation and training beside transformers and TRL, in the shapes of the
paper's students with random weights.

`python tests/benchmarks/gpu.py` takes at most ten minutes on one card and needs no network. Packages that
the machine lacks are taken from `build/gpu`, which git ignores; fill it where there is a network:
`pip install --target build/gpu trl bitsandbytes faiss-gpu`. Pieces are ordered by value, each in a
process of its own within at most its seconds, 15 minutes in all; a second run does what the first
ten minutes had no time for, as finished pieces are kept in the folder until all are done. What was found is appended to `tests/benchmarks/gpu.jsonl`, with
what could not be done and why. `--cpu` runs all pieces at tiny shapes without a card; then the
record goes into the folder alone.

Texts are sampled at temperature 1, so that no guess of ours comes true.
"""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BROUGHT = ROOT / "build" / "gpu"
sys.path.insert(0, str(BROUGHT))

import common  # noqa: E402 (after the packages that were brought along)
import numpy as np  # noqa: E402

MINUTES = 10
PATIENCE = 300  # seconds of a piece without a card, where nothing is measured and a CPU may be busy
SMALL, LARGE = "Qwen2.5-0.5B-Instruct", "Qwen2.5-7B-Instruct"
LEARNT = 0.3  # of a conversation's tokens, as in recorded trajectories
DISK = {SMALL: 3e9, LARGE: 20e9}  # bytes that random weights need


class Setting:
    """Sizes of the pieces: those of the paper on a card, or tiny ones without."""

    def __init__(self, cpu: bool, folder: Path):
        self.cpu, self.folder = cpu, folder
        self.device = "cpu" if cpu else "cuda"
        self.precision = "fp32" if cpu else "bf16"
        self.prompt = (20, 30) if cpu else (525, 700)  # tokens
        self.new = 4 if cpu else 128
        self.rank = 4 if cpu else 64
        self.vectors, self.width = (500, 16) if cpu else (500_000, 768)

    def few(self, count: int) -> int:
        """So many conversations on a card, two without one."""
        return 2 if self.cpu else count


def model(setting: Setting, name: str) -> Path:
    """A folder with random weights in a model's shape and a tokenizer of made-up words."""
    import shutil

    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

    from agentlib.runner import fits

    made = setting.folder / name
    if (made / "ready").exists():
        return made
    free = shutil.disk_usage(setting.folder).free
    if not setting.cpu and free < DISK[name]:
        raise OSError(f"{free / 1e9:.0f} GB of disk are free, expected {DISK[name] / 1e9:.0f}")
    sizes = fits.Shape(2, 64, 128, 64, 32, 400) if setting.cpu else fits.SHAPES[name]
    head = 16 if setting.cpu else (64 if name == SMALL else 128)
    special = ["<unk>", "<start>", "<end>", "system", "user", "assistant"]
    words = special + [f"w{k}" for k in range(len(special), sizes.vocabulary)]
    tokenizer = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<end>",
        pad_token="<end>",
        chat_template="{% for m in messages %}<start> {{ m['role'] }} {{ m['content'] }} <end> "
        "{% endfor %}{% if add_generation_prompt %}<start> assistant {% endif %}",
    ).save_pretrained(made)
    shape = Qwen2Config(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=sizes.inner,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.queries // head,
        num_key_value_heads=sizes.keys // head,
        max_position_embeddings=32768,
        tie_word_embeddings=sizes.tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    with torch.device(setting.device):
        random = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    random.save_pretrained(made)
    (made / "ready").touch()
    return made


class Peak:
    """The most memory since it was made: torch's on a card, else of the process."""

    def __init__(self, setting: Setting):
        import torch

        self.cpu = setting.cpu
        if self.cpu:
            common.start()
        else:
            torch.cuda.reset_peak_memory_stats()

    def gb(self) -> float:
        import torch

        return common.peak_mb() / 1e3 if self.cpu else torch.cuda.max_memory_allocated() / 1e9


def synchronised(setting: Setting, work: Callable[[], Any]) -> tuple[Any, float]:
    """What some work gives, and its seconds."""
    import torch

    if not setting.cpu:
        torch.cuda.synchronize()
    started = time.perf_counter()
    found = work()
    if not setting.cpu:
        torch.cuda.synchronize()
    return found, time.perf_counter() - started


# --- the pieces -----------------------------------------------------------------------------------


def prompts(setting: Setting, rows: int) -> list[list[dict[str, str]]]:
    random = np.random.default_rng(0)
    top = 400 if setting.cpu else 150_000
    texts = (
        " ".join(f"w{k}" for k in random.integers(6, top, random.integers(*setting.prompt)))
        for _ in range(rows)
    )
    return [[{"role": "user", "content": text}] for text in texts]


def generate_ours(setting: Setting, name: str, rows: int, n: int = 1, quantise=False) -> dict:
    import agentlib.models.weights as weights
    from agentlib.models import LocalModel

    folder = model(setting, name)
    weights.fetch = lambda *_: folder
    memory = Peak(setting)
    ours = LocalModel(name, device=setting.device, precision=setting.precision, quantise=quantise)
    asked = prompts(setting, setting.few(rows))

    def work():
        ours.forget()
        return ours.generate(asked, n=n, temperature=1.0, max_new_tokens=setting.new, seed=1)

    work()  # warms up
    found, seconds = synchronised(setting, work)
    tokens = sum(sample.completion_tokens for samples in found for sample in samples)
    return {"tokens/s": tokens / seconds, "peak GB": memory.gb()}


def generate_transformers(setting: Setting, name: str, rows: int, n: int = 1) -> dict:
    import torch
    from transformers import AutoTokenizer

    from agentlib.models import loading

    folder = model(setting, name)
    memory = Peak(setting)
    theirs = loading.load_weights(folder, setting.device, setting.precision, False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    asked = tokenizer.apply_chat_template(
        prompts(setting, setting.few(rows)),
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
    ).to(setting.device)

    def work():
        with torch.inference_mode():
            return theirs.generate(
                **asked,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                num_return_sequences=n,
                max_new_tokens=setting.new,
            )

    work()  # warms up
    found, seconds = synchronised(setting, work)
    new = found[:, asked["input_ids"].shape[1] :]
    tokens = int((new != tokenizer.pad_token_id).sum()) + len(
        new
    )  # with their ends, where they are
    return {"tokens/s": min(tokens, new.numel()) / seconds, "peak GB": memory.gb()}


def examples(setting: Setting, shortest: int, longest: int, count: int) -> list:
    """Conversations of random tokens, of which the last share carries loss."""
    from agentlib.masks import Example

    random = np.random.default_rng(0)
    shrink = 50 if setting.cpu else 1
    found = []
    for k in range(count):
        length = int(random.integers(shortest // shrink, longest // shrink + 1))
        ids = random.integers(6, 400 if setting.cpu else 150_000, length).tolist()
        context = length - int(LEARNT * length)
        found.append(Example(f"e{k}", ids, [-100] * context + ids[context:]))
    return found


def training(setting: Setting, tuning: str, batch: int):
    from agentlib.training import TrainingSettings

    return TrainingSettings(
        tuning=tuning,
        lora_rank=setting.rank,
        epochs=1,
        batch_size=batch,
        precision=setting.precision,
        save_seconds=3600,
    )


def measured(steps: list[dict], memory: Peak) -> dict:
    later = steps[1:]  # the first step warms up
    return {
        "tokens/s": sum(s["tokens"] for s in later) / sum(s["seconds"] for s in later),
        "peak GB": memory.gb(),
        "first loss": steps[0]["loss"],
    }


def train_ours(setting: Setting, name: str, tuning: str, lengths: tuple, batch: int) -> dict:
    import tempfile

    import agentlib.models.weights as weights
    from agentlib.training import loop

    folder, batch = model(setting, name), setting.few(batch)
    weights.fetch = weights.fetch_tokenizer = lambda *_: folder
    memory = Peak(setting)
    with tempfile.TemporaryDirectory() as run:
        trained = loop.fine_tune(
            name,
            examples(setting, *lengths, 3 * batch),
            training(setting, tuning, batch),
            run,
            device=setting.device,
        )
        return measured(list(trained.losses), memory)


def train_trl(setting: Setting, name: str, tuning: str, lengths: tuple, batch: int) -> dict:
    import tempfile

    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from agentlib.models import loading
    from agentlib.training import loop

    folder, batch = model(setting, name), setting.few(batch)
    chosen = training(setting, tuning, batch)
    found = examples(setting, *lengths, 3 * batch)
    order = loop.order([len(e.input_ids) for e in found], batch, chosen.seed)
    rows = [found[k] for part in order for k in part]
    steps: list[dict] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            self.started = time.perf_counter()

        def on_step_end(self, *args, **kwargs):
            part = rows[len(steps) * batch : (len(steps) + 1) * batch]
            synchronised(setting, lambda: None)
            seconds = time.perf_counter() - self.started
            steps.append({"seconds": seconds, "tokens": sum(len(e.input_ids) for e in part)})

        def on_log(self, args, state, control, logs, **kwargs):
            if "loss" in logs:
                steps[-1]["loss"] = logs["loss"]

    memory = Peak(setting)
    with tempfile.TemporaryDirectory() as run:
        SFTTrainer(
            model=loading.load_weights(
                folder, setting.device, setting.precision, tuning == "qlora"
            ),
            args=SFTConfig(
                output_dir=run,
                use_cpu=setting.cpu,
                bf16=not setting.cpu,
                num_train_epochs=1,
                per_device_train_batch_size=1,
                gradient_accumulation_steps=batch,
                learning_rate=chosen.learning_rate,
                logging_steps=1,
                lr_scheduler_type="linear",
                warmup_steps=0,
                weight_decay=0.0,
                save_strategy="no",
                report_to="none",
                max_length=None,
                disable_tqdm=True,
                train_sampling_strategy="sequential",
            ),
            train_dataset=Dataset.from_list(
                [{"input_ids": e.input_ids, "labels": e.labels} for e in rows]
            ),
            processing_class=AutoTokenizer.from_pretrained(folder),
            callbacks=[Watch()],
            peft_config=LoraConfig(
                r=chosen.lora_rank,
                lora_alpha=chosen.lora_alpha,
                lora_dropout=chosen.lora_dropout,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        ).train()
    return measured(steps, memory)


def sandbox(setting: Setting) -> dict:
    """Model-written code beside a process that holds the card, which it must not reach."""
    import torch

    from agentlib.sandbox import Sandbox

    torch.ones(1, device=setting.device)
    with Sandbox() as box:
        session = box.session()
        if session.run("print(6 * 7)").stdout.strip() != "42":
            raise RuntimeError("the sandbox gave no 42")
        times = [common.seconds(lambda: session.run("x = 1")) for _ in range(20)]
        if session.run("open('/dev/nvidiactl', 'r+b')").failure is None:
            raise RuntimeError("code in the sandbox opened the card")
    return {"ms an action": 1000 * statistics.median(times)}


def search(setting: Setting, on_card: bool) -> dict:
    import faiss

    if on_card and not hasattr(faiss, "StandardGpuResources"):
        raise RuntimeError("this faiss has no part for GPUs; bring faiss-gpu along")
    random = np.random.default_rng(0)
    vectors = random.standard_normal((setting.vectors, setting.width), np.float32)
    index = faiss.IndexFlatIP(setting.width)
    index.add(vectors)
    if on_card:
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    asked = vectors[:320]
    index.search(asked, 3)  # warms up
    return {"queries/s": len(asked) / common.seconds(lambda: index.search(asked, 3))}


# The most valuable first: name, seconds, what is called with what.
LONG, SHORT = (9_000, 10_240), (1_500, 3_000)  # tokens of a conversation
OURS, THEIRS = "agentlib", "transformers"
PIECES: dict[str, tuple[int, Callable[..., dict], tuple]] = {
    "0.5B LoRA, agentlib": (45, train_ours, (SMALL, "lora", SHORT, 8)),
    "0.5B LoRA, TRL": (45, train_trl, (SMALL, "lora", SHORT, 8)),
    "0.5B × 32, agentlib": (30, generate_ours, (SMALL, 32)),
    "0.5B × 32, transformers": (30, generate_transformers, (SMALL, 32)),
    "7B QLoRA, agentlib": (120, train_ours, (LARGE, "qlora", LONG, 2)),
    "7B QLoRA, TRL": (75, train_trl, (LARGE, "qlora", LONG, 2)),
    "0.5B × 32 × n = 8, agentlib": (40, generate_ours, (SMALL, 32, 8)),
    "0.5B × 32 × n = 8, transformers": (40, generate_transformers, (SMALL, 32, 8)),
    "sandbox": (20, sandbox, ()),
    "7B × 32, agentlib": (60, generate_ours, (LARGE, 32)),
    "7B × 32, transformers": (60, generate_transformers, (LARGE, 32)),
    "7B LoRA, agentlib": (60, train_ours, (LARGE, "lora", SHORT, 4)),
    "7B LoRA, TRL": (60, train_trl, (LARGE, "lora", SHORT, 4)),
    "7B NF4 × 32, agentlib": (60, generate_ours, (LARGE, 32, 1, True)),
    "search, faiss-cpu": (30, search, (False,)),
    "search, faiss-gpu": (30, search, (True,)),
    "0.5B QLoRA, agentlib": (45, train_ours, (SMALL, "qlora", SHORT, 8)),
    "0.5B × 256, agentlib": (40, generate_ours, (SMALL, 256)),
    "0.5B × 256, transformers": (40, generate_transformers, (SMALL, 256)),
}


def child(pipe, setting: Setting, name: str) -> None:
    """Run one piece and send what it found, or one line on why it could not."""
    _, work, arguments = PIECES[name]
    if setting.cpu:
        import torch

        torch.set_num_threads(1)
    try:
        pipe.send({"found": work(setting, *arguments)})
    except Exception as error:  # the line is printed and recorded, and the next piece goes on
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        pipe.send({"why": reason[:300]})


def run(setting: Setting, name: str, seconds: float) -> dict:
    """One piece in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(theirs, setting, name))
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            return {"why": f"it took more than its {seconds:.0f} seconds"}
        return ours.recv()
    except EOFError:
        process.join()
        return {"why": f"its process ended with exit code {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def ratios(medians: dict[str, dict]) -> dict[str, float]:
    """Ours to the other's, where both were measured."""
    found = {}
    for name, row in medians.items():
        work, _, who = name.partition(", ")
        for peer in ("TRL", "transformers"):
            other = medians.get(f"{work}, {peer}", {})
            for what in ("tokens/s", "peak GB"):
                if who == "agentlib" and what in other:
                    found[f"{work}, {what}, ours to {peer}"] = row[what] / other[what]
    both = [medians.get(f"search, faiss-{kind}", {}).get("queries/s") for kind in ("gpu", "cpu")]
    if all(both):
        found["search, queries/s, faiss-gpu to faiss-cpu"] = both[0] / both[1]
    return found


def card(setting: Setting) -> str:
    """Its name and memory, asked in another process: one that has CUDA cannot be forked."""
    if setting.cpu:
        return "none"
    import subprocess

    code = (
        "import torch; p = torch.cuda.get_device_properties(0);"
        "print(f'{p.name}, {p.total_memory / 1e9:.0f} GB')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            "torch finds no GPU here, expected one; pass --cpu to try the check at tiny shapes"
        )
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu", action="store_true", help="tiny shapes, without a card")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--folder", type=Path, default=BROUGHT, help="for weights and results")
    asked = parser.parse_args()
    ends = time.monotonic() + 60 * asked.minutes
    folder = asked.folder / ("cpu" if asked.cpu else "card")
    folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(asked.cpu, folder)
    named = card(setting)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    for library in ("transformers", "peft", "datasets", "trl"):  # once, for all processes to come
        with contextlib.suppress(ImportError):  # the pieces that need it say so
            importlib.import_module(library)
    kept = folder / "pieces.jsonl"
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    medians = {line["name"]: line["found"] for line in map(json.loads, lines)}
    missing = {}
    for name, (budget, *_) in PIECES.items():
        if name in medians:
            continue
        left = ends - time.monotonic()
        seconds = min(PATIENCE if asked.cpu else budget, left)
        got = run(setting, name, seconds) if left > 1 else {"why": "no time was left"}
        if "why" in got:
            missing[name] = got["why"]
            print(f"{name:34} not done: {got['why']}", flush=True)
            continue
        medians[name] = got["found"]
        with open(kept, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"name": name, "found": got["found"]}) + "\n")
        said = ", ".join(f"{value:.2f} {what}" for what, value in got["found"].items())
        print(f"{name:34} {said}", flush=True)
    if not medians:
        raise SystemExit("nothing could be measured; the lines above say why")
    common.record(
        str(folder / "gpu.py") if asked.cpu else __file__,
        medians,
        ratios(medians),
        ("torch", "transformers", "peft"),
        1,
        card=named,
        not_done=missing,
    )
    if not missing:
        kept.unlink()  # the next run measures all of it again


if __name__ == "__main__":
    main()
