"""The slice of Wikipedia: built from records of the official schemas, checked against its
manifest, and searched."""

import csv
import gzip
import hashlib
import importlib.util
import itertools
import json
import re

import build_wiki
import pytest
import trivial

from agentlib import config, retrieval, score, tasks
from agentlib.benchmarks import search, wiki
from agentlib.benchmarks import sets as benchmarks
from agentlib.figures import estimates
from agentlib.retrieval import Passage, build
from agentlib.runner import preflight

# the overrides that ask any preset the eight benchmarks over the slice
SLICE = {
    name: getattr(config.LAPTOP, name)
    for name in ("benchmarks", "questions", "corpus", "passages", "retriever")
}

# Records as the official files hold them; their sentences are made up. HotpotQA's sentences begin
# with a blank, most of them; those of 2WikiMultihopQA do not.
HOTPOT = {
    "_id": "5a00", "question": "Which river flows through the town  where Ada Fell was born? ", "answer": "Orn", "type": "bridge", "level": "hard",
    "supporting_facts": [["Ada Fell", 0], ["Ormouth", 1]],
    "context": [["Ada Fell", ["Ada Fell was a painter born in Ormouth.", " She painted bridges."]],
                ["Ormouth", ["Ormouth is a town.", "The Orn flows through it."]],
                ["Ada Fall", ["Ada Fall is a waterfall."]]],
}  # fmt: skip
HOTPOT_ROW = HOTPOT | {  # the same schema as `datasets` writes it
    "id": "5a01",
    "question": "Is Ormouth a town?",
    "answer": "yes",
    "type": "comparison",
    "supporting_facts": {"title": ["Ormouth"], "sent_id": [0]},
    "context": {
        "title": [t for t, _ in HOTPOT["context"]],
        "sentences": [s for _, s in HOTPOT["context"]],
    },
}
del HOTPOT_ROW["_id"]
WIKI2 = {
    "_id": "aa11bb", "type": "comparison", "question": "Who was born first, Ben Low or Cy Dun?", "answer": "Ben Low", "answer_id": "Q7",
    "context": [["Ben Low", ["Ben Low( born 1900) was a baker."]], ["Cy Dun", ["Cy Dun( born 1910) was a miller."]]],
    "supporting_facts": [["Ben Low", 0], ["Cy Dun", 0]], "evidences": [["Ben Low", "date of birth", "1900"]], "entity_ids": "Q7_Q8",
}  # fmt: skip
ALIASES = {"Q_id": "Q7", "aliases": ["Benjamin Low"], "demonyms": []}
MUSIQUE = {
    "id": "3hop1__1_2_3", "question": "When did the maker of Zed close?", "answer": "1950", "answer_aliases": ["in 1950"], "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "Zed", "paragraph_text": "Zed is a radio made by Ypsilon.", "is_supporting": True},
        {"idx": 1, "title": "Ypsilon", "paragraph_text": "Ypsilon began in 1920.", "is_supporting": False},
        {"idx": 2, "title": "Ypsilon", "paragraph_text": "Ypsilon closed in 1950.", "is_supporting": True},
    ], "question_decomposition": [{"id": 1, "question": "Zed >> maker", "answer": "Ypsilon", "paragraph_support_idx": 0}],
}  # fmt: skip
BAMBOOGLE = [{"Question": "Who ruled when Ormouth was founded?", "Answer": "Queen Una"}]
DPR = {
    "question": "who is una",
    "answers": ["a queen"],
    "ctxs": [{"id": 9, "title": "Una", "text": "Una was a queen.", "score": 1.0}],
}
PASSAGES = {
    "hp": [("Ada Fell", "Ada Fell was a painter born in Ormouth. She painted bridges."), ("Ormouth", "Ormouth is a town. The Orn flows through it.")],
    "w2": [("Ben Low", "Ben Low( born 1900) was a baker."), ("Cy Dun", "Cy Dun( born 1910) was a miller.")],
    "mq": [("Zed", "Zed is a radio made by Ypsilon."), ("Ypsilon", "Ypsilon began in 1920."), ("Ypsilon", "Ypsilon closed in 1950.")],
    "nq": [("Una", "Una was a queen.")],
}  # fmt: skip
IDS = tuple(f"{source}_{wiki.key(*pair)}" for source, pairs in PASSAGES.items() for pair in pairs)
QUESTIONS = {
    "hotpotqa-slice": ("hotpotqa", "test", [("5a00", HOTPOT["question"], "Orn"), ("5a01", "Is Ormouth a town?", "yes")]),
    "2wikimultihopqa-slice": ("2wikimultihopqa", "test", [("aa11bb", WIKI2["question"], "Ben Low")]),
    "musique-slice": ("musique", "test", [(MUSIQUE["id"], MUSIQUE["question"], "1950")]),
    "bamboogle-slice": ("bamboogle", "test", [("0", BAMBOOGLE[0]["Question"], "Queen Una")]),
}  # fmt: skip
RECORDS = [HOTPOT, HOTPOT_ROW, WIKI2, ALIASES, MUSIQUE, DPR, *BAMBOOGLE]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A manifest of the hand-made records, and an empty download cache."""
    sets = {
        name: {
            "dataset": of,
            "split": split,
            "in_paper": 1,
            "questions": [f"{i} {wiki.key(text, answer)}" for i, text, answer in rows],
        }
        for name, (of, split, rows) in QUESTIONS.items()
    }
    monkeypatch.setattr(wiki, "manifest", lambda: {"sets": sets})
    monkeypatch.setattr(wiki, "passage_ids", lambda: IDS)
    monkeypatch.setenv("AGENTLIB_HOME", str(tmp_path / "home"))
    build_wiki._wanted.cache_clear()
    yield tmp_path
    build_wiki._wanted.cache_clear()


@pytest.fixture
def built(small):
    """The slice of the hand-made records, in the cache."""
    build_wiki.write(build_wiki.find(RECORDS), wiki.folder())
    return wiki.folder()


# --- from the official data sets --------------------------------------------------------------------------------


def test_official_files_of_every_form_become_the_slice(small, capsys):
    """A JSON array, JSON lines, gzip and CSV; in any order."""
    (small / "hotpot_train_v1.1.json").write_text(json.dumps([HOTPOT], indent=1), encoding="utf-8")
    (small / "rows.jsonl").write_text(
        json.dumps(HOTPOT_ROW) + "\n" + json.dumps(ALIASES) + "\n", encoding="utf-8"
    )
    (small / "dev.json").write_text(json.dumps([WIKI2]), encoding="utf-8")
    (small / "musique_ans_v1.0_dev.jsonl").write_text(json.dumps(MUSIQUE) + "\n", encoding="utf-8")
    (small / "nq-open-oracle.jsonl.gz").write_bytes(gzip.compress(json.dumps(DPR).encode()))
    with open(small / "bamboogle.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["Question", "Answer"])
        writer.writeheader()
        writer.writerows(BAMBOOGLE)
    assert build_wiki.main([str(file) for file in sorted(small.iterdir()) if file.is_file()]) == 0
    assert "8 passages and 5 questions" in capsys.readouterr().out
    assert [p.id for p in wiki.passages()] == list(IDS)
    first = (wiki.folder() / wiki.PASSAGES).read_bytes()
    build_wiki.write(build_wiki.find(reversed(RECORDS)), wiki.folder())
    assert (wiki.folder() / wiki.PASSAGES).read_bytes() == first, (
        "the same records give the same bytes"
    )


def test_questions_of_each_data_set_keep_what_it_says_of_them(built):
    river, town = wiki.load("hotpotqa-slice")
    assert river == tasks.Question(
        "hotpotqa-5a00",
        "hotpotqa-slice",
        "Which river flows through the town where Ada Fell was born?",
        "Orn",
        "factual",
        "hard",
        "bridge",
        "test",
        (),
        ("Ada Fell", "Ormouth"),
    )
    assert (town.answer, town.subject, town.supporting) == ("yes", "comparison", ("Ormouth",))
    (born,) = wiki.load("2wikimultihopqa-slice")
    assert (born.aliases, born.subject, born.level) == (("Benjamin Low",), "comparison", "")
    (closed,) = wiki.load("musique-slice")
    assert (closed.aliases, closed.subject, closed.level) == (("in 1950",), "3hop1", "3hop")
    assert [p.text for p in wiki.gold_passages(closed.id)] == [
        "Zed is a radio made by Ypsilon.",
        "Ypsilon closed in 1950.",
    ]
    (ruler,) = wiki.load("bamboogle-slice")
    assert ruler.supporting == () and wiki.gold_passages(ruler.id) == []


def test_what_no_file_had_is_named(small, capsys):
    (small / "dev.json").write_text(
        json.dumps([WIKI2, HOTPOT, HOTPOT_ROW, MUSIQUE]), encoding="utf-8"
    )
    assert build_wiki.main([str(small / "dev.json")]) == 1
    said = capsys.readouterr().out
    assert (
        f"1 passages were in none of the files, such as {IDS[-1]}" in said
        and "1 questions were in none of the files, such as bamboogle-0" in said
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps([HOTPOT | {"answer": "Orne"}]), "question hotpotqa-5a00 reads 'Which river"),
        (
            json.dumps([{"prompt": "?"}]),
            r"record has the fields ['prompt'], expected one of HotpotQA",
        ),
        ('[{"_id": 1,', "is not JSON ("),
    ],
)
def test_files_of_no_use_are_refused_in_a_sentence(small, capsys, content, expected):
    (small / "x.json").write_text(content, encoding="utf-8")
    assert build_wiki.main([str(small / "x.json")]) == 2
    assert expected in capsys.readouterr().err and not wiki.folder().exists()


# --- what is in the cache is checked ----------------------------------------------------------------------------


def rewritten(folder, name, change):
    rows = change(wiki.read(folder / name))
    (folder / name).write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    )


def test_without_the_slice_the_error_says_how_it_is_built(small):
    for load in (wiki.passages, lambda: wiki.load("hotpotqa-slice")):
        with pytest.raises(
            FileNotFoundError, match=r"gz is missing; build it .* `python tools/build_wiki.py FILE"
        ):
            load()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda rows: [rows[0] | {"text": "Ada Fell was a singer."}, *rows[1:]],
            "1 changed passages such as hp_",
        ),
        (lambda rows: rows[::-1], "another order"),
        (
            lambda rows: [*rows, {"id": f"x_{wiki.key('A', 'b')}", "title": "A", "text": "b"}],
            "not in the manifest",
        ),
    ],
)
def test_a_changed_corpus_is_refused(built, change, expected):
    rewritten(built, wiki.PASSAGES, change)
    with pytest.raises(ValueError, match=expected):
        wiki.passages()


def test_a_corpus_without_some_of_its_passages_is_taken_with_a_warning(built, caplog):
    rewritten(built, wiki.PASSAGES, lambda rows: rows[:-1])
    assert len(wiki.passages()) == 7 and "holds 7 of the 8 passages" in caplog.text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows[1:], "lacks question hotpotqa-5a00"),
        (
            lambda rows: [rows[0] | {"answer": "Orne"}, *rows[1:]],
            "another wording of question hotpotqa-5a00",
        ),
    ],
)
def test_a_missing_or_changed_question_is_refused(built, change, expected):
    rewritten(built, wiki.QUESTIONS, change)
    with pytest.raises(ValueError, match=expected):
        wiki.load("hotpotqa-slice")


# --- gold passages ----------------------------------------------------------------------------------------------


def shown(*passages):
    """The passages as the agent's search prints them."""
    searcher = type(
        "Found",
        (),
        {"search": lambda self, queries, k: [[retrieval.Hit(p, 1.0) for p in passages]]},
    )()
    return retrieval.as_tool(searcher)("x")


