"""Random weights: the litmus test of every other method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np


class RandomWeights:
    """Factor importance x a new draw in every step, of mean 1 over all tasks (Lin et al., 2022).

    Every step draws for every task, so that who is present doesn't change the draws to come.

    Args:
        importance: by task.
        distribution: `normal` (softmax of standard normals) or `dirichlet`.
        alpha: the Dirichlet's concentration.
        seed: of the draws.
    """

    def __init__(
        self,
        importance: Mapping[str, float],
        *,
        distribution: Literal["normal", "dirichlet"],
        alpha: float,
        seed: int,
    ) -> None:
        self._importance = dict(importance)
        self._distribution, self._alpha = distribution, alpha
        self._rng = np.random.default_rng(seed)
        self._factors = self._draw()

    def __call__(self) -> Mapping[str, float]:
        """Return this step's factors."""
        return self._factors

    def update(self, relative: Mapping[str, float]) -> None:
        """Draw the next step's factors, whatever the losses of the known tasks are."""
        assert relative.keys() <= self._importance.keys()
        self._factors = self._draw()

    def _draw(self) -> dict[str, float]:
        n = len(self._importance)
        if self._distribution == "dirichlet":
            shares = self._rng.dirichlet(np.full(n, self._alpha))
        else:
            positive = np.exp(self._rng.standard_normal(n))
            shares = positive / positive.sum()
        return {
            name: value * float(n * share)
            for (name, value), share in zip(self._importance.items(), shares, strict=True)
        }
