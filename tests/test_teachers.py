"""What teachers and newcomers get: glossary, FAQ, plan, handout and slides say what is there."""

import ast
import difflib
import itertools
import re
from urllib.parse import unquote

import pytest
import slides

from agentlib import benchmarks, cases, config, distill, figures, filtering, pages, records, teach
from agentlib.figures import tables
from agentlib.models import weights
from agentlib.runner import doctor, preflight, run

FOLDER = config.ROOT / "notebooks" / "teaching"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(FOLDER.glob("*.md"))}
HEADING = re.compile(r"^# (#+ .+)$", re.MULTILINE)


def flat(text: str) -> str:
    return " ".join(text.replace("*", "").split())


def headings(number: str) -> dict[str, str]:
    """The text of each section of a notebook's script, by the link that leads there."""
    (script,) = (config.ROOT / "notebooks" / "src").glob(f"{number}_*.py")
    _, *parts = HEADING.split(script.read_text(encoding="utf-8"))
    found = {}
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        words = "\n".join(line.removeprefix("#") for line in f"{heading}\n{body}".splitlines())
        found[heading.lstrip("# ").replace(" ", "-")] = flat(words)
    return found


def broken_links(text: str) -> list[str]:
    """Links of a page that lead to no file, or to no heading of a notebook; for these with the
    nearest heading that there is, as a link has it."""
    broken = []
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, heading = target.partition("#")
        if file.startswith("http"):
            continue
        if not (FOLDER / file).exists():
            broken.append(target)
        elif heading and unquote(heading) not in (
            there := headings((FOLDER / file).name.partition("_")[0])
        ):
            (near,) = difflib.get_close_matches(unquote(heading), there, n=1, cutoff=0)
            broken.append(f"{target}, nearest: #{near.replace('(', '%28').replace(')', '%29')}")
    return broken


def test_all_five_pages_are_there():
    assert set(PAGES) == {"expected", "faq", "glossary", "handout", "plan"}


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_to_files_and_headings(page):
    assert broken_links(PAGES[page]) == [] and "](" in PAGES[page]


def test_a_link_to_a_heading_that_is_not_there_is_found():
    text = "[a](../00_meet_the_agent.ipynb#6-·-My-turn) [b](../99_none.ipynb) [c](faq.md)"
    heading, file = broken_links(text)
    assert heading.endswith("#6-·-My-turn, nearest: #6-·-Your-turn") and file == "../99_none.ipynb"


# --- glossary --------------------------------------------------------------------------------

ENTRY = re.compile(r"^\*\*(.+?)\*\* · (.+) \*\[(\d\d[a-z]?), .+?\]\(.+?#(.+?)\)(?: · (.+))?\*$")
ENTRIES = [ENTRY.match(line) for line in PAGES["glossary"].splitlines() if line.startswith("**")]


def test_every_entry_has_a_term_words_a_section_and_maybe_a_place_in_the_paper():
    assert len(ENTRIES) > 60 and all(ENTRIES)
    terms = [entry[1].lower() for entry in ENTRIES]
    assert terms == sorted(set(terms))
    for entry in ENTRIES:
        assert entry[5] is None or re.fullmatch(r"§\d(\.\d)?|(Table|Fig\.) \d", entry[5]), entry[1]
        assert 20 < len(entry[2]) < 260, entry[1]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry[1])
def test_a_term_occurs_in_the_section_that_its_entry_names(entry):
    term, _, number, heading = entry.groups()[:4]
    assert term.lower() in headings(number)[unquote(heading)].lower()


# --- commands --------------------------------------------------------------------------------

TARGETS = set(
    re.findall(r"^([a-z-]+):", (config.ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
)


def options(command, capsys) -> set[str]:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_exist(page, capsys):
    text = PAGES[page]
    assert set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.M)) <= TARGETS
    assert set(re.findall(r"PRESET=(\w+)", text)) <= set(config.PRESETS)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert named <= options(run, capsys)
    assert "--set" in options(doctor, capsys)
    for name in re.findall(r"--set\s+(\w+)=", text):
        assert name in config.PAPER.asdict(), name
    for overrides in re.findall(r"`(?:overrides = )?(\{[^`]+\})`", text):
        config.load("smoke", **ast.literal_eval(overrides))
    for name in re.findall(r"`pages\.(\w+)`", text):
        assert callable(getattr(pages, name)), name