LONG = Passage(
    "x",
    "Ada Fell",
    "Ada Fell was a painter, born in Ormouth (1900), who painted bridges all her life and died"
    " there.",
)
TOOL = shown(LONG)


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (f"Observation:\n{TOOL}", True),
        (f"Observation:\n{[TOOL]}", True),  # a list of results is printed as reprs
        (f"Observation:\n{TOOL[:90]}", True),  # cut by the agent's own code
        (f"Observation:\n{TOOL[:40]}", False),
        # the article elsewhere
        (
            (
                "[1] Ada Fell\nAda Fell was a painter, born in Ormouth ( 1900), who painted bridges"
                " and towers."
            ),
            True,
        ),
        # another paragraph of it
        (
            "[1] Ada Fell\nShe is remembered for her bridges, of which the town museum shows nine.",
            False,
        ),
        (
            "[1] Ada Fellow\nAda Fell was a painter, born in Ormouth (1900), who painted bridges.",
            False,
        ),
        ("Ada Fell", False),
        ("", False),
    ],
)
def test_a_gold_passage_is_seen_by_its_title_and_first_words(observation, expected):
    assert (
        wiki.find_seen([LONG], ["Observation:\n(nothing was printed)", observation])
        == [LONG] * expected
    )


def case(question_id, *observations, domain="factual"):
    return {
        "id": question_id,
        "domain": domain,
        "trace": [{"observation": o} for o in observations],
    }


