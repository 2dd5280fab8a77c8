"""Records: appending, resuming, one writer a run, and summaries that count what was asked."""

import gzip
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agentlib import config, records
from agentlib.figures import statistics

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def items(*ids):
    return [SimpleNamespace(id=i) for i in ids]


def case(number, correct=True, benchmark="b", **more):
    return {"id": f"q{number}", "benchmark": benchmark, "correct": correct} | more


def test_what_was_appended_is_there_after_reopening_and_the_rest_is_to_do(tmp_path):
    with records.Run(tmp_path, "r", {"a": 1}) as run:
        run.append({"id": "q1", "x": 1})
        assert json.loads(run.file.read_text())["x"] == 1, "on the disk before the run is closed"
        run.append({"id": "q2", "x": 2})
    again = records.Run(tmp_path, "r", {"a": 1})
    assert again.folder == run.folder
    assert again.finished() == {"q1": {"id": "q1", "x": 1}, "q2": {"id": "q2", "x": 2}}
    assert [i.id for i in again.todo(items("q3", "q1", "q2", "q4"))] == ["q3", "q4"]
    assert records.read_json(run.folder / "config.json") == {"a": 1}


def test_a_case_with_an_error_is_tried_again_and_its_last_line_counts(tmp_path):
    with records.Run(tmp_path, "r", {}) as run:
        run.append({"id": "q1", "error": "ServerError: gone"})
        assert [i.id for i in run.todo(items("q1"))] == ["q1"]
        run.append({"id": "q1", "correct": True})
        assert run.todo(items("q1")) == []
    assert run.finished()["q1"]["correct"] is True
    assert len(list(records.read(run.file))) == 2


def test_a_fresh_run_has_everything_to_do(tmp_path):
    run = records.Run(tmp_path, "r", {})
    assert run.finished() == {} and len(run.todo(items("a", "b"))) == 2


def test_a_changed_configuration_is_another_folder_and_order_of_keys_is_not(tmp_path):
    one, same, other = (
        records.Run(tmp_path, "r", c)
        for c in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3})
    )
    assert one.folder == same.folder != other.folder
    assert records.Run(tmp_path, "s", {"a": 1, "b": 2}).folder != one.folder


def test_a_torn_last_line_is_dropped_with_a_notice_and_the_run_goes_on(tmp_path, caplog):
    with records.Run(tmp_path, "r", {}) as run:
        run.append({"id": "q1"})
    with open(run.file, "a") as stream:
        stream.write('{"id": "q2", "text": "half')
    with records.Run(tmp_path, "r", {}) as run:
        assert "torn last line" in caplog.text and str(run.file) in caplog.text
        assert [i.id for i in run.todo(items("q1", "q2"))] == ["q2"]
        run.append({"id": "q2"})
    assert [r["id"] for r in records.read(run.file)] == ["q1", "q2"]


def test_a_reader_leaves_out_a_torn_last_line(tmp_path, caplog):
    file = tmp_path / "r.jsonl"
    file.write_text('{"id": "q1"}\n{"id": "q2"')
    assert [r["id"] for r in records.read(file)] == ["q1"]
    assert "torn last line" in caplog.text


def test_a_last_line_that_only_lacks_its_end_is_whole(tmp_path, caplog):
    with records.Run(tmp_path, "r", {}) as run:
        run.append({"id": "q1"})
    run.file.write_bytes(run.file.read_bytes() + b'{"id": "q2"}')
    assert set(run.finished()) == {"q1", "q2"}
    with run:
        run.append({"id": "q3"})
    assert [r["id"] for r in records.read(run.file)] == [
        "q1",
        "q2",
        "q3",
    ] and "torn" not in caplog.text


def test_a_torn_account_of_time_does_not_swallow_the_next(tmp_path):
    with records.Run(tmp_path, "r", {}) as run:
        run.append({"id": "q1"})
    run.times.write_text('{"cases": 1, "sec')
    with run:
        run.append({"id": "q2"})
    assert [line["cases"] for line in records.read(run.times)] == [1]


