"""A small release: 300 items in six groups, 40 users who buy inside two groups each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from features.schema import CATEGORY_STATS, HISTORY_STATS, ITEM_STATS, USER_STATS, Float32, UserFeatures
from retrieval import layout
from retrieval.collaborative import AlsConfig, Collaborative, KnnConfig, fit_als, fit_knn
from retrieval.engine import Retriever
from retrieval.index import IndexConfig, VectorIndex
from retrieval.snapshot import ItemSnapshot

ITEMS, USERS, GROUPS, DIM = 300, 40, 6, 16
DEPARTMENTS = ("GROCERY", "PRODUCE", "MEAT", "DELI", "FLORAL", "DRUG")


class GroupEncoder:
    """Encodes a text or item that names a department as its direction; a real one needs a trained model."""

    def __init__(self, directions: Float32) -> None:
        self.directions = directions
        self.calls = 0

    def encode(self, texts: Sequence[str], kind: str) -> Float32:
        assert kind in {"text", "item"}
        self.calls += 1
        return np.stack([self.directions[DEPARTMENTS.index(text)] for text in texts])


@dataclass(frozen=True)
class World:
    """What the small release was built from."""

    counts: sparse.csr_matrix
    groups: np.ndarray
    directions: Float32
    item_vectors: Float32
    user_vectors: Float32
    snapshot: ItemSnapshot


def normalised(vectors: np.ndarray) -> Float32:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def world() -> World:
    rng = np.random.default_rng(0)
    groups = np.arange(ITEMS) % GROUPS
    directions = normalised(rng.normal(size=(GROUPS, DIM)))
    item_vectors = normalised(directions[groups] + 0.15 * rng.normal(size=(ITEMS, DIM)))
    likes = np.stack([rng.permutation(GROUPS)[:2] for _ in range(USERS)])
    odds = np.where((groups[None] == likes[:, :1]) | (groups[None] == likes[:, 1:]), 0.45, 0.02)
    counts = sparse.csr_matrix(
        (rng.random((USERS, ITEMS)) < odds) * rng.integers(1, 5, (USERS, ITEMS)), dtype=np.float32
    )
    user_vectors = normalised(counts @ item_vectors)
    buyers = np.asarray((counts > 0).sum(axis=0)).ravel()
    stats = np.full((ITEMS, len(ITEM_STATS)), np.nan, np.float32)
    stats[:, ITEM_STATS.index("buyers_28d")] = buyers
    stats[:, ITEM_STATS.index("decayed_90")] = np.asarray(counts.sum(axis=0)).ravel()
    stats[:, ITEM_STATS.index("mean_price")] = np.where(np.arange(ITEMS) % 10 == 0, np.nan, np.arange(ITEMS) % 7 + 0.5)
    attributes = pl.DataFrame(
        {
            "department": [DEPARTMENTS[g] for g in groups],
            "brand": [None if i % 5 == 0 else ("National", "Private")[i % 2] for i in range(ITEMS)],
            "organic": [i % 3 == 0 for i in range(ITEMS)],
            "size": [None if i % 11 == 0 else i % 13 for i in range(ITEMS)],
        }
    )
    eligible = (buyers >= 2) & (np.arange(ITEMS) % 17 != 3)
    snapshot = ItemSnapshot(
        item_ids=[f"item-{i}" for i in range(ITEMS)],
        stats=stats,
        attributes=attributes,
        category_codes=groups.astype(np.int32),
        eligible=eligible,
        titles=[f"{DEPARTMENTS[g]} no. {i}" for i, g in enumerate(groups)],
        as_of=datetime(2017, 12, 4, tzinfo=UTC),
    )
    return World(counts, groups, directions, item_vectors, user_vectors, snapshot)


@pytest.fixture(scope="session")
def release(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    als, knn = AlsConfig(factors=8, min_users=2), KnnConfig(neighbours=40, min_users=2)
    model = Collaborative.of(fit_als(world.counts, als), fit_knn(world.counts, knn), als, knn)
    model.save(folder / layout.COLLABORATIVE_DIR)
    world.snapshot.save(folder / layout.SNAPSHOT)
    index = VectorIndex.build(world.item_vectors, world.snapshot.eligible_positions, IndexConfig())
    index.save(folder / layout.INDEX_DIR)
    (folder / layout.VECTORS_DIR).mkdir()
    np.save(folder / layout.ITEM_VECTORS, world.item_vectors)
    np.save(folder / layout.USER_VECTORS, world.user_vectors)
    ids = [f"user-{u}" for u in range(USERS)]
    (folder / layout.USER_IDS).write_text(json.dumps(ids), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def retriever(release: Path, world: World) -> Retriever:
    return Retriever.load(release, load_encoder=lambda: GroupEncoder(world.directions))


@pytest.fixture(scope="session")
def features(world: World) -> Callable[..., UserFeatures]:
    """Return a function from a user's position (and an id in its place) to the row that the store would hold."""

    def of(user: int, user_id: str | None = None) -> UserFeatures:
        row = world.counts[user]
        order = np.argsort(-row.data, kind="stable")
        history = np.zeros((len(order), len(HISTORY_STATS)), np.float32)
        history[:, HISTORY_STATS.index("decayed_90")] = row.data[order]
        return UserFeatures(
            user_id=user_id or f"user-{user}",
            known=True,
            as_of=1_512_345_600.0,
            stats=np.full(len(USER_STATS), np.nan, np.float32),
            items=row.indices[order].astype(np.int32),
            history=history,
            categories=np.array([1, 2], np.int32),
            category_stats=np.ones((2, len(CATEGORY_STATS)), np.float32),
        )

    return of
