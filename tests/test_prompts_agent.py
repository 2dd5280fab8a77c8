"""The agent: code read out of a turn, the first-thought prefix, the loop (scripted model, real
sandbox)."""

import time

import pytest
from conftest import Scripted, act, ask
from hypothesis import given
from hypothesis import strategies as st

from agentlib import agent, config, prompts, records
from agentlib.agent import Agent, read_code
from agentlib.first_thought import first_thought_prefix, first_thought_prefixes, holds_answer
from agentlib.sag import SAG
from agentlib.sandbox import Sandbox


def steps(*codes):
    """A reply that gives the codes in turn, by how many turns the assistant has had."""

    def reply(conversation, prefix, k):
        return act(codes[sum(turn["role"] == "assistant" for turn in conversation)])

    return reply


def run_one(model, box, question=None, prefixes=None, **settings):
    (trajectory,) = Agent(model, box, **settings).run([question or ask()], prefixes)
    return trajectory


# --- words ------------------------------------------------------------------------------------------------------


FENCE = "```"
PRINT = "print(1)\nprint(2)"
SPELLINGS = {
    "as asked for": ("```py\nprint(1)\nprint(2)\n```", PRINT),
    "stop string not cut off": ("```py\nprint(1)\nprint(2)\n```<end_code>", PRINT),
    "the long name": ("```python\nprint(1)\nprint(2)\n```", PRINT),
    "a capital": ("```Python\nprint(1)\nprint(2)\n```", PRINT),
    "py3": ("```py3\nprint(1)\nprint(2)\n```", PRINT),
    "python3": ("```python3\nprint(1)\nprint(2)\n```", PRINT),
    "python3.11": ("```python3.11\nprint(1)\nprint(2)\n```", PRINT),
    "ipython": ("```ipython\nprint(1)\nprint(2)\n```", PRINT),
    "a blank before the name": ("``` py\nprint(1)\nprint(2)\n```", PRINT),
    "blanks behind the name": ("```python \t\nprint(1)\nprint(2)\n```", PRINT),
    "tildes": ("~~~python\nprint(1)\nprint(2)\n~~~", PRINT),
    "four backticks": ("````py\nprint(1)\nprint(2)\n````", PRINT),
    "opened by four, closed by three": ("````py\nprint(1)\nprint(2)\n```", PRINT),
    "the tag of newer smolagents": ("<code>\nprint(1)\nprint(2)\n</code>", PRINT),
    "Windows line ends": ("```py\r\nprint(1)\r\nprint(2)\r\n```\r\n", PRINT),
    "behind other words": ("So: ```py\nprint(1)\nprint(2)\n```", PRINT),
    "closed on the code's own line": ("```py\nprint(1)\nprint(2)```", PRINT),
    "closed on the code's own line, with the stop string": (
        "```py\nprint(1)\nprint(2)```<end_code>",
        PRINT,
    ),
    "closed on the code's own line, Windows": ("```py\r\nprint(1)\r\nprint(2)```\r\n", PRINT),
    "closed on the code's own line and again": ("```py\nprint(1)\nprint(2)```\n```", PRINT),
    "closed twice": ("```py\nprint(1)\nprint(2)\n```\n```", PRINT),
    "closed by the stop string alone": ("```py\nprint(1)\nprint(2)\n<end_code>", PRINT),
    "a stop string cut in the middle": ("```py\nprint(1)\nprint(2)\n```<end_", PRINT),
    "open": ("```py\nprint(1)\nprint(2)", PRINT),
    "in a list": ("1. Print:\n   ```py\n   print(1)\n   print(2)\n   ```", PRINT),
    "in a list, behind the number": (
        "1. ```py\n   for n in (1, 2):\n       print(n)\n   ```",
        "for n in (1, 2):\n    print(n)",
    ),
    "indented by tabs": (
        "\t```py\n\tif a:\n\t\tprint(1)\n\n\tb = 1\n\t```",
        "if a:\n\tprint(1)\n\nb = 1",
    ),
    "a fence in a string": (
        '```py\nx = """\n```\n"""\nprint(x)\n```',
        'x = """\n```\n"""\nprint(x)',
    ),
    "a fence in a string, open": (
        '```py\nx = """\n```\n"""\nprint(x)',
        'x = """\n```\n"""\nprint(x)',
    ),
    "a fence in a string, then words": (
        '```py\nx = """\n```\n"""\n```\nThat is x.',
        'x = """\n```\n"""',
    ),
    "a whole block in a string": (
        "```py\nx = '''\n```py\n1\n```\n'''\n```<end_code>",
        "x = '''\n```py\n1\n```\n'''",
    ),
    "a fence in a comment": ("```py\n# no ```\nprint(1)\n```", "# no ```\nprint(1)"),
    "a stop string in a string": ("```py\nx = '<end_code>'\n```", "x = '<end_code>'"),
    "two blocks": ("```py\na = 1\n```\nthen\n```python\nprint(a)\n```", "a = 1\n\nprint(a)"),
    "two blocks, the last open": ("```py\na = 1\n```\nand\n```py\nprint(a)\n", "a = 1\n\nprint(a)"),
    "two blocks, the first open": ("```py\na = 1\n```python\nprint(a)\n```", "a = 1\n\nprint(a)"),
    "two blocks, closed on the code's own line": (
        "```py\na = 1```\nthen\n```py\nprint(a)```",
        "a = 1\n\nprint(a)",
    ),
    "two blocks, the first broken": (
        "```py\na = (\n```\nthen\n```py\nprint(1)\n```",
        "a = (\n\nprint(1)",
    ),
    "two blocks, the first empty": ("```py\n```\nNow:\n```py\nprint(1)\n```", "print(1)"),
    "a block of another language before": (
        '```json\n{"a": 1}\n```\n```py\nprint(1)\n```',
        "print(1)",
    ),
    "a block of another language behind": ("```py\nprint(1)\n```\n```text\n1\n```", "print(1)"),
    "another language, open, before": ("```text\nI print.\n```py\nprint(1)\n```", "print(1)"),
    "code that does not parse": ("```py\nprint((\n```\nSo.", "print(("),
    "an answer in words behind": (
        "```py\nfinal_answer(1)\n```\nfinal_answer(2)",
        "final_answer(1)",
    ),
    "other scripts": ("```py\n# ✓ ①\nprint('é…')\n```", "# ✓ ①\nprint('é…')"),
}


