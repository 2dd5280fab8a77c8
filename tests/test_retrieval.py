"""Retrieval with the real encoder, real FAISS and BM25, and a real server on the loopback
address."""

import concurrent.futures
import dataclasses
import json
import socket
import subprocess
import sys
import unicodedata

import httpx
import numpy as np
import pytest
import tenacity
from conftest import SMOL
from hypothesis import given
from hypothesis import strategies as st
from teachingset import topics

from agentlib import config, records, web
from agentlib.benchmarks import search, teaching
from agentlib.models import server as model_server
from agentlib.models import weights
from agentlib.retrieval import Passage, bm25, build, corpus
from agentlib.retrieval import index as retrieval
from agentlib.retrieval import server as retrieval_server
from agentlib.retrieval.encoder import encoder_settings

NAME = "all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def encoder():
    return retrieval.Encoder(weights.fetch(NAME), **encoder_settings(NAME), precision="fp32")


@pytest.fixture(scope="session")
def passages():
    """The countries that questions are about, and 60 cities."""
    every = teaching.passages()
    countries = {c.id for c in topics.places()[0]}
    cities = [p for p in every if p.id.startswith("city-")]
    return [p for p in every if p.id in countries] + cities[:60]


@pytest.fixture(scope="session", params=["faiss", "bm25"])
def built(request, tmp_path_factory, passages, encoder):
    folder = tmp_path_factory.mktemp(request.param)
    return build.build_index(
        folder, passages, None if request.param == "bm25" else encoder, kind=request.param
    )


@pytest.fixture(scope="session")
def index(built, passages, encoder):
    return retrieval.open_index(built, passages, encoder)


def test_vectors_are_unit_length_in_order_and_free_of_their_neighbours(encoder):
    texts = ["Lima", "a much longer text about the capital of Peru " * 8, "Oslo"]
    together = encoder.encode(texts)
    assert together.shape == (3, 384) and together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([encoder.encode([t]) for t in texts])
    assert np.allclose(together, alone, atol=1e-5)
    assert encoder.encode([]).shape == (0, 384)
    with pytest.raises(ValueError, match="'query' or 'passage'"):
        encoder.encode(["x"], kind="title")


def test_the_precision_of_this_machine_moves_no_vector_far(encoder):
    quick = retrieval.Encoder(weights.fetch(NAME), **encoder_settings(NAME), precision="bf16")
    texts = ["Lima", "the capital of Peru " * 20, "What is the highest mountain of Norway?"]
    assert ((encoder.encode(texts) * quick.encode(texts)).sum(1) > 0.999).all()


def test_nearer_in_meaning_is_nearer_in_space(encoder):
    query, near, far = encoder.encode(
        ["How heavy is a whale?", "The weight of large sea mammals", "Tax law in Peru"]
    )
    assert query @ near > query @ far + 0.2


def test_prefixes_go_before_the_text(encoder):
    prefixed = retrieval.Encoder(
        weights.fetch(NAME), query_prefix="query: ", passage_prefix="passage: ", precision="fp32"
    )
    assert np.allclose(prefixed.encode(["Lima"]), encoder.encode(["query: Lima"]), atol=1e-6)
    assert np.allclose(
        prefixed.encode(["Lima"], "passage"), encoder.encode(["passage: Lima"]), atol=1e-6
    )
    assert encoder_settings("e5-base-v2")["query_prefix"] == "query: "
    assert encoder_settings("intfloat/e5-base-v2")["passage_prefix"] == "passage: "


def test_the_capital_of_each_country_is_found(index):
    countries = topics.places()[0]
    hits = index.search([f"capital of {c.title}" for c in countries], k=1)
    right = [c.capital in found[0].passage.text for c, found in zip(countries, hits, strict=True)]
    assert np.mean(right) > 0.95


def test_hits_are_sorted_and_bounded(index, passages):
    (hits,) = index.search(["capital of France"], k=5)
    assert len(hits) == 5
    assert hits[0].passage.title == "France" and hits[0].passage in passages
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert len(index.search(["city"], k=10_000)[0]) <= len(index) == len(passages)
    assert index.search([]) == []
    with pytest.raises(ValueError, match="list of texts"):
        index.search("capital of France")
    with pytest.raises(ValueError, match="k is 0"):
        index.search(["x"], k=0)


