"""Whether the columns that options take groups from stand in the tables."""

from __future__ import annotations

from features.groups import Groups
from features.tables import Tables
from flows.workspace import WorkspaceConfig


def check_groups(config: WorkspaceConfig, tables: Tables) -> None:
    """Check every column of users, items and texts that `audit`, `candidates` or the encoder reads groups from.

    Raises:
        InvalidInputError: no such column, or one without 2 to 100 different values.
    """
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
