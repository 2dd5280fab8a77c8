"""What notebooks show of cases: everything that was recorded is on the page, escaped, and can be
clicked to."""

import re
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from agentlib import cases, config, sag
from agentlib.pages import show, widgets
from agentlib.sandbox import Failure, Outcome


def record(**changes):
    step = {"text": "Thought: I look it up.\nCode:\n```py\nweb_search('a < b')\n```", "code": "web_search('a < b')",
            "observation": "Observation:\n[1] <b>Lima</b>", "failure": None, "final": False, "completion_tokens": 9, "seconds": 1.2}  # fmt: skip
    last = step | {
        "text": "Thought: So it is Lima.\nCode:\n```py\nfinal_answer('Lima')\n```",
        "code": "final_answer('Lima')",
        "final": True,
    }
    return {
        "id": "q-0",
        "benchmark": "hotpotqa-slice",
        "question": "Which capital?",
        "gold": "Lima",
        "prediction": "Lima",
        "correct": True,
        "stopped": "final_answer",
        "model": "SmolLM2-135M-Instruct",
        "method": "agent_distill",
        "n": 1,
        "trace": [step, last],
        "completion_tokens": 18,
    } | changes


def voted_step(*groups, chosen=0):
    failed = {None: "execution", "dropped": "dropped"}
    candidates = [
        {
            "code": f"{k} + 1",
            "outcome": f"'{g}'",
            "failed": failed.get(g),
            "group": g if isinstance(g, int) else None,
        }
        for k, g in enumerate(groups)
    ]
    return {"candidates": candidates, "chosen": chosen}


def text(page) -> str:
    return re.sub(r"<[^>]+>", "", page.data.partition("</style>")[2])


KEPT_BY_GITHUB = re.compile(
    "h4|p|b|i|code|pre|table|thead|tbody|tr|t[dh]|details|summary|hr|blockquote|[uo]l|li|small|su[bp]"
    "|kbd|br|a"
)


def as_github_shows(page) -> str:
    """What GitHub leaves of a page: no style or script, no attribute but links and open folds, and
    of every other element only what is inside."""
    soup = BeautifulSoup(page.data, "html.parser")
    for element in soup.find_all(["style", "script"]):
        element.decompose()
    for element in soup.find_all(True):
        element.attrs = {k: v for k, v in element.attrs.items() if k in ("href", "open")}
        if not KEPT_BY_GITHUB.fullmatch(element.name):
            element.unwrap()
    return str(soup)


def read_plain(page) -> list[str]:
    """The lines that a reader sees of it: **bold**, > in front of what is indented as a box, ---
    for a rule, | between the cells of a table."""
    soup = BeautifulSoup(as_github_shows(page), "html.parser")
    for bold in soup.find_all("b"):
        bold.replace_with(f"**{bold.get_text()}**")
    for cell in soup.find_all(["td", "th"]):
        cell.replace_with(f"{' '.join(cell.get_text(' ').split())} | ")
    for rule in soup.find_all("hr"):
        rule.replace_with("\n---\n")
    for block in soup.find_all(["p", "pre", "h4", "summary", "tr", "br"]):
        block.insert(0, "\n")
        block.append("\n")
    for box in soup.find_all("blockquote"):
        inner = [line for line in box.get_text().split("\n") if line.strip()]
        box.replace_with("\n" + "\n".join(f"> {line}" for line in inner) + "\n")
    return [line.strip() for line in soup.get_text().split("\n") if line.strip()]


def test_a_case_shows_question_thoughts_code_observations_and_verdict():
    page = show.show_case(record(prefix="I look it up."))
    for words in (
        "Which capital?",
        "I look it up.",
        "web_search('a &lt; b')",
        "[1] &lt;b&gt;Lima",
        "gold &#x27;Lima&#x27;",
        "starts from the first-thought prefix",
        "9 tokens · 1.2 s",
    ):
        assert words in text(page), words
    assert "<b>Lima" not in page.data and "So it is Lima" not in text(
        show.show_case(record(), step=1)
    )


def test_a_question_that_could_not_be_asked_is_shown_with_its_error():
    lost = {
        "id": "q-0",
        "benchmark": "hotpotqa-slice",
        "question": "Which capital?",
        "gold": "Lima",
        "model": "m",
        "method": "agent",
        "error": "Lost: <it>",
    }
    for page in (
        show.show_case(lost),
        show.show_steps(lost),
        show.show_cases([lost, record()]),
        show.show_side_by_side(lost, record()),
    ):
        assert (
            "Lost: &lt;it&gt;" in text(page)
            and "Which capital?" in text(page)
            and "None" not in text(page)
        )