def test_reopened_index_answers_the_same(built, index, encoder):
    again = retrieval.open_index(built, encoder=encoder)
    queries = ["capital of Japan", "time zone in Oslo", "currency of Japan"]
    assert again.search(queries, 3) == index.search(queries, 3)


def test_missing_index_names_the_remedy(tmp_path, encoder):
    with pytest.raises(FileNotFoundError, match="missing; build it with notebook 01"):
        retrieval.open_index(tmp_path / "none", encoder=encoder)


def test_changed_corpus_is_refused_until_rebuilt(tmp_path, passages, encoder):
    few = passages[:20]
    build.build_index(tmp_path, few, kind="bm25")
    changed = [*few[:-1], Passage("x", "X", "Another text.")]
    with pytest.raises(ValueError, match="corpus changed since the index"):
        retrieval.open_index(tmp_path, changed)
    build.build_index(tmp_path, changed, kind="bm25")
    assert (
        retrieval.open_index(tmp_path, changed).search(["another text"], 1)[0][0].passage.id == "x"
    )


def test_a_corpus_that_breaks_off_leaves_the_index_whole(tmp_path, passages):
    def broken():
        yield passages[0]
        raise OSError("disk gone")

    build.build_index(tmp_path, passages[:20], kind="bm25")
    with pytest.raises(OSError, match="disk gone"):
        build.build_index(tmp_path, broken(), kind="bm25")
    assert len(retrieval.open_index(tmp_path, passages[:20])) == 20


def test_wrong_encoder_is_refused(tmp_path, passages, encoder):
    build.build_index(tmp_path, passages[:8], encoder)
    other = retrieval.Encoder(weights.fetch(NAME), query_prefix="query: ", name=NAME)
    for wrong in (None, other):
        with pytest.raises(ValueError, match="was built with the encoder"):
            retrieval.open_index(tmp_path, encoder=wrong)
    with pytest.raises(ValueError, match="needs an encoder"):
        build.build_index(tmp_path, passages[:8], None)
    with pytest.raises(ValueError, match="no passages"):
        build.build_index(tmp_path / "empty", [], encoder)


class Interrupted(retrieval.Encoder):
    """An encoder that is stopped, as by Ctrl-C, when it is asked for its third shard."""

    calls = 0

    def encode(self, texts, kind="query"):
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().encode(texts, kind)


def test_interrupted_build_goes_on_with_identical_vectors(tmp_path, passages, encoder):
    import faiss

    some = passages[:70]
    stopped = Interrupted(weights.fetch(NAME), **encoder_settings(NAME), precision="fp32")
    with pytest.raises(KeyboardInterrupt):
        build.build_index(tmp_path / "a", some, stopped, shard=16)
    with pytest.raises(FileNotFoundError, match="unfinished"):
        retrieval.open_index(tmp_path / "a", encoder=encoder)
    build.build_index(tmp_path / "a", some, stopped, shard=16)
    assert stopped.calls == 3 + 3  # five shards: two kept, one lost, three made now
    build.build_index(tmp_path / "b", some, encoder, shard=16)
    vectors = [
        faiss.read_index(str(tmp_path / x / "index.faiss")).reconstruct_n(0, 70) for x in "ab"
    ]
    assert np.array_equal(*vectors)
    build.build_index(tmp_path / "a", some, stopped, shard=16)
    assert stopped.calls == 6  # complete: nothing is encoded again


def test_two_builds_of_one_index_do_not_meet(tmp_path, passages):
    with records.lock(tmp_path), pytest.raises(RuntimeError, match="in use by another process"):
        build.build_index(tmp_path, passages, kind="bm25")
    build.build_index(tmp_path, passages, kind="bm25")


def test_shards_of_another_corpus_are_not_kept(tmp_path, passages, encoder):
    stopped = Interrupted(weights.fetch(NAME), **encoder_settings(NAME))
    with pytest.raises(KeyboardInterrupt):
        build.build_index(tmp_path, passages[:70], stopped, shard=16)
    other = passages[70:140]
    build.build_index(tmp_path, other, encoder, shard=16)
    hits = retrieval.open_index(tmp_path, other, encoder).search(
        [corpus.contents(p) for p in other], 1
    )
    assert [h[0].passage for h in hits] == other


