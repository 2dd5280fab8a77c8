"""Students that learn from their own runs: where a run went wrong, repair, choice, tokens."""

from pathlib import Path

import pytest
from conftest import Scripted, act, ask

from agentlib import agent, cases, config, improve, masks
from agentlib.cases import Case

CFG = config.load("smoke", max_steps=4, batch_questions=4)
FINISH = act("final_answer(x)", "I have it.")


def step(code, failure=None, text="", observation="Observation:\n"):
    return {"code": code, "failure": failure, "text": text or act(code), "observation": observation}


def wrong(*steps) -> Case:
    return {"id": "q-0", "correct": False, "trace": list(steps), "question": "q"}


@pytest.mark.parametrize(
    ("steps", "place"),
    [
        ([step("x = 1"), step("x.y", "execution"), step("final_answer(x)")], 1),
        ([step("x = 1"), step("y = 2"), step("final_answer(y)")], 1),  # the last only hands on
        ([step("print(3)", observation="Observation:\n3\n"), step("final_answer(3)")], 0),
        ([step("print(3)", observation="Observation:\n3\n"), step("final_answer('3')")], 0),
        ([step("x = 1"), step("final_answer('Lima')")], 1),  # typed, after whatever it read
        ([step("s", observation="Observation:\nLima is ..."), step("final_answer('Lima')")], 1),
        ([step("x = 1"), step("final_answer(x + 1)")], 1),  # it computes
        ([step("x = 1"), step("print(x)\nfinal_answer(x)")], 1),
        ([step("final_answer(x)")], 0),
        ([step("x = 1"), step(None, "parse")], 1),
        ([step("x = 1"), step("final_answer(")], 1),  # a text that is no code
    ],
)
def test_a_run_goes_wrong_where_a_step_fails_or_else_at_its_last_computation(steps, place):
    assert improve.first_error(wrong(*steps)) == place


def test_only_a_wrong_run_with_steps_has_a_first_error():
    with pytest.raises(ValueError, match="q-0 is right, expected a wrong run of an agent"):
        improve.first_error(wrong(step("x")) | {"correct": True})
    with pytest.raises(ValueError, match="q-0 is without steps"):
        improve.first_error(wrong())


# --- runs that are begun ---------------------------------------------------------------------


def test_a_run_goes_on_from_the_steps_that_are_written_already(box):
    model = Scripted(lambda conversation, prefix, k: act("final_answer(x + 2)"))
    questions = [ask(0), ask(1, answer="6")]
    begun = [[act("x = 40"), act("print(x)")], [act("x = 4")]]
    found = {
        t.question_id: t for t in agent.Agent(model, box, max_steps=4).run(questions, begun=begun)
    }
    assert (found["q-0"].answer, found["q-1"].answer) == (42, 6)
    steps = found["q-0"].steps
    assert [s.code for s in steps] == ["x = 40", "print(x)", "final_answer(x + 2)"]
    assert "40" in steps[1].outcome.stdout and steps[0].text.endswith("<end_code>")
    asked = {len(c) for c in model.calls[0]["conversations"]}
    assert asked == {2 + 4, 2 + 2}  # system, question, two turns a step


def test_a_run_that_is_answered_already_asks_the_model_nothing(box):
    model = Scripted(lambda *_: pytest.fail("the model was asked"))
    begun = [[act("final_answer(42)"), act("final_answer(43)")]]
    (found,) = agent.Agent(model, box).run([ask()], begun=begun)
    assert found.answer == 42 and found.stopped == "final_answer" and len(found.steps) == 1


def test_steps_that_are_begun_count_against_the_most_steps(box):
    model = Scripted(lambda *_: "42")  # the free-text answer when the steps ran out
    (found,) = agent.Agent(model, box, max_steps=2).run(
        [ask()], begun=[[act("1"), act("2"), act("3")]]
    )
    assert found.stopped == "max_steps" and len(found.steps) == 2 and found.answer == "42"
    with pytest.raises(ValueError, match="2 runs begun for 1 questions"):
        next(agent.Agent(model, box).run([ask()], begun=[[], []]))


# --- repair ----------------------------------------------------------------------------------


