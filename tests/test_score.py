"""Grading: hand-checked pairs, the paper's own golds, properties, the worker's limits, and the
judge."""

import csv
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentlib import config
from agentlib.score import grading, maths, maths_text, worker
from agentlib.score.judge import Judge

PAIRS = list(
    csv.DictReader(
        Path(__file__).with_name("grading_pairs.csv").read_text(encoding="utf-8").splitlines()
    )
)
FILES = {
    "math_500_20250414": "math", "olymath_200_20250511": "math", "aime_90_20250504": "math",
    "gsm_hard_500_20250507": "math", "hotpotqa_500_20250422": "factual", "bamboogle_125_20250507": "factual",
    "musique_500_20250504": "factual", "2wikimultihopqa_500_20250511": "factual",
}  # fmt: skip
quick = settings(max_examples=150, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    "pair", PAIRS, ids=lambda p: f"{p['domain']}:{p['prediction']}~{p['gold']}"[:60]
)
def test_hand_checked_pairs(pair):
    verdict = grading.grade(pair["prediction"], pair["gold"], pair["domain"])
    assert verdict.correct == (pair["correct"] == "1"), f"{pair['note']}: {verdict}"


@pytest.mark.parametrize("name", FILES)
def test_every_gold_is_right_against_itself(name):
    places = [
        config.home() / "tasks" / f"{name}.json",
        config.ROOT.parent / "shared" / "data" / f"{name}.json",
    ]
    file = next((place for place in places if place.exists()), None)
    if file is None:
        pytest.skip(f"{name}.json is in none of {', '.join(map(str, places))}")
    golds = {
        str(e["answer"])
        for e in json.loads(file.read_text())["examples"]
        if e["answer"] not in (None, "")
    }
    for gold in golds:
        for written in (gold, rf"\boxed{{{gold}}}", rf"So the answer is $\boxed{{{gold}}}$."):
            assert grading.grade(written, gold, FILES[name]).correct, (written, gold)


@pytest.mark.parametrize(
    ("prediction", "gold", "correct"),
    [
        (33, "033", True), (33.0, "033", True), (0.5, r"\frac12", True), (-0.0, "0", True), (1.0001, "1", False),
        ([3, 5, 7], "3, 5, 7", True), ([7, 3, 5], "3, 5, 7", True), ([2, 4], "(2,4)", True), ([4, 2], "(2,4)", False),
        ([[-1, 0], [0, -1]], r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}", True), ([5], "5", True),
        ([-18, -49, 96], r"\begin{pmatrix} -18 \\ -49 \\ 96 \end{pmatrix}", True), ({"x": 2, "y": 4}, "(2,4)", True),
        ([5, 6], "5", False), (True, "1", False), (float("nan"), "1", False), (float("inf"), r"\infty", True),
        (2**70, str(2**70), True), (2**70 + 1, str(2**70), False),
        ({5, 3}, "3,5", True), ({3, 5}, r"\{5, 3\}", True), (frozenset({3, 5}), "3,5", True), ({2, 4}, "(2,4)", False),
        (range(1, 4), "1,2,3", True), ({"a": 3}.values(), "3", True), ({"a": 3, "b": 5}.keys(), "3,5", False),
        (np.float64(0.5), r"\frac12", True), (np.int64(5), "5", True), ([np.int64(3), np.int64(5)], "3,5", True),
        (np.array([1, 2]), "(1,2)", True), (np.eye(2, dtype=int), r"\begin{pmatrix}1&0\\0&1\end{pmatrix}", True),
        (pd.Series([3, 5]), "3,5", True), ([[1, 2], [3, 4]], "[[1,2],[3,4]]", True), ([1, [2, 3]], "1,2,3", False),
        (Fraction(1, 3), r"\frac13", True), (Decimal("0.5"), r"\frac12", True), (complex(1, 2), "1+2i", True), (b"5", "5", True),
        (True, r"\text{yes}", True), (True, "True", True), (np.bool_(True), "1", False), (False, "0", False),
    ],
)  # fmt: skip
def test_plain_values(prediction, gold, correct):
    assert grading.grade(prediction, gold).correct is correct


def test_an_iterator_is_read_once_and_not_for_ever():
    assert (
        grading.grade((x for x in (3, 5)), "3,5").correct
        and grading.grade(map(str, (3, 5)), "3 and 5", "factual").correct
    )
    assert not grading.grade(itertools.count(), "3,5").correct


