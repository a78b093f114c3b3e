"""The index in Milvus, on a real server of its protocol: Milvus Lite."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.schema import UserFeatures
from infra.settings import Settings
from retrieval.contract import Limits
from retrieval.engine import Retriever
from retrieval.index import IndexConfig, IndexUnavailableError, MilvusConfig, VectorIndex, VectorIndexError, load_index
from retrieval.index.exact import products, recall
from retrieval.index.milvus import MilvusIndex
from retrieval.index.milvus_server import MilvusNotInstalledError, connect, drop_unused, prefix
from retrieval.index.open import build_index, collection_of

N, DIM = 6_000, 16
SMALL = MilvusConfig(links=16, ef_construction=64)


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(milvus_uri=str(tmp_path_factory.mktemp("milvus") / "lite.db"), timeout_s=60)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(40, DIM))[rng.integers(0, 40, N)] + 0.4 * rng.normal(size=(N, DIM))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def positions() -> np.ndarray:
    return np.flatnonzero(np.random.default_rng(2).random(N) < 0.9).astype(np.int32)


@pytest.fixture(scope="module")
def index(vectors: np.ndarray, positions: np.ndarray, milvus: Settings) -> MilvusIndex:
    return MilvusIndex.build(vectors, positions, SMALL, settings=milvus, owner="my shop")


@pytest.fixture(scope="module")
def flat(vectors: np.ndarray, positions: np.ndarray) -> VectorIndex:
    return VectorIndex.build(vectors, positions, IndexConfig(type="flat"))


def masks() -> dict[str, np.ndarray | None]:
    rng = np.random.default_rng(3)
    return {
        "none": None,
        "few are missing": rng.random(N) < 0.95,
        "half": rng.random(N) < 0.5,
        "few": rng.random(N) < 0.02,
        "nothing": np.zeros(N, bool),
    }


@pytest.mark.parametrize("name", masks())
@pytest.mark.parametrize("listed", [10_000, 10])
def test_it_answers_as_the_local_index_does(
    index: MilvusIndex, flat: VectorIndex, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch, name: str, listed: int
) -> None:
    """By lists of ids, and by asking for more where lists would be too long."""
    monkeypatch.setattr("retrieval.index.milvus._LISTED", listed)
    allowed = masks()[name]
    queries = vectors[::600]
    for k in (1, 30, 9_999):
        expected, _ = flat.search(queries, k, allowed)
        found, scores = index.search(queries, k, allowed)
        assert found.dtype == np.int32
        assert found.shape == scores.shape == expected.shape
        assert np.all(np.diff(scores, axis=1) <= 1e-6)
        for row in found:
            assert len(np.unique(row)) == len(row)
            assert allowed is None or allowed[row].all()
        if expected.size:
            assert recall(products(vectors, queries, expected), products(vectors, queries, found)) > 0.97
            np.testing.assert_allclose(scores, products(vectors, queries, found), atol=1e-5)


def test_what_milvus_lacks_is_found_exactly(
    index: MilvusIndex, flat: VectorIndex, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MilvusIndex, "_hits", lambda *_: [[(int(flat.positions[0]), 0.5)]])
    found, _ = index.search(vectors[:1], 20)
    np.testing.assert_array_equal(found, flat.search(vectors[:1], 20)[0])


def test_a_collection_is_filled_once(index: MilvusIndex, vectors: np.ndarray, milvus: Settings) -> None:
    names = index.client.list_collections()
    again = build_index(vectors, index.positions, SMALL.model_copy(update={"ef_search": 99}), owner="my shop")
    assert isinstance(again, MilvusIndex)
    assert again.meta.collection == index.meta.collection
    assert index.client.list_collections() == names
    assert milvus.milvus_uri is not None


@pytest.fixture(autouse=True)
def environment(milvus: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a flow and a service read."""
    assert milvus.milvus_uri is not None
    monkeypatch.setenv("POLYRANK_MILVUS_URI", milvus.milvus_uri)
    monkeypatch.setenv("POLYRANK_TIMEOUT_S", "60")


