"""Exact search in blocks, exact scores, recall."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.index.exact import exact, ordered, products, recall

VECTORS = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [-1, 0]], np.float32)


def test_the_best_come_first_and_equal_scores_by_position() -> None:
    items, scores = exact(VECTORS, np.array([0, 1, 2, 3, 4], np.int32), np.array([[1, 0], [0, 2]], np.float32), 3)
    assert items.tolist() == [[0, 2, 3], [1, 2, 0]]  # the last: 0 scores 0, as 3 and 4 do
    assert scores.tolist() == [[1, 1, 1], [2, 2, 0]]


@given(seed=st.integers(0, 50), queries=st.sampled_from([1, 9]), k=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_blocks_make_no_difference(seed: int, queries: int, k: int) -> None:
    """Whole numbers, so that scores are exact and many are equal: ties too are the same."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (5_000, 3)).astype(np.float32)
    members = np.flatnonzero(rng.random(5_000) < 0.9).astype(np.int32)
    asked = rng.integers(-2, 3, (queries, 3)).astype(np.float32)
    _, scores = exact(vectors, members, asked, k)
    every = np.sort(asked @ vectors[members].T, axis=1)[:, ::-1]
    np.testing.assert_array_equal(scores, every[:, :k])


def test_products_of_what_was_found() -> None:
    found = np.array([[2, -1, 0]] * 20, np.int32)
    scores = products(VECTORS, np.array([[2, 3]] * 20, np.float32), found)
    assert scores.tolist() == [[5, -np.inf, 2]] * 20
    assert scores.dtype == np.float32


def test_ordered_keeps_the_best() -> None:
    items, scores = ordered(np.array([[7, 3, 5]], np.int32), np.array([[1, 2, 2]], np.float32), 2)
    assert items.tolist() == [[3, 5]]
    assert scores.tolist() == [[2, 2]]


def test_recall_counts_what_is_as_near() -> None:
    best = np.array([[3, 2], [1, 1]], np.float32)
    # The first finds one of two; the second two of two, for the last is 1 but for rounding.
    assert recall(best, np.array([[3, 1], [1, 1 - 5e-7]], np.float32)) == pytest.approx(3 / 4)
    assert recall(best[:, :0], best[:, :0]) == 1.0
