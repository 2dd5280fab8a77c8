"""The time that each part of a preset takes: measured by its runs, published with their records,
and used to estimate a run before it starts. Times are wall seconds on the machine that each part
names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentlib import benchmarks, config, distill, evaluate, records, teach
from agentlib.runner import sweeps
from agentlib.training import Distributed, checkpoints


@dataclass(frozen=True)
class Part:
    """One piece of work: how many units are planned and done, the name of its rate, and the
    notebook that does it.
    """

    work: str  # "teacher" | "training" | "evaluation"
    name: str
    unit: str  # "question" | "step"
    planned: int
    done: int
    run: records.Run
    notebook: str


def parts(cfg: config.Config) -> Iterator[Part]:
    """All long work of notebooks 02 to 04 in order, and how much of it is finished.

    A student without weights on this machine is trained again only if some of its questions are
    left.
    """
    if not cfg.teacher_records:
        asked = benchmarks.training_questions(cfg)
        for method in teach.METHODS:
            run = teach.teacher_run(cfg, method)
            yield Part(
                "teacher",
                run.name,
                "question",
                len(asked),
                len(asked) - len(run.todo(asked)),
                run,
                "02",
            )
    varied = [(v.cfg, v.condition) for v in sweeps.plan(cfg) if not sweeps.is_main(cfg, v)]
    answers, wanted = [], set()
    for own, condition in [
        *(
            (cfg, condition)
            for student in evaluate.models(cfg)
            for condition in evaluate.plan(cfg, student)
        ),
        *varied,
    ]:
        run = evaluate.condition_run(own, condition)
        asked = evaluate.questions_of(own, condition)
        left = len(run.todo(asked))
        answers.append(
            Part("evaluation", run.name, "question", len(asked), len(asked) - left, run, "04")
        )
        if left and condition.method in distill.TEACHER_OF:
            one = distill.one_training(own, condition.training)
            wanted.add(distill.adapter_run(one, condition.student, condition.method).folder)
    trained = [
        (distill.one_training(cfg, k), student, method, "03")
        for student in cfg.students
        for k in range(cfg.trainings)
        for method in distill.TEACHER_OF
    ]
    trained += [(own, condition.student, condition.method, "04") for own, condition in varied]
    seen = set()
    for own, student, method, notebook in trained:
        run = distill.adapter_run(own, student, method)
        if run.folder not in seen:
            seen.add(run.folder)
            steps = own.epochs * -(-len(distill.training_cases(own, method)) // own.batch_size)
            name = run.name + (f"-{own.tuning}" if own.tuning != "lora" else "")
            there = (
                checkpoints.has_weights(run.folder)
                or distill.committed(own, run).exists()
                or (checkpoints.is_finished(run.folder) and run.folder not in wanted)
            )
            yield Part("training", name, "step", steps, steps * there, run, notebook)
    yield from answers


def measure(cfg: config.Config) -> Path:
    """Write seconds per question or step of every part that ran on this machine, with the machine's
    name; what ran elsewhere (runs restored from records bring other machines' times) keeps what was
    published.

    Steps of training are counted on the kind of device that this machine trains on.
    """
    device, here = Distributed().device().partition(":")[0], records.machine()
    file = cfg.records / "costs.json"
    known = records.read_json(file)["parts"] if file.exists() else {}
    spent: dict[str, dict] = {}
    for part in parts(cfg):
        if part.work == "training":
            # A restored training has losses and no weights.
            folder = part.run.folder
            curve = checkpoints.losses(folder) if checkpoints.has_weights(folder) else ()
            steps = [s["seconds"] for s in curve if s.get("device", "cpu") == device]
            seconds, units = sum(steps), len(steps)
        else:
            times = list(records.read(part.run.times)) if part.run.times.exists() else []
            times = [spell for spell in times if spell.get("machine") == here]
            seconds, units = (sum(spell[key] for spell in times) for key in ("seconds", "cases"))
        if units:
            empty = {
                "work": part.work,
                "unit": part.unit,
                "machine": here,
                "seconds": 0.0,
                "units": 0,
            }
            total = spent.setdefault(part.name, empty)
            total["seconds"], total["units"] = (
                round(total["seconds"] + seconds, 1),
                total["units"] + units,
            )
    records.write_json(file, {"parts": known | spent})
    return file


def estimate(cfg: config.Config, notebooks: Sequence[str] = ("02", "03", "04")) -> str:
    """One sentence: the work left in these notebooks and about how long it takes; "" if nothing has
    been measured.
    """
    file = cfg.records / "costs.json"
    if not file.exists():
        return ""
    rates = records.read_json(file)["parts"]
    hours: dict[str, float] = {}
    unknown, machines = [], []
    for part in parts(cfg):
        left = part.planned - part.done
        if not left or part.notebook not in notebooks:
            continue
        if rate := rates.get(part.name):
            machines.append(rate["machine"])
            hours[part.work] = (
                hours.get(part.work, 0.0) + left * rate["seconds"] / rate["units"] / 3600
            )
        else:
            unknown.append(part.name)
    if not hours and not unknown:
        return "nothing long is left to do: all cases are there"
    each = ", ".join(f"{work} {_spoken(spent)}" for work, spent in hours.items())
    measured = f", as measured on {' and on '.join(dict.fromkeys(machines))}" if machines else ""
    if set(machines) - {here := records.machine()}:
        measured += f"; this machine has {here}"
    more = (
        f"; {len(unknown)} parts were never measured ({', '.join(unknown[:3])} …)"
        if unknown
        else ""
    )
    return (
        f"{'more than' if unknown else 'about'} {_spoken(sum(hours.values()))} are left"
        f" ({each}){measured}{more}; stop whenever you like, the same command resumes"
    )


def _spoken(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
