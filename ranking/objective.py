"""Objectives: one score per item, a declared weighted sum of calibrated task probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from features.schema import Int32
from infra.errors import InvalidInputError, unknown_name

Float64 = npt.NDArray[np.float64]

DEFAULT = "default"


class ObjectiveError(InvalidInputError):
    """An objective that does not exist, or one that names a task that does not."""


class ObjectiveConfig(BaseModel):
    """The objectives a release can rank by.

    Attributes:
        objectives: name -> task -> weight. `default` serves requests that name none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    objectives: dict[str, dict[str, float]] = Field(default={DEFAULT: {"purchase": 1.0}}, min_length=1)

    def check(self, tasks: Iterable[str]) -> None:
        """Check every objective against the tasks that have a probability per item.

        Raises:
            ObjectiveError: `default` is missing, an objective is empty, or one names an unknown task.
        """
        known = tuple(tasks)
        if DEFAULT not in self.objectives:
            raise ObjectiveError(f"expected an objective named {DEFAULT!r}, found {sorted(self.objectives)}")
        for name, weights in self.objectives.items():
            if not weights:
                raise ObjectiveError(f"objective {name!r}: expected at least one task, found none")
            for task in weights:
                if task not in known:
                    raise ObjectiveError(f"objective {name!r}: {unknown_name('task', task, known)}")

    def weights(self, name: str | None) -> dict[str, float]:
        """Return the task weights of an objective, the default one for None.

        Raises:
            ObjectiveError: no objective of that name, with the nearest one named.
        """
        chosen = DEFAULT if name is None else name
        if chosen not in self.objectives:
            raise ObjectiveError(unknown_name("objective", chosen, self.objectives))
        return self.objectives[chosen]


def score(probabilities: Mapping[str, Float64], weights: Mapping[str, float], n: int) -> Float64:
    """Return the weighted sum of task probabilities, float64 `[n]`; a task that doesn't apply (NaN) adds nothing."""
    total = np.zeros(n)
    for task, weight in weights.items():
        total += weight * np.nan_to_num(probabilities[task], nan=0.0)
    return total


def order(scores: Float64, items: Int32) -> npt.NDArray[np.intp]:
    """Return rows best first, intp `[n]`; equal scores go by item position, whatever the input's order."""
    return np.lexsort((items, -scores))
