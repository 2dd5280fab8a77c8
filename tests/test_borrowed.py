"""Cases without the texts of others: nothing of a question or a passage stays, and everything
comes back to the letter."""

import json

import pytest
from test_wiki import PASSAGES, built, real, small  # noqa: F401  (fixtures)

from agentlib import cases, config, evaluate, records
from agentlib.benchmarks import borrowed, sets, teaching, wiki
from agentlib.cot import CoTResult
from agentlib.models import Completion
from agentlib.runner import archive

PAINTER = PASSAGES["hp"][0][1]
TOWN = PASSAGES["hp"][1][1]


def recorded(*observations, benchmark="hotpotqa-slice", **more):
    """A case of the first question of a set, as `cases.agent_case` writes it."""
    question = sets.load(benchmark)[0]
    trace = [{"text": "Thought: so.", "code": None, "observation": o} for o in observations]
    about = cases.about(question, {"model": "m", "method": "agent"})
    return about | {"correct": True, "stopped": "final_answer", "trace": trace} | more


@pytest.mark.parametrize(
    "observation",
    [
        f"Observation:\n[1] Ada Fell\n{PAINTER}\n\n[2] Ormouth\n{TOWN}",
        f"Observation:\n{f'[1] Ada Fell{chr(10)}{PAINTER}'!r}",  # a string's value, with \n in it
        f"Observation:\n[1] Ada Fell\n{PAINTER[:45]}\n… 9 characters left out …\n{TOWN[3:]}",
        f"Observation:\nError: ValueError: {PAINTER}",
        "Observation:\n(nothing was printed)",
        "Observation:\n\ue000 8 9\ue001 and \ue000x 1 2",
    ],
)
def test_a_case_comes_back_to_the_letter_without_having_held_a_sentence(built, observation):  # noqa: F811
    case = recorded(observation, "Observation:\n4")
    kept = borrowed.strip(case)
    assert borrowed.fill(json.loads(json.dumps(kept))) == case
    assert list(borrowed.fill(kept)) == list(case), "the fields stand where they stood"
    assert tuple(kept["left_out"]) == borrowed.ASKED and kept.keys().isdisjoint(borrowed.ASKED)
    assert case["question"] not in json.dumps(kept)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_pointed_to_is_gone(built, place):  # noqa: F811
    observation = f"Observation:\n[1] Ada Fell\n{PAINTER}\n\n[2] Ormouth\n{TOWN}"
    case = [
        recorded(observation),
        recorded(f"Observation:\n{observation!r}"),
        recorded(passages=observation),
    ][place]
    said = json.dumps(borrowed.strip(case), ensure_ascii=False)
    assert "painter" not in said and "Orn flows" not in said and "[1] Ada Fell" in said


def test_a_short_case_says_whether_its_gold_passages_were_seen(built):  # noqa: F811
    observation = f"Observation:\n[1] Ada Fell\n{PAINTER}\n\n[2] Ormouth\n{TOWN}"
    for case, seen in [
        (recorded(observation), True),
        (recorded("Observation:\n4"), False),
        (recorded(observation, benchmark="bamboogle-slice"), None),
    ]:
        short = evaluate.without_transcripts(case)
        assert short["supported"] is seen and "trace" not in short
        assert evaluate.without_transcripts(short) == short, "a short one keeps what it says"
    assert "supported" not in evaluate.without_transcripts(recorded() | {"error": "lost"})


@pytest.mark.parametrize("name", teaching.SETS)
def test_our_own_sets_are_kept_whole(name):
    (question,) = sets.load(name, 1)
    case = cases.about(question, {"model": "m"})
    assert borrowed.strip(case) is case and borrowed.fill(case) is case
    assert borrowed.strip({"benchmark": "a file of yours"}) == {"benchmark": "a file of yours"}


def test_a_case_that_was_asked_in_other_words_is_refused(built):  # noqa: F811
    with pytest.raises(ValueError, match="5a00 does not come back as it was"):
        borrowed.strip(recorded() | {"question": "Which river?"})
    with pytest.raises(ValueError, match="case hotpotqa-5a99 is of no question of hotpotqa-slice"):
        borrowed.fill(borrowed.strip(recorded()) | {"id": "hotpotqa-5a99"})


def test_without_the_slice_the_sentence_says_how_it_is_made(built):  # noqa: F811
    kept = borrowed.strip(recorded())
    (built / wiki.QUESTIONS).unlink()
    wiki._questions.cache_clear(), wiki._rows.cache_clear(), borrowed._questions.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"tools/build_wiki\.py"):
        borrowed.fill(kept)


def test_published_cases_are_read_as_they_were(built, tmp_path):  # noqa: F811
    question = sets.load("hotpotqa-slice")[0]
    chain = CoTResult(
        question.id, (Completion("\\boxed{Orn}", 3, 2, "stop"),), ("Orn",), "Orn", TOWN
    )
    case = cases.cot_case(question, chain, model="m", method="cot", n=1)
    file = tmp_path / "teacher.jsonl"
    records.write_lines(file, [borrowed.strip(case)])
    assert cases.read(file) == [json.loads(json.dumps(case))] and TOWN not in file.read_text()


def test_what_is_committed_of_the_slice_quotes_no_passage_and_comes_back(real):  # noqa: F811
    """Of each packed run a few cases: no 60 characters of what the model was shown are in a
    passage, and the texts are found again."""
    files = sorted((config.ROOT / "figures" / "records").glob("*/runs/*.jsonl.xz"))
    joined, seen = "\0".join(passage.text for passage in wiki.passages()), 0
    for file in files:
        for case in archive.unpack(file)[1][:40]:
            if "left_out" not in case:
                assert not borrowed.is_borrowed(case), file
                continue
            assert case.keys().isdisjoint(borrowed.ASKED), file
            shown = [step["observation"] for step in case.get("trace", ())]
            for text in [*shown, case.get("passages") or ""]:
                windows = (text[k : k + 60] for k in range(0, len(text) - 60, 30))
                assert not any(window in joined for window in windows), (file, case["id"])
            assert borrowed.strip(borrowed.fill(case)) == case
            seen += 1
    assert seen >= 100
