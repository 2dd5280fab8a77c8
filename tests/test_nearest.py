"""The approximate index finds what the flat one finds, in less memory, and survives an
interrupted build."""

import faiss
import numpy as np
import pytest

from agentlib.retrieval import nearest

COUNT, DIMENSION = 12_000, 64


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def data():
    """Clustered unit vectors, and queries beside some of them."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((150, DIMENSION))
    vectors = unit(
        centres[draw.integers(0, 150, COUNT)] + 0.6 * draw.standard_normal((COUNT, DIMENSION))
    )
    queries = unit(vectors[::60] + 0.05 * draw.standard_normal((200, DIMENSION)))
    return vectors, queries


@pytest.fixture(scope="module")
def built(data, tmp_path_factory):
    """A folder a kind, each from the same three shards."""
    found = {}
    for kind in nearest.KINDS:
        folder = tmp_path_factory.mktemp(kind)
        nearest.build(folder, shards(folder, data[0]), DIMENSION, kind)
        found[kind] = folder
    return found


def shards(folder, vectors, parts=3):
    (folder / "shards").mkdir(exist_ok=True)
    files = []
    for number, part in enumerate(np.array_split(vectors, parts)):
        files.append(folder / "shards" / f"{number:012d}.npy")
        np.save(files[-1], part)
    return files


def test_the_flat_index_is_exact(data, built):
    vectors, queries = data
    places, scores = nearest.Nearest(built["faiss"]).search(queries, 3)
    exact = queries @ vectors.T
    assert (places == np.argsort(-exact, axis=1)[:, :3]).all()
    np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :3], atol=1e-5)


def test_the_vectors_of_a_finished_index_can_be_read_back(data, built, tmp_path):
    assert (nearest.read_vectors(built["faiss"]) == data[0]).all()
    halves = nearest.read_vectors(built["ivfpq"])
    assert halves.dtype == np.float16 and (halves == data[0].astype(np.float16)).all()
    with pytest.raises(FileNotFoundError, match="expected a dense index"):
        nearest.read_vectors(tmp_path)


def test_the_product_quantiser_finds_what_the_flat_one_finds(data, built):
    vectors, queries = data
    places, scores = nearest.Nearest(built["ivfpq"]).search(queries, 3)
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :3]
    recall = np.mean([len(set(a) & set(b)) / 3 for a, b in zip(places, best, strict=True)])
    assert recall > 0.95, recall
    told = np.einsum("qd,qkd->qk", queries, vectors[places])
    np.testing.assert_allclose(scores, told, atol=2e-3)  # 16 bits
    assert (np.diff(scores, axis=1) <= 0).all()


def test_without_its_second_look_the_product_quantiser_finds_less(data, built, monkeypatch):
    vectors, queries = data
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :3]

    def recall(reranked):
        monkeypatch.setattr(nearest, "RERANKED", reranked)
        places, _ = nearest.Nearest(built["ivfpq"]).search(queries, 3)
        return np.mean([len(set(a) & set(b)) / 3 for a, b in zip(places, best, strict=True)])

    assert recall(3) < recall(64)


def test_memory_and_disk_are_what_the_estimates_say(built):
    # of `ivfpq` tables outweigh codes at this size
    flat = (built["faiss"] / "index.faiss").stat().st_size
    assert flat == pytest.approx(nearest.memory_bytes("faiss", COUNT, DIMENSION), rel=0.01)
    assert (built["ivfpq"] / "vectors.f16").stat().st_size == 2 * COUNT * DIMENSION
    assert nearest.memory_bytes("ivfpq", 21_000_000, 768) < 4e9
    assert nearest.memory_bytes("faiss", 21_000_000, 768) == pytest.approx(64.5e9, rel=0.01)
    assert nearest.disk_bytes("ivfpq", 21_000_000, 768) == pytest.approx(34.6e9, rel=0.02)


def test_few_vectors_are_indexed_flat(data, tmp_path):
    few = data[0][:50]
    nearest.build(tmp_path, shards(tmp_path, few), DIMENSION, "ivfpq")
    opened = nearest.Nearest(tmp_path)
    assert isinstance(opened.index, faiss.IndexFlat) and not (tmp_path / "vectors.f16").exists()
    places, _ = opened.search(few[:2], 3)
    assert places[:, 0].tolist() == [0, 1]


def test_an_interrupted_build_does_not_learn_again(data, tmp_path, monkeypatch):
    files = shards(tmp_path, data[0])
    monkeypatch.setattr(
        nearest, "_write_vectors", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        nearest.build(tmp_path, files, DIMENSION, "ivfpq")
    monkeypatch.undo()
    monkeypatch.setattr(
        faiss.IndexIVFPQFastScan, "train", lambda *a: pytest.fail("it learnt again")
    )
    nearest.build(tmp_path, files, DIMENSION, "ivfpq")
    assert nearest.Nearest(tmp_path).index.ntotal == COUNT


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="kind of FAISS index is 'pq', expected one of faiss, ivfpq"
    ):
        nearest.build(tmp_path, [], DIMENSION, "pq")


def test_more_lists_for_more_vectors():
    assert [nearest.lists(n) for n in (10_000, 1_000_000, 21_000_000)] == [512, 4096, 16384]
