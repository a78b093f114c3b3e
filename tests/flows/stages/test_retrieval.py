"""Recall of candidates over a held-out window: five items, two users, every figure worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from features.schema import HISTORY_STATS, ITEM_STATS, USER_STATS, UserFeatures
from flows.stages.rankings import HeldOut
from flows.stages.retrieval import retrieval_tables
from retrieval.collaborative import AlsConfig, Collaborative, KnnConfig, fit_als, fit_knn
from retrieval.engine import Retriever
from retrieval.index import IndexConfig, VectorIndex
from retrieval.snapshot import ItemSnapshot

ITEMS = 5


def positions(*items: int) -> np.ndarray:
    return np.array(items, np.int32)


def user(name: str, items: Sequence[int]) -> UserFeatures:
    history = np.zeros((len(items), len(HISTORY_STATS)), np.float32)
    history[:, HISTORY_STATS.index("decayed_90")] = np.arange(len(items), 0, -1)
    return UserFeatures(
        user_id=name,
        known=True,
        as_of=0.0,
        stats=np.zeros(len(USER_STATS), np.float32),
        items=positions(*items),
        history=history,
        categories=positions(),
        category_stats=np.empty((0, 4), np.float32),
    )


@pytest.fixture
def retriever() -> Retriever:
    """Five eligible items that two users bought 0 and 1, and 1 and 2 of; the most buyers have 1, then 0, 2, 3, 4."""
    counts = sparse.csr_matrix(np.array([[2, 1, 0, 0, 0], [0, 2, 1, 0, 0]], np.float32))
    als, knn = AlsConfig(factors=2, min_users=1), KnnConfig(neighbours=2, min_users=1)
    stats = np.zeros((ITEMS, len(ITEM_STATS)), np.float32)
    stats[:, ITEM_STATS.index("buyers_28d")] = (4, 5, 3, 2, 1)
    vectors = np.eye(ITEMS, dtype=np.float32)
    snapshot = ItemSnapshot(
        item_ids=list("abcde"),
        stats=stats,
        attributes=pl.DataFrame({"kind": ["thing"] * ITEMS}),
        category_codes=np.zeros(ITEMS, np.int32),
        eligible=np.ones(ITEMS, bool),
        titles=list("abcde"),
        as_of=datetime(2024, 6, 1, tzinfo=UTC),
    )
    return Retriever(
        snapshot=snapshot,
        item_vectors=vectors,
        index=VectorIndex.build(vectors, np.arange(ITEMS, dtype=np.int32), IndexConfig()),
        user_ids=["one", "two"],
        user_vectors=vectors[3:],
        collaborative=Collaborative.of(fit_als(counts, als), fit_knn(counts, knn), als, knn),
    )


def test_recall_of_each_source_over_all_purchases_and_over_new_ones(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two candidates each: user one repeats 0 and 1 and buys 1 and 3; user two repeats 1 alone and buys no new item.

    What trends names 1 and 0. Repeat: one of user one's two purchases, all of user two's: mean .75; of new ones none.
    """
    monkeypatch.setattr("flows.stages.retrieval._KS", (2, ITEMS))
    truth = HeldOut(
        positions=positions(0, 1), relevant=[positions(1, 3), positions(1)], fresh=[positions(3), positions()]
    )
    every, new = retrieval_tables(retriever, [user("one", [0, 1]), user("two", [1])], truth)
    found = {row.source: [figure.value for figure in row.recalls] for row in every.sources}
    assert (every.ks, every.merged) == ((2, ITEMS), "merged")
    assert list(found) == ["semantic", "collaborative", "repeat", "trending", "merged"]
    assert found["repeat"] == [0.75, 0.75]
    assert found["trending"] == [0.75, 1.0]
    assert found["merged"][1] == 1.0
    fresh = {row.source: row.recalls for row in new.sources}
    assert [figure.value for figure in fresh["trending"]] == [0.0, 1.0]
    assert {figure.n for figures in fresh.values() for figure in figures} == {1}


def test_without_new_items_there_is_no_table_of_them(retriever: Retriever) -> None:
    truth = HeldOut(positions=positions(1), relevant=[positions(1)], fresh=[positions()])
    (only,) = retrieval_tables(retriever, [user("one", [0]), user("two", [1])], truth)
    assert only.title == "All purchases"
