"""Mistakes in what rules name are told from the tables, before a release is built."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from features.filters.items import NamedItemsError
from flows.stages.item_filters import check_rules
from infra.errors import InvalidInputError
from ranking.rules.catalogue import RuleError
from ranking.rules.config import Rules

ITEMS = pl.DataFrame({"item_id": ["a", "b"], "price": [1.0, 2.0], "brand": ["x", None], "tags": [["t"], []]})


@pytest.mark.parametrize(
    ("rules", "error", "said"),
    [
        (
            {"block": {"items": "prise < 2"}}, NamedItemsError,
            r"^ranking: rules\.block\.items: filter, character 1: unknown attribute 'prise'; did you mean 'price'\?",
        ),
        ({"caps": [{"attribute": "brnd", "most": 1, "first": 9}]}, RuleError, r"rules\.caps\.0: .*did you mean 'br"),
        ({"deduplicate": [{"by": ["brand", "tags"]}]}, RuleError, r"an attribute of single values, found 'tags'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(rules: dict[str, Any], error: type[InvalidInputError], said: str) -> None:
    with pytest.raises(error, match=said):
        check_rules(Rules.model_validate(rules), ITEMS)


def test_what_fits_passes() -> None:
    rules = {
        "bury": {"items": 'mean_price > 2 or item_id in ["a"]'},
        "caps": [{"attribute": "brand", "most": 1, "first": 9}],
    }
    check_rules(Rules.model_validate(rules), ITEMS)
