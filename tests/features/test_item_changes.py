"""What logged changes make of the catalogue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.item_changes import ItemChangeError, changed_items, check_changes, fitting_changes, later_changes
from features.item_log import ItemChange, LoggedChange
from features.item_values import ItemValue

START = datetime(2026, 3, 1, tzinfo=UTC)
ITEMS = pl.DataFrame(
    {"item_id": ["a", "b", "c"], "title": ["tea", "soap", "milk"], "price": [1.5, 2.5, None], "stock": [1, 2, 3]}
)


def logged(*changes: tuple[str, dict[str, ItemValue]], first: int = 1) -> list[LoggedChange]:
    """Number n is received n hours after the start."""
    return [
        LoggedChange(
            sequence=number,
            received=START + timedelta(hours=number),
            change=ItemChange(item_id=item_id, values=values),
        )
        for number, (item_id, values) in enumerate(changes, first)
    ]


def test_patches_in_place_and_appends() -> None:
    changes = logged(
        ("c", {"price": 4}),
        ("d", {"title": "rice"}),
        ("a", {"title": None, "stock": 9.0}),
        ("d", {"price": 3.5}),
    )
    before = ITEMS.clone()
    found = changed_items(ITEMS, changes)
    assert found.positions.tolist() == [0, 2, 3]
    assert found.frame.drop("available_from").rows() == [
        ("a", None, 1.5, 9),
        ("b", "soap", 2.5, 2),
        ("c", "milk", 4.0, 3),
        ("d", "rice", 3.5, None),
    ]
    # The first change of "d" was the second of the log.
    assert found.frame["available_from"].to_list() == [None, None, None, START + timedelta(hours=2)]
    assert_frame_equal(ITEMS, before)


def test_without_changes_nothing_is_changed() -> None:
    found = changed_items(ITEMS, [])
    assert_frame_equal(found.frame, ITEMS)
    assert found.positions.tolist() == []
    assert found.positions.dtype == np.int32


def test_new_items_come_in_the_order_of_the_log() -> None:
    found = changed_items(ITEMS, logged(("z", {}), ("b", {}), ("y", {}), ("z", {"title": "last"})))
    assert found.frame["item_id"].to_list() == ["a", "b", "c", "z", "y"]
    assert found.positions.tolist() == [1, 3, 4]


@pytest.mark.parametrize("column", ["available_from", "available_to", "updated_at"])
def test_a_time_is_a_column_that_any_catalogue_may_get(column: str) -> None:
    found = changed_items(ITEMS, logged(("b", {column: "2026-05-01T02:00:00+02:00"}))).frame
    assert found.columns == [*ITEMS.columns, column]
    assert found.schema[column] == pl.Datetime("us", "UTC")
    assert found[column].to_list() == [None, datetime(2026, 5, 1, tzinfo=UTC), None]


@pytest.mark.parametrize(
    ("value", "begins"),
    [(None, START + timedelta(hours=1)), ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC))],
)
def test_a_new_item_begins_when_it_was_received_or_when_it_says(value: ItemValue, begins: datetime) -> None:
    found = changed_items(ITEMS, logged(("d", {"available_from": value}))).frame
    assert found["available_from"].to_list() == [None, None, None, begins]


def test_a_later_change_may_take_the_begin_away() -> None:
    found = changed_items(ITEMS, logged(("d", {}), ("d", {"available_from": None}))).frame
    assert found["available_from"].to_list() == [None, None, None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("a", {"price": "2"}), r"item 'a', column 'price': expected a number of type Float64, found '2'"),
        (("d", {"titel": "x"}), r"item 'd': unknown column 'titel'; did you mean 'title'\?"),
        (("d", {"item_id": "e"}), r"item 'd': expected columns besides item_id, which never changes"),
        (("a", {"available_to": "tomorrow"}), r"column 'available_to': expected an ISO 8601 time with a zone, such as"),
        (("a", {"price": "9" * 500}), r"found '9{76}\.\.\.$"),
    ],
)
def test_what_does_not_fit_is_refused(change: tuple[str, dict[str, ItemValue]], message: str) -> None:
    changes = logged(("b", {"price": 1}), change)
    with pytest.raises(ItemChangeError, match=message):
        changed_items(ITEMS, changes)
    with pytest.raises(ItemChangeError, match=message):
        check_changes(ITEMS.schema, [one.change for one in changes])


def test_what_fits_is_not_refused() -> None:
    check_changes(ITEMS.schema, [ItemChange(item_id="n", values={"title": "x", "updated_at": "2026-01-01T00:00:00Z"})])


def test_what_no_longer_fits_is_left_out_alone() -> None:
    changes = logged(("a", {"price": 1, "colour": "red"}), ("b", {"price": "cheap"}), ("d", {"title": "rice"}))
    kept, errors = fitting_changes(ITEMS.schema, changes)
    assert [one.change.values for one in kept] == [{"price": 1}, {}, {"title": "rice"}]
    assert [(one.sequence, one.received) for one in kept] == [(one.sequence, one.received) for one in changes]
    assert [str(error).split(":")[0] for error in errors] == ["item 'a'", "item 'b', column 'price'"]
    assert changed_items(ITEMS, kept).frame.height == 4


def test_a_source_that_was_updated_later_overrules_a_change() -> None:
    at = [START + timedelta(hours=2), START + timedelta(hours=2, microseconds=1), None]
    items = ITEMS.with_columns(pl.Series("updated_at", at, dtype=pl.Datetime("us", "UTC")))
    changes = logged(("d", {}), ("a", {}), ("c", {}), first=2) + logged(("b", {}), first=2)
    # Of "a" it is as late as change 3, not later; of "b" a microsecond after change 2; of "c" nothing is said.
    assert [one.change.item_id for one in later_changes(items, changes)] == ["d", "a", "c"]
    assert later_changes(ITEMS, changes) is changes


_IDS = st.sampled_from(["a", "b", "c", "d", "e", "f"])
_TIMES = st.sampled_from([None, "2026-01-01T00:00:00Z", "2030-01-01T00:00:00+05:00"])
_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "title": st.none() | st.text(max_size=4),
        "price": st.none() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False),
        "available_from": _TIMES,
        "available_to": _TIMES,
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_IDS, _VALUES), max_size=12), st.data())
def test_changes_in_parts_are_changes_together(
    changes: Sequence[tuple[str, dict[str, ItemValue]]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(changes)))
    numbered = logged(*changes)
    whole = changed_items(ITEMS, numbered)
    first = changed_items(ITEMS, numbered[:cut])
    second = changed_items(first.frame, numbered[cut:])
    assert_frame_equal(second.frame, whole.frame)
    assert sorted({*first.positions.tolist(), *second.positions.tolist()}) == whole.positions.tolist()
    # Positions only append, and what no change names stays as it was.
    assert whole.frame["item_id"].to_list()[:3] == ["a", "b", "c"]
    named = {item_id for item_id, _ in changes}
    untouched = ITEMS.filter(~pl.col("item_id").is_in(named))
    kept = whole.frame.filter(pl.col("item_id").is_in(untouched["item_id"].implode()))
    assert_frame_equal(kept.select(ITEMS.columns), untouched)


def test_few_changes_of_a_million_items_take_no_walk_over_them() -> None:
    n = 1_000_000
    items = pl.DataFrame({"item_id": pl.int_range(n, eager=True).cast(pl.String)}).with_columns(
        title=pl.col("item_id") + " of tea", price=pl.lit(1.5)
    )
    values: dict[str, ItemValue] = {"title": "new", "price": 2}
    changes = logged(*((str(n - 5 + number), values) for number in range(10)))
    start = time.perf_counter()
    found = changed_items(items, changes)
    # 40 ms on one busy core; a Python loop over the rows takes over a second.
    assert time.perf_counter() - start < 0.6
    assert found.positions.tolist() == list(range(n - 5, n + 5))
    assert found.frame["title"].tail(11).to_list() == [f"{n - 6} of tea", *["new"] * 10]
