"""Grading: hand-checked pairs, the paper's own golds, properties, the worker's limits, and the judge."""

import csv
import json
import threading
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentlib import config, maths_text, score, score_worker
from agentlib.judge import Judge

PAIRS = list(csv.DictReader(Path(__file__).with_name("grading_pairs.csv").read_text(encoding="utf-8").splitlines()))
FILES = {
    "math_500_20250414": "math", "olymath_200_20250511": "math", "aime_90_20250504": "math",
    "gsm_hard_500_20250507": "math", "hotpotqa_500_20250422": "factual", "bamboogle_125_20250507": "factual",
    "musique_500_20250504": "factual", "2wikimultihopqa_500_20250511": "factual",
}  # fmt: skip
quick = settings(max_examples=150, deadline=None, derandomize=True)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p['domain']}:{p['prediction']}~{p['gold']}"[:60])
def test_hand_checked_pairs(pair):
    verdict = score.grade(pair["prediction"], pair["gold"], pair["domain"])
    assert verdict.correct == (pair["correct"] == "1"), f"{pair['note']}: {verdict}"


@pytest.mark.parametrize("name", FILES)
def test_every_gold_is_right_against_itself(name):
    places = [config.home() / "tasks" / f"{name}.json", config.ROOT.parent / "shared" / "data" / f"{name}.json"]
    file = next((place for place in places if place.exists()), None)
    if file is None:
        pytest.skip(f"{name}.json is in none of {', '.join(map(str, places))}")
    golds = {str(e["answer"]) for e in json.loads(file.read_text())["examples"] if e["answer"] not in (None, "")}
    for gold in golds:
        for written in (gold, rf"\boxed{{{gold}}}", rf"So the answer is $\boxed{{{gold}}}$."):
            assert score.grade(written, gold, FILES[name]).correct, (written, gold)


@pytest.mark.parametrize(
    ("prediction", "gold", "correct"),
    [
        (33, "033", True), (33.0, "033", True), (0.5, r"\frac12", True), (-0.0, "0", True), (1.0001, "1", False),
        ([3, 5, 7], "3, 5, 7", True), ([7, 3, 5], "3, 5, 7", True), ([2, 4], "(2,4)", True), ([4, 2], "(2,4)", False),
        ([[-1, 0], [0, -1]], r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}", True), ([5], "5", True),
        ([-18, -49, 96], r"\begin{pmatrix} -18 \\ -49 \\ 96 \end{pmatrix}", True), ({"x": 2, "y": 4}, "(2,4)", True),
        ([5, 6], "5", False), (True, "1", False), (float("nan"), "1", False), (float("inf"), r"\infty", True),
        (2**70, str(2**70), True), (2**70 + 1, str(2**70), False),
    ],
)  # fmt: skip
def test_plain_values(prediction, gold, correct):
    assert score.grade(prediction, gold).correct is correct


def test_an_integer_too_long_to_write_is_graded():
    assert not score.grade(7**9000, "1").correct and score.normalise(7**9000) == score.normalise(7**9000)


def test_factual_values_and_f1():
    assert score.grade(1234, "1,234", "factual").exact_match
    assert score.grade(True, "yes", "factual").correct and not score.grade(False, "yes", "factual").correct
    assert score.grade(["Paris"], "Paris", "factual").correct
    assert not score.grade(["Paris", "London"], "Paris", "factual").correct
    assert score.grade(["Ethan Hawke", "Angelina Jolie"], "Angelina Jolie and Ethan Hawke", "factual").correct
    half = score.grade("Richard Milhous Nixon", "Richard Nixon", "factual")
    assert not half.correct and half.f1 == pytest.approx(0.8)
    assert score.grade("no", "yes no", "factual").f1 == 0.0
    assert score.grade("NYC", "New York City", "factual", aliases=("NYC", "New York")).exact_match


@pytest.mark.parametrize("empty", [None, "", "  ", [], {}])
@pytest.mark.parametrize("domain", ["math", "factual"])
def test_no_answer_is_wrong(empty, domain):
    assert score.grade(empty, "1", domain) == score.Grade(False, False, 0.0, "no answer")


