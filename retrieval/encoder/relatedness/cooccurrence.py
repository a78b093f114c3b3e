"""Prior from labels: tasks whose positives fall on the same rows more often than by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.errors import InvalidInputError
from retrieval.encoder.relatedness.matrix import Float64, Relatedness


@dataclass(frozen=True, kw_only=True, eq=False)
class Cooccurrence:
    """Normalised lift of two labels on the rows that carry both (Bouma, 2009).

    With p over those rows, lift = p(ij) / (p(i) p(j)), and the relatedness is max(0, ln lift / -ln p(ij)): 0 where the
    labels meet by chance or less, 1 where they always come together. The bare lift has no such top: it is 2 for equal
    labels that are positive on half of the rows, and 100 on a hundredth.

    Attributes:
        tasks: the columns.
        labels: float `[n, T]`: 0, 1, or NaN where the row carries no label.
        min_rows: shared rows below which a pair is unknown.

    Raises:
        InvalidInputError: another number of columns, or another value.
    """

    tasks: tuple[str, ...]
    labels: Float64
    min_rows: int

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.shape[1] != len(self.tasks):
            raise InvalidInputError(
                f"labels: expected [rows, {len(self.tasks)}], one column a task, found {list(self.labels.shape)}"
            )
        wrong = np.argwhere(~(np.isnan(self.labels) | (self.labels == 0) | (self.labels == 1)))
        if len(wrong):
            row, column = wrong[0]
            raise InvalidInputError(
                f"labels, task {self.tasks[column]}, row {row}: expected 0, 1 or NaN, found {self.labels[row, column]}"
            )

    def relate(self, names: Sequence[str]) -> Relatedness:
        """Return the relatedness; a pair is also unknown where one label never changes on the shared rows."""
        present = ~np.isnan(self.labels)
        positive = np.where(present, self.labels, 0.0)
        shared = present.T.astype(np.float64) @ present
        both = positive.T @ positive
        own = positive.T @ present  # row i, column j: positives of i among the rows that also carry j
        changing = (own > 0) & (own < shared)
        known = (shared >= self.min_rows) & changing & changing.T
        values = np.where(known, 0.0, np.nan)
        meet = known & (both > 0)
        lift = both[meet] * shared[meet] / (own * own.T)[meet]
        values[meet] = np.clip(np.log(lift) / -np.log(both[meet] / shared[meet]), 0.0, 1.0)
        return Relatedness.among(names, self.tasks, values)