class ByName:
    """An encoder that gives each text a direction of its own."""

    name, dimension, identity = "by-name", 32, {"name": "by-name"}

    def encode(self, texts, kind="query"):
        draws = [np.random.default_rng(list(text.encode())).standard_normal(32) for text in texts]
        return np.array([d / np.linalg.norm(d) for d in draws], np.float32)


def test_an_approximate_index_is_built_reopened_and_searched_like_the_others(tmp_path):
    passages = [Passage(str(number), f"Town {number}", "A town.") for number in range(10_050)]
    folder = build.build_index(tmp_path, passages, ByName(), kind="ivfpq", progress=False)
    index = retrieval.open_index(folder, passages, ByName())
    queries = [corpus.contents(p) for p in passages[:200]]
    found = [hits[0].passage.id for hits in index.search(queries, 1)]
    assert np.mean([a == p.id for a, p in zip(found, passages, strict=False)]) > 0.9
    assert len(index.search(queries[:1], 3)[0]) == 3
    with pytest.raises(ValueError, match="expected one of faiss, ivfpq, bm25"):
        build.build_index(tmp_path, passages, ByName(), kind="scann")


@pytest.fixture
def published(tmp_path):
    """A corpus, and the index that somebody else built of it."""
    passages = [Passage(str(number), f"Town {number}", "A town.") for number in range(300)]
    build.build_index(tmp_path / "theirs", passages, ByName(), progress=False)
    return passages, tmp_path / "theirs" / "index.faiss"


def test_an_index_of_others_is_taken_when_it_fits_the_corpus(tmp_path, published):
    passages, file = published
    folder = build.adopt_index(tmp_path / "ours", file, passages, ByName())
    index = retrieval.open_index(folder, passages, ByName())
    assert index.search([corpus.contents(passages[7])], 1)[0][0].passage == passages[7]
    assert (folder / "index.faiss").stat().st_ino == file.stat().st_ino, "linked, not copied"
    with pytest.raises(ValueError, match="is finished already; delete it first"):
        build.adopt_index(folder, file, passages[::-1], ByName())
    assert retrieval.open_index(folder, passages, ByName()), (
        "a finished index is not lost to a wrong one"
    )


@pytest.mark.parametrize("trouble", ["order", "corpus", "words", "width"])
def test_an_index_of_others_that_does_not_fit_is_refused(tmp_path, published, monkeypatch, trouble):
    passages, file = published
    if trouble == "order":
        passages, said = (
            passages[::-1],
            (
                r"passage \d+ of index .* has cosine .*, expected 0.98 or more; give the corpus, in"
                r" its order"
            ),
        )
    elif trouble == "corpus":
        passages, said = passages[:-1], "holds 300 vectors, the corpus 299 passages"
    elif trouble == "words":
        passages, said = (
            [Passage(p.id, p.title, p.text + " Small.") for p in passages],
            "has cosine",
        )
    else:
        monkeypatch.setattr(ByName, "dimension", 48)
        said = "is a IndexFlat(IP)? of 32 numbers, expected a flat one of 48"
    with pytest.raises(ValueError, match=said):
        build.adopt_index(tmp_path / "ours", file, passages, ByName())
    with pytest.raises(FileNotFoundError, match="is missing"):
        retrieval.open_index(tmp_path / "ours", encoder=ByName())


def test_tool_text_is_readable_and_refuses_nonsense(index):
    search = retrieval.as_tool(index, k=2)
    text = search("capital of France")
    assert (
        text.startswith("[1] France\n")
        and "\n\n[2] " in text
        and "Paris" in text
        and "[3]" not in text
    )
    for nonsense in ("", "  ", None, 7, ["capital of France"]):
        with pytest.raises(ValueError, match="expected a text such as"):
            search(nonsense)


def test_words_need_no_accents_and_unknown_ones_are_said_so(tmp_path):
    folder = build.build_index(tmp_path, teaching.passages(), kind="bm25", progress=False)
    index = retrieval.open_index(folder)
    assert "No passage matches 'xyzzy'" in retrieval.as_tool(index)("xyzzy")
    assert index.search(["Sao Paulo"], 1)[0][0].passage.title == "São Paulo"


