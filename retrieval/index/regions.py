"""Masks to measure by: filters go with vectors, so some open a part of the space that lies far from those who ask.

Others close the part around them. Either way what is left lies closer together, seen from a query, than its own
neighbourhood does: a centroid, or a code, tells less of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from features.schema import Float32, Int32
from retrieval.index.exact import exact
from retrieval.index.rows import Mask, Rows

_OPENED: Final = (0.3, 0.1, 0.03)  # shares of the rows, around a row
_LEFT: Final = (0.5, 0.5, 0.5, 0.2, 0.2)  # shares left, farthest from a query
_ROWS: Final = 200_000  # at most, drawn from those: an exact search for 64 queries takes some seconds
_LEAST: Final = 100
_FAR: Final = 64  # queries of an opened part, those farthest from it
_NEAR: Final = 8  # queries of a closed part, those nearest to its centre


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """One mask, those who ask, and what they should be told.

    Attributes:
        held: bool `[count]` rows that are open.
        queries: float32 `[q, dim]`, some of those given.
        nearest: int32 `[q, 100]` positions of the exact answers, best first.
        best: float32 `[q, 100]` their scores.
    """

    held: Mask
    queries: Float32
    nearest: Int32
    best: Float32


def regions(rows: Rows, queries: Float32, seed: int) -> list[Region]:
    """Return parts of the rows around a few random rows, and what lies far from a few queries.

    Args:
        rows: of the index.
        queries: float32 `[q, dim]`, whole vectors.
        seed: of the rows and queries drawn.
    """
    rng = np.random.default_rng(seed)
    opened = rows.whole(rows.sample(len(_OPENED), seed))
    closed = queries[rng.choice(len(queries), min(len(_LEFT), len(queries)), replace=False)]
    centres = np.concatenate([opened, -closed])
    closeness = np.concatenate([rows.whole(part) @ centres.T for part in rows.parts()])
    shares = (*_OPENED[: len(opened)], *_LEFT[: len(closed)])
    found = []
    for column, share in enumerate(shares):
        size = int(share * len(rows))
        if size < _LEAST:
            continue
        inside = np.argpartition(-closeness[:, column], size)[:size]
        held = np.zeros(len(rows), bool)
        held[inside if size <= _ROWS else rng.choice(inside, _ROWS, replace=False)] = True
        # The centre of a closed part is turned round, so those nearest to it come first here too. Not itself: of a mask
        # that cuts at one score of a query, everything left would lie at the cut.
        order = np.argsort(queries @ centres[column], kind="stable")
        away = queries[order[:_FAR] if column < len(opened) else order[1 : 1 + _NEAR]]
        nearest, best = exact(rows.vectors, rows.positions[held], away, _LEAST)
        found.append(Region(held=held, queries=away, nearest=nearest, best=best))
    return found
