from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import TypeAdapter

from features.datasets.dataset import DatasetMissingError
from features.schema import ITEM_ID, TEXT, TEXT_ID, USER_ID
from features.sources import SourceConfig, load

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def parse(**declared: Any) -> Any:
    return TypeAdapter(SourceConfig).validate_python(declared)


def test_each_kind_of_source_loads_through_the_one_door(tmp_path: Path) -> None:
    pl.DataFrame({ITEM_ID: ["a"]}).write_parquet(tmp_path / "items.parquet")
    view = {USER_ID: ["u"], ITEM_ID: ["a"], "event": ["view"], "timestamp": [datetime(2020, 1, 1, tzinfo=UTC)]}
    pl.DataFrame(view).write_parquet(tmp_path / "events.parquet")
    tables = {name: {"type": "parquet", "path": f"{name}.parquet"} for name in ("items", "events")}
    own, _ = load(parse(type="tables", **tables), tmp_path, NOW)
    assert own.events.height == 1
    journey, report = load(parse(type="complete_journey", max_users=2), tmp_path, NOW)
    assert journey.users.height == 2
    assert journey.texts.is_empty()
    assert {rows.table for rows in report.tables} == {"items", "users", "events"}


@pytest.mark.parametrize("kind", ["complete_journey", "movielens"])
def test_a_relative_folder_starts_from_the_workspace(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DatasetMissingError, match=str(tmp_path / "absent")):
        load(parse(type=kind, path="absent"), tmp_path, NOW)


def test_every_source_takes_texts_besides(tmp_path: Path) -> None:
    pl.DataFrame({TEXT_ID: [1], TEXT: ["hello"], "topic": ["greeting"]}).write_parquet(tmp_path / "texts.parquet")
    for name, header in (
        ("ratings", "1::7::5::978300760"),
        ("movies", "7::Heat (1995)::Drama"),
        ("users", "1::F::1::10::0"),
    ):
        (tmp_path / f"{name}.dat").write_text(f"{header}\n", encoding="latin-1")
    texts = {"type": "parquet", "path": "texts.parquet"}
    for source in ({"type": "complete_journey", "max_users": 2}, {"type": "movielens", "path": "."}):
        tables, report = load(parse(**source, texts=texts), tmp_path, NOW)
        assert tables.texts.rows() == [("1", "hello", "greeting")]
        assert report.tables[-1].table == "texts"