WORDS = {
    "1939": "War lasted 1939–1945.", "lodz": "Łódź lies in Poland.", "Sao Paulo": "São Paulo has eleven million people.",
    "Vitamin C": "Vitamin C is ascorbic acid.", "vitamin d": "Vitamin D comes from the sun.", "Vitamin A": "Vitamin A is retinol.",
    "x⁴": "The curve of x4 and more.", "file": "The ﬁle is open.", "Ｔｏｋｙｏ": "Tokyo, in wide letters.", "Berlin": "Ber\u00adlin, hyphenated.",
    "London": "Lon\u200bdon, with a space of no width.", "Strasse": "Eine Straße.", "Oahu": "Oʻahu is an island.", "Thingvellir": "Þingvellir.",
    "Malmo": "MALMÖ in capitals", "Zoe": "Zoe\u0308, decomposed", "Encyclopaedia": "Encyclopædia.", "O'Brien": "Miss O’Brien.",
    "двигатель": "Паровой ДВИГАТЕЛЬ изобрёл Ползунов.", "изобрел": "Он изобрёл радио.", "北京": "中国的首都是北京市。", "猫": "这是猫。",
    "東京": "日本の首都は東京です。", "ガラス": "これはガラスです", "서울": "한국의 수도는 서울 이다.", "Αθηνα": "Η Αθήνα.", "दिल्ली": "भारत की राजधानी नई दिल्ली है।",
    "2024": "في عام ٢٠٢٤", "القاهرة": "عاصمة مصر القاهرة", "กรุงเทพ": "เมืองหลวงคือกรุงเทพมหานคร", "C#": "C# is a language.", "३": "३ apples",
}  # fmt: skip


@pytest.fixture(scope="module")
def in_many_scripts(tmp_path_factory):
    passages = [Passage(query, "", text) for query, text in WORDS.items()]
    return retrieval.open_index(
        build.build_index(tmp_path_factory.mktemp("scripts"), passages, kind="bm25", progress=False)
    )


@pytest.mark.parametrize("query", WORDS)
def test_a_word_is_found_however_it_is_written(in_many_scripts, query):
    assert in_many_scripts.search([query], 1)[0][0].passage.text == WORDS[query]


@given(st.text(st.characters(exclude_categories=[])))
def test_words_are_their_own_normal_form(text):
    found = bm25.words(text)
    assert all(word and word == word.strip() for word in found)
    assert set(found) <= set(bm25.words(" ".join(found))), (
        "what was split once is found again by its parts"
    )
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert bm25.words(unicodedata.normalize(form, text)) == found


def test_queries_and_passages_without_a_word_are_nothing_found(tmp_path):
    index = retrieval.open_index(
        build.build_index(tmp_path, [Passage("1", "", "…"), Passage("2", "", "")], kind="bm25")
    )
    assert index.search(["…", "", "the", "x"], 2) == [[], [], [], []]


def test_an_index_of_words_in_an_older_form_is_to_be_rebuilt(tmp_path, passages):
    build.build_index(tmp_path, passages[:9], kind="bm25")
    records.write_json(
        tmp_path / "meta.json", records.read_json(tmp_path / "meta.json") | {"encoder": None}
    )
    with pytest.raises(
        ValueError,
        match=(
            r"was built of words in the form None, expected .*; rebuild: build it with notebook 01"
        ),
    ):
        retrieval.open_index(tmp_path)
    build.build_index(tmp_path, passages[:9], kind="bm25")
    assert len(retrieval.open_index(tmp_path)) == 9


