"""Questions of one's own: good files are read, bad ones get a sentence, and tools of one's own
reach the model."""

import csv
import functools
import gzip
import json
import math

import pytest
from conftest import Scripted, act, ask
from hypothesis import given
from hypothesis import strategies as st

from agentlib import agent, cases, prompts
from agentlib.benchmarks import question_file
from agentlib.sandbox import Sandbox


def write(tmp_path, text, name="mine.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_a_table_is_read_with_what_it_holds(tmp_path):
    file = write(
        tmp_path,
        'Question,Answer,aliases,domain,note\n"Who, then?",Ada,Lovelace| Ada L.,,x\nWhat is'
        " 2+2?,4,,math,y\n",
    )
    first, second = question_file.from_file(file)
    assert (first.id, first.benchmark, first.text, first.answer, first.domain) == (
        "mine-0000",
        "mine",
        "Who, then?",
        "Ada",
        "factual",
    )
    assert first.aliases == ("Lovelace", "Ada L.") and (second.domain, second.answer) == (
        "math",
        "4",
    )


@pytest.mark.parametrize(
    "name, text",
    [
        (
            "mine.jsonl",
            (
                '{"question": "Q?", "answer": 4.0, "id": 7}\n{"question": "R?", "answer": "no",'
                ' "id": 8}\n'
            ),
        ),
        (
            "mine.json",
            (
                '[{"question": "Q?", "answer": 4, "id": "7"}, {"question": "R?", "answer": "no",'
                ' "id": "8"}]'
            ),
        ),
        ("mine.tsv", "question\tanswer\tid\nQ?\t4\t7\nR?\tno\t8\n"),
    ],
)
def test_other_forms_are_read_alike(tmp_path, name, text):
    assert [
        (q.id, q.text, q.answer) for q in question_file.from_file(write(tmp_path, text, name))
    ] == [("7", "Q?", "4"), ("8", "R?", "no")]


SHAPES = {  # of one row in JSON: what is right, and its other names
    "a text": ({"answer": " Lima "}, "Lima", ()),
    "a list (NQ)": ({"answer": ["Lima", "Ciudad de los Reyes", "Lima"]}, "Lima", ("Ciudad de los Reyes",)),
    "answers": ({"answers": ["Lima"]}, "Lima", ()),
    "golden_answers (Search-R1)": ({"golden_answers": ["Lima", "LIM"], "metadata": {"level": "x"}}, "Lima", ("LIM",)),
    "value and aliases (TriviaQA)": (
        {"answer": {"value": "Lima", "aliases": ["LIM", "Lima"], "normalized_value": "lima", "type": "WikipediaEntity"}}, "Lima", ("LIM",)),
    "text and places (SQuAD)": ({"answers": {"text": ["Lima", "in Lima"], "answer_start": [3, 0]}}, "Lima", ("in Lima",)),
    "answer_aliases (MuSiQue)": ({"answer": "Lima", "answer_aliases": ["LIM", "City of Kings"]}, "Lima", ("LIM", "City of Kings")),
    "null beside golden_answers": ({"answer": None, "golden_answers": ["Lima"]}, "Lima", ()),
    "null aliases": ({"answer": "Lima", "aliases": None}, "Lima", ()),
    "an empty first of a list": ({"answer": ["", None, "Lima"]}, "Lima", ()),
    "a number": ({"answer": 1821}, "1821", ()),
    "a whole float": ({"answer": 1821.0}, "1821", ()),
    "a fraction": ({"answer": 0.25}, "0.25", ()),
    "over 64 bits": ({"answer": 123456789012345678901234567890}, "123456789012345678901234567890", ()),
    "a list of numbers": ({"answer": [7, 7.5]}, "7", ("7.5",)),
    "yes": ({"answer": True}, "True", ()),
    "parts in maths": ({"answer": [3, 5.0], "domain": "math"}, "3, 5", ()),
    "half a surrogate pair": ({"answer": "Li\ud83dma"}, "Li?ma", ()),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["jsonl", "json", "jsonl.gz"])
def test_answers_of_every_shape_are_read_as_they_are_meant(tmp_path, shape, form):
    row, answer, aliases = SHAPES[shape]
    text = json.dumps({"question": "Q?"} | row)
    file = tmp_path / f"mine.{form}"
    file.write_bytes(
        gzip.compress(text.encode())
        if form.endswith("gz")
        else f"[{text}]".encode()
        if form == "json"
        else text.encode()
    )
    (found,) = question_file.from_file(file)
    assert (found.id, found.answer, found.aliases) == ("mine-0000", answer, aliases)


@pytest.mark.parametrize("name, content", [
    ("lines.json", b'{"question": "Q?", "answer": 4}\n{"question": "R?", "answer": "no"}'),
    ("list.jsonl", b'[{"question": "Q?", "answer": 4}, {"question": "R?", "answer": "no"}]'),
    ("bom.jsonl", b'\xef\xbb\xbf{"question": "Q?", "answer": 4}\r\n\r\n{"question": "R?", "answer": "no"}\r\n'),
    ("around.json", b'{"version": 1, "data": [{"question": "Q?", "answer": 4}, {"question": "R?", "answer": "no"}]}'),
    ("columns.json", b'{"question": {"0": "Q?", "1": "R?"}, "answer": {"0": 4, "1": "no"}}'),
    ("lists.json", b'{"Question": ["Q?", "R?"], "Answer": [4, "no"]}'),
    ("pretty.json", b'[\n  {\n    "question": "Q?",\n    "answer": 4\n  },\n  {"question": "R?", "answer": "no"}\n]\n'),
    ("none.jsonl", b'{"question": "Q?", "answer": 4, "level": null, "id": NaN}\n{"question": "R?", "answer": "no", "id": null}'),
    ("bom.csv", b'\xef\xbb\xbfquestion,answer\r\nQ?,4\r\n\r\n,\r\nR?,no'),
    ("utf16.csv", "question\tanswer\nQ?\t4\nR?\tno\n".encode("utf-16")),
    ("semicolons.csv", b'question;answer;note\nQ?;4;a,b\nR?;no\n'),
    ("empty.csv", b'\n\nquestion , answer,\n\nQ?,4,\n"R?", "no",,\n,,\n'),
    ("mac.csv", b'question,answer\rQ?,4\rR?,no\r'),
    ("packed.csv.gz", gzip.compress(b'question,answer\nQ?,4\nR?,no'))])  # fmt: skip
def test_files_of_every_form_are_read_alike(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert [(q.text, q.answer) for q in question_file.from_file(tmp_path / name)] == [
        ("Q?", "4"),
        ("R?", "no"),
    ]


@pytest.mark.parametrize("mark, name", [(",", "quotes.csv"), ("\t", "quotes.tsv")])
@pytest.mark.parametrize("field, text", [
    ('"Who" is the author of Hamlet?', '"Who" is the author of Hamlet?'), ('"Who is it?"', "Who is it?"),
    ('"""Who"" is it?"', '"Who" is it?'), ('Who is "it"?', 'Who is "it"?'), ('"Hamlet" or "Macbeth"', '"Hamlet" or "Macbeth"'),
    ('"Two\nlines?"', "Two\nlines?"), ("It's 5\" long?", "It's 5\" long?")])  # fmt: skip
def test_a_question_may_open_with_a_quote(tmp_path, mark, name, field, text):
    file = write(tmp_path, f"question{mark}answer\n{field}{mark}Ada\nNext?{mark}Bob\n", name)
    assert [(q.text, q.answer) for q in question_file.from_file(file)] == [
        (text, "Ada"),
        ("Next?", "Bob"),
    ]


CELL = st.text('aé,;"\t\n\r ', min_size=1).map(str.strip).filter(bool)


@pytest.mark.parametrize("mark, name", [(",", "any.csv"), ("\t", "any.tsv")])
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5, unique_by=lambda row: row[0]))
def test_what_a_table_was_written_of_is_read_again(tmp_path_factory, mark, name, rows):
    file = tmp_path_factory.mktemp("any") / name
    with open(file, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=mark).writerows([("question", "answer"), *rows])
    assert [(q.text, q.answer) for q in question_file.from_file(file)] == rows


