"""What the sources are asked for one request: vectors, an ALS vector and a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from features.schema import Float32, Int32
from retrieval.rows import ItemRows

# How many places a user's own vector gets for each place of a recent item's. On Complete Journey before 2017-10-09, 28
# days, half of the households, its recall@100 and @500 by itself are .0734 and .1869 without recent items,
# .0647 and .1438 with three at weight 1, .0774 and .1726 at 3, .0792 and .1831 at 5; what the merge then has of never
# bought items @500 is .1676, .1699, .1694 and .1691. Without a vector of one's own: .0414 and .0858, where the weighted
# mean of the whole history has .0168 and .0558.
_OWN_WEIGHT: Final = 3.0
# Items looked at per query wanted: many share their text, hence their vector, with another.
_LOOKED_AT: Final = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Near:
    """What the semantic source looks near to; nothing where there is no vector.

    Attributes:
        vectors: float32 `[q, dim]` rows of length 1.
        weights: float32 `[q]`: the share of places that each gets.
    """

    vectors: Float32
    weights: Float32

    @classmethod
    def to(cls, vector: Float32) -> Self:
        """Return a query by one vector, float32 `[dim]`."""
        return cls(vectors=vector[None], weights=np.ones(1, np.float32))

    @classmethod
    def to_user(cls, own: Float32 | None, items: Int32, vectors: ItemRows, recent: int) -> Self:
        """Return a query by a user's own vector and those of the last distinct items.

        The history is that of now, so an event counts in the next request; the own vector is as old as the release.

        Args:
            own: float32 `[dim]`; None for a user of whom there was no text.
            items: int32 `[h]` history, most recent first.
            vectors: `[n_items, dim]` of all items.
            recent: at most how many items ask.
        """
        rows = vectors[items[: recent * _LOOKED_AT]]
        rows = rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])[:recent]]
        weights = np.ones(len(rows), np.float32)
        if own is not None:
            rows, weights = np.concatenate([own[None], rows]), np.concatenate([[_OWN_WEIGHT], weights])
        return cls(vectors=rows, weights=weights.astype(np.float32))

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """What the sources are asked: each part None or empty when unknown.

    Attributes:
        near: for the index.
        factor: float32 `[factors]` for ALS.
        history: int32 `[h]` item positions and float32 `[h]` weights.
        segment: int32 `[kept]` what trends among users like this one.
        next_vector: float32 `[width]` for the sequence model's item vectors.
        neighbours_only: keep collaborative items that share a user with the history (for "similar to this item").
    """

    near: Near | None
    factor: Float32 | None
    history: tuple[Int32, Float32]
    segment: Int32 | None = None
    next_vector: Float32 | None = None
    neighbours_only: bool = False

    @property
    def known(self) -> bool:
        """Whether there is a history."""
        return len(self.history[0]) > 0
