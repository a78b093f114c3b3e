"""Metrics against hand-derived values, the definition of the outside check, and a random scorer's expectation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.evaluate import (
    EvaluationError,
    auc,
    binary_metrics,
    bootstrap_interval,
    calibration_error,
    log_loss,
    paired_difference,
    ranking_metrics,
    top_k,
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def served_order_score(order: list[int], relevant: set[int], k: int) -> tuple[float, float]:
    """NDCG and recall as an independent check of a running service defines them, one user at a time."""
    hits = np.array([item in relevant for item in order[:k]], float)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = discounts[: min(k, len(relevant))].sum()
    return float((hits * discounts[: len(hits)]).sum() / ideal), float(hits.sum() / len(relevant))


def test_by_hand() -> None:
    metrics = ranking_metrics([ints(4, 7, 1), ints(9)], [ints(7, 1, 2, 3), ints(5)], k=3, catalogue=10)
    # User 0 hits at ranks 2 and 3: DCG = 1/log2(3) + 1/log2(4) = .63093 + .5; ideal of min(3, 4) = 3 hits:
    # 1 + .63093 + .5 = 2.13093; NDCG = 1.13093 / 2.13093 = .53072. Recall 2/4, first hit at rank 2. User 1: nothing.
    np.testing.assert_allclose(metrics.ndcg, [0.53072, 0], atol=1e-5)
    np.testing.assert_allclose(metrics.recall, [0.5, 0])
    np.testing.assert_allclose(metrics.reciprocal_rank, [0.5, 0])
    assert metrics.coverage == 4 / 10  # items 4, 7, 1 and 9
    assert set(metrics.intervals()) == {"ndcg", "recall", "mrr"}


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 30), unique=True), st.sets(st.integers(0, 30), min_size=1)), min_size=1),
    st.integers(1, 12),
)
@settings(max_examples=100, deadline=None)
def test_equals_the_outside_check(users: list[tuple[list[int], set[int]]], k: int) -> None:
    metrics = ranking_metrics(
        [ints(*order) for order, _ in users], [ints(*relevant) for _, relevant in users], k=k, catalogue=31
    )
    expected = np.array([served_order_score(order, relevant, k) for order, relevant in users])
    np.testing.assert_allclose(metrics.ndcg, expected[:, 0], atol=1e-12)
    np.testing.assert_allclose(metrics.recall, expected[:, 1], atol=1e-12)


def test_a_random_scorer_recalls_k_of_n() -> None:
    rng = np.random.default_rng(0)
    n, k, users = 200, 10, 4_000
    ranked = [top_k(rng.random(n), k, rng=rng) for _ in range(users)]
    relevant = [rng.choice(n, 5, replace=False).astype(np.int32) for _ in range(users)]
    recall = ranking_metrics(ranked, relevant, k=k, catalogue=n).recall
    # K/N = .05; one user's recall has variance about (.05 * .95) / 5, so the mean's error is .0015.
    assert recall.mean() == pytest.approx(k / n, abs=4 * 0.0015)


def test_ties_are_drawn_fairly() -> None:
    rng = np.random.default_rng(0)
    scores = np.array([1, 0, 0, 0, 0, 2], np.float32)
    drawn = np.array([top_k(scores, 3, rng=rng) for _ in range(4_000)])
    assert (drawn[:, 0] == 5).all()
    assert (drawn[:, 1] == 0).all()
    # The third place falls to each of four tied items a quarter of the time, within 4 * sqrt(.25 * .75 / 4000) = .027.
    np.testing.assert_allclose(np.bincount(drawn[:, 2], minlength=6)[1:5] / 4_000, 0.25, atol=0.028)
    assert (
        top_k(scores, 3, rng=np.random.default_rng(7)).tolist()
        == top_k(scores, 3, rng=np.random.default_rng(7)).tolist()
    )


def test_top_k_respects_the_mask_and_the_length() -> None:
    rng = np.random.default_rng(0)
    scores = np.array([5, 4, 3, 2], np.float32)
    assert top_k(scores, 2, rng=rng, allowed=np.array([False, True, False, True])).tolist() == [1, 3]
    assert top_k(scores, 9, rng=rng).tolist() == [0, 1, 2, 3]
    assert top_k(scores, 0, rng=rng).tolist() == []


def test_bootstrap_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(200):
        values = rng.exponential(size=120)
        interval = bootstrap_interval(values, seed=seed, resamples=400)
        assert interval.low < interval.mean < interval.high
        inside += interval.low <= 1 <= interval.high
    # 95% of 200 are 190; a skewed sample of 120 covers slightly less, and 4 standard errors are 12.
    assert 176 <= inside <= 200


def test_bootstrap_width_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=2_000)
    interval = bootstrap_interval(values, seed=1)
    # 1.96 / sqrt(2000) = .0438 on each side
    assert interval.high - interval.low == pytest.approx(2 * 0.0438, rel=0.1)
    assert interval == bootstrap_interval(values, seed=1)
    assert interval.users == 2_000


def test_a_paired_difference_sees_what_two_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=500)
    better = base + 0.05 + 0.01 * rng.normal(size=500)
    difference = paired_difference(better, base)
    assert difference.low > 0
    assert difference.mean == pytest.approx(0.05, abs=0.002)
    assert bootstrap_interval(better).low < bootstrap_interval(base).high


def test_auc_by_hand() -> None:
    labels = np.array([True, False, True, False])
    # Positives .8 and .3 against negatives .3 and .1: .8 wins both, .3 ties one (half) and wins one: 3.5 of 4.
    assert auc(labels, np.array([0.8, 0.3, 0.3, 0.1], np.float32)) == 3.5 / 4
    assert np.isnan(auc(np.ones(3, bool), np.arange(3, dtype=np.float32)))


def test_log_loss_by_hand() -> None:
    # -(ln .8 + ln(1 - .3)) / 2 = (.22314 + .35667) / 2
    assert log_loss(np.array([True, False]), np.array([0.8, 0.3], np.float32)) == pytest.approx(0.28991, abs=1e-5)
    # A sure mistake costs -ln(1e-7), not infinity.
    assert log_loss(np.array([True]), np.array([0.0], np.float32)) == pytest.approx(16.1181, abs=1e-3)


def test_calibration_error_by_hand() -> None:
    labels = np.array([False, False, True, True])
    probabilities = np.array([0.1, 0.3, 0.6, 0.8], np.float32)
    # Two bins of two: |0 - .2| and |1 - .7|, each with half the rows: (.2 + .3) / 2
    assert calibration_error(labels, probabilities, bins=2) == pytest.approx(0.25)
    assert calibration_error(labels, labels.astype(np.float32)) == 0


def test_true_probabilities_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.beta(0.5, 5, 100_000).astype(np.float32)
    metrics = binary_metrics(rng.random(100_000) < probabilities, probabilities)
    assert metrics["ece"] < 0.005
    assert metrics["ratio"] == pytest.approx(1, abs=0.03)


def test_mistakes_are_named() -> None:
    with pytest.raises(EvaluationError, match="1 users have no relevant"):
        ranking_metrics([ints(1)], [ints()], k=1, catalogue=2)
    with pytest.raises(EvaluationError, match="found 1 for 2 users"):
        ranking_metrics([ints(1)], [ints(1), ints(2)], k=1, catalogue=3)
    with pytest.raises(EvaluationError, match=r"found 1\.5 at row 1"):
        log_loss(np.array([True, True]), np.array([0.5, 1.5], np.float32))
    with pytest.raises(EvaluationError, match="found nan at row 0"):
        calibration_error(np.array([True]), np.array([np.nan], np.float32))
    with pytest.raises(EvaluationError, match="at least one user"):
        bootstrap_interval(np.empty(0))
    with pytest.raises(EvaluationError, match="equal shapes"):
        paired_difference(np.ones(2), np.ones(3))
