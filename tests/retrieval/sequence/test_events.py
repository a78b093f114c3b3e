"""From a feature row to the events that a model reads, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from features.schema import HISTORY_STATS, Float32
from retrieval.sequence.events import event_times, recent_events


def rows(*events: tuple[float, float, float]) -> Float32:
    """History rows of (count, last age, first age)."""
    found = np.zeros((len(events), len(HISTORY_STATS)), np.float32)
    for column, name in enumerate(("count", "last_age_days", "first_age_days")):
        found[:, HISTORY_STATS.index(name)] = [event[column] for event in events]
    return found


ITEMS = np.array([7, 3, 5], np.int32)
# 7 a day ago; 3 a day ago, nine days ago and, so it is taken, in the middle; 5 four days ago.
HISTORY = rows((1, 1, 1), (3, 1, 9), (1, 4, 4))


@pytest.mark.parametrize(
    ("length", "items", "gaps"),
    [
        # Ages 9, 5, 4, 1, 1: gaps of 4, 1, 3 and 0 days have 1 + seconds of 345601, 86401, 259201 and 1, whose
        # logarithms are 18.4, 16.4, 17.98 and 0. Of two events of one moment the lower position comes first.
        (9, [3, 3, 5, 3, 7], [0, 18, 16, 17, 0]),
        (5, [3, 3, 5, 3, 7], [0, 18, 16, 17, 0]),
        # The gap before the first event read is known.
        (3, [5, 3, 7], [16, 17, 0]),
        (1, [7], [0]),
    ],
)
def test_events_are_laid_out_again(length: int, items: list[int], gaps: list[int]) -> None:
    read, found = recent_events(ITEMS, HISTORY, length)
    assert (read.tolist(), found.tolist()) == (items, gaps)


def test_more_purchases_than_are_read() -> None:
    """Seven purchases of 4 from six days ago to now, one of 2 half a day ago: the last three are 4, 2, 4."""
    read, found = recent_events(np.array([4, 2], np.int32), rows((7, 0, 6), (1, 0.5, 0.5)), 3)
    assert read.tolist() == [4, 2, 4]
    # Before the first a day, then half a day twice: log2(43201) = 15.4.
    assert found.tolist() == [16, 15, 15]


def test_a_basket_longer_than_what_is_read() -> None:
    read, found = recent_events(np.array([1, 2, 3], np.int32), rows(*3 * [(1, 2, 2)]), 2)
    assert (read.tolist(), found.tolist()) == ([2, 3], [0, 0])


def test_nothing_bought() -> None:
    read, found = recent_events(np.empty(0, np.int32), rows(), 5)
    assert (len(read), len(found)) == (0, 0)


def test_times_of_ages() -> None:
    assert event_times(np.array([0, 2], np.float32)).tolist() == [0, -172_800]
