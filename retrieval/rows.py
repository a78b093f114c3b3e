"""Rows by item position of which some have changed since a release was built: the release's arrays stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Self, overload

import numpy as np
import numpy.typing as npt

from features.schema import Float32, Int32


class LayeredRows:
    """An array under the rows that replaced some of its own or came after them; safe to read from many threads.

    Args:
        base: float32 `[n, width]`, perhaps memory-mapped; it is never copied.
        place: int32 `[m]`, m >= n: where in `extra` each row stands, -1 for those of the base.
        extra: float32 `[e, width]`.
    """

    def __init__(self, base: Float32, place: Int32, extra: Float32) -> None:
        self._base, self._place, self._extra = base, place, extra

    @classmethod
    def over(cls, rows: Float32 | LayeredRows, positions: Int32, values: Float32) -> Self:
        """Return `rows` with others at some positions.

        Args:
            rows: stay as they are.
            positions: int32 `[k]`, distinct; those beyond the rows must follow them without a gap.
            values: float32 `[k, width]`.
        """
        if isinstance(rows, np.ndarray):
            base, place, extra = rows, np.full(len(rows), -1, np.int32), np.empty((0, rows.shape[1]), np.float32)
        else:
            base, place, extra = rows._base, rows._place, rows._extra
        n = max(len(place), int(positions.max(initial=-1)) + 1)
        place = np.pad(place, (0, n - len(place)), constant_values=-1)
        # What is replaced once more leaves its row: many updates of few items must not grow without end.
        place[positions] = -1
        kept = np.flatnonzero(place >= 0)
        extra = np.concatenate([extra[place[kept]], np.asarray(values, np.float32)])
        place[kept] = np.arange(len(kept), dtype=np.int32)
        place[positions] = np.arange(len(kept), len(extra), dtype=np.int32)
        return cls(base, place, extra)

    def __len__(self) -> int:
        return len(self._place)

    @overload
    def __getitem__(self, at: int) -> Float32: ...
    @overload
    def __getitem__(self, at: Int32) -> Float32: ...
    def __getitem__(self, at: int | Int32) -> Float32:
        """Return float32 `[width]` of one row, or `[k, width]` of rows int32 `[k]`."""
        place = self._place[at]
        if place.ndim == 0:
            row: Float32 = self._extra[place] if place >= 0 else self._base[at]
            return row
        if not len(self._base):
            return self._extra[place]
        changed = place >= 0
        rows: Float32 = self._base[np.where(changed, 0, at)]
        rows[changed] = self._extra[place[changed]]
        return rows

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Float32:
        """Return all rows as one array, for an evaluation."""
        return np.asarray(self[np.arange(len(self), dtype=np.int32)], dtype)


# Vectors by item position, whichever way they lie.
ItemRows = Float32 | LayeredRows


def mapped(path: Path) -> Float32:
    """Return the array in `path`, memory-mapped, as a plain ndarray: a memmap's own slicing is several times slower."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