def test_a_line_torn_in_the_middle_of_a_letter_is_only_torn(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_bytes(b'{"id": "q1"}\n{"id": "caf' + "é".encode()[:1])
    assert [r["id"] for r in records.read(file)] == ["q1"]


def test_a_broken_middle_line_names_file_and_line(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"id": "q1"}\n{"id": \n{"id": "q3"}\n')
    with pytest.raises(ValueError) as error:
        list(records.read(file))
    assert str(file) in str(error.value) and "line 2" in str(error.value)


def test_a_middle_line_of_broken_bytes_names_file_and_line(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_bytes(b'{"id": "q1"}\n{"id": "\xff\xfe"}\n{"id": "q3"}\n')
    with pytest.raises(ValueError) as error:
        list(records.read(file))
    assert str(file) in str(error.value) and "line 2" in str(error.value)


def test_a_line_that_is_no_object_names_file_and_line(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"id": "q1"}\n[1, 2]\n')
    with pytest.raises(ValueError, match=r"line 2 is list, expected a JSON object"):
        list(records.read(file))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl is missing"):
        list(records.read(tmp_path / "nothing.jsonl"))


def test_broken_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match=r"x\.json is not JSON"):
        records.read_json(tmp_path / "x.json")


HOLD = """
import sys
from pathlib import Path
from agentlib import records
with records.Run(Path(sys.argv[1]), "r", {"a": 1}) as run:
    print("open", flush=True)
    sys.stdin.readline()
    run.append({"id": "theirs"})
"""


FILL = """
import resource, sys
from pathlib import Path
from agentlib import records
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
with records.Run(Path(sys.argv[1]), "r", {}) as run:
    for k in range(100):
        run.append({"id": f"q{k}", "text": "x" * 40})
"""


def test_a_full_disk_stops_with_everything_so_far_intact(tmp_path):
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    run = records.Run(tmp_path, "r", {})
    # a file that may not grow any more, as on a full disk
    for room, kept in ((1000, 15), (1500, 23)):
        done = subprocess.run(
            [*command, str(room)], capture_output=True, text=True, cwd=config.ROOT
        )
        assert (
            done.returncode == 1
            and "free some disk space, then resume" in done.stderr.splitlines()[-1]
        ), done.stderr
        lines = run.file.read_text().splitlines()
        assert run.file.read_text().endswith("\n") and len(list(map(json.loads, lines))) == kept


def test_a_second_process_on_one_run_is_refused_and_may_go_on_later(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    other = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=config.ROOT
    )
    try:
        assert other.stdout.readline() == "open\n"
        run = records.Run(tmp_path, "r", {"a": 1})
        with pytest.raises(RuntimeError) as error, run:
            pass
        assert str(run.folder) in str(error.value) and "another process" in str(error.value)
        with records.Run(tmp_path, "r", {"a": 2}) as elsewhere:
            elsewhere.append({"id": "mine"})
        other.communicate("\n", timeout=30)
        with run:
            run.append({"id": "mine"})
        assert set(run.finished()) == {"theirs", "mine"}
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize("broken", ["config.json", "records.jsonl", "time.jsonl"])
def test_a_run_that_cannot_be_opened_or_closed_lets_its_lock_go(tmp_path, broken):
    run = records.Run(tmp_path, "r", {})
    (run.folder / broken).mkdir(parents=True)  # no file can be written where a folder is
    with pytest.raises(IsADirectoryError), run:
        run.append({"id": "q1"})
    (run.folder / broken).rmdir()
    with records.Run(tmp_path, "r", {}) as again:
        again.append({"id": "q2"})
    assert "q2" in again.finished()


@settings(max_examples=60)
@given(body=st.dictionaries(st.text(), JSON, max_size=5))
def test_any_record_comes_back_as_it_was_written(tmp_path_factory, body):
    record = body | {"id": "q1", "error": None}
    with records.Run(tmp_path_factory.mktemp("r"), "r", {}) as run:
        run.append(record)
        run.append({"id": "q2"})
    assert run.finished() == {"q1": record, "q2": {"id": "q2"}}


def parses(line):
    try:
        return isinstance(json.loads(line.decode("utf-8-sig", "surrogatepass")), dict)
    except ValueError:
        return False


@given(
    st.lists(
        st.one_of(st.binary(max_size=30), st.just(b'{"id": "a"}'), st.just(b"[1]"), st.just(b"")),
        max_size=6,
    )
)
def test_a_reader_of_any_bytes_gives_objects_or_names_the_line(tmp_path_factory, lines):
    file = tmp_path_factory.mktemp("any") / "r.jsonl"
    file.write_bytes(b"\n".join(lines))
    *whole, last = file.read_bytes().split(b"\n")
    if last.strip() and parses(last):
        whole.append(last)
    try:
        found = list(records.read(file))
    except ValueError as error:
        number = int(str(error).partition(" line ")[2].split()[0])
        with pytest.raises((ValueError, AttributeError)):
            dict(json.loads(whole[number - 1].decode("utf-8", "surrogatepass")).items())
    else:
        assert found == [json.loads(line) for line in whole if line.strip()] and all(
            isinstance(r, dict) for r in found
        )


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a\ud800b", "a?b"), ("\udc00", "?"), ("\ude00\ud83d", "??"), ("\ud83d\ude00", "😀"), ("\ud800\ud83d\ude00", "?😀"),
     ("Łódź 😀 \ufffd", "Łódź 😀 \ufffd"), ({"\ud800": ["\ud800", 1, None, {"k": "\udfff"}]}, {"?": ["?", 1, None, {"k": "?"}]})],
)  # fmt: skip
def test_half_a_surrogate_pair_becomes_a_question_mark_and_a_whole_one_its_character(
    given, expected
):
    assert records.replace_surrogates(given) == expected


