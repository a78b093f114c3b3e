"""Homoscedastic uncertainty: a learnt variance for each task."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from torch import Tensor, full, nn, zeros

from retrieval.encoder.balance.protocols import OneCall
from retrieval.encoder.balance.scales import Scales


class Uncertainty(OneCall):
    """Sum over present tasks of importance x (exp(-s) L + s / 2), with L / 2 for a regression (Kendall et al., 2018).

    Losses are relative, and s starts where a relative loss's multiplier is 1 (0, or -log 2 for a regression): training
    begins at the static weights. The sum is divided by the sum of present importances.

    Attributes:
        log_variances: s by task, scalars.

    Args:
        scales: importances and baselines.
        regression: names of the tasks whose loss is a squared error.
    """

    def __init__(self, scales: Scales, *, regression: Collection[str] = ()) -> None:
        self._scales = scales
        self._halves = {name: 0.5 if name in regression else 1.0 for name in scales.baselines}
        self.log_variances = {name: nn.Parameter(full((), math.log(half))) for name, half in self._halves.items()}

    def __call__(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the sum over present tasks, over the sum of their importances."""
        importance, total = self._scales.importance, zeros(())
        for name, loss in self._scales.relative(losses).items():
            s = self.log_variances[name]
            total = total + importance[name] * (self._halves[name] * (-s).exp() * loss + s / 2)
        return total / (sum(importance[name] for name in losses) or 1.0)

    def parameters(self) -> list[nn.Parameter]:
        """Return one s for each task."""
        return list(self.log_variances.values())

    def weights(self) -> dict[str, float]:
        """Return importance x exp(-s) / baseline, half of it for a regression."""
        return self._scales.weights(
            {
                name: self._scales.importance[name] * self._halves[name] * math.exp(-s.item())
                for name, s in self.log_variances.items()
            }
        )
