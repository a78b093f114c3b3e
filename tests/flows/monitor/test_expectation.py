"""The expected number of negative texts, against arithmetic by hand and scipy's own distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from flows.monitor.expectation import Expectation, Float64, expectation, pooled_share

shares = st.floats(0.001, 0.999)
precisions = st.floats(0.5, 1e5)
histories = st.lists(st.integers(0, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), max_size=30)


def split(history: list[tuple[int, int]]) -> tuple[Float64, Float64]:
    texts, negative = np.array(history, np.float64).reshape(-1, 2).T
    return texts, negative


def expected(history: list[tuple[int, int]], prior: float) -> Expectation:
    texts, negative = split(history)
    return expectation(texts, negative, np.zeros(len(texts), np.int64), 0, prior)


@given(mean=shares, precision=precisions, texts=st.integers(0, 60))
def test_masses_are_those_of_a_beta_binomial(mean: float, precision: float, texts: int) -> None:
    found = Expectation(mean=mean, precision=precision).masses(texts)
    right = betabinom.pmf(np.arange(texts + 1), texts, mean * precision, (1 - mean) * precision)
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-9)


def test_tail_and_range_by_hand() -> None:
    # A beta of parameters 1 and 1 is uniform: each of 0..4 has probability 1/5.
    even = Expectation(mean=0.5, precision=2.0)
    assert even.tail(4, 3) == pytest.approx(2 / 5)
    assert even.tail(4, 0) == pytest.approx(1)
    # 4 or more: .2, at most the level; 3 or more: .4. By symmetry below.
    assert even.range(4, 0.25) == (1, 3)
    assert even.range(4, 0.15) == (0, 4)


def test_odds_are_multiplied() -> None:
    # A share of 1/3 has odds of 1 to 2; twice that is 1 to 1.
    found = Expectation(mean=1 / 3, precision=9.0).shifted(2.0)
    assert (found.mean, found.precision) == (pytest.approx(0.5), 9.0)


@given(mean=shares, precision=precisions, texts=st.integers(1, 40), factor=st.floats(1.1, 10))
def test_a_likelihood_ratio_is_one_on_average(mean: float, precision: float, texts: int, factor: float) -> None:
    """What the bound on false drifts rests on."""
    own = Expectation(mean=mean, precision=precision)
    ratios = [np.exp(own.log_ratio(own.shifted(factor), texts, count)) for count in range(texts + 1)]
    assert float(own.masses(texts) @ ratios) == pytest.approx(1, rel=1e-4)


def test_buckets_of_one_text_tell_a_mean_and_no_correlation() -> None:
    found = expected([(1, 1)] * 8 + [(1, 0)] * 72, 0.3)
    # (20 x .3 + 8) / (20 + 80)
    assert found.mean == pytest.approx(0.14)
    # r = .01, the prior; the mean is told by 100 texts: 1/101 + 100/101 x .01 = 2/101; its inverse less 1.
    assert found.precision == pytest.approx(49.5)


def test_buckets_that_differ_are_correlated() -> None:
    found = expected([(10, 0), (10, 10)], 0.5)
    # Mean (10 + 10) / 40. Spread 2 x 5^2 / .25 = 200, of which 2 x 10 x (1 - 10/40) = 15 are binomial; 180 pairs:
    # r = (185 + 5) / (180 + 500). The mean is told by 20 + 20 / (1 + 9 r) texts.
    r = 190 / 680
    unknown = 1 / (20 + 20 / (1 + 9 * r) + 1)
    assert found.mean == pytest.approx(0.5)
    assert found.precision == pytest.approx(1 / (unknown + (1 - unknown) * r) - 1)


def test_places_of_the_rhythm_have_their_own_share() -> None:
    texts, negative = np.full(200, 10.0), np.tile([1.0, 6.0], 100)
    places = np.tile([0, 1], 100)
    # The series: (20 x .35 + 700) / 2020 = .35; a place of 1,000 texts: (20 x .35 + 100) / 1020 and likewise.
    low, high = (expectation(texts, negative, places, place, 0.35) for place in (0, 1))
    assert (low.mean, high.mean) == (pytest.approx(107 / 1020), pytest.approx(607 / 1020))
    # Without places the same history is one wide mixture.
    flat = expectation(texts, negative, np.zeros(200, np.int64), 0, 0.35)
    assert flat.precision < 10 < low.precision


def test_a_pooled_share_is_never_certain() -> None:
    assert (pooled_share(0, 0), pooled_share(9, 0), pooled_share(9, 9)) == (0.5, 0.05, 0.95)


@given(history=histories, prior=shares, texts=st.integers(1, 40), level=st.floats(1e-6, 0.2))
def test_any_history_gives_a_range_that_its_tails_agree_with(
    history: list[tuple[int, int]], prior: float, texts: int, level: float
) -> None:
    found = expected(history, prior)
    assert 0 < found.mean < 1
    assert found.precision > 0
    low, high = found.range(texts, level)
    assert 0 <= low <= high <= texts
    assert found.tail(texts, high) > level
    if high < texts:
        assert found.tail(texts, high + 1) <= level * (1 + 1e-9)


@given(history=histories, prior=shares, seed=st.integers(0, 99))
def test_the_order_of_a_history_without_rhythm_is_nothing(
    history: list[tuple[int, int]], prior: float, seed: int
) -> None:
    shuffled = [history[row] for row in np.random.default_rng(seed).permutation(len(history))]
    one, other = expected(history, prior), expected(shuffled, prior)
    assert one.mean == pytest.approx(other.mean)
    assert one.precision == pytest.approx(other.precision)