@pytest.mark.parametrize(("text", "code"), SPELLINGS.values(), ids=SPELLINGS)
def test_code_is_read_however_a_model_spells_its_block(text, code):
    assert read_code(f"Thought: x\nCode:\n{text}") == code


@pytest.mark.parametrize(("text", "code"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_turn_keeps_one_closing_fence_and_its_code(text, code):
    closed = prompts.close_turn(f"Thought: x\nCode:\n{text}")
    assert prompts.close_turn(closed) == closed and read_code(closed) == code
    assert not prompts.blocks(closed)[-1].missing
    assert not closed.removesuffix(prompts.END_CODE).endswith(f"{FENCE}\n{FENCE}")


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("```py\nprint(1)", "```py\nprint(1)\n```<end_code>"),
        ("```py\nprint(1)\n```", "```py\nprint(1)\n```<end_code>"),
        ("```py\nprint(1)\n```\n\n", "```py\nprint(1)\n```<end_code>"),
        ("```py\nprint(1)```", "```py\nprint(1)```<end_code>"),
        ("```py\nprint(1)```\n```", "```py\nprint(1)```<end_code>"),
        ("```py\nprint(1)\n```\n```", "```py\nprint(1)\n```<end_code>"),
        ("```py\nprint(1)\n```<", "```py\nprint(1)\n```<end_code>"),
        ("```py\nprint(1)\n``` <end_code", "```py\nprint(1)\n```<end_code>"),
        ("```py\nprint(1)\n```\nObserv", "```py\nprint(1)\n```<end_code>"),
        ("```py\nprint(1)\n<end_code>", "```py\nprint(1)\n```<end_code>"),
        ("```py\nprint(1)\n```<end_code>", "```py\nprint(1)\n```<end_code>"),
        ('```py\nx = """\n```\n"""\n```', '```py\nx = """\n```\n"""\n```<end_code>'),
        ('```py\nx = """\n```\n"""', '```py\nx = """\n```\n"""\n```<end_code>'),
        ("~~~py\nprint(1)", "~~~py\nprint(1)\n~~~<end_code>"),
        ("````py\nprint(1)", "````py\nprint(1)\n````<end_code>"),
        ("<code>\nprint(1)", "<code>\nprint(1)\n</code><end_code>"),
        ("```py", "```py\n```<end_code>"),
        ("```json\n{}", "```json\n{}\n```<end_code>"),
        ("```py\nprint(1)\n```\nIt prints 1.", "```py\nprint(1)\n```\nIt prints 1."),
        ("Thought:", "Thought:"),
        ("", ""),
    ],
)
def test_a_turn_is_closed_as_the_prompt_asks(text, closed):
    assert prompts.close_turn(text) == closed == prompts.close_turn(closed)


