"""The decoding loop: each forward call gives every sample that has not ended one token or more.

Samples of one prompt share a row of the cache until they differ. Tokens that prompt lookup proposes
are read along with the next one, and kept as long as the model draws the same: they change the
time, never a token.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from agentlib.models.engine.batch_cache import DecodingCache, store_row
from agentlib.models.engine.prefix_cache import PrefixCache
from agentlib.models.engine.prompt_lookup import PromptLookup

MAX_DRAFT_TOKENS = 8  # proposed for one row at most
# Tokens read in one forward call with drafts, by kind of device; with more rows than this, drafts
# cost more than they save. Devices that were not measured (mps, xpu) have a CPU's number.
MAX_BATCHED_TOKENS = collections.defaultdict(lambda: 32, cuda=256)


@dataclass(frozen=True)
class Sampling:
    """How the samples of a batch are drawn, and when they end.

    `draws` (prompts, samples per prompt, new tokens) are uniform numbers in [0, 1), one for each
    token that may be drawn. `finish` gives the text of a sample's new tokens and its reason ("stop"
    or "length") if it ends with them, else None; it ends each sample with its last draw at the
    latest.
    """

    draws: np.ndarray
    temperature: float  # 0 is greedy
    top_p: float
    finish: Callable[[list[int]], tuple[str, str] | None]


class Sample(NamedTuple):
    """A sample that has ended: its new tokens, its text, and "stop" or "length"; or one that is
    paused ("paused"), without a text."""

    tokens: list[int]
    text: str
    finish_reason: str


@dataclass
class _Row:
    """One row of the cache: the samples of one prompt that have drawn the same tokens so far."""

    prompt: int
    samples: list[int]
    tokens: list[int]  # the prompt and what was drawn; only grows, as prompt lookup refers to it
    prompt_length: int
    accepted: int = 0  # tokens drawn after the last forward call
    draft: list[int] = field(default_factory=list)
    ending: tuple[str, str] | None = None  # text and reason, if it has ended

    @property
    def new_tokens(self) -> list[int]:
        return self.tokens[self.prompt_length :]


def decode(
    model,
    cache: DecodingCache,
    logits: torch.Tensor,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    lookup: PromptLookup,
    prefixes: PrefixCache,
    drawn_before: Sequence[int],
    pause_at: int = 0,
) -> list[list[Sample]]:
    """The samples of each prompt, in order, drawn to their ends; once no more than `pause_at` rows
    go on, these are paused.

    `cache` has a row for each prompt, and `logits` (prompts, vocabulary) are those after it. The
    keys and values of each row that ends are stored in `prefixes`. `drawn_before` says how many of
    a prompt's last tokens are a paused sample's, which goes on.
    """
    copies, longest = sampling.draws.shape[1:]
    for prompt in prompts:
        lookup.index(prompt)
    rows = [
        _Row(k, list(range(copies)), list(prompt), len(prompt) - drawn)
        for k, (prompt, drawn) in enumerate(zip(prompts, drawn_before, strict=True))
    ]
    ended: dict[tuple[int, int], Sample] = {}
    logits = logits[:, None]

    def end(row: _Row, place: int, ending: tuple[str, str]) -> None:
        """Keep the samples of a row, and the keys and values of what was read since its prompt."""
        ended.update(
            {(row.prompt, number): Sample(row.new_tokens, *ending) for number in row.samples}
        )
        since = row.new_tokens[drawn_before[row.prompt] : -1]
        store_row(prefixes, prompts[row.prompt], since, cache, place, 0)

    while True:
        parents, going_on = [], []
        chosen = _draw(logits, rows, sampling)
        for place, (row, of_row) in enumerate(zip(rows, chosen, strict=True)):
            for branch in _branches(row, of_row, sampling, lookup):
                if branch.ending is None:
                    parents.append(place)
                    going_on.append(branch)
                else:
                    end(branch, place, branch.ending)
        if len(going_on) <= pause_at:
            for branch, place in zip(going_on, parents, strict=True):
                end(branch, place, ("", "paused"))
            return [[ended[k, number] for number in range(copies)] for k in range(len(prompts))]
        if parents != list(range(len(rows))):
            cache.select(parents)
        cache.advance([row.accepted for row in going_on])
        rows = going_on
        most = min(MAX_DRAFT_TOKENS, MAX_BATCHED_TOKENS[logits.device.type] // len(rows) - 1)
        for row in rows:
            # The last token is never drafted: after it there is nothing to read.
            left = longest - (len(row.tokens) - row.prompt_length) - 1
            row.draft = lookup.propose(row.tokens, min(most, left))
        logits = _read_drafts(model, cache, rows, logits.device)


def _read_drafts(
    model, cache: DecodingCache, rows: Sequence[_Row], device: torch.device
) -> torch.Tensor:
    """Read each row's last token and its draft in one forward call.

    Returns the logits after each of them, (rows, 1 + longest draft, vocabulary).
    """
    width = 1 + max(len(row.draft) for row in rows)
    ids = [[row.tokens[-1], *row.draft, *[0] * (width - 1 - len(row.draft))] for row in rows]
    starts = torch.tensor([len(row.tokens) - 1 for row in rows])
    cache.reserve(width)
    return model(
        input_ids=torch.tensor(ids, device=device),
        past_key_values=cache,
        use_cache=True,
        position_ids=(starts[:, None] + torch.arange(width)).to(device),
        # Our attention reads none; transformers makes none where it finds one of four dimensions.
        attention_mask=torch.empty(1, 1, 1, 1, device=device),
    ).logits


def _draw(
    logits: torch.Tensor, rows: Sequence[_Row], sampling: Sampling
) -> Iterator[list[list[int]]]:
    """For each row and each of its samples: the token drawn after each that was read, (width,)."""
    width, longest = logits.shape[1], sampling.draws.shape[2]
    owners = np.repeat(np.arange(len(rows)), [len(row.samples) for row in rows])
    prompts = np.array([row.prompt for row in rows])[owners]
    samples = np.concatenate([row.samples for row in rows])
    lengths = np.array([len(row.tokens) - row.prompt_length for row in rows])[owners]
    # Places after the last draw are never used: a row's draft is shorter.
    places = np.minimum(lengths[:, None] + np.arange(width), longest - 1)
    draws = sampling.draws[prompts[:, None], samples[:, None], places].ravel()
    of_logits = (owners[:, None] * width + np.arange(width)).ravel()
    tokens = sample_tokens(
        logits.flatten(0, 1), sampling.temperature, sampling.top_p, draws, of_logits
    )
    of_samples = iter(tokens.view(len(samples), width).tolist())
    return ([next(of_samples) for _ in row.samples] for row in rows)


def _branches(
    row: _Row, chosen: Sequence[list[int]], sampling: Sampling, lookup: PromptLookup
) -> list[_Row]:
    """What becomes of a row: one row for each continuation that its samples chose.

    A sample accepts the tokens that it chose up to the first that its draft does not have, or that
    ends it.
    """
    written = row.new_tokens
    samples: dict[tuple[int, ...], list[int]] = {}
    endings: dict[tuple[int, ...], tuple[str, str] | None] = {}
    for sample, tokens in zip(row.samples, chosen, strict=True):
        path = ()
        for number, token in enumerate(tokens[: len(row.draft) + 1]):
            path = (*path, token)
            if path not in endings:
                endings[path] = sampling.finish([*written, *path])
            if endings[path] is not None or row.draft[number : number + 1] != [token]:
                break
        samples.setdefault(path, []).append(sample)
    found = []
    for path, agreeing in samples.items():
        # The last one goes on with the row's own list, after the others have copied it.
        tokens = row.tokens if len(found) == len(samples) - 1 else list(row.tokens)
        for token in path:
            tokens.append(token)
            lookup.index_last(tokens)
        found.append(
            _Row(row.prompt, agreeing, tokens, row.prompt_length, len(path), ending=endings[path])
        )
    return found


def sample_tokens(
    logits: torch.Tensor,
    temperature: float,
    top_p: float,
    draws: np.ndarray,
    owners: np.ndarray | None = None,
) -> torch.Tensor:
    """One token per draw (n,) from `logits` (rows, vocabulary): greedy at temperature 0, else
    nucleus sampling.

    `draws` (n,) are uniform numbers in [0, 1) for the inverse cumulative distribution, `owners`
    (n,) the rows that they draw from; without them each row has one. The nucleus is the smallest
    set of most likely tokens whose probability reaches `top_p` (Holtzman et al. 2020).
    """
    logits = logits.float()  # in bf16 both argmax and sums are slow, and sums are wrong
    rows = torch.arange(len(logits)) if owners is None else torch.as_tensor(owners)
    rows = rows.to(logits.device)
    if temperature == 0:
        return logits.argmax(-1)[rows]
    logits = logits * (1 / temperature)
    total = logits.logsumexp(-1, keepdim=True)
    # A few candidates nearly always hold the nucleus; sorting the whole vocabulary costs far more.
    for k in (32, 512, logits.shape[-1]):
        k = min(k, logits.shape[-1])
        top, index = (
            logits.topk(k, -1) if k < logits.shape[-1] else logits.sort(-1, descending=True)
        )
        mass = (top - total).exp().cumsum(-1)
        if top_p < 1 and bool((mass[:, -1] >= top_p).all()):
            break
    mass = mass[rows]
    size = (mass < top_p).sum(-1, keepdim=True).clamp(max=mass.shape[-1] - 1)
    aim = torch.as_tensor(draws, dtype=mass.dtype, device=mass.device)[:, None] * mass.gather(
        -1, size
    )
    place = torch.minimum((mass <= aim).sum(-1, keepdim=True), size)
    return index[rows].gather(-1, place)[:, 0]
