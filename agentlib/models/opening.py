"""Which engine decodes in this process, and a model opened with it."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from agentlib.config import ENGINES

if TYPE_CHECKING:
    from agentlib.models.local import LocalModel
    from agentlib.models.vllm import VLLMModel


def has_vllm() -> bool:
    """Whether vLLM is installed here; it is not imported."""
    return importlib.util.find_spec("vllm") is not None


def resolve_engine(wanted: str = "auto") -> str:
    """ "vllm", "transformers" or "own": what `auto` means on this machine.

    With a GPU vLLM where it is installed, else transformers' `generate`: both launch fewer kernels
    a token than our Python does. On a CPU our own, which is the fastest there. Raises ValueError
    for an unknown name, and for "vllm" where it is not installed.
    """
    if wanted not in ENGINES:
        raise ValueError(f"engine {wanted!r} is unknown, expected one of {', '.join(ENGINES)}")
    if wanted == "vllm" and not has_vllm():
        raise ValueError(
            "engine 'vllm' is not installed here, expected the package vllm; run pip install"
            " 'agentlib[vllm]', or leave setting 'engine' at 'auto'"
        )
    if wanted != "auto":
        return wanted
    import torch

    if not torch.cuda.is_available():
        return "own"
    return "vllm" if has_vllm() else "transformers"


def open_model(
    name: str,
    *,
    engine: str = "auto",
    adapter: Path | None = None,
    quantise: bool = False,
    unpack: bool = False,
    precision: str = "auto",
    max_context: int = 4096,
    source: str = "wheels",
    lora_rank: int = 0,
) -> "LocalModel | VLLMModel":
    """A model in this process by the engine that is asked for (`resolve_engine`); all of them
    answer `LanguageModel.generate`, switch adapters with `use` and end with `close`.

    `quantise`, `unpack`, `precision`, `max_context` and `source` are those of `LocalModel`.
    `lora_rank` is the largest rank of the adapters that `use` will be given, for which vLLM keeps
    room from its start; 0 is none.
    """
    chosen = resolve_engine(engine)
    shared = {
        "adapter": adapter,
        "quantise": quantise,
        "precision": precision,
        "max_context": max_context,
        "source": source,
    }
    if chosen == "vllm":
        from agentlib.models.vllm import VLLMModel

        return VLLMModel(name, lora_rank=lora_rank, **shared)
    if chosen == "transformers":
        from agentlib.models.transformers import TransformersModel

        return TransformersModel(name, unpack=unpack, **shared)
    from agentlib.models.local import LocalModel

    return LocalModel(name, unpack=unpack, **shared)
