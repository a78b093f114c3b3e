from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from features.findings import Finding, ValidationReport
from features.rules import (
    BLANK_TEXT,
    CAST_KEY,
    DROP_SHARE,
    DUPLICATE_KEY,
    EMPTY_TABLE,
    FUTURE_TIMESTAMP,
    MERGED,
    MISSING_COLUMN,
    NAIVE_TIMESTAMP,
    NULL_KEY,
    UNKNOWN_ITEM,
    UNKNOWN_SPLIT,
    UNKNOWN_USER,
    UNUSED_COLUMN,
    WRONG_TYPE,
    ValidationConfig,
)
from features.schema import EVENT, ITEM_ID, QUANTITY, SPLIT, TEXT, TEXT_ID, TIMESTAMP, USER_ID, VALUE
from features.tables import EVENTS_TABLE, ITEMS_TABLE, TEXTS_TABLE, USERS_TABLE, Tables
from features.validate import InvalidTablesError, validate

NOW = datetime(2024, 1, 1, tzinfo=UTC)
THEN = datetime(2023, 6, 1, 12, tzinfo=UTC)
LENIENT = ValidationConfig(
    wrong_type="drop",
    null_key="drop",
    duplicate_key="drop",
    naive_timestamp="drop",
    future_timestamp="drop",
    max_drop_share=1,
)


def make(**changes: pl.DataFrame) -> Tables:
    """Two items, two users, three sound events; `changes` replaces a whole table."""
    sound = {
        ITEMS_TABLE: pl.DataFrame({ITEM_ID: ["a", "b"]}),
        USERS_TABLE: pl.DataFrame({USER_ID: ["u", "v"]}),
        EVENTS_TABLE: events(user_id=["u", "u", "v"], item_id=["a", "b", "a"]),
    }
    return Tables(**{**sound, **changes})


def events(**columns: list[Any]) -> pl.DataFrame:
    """Events of a few given columns; the rest are sound."""
    rows = len(next(iter(columns.values())))
    times = [THEN + timedelta(hours=hour) for hour in range(rows)]
    sound = {USER_ID: ["u"] * rows, ITEM_ID: ["a"] * rows, EVENT: ["purchase"] * rows, TIMESTAMP: times}
    return pl.DataFrame({**sound, **columns})


def texts(**columns: list[Any]) -> pl.DataFrame:
    """Texts of a few given columns; the rest are sound."""
    rows = len(next(iter(columns.values())))
    sound = {TEXT_ID: [f"t{row}" for row in range(rows)], TEXT: ["hello"] * rows}
    return pl.DataFrame({**sound, **columns})


def failure(tables: Tables, config: ValidationConfig | None = None) -> InvalidTablesError:
    with pytest.raises(InvalidTablesError) as caught:
        validate(tables, config or ValidationConfig(), now=NOW)
    return caught.value


def finding(report: ValidationReport, rule: str, table: str = EVENTS_TABLE) -> Finding:
    (found,) = [f for f in report.findings if f.rule == rule and f.table == table and f.count]
    return found


def test_sound_tables_pass_with_their_amounts_completed() -> None:
    tables, report = validate(make(), ValidationConfig(), now=NOW)
    assert tables.events.columns == [USER_ID, ITEM_ID, EVENT, TIMESTAMP, VALUE, QUANTITY]
    assert tables.events[VALUE].to_list() == [None, None, None]
    assert [(t.table, t.read, t.kept) for t in report.tables] == [("items", 2, 2), ("users", 2, 2), ("events", 3, 3)]
    assert report.dropped == 0


def test_a_missing_column_is_an_error_naming_table_and_columns() -> None:
    error = failure(make(events=events(user_id=["u"]).drop(TIMESTAMP)))
    assert str(error) == (
        "events.timestamp: missing_column: expected a column 'timestamp', found columns user_id, item_id, event"
    )
    assert error.status == 422


def test_an_empty_table_is_an_error() -> None:
    error = failure(make(users=pl.DataFrame({USER_ID: []}, schema={USER_ID: pl.String})))
    assert str(error) == "users.*: empty_table: expected at least one row, found no rows"


