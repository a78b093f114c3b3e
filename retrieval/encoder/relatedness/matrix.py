"""The T x T interface of task relatedness: what a prior believes, what a measurement found, and the priors' mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Relatedness:
    """How related tasks are believed to be; every prior uses this one scale.

    Attributes:
        names: the tasks, distinct.
        matrix: float64 `[T, T]`, symmetric: 0 unrelated, 1 alike, NaN unknown. A task is related to itself by 1.
    """

    names: tuple[str, ...]
    matrix: Float64

    def __post_init__(self) -> None:
        assert len(set(self.names)) == len(self.names)
        assert self.matrix.shape == (len(self.names), len(self.names))
        assert np.array_equal(self.matrix, self.matrix.T, equal_nan=True)
        assert bool((np.diagonal(self.matrix) == 1).all())
        known = self.matrix[~np.isnan(self.matrix)]
        assert bool(((known >= 0) & (known <= 1)).all())

    @classmethod
    def among(cls, names: Sequence[str], known: Sequence[str], values: Float64) -> Relatedness:
        """Return the relatedness of `names` where something is known of some tasks only.

        Args:
            names: all tasks, in order.
            known: tasks, of which those outside `names` are left out.
            values: float64 `[K, K]`, the relatedness of `known`; its diagonal is not read.
        """
        place = {name: position for position, name in enumerate(names)}
        kept = [position for position, name in enumerate(known) if name in place]
        target = [place[known[position]] for position in kept]
        matrix = np.full((len(names), len(names)), np.nan)
        matrix[np.ix_(target, target)] = values[np.ix_(kept, kept)]
        np.fill_diagonal(matrix, 1.0)
        return cls(names=tuple(names), matrix=matrix)


@dataclass(frozen=True, kw_only=True, eq=False)
class Affinity:
    """What a step on one task did to the loss of another (Fifty et al., 2021).

    Attributes:
        names: the tasks, distinct.
        matrix: float64 `[T, T]`, not symmetric: row i, column j is the share of task j's loss that a step on task i
            takes away; at most 1, negative where the step does harm, NaN where no batch held both.
        batches: int64 `[T, T]`, the number of batches each entry is the mean of.
    """

    names: tuple[str, ...]
    matrix: Float64
    batches: Int64

    @property
    def has_pairs(self) -> bool:
        """Whether any two different tasks were measured on each other."""
        return bool((self.batches[~np.eye(len(self.names), dtype=bool)] > 0).any())


class Prior(Protocol):
    """A belief about tasks that costs no training."""

    def relate(self, names: Sequence[str]) -> Relatedness:
        """Return the relatedness of these tasks, NaN where the prior knows nothing of one of the two."""


def combine(names: Sequence[str], parts: Sequence[tuple[Relatedness, float]]) -> Relatedness:
    """Return, for each pair, the weighted mean of the priors that know it; NaN where none does.

    Args:
        names: the tasks of every part, in order.
        parts: relatedness and weight (at least 0; 0 leaves the part out).
    """
    total = np.zeros((len(names), len(names)))
    weights = np.zeros_like(total)
    for part, weight in parts:
        assert part.names == tuple(names)
        known = ~np.isnan(part.matrix)
        total[known] += weight * part.matrix[known]
        weights[known] += weight
    # A mean of ones can round to just above 1.
    mean = np.minimum(np.divide(total, weights, out=np.full_like(total, np.nan), where=weights > 0), 1.0)
    return Relatedness.among(names, names, mean)
