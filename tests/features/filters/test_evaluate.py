"""A filter's mask is right row by row, and a filter that doesn't fit the columns is pointed at."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from features.filters.errors import FilterError
from features.filters.evaluate import mask
from features.filters.parse import parse

TABLE = pl.DataFrame(
    {
        "price": [1.0, None, 7.5, math.nan],
        "stock": [1, None, 2**53 + 1, 2**53],
        "brand": ["A", None, "é", "B"],
        "maker": ["A", "A", None, "C"],
        "ok": [True, None, False, True],
        "empty": [None] * 4,
        "day": [date(2020, 1, 1), None, date(2021, 1, 1), date(2022, 1, 1)],
        "at": [datetime(2020, 1, 1, 12, tzinfo=UTC), None, datetime(2021, 1, 1, tzinfo=UTC), None],
        "tags": [["a"], None, [], ["b"]],
        "price per kg": pl.Series([1.1, None, 2.0, 3.0], dtype=pl.Float32),
        "size": pl.Series([1, None, 200, 3], dtype=pl.UInt8),
        "hash": pl.Series([1, None, 2**64 - 1, 3], dtype=pl.UInt64),
        "cost": pl.Series([1, None, 2, 3], dtype=pl.Decimal(10, 2)),
        "kind": pl.Series(["x", None, "y", "x"], dtype=pl.Categorical),
    }
)
COLUMNS = TABLE.to_dict()


def rows(text: str) -> str:
    """Return the rows where the filter holds, as digits."""
    found = mask(parse(text), COLUMNS)
    assert found.dtype == bool
    assert found.shape == (4,)
    return "".join(str(row) for row in range(4) if found[row])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price < 5", "0"),
        ("not price < 5", "123"),  # rows 1 and 3 have no price
        ("price >= 5", "2"),
        ("price != 1", "2"),
        ("not price == 1", "123"),
        ("5 > price", "0"),
        ("1 <= price < 7.5", "0"),
        ("not 1 <= price < 7.5", "123"),
        ("price is missing", "13"),  # NaN is no price
        ("price is not missing", "02"),
        ("brand == 'A'", "0"),
        ('brand != "A"', "23"),
        ("brand > 'B'", "2"),  # é is U+00E9, after every ASCII letter
        ("brand in ['A', 'é']", "02"),
        ("brand not in ['A', 'é']", "3"),
        ("not brand in ['A', 'é']", "13"),
        ("brand in []", ""),
        ("brand not in []", "023"),
        ("brand == maker", "0"),
        ("brand != maker", "3"),
        ("not brand == maker", "123"),
        ("ok", "03"),
        ("not ok", "12"),
        ("ok == false", "2"),
        ("ok != false", "03"),
        ("ok in [false]", "2"),
        ("ok or price > 5 and brand == 'é'", "023"),
        ("(ok or price > 5) and brand == 'é'", "2"),
        ("stock == 9007199254740993", "2"),  # 2 ** 53 + 1, which no float is
        ("stock in [9007199254740992]", "3"),
        ("stock == 1.0", "0"),
        ("stock == 1.5", ""),
        ("stock > 1.5", "23"),
        ("stock in [1, 2.5, 1e300]", "0"),
        ("stock < 1e19", "023"),
        ("size < 300", "023"),
        ("size > -1", "023"),
        ("size == 200", "2"),
        ("hash == 18446744073709551615", "2"),
        ("cost < 2.5", "02"),
        ("`price per kg` == 1.1", "0"),
        ("`price per kg` <= 1.1", "0"),
        ("`price per kg` in [1.1, 3]", "03"),
        ("size < price", ""),
        ("size > cost", "2"),
        ("kind == 'x'", "03"),
        ("day >= '2021-01-01'", "23"),
        ("'2020' < at < '2020-01-02'", "0"),
        ("empty is missing", "0123"),
        ("empty == 5 or empty != 5 or empty in ['a'] or empty not in [1] or empty == brand or empty", ""),
        ("tags is missing", "1"),
    ],
)
def test_rows_by_hand(text: str, expected: str) -> None:
    assert rows(text) == expected


@pytest.mark.parametrize(
    ("text", "character", "problem"),
    [
        ("prce < 5", 1, "unknown attribute 'prce'; did you mean 'price'?"),
        ("ok and not prce < 5", 12, "unknown attribute 'prce'"),
        ("brand == DAIRY", 10, 'a text stands in quotes, "DAIRY"'),
        ("ok == True", 7, "did you mean 'true'?"),
        ("brand != None", 10, "`x is missing` asks for no value"),
        ("price < '5'", 9, "expected a number, as 'price' holds numbers, found a text"),
        ("'5' > price", 1, "expected a number, as 'price' holds numbers, found a text"),
        ("price == true", 10, "expected a number, as 'price' holds numbers, found true or false"),
        ("brand in ['A', 5]", 16, "expected a text, as 'brand' holds texts, found a number"),
        ("ok == 'yes'", 7, "expected true or false, as 'ok' holds true or false, found a text"),
        ("ok == 1", 7, "expected true or false, as 'ok' holds true or false, found a number"),
        ("ok < true", 4, "expected == or !=, as 'ok' holds true or false"),
        ("brand == price", 10, "expected a text, as 'brand' holds texts, found 'price', which holds numbers"),
        ("ok and price", 8, "expected a comparison, as 'price' holds numbers, found it alone"),
        ("brand", 1, "expected a comparison, as 'brand' holds texts, found it alone"),
        ("tags == 'a'", 1, "expected an attribute that holds numbers, texts, or true or false, found 'tags': List"),
        ("price < 'a' and prce < 5", 9, "expected a number"),  # the first of two
    ],
)
def test_what_does_not_fit_is_pointed_at(text: str, character: int, problem: str) -> None:
    with pytest.raises(FilterError) as caught:
        rows(text)
    assert caught.value.position == character - 1
    assert problem in str(caught.value)
    assert str(caught.value).split("\n")[1:] == [f"    {text}", " " * (3 + character) + "^"]
    assert caught.value.status == 422


def test_columns_that_no_filter_names_are_not_read() -> None:
    class Once(dict[str, pl.Series]):
        asked: list[str] = []  # noqa: RUF012

        def get(self, name: str, default: Any = None) -> Any:
            self.asked.append(name)
            return super().get(name, default)

    once = Once(COLUMNS)
    mask(parse("price < 5 or price > 7 and brand is missing"), once)
    assert once.asked == ["price", "brand"]
