"""What was found of the tasks' relatedness, in a form that JSON holds: unknown is null."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from retrieval.encoder.relatedness.matrix import Affinity, Float64, Relatedness

Matrix = tuple[tuple[FiniteFloat | None, ...], ...]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskGroup(_Part):
    """Tasks proposed to share an encoder.

    Attributes:
        tasks: in the order of the report's names.
        within: mean similarity of its pairs; None for a single task, or where no pair is known.
        between: mean similarity of its tasks with all others; None for the only group, or where no pair is known.
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    within: FiniteFloat | None
    between: FiniteFloat | None


class ProposedGroups(_Part):
    """A partition of the tasks.

    Attributes:
        basis: what the similarity was.
        groups: by their first tasks' order.
        silhouette: mean over tasks, -1 to 1; 0 for one group and for single tasks, where nothing can be compared.
    """

    basis: Literal["prior", "affinity"]
    groups: tuple[TaskGroup, ...]
    silhouette: FiniteFloat

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The groups as tuples of task names."""
        return tuple(group.tasks for group in self.groups)


class RelatednessReport(_Part):
    """Priors, measurement and proposal.

    Attributes:
        names: the tasks, in the order of every matrix's rows and columns.
        prior: `[T, T]`, the priors' weighted mean: symmetric, 0 unrelated, 1 alike.
        affinity: `[T, T]`, row = the task stepped on, column = the task whose loss it lowers; None if not measured.
        groups: the proposal.
    """

    names: tuple[str, ...]
    prior: Matrix
    affinity: Matrix | None
    groups: ProposedGroups

    @model_validator(mode="after")
    def _square(self) -> Self:
        size = len(self.names)
        for name, matrix in (("prior", self.prior), ("affinity", self.affinity)):
            lengths = [size] * size if matrix is None else [len(row) for row in matrix]
            if lengths != [size] * size:
                raise ValueError(f"{name}: expected {size} rows of {size} values, found rows of {lengths}")
        grouped = [task for group in self.groups.names for task in group]
        if sorted(grouped) != sorted(self.names):
            raise ValueError(f"groups: expected each of {', '.join(self.names)} once, found {', '.join(grouped)}")
        return self

    @classmethod
    def of(cls, prior: Relatedness, affinity: Affinity | None, groups: ProposedGroups) -> RelatednessReport:
        """Return the report of matrices over the same names."""
        return cls(
            names=prior.names,
            prior=_rows(prior.matrix),
            affinity=None if affinity is None else _rows(affinity.matrix),
            groups=groups,
        )


def _rows(matrix: Float64) -> Matrix:
    return tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in matrix)