def test_an_integer_too_long_to_write_is_graded():
    assert not grading.grade(7**9000, "1").correct and grading.normalise(
        7**9000
    ) == grading.normalise(7**9000)


def test_factual_values_and_f1():
    assert grading.grade(1234, "1,234", "factual").exact_match
    assert (
        grading.grade(True, "yes", "factual").correct
        and not grading.grade(False, "yes", "factual").correct
    )
    assert grading.grade(["Paris"], "Paris", "factual").correct
    assert not grading.grade(["Paris", "London"], "Paris", "factual").correct
    assert grading.grade(
        ["Ethan Hawke", "Angelina Jolie"], "Angelina Jolie and Ethan Hawke", "factual"
    ).correct
    half = grading.grade("Richard Milhous Nixon", "Richard Nixon", "factual")
    assert not half.correct and half.f1 == pytest.approx(0.8)
    assert grading.grade("no", "yes no", "factual").f1 == 0.0
    assert grading.grade("NYC", "New York City", "factual", aliases=("NYC", "New York")).exact_match
    for paris in (
        {"Paris"},
        ("Paris",),
        [["Paris"]],
        {"name": "Paris"},
        np.str_("Paris"),
        np.array(["Paris"]),
        b"Paris",
    ):
        assert grading.grade(paris, "Paris", "factual").exact_match
    assert grading.grade({"B", "A"}, "A and B", "factual").correct
    assert (
        grading.grade(np.bool_(True), "yes", "factual").correct
        and grading.grade(True, "True", "factual").correct
    )


HALF = "\ud83d"


@pytest.mark.parametrize("domain", ["math", "factual"])
@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        (HALF, "1"),
        (f"x+{HALF}", "x+1"),
        ("x+1", f"{HALF}+x"),
        ([HALF, 1], "1, 2"),
        (f"\\boxed{{{HALF}}}", "1"),
        (HALF * 3000, "1"),
    ],
)
def test_half_a_surrogate_pair_is_a_wrong_answer_and_no_crash(prediction, gold, domain):
    assert not grading.grade(prediction, gold, domain).correct
    grading.normalise(prediction, domain).encode()


@pytest.mark.parametrize("domain", ["math", "factual"])
def test_two_halves_are_a_character(domain):
    assert (
        grading.grade("Paris \ud83d\ude00", "Paris 😀", domain).exact_match
        and grading.grade(HALF, HALF, domain).correct
    )


@pytest.mark.parametrize(
    ("text", "gold", "domain", "correct"),
    [
        ('Thought: It is Sikasso.\nCode:\n```py\nfinal_answer("Sikasso")\n```<end_code>', "Sikasso", "factual", True),
        ('Thought: The answer is either "Nauru" or "Kakamega".\n```py\nfinal_answer("Nauru")\n```', "Nauru", "factual", True),
        ('final_answer("Paris (France)")', "Paris", "factual", True), ("final_answer('The answer is Paris.')", "Paris", "factual", True),
        ('final_answer("Paris")\nfinal_answer("London")', "London", "factual", True),
        ('final_answer("Paris")\nfinal_answer("London")', "Paris", "factual", False), ("final_answer(True)", "yes", "factual", True),
        ("To give the answer, call final_answer(answer) in it.", "answer", "factual", False),
        ('answer = "Paris"\nfinal_answer(answer)', "Paris", "factual", False), ('final_answer("")', "Paris", "factual", False),
        ("Thought: The angle is 90 degrees.\n```py\nfinal_answer(90)\n```", r"90^\circ", "math", True),
        ("final_answer(answer=-3)", "-3", "math", True), ("final_answer([3, 5])", "3,5", "math", True), ("final_answer(1/3)", r"\frac13", "math", True),
        ("final_answer(x)", "x", "math", False), ("final_answer(3", "3", "math", False),
        ("final_answer(open('f'))", "f", "math", False), ("final_answer(" * 9, "1", "math", False),
        ("**Final Answer**\nParis", "Paris", "factual", True), ("Think.\n\n### Answer\n\n25", "25", "math", True),
        ("The remainder is 25.\nThe quotient is 7.", "7", "math", False),
    ],
)  # fmt: skip
def test_an_answer_that_was_written_as_a_call_or_under_a_heading(text, gold, domain, correct):
    assert grading.grade(text, gold, domain).correct is correct