@pytest.mark.parametrize(
    "text",
    ["", "Thought: the answer is 42", "Thought:", "print(1)", "final_answer(42)", "```json\n{}\n```", "```text\nprint(1)\n```",
     "```\nprint(1)\n```", "Code:\n```\nprint(1)\n```", "```pyramid\nprint(1)\n```", "```py\n\n```", "```py\n```<end_code>", "```py",
     "see `py` here", "a ```py block that ends with ```<end_code>", "<code>print(1)</code> in words"],
)  # fmt: skip
def test_without_a_block_of_python_there_is_no_code(text):
    """A block without a language is none: the prompt asks for ```py, and the committed runs were
    read so."""
    assert read_code(text) is None


def test_what_a_model_writes_that_cannot_stop_is_read_at_once():
    started = time.perf_counter()
    for text in (
        "```py\n" + " " * 50_000,
        "```py\nx = (\n" + "```\n" * 500,
        "```\n" * 5000,
        "```py\nx = (\n```\n" * 300,
        "Code:" + "\n" * 50_000,
    ):
        prompts.close_turn(text), read_code(text), prompts.split_turn(text)
    assert time.perf_counter() - started < 5


CODE = st.text(st.characters(exclude_characters="`~<\r", exclude_categories=("Cs",)), max_size=200)


@given(CODE)
def test_any_code_without_fences_comes_back_from_a_turn(code):
    # a first line that is not indented: an indentation of all lines is taken off
    code = f"x = 1\n{code}"
    expected = code.strip("\n")
    assert read_code(act(code)) == expected
    assert read_code(act(code) + prompts.END_CODE) == expected
    assert read_code(act(code).replace("\n", "\r\n")) == expected


PIECES = st.lists(
    st.sampled_from(
        ["```", "```py\n", "```python\n", "\n```", "x = 1", "'''", "\r\n", "\n", "Code:", " ", "`"]
    ),
    max_size=12,
)
ENDS = st.sampled_from(["", "<", "<end_code", "<end_code>"])


@given(st.tuples(PIECES.map("".join) | st.text(max_size=80), ENDS).map("".join))
def test_code_that_is_read_stands_in_the_turn_and_is_the_same_when_the_turn_is_closed(text):
    code = read_code(text)
    assert code is None or (code.strip() and all(line in text for line in code.split("\n")))
    closed = prompts.close_turn(text)
    assert read_code(closed) == code and prompts.close_turn(closed) == closed


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("Thought: I add.\nCode:\n```py\n1 + 1\n```", "Thought: I add.\n"),
        ("Thought: I add. Code: ```py\n1 + 1\n```", "Thought: I add. "),
        ("Thought: I add.\n```python\n1 + 1\n```", "Thought: I add.\n"),
        ("Thought: I add.\n~~~py\n1 + 1\n~~~", "Thought: I add.\n"),
        ("Thought: I add.\r\nCode:\r\n<code>\r\n1 + 1\r\n</code>", "Thought: I add.\r\n"),
        ("Thought: I add.\nCode:\n1 + 1", "Thought: I add.\n"),
        ("Thought: the Postal Code: is 4.", "Thought: the Postal Code: is 4."),
        ("", ""),
    ],
)
def test_a_thought_ends_where_the_action_begins(text, thought):
    found = prompts.split_turn(text)
    assert found[0] == thought and "".join(found) == text


def test_the_first_thought_is_the_first_paragraph():
    assert (
        first_thought_prefix("First I add.\nThen more.\n\nSecond paragraph.")
        == "Thought: First I add.\nThen more.\n\n"
    )


