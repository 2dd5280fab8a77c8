"""The authors' trajectories become our cases and train; ours become plain messages that others
read."""

import json

import datasets
import pytest
from conftest import SMOL, ask
from transformers import AutoTokenizer

from agentlib import cases, exchange, filtering, masks, prompts, records
from agentlib.agent import Candidate, Step, Trajectory
from agentlib.cot import CoTResult
from agentlib.figures import failures, statistics
from agentlib.models import Completion, weights
from agentlib.pages import show, widgets
from agentlib.sandbox import Outcome
from agentlib.score import regrading

THINK = "Thought: I look it up.\nCode:\n```py\nprint(web_search('Bonn'))\n```<end_code>"
ANSWER = "Thought: It is Germany.\nCode:\n```py\nfinal_answer('Germany')\n```"


def turn(role, text):
    return {"role": role, "content": [{"type": "text", "text": text}]}


def row(*turns, **changed):
    """A row as the authors publish it."""
    turns = turns or (
        turn("MessageRole.SYSTEM", "You are an expert."),
        turn("MessageRole.USER", "New task:\nWhere is Bonn?"),
        turn("MessageRole.ASSISTANT", THINK),
        turn("MessageRole.TOOL_CALL", "Calling tools:\n[{'id': 'call_2'}]"),
        turn("MessageRole.TOOL_RESPONSE", "Observation:\nExecution logs:\nBonn lies in Germany."),
        turn("assistant", ANSWER),
        turn("tool-call", "Calling tools:\n[{'id': 'call_3'}]"),
        turn("tool-response", "Observation:\nLast output from code snippet:\nGermany"),
    )
    log = json.dumps({"messages": list(turns), "original_memory": {"steps": [{}]}})
    return {
        "model_id": "Qwen/Qwen2.5-32B-Instruct",
        "question": "Where is Bonn?",
        "true_answer": "Germany",
        "generated_answer": "Germany",
        "score": 1.0,
        "dataset_name": "hotpotqa_1000",
        "log_data": log,
    } | changed


def test_an_agents_log_becomes_a_case_that_passes_the_filter():
    (case,) = exchange.from_published([row()], "agent_2k")
    assert (case["id"], case["question"], case["domain"], case["stopped"]) == (
        "agent_2k-0000",
        "Where is Bonn?",
        "factual",
        "final_answer",
    )
    assert [step["text"] for step in case["trace"]] == [THINK, ANSWER + "<end_code>"]
    assert case["trace"][0]["observation"] == "Observation:\nExecution logs:\nBonn lies in Germany."
    assert filtering.passes_filter(case) and case["tool_calls"] == 1
    roles = [message["role"] for message in cases.conversation(case)]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert cases.conversation(case)[0]["content"] == prompts.AGENT_STUDENT, (
        "the student's own prompt"
    )


def test_wrong_answers_and_turns_without_code_do_not_pass_the_filter():
    prose = row(
        turn("system", "s"),
        turn("user", "q"),
        turn("assistant", "It is Germany."),
        turn("tool-response", "Error:\nno code"),
    )
    wrong, talked = exchange.from_published([row(score=0.0), prose])
    assert not filtering.passes_filter(wrong) and not filtering.passes_filter(talked)
    assert (
        talked["parse_errors"] == 1
        and talked["trace"][0]["observation"] == "Observation:\nError:\nno code"
    )


def test_a_failed_step_counts_as_an_execution_error_and_is_kept():
    failed = row(
        turn("system", "s"),
        turn("user", "q"),
        turn("assistant", THINK),
        turn("tool-response", "Error:\nNameError"),
        turn("assistant", ANSWER),
    )
    (case,) = exchange.from_published([failed])
    assert case["execution_errors"] == 1 and filtering.passes_filter(case)


