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

from agentlib import benchmarks, cases, config, distill, figures, filtering, prompts, records, teach
from agentlib.figures import claims, statistics, tables
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

SMALL = "SmolLM2-135M-Instruct"
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
def teaching():
    """The recorded answers to the questions of the teaching set that `smoke` asks."""
    cfg = config.load("smoke")
    found = statistics.to_frame(records.read(teach.records_folder(cfg) / "cases.jsonl"))
    return found[found["id"].isin({q.id for q in benchmarks.test_questions(cfg)})]


@pytest.fixture(scope="module")
def taught():
    cfg = config.load("laptop")
    return {
        method: statistics.to_frame(records.read(teach.records_path(cfg, method)))
        for method in teach.METHODS
    }


def test_the_models_are_as_large_as_the_page_says():
    """The README and the models that a run at each preset loads."""
    smoke, live = (config.load(preset) for preset in ("smoke", "laptop"))
    first = [*smoke.students, smoke.encoder]
    assert [*live.students, live.encoder] == first
    mb = [f"{weights.download_bytes(name) / 1e6:.0f} MB" for name in (*first, live.teacher)]
    assert (
        f"{mb[0]} and {mb[1]} for `smoke` and `laptop`, and {mb[2]} more for a live teacher"
        in README
    )
    assert WORDS_OF[weights.DENSE_BYTES_PER_GGUF_BYTE] == "eight"
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


def test_the_means_on_the_page_are_those_of_the_records(laptop, teaching):
    ours, theirs = tables.mean_table(teaching), tables.mean_table(laptop)
    assert list(ours) == ["135M (n=80)"] and list(theirs) == ["135M (n=240)"]
    assert "(80 questions)" in README and "(240 questions)" in README
    ran = teaching[["method", "n"]].drop_duplicates().itertuples(index=False)
    rows = 0
    for method, n in ran:
        label = tables.method_label(method, n)
        cells = [table.iloc[:, 0].get(label, tables.NOT_RUN) for table in (ours, theirs)]
        cells += [f"{tables.published_mean(SMALL, method, n > 1):.1f}"]
        row = f"| {label} | {' | '.join(cells)} |".replace(tables.NO_BREAK, " ")
        assert row in README, row
        rows += 1
    assert rows == 8 and set(theirs.index) <= set(ours.index)


def test_the_claims_on_the_page_are_those_of_the_records(laptop, teaching):
    """Cell by cell: a claim is found by its number and its own words, whatever the page calls
    it."""
    lines = [
        line
        for line in PAGES[0].read_text(encoding="utf-8").splitlines()
        if re.match(r"\| P\d: ", line)
    ]
    shown = {}
    for line in lines:
        claim, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        shown[claim[:2], claim.rpartition(" ")[2] if claim.startswith("P4") else ""] = cells
    ours, theirs = claims.check_claims(teaching), claims.check_claims(laptop)
    ends = {"b < a/2": "a/2)", "costs less": "margin)"}
    for name, row in ours.iterrows():
        end = next((end for words, end in ends.items() if words in name), "")
        cells = [
            f"{found['holds']}: {found['difference']:+.1f}"
            f" [{found['low']:.1f}, {found['high']:.1f}]"
            if found["holds"] in ("yes", "no", "not settled")
            else tables.NOT_RUN
            for found in (row, theirs.loc[name])
        ]
        assert shown.pop((name[:2], end)) == [*cells, f"{row['published']:+.1f}"], name
    assert not shown and list(theirs.index) == list(ours.index)
    assert "less than 5 points (our margin)" in README and claims.SAG_TOLERANCE == 5
    saved = (config.load("laptop").figures / "claims.md").read_text(encoding="utf-8")
    for name, row in claims.claim_table(theirs).iterrows():
        assert f"| {name} | {' | '.join(map(str, row))} |".replace(tables.NO_BREAK, " ") in saved, (
            name
        )


def test_the_page_says_what_the_benchmarks_show(laptop):
    greedy = {m: found for m, found in laptop[laptop["n"] == 1].groupby("method")}
    acts, recites = (greedy[m] for m in ("agent_distill", "cot_distill"))
    right = [int(found["correct"].sum()) for found in (acts, recites)]
    assert f"gets {right[0]} of 240 right and the one that recites {right[1]}, which may" in README
    assert (claims.check_claims(laptop)["holds"].head(1) == "not settled").all()
    wiki = int(acts[acts["benchmark"] == "2wikimultihopqa-slice"]["correct"].sum())
    trivial = records.read_json(config.load("laptop").records / "wiki_slice.json")["trivial"]
    (first,) = (
        row["per cent"]
        for row in trivial
        if row["benchmark"] == "2wikimultihopqa-slice" and "first option" in row["policy"]
    )
    said = f"{wiki} of these {right[0]} are questions of 2WikiMultiHopQA, where the first of two"
    assert f"{said} options is right for {first:.0f} %" in README
    kept = len(distill.training_cases(config.load("laptop"), "agent_distill"))
    assert f"learnt from {kept} runs on generated questions" in README


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
    """In its last section."""
    text = prose("02")
    right = {method: int(found["correct"].sum()) for method, found in taught.items()}
    assert {len(found) for found in taught.values()} == {400}
    said = f"{right['agent']} of 400 training questions right as an agent, {right['cot']} by"
    assert said in text
    runs = {method: found.to_dict("records") for method, found in taught.items()}
    kept = {
        m: sum(
            map(filtering.passes_filter, cases.read(teach.records_path(config.load("laptop"), m)))
        )
        for m in runs
    }
    gets = f"gets more answers right ({right['agent_ftp']}), and fewer of its runs are kept"
    assert f"{gets} ({kept['agent_ftp']} instead of {kept['agent']})" in text
    broken = {m: int((taught[m]["parse_errors"] > 0).sum()) for m in ("agent", "agent_ftp")}
    assert (
        f"{broken['agent_ftp']} of 400 runs with it have a turn whose code is missing or does not"
        f" parse, {broken['agent']} without it" in text
    )
    words = claims.prefix_effects(runs)["words of the first thought"]
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
    assert whole[1] < 0 and first[1] < 0 and later[0] < 0 < later[1]
    assert (
        "a whole run with the prefix is easier to predict, and the first turn makes it so; in the"
        " later turns there is no measurable difference" in prose("02")
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


def test_the_vote_repairs_as_much_as_notebook_04_says(teaching):
    told = claims.sag_ledger(teaching).sum()
    said = f"repairs {told['repaired']} of {told['broken']} answers with broken code"
    assert f"{said}, and {told['then right']} of the repaired is then right" in prose("04")


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
