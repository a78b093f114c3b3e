"""Parts of the space, opened far from who asks and closed around them."""

from __future__ import annotations

import numpy as np

from features.schema import Float32, Int32
from retrieval.index.regions import regions
from retrieval.index.rows import Rows

from .conftest import brute_force


def test_opened_and_closed_parts(vectors: Float32, positions: Int32) -> None:
    rows = Rows.checked(vectors, positions, None)
    queries = vectors[::60]
    found = regions(rows, queries, 0)
    shares = [round(float(part.held.mean()), 2) for part in found]
    assert shares == [0.3, 0.1, 0.03, 0.5, 0.5, 0.5, 0.2, 0.2]
    assert [len(part.queries) for part in found] == [64, 64, 64, 8, 8, 8, 8, 8]
    for part in found:
        members = positions[part.held]
        for query, nearest in zip(part.queries[:2], part.nearest, strict=False):
            np.testing.assert_allclose(
                vectors[nearest] @ query, vectors[brute_force(vectors, members, query, 100)] @ query, atol=1e-6
            )
        # What is held lies farther off than what isn't.
        assert (part.queries @ vectors[members].T).mean() < (part.queries @ vectors[positions[~part.held]].T).mean()


def test_too_few_rows_have_no_parts(vectors: Float32) -> None:
    rows = Rows.checked(vectors, np.arange(150, dtype=np.int32), None)
    assert regions(rows, vectors[:20], 0) == []  # half of 150 is below 100
