"""Slack and doubt find the share of the answers that they were asked for."""

from __future__ import annotations

import numpy as np
import pytest

from features.schema import Float32, Int32
from retrieval.index import VectorIndex
from retrieval.index.exact import exact
from retrieval.index.margins import Answers
from retrieval.index.rows import Rows


@pytest.fixture(scope="module")
def answers(vectors: Float32, positions: Int32) -> Answers:
    queries = vectors[::100]
    return Answers.of(Rows.checked(vectors, positions, None), queries, *exact(vectors, positions, queries, 100))


def test_slack_is_a_quantile(indices: dict[str, VectorIndex], answers: Answers) -> None:
    lists = indices["ivf_sq8"].lists
    assert lists is not None
    slack = answers.slack(lists, 0.99)
    assert answers.slack(lists, 0.9) < slack < answers.slack(lists, 1.0)
    # By its meaning: of the 100 answers of each query, those whose list's bound reaches the last score.
    own = lists.nearest(answers.held.reshape(-1, answers.held.shape[2])).reshape(answers.best.shape)
    closeness = np.einsum("qd,qkd->qk", answers.heads, lists.centroids[own])
    reached = lists.scale[own] * closeness + (slack + 1e-4) * lists.spread[own] >= answers.best[:, -1:]
    assert reached.mean() >= 0.99


def test_doubt_is_a_quantile_and_coarse_codes_have_more(indices: dict[str, VectorIndex], answers: Answers) -> None:
    found = {
        name: answers.doubt(indices[name].cpu, indices[name].meta.type, 1.0)
        for name in ("flat", "hnsw", "ivf_sq8", "ivf_pq")
    }
    assert found["flat"] == pytest.approx(0, abs=1e-5)
    assert 0 < found["hnsw"] < 0.02  # 8 bits over a range of about 2, in 24 dimensions
    assert 0 < found["ivf_sq8"] < 0.02
    assert found["ivf_pq"] > 2 * found["ivf_sq8"]