DOCUMENTS = [
    ({"id": 7, "contents": '"The "Q""\nOne.\nTwo.'}, Passage("7", 'The "Q"', "One.\nTwo.")),
    ({"id": "7", "title": 'The "Q"', "text": "One.\nTwo."}, Passage("7", 'The "Q"', "One.\nTwo.")),
    ({"id": 7, "contents": "Lima\nA city."}, Passage("7", "Lima", "A city.")),
    ({"id": 7, "contents": "Lima is a city."}, Passage("7", "", "Lima is a city.")),
    (
        {"id": 7, "title": "Lima", "contents": "A city.\nLarge."},
        Passage("7", "Lima", "A city.\nLarge."),
    ),
    ({"id": 7, "title": "Lima", "contents": '"Lima"\nA city.'}, Passage("7", "Lima", "A city.")),
    ({"id": 7, "title": None, "text": None}, Passage("7", "", "")),
    ({"id": 7, "title": "x", "contents": None}, Passage("7", "x", "")),
    ({"id": 7, "title": 1984, "text": "A novel."}, Passage("7", "1984", "A novel.")),
    (
        {"_id": "b7", "title": "Lima", "text": "A city.", "metadata": {}},
        Passage("b7", "Lima", "A city."),
    ),
    ({"docid": "p7", "contents": '"Lima"\nA city.'}, Passage("p7", "Lima", "A city.")),
    ({"id": None, "contents": '"Lima"\nA city.'}, Passage("", "Lima", "A city.")),
    ({"title": "Lima", "text": None, "contents": "A city."}, Passage("", "Lima", "A city.")),
    ({"id": "", "text": "A city."}, Passage("", "", "A city.")),
    (
        {"id": 12345678901234567890123, "text": "A city."},
        Passage("12345678901234567890123", "", "A city."),
    ),
]


@pytest.mark.parametrize(("document", "passage"), DOCUMENTS)
def test_documents_of_every_form_are_read(tmp_path, document, passage):
    assert corpus.from_document(document) == passage
    (tmp_path / "c.jsonl").write_text(json.dumps(document), encoding="utf-8")
    read = dataclasses.replace(
        passage,
        id=(
            passage.id
            if set(document) & {"_id", "docid"} or document.get("id") is not None
            else "0"
        ),
    )
    assert list(corpus.read_passages(tmp_path / "c.jsonl")) == [read], (
        "one line without its end is one passage"
    )


@pytest.mark.parametrize(
    "document",
    [
        {"id": 1},
        {"id": 1, "text": ["a"]},
        {"id": 1, "contents": {}},
        {"title": "x"},
        ["x"],
        None,
        5,
    ],
)
def test_documents_without_a_text_are_refused(document):
    with pytest.raises(ValueError, match=r"expected (id and contents|text)"):
        corpus.from_document(document)


def test_a_passage_reads_back_as_it_was_written():
    for passage in (
        Passage("7", "Lima", "A city.\nLarge."),
        Passage("7", "", "A city."),
        Passage("7", "Lima", ""),
    ):
        assert corpus.from_document({"id": "7", "contents": corpus.contents(passage)}) == passage


def test_half_a_surrogate_pair_harms_no_corpus_no_query_and_no_server(tmp_path, encoder, moody):
    half = json.loads('"\\ud83d"')
    passages = [
        Passage("1", f"Lima{half}", f"A city {half} in Peru."),
        Passage("2", "Oslo", "In Norway."),
    ]
    for kind in ("faiss", "bm25"):
        index = retrieval.open_index(
            build.build_index(tmp_path / kind, passages, encoder, kind=kind), passages, encoder
        )
        assert index.search([f"{half} Lima in Peru"], 1)[0][0].passage == Passage(
            "1", "Lima?", "A city ? in Peru."
        )
    with retrieval_server.serving(index) as url:
        assert (
            retrieval_server.RetrieverClient(url).search([f"Lima {half}"], 1)[0][0].passage.title
            == "Lima?"
        )
        raw = httpx.post(
            f"{url}/retrieve",
            content='{"queries": ["Lima \\ud83d"]}',
            headers={"Content-Type": "application/json"},
        )
        assert raw.status_code == 200 and raw.json()["result"][0][0]["title"] == "Lima?"
    moody.replies = [
        {"result": [[{"document": {"id": "1", "contents": f'"A{half}"\nx'}, "score": 1.0}]]}
    ]
    assert quick(moody).search(["x"])[0][0].passage.title == "A?"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.model
def test_a_configurations_encoder_has_its_precision_and_an_index_for_it(precision):
    cfg = config.load("smoke", precision=precision)
    assert search.encoder(cfg).precision == precision
    assert search.index_folder(cfg) != search.index_folder(config.load("smoke"))
    assert search.index_folder(
        config.load("smoke", retriever="bm25", precision=precision)
    ) == search.index_folder(config.load("smoke", retriever="bm25"))