def test_a_missing_gold_and_an_unknown_domain():
    assert score.grade("1", "").reason == "no gold answer"
    with pytest.raises(ValueError, match="domain is 'maths', expected"):
        score.grade("1", "1", "maths")


@pytest.mark.parametrize(
    ("answers", "domain"),
    [
        (["1,234.0", 1234, "1234", "01234", 1234.0, r"1,\!234"], "math"),
        ([r"\frac12", "0.5", "1/2", 0.5, r"\dfrac{1}{2}", ".5"], "math"),
        (["2*sqrt(3)", r"2\sqrt{3}", r"2\sqrt3", r"2 \cdot \sqrt{3}"], "math"),
        (["1,-2", "-2, 1", r"-2 \text{ and } 1"], "math"),
        (["5 May 2001", "May 5, 2001", "2001-05-05"], "factual"),
        (["The Beatles", "beatles", "Beatles."], "factual"),
    ],
)
def test_equal_answers_have_equal_keys(answers, domain):
    assert len({score.normalise(a, domain) for a in answers}) == 1
    assert score.normalise("1,234.0") == "1234"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{1} no, \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\boxed{[0,1)}", "[0,1)"),
        ("Hence the answer is 42.", "42"),
        ("The final answer is: **3.14**.", "3.14"),
        ("Answer: Paris. It is in France.\n", "Paris"),
        ("**Answer:** J. K. Rowling", "J. K. Rowling"),
        ("12 + 30 = 42\n#### 42", "42"),
        ("the answer is 1\nwait, the answer is 2", "2"),
        ("I do not know", None),
        ("", None),
    ],
)
def test_extract_answer(text, answer):
    assert score.extract_answer(text) == answer


balanced = st.text(st.characters(exclude_characters="{}", exclude_categories=("Cs",)), min_size=1, max_size=40)


@given(balanced.map(str.strip).filter(bool), st.text(max_size=60))
def test_a_box_gives_back_what_was_put_into_it(inside, before):
    assert score.extract_answer(rf"{before} \boxed{{{inside}}} and so on.") == inside


@given(st.text(st.one_of(st.characters(), st.sampled_from("{}\\.:#* \nboxedanswer is")), max_size=200))
def test_what_is_extracted_stands_in_the_text(text):
    found = score.extract_answer(text)
    assert found is None or (found and found in text)


numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.fractions().map(str))
words = st.text(st.characters(categories=["Ll", "Lu", "Nd"]), min_size=1, max_size=20)
texts = st.one_of(st.text(max_size=60), st.text("0123456789abxy()[]{}\\,.^_-+*/=<> $%&fracsqrtpmi", max_size=60))


@quick
@given(numbers)
def test_a_number_is_itself(x):
    assert score.grade(x, str(x)).correct


@quick
@given(words)
def test_a_word_is_itself(x):
    assert score.grade(x, x, "factual").correct and score.grade(x, x, "math").correct


@quick
@given(st.integers(), st.integers())
def test_different_integers_differ(x, y):
    assert score.grade(x, str(y)).correct == (x == y)
    assert score.grade(f"{x:,}", str(y)).correct == (x == y)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(texts)
def test_a_key_is_its_own_key(text):
    for domain in ("math", "factual"):
        key = score.normalise(text, domain)
        assert score.normalise(key, domain) == key


@settings(max_examples=60, deadline=None, derandomize=True)
@given(texts, st.sampled_from(["1", r"\frac{1}{2}", "(2,4)", r"x^2+1", r"1 \pm \sqrt{19}", "x=5"]))
def test_no_text_breaks_the_grader(text, gold):
    assert isinstance(score.grade(text, gold, seconds=2).correct, bool)


@pytest.mark.parametrize(
    "text",
    ["(" * 2000, "^(" * 900, r"\text{" * 300, "1," * 1000, " " * 1990 + "1", r"\frac" * 390, "1" * 1999, "9" * 9**5],
)
def test_no_text_holds_up_normalising(text):
    start = time.perf_counter()
    score.normalise(text, "math"), score.normalise(text, "factual")
    assert time.perf_counter() - start < 2


def test_a_hopeless_comparison_times_out_and_the_next_one_works():
    start = time.perf_counter()
    verdict = score.grade("9^{9^{9^9}}", r"\sqrt{2}", seconds=1)
    assert verdict.reason == "grading timed out" and not verdict.correct
    assert time.perf_counter() - start < 4
    assert score.grade("sqrt(8)", r"2\sqrt{2}", seconds=30).correct


