"""What makes losses comparable: each over its constant predictor's, times its importance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, zeros


@dataclass(frozen=True, kw_only=True)
class Scales:
    """The tasks' yardsticks.

    Attributes:
        importance: by task, at least 0.
        baselines: by task the loss of its best constant prediction, above 0.
    """

    importance: Mapping[str, float]
    baselines: Mapping[str, float]

    def relative(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each loss over its baseline."""
        return {name: loss / self.baselines[name] for name, loss in losses.items()}

    def weights(self, factors: Mapping[str, float]) -> dict[str, float]:
        """Return multipliers of raw losses, of multipliers of relative ones."""
        return {name: factor / self.baselines[name] for name, factor in factors.items()}


def weighted_mean(losses: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    """Return sum of factor x loss over sum of factors, over the tasks that have a loss."""
    total = sum((factors[name] * loss for name, loss in losses.items()), start=zeros(()))
    # 0 where every present task has importance 0: the scalar is 0 then, not undefined.
    return total / (sum(factors[name] for name in losses) or 1.0)


def numbers(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the losses' values, fetched from the device at once."""
    values = torch.stack([loss.detach() for loss in losses.values()]).tolist()
    return dict(zip(losses, values, strict=True))
