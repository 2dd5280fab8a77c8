"""The pilot of prompts: how each condition asks, what is kept, what it says of its cost
and its results."""

import contextlib
import importlib.util
import json

import pytest
from conftest import SMOL, Scripted, act, ask

from agentlib import config, prompts, records
from agentlib.benchmarks import sets, wiki
from agentlib.runner import archive

_spec = importlib.util.spec_from_file_location(
    "pilot", config.ROOT / "tools" / "experiment" / "pilot.py"
)
pilot = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pilot)
CFG = config.load("laptop")
RECORDED = config.ROOT / "figures" / "records" / "laptop" / "runs"


@pytest.fixture
def here(project, monkeypatch):
    """An empty project folder, and dev sets that need no file."""
    monkeypatch.setattr(sets, "fingerprint", lambda names: "f")
    monkeypatch.setattr(wiki, "gold_passages", lambda question_id: [])


def test_a_chain_of_each_condition_is_asked_for_in_its_wording():
    model = Scripted(lambda *_: r"Six sevens are \boxed{42}.")
    for name, wording in (("cot-zero-shot", "plain"), ("cot-plan", "plan")):
        (case,) = pilot.answers(CFG, name, model, None, [ask()])
        turns = prompts.cot_turns("What is 6 times 7?", "math", examples=True, wording=wording)
        assert model.calls[-1]["conversations"] == [turns]
        assert case["correct"] and (case["method"], case["wording"]) == (name, wording)
        assert case["text"].endswith("}.") and case["seconds"] >= 0
    assert len(model.calls[0]["conversations"][0]) == 2 < len(model.calls[1]["conversations"][0])


@pytest.mark.parametrize("name", pilot.CONDITIONS)
def test_recorded_runs_keep_their_names(here, name):
    """All but the questions, whose files are not everywhere."""
    (file,) = RECORDED.glob(f"pilot-{name}-" + "[0-9a-f]" * 10 + ".jsonl.xz")
    recorded = archive.unpack(file)[0]["configuration"]
    shape = pilot.pilot_run(CFG, name).configuration | {"questions": recorded["questions"]}
    assert shape == recorded
    assert records.Run(CFG.runs, f"pilot-{name}", shape).folder.name == file.name.partition(".")[0]


def test_an_agents_transcript_is_kept_and_a_lost_question_is_asked_again(here, box):
    lost = ["q-1"]

    def reply(conversation, prefix, k):
        if lost and "8 times" in conversation[1]["content"]:
            raise ConnectionError(lost.pop())
        return (
            act("final_answer(42)")
            if conversation[-1]["content"].startswith("Observation")
            else act("print(web_search('six'))")
        )

    model, asked = Scripted(reply), [ask(0), ask(1, "What is 8 times 7?", "56")]
    with pytest.raises(RuntimeError, match="1 of 2 questions are unanswered"):
        pilot.run_condition(CFG, "agent-two-searches", model, box, asked)
    (kept,) = pilot.pilot_run(CFG, "agent-two-searches").finished().values()
    assert (
        kept["correct"]
        and kept["tool_calls"] == 1
        and kept["trace"][0]["observation"].endswith("[1] six")
    )
    system = {"role": "system", "content": prompts.agent_system("teacher", wording="plain")}
    assert all(call["conversations"][0][0] == system for call in model.calls)
    calls = len(model.calls)
    both = pilot.run_condition(CFG, "agent-two-searches", model, box, asked)
    assert [c["id"] for c in both] == ["q-0", "q-1"] and len(model.calls) == calls + 2, (
        "only the lost one is asked"
    )
    lines = [
        json.loads(line)
        for line in (
            pilot.pilot_run(CFG, "agent-two-searches").file.read_text(encoding="utf-8").splitlines()
        )
    ]
    assert [("error" in line) for line in lines].count(True) == 1


def test_each_condition_has_a_run_of_its_own_whatever_number_is_asked(here):
    folders = [pilot.pilot_run(CFG, name).folder for name in pilot.CONDITIONS]
    assert len(set(folders)) == 4
    assert pilot.pilot_run(CFG, "agent", 1.1).folder not in folders
    other = config.load("laptop", questions=7, cot_tokens=64)
    assert (
        pilot.pilot_run(other, "agent").folder == folders[2]
        and pilot.pilot_run(other, "cot-plan").folder != folders[0]
    )


def test_the_cost_is_that_of_the_same_run_once_it_was_measured(here):
    run = pilot.pilot_run(CFG, "agent")
    assert pilot.seconds_left(run, "agent", 3) == 3 * pilot.SECONDS["agent"]
    run.folder.mkdir(parents=True)
    run.times.write_text(
        '{"cases": 4, "seconds": 10.0}\n{"cases": 1, "seconds": 5.0}\n', encoding="utf-8"
    )
    assert pilot.seconds_left(run, "agent", 3) == 9.0


