"""The chart of what students learnt from their own mistakes: what is drawn is what the records
say."""

import itertools
import json
import random

import pandas as pd
import pytest

from agentlib import config, figures
from agentlib.figures import arms

CHANCES = {"teacher": 0.2, "repair": 0.25, "own1": 0.3, "own2": 0.75}
PLACES = (
    ("teaching-hotpot", "in-domain"),
    ("teaching-hotpot", "failing search"),
    ("teaching-math", "in-domain"),
    ("teaching-math", "new templates"),
)


def answers(trainings=1, questions=60):
    draw = random.Random(1)
    return pd.DataFrame(
        {
            "arm": arm, "test": test, "benchmark": benchmark, "id": f"{benchmark}-{k}", "training": training,
            "model": "SmolLM2-135M-Instruct", "method": "agent_distill", "n": 1, "correct": draw.random() < chance,
        }
        for (arm, chance), (benchmark, test), training, k in itertools.product(
            CHANCES.items(), PLACES, range(trainings), range(questions)
        )
    )  # fmt: skip


@pytest.mark.parametrize("trainings", [1, 3])
def test_each_bar_is_as_high_as_the_share_of_right_answers(trainings):
    cases = answers(trainings)
    figure = figures.arm_chart(cases, "a note")
    (axes,) = figure.axes
    heights = [height for _, height in sorted((b.get_x(), b.get_height()) for b in axes.patches)]
    shares = cases.groupby(["arm", "test"])["correct"].mean()
    assert heights == pytest.approx(
        [
            100 * shares[arm, test]
            for arm in ("teacher", "repair", "own1", "own2")
            for test in ("in-domain", "new templates", "failing search")
        ]
    )
    labels = [" ".join(text.get_text().split()) for text in axes.get_xticklabels()]
    assert labels == ["teacher only", "repairs", "own runs, round 1", "own runs, round 2"]
    assert "own runs, round 2" in figure.seen and "repairs" not in figure.seen
    assert "a note" in figure.footer


def test_arms_are_compared_with_the_control_on_the_same_questions():
    cases = answers()
    found = figures.arm_differences(cases).set_index(["test", "arm"])
    assert len(found) == 3 * 3, "arms by tests"
    assert found["n"].groupby("test").first().to_dict() == {
        "in-domain": 120, "new templates": 60, "failing search": 60,
    }  # fmt: skip
    share = cases[cases["test"] == "in-domain"].groupby("arm")["correct"].mean()
    row = found.loc["in-domain", "own runs, round 2"]
    assert row["difference"] == pytest.approx(100 * (share["own2"] - share["teacher"]))
    assert row["low"] < row["difference"] < row["high"] and row["p"] < 0.01
    shown = figures.arm_table(cases).loc["in-domain", "own runs, round 2"]
    assert shown["difference"].startswith(f"{row['difference']:+.1f} [{row['low']:.1f},")
    assert shown["n"] == 120 and shown["p"] in (f"{row['p']:.3f}", "<0.001")
    same = cases.assign(correct=cases["id"].str.endswith("1"))
    assert "No arm differs beyond chance" in figures.arm_chart(same).seen


def test_an_arm_that_was_not_tested_is_a_gap_and_what_is_unknown_is_said():
    cases = answers()
    lost = cases[~((cases["arm"] == "own2") & (cases["test"] == "failing search"))]
    (axes,) = figures.arm_chart(lost).axes
    assert [text.get_text() for text in axes.texts] == ["not run"]
    zero = figures.arm_chart(cases.assign(correct=False))
    assert all(not axes.patches for axes in zero.axes)
    for column, wrong in (("arm", "own9"), ("test", "exam")):
        with pytest.raises(ValueError, match=f"{column} '{wrong}' is unknown, expected one of"):
            figures.arm_chart(cases.assign(**{column: wrong}))
        with pytest.raises(ValueError, match=f"the cases have no '{column}'"):
            figures.arm_chart(cases.drop(columns=column))


def test_records_are_read_or_the_command_that_makes_them_is_named(project):
    cfg = config.load("smoke")
    with pytest.raises(FileNotFoundError, match=r"pieces\.py --experiment improve --pack"):
        figures.read_arms(cfg)
    folder = project / "figures" / "records" / "improve"
    folder.mkdir(parents=True)
    rows = [
        {"part": "round 1", "questions": 4, "runs": 8, "right": 2, "pass_1": 0.25, "pass_k": 0.5, "steps": 20, "broken": 0.1,
         "kept": 2, "kept_questions": 1},
        {"part": "repairs", "runs": 3, "right": 1, "kept": 1},
    ]  # fmt: skip
    for name, lines in (("cases", answers().to_dict("records")), ("rounds", rows)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    cases, yields = figures.read_arms(cfg)
    assert len(cases) == 60 * len(PLACES) * len(CHANCES) and yields == rows
    table = figures.round_table(yields)
    assert list(table.index) == ["round 1"] and table.loc["round 1", "kept runs"] == 2
    assert table.loc["round 1", "questions with a right run (%)"] == 50
    assert table.loc["round 1", "runs per question"] == 2


def test_every_arm_of_the_experiment_has_a_label():
    from agentlib import rounds

    assert set(rounds.ARMS) == set(arms.LABELS)