def test_a_case_is_supported_when_every_gold_passage_was_seen(built):
    maker, _, end = (f"[1] {title}\n{text}" for title, text in PASSAGES["mq"])
    question = f"musique-{MUSIQUE['id']}"
    assert wiki.is_supported(case(question, maker, end)) is True
    assert wiki.is_supported(case(question, f"{end}\n\n{maker}")) is True
    assert (
        wiki.is_supported(case(question, maker)) is False
        and wiki.is_supported(case(question)) is False
    )
    assert (
        wiki.is_supported(
            {"id": question, "domain": "factual", "passages": f"{maker}\n\n{end}", "text": "…"}
        )
        is True
    ), "CoT + RAG"
    assert wiki.is_supported(case("bamboogle-0", maker)) is None
    assert wiki.is_supported(case("math500-3", maker, domain="math")) is None


# --- as a corpus ------------------------------------------------------------------------------------------------


def test_the_slice_is_a_corpus_of_any_preset(built, project):
    cfg = config.load("smoke", **SLICE)
    with pytest.raises(FileNotFoundError):
        search.open_searcher(cfg)
    search.build(cfg)
    searcher = search.open_searcher(cfg)
    assert searcher.search(["a baker"], 1)[0][0].passage.title == "Ben Low"
    assert "[1] Una\nUna was a queen." in search.web_search(cfg)("queen Una")
    with pytest.raises(ValueError, match="'passages' is 4, expected 0 for the corpus 'wiki-slice'"):
        search.corpus(config.load("smoke", **SLICE | {"passages": 4}))


