from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.rules.config import Diversity
from ranking.rules.diversity import diversify, dpp, mmr, relevance

# Rows 0 and 1 are alike (cosine .8), row 2 is at right angles to row 0.
VECTORS = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
RELEVANCE = np.array([1.0, 0.9, 0.5])


def unit(seed: int, n: int, dim: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def test_relevance_follows_the_order_on_any_scale() -> None:
    """From -3 to 1: (1 + 3) / 4 = 1, (-1 + 3) / 4 = .5, 0."""
    assert relevance(np.array([-1.0, 1.0, -3.0])).tolist() == [1, 0.5, 0]
    assert relevance(np.array([2.0, 2.0])).tolist() == [0, 0]
    assert relevance(np.array([])).tolist() == []


def test_mmr_by_hand() -> None:
    """After row 0: row 1 is worth .5 * .9 - .5 * .8 = .05, row 2 .5 * .5 - .5 * 0 = .25."""
    assert mmr(RELEVANCE, VECTORS, 0.5, 3).tolist() == [0, 2, 1]
    # .8 * .9 - .2 * .8 = .56 against .8 * .5 = .4
    assert mmr(RELEVANCE, VECTORS, 0.8, 3).tolist() == [0, 1, 2]


def test_mmr_looks_at_the_likest_of_all_before() -> None:
    """Row 3 is unlike the last pick (row 2, cosine 0) and the same as the first: 0 - .5 * 1 is less than -.5 * .8."""
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [1, 0]], np.float32)
    assert mmr(np.array([1, 0, 0.9, 0.1]), vectors, 0.5, 4).tolist() == [0, 2, 1, 3]


def test_dpp_by_hand() -> None:
    """S = (1 + cosine) / 2: S01 = .9, S02 = .5. After row 0, d^2 of row 1 is 1 - .81 = .19, of row 2 1 - .25 = .75.

    At weight .5 row 1 is worth .5 * .9 + .5 * ln .19 = -.380, row 2 .5 * .5 + .5 * ln .75 = .106; at weight .9, .9 * .9
    + .1 * ln .19 = .644 and .9 * .5 + .1 * ln .75 = .421.
    """
    assert dpp(RELEVANCE, VECTORS, 0.5, 3).tolist()[:2] == [0, 2]
    assert dpp(RELEVANCE, VECTORS, 0.9, 3).tolist()[:2] == [0, 1]


@given(seed=st.integers(0, 10_000), weight=st.floats(0, 0.95))
def test_dpp_is_the_greedy_determinant(seed: int, weight: float) -> None:
    """Each pick has the largest determinant of the kernel of Chen et al. among all that could follow."""
    n = 6
    vectors, worth = unit(seed, n, 4), np.sort(np.random.default_rng(seed).uniform(size=n))[::-1]
    quality = np.exp(weight / (2 * (1 - weight)) * worth)
    kernel = quality[:, None] * (1 + vectors.astype(float) @ vectors.T.astype(float)) / 2 * quality
    np.fill_diagonal(kernel, quality**2)
    picked = dpp(worth, vectors, weight, 4).tolist()
    for place, row in enumerate(picked):
        before = picked[:place]
        volumes = {
            other: np.linalg.slogdet(kernel[np.ix_([*before, other], [*before, other])])[1]
            for other in range(n)
            if other not in before
        }
        assert volumes[row] == pytest.approx(max(volumes.values()), abs=1e-4)


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_twins_of_what_is_picked_come_last(method: str) -> None:
    """Row 1 is row 0 again: it adds no volume, and its cosine is 1. Scores 1, .75 and 0 are relevances as they are."""
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    rule = Diversity(method=method, relevance=0.3)  # type: ignore[arg-type]
    assert diversify(np.arange(3), np.array([1, 0.75, 0]), vectors, rule).tolist() == [0, 2, 1]


@pytest.mark.parametrize("method", ["mmr", "dpp"])
@given(n=st.integers(0, 20), first=st.integers(1, 25), weight=st.floats(0, 1), seed=st.integers(0, 99))
def test_properties(method: str, n: int, first: int, weight: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, vectors = rng.normal(size=n), unit(seed, max(n, 1), 3)[:n]
    vectors[rng.uniform(size=n) < 0.2] = 0  # items without a text
    order = np.argsort(-scores)
    own = vectors[order[:first]]
    rule = Diversity(method=method, relevance=weight, first=first)  # type: ignore[arg-type]
    found = diversify(order, scores, own, rule)
    assert sorted(found.tolist()) == list(range(n))
    assert found[first:].tolist() == order[first:].tolist()
    for k in range(n):
        assert diversify(order, scores, own, rule, k)[:k].tolist() == found[:k].tolist()
    plain = Diversity(method=method, relevance=1, first=first)  # type: ignore[arg-type]
    assert diversify(order, scores, own, plain).tolist() == order.tolist()
    # Another scale of the same scores; a tie may fall either way by rounding.
    if weight in (0, 1):
        assert diversify(order, 1000 * scores - 7, own, rule).tolist() == found.tolist()


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_less_weight_on_relevance_makes_the_first_ones_less_alike(method: str) -> None:
    vectors = unit(3, 100, 6)
    scores = vectors @ vectors[0]  # the best are all alike
    order = np.argsort(-scores)

    def likeness(weight: float) -> float:
        rule = Diversity(method=method, relevance=weight)  # type: ignore[arg-type]
        top = vectors[diversify(order, scores, vectors[order], rule)[:10]]
        return float((top @ top.T)[np.triu_indices(10, 1)].mean())

    found = [likeness(weight) for weight in (1, 0.7, 0.3)]
    assert all(less < more for more, less in pairwise(found))
