"""The durable event log: an event is acknowledged once it is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from features.durable_log import DurableLog
from features.schema import EVENT, EVENT_ID, ITEM_ID, QUANTITY, REQUEST_ID, TIMESTAMP, USER_ID, VALUE
from features.schema import UTC as UTC_DTYPE
from infra.errors import InvalidInputError

SEQUENCE: Final = "sequence"
# How far a client's clock may be ahead of ours.
_CLOCK_TOLERANCE: Final = timedelta(minutes=5)
_COLUMNS: Final = (EVENT_ID, USER_ID, ITEM_ID, EVENT, TIMESTAMP, VALUE, QUANTITY, REQUEST_ID)
_LOG_SCHEMA: Final = {
    SEQUENCE: pl.Int64, EVENT_ID: pl.String, USER_ID: pl.String, ITEM_ID: pl.String, EVENT: pl.String,
    TIMESTAMP: pl.Int64, VALUE: pl.Float64, QUANTITY: pl.Float64, REQUEST_ID: pl.String,
}  # fmt: skip
_CREATE: Final = f"""
CREATE TABLE IF NOT EXISTS events (
    {SEQUENCE} INTEGER PRIMARY KEY AUTOINCREMENT,
    {EVENT_ID} TEXT NOT NULL UNIQUE,
    {USER_ID} TEXT NOT NULL,
    {ITEM_ID} TEXT NOT NULL,
    {EVENT} TEXT NOT NULL,
    {TIMESTAMP} INTEGER NOT NULL,
    {VALUE} REAL,
    {QUANTITY} REAL,
    {REQUEST_ID} TEXT
) STRICT
"""


class FutureEventError(InvalidInputError):
    """An event that has not happened yet."""


class Event(BaseModel):
    """One event of a user with an item; equal ids are one event, however often they are sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event_id: str = Field(min_length=1, max_length=200)
    user_id: str = Field(min_length=1)
    item_id: str = Field(min_length=1)
    event: str = Field(min_length=1)
    timestamp: AwareDatetime
    value: float | None = Field(default=None, allow_inf_nan=False)
    quantity: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    request_id: str | None = None


class EventLog:
    """Append-only events in one SQLite file, shared by threads and processes (see `DurableLog`)."""

    def __init__(self, path: Path) -> None:
        self._log = DurableLog(path, (_CREATE, f"CREATE INDEX IF NOT EXISTS by_user ON events ({USER_ID})"))

    def append(self, events: Sequence[Event], now: datetime) -> int:
        """Store events durably, all or none, and return how many were new.

        Raises:
            FutureEventError: one happened more than five minutes after `now`; names the first.
        """
        for event in events:
            if event.timestamp > now + _CLOCK_TOLERANCE:
                raise FutureEventError(
                    f"event {event.event_id!r}: expected a timestamp until {now.isoformat()}, "
                    f"found {event.timestamp.isoformat()}"
                )
        marks = ", ".join("?" * len(_COLUMNS))
        statement = f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({marks}) ON CONFLICT ({EVENT_ID}) DO NOTHING"  # noqa: S608  # constants only
        rows = [tuple(microseconds(v) if k == TIMESTAMP else v for k, v in event) for event in events]
        with self._log.opened() as connection, connection:
            before = connection.total_changes
            connection.executemany(statement, rows)
            return connection.total_changes - before

    def last_sequence(self) -> int:
        """Return the sequence number of the newest event, 0 for an empty log."""
        with self._log.opened() as connection:
            return int(connection.execute(f"SELECT COALESCE(MAX({SEQUENCE}), 0) FROM events").fetchone()[0])  # noqa: S608

    def read(self, *, after: int = 0, user_id: str | None = None) -> pl.DataFrame:
        """Return logged events in the order they came: `sequence` and the canonical event columns.

        Args:
            after: only events of a greater sequence number.
            user_id: only this user's.
        """
        condition, values = f"{SEQUENCE} > ?", [after]
        query = f"SELECT {', '.join(_LOG_SCHEMA)} FROM events WHERE {condition}"  # noqa: S608  # constants only
        parameters: list[int | str] = list(values)
        if user_id is not None:
            query += f" AND {USER_ID} = ?"
            parameters.append(user_id)
        with self._log.opened() as connection:
            rows = connection.execute(f"{query} ORDER BY {SEQUENCE}", parameters).fetchall()
        table = pl.DataFrame(rows, schema=_LOG_SCHEMA, orient="row")
        return table.with_columns(pl.from_epoch(TIMESTAMP, time_unit="us").dt.replace_time_zone("UTC").cast(UTC_DTYPE))

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._log.close()


def microseconds(moment: datetime) -> int:
    """Return an aware time as microseconds since 1970, as the logs hold it."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
