"""Methods whose scalar is a weighted mean of relative losses: they differ in the factors alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from retrieval.encoder.balance.protocols import OneCall
from retrieval.encoder.balance.scales import Scales, numbers, weighted_mean


class Factors(Protocol):
    """Factor of each task in the coming step."""

    def __call__(self) -> Mapping[str, float]:
        """Return a factor, at least 0, for every task; where nothing is known yet, its importance."""

    def update(self, relative: Mapping[str, float]) -> None:
        """Take note of the present tasks' relative losses in the step just made."""


class Convex(OneCall):
    """Sum of factor x relative loss over present tasks, over the sum of their factors.

    Args:
        scales: baselines.
        factors: by which to weigh.
    """

    def __init__(self, scales: Scales, factors: Factors) -> None:
        self._scales = scales
        self._factors = factors

    def __call__(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted mean of relative losses, then let the factors learn from their values."""
        relative = self._scales.relative(losses)
        scalar = weighted_mean(relative, self._factors())
        self._factors.update(numbers(relative))
        return scalar

    def weights(self) -> dict[str, float]:
        """Return factor / baseline."""
        return self._scales.weights(self._factors())


class Static:
    """The importances, unchanged: the default, and what every other method is measured against.

    Args:
        importance: by task.
    """

    def __init__(self, importance: Mapping[str, float]) -> None:
        self._importance = dict(importance)

    def __call__(self) -> Mapping[str, float]:
        """Return the importances."""
        return self._importance

    def update(self, relative: Mapping[str, float]) -> None:
        """Losses of known tasks change nothing."""
        assert relative.keys() <= self._importance.keys()


def by_volume(importance: Mapping[str, float], counts: Mapping[str, int], exponent: float) -> dict[str, float]:
    """Return importance x count ** exponent, scaled to a mean of 1 over the tasks.

    Args:
        importance: by task.
        counts: labels by task; 0 counts as 1.
        exponent: 0 leaves the importances' ratios as they are.
    """
    raw = {name: value * max(1, counts[name]) ** exponent for name, value in importance.items()}
    mean = sum(raw.values()) / len(raw)
    return {name: value / mean for name, value in raw.items()}
