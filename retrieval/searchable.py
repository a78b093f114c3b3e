"""What finds the nearest items, and how few of them are left out without a mask."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from features.schema import Float32, Int32

Mask = npt.NDArray[np.bool_]

# To find one unwanted item and drop it costs what a mask over some 500 items does: of 200,000 (k = 150), 100 unwanted
# ones took 4.6 ms this way and 6.6 by a mask in a flat index, .17 and .40 in an inverted file; 1,000 took 7.0 and .82.
_MASKED_ITEMS: Final = 500


class Searchable(Protocol):
    """What finds the nearest items: a release's `VectorIndex`, or a `LayeredIndex` over it."""

    def __len__(self) -> int:
        """Return how many items it holds."""
        ...

    def search(self, queries: Float32, k: int, allowed: Mask | None = None) -> tuple[Int32, Float32]:
        """Return positions int32 `[q, k']` and inner products float32 `[q, k']`, best first; see `VectorIndex`."""
        ...


def few(unwanted: int, items: int) -> bool:
    """Return whether leaving out so many of so many items is cheaper after the search than by a mask in it."""
    return unwanted * _MASKED_ITEMS <= items


def search_without(index: Searchable, queries: Float32, k: int, unwanted: Int32) -> tuple[Int32, Float32]:
    """Return the nearest items of each query but for some, by asking for as many more.

    Args:
        index: see there.
        queries: float32 `[q, dim]`.
        k: how many.
        unwanted: int32, distinct positions; those that the index doesn't hold are no harm.

    Returns:
        As `Searchable.search`, k' = min(k, wanted items held).
    """
    found, scores = index.search(queries, k + len(unwanted))
    wanted = ~np.isin(found, unwanted)
    # Either every row names k and more that are wanted, or every row names all items there are.
    k = min(k, int(wanted.sum(axis=1).min(initial=k)))
    first = np.argsort(~wanted, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, first, axis=1), np.take_along_axis(scores, first, axis=1)
