"""Questions of one's own: good files are read, bad ones get a sentence, and tools of one's own reach the model."""

import functools
import json
import math

import pytest
from conftest import Scripted, act, ask

from agentlib import agent, cases, own, prompts
from agentlib.sandbox import Sandbox


def write(tmp_path, text, name="mine.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_a_table_is_read_with_what_it_holds(tmp_path):
    file = write(tmp_path, 'Question,Answer,aliases,domain,note\n"Who, then?",Ada,Lovelace| Ada L.,,x\nWhat is 2+2?,4,,math,y\n')
    first, second = own.questions(file)
    assert (first.id, first.benchmark, first.text, first.answer, first.domain) == ("mine-0000", "mine", "Who, then?", "Ada", "factual")
    assert first.aliases == ("Lovelace", "Ada L.") and (second.domain, second.answer) == ("math", "4")


@pytest.mark.parametrize("name, text", [
    ("mine.jsonl", '{"question": "Q?", "answer": 4.0, "id": 7}\n{"question": "R?", "answer": "no", "id": 8}\n'),
    ("mine.json", '[{"question": "Q?", "answer": 4, "id": "7"}, {"question": "R?", "answer": "no", "id": "8"}]'),
    ("mine.tsv", "question\tanswer\tid\nQ?\t4\t7\nR?\tno\t8\n")])  # fmt: skip
def test_other_forms_are_read_alike(tmp_path, name, text):
    assert [(q.id, q.text, q.answer) for q in own.questions(write(tmp_path, text, name))] == [("7", "Q?", "4"), ("8", "R?", "no")]


def test_a_data_set_is_read_by_its_id(tmp_path):
    (tmp_path / "capitals").mkdir()
    rows = [{"question": "Q?", "answer": "Lima", "aliases": ["la ciudad", "Lima"]}, {"question": "R?", "answer": "Quito", "aliases": []}]
    write(tmp_path / "capitals", "\n".join(map(json.dumps, rows)), "test.jsonl")
    first, second = own.questions(tmp_path / "capitals", split="test")
    assert first.aliases == ("la ciudad", "Lima") and second.aliases == () and second.id == "capitals-0001"


@pytest.mark.parametrize("text, words", [
    ("questoin,answer\nQ?,4\n", "no column 'question', expected question and answer; rename the column 'questoin'"),
    ("question,answer\n", "has no rows"),
    ("question,answer\nQ?,4\nR?,\n", "row 2: 'answer' is empty"),
    ("question,answer,domain\nQ?,4,maths\n", "row 1: domain is 'maths', expected 'factual' or 'math'"),
    ("question,answer\nQ?,4\nR?,5\nQ?,4\n", "rows 1 and 3 have the same question 'Q?'"),
    ("question,answer,id\nQ?,4,1\nR?,5,1\n", "rows 1 and 2 have the same id '1'"),
    ('question,answer\n"Q?,4\n', "cannot be read as csv")])  # fmt: skip
def test_a_bad_file_gets_a_sentence(tmp_path, text, words):
    with pytest.raises(ValueError) as raised:
        own.questions(write(tmp_path, text))
    assert words in str(raised.value)


def test_a_file_that_is_not_there_or_not_of_a_known_form_gets_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.csv is not there"):
        own.questions(tmp_path / "gone.csv")
    with pytest.raises(ValueError, match=r"ends in '\.xlsx', expected \.csv"):
        own.questions(write(tmp_path, "x", "mine.xlsx"))


def test_no_question_is_both_trained_on_and_tested_on():
    found = [ask(k) for k in range(20)]
    train, test = own.divide(found, 6)
    assert len(test) == 6 and {q.id for q in train}.isdisjoint(q.id for q in test) and len(train) == 14
    assert {q.split for q in train} == {"train"} and {q.split for q in test} == {"test"}
    assert own.divide(found, 6) == (train, test) != own.divide(found, 6, seed=1)
    with pytest.raises(ValueError, match="test is 20, expected 1 to 19 of the 20"):
        own.divide(found, 20)


def days_between(first: str, second: str) -> int:
    """Days from one date to another.

    Dates are YYYY-MM-DD.
    """
    return 137


@pytest.mark.isolation
def test_a_tool_of_ones_own_is_told_of_called_and_trained_with():
    line = "You can also call days_between(first: str, second: str) -> int: Days from one date to another."
    model = Scripted(lambda conversation, prefix, k: act("final_answer(days_between('2024-01-01', '2024-05-17'))"))
    with Sandbox(tools={"web_search": str, "days_between": days_between}) as box:
        (trajectory,) = agent.Agent(model, box, style="teacher").run([ask(answer="137")])
    told = model.calls[0]["conversations"][0][0]["content"]
    assert told.count(line) == 1 and told.index(line) < told.index("Rules:")
    case = cases.agent_case(ask(answer="137"), trajectory, model="m", method="agent", n=1)
    assert case["correct"] and cases.conversation(case)[0]["content"] == f"{prompts.AGENT_STUDENT}\n{line}"


@pytest.mark.isolation
def test_without_a_search_no_word_of_one_is_said():
    model = Scripted(lambda conversation, prefix, k: act("final_answer(42)"))
    with Sandbox(tools={"days_between": days_between}) as box:
        (trajectory,) = agent.Agent(model, box, style="teacher").run([ask()])
    told = model.calls[0]["conversations"][0][0]["content"]
    assert "search" not in told and "You can call final_answer(answer)" in told and "4. If the code failed" in told
    assert told.count("Question:") == 1, "the worked example that needs none"
    trained = cases.conversation(cases.agent_case(ask(), trajectory, model="m", method="agent", n=1))[0]["content"]
    assert told.startswith(f"{trained}\n\nRules:\n"), "teacher and student read the same"


def test_the_published_prompts_are_those_of_the_records():
    assert (prompts.version(agent=True), prompts.version(agent=False)) == ("64e98051aa", "59d844bd63")


class Clock:
    """Tells the time."""

    def __call__(self, zone: str):
        return zone


CLOCK = Clock()


@pytest.mark.parametrize(("tool", "line"), [
    (math.gcd, "t(*integers): Greatest Common Divisor."),
    (max, "t(...): max(iterable, *[, default=obj, key=func]) -> value"),  # a builtin whose signature Python does not know
    (int, "t(...): int([x]) -> integer"),
    (functools.partial(days_between, "2024-01-01"), "t(second: str) -> int: Days from one date to another."),
    (functools.partial(days_between, second="2024-01-01"), "t(first: str) -> int: Days from one date to another."),
    (functools.lru_cache(days_between), "t(first: str, second: str) -> int: Days from one date to another."),
    (CLOCK, "t(zone: str): Tells the time."),
    (lambda query, index=CLOCK: query, "t(query, index=...)"),
])  # fmt: skip
def test_every_callable_can_be_told_of(tool, line):
    assert prompts.tool_lines({"t": tool}) == f"You can also call {line}"


def test_warnings_are_shown_after_what_was_printed_and_cut_first():
    shown = prompts.observation_turn("1.5\n", "2", None, "RuntimeWarning: overflow\n")
    assert shown == "Observation:\n1.5\nRuntimeWarning: overflow\n2"
    shown = prompts.observation_turn("start" + "x" * 1500 + "end", "", None, "w" * 20_000)
    assert "start" in shown and "xend" in shown and shown.count("w") < 1000


@pytest.mark.isolation
def test_without_one_the_prompts_are_as_they_were():
    assert prompts.agent_system("teacher") == prompts.AGENT_TEACHER and prompts.agent_system("student") == prompts.AGENT_STUDENT
    with Sandbox(tools={"web_search": str}) as box:
        model = Scripted(lambda conversation, prefix, k: act("final_answer(42)"))
        (trajectory,) = agent.Agent(model, box).run([ask()])
    assert trajectory.tools == "" and "tools" not in cases.agent_case(ask(), trajectory, model="m", method="agent", n=1)