def test_a_decimal_for_an_exact_value_says_so():
    reasons = [
        grading.grade(p, r"\frac{61}{33}").reason
        for p in (61 / 33, "61/33", "122/66", "1.848485", "1.8485")
    ]
    assert reasons == [
        "decimal of an exact value",
        "same form",
        "same form",
        "decimal of an exact value",
        "not equal",
    ]
    assert grading.grade(math.sqrt(2), r"\sqrt2").reason == "decimal of an exact value"
    assert (
        grading.grade("0.5", r"\frac12").reason == "same form"
        and grading.grade("2.50001", "2.5").reason == "equal"
    )


@pytest.mark.parametrize("empty", [None, "", "  ", [], {}])
@pytest.mark.parametrize("domain", ["math", "factual"])
def test_no_answer_is_wrong(empty, domain):
    assert grading.grade(empty, "1", domain) == grading.Grade(False, False, 0.0, "no answer")


def test_a_missing_gold_and_an_unknown_domain():
    assert grading.grade("1", "").reason == "no gold answer"
    with pytest.raises(ValueError, match="domain is 'maths', expected"):
        grading.grade("1", "1", "maths")


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
    assert len({grading.normalise(a, domain) for a in answers}) == 1
    assert grading.normalise("1,234.0") == "1234"


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
        (r"\boxed{3}, \boxed{5}", "3, 5"),
        (r"\boxed{2} or $\boxed{3}$", "2 or 3"),
        (r"either \boxed{x} \text{ and } y=\boxed{5}.", r"x \text{ and } 5"),
        (r"\boxed{1}, so \boxed{2}", "2"),
        (r"\boxed{1}. And \boxed{2}", "2"),
        (r"\boxed{\boxed{3}}", "3"),
        ("**Final answer**\n\nParis", "Paris"),
        ("That is the answer\nof them all", None),
        ("The answer is Warner Bros. Records.", "Warner Bros. Records"),
        ("The answer is Warner Bros. Records. It was founded in 1958.", "Warner Bros. Records"),
        ("The answer is St. Louis.", "St. Louis"),
        ("The answer is St. Vincent and the Grenadines.", "St. Vincent and the Grenadines"),
        (
            "The answer is Mr. Smith Goes to Washington. It was released in 1939.",
            "Mr. Smith Goes to Washington",
        ),
        ("The answer is Dr. Jekyll and Mr. Hyde.", "Dr. Jekyll and Mr. Hyde"),
        ("The answer is Sammy Davis Jr. He was a singer.", "Sammy Davis Jr"),
        ("The answer is Apple Inc. in California.", "Apple Inc. in California"),
        ("The answer is Kramer vs. Kramer. See above", "Kramer vs. Kramer. See above"),
        ("The answer is the U.S. Senate.", "the U.S. Senate"),
        ("The answer is the U.S.", "the U.S."),
        ("The answer is Washington, D.C. It is the capital.", "Washington, D.C."),
        ("The answer is 5 p.m. on Friday.", "5 p.m. on Friday"),
        ("The answer is Kill Bill: Vol. 2. It came out in 2004.", "Kill Bill: Vol. 2"),
        ("The answer is No. 5.", "No. 5"),
        ("The answer is Mt. Everest. Everest is in Nepal.", "Mt. Everest"),
        ("The answer is approx. 5.", "approx. 5"),
        ("The answer is yes. Both are American.", "yes"),
        ("The answer is **Paris**. Paris is in France.", "Paris"),
        ("The answer is 42. This is because 6 times 7 is 42.", "42"),
        ("The answer is 3.5. Therefore we are done.", "3.5"),
        ("", None),
    ],
)
def test_extract_answer(text, answer):
    assert grading.extract_answer(text) == answer


balanced = st.text(
    st.characters(exclude_characters="{}", exclude_categories=("Cs",)), min_size=1, max_size=40
)


@given(balanced.map(str.strip).filter(bool), st.text(max_size=60))
def test_a_box_gives_back_what_was_put_into_it(inside, before):
    assert grading.extract_answer(rf"{before} \boxed{{{inside}}} and so on.") == inside


@given(
    st.text(st.one_of(st.characters(), st.sampled_from("{}\\.:#* \nboxedanswer is")), max_size=200)
)
def test_what_is_extracted_stands_in_the_text(text):
    found = grading.extract_answer(text)
    assert found is None or (
        found and all(part in text for part in re.split(r"[,;]? (?:and |or |& )?|[,;]", found))
    )


