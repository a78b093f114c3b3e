"""Metrics by group against figures worked out by hand, and a gap's interval against groups that don't differ."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ranking.audit import (
    ByGroup,
    GroupedRows,
    exposure_shares,
    gap,
    mean_by_group,
    relevant_shares,
)

# Users 3, 5, 7 and 9; the first two are of group 0, the others of group 1.
USERS = np.array([3, 3, 5, 7, 7, 9, 9], np.int32)
CODES = np.array([9, 9, 9, 0, 9, 0, 9, 1, 9, 1], np.int32)
LABELS = np.array([1, 0, 0, 1, 0, 1, 0], bool)
SCORES = np.array([0.6, 0.3, 0.6, 0.2, 0.4, 0.8, 0.4])


@pytest.fixture
def rows() -> GroupedRows:
    return GroupedRows.of(USERS, CODES, 2)


def test_values_by_hand(rows: GroupedRows) -> None:
    assert rows.sizes.tolist() == [2, 2]
    # Calibration: (.6 + .3 + .6) / 1 and (.2 + .4 + .8 + .4) / 2.
    assert rows.ratio(SCORES, LABELS).values == pytest.approx([1.5, 0.9])
    # AUC: the positive .6 beats .3 and ties .6: 1.5 of 2; .2 beats none of (.4, .4) and .8 both: 2 of 4.
    assert rows.auc(LABELS, SCORES).values == pytest.approx([0.75, 0.5])
    # Log loss: -(ln .6 + ln .7 + ln .4) / 3 and -(ln .2 + ln .6 + ln .8 + ln .6) / 4.
    expected = [-math.log(0.6 * 0.7 * 0.4) / 3, -math.log(0.2 * 0.6 * 0.8 * 0.6) / 4]
    assert rows.log_loss(LABELS, SCORES).values == pytest.approx(expected)


def test_every_resample_is_of_whole_users(rows: GroupedRows) -> None:
    """A resample's figure is that of the table in which each user stands as often as she was drawn."""
    found, areas = rows.ratio(SCORES, LABELS), rows.auc(LABELS, SCORES)
    for draw, counts in enumerate(rows.counts[:20].astype(int)):
        repeated = np.repeat(np.arange(len(USERS)), counts[rows.owner])
        for group in (0, 1):
            own = repeated[CODES[USERS[repeated]] == group]
            wins = [
                (SCORES[one] > SCORES[other]) + (SCORES[one] == SCORES[other]) / 2
                for one in own[LABELS[own]]
                for other in own[~LABELS[own]]
            ]
            area = np.mean(wins) if wins else np.nan
            ratio = SCORES[own].sum() / LABELS[own].sum() if LABELS[own].any() else np.nan
            assert areas.draws[draw, group] == pytest.approx(area, nan_ok=True)
            assert found.draws[draw, group] == pytest.approx(ratio, nan_ok=True)


def test_a_metric_that_most_resamples_leave_undefined_has_no_interval() -> None:
    """Of two users one carries the only positive: a quarter of the resamples has no row of hers."""
    rows = GroupedRows.of(np.array([0, 0, 1], np.int32), np.zeros(2, np.int32), 1)
    found = rows.auc(np.array([True, False, False]), np.array([0.9, 0.1, 0.2]))
    assert found.values.tolist() == [1.0]
    assert found.interval(0) is None
    assert gap(found, np.array([True])) is None


def test_a_gap_is_between_counted_groups_alone() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (200, 3))
    found = ByGroup(values=np.array([0.9, 0.5, 0.6]), draws=np.array([0.9, 0.5, 0.6]) + noise)
    every = gap(found, np.array([True, True, True]))
    assert every is not None
    assert (every.highest, every.lowest, every.value) == (0, 1, pytest.approx(0.4))
    counted = gap(found, np.array([False, True, True]))
    assert counted is not None
    assert (counted.highest, counted.lowest, counted.value) == (2, 1, pytest.approx(0.1))
    assert 0.1 - 0.05 < counted.low < 0.1 < counted.high < 0.1 + 0.05
    assert gap(found, np.array([False, False, True])) is None


def test_an_interval_holds_the_gap_whether_or_not_groups_differ() -> None:
    """Six groups of 40 users with rates that are equal, or one of which is .3 higher: 95% of intervals hold the truth.

    A percentile interval of the largest difference never holds 0. Of 60 worlds 3 are missed on average; 9 or more in
    .3% of the cases (binomial).
    """
    rng = np.random.default_rng(1)
    users, group = np.arange(240, dtype=np.int32), np.repeat(np.arange(6), 40).astype(np.int32)
    for higher in (0.0, 0.3):
        missed = naive = 0
        for seed in range(60):
            rates = 0.4 + higher * (group == 2)
            rows = GroupedRows.of(users, group, 6, seed=seed)
            found = rows.ratio(rng.random(240) < rates)
            apart = gap(found, np.ones(6, bool))
            assert apart is not None
            missed += not apart.low <= higher <= apart.high
            spread = found.draws.max(axis=1) - found.draws.min(axis=1)
            naive += np.quantile(spread, 0.025) > higher
        assert missed <= 8
        if not higher:
            assert naive == 60


def test_exposure_by_hand() -> None:
    """Three places are worth 1, 1 / log2(3) = .6309 and .5: 2.1309 in all; a list of two 1.6309."""
    codes = np.array([0, 0, 1, 1], np.int32)
    lists = [np.array([0, 2, 1, 3], np.int32), np.array([3, 0], np.int32)]
    shares = exposure_shares(lists, codes, 2, k=3)
    second, third = 1 / math.log2(3), 0.5
    np.testing.assert_allclose(shares[0], [(1 + third) / (1.5 + second), second / (1.5 + second)])
    np.testing.assert_allclose(shares[1], [second / (1 + second), 1 / (1 + second)])
    took = relevant_shares([np.array([0, 1, 2, 3], np.int32), np.array([1], np.int32)], codes, 2)
    np.testing.assert_allclose(took, [[0.5, 0.5], [1.0, 0.0]])
    found = mean_by_group(took)
    assert found.values.tolist() == [0.75, 0.25]
    # A resample of two users has the second 0, 1 or 2 times.
    assert set(np.unique(found.draws[:, 0])) == {0.5, 0.75, 1.0}
