"""GradNorm: gradients of one length, longer where a loss lags behind."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from retrieval.encoder.balance.protocols import Gramian

# Below it a weight's gradient could no longer bring it back in a run.
LOWEST = 0.01


class GradNorm:
    """Weights w that follow `sign(w_i g_i - target_i) g_i`, target_i = mean_j(w_j g_j) r_i^alpha (Chen et al., 2018).

    g_i is the length of the task's gradient, and r_i its relative loss over the mean of those present: the constant
    predictor's loss stands for the loss at the first step, as the paper allows. Steps are in units of the mean g, so
    that one learning rate suits any level, and w is renormalised to the sum that the present tasks had (the absent
    ones keep theirs).

    Attributes:
        weights: w by task, their sum the number of tasks.

    Args:
        names: every task.
        alpha: strength of the pull towards lagging tasks.
        learning_rate: of w.
    """

    def __init__(self, names: Iterable[str], *, alpha: float, learning_rate: float) -> None:
        self.weights = dict.fromkeys(names, 1.0)
        self._alpha, self._rate = alpha, learning_rate

    def __call__(self, gramian: Gramian) -> Tensor:
        """Return w over its sum for the present tasks, then move it."""
        lengths = gramian.matrix.diagonal().clamp(min=0).sqrt()
        weights = torch.tensor([self.weights[name] for name in gramian.names]).to(lengths)
        weighted = weights * lengths
        lag = gramian.losses.to(lengths) / gramian.losses.mean().clamp(min=1e-12)
        slope = torch.sign(weighted - weighted.mean() * lag**self._alpha) * lengths / lengths.mean().clamp(min=1e-12)
        moved = (weights - self._rate * slope).clamp(min=LOWEST)
        moved = moved * weights.sum() / moved.sum()
        self.weights |= dict(zip(gramian.names, moved.tolist(), strict=True))
        return weights / weights.sum()
