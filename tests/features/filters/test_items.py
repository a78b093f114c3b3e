"""How a workspace names items."""

from __future__ import annotations

import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from features.filters.items import FilterText, NamedItemsError, named_items

ITEMS = pl.DataFrame({"item_id": ["a", "b", "c"], "kind": ["product", None, "coupon"]})


def test_items_are_those_that_the_filter_holds_of() -> None:
    found = named_items('not kind == "coupon"', ITEMS, "here")
    assert found is not None
    assert found.tolist() == [True, True, False]
    assert named_items(None, ITEMS, "here") is None


def test_the_error_says_where_the_filter_stands() -> None:
    with pytest.raises(NamedItemsError, match=r"^eligible: items: filter, character 1: unknown attribute 'knd'"):
        named_items("knd == 'product'", ITEMS, "eligible: items")


def test_what_is_no_filter_is_no_value_of_a_config() -> None:
    field = TypeAdapter(FilterText)
    assert field.validate_python("kind  == 'x'") == "kind  == 'x'"
    with pytest.raises(ValidationError, match=r"filter, character 6: expected '==', found '='"):
        field.validate_python("kind = 'x'")
