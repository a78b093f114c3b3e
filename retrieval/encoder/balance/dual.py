"""Min-max over the simplex: the task furthest above its baseline gains weight."""

from __future__ import annotations

import math
from collections.abc import Mapping


class Dual:
    """Exponentiated gradient ascent of `max over a in the simplex of sum a_i max(0, L_i - b_i) - c KL(a, importance)`.

    One step multiplies a_i by `exp(eta max(0, L_i - b_i))` after `a_i <- a_i^(1 - pull) importance_i^pull`, then
    renormalises (group distributionally robust optimisation, Sagawa et al., 2020, with baselines). A plain
    L_i - b_i would hand all weight to a task that can't be learnt: its difference stays 0 while the others' fall below.
    With the positive part it only gains by noise, which the pull forgets.

    Absent tasks keep their share; the present ones share out what they had.

    Args:
        importance: by task; the shares' start, and what they are pulled to. A task of importance 0 keeps 0.
        baselines: by task, b_i in units of the constant predictor's loss, as L_i is; 1 for those left out.
        eta: step.
        pull: towards the importances, in [0, 1].
    """

    def __init__(
        self, importance: Mapping[str, float], baselines: Mapping[str, float], *, eta: float, pull: float
    ) -> None:
        self._total = sum(importance.values())
        self._factors = dict(importance)
        self._prior = {name: math.log(value / self._total) for name, value in importance.items() if value > 0}
        self._logs = dict(self._prior)
        self._baselines = {name: baselines.get(name, 1.0) for name in importance}
        self._eta, self._pull = eta, pull

    def __call__(self) -> Mapping[str, float]:
        """Return the shares times the sum of importances, so that the first ones are the importances."""
        return self._factors

    def update(self, relative: Mapping[str, float]) -> None:
        """Make one step, in logarithms: a diverging loss must not overflow."""
        present = [name for name in relative if name in self._logs]
        if not present:
            return
        mass = _log_sum_exp([self._logs[name] for name in present])
        moved = {
            name: (1 - self._pull) * self._logs[name]
            + self._pull * self._prior[name]
            + self._eta * max(0.0, relative[name] - self._baselines[name])
            for name in present
        }
        shift = mass - _log_sum_exp(list(moved.values()))
        self._logs |= {name: value + shift for name, value in moved.items()}
        self._factors |= {name: self._total * math.exp(self._logs[name]) for name in present}


def _log_sum_exp(values: list[float]) -> float:
    highest = max(values)
    return highest + math.log(sum(math.exp(value - highest) for value in values))
