"""Calibration: blend logits to probabilities, by a strictly increasing curve so that calibrating never makes ties.

Few positives: Platt's two parameters. 1,000 positives or more: isotonic regression (pool adjacent violators),
with linear interpolation between block centres in logit space and the blend's own slope beyond the ends. A plain
step function would tie every item of a block, and the best items of every list lie in the last block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from scipy.optimize import minimize
from scipy.special import expit, logit

from infra.errors import InvalidInputError
from infra.files import write_atomic

Float64 = npt.NDArray[np.float64]

# The least slope between knots: keeps the curve strictly increasing where isotonic regression pools.
_LEAST_SLOPE: Final = 1e-3


class CalibrationError(InvalidInputError):
    """Labels that no calibration can be fitted on, or a file that holds none."""


class CalibrationConfig(BaseModel):
    """When the isotonic curve is trusted.

    Attributes:
        isotonic_positives: least positives for the isotonic curve; fewer get Platt's line, moved to the rate of
            positives of all the ranker's windows (`rate_shift`).
        block: least total weight of an isotonic block; smaller ones are pooled with a neighbour.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    isotonic_positives: int = Field(default=1000, ge=1)
    block: float = Field(default=50.0, gt=0)


@dataclass(frozen=True)
class Calibrator:
    """A strictly increasing piecewise linear map of logits.

    Attributes:
        method: how it was fitted.
        x: knots, blend logits, strictly ascending, at least one.
        y: calibrated logits at the knots, strictly ascending.
        slope: slope beyond both ends, positive.
    """

    method: Literal["identity", "platt", "isotonic"]
    x: tuple[float, ...]
    y: tuple[float, ...]
    slope: float

    def logits(self, raw: Float64) -> Float64:
        """Return calibrated logits, float64 `[n]`."""
        x, y = np.asarray(self.x), np.asarray(self.y)
        beyond = np.minimum(raw - x[0], 0) + np.maximum(raw - x[-1], 0)
        return np.asarray(np.interp(raw, x, y) + self.slope * beyond, np.float64)

    def probabilities(self, raw: Float64) -> Float64:
        """Return calibrated probabilities, float64 `[n]` in (0, 1)."""
        return np.asarray(expit(self.logits(raw)), np.float64)

    def shifted(self, by: float) -> Calibrator:
        """Return the curve with every calibrated logit moved by `by`."""
        return replace(self, y=tuple(y + by for y in self.y))


_SAVED: Final = TypeAdapter(dict[str, Calibrator])
IDENTITY: Final = Calibrator("identity", (0.0,), (0.0,), 1.0)


def fit_calibrator(raw: Float64, labels: Float64, weights: Float64, config: CalibrationConfig) -> Calibrator:
    """Fit a calibrator of one task.

    Args:
        raw: blend logits, float64 `[m]`.
        labels: 0 and 1, `[m]`.
        weights: positive, `[m]`.
        config: when to use which method.

    Raises:
        CalibrationError: the labels hold a single class.
    """
    positives = int((labels > 0).sum())
    if positives in (0, len(labels)):
        raise CalibrationError(f"expected labels of both classes, found {positives} positives of {len(labels)}")
    if positives < config.isotonic_positives:
        return fit_platt(raw, labels, weights)
    return fit_isotonic(raw, labels, weights, config.block)


def rate_shift(rate: float, positives: Sequence[float], rows: Sequence[float]) -> float:
    """Return the logit from one window's rate of positives to that of several windows together.

    A rare label's rate is a window's own: The Complete Journey's coupon responses run from .3 to 1.7 in a thousand rows
    with the campaigns of the month, so the newest window's rate foretells the next one worse than the pooled one does
    (mean absolute log ratio over the four windows before the report's .89 against .63).

    Args:
        rate: of the window that the curve was fitted on, in (0, 1).
        positives: of each window, that one included.
        rows: of each window, likewise.
    """
    pooled = sum(positives) / sum(rows)
    return float(logit(pooled) - logit(rate))


