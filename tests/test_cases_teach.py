"""Cases and the teacher's runs: records that read back as the conversation, the filter, and
resuming."""

import dataclasses
import threading

import pytest
from conftest import SMOL, Scripted, act, ask

from agentlib import benchmarks, cases, config, filtering, prompts, records, teach
from agentlib.agent import Agent
from agentlib.models import ServerError, language, weights
from agentlib.sag import SAG
from agentlib.sandbox import SandboxLost
from agentlib.scale import WorkerLost


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(weights.fetch_tokenizer(SMOL))


def mending(conversation, prefix, k):
    """Three steps: one that fails, one that prints, the answer."""
    done = sum(turn["role"] == "assistant" for turn in conversation)
    return act(["1 / 0", "print(6 * 7)", "final_answer(42)"][done])


def recorded(reply, box, question=None, **settings):
    question, model = question or ask(), Scripted(reply)
    (trajectory,) = Agent(model, box, **settings).run([question])
    return cases.agent_case(question, trajectory, model="m", method="agent", n=1), model


# --- cases ------------------------------------------------------------------------------------------------------


def test_a_case_reads_back_as_the_conversation_the_agent_saw(box, tokenizer):
    case, model = recorded(mending, box)
    messages = cases.conversation(case)
    seen = model.calls[-1]["conversations"][0]
    assert (
        messages[:-1] == seen and messages[-1]["content"] == act("final_answer(42)") + "<end_code>"
    )
    trained = tokenizer.apply_chat_template(messages, tokenize=False)
    assert trained.startswith(language.render(tokenizer, seen)), (
        "the student is trained on what it will read"
    )


def test_a_teachers_case_reads_back_with_the_students_prompt(box):
    teachers, _ = recorded(mending, box, style="teacher")
    students, _ = recorded(mending, box, style="student")
    assert cases.conversation(teachers) == cases.conversation(students)


def test_a_case_counts_what_happened(box):
    case, _ = recorded(mending, box)
    assert (case["prediction"], case["correct"], case["gold"]) == (42, True, "42")
    assert (case["steps"], case["errors"], case["parse_errors"], case["execution_errors"]) == (
        3,
        ["execution"],
        0,
        1,
    )
    assert (case["stopped"], case["method"], case["question"]) == (
        "final_answer",
        "agent",
        "What is 6 times 7?",
    )
    assert case["completion_tokens"] == sum(s["completion_tokens"] for s in case["trace"])


def test_a_case_survives_the_disk(box, tmp_path):
    case, _ = recorded(mending, box)
    records.write_lines(tmp_path / "c.jsonl", [case])
    assert cases.read(tmp_path / "c.jsonl") == [case]


def test_candidates_of_a_vote_are_recorded_with_the_one_chosen(box):
    codes = ["final_answer(41)", "final_answer(42)", "final_answer('42')", "1 / 0"]
    case, _ = recorded(lambda c, p, k: act(codes[k]), box, sag=SAG(n=4))
    (step,) = case["trace"]
    assert step["chosen"] == 1 and [c["group"] for c in step["candidates"]] == [1, 0, 0, None]
    assert step["candidates"][3]["failed"] == "execution" and case["correct"]


def test_a_vote_where_no_candidate_had_code_can_be_recorded(box):
    case, _ = recorded(lambda c, p, k: f"It is {k}.", box, sag=SAG(n=2), max_steps=1)
    assert case["trace"][0]["chosen"] == 0 and case["parse_errors"] == 1


def chain_case(text, question=None, passages=""):
    from agentlib.cot import generate_cot

    question = question or ask()
    search = (lambda _: passages) if passages else None
    (chain,) = generate_cot(Scripted(lambda *_: text), [question], max_new_tokens=20, search=search)
    return cases.cot_case(question, chain, model="m", method="cot", n=1)


def test_a_chain_of_thought_reads_back_with_its_passages():
    case = chain_case(r"Six sevens are \boxed{42}", passages="[1] Sevens")
    messages = cases.conversation(case)
    assert [m["role"] for m in messages] == ["system", "user", "assistant"]
    assert messages[1]["content"].startswith("[1] Sevens\n\nQuestion: ")
    assert messages[2]["content"] == case["text"] and case["correct"] and case["tool_calls"] == 1


