"""The three sentences at the end of a run: their numbers are those of the records."""

import pytest

from agentlib import figures

STUDENT = "SmolLM2-135M-Instruct"


def cases(right: dict[tuple[str, int], int], broken=0, asked=40):
    return [
        {
            "model": STUDENT, "method": method, "n": n, "benchmark": "teaching-math", "id": f"q{k}",
            "split": "test", "domain": "math", "correct": k < count,
            "parse_errors": int(n == 1 and k < broken), "execution_errors": int(n == 1 and k < broken),
        }
        for (method, n), count in right.items()
        for k in range(asked)
    ]  # fmt: skip


def test_a_clear_lead_is_told_from_a_difference_that_chance_explains():
    right = {
        ("cot_distill", 1): 10,
        ("agent_distill", 1): 25,
        ("agent_distill", 8): 27,
        ("agent_distill_ftp", 1): 24,
    }
    acting, vote, prefix = figures.take_home(figures.to_frame(cases(right, broken=7)), STUDENT)
    assert "of 40 questions the 135M student that acts got 25 right" in acting
    assert (
        "taught to recite 10" in acting and "+38 points" in acting and "more than chance" in acting
    )
    assert "vote over 8 actions (SAG): 0 runs with code that failed instead of 7" in vote
    assert "27 of 40 questions right instead of 25" in vote and "no difference that so few" in vote
    assert "its student got 24 of 40 right, the one taught without it 25" in prefix
    assert "-2 points" in prefix and "no difference that so few" in prefix


@pytest.mark.parametrize(
    ("right", "said"),
    [({}, 0), ({("cot_distill", 1): 3}, 0), ({("cot_distill", 1): 3, ("agent_distill", 1): 9}, 1)],
)
def test_what_was_not_run_is_not_spoken_of(right, said):
    frame = figures.to_frame(cases(right or {("cot", 1): 1}))
    assert len(figures.take_home(frame, STUDENT)) == said


def test_only_the_first_training_of_the_student_counts():
    found = cases({("cot_distill", 1): 10, ("agent_distill", 1): 25})
    again = [case | {"training": 1, "correct": False} for case in found]
    found = [case | {"training": 0} for case in found]
    (acting,) = figures.take_home(figures.to_frame(found + again), STUDENT)
    assert "acts got 25 right" in acting
