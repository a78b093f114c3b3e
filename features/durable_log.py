"""One SQLite file that is written durably and shared by threads and processes."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

# How long a writer waits for another process before it gives up.
_PATIENCE_S: Final = 10.0


class DurableLog:
    """A file that is opened, and made where it is missing, by its first use.

    WAL with synchronous=FULL: a commit returns after the log is flushed, so what was acknowledged outlives a power cut.

    Args:
        path: the file.
        schema: statements that make its tables where they are missing.
    """

    def __init__(self, path: Path, schema: Sequence[str]) -> None:
        self._path = path
        self._schema = tuple(schema)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection; one thread at a time."""
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
            yield self._connection

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        """Return a connection that is ready for use; one that could not be made so is closed again."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_PATIENCE_S, check_same_thread=False)
        try:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous=FULL")
            for statement in self._schema:
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL, and wait for whoever is switching it.

    SQLite doesn't: of two processes that open a new file at once, one gets "database is locked" whatever its timeout,
    because waiting for each other's lock could last for ever.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return
