"""Every index type finds allowed items only, never -1, and nearly all of the best under any mask."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.schema import Float32, Int32
from retrieval.index import IndexConfig, VectorIndex, VectorIndexError, recall_against_exact
from retrieval.index.exact import exact, products, recall

from .conftest import APPROXIMATE, CLUSTERS, NAMES, N, brute_force

Indices = dict[str, VectorIndex]


def assert_recall(index: VectorIndex, queries: Float32, allowed: np.ndarray | None, least: float) -> None:
    members = index.positions if allowed is None else index.positions[allowed[index.positions]]
    _, best = exact(index.vectors, members, queries, min(100, len(members)))
    found, _ = index.search(queries, 100, allowed)
    assert recall(best, products(index.vectors, queries, found)) >= least


@pytest.mark.parametrize("name", NAMES)
def test_finds_the_nearest(indices: Indices, vectors: Float32, positions: Int32, name: str) -> None:
    queries = vectors[::300]
    found, scores = indices[name].search(queries, 50)
    assert found.dtype == np.int32
    assert scores.dtype == np.float32
    assert found.shape == scores.shape == (len(queries), 50)
    assert np.isin(found, positions).all()
    assert np.all(np.diff(scores, axis=1) <= 0)
    # fp16 rounds each score; the candidates of coarser types are scored again by the exact vectors.
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, vectors[found]), atol=2e-3)
    measured = recall_against_exact(indices[name], vectors, queries, 50)
    by_hand = np.mean(
        [np.isin(brute_force(vectors, positions, q, 50), row).mean() for q, row in zip(queries, found, strict=True)]
    )
    assert measured == pytest.approx(by_hand, abs=0.01)
    assert measured >= 0.98


@pytest.mark.parametrize("name", NAMES)
@given(
    share=st.sampled_from([0.0, 0.001, 0.02, 0.3, 0.7, 1.0]),
    k=st.sampled_from([1, 7, 100, 2_500, 9_999]),
    clustered=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_mask_is_respected_and_k_is_reached(
    indices: Indices,
    vectors: Float32,
    positions: Int32,
    clusters: Int32,
    name: str,
    share: float,
    k: int,
    clustered: bool,
) -> None:
    rng = np.random.default_rng(int(share * 1_000))
    allowed = (rng.random(CLUSTERS) < share)[clusters] if clustered else rng.random(N) < share
    found, scores = indices[name].search(vectors[[5, 77]], k, allowed)
    expected = min(k, int(allowed[positions].sum()))
    assert found.shape == scores.shape == (2, expected)
    assert np.all(np.diff(scores, axis=1) <= 0)
    for row in found:
        assert len(np.unique(row)) == expected
        assert allowed[row].all()
        assert np.isin(row, positions).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001, 0.0005])
def test_recall_under_random_masks(indices: Indices, vectors: Float32, name: str, share: float) -> None:
    # .0005 of 6,000 are three items, about as many as 0.01% of a larger catalogue leave of a narrow one.
    allowed = np.random.default_rng(9).random(N) < share
    assert_recall(indices[name], vectors[7::400], None if share == 1.0 else allowed, 0.985)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("opened", [1, 4, 12, 20, 39])
@pytest.mark.parametrize("where", ["near", "far"])
def test_recall_under_masks_of_clusters(
    indices: Indices, vectors: Float32, clusters: Int32, name: str, opened: int, where: str
) -> None:
    """Whole clusters are open: those nearest to the query, or the farthest; no number of probes would serve both."""
    means = np.stack([vectors[clusters == cluster].mean(axis=0) for cluster in range(CLUSTERS)])
    for query in vectors[7::1_200]:
        order = np.argsort(means @ query)
        inside = order[-opened:] if where == "near" else order[:opened]
        assert_recall(indices[name], query[None], np.isin(clusters, inside), 0.95)


@pytest.mark.parametrize("name", NAMES)
def test_narrow_mask_is_answered_exactly(indices: Indices, vectors: Float32, positions: Int32, name: str) -> None:
    allowed = np.zeros(N, bool)
    allowed[::40] = True
    members = positions[allowed[positions]]
    found, _ = indices[name].search(vectors[[5]], 20, allowed)
    np.testing.assert_array_equal(found[0], brute_force(vectors, members, vectors[5], 20))


@pytest.mark.parametrize("name", ["ivf_sq8", "ivf_pq", "hnsw"])
def test_too_few_found_falls_back_to_exact(indices: Indices, vectors: Float32, name: str) -> None:
    # One list of the inverted file, or the reach of a graph's breadth of 8, holds far fewer than 2,000.
    meta = indices[name].meta.model_copy(update={"probes": 1, "ef_search": 8})
    found, scores = dataclasses.replace(indices[name], meta=meta).search(vectors[[5]], 2_000)
    assert found.shape == (1, 2_000)
    assert found.min() >= 0
    assert len(np.unique(found)) == 2_000
    assert np.all(np.diff(scores) <= 0)


@pytest.mark.parametrize("name", APPROXIMATE)
def test_doubtful_candidates_are_more(indices: Indices, vectors: Float32, positions: Int32, name: str) -> None:
    """No score stands a whole unit above a candidate's, so nothing is sure before all that is allowed was scored."""
    meta = indices[name].meta.model_copy(update={"doubt": 2.0})
    allowed = np.arange(N) % 2 == 0
    found, _ = dataclasses.replace(indices[name], meta=meta).search(vectors[[5]], 30, allowed)
    np.testing.assert_array_equal(found[0], brute_force(vectors, positions[allowed[positions]], vectors[5], 30))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("storage", ["memory", "mapped"])
