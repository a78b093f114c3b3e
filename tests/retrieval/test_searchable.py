from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.index import IndexConfig, VectorIndex
from retrieval.searchable import search_without

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(40, 6)).astype(np.float32)
HELD = np.arange(0, 40, 2, dtype=np.int32)
INDEX = VectorIndex.build(VECTORS, HELD, IndexConfig(type="flat"))


@given(unwanted=st.sets(st.integers(0, 39), max_size=30), k=st.integers(1, 50), q=st.integers(0, 3))
def test_it_finds_what_a_mask_does(unwanted: set[int], k: int, q: int) -> None:
    gone = np.array(sorted(unwanted), np.int32)
    allowed = np.ones(40, bool)
    allowed[gone] = False
    queries = RNG.normal(size=(q, 6)).astype(np.float32)
    expected, products = INDEX.search(queries, k, allowed)
    found, scores = search_without(INDEX, queries, k, gone)
    assert found.shape[1] == min(k, sum(item not in unwanted for item in HELD.tolist())) or q == 0
    np.testing.assert_array_equal(found, expected[:, : found.shape[1]])
    np.testing.assert_allclose(scores, products[:, : found.shape[1]], atol=1e-5)