@given(st.text(st.characters(exclude_categories=[])), st.text())
def test_any_text_can_be_encoded_once_its_surrogates_are_replaced_and_whole_text_stays(
    any_text, whole_text
):
    records.replace_surrogates(any_text).encode("utf-8")  # raises for any half that is left
    assert records.replace_surrogates(whole_text) == whole_text


def test_what_json_has_no_word_for_is_null_and_files_stay_json(tmp_path):
    row = {"id": "q1", "nan": float("nan"), "deep": [{"inf": float("-inf")}, 1.5], "half": "\ud83d"}
    with records.Run(tmp_path, "r", {}) as run:
        run.append(row)
    records.write_json(tmp_path / "one.json", row)
    records.write_lines(tmp_path / "lines.jsonl", [row])
    strict = {"id": "q1", "nan": None, "deep": [{"inf": None}, 1.5], "half": "?"}
    for file in (run.file, tmp_path / "one.json", tmp_path / "lines.jsonl"):
        assert json.loads(file.read_text("utf-8"), parse_constant=pytest.fail) == strict
    run.file.write_text('{"id": "q2", "correct": NaN}\n')
    assert run.finished() == {"q2": {"id": "q2", "correct": None}}, "NaN is true to Python"


ROWS = {
    "lines": b'{"a": 1}\n{"a": "\xc3\xa9"}\n', "no last line end": b'{"a": 1}\n{"a": "\xc3\xa9"}', "CRLF": b'{"a": 1}\r\n{"a": "\xc3\xa9"}\r\n',
    "BOM": b'\xef\xbb\xbf{"a": 1}\n{"a": "\xc3\xa9"}', "empty lines": b'\n\n{"a": 1}\n \n{"a": "\xc3\xa9"}\n\n', "list": b'[{"a": 1}, {"a": "\xc3\xa9"}]',
    "list over lines": b'\n[\n {"a": 1},\n {"a": "\xc3\xa9"}\n]\n', "BOM and list": b'\xef\xbb\xbf[{"a": 1}, {"a": "\xc3\xa9"}]',
    "gzip": gzip.compress(b'{"a": 1}\n{"a": "\xc3\xa9"}'), "gzip of a list": gzip.compress(b'[{"a": 1}, {"a": "\xc3\xa9"}]'),
}  # fmt: skip


@pytest.mark.parametrize("form", ROWS)
def test_other_peoples_rows_are_read_in_every_form(tmp_path, form):
    (tmp_path / "rows").write_bytes(ROWS[form])
    assert list(records.read_rows(tmp_path / "rows")) == [{"a": 1}, {"a": "é"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b'{"a": 12345678901234567890123}', [{"a": 12345678901234567890123}]), (b'{"a": NaN}', [{"a": None}]), (b"", []), (b"\n", []),
     (b'{"a": "\\ud83d", "\\udc00": 1}', [{"a": "?", "?": 1}]), (b'{\n "a": 1\n}', [{"a": 1}]), (b"[]", [])],
)  # fmt: skip
def test_rows_come_as_they_are_meant(tmp_path, content, expected):
    (tmp_path / "rows").write_bytes(content)
    assert list(records.read_rows(tmp_path / "rows")) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [(b'{"a": 1}\n{"a": \n', "line 2 is not JSON"), (b'{"a": 1}\n[1]', "line 2 is list, expected a JSON object"),
     (b'[{"a": 1}, 2]', "entry 2 is int, expected a JSON object"), (b'{"a": \n{"a": 1}\n', "is not JSON .* at line 3, column 1"),
     (b'{"a": 1}\n{"a": "caf\xe9"}', "line 2 is not UTF-8"), (b'{"a": 1}\n{"a": ' + b"9" * 5000 + b"}", "line 2 cannot be read"),
     (b'{"a": 1}\n{"a": ' + b"[" * 9000, "line 2 cannot be read"), (gzip.compress(b'{"a": 1}\n' * 99)[:-9], "is no whole gzip file")],
)  # fmt: skip
def test_rows_that_are_none_get_a_sentence(tmp_path, content, said):
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(ValueError, match=rf"rows {said}"):
        list(records.read_rows(tmp_path / "rows"))


