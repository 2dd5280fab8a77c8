"""Chain-of-thought baselines: CoT prompting, CoT + RAG, and self-consistency (§4.1)."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentlib import prompts, sag, score
from agentlib.models import Completion, LanguageModel, pausing
from agentlib.tasks import Question


@dataclass(frozen=True)
class CoTResult:
    """What one question got: all sampled chains, their answers, and the answer most agree on;
    `seconds` are its equal share of the time that its batch took, since questions of a batch are
    answered together."""

    question_id: str
    completions: tuple[Completion, ...]
    answers: tuple[str | None, ...]
    answer: str | None
    passages: str = ""
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """The first chain that ends in the chosen answer."""
        place = self.answers.index(self.answer) if self.answer in self.answers else 0
        return self.completions[place].text


def generate_cot(
    model: LanguageModel,
    questions: Sequence[Question],
    *,
    n: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int = 4096,
    search: Callable[[str], str] | None = None,
    examples: bool = False,
    wording: str = "plain",
    batch: int = 32,
    seed: int = 42,
) -> Iterator[CoTResult]:
    """Yield one chain of thought a question, as they end; `batch` questions are open at a time.

    n > 1 samples as many chains and votes on their answers (self-consistency, Wang et al. 2023).
    `search` puts the passages it returns for the question itself into the prompt (CoT + RAG).
    `wording` and `examples` (for teachers and untuned models) are those of `prompts.cot_turns`.
    """
    waiting, open_chains = list(questions)[::-1], []
    while waiting or open_chains:
        began = time.perf_counter()
        while waiting and len(open_chains) < batch:
            question = waiting.pop()
            shown = search(question.text) if search else ""
            asked = prompts.cot_turns(question.text, question.domain, shown, examples, wording)
            open_chains.append(_Open(question, shown, asked))
        found = model.generate(
            [chain.asked for chain in open_chains],
            n=n,
            temperature=temperature,
            top_p=top_p,
            max_new_tokens=max_new_tokens,
            seed=seed,
            **pausing(model, n),
        )
        seconds = (time.perf_counter() - began) / len(open_chains)
        paused = []
        for chain, completions in zip(open_chains, found, strict=True):
            chain.seconds += seconds
            if completions[0].finish_reason == "paused":
                paused.append(chain)  # the next call goes on with it
                continue
            answers = tuple(score.extract_answer(c.text) for c in completions)
            yield CoTResult(
                chain.question.id,
                tuple(completions),
                answers,
                majority(answers, chain.question.domain),
                chain.shown,
                chain.seconds,
            )
        open_chains = paused


@dataclass
class _Open:
    """A question whose chain is not finished yet."""

    question: Question
    shown: str  # passages
    asked: list[dict]
    seconds: float = 0.0


def majority(answers: Sequence[str | None], domain: str | None = None) -> str | None:
    """The answer most chains gave, compared by value; the earliest of equals; None if there is
    none."""
    keys = [None if a is None else sag.answer_key(a, domain) for a in answers]
    counted = Counter(k for k in keys if k is not None).most_common(1)
    return answers[keys.index(counted[0][0])] if counted else None
