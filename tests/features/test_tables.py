from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.schema import EVENT, ITEM, ITEM_ID, KIND, SPLIT, TEXT, TEXT_ID, TIMESTAMP, USER, USER_ID
from features.schema import UTC as UTC_DTYPE
from features.tables import (
    Tables,
    TablesNotFoundError,
    UnknownIdError,
    eligible_items,
    encode,
    extend,
    no_texts,
    read_tables,
    write_tables,
)

DAY = [datetime(2020, 1, day, tzinfo=UTC) for day in range(1, 8)]


def catalogue(ids: list[str], **attributes: list[str | None]) -> pl.DataFrame:
    return pl.DataFrame({ITEM_ID: ids, **attributes})


def tables(items: list[str], users: list[str], events: list[tuple[str, str, str, datetime]]) -> Tables:
    columns = [USER_ID, ITEM_ID, EVENT, TIMESTAMP]
    return Tables(
        items=pl.DataFrame({ITEM_ID: items}, schema={ITEM_ID: pl.String}),
        users=pl.DataFrame({USER_ID: users}, schema={USER_ID: pl.String}),
        events=pl.DataFrame(events, schema=columns, orient="row"),
    )


def test_encode_gives_row_positions_sorted_by_time() -> None:
    given_tables = tables(["a", "b"], ["u", "v"], [("v", "b", "view", DAY[2]), ("u", "b", "view", DAY[0])])
    events = encode(given_tables)
    # b is row 1 of the items; v is row 1 of the users; the event of day 0 comes first.
    assert events.select(USER, ITEM).rows() == [(0, 1), (1, 1)]
    assert events.schema[USER] == events.schema[ITEM] == pl.Int32
    assert events.columns == [USER, ITEM, EVENT, TIMESTAMP]


def test_encode_keeps_table_order_within_one_time() -> None:
    rows = [("u", item, "view", DAY[0]) for item in ("c", "a", "b")]
    assert encode(tables(["a", "b", "c"], ["u"], rows))[ITEM].to_list() == [2, 0, 1]


def test_encode_names_an_unknown_id() -> None:
    with pytest.raises(UnknownIdError, match=r"events\.item_id: .*1 events of others, first \['x'\]"):
        encode(tables(["a"], ["u"], [("u", "x", "view", DAY[0])]))


def test_before_is_strict() -> None:
    both = tables(["a"], ["u"], [("u", "a", "view", DAY[0]), ("u", "a", "view", DAY[1])])
    assert both.before(DAY[1]).events.height == 1


def test_before_leaves_out_texts_at_or_after_the_cut() -> None:
    dated = pl.DataFrame({TEXT_ID: ["1", "2", "3"], TEXT: ["a", "b", "c"], TIMESTAMP: DAY[:3]})
    both = replace(tables(["a"], ["u"], []), texts=dated)
    assert both.before(DAY[1]).texts[TEXT_ID].to_list() == ["1"]
    # A text without a time belongs to none, be it one among others.
    assert replace(both, texts=dated.drop(TIMESTAMP)).before(DAY[1]).texts.height == 3
    mixed = dated.with_columns(pl.when(pl.col(TEXT_ID) != "2").then(TIMESTAMP).alias(TIMESTAMP))
    assert replace(both, texts=mixed).before(DAY[1]).texts[TEXT_ID].to_list() == ["1", "2"]


def test_texts_are_the_new_ones() -> None:
    first, second = (
        replace(tables(["a"], ["u"], []), texts=pl.DataFrame({TEXT_ID: [own], TEXT: ["hello"]})) for own in ("1", "2")
    )
    assert extend(first, second).texts[TEXT_ID].to_list() == ["2"]


def test_extend_without_previous_is_the_new_catalogue() -> None:
    new = tables(["a"], ["u"], [])
    assert extend(None, new) is new


def test_extend_updates_keeps_and_appends() -> None:
    users = pl.DataFrame({USER_ID: ["u"]})
    events = pl.DataFrame(schema={USER_ID: pl.String})
    old = Tables(items=catalogue(["a", "b"], brand=["A", "B"]), users=users, events=events)
    new = Tables(items=catalogue(["c", "a"], brand=["C", "A2"], size=["L", "S"]), users=users, events=events)
    # a: position 0, new attributes; b: gone from the source, so as it was, its new attribute null; c: appended.
    assert extend(old, new).items.rows() == [("a", "A2", "S"), ("b", "B", None), ("c", "C", "L")]


def assert_positions_kept(previous: list[str], grown: list[str]) -> None:
    assert grown[: len(previous)] == previous


@settings(max_examples=50, deadline=None)
@given(
    old=st.lists(st.text(min_size=1, max_size=2), unique=True, max_size=8),
    new=st.lists(st.text(min_size=1, max_size=2), unique=True, max_size=8),
)
def test_extend_never_moves_a_position(old: list[str], new: list[str]) -> None:
    grown = extend(tables(old, ["u"], []), tables(new, ["u"], [])).items[ITEM_ID].to_list()
    assert_positions_kept(old, grown)
    assert sorted(grown) == sorted({*old, *new})


