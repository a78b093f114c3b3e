"""Exact search over given items, exact scores of given candidates, and recall against them."""

from __future__ import annotations

from typing import Final

import numpy as np

from features.schema import Float32, Int32

# Rows gathered at a time, for one query and for many: 3 MB of 384 floats stay in the cache, where 25 MB take a third
# longer; with many queries a block must outweigh the partition after it.
_BLOCK: Final = 2_048
_WIDE_BLOCK: Final = 16_384
_FEW: Final = 8
_CHUNK: Final = 16  # queries whose candidates are gathered at once: 50 MB for 2,000 candidates of 384 floats


def exact(vectors: Float32, members: Int32, queries: Float32, k: int) -> tuple[Int32, Float32]:
    """Return the exact top `k` of the items `members` (int32 `[m]`, m >= k): int32 and float32 `[q, k]`, best first.

    Goes through `members` in blocks, keeping k a query, so that memory stays at a block however many there are.
    """
    best_items = np.empty((len(queries), 0), np.int32)
    best_scores = np.empty((len(queries), 0), np.float32)
    size = _BLOCK if len(queries) < _FEW else _WIDE_BLOCK
    for start in range(0, len(members), size):
        block = members[start : start + size]
        scores = queries @ vectors[block].T
        if best_scores.shape[1] == k:  # few of a later block are better than the worst kept
            better = np.flatnonzero((scores > best_scores.min(axis=1, keepdims=True)).any(axis=0))
            block, scores = block[better], scores[:, better]
        scores = np.concatenate([best_scores, scores], axis=1)
        items = np.concatenate([best_items, np.broadcast_to(block, (len(queries), len(block)))], axis=1)
        if scores.shape[1] > k:
            keep = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            scores, items = np.take_along_axis(scores, keep, 1), np.take_along_axis(items, keep, 1)
        best_scores, best_items = scores, items
    return ordered(best_items, best_scores, k)


def ordered(items: Int32, scores: Float32, k: int) -> tuple[Int32, Float32]:
    """Return the best `k` of each row of `items` and `scores` (`[q, m]`), best first, equal scores by position."""
    order = np.lexsort((items, -scores), axis=1)[:, :k]
    return np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)


def products(vectors: Float32, queries: Float32, found: Int32) -> Float32:
    """Return each query's inner products with the items at `found` (int32 `[q, m]`), -inf where it is -1."""
    scores = np.empty(found.shape, np.float32)
    for start in range(0, len(queries), _CHUNK):
        part = slice(start, start + _CHUNK)
        np.einsum("qd,qmd->qm", queries[part], vectors[np.maximum(found[part], 0)], out=scores[part])
    scores[found < 0] = -np.inf
    return scores


def recall(best: Float32, found: Float32) -> float:
    """Return the share of products found (float32 `[q, k]`) that reach the last of the exact ones `best` (same shape).

    One for nothing to find. Two sums of one product, in another order, differ by a few 1e-7.
    """
    if not best.size:
        return 1.0
    return float((found >= best[:, -1:] - 1e-6).sum() / best.size)