numbers = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.fractions().map(str)
)
words = st.text(st.characters(categories=["Ll", "Lu", "Nd"]), min_size=1, max_size=20)
texts = st.one_of(
    st.text(max_size=60), st.text("0123456789abxy()[]{}\\,.^_-+*/=<> $%&fracsqrtpmi", max_size=60)
)


@quick
@given(numbers)
def test_a_number_is_itself(x):
    assert grading.grade(x, str(x)).correct


@quick
@given(words)
def test_a_word_is_itself(x):
    assert grading.grade(x, x, "factual").correct and grading.grade(x, x, "math").correct


@quick
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["math", "factual"]),
)
def test_composed_and_decomposed_characters_are_the_same(x, domain):
    composed, decomposed = (
        grading.normalise(unicodedata.normalize(form, x), domain) for form in ("NFC", "NFD")
    )
    assert grading.normalise(x, domain) == composed == decomposed


@quick
@given(
    st.integers(1, 10**9),
    st.sampled_from([0xFF10, 0x660, 0x6F0, 0x966, 0xE50, 0x1D7CE]),
    st.sampled_from("-−－﹣‐‑–—"),
)
def test_a_number_is_itself_in_every_script(x, zero, minus):
    written = minus + "".join(chr(zero + int(digit)) for digit in str(x))
    for domain in ("math", "factual"):
        assert (
            grading.grade(written, str(-x), domain).correct
            and not grading.grade(written, str(x), domain).correct
        )


@quick
@given(st.integers(-400, 400), st.integers(2, 50), st.integers(2, 50))
def test_surds_of_any_size_are_compared_by_their_ratio(power, a, b):
    ours, theirs = rf"\sqrt{{{a}}}\cdot 10^{{{power}}}", rf"\sqrt{{{b}}}\cdot 10^{{{power}}}"
    assert grading.grade(ours, theirs).correct == (a == b)


@quick
@given(st.integers(), st.integers())
def test_different_integers_differ(x, y):
    assert grading.grade(x, str(y)).correct == (x == y)
    assert grading.grade(f"{x:,}", str(y)).correct == (x == y)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(texts)
def test_a_key_is_its_own_key(text):
    for domain in ("math", "factual"):
        key = grading.normalise(text, domain)
        assert grading.normalise(key, domain) == key


@settings(max_examples=60, deadline=None, derandomize=True)
@given(texts, st.sampled_from(["1", r"\frac{1}{2}", "(2,4)", r"x^2+1", r"1 \pm \sqrt{19}", "x=5"]))
def test_no_text_breaks_the_grader(text, gold):
    assert isinstance(grading.grade(text, gold, seconds=2).correct, bool)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 2000,
        "^(" * 900,
        r"\text{" * 300,
        "1," * 1000,
        " " * 1990 + "1",
        r"\frac" * 390,
        "1" * 1999,
        "9" * 9**5,
    ],
)
def test_no_text_holds_up_normalising(text):
    start = time.perf_counter()
    grading.normalise(text, "math"), grading.normalise(text, "factual")
    assert time.perf_counter() - start < 2


def test_a_hopeless_comparison_times_out_and_the_next_one_works():
    start = time.perf_counter()
    verdict = grading.grade("9^{9^{9^9}}", r"\sqrt{2}", seconds=1)
    assert verdict.reason == "grading timed out" and not verdict.correct
    assert time.perf_counter() - start < 20  # of the clock, on a busy machine
    assert grading.grade("sqrt(8)", r"2\sqrt{2}", seconds=30).correct


def test_a_worker_that_is_not_let_compute_is_waited_for():
    """A second of the clock passes while it is stopped, and its half second of computing is left."""
    with worker.Grader() as grader:
        assert grader.are_equal("x+1", "1+x", seconds=30)
        process = grader._process
        process.send_signal(signal.SIGSTOP)
        timer = threading.Timer(1.0, process.send_signal, [signal.SIGCONT])
        timer.start()
        start = time.perf_counter()
        assert grader.are_equal("x+2", "2+x", seconds=0.5)
        assert time.perf_counter() - start > 0.9
        timer.join()