def test_eligible_counts_distinct_users_before_the_cut() -> None:
    items = pl.DataFrame({ITEM_ID: ["a", "b", "c", "d"], KIND: ["product", "product", "product", "coupon"]})
    events = pl.DataFrame(
        [
            (0, 0, "purchase", DAY[0]),
            (1, 0, "purchase", DAY[1]),  # a: two users
            (0, 1, "purchase", DAY[0]),
            (0, 1, "purchase", DAY[1]),  # b: one user twice
            (0, 2, "purchase", DAY[0]),
            (1, 2, "purchase", DAY[3]),  # c: the second user comes at the cut
            (0, 3, "purchase", DAY[0]),
            (1, 3, "purchase", DAY[0]),  # d: two users, but a coupon
            (1, 1, "exposure", DAY[0]),
        ],
        schema=[USER, ITEM, EVENT, TIMESTAMP],
        orient="row",
    )
    both = eligible_items(items, events, cut=DAY[3], min_users=2)
    np.testing.assert_array_equal(both, [True, False, False, True])
    allowed = np.array([True, True, True, False])
    products = eligible_items(items, events, cut=DAY[3], min_users=2, allowed=allowed)
    np.testing.assert_array_equal(products, [True, False, False, False])


def test_new_items_need_no_buyers_and_ended_ones_have_had_theirs() -> None:
    begins = [DAY[0], DAY[1], DAY[2], DAY[3], None, None, None]
    ends = [None, None, None, None, DAY[2], DAY[3], None]
    # Of seven items the last three have been bought by two users.
    items = pl.DataFrame(
        {ITEM_ID: list("abcdefg"), "available_from": begins, "available_to": ends},
        schema_overrides=dict.fromkeys(("available_from", "available_to"), UTC_DTYPE),
    )
    events = pl.DataFrame(
        [(user, item, "purchase", DAY[0]) for user in (0, 1) for item in (4, 5, 6)],
        schema=[USER, ITEM, EVENT, TIMESTAMP],
        orient="row",
    )
    # a and b began no later than DAY[1]; c did, d even after the cut; e has ended at the cut, f will.
    eligible = eligible_items(items, events, cut=DAY[2], min_users=2, new_since=DAY[1])
    np.testing.assert_array_equal(eligible, [False, False, True, True, False, True, True])
    without = eligible_items(items, events, cut=DAY[2], min_users=2)
    np.testing.assert_array_equal(without, [False, False, False, False, False, True, True])
    all_but_ended = eligible_items(items, events, cut=DAY[2], min_users=None)
    np.testing.assert_array_equal(all_but_ended, [True, True, True, True, False, True, True])
    # What may not be recommended at all isn't for being new.
    allowed = np.array([True] * 3 + [False] * 4)
    few = eligible_items(items, events, cut=DAY[2], min_users=2, new_since=DAY[1], allowed=allowed)
    np.testing.assert_array_equal(few, [False, False, True, False, False, False, False])


def test_where_nobody_can_buy_every_item_of_its_kind_is_eligible() -> None:
    items = pl.DataFrame({ITEM_ID: ["a", "b"], KIND: ["answer", "draft"]})
    nothing = encode(Tables(items=items))
    np.testing.assert_array_equal(eligible_items(items, nothing, cut=DAY[0], min_users=None), [True, True])
    allowed = np.array([True, False])
    answers = eligible_items(items, nothing, cut=DAY[0], min_users=None, allowed=allowed)
    np.testing.assert_array_equal(answers, [True, False])


def test_a_catalogue_that_a_source_no_longer_has_goes_on_in_no_other() -> None:
    shop = tables(["a"], ["u"], [("u", "a", "view", DAY[0])])
    texts = Tables(texts=pl.DataFrame({TEXT_ID: ["1"], TEXT: ["tea"]}))
    alone = extend(shop.only({"texts"}), texts)
    assert (alone.items.height, alone.users.height, alone.texts.height) == (0, 0, 1)
    assert extend(shop.only({"items", "texts"}), texts).items[ITEM_ID].to_list() == ["a"]


def test_test_rows_are_taken_out_of_texts_alone() -> None:
    texts = pl.DataFrame({TEXT_ID: list("abcd"), TEXT: list("abcd"), SPLIT: ["train", "test", None, "validation"]})
    found = replace(tables(["a"], ["u"], [("u", "a", "view", DAY[0])]), texts=texts).without_test()
    assert found.texts[TEXT_ID].to_list() == ["a", "c", "d"]
    assert found.events.height == 1


def test_written_tables_read_back_and_are_replaced_whole(tmp_path: Path) -> None:
    first = tables(["a"], ["u"], [("u", "a", "view", DAY[0])])
    labelled = pl.DataFrame({TEXT_ID: ["1"], TEXT: ["tea please"], "tags": [["B", "O"]]})
    second = replace(tables(["a", "b"], ["u"], [("u", "b", "view", DAY[0])]), texts=labelled)
    write_tables(first, tmp_path / "tables")
    write_tables(second, tmp_path / "tables")
    read = read_tables(tmp_path / "tables")
    assert read.items.equals(second.items)
    assert read.events.equals(second.events)
    assert read.texts.equals(labelled)
    write_tables(first, tmp_path / "tables")
    assert read_tables(tmp_path / "tables").texts.schema == no_texts().schema
    assert [entry.name for entry in tmp_path.iterdir()] == ["tables"]


def test_absent_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(TablesNotFoundError, match=r"items\.parquet.*events\.parquet.*texts\.parquet"):
        read_tables(tmp_path)