def fit_platt(raw: Float64, labels: Float64, weights: Float64) -> Calibrator:
    """Fit sigmoid(a * raw + b) by weighted likelihood, a = exp(alpha) > 0 (Platt 1999, with his smoothed targets).

    A positive counts as (P + 1) / (P + 2), a negative as 1 / (N + 2), so that separable labels say never and always
    only as far as their number lets them.
    """
    positive, negative = float(weights @ (labels > 0)), float(weights @ (labels <= 0))
    targets = np.where(labels > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(parameters: Float64) -> tuple[float, Float64]:
        slope = np.exp(parameters[0])
        z = slope * raw + parameters[1]
        residual = weights * (expit(z) - targets)
        value = float(weights @ (np.logaddexp(0, z) - targets * z))
        total = weights.sum()
        return value / total, np.array([slope * (residual @ raw), residual.sum()]) / total

    # Bounds: a line that falls, or one that stands upright, is as good as flat or as a step.
    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-5, 3), (-30, 30)]).x
    return Calibrator("platt", (0.0,), (float(found[1]),), float(np.exp(found[0])))


def fit_isotonic(raw: Float64, labels: Float64, weights: Float64, block: float) -> Calibrator:
    """Fit an increasing curve by pooling adjacent violators (Ayer et al. 1955) on bins of at least `block` weight.

    Each bin's rate is shrunk by one row of the mean rate, (positives + mean) / (n + 1), so that no block says never or
    always. Half a positive in place of the mean would floor every rate near 1% where bins hold 50 rows: with a mean
    rate of 3% the predictions then summed to 1.3 times the labels.
    """
    order = np.argsort(raw, kind="stable")
    raw, labels, weights = raw[order], labels[order], weights[order]
    edges = _bins(raw, weights, block)
    total = np.add.reduceat(weights, edges)
    centre = np.add.reduceat(weights * raw, edges) / total
    # Held off 0 and 1, so that labels of one class still give finite logits.
    mean = float(np.clip(weights @ labels / weights.sum(), 1e-4, 1 - 1e-4))
    rate = (np.add.reduceat(weights * labels, edges) + mean) / (total + 1)
    value, start = pool_adjacent_violators(rate, total)
    mass = np.add.reduceat(total, start)
    x = np.add.reduceat(total * centre, start) / mass
    # Pooled centres of distinct blocks ascend strictly and so do their values; the least slope only guards rounding.
    y = np.maximum.accumulate(logit(value) - _LEAST_SLOPE * x) + _LEAST_SLOPE * x
    return Calibrator("isotonic", tuple(map(float, x)), tuple(map(float, y)), 1.0)


def pool_adjacent_violators(values: Float64, weights: Float64) -> tuple[Float64, npt.NDArray[np.intp]]:
    """Return the weighted isotonic regression as blocks: values `[b]`, strictly ascending, and first indices `[b]`."""
    level: list[float] = []
    mass: list[float] = []
    start: list[int] = []
    for index, (value, weight) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        level.append(value)
        mass.append(weight)
        start.append(index)
        while len(level) > 1 and level[-2] >= level[-1]:
            last, heavy = level.pop(), mass.pop()
            start.pop()
            level[-1] = (level[-1] * mass[-1] + last * heavy) / (mass[-1] + heavy)
            mass[-1] += heavy
    return np.array(level), np.array(start, np.intp)


def save(calibrators: Mapping[str, Calibrator], path: Path) -> None:
    """Write the calibrators as JSON, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({task: asdict(one) for task, one in calibrators.items()}, indent=1).encode())


def load(path: Path) -> dict[str, Calibrator]:
    """Read what `save` wrote.

    Raises:
        CalibrationError: a curve that does not strictly ascend.
    """
    found = _SAVED.validate_json(path.read_bytes())
    for task, one in found.items():
        if np.any(np.diff(one.x) <= 0) or np.any(np.diff(one.y) <= 0) or one.slope <= 0:
            raise CalibrationError(f"{path}: expected a strictly increasing curve for task {task!r}, found {one}")
    return found


def _bins(raw: Float64, weights: Float64, block: float) -> npt.NDArray[np.intp]:
    """Return first indices of bins of at least `block` weight (the last may hold less), equal logits kept together."""
    number = np.floor((np.cumsum(weights) - weights) / block).astype(np.int64)
    _, first = np.unique(raw, return_index=True)
    run = np.repeat(number[first], np.diff(first, append=len(raw)))
    return np.flatnonzero(np.diff(run, prepend=-1)).astype(np.intp)
