"""Diversity: items picked one by one for their relevance and for being unlike those picked before."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from features.schema import Float32
from ranking.rules.config import Diversity

Rows = npt.NDArray[np.intp]
Float64 = npt.NDArray[np.float64]

# A squared volume below this is rounding: the item lies in the span of those picked.
_FLAT: Final = 1e-6


def diversify(order: Rows, scores: Float64, vectors: Float32, rule: Diversity, k: int | None = None) -> Rows:
    """Return the order, its first rows picked by relevance and diversity.

    Args:
        order: intp `[n]`, rows best first.
        scores: float64 by row, on any scale. Relevance follows the order: the best of the rows' scores is given to the
            first of them, and so on.
        vectors: float32 `[m, dim]` of the first m = min(n, `rule.first`) rows of the order, of length 1 or 0.
        rule: see there.
        k: how many picks are looked at; the others follow as they were.
    """
    m = len(vectors)
    picks = m if k is None else min(k, m)
    pick = mmr if rule.method == "mmr" else dpp
    picked = pick(relevance(scores[order[:m]]), vectors, rule.relevance, picks)
    left = np.ones(m, bool)
    left[picked] = False
    return np.concatenate([order[picked], order[:m][left], order[m:]])


def relevance(scores: Float64) -> Float64:
    """Return scores, falling, as numbers from 1 (the best) to 0 (the worst), float64 `[m]`; 0 if all are equal.

    Missing ones (NaN) count as the worst.
    """
    falling = -np.sort(-scores)
    known = falling[~np.isnan(falling)]
    span = known[0] - known[-1] if len(known) else 0.0
    return np.nan_to_num((falling - known[-1]) / span, nan=0.0) if span > 0 else np.zeros(len(falling))


def mmr(relevance: Float64, vectors: Float32, weight: float, k: int) -> Rows:
    """Return k rows in the order of maximal marginal relevance (Carbonell and Goldstein, 1998), intp `[k]`.

    The next one has the greatest weight * relevance - (1 - weight) * its largest cosine with those before; the first of
    equal ones.

    Args:
        relevance: float64 `[m]`.
        vectors: float32 `[m, dim]`, rows of length 1 or 0.
        weight: lambda, from 0 to 1.
        k: at most m.
    """
    picked = np.empty(k, np.intp)
    nearest = np.full(len(vectors), -np.inf)
    value = weight * relevance
    for place in range(k):
        row = int(value.argmax())
        picked[place] = row
        np.maximum(nearest, vectors @ vectors[row], out=nearest)
        nearest[row] = np.inf
        value = weight * relevance - (1 - weight) * nearest if weight < 1 else np.where(nearest < np.inf, relevance, -1)
    return picked


def dpp(relevance: Float64, vectors: Float32, weight: float, k: int) -> Rows:
    """Return k rows by greedy MAP inference of a determinantal point process, intp `[k]` or fewer.

    The kernel is q_i S_ij q_j with S = (1 + cosine) / 2 and q_i = exp(weight / (2 (1 - weight)) relevance_i). The next
    row has the greatest weight * relevance + (1 - weight) * log d^2, d its part in the volume that all span: algorithm
    1 of Chen, Zhang and Zhou (2018), https://arxiv.org/abs/1709.05135, in logarithms, since q grows beyond all numbers
    as the weight nears 1. Stops before rows that lie in the span of those picked.

    Args:
        relevance: float64 `[m]`.
        vectors: float32 `[m, dim]`, rows of length 1 or 0.
        weight: theta, from 0 to 1.
        k: at most m.
    """
    if weight == 1:
        return np.argsort(-relevance, kind="stable")[:k]
    picked: list[int] = []
    # Row i of the Cholesky factor of S in the order of picks, and what is left of its diagonal.
    factor, left = np.zeros((k, len(vectors))), np.ones(len(vectors))
    for place in range(k):
        open_ = left > _FLAT
        if not open_.any():
            break
        value = np.full(len(vectors), -np.inf)
        value[open_] = weight * relevance[open_] + (1 - weight) * np.log(left[open_])
        row = int(value.argmax())
        picked.append(row)
        likeness = (1 + (vectors @ vectors[row]).astype(np.float64)) / 2
        factor[place] = (likeness - factor[:place, row] @ factor[:place]) / np.sqrt(left[row])
        left -= factor[place] ** 2
        left[row] = 0
    return np.array(picked, np.intp)