def case(number, method, correct, domain="factual", **more):
    found = {"id": f"q-{number}", "benchmark": "b", "model": "m", "n": 1, "method": method, "domain": domain, "correct": correct, "f1": 0.5 * correct,
             "tool_calls": 0, "completion_tokens": 100, "stopped": "stop", "parse_errors": 0, "text": "x"}  # fmt: skip
    return found | more


def agents(number, method, correct, searches, stopped="final_answer"):
    trace = [{"observation": f"seen {k}"} for k in range(searches)]
    found = case(number, method, correct, tool_calls=searches, stopped=stopped, trace=trace)
    return {k: v for k, v in found.items() if k != "text"}


def test_the_tables_count_what_was_right_kept_supported_and_searched(here, monkeypatch):
    monkeypatch.setattr(wiki, "is_supported", lambda found: len(found["trace"]) > 1)
    found = [case(0, "cot-plan", True), case(1, "cot-plan", False), case(0, "cot-zero-shot", True), case(1, "cot-zero-shot", True, stopped="length"),
             agents(0, "agent", True, 1), agents(1, "agent", True, 2, "max_steps"), agents(2, "agent", False, 3)]  # fmt: skip
    rows = pilot.table(found).set_index("condition")
    assert rows["right"].to_dict() == {"cot-plan": 1, "cot-zero-shot": 2, "agent": 2}
    assert rows["kept"].to_dict() == {"cot-plan": 1, "cot-zero-shot": 1, "agent": 1}
    assert rows["cut"].to_dict() == {"cot-plan": 0, "cot-zero-shot": 1, "agent": 1}
    assert rows.loc["agent", ["n", "supported", "searched once or less", "F1"]].tolist() == [
        3,
        2,
        1,
        0.33,
    ]
    (pair,) = pilot.comparisons(found).to_dict("records")
    assert (pair["first"], pair["second"], pair["n"], pair["difference"], pair["only_b"]) == (
        "cot-plan",
        "cot-zero-shot",
        2,
        0.5,
        1,
    )


def test_a_penalty_is_refused_where_none_is_sent():
    with pytest.raises(ValueError, match=r"--penalty 1.1 is for a model on a server"):
        pilot.open_model(CFG, 1.1, 2).__enter__()


@pytest.mark.model
def test_a_penalty_is_sent_only_where_there_is_one(moody):
    moody.replies = [
        {
            "choices": [{"text": "six", "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        }
    ]
    for penalty in (1.0, 1.1):
        with pilot.open_model(
            config.load("laptop", teacher=SMOL, teacher_server=moody.url), penalty, 2
        ) as model:
            model.generate([[{"role": "user", "content": "six"}]], max_new_tokens=4)
    assert [
        (body.get("repetition_penalty"), body.get("repeat_penalty")) for body in moody.asked
    ] == [(None, None), (1.1, 1.1)]


def test_the_command_tells_its_cost_first_then_asks_and_compares(
    paper_files, project, monkeypatch, capsys, box
):
    if not (wiki.folder() / wiki.QUESTIONS).exists():
        pytest.skip("the slice of Wikipedia is not here; `python tools/build_wiki.py` makes it")
    model = Scripted(
        lambda conversation, *_: r"\boxed{42}" if "agent" not in conversation[0]["content"] else ""
    )
    monkeypatch.setattr(pilot, "open_model", lambda *_: contextlib.nullcontext(model))
    monkeypatch.setattr(pilot.search, "build", lambda cfg: None)
    monkeypatch.setattr(pilot.search, "web_search", lambda cfg: lambda query: "nothing")
    monkeypatch.setattr(pilot, "Sandbox", lambda **_: contextlib.nullcontext(box))
    command = ["--questions=1", "--condition=cot-plan", "--condition=cot-zero-shot"]
    assert pilot.main([*command, "--check"]) == 0 and not model.calls
    assert "cot-zero-shot: 3 of 3 questions are left, about 0 min" in capsys.readouterr().out
    assert pilot.main(command) == 0 and len(model.calls) == 6
    said = capsys.readouterr().out
    assert said.index("about 0.0 h in all") < said.index("condition") and "difference" in said
    assert pilot.main(command) == 0 and len(model.calls) == 6, "what is there is not asked again"
    assert (
        pilot.main([*command, "--set=step_tokens=0"]) == 2
        and "step_tokens" in capsys.readouterr().err
    )
