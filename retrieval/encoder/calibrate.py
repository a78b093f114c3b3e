"""Temperatures of multiclass heads: refine first, calibrate after.

A classifier that learns on becomes surer than it is right: its log loss on held-out rows rises while it errs less. So
validations measure the loss that is left at the best temperature (Berta et al., 2025, "Rethinking early stopping"),
and the temperature is then part of the head (Guo et al., 2017).
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from retrieval.encoder.batch import Batch
from retrieval.encoder.heads import RowHead
from retrieval.encoder.model import Features, MultiTaskEncoder

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Factors of logits that are tried: from an eighth to eight times.
_LIMIT: Final = math.log(8)


class ClassScores:
    """Logits and labels of every multiclass task, batch by batch."""

    def __init__(self) -> None:
        self._logits: dict[str, list[Float64]] = defaultdict(list)
        self._labels: dict[str, list[Int64]] = defaultdict(list)

    def look(self, model: MultiTaskEncoder, batch: Batch, features: Features) -> None:
        """Take the labelled rows of a batch, whose features are given."""
        for task in model.tasks:
            labels = batch.rows.get(task.name)
            if task.kind != "multiclass" or labels is None or not bool(labels.present.any()):
                continue
            logits = model.logits(task, features, {})
            logits = logits[labels.present.to(logits.device)]
            self._logits[task.name].append(logits.double().cpu().numpy())
            self._labels[task.name].append(labels.label[labels.present].long().numpy())

    def sharpness(self) -> dict[str, float]:
        """Return by task the best factor of its logits, 1 / temperature; a task without a row has none."""
        return {name: best_sharpness(*self._rows(name)) for name in self._logits}

    def losses(self) -> dict[str, float]:
        """Return by task the mean cross-entropy in nats at the best temperature."""
        return {name: cross_entropy(*self._rows(name), factor) for name, factor in self.sharpness().items()}

    def _rows(self, name: str) -> tuple[Float64, Int64]:
        return np.concatenate(self._logits[name]), np.concatenate(self._labels[name])


def best_sharpness(logits: Float64, labels: Int64) -> float:
    """Return the factor of logits, from 1/8 to 8, at which they predict the labels best.

    Its logarithm has a standard normal prior, so that a few rows that are all right don't make a head certain.

    Args:
        logits: float64 `[n, classes]`, n above 0.
        labels: int64 `[n]` codes.
    """

    def cost(log_factor: float) -> float:
        return len(labels) * cross_entropy(logits, labels, math.exp(log_factor)) + log_factor**2 / 2

    return math.exp(float(minimize_scalar(cost, bounds=(-_LIMIT, _LIMIT), method="bounded").x))


def cross_entropy(logits: Float64, labels: Int64, factor: float) -> float:
    """Return the mean of -log softmax(factor x logits) at the labels, in nats; arguments as `best_sharpness`."""
    scaled = logits * factor
    return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean())


@torch.no_grad()
def sharpen(model: MultiTaskEncoder, factors: dict[str, float]) -> None:
    """Multiply the logits of multiclass heads by these factors from now on."""
    for name, factor in factors.items():
        head = model.heads[name]
        assert isinstance(head, RowHead)
        head.scale.mul_(factor)