def own():
    """A case of an agent and one of a chain of thought, as our own runs record them."""
    done = Outcome(answer="Germany", is_final=True)
    step = Step(
        ANSWER,
        "final_answer('Germany')",
        done,
        (Candidate("final_answer('Germany')", done, 0, 9),),
        90,
        9,
        1.0,
    )
    labels = {
        "model": "m",
        "role": "teacher",
        "method": "agent",
        "n": 1,
        "seed": 42,
        "temperature": 0.0,
    }
    question = ask(text="Where is Bonn?", answer="Germany", domain="factual")
    chain = CoTResult(
        question.id, (Completion("\\boxed{Germany}", 9, 9, "stop"),), ("Germany",), "Germany"
    )
    return (
        cases.agent_case(
            question, Trajectory(question.id, [step], "Germany", "final_answer"), **labels
        ),
        cases.cot_case(question, chain, **labels),
    )


def chain_row(**changed):
    return {
        "question": "What is 6 * 7?",
        "messages": [{"role": "user", "content": "What is 6 * 7?"}],
        "true_answer": "42",
        "response": "6 * 7 = 42.\n\n\\boxed{42}",
        "dataset_name": "math_1000",
        "model_id": "Qwen/Qwen2.5-32B-Instruct",
    } | changed


def test_imported_cases_have_the_fields_of_our_own():
    for ours, imported in zip(own(), exchange.from_published([row(), chain_row()]), strict=True):
        assert imported.keys() == ours.keys()
        for step in imported.get("trace", []):
            assert step.keys() == ours["trace"][0].keys()


@pytest.mark.parametrize(
    "changed",
    [{}, {"score": 0.0}, {"score": None, "true_answer": None}],
    ids=["right", "wrong", "not graded"],
)
def test_what_takes_a_case_takes_an_imported_one(changed, tmp_path):
    found = exchange.from_published([row(**changed), chain_row(**changed)])
    agent, chain = found
    verdict = {True: "right", False: "wrong", None: "not graded"}[agent["correct"]]
    for page in (
        show.show_case(agent),
        show.show_case(agent, 2),
        show.show_steps(chain),
        show.show_side_by_side(agent, chain),
        show.show_cases(found),
    ):
        assert verdict in page.data and "None tokens" not in page.data
    widgets.browse_cases(found)
    records.write_lines(tmp_path / "x.jsonl", found)
    assert cases.read(tmp_path / "x.jsonl") == found
    assert [bool(filtering.passes_filter(case)) for case in found] == [verdict == "right"] * 2
    summary = statistics.summarise(statistics.to_frame(found), ["method"])
    assert (
        summary["answered"].tolist() == [verdict != "not graded"] * 2
        and summary["correct"].tolist() == [verdict == "right"] * 2
    )
    assert len(regrading.regrade(found)) == 2
    if verdict == "wrong":
        assert failures.sample_failures(found, 1) == [agent]
    else:
        with pytest.raises(ValueError, match="0 agent cases are wrong"):
            failures.sample_failures(found, 1)


@pytest.mark.parametrize(
    ("score", "correct"),
    [(1.0, True), (1, True), (True, True), ("1", True), ("1.0", True), ("True", True), ("true ", True),
     (0.0, False), (0, False), (False, False), ("0", False), ("0.0", False), ("False", False)],
)  # fmt: skip
def test_a_published_score_is_read_by_what_it_says(score, correct):
    (case,) = exchange.from_published([row(score=score)])
    assert case["correct"] is correct and case["reason"] == f"published score {score}"


@pytest.mark.parametrize("score", [None, float("nan"), "", " ", "None", "nan", "missing"])
def test_a_row_without_a_score_is_graded_here_if_it_can_be(score):
    given = {} if score == "missing" else {"score": score}
    plain = {k: v for k, v in row().items() if k != "score"} | given
    right, wrong, unknown, lost = exchange.from_published(
        [
            plain,
            plain | {"generated_answer": "France"},
            plain | {"true_answer": None},
            plain | {"generated_answer": None},
        ]
    )
    assert [case["correct"] for case in (right, wrong, unknown, lost)] == [True, False, None, False]
    assert (
        right["exact_match"] is True
        and unknown["reason"] == "no gold answer"
        and not filtering.passes_filter(unknown)
    )


