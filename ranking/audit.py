"""Metrics by group of users or items, with intervals over users, and how far apart the groups lie.

fairlearn's MetricFrame gives the same values by group; but its bootstrap draws rows, of which a user has hundreds that
stand or fall together, and its largest difference has a percentile interval, which never includes 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from features.schema import Int32
from retrieval.evaluate import auc

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

# Interval ends then have a standard error of 7% of the half width.
RESAMPLES: Final = 200
# Random negatives that take part in the resampled AUCs, as in a report's tasks: users move an AUC by far more.
_NEGATIVES: Final = 100_000
_LEVEL: Final = 0.95
# Share of the resamples in which a metric must be defined (an AUC needs both classes) to have an interval.
_DEFINED: Final = 0.9
_CLIP: Final = 1e-7


@dataclass(frozen=True, kw_only=True, eq=False)
class ByGroup:
    """One metric of every group.

    Attributes:
        values: float64 `[groups]`; NaN where it is undefined.
        draws: float64 `[resamples, groups]`: the same of each resample, which all groups share.
    """

    values: Float64
    draws: Float64

    def interval(self, group: int) -> tuple[float, float] | None:
        """Return the ends of a group's percentile interval; None where too few resamples define the metric."""
        draws = self.draws[:, group]
        known = draws[~np.isnan(draws)]
        if np.isnan(self.values[group]) or len(known) < _DEFINED * len(draws):
            return None
        low, high = np.quantile(known, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        return min(float(low), float(self.values[group])), max(float(high), float(self.values[group]))


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The largest difference between two groups.

    Attributes:
        highest: the group with the largest value.
        lowest: that with the smallest.
        value: their difference.
        low: of its interval, at least 0.
        high: of its interval.
    """

    highest: int
    lowest: int
    value: float
    low: float
    high: float


def gap(found: ByGroup, counted: Bool) -> Gap | None:
    """Return the largest difference between counted groups, with an interval that holds whichever groups it is of.

    The largest of many noisy differences lies above zero where no group differs, and so do its resamples. Its interval
    is therefore that of all pairs at once: with c the 95% quantile, over paired resamples, of the largest studentised
    deviation of any pair's difference (Romano and Wolf, 2005), every pair lies within c standard errors of what was
    observed; the largest difference then lies between the highest lower and the highest upper end.

    Where no resample differs from another (a rate of 0 in every group) the interval has no width, and shows nothing.

    Args:
        found: the metric.
        counted: bool `[groups]`; the others are left out.

    Returns:
        None where fewer than two counted groups have a defined metric.
    """
    defined = ~np.isnan(found.values) & ((~np.isnan(found.draws)).mean(axis=0) >= _DEFINED)
    groups = np.flatnonzero(counted & defined)
    if len(groups) < 2:
        return None
    first, second = np.triu_indices(len(groups), 1)
    values, draws = found.values[groups], found.draws[:, groups]
    observed = values[first] - values[second]
    deviations = draws[:, first] - draws[:, second] - observed
    errors = np.nanstd(deviations, axis=0)
    studentised = np.abs(deviations) / np.where(errors > 0, errors, 1.0)
    width = np.quantile(np.nan_to_num(studentised).max(axis=1), _LEVEL) * errors
    sizes = np.abs(observed)
    return Gap(
        highest=int(groups[values.argmax()]),
        lowest=int(groups[values.argmin()]),
        value=float(sizes.max()),
        low=max(0.0, float((sizes - width).max())),
        high=float((sizes + width).max()),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedRows:
    """Rows of users in groups, and the resamples of the users.

    Attributes:
        owner: `[m]`: whose row each is, as a number from 0.
        group: int32 `[users]` each user's group.
        groups: how many there are.
        counts: float64 `[resamples, users]`: how often a resample holds each user.
    """

    owner: npt.NDArray[np.intp]
    group: Int32
    groups: int
    counts: Float64

    @classmethod
    def of(cls, users: Int32, codes: Int32, groups: int, *, seed: int = 0) -> Self:
        """Return the rows of users.

        Args:
            users: int32 `[m]` the position of each row's user.
            codes: int32 `[n_users]` each position's group, from 0 to `groups` - 1.
            groups: how many there are.
            seed: of the resamples.
        """
        present, owner = np.unique(users, return_inverse=True)
        n = len(present)
        counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float64)
        return cls(owner=owner, group=codes[present], groups=groups, counts=counts)

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """Users of each group, `[groups]`."""
        return np.bincount(self.group, minlength=self.groups)

    def ratio(self, numerator: Float64 | Bool, denominator: Float64 | Bool | None = None) -> ByGroup:
        """Return the sum of the numerator over that of the denominator (rows, by default), both `[m]`."""
        above, below = self._sums(numerator), self._sums(denominator)
        return ByGroup(
            values=_over(above.sum(axis=0), below.sum(axis=0)),
            draws=_over(self.counts @ above, self.counts @ below),
        )

    def log_loss(self, labels: Bool, probabilities: Float64) -> ByGroup:
        """Return the mean negative log likelihood in nats; labels bool and probabilities float64 `[m]`."""
        p = np.clip(probabilities, _CLIP, 1 - _CLIP)
        return self.ratio(np.where(labels, -np.log(p), -np.log1p(-p)))

    def auc(self, labels: Bool, scores: Float64) -> ByGroup:
        """Return the area under the ROC curve among a group's rows, ties counting half; `[m]` each."""
        group = self.group[self.owner]
        own = [group == code for code in range(self.groups)]
        values = np.array([auc(labels[rows], scores[rows].astype(np.float32)) for rows in own])
        return ByGroup(values=values, draws=self._auc_draws(labels, scores.astype(np.float32), group))

    def _sums(self, values: Float64 | Bool | None) -> Float64:
        """Return each user's sum in the column of her group, float64 `[users, groups]`."""
        sums = np.zeros((len(self.group), self.groups))
        sums[np.arange(len(self.group)), self.group] = _totals(self.owner, values, len(self.group))
        return sums

    def _auc_draws(self, labels: Bool, scores: npt.NDArray[np.float32], group: Int32) -> Float64:
        """Return float64 `[resamples, groups]` by one sort and a weighted running sum of negatives."""
        negatives = np.flatnonzero(~labels)
        if len(negatives) > _NEGATIVES:
            negatives = np.random.default_rng(0).choice(negatives, _NEGATIVES, replace=False)
        positives = np.flatnonzero(labels)
        negatives = negatives[np.lexsort((scores[negatives], group[negatives]))]
        starts = np.searchsorted(group[negatives], np.arange(self.groups + 1))
        below, upto = np.empty(len(positives), np.intp), np.empty(len(positives), np.intp)
        for code in range(self.groups):
            rows, first = group[positives] == code, starts[code]
            ordered, wanted = scores[negatives[first : starts[code + 1]]], scores[positives[rows]]
            below[rows] = first + np.searchsorted(ordered, wanted, "left")
            upto[rows] = first + np.searchsorted(ordered, wanted, "right")
        base, found = starts[group[positives]], np.empty((len(self.counts), self.groups))
        for row, counts in enumerate(self.counts):
            running = np.concatenate([[0.0], np.cumsum(counts[self.owner[negatives]])])
            weight = counts[self.owner[positives]]
            wins = weight * ((running[below] + running[upto]) / 2 - running[base])
            pairs = _totals(group[positives], weight, self.groups) * np.diff(running[starts])
            found[row] = _over(_totals(group[positives], wins, self.groups), pairs)
        return found


def mean_by_group(shares: Float64, *, seed: int = 0) -> ByGroup:
    """Return the mean over users of what each gives every group, float64 `[users, groups]`."""
    n = len(shares)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return ByGroup(values=shares.mean(axis=0), draws=counts @ shares / n)


def exposure_shares(lists: Sequence[Int32], codes: Int32, groups: int, *, k: int) -> Float64:
    """Return the share of each list's exposure that every group has, float64 `[lists, groups]`.

    A place's exposure is NDCG's discount, 1 / log2(rank + 1) (Singh and Joachims, 2018).

    Args:
        lists: item positions, best first; those after the k-th are not read, and there is at least one.
        codes: int32 `[n_items]` each item's group, from 0.
        groups: how many there are.
        k: places that are seen.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    return np.stack([_shares(codes[items[:k]], discounts[: len(items)], groups) for items in lists])


def relevant_shares(relevant: Sequence[Int32], codes: Int32, groups: int) -> Float64:
    """Return the share of each user's relevant items that every group has; arguments as of `exposure_shares`."""
    return np.stack([_shares(codes[items], np.ones(len(items)), groups) for items in relevant])


def _shares(codes: Int32, weights: Float64, groups: int) -> Float64:
    return _totals(codes, weights, groups) / float(weights.sum())


def _totals(codes: Int32 | npt.NDArray[np.intp], weights: Float64 | Bool | None, n: int) -> Float64:
    """Return the sum of the weights (1 by default) of each code, float64 `[n]`."""
    return np.bincount(codes, weights, n).astype(np.float64)


def _over(numerator: Float64, denominator: Float64) -> Float64:
    """Return the quotient, NaN over 0."""
    quotient: Float64 = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=quotient, where=denominator > 0)
