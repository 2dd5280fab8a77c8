"""Questions: the published schema with its blemishes, and the paper's real files where they are
at hand."""

import dataclasses
import json
from pathlib import Path

import pytest

from agentlib import benchmarks, config, tasks
from agentlib.benchmarks import teaching


def published(tmp_path, *entries):
    file = tmp_path / "set.json"
    file.write_text(json.dumps({"metadata": {}, "examples": list(entries)}), encoding="utf-8")
    return file


def read(tmp_path, *entries):
    return tasks.read(published(tmp_path, *entries), "some-set", "math", "train")


def test_an_entry_becomes_a_question(tmp_path):
    (question,) = read(
        tmp_path,
        {"id": 7, "question": " What? ", "answer": "42", "level": "Level 4", "type": "Algebra"},
    )
    assert question == tasks.Question(
        "some-set-7", "some-set", "What?", "42", "math", "4", "Algebra", "train"
    )


def test_entries_without_a_gold_answer_or_asked_twice_are_left_out_with_a_notice(tmp_path, caplog):
    found = read(
        tmp_path,
        {"id": 1, "question": "A?", "answer": "a"},
        {"id": 124, "question": "B?", "answer": None},
        {"id": 3, "question": "A?", "answer": "a"},
        {"id": 4, "question": "C?", "answer": 0},
    )
    assert [(q.id, q.answer) for q in found] == [("some-set-1", "a"), ("some-set-4", "0")]
    assert "2 entries" in caplog.text and "124, 3" in caplog.text


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (13138980.0, "13138980"),
        (-54.0, "-54"),
        (0.25, "0.25"),
        ("025", "025"),
        (["a", "b"], "a, b"),
        (None, None),
        ("", None),
        ([], None),
        (3, "3"),
        (0.0, "0"),
        (float("nan"), None),
        (12345678901234567890123, "12345678901234567890123"),
        ([None, 2.0], "2"),
    ],
)
def test_gold_answers_become_text(answer, expected):
    assert tasks.gold(answer) == expected


@pytest.mark.parametrize(
    ("answer", "domain", "expected"),
    [(["a", "b", "a"], "factual", ("a", "b")), (["a", "b"], "math", ("a, b",)), ({"value": "a", "aliases": ["b"]}, "factual", ("a", "b")),
     ({"text": ["a"]}, "factual", ("a",)), (None, "factual", ()), ([], "math", ()), ([None], "factual", ()), (3.0, "factual", ("3",))],
)  # fmt: skip
def test_gold_answers_in_every_shape(answer, domain, expected):
    assert tasks.golds(answer, domain) == expected


def test_other_names_of_an_answer_are_kept(tmp_path):
    entries = [
        {"id": 1, "question": "A?", "answer": ["a", "b"]},
        {"id": 2, "question": "B?", "answer": "c", "answer_aliases": ["d"]},
    ]
    found = tasks.read(published(tmp_path, *entries), "some-set", "factual", "test")
    assert [(q.answer, q.aliases) for q in found] == [("a", ("b",)), ("c", ("d",))]


def test_a_list_of_entries_and_lines_of_them_are_read_as_well(tmp_path):
    entries = [
        {"id": 1, "question": "A?", "answer": "a"},
        {"id": 2, "question": "B?", "answer": "b"},
    ]
    for text in (
        json.dumps(entries),
        "\ufeff" + json.dumps({"examples": entries}),
        "\n".join(map(json.dumps, entries)),
    ):
        (tmp_path / "set.json").write_text(text, encoding="utf-8")
        assert [q.id for q in tasks.read(tmp_path / "set.json", "s", "math", "test")] == [
            "s-1",
            "s-2",
        ]


def test_two_questions_of_one_id_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"set\.json entries 0 and 1 have the same id 1, expected it once"
    ):
        read(
            tmp_path,
            {"id": 1, "question": "A?", "answer": "a"},
            {"id": 1, "question": "B?", "answer": "b"},
        )


@pytest.mark.parametrize(
    "entry",
    [{"id": 1, "question": None, "answer": "a"}, {"id": None, "question": "A?", "answer": "a"}],
)
def test_a_null_field_is_a_missing_one(tmp_path, entry):
    with pytest.raises(
        ValueError, match=r"entry 0 has fields .*, expected 'id', 'question' and 'answer'"
    ):
        read(tmp_path, entry)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("aime_90", "aime"), ("gsm_hard", "gsm-hard"), ("MATH500", "math500"), ("2wiki", "2wikimultihopqa"), ("HotpotQA", "hotpotqa"),
     ("olymath", "olymmath"), ("aime_slice", "aime-slice"), ("musique_500", "musique"), ("math-hard", "math-hard-train")],
)  # fmt: skip
def test_a_set_spelt_in_another_way_is_the_one_that_was_meant(name, meant):
    with pytest.raises(
        ValueError,
        match=(
            f"question set '{name}' is unknown, expected one of hotpotqa, .*; did you mean"
            f" '{meant}'"
        ),
    ):
        benchmarks.load(name)