def test_a_list_in_a_cell_of_a_table_is_a_list(tmp_path):
    file = write(
        tmp_path,
        """question,answer,aliases\nQ?,"['Lima', 'LIM']",\nR?,Quito,"[""UIO""]"\nS?,"[1, 2]",\n""",
    )
    assert [(q.answer, q.aliases) for q in question_file.from_file(file)] == [
        ("Lima", ("LIM",)),
        ("Quito", ("UIO",)),
        ("[1, 2]", ()),
    ]


def test_a_column_that_was_probably_meant_is_named(tmp_path, caplog):
    question_file.from_file(write(tmp_path, "question,answer,alias,note\nQ?,4,x,y\n"))
    assert (
        "column 'alias' is left out; did you mean 'aliases'?" in caplog.text
        and "note" not in caplog.text
    )


@pytest.mark.parametrize("content, words", [
    (b'{"question": "Q?", "answer": 4}\n{"question": "R?"', "line 2 is not JSON"), (b'{"question": ["Q?"], "answer": 4, "id": 1}', "'question' is ['Q?']"),
    (b'{"question": "Q?", "answer": {"start": 3}}', "row 1: answer is an object with the fields ['start']"), (b"[3]", "entry 1 is int"),
    (b'{"question": "Q?", "answer": [null, ""]}', "row 1: 'answer' is empty"), (b'{"question": null, "answer": 4}', "row 1: 'question' is empty"), (b"", "has no rows"), (b'\xff\xfe{"q', "is not UTF-8"),
    (b'{"question": "Q?", "answer": 4, "id": 1}\n{"question": "R?", "answer": 4, "id": "1"}', "rows 1 and 2 have the same id '1'")])  # fmt: skip
