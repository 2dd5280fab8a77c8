"""Students that learn from their own runs: repair of the first error, expert iteration, and the
choice among several right trajectories.

Beyond the paper. Imitation shows a student what its teacher does where the teacher goes. Here the
student goes first: its wrong runs are mended by the teacher at the step where they went wrong
(after SCoRe, arXiv 2509.14257), its right ones are learnt from (rejection sampling), and of several
right trajectories the one that suits it can be chosen (after SmartAD). Everything is text that any
teacher may write; what a student sampled itself is trained on by the very tokens it sampled.
"""

import ast
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agentlib import cases, config, filtering, masks, prompts
from agentlib.agent import Agent, initial_messages
from agentlib.cases import Case
from agentlib.models import LanguageModel
from agentlib.sag import SAG
from agentlib.sandbox import Sandbox
from agentlib.tasks import Question

TEMPERATURE = 0.7  # of the student's own runs
NOTHING = "No passage matches {query!r}; try other words."  # as the search says it


@dataclass(frozen=True)
class Lesson:
    """What a student is trained on besides its teacher's trajectories: a case, which of its turns
    carry loss (None: all), and the tokens of those that the student wrote itself, () for others."""

    case: Case
    turns: tuple[int, ...] | None
    tokens: tuple[tuple[int, ...], ...]

    @property
    def is_reasoned(self) -> bool:
        """Whether it may be learnt from: it passes the paper's filter, and its answer was read or
        computed. What a student guessed right it would learn to guess."""
        return filtering.passes_filter(self.case) and filtering.is_reasoned(self.case)

    def to_record(self) -> dict:
        """The case as a run folder holds it, with the turns that carry loss and the tokens."""
        turns = None if self.turns is None else list(self.turns)
        return {**self.case, "turns": turns, "sampled": [list(turn) for turn in self.tokens]}

    @classmethod
    def from_record(cls, record: Mapping) -> "Lesson":
        """A lesson from what `to_record` made."""
        case = {k: v for k, v in record.items() if k not in ("turns", "sampled")}
        turns = None if record["turns"] is None else tuple(record["turns"])
        return cls(case, turns, tuple(map(tuple, record["sampled"])))


# --- where does it go wrong -----------------------------------------------------------------------


def first_error(case: Case) -> int:
    """The place of the first step after which a wrong run could not be right any more: the first
    whose code failed; else the last that decided something.

    A last step that only hands on what the one before it computed is not where it went wrong; one
    that types an answer after reading passages is. Raises ValueError for a run that is right, or
    has no steps.
    """
    if case["correct"] or not case.get("trace"):
        state = "right" if case["correct"] else "without steps"
        raise ValueError(f"case {case['id']} is {state}, expected a wrong run of an agent")
    steps = case["trace"]
    for place, step in enumerate(steps):
        if step["failure"]:
            return place
    *before, last = steps
    hands_on = before and _only_hands_on(last["code"] or "", before[-1]["observation"])
    return len(before) - bool(hands_on)


def _only_hands_on(code: str, seen: str) -> bool:
    """Whether code is one `final_answer` of a name, or of just what was printed before it."""
    try:
        (line,) = ast.parse(code).body
    except (SyntaxError, ValueError):
        return False
    call = line.value if isinstance(line, ast.Expr) else None
    if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "final_answer":
        return False
    printed = seen.removeprefix("Observation:").strip()
    return all(
        isinstance(value, ast.Name)
        or (isinstance(value, ast.Constant) and str(value.value).strip() == printed)
        for value in call.args
    )


# --- verified repair ------------------------------------------------------------------------------


def repair(
    student: Agent,
    teacher: LanguageModel,
    wrong: Sequence[tuple[Question, Case]],
    /,
    **labels: object,
) -> list[Lesson]:
    """The wrong runs of a student, of a question each, that one step of the teacher makes right.

    The steps before the first error are replayed in a new session. The teacher writes that one
    step, from the student's own beginning; then the student finishes. A run that is now right is
    kept, with loss on the repaired step alone.
    """
    tried = try_repairs(student, teacher, wrong, **labels)
    return [lesson for lesson in tried if lesson.is_reasoned]


def try_repairs(
    student: Agent,
    teacher: LanguageModel,
    wrong: Sequence[tuple[Question, Case]],
    /,
    **labels: object,
) -> Iterator[Lesson]:
    """What becomes of each wrong run with the teacher's one step (`repair`), right or still wrong,
    as they end."""
    places = [first_error(case) for _, case in wrong]
    asked = [
        _messages(student, question, case, place)
        for (question, case), place in zip(wrong, places, strict=True)
    ]
    written = teacher.generate(
        asked, max_new_tokens=student.step_tokens, stop=prompts.STOP, seed=student.seed
    )
    begun = [
        [*(step["text"] for step in case["trace"][:place]), prompts.close_turn(turn.text)]
        for (_, case), place, (turn,) in zip(wrong, places, written, strict=True)
    ]
    of = {
        question.id: (question, place) for (question, _), place in zip(wrong, places, strict=True)
    }
    for trajectory in student.run([question for question, _ in wrong], begun=begun):
        question, place = of[trajectory.question_id]
        yield Lesson(cases.agent_case(question, trajectory, **labels), (place,), ())


