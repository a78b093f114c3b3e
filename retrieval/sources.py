"""Where candidates come from, and how their lists become one.

Every source takes a mask of allowed items (eligible, passing the filter, not excluded) *before* it cuts to its best n,
so a narrow filter leaves fewer candidates only when fewer items are allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from features.schema import Float32, Int32
from retrieval.contract import SourceName
from retrieval.query import Near
from retrieval.quota import SOURCES, Source
from retrieval.scope import Scope
from retrieval.searchable import Searchable, few, search_without

Mask = npt.NDArray[np.bool_]


# Reciprocal rank fusion, score = sum over sources of weight / (60 + rank): scale-free, and 60 is the constant of
# Cormack, Clarke and Buettcher 2009.
_FUSION: Final = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """One source's items, best first.

    Attributes:
        items: int32 `[n]` distinct positions.
        scores: float32 `[n]`, descending, on the source's own scale.
    """

    items: Int32
    scores: Float32

    @classmethod
    def empty(cls) -> Ranking:
        """Return the ranking of a source that has nothing to say."""
        return cls(items=np.empty(0, np.int32), scores=np.empty(0, np.float32))

    @classmethod
    def best(cls, items: Int32, scores: Float32, n: int) -> Ranking:
        """Return the best `n` of `items` (int32 `[m]`) by `scores` (float32 `[m]`); equal scores by position."""
        if n < len(items):
            keep = _best_rows(items, scores, n)
            items, scores = items[keep], scores[keep]
        order = np.lexsort((items, -scores))
        return cls(items=items[order].astype(np.int32, copy=False), scores=scores[order])


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Merged candidates, best first.

    Attributes:
        items: int32 `[n]` distinct positions.
        scores: float32 `[n]`, descending: comparable inside one answer only.
        sources: uint8 `[n]` bits of `Source`.
    """

    items: Int32
    scores: Float32
    sources: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.items)


def semantic(index: Searchable, near: Near, n: int, scope: Scope) -> Ranking:
    """Return the items of the scope nearest to one or more vectors.

    One vector's scores are cosines. Of several an item's score is the best weight / (1 + rank) among them, so that
    places go to each in the proportion of its weight, whatever `n`.
    """
    gone = None if scope.absent is None else np.union1d(scope.excluded, scope.absent)
    if gone is not None and few(len(gone), len(scope.open)):
        items, scores = search_without(index, near.vectors, n, gone)
    else:
        items, scores = index.search(near.vectors, n, scope.allowed)
    if len(items) == 1:
        return Ranking(items=items[0], scores=scores[0])
    named, row = np.unique(items, return_inverse=True)
    best = np.zeros(len(named), np.float32)
    np.maximum.at(best, row.ravel(), (near.weights[:, None] / (1 + np.arange(items.shape[1]))).ravel())
    return Ranking.best(named.astype(np.int32), best, n)


def collaborative(als: Float32 | None, knn: Float32 | None, members: Int32, open_: Mask, n: int) -> Ranking:
    """Return the best items by ALS plus kNN, each divided by its standard deviation over the eligible items.

    On the split that `SourceQuota` names, NDCG@10 is .2924 for this sum, .2826 after division by the maximum instead,
    .2593 for fused ranks, .2860 and .2054 for kNN and ALS alone.

    Args:
        als: float32 `[m]` scores of `members`, None for a user without a vector.
        knn: float32 `[m]`, None for a user without history.
        members: int32 `[m]` all eligible items: the population of the deviation.
        open_: bool `[m]`: which members may be named.
        n: how many.
    """
    parts = [scores / np.float32(scores.std() or 1) for scores in (als, knn) if scores is not None]
    if not parts:
        return Ranking.empty()
    total: Float32 = np.add.reduce(parts)
    # Closed members sink instead of being cut out: two boolean gathers of all members cost more than the partition.
    total[~open_] = -np.inf
    return Ranking.best(members, total, min(n, int(np.count_nonzero(open_))))


