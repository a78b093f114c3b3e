"""The shared file on real SQLite: whoever opens a new one first, all get in, and no half-open one is used."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from features.durable_log import DurableLog

TABLE = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER)"


def add(log: DurableLog, number: int) -> None:
    with log.opened() as connection, connection:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))


def numbers(log: DurableLog) -> list[int]:
    with log.opened() as connection:
        return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY number")]


def test_opening_waits_for_whoever_holds_the_new_file(tmp_path: Path) -> None:
    """SQLite itself refuses the switch to WAL at once, as the first lines show."""
    path = tmp_path / "log.db"
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE other (number INTEGER)")
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite3.connect(path, timeout=10).execute("PRAGMA journal_mode=WAL")
    release = threading.Timer(0.3, lambda: holder.execute("COMMIT"))
    release.start()
    log = DurableLog(path, (TABLE,))
    add(log, 1)
    release.join()
    assert numbers(log) == [1]


def test_a_log_that_could_not_be_opened_is_opened_anew(tmp_path: Path) -> None:
    log = DurableLog(tmp_path / "log.db", ("CREATE TABLE numbers (number INTEGER)",))
    with sqlite3.connect(tmp_path / "log.db") as other:
        other.execute("CREATE TABLE numbers (wrong INTEGER)")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        add(log, 1)
    with sqlite3.connect(tmp_path / "log.db") as other:
        other.execute("DROP TABLE numbers")
    add(log, 1)
    assert numbers(log) == [1]


def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    logs = [DurableLog(tmp_path / "log.db", (TABLE,)) for _ in range(8)]
    ready = threading.Barrier(len(logs))

    def write(number: int) -> None:
        ready.wait()
        add(logs[number], number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(logs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(logs[0]) == list(range(len(logs)))
