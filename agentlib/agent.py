"""The CodeAct agent: think, write Python, run it, read what came back, until it answers (§3)."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agentlib import prompts, sag
from agentlib.models import Completion, LanguageModel, pausing
from agentlib.sag import SAG
from agentlib.sandbox import Failure, Outcome, Sandbox, Session
from agentlib.tasks import Question

Style = Literal["teacher", "student"]
Stopped = Literal["final_answer", "max_steps", "context_full"]


@dataclass(frozen=True)
class Step:
    """One (thought, action, observation) r, a, o of §3. `candidates` holds all of SAG's, else
    only the one."""

    text: str  # thought and code as the model wrote them, ending in <end_code>
    code: str | None
    outcome: Outcome
    candidates: tuple["Candidate", ...]
    prompt_tokens: int
    completion_tokens: int  # of all candidates
    seconds: float
    tokens: tuple[int, ...] = ()  # of the chosen turn, as they were sampled


@dataclass(frozen=True)
class Candidate:
    """One sampled action: its code, its outcome, its group in the vote (None if it failed), and
    its length, which breaks ties."""

    code: str | None
    outcome: Outcome
    group: int | None
    tokens: int


@dataclass
class Trajectory:
    """All steps for one question; `answer` is plain data, None if there was none."""

    question_id: str
    steps: list[Step] = field(default_factory=list)
    answer: Any = None
    stopped: Stopped | None = None  # None while it runs
    prefix: str = ""
    tools: str = ""  # what it was told of tools beside the search
    search: bool = True  # whether it was told of `web_search`
    final_turn: Completion | None = None  # the free-text answer asked for when the steps ran out

    @property
    def completion_tokens(self) -> int:
        return sum(s.completion_tokens for s in self.steps) + (
            self.final_turn.completion_tokens if self.final_turn else 0
        )

    @property
    def prompt_tokens(self) -> int:
        return sum(s.prompt_tokens for s in self.steps) + (
            self.final_turn.prompt_tokens if self.final_turn else 0
        )


def read_code(text: str) -> str | None:
    """The Python of a turn: its blocks (`prompts.blocks`), joined; None where there is none."""
    return "\n\n".join(block.code for block in prompts.blocks(text) if block.code) or None


def initial_messages(
    question: str, style: Style, tools: str = "", search: bool = True, wording: str = "plain"
) -> list[dict]:
    """System and first user turn: the full prompt for teachers and untuned models, the short one
    for students. `tools` are lines that tell of more tools than the search, which there is if
    `search`; `wording` is that of `prompts.agent_system`."""
    system = prompts.agent_system(style, tools, search, wording)
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": prompts.question_turn(question)},
    ]


def step_messages(step: Step) -> list[dict]:
    """The two turns a step adds to the conversation: what the model wrote, what it sees back."""
    return [
        {"role": "assistant", "content": step.text},
        {"role": "user", "content": observation_message(step.outcome)},
    ]


def observation_message(outcome: Outcome) -> str:
    """The observation turn of an outcome."""
    failure = None if outcome.failure is None else (outcome.failure.kind, outcome.failure.message)
    return prompts.observation_turn(outcome.stdout, outcome.value, failure, outcome.stderr)


class Agent:
    """Runs many questions at once: one call of the model a step for all that are still open.

    `step_tokens` bounds one turn; `batch` the conversations open at once (each holds a sandbox
    session). The model is told of `web_search` if the sandbox has it, and of every other tool by
    its signature and the first line of its docstring.
    """

    def __init__(
        self,
        model: LanguageModel,
        box: Sandbox,
        *,
        style: Style = "student",
        wording: str = "plain",
        max_steps: int = 5,
        sag: SAG | None = None,
        step_tokens: int = 1024,
        batch: int = 32,
        seed: int = 42,
    ):
        if style not in ("teacher", "student"):
            raise ValueError(
                f"agent style is {style!r}, expected 'teacher' (full prompt) or 'student' (short"
                " prompt)"
            )
        if max_steps < 1 or batch < 1:
            raise ValueError(
                f"agent has max_steps={max_steps} and batch={batch}, expected 1 or more of each"
            )
        self.model, self.box, self.max_steps = model, box, max_steps
        self.style, self.wording = style, wording
        self.sag = sag or SAG(n=1, temperature=0.0, top_p=1.0)
        self.step_tokens, self.batch, self.seed = step_tokens, batch, seed
        self.search = "web_search" in box.tools
        self.tools = prompts.tool_lines(
            {name: tool for name, tool in box.tools.items() if name != "web_search"}
        )

    def run(
        self,
        questions: Iterable[Question],
        prefixes: Sequence[str | None] | None = None,
        watch: Callable[[Trajectory], object] | None = None,
        begun: Sequence[Sequence[str]] | None = None,
    ) -> Iterator[Trajectory]:
        """Yield each question's trajectory as it ends (not in the order asked).

        `prefixes`: the start of each question's first turn, or None (§3.1; the teacher's runs
        only). `watch` is called with a trajectory after each of its steps. `begun`: the turns of
        each question that are written already; their code runs again, in a new session, and the
        model goes on from there.
        """
        questions = list(questions)
        prefixes = [None] * len(questions) if prefixes is None else list(prefixes)
        begun = [()] * len(questions) if begun is None else list(begun)
        for name, given in (("prefixes", prefixes), ("runs begun", begun)):
            if len(given) != len(questions):
                raise ValueError(
                    f"{len(given)} {name} for {len(questions)} questions; give one each, or None"
                )
        waiting = list(zip(questions, prefixes, begun, strict=True))[::-1]
        open_runs: list[_Open] = []
        try:
            while waiting or open_runs:
                while waiting and len(open_runs) < self.batch:
                    question, prefix, turns = waiting.pop()
                    trajectory = Trajectory(
                        question.id, prefix=prefix or "", tools=self.tools, search=self.search
                    )
                    asked = initial_messages(
                        question.text, self.style, self.tools, self.search, self.wording
                    )
                    open_runs.append(_Open(trajectory, asked, self.box.session(), question.domain))
                    for text in turns:
                        self._replay(open_runs[-1], text)
                yield from self._end(
                    open_runs, [r for r in open_runs if self._full(r)], "context_full"
                )
                going = [r for r in open_runs if self._goes_on(r)]
                for run in self._step(going) if going else ():
                    if watch is not None:
                        watch(run.trajectory)
                yield from self._end(
                    open_runs, [r for r in open_runs if r.answered], "final_answer"
                )
                spent = [r for r in open_runs if len(r.trajectory.steps) >= self.max_steps]
                if spent:
                    self._ask_for_answer(spent)
                yield from self._end(open_runs, spent, "max_steps")
        finally:
            for run in open_runs:
                run.session.close()

    def _end(
        self, open_runs: list["_Open"], ended: list["_Open"], stopped: Stopped
    ) -> Iterator[Trajectory]:
        for run in ended:
            open_runs.remove(run)
            run.session.close()
            run.trajectory.stopped = stopped
            yield run.trajectory

    def _full(self, run: "_Open", room: int | None = None) -> bool:
        """Whether the conversation leaves no room for another turn; the chat template adds a few
        tokens a turn."""
        written = self.model.count("".join(turn["content"] for turn in run.conversation))
        return (
            written + 8 * len(run.conversation) + (room or self.step_tokens)
            > self.model.max_context
        )

    def _goes_on(self, run: "_Open") -> bool:
        return not run.answered and len(run.trajectory.steps) < self.max_steps

    def _replay(self, run: "_Open", text: str) -> None:
        """Take a step that is written already: run its code, add it to the conversation."""
        if not self._goes_on(run):
            return
        code = read_code(text)
        ((outcome,),) = self._run_candidates([run.session], [[code]])
        if code is None:
            run.session.discard()
        else:
            run.session.commit(outcome)
        group = None if outcome.failure else 0
        only = Candidate(code, outcome, group, 0)
        self._take(run, Step(prompts.close_turn(text), code, outcome, (only,), 0, 0, 0.0))

    def _take(self, run: "_Open", step: Step) -> None:
        run.trajectory.steps.append(step)
        run.conversation.extend(step_messages(step))
        if step.outcome.is_final:
            run.trajectory.answer, run.answered = step.outcome.answer, True

    def _step(self, open_runs: list["_Open"]) -> list["_Open"]:
        """Sample, run and vote one step for every open question, but for those whose turn the
        model has paused (`models.pausing`): the next call goes on with them. Returns those that
        took a step.
        """
        started = time.perf_counter()
        sampled = self.model.generate(
            [r.conversation for r in open_runs],
            n=self.sag.n,
            temperature=self.sag.temperature,
            top_p=self.sag.top_p,
            max_new_tokens=self.step_tokens,
            stop=prompts.STOP,
            seed=self.seed,
            prefixes=[
                r.trajectory.prefix or None if not r.trajectory.steps else None for r in open_runs
            ],
            **pausing(self.model, self.sag.n),
        )
        written = [
            (run, completions)
            for run, completions in zip(open_runs, sampled, strict=True)
            if completions[0].finish_reason != "paused"
        ]
        ran = [run for run, _ in written]
        sampled = [completions for _, completions in written]
        codes = [[read_code(completion.text) for completion in samples] for samples in sampled]
        outcomes = self._run_candidates([run.session for run in ran], codes)
        seconds = (time.perf_counter() - started) / len(open_runs)
        for run in open_runs:
            run.seconds += seconds
        for run, *candidates in zip(ran, sampled, codes, outcomes, strict=True):
            step = self._select(run, *candidates, run.seconds)
            run.seconds = 0.0
            self._take(run, step)
        return ran

    def _run_candidates(
        self, sessions: Sequence[Session], codes: Sequence[Sequence[str | None]]
    ) -> list[list[Outcome]]:
        """The outcomes of each question's candidates, all run together; one without code failed
        to parse."""
        written = [[code for code in of_one if code is not None] for of_one in codes]
        batch = [
            (session, of_one) for session, of_one in zip(sessions, written, strict=True) if of_one
        ]
        ran = iter([outcome for outcomes in self.box.run_batch(batch) for outcome in outcomes])
        return [
            [
                Outcome(failure=Failure("parse", "")) if code is None else next(ran)
                for code in of_one
            ]
            for of_one in codes
        ]

    def _select(
        self,
        run: "_Open",
        completions: Sequence[Completion],
        codes: Sequence[str | None],
        outcomes: Sequence[Outcome],
        seconds: float,
    ) -> Step:
        """Vote among a question's candidates, keep the state that the chosen one left, and
        return the step."""
        lengths = [completion.completion_tokens for completion in completions]
        groups = sag.groups(outcomes, self.sag.vote, lengths, run.domain)
        best = sag.winner(groups, lengths)
        if codes[best] is None:
            run.session.discard()
        else:
            run.session.commit(outcomes[best])
        candidates = zip(codes, outcomes, groups, lengths, strict=True)
        return Step(
            text=prompts.close_turn(completions[best].text),
            code=codes[best],
            outcome=outcomes[best],
            candidates=tuple(Candidate(*candidate) for candidate in candidates),
            prompt_tokens=completions[best].prompt_tokens,
            completion_tokens=sum(lengths),
            seconds=seconds,
            tokens=completions[best].tokens,
        )

    def _ask_for_answer(self, spent: list["_Open"]) -> None:
        """One last call without code (reference code); what it says is the answer, recorded as
        such."""
        room = min(64, self.step_tokens)
        for run in spent:
            run.conversation[-1]["content"] += f"\n\n{prompts.LAST_TURN}"
            if self._full(run, room):
                # The last observation is what made it too long; the question and the steps before
                # it remain.
                run.conversation[-1]["content"] = (
                    f"{prompts.OBSERVATION}\n(too long to show)\n\n{prompts.LAST_TURN}"
                )
        spent = [run for run in spent if not self._full(run, room)]
        asked = [r.conversation for r in spent]
        if not asked:
            return
        for run, (completion,) in zip(
            spent, self.model.generate(asked, max_new_tokens=room, seed=self.seed), strict=True
        ):
            run.trajectory.final_turn = completion
            run.trajectory.answer = completion.text.strip() or None


@dataclass(eq=False)
class _Open:
    """A question that is not answered yet."""

    trajectory: Trajectory
    conversation: list[dict]
    session: Session
    domain: str
    answered: bool = False
    seconds: float = 0.0  # spent on the turn that is being written
