"""The Feast objects: entities, feature views, services and the push source, generated from the feature lists.

Training reads the four column-wise views. Serving reads one packed value per user (`features.rows.pack`), so a request
costs one query; it is written from the same rows, and a test holds both forms equal.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from features.feast_import import feast
from features.rows import (
    CATEGORY_CODES_COLUMN,
    CATEGORY_COLUMNS,
    HISTORY_COLUMNS,
    HISTORY_ITEMS_COLUMN,
    ITEM_STATS_COLUMNS,
    SCHEMA_TAG,
    USER_AS_OF_COLUMN,
    USER_STATS_COLUMNS,
)
from features.schema import ITEM, ITEM_ID, USER, USER_ID

EVENT_TIMESTAMP: Final = "event_timestamp"
USER_STATS_VIEW: Final = "user_stats"
USER_HISTORY_VIEW: Final = "user_history"
USER_CATEGORY_VIEW: Final = "user_category"
ITEM_STATS_VIEW: Final = "item_stats"
USER_ROW_VIEW: Final = "user_row"
USER_ROW_COLUMN: Final = "user_row_packed"
USER_ROW_PUSH: Final = "user_row_push"
ONLINE_SERVICE: Final = "user_online"
TRAINING_SERVICE: Final = "user_training"
ITEM_SERVICE: Final = "item_snapshot"


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """Every object of the repo; Feast has no types, so each is `Any` here."""

    user: Any
    item: Any
    user_stats: Any
    user_history: Any
    user_category: Any
    item_stats: Any
    user_row_push: Any
    user_row: Any
    user_online: Any
    user_training: Any
    item_snapshot: Any

    def objects(self) -> list[Any]:
        """Return them all, for `apply`."""
        return [getattr(self, field.name) for field in fields(self)]


def snapshot_pattern(state: Path, view: str, name: str = "*") -> Path:
    """Return where the snapshots of a view lie: one Parquet file for each cut, apart by feature schema."""
    return state / "offline" / view / f"{SCHEMA_TAG.hex()}-{name}.parquet"


def define(state: Path) -> Definitions:
    """Return the Feast objects of a repo whose offline files lie under `state`."""
    types = feast.types
    user = feast.Entity(name=USER, join_keys=[USER_ID], value_type=feast.ValueType.STRING)
    item = feast.Entity(name=ITEM, join_keys=[ITEM_ID], value_type=feast.ValueType.STRING)

    def source(view: str) -> Any:
        path = str(snapshot_pattern(state, view))
        return feast.FileSource(name=f"{view}_source", path=path, timestamp_field=EVENT_TIMESTAMP)

    def view(name: str, entity: Any, columns: dict[str, Any], *, origin: Any = None, online: bool = True) -> Any:
        key = feast.Field(name=entity.join_key, dtype=types.String)
        return feast.FeatureView(
            name=name,
            entities=[entity],
            schema=[key, *(feast.Field(name=column, dtype=dtype) for column, dtype in columns.items())],
            source=origin if origin is not None else source(name),
            # No expiry: a row's age is in the row (user_as_of) and in a metric; a stale row beats none.
            ttl=timedelta(0),
            online=online,
        )

    numbers, integers = types.Array(types.Float32), types.Array(types.Int32)
    stats = dict.fromkeys(USER_STATS_COLUMNS, types.Float32) | {USER_AS_OF_COLUMN: types.Float64}
    history = {HISTORY_ITEMS_COLUMN: integers} | dict.fromkeys(HISTORY_COLUMNS, numbers)
    category = {CATEGORY_CODES_COLUMN: integers} | dict.fromkeys(CATEGORY_COLUMNS, numbers)
    user_stats = view(USER_STATS_VIEW, user, stats, online=False)
    user_history = view(USER_HISTORY_VIEW, user, history, online=False)
    user_category = view(USER_CATEGORY_VIEW, user, category, online=False)
    item_stats = view(ITEM_STATS_VIEW, item, dict.fromkeys(ITEM_STATS_COLUMNS, types.Float32))
    push = feast.PushSource(name=USER_ROW_PUSH, batch_source=source(USER_ROW_VIEW))
    user_row = view(USER_ROW_VIEW, user, {USER_ROW_COLUMN: types.Bytes}, origin=push)
    return Definitions(
        user=user,
        item=item,
        user_stats=user_stats,
        user_history=user_history,
        user_category=user_category,
        item_stats=item_stats,
        user_row_push=push,
        user_row=user_row,
        user_online=feast.FeatureService(name=ONLINE_SERVICE, features=[user_row]),
        user_training=feast.FeatureService(name=TRAINING_SERVICE, features=[user_stats, user_history, user_category]),
        item_snapshot=feast.FeatureService(name=ITEM_SERVICE, features=[item_stats]),
    )
