"""One call into FAISS answers alike for every type."""

from __future__ import annotations

import numpy as np
import pytest

from features.schema import Float32
from retrieval.index import VectorIndex
from retrieval.index.faiss_search import find, scan, selector

from .conftest import TYPES


def test_a_selector_holds_what_the_mask_holds() -> None:
    # 13 rows: more than a byte's bits, and no whole number of bytes.
    held = np.array([1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1], bool)
    chosen = selector(held)
    assert [bool(chosen.is_member(row)) for row in range(13)] == held.tolist()


@pytest.mark.parametrize("name", TYPES)
def test_what_is_missing_is_minus_one(indices: dict[str, VectorIndex], vectors: Float32, name: str) -> None:
    index = indices[name]
    held = np.zeros(len(index), bool)
    held[[7, 70, 700]] = True
    scores, rows = scan(index.cpu, index.meta.type, vectors[:2], 5, held)
    assert rows.dtype == np.int64
    assert [sorted(row) for row in rows.tolist()] == [[-1, -1, 7, 70, 700]] * 2
    assert np.all(np.diff(scores, axis=1) <= 0)


@pytest.mark.parametrize(("name", "low", "high"), [("ivf_sq8", 1, 8), ("ivf_pq", 1, 8), ("hnsw", 1, 400)])
def test_more_effort_finds_more(
    indices: dict[str, VectorIndex], vectors: Float32, name: str, low: int, high: int
) -> None:
    index = indices[name]
    totals = []
    for effort in (low, high):
        scores, rows = find(index.cpu, index.meta.type, vectors[::60], 40, effort)
        totals.append(float(np.where(rows < 0, -1, scores).sum()))
    assert totals[0] < totals[1]
