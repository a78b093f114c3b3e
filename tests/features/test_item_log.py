"""The log of item changes on real files: ordered, whole, and there after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import ValidationError

from features.item_log import ItemChange, ItemLog

NOW = datetime(2026, 4, 10, 12, 0, 0, 123_456, tzinfo=UTC)


def change(item_id: str, **values: str | float | bool | None) -> ItemChange:
    return ItemChange(item_id=item_id, values=values)


def test_changes_come_back_as_they_were_in_the_order_they_came(tmp_path: Path) -> None:
    log = ItemLog(tmp_path / "items.sqlite")
    first = [change("a", title="tea 牛奶", price=2, weight=0.1, organic=True, brand=None), change("b")]
    assert log.append(first, NOW) == 2
    # The same moment, told by another zone.
    assert log.append([change("a", price=2.0)], NOW.astimezone(timezone(timedelta(hours=2)))) == 3
    found = log.read()
    assert [logged.change for logged in found] == [*first, change("a", price=2.0)]
    assert [logged.sequence for logged in found] == [1, 2, 3]
    assert {logged.received for logged in found} == {NOW}
    kinds = [type(value) for value in found[0].change.values.values()]
    assert kinds == [str, int, float, bool, type(None)]


def test_reads_after_a_sequence(tmp_path: Path) -> None:
    log = ItemLog(tmp_path / "items.sqlite")
    mark = log.append([change("a")], NOW)
    assert log.append([], NOW) == mark
    log.append([change("b"), change("c")], NOW)
    log.close()
    assert [logged.change.item_id for logged in log.read(after=mark)] == ["b", "c"]
    assert log.last_sequence() == 3
    assert not log.read(after=3)


def test_tells_up_to_where_all_was_received_before_a_time(tmp_path: Path) -> None:
    log = ItemLog(tmp_path / "items.sqlite")
    assert log.sequence_before(NOW) == 0
    # The third came by a clock that had gone back.
    for hours in (0, 2, 1):
        log.append([change("a")], NOW + timedelta(hours=hours))
    found = [log.sequence_before(NOW + timedelta(hours=hours)) for hours in (0, 0.5, 1.5, 2, 2.1)]
    assert found == [0, 1, 1, 1, 3]


def test_a_log_that_was_never_written_is_not_made_by_reading(tmp_path: Path) -> None:
    log = ItemLog(tmp_path / "items.sqlite")
    assert (log.last_sequence(), log.sequence_before(NOW), len(log.read())) == (0, 0, 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "given",
    [
        {"item_id": " ", "values": {}},
        {"item_id": "", "values": {}},
        {"item_id": "a"},
        {"item_id": "a", "values": {}, "delete": True},
        {"item_id": "a", "values": {"price": float("nan")}},
        {"item_id": "a", "values": {"tags": ["x"]}},
    ],
)
def test_refuses_what_is_no_change(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ItemChange.model_validate(given)


def test_threads_share_a_log(tmp_path: Path) -> None:
    log = ItemLog(tmp_path / "items.sqlite")

    def write(name: str) -> None:
        for number in range(20):
            log.append([change(f"{name}{number}"), change(f"{name}{number}", price=number)], NOW)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = log.read()
    assert [logged.sequence for logged in found] == list(range(1, 121))
    # A batch stands together: no other thread's change comes between.
    pairs = zip(found[::2], found[1::2], strict=True)
    assert all(one.change.item_id == two.change.item_id for one, two in pairs)


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    script = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from features.item_log import ItemChange, ItemLog
log = ItemLog(Path(sys.argv[1]))
for number in range(100_000):
    last = log.append([ItemChange(item_id=str(number), values={"price": number})], datetime.now(UTC))
    sys.stdout.write(f"{last}\\n")
    sys.stdout.flush()
"""
    path = tmp_path / "items.sqlite"
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
    found = ItemLog(path).read()
    assert len(found) >= acknowledged
    assert [logged.change.values for logged in found[:20]] == [{"price": number} for number in range(20)]
