"""What a refresh makes of the log of items: applied once, seen as of a time, positions kept whatever comes between."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import structlog
from typer.testing import CliRunner

from features.event_log import Event, EventLog
from features.item_log import ItemChange, ItemLog
from features.item_values import ItemValue
from features.tables import read_tables
from flows.build import Build
from flows.cli import app
from flows.stages.item_changes import changes_until
from flows.stages.tables import read_validation
from flows.workspace import Workspace
from infra.settings import Settings

T = datetime(2024, 1, 1, tzinfo=UTC)
WORKSPACE = """
name: shop
source:
  type: tables
  items: {type: parquet, path: items.parquet}
  events: {type: parquet, path: events.parquet}
validation: {max_drop_share: 0.9}
eligible: {min_users: 2}
tasks:
  - {name: purchase, kind: binary, on: pair, label: {type: event, event: purchase}}
"""


def day(number: float) -> datetime:
    return T + timedelta(days=number)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "polyrank.yaml").write_text(WORKSPACE, encoding="utf-8")
    write_items(tmp_path, a="tea", b="soap")
    # Two users bought a and b, nobody c and n.
    write_events(tmp_path, [(user, item, day(-9)) for user in ("u", "v") for item in ("a", "b")])
    return tmp_path


def write_items(folder: Path, updated: Mapping[str, datetime] | None = None, **titles: str) -> None:
    columns: dict[str, Sequence[object]] = {"item_id": list(titles), "title": list(titles.values())}
    columns["category_id"] = ["x"] * len(titles)
    frame = pl.DataFrame(columns)
    if updated is not None:
        times = pl.Series("updated_at", [updated.get(item) for item in titles], dtype=pl.Datetime("us", "UTC"))
        frame = frame.with_columns(times)
    frame.write_parquet(folder / "items.parquet")


def write_events(folder: Path, rows: Sequence[tuple[str, str, datetime]]) -> None:
    columns = dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*rows, strict=True)), strict=True))
    pl.DataFrame({**columns, "event": ["purchase"] * len(rows)}).write_parquet(folder / "events.parquet")


def change(folder: Path, received: datetime, **items: dict[str, ItemValue]) -> int:
    log = ItemLog(Workspace.load(folder).item_log)
    changes = [ItemChange(item_id=item_id, values=values) for item_id, values in items.items()]
    return log.append(changes, received)


def start(folder: Path, as_of: datetime | None = None) -> Build:
    return Build.start(Workspace.load(folder), Settings(), as_of)


def titles(build: Build) -> dict[str, str | None]:
    return dict(build.data.tables.items.select("item_id", "title").iter_rows())


def count(build: Build, rule: str) -> int:
    return read_validation(build.tables).count(rule)


def test_without_changes_a_refresh_keeps_no_account_of_them(shop: Path) -> None:
    build = start(shop)
    assert (build.item_sequence, changes_until(build.tables)) == (0, 0)
    assert {path.name for path in build.tables.iterdir()}.isdisjoint({"source_items.parquet", "logged_items.json"})
    assert not Workspace.load(shop).item_log.exists()
    assert build.data.known is None


def test_a_refresh_applies_the_log_once(shop: Path) -> None:
    before = start(shop)
    change(shop, day(1), b={"title": "green soap"}, n={"title": "rice"})
    build = start(shop)
    assert build.tables != before.tables
    assert titles(build) == {"a": "tea", "b": "green soap", "n": "rice"}
    assert build.item_sequence == 2
    assert build.data.known is None
    assert build.data.tables.items["available_from"].to_list() == [None, None, day(1)]
    # Nobody has bought n, and it needs nobody.
    assert build.data.eligible(day(0)).tolist() == [True, True, True]
    assert start(shop).tables == build.tables


def test_a_time_sees_the_changes_that_were_received_before_it(shop: Path) -> None:
    change(shop, day(1), a={"title": "black tea"}, n={"title": "rice"})
    change(shop, day(2), a={"title": "white tea", "available_to": "2024-06-01T00:00:00Z"}, m={"title": "milk"})
    now, then, at_first = start(shop), start(shop, day(2)), start(shop, day(0))
    assert titles(now) == {"a": "white tea", "b": "soap", "n": "rice", "m": "milk"}
    assert titles(then) == {"a": "black tea", "b": "soap", "n": "rice", "m": None}
    assert titles(at_first) == {"a": "tea", "b": "soap", "n": None, "m": None}
    assert [build.item_sequence for build in (now, then, at_first)] == [4, 2, 0]
    assert {build.tables for build in (now, then, at_first)} == {now.tables}
    assert then.data.known is not None
    assert then.data.known.tolist() == [True, True, True, False]
    # The row of an item that wasn't known holds its place: it can't be recommended, and begins when it did.
    assert now.data.eligible(day(0)).tolist() == [True, True, True, True]
    assert then.data.eligible(day(0)).tolist() == [True, True, True, False]
    assert then.data.tables.items["available_from"].to_list() == [None, None, day(1), day(2)]
    # That a later change gave the catalogue a column is no news of then.
    assert set(now.data.tables.items.columns) - set(then.data.tables.items.columns) == {"available_to"}


def test_of_a_log_whose_clock_went_back_a_time_sees_a_beginning(shop: Path) -> None:
    change(shop, day(3), a={"title": "late"})
    change(shop, day(1), b={"title": "early"})
    # Number 2 was received before day 2, but number 1 was not: what a release holds is told by one number.
    build = start(shop, day(2))
    assert build.item_sequence == 0
    assert titles(build) == {"a": "tea", "b": "soap"}


def test_a_change_after_the_as_of_time_changes_no_key_unless_it_adds_an_item(shop: Path) -> None:
    change(shop, day(1), a={"title": "black tea"})
    before = start(shop, day(2))
    change(shop, day(5), a={"title": "white tea", "available_to": "2024-06-01T00:00:00Z"})
    after = start(shop, day(2))
    assert after.tables != before.tables
    assert after.encoder_key == before.encoder_key


def test_positions_are_kept_whatever_comes_between_refreshes(shop: Path) -> None:
    change(shop, day(1), n={"title": "rice"}, b={"title": "green soap"})
    first = start(shop)
    # The source gets an item of its own, takes over one that the log knew first, and loses one.
    write_items(shop, c="bread", n="brown rice", a="tea")
    change(shop, day(2), m={"title": "milk"}, c={"title": "rye bread"})
    second = start(shop)
    assert list(titles(first)) == ["a", "b", "n"]
    assert list(titles(second)) == ["a", "b", "n", "c", "m"]
    # The change of n came first and still counts: the source says nothing of when it was updated.
    assert titles(second) == {"a": "tea", "b": "green soap", "n": "rice", "c": "rye bread", "m": "milk"}
    # What the source has lost keeps its row, and the log may still change it.
    change(shop, day(3), b={"category_id": "y"})
    row = start(shop).data.tables.items.row(1, named=True)
    assert (row["item_id"], row["title"], row["category_id"]) == ("b", "green soap", "y")


def test_a_refresh_killed_before_its_tables_counted_is_made_up_for(shop: Path) -> None:
    latest = Workspace.load(shop).tables / "latest.json"
    change(shop, day(1), n={"title": "rice"})
    first = start(shop)
    pointer = latest.read_bytes()
    change(shop, day(2), m={"title": "milk"})
    lost = start(shop)
    # As if killed between the step and its pointer; then more comes, and the source grows.
    latest.write_bytes(pointer)
    change(shop, day(3), n={"title": "brown rice"})
    write_items(shop, a="tea", b="soap", c="bread")
    build = start(shop)
    assert list(titles(first)) == ["a", "b", "n"]
    assert titles(build) == {"a": "tea", "b": "soap", "n": "brown rice", "c": "bread", "m": "milk"}
    assert build.tables not in (first.tables, lost.tables)


def test_what_only_the_log_knows_may_have_events(shop: Path) -> None:
    change(shop, day(1), n={"title": "rice"})
    rows = [("u", item, day(-9)) for item in ("a", "n", "gone")]
    write_events(shop, rows)
    event = Event(event_id="1", user_id="w", item_id="n", event="purchase", timestamp=day(-1))
    other = event.model_copy(update={"event_id": "2", "item_id": "never"})
    EventLog(Workspace.load(shop).event_log).append([event, other], day(1))
    build = start(shop)
    assert sorted(read_tables(build.tables).events["item_id"].to_list()) == ["a", "n", "n"]
    assert (count(build, "unknown_item"), count(build, "logged_unknown_item")) == (1, 1)
    # Before the item was known, its events have a place all the same.
    assert start(shop, day(0)).data.events.height == 3


def test_the_source_wins_where_it_says_that_it_is_later(shop: Path) -> None:
    change(shop, day(2), a={"title": "black tea"}, b={"title": "green soap"})
    write_items(shop, {"a": day(3), "b": day(1)}, a="white tea", b="soap")
    build = start(shop)
    assert titles(build) == {"a": "white tea", "b": "green soap"}
    assert count(build, "logged_item_overruled") == 1
    # A change after that is the later one again.
    change(shop, day(4), a={"title": "red tea"})
    assert titles(start(shop)) == {"a": "red tea", "b": "green soap"}


def test_a_value_whose_column_is_gone_is_left_out_and_counted(shop: Path) -> None:
    change(shop, day(1), a={"title": "black tea", "colour": "black"}, b={"title": 3})
    build = start(shop)
    assert titles(build) == {"a": "black tea", "b": "soap"}
    found = next(f for f in read_validation(build.tables).findings if f.rule == "logged_item_value")
    assert (found.count, found.action) == (2, "drop")
    assert "first item 'a': unknown column 'colour'" in found.found


def test_a_check_of_the_workspace_sees_the_items_of_the_log(shop: Path) -> None:
    (shop / "polyrank.yaml").write_text(WORKSPACE.replace("min_users: 2", "items: available_to is missing"))
    write_events(shop, [("u", item, day(-9)) for item in ("a", "n")])
    change(shop, day(1), n={"available_to": "2024-06-01T00:00:00Z", "colour": "red"})
    done = CliRunner().invoke(app, ["validate", "-w", str(shop)])
    structlog.reset_defaults()
    assert done.exit_code == 0, done.output
    assert "logged_item_value" in done.output
    assert "unknown_item" not in done.output


def test_tables_outlive_their_log(shop: Path) -> None:
    change(shop, day(1), n={"title": "rice"})
    start(shop)
    log = Workspace.load(shop).item_log
    for path in log.parent.glob("items.sqlite*"):
        path.unlink()
    build = start(shop)
    # The place of n is taken for good; what it was stays until the log says otherwise.
    assert titles(build) == {"a": "tea", "b": "soap", "n": "rice"}
    assert build.item_sequence == 0


def test_a_build_may_stand_on_what_a_release_holds(shop: Path) -> None:
    change(shop, day(1), a={"title": "black tea"})
    change(shop, day(2), a={"title": "white tea"})
    build = Build.start(Workspace.load(shop), Settings(), day(9), 1)
    assert titles(build) == {"a": "black tea", "b": "soap"}
    known = build.data.catalogue_config(build.item_sequence)
    assert json.loads(known.model_dump_json())["item_sequence"] == 1
    assert known.new_days == 28
