"""The pages for people: every command in them exists and runs, every link leads somewhere, every
picture is described."""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pandas as pd
import pytest

from agentlib import benchmarks, config, distill, figures, prompts, records, teach
from agentlib.figures import claims, estimates, statistics, tables
from agentlib.models import weights
from agentlib.runner import notebooks

PAGES = [
    config.ROOT / page
    for page in ("README.md", "notebooks/README.md", "agentlib/README.md", "figures/README.md")
]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
BLOCKS = "\n".join(re.findall(r"^```\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
WORDS = re.findall(r"`((?:make|python -m) [^`]+)`", TEXT) + [
    line.partition("#")[0].strip() for line in BLOCKS.splitlines()
]
COMMANDS = sorted({words for words in WORDS if words.startswith(("make ", "python "))})


def test_there_are_commands_to_check():
    assert {"make reproduce", "make test", "make workshop", "make lab"} <= set(COMMANDS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_a_make_command_expands_to_what_this_environment_can_start(command, tmp_path):
    """What each target calls, without calling it: the smoke run, the tests and the site have
    tests of their own."""
    for part in (
        "Makefile",
        "pyproject.toml",
        "requirements.lock",
        "requirements-test.lock",
        "requirements-bench.lock",
    ):
        shutil.copy(config.ROOT / part, tmp_path / part)
    said = subprocess.run(
        [*command.split(), "--dry-run"], cwd=tmp_path, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    started = set(
        re.findall(
            r"python ((?:-m agentlib|tools/)\S*(?: (?:run|serve|train|doctor))?)", said.stdout
        )
    )
    for what in started:
        helped = subprocess.run(
            [sys.executable, *what.split(), "--help"],
            capture_output=True,
            text=True,
            cwd=config.ROOT,
        )
        assert helped.returncode == 0 and "usage" in helped.stdout, what
    for option in re.findall(r"agentlib run .*?(--[a-z-]+)", said.stdout):
        assert (
            option
            in subprocess.run(
                [sys.executable, "-m", "agentlib", "run", "--help"], capture_output=True, text=True
            ).stdout
        )


@pytest.mark.parametrize(
    "command",
    ["make workshop", pytest.param("make figures PRESET=laptop", marks=pytest.mark.notebook)],
)
def test_quick_commands_are_really_run(command, tmp_path):
    """In a copy of the tree with this environment, so that nothing is installed and nothing
    committed is touched."""
    for part in ("agentlib", "notebooks", "figures", "tools"):
        shutil.copytree(
            config.ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    for part in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(config.ROOT / part, tmp_path / part)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "ready").touch()
    before = {
        path.name: path.stat().st_mtime_ns
        for path in (tmp_path / "figures" / "laptop").glob("*.svg")
    }
    ran = subprocess.run(
        [*command.split(), f"BIN={os.path.dirname(sys.executable)}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    if command == "make workshop":
        assert len(list((tmp_path / "workshop").glob("*.ipynb"))) == len(
            list((tmp_path / "notebooks").glob("[0-9]*.ipynb"))
        )
    else:
        after = {
            path.name: path.stat().st_mtime_ns
            for path in (tmp_path / "figures" / "laptop").glob("*.svg")
        }
        assert len(after) >= 8 and all(after[name] > before.get(name, 0) for name in after)


def anchors(page) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_lead_to_files_and_pictures_have_words(page):
    for words, target in re.findall(r"!?\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert words.strip(), f"a link or picture without words: {target}"
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        assert (page.parent / path).exists(), target
        if anchor:
            assert anchor in anchors(page.parent / path if path else page), target


# --- the numbers: those of the records, on the pages and in the notebooks' prose ----------------------------------------

SMALL, LARGE = "SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct"
# words that a page has in place of a number
WORDS_OF = {2: "two", 3: "three", 4: "four", 5: "five", 8: "eight"}


def flat(text: str) -> str:
    return " ".join(text.split())


README, _, PACKAGE, RESULTS = (flat(page.read_text(encoding="utf-8")) for page in PAGES)


def prose(number: str) -> str:
    """A notebook's text, without its code."""
    (script,) = (config.ROOT / "notebooks" / "src").glob(f"{number}_*.py")
    return flat(
        " ".join(
            line.removeprefix("#")
            for line in script.read_text(encoding="utf-8").splitlines()
            if line.startswith("#")
        )
    )


def published(name: str, preset: str = "laptop") -> pd.DataFrame:
    return statistics.to_frame(records.read(config.load(preset).records / name))


@pytest.fixture(scope="module")
def laptop():
    return published("cases.jsonl")


@pytest.fixture(scope="module")
def other():
    """The greedy answers of the students that were trained first, with the same data, settings
    and seed."""
    found = published("trials/other_trainings.jsonl")
    return found[(found["training"] == "H100, first") & (found["n"] == 1)]


@pytest.fixture(scope="module")
def varied():
    return published("sweeps.jsonl")


@pytest.fixture(scope="module")
def taught():
    cfg = config.load("laptop")
    return {
        method: statistics.to_frame(records.read(teach.records_path(cfg, method)))
        for method in teach.METHODS
    }


def difference(found) -> str:
    return f"{100 * found['difference']:+.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def side(cases, model, method, n=1):
    return estimates.select(cases, model=model, method=method, n=n)


def test_the_models_are_as_large_as_the_page_says():
    """The README and the models that a run at each preset loads."""
    smoke, live = (config.load(preset) for preset in ("smoke", "laptop"))
    first = [*smoke.students, smoke.encoder]
    more = [name for name in (*live.students, live.teacher) if name not in first]
    mb = [f"{weights.download_bytes(name) / 1e6:.0f} MB" for name in (*first, *more)]
    assert (
        f"{mb[0]} and {mb[1]} for `smoke`, also {mb[2]} and {mb[3]} for `laptop` with a live"
        " teacher" in README
    )
    assert len(mb) == 4 and WORDS_OF[weights.DENSE_BYTES_PER_GGUF_BYTE] == "eight"
    assert "takes up to eight times its download on disk" in README


def test_every_arm_of_the_records_has_the_questions_that_its_configuration_asks(laptop):
    cfg = config.load("laptop")
    asked = {name: {q.id for q in benchmarks.load(name, cfg.questions)} for name in cfg.benchmarks}
    for (model, method, n, name), condition in laptop.groupby(
        ["model", "method", "n", "benchmark"]
    ):
        assert set(condition["id"]) == asked[name] and condition["correct"].notna().all(), (
            model,
            method,
            n,
            name,
        )


def test_the_means_on_the_page_are_those_of_the_records(laptop, other):
    beside = (
        tables.compare_with_paper(laptop)
        .query("benchmark == 'mean' and model.str.contains('0.5B')")
        .set_index("method")["published"]
    )
    means, again = (
        tables.mean_table(laptop),
        tables.mean_table(other[other["method"] != "cot_distill"]),
    )
    assert (
        list(means) == list(again) == ["135M (n=320)", "0.5B (n=320)"]
        and "320 questions per cell" in README
    )
    rows = [
        f"| {method} | {cells.iloc[0]} | {cells.iloc[1]} | {beside[method]:.1f} |"
        for method, cells in means.iterrows()
    ]
    rows += [
        f"| {method}, another training | {cells.iloc[0]} | {cells.iloc[1]} | |"
        for method, cells in again.iterrows()
    ]
    for row in rows:
        assert row.replace(tables.NO_BREAK, " ") in README, row
    assert len(rows) == 10


def test_the_claims_on_the_page_are_those_of_the_records(laptop):
    """Cell by cell: a claim is found by its number and its own words, whatever the page calls
    it."""
    found = claims.check_claims(laptop)
    lines = [
        line
        for line in PAGES[0].read_text(encoding="utf-8").splitlines()
        if re.match(r"\| P\d: ", line)
    ]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    shown = {
        (claim[:2], claim.rpartition(" ")[2] if claim.startswith("P4") else ""): rest
        for claim, *rest in cells
    }
    assert len(shown) == len(lines) == 6 and found["n"].eq(320).all()
    ends = {"b < a/2": "a/2)", "costs less": "margin)"}
    for name, row in found.iterrows():
        key = (
            name[:2],
            (
                next((end for words, end in ends.items() if words in name), "")
                if name.startswith("P4")
                else ""
            ),
        )
        small, large, theirs = shown[key]
        cell = f"{row['holds']}: {row['difference']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]"
        assert (
            cell == (small if "135M:" in name else large) and theirs == f"{row['published']:+.1f}"
        ), name
    assert (
        shown["P2", ""][1] == "no larger one here"
        and "less than 5 points (our margin)" in README
        and claims.SAG_TOLERANCE == 5
    )
    saved = (config.load("laptop").figures / "claims.md").read_text(encoding="utf-8")
    for name, row in claims.claim_table(found).iterrows():
        assert f"| {name} | {' | '.join(map(str, row))} |".replace(tables.NO_BREAK, " ") in saved, (
            name
        )


def test_the_other_trainings_differ_as_the_page_says(laptop, other):
    small_change = statistics.compare(
        side(other, LARGE, "agent_distill"), side(other, LARGE, "agent_distill_ftp")
    )
    assert (
        "with the other trainings above, the prefix changes the 0.5B student by"
        f" {difference(small_change)}" in README
    )
    trainings = statistics.compare(
        side(other, LARGE, "agent_distill"), side(laptop, LARGE, "agent_distill")
    )
    assert (
        "two trainings of the 0.5B agent at `laptop`, with the same seed, differ by"
        f" {100 * trainings['difference']:.1f} points" in prose("05b")
    )


def test_the_lead_at_smoke_is_as_the_page_says():
    """Of the recorded answers to the questions that `smoke` asks again."""
    cfg = config.load("smoke")
    frame = figures.to_frame(records.read(teach.records_folder(cfg) / "cases.jsonl"))
    frame = frame[frame["id"].isin({q.id for q in benchmarks.test_questions(cfg)})]
    asked, acts, recites = re.search(
        r"of (\d+) questions the 135M student that acts got (\d+) right,"
        r" the same model taught to recite (\d+); .+: more than chance\.",
        figures.take_home(frame, SMALL)[0],
    ).groups()
    assert (
        f"of {asked} questions, the student that acts gets {acts} right and the one that recites"
        f" {recites}" in README
    )


def test_own_runs_help_as_much_as_the_pages_say():
    answers, _ = figures.read_arms(config.load("smoke"))
    answers = answers[answers["training"] == 0]
    sides = dict(tuple(answers.groupby(["test", "arm"])))
    source = config.ROOT / "notebooks" / "src" / "11_learn_from_mistakes.py"
    page = flat(source.read_text(encoding="utf-8").replace("\n# ", " "))
    known, new = (
        {arm: (int(found["correct"].sum()), len(found)) for (test, arm), found in sides.items() if test == name}
        for name in ("in-domain", "new templates")
    )  # fmt: skip
    (own, n), (control, _) = known["own1"], known["teacher"]
    own_known = own
    found = figures.compare(sides["in-domain", "teacher"], sides["in-domain", "own1"])
    points = [100 * found[name] for name in ("difference", "low", "high")]
    assert f"it then gets {own} of {n} right, and {control} after" in README
    assert "(+{:.1f} points [{:.1f}, {:.1f}])".format(*points) in README
    assert f"it gets {own} of {n} right, the control {control}." in page
    (own, n), (control, _) = new["own1"], new["teacher"]
    assert f"it gets {own} of {n} right and the other one {control}, which may be chance" in README
    assert f"it gets {own} of {n} right and the control {control}, " in page
    facts = answers[answers["benchmark"] == "teaching-hotpot"].groupby(["test", "arm"])["correct"]
    right = facts.sum()
    said = "the control gets {} of 79 right with one search in ten failing and {} without"
    tests = ("failing search", "in-domain")
    assert said.format(*(right[test, "teacher"] for test in tests)) in page
    assert "the other student {} and {}.".format(*(right[test, "own1"] for test in tests)) in page
    assert {facts.size()[test, "own1"] for test in tests} == {79}
    table = figures.arm_differences(answers).set_index(["test", "arm"])["p"]
    assert table["in-domain", "own runs, round 1"] < 0.05, "more than chance"
    assert table["new templates", "own runs, round 1"] > 0.05, "which may be chance"
    tests = ("in-domain", "new templates", "failing search")
    said = (
        "gets {} of 159 right on known templates, {} of 81 on new ones, and {} of 79 when searches"
    )
    for arm, label in (("repair", "repairs"), ("own2", "own runs, round 2")):
        right = [int(sides[test, arm]["correct"].sum()) for test in tests]
        assert said.format(*right) in page
        assert (table.xs(label, level="arm") > 0.05).all(), "no more than chance"
    assert sides["in-domain", "own2"]["correct"].sum() < own_known, "no better than round 1"


def test_repairs_and_rounds_gave_what_the_page_says():
    _, yields = figures.read_arms(config.load("smoke"))
    parts = {row["part"]: row for row in yields}
    source = config.ROOT / "notebooks" / "src" / "11_learn_from_mistakes.py"
    page = flat(source.read_text(encoding="utf-8").replace("\n# ", " "))
    repairs, first, second = parts["repairs"], parts["round 1"], parts["round 2"]
    assert f"learnt from {repairs['kept']} repaired steps" in page
    assert f"in {repairs['right']} of {repairs['runs']} tries" in page
    said = "in round 2, {:.0%} of its runs are right, after {:.0%} in round 1"
    assert said.format(second["pass_1"], first["pass_1"]) in page
    solved = [round(part["pass_k"] * part["questions"]) for part in (second, first)]
    assert "({} of 160 after {})".format(*solved) in page and second["runs"] * 2 == first["runs"]


def test_temperature_and_seed_move_as_little_as_the_page_says(varied):
    found = varied[varied["setting"].isin(["temperature", "seed"])]
    assert (
        set(found["benchmark"]) == {"mini-math"}
        and "On 25 questions of mini-math, the temperature of the vote" in RESULTS
    )
    assert "move the 135M student by no more than two questions" in RESULTS
    for setting, cases in found.groupby("setting"):
        right = cases.groupby("value")["correct"].agg(["sum", "count"])
        assert (
            len(right) == 5
            and (right["count"] == 25).all()
            and right["sum"].max() - right["sum"].min() <= 2
        ), setting


def test_trajectories_help_as_much_as_the_page_says(varied):
    right = (
        varied[varied["setting"] == "trajectories"]
        .groupby("value")["correct"]
        .agg(["mean", "count"])
    )
    assert (right["count"] == 200).all() and len(right) == 4
    shares = {int(number): f"{100 * row['mean']:.1f} %" for number, row in right.iterrows()}
    *fewer, every = sorted(shares)
    cfg = config.load("laptop")
    trained = len(distill.examples(cfg, SMALL, "agent_distill"))
    assert len(distill.training_cases(cfg, "agent_distill")) == every
    said = ", ".join(f"{number} give {shares[number]}" for number in fewer)
    assert (
        f"{said}, and all {every} ({trained} of them short enough to train on) give {shares[every]}"
        in RESULTS
    )
    assert f"Of the {every} trajectories that pass the filter, {trained} are short enough" in prose(
        "05b"
    )


def test_kinds_of_fine_tuning_differ_as_the_page_says(varied):
    right = varied[varied["setting"] == "tuning"].groupby("value")["correct"].agg(["mean", "count"])
    assert (right["count"] == 200).all() and set(right.index) == {"lora", "qlora", "full"}
    of = {kind: f"{100 * mean:.1f} %" for kind, mean in right["mean"].items()}
    assert (
        f"LoRA {of['lora']}, QLoRA {of['qlora']}, full fine-tuning {of['full']} of the same 200"
        in RESULTS
    )
    lora, full = estimates.read_published("table8_lora_vs_fullft").set_index("Method")[
        "Avg_recomputed"
    ]
    assert f"published: {lora:.1f} % by LoRA, {full:.1f} % by full fine-tuning" in RESULTS
    tuned = dict(tuple(varied[varied["setting"] == "tuning"].groupby("value")))
    no_difference = statistics.compare(tuned["lora"], tuned["qlora"])
    assert (
        no_difference["low"] < 0 < no_difference["high"]
        and "no measurable difference from LoRA" in RESULTS
        and "no measurable difference from LoRA" in prose("05b")
    )


def test_real_questions_are_answered_as_the_page_says():
    found = published("cases.jsonl", "paper")
    found = found[(found["model"] == LARGE) & found["benchmark"].isin(["gsm-hard", "math500"])]
    right = found.groupby(["method", "n", "benchmark"])["correct"].agg(["sum", "count"])
    assert (
        right["count"] == 40
    ).all() and "On 40 real questions each of GSM-Hard and MATH500" in README
    student, untuned = (
        right["sum"][right.index.get_level_values("method").str.contains("distill") == distilled]
        for distilled in (True, False)
    )
    assert (
        f"gets {student.min()} or {student.max()} right, the untuned model {untuned.min()} to"
        f" {untuned.max()}" in README
    )
    assert student.max() == student.min() + 1
    kept = len(distill.training_cases(config.load("laptop"), "agent_distill_ftp"))
    assert f"it learnt from {kept} generated questions" in README


def test_speeds_on_the_page_are_those_of_the_benchmarks():
    last = {
        file.stem: json.loads(file.read_text().splitlines()[-1])
        for file in (config.ROOT / "tests/benchmarks").glob("*.jsonl")
    }
    rounds = {name: last[name]["rounds"] for name in ("generation", "training", "nearest")}
    assert (
        f"medians of {WORDS_OF[rounds['generation']]} rounds (of {WORDS_OF[rounds['nearest']]} for"
        " the index)" in PACKAGE
    )
    assert rounds["training"] == rounds["generation"]
    steps, index = last["generation"]["ratios"], last["nearest"]["ratios"]
    short, long = (
        steps[f"SAG, N = 8, no early stop, {prompt} prompt to greedy"]
        for prompt in ("short", "long")
    )
    assert (
        f"**{short:.2f} times** a greedy step with a short prompt, {long:.2f} times with a long one"
        in PACKAGE
    )
    assert (
        f"**{steps['questions/s, ours to smolagents']:.1f} times** as fast as by smolagents"
        in PACKAGE
    )
    assert f"**{100 * index['ivfpq, memory to flat']:.0f} %** of the flat one's memory" in PACKAGE
    assert (
        f"**{index['ivfpq, queries/s, 960 at a time to flat']:.0f} times** as many queries"
        in PACKAGE
    )
    assert f"at recall@3 of {index['ivfpq, recall@3 of flat']:.2f}" in PACKAGE
    engines = {name: f"{ratio:.2f}" for name, ratio in last["engines"]["ratios"].items()}
    greedy, four = (
        [engines[f"tokens/s, {work}, ours to {other}"] for other in ("vllm", "transformers")]
        for work in ("greedy", "n = 4")
    )
    assert f"**{greedy[0]} times** as many tokens a second for greedy" in PACKAGE
    assert f"**{four[0]} times** for four samples a prompt" in PACKAGE
    said = f"`generate` {greedy[1]} and {four[1]} times ({WORDS_OF[last['engines']['rounds']]}"
    assert said in PACKAGE
    assert (
        f"**{last['training']['ratios']['tokens/s, ours to the fastest TRL']:.2f} times** as many"
        " tokens" in PACKAGE
    )


@pytest.mark.parametrize(
    "script", sorted((config.ROOT / "notebooks" / "src").glob("[0-9]*.py")), ids=notebooks.number
)
def test_a_notebook_takes_as_many_minutes_as_the_page_says(script):
    (cell,) = re.findall(
        rf"\({re.escape(f'notebooks/{script.stem}.ipynb')}\) \| ([^|]+) \|",
        PAGES[0].read_text(encoding="utf-8"),
    )
    (said,) = re.findall(
        r"\*Minutes\* (?:about )?((?:under )?\d+)", prose(notebooks.number(script))
    )
    assert said == cell


def test_the_teacher_does_as_notebook_02_says(taught):
    """At `laptop`, in its last section."""
    text = prose("02")
    right = {method: int(found["correct"].sum()) for method, found in taught.items()}
    assert {len(found) for found in taught.values()} == {
        300
    } and f"{right['agent']} of 300 training questions right as an agent, {right['cot']} by" in text
    broken, failed = (
        {method: int((taught[method][kind] > 0).sum()) for method in ("agent", "agent_ftp")}
        for kind in ("parse_errors", "execution_errors")
    )
    assert (
        f"{broken['agent_ftp']} of 300 runs with it have a turn whose code is missing or does not"
        f" parse, {broken['agent']} without it" in text
    )
    assert failed == {"agent": 18, "agent_ftp": 18} and "fails at run time in 18 runs each" in text
    words = claims.prefix_effects({m: found.to_dict("records") for m, found in taught.items()})[
        "words of the first thought"
    ]
    assert f"{words.iloc[1]:.0f} words instead of {words.iloc[0]:.0f}" in text


def test_a_prefix_makes_a_run_as_easy_as_notebook_02_says():
    """Its own table, as it is on the page."""
    cells = nbformat.read(next(config.ROOT.glob("notebooks/02_*.ipynb")), 4).cells
    (page,) = [
        output["data"]["text/html"]
        for cell in cells
        if "figures.likelihood_table(" in cell.source
        for output in cell.outputs
    ]
    found = re.findall(r"<td>[+-][\d.]+ \[([+-]?[\d.]+), ([+-]?[\d.]+)\]</td>", page)
    whole, first, later = [(float(low), float(high)) for low, high in found]
    assert whole[0] < 0 < whole[1] and first[0] > 0 > later[1]
    assert (
        "a whole run shows no measurable difference: the first turn is harder to predict, the later"
        " turns are easier" in prose("02")
    )


def test_the_search_finds_what_notebook_01_says():
    """Its own table, as it is on the page."""
    cells = nbformat.read(next(config.ROOT.glob("notebooks/01_*.ipynb")), 4).cells
    (page,) = [
        output["data"]["text/html"]
        for cell in cells
        if "recall.round(2)" in cell.source
        for output in cell.outputs
    ]
    rows = re.findall(r"<td>(\d+)</td>\s*<td>([\d.]+)</td>\s*<td>([\d.]+)</td>", page)
    (hops, hops_by_words), (both, both_by_words) = (
        [[float(number) for number in row] for row in rows[k : k + 2]] for k in (0, 2)
    )
    assert len(rows) == 4 and hops[0] == hops_by_words[0] and both[0] == both_by_words[0]
    said = "a first hop is nearly always found, and the second, which the question does not name, "
    assert f"{said}seldom" in prose("01")
    for _, hit, complete in (hops, hops_by_words):
        assert hit > 0.85 and complete < 0.25


def test_the_prompt_has_as_many_worked_examples_as_notebook_00_says():
    for preset in ("smoke", "paper"):
        words = prompts.agent_system("teacher", wording=config.load(preset).wording)
        assert f"rules and {WORDS_OF[words.count('Question:')]} worked examples" in prose("00")


def test_the_vote_repairs_as_much_as_notebook_04_says(laptop):
    told = claims.sag_ledger(laptop).sum()
    said = f"repairs {told['repaired']} of {told['broken']} answers with broken code"
    assert f"{said}, and {told['then right']} of the repaired become right" in prose("04")


def test_notebooks_04_and_05_say_what_the_claims_say(laptop):
    holds = claims.check_claims(laptop)["holds"]
    verdicts = {
        (name[:2], name.partition(":")[0].rpartition(" ")[2], "halves" in name): verdict
        for name, verdict in holds.items()
    }
    assert [verdicts["P1", size, False] for size in ("135M", "0.5B")] == ["yes", "yes"]
    assert [verdicts["P4", size, True] for size in ("135M", "0.5B")] == ["yes", "not settled"]
    assert [verdicts["P3", size, False] for size in ("135M", "0.5B")] == ["no", "not settled"]
    assert (
        "halves the questions with broken code for the smaller student; for the larger one that is"
        " not settled" in prose("05b")
    )
    assert (
        "prefix lowers the smaller student's accuracy, and for the larger one its effect is not"
        " settled (P3)" in prose("05b")
    )
    assert (
        "The prefix lowers the accuracy of the 135M student. At 0.5B neither its effect nor that of"
        " SAG on broken code is settled." in README
    )
    assert "larger than the paper's (5.6 points at 0.5B)" in prose("05b") and holds.index.size == 11
    maths = laptop[
        (laptop["domain"] == "math") & (laptop["method"] == "cot_distill") & (laptop["n"] == 1)
    ]
    assert maths.groupby("model")[
        "correct"
    ].mean().max() < 0.02 and "reciting gets almost none right" in prose("04")


def test_notebook_08_says_of_questions_guesses_and_samples_what_was_measured():
    """Questions per second are a record's; guesses and samples are of the notebook's own run."""
    notebook = nbformat.read(config.ROOT / "notebooks" / "08_measure_speed.ipynb", 4)
    text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    text = re.sub(r"\s+", " ", text)
    lines = (config.ROOT / "tests" / "benchmarks" / "generation.jsonl").read_text().splitlines()
    medians = json.loads(lines[-1])["medians"]
    rates = [medians[f"agentlib, {n} questions"]["questions/s"] for n in (8, 16, 32)]
    assert "16 or 32 questions at a time are not faster per question than 8" in text
    assert max(rates) < 1.05 * rates[0]
    (shown,) = [
        output["data"]["text/html"]
        for cell in notebook.cells
        if cell.cell_type == "code" and "of_eight" in cell.source
        for output in cell.outputs
        if "data" in output
    ]
    pairs = re.findall(r"<th>([a-z ]+)</th>\s*<td>([0-9.]+)</td>", shown)
    took = {what: float(seconds) for what, seconds in pairs}
    assert "Guesses save less than a fifth here" in text
    assert abs(1 - took["with guesses"] / took["without guesses"]) < 0.2
    assert "Eight samples cost two to three times as much as the greedy answer" in text
    assert 1.9 < took["eight samples"] / took["with guesses"] < 3.1
    assert not re.search(r"\baims?\b", text)
