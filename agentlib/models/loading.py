"""A model's files become a model in memory, in a precision that the hardware is good at.

The precision is chosen, weights are quantised if asked, and models that our attention cannot serve
are refused.
"""

import ctypes
import logging
import platform
from pathlib import Path

log = logging.getLogger(__name__)


def resolve_precision(wanted: str, device: str) -> str:
    """ "fp32" or "bf16": what `auto` means on this device.

    bf16 on a GPU and on CPUs that multiply it natively (AVX-512 BF16 or AMX: twice as fast here);
    fp32 on other CPUs, where bf16 is many times slower. Raises ValueError for an unknown name.
    """
    import torch

    if wanted not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision {wanted!r} is unknown, expected auto, fp32 or bf16")
    if wanted != "auto":
        return wanted
    if device != "cpu":
        return "bf16"
    native = torch.cpu.get_capabilities()
    return "bf16" if native.get("avx512_bf16") or native.get("amx_bf16") else "fp32"


def check_sliding_window(name: str, settings, max_context: int) -> None:
    """Check that every layer of a model attends to all `max_context` tokens: our decoder assumes
    full attention.

    `settings` is the model's transformers configuration. Raises ValueError for a shorter sliding
    window.
    """
    window = (
        getattr(settings, "sliding_window", None)
        if getattr(settings, "use_sliding_window", True)
        else None
    )
    if window and window < max_context:
        raise ValueError(
            f"model {name!r} attends to the last {window} tokens only, expected all {max_context}"
            f" of the context; lower context_tokens to {window}, or serve it and pass"
            " student_server"
        )


def load_weights(
    folder: Path, device: str, precision: str, quantise: bool, attention: str = "sdpa"
):
    """A transformers model on a device, in "fp32" or "bf16", or as NF4 with double quantisation
    that computes in it.

    `attention` is a name that transformers knows: its own, or those of `attention`.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging as transformers_logging

    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    settings = None
    if quantise:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": device},
        quantization_config=settings,
        attn_implementation=attention,
    )


def release(device: str) -> None:
    """Give a GPU's memory that nothing uses any more back to other processes."""
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next forward call, rather than have each page cleared for
    it anew.

    Without it a tensor of a few MB costs more to make than to fill; at most 128 MB are kept.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim, mmap = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    if not (libc.mallopt(trim, 128 << 20) and libc.mallopt(mmap, 32 << 20)):
        log.info(
            "glibc does not take these settings of its memory; large batches are a little slower"
        )