def test_a_chain_of_thought_is_trained_on_in_the_words_that_asked_for_it():
    case = chain_case(r"\boxed{42}")
    asked = {
        "plain": case,
        "plan": case | {"wording": "plan"},
        "older records do not say": {k: v for k, v in case.items() if k != "wording"},
    }
    assert {name: cases.conversation(one)[0]["content"] for name, one in asked.items()} == {
        "plain": prompts.COT,
        "plan": prompts.COT_PLAN["math"],
        "older records do not say": prompts.COT_PLAN["math"],
    }


def test_an_errored_question_is_a_case_without_a_grade():
    case = cases.error_case(ask(), ServerError("gone"), method="agent")
    assert case["error"] == "ServerError: gone" and case["id"] == "q-0" and "correct" not in case
    assert not filtering.passes_filter(case)


AGENT = {"id": "q", "question": "?", "domain": "math", "correct": True, "stopped": "final_answer", "parse_errors": 0,
         "execution_errors": 0, "trace": []}  # fmt: skip
CHAIN = {k: v for k, v in AGENT.items() if k != "trace"} | {"stopped": "stop", "text": "x"}


@pytest.mark.parametrize(
    ("case", "kept"),
    [
        (AGENT, True),
        (AGENT | {"execution_errors": 2}, True),
        (AGENT | {"correct": False}, False),
        (AGENT | {"parse_errors": 1}, False),
        (AGENT | {"stopped": "max_steps"}, False),
        (AGENT | {"stopped": "context_full"}, False),
        (CHAIN, True),
        (CHAIN | {"stopped": "length"}, False),
        (CHAIN | {"correct": False}, False),
        ({"id": "q", "error": "x"}, False),
    ],
)
def test_the_filter_keeps_right_answers_with_code_that_parsed(case, kept):
    assert filtering.passes_filter(case) is kept


def test_a_case_that_lacks_a_field_names_file_record_and_field(tmp_path):
    file = tmp_path / "c.jsonl"
    records.write_lines(
        file, [AGENT, {k: v for k, v in AGENT.items() if k not in ("domain", "trace")}]
    )
    with pytest.raises(ValueError) as error:
        cases.read(file)
    assert str(file) in str(error.value) and "record 2 lacks domain, trace or text" in str(
        error.value
    )


def test_a_broken_line_names_file_and_line(tmp_path):
    file = tmp_path / "c.jsonl"
    file.write_text('{"id": "a", "error": "x"}\n{broken\n{"id": "b", "error": "x"}\n')
    with pytest.raises(ValueError, match=r"c\.jsonl line 2 is not JSON"):
        cases.read(file)


# --- the teacher ------------------------------------------------------------------------------------------------


@pytest.fixture
def cfg(project):
    return config.load("smoke", teacher="scripted", teacher_records="", train_questions=2)


def questions(cfg):
    return benchmarks.training_questions(cfg)


def golds(cfg):
    return {q.text: q.answer for q in questions(cfg)}


class Failing(Scripted):
    """Raises once for one question, after the others had time to be asked."""

    def __init__(self, reply, text, error):
        super().__init__(reply)
        self.text, self.error, self.lock = text, error, threading.Lock()

    def generate(self, conversations, **settings):
        with self.lock:
            if self.error and any(self.text in c[-1]["content"] for c in conversations):
                error, self.error = self.error, None
                raise error
        return super().generate(conversations, **settings)


OUTAGES = [
    ServerError("status 500"),
    ConnectionError("reset"),
    TimeoutError("late"),
    SandboxLost("ended"),
    WorkerLost("killed"),
    MemoryError("no room"),
]
BUGS = [
    RuntimeError("cannot schedule new futures after shutdown"),
    KeyError("mps"),
    ValueError("wrong"),
    TypeError("None"),
    OSError("disk full"),
]


@pytest.mark.parametrize("error", BUGS, ids=repr)
def test_a_bug_is_no_outage_and_stops_the_run(cfg, error):
    asked = questions(cfg)
    with pytest.raises(type(error)) as raised:
        teach.teach(cfg, Failing(lambda *_: r"\boxed{42}", asked[1].text, error), "cot", asked)
    assert raised.value is error and not any(
        r.get("error") for r in records.read(teach.teacher_run(cfg, "cot").file)
    )
    with pytest.raises(type(error)):
        cases.error_case(ask(), error)


