"""Self-consistent action generation: what candidates are compared by, and which is kept."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentlib import sag, score
from agentlib.sandbox import Failure, Outcome


def printed(text, value=""):
    return Outcome(stdout=text, value=value)


def final(answer, stdout=""):
    return Outcome(stdout=stdout, answer=answer, is_final=True)


def failed(kind="execution", stdout=""):
    return Outcome(stdout=stdout, failure=Failure(kind, "it broke"))


def test_the_largest_group_wins_and_its_first_candidate_is_kept():
    assert sag.choose([printed("1"), printed("2"), printed("3"), printed("2")]) == 1


@pytest.mark.parametrize(
    "same",
    [
        ("0.5", "1/2", 0.5),
        (r"\frac{1}{2}", 0.5, "0.50"),
        ("Paris", "paris.", "The Paris"),
        (1000, "1,000", "1000.0"),
    ],
)
def test_final_answers_of_one_value_are_one_group(same):
    assert sag.groups([final("something else"), *map(final, same)]) == [1, 0, 0, 0]


def test_where_an_object_lies_is_not_compared():
    one, other = (
        "<matplotlib.lines.Line2D object at 0x7f8a12b4c3d0>",
        "<matplotlib.lines.Line2D object at 0x7f8a12b4ffff>",
    )
    assert sag.outcome_key(printed(one, one)) == sag.outcome_key(printed(other, other))


@pytest.mark.parametrize(
    ("one", "other"), [("0.5", "0.05"), ("Paris", "London"), (3, -3), ("Paris 1", "Paris 2")]
)
def test_final_answers_of_different_values_are_two_groups(one, other):
    assert sag.outcome_key(final(one)) != sag.outcome_key(final(other))


@pytest.mark.parametrize(
    ("domain", "same"),
    [
        ("factual", ["Apollo 11", "apollo 11", "The Apollo 11."]), ("factual", ["5 May 2001", "2001-05-05", "May 5, 2001"]),
        ("factual", ["C++", "c++"]), ("factual", ["UTC+02:00", "utc+02:00"]), ("factual", [True, "yes", "True"]),
        ("math", ["5 apples", 5, "5.0", "x = 5"]), ("math", ["1/3", r"\frac13", 1 / 3, "0.333333333333", Fraction(1, 3)]),
        ("math", ["(1/3, 2)", "(0.3333333333333333, 2)"]), ("math", [{3, 5}, "{5, 3}"]), ("math", ["2*sqrt(3)", r"2\sqrt3"]),
        (None, ["Apollo 11", "apollo 11"]), (None, ["5 May 2001", "2001-05-05"]), (None, [1 / 3, "1/3"]),
    ],
)  # fmt: skip
def test_equal_answers_have_one_key(domain, same):
    assert len({sag.answer_key(answer, domain) for answer in same}) == 1


@pytest.mark.parametrize(
    ("domain", "different"),
    [
        ("factual", ["Vitamin A", "Vitamin", "Vitamin C"]), ("factual", ["C++", "C#", "C"]), ("factual", ["Apollo 11", "Apollo 12"]),
        ("math", ["1/2", "-1", "1, 2"]), ("math", [2**70, 2**70 + 1]), ("math", ["3000000000001/1000000000000", "3"]),
        ("math", ["1/3", "0.333333"]), ("math", ["1/" + "3" * 350, "0"]), (None, ["Apollo 11", "Apollo 12", "11"]),
    ],
)  # fmt: skip
def test_different_answers_have_different_keys(domain, different):
    assert len({sag.answer_key(answer, domain) for answer in different}) == len(different)


WRITTEN = st.one_of(
    st.text(max_size=30),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.fractions().map(str),
    st.dates().map(str),
    st.text("0123456789 abcABC+-/.,()[]{}\\frac", max_size=12),
)
SPELLINGS = [
    str,
    lambda x: f" {x} ",
    lambda x: f"{x}.",
    lambda x: f"The answer is {x}",
    lambda x: str(x).upper(),
    lambda x: [x],
    lambda x: rf"\boxed{{{x}}}",
]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(WRITTEN, WRITTEN, st.sampled_from(SPELLINGS), st.sampled_from(["math", "factual"]))
def test_what_the_grader_finds_equal_in_form_is_one_group(x, other, spell, domain):
    for one, two in ((x, spell(x)), (x, other)):
        if score.normalise(one, domain) == score.normalise(two, domain):
            assert sag.groups([final(one), final(two)], domain=domain) == [0, 0]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(-(10**6), 10**6), st.integers(1, 10**4))
def test_a_fraction_and_the_float_that_code_computes_are_one_group(a, b):
    assert sag.groups([final(f"{a}/{b}"), final(a / b), final(Fraction(a, b))], domain="math") == [
        0,
        0,
        0,
    ]


@pytest.mark.parametrize("answer", [None, True, [1, 2], {"a": 1}, "", 1e308, "x" * 10_000])
def test_any_plain_answer_can_be_compared(answer):
    assert sag.outcome_key(final(answer)) == sag.outcome_key(final(answer))
    assert sag.groups([final(answer), final(answer)]) == [0, 0]


def test_an_answer_and_a_print_of_the_same_are_two_outcomes():
    assert sag.groups([final("7"), printed("7"), printed("7")]) == [1, 0, 0]


def test_prints_are_compared_without_their_edges_and_with_the_last_value():
    assert sag.groups([printed("7\n"), printed("7"), printed("7", "8")]) == [0, 0, 1]


def test_failed_candidates_are_dropped_even_when_they_are_most():
    outcomes = [failed(), failed("parse"), failed("timeout"), printed("7")]
    assert sag.groups(outcomes) == [None, None, None, 0]
    assert sag.choose(outcomes) == 3


def test_of_equal_groups_the_earliest_is_kept():
    assert sag.choose([failed(), printed("a"), printed("b"), printed("b"), printed("a")]) == 1


@pytest.mark.parametrize("vote", ["outcome", "as_published"])
def test_when_all_failed_the_first_is_kept(vote):
    assert sag.choose([failed("parse"), failed()], vote) == 0


def test_the_published_vote_never_compares_final_answers():
    outcomes = [final("London"), final("Paris"), final("paris.")]
    assert sag.choose(outcomes) == 1
    assert sag.choose(outcomes, "as_published") == 0
    assert len(set(sag.groups(outcomes, "as_published"))) == 1, (
        "all printed nothing, so all look alike"
    )


def test_the_published_vote_reads_printed_text_alone():
    assert sag.groups(
        [printed("7", "8"), printed("7", "9"), final("x", stdout="7")], "as_published"
    ) == [0, 0, 0]


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(ValueError, match="no outcomes to choose from"):
        sag.choose([])


@pytest.mark.parametrize(
    ("setting", "message"), [({"n": 0}, "n=0"), ({"vote": "mode"}, "vote='mode'")]
)
def test_settings_no_vote_could_use_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        sag.SAG(**setting)


OUTCOMES = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=12)


@given(OUTCOMES)
def test_the_kept_candidate_is_the_first_of_a_group_no_other_exceeds(texts):
    outcomes = [failed() if t is None else printed(t) for t in texts]
    kept = texts[sag.choose(outcomes)]
    sizes = {t: texts.count(t) for t in texts if t is not None}
    if not sizes:
        assert sag.choose(outcomes) == 0
    else:
        assert sizes[kept] == max(sizes.values()) and sag.choose(outcomes) == texts.index(kept)
        assert kept == next(t for t in texts if sizes.get(t) == max(sizes.values()))


def outcomes_of(texts):
    return [failed() if t is None else printed(t) for t in texts]


@given(OUTCOMES, st.data())
def test_of_equal_groups_that_with_the_shortest_candidate_wins(texts, data):
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=len(texts), max_size=len(texts)))
    in_order = sorted(range(len(texts)), key=lambda k: (lengths[k], k))
    expected = in_order[sag.choose(outcomes_of([texts[k] for k in in_order]))] if any(texts) else 0
    assert sag.choose(outcomes_of(texts), lengths=lengths) == expected
    if any(texts):
        assert sag.groups(outcomes_of(texts), lengths=lengths)[expected] == 0


@given(OUTCOMES)
def test_groups_are_numbered_from_the_largest_down(texts):
    numbered = sag.groups([failed() if t is None else printed(t) for t in texts])
    sizes = [numbered.count(k) for k in range(len({t for t in texts if t is not None}))]
    assert sizes == sorted(sizes, reverse=True) and all(sizes)
    assert [g is None for g in numbered] == [t is None for t in texts]
