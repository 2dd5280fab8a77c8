"""Run the long work of a preset piece by piece: `python tools/experiment/pieces.py --help`.

A piece is one method of the teacher, one training of one student, one condition of the evaluation,
or one value of a setting that is varied; with `--experiment improve`, one part of the rounds,
trainings and tests of notebook 11. Each can be run alone, resumes where it stopped, and tells its
cost first. What is packed with the records is put back into its run folders before anything else.
Without names, the pieces are run in the order of the list until the minutes are over.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentlib import benchmarks, config, distill, evaluate, improve, records, rounds, teach
from agentlib.benchmarks import search
from agentlib.config import setting
from agentlib.figures import arm_chart, read_arms, save_figure, size_label
from agentlib.runner import archive, sweeps
from agentlib.sandbox import Sandbox
from agentlib.tasks import Question
from agentlib.training import checkpoints

# per question or step on two cores that multiply bf16, until a run has measured its own
SECONDS = {
    "teacher": 15.0, "train": 4.0, "ask": 4.0, "rollout": 3.0, "repair": 15.0, "sample": 10.0,
    "likelihood": 1.0,
}  # fmt: skip
TRAINING = "training"
WORK = {"train": TRAINING}  # what a kind of piece is called where runs are packed, if not so


@dataclass(frozen=True)
class Piece:
    """One piece of work: its run, how many questions or steps it has in all and how many are left,
    and what does the next ones of them."""

    name: str
    run: records.Run
    planned: int
    left: int
    do: Callable[[], object]
    finish: Callable[[], object] = lambda: None  # once nothing is left

    @property
    def kind(self) -> str:
        """The work it is, a key of `SECONDS`."""
        return self.name.removeprefix("improve/").removeprefix("vary/").partition("/")[0]

    @property
    def seconds_left(self) -> float:
        """At the rate of its own run, else at `SECONDS`."""
        times = list(records.read(self.run.times)) if self.run.times.exists() else []
        spent, done = (sum(spell[key] for spell in times) for key in ("seconds", "cases"))
        return self.left * (spent / done if done else SECONDS[self.kind])


class Workshop:
    """What pieces share: the search, the sandbox, and the model that was opened last."""

    def __init__(self, cfg: config.Config, chunk: int, lost: float = 0.0):
        self.cfg, self.chunk, self.lost = cfg, chunk, lost
        self._search = self._box = self._model = self._opened = None
        self._others: dict[tuple[config.Config, float], Workshop] = {}

    def under(self, cfg: config.Config, lost: float = 0.0) -> "Workshop":
        """The workshop for another configuration, or for a search of which a share is `lost`."""
        if (cfg, lost) == (self.cfg, self.lost):
            return self
        if (cfg, lost) not in self._others:
            self._others[cfg, lost] = Workshop(cfg, self.chunk, lost)
        return self._others[cfg, lost]

    @property
    def search(self) -> Callable[[str], str]:
        if self._search is None:
            search.build(self.cfg)
            found = search.web_search(self.cfg)
            self._search = improve.failing(found, self.lost) if self.lost else found
        return self._search

    @property
    def box(self) -> Sandbox:
        if self._box is None:
            cfg = self.cfg
            self._box = Sandbox(
                tools={"web_search": self.search},
                seconds=cfg.sandbox_seconds,
                memory_mb=cfg.sandbox_memory_mb,
            )
        return self._box

    def close(self) -> None:
        for other in self._others.values():
            other.close()
        if self._opened is not None:
            self._opened.__exit__(None, None, None)
        if self._box is not None:
            self._box.close()

    def teacher(self):
        """The teacher, opened once."""
        if self._opened is None:
            self._opened = teach.open_teacher(self.cfg)
            self._model = self._opened.__enter__()
        return self._model

    def ask_teacher(self, method: str) -> None:
        """The next `chunk` questions of a method of the teacher."""
        asked = benchmarks.training_questions(self.cfg)
        part = teach.teacher_run(self.cfg, method).todo(asked)[: self.chunk]
        box = None if method == "cot" else self.box
        teach.teach(self.cfg, self.teacher(), method, part, box=box)

    def publish_teacher(self, method: str) -> None:
        """Write the finished cases of a method of the teacher where students find them."""
        asked = benchmarks.training_questions(self.cfg)
        done = teach.teacher_run(self.cfg, method).finished()
        teach.publish(self.cfg, method, [done[q.id] for q in asked])

    def keep(self, run: records.Run) -> None:
        """Keep a trained adapter with the records, unless that was done."""
        if not (kept := distill.committed(self.cfg, run)).exists():
            checkpoints.keep(run.folder, kept)

    @contextlib.contextmanager
    def student(self, condition: evaluate.Condition):
        """The student of a condition, with its adapter."""
        model, adapters = evaluate.open_student(self.cfg, condition.student, [condition])
        with contextlib.closing(model):
            model.use(adapters.get((condition.method, condition.training)))
            yield model

    def ask_student(
        self, condition: evaluate.Condition, asked: Sequence[Question] | None = None
    ) -> None:
        """The next `chunk` questions of a condition."""
        asked = evaluate.questions_of(self.cfg, condition) if asked is None else asked
        part = evaluate.condition_run(self.cfg, condition).todo(asked)[: self.chunk]
        with self.student(condition) as model:
            evaluate.evaluate(self.cfg, condition, model, part, box=self.box, search=self.search)

    def do_source(self, source: rounds.Source) -> None:
        """The next `chunk` of the runs that an arm's data come from."""
        part, (kind, *more) = source.left[: self.chunk], source.name.split("/")
        if kind == "sample":
            teach.teach(self.cfg, self.teacher(), "agent", part, box=self.box, attempt=int(more[0]))
        elif kind == "likelihood":
            rounds.measure_likelihoods(self.cfg, part)
        else:
            number = int(more[0]) if more else 1
            with self.student(rounds.rollout_condition(self.cfg, number)) as model:
                if kind == "repair":
                    rounds.try_repairs(self.cfg, model, self.teacher(), self.box, part)
                else:
                    rounds.roll_out(self.cfg, model, self.box, number, int(more[1]), part)


