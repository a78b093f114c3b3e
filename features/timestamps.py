"""From whatever a source writes as a time to UTC in microseconds, saying which rows carried no zone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import polars as pl
from polars.exceptions import ComputeError
from pydantic import AfterValidator

from features.schema import UTC

Unit = Literal["s", "ms", "us"]
_NAIVE: Final = pl.Datetime("us")
_PER_SECOND: Final[dict[Unit, int]] = {"s": 1, "ms": 1_000, "us": 1_000_000}
# The end of year 9999, in seconds.
_LAST_SECOND: Final = 253_402_300_799
_ISO_WITH_OFFSET: Final = "%Y-%m-%dT%H:%M:%S%.f%z"
_ISO: Final = "%Y-%m-%dT%H:%M:%S%.f"
_ISO_DAY: Final = "%Y-%m-%d"


def _known_timezone(name: str) -> str:
    try:
        pl.Series([None], dtype=_NAIVE).dt.replace_time_zone(name)
    except ComputeError as error:
        msg = f"expected an IANA time zone such as Europe/Paris, found {name!r}"
        raise ValueError(msg) from error
    return name


TimeZone = Annotated[str, AfterValidator(_known_timezone)]


@dataclass(frozen=True, kw_only=True)
class Times:
    """A column read as times.

    Attributes:
        utc: datetime `[rows]` in UTC; null where the source is null, unreadable, or naive with no zone assumed.
        naive: bool `[rows]`: the time was readable and carried no zone.
        unreadable: bool `[rows]`: there was a value and it is no time (or one that the zone's clocks skipped).
    """

    utc: pl.Series
    naive: pl.Series
    unreadable: pl.Series


def read_times(
    column: pl.Series, *, unit: Unit | None = None, text_format: str | None = None, assume_timezone: str | None = None
) -> Times:
    """Read a column as UTC times.

    Args:
        column: datetimes, dates, ISO 8601 text, text of `text_format`, or numbers since the epoch (with `unit`).
        unit: what one counts in a numeric column; without it numbers are unreadable, since a guess may be wrong by
            a factor of a thousand.
        text_format: chrono format of a text column; None reads ISO 8601 (date, or date and time, offset optional).
        assume_timezone: IANA zone of the rows that carry none; an hour that occurs twice is taken as the first.
    """
    aware, local = _aware_and_local(column, unit, text_format)
    naive = local.is_not_null() & aware.is_null()
    utc = aware
    if assume_timezone is not None:
        placed = local.dt.replace_time_zone(assume_timezone, ambiguous="earliest", non_existent="null")
        placed = placed.dt.convert_time_zone("UTC")
        utc = pl.select(pl.coalesce(aware, placed)).to_series()
        unreadable = column.is_not_null() & utc.is_null()
    else:
        unreadable = column.is_not_null() & aware.is_null() & local.is_null()
    return Times(utc=utc.rename(column.name), naive=naive.rename("naive"), unreadable=unreadable.rename("unreadable"))


def _aware_and_local(column: pl.Series, unit: Unit | None, text_format: str | None) -> tuple[pl.Series, pl.Series]:
    """Return the rows that carry a zone, in UTC, and those that carry none, each null elsewhere."""
    none_aware, none_local = (
        pl.Series(column.name, [None], dtype=t).new_from_index(0, len(column)) for t in (UTC, _NAIVE)
    )
    kind = column.dtype
    if isinstance(kind, pl.Datetime):
        as_us = column.dt.cast_time_unit("us")
        return (as_us.dt.convert_time_zone("UTC"), none_local) if kind.time_zone else (none_aware, as_us)
    if kind == pl.Date:
        return none_aware, column.cast(_NAIVE)
    if kind == pl.String:
        return _from_text(column, text_format)
    if kind.is_numeric() and unit is not None:
        # A count in the wrong unit would overflow and come back as some other, plausible time.
        counted = column.to_frame("count").select(
            pl.when(pl.col("count").cast(pl.Float64).abs() <= _LAST_SECOND * _PER_SECOND[unit]).then("count")
        )
        wide = pl.Float64 if kind.is_float() else pl.Int64
        per_unit = 1_000_000 // _PER_SECOND[unit]
        return _from_epoch(counted.to_series().cast(wide) * per_unit).alias(column.name), none_local
    return none_aware, none_local


def _from_epoch(microseconds: pl.Series) -> pl.Series:
    return microseconds.cast(pl.Int64).cast(_NAIVE).dt.replace_time_zone("UTC")


def _from_text(column: pl.Series, text_format: str | None) -> tuple[pl.Series, pl.Series]:
    if text_format is None:
        iso = column.str.strip_chars().str.replace(" ", "T", literal=True).str.replace("[Zz]$", "+00:00")
        with_time = iso.str.to_datetime(_ISO, time_unit="us", strict=False)
        day = iso.str.to_datetime(_ISO_DAY, time_unit="us", strict=False)
        aware = iso.str.to_datetime(_ISO_WITH_OFFSET, time_unit="us", strict=False)
        return aware, pl.select(pl.coalesce(with_time, day)).to_series()
    read = column.str.to_datetime(text_format, time_unit="us", strict=False)
    if isinstance(read.dtype, pl.Datetime) and read.dtype.time_zone:
        return read.dt.convert_time_zone("UTC"), pl.Series(column.name, [None], dtype=_NAIVE).new_from_index(
            0, len(read)
        )
    return pl.Series(column.name, [None], dtype=UTC).new_from_index(0, len(read)), read