@pytest.mark.parametrize("score", ["right", 0.5, "2", [1]])
def test_a_score_that_is_neither_right_nor_wrong_is_named(score):
    with pytest.raises(
        ValueError, match=r"row 0 of published cannot be read .*expected 0 or 1, true or false"
    ):
        exchange.from_published([row(score=score)])


@pytest.mark.parametrize(
    ("answer", "gold", "aliases"),
    [("Germany", "Germany", []), (["Germany", "FRG"], "Germany", ["FRG"]), ({"value": "Germany", "aliases": ["FRG"]}, "Germany", ["FRG"]),
     (42, "42", []), (42.0, "42", []), (None, "", []), (float("nan"), "", [])],
)  # fmt: skip
def test_gold_answers_of_other_shapes(answer, gold, aliases):
    (case,) = exchange.from_published([row(true_answer=answer)])
    assert (case["gold"], case["aliases"]) == (gold, aliases)


@pytest.mark.parametrize(
    ("name", "domain"),
    [("math_1000", "math"), ("MATH-500", "math"), ("aime_90", "math"), ("gsm_hard", "math"), ("olymath_200", "math"), ("hotpotqa_1000", "factual"),
     ("musique", "factual"), (None, "factual"), (float("nan"), "factual")],
)  # fmt: skip
def test_a_data_sets_name_gives_the_domain(name, domain):
    (case,) = exchange.from_published([row(dataset_name=name)])
    assert case["domain"] == domain and case["benchmark"] == (name if isinstance(name, str) else "")


@pytest.mark.parametrize(
    ("code", "final"),
    [("final_answer('Germany')", True), ("print('x')\nfinal_answer(answer='Germany')", True), ("print('final_answer')", False),
     ("# final_answer('Germany')", False), ("def final_answer(x):\n    return x\nfinal_answer(1)", False), ("final_answer(", False)],
)  # fmt: skip
def test_a_final_answer_is_a_call_of_it(code, final):
    (case,) = exchange.from_published(
        [row(turn("system", "s"), turn("user", "q"), turn("assistant", f"```py\n{code}\n```"))]
    )
    assert case["trace"][-1]["final"] is final and case["stopped"] == (
        "final_answer" if final else "max_steps"
    )


def test_a_final_answer_that_failed_is_none_and_broken_code_is_a_parse_error():
    steps = [
        turn("system", "s"),
        turn("user", "q"),
        turn("assistant", "```py\nprint((\n```"),
        turn("tool-response", "Error:\nSyntaxError"),
        turn("assistant", ANSWER),
        turn("tool-response", "Error:\nNameError"),
    ]
    (case,) = exchange.from_published([row(*steps)])
    assert case["errors"] == ["parse", "execution"] and (
        case["parse_errors"],
        case["execution_errors"],
    ) == (1, 1)
    assert case["stopped"] == "max_steps" and not filtering.passes_filter(case)


@pytest.mark.parametrize(
    ("text", "kept", "code"),
    [("```py\r\nprint(1)\r\n```", "```py\r\nprint(1)\r\n```<end_code>", "print(1)"),
     ("```python\nprint(1)\n<end_code>", "```python\nprint(1)\n```<end_code>", "print(1)"),
     ("<code>\nprint(1)\n</code>", "<code>\nprint(1)\n</code><end_code>", "print(1)"),
     ("```py\nprint(1)", "```py\nprint(1)\n```<end_code>", "print(1)"),
     ("```py\nprint(1)\n```<end_code>", "```py\nprint(1)\n```<end_code>", "print(1)")],
)  # fmt: skip
def test_an_imported_turn_is_closed_as_our_own(text, kept, code):
    (case,) = exchange.from_published(
        [row(turn("system", "s"), turn("user", "q"), turn("assistant", text))]
    )
    assert (case["trace"][0]["text"], case["trace"][0]["code"]) == (kept, code)