@pytest.mark.parametrize("error", OUTAGES, ids=repr)
def test_a_run_with_an_error_says_how_many_are_left_and_goes_on_when_resumed(cfg, error):
    asked = questions(cfg)
    model = Failing(lambda *_: r"So it is \boxed{42}", asked[1].text, error)
    with pytest.raises(RuntimeError, match=f"1 of {len(asked)} questions are unanswered") as raised:
        teach.teach(cfg, model, "cot", asked)
    assert "resume" in str(raised.value)
    run = teach.teacher_run(cfg, "cot")
    assert set(run.finished()) == {q.id for q in asked} - {asked[1].id}
    before = len(model.calls)
    found = teach.teach(cfg, model, "cot", asked)
    assert [c["id"] for c in found] == [q.id for q in asked] and len(model.calls) == before + 1
    lines = [r for r in records.read(run.file) if not r.get("error")]
    assert sorted(r["id"] for r in lines) == sorted(q.id for q in asked), (
        "each question is answered exactly once"
    )
    teach.teach(cfg, model, "cot", asked)
    assert len(model.calls) == before + 1, "a finished run asks nothing"


def test_more_questions_go_on_in_the_same_folder(cfg):
    asked, model = questions(cfg), Scripted(lambda *_: r"\boxed{1}")
    teach.teach(cfg, model, "cot", asked[:1])
    found = teach.teach(cfg, model, "cot", asked)
    assert len(found) == len(asked) == len(model.calls)
    assert all(c["model"] == "scripted" and c["role"] == "teacher" for c in found)
    assert {tuple(c[name] for name in cases.ANSWERED_BY) for c in found} == {("server",) * 4}


@pytest.mark.parametrize(("variant", "blank"), [("published", "\n\n"), ("no_blank_line", "")])
def test_the_first_thought_of_each_cot_starts_that_questions_trajectory(cfg, box, variant, blank):
    cfg = dataclasses.replace(cfg, first_thought=variant)
    asked, answers = questions(cfg), golds(cfg)

    def reply(conversation, prefix, k):
        text = conversation[-1]["content"].removeprefix("Question: ")
        if conversation[0]["content"] == prompts.COT:
            return f"First about: {text[:20]}.\n\nThen \\boxed{{{answers[text]}}}"
        return f"\nCode:\n```py\nfinal_answer({answers[conversation[1]['content'].removeprefix('Question: ')]!r})\n```"

    model = Scripted(reply)
    with pytest.raises(RuntimeError, match=f"{len(asked)} questions have no CoT"):
        teach.teach(cfg, model, "agent_ftp", asked, box=box)
    teach.teach(cfg, model, "cot", asked)
    found = teach.teach(cfg, model, "agent_ftp", asked, box=box)
    for question, case in zip(asked, found, strict=True):
        assert case["prefix"] == f"Thought: First about: {question.text[:20]}.{blank}"
        assert case["trace"][0]["text"].startswith(case["prefix"] + "\nCode:")
        assert case["correct"] and filtering.passes_filter(case) and case["wording"] == "plain"
    assert all(
        "Rules:" in call["conversations"][0][0]["content"] for call in model.calls[-len(asked) :]
    )


def test_an_empty_chain_of_thought_does_not_stop_the_other_questions(cfg, box):
    asked = questions(cfg)
    empty = asked[0]

    def reply(conversation, prefix, k):
        if "Rules:" in conversation[0]["content"]:
            return "\n" + act("final_answer(1)")
        return "" if empty.text in conversation[-1]["content"] else "I think."

    model = Scripted(reply)
    teach.teach(cfg, model, "cot", asked)
    try:
        teach.teach(cfg, model, "agent_ftp", asked, box=box)
    except RuntimeError as error:
        assert "1 of" in str(error)
    assert {q.id for q in asked[1:]} <= set(teach.teacher_run(cfg, "agent_ftp").finished())


def test_what_shapes_a_trajectory_names_the_folder_and_the_number_of_questions_does_not(cfg):
    def folder(**changed):
        return teach.teacher_run(
            config.load("smoke", teacher="scripted", teacher_records="", **changed), "agent"
        ).folder

    assert folder() == folder(train_questions=9) == folder(lora_rank=4)
    assert (
        len({folder(), folder(max_steps=2), folder(step_tokens=9), folder(seed=1), folder(top_k=1)})
        == 5
    )
    assert teach.teacher_run(cfg, "cot").folder != folder()