def test_recall_counts_gold_passages_among_the_first(built, tmp_path):
    index = retrieval.open_index(
        build.build_index(tmp_path / "index", wiki.passages(), kind="bm25")
    )
    asked = (
        wiki.load("2wikimultihopqa-slice")
        + wiki.load("musique-slice")
        + wiki.load("bamboogle-slice")
    )
    assert wiki.recall(asked[:1], index, 8) == {"n": 1, "passages": 1.0, "all": 1.0, "any": 1.0}
    assert wiki.recall(asked, index)["n"] == 2
    found = wiki.recall(asked[:1], index, 1)
    assert found == {"n": 1, "passages": 0.5, "all": 0.0, "any": 1.0}
    assert wiki.recall(wiki.load("bamboogle-slice"), index) == {"n": 0}


def test_preflight_says_whether_the_slice_is_here(small):
    cfg = config.load("laptop")
    (lack,) = [check for check in preflight.checks(cfg) if check.need == "slice of Wikipedia"]
    assert not lack.met and "python tools/build_wiki.py" in lack.sentence
    build_wiki.write(build_wiki.find(RECORDS), wiki.folder())
    assert [check.met for check in preflight.checks(cfg) if check.need == "slice of Wikipedia"] == [
        True
    ]


# --- the eight benchmarks ---------------------------------------------------------------------------------------


def test_the_papers_benchmarks_are_defined_once():
    assert config.PAPER.benchmarks == tuple(b.name for b in config.BENCHMARKS)
    assert config.LAPTOP.benchmarks == tuple(b.slice for b in config.BENCHMARKS)
    assert [b.name for b in config.BENCHMARKS if b.in_domain] == ["hotpotqa", "math500"]
    for benchmark in config.BENCHMARKS:
        assert tasks.PUBLISHED[benchmark.name].domain == benchmark.domain
        assert (benchmark.slice in wiki.SETS, benchmark.slice in benchmarks.PARTS) == (
            benchmark.domain == "factual",
            benchmark.domain == "math",
        )
        assert (
            estimates.PUBLISHED_AS[benchmark.name]
            == estimates.PUBLISHED_AS[benchmark.slice]
            == benchmark.published
        )


def test_a_larger_limit_continues_a_slice(built, monkeypatch):
    monkeypatch.setitem(benchmarks.ASKED, "hotpotqa-slice", 1)
    assert [len(benchmarks.load("hotpotqa-slice", limit)) for limit in (0, 1, 2, 500)] == [
        1,
        1,
        2,
        2,
    ]
    assert benchmarks.load("hotpotqa-slice", 2)[:1] == benchmarks.load("hotpotqa-slice")


# --- the real files ---------------------------------------------------------------------------------------------


@pytest.fixture
def real(paper_files):
    """The real slice is in the cache."""
    if not (wiki.folder() / wiki.PASSAGES).exists():
        pytest.skip("the slice of Wikipedia is not here; `python tools/build_wiki.py` makes it")