def test_round_trip(indices: Indices, vectors: Float32, tmp_path: Path, name: str, storage: str) -> None:
    index = dataclasses.replace(indices[name], meta=indices[name].meta.model_copy(update={"storage": storage}))
    for _ in range(2):  # a second save takes the first one's place
        index.save(tmp_path / "index")
    loaded = VectorIndex.load(tmp_path / "index", vectors)
    assert loaded.meta == index.meta
    allowed = np.random.default_rng(3).random(N) < 0.6
    for mask in (None, allowed):
        for one, other in zip(loaded.search(vectors[:9], 30, mask), index.search(vectors[:9], 30, mask), strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(VectorIndexError, match=r"the item vectors are \[100, 24\]"):
        VectorIndex.load(tmp_path / "index", vectors[:100])


@pytest.mark.parametrize("name", NAMES)
def test_lengths_count(vectors: Float32, positions: Int32, indices: Indices, name: str) -> None:
    """Rows of other lengths than 1: what is found, and its score, is by inner product."""
    lengths = np.random.default_rng(8).uniform(0.5, 2, (N, 1)).astype(np.float32)
    meta = indices[name].meta
    config = IndexConfig(type=meta.type, prefix=meta.prefix, code_bytes=4 if meta.type == "ivf_pq" else None)
    scaled = vectors * lengths
    index = VectorIndex.build(scaled, positions, config)
    queries = 3 * vectors[::400]
    found, scores = index.search(queries, 50)
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, scaled[found]), rtol=2e-3, atol=2e-3)
    assert recall_against_exact(index, scaled, queries, 50) >= 0.95
    assert_recall(index, queries, np.random.default_rng(9).random(N) < 0.5, 0.95)


def test_effort_is_measured_by_the_queries_given(vectors: Float32, positions: Int32) -> None:
    config = IndexConfig(type="ivf_sq8", recall_target=0.95)
    strangers = np.random.default_rng(6).normal(size=(50, vectors.shape[1])).astype(np.float32)
    strangers /= np.linalg.norm(strangers, axis=1, keepdims=True)
    easy = VectorIndex.build(vectors, positions, config)
    hard = VectorIndex.build(vectors, positions, config, strangers)
    assert hard.meta.probes > easy.meta.probes
    assert recall_against_exact(hard, vectors, strangers, 100) >= 0.93


def test_items_with_one_vector_stand_for_each_other(vectors: Float32) -> None:
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


@pytest.mark.parametrize("name", ["auto", "ivf_sq8", "ivf_pq", "hnsw"])
def test_an_empty_index_answers_nothing(vectors: Float32, name: str, tmp_path: Path) -> None:
    index = VectorIndex.build(vectors, np.empty(0, np.int32), IndexConfig(type=name))
    index.save(tmp_path / "index")
    for empty in (index, VectorIndex.load(tmp_path / "index", vectors)):
        for allowed in (None, np.ones(N, bool)):
            found, scores = empty.search(vectors[:2], 5, allowed)
            assert found.shape == scores.shape == (2, 0)
    assert recall_against_exact(index, vectors, vectors[:2], 5) == 1.0


def test_mistakes_are_named(vectors: Float32, positions: Int32, indices: Indices) -> None:
    with pytest.raises(VectorIndexError, match=r"queries \[q, 24\], found shape \[1, 3\]"):
        indices["flat"].search(vectors[:1, :3], 5)
    with pytest.raises(VectorIndexError, match=r"mask \[6000\], found shape \[5\]"):
        indices["flat"].search(vectors[:1], 5, np.ones(5, bool))
    with pytest.raises(VectorIndexError, match=r"queries \[q, 24\], found shape \[2, 3\]"):
        VectorIndex.build(vectors, positions, IndexConfig(), vectors[:2, :3])
    with pytest.raises(VectorIndexError, match="code_bytes to divide 24 dimensions, found 7"):
        VectorIndex.build(vectors, positions, IndexConfig(type="ivf_pq", code_bytes=7))
