"""JSON's values in the types of columns."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from features.item_values import ItemValue, UnfitValueError, coerce

PARIS = pl.Datetime("us", "Europe/Paris")
DTYPES = [pl.String(), pl.Int8(), pl.Float32(), pl.Boolean(), PARIS, pl.Date(), pl.List(pl.String), pl.Null()]


@pytest.mark.parametrize(
    ("dtype", "value", "held"),
    [
        (pl.String(), "tea", "tea"),
        (pl.String(), "", ""),
        (pl.Categorical(), "tea", "tea"),
        (pl.Enum(["tea", "soap"]), "tea", "tea"),
        (pl.Int8(), 127, 127),
        (pl.Int64(), 3.0, 3),
        (pl.Int8(), -128, -128),
        (pl.UInt64(), 2**64 - 1, 2**64 - 1),
        (pl.Int128(), -(2**127), -(2**127)),
        (pl.Float64(), 3, 3.0),
        (pl.Float32(), 1e38, 1e38),
        (pl.Boolean(), False, False),
        (pl.Datetime("us", "UTC"), "2026-01-31T09:00:00+02:00", datetime(2026, 1, 31, 7, tzinfo=UTC)),
        (PARIS, "2026-01-31T09:00:00Z", datetime(2026, 1, 31, 9, tzinfo=UTC)),
        (pl.Datetime("ns"), "2026-01-31", datetime(2026, 1, 31)),
        (pl.Date(), "2026-01-31", date(2026, 1, 31)),
    ],
)
def test_a_value_that_fits(dtype: pl.DataType, value: ItemValue, held: object) -> None:
    found = coerce(value, dtype)
    assert found == held
    assert type(found) is type(held)
    assert pl.Series([found], dtype=dtype).null_count() == 0


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (pl.String(), 7, "a text"),
        (pl.String(), True, "a text"),
        (pl.Enum(["tea", "soap"]), "milk", "one of tea, soap"),
        (pl.Int8(), 128, "a whole number of type Int8"),
        (pl.Int8(), -129, "a whole number of type Int8"),
        (pl.UInt8(), -1, "a whole number of type UInt8"),
        (pl.UInt64(), 2**64, "a whole number of type UInt64"),
        (pl.Float16(), 70_000, "a number of type Float16"),
        (pl.Int64(), 0.5, "a whole number of type Int64"),
        (pl.Int64(), "7", "a whole number of type Int64"),
        (pl.Int64(), True, "a whole number of type Int64"),
        (pl.Int64(), 10**400, "a whole number of type Int64"),
        (pl.Float64(), 10**400, "a number of type Float64"),
        (pl.Float32(), 1e39, "a number of type Float32"),
        (pl.Float64(), False, "a number of type Float64"),
        (pl.Boolean(), 1, "true or false"),
        (pl.Datetime("us", "UTC"), "2026-01-31T09:00:00", "an ISO 8601 time with a zone"),
        (pl.Datetime("us", "UTC"), "0001-01-01T00:00:00+02:00", "an ISO 8601 time with a zone"),
        (pl.Datetime("us", "UTC"), "soon", "an ISO 8601 time with a zone"),
        (pl.Datetime("us", "UTC"), 1_767_225_600, "an ISO 8601 time with a zone"),
        (pl.Datetime("us"), "2026-01-31T09:00:00Z", "an ISO 8601 time without a zone"),
        (pl.Datetime("ns"), "9999-12-31", "an ISO 8601 time without a zone"),
        (pl.Date(), "2026-01-31T09:00:00", "an ISO 8601 date"),
        (pl.List(pl.String), "x", "null, as nothing else can be set in a column of type List"),
    ],
)
def test_a_value_that_does_not(dtype: pl.DataType, value: ItemValue, expected: str) -> None:
    with pytest.raises(UnfitValueError, match=f"^{expected}"):
        coerce(value, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_null_is_a_value_of_every_type(dtype: pl.DataType) -> None:
    assert coerce(None, dtype) is None
