"""When items may be named: from `available_from`, until `available_to`, by the clock of each request.

A release is built at one time and serves for days, so what begins or ends in between must not wait for the next one.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.schema import AVAILABLE_FROM, AVAILABLE_TO

Mask = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ALWAYS: Final = np.iinfo(np.int64)


class Availability:
    """The windows of a release's items, each `[available_from, available_to)`; a missing time leaves its side open.

    Between two times at which any item begins or ends the mask stays the same, so it is made once for all requests
    between them; safe to use from many threads.

    Args:
        attributes: the items' columns; either time may be absent.
    """

    def __init__(self, attributes: pl.DataFrame) -> None:
        self._starts = _microseconds(attributes, AVAILABLE_FROM, _ALWAYS.min)
        self._ends = _microseconds(attributes, AVAILABLE_TO, _ALWAYS.max)
        both = [times for times in (self._starts, self._ends) if times is not None]
        times = np.unique(np.concatenate(both)) if both else np.empty(0, np.int64)
        self._changes = times[(times != _ALWAYS.min) & (times != _ALWAYS.max)]
        self._lock = threading.Lock()
        self._made: tuple[int, Mask] | None = None

    def at(self, now: datetime) -> Mask | None:
        """Return bool `[n_items]` (read-only) of an aware time: which items may be named; None where all may always."""
        if not len(self._changes):
            return None
        moment = (now - _EPOCH) // timedelta(microseconds=1)
        interval = int(np.searchsorted(self._changes, moment, side="right"))
        with self._lock:
            if self._made is None or self._made[0] != interval:
                self._made = interval, self._mask(moment)
            return self._made[1]

    def _mask(self, moment: int) -> Mask:
        parts = []
        if self._starts is not None:
            parts.append(self._starts <= moment)
        if self._ends is not None:
            parts.append(moment < self._ends)
        mask: Mask = np.logical_and.reduce(parts)
        mask.flags.writeable = False
        return mask


def _microseconds(attributes: pl.DataFrame, name: str, missing: int) -> Int64 | None:
    """Return int64 `[n_items]` microseconds since 1970, `missing` where there is no time; None without the column."""
    if name not in attributes.columns:
        return None
    return attributes[name].cast(pl.Datetime("us", "UTC")).dt.epoch("us").fill_null(missing).to_numpy()
