"""Questions spread over a Ray cluster: workers answer, the process that asks them writes.

Questions of a worker that is lost go to another one. Needs the extra `scale`; paths in what workers
are given must mean the same on every machine of the cluster.
"""

import collections
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

log = logging.getLogger(__name__)
MAX_LOST_WORKERS = 2  # workers that one question may take down with it, asked alone

# What a worker holds open: given a job (a condition, a teacher's method) and questions, it yields
# their cases.
Answerer = Callable[[Any, Sequence[Any]], Iterator[dict]]


class WorkerLost(RuntimeError):
    """A question that took its workers down with it."""


class WorkerPool:
    """`workers` Ray actors, each with its own model and sandbox, opened by `opened` where the
    worker lives.

    `address` "" starts a cluster on this machine, anything else joins one ("auto",
    "ray://head:10001"). A worker gets `chunk` questions at a time and its cases come home one by
    one, so a worker that is killed costs only what it had not finished; those questions go to
    another. `cpus` 0 is an even share of this machine's cores, or one on a cluster that is joined;
    a worker's threads are as many. With `models`, workers run models: each has a share of the
    cluster's GPUs, if it has any. Use it as a context manager.
    """

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[Answerer]],
        workers: int,
        *,
        chunk: int = 32,
        address: str = "",
        cpus: float = 0,
        models: bool = False,
    ):
        try:
            import ray
        except ImportError:
            raise RuntimeError(
                "workers on a cluster need Ray, which is not installed; pip install agentlib[scale]"
            ) from None
        if workers < 1 or chunk < 1:
            raise ValueError(
                f"the pool has workers={workers} and chunk={chunk}, expected 1 or more of each"
            )
        self._ray, self._opened, self._chunk, self._number = ray, opened, chunk, workers
        cpus = cpus or (1 if address else max(1, (os.cpu_count() or 1) // workers))
        self._needs = {"num_cpus": cpus, "num_gpus": 0.0, "max_concurrency": 1}
        self._models, self._address, self._workers = models, address, []

    def __enter__(self) -> "WorkerPool":
        self._own = not self._ray.is_initialized()
        if self._own:
            where = (
                {"address": self._address}
                if self._address
                else {
                    "num_cpus": self._number * self._needs["num_cpus"],
                    "include_dashboard": False,
                }
            )
            self._ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        try:
            if self._models:  # the cluster's GPUs, not those of this machine, which may have none
                self._needs["num_gpus"] = share_of_gpu(
                    self._ray.cluster_resources().get("GPU", 0.0), self._number
                )
            self._workers = [self._start_worker() for _ in range(self._number)]
            # what cannot open says why, now
            self._ray.get([worker.ready.remote() for worker in self._workers])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        if self._own:
            self._ray.shutdown()

    def _start_worker(self):
        return self._ray.remote(**self._needs)(_Worker).remote(self._opened)

    def ask(self, job: Any, questions: Sequence[Any]) -> Iterator[tuple[Any, dict | Exception]]:
        """Each question once, with its case or with what kept it from getting one, in the order
        they come home.

        What fails together is asked one by one; a question that takes down `MAX_LOST_WORKERS`
        workers alone is given up.
        """
        waiting = collections.deque(
            list(questions[k : k + self._chunk]) for k in range(0, len(questions), self._chunk)
        )
        deaths: collections.Counter = collections.Counter()
        idle, busy = list(self._workers), {}
        try:
            while waiting or busy:
                while waiting and idle:
                    worker, part = idle.pop(), waiting.popleft()
                    busy[worker.answer.options(num_returns="streaming").remote(job, part)] = (
                        worker,
                        {q.id: q for q in part},
                    )
                (stream,), _ = self._ray.wait(list(busy), num_returns=1)
                worker, left = busy[stream]
                try:
                    case = self._ray.get(next(stream))
                    yield left.pop(case["id"]), case
                    continue
                except StopIteration:
                    del busy[stream]
                    idle.append(worker)
                    for question in left.values():
                        yield question, RuntimeError("the worker came back without a case for it")
                except (
                    self._ray.exceptions.RayActorError,
                    self._ray.exceptions.OwnerDiedError,
                ) as error:
                    del busy[stream]
                    self._workers[self._workers.index(worker)] = fresh = self._start_worker()
                    self._ray.get(fresh.ready.remote())
                    idle.append(fresh)
                    log.warning(
                        "a worker was lost with %d questions open; they go to another", len(left)
                    )
                    if len(left) == 1:
                        (question,) = left.values()
                        deaths[question.id] += 1
                        if deaths[question.id] == MAX_LOST_WORKERS:
                            yield (
                                question,
                                WorkerLost(
                                    f"{MAX_LOST_WORKERS} workers were lost over it"
                                    f" ({type(error).__name__})"
                                ),
                            )
                            continue
                    waiting.extend([question] for question in left.values())
                except self._ray.exceptions.RayTaskError as error:
                    del busy[stream]
                    idle.append(worker)
                    cause = error.cause or error
                    if len(left) == 1:
                        (question,) = left.values()
                        yield question, cause
                    else:
                        log.warning("%s; its %d questions are asked one by one", cause, len(left))
                        waiting.extend([question] for question in left.values())
        finally:
            for stream in busy:
                # the asker left; what still runs is of no use to anybody
                with contextlib.suppress(Exception):
                    self._ray.cancel(stream)


def share_of_gpu(gpus: float, workers: int) -> float:
    """What each worker asks for so that all of them find room at once: a GPU, or an equal part
    of one, or none."""
    if gpus < 1:
        return 0.0
    on_each = -(-workers // int(gpus))
    return 10_000 // on_each / 10_000  # Ray counts in ten-thousandths


class _Worker:
    """The actor: opens what it needs once, answers until it is killed."""

    def __init__(self, opened: Callable[[], AbstractContextManager[Answerer]]):
        self._stack = contextlib.ExitStack()
        self._answer = self._stack.enter_context(opened())

    def ready(self) -> None:
        """Answered once everything is open."""

    def answer(self, job: Any, questions: Sequence[Any]) -> Iterator[dict]:
        yield from self._answer(job, questions)
