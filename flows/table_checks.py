"""What the workspace names in its tables, checked before anything is built of them."""

from __future__ import annotations

from features.groups import Groups
from features.tables import Tables
from features.tasks import allowed_items
from flows.stages.campaigns import check_campaigns
from flows.stages.item_filters import check_order
from flows.workspace import WorkspaceConfig


def check_named(config: WorkspaceConfig, tables: Tables) -> None:
    """Check every column that groups, filters, campaigns, rules and objectives name.

    Raises:
        InvalidInputError: one that isn't there, or holds what can't be compared or counted; a filter that doesn't fit.
    """
    _check_groups(config, tables)
    config.eligible.allowed(tables.items)
    for task in config.tasks:
        allowed_items(task, tables.items)
    check_campaigns(config.candidates.campaigns, tables)
    if config.parts.ranking:
        check_order(config.ranking, config.tasks, tables.items, sequence=config.sequence is not None)


def _check_groups(config: WorkspaceConfig, tables: Tables) -> None:
    """Check every column of users, items and texts that `audit`, `candidates` or the encoder reads groups from."""
    encoder, trending = config.encoder.group_columns, config.candidates.trending_by
    asked = (
        (
            tables.users,
            "users",
            (*config.audit.users, *encoder.get("user", ()), *([] if trending is None else [trending])),
        ),
        (tables.items, "items", (*config.audit.items, *encoder.get("item", ()))),
        (tables.texts, "texts", encoder.get("text", ())),
    )
    for table, name, columns in asked:
        for column in dict.fromkeys(columns):
            Groups.of(table, column, name)