@pytest.mark.parametrize("gap", ["\n\n", "\n   \n", "\n\t\n", "\n\n\n\n", "\r\n\r\n", "\r\n \r\n"])
def test_a_blank_line_may_hold_spaces_and_windows_line_ends(gap):
    assert first_thought_prefix(f"\n\n  One.{gap}Two.") == "Thought: One.\n\n"


@pytest.mark.parametrize(
    "cot",
    [
        "I add 2 and 3.\n\nThat is 5.",
        "I add 2 and 3.\r\n\r\nThat is 5.",
        "<think>\nI add 2 and 3.\n\nThat is 5.\n</think>\n\n5",
        "<think>I add 2 and 3.</think>That is 5.",
        "<think>\n\n</think>\n\nI add 2 and 3.\n\nThat is 5.",
        "<Thinking>I add 2 and 3.\n</Thinking>",
        "Thought: I add 2 and 3.\n\nThat is 5.",
        "thought: I add 2 and 3.",
        "Thought: Thought: I add 2 and 3.",
        "**Thought:** I add 2 and 3.",
        "**Thought**: I add 2 and 3.",
        "Thought 1: I add 2 and 3.\n\nThought 2: That is 5.",
        "Thought:\n\nI add 2 and 3.",
        "Thought:\nI add 2 and 3.",
        "### Step 1\n\nI add 2 and 3.",
        "### Step 1: Add\nI add 2 and 3.\n### Step 2\nThat is 5.",
        "# Solution\r\n\r\nI add 2 and 3.",
        "**Plan**\n\nI add 2 and 3.",
        "**Step 1: Add**\n\nI add 2 and 3.",
        "**Plan:**\nI add 2 and 3.\n\nThat is 5.",
        "Step 1:\n\nI add 2 and 3.",
        "Step 1\nI add 2 and 3.",
        "Plan:\n\n**Step 1**\n\nI add 2 and 3.",
        "```python\n2 + 3\n\n5\n```\n\nI add 2 and 3.",
        "I add 2 and 3.\n```python\n2 + 3\n```",
    ],
)
def test_the_first_thought_is_words_however_a_model_frames_them(cot):
    assert first_thought_prefix(cot) == "Thought: I add 2 and 3.\n\n"


@pytest.mark.parametrize(
    ("cot", "prefix"),
    [
        (
            "- I look up Bonn.\n- I look up Rome.\n\nThen I compare.",
            "Thought: - I look up Bonn.\n- I look up Rome.",
        ),
        (
            "To find it, we follow these steps:\n\n1. Add.",
            "Thought: To find it, we follow these steps:",
        ),
        (
            "Step 1: Start with the given equation\n7x = 14\n\nStep 2: Divide.",
            "Thought: Step 1: Start with the given equation\n7x = 14",
        ),
        ("**I add 2 and 3.**\n\nThat is 5.", "Thought: **I add 2 and 3.**"),
        ("### Step 1\n\n### Step 2", "Thought: ### Step 1"),
        ("A thought: it rains.\n\nSo.", "Thought: A thought: it rains."),
    ],
)
def test_lists_leads_and_sentences_are_first_thoughts(cot, prefix):
    assert first_thought_prefix(cot) == prefix + "\n\n"


@pytest.mark.parametrize(
    "text",
    ["", "  \n\n \n", "\r\n \r\n", "<think></think>", "Thought:", "<think>\nThought:\n</think>"],
)
def test_a_chain_of_thought_without_words_has_no_first_thought(text):
    assert first_thought_prefix(text) is None


def test_recorded_first_thoughts_are_read_again_alike():
    folder = config.ROOT / "figures" / "records" / "teaching"
    chains = {case["id"]: case["text"] for case in records.read(folder / "teacher_cot.jsonl")}
    agents = [case for case in records.read(folder / "teacher_agent_ftp.jsonl") if case["prefix"]]
    assert len(agents) == 400
    again = {case["id"]: first_thought_prefix(chains[case["id"]]) for case in agents}
    assert [case["id"] for case in agents if again[case["id"]] != case["prefix"]] == []


def test_teacher_and_student_prompts_differ_by_rules_and_examples_alone():
    teacher, student = (agent.initial_messages("What?", style) for style in ("teacher", "student"))
    assert teacher[0]["content"].startswith(student[0]["content"])
    assert "Rules:" in teacher[0]["content"] and "Rules:" not in student[0]["content"]
    assert teacher[1] == student[1] == {"role": "user", "content": "Question: What?"}