def test_half_of_a_surrogate_pair_does_not_end_a_run(tmp_path):
    with records.Run(tmp_path, "r", {}) as run:
        run.append({"id": "q1", "text": json.loads('"\\ud83d"')})
    assert "q1" in run.finished()


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4))
def test_whole_files_of_lines_come_back_too(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("w") / "rows.jsonl"
    records.write_lines(file, rows)
    assert list(records.read(file)) == rows


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (3, 7), (250, 500), (1, 90)])
def test_the_interval_is_wilsons(right, n):
    z = stats.norm.ppf(0.975)
    p = right / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert statistics.wilson_interval(right, n) == pytest.approx(
        (middle - half, middle + half), abs=1e-12
    )
    low, high = statistics.wilson_interval(right, n)
    assert 0 <= low <= p <= high <= 1


def test_no_questions_have_no_interval():
    assert all(math.isnan(v) for v in statistics.wilson_interval(0, 0))


def test_a_summary_counts_questions_asked_not_lines():
    lines = [case(1), case(2, False), case(3, None, error="x"), case(3), case(4, None, error="x")]
    row = statistics.summarise(statistics.to_frame(lines), ["benchmark"], asked=6).iloc[0]
    assert (row.asked, row.answered, row.errors, row.correct) == (6, 3, 3, 2)
    assert row.accuracy == pytest.approx(2 / 6)
    assert (row.low, row.high) == pytest.approx(statistics.wilson_interval(2, 6))


def test_without_a_number_asked_the_distinct_questions_count():
    row = statistics.summarise(
        statistics.to_frame([case(1), case(1), case(2, None, error="x")]), ["benchmark"]
    ).iloc[0]
    assert (row.asked, row.answered, row.errors, row.correct) == (2, 1, 1, 1)


def test_each_group_has_its_own_number_asked():
    lines = [case(1, method="m"), case(2, False, "c", method="m")]
    one = statistics.summarise(
        statistics.to_frame(lines), ["benchmark"], asked={"b": 4, "c": 2}
    ).set_index("benchmark")
    two = statistics.summarise(
        statistics.to_frame(lines), ["method", "benchmark"], asked={("m", "b"): 4, ("m", "c"): 2}
    )
    assert one.loc["b", "accuracy"] == 0.25 and one.loc["c", "accuracy"] == 0
    assert two["asked"].tolist() == [4, 2]


def test_a_group_of_errors_alone_is_a_group_without_answers():
    row = statistics.summarise(
        statistics.to_frame([{"id": "q1", "benchmark": "b", "error": "x"}]), ["benchmark"]
    ).iloc[0]
    assert (row.asked, row.answered, row.errors, row.correct) == (1, 0, 1, 0)


def table(rights, benchmark="b"):
    return pd.DataFrame([case(i, r, benchmark) for i, r in enumerate(rights)])


def test_two_methods_are_compared_on_the_same_questions():
    a = table([True, False, False, False, True, None, True])
    b = table([True, True, True, True, False, True])
    found = statistics.compare(a, b.sample(frac=1, random_state=1))
    assert (found["n"], found["only_a"], found["only_b"]) == (5, 1, 3), (
        "errored and unshared questions are left out"
    )
    assert found["accuracy_a"] == pytest.approx(2 / 5) and found["accuracy_b"] == pytest.approx(
        4 / 5
    )
    assert found["difference"] == pytest.approx(2 / 5) and found["low"] <= 0.4 <= found["high"]
    assert found["p"] == pytest.approx(stats.binomtest(1, 4).pvalue)


def test_one_id_in_two_benchmarks_is_two_questions():
    a = pd.concat([table([True], "b"), table([False], "c")])
    found = statistics.compare(a, pd.concat([table([False], "c"), table([True], "b")]))
    assert found["n"] == 2 and found["only_a"] == found["only_b"] == 0 and found["p"] == 1.0