def test_later_tries_ask_only_what_is_not_right_until_enough_is_kept(cfg):
    asked, answers, tried = questions(cfg), golds(cfg), []

    def reply(conversation, prefix, k):
        text = conversation[-1]["content"].removeprefix("Question: ")
        tried.append(text)
        return f"I think.\n\n\\boxed{{{answers[text] if tried.count(text) > 1 + (text == asked[-1].text) else 'no'}}}"

    model = Scripted(reply)
    cfg = dataclasses.replace(cfg, teacher_tries=4, teacher_kept=len(asked))
    first = teach.teach(cfg, model, "cot", asked)
    assert not any(case["correct"] for case in first)
    later = teach.retry_failed(cfg, model, "cot", asked, first)
    assert [c["id"] for c in later] == [q.id for q in asked] and len(tried) == 2 * len(asked) + 1
    assert {c["temperature"] for c in later} == {teach.RETRY_TEMPERATURE} and len(
        {c["seed"] for c in later}
    ) == 2
    few = dataclasses.replace(cfg, teacher_kept=1)
    assert len(teach.retry_failed(few, model, "cot", asked, first)) == len(asked) - 1, (
        "a try is made of all questions, then counted"
    )
    assert len(tried) == 2 * len(asked) + 1, "a finished try is not asked again"


def test_what_is_trained_on_are_first_tries_and_what_later_ones_added(project):
    laptop = config.load("laptop", teacher_records="", keep="right")
    wrong = AGENT | {"correct": False}
    teach.publish(
        laptop, "agent", [AGENT | {"id": "a"}, wrong | {"id": "b"}], [AGENT | {"id": "b"}]
    )
    assert [c["id"] for c in teach.filtered_cases(laptop, "agent")] == ["a", "b"]
    teach.publish(laptop, "agent", [wrong | {"id": "b"}])
    with pytest.raises(ValueError, match="no case that passes the filter"):
        teach.filtered_cases(laptop, "agent")


def test_only_supported_runs_are_kept_where_that_is_asked_for(project):
    cfg = config.load("laptop", **config.TEACHING)
    question = next(q for q in benchmarks.load("teaching-hotpot-train") if q.supporting)
    asked = AGENT | {"benchmark": question.benchmark}
    looked = asked | {"id": question.id}
    titles = [f"[1] {title}\nText." for title in question.supporting]
    looked["trace"] = [{"observation": f"Observation:\n{text}"} for text in titles]
    guessed = looked | {"trace": looked["trace"][:1]}
    chain = {key: value for key, value in guessed.items() if key != "trace"} | {"stopped": "stop"}
    own = AGENT | {"id": "own-1", "benchmark": "own"}
    rows = (looked, guessed, chain, own, looked | {"correct": False})
    assert [teach.is_kept(cfg, c) for c in rows] == [True, False, True, True, False]
    every = dataclasses.replace(cfg, keep="right")
    assert [teach.is_kept(every, c) for c in rows] == [True, True, True, True, False]
    teach.publish(cfg, "agent", [guessed])
    with pytest.raises(ValueError, match="setting 'keep' is 'supported'"):
        teach.filtered_cases(cfg, "agent")
    assert teach.filtered_cases(every, "agent") == [guessed]


def test_an_unknown_teacher_method_is_named_with_the_known_ones(cfg):
    with pytest.raises(
        ValueError, match=r"'ftp' is unknown, expected one of cot, agent, agent_ftp"
    ):
        teach.teacher_run(cfg, "ftp")


def test_published_cases_are_what_a_preset_without_a_teacher_reads(project):
    teaching = config.load("laptop", **config.TEACHING)
    teaching = dataclasses.replace(teaching, preset="teaching")
    for method in teach.METHODS:
        teach.publish(teaching, method, [AGENT | {"id": f"{method}-1"}])
    found = teach.teacher_cases(config.load("smoke"), lambda query: "")
    assert {m: [c["id"] for c in some] for m, some in found.items()} == {
        m: [f"{m}-1"] for m in teach.METHODS
    }