def test_a_json_file_that_cannot_be_used_gets_a_sentence(tmp_path, content, words):
    (tmp_path / "mine.jsonl").write_bytes(content)
    with pytest.raises(ValueError) as raised:
        question_file.from_file(tmp_path / "mine.jsonl")
    assert words in str(raised.value)


def test_a_data_set_is_read_by_its_id(tmp_path):
    (tmp_path / "capitals").mkdir()
    rows = [
        {"question": "Q?", "answer": "Lima", "aliases": ["la ciudad", "Lima"]},
        {"question": "R?", "answer": "Quito", "aliases": []},
    ]
    write(tmp_path / "capitals", "\n".join(map(json.dumps, rows)), "test.jsonl")
    first, second = question_file.from_file(tmp_path / "capitals", split="test")
    assert (
        first.aliases == ("la ciudad", "Lima")
        and second.aliases == ()
        and second.id == "capitals-0001"
    )


@pytest.mark.parametrize("text, words", [
    ("questoin,answer\nQ?,4\n", "no column 'question', expected question and answer; rename the column 'questoin'"),
    ("question,answer\n", "has no rows"),
    ("question,answer\nQ?,4\nR?,\n", "row 2: 'answer' is empty"),
    ("question,answer,domain\nQ?,4,maths\n", "row 1: domain is 'maths', expected 'factual' or 'math'"),
    ("question,answer\nQ?,4\nR?,5\nQ?,4\n", "rows 1 and 3 have the same question 'Q?'"),
    ("question,answer,id\nQ?,4,1\nR?,5,1\n", "rows 1 and 2 have the same id '1'"),
    ("question,answer\nWho, then?,Ada\n", "row 1 has 3 fields, expected 2: put a text that holds ',' in quotes"),
    ('question,answer\n"Q?,4\n', "cannot be read as csv")])  # fmt: skip
def test_a_bad_file_gets_a_sentence(tmp_path, text, words):
    with pytest.raises(ValueError) as raised:
        question_file.from_file(write(tmp_path, text))
    assert words in str(raised.value)