def test_a_long_observation_keeps_its_start_and_its_end():
    shown = prompts.observation_turn("start" + "x" * 10_000 + "end", "", None)
    assert (
        "Observation:\nstart" in shown and shown.endswith("end") and "characters left out" in shown
    )
    assert len(shown) < prompts.OBSERVATION_CHARACTERS + 100


def test_a_step_that_prints_nothing_says_so():
    assert prompts.observation_turn("", "", None) == "Observation:\n(nothing was printed)"


def test_changed_words_change_the_version(monkeypatch):
    agent, chain = prompts.version(agent=True), prompts.version(agent=False)
    monkeypatch.setattr(prompts, "RETRY", "Try again.")
    assert prompts.version(agent=True) != agent and prompts.version(agent=False) == chain
    monkeypatch.setattr(prompts, "COT", "Think.")
    assert prompts.version(agent=False) != chain
    chain = prompts.version(False, "plan")
    monkeypatch.setitem(prompts.COT_PLAN, "math", "Think.")
    assert prompts.version(False, "plan") != chain
    chain = prompts.version(False, "plan")
    monkeypatch.setitem(prompts.COT_EXAMPLES, "math", (("How many?", "So many."),))
    assert prompts.version(False, "plan") != chain


def test_the_plain_wording_has_the_three_examples_of_the_plan_and_one_that_searches_twice():
    plan, plain = (prompts.agent_system("teacher", wording=w) for w in ("plan", "plain"))
    opening, closing = plan.rsplit("\n\n", 1)
    assert plain.startswith(opening) and plain.endswith(closing) and plain == prompts.AGENT_TEACHER
    codes = [prompts.blocks(turn)[0].code for turn in plain.split("Thought:")[-3:]]
    assert [code.partition("(")[0] for code in codes] == ["print", "print", "final_answer"]
    assert all("web_search(" in code for code in codes[:2])
    assert plain[len(opening) :].count(f"\n{prompts.OBSERVATION}\n[1] ") == 2
    without = [prompts.agent_system("teacher", search=False, wording=w) for w in ("plan", "plain")]
    assert without[0] == without[1], "the added example needs a search"


@pytest.mark.parametrize(
    "ask_for",
    [
        lambda wording: prompts.agent_system("teacher", wording=wording),
        lambda wording: prompts.cot_turns("What?", "math", wording=wording),
        lambda wording: prompts.version(agent=False, wording=wording),
    ],
)
def test_an_unknown_wording_is_refused(ask_for):
    with pytest.raises(ValueError, match="wording is 'planned', expected one of plain, plan"):
        ask_for("planned")


def test_an_agent_is_told_in_its_wording(box):
    for wording in ("plain", "plan"):
        model = Scripted(lambda *_: act("final_answer(1)"))
        run_one(model, box, style="teacher", wording=wording)
        (system, _) = model.calls[0]["conversations"][0]
        assert system["content"] == prompts.agent_system("teacher", wording=wording)


# --- the loop ---------------------------------------------------------------------------------------------------


def test_variables_live_from_step_to_step_until_the_final_answer(box):
    model = Scripted(steps("a = 6\nprint(a)", "final_answer(a * 7)"))
    seen = []

    def watch(so_far):
        seen.append((len(so_far.steps), so_far.answer, so_far.stopped))

    (found,) = Agent(model, box).run([ask()], watch=watch)
    assert seen == [(1, None, None), (2, 42, None)], "a run is watched step by step"
    assert (found.question_id, found.answer, found.stopped, len(found.steps)) == (
        "q-0",
        42,
        "final_answer",
        2,
    )
    assert model.calls[1]["conversations"][0][-1] == {"role": "user", "content": "Observation:\n6"}
    assert model.calls[0]["stop"] == prompts.STOP and found.final_turn is None


def test_the_turn_in_the_conversation_ends_as_it_is_trained(box):
    model = Scripted(steps("print(1)", "final_answer(1)"))
    found = run_one(model, box)
    turn = model.calls[1]["conversations"][0][-2]
    assert turn == {"role": "assistant", "content": act("print(1)") + "<end_code>"}
    assert found.steps[0].text == turn["content"]