def test_client_finds_what_the_index_finds_also_from_many_threads(index):
    queries = [f"capital of {c.title}" for c in topics.places()[0][:24]]
    with retrieval_server.serving(index) as url:
        client = retrieval_server.RetrieverClient(url)
        for mine, theirs in zip(index.search(queries, 3), client.search(queries, 3), strict=True):
            assert [h.passage for h in mine] == [h.passage for h in theirs]
            assert np.allclose([h.score for h in mine], [h.score for h in theirs], atol=1e-5)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda q: client.search([q], 1)[0][0].passage.id, queries))
        assert found == [hits[0].passage.id for hits in index.search(queries, 1)]
        assert retrieval.as_tool(client)(queries[0]) == retrieval.as_tool(index)(queries[0])


def test_the_wire_is_that_of_search_r1(index):
    with retrieval_server.serving(index) as url:
        body = {
            "queries": ["capital of Japan", "capital of Chad"],
            "topk": 2,
            "return_scores": True,
        }
        result = httpx.post(f"{url}/retrieve", json=body).json()["result"]
        assert [len(row) for row in result] == [2, 2]
        assert (
            result[0][0]["document"]["contents"].startswith('"Japan"\n')
            and result[0][0]["score"] > 0
        )
        bare = httpx.post(f"{url}/retrieve", json=body | {"return_scores": False}).json()["result"]
        assert bare[0][0] == result[0][0]["document"]
        assert httpx.post(f"{url}/retrieve", json={"queries": []}).status_code == 422
        with pytest.raises(ValueError, match="refused the request"):
            retrieval_server.RetrieverClient(url).search(["x"], k=0)
        with pytest.raises(ConnectionError, match="answered 404"):
            retrieval_server.RetrieverClient(url + "/elsewhere").search(["x"])


def test_a_token_is_wanted_where_one_is_set_and_taken_from_the_environment(index, monkeypatch):
    monkeypatch.setenv(retrieval_server.TOKEN, "")
    with retrieval_server.serving(index, token="s3cret") as url:
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
        for token in ("", "wrong", "s3cre", "s3cret1"):
            client = retrieval_server.RetrieverClient(url, attempts=1, token=token)
            with pytest.raises(
                ConnectionError, match=f"answered 401 .*set {retrieval_server.TOKEN} on both sides"
            ):
                client.search(["capital of Japan"])
        monkeypatch.setenv(retrieval_server.TOKEN, "s3cret")
        assert (
            retrieval_server.RetrieverClient(url)
            .search(["capital of Japan"], 1)[0][0]
            .passage.title
            == "Japan"
        )
    with pytest.raises(ValueError, match="holds other than printable ASCII characters"):
        retrieval_server.RetrieverClient(url, token="s3cr\u00e9t\n")
    with (
        retrieval_server.serving(index) as url,
        pytest.raises(ConnectionError, match="answered 401"),
    ):
        # the server has the environment's
        retrieval_server.RetrieverClient(url, token="").search(["capital of Japan"])


def test_a_lost_server_is_an_error_and_a_late_one_is_waited_for(index):
    with retrieval_server.serving(index) as url:
        pass
    client = retrieval_server.RetrieverClient(url, attempts=2)
    with pytest.raises(ConnectionError, match="cannot be reached"):
        client.search(["capital of Japan"])
    patient = retrieval_server.RetrieverClient(url, attempts=6)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(patient.search, ["capital of Japan"], 1)
        with retrieval_server.serving(index, port=int(url.rsplit(":", 1)[1])):
            assert waiting.result()[0][0].passage.title == "Japan"


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (OSError("no such loop"), "OSError: no such loop"),
        (None, "no exception"),
    ],
)
def test_a_server_that_ends_before_it_is_ready_is_no_address(index, monkeypatch, ends, said):
    def run(self, sockets):
        if ends:
            raise ends

    monkeypatch.setattr("uvicorn.Server.run", run)
    with (
        pytest.raises(RuntimeError, match=rf"ended before it was ready \({said}\)"),
        retrieval_server.serving(index),
    ):
        pass


