"""Calibration of heads on held-out rows: refine first, calibrate after.

A classifier that learns on becomes surer than it is right, and rates differ between the rows that teach and those that
come: its log loss on held-out rows rises while it errs less. So validations measure the loss that is left after
calibration (Berta et al., 2025, "Rethinking early stopping: refine, then calibrate"), which is then part of the head: a
temperature of classes (Guo et al., 2017), a slope and an offset of a yes-or-no task (Platt, 1999) and of a number. Of
the demand for MovieLens' films the plain loss over its constant's rose from .74 to .86 in 50 steps, while what
calibration leaves fell from .74 to .72.

Tasks on pairs, users and items that say yes or no are left as they are: ranking calibrates them, and their batches'
rates are not the world's; `refined` tells what they then lose. So are parents and children, whose probabilities are
products.
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
from retrieval.encoder.heads import PairHead, RowHead
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
        offset: of a yes-or-no task's logit, or of a number; 0 of classes.
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
        self._labels: dict[str, list[Float64]] = defaultdict(list)

    def look(self, model: MultiTaskEncoder, batch: Batch, features: Features) -> None:
        """Take the labelled rows of a batch, whose features are given."""
        for task in self.tasks:
            labels = batch.labels(task.name)
            if labels is None or not bool(labels.present.any()):
                continue
            logits = model.logits(task, features, {})
            logits = logits[labels.present.to(logits.device)].double().cpu()
            if task.kind == "binary":
                # Two classes, of which "no" has the logit 0.
                logits = torch.stack([torch.zeros_like(logits), logits], dim=1)
            self._logits[task.name].append(logits.numpy())
            self._labels[task.name].append(labels.label[labels.present].double().numpy())

    def calibrations(self) -> dict[str, Calibration]:
        """Return by task its best calibration; a task without a row has none, nor one whose numbers are all one."""
        return {task.name: self._fit(task) for task in self._known()}

    def losses(self) -> dict[str, float]:
        """Return by task the mean loss that its best calibration leaves: cross-entropy in nats, of a number squares."""
        found = self.calibrations()
        return {task.name: self._loss(task, found[task.name]) for task in self.tasks if task.name in found}

    def constants(self) -> dict[str, float]:
        """Return by task with an offset what its best constant costs on these rows: the labels' entropy or variance.

        Calibration knows their rate or mean, so the constant that it is held against must too: of CLINC150's training
        texts 1 of 151 is out of scope, of its validation texts 1 of 31.
        """
        found = {}
        for task in self._known():
            if task.kind in ("binary", "regression"):
                labels = np.concatenate(self._labels[task.name])
                rate = labels.mean()
                found[task.name] = float(labels.var() if task.kind == "regression" else entr(rate) + entr(1 - rate))
        return found

    def _known(self) -> list[EncoderTask]:
        found = [task for task in self.tasks if task.name in self._labels]
        return [task for task in found if task.kind != "regression" or np.concatenate(self._labels[task.name]).std()]

    def _fit(self, task: EncoderTask) -> Calibration:
        values, labels = self._rows(task.name)
        if task.kind == "regression":
            return fit_line(values, labels)
        return fit(values, labels.astype(np.int64), offset=task.kind == "binary")

    def _loss(self, task: EncoderTask, calibration: Calibration) -> float:
        values, labels = self._rows(task.name)
        if task.kind == "regression":
            return float(np.square(values * calibration.factor + calibration.offset - labels).mean())
        return cross_entropy(values, labels.astype(np.int64), calibration)

    def _rows(self, name: str) -> tuple[Float64, Float64]:
        return np.concatenate(self._logits[name]), np.concatenate(self._labels[name])


def calibrated_tasks(tasks: Sequence[EncoderTask]) -> tuple[EncoderTask, ...]:
    """Return those whose heads are calibrated: of classes, numbers, and yes or no on texts without parent or child."""
    unlinked = {task.name for task in unlinked_answers(tasks) if task.on == "text"}
    return tuple(task for task in tasks if task.kind in ("multiclass", "regression") or task.name in unlinked)


def unlinked_answers(tasks: Sequence[EncoderTask]) -> tuple[EncoderTask, ...]:
    """Return the yes-or-no tasks without parent or child: no product of probabilities holds theirs."""
    parents = {task.parent for task in tasks}
    return tuple(task for task in tasks if task.kind == "binary" and task.parent is None and task.name not in parents)


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


def fit_line(values: Float64, labels: Float64) -> Calibration:
    """Return the factor and offset with which numbers predict the labels best, by squares.

    One row more that agrees with them as they are, one standard deviation from the mean, keeps a few rows from turning
    them about.

    Args:
        values: float64 `[n]`, n above 0.
        labels: float64 `[n]`, not all equal.
    """
    centred, spread = values - values.mean(), labels.var()
    slope = (centred @ labels + spread) / (centred @ centred + spread)
    factor = float(np.clip(slope, math.exp(-_LIMIT), math.exp(_LIMIT)))
    n = len(labels)
    return Calibration(factor=factor, offset=float(labels.mean() - factor * values.mean()) * n / (n + 1))


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
        assert isinstance(head, RowHead | PairHead)
        head.scale.mul_(found.factor)
        # The head's scale multiplies its bias too.
        head.bias.add_(found.offset / head.scale)
    for task in model.tasks:
        for place, name in enumerate(task.energy):
            reader = model.heads[task.name]
            assert isinstance(reader, RowHead)
            reader.sharpness[place] /= calibrations.get(name, Calibration()).factor