def test_a_row_without_an_answer_is_left_out_and_one_without_a_generated_answer_is_read(caplog):
    found = exchange.from_published(
        [chain_row(response=None), chain_row(response=float("nan")), chain_row(messages=None)], "x"
    )
    assert (
        [case["id"] for case in found] == ["x-0002"]
        and found[0]["prediction"] == "42"
        and found[0]["correct"]
    )
    assert found[0]["answers"] == ["42"] and "left out 2 rows" in caplog.text


@pytest.mark.parametrize(("text", "read"), [("a\ud83db", "a?b"), ("\ud83d\ude00", "😀")])
def test_half_a_surrogate_pair_reaches_no_case_and_no_file(text, read, tmp_path):
    (case,) = exchange.from_published([row(question=text, generated_answer=[text])])
    assert (case["question"], case["prediction"]) == (read, [read]) and read in show.show_case(
        case
    ).data
    recorded = case | {"question": text, "prediction": text}  # from an older record
    assert read in show.show_case(recorded).data and show.show_case(recorded).data.encode()
    records.write_lines(file := tmp_path / "x.jsonl", exchange.to_messages([recorded]))
    assert (
        json.loads(file.read_text(encoding="utf-8"))["messages"][1]["content"]
        == f"Question: {read}"
    )
    assert exchange.to_messages([recorded])[0]["messages"][1]["content"] == f"Question: {read}"


def test_rows_without_a_log_or_with_a_plan_are_left_out_and_counted(caplog):
    planned = row(
        turn("system", "s"), turn("user", "q"), turn("system", "plan"), turn("assistant", ANSWER)
    )
    found = exchange.from_published([row(log_data=""), planned, row()], "x")
    assert [case["id"] for case in found] == ["x-0002"]
    assert "x: left out 2 rows without a log or with a plan (0, 1)" in caplog.text


def test_chains_of_thought_become_cases():
    (case,) = exchange.from_published([chain_row(score=True)])
    assert case["domain"] == "math" and filtering.passes_filter(case)
    first, *_, last = cases.conversation(case)
    assert first["content"] == prompts.COT
    assert last == {"role": "assistant", "content": chain_row()["response"]}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (row(log_data="{not JSON"), "JSONDecodeError"),
        (row(turn("system", "s"), turn("user", "q")), "log_data has no assistant turn"),
        (
            row(turn("MessageRole.OTHER", "x")),
            "role 'MessageRole.OTHER', expected one of assistant, system",
        ),
        ({"question": "q", "response": "r"}, "KeyError: 'messages'"),
        (row({"role": "user", "content": [{"type": "image", "image": "…"}]}), "more than text"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(broken, said):
    with pytest.raises(ValueError, match="row 1 of x cannot be read") as raised:
        exchange.from_published([row(), broken], "x")
    assert said in str(raised.value)


@pytest.mark.model
def test_published_rows_train_with_loss_on_the_assistants_turns_alone(tmp_path):
    """From a file of their schema, through `datasets`, to the examples of a training."""
    file = tmp_path / "agent_2k" / "train.jsonl"
    file.parent.mkdir()
    file.write_text(
        "\n".join(json.dumps(row(question=f"Where is Bonn {k}?")) for k in range(3)) + "\n",
        encoding="utf-8",
    )
    found = exchange.from_published(
        datasets.load_dataset(str(file.parent), split="train"), file.parent.name
    )
    tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(SMOL))
    examples = masks.build_examples(
        {c["id"]: cases.conversation(c) for c in found}, tokenizer, 2048
    )
    learnt = tokenizer.decode([token for token in examples[0].labels if token != masks.IGNORED])
    end = tokenizer.eos_token
    assert len(examples) == 3 and learnt == f"{THINK}{end}{ANSWER}<end_code>{end}"


def test_our_cases_export_as_messages_that_datasets_reads(tmp_path):
    found = exchange.from_published([row(), row()], "x")
    records.write_lines(file := tmp_path / "messages.jsonl", exchange.to_messages(found))
    read = datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert read.column_names == ["id", "messages"] and read["id"] == ["x-0000", "x-0001"]
    assert [dict(message) for message in read[0]["messages"]] == cases.conversation(found[0])