def hits(*titles):
    return {
        "result": [
            [{"document": {"id": t, "contents": f'"{t}"\nText.'}, "score": 1.0}] for t in titles
        ]
    }


PASSING = {
    "500": (500, "oops"), "503": (503, "loading"), "429": (429, "slow down"), "garbage": (200, "<html>"),
    "half JSON": (200, '{"result": [[{"docu'), "a cut body": ("cut", '{"result"'), "a lost connection": "hang up",
}  # fmt: skip
LASTING = {
    "too many results": hits("A", "B"), "no results": {"result": []}, "no result": {"results": []}, "null": (200, "null"),
    "no text": {"result": [[{"document": {"id": "1"}}]]}, "a row for no list": {"result": [5]}, "404": (404, "no such page"),
    "a score that is none": {"result": [[{"document": "A", "score": "high"}]]},
}  # fmt: skip


def quick(moody, attempts=3):
    client = retrieval_server.RetrieverClient(moody.url, attempts=attempts)
    client._retry = client._retry.copy(wait=tenacity.wait_none())
    return client


@pytest.mark.parametrize("trouble", PASSING)
def test_a_passing_trouble_of_the_retriever_is_asked_again(moody, trouble):
    moody.replies = [PASSING[trouble], PASSING[trouble], hits("Lima")]
    assert quick(moody).search(["x"], 1)[0][0].passage.title == "Lima" and len(moody.asked) == 3


@pytest.mark.parametrize("trouble", PASSING | LASTING)
def test_a_lasting_trouble_of_the_retriever_is_a_connection_error(moody, trouble):
    moody.replies = [(PASSING | LASTING)[trouble]]
    with pytest.raises(ConnectionError, match="retriever at http"):
        quick(moody).search(["x"], 1)
    assert len(moody.asked) == (3 if trouble in PASSING else 1)


LIMA = {"id": "7", "contents": '"Lima"\nA city.'}
HITS = {
    "ours": (
        {"document": LIMA | {"title": "Lima"}, "score": 0.5},
        Passage("7", "Lima", "A city."),
        0.5,
    ),
    "no id": (
        {"document": {"contents": '"Lima"\nA city.'}, "score": 0.5},
        Passage("", "Lima", "A city."),
        0.5,
    ),
    "no id and no score": (
        {"document": {"contents": '"Lima"\nA city.'}},
        Passage("", "Lima", "A city."),
        None,
    ),
    "null score": ({"document": LIMA, "score": None}, Passage("7", "Lima", "A city."), None),
    "the document alone": (LIMA, Passage("7", "Lima", "A city."), None),
    "the document with its score": (LIMA | {"score": 0.5}, Passage("7", "Lima", "A city."), 0.5),
    "text and title": (
        {"document": {"id": 7, "title": "Lima", "text": "A city."}, "score": 1},
        Passage("7", "Lima", "A city."),
        1.0,
    ),
    "only its contents": (
        {"document": '"Lima"\nA city.', "score": 0.5},
        Passage("", "Lima", "A city."),
        0.5,
    ),
    "a text": ('"Lima"\nA city.', Passage("", "Lima", "A city."), None),
    "null title": (
        {"document": {"id": "7", "title": None, "contents": "A city."}},
        Passage("7", "", "A city."),
        None,
    ),
}


@pytest.mark.parametrize("form", HITS)
def test_hits_of_other_servers_are_read(moody, form):
    entry, passage, score = HITS[form]
    moody.replies = [{"result": [[entry, entry]]}]
    found = quick(moody).search(["x"], 2)[0]
    assert [hit.passage for hit in found] == [passage] * 2
    assert found[0].score == score or (score is None and np.isnan(found[0].score))
    assert "A city." in retrieval.as_tool(quick(moody))("Lima")


def test_hits_without_a_score_can_be_served_on(moody):
    moody.replies = [{"result": [[LIMA]]}]
    with retrieval_server.serving(quick(moody)) as url:
        (hit,) = retrieval_server.RetrieverClient(url).search(["x"])[0]
    assert hit.passage.title == "Lima" and np.isnan(hit.score)


