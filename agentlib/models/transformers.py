"""transformers' own `generate` behind the contract: for GPUs on which vLLM is not installed."""

from pathlib import Path

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from agentlib.models.engine.decoding import Sample, Sampling, sample_tokens
from agentlib.models.local import LocalModel


class TransformersModel(LocalModel):
    """`LocalModel` whose batches are decoded by transformers' `generate`, padded on the left.

    The greedy text is that of `LocalModel` up to rounding. Each sample has draws of its own, as
    there, so that it does not depend on the others of its batch, up to rounding again. Sampling
    settings that a model's files recommend (a repetition penalty, top-k) are not used, as the other
    engines do not use them either. Prompts are read once per sample, nothing is kept from call to
    call, and a sample that has ended stays in the batch until all have.
    """

    engine = "transformers"
    can_pause = False

    def _attention(self) -> str:
        return "sdpa"

    def _load(self, folder: Path):
        model = super()._load(folder)
        model.generation_config = GenerationConfig(
            eos_token_id=model.generation_config.eos_token_id
        )
        return model

    def _batches(self, lengths: list[int], max_new_tokens: int, copies: int) -> list[list[int]]:
        """As `LocalModel._batches`, but that a prompt is held once per sample."""
        return super()._batches([copies * length for length in lengths], max_new_tokens, copies)

    def _decode(
        self, prompts: list[list[int]], sampling: Sampling, drawn_before: list[int], pause_at: int
    ) -> list[list[Sample]]:
        """The samples of each prompt. Nothing is drawn before and nothing pauses (`can_pause`)."""
        copies = sampling.draws.shape[1]
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        self.tokens_read += copies * sum(map(len, prompts))
        drawing = _Drawing(sampling)
        with torch.inference_mode():
            self._model.generate(
                input_ids=ids.repeat_interleave(copies, 0).to(self.device),
                attention_mask=mask.repeat_interleave(copies, 0).to(self.device),
                max_new_tokens=sampling.draws.shape[2],
                do_sample=False,  # what is drawn is drawn by `choose`
                pad_token_id=self.tokenizer.pad_token_id,
                logits_processor=LogitsProcessorList([drawing.choose]),
                stopping_criteria=StoppingCriteriaList([drawing.end]),
            )
        found = drawing.samples
        return [found[start : start + copies] for start in range(0, len(found), copies)]


class _Drawing:
    """Draws the tokens of all rows of a batch, and ends each one by the rule of the sampling."""

    def __init__(self, sampling: Sampling):
        prompts, copies, self.steps = sampling.draws.shape
        self.draws = sampling.draws.reshape(prompts * copies, self.steps)
        self.sampling, self.step = sampling, 0
        self.tokens: list[list[int]] = [[] for _ in self.draws]
        self.samples: list[Sample | None] = [None] * len(self.draws)

    def choose(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary) of which the drawn token alone is possible; greedy ones as
        they are."""
        if self.sampling.temperature == 0:
            return scores
        chosen = sample_tokens(
            scores, self.sampling.temperature, self.sampling.top_p, self.draws[:, self.step]
        )
        self.step += 1
        return torch.full_like(scores, float("-inf")).scatter_(1, chosen[:, None], 0.0)

    def end(self, input_ids: torch.Tensor, scores, **_) -> torch.Tensor:
        """Whether each row (rows,) has ended with the token that was added last."""
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if self.samples[row] is None:
                self.tokens[row].append(token)
                if ended := self.sampling.finish(self.tokens[row]):
                    self.samples[row] = Sample(self.tokens[row], *ended)
        return torch.tensor([s is not None for s in self.samples], device=input_ids.device)
