"""Guardrails: limits on some losses, kept by multipliers on top of the static sum."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from retrieval.encoder.balance.protocols import OneCall
from retrieval.encoder.balance.scales import Scales, numbers, weighted_mean


class Lagrangian(OneCall):
    """Static sum + sum over present limits of mu_i (L_i - eps_i); after it mu_i <- max(0, mu_i + eta (L_i - eps_i)).

    Dual gradient ascent on the constraints L_i <= eps_i over relative losses. Multipliers are bounded from above, as
    in Cotter et al., 2019 (Two-player games for efficient non-convex constrained optimization): a limit out of reach
    would raise its own without end.

    Attributes:
        multipliers: mu by limited task.

    Args:
        scales: importances and baselines; a task of importance 0 counts by its limit alone, such as a fairness gap.
        limits: eps by task, in units of the baseline.
        eta: step.
        ceiling: highest multiplier.
    """

    def __init__(self, scales: Scales, limits: Mapping[str, float], *, eta: float, ceiling: float) -> None:
        self._scales, self._limits = scales, dict(limits)
        self._eta, self._ceiling = eta, ceiling
        self.multipliers = dict.fromkeys(limits, 0.0)

    def __call__(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the Lagrangian at the present multipliers, then move them."""
        relative = self._scales.relative(losses)
        scalar = weighted_mean(relative, self._scales.importance)
        for name, value in numbers(relative).items():
            if name in self._limits:
                mu, limit = self.multipliers[name], self._limits[name]
                scalar = scalar + mu * (relative[name] - limit)
                self.multipliers[name] = min(self._ceiling, max(0.0, mu + self._eta * (value - limit)))
        return scalar

    def weights(self) -> dict[str, float]:
        """Return (importance + mu x sum of importances) / baseline: the static sum is over that sum, mu is not."""
        importance = self._scales.importance
        total = sum(importance.values())
        return self._scales.weights(
            {name: value + self.multipliers.get(name, 0.0) * total for name, value in importance.items()}
        )