@pytest.mark.parametrize(
    ("correct", "said"),
    [(True, "right"), (False, "wrong"), (None, "not graded"), (float("nan"), "not graded")],
)
def test_a_verdict_is_one_of_three(correct, said):
    assert f"gold &#x27;Lima&#x27; · {said} · stopped" in text(
        show.show_case(record(correct=correct))
    )


def test_settings_are_listed_whole():
    page = show.show_settings(
        config.load("laptop"), "benchmarks", "teacher_server", "judge_server"
    ).data
    assert (
        "hotpotqa-slice, bamboogle-slice, musique-slice" in page
        and "olymmath-slice" in page
        and "<td>judge_server</td><td>–</td>" in page
    )
    assert (
        "a &lt; b" in show.show_values({"rule": "a < b"}).data
        and "name x, size 3" in show.show_values({"of": {"name": "x", "size": 3}}).data
    )
    with pytest.raises(AttributeError, match="benchmark"):
        show.show_settings(config.load("smoke"), "benchmark")


def test_an_error_is_marked_and_a_very_long_answer_is_cut():
    broken = record(correct=False, prediction="x" * 9000)
    broken["trace"][0]["failure"] = "execution"
    page = show.show_case(broken)
    assert page.data.count('class="box fail"') == 2 and len(page.data) < 9000


def test_a_line_that_a_model_could_not_stop_writing_stands_once():
    broken = record()
    broken["trace"][0]["text"] = (
        "I\nI\nI\nI\n" + "So.\n" * 40 + "Code:\n```py\nweb_search('a')\n```"
    )
    shown = show.show_case(broken).data
    answer = show.show_case(record(correct=False, prediction="x\n" * 60)).data
    assert "the same line 59 times more" in answer and answer.count("x\\n") == 1
    assert (
        shown.count("So.") == 1
        and "the same line 39 times more" in shown
        and "I<br>I<br>I<br>I<br>So." in shown
    )
    step = {
        **record()["trace"][0],
        "text": "Thought: I go on.\nCode:\n" + "```\n" * 60,
        "code": None,
    }
    assert "the same line" in show.show_case(record(trace=[step])).data, (
        "also in what was to be code"
    )


def test_steps_and_cases_can_be_clicked_through_without_a_script():
    page = show.show_cases(
        [record(), record(method="cot", text="It is Quito.", correct=False, trace=[])]
    )
    assert "<script" not in page.data
    ids, labels = (
        re.findall(r'id="(al-\w+-\d+)"', page.data),
        re.findall(r'for="(al-\w+-\d+)"', page.data),
    )
    # two cases, and all, step 1, step 2 of the first
    assert ids == labels and len(set(ids)) == len(ids) == 2 + 3
    assert ">Agent distillation · right<" in page.data and ">CoT prompting · wrong<" in page.data
    with pytest.raises(ValueError, match="25 pages are too many"):
        show.show_cases([record(id=str(k)) for k in range(25)])


def test_a_case_of_chain_of_thought_has_no_steps():
    words = record(method="cot", text="It is Quito.")
    del words["trace"]
    assert "It is Quito." in text(show.show_side_by_side(words, record())) and "step" not in text(
        show.show_steps(words)
    )


def test_a_vote_names_its_groups_and_frames_the_kept_one():
    page = show.show_vote(voted_step(0, None, 0, 1, "dropped", chosen=2))
    rows = re.findall(r'<tr class="(card[^"]*)".*?>candidate (\d).*?name">(.*?)</td>', page.data)
    assert [(css, int(k), re.sub("<[^>]+>", "", name)) for css, k, name in rows] == [
        ("card", 1, "group 1, 2 of 5"),
        ("card", 2, "failed"),
        ("card kept", 3, "group 1, 2 of 5 · kept"),
        ("card", 4, "group 2, 1 of 5"),
        ("card", 5, "dropped"),
    ]


def test_a_case_reads_without_its_styles():
    """As on GitHub: every label is a bold line of its own, every box is indented, rules part the
    steps."""
    broken = record(correct=False, prefix="I look it up.")
    broken["trace"][0]["failure"] = "execution"
    lines = read_plain(show.show_case(broken))
    assert lines == [
        "> **question** · hotpotqa-slice",
        "> Which capital?",
        "---",
        "**step 1 of 2**",
        "> **step 1 · thought** · 9 tokens · 1.2 s · starts from the first-thought prefix",
        "> Thought: I look it up.",
        "> **code**",
        "> web_search('a < b')",
        "> **observation** · failed (execution)",
        "> [1] <b>Lima</b>",
        "---",
        "**step 2 of 2**",
        "> **step 2 · thought** · 9 tokens · 1.2 s",
        "> Thought: So it is Lima.",
        "> **code**",
        "> final_answer('Lima')",
        "---",
        "> **verdict: wrong**",
        "> answer 'Lima' · gold 'Lima' · wrong · stopped: final_answer",
    ]
    assert as_github_shows(show.show_case(broken)).count('<details open="">') == 2