def repeat(items: Int32, weights: Float32, n: int, allowed: Mask) -> Ranking:
    """Return the user's own items by weight.

    Args:
        items: int32 `[h]` history positions; those outside `allowed` (newer than the release) are dropped.
        weights: float32 `[h]`, such as the 90-day decayed counts.
        n: how many.
        allowed: bool `[n_items]`.
    """
    inside = (items >= 0) & (items < len(allowed))
    items, weights = items[inside], weights[inside]
    keep = allowed[items] & (weights > 0)
    return Ranking.best(items[keep], weights[keep], n)


def trending(order: Int32, n: int, allowed: Mask, first: Int32 | None = None) -> Ranking:
    """Return the first `n` allowed items of `order` (int32 `[m]`, most popular first); scores are 1 / (1 + rank).

    Those of `first` (int32, distinct), which trend in the user's segment, come before them.
    """
    items = order[allowed[order]][:n]
    if first is not None:
        own = first[allowed[first]][:n]
        items = np.concatenate([own, items[~np.isin(items, own)]])[:n]
    return Ranking(items=items, scores=(1 / np.arange(1, len(items) + 1)).astype(np.float32))


def merge(
    rankings: Mapping[SourceName, Ranking],
    counts: Mapping[SourceName, int],
    weights: Mapping[SourceName, float],
    k: int,
) -> Candidates:
    """Merge rankings into at most `k` distinct candidates.

    Each source names its first `counts[source]` items; when that union is short of k, the rest of the rankings fills
    it, and when it is long, the best by fused rank stay. The order is by fused score, equal scores by position.
    """
    names = [name for name in SOURCES if name in rankings and len(rankings[name].items)]
    if not names or k <= 0:
        return Candidates(items=np.empty(0, np.int32), scores=np.empty(0, np.float32), sources=np.empty(0, np.uint8))
    if len(names) == 1:
        (name,) = names
        items = rankings[name].items[:k]
        fused = weights[name] / (_FUSION + 1 + np.arange(len(items)))
        bits = np.full(len(items), int(Source.named(name)), np.uint8)
        return Candidates(items=items, scores=fused.astype(np.float32), sources=bits)
    ranks = np.concatenate([np.arange(len(rankings[name].items)) for name in names])
    lengths = [len(rankings[name].items) for name in names]
    nominated = ranks < np.repeat([counts.get(name, 0) for name in names], lengths)
    fused = np.repeat([weights[name] for name in names], lengths) / (_FUSION + 1 + ranks)
    flags = np.repeat([int(Source.named(name)) for name in names], lengths).astype(np.uint8)
    items, row = np.unique(np.concatenate([rankings[name].items for name in names]), return_inverse=True)
    chosen = np.zeros(len(items), bool)
    chosen[row[nominated]] = True
    scores = np.bincount(row, fused, len(items))
    # First those a source named within its quota, then the fill; inside each the better fused score.
    keep = np.lexsort((items, -scores, ~chosen))[:k]
    keep = keep[np.lexsort((items[keep], -scores[keep]))]
    sources = np.zeros(len(items), np.uint8)
    named = nominated | ~chosen[row]
    np.bitwise_or.at(sources, row[named], flags[named])
    return Candidates(items=items[keep], scores=scores[keep].astype(np.float32), sources=sources[keep])


def _best_rows(items: Int32, scores: Float32, n: int) -> npt.NDArray[np.int64]:
    """Return the rows of the best `n` < m scores in no order; at the border equal scores go by position.

    A partition alone would leave that border to the CPU's instructions, and golden answers with it.
    """
    if n <= 0:
        return np.empty(0, np.int64)
    border = np.partition(scores, len(scores) - n)[len(scores) - n]
    above = np.flatnonzero(scores > border)
    tied = np.flatnonzero(scores == border)
    return np.concatenate([above, tied[np.argsort(items[tied], kind="stable")][: n - len(above)]])
