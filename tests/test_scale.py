"""A Ray cluster of two workers on this machine: every question once, whatever happens to the
workers."""

import contextlib
import functools
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import SMOL, ask

from agentlib import benchmarks, cases, config, distill, evaluate, scale, teach
from agentlib.benchmarks import search
from agentlib.evaluate import Condition
from agentlib.models import LocalModel
from agentlib.sandbox import Sandbox


@contextlib.contextmanager
def opened(folder: Path, manners):
    """An answerer that notes whom it answered for, and has `manners` (a function of the
    question's id)."""

    def answer(job, questions):
        for question in questions:
            manners(question.id, folder)
            with open(folder / "answered", "a") as stream:
                stream.write(f"{question.id} {os.getpid()}\n")
            yield {"id": question.id, "job": job, "worker": os.getpid()}

    yield answer


def polite(name, folder):
    time.sleep(0.02)


def dies_once(name, folder):
    time.sleep(0.02)
    if name == "q-5" and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def poison(name, folder):
    if name == "q-3":
        os.kill(os.getpid(), signal.SIGKILL)


def raises(name, folder):
    if name == "q-3":
        raise ConnectionError("the retriever is gone")


@pytest.fixture(scope="module")
def cluster():
    import ray

    here = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # workers import this file
    ray.init(
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env=here,
    )
    yield
    ray.shutdown()


def run(folder, manners, questions, chunk=4):
    with scale.WorkerPool(lambda: opened(folder, manners), 2, chunk=chunk) as pool:
        return list(pool.ask("condition", questions))


QUESTIONS = [ask(k) for k in range(12)]


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_every_question_comes_home_once_from_two_workers(cluster, tmp_path):
    found = run(tmp_path, polite, QUESTIONS)
    assert sorted(q.id for q, _ in found) == sorted(q.id for q in QUESTIONS)
    assert all(case["id"] == question.id and case["job"] == "condition" for question, case in found)
    assert len({case["worker"] for _, case in found}) == 2


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_worker_that_is_killed_loses_only_what_it_had_not_finished(cluster, tmp_path):
    found = run(tmp_path, dies_once, QUESTIONS)
    assert sorted(q.id for q, _ in found) == sorted(q.id for q in QUESTIONS), "each once"
    assert all(isinstance(case, dict) for _, case in found)
    answered = [line.split()[0] for line in (tmp_path / "answered").read_text().splitlines()]
    repeated = {name for name in answered if answered.count(name) > 1}
    assert repeated <= {"q-4"}, "at most the one whose case was on its way home"


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_question_that_kills_its_workers_costs_only_itself(cluster, tmp_path):
    found = dict((question.id, case) for question, case in run(tmp_path, poison, QUESTIONS))
    lost = found.pop("q-3")
    assert isinstance(lost, cases.OUTAGES) and "2 workers were lost over it" in str(lost)
    assert len(found) == 11 and all(isinstance(case, dict) for case in found.values())


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_an_error_is_told_of_its_question_alone(cluster, tmp_path):
    found = dict((question.id, case) for question, case in run(tmp_path, raises, QUESTIONS))
    error = found.pop("q-3")
    assert isinstance(error, ConnectionError) and str(error) == "the retriever is gone"
    assert len(found) == 11 and all(isinstance(case, dict) for case in found.values())


@contextlib.contextmanager
def placed():
    """An answerer that tells its worker's share of a GPU."""
    import ray

    share = ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)
    yield lambda job, questions: ({"id": question.id, "gpu": share} for question in questions)


@pytest.mark.full
@pytest.mark.parametrize(("models", "share"), [(True, 0.5), (False, 0.0)])
def test_workers_that_run_models_share_the_clusters_gpu_whatever_this_process_has(
    cluster, models, share
):
    """The cluster counts a GPU (which need not be real for this); torch in this process need not
    see one."""
    with scale.WorkerPool(placed, 2, chunk=1, models=models) as pool:
        assert {case["gpu"] for _, case in pool.ask("condition", QUESTIONS)} == {share}


@pytest.mark.parametrize("gpus", [0, 0.5, 1, 2, 3, 8])
@pytest.mark.parametrize("workers", [1, 2, 3, 6, 7, 16])
def test_all_workers_find_room_on_the_gpus_at_once(gpus, workers):
    share = scale.share_of_gpu(gpus, workers)
    assert 0 <= share <= 1 and (share > 0) == (gpus >= 1)
    if share:
        assert int(gpus) * int(1 / share + 1e-9) >= workers and round(share, 4) == share


@pytest.mark.parametrize(
    ("server", "models"), [(config.IN_PROCESS, True), ("http://host:8000", False), ("", False)]
)
def test_a_teachers_workers_have_gpus_where_it_runs_in_them(monkeypatch, server, models):
    asked = {}

    class Noted(contextlib.nullcontext):
        def __init__(self, opened, workers, **settings):
            super().__init__()
            asked.update(settings)

    monkeypatch.setattr(teach, "WorkerPool", Noted)
    with teach.open_teacher(
        config.load("laptop", teacher_records="", workers=2, teacher_server=server)
    ):
        assert asked["models"] is models


SMALL = {"students": (SMOL,), "benchmarks": ("teaching-math", "teaching-hotpot"), "questions": 2, "passages": 1600, "max_steps": 1,
         "step_tokens": 12, "cot_tokens": 12, "retriever": "bm25", "batch_questions": 1, "precision": "fp32"}  # fmt: skip


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_real_workers_write_the_same_cases_as_one_process(cluster, project):
    """Each with SmolLM2, an index and a sandbox of its own; agent and chain of thought."""
    alone = config.load("smoke", **SMALL)
    search.build(alone)
    asked = benchmarks.test_questions(alone)
    web_search = search.web_search(alone)
    with (
        Sandbox(tools={"web_search": web_search}) as box,
        scale.WorkerPool(functools.partial(untrained, alone, project), 2, chunk=1) as pool,
    ):
        model = LocalModel(SMOL, precision="fp32")
        for method in ("agent", "cot"):
            condition = Condition(SMOL, method, 1, alone.benchmarks)
            ours = evaluate.evaluate(alone, condition, model, asked, box=box, search=web_search)
            evaluate.condition_run(alone, condition).file.unlink()
            theirs = evaluate.evaluate(alone, condition, pool, asked)
            assert [timeless(case) for case in theirs] == [timeless(case) for case in ours]


@contextlib.contextmanager
def untrained(cfg, project):
    """As `evaluate.answerer`, in the test's project folder, of a student whose adapters nobody
    trained."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(config, "ROOT", project)
        patched.setattr(distill, "TEACHER_OF", {})
        with evaluate.answerer(cfg, SMOL, ()) as answer:
            yield answer


def timeless(case):
    return {k: v for k, v in case.items() if k not in ("seconds", "trace")} | {
        "said": [step["text"] for step in case.get("trace", [])]
    }


def test_a_crew_needs_workers():
    with pytest.raises(ValueError, match="workers=0 and chunk=32, expected 1 or more"):
        scale.WorkerPool(contextlib.nullcontext, 0)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_worker_that_cannot_open_says_why_before_anything_is_asked(cluster):
    def broken():
        raise FileNotFoundError("no adapter in runs/x")

    with pytest.raises(Exception, match="no adapter in runs/x"), scale.WorkerPool(broken, 1):
        pass