def test_a_file_that_is_not_there_or_not_of_a_known_form_gets_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.csv is not there"):
        question_file.from_file(tmp_path / "gone.csv")
    with pytest.raises(ValueError, match=r"ends in '\.xlsx', expected \.csv"):
        question_file.from_file(write(tmp_path, "x", "mine.xlsx"))


def test_no_question_is_both_trained_on_and_tested_on():
    found = [ask(k) for k in range(20)]
    train, test = question_file.split_questions(found, 6)
    assert (
        len(test) == 6 and {q.id for q in train}.isdisjoint(q.id for q in test) and len(train) == 14
    )
    assert {q.split for q in train} == {"train"} and {q.split for q in test} == {"test"}
    assert (
        question_file.split_questions(found, 6)
        == (train, test)
        != question_file.split_questions(found, 6, seed=1)
    )
    with pytest.raises(ValueError, match="test is 20, expected 1 to 19 of the 20"):
        question_file.split_questions(found, 20)


def days_between(first: str, second: str) -> int:
    """Days from one date to another.

    Dates are YYYY-MM-DD.
    """
    return 137


@pytest.mark.isolation
def test_a_tool_of_ones_own_is_told_of_called_and_trained_with():
    line = (
        "You can also call days_between(first: str, second: str) -> int: Days from one date to"
        " another."
    )
    model = Scripted(
        lambda conversation, prefix, k: act(
            "final_answer(days_between('2024-01-01', '2024-05-17'))"
        )
    )
    with Sandbox(tools={"web_search": str, "days_between": days_between}) as box:
        (trajectory,) = agent.Agent(model, box, style="teacher").run([ask(answer="137")])
    told = model.calls[0]["conversations"][0][0]["content"]
    assert told.count(line) == 1 and told.index(line) < told.index("Rules:")
    case = cases.agent_case(ask(answer="137"), trajectory, model="m", method="agent", n=1)
    assert (
        case["correct"]
        and cases.conversation(case)[0]["content"] == f"{prompts.AGENT_STUDENT}\n{line}"
    )


@pytest.mark.isolation
def test_without_a_search_no_word_of_one_is_said():
    model = Scripted(lambda conversation, prefix, k: act("final_answer(42)"))
    with Sandbox(tools={"days_between": days_between}) as box:
        (trajectory,) = agent.Agent(model, box, style="teacher").run([ask()])
    told = model.calls[0]["conversations"][0][0]["content"]
    assert (
        "search" not in told
        and "You can call final_answer(answer)" in told
        and "4. If the code failed" in told
    )
    assert told.count("Question:") == 1, "the worked example that needs none"
    trained = cases.conversation(
        cases.agent_case(ask(), trajectory, model="m", method="agent", n=1)
    )[0]["content"]
    assert told.startswith(f"{trained}\n\nRules:\n"), "teacher and student read the same"


@pytest.mark.parametrize(
    ("wording", "agent", "chain"),
    [("plan", "64e98051aa", "59d844bd63"), ("plain", "d42a0d54dd", "0be690a32f")],
)
def test_the_published_prompts_are_those_of_the_records(wording, agent, chain):
    assert (prompts.version(True, wording), prompts.version(False, wording)) == (agent, chain)
    if wording == "plain":
        assert (prompts.version(agent=True), prompts.version(agent=False)) == (agent, chain)


class Clock:
    """Tells the time."""

    def __call__(self, zone: str):
        return zone


CLOCK = Clock()


@pytest.mark.parametrize(("tool", "line"), [
    (math.gcd, "t(*integers): Greatest Common Divisor."),
    # a builtin whose signature Python does not know
    (max, "t(...): max(iterable, *[, default=obj, key=func]) -> value"),
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
    assert (
        prompts.agent_system("teacher") == prompts.AGENT_TEACHER
        and prompts.agent_system("student") == prompts.AGENT_STUDENT
    )
    with Sandbox(tools={"web_search": str}) as box:
        model = Scripted(lambda conversation, prefix, k: act("final_answer(42)"))
        (trajectory,) = agent.Agent(model, box).run([ask()])
    assert trajectory.tools == "" and "tools" not in cases.agent_case(
        ask(), trajectory, model="m", method="agent", n=1
    )
