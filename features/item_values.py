"""JSON's values as the types that columns of items have: the same value under another type, or a refusal."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Final

import polars as pl
from polars.exceptions import InvalidOperationError

ItemValue = str | int | float | bool | None
Coerced = str | int | float | bool | date | None

_TIME: Final = "an ISO 8601 time with a zone, such as 2026-01-31T09:00:00Z"
_LOCAL_TIME: Final = "an ISO 8601 time without a zone, such as 2026-01-31T09:00:00"
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
    expected = f"a {'whole ' if dtype.is_integer() else ''}number of type {dtype}"
    if isinstance(value, str | bool) or value is None:
        raise UnfitValueError(expected)
    if dtype.is_integer() and value != math.trunc(value):
        raise UnfitValueError(expected)
    try:
        number = int(value) if dtype.is_integer() else float(value)
        held = pl.Series([number], dtype=dtype).item()
    except (TypeError, OverflowError):
        raise UnfitValueError(expected) from None
    if not math.isfinite(held):
        raise UnfitValueError(expected)
    return number


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
            # Nanoseconds end in 2262, before the 9999 that many write for "never".
            pl.Series([moment], dtype=dtype)
            return moment
    except (ValueError, OverflowError, InvalidOperationError):
        # Of the calendar's first and last day, UTC may have no name: that overflows.
        pass
    raise UnfitValueError(expected)
