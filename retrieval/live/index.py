"""A release's index under the items whose vectors have changed since: these are few, and searched exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from features.schema import Float32, Int32
from retrieval.rows import ItemRows
from retrieval.searchable import Searchable, few, search_without

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayeredIndex:
    """An index and what lies over it; safe to search from many threads.

    Attributes:
        base: the release's index.
        held: bool `[n_base]`: which of the release's items it holds.
        hidden: int32 `[h]`, ascending: items of the base that it must not name any more.
        positions: int32 `[c]`, ascending: items that lie over it.
        vectors: float32 `[c, dim]` theirs.
    """

    base: Searchable
    held: Mask
    hidden: Int32
    positions: Int32
    vectors: Float32

    @classmethod
    def over(cls, base: Searchable, held: Mask) -> Self:
        """Return the index of a release with nothing over it yet; it names what lies over it by `changed`."""
        none = np.empty(0, np.int32)
        return cls(base=base, held=held, hidden=none, positions=none, vectors=np.empty((0, 0), np.float32))

    def changed(self, rows: ItemRows, eligible: Mask, changed: Int32, encoded: Int32) -> Self:
        """Return the index after some items have changed.

        Args:
            rows: `[n_items, dim]` the vectors of all items, the changed ones as they are now.
            eligible: bool `[n_items]`: which are to be held.
            changed: int32, ascending: items that may have become eligible, or ceased to be.
            encoded: int32, those of them whose vector is new.
        """
        below = changed[changed < len(self.held)]
        held = below[self.held[below]]
        hidden = np.union1d(self.hidden, held[~eligible[held] | np.isin(held, encoded)])
        # What the base shows as it is now needn't lie over it.
        shown = held[~np.isin(held, hidden)]
        wanted = changed[eligible[changed] & ~np.isin(changed, shown)]
        positions = np.union1d(self.positions[~np.isin(self.positions, changed)], wanted).astype(np.int32)
        return replace(self, hidden=hidden.astype(np.int32), positions=positions, vectors=rows[positions])

    def __len__(self) -> int:
        return len(self.base) - len(self.hidden) + len(self.positions)

    def search(self, queries: Float32, k: int, allowed: Mask | None = None) -> tuple[Int32, Float32]:
        """Return the nearest allowed items of each query; arguments and answer as of `VectorIndex.search`."""
        if allowed is None and few(len(self.hidden), len(self.base)):
            found, scores = search_without(self.base, queries, k, self.hidden)
        else:
            found, scores = self.base.search(queries, k, self._below(allowed))
        own = np.arange(len(self.positions)) if allowed is None else np.flatnonzero(allowed[self.positions])
        if not len(own):
            return found, scores
        products = np.asarray(queries, np.float32) @ self.vectors[own].T
        both = np.concatenate([scores, products], axis=1)
        named = np.concatenate([found, np.broadcast_to(self.positions[own], products.shape)], axis=1)
        best = np.argsort(-both, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(named, best, axis=1), np.take_along_axis(both, best, axis=1)

    def _below(self, allowed: Mask | None) -> Mask:
        """Return bool `[n_base]`: what the base may name."""
        below = self.held.copy() if allowed is None else allowed[: len(self.held)].copy()
        below[self.hidden] = False
        return below