def test_a_click_through_reads_without_its_styles_and_says_nothing_twice():
    voted = record(method="agent_distill_ftp", n=8)
    voted["trace"][1] |= voted_step(0, 0, None, chosen=1)
    words = record(method="cot", text="It is Quito.", correct=False)
    del words["trace"]
    lines = read_plain(show.show_cases([voted, words]))
    assert (
        lines[0].startswith("Everything is shown below.") and " | CoT prompting · wrong" in lines[0]
    )
    first = lines.index("**Agent distillation + FTP + SAG (n=8) · right**")
    second = lines.index("**CoT prompting · wrong**")
    assert lines[first - 1] == lines[second - 1] == "---"
    assert lines[first + 1] == "Parts: all | step 1 | step 2"
    for once in ("> Thought: I look it up.", "> Thought: So it is Lima.", "> **verdict: right**"):
        assert lines.count(once) == 1 and first < lines.index(once) < second
    assert (
        second < lines.index("> **chain of thought** · 18 tokens") < lines.index("> It is Quito.")
    )
    start = lines.index("**step 2 of 2**")
    assert lines[start + 1] == "**vote** · the row in bold is kept"
    assert start < lines.index("**candidate 2** | **group 1, 2 of 3 · kept** | 1 + 1 | → '0' |")
    beside = read_plain(show.show_side_by_side(voted, words))
    assert beside[0] == "Agent distillation + FTP + SAG (n=8)"
    assert beside[beside.index("CoT prompting") - 1] == "---"


def test_a_vote_is_a_table_without_its_styles_and_the_kept_row_alone_is_bold():
    lines = read_plain(show.show_vote(voted_step(0, None, 0, 1, "dropped", chosen=2)))
    assert lines == [
        "**vote** · the row in bold is kept",
        "candidate | group | code | outcome |",
        "candidate 1 | group 1, 2 of 5 | 0 + 1 | → '0' |",
        "candidate 2 | failed | 1 + 1 | → 'None' |",
        "**candidate 3** | **group 1, 2 of 5 · kept** | 2 + 1 | → '0' |",
        "candidate 4 | group 2, 1 of 5 | 3 + 1 | → '1' |",
        "candidate 5 | dropped | 4 + 1 | → 'dropped' |",
    ]


def test_passages_and_trained_tokens_read_without_their_styles():
    hits = [
        SimpleNamespace(score=score, passage=SimpleNamespace(title=title, text=words))
        for score, title, words in [(0.9, "Lima", "A city."), (0.5, "Quito", "Another.")]
    ]
    lines = read_plain(show.show_passages(hits))
    assert lines == ["> **0.900 · Lima**", "> A city.", "> **0.500 · Quito**", "> Another."]
    example = SimpleNamespace(input_ids=[0, 1, 2, 3, 4], labels=[-100, 1, 2, -100, 4])
    words = ["user: <hi> ", "Thought:", " yes", " seen ", "end"]
    tokenizer = SimpleNamespace(decode=lambda ids: "".join(words[k] for k in ids))
    label, line = read_plain(show.show_token_mask(example, tokenizer))
    assert label.startswith("> **token mask** · bold: the 3 of 5 tokens with loss")
    assert line == "> user: <hi> **Thought: yes** seen **end**"


def test_a_step_that_is_not_there_shows_question_and_answer():
    lines = read_plain(show.show_case(record(), step=3))
    assert [line for line in lines if "**" in line] == [
        "> **question** · hotpotqa-slice",
        "> **verdict: right**",
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from([None, "a", "b", "c"]), st.integers(1, 4)), min_size=1, max_size=8
    ),
    st.data(),
)
def test_with_fewer_candidates_the_vote_is_sags(drawn, data):
    """Any outcomes and lengths, ties of both among them: the vote over the first n is
    `sag.choose` of the first n."""
    outcomes = [
        Outcome(stdout=out) if out else Outcome(failure=Failure("execution", ""))
        for out, _ in drawn
    ]
    lengths = [length for _, length in drawn]
    groups = sag.groups(outcomes, lengths=lengths)
    step = {
        "candidates": [{"group": g, "tokens": t} for g, t in zip(groups, lengths, strict=True)],
        "chosen": sag.choose(outcomes, lengths=lengths),
    }
    n = data.draw(st.integers(1, len(drawn)))
    found = show.revote(step, n)
    assert found["chosen"] == sag.choose(outcomes[:n], lengths=lengths[:n])
    assert [c["group"] for c in found["candidates"]] == sag.groups(
        outcomes[:n], lengths=lengths[:n]
    )
    assert show.revote(step, len(drawn)) == step


