"""Finished runs kept with the project: packed next to the records that figures are drawn from, and
restored into run folders on another machine.

A packed run has the name of its run folder, so of its whole configuration: results of another
configuration are never mistaken for it.
"""

import dataclasses
import itertools
import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentlib import config, evaluate, records, teach
from agentlib.benchmarks import borrowed
from agentlib.runner import costs
from agentlib.training import checkpoints


@dataclass(frozen=True)
class Restored:
    """How many runs and cases were restored, and the packed files that belong to no run of the
    configuration.
    """

    runs: int
    cases: int
    unmatched: tuple[str, ...]


def folder(cfg: config.Config) -> Path:
    """Where a preset's packed runs are kept (committed)."""
    return cfg.records / "runs"


def runs(cfg: config.Config) -> Iterator[tuple[str, records.Run]]:
    """All long runs of notebooks 02 to 04, as (work, run), each once; the teacher's later tries
    among them.
    """
    seen = set()
    found = [(part.work, part.run) for part in costs.parts(cfg)]
    if not cfg.teacher_records:
        found += [
            ("teacher", teach.teacher_run(cfg, m, k))
            for m in teach.METHODS
            for k in range(1, cfg.teacher_tries)
        ]
    for work, run in found:
        if run.folder not in seen:
            seen.add(run.folder)
            yield work, run


def pack(cfg: config.Config) -> list[Path]:
    """Pack all runs of a configuration as far as they are finished (`pack_run`)."""
    return [file for work, run in runs(cfg) if (file := pack_run(cfg, work, run))]


def pack_run(cfg: config.Config, work: str, run: records.Run) -> Path | None:
    """Pack what is finished of a run: of a "training" its losses, not its weights; of the others
    their cases, without the texts of others (`borrowed.strip`).

    None where nothing is finished, or less than in the packed file, which is kept. The same cases
    give the same bytes.
    """
    file = folder(cfg) / f"{run.folder.name}.jsonl.xz"
    if work == "training":
        finished = checkpoints.is_finished(run.folder)
        rows = list(checkpoints.losses(run.folder)) if finished else []
    else:
        rows = [borrowed.strip(case) for case in run.finished().values()]
    if not rows or (file.exists() and len(unpack(file)[1]) > len(rows)):
        return None
    times = list(records.read(run.times)) if run.times.exists() else []
    lines = [{"configuration": run.configuration, "times": times}, *rows]
    packed = lzma.compress(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines).encode(
            "utf-8", "surrogatepass"
        )
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_bytes(packed)
    part.replace(file)
    return file


def unpack(file: Path) -> tuple[dict, list[dict]]:
    """The head (configuration, times) and the rows of a packed run. Raises ValueError naming a file
    that is broken.
    """
    try:
        text = lzma.decompress(file.read_bytes()).decode("utf-8", "surrogatepass")
        head, *rows = (json.loads(line) for line in text.rstrip("\n").split("\n"))
    except (lzma.LZMAError, ValueError) as error:
        raise ValueError(
            f"packed run {file} cannot be read ({error}); check it out again, or delete it"
        ) from None
    return head, rows


def restore(cfg: config.Config) -> Restored:
    """Restore the packed runs of this configuration into their run folders; existing cases are
    kept.

    A restored training run has its loss curve and no weights.
    """
    if not folder(cfg).exists():
        return Restored(0, 0, ())
    there = {file.name: file for file in sorted(folder(cfg).glob("*.jsonl.xz"))}
    restored = cases = 0
    for work, run in runs(cfg):
        file = there.pop(f"{run.folder.name}.jsonl.xz", None)
        if file is None:
            continue
        if put := _restore_file(file, work, run):
            restored, cases = restored + 1, cases + (0 if work == "training" else put)
    return Restored(restored, cases, tuple(there))


def restore_run(cfg: config.Config, work: str, run: records.Run) -> int:
    """Restore one run, as `restore` does; returns how many rows (cases, or losses of a "training")
    were put back, 0 where it is not packed or nothing is lacking."""
    file = folder(cfg) / f"{run.folder.name}.jsonl.xz"
    return _restore_file(file, work, run) if file.exists() else 0


def _restore_file(file: Path, work: str, run: records.Run) -> int:
    head, rows = unpack(file)
    if work != "training":
        return _put_back(run, head, rows)
    if checkpoints.is_finished(run.folder):
        return 0
    checkpoints.restore_losses(run.folder, rows, run.configuration)
    return len(rows)


def take_recorded(cfg: config.Config) -> list[evaluate.Condition]:
    """The conditions that need not be asked here, as their answers to all of this configuration's
    questions are recorded in the experiment that `teacher_records` names; those are put into their
    run folders. `cfg.live_methods` are asked afresh.
    """
    taken = []
    recorded = teach.records_folder(cfg) / "runs"
    if not (cfg.teacher_records and cfg.live_methods and recorded.exists()):
        return taken
    for condition in itertools.chain(*(evaluate.plan(cfg, name) for name in evaluate.models(cfg))):
        run = evaluate.condition_run(cfg, condition)
        file = recorded / f"{run.folder.name}.jsonl.xz"
        live = condition.n == 1 and condition.method in cfg.live_methods
        if live or not file.exists():
            continue
        head, rows = unpack(file)
        asked = {q.id for q in evaluate.questions_of(cfg, condition)}
        if asked <= {row["id"] for row in rows}:
            _put_back(run, head, [row for row in rows if row["id"] in asked])
            taken.append(condition)
    return taken


def recorded_answers(cfg: config.Config) -> list[dict]:
    """The answers, with their transcripts, that are recorded of the experiment that
    `teacher_records` names; empty where it names none."""
    if cfg.teacher_records not in config.EXPERIMENTS:
        return []
    there = dataclasses.replace(
        config.load("laptop", **config.EXPERIMENTS[cfg.teacher_records]), preset=cfg.teacher_records
    )
    conditions = itertools.chain(*(evaluate.plan(there, name) for name in there.students))
    names = [f"{evaluate.condition_run(there, one).folder.name}.jsonl.xz" for one in conditions]
    packed = [folder(there) / name for name in names if (folder(there) / name).exists()]
    return [borrowed.fill(row) for file in packed for row in unpack(file)[1]]


def _put_back(run: records.Run, head: dict, rows: list[dict]) -> int:
    """Add the rows that a run folder lacks; returns how many."""
    done = run.finished()
    if lacking := [row for row in rows if row["id"] not in done]:
        with records.lock(run.folder):
            records.write_json(run.folder / "config.json", run.configuration)
            records.write_lines(run.file, [*done.values(), *map(borrowed.fill, lacking)])
            if not run.times.exists():
                records.write_lines(run.times, head["times"])
    return len(lacking)
