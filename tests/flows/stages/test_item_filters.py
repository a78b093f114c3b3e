"""Mistakes in what rules and objectives name are told from the tables, before a release is built."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from features.filters.items import NamedItemsError
from features.tasks import EventLabel, TaskSpec
from flows.stages.item_filters import check_order
from infra.errors import InvalidInputError
from ranking.fit import RankingConfig
from ranking.objective import ObjectiveError
from ranking.rules.catalogue import RuleError

ITEMS = pl.DataFrame({"item_id": ["a", "b"], "price": [1.0, 2.0], "brand": ["x", None], "tags": [["t"], []]})
TASKS = [TaskSpec(name="purchase", kind="binary", on="pair", label=EventLabel(type="event", event="purchase"))]


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        (
            {"rules": {"block": {"items": "prise < 2"}}}, NamedItemsError,
            r"^ranking: rules\.block\.items: filter, character 1: unknown attribute 'prise'; did you mean 'price'\?",
        ),
        (
            {"rules": {"caps": [{"attribute": "brnd", "most": 1, "first": 9}]}}, RuleError,
            r"rules\.caps\.0: .*did you mean 'br",
        ),
        (
            {"rules": {"deduplicate": [{"by": ["brand", "tags"]}]}}, RuleError,
            r"an attribute of single values, found 'tags'",
        ),
        (
            {"objectives": {"default": "purchase + brand"}}, ObjectiveError,
            r"objective 'default': formula, character 12: .*'brand'",
        ),
        ({"objectives": {"x": "signal_head_purchas"}}, ObjectiveError, r"did you mean 'signal_head_purchase'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(config: dict[str, Any], error: type[InvalidInputError], said: str) -> None:
    with pytest.raises(error, match=said):
        check_order(RankingConfig.model_validate(config), TASKS, ITEMS, sequence=False)


def test_what_fits_passes() -> None:
    rules = {
        "bury": {"items": 'mean_price > 2 or item_id in ["a"]'},
        "caps": [{"attribute": "brand", "most": 1, "first": 9}],
    }
    objectives = {"margin": "purchase * price ** 0.3 + mean_price * signal_sequence"}
    config = RankingConfig.model_validate({"rules": rules, "objectives": objectives})
    check_order(config, TASKS, ITEMS, sequence=True)
    with pytest.raises(ObjectiveError, match="signal_sequence"):
        check_order(config, TASKS, ITEMS, sequence=False)
