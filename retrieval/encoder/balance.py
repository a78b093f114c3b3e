"""From the losses of the tasks present in a step to one scalar.

A balancer never sees data, and an absent task has no entry: it adds nothing, and its weight and its optimiser's state
stay as they are (no gradient reaches them, and AdamW skips parameters without one).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn, zeros

from retrieval.encoder.config import BalanceConfig


class Balancer(Protocol):
    """Losses of present tasks to a scalar; `parameters` are learnt along with the model."""

    def __call__(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar to minimise, of one loss (scalar tensor) for each present task, at least one."""

    def parameters(self) -> list[nn.Parameter]:
        """Return what the balancer learns."""

    def weights(self) -> dict[str, float]:
        """Return each task's present multiplier of its raw loss."""


class Static:
    """Sum of importance x loss / the constant predictor's loss, over the sum of present importances.

    Args:
        importance: by task.
        baselines: each task's loss under its best constant prediction.
    """

    def __init__(self, importance: Mapping[str, float], baselines: Mapping[str, float]) -> None:
        self._weights = {name: importance[name] / max(baselines[name], 1e-6) for name in baselines}
        self._importance = dict(importance)

    def __call__(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted mean of the present tasks' normalised losses."""
        total = sum((self._weights[name] * loss for name, loss in losses.items()), start=zeros(()))
        return total / sum(self._importance[name] for name in losses)

    def parameters(self) -> list[nn.Parameter]:
        """Nothing is learnt."""
        return []

    def weights(self) -> dict[str, float]:
        """Return importance / baseline."""
        return dict(self._weights)


class Uncertainty:
    """Sum of exp(-s) L + s / 2 over present tasks, s learnt, for classification (Kendall et al., 2018).

    Losses are divided by the constant predictor's first and s starts at 0: training begins at the static weights.

    Args:
        importance: by task; multiplies a task's whole term.
        baselines: each task's loss under its best constant prediction.
    """

    def __init__(self, importance: Mapping[str, float], baselines: Mapping[str, float]) -> None:
        self._importance = dict(importance)
        self._baselines = {name: max(value, 1e-6) for name, value in baselines.items()}
        self.log_variances = {name: nn.Parameter(zeros(())) for name in baselines}

    def __call__(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the sum over present tasks, over the sum of their importances."""
        total = zeros(())
        for name, loss in losses.items():
            s = self.log_variances[name]
            total = total + self._importance[name] * ((-s).exp() * loss / self._baselines[name] + s / 2)
        return total / sum(self._importance[name] for name in losses)

    def parameters(self) -> list[nn.Parameter]:
        """Return one s for each task."""
        return list(self.log_variances.values())

    def weights(self) -> dict[str, float]:
        """Return importance x exp(-s) / baseline."""
        return {
            name: self._importance[name] * math.exp(-s.item()) / self._baselines[name]
            for name, s in self.log_variances.items()
        }


def balancer(config: BalanceConfig, baselines: Mapping[str, float]) -> Balancer:
    """Build the configured balancer.

    Args:
        config: method and importances.
        baselines: by task, the loss of its best constant prediction.
    """
    importance = {name: config.weights.get(name, 1.0) for name in baselines}
    return Static(importance, baselines) if config.method == "static" else Uncertainty(importance, baselines)
