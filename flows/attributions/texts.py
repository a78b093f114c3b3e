"""The text that a release's encoder read of one user or one item, made anew from the tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import polars as pl

from features.schema import ITEM_ID, USER, USER_ID
from features.tables import Tables, encode
from features.texts import TextConfig, item_mentions, item_texts, user_texts
from features.transforms import FeatureConfig, as_of, user_history
from infra.errors import NotFoundError


class UnknownRowError(NotFoundError):
    """The tables have no such user or item, or the release no text of it."""

    title = "No such user or item"


def item_text(tables: Tables, item_id: str, texts: TextConfig) -> str:
    """Return an item's text.

    Args:
        tables: of the workspace.
        item_id: of the items table.
        texts: the release's templates.

    Raises:
        UnknownRowError: no such item.
    """
    return str(item_texts(_row(tables.items, ITEM_ID, item_id, "items"), texts).item())


def user_text(tables: Tables, user_id: str, cut: datetime, texts: TextConfig, features: FeatureConfig) -> str:
    """Return a user's text as of a time: what `flows.stages.encode.texts_of_users` gives of this one.

    Args:
        tables: of the workspace.
        user_id: of the users table.
        cut: the release's as-of time; no event at or after it is read.
        texts: the release's templates.
        features: its names of events.

    Raises:
        UnknownRowError: no such user, or one without a purchase before the cut, whose text no release reads.
    """
    row = _row(tables.users, USER_ID, user_id, "users")
    theirs = replace(tables, events=tables.events.filter(pl.col(USER_ID) == user_id))
    before = as_of(encode(theirs).with_columns(pl.lit(0, pl.Int32).alias(USER)), cut, features)
    if before.purchases.is_empty():
        raise UnknownRowError(
            f"user {user_id!r}: expected a {features.purchase_event} event before {cut:%Y-%m-%d %H:%M}, found none; "
            "the release has no text of a user without"
        )
    mentions = item_mentions(tables.items, texts)
    return str(user_texts(row, user_history(before, 1), mentions, texts).item())


def _row(table: pl.DataFrame, key: str, value: str, name: str) -> pl.DataFrame:
    found = table.filter(pl.col(key) == value)
    if found.is_empty():
        raise UnknownRowError(f"{name}.{key}: expected one of its {table.height} ids, found {value!r}")
    return found
