"""What yes-or-no tasks on pairs, users and items lose on held-out rows once calibrated: what stopping goes by.

Ranking calibrates them, so how sure their heads are matters little, and what order they bring much. By their plain loss
a head that is surer than right looks worse than one that knows nothing: coupon response's .92 of its constant became
1.05 in fine-tuning.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from retrieval.encoder.batch import Batch, PairLabels, RowLabels
from retrieval.encoder.calibrate import unlinked_answers
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.model import Features, MultiTaskEncoder

Float64 = npt.NDArray[np.float64]

# Negatives of a batch that are looked at: a batch of the warm-up's size holds some 300,000.
_NEGATIVES: Final = 8_192
# Factors of logits that are tried: from an eighth to eight times.
_LIMIT: Final = math.log(8)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Labelled pairs or rows of one task.

    Attributes:
        logits: float64 `[n]` of the head.
        shift: float64 `[n]` added to them, which no calibration changes.
        labels: float64 `[n]`, 0 or 1.
        weights: float64 `[n]`: of how many each stands.
    """

    logits: Float64
    shift: Float64
    labels: Float64
    weights: Float64

    def refined(self) -> float:
        """Return the mean cross-entropy in nats that the best factor and offset leave.

        The factor's logarithm and the offset have standard normal priors, as `calibrate.fit` has them. Logits that are
        no numbers leave none.
        """
        if not np.isfinite(self.logits).all():
            return math.nan
        found = minimize(self._cost, np.zeros(2), jac=True, bounds=[(-_LIMIT, _LIMIT), (None, None)], method="L-BFGS-B")
        return self._loss(math.exp(found.x[0]) * self.logits + found.x[1])

    def constant(self) -> float:
        """Return what the best constant costs."""
        found = minimize(self._cost_of_constant, np.zeros(1), jac=True, method="L-BFGS-B")
        return self._loss(np.full(len(self.labels), found.x[0]))

    def _cost(self, values: Float64) -> tuple[float, Float64]:
        factor = math.exp(values[0])
        slopes = self._slopes(factor * self.logits + values[1])
        total = self._loss(factor * self.logits + values[1]) * self.weights.sum()
        return total + float(values @ values) / 2, np.array([slopes @ (factor * self.logits), slopes.sum()]) + values

    def _cost_of_constant(self, values: Float64) -> tuple[float, Float64]:
        logits = np.full(len(self.labels), values[0])
        return self._loss(logits), np.array([self._slopes(logits).sum() / self.weights.sum()])

    def _slopes(self, logits: Float64) -> Float64:
        slopes: Float64 = self.weights * (expit(logits + self.shift) - self.labels)
        return slopes

    def _loss(self, logits: Float64) -> float:
        shifted = logits + self.shift
        return float(np.average(np.logaddexp(0, shifted) - self.labels * shifted, weights=self.weights))


class HeldOutAnswers:
    """Logits and labels of the yes-or-no tasks that ranking calibrates, batch by batch: no parent nor child.

    Args:
        tasks: all heads.
    """

    def __init__(self, tasks: Sequence[EncoderTask]) -> None:
        self.tasks = [task for task in unlinked_answers(tasks) if task.on != "text"]
        self._found: dict[str, list[Float64]] = defaultdict(list)

    def look(self, model: MultiTaskEncoder, batch: Batch, features: Features) -> None:
        """Take the positives of a batch, whose features are given, and some of its negatives: the same every time."""
        for task in self.tasks:
            labels = batch.labels(task.name)
            if labels is not None and bool(labels.present.any()):
                logits = model.logits(task, features, {}).double().cpu()
                self._found[task.name].append(_some(logits[labels.present].numpy(), labels))

    def refined(self) -> dict[str, float]:
        """Return by task the loss that calibration leaves."""
        return {name: self._answers(name).refined() for name in self._found}

    def constants(self) -> dict[str, float]:
        """Return by task what its best constant costs on the same."""
        return {name: self._answers(name).constant() for name in self._found}

    def _answers(self, name: str) -> Answers:
        logits, shift, labels, weights = np.concatenate(self._found[name], axis=1)
        return Answers(logits=logits, shift=shift, labels=labels, weights=weights)


def _some(logits: Float64, labels: PairLabels | RowLabels) -> Float64:
    """Return logits, shifts, labels and weights, float64 `[4, n]`, of all positives and evenly chosen negatives."""
    label = labels.label[labels.present].double().numpy()
    shift = labels.shift[labels.present].double().numpy() if isinstance(labels, PairLabels) else np.zeros(len(label))
    negatives = np.flatnonzero(label <= 0)
    stride = max(1, len(negatives) // _NEGATIVES)
    kept = negatives[::stride]
    rows = np.concatenate([np.flatnonzero(label > 0), kept])
    weights = np.where(label[rows] > 0, 1.0, len(negatives) / max(len(kept), 1))
    return np.stack([logits[rows], shift[rows], label[rows], weights])