def test_the_manifest_holds_no_text():
    sets = wiki.manifest()["sets"]
    assert set(sets) == set(wiki.SETS)
    for line in itertools.chain.from_iterable(about["questions"] for about in sets.values()):
        assert re.fullmatch(r"\w{1,60} [0-9a-f]{12}", line), line
    assert all(re.fullmatch(r"(hp|w2|mq|bb|nq)_[0-9a-f]{12}", i) for i in wiki.passage_ids())
    assert len(wiki.passage_ids()) == len(set(wiki.passage_ids())) == 53082


def test_the_manifest_is_that_of_the_real_files(real):
    script = importlib.util.spec_from_file_location(
        "manifest", config.ROOT / "tools" / "experiment" / "manifest.py"
    )
    module = importlib.util.module_from_spec(script)
    script.loader.exec_module(module)
    for name, expected in wiki.manifest()["files"].items():
        if hashlib.sha256((wiki.folder() / name).read_bytes()).hexdigest() != expected:
            pytest.skip(
                "the slice here was built from the official data sets; the manifest is that of the"
                " ready-made files"
            )
    assert module.manifest(wiki.folder()) == wiki.manifest()
    assert tuple(module.passage_ids(wiki.folder())) == wiki.passage_ids()


SIZES = {"hotpotqa-slice": (478, 478), "bamboogle-slice": (125, 125), "musique-slice": (98, 54), "2wikimultihopqa-slice": (200, 60),
         "hotpotqa-dev": (300, 0), "hotpotqa-slice-train": (1290, 0), "hotpotqa-easy-train": (295, 0)}  # fmt: skip


@pytest.mark.parametrize("name", wiki.SETS)
def test_the_real_sets_load_whole_with_their_gold_passages(real, name):
    found = wiki.load(name)
    assert (len(found), wiki.manifest()["sets"][name]["in_paper"]) == SIZES[name]
    annotated = name != "bamboogle-slice"
    for question in found:
        gold = wiki.gold_passages(question.id)
        assert {p.title for p in gold} == set(question.supporting) and bool(gold) is annotated
        assert not gold or wiki.find_seen(gold, [shown(*gold)]) == gold, (
            "a passage that the tool shows is seen"
        )


def test_the_papers_own_questions_come_first(real):
    for name in ("hotpotqa", "bamboogle", "musique", "2wikimultihopqa"):
        asked = {wiki.plain(q.text) for q in tasks.load(name)}
        found = [q.text in asked for q in wiki.load(f"{name}-slice")]
        assert (
            found == sorted(found, reverse=True)
            and sum(found) == wiki.manifest()["sets"][f"{name}-slice"]["in_paper"]
        )


def test_nine_hundred_questions_can_be_asked_in_file_order(real):
    cfg = config.load("laptop", questions=0)
    asked = benchmarks.test_questions(cfg)
    assert {name: sum(q.benchmark == name for q in asked) for name in cfg.benchmarks} == {
        b.slice: b.asked for b in config.BENCHMARKS
    }
    few = benchmarks.test_questions(config.load("laptop"))
    assert len(few) == 8 * 30 and {q.id for q in few} < {q.id for q in asked}
    for name in ("math500", "gsm-hard", "aime", "olymmath"):
        assert [q.id for q in benchmarks.load(f"{name}-slice", 500)] == [
            q.id for q in tasks.load(name)
        ]
    order = {q.id: k for k, q in enumerate(tasks.load("hotpotqa"))}
    places = [order[q.id] for q in benchmarks.load("hotpotqa-slice")]
    assert places == sorted(places)


DEV = ("hotpotqa-dev", "math-hard-dev", "math-medium-dev")
OWN_TRAIN = ("hotpotqa-slice-train", "math-hard-slice-train", "math-medium-slice-train")
TRAIN = (*OWN_TRAIN, "hotpotqa-easy-train", *config.LAPTOP.train_sets)


def test_no_question_is_in_two_of_test_dev_and_training(real):
    whole = {
        name: benchmarks.load(name, 10_000) for name in (*config.LAPTOP.benchmarks, *DEV, *TRAIN)
    }
    assert {q.split for name in DEV for q in whole[name]} == {"dev"} and {
        q.split for name in TRAIN for q in whole[name]
    } == {"train"}
    every = [q for questions in whole.values() for q in questions]
    for what in (lambda q: q.id, lambda q: " ".join(re.findall(r"\w+", q.text.casefold()))):
        assert len({what(q) for q in every}) == len(every)
    for level in ("hard", "medium"):
        parts = (
            tasks.load(f"math-{level}-train"),
            whole[f"math-{level}-dev"],
            whole[f"math-{level}-slice-train"],
        )
        ids = [{q.id for q in questions} for questions in parts]
        assert ids[1] | ids[2] == ids[0] and len(ids[1]) == len(ids[0]) // 10
    held_out = {
        frozenset(q.supporting) for name in ("hotpotqa-slice", "hotpotqa-dev") for q in whole[name]
    }
    assert not held_out & {
        frozenset(q.supporting) for name in TRAIN for q in whole[name] if q.supporting
    }