def test_pages_name_commands_at_all():
    assert len(set(re.findall(r"make [a-z]+", PAGES["faq"]))) >= 4 and "--set" in PAGES["faq"]


# --- FAQ -------------------------------------------------------------------------------------


def strings_of_the_program() -> str:
    """All text that the package can print: its string literals, and what the Makefile says."""
    found = [(config.ROOT / "Makefile").read_text(encoding="utf-8")]
    for file in sorted((config.ROOT / "agentlib").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return flat("\n".join(found))


def unknown_words(message: str, program: str) -> list[str]:
    """The parts of a quoted message, between what differs, that no string of the program has."""
    parts = (flat(part) for part in re.split(r"…|[,:;.]\s", message))
    return [part for part in parts if part.strip(" ,:;.?") and part.strip(" ,:;.") not in program]


def test_messages_in_the_faq_are_those_of_the_program():
    program = strings_of_the_program()
    quoted = re.findall(r"^> (?!GPU: )(.+)$", PAGES["faq"], re.MULTILINE)  # that has its own test
    assert len(quoted) >= 10
    for message in quoted:
        assert unknown_words(message, program) == [], message
    assert unknown_words("run folder … is taken by somebody else", program)


def test_where_a_machine_lacks_a_gpu_the_paper_preset_says_what_the_faq_says(monkeypatch):
    monkeypatch.setattr(preflight, "gpu_memory", lambda: [])
    (gpu,) = (c for c in preflight.checks(config.PAPER) if c.need == "GPU")
    (said,) = re.findall(r"^> (GPU: .+)$", PAGES["faq"], re.MULTILINE)
    before, after = said.split("…")
    assert gpu.sentence.startswith(before) and gpu.sentence.endswith(after) and not gpu.met


def test_downloads_in_the_faq_are_those_of_the_models():
    rows = dict(re.findall(r"^\| ([\w.-]+) \| (\d+) MB \|$", PAGES["faq"], re.MULTILINE))
    cfg, laptop = config.load("smoke"), config.load("laptop")
    easy = "Qwen2.5-Coder-0.5B-Instruct"
    assert list(rows) == [cfg.students[0], cfg.encoder, easy, laptop.teacher]
    assert cfg.students == laptop.students and cfg.encoder == laptop.encoder
    for number in ("09", "11"):  # whose teacher it is
        (script,) = (config.ROOT / "notebooks" / "src").glob(f"{number}_*.py")
        assert f'"teacher": "{easy}"' in script.read_text(encoding="utf-8")
    for name, size in rows.items():
        assert round(weights.download_bytes(name) / 1e6) == int(size), name
    assert "up to eight times" in PAGES["faq"] and weights.DENSE_BYTES_PER_GGUF_BYTE == 8


# --- what one should see ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed():
    """The records that each small preset is compared with."""
    smoke, laptop = config.load("smoke"), config.load("laptop")
    asked = {question.id for question in benchmarks.test_questions(smoke)}
    found = figures.to_frame(records.read(teach.records_folder(smoke) / "cases.jsonl"))
    answered = figures.to_frame(records.read(laptop.records / "cases.jsonl"))
    return {"smoke": found[found["id"].isin(asked)], "laptop": answered}


def test_right_answers_to_expect_are_those_of_the_records(committed):
    columns = {}
    for preset, answered in committed.items():
        for student, mine in answered.groupby("model", sort=False):
            right = mine.groupby(["method", "n"])["correct"].agg(["sum", "count"])
            whole = right[right["count"] == right["count"].max()]["sum"]  # not a vote of Fig. 5
            columns[preset, figures.size_label(student)] = whole.astype(int)
            asked = f"of {right['count'].max()} at `{preset}`"
            assert asked in flat(PAGES["expected"])
    for key in columns["smoke", "135M"].index:
        label = figures.method_label(*key)
        published = tables.published_mean(config.load("laptop").students[0], key[0], key[1] > 1)
        counts = " | ".join(str(column.get(key, "not run")) for column in columns.values())
        assert f"| {label} | {counts} | {published:.1f} |" in PAGES["expected"]
    assert len(columns) == 2 and len(columns["smoke", "135M"]) == 8


def test_the_teacher_to_expect_is_that_of_the_records():
    for method in teach.METHODS:
        paths = {teach.records_path(config.load(preset), method) for preset in ("smoke", "laptop")}
        (path,) = paths
        ran = list(cases.read(path))
        cells = [sum(map(bool, (case["correct"] for case in ran)))]
        cells += [sum(map(filtering.passes_filter, ran))]
        assert f"right of {len(ran)}" in PAGES["expected"]
        row = f"| {figures.method_label(method, 1)} | {' | '.join(map(str, cells))} |"
        assert row in PAGES["expected"]
    seen = [
        len(distill.training_cases(config.load("smoke"), method))
        for method in ("agent_distill", "agent_distill_ftp")
    ]
    assert f"({seen[0]}, with the prefix {seen[1]})" in flat(PAGES["expected"])


def test_what_a_run_of_smoke_ends_with_is_what_its_records_say(committed):
    cfg = config.load("smoke")
    said = figures.take_home(committed["smoke"], cfg.students[0])
    assert re.findall(r"^> \d\. (.+)$", PAGES["expected"], re.MULTILINE) == said
    acting = re.search(r"of (\d+) questions the .+? got (\d+) right", said[0])
    asked, right = map(int, acting.groups())
    low, high = (round(asked * end) for end in figures.wilson_interval(right, asked))
    assert f"from {low} to {high} of the {asked}" in flat(PAGES["expected"])
    trained = distill.adapter_run(cfg, cfg.students[0], "agent_distill")
    losses = list(records.read(distill.committed(cfg, trained) / "loss.jsonl"))
    ends = f"starts at {losses[0]['loss']:.2f} and ends at {losses[-1]['loss']:.2f}"
    assert ends in flat(PAGES["expected"])


@pytest.mark.parametrize("preset", ["smoke", "laptop"])
def test_verdicts_to_expect_are_those_of_the_records(committed, preset):
    holds = figures.check_claims(committed[preset])["holds"].value_counts()
    found = [holds.get(verdict, 0) for verdict in ("yes", "no", "not settled")]
    row = [preset, sum(found), *found]
    assert f"| {' | '.join(map(str, row))} |" in PAGES["expected"]


# --- plan, handout, slides -------------------------------------------------------------------


def test_the_minutes_of_a_plan_follow_each_other_to_its_end():
    for title, end in (("Ninety minutes", 90), ("Half a day", 240)):
        part = PAGES["plan"].split(f"## {title}\n")[1].split("\n## ")[0]
        minutes = [tuple(map(int, m)) for m in re.findall(r"^\| (\d+)-(\d+) \|", part, re.M)]
        assert minutes[0][0] == 0 and minutes[-1][1] == end, title
        assert all(a[1] == b[0] for a, b in itertools.pairwise(minutes)), title
    assert "timed on paper only" in PAGES["plan"]


def plan_rows(title: str, page: str) -> list[str]:
    part = page.split(f"## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| \d+-\d+ \|.+$", part, re.MULTILINE)


def numbers(words: str) -> list[int]:
    """Of "1, 3 and 6" or "2 to 4"."""
    found = [int(number) for number in re.findall(r"\d", words)]
    return list(range(found[0], found[1] + 1)) if "to" in words else found


def reading_minutes(number: str) -> dict[str, float]:
    """Of a notebook's sections, by their numbers; "exercise" is what one of its exercises takes."""
    (script,) = (config.ROOT / "notebooks" / "src").glob(f"{number}_*.py")
    text = script.read_text(encoding="utf-8")
    (line,) = re.findall(r"^# \*To read\*: (.+)\.$", text, re.MULTILINE)
    minutes = {name: int(took) for name, took in re.findall(r"(\d|exercises) \((\d+)", line)}
    return minutes | {"exercise": minutes.pop("exercises") / text.count('tags=["exercise"]')}


def too_short(row: str) -> str:
    """Why a row of a plan leaves less time than its notebook says it takes, else nothing."""
    start, end = map(int, re.findall(r"\d+", row)[:2])
    place = re.search(r"\[(\d\d), sections? ([^\]]+)\]", row)
    if not place:
        return ""
    minutes = reading_minutes(place[1])
    needed = sum(minutes[str(number)] for number in numbers(place[2]))
    for said in re.findall(r"exercises? (\d(?: and \d)?)", row.split("|")[3]):
        needed += len(numbers(said)) * minutes["exercise"]
    return f"{place[1]} takes {needed:.0f} minutes, {end - start} are planned" * (
        needed > end - start
    )


@pytest.mark.parametrize("title", ["Ninety minutes", "Half a day"])
def test_a_plan_leaves_the_minutes_that_the_notebooks_say(title):
    found = [too_short(row) for row in plan_rows(title, PAGES["plan"])]
    assert len(found) >= 9 and not any(found), found


def test_a_plan_that_leaves_too_little_time_is_found():
    row = "| 40-52 | [02, sections 1, 3 and 6](x), slide 4 | compare; exercise 3 | words | words |"
    assert too_short(row) == "02 takes 21 minutes, 12 are planned"
    assert too_short(row.replace("40-52", "40-62")) == ""


def test_the_plan_computes_as_long_as_was_measured():
    log = (config.ROOT / "LOG.md").read_text(encoding="utf-8")
    *_, measured = re.findall(r"notebooks 00 to 05c in [\d.]+ minutes \(([\d., ]+)\)", log)
    *whole, a, b, c = (float(minutes) for minutes in measured.split(", "))
    (row,) = re.findall(r"^\| minutes \| ([\d. |]+) \|$", PAGES["plan"], re.MULTILINE)
    assert [float(minutes) for minutes in row.split(" | ")] == [*whole, round(a + b + c, 1)]


@pytest.fixture(scope="module")
def deck(tmp_path_factory):
    out = tmp_path_factory.mktemp("slides") / "slides.html"
    assert slides.main(["--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def test_there_are_ten_slides_with_their_pictures_within(deck):
    text = slides.TEXT.read_text(encoding="utf-8")
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
    assert deck.count("<section>") == 10 and "10 / 10" in deck and len(pictures) >= 6
    sources = re.findall(r'<img[^>]* src="([^"]{30})', deck)
    assert len(sources) == len(pictures)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert all(len(words) > 30 for words, _ in pictures)


def test_slides_load_nothing_from_elsewhere(deck):
    plain = re.sub(r'src="data:[^"]+"', "", deck)
    assert not re.findall(r"(?:src|href)\s*=|url\(|@import|https?://|//\w+\.", plain)
    assert "default-src 'none'" in plain


def test_numbers_on_slides_are_filled_in_and_not_typed(deck):
    names = set(re.findall(r"\{(\w+)\}", slides.TEXT.read_text(encoding="utf-8")))
    values = slides.numbers()
    assert names == set(values) and not re.search(
        r"\{\w+\}", deck.split("</style>")[1].split("<script>")[0]
    )
    typed = re.sub(
        r"`[^`]*`|```.*?```|!?\[[^\]]*\]\([^)]*\)", "", slides.TEXT.read_text("utf-8"), flags=re.S
    )
    digits = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", typed)
    assert not [
        d for d in digits if d not in {"2025", "2505.17612", "09", "00", "05", "1", "2", "3"}
    ]
    table = (config.ROOT / "figures" / "laptop" / "table2.md").read_text(encoding="utf-8")
    assert f"| {values['recites']} [" in table and f"| {values['acts']} [" in table


def test_a_slide_with_a_name_or_picture_that_is_not_there_is_refused():
    with pytest.raises(KeyError, match="nothing"):
        slides.build("# a {nothing}", slides.TEXT.parent, {})
    with pytest.raises(FileNotFoundError):
        slides.build("# a\n\n![words](missing.svg)", slides.TEXT.parent, {})
