"""Full-ranking and probability metrics, per user, with intervals over users.

Full ranking means that every eligible item competes; sampled metrics change the order of methods (Krichene and Rendle
2020). Everything here is numpy, so a report can be recomputed without the libraries that made the scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from features.schema import Float32, Int32
from infra.errors import InvalidInputError

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

RESAMPLES: Final = 2_000
# Values held at once while resampling: 4 M doubles and as many indices, 64 MB.
_BLOCK: Final = 4_000_000


class EvaluationError(InvalidInputError):
    """Rankings, labels or predictions don't fit each other."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over users with the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float
    users: int


@dataclass(frozen=True, kw_only=True)
class RankingMetrics:
    """One value per user of each metric at one cut-off k.

    Attributes:
        k: the cut-off.
        ndcg: float64 `[users]`, binary gains; the ideal order puts min(k, relevant) of them first.
        recall: float64 `[users]`, hits in the top k over all relevant items.
        reciprocal_rank: float64 `[users]`, 1 / rank of the first hit within k, else 0.
        coverage: share of the catalogue that is in somebody's top k.
    """

    k: int
    ndcg: Float64
    recall: Float64
    reciprocal_rank: Float64
    coverage: float

    def intervals(self, *, seed: int = 0) -> dict[str, Interval]:
        """Return the interval of each metric over users, keyed `ndcg`, `recall`, `mrr`."""
        named = {"ndcg": self.ndcg, "recall": self.recall, "mrr": self.reciprocal_rank}
        return {name: bootstrap_interval(values, seed=seed) for name, values in named.items()}


def top_k(scores: Float32, k: int, *, rng: np.random.Generator, allowed: Bool | None = None) -> Int32:
    """Return the positions of the k best scores, best first, equal scores in random order.

    Args:
        scores: float `[n]`.
        k: how many; fewer come back when fewer are allowed.
        rng: decides ties. Day-resolution data is full of them, and an order by position would favour old items.
        allowed: bool `[n]`; None allows all.

    Returns:
        int32 `[min(k, allowed)]`.
    """
    members = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
    values = scores[members]
    if 0 < k < len(values):
        # Everything at least as good as the k-th best competes, so that ties at the border are drawn fairly.
        border = np.partition(values, len(values) - k)[len(values) - k]
        keep = values >= border
        members, values = members[keep], values[keep]
    order = np.lexsort((rng.random(len(values)), -values))[:k]
    return members[order].astype(np.int32)


def ranking_metrics(ranked: Sequence[Int32], relevant: Sequence[Int32], *, k: int, catalogue: int) -> RankingMetrics:
    """Score one ranking per user.

    Args:
        ranked: per user, distinct item positions, best first; those after the k-th are not read.
        relevant: per user, distinct item positions; at least one each.
        k: the cut-off.
        catalogue: number of items that compete, for coverage.

    Raises:
        EvaluationError: the lengths differ, or a user has nothing relevant.
    """
    if len(ranked) != len(relevant):
        raise EvaluationError(f"metrics: expected one ranking per user, found {len(ranked)} for {len(relevant)} users")
    counts = np.array([len(items) for items in relevant], np.int64)
    if not counts.all():
        raise EvaluationError(f"metrics: {np.count_nonzero(counts == 0)} users have no relevant item; leave them out")
    hits = np.zeros((len(ranked), k), bool)
    for row, (order, truth) in enumerate(zip(ranked, relevant, strict=True)):
        top = order[:k]
        hits[row, : len(top)] = np.isin(top, truth)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(k, counts) - 1]
    first = np.where(hits.any(axis=1), hits.argmax(axis=1), np.inf)
    shown = np.unique(np.concatenate([order[:k] for order in ranked])) if len(ranked) else np.empty(0)
    return RankingMetrics(
        k=k,
        ndcg=hits @ discounts / ideal,
        recall=hits.sum(axis=1) / counts,
        reciprocal_rank=1 / (first + 1),
        coverage=len(shown) / catalogue,
    )


def bootstrap_interval(values: Float64, *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95) -> Interval:
    """Return the mean of `values` (float64 `[users]`) and its percentile bootstrap interval.

    Raises:
        EvaluationError: there are no users.
    """
    if not len(values):
        raise EvaluationError("bootstrap: expected at least one user, found none")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            values[rng.integers(0, len(values), (rows, len(values)))].mean(axis=1)
            for rows in _blocks(resamples, len(values))
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high), users=len(values))


def paired_difference(
    first: Float64, second: Float64, *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> Interval:
    """Return the interval of mean(first - second); both float64 `[users]`, in the same order of users.

    Raises:
        EvaluationError: the lengths differ or are zero.
    """
    if first.shape != second.shape:
        raise EvaluationError(f"paired difference: expected equal shapes, found {first.shape} and {second.shape}")
    return bootstrap_interval(first - second, seed=seed, resamples=resamples, level=level)


def auc(labels: Bool, scores: Float32) -> float:
    """Return the area under the ROC curve (Mann-Whitney, ties count half); NaN when a class is absent.

    Args:
        labels: bool `[n]`.
        scores: float `[n]`, any scale.
    """
    positives = int(np.count_nonzero(labels))
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(labels: Bool, probabilities: Float32) -> float:
    """Return the mean negative log likelihood in nats; probabilities are held 1e-7 away from 0 and 1.

    Args:
        labels: bool `[n]`.
        probabilities: float `[n]` in [0, 1].

    Raises:
        EvaluationError: a probability lies outside [0, 1] or is not finite.
    """
    _check_probabilities(probabilities)
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels, np.log(p), np.log1p(-p))))


def calibration_error(labels: Bool, probabilities: Float32, *, bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal count (Nguyen and O'Connor 2015).

    Equal counts, because most pair probabilities lie near zero and equal widths would put them in one bin.

    Args:
        labels: bool `[n]`.
        probabilities: float `[n]` in [0, 1].
        bins: number of bins; no more than there are rows.

    Raises:
        EvaluationError: a probability lies outside [0, 1] or is not finite.
    """
    _check_probabilities(probabilities)
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, min(bins, max(1, len(order))))
    gaps = [abs(labels[part].mean() - probabilities[part].mean()) * len(part) for part in parts if len(part)]
    return float(sum(gaps) / max(1, len(order)))


def binary_metrics(labels: Bool, probabilities: Float32) -> Mapping[str, float]:
    """Return `auc`, `log_loss`, `ece`, and `ratio`: mean prediction over mean label (1 is calibrated in the large)."""
    rate = float(np.mean(labels))
    return {
        "auc": auc(labels, probabilities),
        "log_loss": log_loss(labels, probabilities),
        "ece": calibration_error(labels, probabilities),
        "ratio": float(np.mean(probabilities)) / rate if rate else float("nan"),
    }


def _check_probabilities(probabilities: Float32) -> None:
    wrong = ~((probabilities >= 0) & (probabilities <= 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise EvaluationError(f"expected probabilities in [0, 1], found {probabilities[row]} at row {row}")


def _blocks(resamples: int, users: int) -> Iterator[int]:
    """Yield numbers of resamples that add up, each small enough to hold in memory."""
    rows = max(1, _BLOCK // users)
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)
