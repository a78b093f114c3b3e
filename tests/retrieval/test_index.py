"""Every index type finds allowed items only, never -1, and survives a round trip."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from retrieval.index import IndexConfig, VectorIndex, VectorIndexError, recall_against_exact

N, DIM = 6_000, 24
TYPES = ("flat", "flat_fp16", "ivf_sq8", "hnsw")


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(40, DIM))[rng.integers(0, 40, N)] + 0.4 * rng.normal(size=(N, DIM))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def positions() -> np.ndarray:
    return np.flatnonzero(np.random.default_rng(2).random(N) < 0.9).astype(np.int32)


@pytest.fixture(scope="module")
def indices(vectors: np.ndarray, positions: np.ndarray) -> dict[str, VectorIndex]:
    configs: dict[str, Any] = {"hnsw": {"links": 16, "ef_construction": 40}}
    return {
        name: VectorIndex.build(vectors, positions, IndexConfig(type=name, **configs.get(name, {}))) for name in TYPES
    }


def brute_force(vectors: np.ndarray, members: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    return members[np.argsort(-(vectors[members] @ query), kind="stable")[:k]]


@pytest.mark.parametrize("name", TYPES)
def test_finds_the_nearest(
    indices: dict[str, VectorIndex], vectors: np.ndarray, positions: np.ndarray, name: str
) -> None:
    queries = vectors[::300]
    found, scores = indices[name].search(queries, 50)
    assert found.dtype == np.int32
    assert scores.dtype == np.float32
    assert found.shape == scores.shape == (len(queries), 50)
    assert np.isin(found, positions).all()
    assert np.all(np.diff(scores, axis=1) <= 1e-6)
    # SQ8 and fp16 round each score; 8 bits over a range of about 2 is within .02.
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, vectors[found]), atol=0.02)
    recall = recall_against_exact(indices[name], vectors, queries, 50)
    by_hand = np.mean(
        [np.isin(brute_force(vectors, positions, q, 50), row).mean() for q, row in zip(queries, found, strict=True)]
    )
    assert recall == pytest.approx(by_hand, abs=0.01)
    assert recall >= {"flat": 1.0, "flat_fp16": 0.98, "ivf_sq8": 0.95, "hnsw": 0.9}[name]


@pytest.mark.parametrize("name", TYPES)
@given(share=st.sampled_from([0.0, 0.001, 0.02, 0.3, 0.7, 1.0]), k=st.sampled_from([1, 7, 100, 2_500, 9_999]))
@settings(max_examples=25, deadline=None)
def test_mask_is_respected_and_k_is_reached(
    indices: dict[str, VectorIndex], vectors: np.ndarray, positions: np.ndarray, name: str, share: float, k: int
) -> None:
    allowed = np.random.default_rng(int(share * 1_000)).random(N) < share
    queries = vectors[[5, 77]]
    found, scores = indices[name].search(queries, k, allowed)
    expected = min(k, int(allowed[positions].sum()))
    assert found.shape == scores.shape == (2, expected)
    for row in found:
        assert len(np.unique(row)) == expected
        assert allowed[row].all()
        assert np.isin(row, positions).all()


@pytest.mark.parametrize("name", TYPES)
def test_narrow_mask_is_answered_exactly(
    indices: dict[str, VectorIndex], vectors: np.ndarray, positions: np.ndarray, name: str
) -> None:
    allowed = np.zeros(N, bool)
    allowed[::40] = True
    members = positions[allowed[positions]]
    found, _ = indices[name].search(vectors[[5]], 20, allowed)
    np.testing.assert_array_equal(found[0], brute_force(vectors, members, vectors[5], 20))


@pytest.mark.parametrize("name", ["ivf_sq8", "hnsw"])
def test_too_few_found_falls_back_to_exact(indices: dict[str, VectorIndex], vectors: np.ndarray, name: str) -> None:
    # The graph is not connected for breadth 8 and a few lists of the inverted file hold far fewer than 5,000.
    weak = dataclasses.replace(indices[name], meta=indices[name].meta.model_copy(update={"probes": 1, "ef_search": 8}))
    found, scores = weak.search(vectors[[5]], 5_000)
    assert found.shape == (1, 5_000)
    assert found.min() >= 0
    assert len(np.unique(found)) == 5_000
    assert np.all(np.diff(scores) <= 1e-6)


@pytest.mark.parametrize("name", TYPES)
def test_round_trip(indices: dict[str, VectorIndex], vectors: np.ndarray, tmp_path: Path, name: str) -> None:
    for _ in range(2):  # a second save takes the first one's place
        indices[name].save(tmp_path / "index")
    loaded = VectorIndex.load(tmp_path / "index", vectors)
    assert loaded.meta == indices[name].meta
    for one, other in zip(loaded.search(vectors[:9], 30), indices[name].search(vectors[:9], 30), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(VectorIndexError, match=r"the item vectors are \[100, 24\]"):
        VectorIndex.load(tmp_path / "index", vectors[:100])


@pytest.mark.parametrize(
    ("count", "kind"), [(0, "flat"), (8_000, "flat"), (8_001, "flat_fp16"), (50_000, "flat_fp16"), (50_001, "ivf_sq8")]
)
def test_auto_picks_by_size(count: int, kind: str) -> None:
    assert IndexConfig().resolve(count) == kind
    assert IndexConfig(type="hnsw").resolve(count) == "hnsw"


def test_probes_are_tuned_to_the_target(vectors: np.ndarray, positions: np.ndarray) -> None:
    low = VectorIndex.build(vectors, positions, IndexConfig(type="ivf_sq8", recall_target=0.5))
    high = VectorIndex.build(vectors, positions, IndexConfig(type="ivf_sq8", recall_target=0.95))
    assert low.meta.probes < high.meta.probes
    assert recall_against_exact(high, vectors, vectors[:200], 100) >= 0.93
    fixed = VectorIndex.build(vectors, positions, IndexConfig(type="ivf_sq8", probes=3))
    assert fixed.meta.probes == 3


def test_items_with_one_vector_stand_for_each_other(vectors: np.ndarray) -> None:
    """Five copies of each vector: which of them fp16 names first is chance, and no miss."""
    copies = np.repeat(vectors[:400], 5, axis=0)
    index = VectorIndex.build(copies, np.arange(2000, dtype=np.int32), IndexConfig(type="flat_fp16"))
    by_name = np.mean(
        [
            np.isin(brute_force(copies, index.positions, query, 12), index.search(query[None], 12)[0][0]).mean()
            for query in vectors[:50]
        ]
    )
    assert by_name < 0.95
    assert recall_against_exact(index, copies, vectors[:50], 12) > 0.99


def test_an_empty_index_answers_nothing(vectors: np.ndarray) -> None:
    index = VectorIndex.build(vectors, np.empty(0, np.int32), IndexConfig())
    found, scores = index.search(vectors[:2], 5)
    assert found.shape == scores.shape == (2, 0)
    assert recall_against_exact(index, vectors, vectors[:2], 5) == 1.0


def test_mistakes_are_named(vectors: np.ndarray, positions: np.ndarray, indices: dict[str, VectorIndex]) -> None:
    with pytest.raises(VectorIndexError, match=r"queries \[q, 24\], found shape \[1, 3\]"):
        indices["flat"].search(vectors[:1, :3], 5)
    with pytest.raises(VectorIndexError, match=r"mask \[6000\], found shape \[5\]"):
        indices["flat"].search(vectors[:1], 5, np.ones(5, bool))
    with pytest.raises(VectorIndexError, match="ascending"):
        VectorIndex.build(vectors, positions[::-1], IndexConfig())
    with pytest.raises(VectorIndexError, match=r"found shape \[24\]"):
        VectorIndex.build(vectors[0], positions, IndexConfig())
    with pytest.raises(ValidationError, match="metric"):
        IndexConfig(metric="l2")  # type: ignore[call-arg]
