"""Chain-of-thought baselines: the vote over chains, passages in the prompt, batches."""

import dataclasses
import time

import pytest
from conftest import Scripted, act, ask

from agentlib import cot, prompts, score
from agentlib.agent import Agent


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (("3", "1/2", "0.5"), "1/2"),
        (("Paris", "London", "paris."), "Paris"),
        (("a", "b"), "a"),
        ((None, None, "b"), "b"),
        ((None, None), None),
        ((), None),
    ],
)
def test_the_majority_is_by_value_and_the_earliest_of_equals(answers, expected):
    assert cot.majority(answers) == expected


def test_a_chain_shows_the_first_text_that_ends_in_the_chosen_answer():
    texts = [r"\boxed{3}", r"half, \boxed{1/2}", r"\boxed{0.5}"]
    model = Scripted(lambda conversation, prefix, k: texts[k])
    (chain,) = cot.generate_cot(model, [ask()], n=3, temperature=0.7, max_new_tokens=10)
    assert chain.answers == ("3", "1/2", "0.5")
    assert chain.answer == "1/2" and chain.text == texts[1] and len(chain.completions) == 3
    assert (model.calls[0]["n"], model.calls[0]["temperature"]) == (3, 0.7)


def test_a_chain_without_an_answer_is_still_a_chain():
    (chain,) = cot.generate_cot(Scripted(lambda *_: "I do not know"), [ask()], max_new_tokens=10)
    assert chain.answer is None and chain.text == "I do not know"


def test_questions_go_in_batches_and_come_back_in_order():
    model = Scripted(
        lambda conversation, prefix, k: rf"\boxed{{{conversation[-1]['content'].split()[-1]}}}"
    )
    found = list(
        cot.generate_cot(
            model, [ask(i, f"number {i}") for i in range(5)], max_new_tokens=10, batch=2
        )
    )
    assert [c.question_id for c in found] == [f"q-{i}" for i in range(5)]
    assert [c.answer for c in found] == list("01234")
    assert [len(call["conversations"]) for call in model.calls] == [2, 2, 1]


def test_a_batchs_time_is_shared_equally_by_its_questions():
    def slow(*_):
        time.sleep(0.02)  # each question of a batch, so a batch of two takes twice as long
        return r"\boxed{1}"

    began = time.perf_counter()
    found = []
    for chain in cot.generate_cot(
        Scripted(slow), [ask(i) for i in range(5)], max_new_tokens=10, batch=2
    ):
        found.append(chain.seconds)
        time.sleep(0.02)  # what is done with a chain is not its time
    assert found[0] == found[1] != found[2] == found[3] and all(
        0.02 <= seconds < 0.2 for seconds in found
    )
    assert sum(found) <= time.perf_counter() - began - 5 * 0.02


def test_a_chain_is_yielded_before_the_next_batch_is_asked():
    model = Scripted(lambda *_: r"\boxed{1}")
    chains = cot.generate_cot(model, [ask(0), ask(1)], max_new_tokens=10, batch=1)
    next(chains)
    assert len(model.calls) == 1


def test_rag_puts_the_passages_for_the_question_itself_into_the_prompt():
    asked = []

    def search(query):
        asked.append(query)
        return f"[1] about {query}"

    model = Scripted(lambda *_: r"\boxed{1}")
    question = ask(text="Where is Bonn?", domain="factual")
    (chain,) = cot.generate_cot(model, [question], max_new_tokens=10, search=search)
    assert asked == ["Where is Bonn?"] and chain.passages == "[1] about Where is Bonn?"
    user = model.calls[0]["conversations"][0][-1]["content"]
    assert user.startswith("[1] about Where is Bonn?") and user.endswith("Question: Where is Bonn?")


