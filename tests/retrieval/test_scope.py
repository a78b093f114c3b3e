from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from features.filters.errors import FilterError
from retrieval.contract import Limits
from retrieval.scope import Scopes
from retrieval.snapshot import ItemSnapshot
from tests.retrieval.conftest import World

WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def snapshot(world: World) -> ItemSnapshot:
    """The release's items, of which the first hundred begin a week after its time."""
    own = world.snapshot
    later = pl.Series([own.as_of + WEEK if item < 100 else None for item in range(len(own))])
    return replace(own, attributes=own.attributes.with_columns(later.alias("available_from")))


def test_no_limits_are_all_eligible_items(world: World) -> None:
    scope = Scopes(world.snapshot).of(Limits(), now=None)
    assert scope.absent is not None
    assert not len(scope.absent)
    assert scope.allowed is world.snapshot.eligible


def test_each_limit_takes_its_items_away(snapshot: ItemSnapshot) -> None:
    limits = Limits(
        filter='department == "DELI"', allow=[f"item-{i}" for i in range(60, 250)], exclude=["item-123", "none such"]
    )
    scope = Scopes(snapshot).of(limits, now=None, excluded=[129])
    deli = np.arange(len(snapshot)) % 6 == 3
    inside = np.arange(len(snapshot)) >= 100
    expected = snapshot.eligible & deli & inside & (np.arange(len(snapshot)) < 250)
    assert expected[[123, 129]].all()
    expected[[123, 129]] = False
    assert scope.absent is None
    np.testing.assert_array_equal(scope.allowed, expected)
    assert scope.excluded.tolist() == [123, 129]
    more = scope.without(np.array([135, 123], np.int32))
    assert more.excluded.tolist() == [123, 129, 135]
    assert expected[135]
    assert np.flatnonzero(scope.allowed & ~more.allowed).tolist() == [135]


def test_an_item_is_named_once_it_is_available(snapshot: ItemSnapshot) -> None:
    scopes = Scopes(snapshot)
    early = scopes.of(Limits(), now=snapshot.as_of + WEEK - timedelta(seconds=1))
    late = scopes.of(Limits(), now=snapshot.as_of + WEEK)
    assert not early.allowed[:100].any()
    assert early.absent is not None
    assert early.absent.tolist() == np.flatnonzero(snapshot.eligible[:100]).tolist()
    assert late.absent is not None
    assert not len(late.absent)
    np.testing.assert_array_equal(late.allowed, snapshot.eligible)
    # The release's own time is the one of its statistics.
    assert not scopes.of(Limits(), now=None).allowed[:100].any()


def test_a_filter_is_checked(snapshot: ItemSnapshot) -> None:
    with pytest.raises(FilterError, match="did you mean 'department'"):
        Scopes(snapshot).of(Limits(filter='departmant == "DELI"'), now=None)
