from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.availability import Availability

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def times(hours: list[int | None]) -> pl.Series:
    values = [None if hour is None else START + hour * HOUR for hour in hours]
    return pl.Series(values, dtype=pl.Datetime("us", "UTC"))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (START - SECOND, [False, False, True, True]),
        (START, [True, False, True, True]),  # it begins with its first moment
        (START + HOUR - SECOND, [True, False, True, True]),
        (START + HOUR, [False, True, True, True]),  # and ends before its last
        (START + 2 * HOUR, [False, True, False, True]),
    ],
)
def test_a_window_holds_its_start_and_not_its_end(now: datetime, expected: list[bool]) -> None:
    columns = pl.DataFrame({"available_from": times([0, 1, None, None]), "available_to": times([1, None, 2, None])})
    found = Availability(columns).at(now)
    assert found is not None
    assert found.tolist() == expected


def test_no_window_is_no_mask() -> None:
    assert Availability(pl.DataFrame({"brand": ["a", "b"]})).at(START) is None
    assert Availability(pl.DataFrame({"available_to": times([None, None])})).at(START) is None


hours = st.lists(st.tuples(st.none() | st.integers(0, 5), st.none() | st.integers(0, 5)), min_size=1, max_size=8)


@given(windows=hours, asked=st.lists(st.integers(-1, 12), min_size=1, max_size=8))
def test_what_is_kept_between_changes_is_what_each_moment_says(
    windows: list[tuple[int | None, int | None]], asked: list[int]
) -> None:
    starts, ends = zip(*windows, strict=True)
    availability = Availability(
        pl.DataFrame({"available_from": times(list(starts)), "available_to": times(list(ends))})
    )
    for half_hours in asked:
        found = availability.at(START + half_hours * HOUR / 2)
        own = np.ones(len(windows), bool) if found is None else found
        moment = half_hours / 2
        expected = [(a is None or a <= moment) and (b is None or moment < b) for a, b in windows]
        assert own.tolist() == expected
