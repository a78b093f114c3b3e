from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.schema import UTC as UTC_TYPE
from features.timestamps import Unit, read_times

NOON = datetime(2020, 7, 1, 12, tzinfo=UTC)


def test_aware_times_of_any_zone_become_utc() -> None:
    tokyo = pl.Series("t", [datetime(2020, 7, 1, 21)]).dt.replace_time_zone("Asia/Tokyo").dt.cast_time_unit("ms")
    times = read_times(tokyo)  # Tokyo is UTC+9
    assert times.utc.to_list() == [NOON]
    assert times.utc.dtype == UTC_TYPE
    assert not times.naive.any()


def test_naive_times_wait_for_a_zone() -> None:
    naive = pl.Series("t", [datetime(2020, 7, 1, 14), None])
    assert read_times(naive).utc.to_list() == [None, None]
    assert read_times(naive).naive.to_list() == [True, False]
    assert not read_times(naive).unreadable.any()
    # Paris is UTC+2 in July.
    assert read_times(naive, assume_timezone="Europe/Paris").utc.to_list() == [NOON, None]


def test_an_hour_the_clocks_skipped_is_unreadable() -> None:
    # Paris went from 02:00 to 03:00 on 28 March 2021.
    skipped = read_times(pl.Series("t", [datetime(2021, 3, 28, 2, 30)]), assume_timezone="Europe/Paris")
    assert skipped.unreadable.to_list() == [True]


def test_an_hour_that_occurs_twice_is_the_first() -> None:
    # Paris went from 03:00 (UTC+2) back to 02:00 on 31 October 2021: the first 02:30 is 00:30 UTC.
    twice = read_times(pl.Series("t", [datetime(2021, 10, 31, 2, 30)]), assume_timezone="Europe/Paris")
    assert twice.utc.to_list() == [datetime(2021, 10, 31, 0, 30, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-07-01T12:00:00Z", NOON),
        ("2020-07-01 14:00:00+02:00", NOON),
        ("2020-07-01T12:00:00.25z", NOON + timedelta(milliseconds=250)),
        (" 2020-07-01T06:00:00-0600 ", NOON),
    ],
)
def test_iso_text_with_an_offset(text: str, expected: datetime) -> None:
    assert read_times(pl.Series("t", [text])).utc.to_list() == [expected]


def test_iso_text_without_an_offset_is_naive_and_other_text_unreadable() -> None:
    times = read_times(pl.Series("t", ["2020-07-01T12:00:00", "2020-07-01", "yesterday", None]))
    assert times.naive.to_list() == [True, True, False, False]
    assert times.unreadable.to_list() == [False, False, True, False]


def test_text_of_a_declared_format() -> None:
    paris = read_times(
        pl.Series("t", ["01/07/2020 14:00"]), text_format="%d/%m/%Y %H:%M", assume_timezone="Europe/Paris"
    )
    offset = read_times(pl.Series("t", ["01/07/2020 14:00 +0200"]), text_format="%d/%m/%Y %H:%M %z")
    assert paris.utc.to_list() == offset.utc.to_list() == [NOON]


def test_dates_are_naive_midnights() -> None:
    times = read_times(pl.Series("t", [date(2020, 7, 1)]), assume_timezone="UTC")
    assert times.utc.to_list() == [datetime(2020, 7, 1, tzinfo=UTC)]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_numbers_count_since_the_epoch_in_their_unit(unit: Unit, factor: int) -> None:
    count = int(NOON.timestamp()) * factor
    assert read_times(pl.Series("t", [count]), unit=unit).utc.to_list() == [NOON]
    assert read_times(pl.Series("t", [float(count)]), unit=unit).utc.to_list() == [NOON]


def test_counts_in_a_coarser_unit_than_declared_are_unreadable() -> None:
    # Microseconds taken for seconds: 1.6e15 s is after the year 9999, and times 1e6 it would overflow 64 bits.
    assert read_times(pl.Series("t", [1_593_604_800_000_000]), unit="s").unreadable.to_list() == [True]
    assert read_times(pl.Series("t", [float("inf"), float("nan")]), unit="s").unreadable.to_list() == [True, True]


def test_numbers_without_a_unit_are_unreadable() -> None:
    assert read_times(pl.Series("t", [1_593_604_800])).unreadable.to_list() == [True]


def test_what_is_no_time_at_all_is_unreadable() -> None:
    assert read_times(pl.Series("t", [True, None])).unreadable.to_list() == [True, False]


@settings(max_examples=50, deadline=None)
@given(
    instant=st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)),
    offset=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_iso_text_keeps_the_instant(instant: datetime, offset: timezone) -> None:
    aware = instant.replace(tzinfo=offset)
    assert read_times(pl.Series("t", [aware.isoformat()])).utc.to_list() == [aware.astimezone(UTC)]
