"""Texts from the source's file to the encoder's key: a change of them changes it, but for one after the as-of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.datasets.finance import FinanceConfig
from features.datasets.journey_files import CompleteJourneyConfig
from features.splits import UNDATED
from features.table_config import ParquetTable
from features.tables import Tables, read_tables, write_tables
from features.tabular import TablesConfig
from flows.build import Build
from flows.stages.data import end_of_data
from flows.stages.tables import fingerprint
from flows.words import format_day
from flows.workspace import Workspace
from infra.settings import Settings

T = datetime(2024, 1, 1, tzinfo=UTC)
WORKSPACE = """
name: shop
source:
  type: tables
  items: {type: parquet, path: items.parquet}
  events: {type: parquet, path: events.parquet}
  texts: {type: parquet, path: texts.parquet}
tasks:
  - {name: purchase, kind: binary, on: pair, label: {type: event, event: purchase}}
  - {name: topic, kind: multiclass, on: text, label: {type: column, column: topic}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "polyrank.yaml").write_text(WORKSPACE, encoding="utf-8")
    pl.DataFrame({"item_id": ["a"], "title": ["tea"]}).write_parquet(tmp_path / "items.parquet")
    event = {"user_id": ["u"], "item_id": ["a"], "event": ["purchase"], "timestamp": [T - timedelta(days=9)]}
    pl.DataFrame(event).write_parquet(tmp_path / "events.parquet")
    write_texts(tmp_path, "cold tea", T + timedelta(days=1))
    return tmp_path


def write_texts(folder: Path, first: str, later: datetime) -> None:
    columns = {
        "text_id": ["1", "2"],
        "text": [first, "later"],
        "topic": ["tea", "soap"],
        "timestamp": [T - timedelta(days=2), later],
    }
    pl.DataFrame(columns).write_parquet(folder / "texts.parquet")


def start(folder: Path) -> Build:
    return Build.start(Workspace.load(folder), Settings(), T)


def test_texts_are_stored_with_the_tables_and_read_up_to_the_as_of_time(shop: Path) -> None:
    build = start(shop)
    assert read_tables(build.tables).texts["text"].to_list() == ["cold tea", "later"]
    assert build.data.tables.texts["text"].to_list() == ["cold tea"]


def test_a_change_of_texts_changes_the_encoders_key(shop: Path) -> None:
    before = start(shop)
    write_texts(shop, "hot tea", T + timedelta(days=1))
    after = start(shop)
    assert after.data.tables.texts["text"].to_list() == ["hot tea"]
    assert after.encoder_key != before.encoder_key


def test_a_text_after_the_as_of_time_changes_no_key(shop: Path) -> None:
    before = start(shop)
    write_texts(shop, "cold tea", T + timedelta(days=5))
    after = start(shop)
    assert after.tables != before.tables
    assert after.encoder_key == before.encoder_key


def test_a_changed_file_of_texts_is_seen_beside_a_package(tmp_path: Path) -> None:
    config = CompleteJourneyConfig(texts=ParquetTable(type="parquet", path="texts.parquet"))
    pl.DataFrame({"text_id": ["1"], "text": ["a"]}).write_parquet(tmp_path / "texts.parquet")
    first = fingerprint(config, tmp_path)
    assert fingerprint(config, tmp_path) == first
    pl.DataFrame({"text_id": ["1", "2"], "text": ["a", "b"]}).write_parquet(tmp_path / "texts.parquet")
    assert fingerprint(config, tmp_path) != first
    assert fingerprint(CompleteJourneyConfig(), tmp_path) not in (first, fingerprint(config, tmp_path))


def test_a_changed_file_of_a_text_set_is_seen(tmp_path: Path) -> None:
    config = FinanceConfig(fiqa=Path("sets"))
    (tmp_path / "sets").mkdir()
    pl.DataFrame({"text": ["a"]}).write_parquet(tmp_path / "sets" / "fiqa.parquet")
    first = fingerprint(config, tmp_path)
    assert fingerprint(config, tmp_path) == first
    pl.DataFrame({"text": ["a", "b"]}).write_parquet(tmp_path / "sets" / "fiqa.parquet")
    assert fingerprint(config, tmp_path) != first
    # The sample's files are the package's.
    assert "tfn_topic.parquet:" in fingerprint(FinanceConfig(), tmp_path)


def test_without_events_the_data_ends_just_after_its_latest_text(tmp_path: Path) -> None:
    def end(**texts: list[Any]) -> datetime:
        write_tables(Tables(texts=pl.DataFrame({"text_id": ["1", "2"], "text": ["a", "b"], **texts})), tmp_path / "t")
        return end_of_data(tmp_path / "t")

    assert end(timestamp=[T, T - timedelta(days=1)]) == T + timedelta(microseconds=1)
    # Without any time it is always the same one, so that the same texts make the same release.
    assert end() == UNDATED
    assert format_day(UNDATED) == "undated"


def test_a_source_of_texts_alone_is_told_apart_by_its_file(tmp_path: Path) -> None:
    config = TablesConfig(type="tables", texts=ParquetTable(type="parquet", path="texts.parquet"))
    pl.DataFrame({"text_id": ["1"], "text": ["a"]}).write_parquet(tmp_path / "texts.parquet")
    first = fingerprint(config, tmp_path)
    pl.DataFrame({"text_id": ["1", "2"], "text": ["a", "b"]}).write_parquet(tmp_path / "texts.parquet")
    assert fingerprint(config, tmp_path) != first


def test_test_rows_are_stored_and_never_reach_a_build(shop: Path) -> None:
    columns = {"text_id": ["1", "2"], "text": ["tea", "soap"], "topic": ["tea", "soap"], "split": ["test", None]}
    pl.DataFrame(columns).write_parquet(shop / "texts.parquet")
    build = start(shop)
    assert read_tables(build.tables).texts["text"].to_list() == ["tea", "soap"]
    assert build.data.tables.texts["text"].to_list() == ["soap"]
    # Their columns' values can't even name a group.
    key = build.encoder_key
    pl.DataFrame({**columns, "topic": ["other", "soap"]}).write_parquet(shop / "texts.parquet")
    assert start(shop).encoder_key == key


def test_a_shop_that_becomes_texts_leaves_nothing_of_itself(shop: Path) -> None:
    assert start(shop).data.n_users == 1
    alone = WORKSPACE.replace("  items: {type: parquet, path: items.parquet}\n", "")
    alone = alone.replace("  events: {type: parquet, path: events.parquet}\n", "")
    alone = "".join(line for line in alone.splitlines(keepends=True) if "purchase" not in line)
    (shop / "polyrank.yaml").write_text(alone, encoding="utf-8")
    data = start(shop).data
    assert (data.n_users, data.n_items, data.events.height) == (0, 0, 0)
    assert data.tables.texts.height == 1
