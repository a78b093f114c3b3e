"""Which items an answer may name: eligible, available now, passing the filter, on the allowed list, not excluded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt

from features.schema import Int32
from retrieval.availability import Availability
from retrieval.contract import Limits
from retrieval.filters import ItemFilters
from retrieval.snapshot import ItemSnapshot

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scope:
    """The items that one answer may name.

    Attributes:
        open: bool `[n_items]`, read-only: allowed but for those excluded.
        excluded: int32 `[e]` distinct positions.
        whole: `open` is every eligible item, so an index of these needs no mask.
    """

    open: Mask
    excluded: Int32
    whole: bool

    @cached_property
    def allowed(self) -> Mask:
        """Bool `[n_items]`: which items may be named."""
        if not len(self.excluded):
            return self.open
        allowed = self.open.copy()
        allowed[self.excluded] = False
        return allowed

    def without(self, items: Int32) -> Scope:
        """Return the same but for some more items (int32 positions)."""
        if not len(items):
            return self
        return Scope(open=self.open, excluded=np.union1d(self.excluded, items), whole=self.whole)


class Scopes:
    """Makes the scopes of requests to one release.

    Args:
        snapshot: the items.
    """

    def __init__(self, snapshot: ItemSnapshot) -> None:
        self._snapshot = snapshot
        self._filters = ItemFilters(snapshot)
        self._availability = Availability(snapshot.attributes)

    def available(self, item: int, now: datetime) -> bool:
        """Return whether an item's window holds an aware time."""
        mask = self._availability.at(now)
        return mask is None or bool(mask[item])

    def of(self, limits: Limits, *, now: datetime | None, excluded: Sequence[int] | Int32 = ()) -> Scope:
        """Return what a request may be answered with.

        Args:
            limits: of the request.
            now: aware time that availability is judged by; None takes the release's own.
            excluded: positions of more items that may not be named.

        Raises:
            FilterError: the filter is none, or doesn't fit the items.
        """
        snapshot = self._snapshot
        available = self._availability.at(snapshot.as_of if now is None else now)
        parts = [] if available is None else [available]
        if limits.filter is not None:
            parts.append(self._filters.mask(limits.filter))
        if limits.allow is not None:
            parts.append(self._listed(limits.allow))
        unwanted = snapshot.positions(limits.exclude)
        gone = np.concatenate([unwanted[unwanted >= 0], np.asarray(excluded, np.int32)])
        return Scope(
            open=np.logical_and.reduce([snapshot.eligible, *parts]) if parts else snapshot.eligible,
            excluded=np.unique(gone).astype(np.int32, copy=False),
            whole=not parts,
        )

    def _listed(self, item_ids: Sequence[str]) -> Mask:
        positions = self._snapshot.positions(item_ids)
        mask = np.zeros(len(self._snapshot), bool)
        mask[positions[positions >= 0]] = True
        return mask
