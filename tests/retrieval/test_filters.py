"""A filter expression is the mask that plain Python gives, and a mistake in one is named."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.schema import ITEM_STATS
from retrieval.filters import FilterError, ItemFilters
from retrieval.snapshot import ItemSnapshot

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


@pytest.fixture(scope="module")
def snapshot(world: Any) -> ItemSnapshot:
    result: ItemSnapshot = world.snapshot
    return result


@pytest.fixture(scope="module")
def filters(snapshot: ItemSnapshot) -> ItemFilters:
    return ItemFilters(snapshot)


def holds(row: dict[str, Any], expression: dict[str, Any]) -> bool:
    """The definition, one row at a time."""
    return all(entry(row, name, condition) for name, condition in expression.items())


def entry(row: dict[str, Any], name: str, condition: Any) -> bool:
    if name == "all":
        return all(holds(row, part) for part in condition)
    if name == "any":
        return any(holds(row, part) for part in condition)
    if name == "not":
        return not holds(row, condition)
    value = row[name]
    if condition is None:
        return value is None
    if not isinstance(condition, dict):
        condition = {"eq": condition}
    return all(compare(value, op, wanted) for op, wanted in condition.items())


def compare(value: Any, op: str, wanted: Any) -> bool:
    if op == "exists":
        return (value is not None) == wanted
    if value is None:
        return False
    return value in wanted if op == "in" else COMPARE[op](value, wanted)


def conditions() -> st.SearchStrategy[dict[str, Any]]:
    texts = st.sampled_from(["GROCERY", "MEAT", "National", "Private", "nothing"])
    numbers = st.one_of(st.integers(-1, 14), st.floats(-1, 14))
    ordering = st.sampled_from(list(COMPARE))
    leaf = st.one_of(
        st.fixed_dictionaries({"department": texts}),
        st.fixed_dictionaries({"brand": st.one_of(st.none(), texts)}),
        st.builds(lambda op, v: {"brand": {op: v}}, ordering, texts),
        st.builds(lambda op, v: {"size": {op: v}}, ordering, numbers),
        st.builds(lambda low, high: {"size": {"gte": low, "lt": high}}, numbers, numbers),
        st.builds(lambda v: {"size": {"in": v}}, st.lists(numbers, max_size=4)),
        st.builds(lambda v: {"department": {"in": v}}, st.lists(texts, max_size=3)),
        st.builds(lambda v: {"organic": v}, st.booleans()),
        st.builds(lambda v: {"brand": {"exists": v}}, st.booleans()),
        st.builds(lambda v: {"item_id": {"in": v}}, st.lists(st.sampled_from(["item-0", "item-9", "?"]))),
        st.just({}),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda part: {"not": part}, inner),
        ),
        max_leaves=6,
    )


@given(expression=conditions())
@settings(max_examples=150, deadline=None)
def test_mask_is_the_definition(snapshot: ItemSnapshot, filters: ItemFilters, expression: dict[str, Any]) -> None:
    rows = [
        {**row, "item_id": item_id}
        for row, item_id in zip(snapshot.attributes.to_dicts(), snapshot.item_ids, strict=True)
    ]
    expected = [holds(row, expression) for row in rows]
    mask = filters.mask(expression)
    assert mask.dtype == np.bool_
    assert mask.tolist() == expected


def test_item_statistics_are_attributes(snapshot: ItemSnapshot, filters: ItemFilters) -> None:
    price = snapshot.stats[:, ITEM_STATS.index("mean_price")]
    np.testing.assert_array_equal(filters.mask({"mean_price": {"lte": 1.5}}), price <= 1.5)
    # Every tenth price is unknown: no comparison holds for it, so its negation does.
    np.testing.assert_array_equal(filters.mask({"not": {"mean_price": {"gte": 0}}}), np.arange(len(snapshot)) % 10 == 0)


def test_equal_expressions_share_one_mask(snapshot: ItemSnapshot) -> None:
    filters = ItemFilters(snapshot, cache_size=2)
    first = filters.mask({"brand": "National", "organic": True})
    assert filters.mask({"organic": True, "brand": "National"}) is first
    assert not first.flags.writeable
    filters.mask({"organic": False})
    filters.mask({"brand": "Private"})
    again = filters.mask({"brand": "National", "organic": True})
    assert again is not first
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"departmnt": "MEAT"}, "unknown attribute 'departmnt'; did you mean 'department'"),
        ({"size": {"gtee": 1}}, "unknown operator 'gtee'; did you mean 'gte'"),
        ({"size": "large"}, "expected a number, found 'large'"),
        ({"size": True}, "expected a number, found True"),
        ({"brand": 3}, "expected a string, found 3"),
        ({"organic": "yes"}, "expected true or false, found 'yes'"),
        ({"brand": ["a"]}, 'write {"in"'),
        ({"brand": {"in": "a"}}, "'in' expects a list"),
        ({"brand": {"in": [1]}}, "expected a string, found 1"),
        ({"brand": {}}, "an empty object"),
        ({"brand": {"exists": 1}}, "true or false"),
        ({"brand": {"eq": None}}, "expected a string, found None"),
        ({"any": []}, "non-empty list"),
        ({"all": {"brand": "a"}}, "non-empty list"),
        ({"not": ["a"]}, "expects an object"),
        ({"size": float("nan")}, "expected JSON values"),
        ({"size": {"in": list(range(20_000))}}, "at most 10000 values"),
    ],
)
def test_mistakes_are_named(filters: ItemFilters, expression: dict[str, Any], message: str) -> None:
    with pytest.raises(FilterError) as caught:
        filters.mask(expression)
    assert message in str(caught.value)
    assert caught.value.status == 422


def test_depth_is_bounded(filters: ItemFilters) -> None:
    expression: dict[str, Any] = {"brand": "a"}
    for _ in range(5_000):
        expression = {"not": expression}
    with pytest.raises(FilterError, match="at most 16 levels"):
        filters.mask(expression)
