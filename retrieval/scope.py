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
        absent: int32 `[a]`, ascending: the eligible items that `open` lacks, where the clock alone takes any away, so
            that an index of the eligible needs no mask; None where more does.
    """

    open: Mask
    excluded: Int32
    absent: Int32 | None

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
        return Scope(open=self.open, excluded=np.union1d(self.excluded, items), absent=self.absent)

    def within(self, mask: Mask) -> Scope:
        """Return the same but for items outside bool `[n_items]`."""
        return Scope(open=self.open & mask, excluded=self.excluded, absent=None)


class Scopes:
    """Makes the scopes of requests to one release.

    Args:
        snapshot: the items.
    """

    def __init__(self, snapshot: ItemSnapshot) -> None:
        self._snapshot = snapshot
        self._filters = ItemFilters(snapshot)
        self._availability = Availability(snapshot.attributes)
        nothing = np.empty(0, np.int32)
        self._present: tuple[Mask | None, Mask, Int32] = (None, snapshot.eligible, nothing)

    def available(self, item: int, now: datetime) -> bool:
        """Return whether an item's window holds an aware time."""
        mask = self._availability.at(now)
        return mask is None or bool(mask[item])

    def matching(self, text: str) -> Mask:
        """Return bool `[n_items]` (read-only): which items satisfy a filter, whoever may be named.

        Raises:
            FilterError: the text is no filter, or doesn't fit the items.
        """
        return self._filters.mask(text)

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
        open_, absent = self._present_at(snapshot.as_of if now is None else now)
        parts = []
        if limits.filter is not None:
            parts.append(self._filters.mask(limits.filter))
        if limits.allow is not None:
            parts.append(self._listed(limits.allow))
        unwanted = snapshot.positions(limits.exclude)
        gone = np.concatenate([unwanted[unwanted >= 0], np.asarray(excluded, np.int32)])
        return Scope(
            open=np.logical_and.reduce([open_, *parts]) if parts else open_,
            excluded=np.unique(gone).astype(np.int32, copy=False),
            absent=None if parts else absent,
        )

    def _present_at(self, now: datetime) -> tuple[Mask, Int32]:
        """Return the eligible items that are available, bool `[n_items]`, and int32 positions of the other eligible."""
        available = self._availability.at(now)
        known, open_, absent = self._present
        if available is not known:
            eligible = self._snapshot.eligible
            open_ = eligible if available is None else eligible & available
            absent = np.flatnonzero(eligible & ~open_).astype(np.int32)
            self._present = available, open_, absent
        return open_, absent

    def _listed(self, item_ids: Sequence[str]) -> Mask:
        positions = self._snapshot.positions(item_ids)
        mask = np.zeros(len(self._snapshot), bool)
        mask[positions[positions >= 0]] = True
        return mask
