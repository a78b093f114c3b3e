"""The monitor's memory: scored texts, judged buckets and alerts in one SQLite file.

Counts are made from the texts, which stand there once by their id, and a bucket's verdict, its alert and the time until
which buckets are judged are written in one transaction. So a run killed at any moment is repeated by the next one
without a text counted or an alert raised twice.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from flows.monitor.alert import Alert, Point, Series, WorstText

# `past`: of a bucket too long ago to be posted. `kept`: there was no webhook when it came.
Delivery = Literal["pending", "posted", "past", "kept"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CREATE: Final = """
CREATE TABLE IF NOT EXISTS texts (
    text_id TEXT PRIMARY KEY, text TEXT NOT NULL, at INTEGER NOT NULL, scored_by TEXT NOT NULL, score REAL NOT NULL,
    negative INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS by_time ON texts (at);
CREATE TABLE IF NOT EXISTS members (
    text_id TEXT NOT NULL REFERENCES texts ON DELETE CASCADE, grouping TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (text_id, grouping)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS points (
    grouping TEXT NOT NULL, value TEXT NOT NULL, start INTEGER NOT NULL, hours INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (grouping, value, start, hours)
) STRICT;
CREATE TABLE IF NOT EXISTS alerts (
    id TEXT PRIMARY KEY, start INTEGER NOT NULL, body TEXT NOT NULL, delivery TEXT NOT NULL,
    is_logged INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS judged (until INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, kw_only=True)
class ScoredText:
    """A text as the monitor keeps it.

    Attributes:
        text_id: of the source.
        text: itself.
        at: its time.
        score: probability of the negative classes, or the task's number.
        is_negative: by the workspace's rule.
        groups: grouping -> value; a grouping that it has no value of is left out.
    """

    text_id: str
    text: str
    at: datetime
    score: float
    is_negative: bool
    groups: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Count:
    """Texts of one series in one bucket; `bucket` counts buckets since the epoch."""

    series: Series
    bucket: int
    texts: int
    negative: int


class MonitorStore:
    """One file, which appears with the first call.

    Args:
        path: of the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection whose changes are committed at the end, all or none."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=10)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            # A commit returns once it is on disk.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.executescript(_CREATE)
            with connection:
                yield connection
        finally:
            connection.close()

    def scored(self) -> dict[str, str]:
        """Return what scored each known text, by its id."""
        with self._opened() as connection:
            return dict(connection.execute("SELECT text_id, scored_by FROM texts"))

    def add(self, texts: Iterable[ScoredText], scored_by: str) -> None:
        """Keep scored texts; one that is there takes its new score and groups."""
        with self._opened() as connection:
            for row in texts:
                connection.execute("DELETE FROM texts WHERE text_id = ?", (row.text_id,))
                connection.execute(
                    "INSERT INTO texts VALUES (?, ?, ?, ?, ?, ?)",
                    (row.text_id, row.text, _us(row.at), scored_by, row.score, int(row.is_negative)),
                )
                # Every text is of the series of all.
                groups = {"": "", **row.groups}
                connection.executemany(
                    "INSERT INTO members VALUES (?, ?, ?)", [(row.text_id, by, value) for by, value in groups.items()]
                )

    def first_text(self) -> datetime | None:
        """Return the time of the oldest text."""
        with self._opened() as connection:
            (found,) = connection.execute("SELECT MIN(at) FROM texts").fetchone()
        return None if found is None else _time(found)

    def counts(self, start: datetime, end: datetime, hours: int) -> list[Count]:
        """Return each series' counts by bucket, of texts in [start, end); `hours` long."""
        query = """
            SELECT grouping, value, at / ? AS bucket, COUNT(*), SUM(negative) FROM texts JOIN members USING (text_id)
            WHERE at >= ? AND at < ? GROUP BY grouping, value, bucket ORDER BY grouping, value, bucket
        """
        length = timedelta(hours=hours) // _MICROSECOND
        with self._opened() as connection:
            rows = connection.execute(query, (length, _us(start), _us(end))).fetchall()
        return [
            Count(series=Series(by, value), bucket=bucket, texts=texts, negative=negative)
            for by, value, bucket, texts, negative in rows
        ]

    def worst(self, series: Series, start: datetime, end: datetime, *, lowest: bool, limit: int) -> list[WorstText]:
        """Return the worst negative texts of a series in [start, end): those of the lowest score, or of the highest."""
        order = "ASC" if lowest else "DESC"
        query = f"""
            SELECT text_id, at, score, text FROM texts JOIN members USING (text_id)
            WHERE grouping = ? AND value = ? AND at >= ? AND at < ? AND negative ORDER BY score {order}, text_id LIMIT ?
        """  # noqa: S608 - one of two words of ours
        with self._opened() as connection:
            rows = connection.execute(query, (*series, _us(start), _us(end), limit)).fetchall()
        return [
            WorstText(text_id=text_id, timestamp=_time(at), score=score, text=text) for text_id, at, score, text in rows
        ]

    def judged_until(self) -> datetime | None:
        """Return the end of the last judged bucket; None before the first run."""
        with self._opened() as connection:
            (found,) = connection.execute("SELECT MAX(until) FROM judged").fetchone()
        return None if found is None else _time(found)

    def points(self, *, hours: int, since: datetime = _EPOCH) -> list[Point]:
        """Return judged buckets of a length that start at or after a time, by series and time."""
        query = "SELECT body FROM points WHERE hours = ? AND start >= ? ORDER BY grouping, value, start"
        with self._opened() as connection:
            rows = connection.execute(query, (hours, _us(since))).fetchall()
        return [Point.model_validate_json(body) for (body,) in rows]

    def newest_point(self, *, hours: int) -> datetime | None:
        """Return the start of the newest judged bucket of a length; None before the first."""
        with self._opened() as connection:
            (found,) = connection.execute("SELECT MAX(start) FROM points WHERE hours = ?", (hours,)).fetchone()
        return None if found is None else _time(found)

    def decide(
        self, points: Sequence[Point], alerts: Sequence[Alert], until: datetime, *, post_since: datetime, keep: datetime
    ) -> None:
        """Write what was judged, all or none.

        Args:
            points: judged buckets.
            alerts: that they raise.
            until: end of the last of them.
            post_since: an alert of a bucket that ended before isn't posted.
            keep: texts before it are no longer needed.
        """
        with self._opened() as connection:
            connection.executemany(
                "INSERT INTO points VALUES (?, ?, ?, ?, ?)",
                [(own.by, own.value, _us(own.start), own.hours, own.model_dump_json()) for own in points],
            )
            connection.executemany(
                "INSERT INTO alerts (id, start, body, delivery) VALUES (?, ?, ?, ?)",
                [
                    (own.id, _us(own.point.start), own.model_dump_json(), _delivery(own.point, post_since))
                    for own in alerts
                ],
            )
            connection.execute("DELETE FROM judged")
            connection.execute("INSERT INTO judged VALUES (?)", (_us(until),))
            connection.execute("DELETE FROM texts WHERE at < ?", (_us(keep),))

    def alerts(self, delivery: Delivery | None = None) -> list[Alert]:
        """Return alerts by the time of their bucket; of one state of delivery, or all."""
        query = "SELECT body FROM alerts WHERE delivery = COALESCE(?, delivery) ORDER BY start, rowid"
        with self._opened() as connection:
            rows = connection.execute(query, (delivery,)).fetchall()
        return [Alert.model_validate_json(body) for (body,) in rows]

    def unlogged(self) -> list[Alert]:
        """Return the alerts that no log line told of."""
        with self._opened() as connection:
            rows = connection.execute("SELECT body FROM alerts WHERE NOT is_logged ORDER BY start, rowid").fetchall()
        return [Alert.model_validate_json(body) for (body,) in rows]

    def mark_logged(self, alert: str) -> None:
        """Note that a log line told of an alert."""
        with self._opened() as connection:
            connection.execute("UPDATE alerts SET is_logged = 1 WHERE id = ?", (alert,))

    def mark(self, alert: str, delivery: Delivery) -> None:
        """Note what became of an alert."""
        with self._opened() as connection:
            connection.execute("UPDATE alerts SET delivery = ? WHERE id = ?", (delivery, alert))


def _delivery(point: Point, post_since: datetime) -> Delivery:
    return "pending" if point.start + timedelta(hours=point.hours) >= post_since else "past"


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _time(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