def test_one_budget_is_spent_by_all_comparisons_of_an_answer():
    with worker.Grader() as grader:
        grader.are_equal("x", "x", seconds=30)
        budget = worker.Budget(20.0)
        for _ in range(3):
            before = budget.left
            grader.are_equal(r"\sin(x)^2+\cos(x)^2", "1", seconds=budget)
            assert budget.left < before
        budget.left = 0.05
        with pytest.raises(worker.GradingFailed, match="timed out"):
            grader.are_equal("9^{9^{9^9}}", r"\sqrt{2}", seconds=budget)
        with pytest.raises(worker.GradingFailed, match="timed out"):  # nothing is left
            grader.are_equal("x", "x", seconds=budget)


def test_model_text_is_never_evaluated(tmp_path):
    mark = tmp_path / "mark"
    for text in (f"__import__('pathlib').Path('{mark}').touch()", f"open('{mark}','w')"):
        assert (
            not grading.grade(text, "x+1").correct
            and not grading.grade(text, "1", "factual").correct
        )
    assert not mark.exists()


def test_grading_works_off_the_main_thread():
    found = []
    threads = [
        threading.Thread(
            target=lambda n=n: found.append(
                grading.grade(f"sqrt({n}**2*3)", rf"{n}\sqrt{{3}}").correct
            )
        )
        for n in range(2, 6)
    ]
    [t.start() for t in threads], [t.join() for t in threads]
    assert found == [True] * 4


def test_a_worker_that_dies_is_replaced():
    with worker.Grader() as grader:
        assert grader.are_equal("x+1", "1+x", seconds=30)
        grader._process.kill()
        grader._process.wait()
        assert grader.are_equal("x+1", "1+x", seconds=30)
    assert grader._process is None


@pytest.mark.parametrize("message", [1, 2])  # the worker's greeting, its first answer
def test_an_answer_that_an_interrupt_left_unread_is_not_given_to_the_next_question(
    message, monkeypatch
):
    receive, received = worker.Connection.recv_bytes, []

    def interrupted(pipe):
        received.append(pipe)
        if len(received) == message:
            raise KeyboardInterrupt
        return receive(pipe)

    monkeypatch.setattr(worker.Connection, "recv_bytes", interrupted)
    with worker.Grader() as grader:
        with pytest.raises(KeyboardInterrupt):
            grader.are_equal("x+1", "1+x", seconds=30)
        assert not grader.are_equal("x+1", "2", seconds=30)


def test_a_plain_script_without_a_main_guard_can_grade(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('started')\nfrom agentlib import score\nprint(score.grade('1+x', 'x+1').correct)\n"
    )
    paths = {"PYTHONPATH": str(config.ROOT)}
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env=os.environ | paths,
        timeout=120,
    )
    assert done.stdout.split() == ["started", "True"], done.stderr


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
    with (
        worker.Grader() as grader,
        pytest.raises(RuntimeError, match=f"the grading worker {said}") as error,
    ):
        grader.are_equal("x+1", "1+x")
    assert "\n" not in str(error.value) and grader._process is None


def test_closing_bracket():
    assert maths_text.find_closing("([a,b)", 0) == -1 and maths_text.find_closing("[a,b)", 0) == 4
    assert (
        maths_text.find_closing("{a{b}c}", 0, "{}") == 6 and maths_text.find_closing("(a", 0) == -1
    )


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


@pytest.mark.parametrize("rule", maths_text.REWRITES, ids=lambda rule: rule.before)
def test_each_rewrite_does_what_its_example_says_and_is_needed(rule, monkeypatch):
    assert maths_text.rewrite(rule.before, [rule]) == rule.after
    assert maths_text.parse(rule.before) == maths_text.parse(rule.after)
    tree = maths_text.parse(rule.before)
    others = [other for other in maths_text.REWRITES if other is not rule]
    monkeypatch.setattr(maths_text, "REWRITES", others)
    assert maths_text.parse(rule.before) != tree


