"""Rows are items at positions, perhaps cut to a prefix."""

from __future__ import annotations

import numpy as np
import pytest

from features.schema import Float32, Int32
from retrieval.index.errors import VectorIndexError
from retrieval.index.rows import Rows, shortened

VECTORS = np.array([[3, 4, 12], [0, 0, 2], [0.6, 0.8, 0]], np.float32)


def test_a_prefix_keeps_the_length_of_the_whole() -> None:
    # [3, 4, 12] is 13 long and [3, 4] is 5: [3, 4] * 13 / 5. [0, 0] has no direction to keep.
    np.testing.assert_allclose(shortened(VECTORS, 2), [[7.8, 10.4], [0, 0], [0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(VECTORS[0], [3, 4, 12])  # the caller's own is left alone
    np.testing.assert_array_equal(shortened(VECTORS, None), VECTORS)


def test_rows_are_the_items_at_positions() -> None:
    rows = Rows.checked(VECTORS, np.array([0, 2]), None)
    np.testing.assert_array_equal(rows.take(np.array([1])), VECTORS[[2]])
    assert (len(rows), rows.dim, rows.positions.dtype) == (2, 3, np.int32)
    assert Rows.checked(VECTORS, np.array([0, 2]), 2).dim == 2
    assert Rows.checked(VECTORS, np.array([0, 2]), 3).prefix is None


def test_parts_hold_every_row_once(vectors: Float32, positions: Int32, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.index.rows._BLOCK", 1_000)
    rows = Rows.checked(vectors, positions, None)
    parts = [rows.take(part) for part in rows.parts()]
    assert len(parts) == 6  # 5,400 or so
    np.testing.assert_array_equal(np.concatenate(parts), vectors[positions])


def test_a_sample_is_distinct_ascending_and_seeded(vectors: Float32, positions: Int32) -> None:
    rows = Rows.checked(vectors, positions, None)
    sample = rows.sample(100, 3)
    assert np.all(np.diff(sample) > 0)
    assert sample.max() < len(rows)
    np.testing.assert_array_equal(sample, rows.sample(100, 3))
    np.testing.assert_array_equal(rows.sample(10**6, 3), np.arange(len(rows)))


def test_mistakes_are_named() -> None:
    with pytest.raises(VectorIndexError, match=r"found shape \[3\]"):
        Rows.checked(VECTORS[0], np.array([0], np.int32), None)
    for wrong in ([1, 0], [1, 1], [-1, 0], [0, 3]):
        with pytest.raises(VectorIndexError, match=r"ascending distinct positions in \[0, 3\)"):
            Rows.checked(VECTORS, np.array(wrong, np.int32), None)
    with pytest.raises(VectorIndexError, match="at most 3 dimensions, found 4"):
        Rows.checked(VECTORS, np.array([0], np.int32), 4)
    # One row seen 2^31 times takes no memory.
    many = np.broadcast_to(VECTORS[:1], (2**31, 3))
    with pytest.raises(VectorIndexError, match=r"at most 2147483647 items \(positions are int32\), found 2147483648"):
        Rows.checked(many, np.array([0], np.int32), None)
