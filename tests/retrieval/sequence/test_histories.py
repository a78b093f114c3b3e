"""Histories and windows: order, gaps, what is read and what is foretold."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.sequence.histories import GAPS, Histories, HistoriesError, Windows, gap_buckets


def of(*users: list[int]) -> Histories:
    positions = np.concatenate([np.full(len(items), user) for user, items in enumerate(users)]).astype(np.int32)
    return Histories.of(positions, np.array([i for u in users for i in u], np.int32), n_users=len(users))


def test_events_are_sorted_by_user_then_time_and_equal_times_stay_in_order() -> None:
    found = Histories.of(
        np.array([1, 0, 1, 1], np.int32),
        np.array([5, 6, 7, 8], np.int32),
        n_users=3,
        times=np.array([20.0, 9.0, 13.0, 20.0]),
        kinds=np.array([0, 1, 2, 3], np.int32),
    )
    np.testing.assert_array_equal(found.starts, [0, 1, 4, 4])
    np.testing.assert_array_equal(found.items, [6, 7, 5, 8])
    np.testing.assert_array_equal(found.kinds, [1, 2, 0, 3])
    # User 1: first event, then 7 seconds (log2 8 = 3), then none.
    np.testing.assert_array_equal(found.gaps, [0, 0, 3, 0])
    assert [part.tolist() for part in found.user(1)] == [[7, 5, 8], [2, 0, 3], [0, 3, 0]]


def test_gaps_fall_into_powers_of_two() -> None:
    seconds = np.array([-5.0, 0, 1, 2.9, 3, 86_400, 1e12])
    # log2(1 + 86400) = 16.4
    np.testing.assert_array_equal(gap_buckets(seconds), [0, 0, 1, 1, 2, 16, GAPS - 1])


def test_without_last_takes_one_event_of_the_users_named() -> None:
    found = of([1, 2, 3], [4], [5, 6]).without_last(np.array([0, 1]))
    np.testing.assert_array_equal(found.starts, [0, 2, 2, 4])
    np.testing.assert_array_equal(found.items, [1, 2, 5, 6])


def test_every_event_but_a_users_first_is_foretold_once() -> None:
    windows = Windows.of(of([0, 1, 2, 3, 4, 5], [6], [7, 8]), length=3)
    read = [windows.histories.items[b : b + s].tolist() for b, s in zip(windows.begins, windows.sizes, strict=True)]
    # From the end: 5, 4 and 3 are foretold from at most three events, then 2 and 1.
    assert read == [[2, 3, 4, 5], [0, 1, 2], [7, 8]]


def test_batches_hold_every_window_once_and_few_events() -> None:
    rng = np.random.default_rng(0)
    windows = Windows.of(of(*[list(range(n)) for n in rng.integers(2, 30, 200)]), length=20)
    batches = windows.batches(100, rng)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(len(windows)))
    assert max(len(rows) * (windows.sizes[rows].max() - 1) for rows in batches) <= 100


def test_places_end_with_the_window() -> None:
    windows = Windows.of(of([0, 1, 2], [7, 8]), length=3)
    np.testing.assert_array_equal(windows.places(np.array([1, 0])), [[3, 4, -1], [0, 1, 2]])


def test_what_is_no_history_is_named() -> None:
    users, items = np.array([0, 1], np.int32), np.array([0, 1], np.int32)
    with pytest.raises(HistoriesError, match=r"expected 2 values \(users\) in every column, found {'items': 1}"):
        Histories.of(users, items[:1], n_users=2)
    with pytest.raises(HistoriesError, match=r"users in \[0, 1\) .* found users 0 to 1"):
        Histories.of(users, items, n_users=1)