@pytest.mark.parametrize(
    ("level", "expected"), [(5, "5"), ("Level 5", "5"), ("hard", "hard"), (None, "")]
)
def test_levels_of_train_and_test_files_read_the_same(tmp_path, level, expected):
    (question,) = read(tmp_path, {"id": 1, "question": "A?", "answer": "a", "level": level})
    assert question.level == expected


@pytest.mark.parametrize("missing", ["id", "question"])
def test_a_missing_field_names_file_entry_and_fields(tmp_path, missing):
    entry = {"id": 1, "question": "A?", "answer": "a"}
    lacking = {k: v for k, v in entry.items() if k != missing}
    with pytest.raises(ValueError) as error:
        read(tmp_path, entry, lacking)
    text = str(error.value)
    assert (
        str(tmp_path / "set.json") in text
        and "entry 1" in text
        and "expected 'id', 'question' and 'answer'" in text
    )


def test_a_set_without_any_gold_answer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"set\.json has no question with a gold answer"):
        read(tmp_path, {"id": 1, "question": "A?", "answer": None})


def test_an_unknown_set_is_named_with_the_known_ones():
    for load in (tasks.load, benchmarks.load):
        with pytest.raises(ValueError, match=r"'hotpot' is unknown, expected one of hotpotqa, "):
            load("hotpot")


def test_a_damaged_download_is_refused_by_its_checksum(tmp_path, monkeypatch):
    def transfer(url, output_file, *_, **__):
        (
            output_file.write(b"{}")
            if hasattr(output_file, "write")
            else Path(output_file).write_bytes(b"{}")
        )

    monkeypatch.setenv("AGENTLIB_HOME", str(tmp_path))
    monkeypatch.setattr("pooch.core.choose_downloader", lambda *_, **__: transfer)
    with pytest.raises(ValueError, match=r"(?i)sha256 hash"):
        tasks.load("aime")
    assert not (tmp_path / "tasks" / tasks.PUBLISHED["aime"].file).exists(), (
        "nothing damaged is kept"
    )


# Questions left after the blemishes: MuSiQue asks one twice, MATH (train) lacks two gold answers in
# each file.
COUNTS = {
    "hotpotqa": 500, "bamboogle": 125, "musique": 499, "2wikimultihopqa": 500, "math500": 500, "gsm-hard": 500,
    "aime": 90, "olymmath": 200, "hotpotqa-train": 1000, "math-hard-train": 998, "math-medium-train": 998,
}  # fmt: skip


@pytest.mark.parametrize("name", tasks.PUBLISHED)
def test_the_papers_files_load_from_the_cache_by_checksum(paper_files, name):
    found = tasks.load(name)
    assert len(found) == COUNTS[name]
    assert len({q.id for q in found}) == len({q.text for q in found}) == len(found)
    assert all(q.answer and q.text and q.benchmark == name for q in found)
    assert {q.split for q in found} == {"train" if name.endswith("-train") else "test"}
    assert [q.id for q in tasks.load(name, 5)] == [q.id for q in found[:5]]


def test_the_papers_files_keep_levels_subjects_and_signs(paper_files):
    assert {q.level for q in tasks.load("math500")} == set("12345")
    assert {q.level for q in tasks.load("math-hard-train")} == {"4", "5"}
    assert {q.level for q in tasks.load("math-medium-train")} == {"2", "3"}
    assert len({q.subject for q in tasks.load("math500")}) == 7
    golds = [q.answer for q in tasks.load("gsm-hard")]
    assert sum(g.startswith("-") for g in golds) == 54 and not any(g.endswith(".0") for g in golds)


def test_olymmath_questions_keep_their_subject(paper_files):
    assert "Combinatorics" in {q.subject for q in tasks.load("olymmath")}


def test_training_questions_take_turns_and_test_questions_keep_their_order():
    cfg = config.load("smoke", train_questions=3, questions=2)
    train, test = benchmarks.training_questions(cfg), benchmarks.test_questions(cfg)
    assert [q.benchmark for q in train] == list(cfg.train_sets) * 3
    assert [q.benchmark for q in test] == [name for name in cfg.benchmarks for _ in range(2)]


def test_a_fingerprint_names_whole_sets_and_changes_with_a_word(monkeypatch):
    before = benchmarks.fingerprint(("teaching-math",))
    assert before == benchmarks.fingerprint(("teaching-math",))
    assert before != benchmarks.fingerprint(("teaching-hotpot",))
    first, *others = teaching.load("teaching-math")
    changed = [dataclasses.replace(first, text=first.text + "!"), *others]
    monkeypatch.setattr(teaching, "load", lambda *_: changed)
    assert benchmarks.fingerprint(("teaching-math",)) != before