def pieces(cfg: config.Config, shop: Workshop, keep: bool = False) -> Iterator[Piece]:
    """All pieces of a configuration in order; those of a student once its teacher's cases are
    published. With `keep` the first training's adapters are kept beside the records."""
    if cfg.improve_questions:
        yield from improve_pieces(cfg, shop, keep)
        return
    if not cfg.teacher_records:
        asked = benchmarks.training_questions(cfg)
        for method in teach.METHODS:
            run = teach.teacher_run(cfg, method)
            yield Piece(
                f"teacher/{method}",
                run,
                len(asked),
                len(run.todo(asked)),
                lambda method=method: shop.ask_teacher(method),
                lambda method=method: shop.publish_teacher(method),
            )

    def is_taught(method: str) -> bool:
        source = distill.TEACHER_OF.get(method)
        return source is None or teach.records_path(cfg, source).exists()

    answers = [
        Piece(
            f"ask/{size_label(one.student)}/{one.method}/n{one.n}/{one.training}",
            run := evaluate.condition_run(cfg, one),
            len(asked := evaluate.questions_of(cfg, one)),
            len(run.todo(asked)),
            lambda one=one: shop.ask_student(one),
        )
        for student in evaluate.models(cfg)
        for one in evaluate.plan(cfg, student)
        if is_taught(one.method)
    ]
    varied = list(_varied(cfg, shop, is_taught))
    wanted = {piece.run.configuration.get("adapter") for piece in answers + varied if piece.left}
    trained = [
        (distill.one_training(cfg, k), f"train/{size_label(student)}/{method}/{k}", student, method)
        for student in cfg.students
        for k in range(cfg.trainings)
        for method in filter(is_taught, distill.TEACHER_OF)
    ]
    trained += [
        (distill.one_training(v.cfg, 0), _name(v, "train"), v.condition.student, v.condition.method)
        for v in _variations(cfg, is_taught)
    ]
    seen = set()
    for one, name, student, method in trained:
        run = distill.adapter_run(one, student, method)
        if run.folder in seen:
            continue  # a variation of how a student is asked
        seen.add(run.folder)
        steps = one.epochs * -(-len(distill.training_cases(one, method)) // one.batch_size)
        # a student whose questions are all answered need not be trained again
        done = checkpoints.has_weights(run.folder) or run.folder.name not in wanted
        yield Piece(
            name,
            run,
            steps,
            0 if done else steps,
            lambda one=one, student=student, method=method: distill.train(
                one,
                student,
                method,
                shop.under(distill.passages_from(cfg)).search if method.endswith("rag") else None,
            ),
            lambda run=run, name=name: keep and name.endswith("/0") and shop.keep(run),
        )
    yield from answers + varied


def _variations(cfg: config.Config, is_taught: Callable[[str], bool]) -> list[sweeps.Variation]:
    """What is varied beside the main experiment (`sweeps.plan`), once its teacher's cases are
    published."""
    if not all(map(is_taught, ("agent_distill", "agent_distill_ftp"))):
        return []
    return [one for one in sweeps.plan(cfg) if not sweeps.is_main(cfg, one)]


def _name(one: sweeps.Variation, kind: str) -> str:
    size = size_label(one.condition.student)
    return f"vary/{kind}/{size}/{one.condition.method}/{one.setting}={one.value}"


def _varied(
    cfg: config.Config, shop: Workshop, is_taught: Callable[[str], bool]
) -> Iterator[Piece]:
    """The answers of each variation."""
    for one in _variations(cfg, is_taught):
        run = evaluate.condition_run(one.cfg, one.condition)
        asked = evaluate.questions_of(one.cfg, one.condition)
        yield Piece(
            _name(one, "ask"),
            run,
            len(asked),
            len(run.todo(asked)),
            lambda one=one: shop.under(one.cfg).ask_student(one.condition),
        )


def improve_pieces(cfg: config.Config, shop: Workshop, keep: bool) -> Iterator[Piece]:
    """The pieces of `rounds`, arm by arm: the runs that its data come from, once their student is
    trained; its trainings, once these runs are finished; its tests, once it is trained."""
    seen = set()
    for arm in rounds.ARMS:
        for stage in rounds.stages(cfg, arm):
            for source in stage:
                if source.name not in seen and (source.is_possible or not source.left):
                    yield _source_piece(shop, source)
            seen |= {source.name for source in stage}
            if any(source.left for source in stage):
                break
        if rounds.missing(cfg, arm):
            continue
        for k in range(cfg.trainings):
            run = rounds.training_run(cfg, arm, k)
            tests = [_test_piece(cfg, shop, arm, test, k) for test in rounds.available_tests()]
            # a student whose questions are all answered need not be trained again
            done = distill.take_committed(cfg, run) or not any(test.left for test in tests)
            yield Piece(
                f"improve/train/{arm}/{k}",
                run,
                cfg.improve_steps,
                0 if done else cfg.improve_steps,
                lambda arm=arm, k=k: rounds.train(cfg, arm, k),
                lambda run=run, k=k: keep and k == 0 and shop.keep(run),
            )
            yield from tests


def _source_piece(shop: Workshop, source: rounds.Source) -> Piece:
    name, left = f"improve/{source.name}", len(source.left)
    return Piece(name, source.run, len(source.asked), left, lambda: shop.do_source(source))


def _test_piece(cfg: config.Config, shop: Workshop, arm: str, test: str, k: int) -> Piece:
    condition, asked = rounds.condition(cfg, arm, test, k), rounds.questions_for(cfg, test)
    own, lost = rounds.settings_for(cfg, test), rounds.LOST if test == "failing" else 0.0
    run = evaluate.condition_run(own, condition)
    return Piece(
        f"improve/ask/{arm}/{test}/{k}",
        run,
        len(asked),
        len(run.todo(asked)),
        lambda: shop.under(own, lost).ask_student(condition, asked),
    )


def restore(cfg: config.Config, shop: Workshop) -> None:
    """Put back what is packed of all pieces; each may make others possible."""
    for arm in rounds.ARMS if cfg.improve_questions else ():
        for stage in rounds.stages(cfg, arm):  # also of a student whose weights are not here
            for source in stage:
                _put_back(cfg, f"improve/{source.name}", source.run, bool(source.left))
            if any(source.left for source in stage):
                break
    seen = set()
    while new := [piece for piece in pieces(cfg, shop) if piece.name not in seen]:
        for piece in new:
            is_training = WORK.get(piece.kind) == TRAINING
            lacks = not checkpoints.is_finished(piece.run.folder) if is_training else piece.left
            _put_back(cfg, piece.name, piece.run, bool(lacks), TRAINING if is_training else "")
        seen |= {piece.name for piece in new}


def _put_back(cfg: config.Config, name: str, run: records.Run, lacks: bool, work: str = "") -> None:
    if lacks and (rows := archive.restore_run(cfg, work, run)):
        print(f"{name}: {rows} rows put back from the records")


def main(arguments: Sequence[str] | None = None) -> int:
    """List the pieces, or run some; 2, with a sentence, for wrong settings."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".")
    parser.add_argument("names", nargs="*", help="of pieces, such as teacher/cot or 'ask/135M/*'")
    parser.add_argument("--preset", default="laptop", help="smoke, laptop or paper")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument(
        "--experiment",
        choices=config.EXPERIMENTS,
        help="a preset's overrides, with runs and records of their own (config.EXPERIMENTS)",
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin nothing new after as many"
    )
    parser.add_argument("--chunk", type=int, default=64, help="questions at a time")
    parser.add_argument("--list", action="store_true", help="only say what is left")
    parser.add_argument(
        "--keep", action="store_true", help="keep the first training's adapters, to be committed"
    )
    parser.add_argument(
        "--pack",
        action="store_true",
        help="at the end, pack what is finished and publish its answers",
    )
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        own = dict(map(setting, asked.settings))
        cfg = config.load(asked.preset, **config.EXPERIMENTS.get(asked.experiment, {}) | own)
        if asked.experiment:
            cfg = dataclasses.replace(cfg, preset=asked.experiment)
        shop = Workshop(cfg, asked.chunk)

        def chosen() -> list[Piece]:
            every, names = pieces(cfg, shop, asked.keep), asked.names or ["*"]
            return [p for p in every if any(fnmatch.fnmatch(p.name, name) for name in names)]

        restore(cfg, shop)
        found, seen = chosen(), set()
        if not found:
            raise ValueError(f"no piece is called {', '.join(asked.names)}; --list shows all")
        while new := [piece for piece in found if piece.name not in seen]:
            for piece in new:
                print(
                    f"{piece.name}: {piece.left} of {piece.planned} left, about"
                    f" {piece.seconds_left / 60:.0f} min; {piece.run.folder.name}"
                )
            print(f"about {sum(p.seconds_left for p in new) / 3600:.1f} h in all", flush=True)
            seen |= {piece.name for piece in new}
            if not asked.list:
                over = lambda: time.monotonic() - began > 60 * asked.minutes  # noqa: E731
                work(new, cfg, shop, asked.keep, over)
                found = chosen()  # what was done may have made others possible
        shop.close()
        if asked.pack:
            for piece in found:
                if file := archive.pack_run(cfg, WORK.get(piece.kind, piece.kind), piece.run):
                    print(f"packed {piece.name} in {file}")
            if cfg.improve_questions:
                print("results are in {} and {}".format(*rounds.publish(cfg)))
                print(f"the figure is in {_draw_arms(cfg)}")
            elif cases := [c for p in found if p.name.startswith("ask/") for c in _finished(p)]:
                print(f"{len(cases)} cases are in {evaluate.publish(cfg, cases)}")
                if varied := sweeps.finished(cfg):
                    print(f"{len(varied)} cases are in {sweeps.publish(cfg, varied)}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _draw_arms(cfg: config.Config) -> str:
    """Draw the arms as notebook 11 does, and keep the picture."""
    answers, _ = read_arms(cfg)
    if answers.empty:
        return "no file: no arm is tested yet"
    note = f"experiment improve · {cfg.students[0]}"
    return str(save_figure(arm_chart(answers, note), cfg.figures, "arms")[0])


def _finished(piece: Piece) -> list[dict]:
    return list(piece.run.finished().values())


def work(
    found: Sequence[Piece], cfg: config.Config, shop: Workshop, keep: bool, over: Callable[[], bool]
) -> None:
    """Do the pieces in order, a chunk at a time, until the time is over."""
    for name in [piece.name for piece in found]:
        while not over():
            # what is left is read again: another process may have done a part of it
            piece = next(piece for piece in pieces(cfg, shop, keep) if piece.name == name)
            if not piece.left:
                piece.finish()
                break
            print(f"{piece.name}: {piece.left} left", flush=True)
            piece.do()


if __name__ == "__main__":
    sys.exit(main())
