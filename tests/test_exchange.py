"""The authors' trajectories become our cases and train; ours become plain messages that others read."""

import json

import datasets
import pytest
from conftest import SMOL
from transformers import AutoTokenizer

from agentlib import cases, exchange, masks, prompts, weights

THINK = "Thought: I look it up.\nCode:\n```py\nprint(web_search('Bonn'))\n```<end_code>"
ANSWER = "Thought: It is Germany.\nCode:\n```py\nfinal_answer('Germany')\n```"


def turn(role, text):
    return {"role": role, "content": [{"type": "text", "text": text}]}


def row(*turns, **changed):
    """A row as the authors publish it."""
    turns = turns or (
        turn("MessageRole.SYSTEM", "You are an expert."), turn("MessageRole.USER", "New task:\nWhere is Bonn?"),
        turn("MessageRole.ASSISTANT", THINK), turn("MessageRole.TOOL_CALL", "Calling tools:\n[{'id': 'call_2'}]"),
        turn("MessageRole.TOOL_RESPONSE", "Observation:\nExecution logs:\nBonn lies in Germany."),
        turn("assistant", ANSWER), turn("tool-call", "Calling tools:\n[{'id': 'call_3'}]"),
        turn("tool-response", "Observation:\nLast output from code snippet:\nGermany"),
    )  # fmt: skip
    log = json.dumps({"messages": list(turns), "original_memory": {"steps": [{}]}})
    return {"model_id": "Qwen/Qwen2.5-32B-Instruct", "question": "Where is Bonn?", "true_answer": "Germany",
            "generated_answer": "Germany", "score": 1.0, "dataset_name": "hotpotqa_1000", "log_data": log} | changed  # fmt: skip


def test_an_agents_log_becomes_a_case_that_passes_the_filter():
    (case,) = exchange.from_published([row()], "agent_2k")
    assert (case["id"], case["question"], case["domain"], case["stopped"]) == ("agent_2k-0000", "Where is Bonn?", "factual", "final_answer")
    assert [step["text"] for step in case["trace"]] == [THINK, ANSWER + "<end_code>"]
    assert case["trace"][0]["observation"] == "Observation:\nExecution logs:\nBonn lies in Germany."
    assert cases.kept(case) and case["tool_calls"] == 1
    roles = [message["role"] for message in cases.conversation(case)]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert cases.conversation(case)[0]["content"] == prompts.AGENT_STUDENT, "the student's own prompt"


def test_wrong_answers_and_turns_without_code_do_not_pass_the_filter():
    prose = row(turn("system", "s"), turn("user", "q"), turn("assistant", "It is Germany."), turn("tool-response", "Error:\nno code"))
    wrong, talked = exchange.from_published([row(score=0.0), prose])
    assert not cases.kept(wrong) and not cases.kept(talked)
    assert talked["parse_errors"] == 1 and talked["trace"][0]["observation"] == "Observation:\nError:\nno code"


def test_a_failed_step_counts_as_an_execution_error_and_is_kept():
    failed = row(turn("system", "s"), turn("user", "q"), turn("assistant", THINK), turn("tool-response", "Error:\nNameError"),
                 turn("assistant", ANSWER))  # fmt: skip
    (case,) = exchange.from_published([failed])
    assert case["execution_errors"] == 1 and cases.kept(case)


def test_rows_without_a_log_or_with_a_plan_are_left_out_and_counted(caplog):
    planned = row(turn("system", "s"), turn("user", "q"), turn("system", "plan"), turn("assistant", ANSWER))
    found = exchange.from_published([row(log_data=""), planned, row()], "x")
    assert [case["id"] for case in found] == ["x-0002"]
    assert "x: left out 2 rows without a log or with a plan (0, 1)" in caplog.text


def test_chains_of_thought_become_cases():
    chain = {"question": "What is 6 * 7?", "messages": [{"role": "user", "content": "What is 6 * 7?"}], "score": True,
             "response": "6 * 7 = 42.\n\n\\boxed{42}", "dataset_name": "math_1000"}  # fmt: skip
    (case,) = exchange.from_published([chain])
    assert case["domain"] == "math" and cases.kept(case)
    assert cases.conversation(case)[-1] == {"role": "assistant", "content": chain["response"]}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (row(log_data="{not JSON"), "JSONDecodeError"),
        (row(turn("system", "s"), turn("user", "q")), "log_data has no assistant turn"),
        (row(turn("MessageRole.OTHER", "x")), "role 'MessageRole.OTHER', expected one of assistant, system"),
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
    file.write_text("\n".join(json.dumps(row(question=f"Where is Bonn {k}?")) for k in range(3)) + "\n", encoding="utf-8")
    found = exchange.load_published(str(file.parent))
    tokenizer = AutoTokenizer.from_pretrained(weights.fetch_tokenizer(SMOL))
    examples = masks.build_examples({c["id"]: cases.conversation(c) for c in found}, tokenizer, 2048)
    learnt = tokenizer.decode([token for token in examples[0].labels if token != masks.IGNORED])
    end = tokenizer.eos_token
    assert len(examples) == 3 and learnt == f"{THINK}{end}{ANSWER}<end_code>{end}"


def test_our_cases_export_as_messages_that_datasets_reads(tmp_path):
    found = exchange.from_published([row(), row()], "x")
    file = exchange.export(found, tmp_path / "messages.jsonl")
    read = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert read.column_names == ["id", "messages"] and read["id"] == ["x-0000", "x-0001"]
    assert [dict(message) for message in read[0]["messages"]] == cases.conversation(found[0])
