"""Under a mask a graph answers only where enough of the nearest are allowed."""

from __future__ import annotations

import numpy as np
import pytest

from features.schema import Float32, Int32
from retrieval.index import VectorIndex
from retrieval.index.graph import through_graph
from retrieval.index.plan import Plan

from .conftest import CLUSTERS, brute_force


@pytest.mark.parametrize("opened", ["half", "far"])
def test_the_allowed_among_the_nearest_or_a_scan(
    indices: dict[str, VectorIndex], vectors: Float32, positions: Int32, clusters: Int32, opened: str
) -> None:
    index, query = indices["hnsw"], vectors[3]
    means = np.stack([vectors[clusters == cluster].mean(axis=0) for cluster in range(CLUSTERS)])
    far = np.isin(clusters, np.argsort(means @ query)[:20])
    allowed = far if opened == "far" else np.arange(len(vectors)) % 2 == 0
    plan = Plan(how="graph", effort=512, ask=400)
    scores, rows = through_graph(index.cpu, query[None], 100, allowed[positions], plan)
    assert rows.shape == scores.shape == (1, 100)
    assert allowed[positions[rows]].all()
    assert np.all(np.diff(scores) <= 0)
    best = brute_force(vectors, positions[allowed[positions]], query, 100)
    assert np.isin(best, positions[rows]).mean() >= 0.95  # of 8-bit scores