@pytest.mark.parametrize(
    ("wording", "words"),
    [("plain", {"math": prompts.COT, "factual": prompts.COT}), ("plan", prompts.COT_PLAN)],
)
def test_without_search_the_prompt_has_the_question_alone(wording, words):
    model = Scripted(lambda *_: r"\boxed{1}")
    asked = [ask(0), ask(1, "Who?", domain="factual")]
    list(cot.generate_cot(model, asked, max_new_tokens=10, wording=wording))
    for conversation, question in zip(model.calls[0]["conversations"], asked, strict=True):
        assert conversation == [
            {"role": "system", "content": words[question.domain]},
            {"role": "user", "content": f"Question: {question.text}"},
        ]


def test_the_plain_wording_has_no_worked_examples_even_for_teachers():
    assert prompts.cot_turns("Who?", "factual", examples=True) == [
        {"role": "system", "content": prompts.COT},
        {"role": "user", "content": "Question: Who?"},
    ]


def test_worked_examples_stand_between_the_rules_and_the_question_and_each_begins_with_a_plan():
    model = Scripted(lambda *_: r"\boxed{1}")
    asked = [ask(), ask(1, "Who?", domain="factual")]
    list(cot.generate_cot(model, asked, max_new_tokens=10, examples=True, wording="plan"))
    for conversation, domain in zip(
        model.calls[0]["conversations"], ("math", "factual"), strict=True
    ):
        shown = prompts.COT_EXAMPLES[domain]
        assert [turn["role"] for turn in conversation] == [
            "system",
            *["user", "assistant"] * len(shown),
            "user",
        ]
        for question, answer in shown:
            assert f"Question: {question}" in [turn["content"] for turn in conversation]
            plan, _, rest = answer.partition("\n\n")
            assert plan.startswith("I have to find") and not any(c.isdigit() for c in plan)
            assert score.extract_answer(rest)


def test_the_real_model_reasons_and_is_counted(smol):
    (chain,) = cot.generate_cot(smol, [ask()], max_new_tokens=12)
    assert chain.completions[0].completion_tokens <= 12 and chain.text


class Pausing(Scripted):
    """Pauses each conversation that a name of `late` is in, once."""

    can_pause = True

    def __init__(self, reply, late):
        super().__init__(reply)
        self.late, self.allowed = list(late), []

    def generate(self, conversations, *, may_pause=False, **options):
        self.allowed.append(may_pause)
        found = super().generate(conversations, **options)
        for place, conversation in enumerate(conversations):
            name = next((name for name in self.late if name in str(conversation)), None)
            if may_pause and name:
                self.late.remove(name)
                found[place] = [dataclasses.replace(found[place][0], finish_reason="paused")]
        return found


def test_a_paused_chain_goes_on_with_the_next_questions():
    asked = [ask(k, f"What is {k} plus {k}?", str(2 * k)) for k in range(5)]
    model = Pausing(lambda conversation, *_: "\\boxed{8}", ["2 plus 2"])
    found = list(cot.generate_cot(model, asked, max_new_tokens=9, batch=3))
    assert [chain.question_id for chain in found] == ["q-0", "q-1", "q-2", "q-3", "q-4"]
    sizes = [len(call["conversations"]) for call in model.calls]
    assert sizes == [3, 3] and model.allowed == [True, True], "the batch is filled up again"
    list(cot.generate_cot(model, asked, n=3, temperature=1.0, max_new_tokens=9))
    assert model.allowed[-1] is False


def test_an_agents_paused_turn_is_no_step(box):
    asked = [ask(k, f"What is {k} plus {k}?", str(2 * k)) for k in range(3)]
    model = Pausing(lambda *_: act("final_answer(8)"), ["1 plus 1"])
    found = list(Agent(model, box).run(asked))
    assert [t.question_id for t in found] == ["q-0", "q-2", "q-1"]
    assert [len(t.steps) for t in found] == [1, 1, 1] and found[2].answer == 8
    assert [len(call["conversations"]) for call in model.calls] == [3, 1]
    alone = next(Agent(Pausing(lambda *_: act("final_answer(8)"), []), box).run(asked[1:2]))
    assert alone.steps[0].text == found[2].steps[0].text
    assert found[2].steps[0].seconds > found[0].steps[0].seconds > 0
