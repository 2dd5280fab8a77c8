"""The decoding loop: one forward call a turn for all samples that have not ended, each getting one token or more.

Owns drawing tokens, checking drafts, and the end of samples. Imports torch; knows nothing of text but by what it is
given.
"""

import collections
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from agentlib.batch_cache import DecodingCache
from agentlib.drafts import Drafts

DRAFTED = 8  # tokens guessed at most for one sample
# Tokens read in one forward call with guesses, by kind of device; with more rows than this, guessing costs more than it
# saves. Devices that were not measured (mps, xpu) have a CPU's number.
TOGETHER = collections.defaultdict(lambda: 32, cuda=256)


class Ending(NamedTuple):
    """A sample at its end: its tokens, its text, and "stop" or "length"."""

    tokens: list[int]
    text: str
    reason: str


@dataclass
class _Row:
    """One row of the cache: samples of one prompt that have written the same so far."""

    prompt: int
    samples: list[int]
    written: list[int]
    whole: list[int]  # the prompt and what was written
    taken: int = 0  # tokens written since the last forward call
    said: str | None = None  # the text, if it has ended
    guess: list[int] = field(default_factory=list)


def decode(model, cache: DecodingCache, logits: torch.Tensor, prompts: Sequence[list[int]], copies: int, *,
           draws: np.ndarray, temperature: float, top_p: float, text: Callable[[list[int]], str],
           ending: Callable[[list[int]], str | None],
           keep: Callable[[int, list[int], DecodingCache, int], None], drafts: Drafts) -> list[Ending]:  # fmt: skip
    """Sample each prompt `copies` times, to the samples' ends; returns them in order, those of one prompt together.

    `cache` has a row for each prompt and `logits` (prompts, vocabulary) are those after it. `draws` (samples, new
    tokens) are the uniform numbers that the tokens are drawn with: samples that have written the same so far share a
    row, and guesses change nothing but the time. `ending` gives the text of tokens that end, `keep` is given the prompt,
    tokens and place of each row that leaves.
    """
    longest, device = draws.shape[1], logits.device
    together = TOGETHER[device.type]
    for prompt in prompts:
        drafts.read(prompt)
    live = [_Row(k, [k * copies + j for j in range(copies)], [], list(prompt)) for k, prompt in enumerate(prompts)]
    ended: dict[int, Ending] = {}
    logits = logits[:, None]
    while True:
        chosen = _draw(logits, live, draws, temperature, top_p)
        parents, rows = [], []
        for place, row in enumerate(live):
            for branch in _branches(row, chosen, drafts, ending):
                if branch.said is not None:
                    end = Ending(branch.written, branch.said, "stop")
                elif len(branch.written) == longest:
                    end = Ending(branch.written, text(branch.written), "length")
                else:
                    parents.append(place)
                    rows.append(branch)
                    continue
                ended |= dict.fromkeys(branch.samples, end)
                keep(row.prompt, branch.written[:-1], cache, place)
        if not rows:
            return [ended[sample] for sample in range(len(prompts) * copies)]
        if parents != list(range(len(live))):
            cache.select(parents)
        cache.advance([row.taken for row in rows])
        live = rows
        count = min(DRAFTED, together // len(live) - 1)
        for row in live:
            row.guess = drafts.after(row.whole, min(count, longest - len(row.written) - 1))
        width = 1 + max(len(row.guess) for row in live)
        ids = [[row.written[-1], *row.guess, *[0] * (width - 1 - len(row.guess))] for row in live]
        starts = torch.tensor([len(row.whole) - 1 for row in live])
        cache.make_room(width)
        out = model(
            input_ids=torch.tensor(ids, device=device), past_key_values=cache, use_cache=True,
            position_ids=(starts[:, None] + torch.arange(width)).to(device),
            attention_mask=torch.empty(1, 1, 1, 1, device=device),  # ready-made: transformers makes none, ours reads none
        )  # fmt: skip
        logits = out.logits


def _draw(logits: torch.Tensor, live: Sequence[_Row], draws: np.ndarray, temperature: float, top_p: float) -> dict:
    """The tokens each sample would write at each place of its row's forward call, (width,), by sample."""
    width, longest = logits.shape[1], draws.shape[1]
    samples = [sample for row in live for sample in row.samples]
    owners = np.repeat(np.arange(len(live)), [len(row.samples) for row in live])
    places = np.stack([np.minimum(len(row.written) + np.arange(width), longest - 1) for row in live])[owners]
    of_logits = (owners[:, None] * width + np.arange(width)).ravel()
    drawn = draws[np.array(samples)[:, None], places].ravel()
    tokens = pick(logits.flatten(0, 1), temperature, top_p, drawn, of_logits).view(len(samples), width)
    return dict(zip(samples, tokens.tolist(), strict=True))


def _branches(row: _Row, chosen: dict, drafts: Drafts, ending) -> list[_Row]:
    """What becomes of a row: one for each of the continuations that its samples chose."""
    paths: dict[tuple[int, ...], list[int]] = {}
    said: dict[tuple[int, ...], str | None] = {}
    for sample in row.samples:
        path = ()
        for number, token in enumerate(chosen[sample][: len(row.guess) + 1]):
            path = (*path, token)
            if path not in said:
                said[path] = ending([*row.written, *path])
            if said[path] is not None or number == len(row.guess) or row.guess[number] != token:
                break
        paths.setdefault(path, []).append(sample)
    found = []
    for number, (path, samples) in enumerate(paths.items()):
        last = number == len(paths) - 1
        branch = _Row(row.prompt, samples, row.written if last else list(row.written), row.whole if last else list(row.whole))
        for token in path:
            branch.written.append(token)
            branch.whole.append(token)
            drafts.grown(branch.whole)
        branch.taken, branch.said = len(path), said[path]
        found.append(branch)
    return found


def pick(logits: torch.Tensor, temperature: float, top_p: float, draws: np.ndarray, owners: np.ndarray | None = None
         ) -> torch.Tensor:  # fmt: skip
    """One token a draw from `logits` (rows, vocabulary): greedy at 0, else nucleus sampling by inverse CDF.

    `draws` (n,) are uniform numbers in [0, 1), `owners` (n,) the rows they draw from, None for one each. The nucleus is
    the smallest set of most likely tokens whose probability reaches `top_p` (Holtzman et al. 2020).
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
        top, index = logits.topk(k, -1) if k < logits.shape[-1] else logits.sort(-1, descending=True)
        mass = (top - total).exp().cumsum(-1)
        if top_p < 1 and bool((mass[:, -1] >= top_p).all()):
            break
    mass = mass[rows]
    size = (mass < top_p).sum(-1, keepdim=True).clamp(max=mass.shape[-1] - 1)
    aim = torch.as_tensor(draws, dtype=mass.dtype, device=mass.device)[:, None] * mass.gather(-1, size)
    place = torch.minimum((mass <= aim).sum(-1, keepdim=True), size)
    return index[rows].gather(-1, place)[:, 0]
