"""How far a smaller or faster encoder keeps the neighbours and the tags that the trained one finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.stats import rankdata

from retrieval.encoder.ship.session import Float32
from retrieval.encoder.units import TextTags

# Similarities of unit vectors in float32 that differ by less are equal.
_EQUAL: Final = 1e-6


def rank_correlation(expected: Float32, found: Float32) -> float:
    """Return Spearman's correlation of each row's similarities to all other rows, averaged over the rows.

    Args:
        expected: float32 `[n, dim]` unit vectors, n >= 3.
        found: the same texts' float32 `[n, any dim]` unit vectors by the other encoder.

    Returns:
        1 where the order of neighbours is the same; equal similarities share their mean rank.
    """
    first, second = (rankdata(_to_others(vectors), axis=1) for vectors in (expected, found))
    first -= first.mean(axis=1, keepdims=True)
    second -= second.mean(axis=1, keepdims=True)
    norms = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return float(((first * second).sum(axis=1) / np.maximum(norms, 1e-12)).mean())


def neighbour_overlap(expected: Float32, found: Float32, *, k: int = 10, queries: int = 1000) -> float:
    """Return the share of k nearest rows that both encoders agree on, an equally near one counted as the same.

    Args:
        expected: float32 `[n, dim]` unit vectors, n > k.
        found: the same texts' float32 `[n, any dim]` unit vectors by the other encoder.
        k: neighbours of each row, itself left out.
        queries: first rows whose neighbours are compared.
    """
    true, other = _to_others(expected, queries), _to_others(found, queries)
    threshold = np.partition(true, -k, axis=1)[:, -k, None]
    nearest = np.argpartition(other, -k, axis=1)[:, -k:]
    return float((np.take_along_axis(true, nearest, axis=1) >= threshold - _EQUAL).mean())


def tag_distance(expected: Sequence[TextTags], found: Sequence[TextTags]) -> float:
    """Return the mean total variation between two encoders' tags of a unit: 0 where alike, 1 where they never agree.

    Args:
        expected: of some texts.
        found: of the same texts by the other encoder, of the same tokenizer.

    Returns:
        Half the sum of the probabilities' differences, averaged over the units that carry a tag; 0 where none does.
    """
    carrying = [own.units.carries for own in expected]
    first, second = (
        np.concatenate([own.probabilities[rows] for own, rows in zip(tags, carrying, strict=True)])
        for tags in (expected, found)
    )
    return float(np.abs(first - second).sum(axis=1).mean() / 2) if len(first) else 0.0


def _to_others(vectors: Float32, rows: int | None = None) -> Float32:
    """Return similarities of the first rows to all others, float32 `[rows, n - 1]`, a row's own left out."""
    similarities = vectors[:rows] @ vectors.T
    others: Float32 = similarities[np.eye(*similarities.shape) == 0].reshape(len(similarities), -1)
    return others
