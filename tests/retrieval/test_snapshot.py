"""The item snapshot round-trips, finds items, and refuses parts that don't fit."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.schema import CATEGORY, ITEM_ID, ITEM_STATS
from retrieval.snapshot import ItemSnapshot, SnapshotError, UnknownItemError

AS_OF = datetime(2017, 12, 4, tzinfo=UTC)


def frame() -> pl.DataFrame:
    stats = {name: [float(i), None, 2.5] for i, name in enumerate(ITEM_STATS)}
    return pl.DataFrame(
        {
            ITEM_ID: ["a", "b", "ü"],
            **stats,
            CATEGORY: [4, None, 0],
            "eligible": [True, None, False],
            "title": ["Ä", None, "c"],
            "brand": ["x", None, "y"],
        }
    )


def test_from_frame_keeps_order_and_fills_gaps() -> None:
    snapshot = ItemSnapshot.from_frame(frame(), as_of=AS_OF, attributes=["brand"])
    assert snapshot.item_ids == ["a", "b", "ü"]
    assert snapshot.stats.dtype == np.float32
    np.testing.assert_array_equal(snapshot.stats[0], np.arange(len(ITEM_STATS), dtype=np.float32))
    assert np.isnan(snapshot.stats[1]).all()
    assert snapshot.category_codes.tolist() == [4, -1, 0]
    assert snapshot.category_codes.dtype == np.int32
    assert snapshot.eligible.tolist() == [True, False, False]
    assert snapshot.titles == ["Ä", "", "c"]
    assert snapshot.eligible_positions.tolist() == [0]


def test_positions() -> None:
    snapshot = ItemSnapshot.from_frame(frame(), as_of=AS_OF)
    assert snapshot.position("ü") == 2
    assert snapshot.find("zz") is None
    assert snapshot.positions(["b", "zz", "a"]).tolist() == [1, -1, 0]
    with pytest.raises(UnknownItemError, match="'zz'"):
        snapshot.position("zz")


def test_round_trip(tmp_path: Path) -> None:
    # An attribute named like a statistic must come back as itself.
    attributes = frame().select("brand").with_columns(pl.Series("purchases", [7, 8, 9]))
    snapshot = dataclasses.replace(
        ItemSnapshot.from_frame(frame(), as_of=AS_OF, attributes=["brand"]), attributes=attributes
    )
    snapshot.save(tmp_path / "items" / "snapshot.parquet")
    loaded = ItemSnapshot.load(tmp_path / "items" / "snapshot.parquet")
    assert loaded.item_ids == snapshot.item_ids
    assert loaded.titles == snapshot.titles
    assert loaded.as_of == AS_OF
    assert loaded.attributes.equals(attributes)
    np.testing.assert_array_equal(loaded.stats, snapshot.stats)
    np.testing.assert_array_equal(loaded.category_codes, snapshot.category_codes)
    np.testing.assert_array_equal(loaded.eligible, snapshot.eligible)


def test_without_attributes_round_trips(tmp_path: Path) -> None:
    ItemSnapshot.from_frame(frame(), as_of=AS_OF).save(tmp_path / "s.parquet")
    assert len(ItemSnapshot.load(tmp_path / "s.parquet")) == 3


def test_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"missing columns .*title"):
        ItemSnapshot.from_frame(frame().drop("title"), as_of=AS_OF)
    with pytest.raises(SnapshotError, match="1 of 3 item_ids are repeated"):
        ItemSnapshot.from_frame(frame().with_columns(pl.Series(ITEM_ID, ["a", "a", "b"])), as_of=AS_OF)
    with pytest.raises(SnapshotError, match="1 null item_id"):
        ItemSnapshot.from_frame(frame().with_columns(pl.Series(ITEM_ID, ["a", None, "b"])), as_of=AS_OF)
    with pytest.raises(SnapshotError, match="time zone"):
        ItemSnapshot.from_frame(frame(), as_of=AS_OF.replace(tzinfo=None))
    whole = ItemSnapshot.from_frame(frame(), as_of=AS_OF)
    with pytest.raises(SnapshotError, match="'titles': 1"):
        dataclasses.replace(whole, titles=["a"])
    with pytest.raises(SnapshotError, match="expected stats"):
        dataclasses.replace(whole, stats=whole.stats[:, 1:])
    frame().write_parquet(tmp_path / "other.parquet")
    with pytest.raises(SnapshotError, match="as_of"):
        ItemSnapshot.load(tmp_path / "other.parquet")
