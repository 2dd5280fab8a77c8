"""vLLM in this process behind the contract: for GPUs (Kwon et al. 2023, arXiv 2309.06180).

Prompts go to it as token ids, rendered as everywhere; its token ids come back and become text here,
so that a text and its counts do not depend on the engine.
"""

import json
import logging
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentlib import config
from agentlib.models import language, loading, weights
from agentlib.models.language import (
    Completion,
    StopRule,
    encode,
    render,
    sample_seed,
    validate_arguments,
)
from agentlib.models.server import ServerError

log = logging.getLogger(__name__)
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM's kernels are made for
# Of the GPU's free memory; the rest is for what else this process computes on it.
FREE_SHARE, MOST = 0.92, 0.9


class VLLMModel:
    """`LanguageModel` by vLLM in this process. Needs the extra `vllm`.

    An adapter (PEFT format) goes with each request: `use` switches without loading anything again,
    up to `lora_rank`, for which there is room from the start (0: none). A whole model, as full
    fine-tuning writes it, restarts the engine. Prompts that begin alike are read once (vLLM's
    prefix caching), n samples share a prompt. `source` is that of `weights.fetch`, `precision`
    that of `loading.resolve_precision`. vLLM computes with no NF4: with `quantise=True` it gets the
    numbers that NF4 stands for, unpacked, so that a QLoRA student meets the weights it was trained
    on, in the memory of the full ones.
    `max_context` is cut to what the model was made for.

    With a seed each prompt has a seed of its own, from which vLLM makes those of its samples; they
    are the same in any company, up to rounding, but not those of the other engines. vLLM's build
    for CPUs takes no seeds (its engine dies of one): there `seed` does nothing, and what is drawn
    cannot be drawn again.
    """

    engine = "vllm"
    in_process = True
    can_pause = False

    def __init__(
        self,
        name: str,
        *,
        adapter: Path | None = None,
        quantise: bool = False,
        precision: str = "auto",
        max_context: int = 4096,
        source: str = "wheels",
        lora_rank: int = 0,
    ):
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        try:
            from vllm.platforms import current_platform
        except ImportError as error:
            raise ValueError(
                f"engine 'vllm' cannot be loaded ({error}), expected the package vllm; run pip"
                " install 'agentlib[vllm]', or leave setting 'engine' at 'auto'"
            ) from error
        folder = weights.fetch(name, source)
        self.name, self.weights = name, weights.origin(name, source)
        self.device = "cpu" if current_platform.is_cpu() else "cuda"
        self.precision = loading.resolve_precision(precision, self.device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        made_for = getattr(AutoConfig.from_pretrained(folder), "max_position_embeddings", None)
        self.max_context = min(max_context, made_for or max_context)
        ends = [self.tokenizer.eos_token_id]
        if (folder / "generation_config.json").exists():
            named = GenerationConfig.from_pretrained(folder).eos_token_id
            ends += named if isinstance(named, list) else [named]
        self._end_tokens = {end for end in ends if end is not None}
        self._rank = _room(lora_rank)
        self._numbers: dict[tuple, int] = {}  # of adapters, by folder and when it was written
        self.adapter: Path | None = None
        self._request, self._whole = None, None
        self._base, self._unpacked = folder, None
        if quantise:
            self._base = self._unpack(folder)
        self._llm = self._open(self._base)
        try:
            self.use(adapter)
        except BaseException:
            self.close()
            raise

    def _open(self, folder: Path) -> Any:
        from vllm import LLM

        settings: dict[str, Any] = {
            "model": str(folder),
            "tokenizer": str(folder),
            "dtype": {"fp32": "float32", "bf16": "bfloat16"}[self.precision],
            "max_model_len": self.max_context,
            "enable_prefix_caching": True,
            "generation_config": "vllm",  # no penalties or top-k that the model's files recommend
            "disable_log_stats": True,
        }
        if self._rank:
            settings |= {"enable_lora": True, "max_lora_rank": self._rank, "max_loras": 1}
        if self.device == "cpu":
            settings |= {"enforce_eager": True}  # compiling takes minutes, and pays on GPUs
        else:
            settings |= {"gpu_memory_utilization": _memory_share()}
        return LLM(**settings)

    def _unpack(self, folder: Path) -> Path:
        """A folder with the model as the numbers that NF4 stands for, there until `close`."""
        self._unpacked = tempfile.TemporaryDirectory(prefix="unpacked-", dir=config.home())
        place = Path(self._unpacked.name)
        packed = loading.load_weights(folder, self.device, self.precision, quantise=True)
        packed.dequantize().save_pretrained(place)
        self.tokenizer.save_pretrained(place)
        del packed
        loading.release(self.device)
        return place

    def use(self, adapter: Path | None) -> None:
        """Switch to a trained student's folder, or with None back to the base.

        The folder holds an adapter (PEFT format) or, after full fine-tuning, a whole model. Raises
        FileNotFoundError for one that holds neither, and ValueError for an adapter of a rank above
        `lora_rank`; either leaves the model as it was.
        """
        from vllm.lora.request import LoRARequest

        adapter = None if adapter is None else Path(adapter)
        if adapter == self.adapter:
            return
        whole = adapter if adapter is not None and (adapter / "config.json").exists() else None
        request = None
        if adapter is not None and whole is None:
            settings = adapter / "adapter_config.json"
            if not settings.exists():
                raise FileNotFoundError(
                    f"student folder {adapter} has no adapter_config.json; train it with notebook"
                    " 03 first"
                )
            rank = json.loads(settings.read_text(encoding="utf-8"))["r"]
            if rank > self._rank:
                raise ValueError(
                    f"adapter {adapter} has rank {rank}, expected {self._rank} at most, for which"
                    f" vLLM was started; open the model with lora_rank={rank}"
                )
            written = (adapter / "adapter_model.safetensors").stat().st_mtime_ns
            number = self._numbers.setdefault((adapter, written), len(self._numbers) + 1)
            request = LoRARequest(adapter.parent.name or adapter.name, number, str(adapter))
        if whole != self._whole:
            self._end_engine()
            self._llm = self._open(whole or self._base)
        self._request, self._whole, self.adapter = request, whole, adapter

    def close(self) -> None:
        """End the engine and free what it holds; the model answers nothing afterwards."""
        self._end_engine()
        if self._unpacked is not None:
            self._unpacked.cleanup()

    def _end_engine(self) -> None:
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None

    def forget(self) -> None:
        """Drop the keys and values kept from earlier calls."""
        self._llm.reset_prefix_cache()

    def count(self, text: str) -> int:
        """The number of tokens of a text, without special tokens."""
        return language.count(self.tokenizer, text)

    def generate(
        self,
        conversations: Sequence[list[dict]],
        *,
        n: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        prefixes: Sequence[str | None] | None = None,
        seed: int | None = None,
    ) -> list[list[Completion]]:
        """As `LanguageModel.generate`. A sample that reaches `max_context` ends there, by "length".

        Raises MemoryError for a prompt that leaves no room in the context, and ServerError when
        vLLM's engine, which is a process of its own, has died.
        """
        from vllm import SamplingParams

        prefixes = validate_arguments(
            conversations, n, temperature, top_p, max_new_tokens, prefixes
        )
        prompts = [
            render(self.tokenizer, c, p) for c, p in zip(conversations, prefixes, strict=True)
        ]
        ids = [encode(self.tokenizer, prompt) for prompt in prompts]
        if ids and (longest := max(map(len, ids))) >= self.max_context:
            raise MemoryError(
                f"a prompt has {longest} tokens, expected fewer than the {self.max_context} of the"
                f" context of {self.name!r}; raise context_tokens as far as the model takes it"
            )
        copies = 1 if temperature == 0 else n  # greedy samples are all alike
        seeds = [
            None
            if seed is None or temperature == 0 or self.device == "cpu"
            else sample_seed(seed, prompt, 0) % 2**31
            for prompt in prompts
        ]
        settings = [
            SamplingParams(
                n=copies,
                temperature=temperature,
                top_p=top_p if temperature else 1.0,
                max_tokens=max_new_tokens,
                stop=list(stop),
                stop_token_ids=sorted(self._end_tokens),
                seed=one,
            )
            for one in seeds
        ]
        rule = StopRule(self.tokenizer, self._end_tokens, tuple(stop), max_new_tokens)
        found = []
        for answer, prefix, read in zip(self._ask(ids, settings), prefixes, ids, strict=True):
            samples = []
            for output in answer.outputs:
                tokens = list(output.token_ids)
                text, reason = rule.close(tokens, output.finish_reason == "length")
                samples.append(
                    Completion((prefix or "") + text, len(read), len(tokens), reason, tuple(tokens))
                )
            found.append(samples * (n // len(samples)))
        return found

    def _ask(self, ids: list[list[int]], settings: list) -> list:
        if not ids:
            return []
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            return self._llm.generate(
                [{"prompt_token_ids": prompt} for prompt in ids],
                settings,
                use_tqdm=False,
                lora_request=self._request,
            )
        except (EngineDeadError, EngineGenerateError) as error:
            raise ServerError(
                f"vLLM's engine for {self.name!r} gave no answer ({error or type(error).__name__});"
                " its own message is above, resume to start it again"
            ) from error


def _room(rank: int) -> int:
    """The smallest rank of vLLM's that holds one of ours; 0 for none."""
    if not rank:
        return 0
    if rank > RANKS[-1]:
        raise ValueError(
            f"lora_rank={rank}, expected {RANKS[-1]} at most, which vLLM's kernels end with"
        )
    return min(room for room in RANKS if room >= rank)


def _memory_share() -> float:
    """Of all memory of the GPU, the part that vLLM may have: most of what is free."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return min(MOST, math.floor(100 * FREE_SHARE * free / total) / 100)
