"""One setting varied at a time for the smallest student: temperature, inference seed, tuning,
trajectories (Tables 6-8), and the questions that students with and without first-thought prefix are
taught on.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentlib import config, distill, evaluate, records
from agentlib.evaluate import Condition
from agentlib.sandbox import Sandbox

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variation:
    """One value of one setting: `setting` is "temperature", "seed", "tuning", "trajectories" or
    "taught_on"."""

    setting: str
    value: float | int | str
    cfg: config.Config
    condition: Condition


def plan(cfg: config.Config) -> list[Variation]:
    """What is varied: the temperature of SAG on the maths benchmarks (Table 6), its seed on AIME
    (Table 7), the kind of fine-tuning (Table 8) and the number of
    trajectories, both greedy, on all benchmarks; of each benchmark the first `sweep_questions`. The
    questions that both agents are taught on are varied on all test questions: differences are small
    there.
    """
    student = cfg.students[0]

    def sag(among: tuple[str, ...], **own: float) -> Condition:
        names = tuple(name for name in cfg.benchmarks if name in among)
        return Condition(student, "agent_distill_ftp", cfg.samples, names, **own)

    greedy = Condition(student, "agent_distill", 1, cfg.benchmarks)
    few = min(filter(None, (cfg.sweep_questions, cfg.questions)), default=0)
    fewer = dataclasses.replace(cfg, questions=few)
    found = [
        Variation("temperature", t, fewer, sag(cfg.sweep_benchmarks, temperature=t))
        for t in cfg.sweep_temperatures
    ]
    seeds = range(cfg.seed, cfg.seed + cfg.sweep_seeds)
    found += [Variation("seed", seed, fewer, sag(cfg.seed_benchmarks, seed=seed)) for seed in seeds]
    found += [
        Variation("tuning", t, dataclasses.replace(fewer, tuning=t), greedy)
        for t in cfg.sweep_tunings
    ]
    found += _vary_trajectories(fewer, greedy) if cfg.sweep_examples else []
    return found + [
        Variation(
            "taught_on",
            taught_on,
            dataclasses.replace(cfg, taught_on=taught_on),
            dataclasses.replace(greedy, method=method),
        )
        for taught_on in cfg.sweep_taught
        for method in ("agent_distill", "agent_distill_ftp")
    ]


def _vary_trajectories(cfg: config.Config, condition: Condition) -> list[Variation]:
    """The numbers of trajectories to train on; one that is not less than all there are would repeat
    "all".
    """
    there = len(distill.training_cases(cfg, condition.method))
    if too_many := tuple(k for k in cfg.sweep_examples if k >= there):
        _say_left_out(too_many, there)
    return [
        Variation("trajectories", k or there, dataclasses.replace(cfg, train_examples=k), condition)
        for k in cfg.sweep_examples
        if k not in too_many
    ]


@functools.cache  # a plan is made often; this is said once
def _say_left_out(too_many: tuple[int, ...], there: int) -> None:
    numbers = ", ".join(map(str, too_many))
    log.warning("%s trajectories are not varied: %d passed the filter", numbers, there)


def run(
    cfg: config.Config, main: Sequence[dict], *, box: Sandbox, search: Callable[[str], str]
) -> list[dict]:
    """Cases of all variations, each with its `setting` and `value`; resumable, adapters trained as
    they are needed, in this process. A server of students must hold them all (ServerError names one
    that is not there).

    `main` are the cases of the main experiment: the variation that is its own setting is taken from
    there.
    """
    found, model, loaded = [], None, None
    for variation in plan(cfg):
        known = _main_cases(cfg, variation, main)
        if not known:
            own, condition = variation.cfg, variation.condition
            questions = evaluate.questions_of(own, condition)
            if evaluate.condition_run(own, condition).todo(questions):
                adapter = distill.train(own, condition.student, condition.method)
                if model is None or (loaded != own.tuning and not cfg.student_server):
                    if model:
                        model.close()
                    model, _ = evaluate.open_student(own, condition.student, ())
                    loaded = own.tuning
                model.use(adapter.path)
            known = evaluate.evaluate(own, condition, model, questions, box=box, search=search)
        found += [case | {"setting": variation.setting, "value": variation.value} for case in known]
    if model:
        model.close()
    return found


def is_main(cfg: config.Config, variation: Variation) -> bool:
    """Whether a variation has the settings of the main experiment."""
    condition = variation.condition
    return (
        dataclasses.replace(variation.cfg, questions=cfg.questions) == cfg
        and condition.seed in (None, cfg.seed)
        and condition.temperature in (None, cfg.temperature)
    )


def _main_cases(cfg: config.Config, variation: Variation, main: Sequence[dict]) -> list[dict]:
    """The cases of the main experiment, if the variation has the same settings and all of them are
    there; else none.
    """
    condition = variation.condition
    if not is_main(cfg, variation):
        return []
    wanted = {(q.benchmark, q.id) for q in evaluate.questions_of(variation.cfg, condition)}
    known = [
        c
        for c in main
        if (c["model"], c["method"], c["n"]) == (condition.student, condition.method, condition.n)
        and (c["benchmark"], c["id"]) in wanted
    ]
    return known if len(known) == len(wanted) else []


def finished(cfg: config.Config) -> list[dict]:
    """Cases of the variations that are answered whole in their run folders, each with its `setting`
    and `value`."""
    found = []
    for one in plan(cfg):
        run = evaluate.condition_run(one.cfg, one.condition)
        questions, done = evaluate.questions_of(one.cfg, one.condition), run.finished()
        if not run.todo(questions):
            labels = {"setting": one.setting, "value": one.value}
            found += [done[question.id] | labels for question in questions]
    return found


def publish(cfg: config.Config, found: Sequence[dict]) -> Path:
    """Write the small form of all variations' cases for the tables."""
    file = cfg.records / "sweeps.jsonl"
    records.write_lines(file, map(evaluate.without_transcripts, found))
    return file
