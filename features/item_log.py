"""The durable log of changes to the catalogue: a change is acknowledged once it is on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from features.durable_log import DurableLog
from features.event_log import SEQUENCE, microseconds
from features.item_values import ItemValue
from features.schema import ITEM_ID

_VALUES: Final = "item_values"
_RECEIVED: Final = "received"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CREATE: Final = f"""
CREATE TABLE IF NOT EXISTS item_changes (
    {SEQUENCE} INTEGER PRIMARY KEY AUTOINCREMENT,
    {ITEM_ID} TEXT NOT NULL,
    {_VALUES} TEXT NOT NULL,
    {_RECEIVED} INTEGER NOT NULL
) STRICT
"""
_LAST: Final = f"SELECT COALESCE(MAX({SEQUENCE}), 0) FROM item_changes"  # noqa: S608  # constants only


class ItemChange(BaseModel):
    """What is to stand in some columns of one item, which is a new one where the catalogue lacks it.

    There is no deletion, since an item's position is for ever: an item is taken out by its `available_to`.

    Attributes:
        item_id: not blank.
        values: by column; a column that isn't named stays as it is, null for a new item. Times are ISO 8601 texts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    item_id: Annotated[str, Field(pattern=r"\S")]
    values: dict[str, ItemValue]


@dataclass(frozen=True, kw_only=True)
class LoggedChange:
    """A change as the log holds it.

    Attributes:
        sequence: its place in the log, from 1.
        received: when a service took it (UTC).
        change: what was asked for.
    """

    sequence: int
    received: datetime
    change: ItemChange


class ItemLog:
    """Append-only changes of items in one SQLite file, shared by threads and processes (see `DurableLog`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = DurableLog(path, (_CREATE,))

    def append(self, changes: Sequence[ItemChange], now: datetime) -> int:
        """Store changes durably, all or none, and return the sequence number of the newest in the log.

        Args:
            changes: in the order in which they apply; `features.item_changes.check_changes` has passed them.
            now: aware, when they were received.
        """
        statement = f"INSERT INTO item_changes ({ITEM_ID}, {_VALUES}, {_RECEIVED}) VALUES (?, ?, ?)"  # noqa: S608  # constants only
        received = microseconds(now)
        rows = [(change.item_id, json.dumps(change.values, ensure_ascii=False), received) for change in changes]
        with self._log.opened() as connection, connection:
            connection.executemany(statement, rows)
            return int(connection.execute(_LAST).fetchone()[0])

    def last_sequence(self) -> int:
        """Return the sequence number of the newest change, 0 for an empty log."""
        if not self._path.exists():
            return 0
        with self._log.opened() as connection:
            return int(connection.execute(_LAST).fetchone()[0])

    def sequence_before(self, moment: datetime) -> int:
        """Return up to which sequence number, inclusive, every change was received before an aware time."""
        if not self._path.exists():
            return 0
        query = f"SELECT MIN({SEQUENCE}) FROM item_changes WHERE {_RECEIVED} >= ?"  # noqa: S608  # constants only
        with self._log.opened() as connection:
            first = connection.execute(query, (microseconds(moment),)).fetchone()[0]
            return int(connection.execute(_LAST).fetchone()[0] if first is None else first - 1)

    def read(self, after: int = 0, *, limit: int | None = None) -> Sequence[LoggedChange]:
        """Return the changes of a greater sequence number, in order; a log that was never written isn't made by it.

        Args:
            after: that number.
            limit: of the first ones; None reads all.
        """
        if not self._path.exists():
            return ()
        query = f"SELECT {SEQUENCE}, {_RECEIVED}, {ITEM_ID}, {_VALUES} FROM item_changes WHERE {SEQUENCE} > ?"  # noqa: S608  # constants only
        with self._log.opened() as connection:
            # SQLite takes a negative limit for none.
            parameters = (after, -1 if limit is None else limit)
            rows = connection.execute(f"{query} ORDER BY {SEQUENCE} LIMIT ?", parameters).fetchall()
        return [
            LoggedChange(
                sequence=sequence,
                received=_EPOCH + timedelta(microseconds=received),
                # What was checked on its way in needn't be again: of a million changes that took most of the time.
                change=ItemChange.model_construct(item_id=item_id, values=json.loads(values)),
            )
            for sequence, received, item_id, values in rows
        ]

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._log.close()