def _messages(student: Agent, question: Question, case: Case, place: int) -> list[dict]:
    """The conversation up to a step, as the teacher reads it: its own full prompt, the student's
    turns."""
    found = initial_messages(question.text, "teacher", student.tools, student.search)
    for step in case["trace"][:place]:
        found += [
            {"role": "assistant", "content": step["text"]},
            {"role": "user", "content": step["observation"]},
        ]
    return found


# --- expert iteration -----------------------------------------------------------------------------


def roll_out(
    model: LanguageModel,
    box: Sandbox,
    questions: Sequence[Question],
    cfg: config.Config,
    /,
    runs: Iterable[int] = range(8),
    temperature: float = TEMPERATURE,
    **labels: object,
) -> Iterator[Lesson]:
    """Sampled runs of each question, right or wrong, with the tokens of every turn, as they end.

    `runs` are the numbers of these runs: each has a seed of its own, so that a question's runs
    differ, and are the same again for the same seed of `cfg`.
    """
    known = {question.id: question for question in questions}
    for k in runs:
        agent = Agent(
            model,
            box,
            max_steps=cfg.max_steps,
            sag=SAG(n=1, temperature=temperature, top_p=cfg.top_p),
            step_tokens=cfg.step_tokens,
            batch=cfg.batch_questions,
            wording=cfg.wording,
            seed=cfg.seed + 1000 * k,
        )
        for trajectory in agent.run(questions):
            asked = known[trajectory.question_id]
            case = cases.agent_case(asked, trajectory, run=k, temperature=temperature, **labels)
            yield Lesson(case, None, tuple(step.tokens for step in trajectory.steps))


def choose(lessons: Iterable[Lesson], most: int = 2) -> list[Lesson]:
    """Of each question at most `most` right runs: the shortest, distinct by what they do.

    Only runs that may be learnt from (`Lesson.is_reasoned`) are among them.
    """
    kept: dict[str, dict[tuple, Lesson]] = {}
    for lesson in sorted(lessons, key=lambda lesson: lesson.case["completion_tokens"]):
        case = lesson.case
        if lesson.is_reasoned:
            of_question = kept.setdefault(case["id"], {})
            if len(of_question) < most:
                of_question.setdefault(_actions(case), lesson)
    return [lesson for of_question in kept.values() for lesson in of_question.values()]


def _actions(case: Case) -> tuple[str, ...]:
    """What a run does, whatever it says and however it spaces it."""
    return tuple(_plain(step["code"] or "") for step in case["trace"])


def _plain(code: str) -> str:
    try:
        return ast.unparse(ast.parse(code))
    except (SyntaxError, ValueError):
        return code


# --- which of several right trajectories ----------------------------------------------------------


def select(
    found: Sequence[Case], rule: str, surprise: Mapping[int, float] | None = None, seed: int = 42
) -> list[Case]:
    """One right trajectory of each question, by a rule: "shortest", "random", or "likeliest", the
    one with the lowest mean negative log-likelihood, `surprise` by its place in `found`.

    Raises ValueError for another rule, or "likeliest" without `surprise`.
    """
    draw = random.Random(seed)
    rules: dict[str, Callable[[int], float]] = {
        "shortest": lambda place: found[place]["completion_tokens"],
        "random": lambda place: draw.random(),
        "likeliest": lambda place: (surprise or {})[place],
    }
    if rule not in rules or (rule == "likeliest" and surprise is None):
        raise ValueError(
            f"rule is {rule!r}{' without likelihoods' if rule in rules else ''}, expected one of"
            f" {', '.join(rules)}; for 'likeliest' give `surprise` (training.likelihoods)"
        )
    best: dict[str, tuple[float, int]] = {}
    for place, case in enumerate(found):
        if filtering.passes_filter(case):
            score = (rules[rule](place), place)
            best[case["id"]] = min(score, best.get(case["id"], score))
    return [found[place] for _, place in best.values()]


# --- what a student is trained on -----------------------------------------------------------------


def build_examples(lessons: Sequence[Lesson], tokenizer, max_length: int) -> list[masks.Example]:
    """Lessons as token sequences: loss where a lesson has it, and a student's own turns by the
    tokens that it sampled."""
    named = {f"{place}:{lesson.case['id']}": lesson for place, lesson in enumerate(lessons)}
    return masks.build_examples(
        {name: cases.conversation(lesson.case) for name, lesson in named.items()},
        tokenizer,
        max_length,
        turns={name: one.turns for name, one in named.items() if one.turns is not None},
        sampled={name: one.tokens for name, one in named.items() if any(one.tokens)},
    )


# --- a search that fails --------------------------------------------------------------------------


def failing(
    search: Callable[[str], str], share: float = 0.1, seed: int = 42
) -> Callable[[str], str]:
    """A search that finds nothing for a share of all queries, the same ones in every run."""
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}, expected 0 to 1, such as 0.1 for one query in ten")

    def web_search(query: str) -> str:
        drawn = zlib.crc32(f"{seed} {query}".encode()) / 2**32
        return NOTHING.format(query=query) if drawn < share else search(query)

    web_search.__doc__ = search.__doc__
    return web_search
