"""The decoding loop: one forward call a turn for all samples that have not ended, each getting one token or more.

Owns drawing tokens, checking drafts, and the end of samples. Imports torch; knows nothing of text but by what it is
given.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from agentlib.batch_cache import DecodingCache
from agentlib.drafts import Drafts

DRAFTED = 8  # tokens guessed at most for one sample
# Tokens read in one forward call with guesses; with more rows than this, guessing costs more than it saves.
TOGETHER = {"cpu": 32, "cuda": 256}


class Ending(NamedTuple):
    """A sample at its end: its tokens, its text, and "stop", "length" or "dropped"."""

    tokens: list[int]
    text: str
    reason: str


def decode(model, cache: DecodingCache, logits: torch.Tensor, prompts: Sequence[list[int]], copies: int, *,
           draws: np.ndarray, temperature: float, top_p: float, text: Callable[[list[int]], str],
           ending: Callable[[list[int]], str | None], over: Callable[[dict[int, Ending]], set[int]] | None,
           keep: Callable[[int, list[int], DecodingCache, int], None], drafts: Drafts) -> list[Ending]:  # fmt: skip
    """Sample `copies` rows of each prompt to their ends; returns them in order.

    `logits` (prompts, vocabulary) are those after each prompt; `draws` (rows, new tokens) the uniform numbers that the
    tokens are drawn with, so that guesses change nothing but the time. `ending` gives the text of tokens that end,
    `over` is told which rows ended, in the order of their lengths, and says which prompts need no more, `keep` is
    given the prompt, tokens and place of each row that leaves.
    """
    rows, longest, device = len(prompts) * copies, draws.shape[1], logits.device
    together = TOGETHER[device.type]
    written: list[list[int]] = [[] for _ in range(rows)]
    whole = [list(prompts[row // copies]) for row in range(rows)]
    for prompt in prompts:
        drafts.read(prompt)
    ended: dict[int, Ending] = {}
    told: set[int] = set()
    live, guesses = list(range(rows)), [[] for _ in range(rows)]
    logits = logits.repeat_interleave(copies, 0)[:, None]
    while True:
        width = logits.shape[1]
        places = [np.minimum(len(written[row]) + np.arange(width), longest - 1) for row in live]
        drawn = draws[np.array(live)[:, None], np.stack(places)].ravel()
        chosen = pick(logits.flatten(0, 1), temperature, top_p, drawn).view(len(live), width).tolist()
        taken = []
        for row, guess, tokens in zip(live, guesses, chosen, strict=True):
            before = len(written[row])
            for number, token in enumerate(tokens[: len(guess) + 1]):
                written[row].append(token)
                whole[row].append(token)
                drafts.grown(whole[row])
                if (said := ending(written[row])) is not None:
                    ended[row] = Ending(written[row], said, "stop")
                elif len(written[row]) == longest:
                    ended[row] = Ending(written[row], text(written[row]), "length")
                elif number < len(guess) and guess[number] == token:
                    continue
                break
            taken.append(len(written[row]) - before)
        cache.advance(taken)
        if over:
            fresh = _to_tell(ended, told, written, live, copies)
            told |= fresh.keys()
            dropped = over(fresh) if fresh else set()
            for row in live:
                if row not in ended and row // copies in dropped:
                    ended[row] = Ending(written[row], text(written[row]), "dropped")
        for place, row in enumerate(live):
            if row in ended and ended[row].reason != "dropped":
                keep(row // copies, written[row][:-1], cache, place)
        left = [place for place, row in enumerate(live) if row not in ended]
        if not left:
            return [ended[row] for row in range(rows)]
        if len(left) < len(live):
            cache.select(left)
            live = [live[place] for place in left]
        count = min(DRAFTED, together // len(live) - 1)
        guesses = [drafts.after(whole[row], min(count, longest - len(written[row]) - 1)) for row in live]
        width = 1 + max(map(len, guesses))
        ids = [[written[row][-1], *guess, *[0] * (width - 1 - len(guess))] for row, guess in zip(live, guesses, strict=True)]
        starts = torch.tensor([len(whole[row]) - 1 for row in live])
        cache.make_room(width)
        out = model(
            input_ids=torch.tensor(ids, device=device), past_key_values=cache, use_cache=True,
            position_ids=(starts[:, None] + torch.arange(width)).to(device),
            attention_mask=torch.empty(1, 1, 1, 1, device=device),  # ready-made: transformers makes none, ours reads none
        )  # fmt: skip
        logits = out.logits


def _to_tell(ended: dict[int, Ending], told: set[int], written: list[list[int]], live: list[int], copies: int) -> dict:
    """Samples that ended and are no longer than any of their prompt's that may still end, so that none ends before them."""
    shortest: dict[int, int] = {}
    for row in live:
        if row not in ended:
            shortest[row // copies] = min(shortest.get(row // copies, len(written[row])), len(written[row]))
    return {
        row: end for row, end in ended.items()
        if row not in told and end.reason == "stop" and len(end.tokens) <= shortest.get(row // copies, len(end.tokens))
    }  # fmt: skip


def pick(logits: torch.Tensor, temperature: float, top_p: float, draws: np.ndarray) -> torch.Tensor:
    """One token a row of `logits` (rows, vocabulary): greedy at 0, else nucleus sampling by inverse CDF.

    `draws` (rows,) are uniform numbers in [0, 1). The nucleus is the smallest set of most likely tokens
    whose probability reaches `top_p` (Holtzman et al. 2020).
    """
    logits = logits.float()  # in bf16 both argmax and sums are slow, and sums are wrong
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits * (1 / temperature)
    total = logits.logsumexp(-1, keepdim=True)
    # A few candidates nearly always hold the nucleus; sorting the whole vocabulary costs far more.
    for k in (32, 512, logits.shape[-1]):
        k = min(k, logits.shape[-1])
        top, index = logits.topk(k, -1) if k < logits.shape[-1] else logits.sort(-1, descending=True)
        mass = (top - total).exp().cumsum(-1)
        if top_p < 1 and bool((mass[:, -1] >= top_p).all()):
            break
    size = (mass < top_p).sum(-1, keepdim=True).clamp(max=mass.shape[-1] - 1)
    aim = torch.as_tensor(draws, dtype=mass.dtype, device=mass.device)[:, None] * mass.gather(-1, size)
    place = torch.minimum((mass <= aim).sum(-1, keepdim=True), size)
    return index.gather(-1, place)[:, 0]
