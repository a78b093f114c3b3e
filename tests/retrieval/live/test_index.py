from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.index import IndexConfig, VectorIndex
from retrieval.live.index import LayeredIndex

N, DIM = 60, 8


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    raw = rng.normal(size=(n, DIM))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@given(data=st.data(), seed=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_after_any_changes_it_finds_what_exact_search_does(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, eligible = unit(rng, N), rng.random(N) < 0.7
    base = VectorIndex.build(rows, np.flatnonzero(eligible).astype(np.int32), IndexConfig(type="flat"))
    index = LayeredIndex.over(base, eligible)
    for _ in range(data.draw(st.integers(1, 4))):
        old = rng.choice(len(rows), data.draw(st.integers(0, 6)), replace=False)
        added = data.draw(st.integers(0, 3))
        changed = np.sort(np.concatenate([old, np.arange(len(rows), len(rows) + added)])).astype(np.int32)
        rows = np.concatenate([rows, np.zeros((added, DIM), np.float32)])
        eligible = np.concatenate([eligible, np.zeros(added, bool)])
        encoded = changed[(changed >= len(rows) - added) | (rng.random(len(changed)) < 0.5)]
        rows = rows.copy()
        rows[encoded] = unit(rng, len(encoded))
        eligible[changed] = rng.random(len(changed)) < 0.6
        index = index.changed(rows, eligible, changed, encoded)
        assert len(index) == eligible.sum()
        for allowed in (None, rng.random(len(rows)) < 0.5):
            inside = np.flatnonzero(eligible if allowed is None else eligible & allowed)
            query = unit(rng, 1)
            k = data.draw(st.sampled_from([1, 5, 100]))
            found, scores = index.search(query, k, allowed)
            products = rows[inside] @ query[0]
            order = np.argsort(-products, kind="stable")[:k]
            np.testing.assert_array_equal(found[0], inside[order])
            np.testing.assert_allclose(scores[0], products[order], atol=1e-6)


def test_nothing_over_it_is_the_index_itself() -> None:
    rows = unit(np.random.default_rng(0), N)
    base = VectorIndex.build(rows, np.arange(N, dtype=np.int32), IndexConfig(type="flat"))
    index = LayeredIndex.over(base, np.ones(N, bool))
    for one, other in zip(index.search(rows[:3], 5), base.search(rows[:3], 5), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(index) == N


@pytest.mark.parametrize("k", [1, 4])
def test_more_queries_than_one(k: int) -> None:
    rows = unit(np.random.default_rng(1), N)
    base = VectorIndex.build(rows, np.arange(N, dtype=np.int32), IndexConfig(type="flat"))
    both = np.concatenate([rows, rows[:1]])
    index = LayeredIndex.over(base, np.ones(N, bool)).changed(
        both, np.ones(N + 1, bool), np.array([N], np.int32), np.array([N], np.int32)
    )
    found, scores = index.search(rows[:2], k)
    assert found.shape == scores.shape == (2, k)
    assert N in found[0].tolist() or k == 1
    assert found[1][0] == 1
