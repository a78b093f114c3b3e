"""Which items a release's tasks speak about."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from features.filters.items import NamedItemsError
from features.schema import ITEM_STATS
from features.tasks import EventLabel, TaskSpec
from ranking.spaces import Spaces, item_filters
from retrieval.snapshot import ItemSnapshot

SNAPSHOT = ItemSnapshot(
    item_ids=["a", "b", "c"],
    stats=np.zeros((3, len(ITEM_STATS)), np.float32),
    attributes=pl.DataFrame({"kind": ["product", None, "coupon"]}),
    category_codes=np.zeros(3, np.int32),
    eligible=np.ones(3, bool),
    titles=["A", "B", "C"],
    as_of=datetime(2026, 1, 1, tzinfo=UTC),
)


def task(name: str, items: str | None) -> TaskSpec:
    return TaskSpec(name=name, kind="binary", on="pair", label=EventLabel(event="purchase"), items=items)


def test_items_are_named_by_attributes_and_by_id() -> None:
    tasks = [task("all", None), task("coupons", 'kind == "coupon"'), task("others", 'not item_id in ["b"]')]
    found = item_filters(tasks, SNAPSHOT)
    assert found["all"] is None
    assert {name: mask.tolist() for name, mask in found.items() if mask is not None} == {
        "coupons": [False, False, True],
        "others": [True, False, True],
    }
    allowed = Spaces.of(tasks, SNAPSHOT).allowed["coupons"]
    assert allowed is not None
    assert allowed.tolist() == [False, False, True]


def test_a_filter_that_the_snapshot_does_not_fit_names_its_task() -> None:
    with pytest.raises(NamedItemsError, match=r"task x: items: filter, character 1: unknown attribute 'colour'"):
        item_filters([task("x", 'colour == "red"')], SNAPSHOT)
