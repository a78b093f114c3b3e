"""The durable log of conversation turns: what was asked, how it was replied to, and what a person said of it since.

The text of the reply is not kept: it may hold what the caller knows of the user.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from features.durable_log import DurableLog
from features.event_log import SEQUENCE, microseconds
from features.schema import ITEM_ID, REQUEST_ID, TEXT, TIMESTAMP, USER_ID
from features.schema import UTC as UTC_DTYPE
from infra.errors import NotFoundError, UnavailableError

INTENT: Final = "intent"
_SCHEMA: Final = (
    f"""
CREATE TABLE IF NOT EXISTS turns (
    {SEQUENCE} INTEGER PRIMARY KEY AUTOINCREMENT,
    {REQUEST_ID} TEXT NOT NULL UNIQUE,
    conversation_id TEXT,
    {USER_ID} TEXT,
    {TEXT} TEXT NOT NULL,
    kind TEXT NOT NULL,
    {INTENT} TEXT,
    confidence REAL,
    release TEXT NOT NULL,
    {TIMESTAMP} INTEGER NOT NULL
) STRICT
""",
    f"""
CREATE TABLE IF NOT EXISTS feedback (
    {SEQUENCE} INTEGER PRIMARY KEY AUTOINCREMENT,
    {REQUEST_ID} TEXT NOT NULL REFERENCES turns ({REQUEST_ID}),
    {INTENT} TEXT,
    {ITEM_ID} TEXT,
    {TIMESTAMP} INTEGER NOT NULL
) STRICT
""",
    f"CREATE INDEX IF NOT EXISTS by_request ON feedback ({REQUEST_ID})",
)
_TURN_COLUMNS: Final = (
    REQUEST_ID, "conversation_id", USER_ID, TEXT, "kind", INTENT, "confidence", "release", TIMESTAMP,
)  # fmt: skip
_FEEDBACK_COLUMNS: Final = (REQUEST_ID, INTENT, ITEM_ID, TIMESTAMP)
_READ_SCHEMA: Final = {
    REQUEST_ID: pl.String, TEXT: pl.String, TIMESTAMP: pl.Int64, INTENT: pl.String, ITEM_ID: pl.String,
}  # fmt: skip


class TurnNotFoundError(NotFoundError):
    """Feedback names a request whose turn was never logged."""

    title = "Turn not found"


class TurnLogUnavailableError(UnavailableError):
    """The log can't be written: no room, no permission, or another process holds it."""

    title = "Turn log unavailable"


class Turn(BaseModel):
    """One request for a reply and what became of it; equal request ids are one turn, however often they are sent.

    Attributes:
        request_id: which request.
        conversation_id: the caller's own name of the conversation.
        user_id: who asked.
        text: what.
        kind: of the reply.
        intent: as the release predicted it.
        confidence: its probability.
        release: which replied.
        timestamp: when.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: str = Field(min_length=1)
    conversation_id: str | None = None
    user_id: str | None = None
    text: str
    kind: str
    intent: str | None = None
    confidence: float | None = None
    release: str
    timestamp: AwareDatetime


class TurnFeedback(BaseModel):
    """What a person says of a turn: a label that the next release learns. The latest of each kind counts.

    Attributes:
        request_id: of the turn.
        intent: what the text wanted.
        item_id: what answers it.
        timestamp: when.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: str
    intent: str | None = None
    item_id: str | None = None
    timestamp: AwareDatetime


class TurnLog:
    """Append-only turns and feedback in one SQLite file, shared by threads and processes (see `DurableLog`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = DurableLog(path, _SCHEMA)

    def append(self, turn: Turn) -> bool:
        """Store a turn durably, and return whether its request id is new.

        Raises:
            TurnLogUnavailableError: it can't be written.
        """
        with self._writing() as connection, connection:
            statement = f"{_insert('turns', _TURN_COLUMNS)} ON CONFLICT ({REQUEST_ID}) DO NOTHING"
            return connection.execute(statement, _row(turn)).rowcount > 0

    def give(self, feedback: TurnFeedback) -> None:
        """Store feedback durably.

        Raises:
            TurnNotFoundError: no turn of that request is logged.
            TurnLogUnavailableError: it can't be written.
        """
        with self._writing() as connection, connection:
            known = connection.execute(f"SELECT 1 FROM turns WHERE {REQUEST_ID} = ?", (feedback.request_id,))  # noqa: S608  # constants only
            if known.fetchone() is None:
                raise TurnNotFoundError(f"request_id: expected one of a logged turn, found {feedback.request_id!r}")
            connection.execute(_insert("feedback", _FEEDBACK_COLUMNS), _row(feedback))

    def read(self) -> pl.DataFrame:
        """Return a row a turn, in the order they came: `request_id`, `text`, `timestamp`, and the labels given since.

        The labels are `intent` and `item_id`, each the latest that feedback named, or null. A log that was never
        written is not made by reading it.
        """
        rows = []
        if self._path.exists():
            latest = (_latest_label(column) for column in (INTENT, ITEM_ID))
            columns = f"{REQUEST_ID}, {TEXT}, {TIMESTAMP}, {', '.join(latest)}"
            with self._log.opened() as connection:
                rows = connection.execute(f"SELECT {columns} FROM turns ORDER BY {SEQUENCE}").fetchall()  # noqa: S608
        table = pl.DataFrame(rows, schema=_READ_SCHEMA, orient="row")
        return table.with_columns(pl.from_epoch(TIMESTAMP, time_unit="us").dt.replace_time_zone("UTC").cast(UTC_DTYPE))

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._log.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._log.opened() as connection:
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise TurnLogUnavailableError(f"turn log {self._path.name}: expected to write, found {error}") from error


def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608  # constants only


def _latest_label(column: str) -> str:
    """Return a query of the label that was given last to the turn at hand."""
    return (
        f"(SELECT f.{column} FROM feedback f WHERE f.{REQUEST_ID} = turns.{REQUEST_ID} AND f.{column} IS NOT NULL "  # noqa: S608  # constants only
        f"ORDER BY f.{SEQUENCE} DESC LIMIT 1)"
    )


def _row(record: Turn | TurnFeedback) -> tuple[str | float | None, ...]:
    return tuple(microseconds(record.timestamp) if name == TIMESTAMP else value for name, value in record)
