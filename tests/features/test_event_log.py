"""The event log on real files: idempotent, ordered, and whole after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from features.event_log import Event, EventLog, FutureEventError

NOW = datetime(2020, 4, 10, 12, tzinfo=UTC)


def event(number: int, **parts: object) -> Event:
    given = {"event_id": f"e{number}", "user_id": "ann", "item_id": "a", "event": "purchase", "timestamp": NOW}
    return Event.model_validate(given | parts)


def test_equal_ids_are_one_event(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db")
    assert log.append([event(1), event(2), event(1)], NOW) == 2
    assert log.append([event(2, item_id="other"), event(3)], NOW) == 1
    found = log.read()
    assert found["event_id"].to_list() == ["e1", "e2", "e3"]
    assert found["item_id"].to_list() == ["a", "a", "a"]  # the first of an id stays


def test_values_survive_to_the_microsecond(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db")
    moment = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    log.append([event(1, timestamp=moment, value=-1.25, quantity=0.1, request_id="r", user_id="牛奶")], NOW)
    row = log.read().row(0, named=True)
    assert row["timestamp"] == moment
    assert (row["value"], row["quantity"], row["request_id"], row["user_id"]) == (-1.25, 0.1, "r", "牛奶")


def test_reads_after_a_sequence_and_of_a_user(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db")
    assert log.last_sequence() == 0
    log.append([event(1), event(2, user_id="bob")], NOW)
    mark = log.last_sequence()
    log.append([event(3, user_id="bob")], NOW)
    assert log.read(after=mark)["event_id"].to_list() == ["e3"]
    assert log.read(user_id="bob")["event_id"].to_list() == ["e2", "e3"]
    log.close()
    assert log.read(after=mark, user_id="ann").height == 0


def test_a_future_event_stores_nothing(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db")
    with pytest.raises(FutureEventError, match="event 'e2': expected a timestamp until 2020-04-10T12:00"):
        log.append([event(1), event(2, timestamp=NOW + timedelta(minutes=6))], NOW)
    assert log.read().height == 0
    assert log.append([event(3, timestamp=NOW + timedelta(minutes=4))], NOW) == 1


@pytest.mark.parametrize(
    "parts",
    [
        {"timestamp": datetime(2020, 4, 10)},
        {"value": float("nan")},
        {"quantity": -1},
        {"event_id": ""},
        {"user": "ann"},
    ],
)
def test_bad_events_are_refused(parts: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        event(1, **parts)


def test_writers_share_the_file(tmp_path: Path) -> None:
    """Two logs (as two processes have) and four threads, no event lost and none twice."""
    logs = [EventLog(tmp_path / "events.db") for _ in range(2)]

    def write(number: int) -> None:
        for step in range(20):
            logs[number % 2].append([event(number * 15 + step)], NOW)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Thread n writes ids 15 n to 15 n + 19: together 0 to 64.
    assert logs[0].read()["event_id"].n_unique() == logs[1].read().height == 65


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    code = f"""
import sys
from datetime import datetime, UTC
from pathlib import Path
from features.event_log import Event, EventLog
log = EventLog(Path({str(tmp_path / "events.db")!r}))
now = datetime(2020, 4, 10, 12, tzinfo=UTC)
for number in range(100_000):
    log.append([Event(event_id=f"e{{number}}", user_id="u", item_id="a", event="purchase", timestamp=now)], now)
    print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)  # ours
    assert process.stdout is not None
    acknowledged = -1
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged == 50:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    found = set(EventLog(tmp_path / "events.db").read()["event_id"].to_list())
    assert {f"e{number}" for number in range(acknowledged + 1)} <= found