def test_comparing_is_repeatable_and_needs_a_shared_question():
    a, b = table([True, False, True]), table([False, True, True])
    assert statistics.compare(a, b) == statistics.compare(a, b)
    with pytest.raises(ValueError, match="share no finished question"):
        statistics.compare(a, table([True], "other"))
    with pytest.raises(
        ValueError, match=r"mix several values of model \(s, m\), expected one experiment"
    ):
        statistics.compare(pd.concat([a.assign(model="s"), a.assign(model="m")]), b)


@pytest.mark.parametrize(
    ("a", "b", "ratio", "low", "high"),
    [
        (0, 0, 1.0, -0.324, 0.324),  # both always wrong: Wilson's upper limit of 0 in 8 is 0.324
        (1, 1, 1.0, -0.324, 0.324),
        # a question that differs could be lost instead of won, never better than won
        (0, 1, 1.0, 1 - 2 * 0.324, 1.0),
        (1, 0, 1.0, -1.0, -1 + 2 * 0.324),
        (0, 0, 0.5, -0.5 * 0.324, 0.324),
        (1, 0, 0.5, -0.5, -0.5 + 1.5 * 0.324),
    ],
)
def test_pairs_that_are_all_alike_claim_no_certainty(a, b, ratio, low, high):
    found = statistics.compare(table([bool(a)] * 8), table([bool(b)] * 8), ratio=ratio)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-3)
    assert found["low"] <= found["difference"] <= found["high"]
    many = statistics.compare(table([bool(a)] * 800), table([bool(b)] * 800), ratio=ratio)
    assert many["high"] - many["low"] < 0.05 * (high - low), "more questions settle more"


def test_a_comparison_is_tested_against_its_own_margin():
    # ten questions more, none lost
    a, b = table([True] * 60 + [False] * 40), table([True] * 70 + [False] * 30)
    zero = statistics.compare(a, b)
    assert zero["p"] == pytest.approx(stats.binomtest(0, 10).pvalue) and zero["low"] > 0
    assert (
        statistics.compare(a, b, margin=-0.05)["p"] < 0.01
        and statistics.compare(a, b, margin=0.09)["p"] > 0.5
    )
    assert statistics.compare(a, b, margin=0.3)["p"] < 0.01, "two-sided: far below its margin, too"
    assert statistics.compare(a, b, margin=0.09)["low"] == zero["low"], (
        "the margin moves the test, not the interval"
    )
    assert statistics.compare(a, a)["p"] == 1.0 and statistics.compare(a, a, margin=-0.05)[
        "p"
    ] == pytest.approx(0.95**100)


def test_half_of_a_share_is_compared_question_by_question():
    a, b = table([True] * 40 + [False] * 60), table([True] * 10 + [False] * 90)
    half = statistics.compare(a, b, ratio=0.5)
    assert half["difference"] == pytest.approx(0.1 - 0.2) and half["high"] < 0 and half["p"] < 0.01
    nearly = statistics.compare(a, table([True] * 19 + [False] * 81), ratio=0.5)
    assert nearly["difference"] < 0 < nearly["high"] and nearly["p"] > 0.05


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([0.02, 0.001], [0.02, 0.002]),
    ],
)
def test_p_values_are_corrected_by_holm(p, adjusted):
    assert statistics.holm(p) == pytest.approx(adjusted)


def test_a_group_of_two_experiments_is_refused_and_more_answers_than_asked_too():
    lines = statistics.to_frame([case(1, model="s", n=1), case(1, model="s", n=8)])
    with pytest.raises(ValueError, match=r"several values of n \(1, 8\)"):
        statistics.summarise(lines, ["benchmark"])
    assert statistics.summarise(lines, ["n"])["asked"].tolist() == [1, 1]
    with pytest.raises(
        ValueError, match="group b has answers to 2 questions, expected at most the 1 asked"
    ):
        statistics.summarise(table([True, True]), ["benchmark"], asked=1)
    two = statistics.to_frame([case(1), case(1, False, "c")])
    assert statistics.summarise(two.assign(all=""), ["all"])[
        ["asked", "correct"]
    ].to_numpy().tolist() == [[2, 1]]


def test_a_slug_is_a_file_name():
    assert records.slug("Qwen2.5-Coder 0.5B/Instruct!") == "qwen2.5-coder-0.5b-instruct"