def test_a_table_that_drops_leave_empty_is_an_error() -> None:
    tables = make(events=events(item_id=["x", "y"]))
    error = failure(tables, ValidationConfig(max_drop_share=1))
    assert error.report.count(EMPTY_TABLE, EVENTS_TABLE) == 1


# Each kind of bad row: the table it is in, the table with one bad row after sound ones, its rule and column.
BAD_ROWS = {
    "text for a number": (EVENTS_TABLE, events(value=["1.5", "dear"]), WRONG_TYPE, VALUE),
    "infinite amount": (EVENTS_TABLE, events(quantity=[1.0, float("inf")]), WRONG_TYPE, QUANTITY),
    "text for a time": (EVENTS_TABLE, events(timestamp=["2023-06-01T12:00:00Z", "soon"]), WRONG_TYPE, TIMESTAMP),
    "null id of an event": (EVENTS_TABLE, events(item_id=["a", None]), NULL_KEY, ITEM_ID),
    "blank id of an event": (EVENTS_TABLE, events(user_id=["u", "  "]), NULL_KEY, USER_ID),
    "null event": (EVENTS_TABLE, events(event=["purchase", None]), NULL_KEY, EVENT),
    "null time": (EVENTS_TABLE, events(timestamp=[THEN, None]), NULL_KEY, TIMESTAMP),
    "null id of an item": (ITEMS_TABLE, pl.DataFrame({ITEM_ID: ["a", "b", None]}), NULL_KEY, ITEM_ID),
    "duplicate item": (ITEMS_TABLE, pl.DataFrame({ITEM_ID: ["a", "b", "a"]}), DUPLICATE_KEY, ITEM_ID),
    "duplicate user": (USERS_TABLE, pl.DataFrame({USER_ID: ["u", "v", "v"]}), DUPLICATE_KEY, USER_ID),
    "future time": (EVENTS_TABLE, events(timestamp=[THEN, NOW + timedelta(seconds=1)]), FUTURE_TIMESTAMP, TIMESTAMP),
    "naive time": (EVENTS_TABLE, events(timestamp=["2023-06-01T12:00:00Z", "2023-06-01"]), NAIVE_TIMESTAMP, TIMESTAMP),
    "unknown item": (EVENTS_TABLE, events(item_id=["a", "x"]), UNKNOWN_ITEM, ITEM_ID),
    "unknown user": (EVENTS_TABLE, events(user_id=["u", "x"]), UNKNOWN_USER, USER_ID),
    "null id of a text": (TEXTS_TABLE, texts(text_id=["a", None]), NULL_KEY, TEXT_ID),
    "duplicate text": (TEXTS_TABLE, texts(text_id=["a", "b", "a"]), DUPLICATE_KEY, TEXT_ID),
    "null text": (TEXTS_TABLE, texts(text=["hello", None]), BLANK_TEXT, TEXT),
    "blank text": (TEXTS_TABLE, texts(text=["hello", " \n"]), BLANK_TEXT, TEXT),
    "null time of a text": (TEXTS_TABLE, texts(timestamp=[THEN, None]), NULL_KEY, TIMESTAMP),
    "naive time of a text": (
        TEXTS_TABLE,
        texts(timestamp=["2023-06-01T12:00:00Z", "2023-06-01"]),
        NAIVE_TIMESTAMP,
        TIMESTAMP,
    ),
    "future time of a text": (
        TEXTS_TABLE,
        texts(timestamp=[THEN, NOW + timedelta(days=1)]),
        FUTURE_TIMESTAMP,
        TIMESTAMP,
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_fails_under_error(case: str) -> None:
    table, frame, rule, column = BAD_ROWS[case]
    strict = ValidationConfig(unknown_item="error", unknown_user="error", blank_text="error", max_drop_share=1)
    error = failure(make(**{table: frame}), strict)
    assert finding(error.report, rule, table).action == "error"
    assert str(error).startswith(f"{table}.{column}: {rule}: expected ")
    # The bad row is the last one: its number is shown.
    assert f"row='{frame.height - 1}'" in str(error)


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_dropped_and_counted_under_drop(case: str) -> None:
    table, frame, rule, column = BAD_ROWS[case]
    tables, report = validate(make(**{table: frame}), LENIENT, now=NOW)
    found = finding(report, rule, table)
    assert (found.action, found.count, found.column) == ("drop", 1, column)
    assert getattr(tables, table).height == frame.height - 1
    assert report.dropped == 1


def test_events_of_items_that_come_from_elsewhere_are_let_through() -> None:
    bought = events(item_id=["a", "logged", "never"])
    tables, report = validate(make(events=bought), LENIENT, now=NOW, known_items=["logged"])
    assert tables.events[ITEM_ID].to_list() == ["a", "logged"]
    # Two of the table and the one from elsewhere.
    assert finding(report, "unknown_item", EVENTS_TABLE).expected == "one of the 3 ids of its table"
    assert tables.items[ITEM_ID].to_list() == ["a", "b"]


def test_texts_keep_their_columns_and_are_counted() -> None:
    labelled = texts(text_id=[7, 8, 9], text=["hi", "", "bye"], topic=["a", "b", None], tags=[["O"], [], ["O"]])
    tables, report = validate(make(texts=labelled), ValidationConfig(max_drop_share=0.5), now=NOW)
    assert tables.texts.rows() == [("7", "hi", "a", ["O"]), ("9", "bye", None, ["O"])]
    assert (report.tables[-1].table, report.tables[-1].read, report.tables[-1].kept) == ("texts", 3, 2)
    assert report.count(BLANK_TEXT) == 1


def test_too_many_blank_texts_fail() -> None:
    error = failure(make(texts=texts(text=["hello", ""])))
    assert error.report.count(DROP_SHARE, TEXTS_TABLE) == 1


def test_texts_without_their_columns_are_an_error() -> None:
    error = failure(make(texts=pl.DataFrame({TEXT_ID: ["a"], "body": ["hello"]})))
    assert str(error) == "texts.text: missing_column: expected a column 'text', found columns text_id, body"
    error = failure(make(texts=texts(text=[1.5, 2.5])))
    assert "texts.text: wrong_type: expected text or whole numbers, found 2 rows with type Float64" in str(error)


def test_a_table_is_asked_for_only_where_it_is_declared() -> None:
    alone = Tables(texts=texts(text=["hello"]))
    tables, report = validate(alone, ValidationConfig(), now=NOW, declared={TEXTS_TABLE})
    assert tables.texts.height == 1
    assert [rows.table for rows in report.tables] == [TEXTS_TABLE]
    assert {found.table for found in report.findings} == {TEXTS_TABLE}
    with pytest.raises(InvalidTablesError, match=r"^items\.\*: empty_table: expected at least one row, found no rows$"):
        validate(alone, ValidationConfig(), now=NOW, declared={TEXTS_TABLE, ITEMS_TABLE})


def test_items_without_events_are_checked_as_a_catalogue() -> None:
    both = Tables(items=pl.DataFrame({ITEM_ID: ["a", "a"]}), texts=texts(text=["hello"]))
    with pytest.raises(InvalidTablesError, match=r"items\.item_id: duplicate_key"):
        validate(both, ValidationConfig(), now=NOW, declared={TEXTS_TABLE, ITEMS_TABLE})


def test_a_split_is_one_of_three_or_null_whatever_the_policies() -> None:
    sound = texts(text=list("abcd"), split=["train", "validation", "test", None])
    tables, report = validate(make(texts=sound), ValidationConfig(), now=NOW)
    assert tables.texts[SPLIT].to_list() == ["train", "validation", "test", None]
    assert report.count(UNKNOWN_SPLIT) == 0
    error = failure(make(texts=texts(text=list("abc"), split=["train", "dev", "holdout"])), LENIENT)
    assert str(error) == (
        "texts.split: unknown_split: expected one of train, validation, test, or null, found 2 rows with others: "
        "'dev', 'holdout'; first rows: row='1', text_id='t1', text='b', split='dev'; "
        "row='2', text_id='t2', text='c', split='holdout'"
    )
    unset, _ = validate(make(texts=texts(text=["a"], split=[None])), ValidationConfig(), now=NOW)
    assert unset.texts.schema[SPLIT] == pl.String


def test_a_long_text_is_shown_in_part() -> None:
    error = failure(make(texts=texts(text_id=["a", None], text=["x" * 5_000] * 2)))
    assert f"text='{'x' * 77}...'" in str(error)


def test_unknown_ids_are_dropped_and_counted_by_default() -> None:
    tables, report = validate(make(events=events(item_id=["a", "x"])), ValidationConfig(max_drop_share=0.5), now=NOW)
    assert (tables.events.height, report.count(UNKNOWN_ITEM)) == (1, 1)


def test_a_column_of_another_kind_is_wrong_whole() -> None:
    error = failure(make(items=pl.DataFrame({ITEM_ID: [1.0, 2.0]})))
    assert "items.item_id: wrong_type: expected text or whole numbers, found 2 rows with type Float64" in str(error)
    error = failure(make(events=events(value=[[1], [2]])))
    assert "events.value: wrong_type: expected finite numbers, found 2 rows with type List(Int64)" in str(error)


def test_whole_number_ids_become_text_and_are_reported() -> None:
    tables, report = validate(
        make(items=pl.DataFrame({ITEM_ID: [1, 2]}), events=events(item_id=[1, 2])), ValidationConfig(), now=NOW
    )
    assert tables.items[ITEM_ID].to_list() == ["1", "2"]
    assert [(f.table, f.count) for f in report.findings if f.rule == CAST_KEY] == [("items", 2), ("events", 2)]


def test_naive_times_take_the_assumed_zone() -> None:
    naive = make(events=events(timestamp=[datetime(2023, 6, 1, 14)]))
    tables, report = validate(naive, ValidationConfig(assume_timezone="Europe/Paris"), now=NOW)
    assert tables.events[TIMESTAMP].to_list() == [THEN]  # Paris is UTC+2 in June
    assert (report.count(NAIVE_TIMESTAMP), report.dropped) == (1, 0)


def test_a_zone_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected an IANA time zone"):
        ValidationConfig(assume_timezone="Europe/Pariss")


def test_a_catalogue_date_without_zone_is_found_and_a_null_one_is_fine() -> None:
    items = pl.DataFrame({ITEM_ID: ["a", "b"], "available_from": [datetime(2023, 1, 1), None]})
    assert failure(make(items=items)).report.count(NAIVE_TIMESTAMP, ITEMS_TABLE) == 1
    tables, _ = validate(make(items=items), ValidationConfig(assume_timezone="UTC"), now=NOW)
    assert tables.items["available_from"].to_list() == [datetime(2023, 1, 1, tzinfo=UTC), None]


def test_parts_of_one_purchase_are_summed_into_the_first_row() -> None:
    parts = events(
        item_id=["a", "b", "a", "a"],
        timestamp=[THEN, THEN, THEN, THEN + timedelta(hours=1)],
        value=[1.0, None, 2.5, 4.0],
        quantity=[None, 1, None, 1],
    )
    tables, report = validate(make(events=parts), ValidationConfig(), now=NOW)
    # Rows 0 and 2 are one event: value 1.0 + 2.5; their quantities are unknown, and stay so.
    assert tables.events.select(ITEM_ID, VALUE, QUANTITY).rows() == [
        ("a", 3.5, None),
        ("b", None, 1.0),
        ("a", 4.0, 1.0),
    ]
    assert (report.merged, report.dropped, report.count(MERGED)) == (1, 0, 1)


def test_a_repeated_event_of_another_kind_is_a_duplicate() -> None:
    twice = make(events=events(event=["rating", "rating", "rating"], timestamp=[THEN, THEN, NOW], value=[5, 3, 1]))
    assert failure(twice).report.count(DUPLICATE_KEY, EVENTS_TABLE) == 1
    tables, report = validate(twice, LENIENT, now=NOW)
    assert (tables.events[VALUE].to_list(), report.count(DUPLICATE_KEY)) == ([5.0, 1.0], 1)


def test_all_failures_are_raised_together() -> None:
    both = make(items=pl.DataFrame({ITEM_ID: ["a", "a"]}), events=events(timestamp=[THEN, NOW + timedelta(days=1)]))
    lines = str(failure(both)).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["items.item_id", DUPLICATE_KEY],
        ["events.timestamp", FUTURE_TIMESTAMP],
    ]


def test_dropping_too_large_a_share_fails() -> None:
    mostly_unknown = make(events=events(item_id=["a", "x", "y", "z"]))
    error = failure(mostly_unknown, ValidationConfig(max_drop_share=0.5))
    assert "drop_share: expected at most 50.0% of 4 rows dropped (max_drop_share), found 3 dropped (75.0%)" in str(
        error
    )
    assert error.report.count(DROP_SHARE) == 3


def test_rows_that_the_reader_dropped_count_in_the_share() -> None:
    note = Finding(
        table=EVENTS_TABLE, column=TIMESTAMP, rule=WRONG_TYPE, action="drop", count=1, expected="a time", found="none"
    )
    with pytest.raises(InvalidTablesError, match=r"at most 20\.0% of 4 rows"):
        validate(make(), ValidationConfig(max_drop_share=0.2), now=NOW, notes=[note])


def test_columns_that_nothing_reads_are_left_out_and_reported() -> None:
    tables, report = validate(make(events=events(store=["s1"])), ValidationConfig(), now=NOW)
    assert "store" not in tables.events.columns
    assert finding(report, UNUSED_COLUMN).column == "store"


def test_the_report_survives_json_and_renders_what_counted() -> None:
    bad = make(events=events(item_id=["a", "[red]x"]))
    _, report = validate(bad, ValidationConfig(max_drop_share=1), now=NOW)
    assert ValidationReport.model_validate_json(report.model_dump_json()) == report
    page = io.StringIO()
    Console(file=page, width=120).print(report.render())
    text = page.getvalue()
    assert UNKNOWN_ITEM in text
    assert MISSING_COLUMN not in text
    assert "more checks found nothing" in text


def assert_every_row_accounted(report: ValidationReport) -> None:
    for rows in report.tables:
        gone = sum(f.count for f in report.findings if f.table == rows.table and f.action in ("drop", "merge"))
        assert rows.read == rows.kept + gone


WILD_TEXT = st.one_of(st.none(), st.sampled_from(["a", "b", "u", "v", "", " "]), st.text(max_size=3))
WILD_TIME = st.one_of(
    st.none(), st.sampled_from(["2023-06-01T12:00:00Z", "2023-06-01", "2030-01-01T00:00:00Z"]), st.text(max_size=4)
)
WILD_ROW = st.tuples(
    WILD_TEXT, WILD_TEXT, st.sampled_from(["purchase", "view", None]), WILD_TIME, st.sampled_from(["1", "x", None])
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(WILD_ROW, max_size=12))
def test_every_row_of_wild_tables_is_kept_or_accounted_for(rows: list[tuple[str | None, ...]]) -> None:
    columns = dict.fromkeys((USER_ID, ITEM_ID, EVENT, TIMESTAMP, VALUE), pl.String)
    # One sound row first, so that the table isn't left empty.
    sound = ("u", "a", "purchase", "2023-01-01T00:00:00Z", "1")
    frame = pl.DataFrame([sound, *rows], schema=columns, orient="row")
    tables, report = validate(make(events=frame), LENIENT, now=NOW)
    assert_every_row_accounted(report)
    assert tables.events.null_count().select(USER_ID, ITEM_ID, EVENT, TIMESTAMP).row(0) == (0, 0, 0, 0)
    assert tables.events.select(USER_ID, ITEM_ID, EVENT, TIMESTAMP).is_duplicated().sum() == 0


def test_a_text_without_a_time_needs_a_split_where_others_have_times() -> None:
    placed = texts(text=["a", "b"], timestamp=[THEN, None], split=[None, "test"])
    tables, report = validate(make(texts=placed), ValidationConfig(), now=NOW)
    assert tables.texts[TIMESTAMP].null_count() == 1
    assert report.dropped == 0
    lost = texts(text=["a", "b"], timestamp=[None, None], split=[None, "test"])
    assert failure(make(texts=lost)).report.count(NULL_KEY, TEXTS_TABLE) == 1