def test_half_filled_ones_are_filled_anew(vectors: np.ndarray, milvus: Settings) -> None:
    few = np.arange(300, dtype=np.int32)
    first = MilvusIndex.build(vectors, few, SMALL, settings=milvus, owner="killed")
    first.client.delete(first.meta.collection, ids=list(range(100)))
    first.client.flush(first.meta.collection)
    again = MilvusIndex.build(vectors, few, SMALL, settings=milvus, owner="killed")
    assert again.meta.collection == first.meta.collection
    assert int(again.client.query(again.meta.collection, output_fields=["count(*)"])[0]["count(*)"]) == 300


def test_round_trip(index: MilvusIndex, vectors: np.ndarray, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    loaded = load_index(tmp_path / "index", vectors)
    assert isinstance(loaded, MilvusIndex)
    assert collection_of(tmp_path / "index") == index.meta.collection
    for one, other in zip(loaded.search(vectors[:3], 30), index.search(vectors[:3], 30), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(VectorIndexError, match=r"item vectors \[100, 16\]"):
        load_index(tmp_path / "index", vectors[:100])


def test_a_collection_that_is_gone(vectors: np.ndarray, milvus: Settings, tmp_path: Path) -> None:
    gone = MilvusIndex.build(vectors, np.arange(50, dtype=np.int32), SMALL, settings=milvus, owner="gone")
    gone.save(tmp_path / "index")
    gone.client.drop_collection(gone.meta.collection)
    with pytest.raises(VectorIndexError, match=r"expected collection polyrank_gone_.* with 50 vectors"):
        load_index(tmp_path / "index", vectors)


def test_unused_collections_are_dropped(vectors: np.ndarray, milvus: Settings) -> None:
    """Those of this workspace alone: another's name may begin like its."""
    few = [np.arange(size, dtype=np.int32) for size in (20, 30)]
    own = [MilvusIndex.build(vectors, rows, SMALL, settings=milvus, owner="shop").meta.collection for rows in few]
    other = MilvusIndex.build(vectors, few[0], SMALL, settings=milvus, owner="shop_two").meta.collection
    assert drop_unused("shop", own[:1], milvus) == own[1:]
    left = connect(milvus).list_collections()
    assert {own[0], other} <= set(left)
    assert own[1] not in left
    assert prefix("a-b") != prefix("a_b")


def test_no_address(vectors: np.ndarray) -> None:
    with pytest.raises(MilvusNotInstalledError, match="POLYRANK_MILVUS_URI"):
        MilvusIndex.build(vectors, np.arange(5, dtype=np.int32), SMALL, settings=Settings(milvus_uri=None), owner="x")


def test_an_index_out_of_reach_costs_its_source_alone(
    retriever: Retriever, features: Callable[..., UserFeatures], milvus: Settings
) -> None:
    vectors = np.asarray(retriever.item_vectors)
    index = MilvusIndex.build(
        vectors, retriever.snapshot.eligible_positions, MilvusConfig(kind="FLAT"), settings=milvus, owner="small"
    )
    far = dataclasses.replace(retriever, index=index)
    near = retriever.candidates(features(3), 40, limits=Limits(filter="organic")).candidates
    found = far.candidates(features(3), 40, limits=Limits(filter="organic")).candidates
    np.testing.assert_array_equal(found.items, near.items)

    def refuse(*_: object) -> None:
        raise IndexUnavailableError("milvus: connection refused")

    broken = dataclasses.replace(index, client=None, timeout_s=1.0)
    object.__setattr__(broken, "search", refuse)
    cut_off = dataclasses.replace(retriever, index=broken)
    answer = cut_off.candidates(features(3), 40)
    assert answer.degraded == ("index_unavailable",)
    assert len(answer.candidates) == 40
    nothing = cut_off.candidates(None, 10, text="DELI")
    assert nothing.degraded == ("index_unavailable",)
    assert len(nothing.candidates) == 10