def failed_run(box, number=0, answer="42"):
    """A student's own wrong run, as it is recorded: it adds where it should multiply."""
    replies = iter([act("a, b = 6, 7"), act("x = a + b"), FINISH])
    student = agent.Agent(Scripted(lambda *_: next(replies)), box, max_steps=4)
    question = ask(number, answer=answer)
    (trajectory,) = student.run([question])
    return question, cases.agent_case(question, trajectory, model="m")


def test_a_repaired_run_is_kept_with_loss_on_the_repaired_step_alone(box):
    question, case = failed_run(box)
    assert not case["correct"] and improve.first_error(case) == 1
    teacher = Scripted(lambda *_: act("x = a * b"))
    student = agent.Agent(Scripted(lambda *_: FINISH), box, max_steps=4)
    (lesson,) = improve.repair(student, teacher, [(question, case)], model="m")
    assert lesson.case["correct"] and lesson.turns == (1,) and lesson.case["prediction"] == 42
    codes = [s["code"] for s in lesson.case["trace"]]
    assert codes == ["a, b = 6, 7", "x = a * b", "final_answer(x)"]
    (read,) = teacher.calls[0]["conversations"]
    assert [turn["role"] for turn in read] == ["system", "user", "assistant", "user"]
    assert "a, b = 6, 7" in read[2]["content"] and len(read[0]["content"]) > 1000  # its own prompt


def test_a_repair_that_leaves_it_wrong_or_recites_is_not_kept(box):
    question, case = failed_run(box)
    student = agent.Agent(Scripted(lambda *_: FINISH), box, max_steps=4)
    assert improve.repair(student, Scripted(lambda *_: act("x = a - b")), [(question, case)]) == []
    capital = ask(1, "What is the capital of Peru?", "Lima", "factual")
    own = Scripted(lambda *_: act('final_answer("Cusco")'))
    (trajectory,) = agent.Agent(own, box).run([capital])
    recited = cases.agent_case(capital, trajectory)
    teacher = Scripted(lambda *_: act('x = "Lima"'))
    assert improve.repair(student, teacher, [(capital, recited)]) == []


# --- own runs --------------------------------------------------------------------------------


def test_each_round_of_own_runs_has_its_own_seed_and_keeps_its_tokens(box, monkeypatch):
    seeds = []
    model = Scripted(lambda *_: act("final_answer(42)"))
    generate = model.generate
    monkeypatch.setattr(
        model, "generate", lambda *a, **k: seeds.append(k["seed"]) or generate(*a, **k)
    )
    found = list(improve.roll_out(model, box, [ask()], CFG, runs=range(3), model="m"))
    assert len(set(seeds)) == 3 and [one.case["run"] for one in found] == [0, 1, 2]
    assert {call["temperature"] for call in model.calls} == {improve.TEMPERATURE}
    assert found[0].tokens == ((),)  # this model does not say what it sampled


def lesson(*codes, tokens=1, correct=True, name="q", **more):
    trace = [step(code) for code in codes]
    case = {
        "id": name, "benchmark": "none", "question": "?", "correct": correct, "trace": trace,
        "stopped": "final_answer", "parse_errors": 0, "completion_tokens": tokens,
    } | more  # fmt: skip
    return improve.Lesson(case, None, ())


def test_of_right_runs_the_shortest_that_differ_in_what_they_do_are_kept():
    long, short = lesson("x = 1+1", tokens=9), lesson("x=1 + 1", tokens=3)
    other, third = lesson("y = 2", tokens=5), lesson("z = 2", tokens=7)
    bad = [
        lesson("w", tokens=1, correct=False),
        lesson("v", tokens=1, parse_errors=1),
        lesson('final_answer("Lima")', tokens=1),  # never read
    ]
    found = improve.choose([long, third, other, short, *bad, lesson("a", name="r")])
    assert sorted(one.case["completion_tokens"] for one in found if one.case["id"] == "q") == [3, 5]
    assert [one for one in found if one.case["id"] == "r"]
    assert len(improve.choose([long, third, other, short], most=1)) == 1


