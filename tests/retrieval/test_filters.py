"""Filters on a snapshot: what they may name, and that each is evaluated once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from features.filters.errors import FilterError
from features.schema import ITEM_STATS
from retrieval.filters import ItemFilters
from retrieval.snapshot import ItemSnapshot


@pytest.fixture(scope="module")
def snapshot(world: Any) -> ItemSnapshot:
    result: ItemSnapshot = world.snapshot
    return result


@pytest.fixture(scope="module")
def filters(snapshot: ItemSnapshot) -> ItemFilters:
    return ItemFilters(snapshot)


def test_attributes(filters: ItemFilters) -> None:
    # Departments repeat every 6 items, brands: none, Private, National, Private, National, none, National, ...
    found = filters.mask('department in ["GROCERY", "MEAT"] and not brand == "National" and size < 10')
    departments, brands, sizes = np.arange(300) % 6, np.arange(300), np.arange(300) % 13
    national = (brands % 5 != 0) & (brands % 2 == 0)
    np.testing.assert_array_equal(
        found, np.isin(departments, [0, 2]) & ~national & (sizes < 10) & (np.arange(300) % 11 != 0)
    )


def test_item_statistics_are_attributes(snapshot: ItemSnapshot, filters: ItemFilters) -> None:
    price = snapshot.stats[:, ITEM_STATS.index("mean_price")]
    np.testing.assert_array_equal(filters.mask("mean_price <= 1.5"), price <= 1.5)
    # Every tenth price is unknown: no comparison holds for it, so its negation does.
    np.testing.assert_array_equal(filters.mask("not mean_price >= 0"), np.arange(len(snapshot)) % 10 == 0)


def test_items_can_be_named(filters: ItemFilters) -> None:
    assert np.flatnonzero(filters.mask('item_id in ["item-9", "item-0", "?"]')).tolist() == [0, 9]


def test_filters_that_mean_the_same_share_one_mask(snapshot: ItemSnapshot) -> None:
    filters = ItemFilters(snapshot, cache_size=4)
    first = filters.mask("brand == 'National' and organic")
    assert filters.mask('organic and (brand  ==  "National")') is first
    assert filters.mask("brand == 'National' and organic") is first
    assert not first.flags.writeable
    # Each of the two has one spelling beside the canonical one, so that nothing else stays.
    filters.mask("(size < 3)")
    filters.mask("(size < 4)")
    again = filters.mask("brand == 'National' and organic")
    assert again is not first
    np.testing.assert_array_equal(again, first)


def test_what_is_asked_for_stays(snapshot: ItemSnapshot) -> None:
    filters = ItemFilters(snapshot, cache_size=2)
    first = filters.mask("organic")
    filters.mask("not organic")
    assert filters.mask("organic") is first
    filters.mask("size < 3")
    assert filters.mask("organic") is first


def test_mistakes_name_the_nearest(filters: ItemFilters) -> None:
    with pytest.raises(FilterError, match=r"character 13: unknown attribute 'departmnt'; did you mean 'department'"):
        filters.mask("organic and departmnt == 'MEAT'")
    with pytest.raises(FilterError, match="did you mean 'mean_price'"):
        filters.mask("mean_prise < 5")
    with pytest.raises(FilterError, match="expected a number, as 'size' holds numbers, found a text"):
        filters.mask("size == 'large'")
