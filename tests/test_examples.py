"""Which recorded cases are shown: by how an answer was reached, not only by its grade."""

import pytest

from agentlib import filtering
from agentlib.figures import examples

SEEN = "Observation:\n[1] Islamabad\nIslamabad lies in Pakistan, Bangkok in Thailand."


def case(*steps, question="Is Islamabad in the country of Bangkok?", **more):
    trace = [{"code": code, "observation": seen} for code, seen in steps]
    return {
        "id": "q", "model": "m", "method": "agent", "n": 1, "benchmark": "none", "correct": True,
        "question": question, "trace": trace,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("code", "reasoned"),
    [
        ('final_answer("Pakistan" == "Thailand")', True),
        ('final_answer({"Bangkok": "Thailand", "Islam": "Thailand"})', False),  # no such place
        ('print("The Answer:", "Pakistan")\nfinal_answer("Pakistan")', True),
        ('final_answer(web_search("Karachi"))', True),
        ('final_answer(f"Lahore {1}")', True),
        ('final_answer("Lahore")', False),
        ('final_answer("no")', True),
        ("final_answer(", True),  # no code, so it claims nothing
    ],
)
def test_a_name_that_was_never_read_comes_from_memory(code, reasoned):
    assert filtering.is_reasoned(case(('web_search("Islamabad")', SEEN), (code, ""))) is reasoned


def test_what_is_read_after_the_claim_does_not_count():
    assert not filtering.is_reasoned(case(('x = "Pakistan"\nweb_search("Islamabad")', SEEN)))


def test_an_answer_without_its_passages_is_not_reasoned(monkeypatch):
    for seen, expected in ((True, True), (False, False), (None, True)):
        monkeypatch.setattr(filtering.benchmarks, "is_supported", lambda case, seen=seen: seen)
        assert filtering.is_reasoned(case(("final_answer(4)", ""))) is expected


def vote(*groups, final=True, code="final_answer(x)"):
    return {"code": code, "observation": "", "final": final,
            "candidates": [{"code": code, "group": group} for group in groups]}  # fmt: skip


def test_the_vote_that_helped_is_right_and_reasoned_and_beats_a_failure_and_a_minority():
    made_up = vote(0, 0, 0, 1, None, code='x = "Atlantis"\nfinal_answer(x)')
    good, unanimous = vote(0, 0, 1, None), vote(0, 0, 0, 0, 0)
    found = [
        case(n=8, trace=[made_up]),
        case(n=8, trace=[vote(0, 0, 1, None)], correct=False),
        case(n=8, trace=[unanimous, good]),
    ]
    assert examples.select_votes(found)["helped"] == (found[2], good)


def test_the_vote_that_failed_is_wrong_where_greedy_is_right():
    small, large = vote(0, 1), vote(0, 0, 0, 1, 1)
    found = [
        case(id="a", n=1), case(id="b", n=1, correct=False),
        case(id="a", n=8, correct=False, trace=[vote(0, 0, 0), small, large]),
        case(id="b", n=8, correct=False, trace=[vote(0, 0, 0, 0, 1, 1, 1)]),
    ]  # fmt: skip
    assert examples.select_votes(found)["failed"] == (found[2], large)
    assert "failed" not in examples.select_votes(found[1:])


def test_without_votes_it_says_what_to_run():
    with pytest.raises(ValueError, match="no case has a vote, expected one with n > 1"):
        examples.select_votes([case()])