def test_one_right_trajectory_of_a_question_is_selected_by_its_rule():
    found = [
        one.case for one in (lesson("a", tokens=5), lesson("b", tokens=3), lesson("c", tokens=4))
    ]
    found.append(lesson("d", tokens=1, correct=False).case)
    assert improve.select(found, "shortest") == [found[1]]
    assert improve.select(found, "likeliest", {0: 2.0, 1: 1.5, 2: 0.5}) == [found[2]]
    drawn = [improve.select(found, "random", seed=k)[0]["completion_tokens"] for k in range(30)]
    assert set(drawn) == {3, 4, 5}
    for rule, surprise in (("longest", None), ("likeliest", None)):
        with pytest.raises(ValueError, match=f"rule is '{rule}'.*expected one of shortest"):
            improve.select(found, rule, surprise)


def test_a_failing_search_fails_for_a_share_of_queries_and_always_the_same():
    search = improve.failing(lambda query: f"found {query}", 0.1)
    queries = [f"query {k}" for k in range(2000)]
    lost = [q for q in queries if search(q).startswith("No passage matches")]
    assert 140 < len(lost) < 260 and all(search(q) != f"found {q}" for q in lost)
    assert improve.failing(lambda query: "x", 0)("a") == "x"
    assert "No passage" in improve.failing(lambda query: "x", 1)("a")
    with pytest.raises(ValueError, match=r"share is 1\.5, expected 0 to 1"):
        improve.failing(lambda query: "x", 1.5)


def test_nothing_found_is_said_as_the_search_says_it():
    from agentlib.retrieval import index

    assert improve.NOTHING in Path(index.__file__).read_text(encoding="utf-8")


# --- tokens ----------------------------------------------------------------------------------


@pytest.mark.model
def test_what_a_student_sampled_is_trained_on_by_the_tokens_it_sampled(smol, box):
    """A turn that is cut into other tokens than the tokenizer's, which sampling may draw."""
    tokenizer, turn = smol.tokenizer, act("final_answer(42)")
    odd = [t for ch in turn for t in tokenizer(ch, add_special_tokens=False)["input_ids"]]
    usual = tokenizer(turn, add_special_tokens=False)["input_ids"]
    assert odd != usual and tokenizer.decode(odd) == turn
    stop = tokenizer("<end_code>", add_special_tokens=False)["input_ids"]
    model = Scripted(lambda *_: turn)
    (trajectory,) = agent.Agent(model, box).run([ask()])
    case = cases.agent_case(ask(), trajectory)
    for drawn in (odd, odd + stop, usual):
        one = improve.Lesson(case, None, (tuple(drawn),))
        (example,) = improve.build_examples([one], tokenizer, 4096)
        learnt = [label for label in example.labels if label != masks.IGNORED]
        wanted = odd if drawn is not usual else usual
        assert learnt[: len(wanted)] == wanted
        assert tokenizer.decode(learnt) == f"{turn}<end_code><|im_end|>"
        assert [
            t for t, label in zip(example.input_ids, example.labels, strict=True) if label != -100
        ] == learnt
    other = tokenizer("Something else, said at some length.", add_special_tokens=False)["input_ids"]
    with pytest.raises(ValueError, match="sampled tokens spell 'Something else"):
        improve.build_examples([improve.Lesson(case, None, (tuple(other),))], tokenizer, 4096)


@pytest.mark.model
def test_only_the_named_turns_carry_loss(smol, box):
    question = ask()
    replies = iter([act("x = 6"), act("x = x * 7"), FINISH])
    (trajectory,) = agent.Agent(Scripted(lambda *_: next(replies)), box).run([question])
    case = cases.agent_case(question, trajectory)
    whole, part = improve.build_examples(
        [improve.Lesson(case, None, ()), improve.Lesson(case, (1,), ())], smol.tokenizer, 4096
    )
    assert whole.input_ids == part.input_ids
    learnt = smol.tokenizer.decode([label for label in part.labels if label != masks.IGNORED])
    assert learnt == f"{act('x = x * 7')}<end_code><|im_end|>"


@pytest.mark.model
def test_a_local_model_says_which_tokens_it_sampled(smol):
    asked = [{"role": "user", "content": "Say something about rivers."}]
    for options in ({}, {"n": 2, "temperature": 1.0, "seed": 3}):
        for found in smol.generate([asked], max_new_tokens=12, **options)[0]:
            assert len(found.tokens) == found.completion_tokens
            assert smol.tokenizer.decode(found.tokens, skip_special_tokens=True) == found.text
