"""Labelled items of many rows (a user at a cut) of one task, ragged, and draws from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from retrieval.encoder.data import PairRows
from retrieval.encoder.tokens import Int64, ragged_positions


class Rows:
    """Items and labels of each row (a user at a cut) of one task, ragged: `item[starts[r]:starts[r + 1]]`."""

    def __init__(
        self, user: npt.NDArray[np.integer], item: npt.NDArray[np.integer], label: npt.NDArray[np.floating], n_rows: int
    ) -> None:
        self.item, self.label = item.astype(np.int64), label.astype(np.float32)
        self.owner = user.astype(np.int64)
        self.starts = np.searchsorted(self.owner, np.arange(n_rows + 1)).astype(np.int64)

    @classmethod
    def stack(cls, tables: Sequence[PairRows | None], offsets: Int64) -> Rows:
        """Join one task's rows of several cuts; cut c's row r becomes `offsets[c] + r`."""
        held = [(table, offset) for table, offset in zip(tables, offsets, strict=False) if table is not None]
        user = np.concatenate([table.user + offset for table, offset in held] or [np.empty(0, np.int64)])
        item = np.concatenate([table.item for table, _ in held] or [np.empty(0, np.int64)])
        label = np.concatenate([table.label for table, _ in held] or [np.empty(0, np.float32)])
        return cls(user, item, label, int(offsets[-1]))

    def only(self, label: float) -> Rows:
        """Return the rows with this label."""
        keep = self.label == label
        return Rows(self.owner[keep], self.item[keep], self.label[keep], len(self.starts) - 1)

    @property
    def counts(self) -> Int64:
        """Entries of each row, int64 `[n_rows]`."""
        return np.diff(self.starts)

    def take(self, rows: Int64) -> tuple[Int64, Int64]:
        """Return, for all entries of these rows, the index into `rows` and the entry's position."""
        lengths = self.counts[rows]
        return np.repeat(np.arange(len(rows)), lengths), ragged_positions(self.starts[rows], lengths)

    def draw(self, rows: Int64, size: int, rng: np.random.Generator) -> tuple[Int64, Int64]:
        """Return as `take` does at most `size` entries of each row, uniformly without replacement."""
        owner, spots = self.take(rows)
        order = np.lexsort((rng.random(len(owner)), owner))
        first = np.cumsum(np.bincount(owner, minlength=len(rows))) - np.bincount(owner, minlength=len(rows))
        chosen = order[np.arange(len(order)) - first[owner[order]] < size]
        return owner[chosen], spots[chosen]
