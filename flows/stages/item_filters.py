"""Whether filters that a release evaluates on its items fit the tables, before it is built for hours."""

from __future__ import annotations

import polars as pl

from features.filters.check import check
from features.filters.errors import FilterError
from features.filters.items import NamedItemsError
from features.filters.parse import parse
from features.schema import ITEM_ID, ITEM_STATS
from ranking.rules.catalogue import check_attributes
from ranking.rules.config import Rules


def check_item_filter(text: str, items: pl.DataFrame, where: str) -> None:
    """Check a filter against the items' columns and statistics.

    Args:
        text: the filter.
        items: the items table.
        where: place of the filter in the workspace, for the error.

    Raises:
        NamedItemsError: it doesn't fit.
    """
    statistics = {name: pl.Series(name, [], pl.Float32) for name in ITEM_STATS}
    try:
        check(parse(text), items.to_dict() | statistics)
    except FilterError as error:
        raise NamedItemsError(f"{where}: {error}") from None


def check_rules(rules: Rules, items: pl.DataFrame) -> None:
    """Check what the rules on the order name against the items table.

    Raises:
        NamedItemsError: a filter doesn't fit.
        RuleError: an attribute that the items lack, or one of lists or structures.
    """
    for where, rule in rules.named():
        if rule.items is not None:
            check_item_filter(rule.items, items, f"ranking: rules.{where}.items")
    # A release's attributes are the columns but for these: a name of a statistic means that one.
    check_attributes(rules, items.select(pl.exclude(ITEM_ID, *ITEM_STATS)))
