"""Each task's held-out quality by scorer, with intervals over users: a user's rows are drawn together or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from features.schema import Int32
from flows.report import AblationRow, BesideRow, Figure, ReliabilityBin, TaskScores
from retrieval.evaluate import auc, calibration_error, log_loss

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

# 200 resamples give interval ends a standard error of 7% of the half width.
_RESAMPLES: Final = 200
_AUC_NEGATIVES: Final = 100_000
_BINS: Final = 10
_CLIP: Final = 1e-7


def task_scores(task: str, scorer: str, labels: Float64, probabilities: Float64, users: Int32) -> TaskScores | None:
    """Return one scorer's figures on one task; None where no row carries a label.

    Args:
        task: its name.
        scorer: its name.
        labels: float64 `[m]`, NaN for rows without a label.
        probabilities: float64 `[m]` in [0, 1]; a row where it is NaN is left out.
        users: int32 `[m]`, whom each row belongs to.
    """
    kept = ~np.isnan(labels) & ~np.isnan(probabilities)
    if not kept.any():
        return None
    truth, found, rows = labels[kept] > 0, probabilities[kept], users[kept]
    draws = _Draws(rows)
    losses = _losses(truth, found)
    n = len(truth)
    both = 0 < truth.sum() < n
    return TaskScores(
        task=task,
        scorer=scorer,
        auc=_figure(auc(truth, found.astype(np.float32)), _auc_draws(truth, found, draws), n) if both else None,
        log_loss=_figure(log_loss(truth, found.astype(np.float32)), draws.ratio(losses), n),
        calibration=_figure(float(found.mean() / truth.mean()), draws.ratio(found, truth), n) if both else None,
        ece=Figure(value=calibration_error(truth, found.astype(np.float32)), n=n),
        n=n,
        positives=int(truth.sum()),
        reliability=reliability(truth, found),
    )


def beside_rows(
    task: str, labels: Float64, candidate: Float64, current: Float64, users: Int32
) -> tuple[BesideRow, ...]:
    """Return one task's AUC and log loss by two releases on the same rows, with paired intervals over users.

    Args:
        task: its name.
        labels: float64 `[m]`, NaN for rows without a label.
        candidate: float64 `[m]` probabilities of one release; a row where either is NaN is left out.
        current: of the other.
        users: int32 `[m]`, whom each row belongs to.
    """
    kept = ~(np.isnan(labels) | np.isnan(candidate) | np.isnan(current))
    if not kept.any():
        return ()
    truth, draws, n = labels[kept] > 0, _Draws(users[kept]), int(kept.sum())
    both = 0 < truth.sum() < n
    sides = [(found, _losses(truth, found)) for found in (candidate[kept], current[kept])]
    values = {"log_loss": [(float(losses.mean()), draws.ratio(losses)) for _, losses in sides]}
    if both:
        values["auc"] = [(auc(truth, found.astype(np.float32)), _auc_draws(truth, found, draws)) for found, _ in sides]
    return tuple(
        BesideRow(
            metric=metric,
            task=task,
            candidate=_figure(*first, n),
            current=_figure(*second, n),
            difference=_figure(first[0] - second[0], first[1] - second[1], n),
        )
        for metric, (first, second) in values.items()
    )


def ablation_rows(
    task: str, labels: Float64, users: Int32, probabilities: Mapping[str, Float64], families: tuple[str, ...]
) -> list[AblationRow]:
    """Return what each family of signals is worth to one task's blend, in log loss.

    Args:
        task: its name.
        labels: float64 `[m]`, NaN for rows without one.
        users: int32 `[m]`.
        probabilities: `full`, and for each family its name (alone) and `without_<name>`, float64 `[m]`.
        families: their names.
    """
    kept = ~np.isnan(labels)
    truth, n = labels[kept] > 0, int(kept.sum())
    draws = _Draws(users[kept])
    losses = {name: _losses(truth, found[kept]) for name, found in probabilities.items()}
    full = losses["full"]

    def figure(values: Float64) -> Figure:
        return _figure(float(values.mean()), draws.ratio(values), n)

    return [
        AblationRow(
            task=task,
            family=family,
            alone=figure(losses[family]) if family in losses else None,
            without=figure(losses[f"without_{family}"]) if f"without_{family}" in losses else None,
            full=figure(full),
            worth=figure(losses[f"without_{family}"] - full) if f"without_{family}" in losses else None,
        )
        for family in families
    ]


def reliability(labels: Bool, probabilities: Float64) -> tuple[ReliabilityBin, ...]:
    """Return bins of equal count by rising prediction."""
    parts = np.array_split(np.argsort(probabilities, kind="stable"), min(_BINS, len(labels)))
    return tuple(
        ReliabilityBin(predicted=float(probabilities[part].mean()), observed=float(labels[part].mean()), n=len(part))
        for part in parts
    )


class _Draws:
    """Bootstrap resamples of users as counts: float64 `[resamples, users]` weights for the rows of each user."""

    def __init__(self, owners: Int32) -> None:
        users, self.owner = np.unique(owners, return_inverse=True)
        rng = np.random.default_rng(0)
        picks = rng.integers(0, len(users), (_RESAMPLES, len(users)))
        self.counts = np.stack([np.bincount(row, minlength=len(users)) for row in picks]).astype(np.float64)

    def ratio(self, numerator: Float64, denominator: Float64 | Bool | None = None) -> Float64:
        """Return float64 `[resamples]`: sum of the numerator over that of the denominator (rows, by default)."""
        users = self.counts.shape[1]
        over = np.bincount(self.owner, denominator, users)
        return (self.counts @ np.bincount(self.owner, numerator, users)) / np.maximum(self.counts @ over, 1e-12)


def _auc_draws(labels: Bool, scores: Float64, draws: _Draws) -> Float64:
    """Return float64 `[resamples]`: the AUC of each resample, by one sort and a weighted running sum of negatives.

    At most 100,000 random negatives take part: they move an AUC by a few 1e-4, users move it by far more, and a million
    rows cost ten seconds a scorer.
    """
    rows = np.flatnonzero(labels)
    negatives = np.flatnonzero(~labels)
    if len(negatives) > _AUC_NEGATIVES:
        negatives = np.random.default_rng(0).choice(negatives, _AUC_NEGATIVES, replace=False)
    rows = np.concatenate([rows, negatives])
    order = rows[np.argsort(scores[rows], kind="stable")]
    owner, positive = draws.owner[order], labels[order]
    found = np.empty(len(draws.counts))
    for row, counts in enumerate(draws.counts):
        weight = counts[owner]
        below = np.cumsum(np.where(positive, 0.0, weight))
        of_positives = weight[positive]
        total = of_positives.sum() * below[-1]
        found[row] = (of_positives @ below[positive]) / total if total > 0 else np.nan
    return found[~np.isnan(found)]


def _losses(labels: Bool, probabilities: Float64) -> Float64:
    p = np.clip(probabilities, _CLIP, 1 - _CLIP)
    return np.where(labels, -np.log(p), -np.log1p(-p))


def _figure(value: float, draws: Float64, n: int) -> Figure:
    if not len(draws):
        return Figure(value=value, n=n)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Figure(value=value, low=min(float(low), value), high=max(float(high), value), n=n)