def test_a_block_that_was_cut_off_is_closed_in_the_conversation(box):
    replies = ["Thought: x\nCode:\n```py\nprint(1)", act("final_answer(1)")]
    model = Scripted(lambda conversation, prefix, k: replies[len(conversation) // 2 - 1])
    found = run_one(model, box)
    assert (
        found.steps[0].text == replies[0] + "\n```<end_code>"
        and found.steps[0].outcome.stdout.strip() == "1"
    )
    assert model.calls[1]["conversations"][0][-2]["content"] == found.steps[0].text


def test_an_error_is_shown_and_can_be_mended(box):
    model = Scripted(steps("print('before')\n1 / 0", "final_answer(1)"))
    found = run_one(model, box)
    seen = model.calls[1]["conversations"][0][-1]["content"]
    assert "before" in seen and "ZeroDivisionError" in seen and prompts.RETRY in seen
    assert found.steps[0].outcome.failure.kind == "execution" and found.answer == 1


def test_a_turn_without_code_is_a_parse_failure_that_says_what_to_write(box):
    replies = ["The answer is 42.", act("final_answer(42)")]
    model = Scripted(lambda conversation, prefix, k: replies[len(conversation) // 2 - 1])
    found = run_one(model, box)
    assert found.steps[0].code is None and found.steps[0].outcome.failure.kind == "parse"
    assert model.calls[1]["conversations"][0][-1]["content"] == f"Observation:\n{prompts.NO_CODE}"
    assert found.answer == 42


def test_broken_python_is_a_parse_failure_with_its_message(box):
    model = Scripted(steps("print((", "final_answer(1)"))
    found = run_one(model, box)
    assert found.steps[0].outcome.failure.kind == "parse"
    assert prompts.NO_CODE not in model.calls[1]["conversations"][0][-1]["content"]


def test_searches_are_made_and_recorded(box):
    found = run_one(Scripted(steps('print(web_search("Bonn"))', "final_answer('Rhine')")), box)
    assert found.steps[0].outcome.stdout.strip() == "[1] Bonn"
    assert [c["name"] for c in found.steps[0].outcome.tool_calls] == ["web_search"]


def test_when_the_steps_run_out_the_last_words_are_the_answer(box):
    def reply(conversation, prefix, k):
        return " Rhine \n" if prompts.LAST_TURN in conversation[-1]["content"] else act("print(1)")

    model = Scripted(reply)
    found = run_one(model, box, max_steps=2)
    assert (found.stopped, found.answer, len(found.steps), found.final_turn.text) == (
        "max_steps",
        "Rhine",
        2,
        " Rhine \n",
    )
    assert len(model.calls) == 3 and model.calls[-1]["stop"] == ()
    words = sum(s.completion_tokens for s in found.steps)
    assert found.completion_tokens == words + found.final_turn.completion_tokens


def test_an_answer_in_the_last_step_needs_no_last_words(box):
    found = run_one(Scripted(steps("print(1)", "final_answer(5)")), box, max_steps=2)
    assert (found.stopped, found.answer, found.final_turn) == ("final_answer", 5, None)


def test_a_question_that_fills_the_context_ends_there_and_others_go_on(box):
    model = Scripted(steps("print('word ' * 300)", "final_answer(1)"), max_context=200)
    short = ask(1, "short")
    model.reply = lambda c, p, k: (
        act("final_answer(1)")
        if "short" in c[1]["content"]
        else steps("print('word ' * 300)")(c, p, k)
    )
    found = {t.question_id: t for t in Agent(model, box, step_tokens=50).run([ask(0), short])}
    assert (found["q-0"].stopped, found["q-0"].answer, len(found["q-0"].steps)) == (
        "context_full",
        None,
        1,
    )
    assert found["q-1"].stopped == "final_answer"


def test_a_question_longer_than_the_context_is_never_asked(box):
    model = Scripted(steps("final_answer(1)"), max_context=100)
    found = run_one(model, box, ask(0, "word " * 200), step_tokens=10)
    assert (found.stopped, found.steps, model.calls) == ("context_full", [], [])


def test_the_model_is_never_asked_beyond_its_context_not_even_for_last_words(box):
    model = Scripted(lambda *_: act("print('word ' * 300)"), max_context=200)
    run_one(model, box, max_steps=1, step_tokens=50)
    for call in model.calls:
        for conversation in call["conversations"]:
            assert (
                model.count(" ".join(t["content"] for t in conversation)) + call["max_new_tokens"]
                <= model.max_context
            )


def test_many_questions_at_once_keep_their_own_variables(box):
    def reply(conversation, prefix, k):
        number = conversation[1]["content"].split()[-1]
        return act(f"x = {number}") if len(conversation) == 2 else act("final_answer(x * 10)")

    model = Scripted(reply)
    found = {
        t.question_id: t.answer
        for t in Agent(model, box, batch=3).run([ask(i, f"number {i}") for i in range(5)])
    }
    assert found == {f"q-{i}": i * 10 for i in range(5)}
    assert max(len(call["conversations"]) for call in model.calls) == 3


def test_questions_that_wait_start_as_soon_as_others_end(box):
    def reply(conversation, prefix, k):
        slow = conversation[1]["content"].endswith("0") and len(conversation) < 6
        return act("print(1)" if slow else "final_answer(1)")

    model = Scripted(reply)
    order = [
        t.question_id
        for t in Agent(model, box, batch=2).run([ask(i, f"number {i}") for i in range(4)])
    ]
    assert order == ["q-1", "q-2", "q-0", "q-3"] and len(model.calls) == 3


def test_a_prefix_starts_the_first_turn_alone(box):
    model = Scripted(
        lambda c, prefix, k: "\nCode:\n```py\nprint(1)\n```" if prefix else act("final_answer(2)")
    )
    found = run_one(model, box, prefixes=["Thought: I look first."], style="teacher")
    assert found.prefix == "Thought: I look first." and found.steps[0].text.startswith(
        "Thought: I look first.\nCode:"
    )
    assert [call["prefixes"] for call in model.calls] == [["Thought: I look first."], [None]]


def test_prefixes_must_be_one_a_question(box):
    with pytest.raises(ValueError, match="1 prefixes for 2 questions"):
        list(Agent(Scripted(steps()), box).run([ask(0), ask(1)], ["Thought: x"]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"style": "expert"}, "'expert'"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"batch": 0}, "batch=0"),
    ],
)
def test_settings_no_agent_could_use_are_refused(box, setting, message):
    with pytest.raises(ValueError, match=message):
        Agent(Scripted(steps()), box, **setting)


# --- self-consistent actions ------------------------------------------------------------------------------------


def test_the_winners_state_is_kept_and_its_side_effects_happen_once():
    searched = []

    def search(query):
        searched.append(query)
        return query

    # sample 1 and 2 agree on the output, but only sample 1 leaves x = 1
    first = [
        "x = 0\nprint('zero')",
        "x = 1\nprint(web_search('one'))",
        "x = 2\nprint('one')",
        "x = 3\n1 / 0",
    ]

    def reply(conversation, prefix, k):
        return act(first[k]) if len(conversation) == 2 else act("final_answer(x)")

    with Sandbox(tools={"web_search": search}, seconds=5.0, memory_mb=512) as box:
        model = Scripted(reply)
        found = run_one(model, box, sag=SAG(n=4))
    step = found.steps[0]
    assert found.answer == 1 and searched == ["one"]
    assert step.code == first[1] and [c.group for c in step.candidates] == [1, 0, 0, None]
    assert (model.calls[0]["n"], model.calls[0]["temperature"]) == (4, 0.4)
    assert step.completion_tokens == sum(model.count(act(code)) for code in first)


def test_when_all_candidates_fail_the_error_comes_back_and_the_state_stays(box):
    replies = {0: ["x = 5"] * 2, 1: ["x = 9; 1 / 0", "x = 8; 1 / 0"], 2: ["final_answer(x)"] * 2}
    model = Scripted(lambda conversation, prefix, k: act(replies[len(conversation) // 2 - 1][k]))
    found = run_one(model, box, sag=SAG(n=2))
    assert "ZeroDivisionError" in model.calls[2]["conversations"][0][-1]["content"]
    assert found.answer in (5, 9)


def test_candidates_without_code_never_beat_one_that_ran(box):
    texts = ["I think 42.", "It is 42.", act("final_answer(42)")]
    found = run_one(Scripted(lambda c, p, k: texts[k]), box, sag=SAG(n=3))
    assert (found.answer, len(found.steps)) == (42, 1)


def test_the_published_vote_keeps_the_first_final_answer(box):
    answers = ["London", "Paris", "paris."]
    reply = lambda c, p, k: act(f"final_answer({answers[k]!r})")  # noqa: E731
    assert run_one(Scripted(reply), box, sag=SAG(n=3)).answer == "Paris"
    assert run_one(Scripted(reply), box, sag=SAG(n=3, vote="as_published")).answer == "London"


def test_the_shortest_of_the_largest_group_is_kept(box):
    said = ["so so so so", "so so", "so so so"]
    found = run_one(Scripted(lambda c, p, k: act("final_answer(1)", said[k])), box, sag=SAG(n=3))
    assert found.steps[0].text.startswith("Thought: so so\n")


# --- sessions ---------------------------------------------------------------------------------------------------


class Counting:
    """A sandbox that keeps the sessions it opened."""

    def __init__(self, box):
        self.box, self.sessions, self.tools = box, [], box.tools

    def session(self):
        self.sessions.append(self.box.session())
        return self.sessions[-1]

    def run_batch(self, batch):
        return self.box.run_batch(batch)


def closed(session):
    with pytest.raises(RuntimeError):
        session.run_candidates(["1"])
    return True


def test_every_session_is_closed_at_the_end(box):
    counting = Counting(box)
    list(
        Agent(Scripted(steps("final_answer(1)")), counting, batch=2).run([ask(i) for i in range(3)])
    )
    assert len(counting.sessions) == 3 and all(map(closed, counting.sessions))


def test_sessions_are_closed_when_the_model_fails(box):
    def broken(conversation, prefix, k):
        raise RuntimeError("the server is gone")

    counting = Counting(box)
    with pytest.raises(RuntimeError, match="the server is gone"):
        list(Agent(Scripted(broken), counting).run([ask(0), ask(1)]))
    assert len(counting.sessions) == 2 and all(map(closed, counting.sessions))


def test_sessions_are_closed_when_the_reader_stops_early(box):
    counting = Counting(box)
    trajectories = Agent(Scripted(steps("final_answer(1)")), counting).run([ask(0), ask(1)])
    next(trajectories)
    trajectories.close()
    assert all(map(closed, counting.sessions))


def test_a_real_small_model_acts_and_every_step_is_recorded(smol, box):
    found = run_one(smol, box, max_steps=1, step_tokens=8)
    assert found.stopped in ("final_answer", "max_steps") and len(found.steps) == 1
    assert all(s.completion_tokens <= 8 and s.prompt_tokens > 0 for s in found.steps)


def chain(number, text, correct=False, gold="12", aliases=()):
    return {
        "id": f"q-{number}", "text": text, "correct": correct, "gold": gold, "aliases": [*aliases],
    }  # fmt: skip


CHAINS = [
    chain(1, "I multiply 3 and 4.\n\n\\boxed{12}", correct=True),
    chain(2, "It is 12.\n\n\\boxed{13}"),
    chain(3, "I find $x = 12$ at once.\n\nSo.", correct=True),
    chain(4, "", correct=True),
    chain(5, "There are 112 of them.\n\n", gold="12"),
    chain(6, "He was born in the City of Light.\n\n", gold="Paris", aliases=["city of light"]),
]


@pytest.mark.parametrize(
    ("variant", "started"),
    [("published", "12356"), ("no_blank_line", "12356"), ("gated", "13"), ("no_answer", "15")],
)
def test_each_variant_starts_from_its_first_thoughts(variant, started):
    assert variant in config.FIRST_THOUGHTS
    found = first_thought_prefixes(CHAINS, variant)
    assert [*found] == [c["id"] for c in CHAINS]
    assert {k for k, prefix in found.items() if prefix} == {f"q-{k}" for k in started}
    blank = "" if variant == "no_blank_line" else "\n\n"
    assert found["q-1"] == f"Thought: I multiply 3 and 4.{blank}" and found["q-4"] is None


def test_an_answer_counts_as_held_only_as_words_of_its_own():
    assert [holds_answer(c) for c in CHAINS] == [False, True, True, False, False, True]
