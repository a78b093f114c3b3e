"""The multi-task blend: per task one logistic model over the standardised signals of all tasks and all families.

Three families speak: the encoder (cosine and head logits), collaborative filtering (factorisation, neighbours) and the
gradient-boosted trees (raw scores of every task and of LambdaRank). The model is linear in the logit, so what each
family contributes to an item's score is exact, not an estimate.

Weights are not clipped to be positive. The signals are strongly correlated (the trees read the encoder's logits and the
collaborative scores as features), and a negative weight then takes back what another signal counts twice; clipping
would cost log loss. The L2 penalty on standardised weights keeps the solution unique and small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from scipy.optimize import minimize
from scipy.special import expit

from features.schema import Float32
from infra.errors import InvalidInputError
from infra.files import write_atomic
from ranking.signals import ALS, KNN, SEQUENCE, Signals

Float64 = npt.NDArray[np.float64]

ENCODER: Final = "encoder"
COLLABORATIVE: Final = "collaborative"
GBDT: Final = "gbdt"
FAMILIES: Final = (ENCODER, COLLABORATIVE, GBDT)
LOG: Final = "_log"
FRESH: Final = "@fresh"


class BlendError(InvalidInputError):
    """Rows that no blend can be fitted on, or inputs whose columns aren't the fitted ones."""


