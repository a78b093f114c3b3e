"""JSON's values as the types that columns of items have: the same value under another type, or a refusal."""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime
from typing import Final

import numpy as np
import polars as pl

ItemValue = str | int | float | bool | None
Coerced = str | int | float | bool | date | None

_TIME: Final = "an ISO 8601 time with a zone, such as 2026-01-31T09:00:00Z"
_LOCAL_TIME: Final = "an ISO 8601 time without a zone, such as 2026-01-31T09:00:00"
# Whole days that 64 bits of nanoseconds hold: they end before the 9999 that many write for "never".
_NANOSECONDS: Final = (datetime(1677, 9, 22), datetime(2262, 4, 11))
_DAY: Final = "an ISO 8601 date, such as 2026-01-31"


class UnfitValueError(Exception):
    """A column can't hold a value, said without knowing which; the message is what it can hold."""


def coerce(value: ItemValue, dtype: pl.DataType) -> Coerced:
    """Return a value as a column of this type holds it; null is one of every type.

    Whole numbers may be written as floats, and the other way round; no text is taken for a number, nor a number for a
    text or a yes or no.

    Raises:
        UnfitValueError: it can't be held; the message is what was expected.
    """
    if value is None:
        return None
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return _text(value, dtype)
    if isinstance(dtype, pl.Boolean):
        if not isinstance(value, bool):
            raise UnfitValueError("true or false")
        return value
    if dtype.is_integer() or dtype.is_float():
        return _number(value, dtype)
    if isinstance(dtype, pl.Datetime | pl.Date):
        return _time(value, dtype)
    raise UnfitValueError(f"null, as nothing else can be set in a column of type {dtype}")


def _text(value: ItemValue, dtype: pl.DataType) -> str:
    names = dtype.categories.to_list() if isinstance(dtype, pl.Enum) else None
    if not isinstance(value, str) or (names is not None and value not in names):
        raise UnfitValueError("a text" if names is None else f"one of {', '.join(names)}")
    return value


def _number(value: ItemValue, dtype: pl.DataType) -> int | float:
    whole = dtype.is_integer()
    low, high = _limits(dtype)
    if isinstance(value, str | bool) or value is None or not low <= value <= high or (whole and value % 1):
        raise UnfitValueError(f"a {'whole ' if whole else ''}number of type {dtype}")
    return int(value) if whole else float(value)


@functools.cache
def _limits(dtype: pl.DataType) -> tuple[float, float]:
    """Return the least and the greatest finite number of a type."""
    if dtype.is_integer():
        bits = int(str(dtype).lstrip("UInt"))
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.is_signed_integer() else (0, 2**bits - 1)
    high = float(np.finfo(np.dtype(str(dtype).lower())).max)
    return -high, high


def _time(value: ItemValue, dtype: pl.Datetime | pl.Date) -> date:
    aware = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
    expected = _DAY if isinstance(dtype, pl.Date) else _TIME if aware else _LOCAL_TIME
    if not isinstance(value, str):
        raise UnfitValueError(expected)
    try:
        if isinstance(dtype, pl.Date):
            return date.fromisoformat(value)
        moment = datetime.fromisoformat(value)
        if (moment.tzinfo is not None) == aware:
            moment = moment.astimezone(UTC) if aware else moment
            if dtype.time_unit != "ns" or _NANOSECONDS[0] < moment.replace(tzinfo=None) < _NANOSECONDS[1]:
                return moment
    except (ValueError, OverflowError):
        # Of the calendar's first and last day, UTC may have no name: that overflows.
        pass
    raise UnfitValueError(expected)
