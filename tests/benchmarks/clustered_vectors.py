"""Vectors like those of texts, and masks that go with them, for the benchmark of the index.

Topics (64), categories of unequal size (Zipf) about each topic, and items about each category, whose noise has a
falling spectrum (its k-th direction weighs k^-0.5), as text embeddings have; length 1. They are written block by block
into a mapped file. Queries are new draws of the same kind, unknown to the index. Seeds are fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)
TOPICS, BLOCK = 64, 100_000


def draw(rng: np.random.Generator, centres: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return float32 `[m, dim]` of length 1 about `centres[labels]`."""
    dim = centres.shape[1]
    spectrum = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
    noise = rng.standard_normal((len(labels), dim), dtype=np.float32) * (spectrum / np.linalg.norm(spectrum))
    vectors = centres[labels] + 0.8 * noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make(folder: Path, count: int, dim: int) -> None:
    """Write vectors.npy, labels.npy, centres.npy and queries.npy below `folder`, unless they are there."""
    if (folder / "queries.npy").exists() and np.load(folder / "vectors.npy", mmap_mode="r").shape == (count, dim):
        return
    rng = np.random.default_rng(7)
    categories = max(TOPICS, count // 500)
    topics = rng.standard_normal((TOPICS, dim), dtype=np.float32) / np.sqrt(dim)
    centres = topics[rng.integers(0, TOPICS, categories)]
    centres = (centres + rng.standard_normal((categories, dim), dtype=np.float32) * 0.8 / np.sqrt(dim)).astype(
        np.float32
    )
    weights = 1 / np.arange(10, categories + 10)
    labels = rng.choice(categories, count, p=weights / weights.sum()).astype(np.int32)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float32, shape=(count, dim))
    for start in range(0, count, BLOCK):
        vectors[start : start + BLOCK] = draw(rng, centres, labels[start : start + BLOCK])
    vectors.flush()
    np.save(folder / "labels.npy", labels)
    np.save(folder / "centres.npy", centres)
    np.save(folder / "queries.npy", draw(rng, centres, rng.choice(labels, 1_000)))


def masks(
    query: np.ndarray, centres: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[str, float, np.ndarray]]:
    """Yield kind, share and mask: `random`, `near` (the categories nearest to the query until the share), `far`."""
    sizes = np.bincount(labels, minlength=len(centres))
    order = np.argsort(-(centres @ query))
    for share in SHARES:
        yield "random", share, rng.random(len(labels)) < share
        for kind, clusters in (("near", order), ("far", order[::-1])):
            needed = int(np.searchsorted(np.cumsum(sizes[clusters]), share * len(labels))) + 1
            inside = np.zeros(len(centres), bool)
            inside[clusters[:needed]] = True
            allowed = inside[labels]
            # The last category may be large: take of it what the share needs.
            surplus = np.flatnonzero(allowed)[int(share * len(labels)) :] if needed == 1 else []
            allowed[surplus] = False
            yield kind, share, allowed