def test_a_server_that_knows_no_scores_is_asked_without(moody):
    moody.replies = [
        lambda body: (
            (422, "extra fields not permitted: return_scores")
            if "return_scores" in body
            else {"result": [[LIMA]]}
        )
    ]
    client = quick(moody)
    assert [client.search(["x"])[0][0].passage.title for _ in range(2)] == ["Lima"] * 2
    assert ["return_scores" in body for body in moody.asked] == [True, False, False]


def test_of_passages_that_fit_equally_well_the_first_in_the_corpus_comes_first(tmp_path):
    texts = ["blue boat"] * 3 + ["red boat"] * 40 + ["red red boat"]
    some = [Passage(str(k), "", text) for k, text in enumerate(texts)]
    index = retrieval.open_index(build.build_index(tmp_path / "ties", some, kind="bm25"))
    for k in (1, 5, 44):
        found = [[hit.passage.id for hit in hits] for hits in index.search(["red", "boat blue"], k)]
        assert found[0] == ["43", *map(str, range(3, 43))][:k], "the rest shares no word"
        assert found[1] == [*map(str, range(43)), "43"][:k] and len(found[1]) == k


def test_a_page_of_a_proxy_is_told_by_its_words(moody):
    page = (
        "<html><head><style>p {color: red}</style><title>502 Bad"
        " Gateway</title></head><body><p>nginx</p></body></html>"
    )
    moody.replies = [(502, page)]
    with pytest.raises(
        ConnectionError, match=r"answered 502 \(a web page, '502 Bad Gateway nginx'\); see its log"
    ):
        quick(moody).search(["x"])
    moody.replies = [(200, page)]
    with pytest.raises(
        ConnectionError, match="expected JSON, got \"a web page, '502 Bad Gateway nginx'\""
    ):
        quick(moody).search(["x"])


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"detail": "this index is closed"}, "this index is closed"),
        ({"error": {"message": "no such model", "code": 404}}, "no such model"),
        ({"error": "no such model"}, "no such model"),
        ({"object": "error", "message": "no such model"}, "no such model"),
        ({"detail": [{"loc": ["body"]}]}, '{"detail": [{"loc": ["body"]}]}'),
        (["no", "words"], '["no", "words"]'),
    ],
)
def test_an_error_in_json_is_told_by_its_sentence(sent, said):
    text = json.dumps(sent)
    assert web.said(httpx.Response(404, text=text)) == said
    assert web.said(httpx.Response(200, text=text)) == text, "that is no error"


def ipv6(*hosts):
    """Those hosts, to be skipped where this machine has no IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return [pytest.param(host, marks=pytest.mark.skip(reason="no IPv6 here")) for host in hosts]
    return hosts


@pytest.mark.parametrize("host", [*ipv6("::1", "[::1]"), "127.0.0.1", "localhost"])
def test_the_server_listens_at_every_form_of_this_machines_address(index, host):
    with retrieval_server.serving(index, host) as url:
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
        assert (
            retrieval_server.RetrieverClient(f"{url}/retrieve/")
            .search(["capital of Japan"], 1)[0][0]
            .passage.title
            == "Japan"
        )
        port = int(url.rsplit(":", 1)[1])
        with (
            pytest.raises(
                OSError, match=rf"cannot listen at .* port {port} \(.*in use\); choose another"
            ),
            retrieval_server.serving(index, host, port),
        ):
            pass


def test_a_host_that_is_none_gets_a_sentence(index):
    for host, port in (("no-such-host.invalid", 0), ("127.0.0.1", 99999)):
        with (
            pytest.raises(OSError, match=rf"cannot listen at {host} port {port} \("),
            retrieval_server.serving(index, host, port),
        ):
            pass


@pytest.mark.model
def test_the_clients_wait_out_a_minute(moody):
    """Added up, the pauses between attempts are longer than an outage of a minute."""
    for retrying in (
        retrieval_server.RetrieverClient(moody.url)._retry,
        model_server.ServerModel(moody.url, SMOL)._again,
    ):
        state, pauses = tenacity.RetryCallState(retrying, None, (), {}), 0.0
        while state.attempt_number < retrying.stop.max_attempt_number:
            pauses += retrying.wait(state)
            state.attempt_number += 1
        assert 60 < pauses < 120


def test_import_is_light():
    code = (
        "import sys, agentlib.retrieval; print(any(m in sys.modules for m in ('torch', 'faiss',"
        " 'transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
