"""The replies of a workspace: its section with every template read, held against its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from features.column_labels import LabelColumn
from features.sources import own_replies
from features.tables import Tables
from features.turn_log import INTENT, TurnLog
from flows.stages.turns import LoggedTurns
from flows.workspace import Workspace
from infra.errors import InvalidInputError, unknown_name
from ranking.reply.config import Replies, ReplyConfig

_REPLY: Final = "reply"


def read_replies(workspace: Workspace, tables: Tables) -> Replies | None:
    """Return the replies of a workspace; None where it has no such section.

    Args:
        workspace: a path in its section starts from its folder.
        tables: whose labels say which intents and slots there are; those of split `test` say nothing.

    Raises:
        InvalidInputError: no such file or column, a template of an unknown intent, or a placeholder that nothing fills.
    """
    config = workspace.config.reply
    if config is None:
        return None
    replies = config.replies(_templates(config, workspace))
    specs = {task.name: task for task in workspace.config.tasks}
    train = tables.without_test()
    asked = [replies.intent] if replies.templates else []
    classes = {
        name: LabelColumn.of(specs[name], train).classes() for name in (*asked, replies.slots) if name is not None
    }
    replies.check(classes, tables.items.columns)
    return replies


def logged_turns(workspace: Workspace) -> LoggedTurns | None:
    """Return the turns that a workspace's services logged; None where none are, or where they aren't to be read."""
    config = workspace.config.reply
    if config is None or not config.log_turns:
        return None
    turns = TurnLog(workspace.turn_log).read()
    if turns.is_empty():
        return None
    return LoggedTurns.of(turns, workspace.config.tasks, config.intent, config.answers)


def _templates(config: ReplyConfig, workspace: Workspace) -> dict[str, str]:
    """Return the templates by intent, wherever they stand; without a task of intents there are none."""
    if config.intent is None:
        return {}
    if config.templates is None:
        return own_replies(workspace.config.source)
    if isinstance(config.templates, str):
        return _read(workspace.folder / config.templates)
    return dict(config.templates)


def _read(path: Path) -> dict[str, str]:
    """Return the rows of a CSV file of intents and replies."""
    try:
        rows = pl.read_csv(path, infer_schema=False)
    except (OSError, PolarsError) as error:
        raise InvalidInputError(f"reply.templates: expected a CSV file at {path}, found {error}") from error
    for column in (INTENT, _REPLY):
        if column not in rows.columns:
            raise InvalidInputError(f"reply.templates: {path}: {unknown_name('column', column, rows.columns)}")
    unusable = rows.filter(pl.col(INTENT).is_null() | pl.col(_REPLY).is_null() | pl.col(INTENT).is_duplicated())
    if unusable.height:
        found = unusable.select(INTENT, _REPLY).row(0)
        raise InvalidInputError(
            f"reply.templates: {path}: expected one reply for each intent, found {unusable.height} rows otherwise, "
            f"first {found}"
        )
    return dict(rows.select(INTENT, _REPLY).iter_rows())
