"""Calibration of heads on held-out rows: refine first, calibrate after.

A classifier that learns on becomes surer than it is right, and rates differ between the rows that teach and those that
come: its log loss on held-out rows rises while it errs less. So validations measure the loss that is left after
calibration (Berta et al., 2025, "Rethinking early stopping: refine, then calibrate"), which is then part of the head: a
temperature of classes (Guo et al., 2017), a slope and an offset of a yes-or-no task (Platt, 1999).

Tasks on pairs and users that say yes or no are left as they are: ranking calibrates them, and their batches' rates are
not the world's. So are parents and children, whose probabilities are products.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import entr, logsumexp

from retrieval.encoder.batch import Batch
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.heads import RowHead
from retrieval.encoder.model import Features, MultiTaskEncoder

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Factors of logits that are tried: from an eighth to eight times.
_LIMIT: Final = math.log(8)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What becomes of a head's logits: factor x logits + offset.

    Attributes:
        factor: 1 / temperature, above 0.
        offset: of a yes-or-no task's logit; 0 of classes.
    """

    factor: float = 1.0
    offset: float = 0.0


class HeldOutScores:
    """Logits and labels of every task that can be calibrated, batch by batch.

    Args:
        tasks: all heads.
    """

    def __init__(self, tasks: Sequence[EncoderTask]) -> None:
        self.tasks = calibrated_tasks(tasks)
        self._logits: dict[str, list[Float64]] = defaultdict(list)
        self._labels: dict[str, list[Int64]] = defaultdict(list)

    def look(self, model: MultiTaskEncoder, batch: Batch, features: Features) -> None:
        """Take the labelled rows of a batch, whose features are given."""
        for task in self.tasks:
            labels = batch.rows.get(task.name)
            if labels is None or not bool(labels.present.any()):
                continue
            logits = model.logits(task, features, {})
            logits = logits[labels.present.to(logits.device)].double().cpu()
            # A yes-or-no task is two classes, of which "no" has the logit 0.
            classes = logits if logits.ndim == 2 else torch.stack([torch.zeros_like(logits), logits], dim=1)
            self._logits[task.name].append(classes.numpy())
            self._labels[task.name].append(labels.label[labels.present].long().numpy())

    def calibrations(self) -> dict[str, Calibration]:
        """Return by task its best calibration; a task without a row has none."""
        return {
            task.name: fit(*self._rows(task.name), offset=task.kind == "binary")
            for task in self.tasks
            if task.name in self._logits
        }

    def losses(self) -> dict[str, float]:
        """Return by task the mean cross-entropy in nats that its best calibration leaves."""
        return {name: cross_entropy(*self._rows(name), found) for name, found in self.calibrations().items()}

    def constants(self) -> dict[str, float]:
        """Return by yes-or-no task what its best constant costs on these rows, in nats: the labels' entropy.

        Calibration knows their rate, so the constant that it is held against must too: of CLINC150's training texts 1
        of 151 is out of scope, of its validation texts 1 of 31.
        """
        rates = {
            task.name: float(self._rows(task.name)[1].mean())
            for task in self.tasks
            if task.kind == "binary" and task.name in self._labels
        }
        return {name: float(entr(rate) + entr(1 - rate)) for name, rate in rates.items()}

    def _rows(self, name: str) -> tuple[Float64, Int64]:
        return np.concatenate(self._logits[name]), np.concatenate(self._labels[name])


def calibrated_tasks(tasks: Sequence[EncoderTask]) -> tuple[EncoderTask, ...]:
    """Return those whose heads are calibrated: of classes, and yes-or-no tasks on texts without parent or child."""
    parents = {task.parent for task in tasks}
    return tuple(
        task
        for task in tasks
        if task.kind == "multiclass"
        or (task.kind == "binary" and task.on == "text" and task.parent is None and task.name not in parents)
    )


def fit(logits: Float64, labels: Int64, *, offset: bool) -> Calibration:
    """Return the calibration with which logits predict the labels best.

    The factor's logarithm and the offset have standard normal priors, so that a few rows that are all right don't make
    a head certain.

    Args:
        logits: float64 `[n, classes]`, n above 0.
        labels: int64 `[n]` codes.
        offset: of the last of two classes; False leaves it 0.
    """

    def cost(values: Float64) -> float:
        found = _calibration(values)
        return len(labels) * cross_entropy(logits, labels, found) + float(values @ values) / 2

    bounds = [(-_LIMIT, _LIMIT), *([(None, None)] if offset else [])]
    return _calibration(minimize(cost, np.zeros(len(bounds)), bounds=bounds, method="L-BFGS-B").x)


def _calibration(values: Float64) -> Calibration:
    return Calibration(factor=math.exp(values[0]), offset=float(values[1]) if len(values) > 1 else 0.0)


def cross_entropy(logits: Float64, labels: Int64, calibration: Calibration) -> float:
    """Return the mean of -log softmax of the calibrated logits at the labels, in nats; arguments as `fit`."""
    scaled = logits * calibration.factor
    if calibration.offset:
        scaled = scaled + np.array([0.0, calibration.offset])
    return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean())


@torch.no_grad()
def calibrate(model: MultiTaskEncoder, calibrations: Mapping[str, Calibration]) -> None:
    """Let heads give calibrated logits from now on."""
    for name, found in calibrations.items():
        head = model.heads[name]
        assert isinstance(head, RowHead)
        head.scale.mul_(found.factor)
        # The head's scale multiplies its bias too.
        head.bias.add_(found.offset / head.scale)
    for task in model.tasks:
        for place, name in enumerate(task.energy):
            reader = model.heads[task.name]
            assert isinstance(reader, RowHead)
            reader.sharpness[place] /= calibrations.get(name, Calibration()).factor
