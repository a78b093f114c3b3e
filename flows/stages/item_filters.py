"""Whether filters, rules and objectives over a release's items fit the tables, before it is built for hours."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from features.filters.check import check
from features.filters.errors import FilterError
from features.filters.items import NamedItemsError
from features.filters.parse import parse
from features.schema import ITEM_ID, ITEM_STATS
from features.tasks import TaskSpec
from ranking.assemble import feature_names
from ranking.fit import RankingConfig
from ranking.objective import check_objectives
from ranking.rules.catalogue import check_attributes
from ranking.signals import SignalSchema
from ranking.spaces import pair_tasks, user_tasks


def check_item_filter(text: str, items: pl.DataFrame, where: str) -> None:
    """Check a filter against the items' columns and statistics.

    Args:
        text: the filter.
        items: the items table.
        where: place of the filter in the workspace, for the error.

    Raises:
        NamedItemsError: it doesn't fit.
    """
    try:
        check(parse(text), _columns(items))
    except FilterError as error:
        raise NamedItemsError(f"{where}: {error}") from None


def check_order(config: RankingConfig, tasks: Sequence[TaskSpec], items: pl.DataFrame, *, sequence: bool) -> None:
    """Check what rules and objectives name.

    Args:
        config: the section.
        tasks: of the workspace.
        items: the items table.
        sequence: whether there is a sequence model.

    Raises:
        NamedItemsError: a rule's filter doesn't fit.
        RuleError: a rule's attribute that the items lack, or one of lists or structures.
        ObjectiveError: an objective reads what isn't there, or no number.
    """
    rules, pairs = config.rules, tuple(task.name for task in pair_tasks(tasks))
    for where, rule in rules.named():
        if rule.items is not None:
            check_item_filter(rule.items, items, f"ranking: rules.{where}.items")
    # A release's attributes are the columns but for these: a name of a statistic means that one.
    check_attributes(rules, items.select(pl.exclude(ITEM_ID, *ITEM_STATS)))
    signals = SignalSchema(pairs, tuple(task.name for task in user_tasks(tasks)), sequence)
    check_objectives(config.objectives, pairs, _columns(items), feature_names(signals.names))


def _columns(items: pl.DataFrame) -> dict[str, pl.Series]:
    return items.to_dict() | {name: pl.Series(name, [], pl.Float32) for name in ITEM_STATS}
