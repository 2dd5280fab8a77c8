"""Chain-of-thought baselines: CoT prompting, CoT + RAG, and self-consistency (§4.1)."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentlib import prompts, sag, score
from agentlib.models import Completion, LanguageModel
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
    batch: int = 32,
    seed: int = 42,
) -> Iterator[CoTResult]:
    """Yield one chain of thought a question, `batch` questions at a time.

    n > 1 samples as many chains and votes on their answers (self-consistency, Wang et al. 2023).
    `search` puts the passages it returns for the question itself into the prompt (CoT + RAG).
    `examples` shows worked ones first, for teachers and untuned models.
    """
    for start in range(0, len(questions), batch):
        part, began = questions[start : start + batch], time.perf_counter()
        passages = [search(q.text) if search else "" for q in part]
        asked = [
            prompts.cot_turns(q.text, q.domain, p, examples)
            for q, p in zip(part, passages, strict=True)
        ]
        found = model.generate(
            asked,
            n=n,
            temperature=temperature,
            top_p=top_p,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        seconds = (time.perf_counter() - began) / len(part)
        for question, completions, shown in zip(part, found, passages, strict=True):
            answers = tuple(score.extract_answer(c.text) for c in completions)
            yield CoTResult(
                question.id,
                tuple(completions),
                answers,
                majority(answers, question.domain),
                shown,
                seconds,
            )


def majority(answers: Sequence[str | None], domain: str | None = None) -> str | None:
    """The answer most chains gave, compared by value; the earliest of equals; None if there is
    none."""
    keys = [None if a is None else sag.answer_key(a, domain) for a in answers]
    counted = Counter(k for k in keys if k is not None).most_common(1)
    return answers[keys.index(counted[0][0])] if counted else None
