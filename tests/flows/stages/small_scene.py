"""A scene of five eligible items that two users bought 0 and 1, and 1 and 2 of; most buyers have 1, then 0, 2, 3, 4."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from features.schema import HISTORY_STATS, ITEM_STATS, USER_STATS, UserFeatures
from retrieval import layout
from retrieval.collaborative import AlsConfig, Collaborative, KnnConfig, fit_als, fit_knn
from retrieval.index import IndexConfig, VectorIndex
from retrieval.snapshot import ItemSnapshot

ITEMS = 5
CUT = datetime(2024, 6, 1, tzinfo=UTC)


def positions(*items: int) -> np.ndarray:
    return np.array(items, np.int32)


def user(name: str, items: Sequence[int]) -> UserFeatures:
    history = np.zeros((len(items), len(HISTORY_STATS)), np.float32)
    history[:, HISTORY_STATS.index("decayed_90")] = np.arange(len(items), 0, -1)
    return UserFeatures(
        user_id=name,
        known=True,
        as_of=CUT.timestamp(),
        stats=np.zeros(len(USER_STATS), np.float32),
        items=positions(*items),
        history=history,
        categories=positions(),
        category_stats=np.empty((0, 4), np.float32),
    )


def write_scene(folder: Path) -> Path:
    """Write what `flows.stages.scene` would."""
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
        as_of=CUT,
    )
    snapshot.save(folder / layout.SNAPSHOT)
    VectorIndex.build(vectors, snapshot.eligible_positions, IndexConfig()).save(folder / layout.INDEX_DIR)
    Collaborative.of(fit_als(counts, als), fit_knn(counts, knn), als, knn).save(folder / layout.COLLABORATIVE_DIR)
    (folder / layout.VECTORS_DIR).mkdir()
    np.save(folder / layout.ITEM_VECTORS, vectors)
    np.save(folder / layout.USER_VECTORS, vectors[3:])
    (folder / layout.USER_IDS).write_text(json.dumps(["one", "two"]), encoding="utf-8")
    return folder