class BlendConfig(BaseModel):
    """How the blend is fitted.

    Attributes:
        l2: penalty on half the squared standardised weights, against the mean loss a row.
        iterations: most Newton steps.
        negatives: most negative rows to fit on, drawn at random and weighted up to all of them: twenty weights need no
            more, and a million rows took 36 s a task.
        seed: of that draw.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    l2: float = Field(default=1e-5, ge=0)
    iterations: int = Field(default=100, ge=1)
    negatives: int = Field(default=150_000, ge=1)
    seed: int = 0


@dataclass(frozen=True)
class BlendInputs:
    """The blend's columns for n candidates.

    Attributes:
        names: `family/signal`, such as `encoder/cosine` and `gbdt/purchase`.
        columns: float32 `[n, len(names)]`; NaN where a signal is missing.
    """

    names: tuple[str, ...]
    columns: Float32


def blend_inputs(
    signals: Signals,
    raw_scores: Mapping[str, npt.NDArray[np.floating]],
    fresh: npt.NDArray[np.bool_] | None = None,
) -> BlendInputs:
    """Return the blend's columns from signals and trees; one function for fitting and serving.

    Args:
        signals: encoder and collaborative columns. The collaborative scores come a second time as log(1 + score), since
            BM25 sums have a long tail.
        raw_scores: model name (a task, or `rank`) -> `[n]`, NaN where the task doesn't apply; in the order of its keys.
        fresh: bool `[n]`, pairs of an item that the user never bought. Every column then comes a second time, missing
            elsewhere, so that they get weights of their own: with shared ones, fitted mostly on repeated purchases, the
            order of never-bought items fell from NDCG@10 .052 (the trees alone) to .043.
    """
    logs = [name for name in signals.names if name in (ALS, KNN)]
    names = (
        *(f"{COLLABORATIVE if name in (ALS, KNN, SEQUENCE) else ENCODER}/{name}" for name in signals.names),
        *(f"{COLLABORATIVE}/{name}{LOG}" for name in logs),
        *(f"{GBDT}/{name}" for name in raw_scores),
    )
    n, width = signals.columns.shape
    columns = np.empty((n, len(names)), np.float32)
    columns[:, :width] = signals.columns
    for column, name in enumerate(logs, start=width):
        columns[:, column] = np.log1p(np.maximum(signals.column(name), 0))
    for column, raw in enumerate(raw_scores.values(), start=width + len(logs)):
        columns[:, column] = raw
    if fresh is None:
        return BlendInputs(names, columns)
    own = np.where(fresh[:, None], columns, np.float32(np.nan))
    return BlendInputs((*names, *(name + FRESH for name in names)), np.hstack([columns, own]))


def user_blend_inputs(
    names: Sequence[str], logits: Float32, raw_scores: Mapping[str, npt.NDArray[np.floating]]
) -> BlendInputs:
    """Return the blend's columns of a task on users: the user heads' logits, then the trees' raw scores.

    Args:
        names: of the heads' signals.
        logits: float32 `[n, len(names)]`.
        raw_scores: model name -> `[n]`.
    """
    columns = np.column_stack([logits, *raw_scores.values()]).astype(np.float32)
    return BlendInputs((*(f"{ENCODER}/{name}" for name in names), *(f"{GBDT}/{name}" for name in raw_scores)), columns)


@dataclass(frozen=True)
class TaskBlend:
    """One task's logistic model.

    Attributes:
        names: inputs, `family/signal`.
        mean: of each input over the fitted rows that have it.
        scale: standard deviation likewise, 1 for a constant input.
        weights: of the standardised inputs; a missing one counts as its mean, 0.
        missing: added where an input is missing; 0 for inputs that never were.
        bias: intercept.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    missing: tuple[float, ...]
    bias: float

    @property
    def slopes(self) -> Float64:
        """What one unit of each input adds to the logit, float64 `[len(names)]`."""
        return self._fitted.slope

    def terms(self, inputs: BlendInputs) -> Float64:
        """Return each input's part of the logit, float64 `[n, len(names)]`; with the bias their sum is the logit.

        Raises:
            BlendError: an input that the model was fitted on is absent.
        """
        columns = _select(inputs, self.names)
        fitted = self._fitted
        terms: Float64 = np.where(np.isnan(columns), fitted.missing, (columns - fitted.mean) * fitted.slope)
        return terms

    def logits(self, inputs: BlendInputs) -> Float64:
        """Return the logit, float64 `[n]`: the families' terms added in a fixed order.

        Raises:
            BlendError: an input that the model was fitted on is absent.
        """
        # Terms are summed along the row, not by a matrix product: BLAS rounds by the number of rows, and an item's
        # score must not depend on how many items were asked with it.
        terms = self.terms(inputs)
        encoder, collaborative, gbdt = (terms[:, self._fitted.families[family]].sum(axis=1) for family in FAMILIES)
        return np.asarray(encoder + collaborative + gbdt + self.bias, np.float64)

    @cached_property
    def _fitted(self) -> _Fitted:
        """The numbers as arrays, converted once: a request's rows are few, and twenty conversions took as long."""
        owners = [name.split("/")[0] for name in self.names]
        return _Fitted(
            mean=np.array(self.mean),
            slope=np.array(self.weights) / np.array(self.scale),
            missing=np.array(self.missing),
            families={
                family: np.array([column for column, owner in enumerate(owners) if owner == family], np.intp)
                for family in FAMILIES
            },
        )


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A model's numbers: float64 `[p]` each, and each family's columns."""

    mean: Float64
    slope: Float64
    missing: Float64
    families: Mapping[str, npt.NDArray[np.intp]]


_SAVED: Final = TypeAdapter(dict[str, TaskBlend])


@dataclass(frozen=True)
class MultiTaskBlend:
    """Every task's model, by task name."""

    tasks: Mapping[str, TaskBlend]

    def save(self, path: Path) -> None:
        """Write the models as JSON, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({task: asdict(one) for task, one in self.tasks.items()}, indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> MultiTaskBlend:
        """Read what `save` wrote; floats come back bit for bit."""
        return cls(_SAVED.validate_json(path.read_bytes()))


def fit_task_blend(
    inputs: BlendInputs,
    labels: Float64,
    weights: Float64,
    config: BlendConfig,
    *,
    families: Sequence[str] = FAMILIES,
) -> TaskBlend:
    """Fit one task's logistic model.

    Args:
        inputs: columns of m rows.
        labels: 0 and 1, `[m]`.
        weights: positive, `[m]`; 1 / rate for sampled rows.
        config: penalty and iterations.
        families: which families may speak: a subset gives the ablation, under the same penalty and rows.

    Raises:
        BlendError: labels of one class.
    """
    positives = int((labels > 0).sum())
    if positives in (0, len(labels)):
        raise BlendError(f"blend: expected labels of both classes, found {positives} positives of {len(labels)}")
    names = tuple(name for name in inputs.names if name.split("/")[0] in families)
    columns = _select(inputs, names)
    absent = np.isnan(columns)
    mean, scale = _moments(columns, absent, weights)
    standard = np.where(absent, 0.0, (columns - mean) / scale)
    indicated = np.flatnonzero(absent.any(axis=0))
    design = np.hstack([standard, absent[:, indicated].astype(np.float64), np.ones((len(labels), 1))])
    rate = float(weights @ labels / weights.sum())
    start = np.zeros(design.shape[1])
    start[-1] = np.log(rate / (1 - rate))
    shares = weights / weights.sum()
    # Newton steps: the signals are so correlated that L-BFGS needs hundreds of passes over the rows, this about ten.
    found = minimize(
        penalised_loss, start, (design, labels, shares, config.l2), jac=True, hess=curvature, method="trust-exact",
        options={"maxiter": config.iterations, "gtol": 1e-7},
    ).x  # fmt: skip
    missing = np.zeros(len(names))
    missing[indicated] = found[len(names) : -1]
    return TaskBlend(
        names=names,
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple(found[: len(names)].tolist()),
        missing=tuple(missing.tolist()),
        bias=float(found[-1]),
    )


def penalised_loss(
    parameters: Float64, design: Float64, labels: Float64, weights: Float64, l2: float
) -> tuple[float, Float64]:
    """Return the weighted mean log loss plus l2/2 |w|² (the last parameter, the bias, free), and its gradient.

    Args:
        parameters: float64 `[p]`.
        design: float64 `[m, p]`, the last column ones.
        labels: `[m]`.
        weights: `[m]`, summing to one.
        l2: penalty.
    """
    z = design @ parameters
    free = parameters.copy()
    free[-1] = 0.0
    value = float(weights @ (np.logaddexp(0, z) - labels * z)) + l2 / 2 * float(free @ free)
    gradient = design.T @ (weights * (expit(z) - labels)) + l2 * free
    return value, gradient


def curvature(parameters: Float64, design: Float64, labels: Float64, weights: Float64, l2: float) -> Float64:  # noqa: ARG001 - scipy passes the loss's arguments
    """Return the Hessian of `penalised_loss`, float64 `[p, p]`; arguments as there."""
    p = expit(design @ parameters)
    hessian = (design * (weights * p * (1 - p))[:, None]).T @ design
    hessian[np.diag_indices(len(parameters) - 1)] += l2
    return np.asarray(hessian, np.float64)


def _select(inputs: BlendInputs, names: Sequence[str]) -> Float64:
    """Return the named columns, float64 `[n, len(names)]`."""
    if tuple(names) == inputs.names:
        return inputs.columns.astype(np.float64)
    place = {name: column for column, name in enumerate(inputs.names)}
    absent = [name for name in names if name not in place]
    if absent:
        raise BlendError(f"blend: expected inputs {absent}, found {list(inputs.names)}")
    return inputs.columns[:, [place[name] for name in names]].astype(np.float64)


def _moments(columns: Float64, absent: npt.NDArray[np.bool_], weights: Float64) -> tuple[Float64, Float64]:
    """Return the weighted mean and standard deviation over present values, float64 `[p]` each; 0 and 1 for none."""
    present = np.where(absent, 0.0, weights[:, None])
    total = np.maximum(present.sum(axis=0), np.finfo(float).tiny)
    filled = np.where(absent, 0.0, columns)
    mean = (present * filled).sum(axis=0) / total
    deviation = np.sqrt((present * (filled - mean) ** 2).sum(axis=0) / total)
    return mean, np.where(deviation > 0, deviation, 1.0)
