"""One SQLite file that is written durably and shared by threads and processes."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path


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
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(self._path, timeout=10, check_same_thread=False)
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                for statement in self._schema:
                    self._connection.execute(statement)
            yield self._connection

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