def test_records_without_lengths_break_ties_in_sample_order():
    step = voted_step(1, 0, 0, 1, None, 0, chosen=2)
    found = show.revote(step, 4)
    assert found["chosen"] == 0 and [c["group"] for c in found["candidates"]] == [0, 1, 1, 0]
    assert show.revote(step, 6) == step


def test_revote_refuses_a_number_that_is_not_there():
    with pytest.raises(ValueError, match="n is 9, expected 1 to 2"):
        show.revote(voted_step(0, 1), 9)


def test_menus_follow_each_other():
    records = [
        record(),
        record(id="q-1", question="Which river?"),
        record(id="q-1", method="cot", text="The Nile."),
    ]
    del records[2]["trace"]
    widget = widgets.browse_cases(records)
    (student, question), (method, step), seen = (
        widget.children[0].children,
        widget.children[1].children,
        widget.children[2],
    )
    assert (
        student.value == "SmolLM2-135M-Instruct"
        and "Which capital?" in seen.value
        and step.max == 2
    )
    step.value = 2
    assert "So it is Lima" in seen.value and "I look it up" not in seen.value
    question.value = "q-1"
    assert [label for label, _ in method.options] == [
        "Agent distillation",
        "CoT prompting",
    ] and "Which river?" in seen.value
    method.value = ("cot", 1)
    assert "The Nile." in seen.value and step.max == 0
    with pytest.raises(ValueError, match="no cases"):
        widgets.browse_cases([])


def test_moving_n_and_temperature_moves_the_vote():
    widget = widgets.explore_vote(
        {0.2: voted_step(0, 0, 0), 1.0: voted_step(0, 1, 1, 0, 0, chosen=0)}
    )
    (temperature, n), seen = widget.children[0].children, widget.children[1]
    assert n.value == 3 and seen.value.count("group 1, 3 of 3") == 3
    temperature.value = 1.0
    assert n.max == 5
    n.value = 2
    assert seen.value.count("candidate ") == 2
    with pytest.raises(ValueError, match="no steps"):
        widgets.explore_vote({})


def test_a_run_is_drawn_in_one_place_while_it_goes_on(monkeypatch):
    drawn = []

    class Handle:
        def update(self, page):
            drawn.append(("again", page.data))

    def display(page, display_id):
        drawn.append(("first", page.data))
        return Handle()

    monkeypatch.setattr(widgets, "display", display)
    done = record()
    draw = widgets.draw_live()
    draw(done | {"stopped": None, "prediction": None, "trace": done["trace"][:1]})
    draw(done)
    (first, going), (second, ended) = drawn
    assert (first, second) == ("first", "again")
    assert "step 2 is being written" in going and "verdict" not in going
    assert "step 2 is being written" not in ended and "verdict: right" in ended


def test_an_answer_without_a_gold_one_is_not_called_wrong():
    grade = cases.graded({"gold": "", "domain": "factual", "aliases": []}, "Lima")
    assert (grade["prediction"], grade["correct"]) == ("Lima", None)
    page = show.show_case(record() | {"gold": ""} | grade).data
    assert "verdict: not graded" in page and "wrong" not in page and "gold" not in page


def test_talking_asks_with_the_switches_as_they_stand_and_draws_each_step(caplog):
    asked = []

    def ask(question, **switches):
        draw = switches.pop("draw")
        asked.append((question, switches))
        if question == "fails":
            raise RuntimeError("no <model>")
        draw(record() | {"question": "Drawn?"})

    widget = widgets.talk(ask, ["Which capital?"])
    question, (trained, search), (n, button), page = (
        widget.children[0],
        widget.children[1].children,
        widget.children[2].children,
        widget.children[3],
    )
    assert question.options == ("Which capital?",)
    button.click()
    assert not asked and "Type a question" in page.value
    question.value = "Which river?"
    button.click()
    trained.value, search.value, n.value = False, False, 8
    button.click()
    assert asked == [
        ("Which river?", {"trained": True, "search": True, "n": 1}),
        ("Which river?", {"trained": False, "search": False, "n": 8}),
    ]
    assert "Drawn?" in page.value and not button.disabled
    question.value = "fails"
    button.click()  # ipywidgets logs what a callback raises
    assert "no &lt;model&gt;" in page.value and not button.disabled
    assert "RuntimeError: no <model>" in caplog.text