# --- trivial answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Who was born first, Ben Low or Cy Dun?", "Ben Low"),
        (
            "Which film came out earlier, The Pulse Of Life or Ormouth (1930 film)?",
            "The Pulse Of Life",
        ),
        ("Which film came out earlier, Ormouth (1930 film) or Zed?", "Ormouth (1930 film)"),
        ("Is Mount Low or Dun nearer to the sea?", "Mount Low"),
        ("Which of these came earlier: the Battle of Zed or the Battle of Una?", "Battle of Zed"),
        ("which writer is older Ben Low or Cy Dun", "Ben Low"),
        ("Who painted bridges?", None),
        ("Did it close earlier or later?", None),
    ],
)
def test_the_first_option_is_read_out_of_the_question(text, expected):
    assert trivial.first_option(tasks.Question("q", "b", text, "", "factual")) == expected


def test_trivial_answers_are_graded_as_any_other(built, tmp_path):
    index = retrieval.open_index(
        build.build_index(tmp_path / "index", wiki.passages(), kind="bm25")
    )
    trained = [
        tasks.Question(str(k), "b", "?", answer, "factual")
        for k, answer in enumerate(["yes", "No", "no", "Orn"])
    ]
    assert (
        trivial.yes_or_no(trained) == "no"
        and trivial.yes_or_no(trained[:1]) == "yes"
        and trivial.yes_or_no([]) == "no"
    )
    sets = [wiki.load("hotpotqa-slice"), wiki.load("2wikimultihopqa-slice")]
    found = trivial.table(sets, index, trained[:1]).set_index(["benchmark", "policy"])
    assert found.loc[
        ("hotpotqa-slice", 'always "yes"'), ["n", "answered", "right", "per cent"]
    ].tolist() == [2, 2, 1, 50]
    assert found.loc[("2wikimultihopqa-slice", "the question's first option"), "right"] == 1
    assert found.loc[("hotpotqa-slice", "the question's first option"), "answered"] == 0
    titles = trivial.first_titles(sets[0], index)
    assert titles[1] == "Ormouth" and not score.grade(titles[1], "yes", "factual").correct
    low, high = found.loc[("hotpotqa-slice", 'always "yes"'), ["low", "high"]]
    assert 0 < low < 50 < high < 100


def test_the_measured_record_holds_recall_and_trivial_rows_of_each_set(built, monkeypatch):
    script = importlib.util.spec_from_file_location(
        "measure", config.ROOT / "tools" / "experiment" / "measure.py"
    )
    module = importlib.util.module_from_spec(script)
    script.loader.exec_module(module)
    monkeypatch.setattr(
        benchmarks,
        "load",
        lambda name: wiki.load(name) if name in QUESTIONS else wiki.load("hotpotqa-slice"),
    )
    found = module.measure(0)
    assert found["passages"] == 8 and set(found["recall@3"]) == set(QUESTIONS)
    assert found["recall@3"]["2wikimultihopqa-slice"]["all"] == 1.0 and found["recall@3"][
        "bamboogle-slice"
    ] == {"n": 0}
    assert {(row["benchmark"], row["policy"]) for row in found["trivial"]} >= {
        (name, "title of the first passage") for name in QUESTIONS
    }
    assert all(
        {"seconds", "processor_seconds"} == set(spent) for spent in found["seconds"].values()
    ) and json.dumps(found)


def test_the_committed_record_is_about_the_sets_as_they_are():
    found = json.loads(
        (config.ROOT / "figures" / "records" / "laptop" / "wiki_slice.json").read_text(
            encoding="utf-8"
        )
    )
    assert found["passages"] == len(wiki.passage_ids())
    asked = {b.slice: b.asked for b in config.BENCHMARKS if b.domain == "factual"}
    assert {row["benchmark"]: row["n"] for row in found["trivial"]} == asked
    assert {name: scores["n"] for name, scores in found["recall@3"].items() if scores["n"]} == {
        k: v for k, v in asked.items() if k != "bamboogle-slice"
    }
