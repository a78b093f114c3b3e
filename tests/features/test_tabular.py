from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from features.findings import ValidationReport
from features.rules import ValidationConfig
from features.schema import EVENT, ITEM_ID, TEXT, TEXT_ID, TIMESTAMP, USER_ID, VALUE
from features.sources import SourceConfig, load
from features.tables import Tables, encode
from features.tabular import DatabaseUnavailableError, SourceNotFoundError, SourceUnreadableError, TablesConfig
from features.validate import InvalidTablesError

NOW = datetime(2024, 1, 1, tzinfo=UTC)
NOON = datetime(2023, 6, 1, 12, tzinfo=UTC)
ITEMS = {"type": "csv", "path": "items.csv", "columns": {"item_id": "sku", "title": "name"}}
ORDERS = {
    "type": "csv",
    "path": "orders.csv",
    "separator": ";",
    "columns": {
        "user_id": "customer",
        "item_id": "sku",
        "event": {"constant": "purchase"},
        "timestamp": {"column": "bought", "format": "%d/%m/%Y %H:%M", "timezone": "Europe/Paris"},
        "value": "price",
    },
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text("sku,name,secret\n007,Tea,x\n7,Café,y\n", encoding="utf-8")
    (tmp_path / "orders.csv").write_text(
        "customer;sku;bought;price\n1;007;01/06/2023 14:00;2.5\n2;7;01/06/2023 14:00;3\n", encoding="utf-8"
    )
    return tmp_path


def read(base: Path, rules: ValidationConfig | None = None, **tables: Any) -> tuple[Tables, ValidationReport]:
    config = TablesConfig.model_validate({"type": "tables", "items": ITEMS, "events": ORDERS, **tables})
    return load(config, base, NOW, rules=rules, environment={"SHOP_DB": str(base / "shop.db"), "PASSWORD": "hunter2"})


def test_csv_by_a_mapping(shop: Path) -> None:
    tables, report = read(shop)
    # "007" and "7" are two items: ids are never read as numbers. Unlisted columns ("secret") are not read.
    assert tables.items.rows() == [("007", "Tea"), ("7", "Café")]
    # 14:00 in Paris is 12:00 UTC in June.
    assert tables.events.select(USER_ID, ITEM_ID, EVENT, TIMESTAMP, VALUE).rows() == [
        ("1", "007", "purchase", NOON, 2.5),
        ("2", "7", "purchase", NOON, 3.0),
    ]
    assert tables.users[USER_ID].to_list() == ["1", "2"]
    assert report.count("users_from_events") == 2


def test_parquet_globs_and_columns_under_their_own_names(shop: Path) -> None:
    for part, user in enumerate(("1", "2")):
        frame = pl.DataFrame({USER_ID: [user], ITEM_ID: ["7"], EVENT: ["view"], TIMESTAMP: [NOON]})
        frame.write_parquet(shop / f"views-{part}.parquet")
    tables, _ = read(shop, events={"type": "parquet", "path": "views-*.parquet"})
    assert tables.events[USER_ID].to_list() == ["1", "2"]


def test_a_database_query(shop: Path) -> None:
    with sqlite3.connect(shop / "shop.db") as connection:
        connection.execute("CREATE TABLE visits (who INTEGER, what TEXT, at INTEGER)")
        connection.execute("INSERT INTO visits VALUES (1, '007', ?)", (int(NOON.timestamp()) * 1000,))
    connection.close()
    visits = {
        "type": "database",
        "uri": "sqlite://${SHOP_DB}",
        "query": "SELECT who, what, at FROM visits",
        "columns": {
            "user_id": "who",
            "item_id": "what",
            "event": {"constant": "view"},
            "timestamp": {"column": "at", "unit": "ms"},
        },
    }
    tables, _ = read(shop, events=[visits, ORDERS])
    # The visit comes first, and its integer id joins the orders' text ids.
    assert tables.events.select(USER_ID, EVENT, TIMESTAMP).rows() == [
        ("1", "view", NOON),
        ("1", "purchase", NOON),
        ("2", "purchase", NOON),
    ]


def test_a_failing_query_names_the_uri_without_its_password(shop: Path) -> None:
    sqlite3.connect(shop / "shop.db").close()
    events = {"type": "database", "uri": "sqlite://${SHOP_DB}?password=${PASSWORD}", "query": "SELECT * FROM nothing"}
    with pytest.raises(DatabaseUnavailableError, match=r"sqlite://\$\{SHOP_DB\}.*SELECT \* FROM nothing") as caught:
        read(shop, events=events)
    assert "hunter2" not in str(caught.value)
    assert caught.value.status == 503


def test_an_unset_variable_is_named(shop: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="environment variable NO_SUCH"):
        read(shop, events={"type": "database", "uri": "sqlite://${NO_SUCH}", "query": "SELECT 1"})


def test_an_absent_file_is_named(shop: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"expected a file at .*orders/\*\.parquet"):
        read(shop, events={"type": "parquet", "path": "orders/*.parquet"})


def test_a_file_of_another_format_is_named(shop: Path) -> None:
    with pytest.raises(SourceUnreadableError, match=r"readable file at .*orders\.csv"):
        read(shop, events={"type": "parquet", "path": "orders.csv"})


def test_a_file_in_another_encoding_is_named(shop: Path) -> None:
    (shop / "items.csv").write_bytes("sku,name\n7,Café\n".encode("latin-1"))
    with pytest.raises(SourceUnreadableError, match=r"items\.csv, found: invalid utf-8"):
        read(shop)


def test_a_mapped_column_that_the_file_lacks_names_the_nearest(shop: Path) -> None:
    events = {**ORDERS, "columns": {**ORDERS["columns"], "user_id": "custmer"}}  # type: ignore[dict-item]
    with pytest.raises(InvalidTablesError, match=r"the column 'custmer' in .*orders\.csv.*did you mean 'customer'\?"):
        read(shop, events=events)


@pytest.mark.parametrize("text", ["", "customer;sku;bought;price\n"])
def test_an_empty_file_is_an_empty_table(shop: Path, text: str) -> None:
    (shop / "orders.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidTablesError, match=r"events\.\*: empty_table: expected at least one row"):
        read(shop)


def test_a_time_that_is_not_of_its_format_is_counted_where_it_is_read(shop: Path) -> None:
    with (shop / "orders.csv").open("a", encoding="utf-8") as file:
        file.write("3;7;yesterday;1\n")
    with pytest.raises(InvalidTablesError, match=r"found 1 row with String values that are no time.*'yesterday'"):
        read(shop)
    tables, report = read(shop, rules=ValidationConfig(wrong_type="drop", max_drop_share=0.5))
    assert (tables.events.height, report.dropped) == (2, 1)
    assert [(t.read, t.kept) for t in report.tables if t.table == "events"] == [(3, 2)]


def test_a_numeric_time_needs_its_unit(shop: Path) -> None:
    (shop / "orders.csv").write_text("user_id,item_id,event,timestamp\n1,7,view,1685620800\n", encoding="utf-8")
    with pytest.raises(InvalidTablesError, match="Int64 values that are no time"):
        read(shop, events={"type": "csv", "path": "orders.csv"})


def test_event_tables_that_disagree_on_a_type_are_refused(shop: Path) -> None:
    aware = pl.DataFrame({USER_ID: ["1"], ITEM_ID: ["7"], EVENT: ["view"], TIMESTAMP: [NOON]})
    aware.write_parquet(shop / "aware.parquet")
    aware.with_columns(pl.col(TIMESTAMP).dt.replace_time_zone(None)).write_parquet(shop / "naive.parquet")
    tables = [{"type": "parquet", "path": f"{name}.parquet"} for name in ("aware", "naive")]
    with pytest.raises(SourceUnreadableError, match="give each time its timezone"):
        read(shop, events=tables)


def test_text_columns_keep_their_zeros(shop: Path) -> None:
    (shop / "items.csv").write_text("item_id,ean\n7,0012\n007,0034\n", encoding="utf-8")
    tables, _ = read(shop, items={"type": "csv", "path": "items.csv", "text_columns": ["ean"]})
    assert tables.items["ean"].to_list() == ["0012", "0034"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"type": "excel", "path": "x"}, "union_tag_invalid"),
        ({**ITEMS, "sheet": 1}, "extra_forbidden"),
        ({**ITEMS, "columns": {"item_id": {"column": "sku", "constant": "x"}}}, "either `column` or `constant`"),
        ({**ITEMS, "columns": {"item_id": {"column": "sku", "timezone": "Mars"}}}, "IANA time zone"),
    ],
)
def test_a_declaration_that_cannot_hold_is_refused(broken: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(SourceConfig).validate_python({"type": "tables", "items": broken, "events": ORDERS})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"items": ITEMS}, "expected events or texts at least, found items"),
        ({}, "expected events or texts at least, found no table"),
        ({"events": ORDERS}, "expected items beside events, which are of them, found events"),
        ({"users": ITEMS, "texts": ITEMS}, "expected events beside users, .* found users, texts"),
    ],
)
def test_tables_that_make_no_source_are_refused(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TablesConfig.model_validate({"type": "tables", **tables})


def test_a_source_says_which_tables_it_has() -> None:
    def declared(**tables: Any) -> set[str]:
        return set(TablesConfig.model_validate({"type": "tables", **tables}).declared)

    assert declared(texts=ITEMS) == {"texts"}
    assert declared(texts=ITEMS, items=ITEMS) == {"texts", "items"}
    # Users are those of the events where no table of them is named.
    assert declared(items=ITEMS, events=ORDERS) == {"items", "users", "events"}


def test_texts_alone_and_texts_with_items_are_sources(shop: Path) -> None:
    (shop / "tickets.csv").write_text("id,body,topic\n1,too cold,tea\n", encoding="utf-8")
    alone, report = read(shop, items=None, events=None, texts=TICKETS)
    assert alone.texts.rows() == [("1", "too cold", "tea")]
    assert (alone.items.height, alone.users.height, alone.events.height) == (0, 0, 0)
    assert encode(alone).is_empty()
    assert [rows.table for rows in report.tables] == ["texts"]
    both, report = read(shop, events=None, texts=TICKETS)
    assert both.items[ITEM_ID].to_list() == ["007", "7"]
    assert [rows.table for rows in report.tables] == ["items", "texts"]


TICKETS = {"type": "csv", "path": "tickets.csv", "columns": {"text_id": "id", "text": "body", "topic": "topic"}}


def test_texts_by_a_mapping(shop: Path) -> None:
    # Read as numbers, "007" would lose its zeros and the text "42" its type.
    (shop / "tickets.csv").write_text('id,body,topic,agent\n007,42,tea,x\n8,"too, cold",,y\n', encoding="utf-8")
    tables, report = read(shop, texts=TICKETS)
    assert tables.texts.columns == [TEXT_ID, TEXT, "topic"]
    assert tables.texts.rows() == [("007", "42", "tea"), ("8", "too, cold", None)]
    assert [(rows.read, rows.kept) for rows in report.tables if rows.table == "texts"] == [(2, 2)]


def test_texts_from_a_database(shop: Path) -> None:
    with sqlite3.connect(shop / "shop.db") as connection:
        connection.execute("CREATE TABLE tickets (id INTEGER, body TEXT, at TEXT)")
        connection.execute("INSERT INTO tickets VALUES (1, 'cold tea', '2023-06-01T12:00:00Z')")
    connection.close()
    query = "SELECT id AS text_id, body AS text, at AS timestamp FROM tickets"
    tables, _ = read(shop, texts={"type": "database", "uri": "sqlite://${SHOP_DB}", "query": query})
    assert tables.texts.rows() == [("1", "cold tea", NOON)]


@pytest.mark.parametrize("text", ["", "id,body,topic\n"])
def test_a_declared_table_of_texts_without_rows_is_an_error(shop: Path, text: str) -> None:
    (shop / "tickets.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidTablesError, match=r"texts\.\*: empty_table: expected at least one row, found no rows"):
        read(shop, texts=TICKETS)


def test_texts_whose_times_the_mapping_cannot_read_are_counted(shop: Path) -> None:
    (shop / "tickets.csv").write_text("id,body,at\n1,hello,soon\n", encoding="utf-8")
    columns = {"text_id": "id", "text": "body", "timestamp": {"column": "at", "timezone": "UTC"}}
    rules = ValidationConfig(wrong_type="drop", max_drop_share=1)
    with pytest.raises(
        InvalidTablesError, match=r"texts\.\*: empty_table: expected at least one row, found none left of 1"
    ):
        read(shop, rules=rules, texts={**TICKETS, "columns": columns})
