"""Dynamic weight average: losses that fall slowly gain weight."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Of a rate: a loss that rose tenfold between windows says all it can.
HIGHEST_RATE = 10.0


class DynamicWeightAverage:
    """Factor importance x exp((r - 1) / temperature), r the loss of the last window over that of the one before.

    Liu et al., 2019 (End-to-end multi-task learning with attention), whose weights K softmax(r / T) are these up to
    their sum; a window of steps stands for the epoch. A task without losses in two windows has r = 1.

    Args:
        importance: by task.
        temperature: above 0.
        window: steps.
    """

    def __init__(self, importance: Mapping[str, float], *, temperature: float, window: int) -> None:
        self._importance = dict(importance)
        self._temperature, self._window = temperature, window
        self._steps = 0
        self._current: dict[str, list[float]] = {}
        self._averages: dict[str, list[float]] = {}

    def __call__(self) -> Mapping[str, float]:
        """Return the factors."""
        return {
            name: value * math.exp((self._rate(name) - 1) / self._temperature)
            for name, value in self._importance.items()
        }

    def update(self, relative: Mapping[str, float]) -> None:
        """Add losses to the window, and close it when it is full; a task that it lacks keeps its older averages."""
        for name, loss in relative.items():
            self._current.setdefault(name, []).append(loss)
        self._steps += 1
        if self._steps % self._window == 0:
            for name, losses in self._current.items():
                self._averages[name] = [*self._averages.get(name, []), sum(losses) / len(losses)][-2:]
            self._current = {}

    def _rate(self, name: str) -> float:
        averages = self._averages.get(name, [])
        if len(averages) < 2 or averages[0] <= 0:
            return 1.0
        return min(HIGHEST_RATE, averages[1] / averages[0])
