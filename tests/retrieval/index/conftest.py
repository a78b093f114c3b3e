"""Clustered vectors, and one index of every type over most of them."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest

from features.schema import Float32, Int32
from retrieval.index import IndexConfig, VectorIndex

N, DIM, CLUSTERS = 6_000, 24, 40
TYPES: dict[str, dict[str, Any]] = {
    "flat": {},
    "flat_fp16": {},
    "ivf_sq8": {},
    "ivf_pq": {"code_bytes": 12},
    "hnsw": {"links": 16, "ef_construction": 40},
}
PREFIXED: dict[str, dict[str, Any]] = {"flat_fp16": {"prefix": 16}, "ivf_sq8": {"prefix": 16}}
NAMES = (*TYPES, *(f"{name}_prefix" for name in PREFIXED))
APPROXIMATE = tuple(name for name in NAMES if name not in ("flat", "flat_fp16"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    faiss.omp_set_num_threads(1)


@pytest.fixture(scope="session")
def clusters() -> Int32:
    return np.random.default_rng(4).integers(0, CLUSTERS, N).astype(np.int32)


@pytest.fixture(scope="session")
def vectors(clusters: Int32) -> Float32:
    """Rows of length 1 whose first dimensions say most, as a Matryoshka encoder's do."""
    rng = np.random.default_rng(1)
    raw = (rng.normal(size=(CLUSTERS, DIM))[clusters] + 0.5 * rng.normal(size=(N, DIM))) * np.geomspace(1, 0.2, DIM)
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def positions() -> Int32:
    return np.flatnonzero(np.random.default_rng(2).random(N) < 0.9).astype(np.int32)


@pytest.fixture(scope="session")
def indices(vectors: Float32, positions: Int32) -> dict[str, VectorIndex]:
    found = {
        name: VectorIndex.build(vectors, positions, IndexConfig(type=name, **more)) for name, more in TYPES.items()
    }
    for name, more in PREFIXED.items():
        found[f"{name}_prefix"] = VectorIndex.build(vectors, positions, IndexConfig(type=name, **more))
    return found


def brute_force(vectors: Float32, members: Int32, query: Float32, k: int) -> Int32:
    """Return the exact answer, equal scores by position."""
    return members[np.argsort(-(vectors[members] @ query), kind="stable")[:k]]