def test_model_text_is_never_evaluated(tmp_path):
    mark = tmp_path / "mark"
    for text in (f"__import__('pathlib').Path('{mark}').touch()", f"open('{mark}','w')"):
        assert not score.grade(text, "x+1").correct and not score.grade(text, "1", "factual").correct
    assert not mark.exists()


def test_grading_works_off_the_main_thread():
    found = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(score.grade(f"sqrt({n}**2*3)", rf"{n}\sqrt{{3}}").correct))
        for n in range(2, 6)
    ]
    [t.start() for t in threads], [t.join() for t in threads]
    assert found == [True] * 4


def test_a_worker_that_dies_is_replaced():
    with score_worker.Grader() as grader:
        assert grader.equal("x+1", "1+x", seconds=30)
        grader._process.kill()
        grader._process.wait()
        assert grader.equal("x+1", "1+x", seconds=30)
    assert grader._process is None


@pytest.mark.parametrize(
    ("module", "content", "said"),
    [("math_verify", "import missing_grammar", r"cannot import 'missing_grammar' .*install it: .* -m pip install 'math-verify"),
     ("math_verify", "raise ImportError('broken')", r"cannot import 'math_verify' \(broken\); install it"),
     ("latex2sympy2_extended", "from sympy import nothing_of_this_name", r"cannot import 'sympy'"),
     ("math_verify", "import os; os._exit(3)", r"ended with status 3 before it was ready")],
)  # fmt: skip
def test_a_worker_that_cannot_start_says_at_once_why(tmp_path, monkeypatch, module, content, said):
    (tmp_path / f"{module}.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with score_worker.Grader() as grader, pytest.raises(RuntimeError, match=f"the grading worker {said}") as error:
        grader.equal("x+1", "1+x")
    assert "\n" not in str(error.value) and grader._process is None


def test_closing_bracket():
    assert maths_text.closing("([a,b)", 0) == -1 and maths_text.closing("[a,b)", 0) == 4
    assert maths_text.closing("{a{b}c}", 0, "{}") == 6 and maths_text.closing("(a", 0) == -1


def _judge(tmp_path, replies):
    judge = Judge("http://judge/v1", "tiny", tmp_path / "verdicts.jsonl")
    asked = []

    def answer(request):
        asked.append(json.loads(request.content))
        reply = replies[len(asked) - 1]
        if isinstance(reply, int):
            return httpx.Response(reply)
        return httpx.Response(200, json={"choices": [{"message": {"content": reply}}]})

    judge._client = httpx.Client(transport=httpx.MockTransport(answer))
    return judge, asked


def test_the_judge_asks_once_retries_and_remembers(tmp_path):
    judge, asked = _judge(tmp_path, [503, "CORRECT.", "incorrect"])
    assert judge.grade("Who?", "R. Nixon", "Richard Nixon").correct
    assert judge.grade("Who?", "R. Nixon", "Richard Nixon").correct
    assert not judge.grade("Who?", "Ford", "Richard Nixon").correct
    assert len(asked) == 3 and asked[0]["temperature"] == 0 and asked[0]["model"] == "tiny"
    again, asked_again = _judge(tmp_path, [])
    assert again.grade("Who?", "R. Nixon", "Richard Nixon").correct and not asked_again


def test_an_unreadable_verdict_is_an_error_and_is_not_kept(tmp_path):
    judge, _ = _judge(tmp_path, ["I think so", "CORRECT"])
    with pytest.raises(ValueError, match="expected CORRECT or INCORRECT"):
        judge.grade("Who?", "Nixon", "Richard Nixon")
    assert judge.grade("Who?", "Nixon", "Richard Nixon").correct
    assert judge.grade("Who?", None, "Richard Nixon").reason == "no answer"


def test_a_judge_that_stays_away_is_an_error(tmp_path):
    judge, asked = _judge(tmp_path, [401])
    with pytest.raises(httpx.HTTPStatusError):
        judge.grade("Who?", "Nixon", "Richard Nixon")
    assert len(asked) == 1 and not (tmp_path / "verdicts.jsonl").exists()