PATTERNS = [  # a pattern, what it finds in a text (None: nothing)
    (maths_text._SPACED_DIGITS, "1\u202f234", "\u202f"), (maths_text._SPACED_DIGITS, "1 234", None),
    (maths_text._BEFORE_RAISED, "2½", ""), (maths_text._BEFORE_RAISED, "x²", None),
    (maths_text._RATIO, "⁴⁄₅", "⁴⁄₅"), (maths_text._RATIO, "½", None),
    (maths_text._SCRIPT, "x¹⁰", "¹⁰"), (maths_text._SCRIPT, "a₁₂", "₁₂"), (maths_text._SCRIPT, "½", "½"),
    (maths_text._ROOT, "2√12", "√12"), (maths_text._ROOT, "∛x", "∛x"), (maths_text._ROOT, "√(2)", None),
    (maths_text._THOUSANDS, "1,234", "1,234"), (maths_text._THOUSANDS, "1 234 567", "1 234 567"),
    (maths_text._THOUSANDS, "1,23", None), (maths_text._THOUSANDS, "0.1,234", None),
    (maths_text.WORDS, "Evelyn", "Evelyn"), (maths_text.WORDS, "x", None),
    (maths_text._RELATION, r"x \leq 2", r"\leq"), (maths_text._RELATION, r"\left(", None),
    (re.compile(maths_text._OR), "x<1 or x>2", "or"), (re.compile(maths_text._OR), "(x < 1) | (x > 2)", " | "),
    (re.compile(maths_text._OR), "|x|", None), (re.compile(maths_text._AND), "(x>1) & (x<2)", "&"),
    (maths_text._TAKES_ARGUMENTS, r"\frac12", r"\frac"), (maths_text._TAKES_ARGUMENTS, r"\fraction", None),
    (maths_text._MEMBER_OF, r"x \in [0, 1]", r"x \in "), (maths_text._MEMBER_OF, r"x \infty", None),
    (maths_text._ASSIGNED, "x_{1} = 5", "x_{1} ="), (maths_text._ASSIGNED, "f(x) = 2x", "f(x) ="), (maths_text._ASSIGNED, "x == 5", None),
    (maths_text._LETTER, r"\pi x", "x"), (maths_text._LETTER, r"\pi", None),
    (re.compile(f"^(?:{maths_text._VARIABLE.pattern})$"), r"\theta", r"\theta"),
    (re.compile(f"^(?:{maths_text._VARIABLE.pattern})$"), r"\pi", None),
    (maths._WITH_BASE, "204_{5}", "204_{5}"), (maths._WITH_BASE, "a_{5}", None),
    (grading._ANSWER_IS, "So the answer is 42", "answer is 42"), (grading._ANSWER_IS, "#### 42", "#### 42"),
    (grading._ANSWER_IS, "### Answer\n42", "### Answer\n42"), (grading._ANSWER_IS, "an answer was found", None),
    (grading._BETWEEN_BOXES, "$ or $", "$ or $"), (grading._BETWEEN_BOXES, r" \text{ and } y=", r" \text{ and } y="),
    (grading._BETWEEN_BOXES, ". Then again ", None),
    (grading._SENTENCE, "It came out in 2004.", "It"), (grading._SENTENCE, "Paris is in France.", "Paris is"), (grading._SENTENCE, "Hyde.", None),
    (grading._IS, "The sum is equal to 5", " is equal to "), (grading._IS, "The list 5", None),
    (grading._OPENS_WITH_NUMBER, r"\(-125\)", r"\(-1"), (grading._OPENS_WITH_NUMBER, "the 2", None),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "text", "found"), PATTERNS)
def test_each_pattern_finds_what_its_comment_says(pattern, text, found):
    match = pattern.search(text)
    assert (match and match[0]) == found


@pytest.mark.parametrize(
    ("leaf", "value", "decimal", "figures"),
    [("-12", -12, False, 0), (".5", 0.5, True, 1), ("1e-05", 1e-5, True, 1), ("3/4", 0.75, False, 0), ("1.7e26", 1.7e26, True, 2),
     (r"2.5\cdot10^{3}", 2500, False, 0), (r"-1\frac{4}{5}", -1.8, False, 0), ("0.3333333333333333", 0.333333333333, True, 16)],
)  # fmt: skip
def test_each_form_of_a_number_is_read(leaf, value, decimal, figures):
    number = maths._read_number(leaf)
    assert (float(number.value), number.decimal, number.figures) == (value, decimal, figures)
    assert maths._read_number(leaf + "x") is None


@pytest.mark.parametrize("name", ["TEXT_REWRITES", "PUNCTUATION_REWRITES"])
def test_each_factual_rewrite_does_what_its_example_says_and_is_needed(name, monkeypatch):
    rules = getattr(grading, name)
    for rule in rules:
        assert maths_text.rewrite(rule.before, [rule]) == rule.after
        key = grading.normalise(rule.before, "factual")
        assert grading.normalise(rule.after, "factual") == key
        with monkeypatch.context() as patch:
            patch.setattr(grading, name, [other for other in rules if other is not rule])
            assert grading.normalise(rule.before, "factual") != key, rule.before
