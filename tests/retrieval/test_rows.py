from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.rows import LayeredRows


@given(data=st.data(), n=st.integers(0, 6))
def test_reads_like_an_array_that_was_written_to(data: st.DataObject, n: int) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(n, 3)).astype(np.float32)
    before = base.copy()
    expected, rows = base.copy(), base
    for _ in range(data.draw(st.integers(1, 4))):
        changed = np.array(sorted(data.draw(st.sets(st.integers(0, max(0, len(expected) - 1)), max_size=4))), np.int32)
        changed = changed[changed < len(expected)]
        added = np.arange(len(expected), len(expected) + data.draw(st.integers(0, 2)), dtype=np.int32)
        positions = np.concatenate([changed, added])
        values = rng.normal(size=(len(positions), 3)).astype(np.float32)
        expected = np.concatenate([expected, np.empty((len(added), 3), np.float32)])
        expected[positions] = values
        rows = LayeredRows.over(rows, positions, values)
        assert len(rows) == len(expected)
        np.testing.assert_array_equal(np.asarray(rows), expected)
    for at in range(len(expected)):
        np.testing.assert_array_equal(rows[at], expected[at])
    np.testing.assert_array_equal(base, before)


def test_what_is_replaced_again_leaves_no_row() -> None:
    rows = np.zeros((2, 1), np.float32)
    for value in range(100):
        rows = LayeredRows.over(rows, np.array([1], np.int32), np.array([[value]], np.float32))
    assert rows[1].tolist() == [99]
    assert len(rows._extra) == 1
