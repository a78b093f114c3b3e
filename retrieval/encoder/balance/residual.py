"""What one task's prediction should tell of another's label: a regulariser across tasks on the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class LabelScale:
    """How a task's labels lie, measured on training rows.

    Attributes:
        kind: `binary` (labels 0 and 1, predictions are logits) or `regression` (predictions in the label's unit).
        mean: of the labels; of a binary task strictly between 0 and 1.
        deviation: their standard deviation, above 0.
    """

    kind: Literal["binary", "regression"]
    mean: float
    deviation: float


@dataclass(frozen=True, kw_only=True)
class TaskRows:
    """One task's predictions and labels on rows that several tasks share.

    Attributes:
        logits: float `[n]`.
        labels: float `[n]`, anything where absent.
        present: bool `[n]`.
    """

    logits: Tensor
    labels: Tensor
    present: Tensor


class CrossTaskResidual(nn.Module):
    """Squared error between y_i and a learnt map g_ij of task j's prediction, over the variance of y_i.

    g_ij(z) = sigmoid(a z + b) for a binary y_i, mean_i + deviation_i (a z + b) for a regression; z is a binary j's
    logit, or a regression's prediction standardised. The literal residual y_i - prediction_j would compare two units.
    Each map starts as the constant mean of y_i (a = 0), so that nothing reaches task j until a relation was learnt;
    then the gradient flows into prediction_j.

    Attributes:
        maps: a and b, `[2]`, by pair; vectors, so that weight decay leaves them, and a pair without rows in a step
            has no gradient.

    Args:
        tasks: label scales by name.
        pairs: (i, j) with i explained by j; None takes every ordered pair.
    """

    def __init__(self, tasks: Mapping[str, LabelScale], pairs: Sequence[tuple[str, str]] | None = None) -> None:
        super().__init__()
        self._tasks = dict(tasks)
        self.pairs = tuple(pairs) if pairs is not None else tuple((i, j) for i in tasks for j in tasks if i != j)
        starts = {name: _logit(scale.mean) if scale.kind == "binary" else 0.0 for name, scale in tasks.items()}
        self.maps = nn.ParameterDict({_key(i, j): nn.Parameter(torch.tensor([0.0, starts[i]])) for i, j in self.pairs})

    def forward(self, rows: Mapping[str, TaskRows]) -> Tensor | None:
        """Return the mean over pairs with a row that carries both labels, or None where there is none.

        Args:
            rows: by task, all of the same `n` rows; a task without a known scale is passed over.

        Returns:
            Scalar; about 1 where no prediction tells anything, 0 where every map is exact.
        """
        found = [self._pair(i, j, rows[i], rows[j]) for i, j in self.pairs if i in rows and j in rows]
        losses = [loss for loss in found if loss is not None]
        return torch.stack(losses).mean() if losses else None

    def _pair(self, i: str, j: str, target: TaskRows, source: TaskRows) -> Tensor | None:
        assert target.present.shape == source.present.shape, f"{i} and {j} are not on the same rows"
        both = target.present & source.present
        if not bool(both.any()):
            return None
        scale, other = self._tasks[i], self._tasks[j]
        z = source.logits[both]
        if other.kind == "regression":
            z = (z - other.mean) / other.deviation
        slope, intercept = self.maps[_key(i, j)]
        mapped = slope * z + intercept
        guess = torch.sigmoid(mapped) if scale.kind == "binary" else scale.mean + scale.deviation * mapped
        return functional.mse_loss(guess, target.labels[both]) / scale.deviation**2


def _key(target: str, source: str) -> str:
    return f"{target}<{source}"


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
