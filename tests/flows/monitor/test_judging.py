"""Texts in the store become verdicts once, whatever comes between two runs."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from flows.monitor.alert import Alert, Point, Series
from flows.monitor.config import MonitorConfig
from flows.monitor.judging import judge_closed
from flows.monitor.store import MonitorStore
from tests.flows.monitor.samples import CONFIG, HOUR, SUBJECT, T, stream, texts

BURST = range(60, 62)


@pytest.fixture
def store(tmp_path: Path) -> MonitorStore:
    return MonitorStore(tmp_path / "monitor.sqlite")


def judge(store: MonitorStore, hours: float, config: MonitorConfig = CONFIG) -> tuple[list[Point], list[Alert]]:
    return judge_closed(store, config, T + hours * HOUR, SUBJECT)


def test_nothing_is_judged_without_texts(store: MonitorStore) -> None:
    assert judge(store, 10) == ([], [])
    assert store.judged_until() is None


def test_a_burst_is_one_alert_of_its_firm_and_one_of_all(store: MonitorStore) -> None:
    store.add(stream(72, BURST), "r1")
    points, alerts = judge(store, 72)
    assert [(own.point.series.label, own.point.start) for own in alerts] == [
        ("all texts", T + 60 * HOUR), ("firm Acme", T + 60 * HOUR),
    ]  # fmt: skip
    acme = alerts[1]
    assert (acme.point.texts, acme.point.negative, acme.point.cause) == (10, 10, "jump")
    assert acme.point.expected == pytest.approx(0.2, abs=0.01)
    # The five worst, by their score.
    assert [(own.text_id, own.score) for own in acme.worst] == [
        (f"Acme-60-{place}", pytest.approx(0.9 - place / 100)) for place in range(5)
    ]
    assert acme.summary.startswith("firm Acme: 10 of 10 texts negative (100%) in the 1 h from 2025-03-03 12:00 UTC")
    # Thirty texts of a firm are there after three hours; all texts have as many after two.
    assert {own.series: own.start for own in reversed(points)} == {
        Series("", ""): T + 2 * HOUR, Series("firm", "Acme"): T + 3 * HOUR, Series("firm", "Bolt"): T + 3 * HOUR,
    }  # fmt: skip


def test_a_second_run_finds_nothing_new(store: MonitorStore) -> None:
    store.add(stream(72, BURST), "r1")
    first, alerts = judge(store, 72)
    store.add(stream(72, BURST), "r1")
    assert judge(store, 72.5) == ([], [])
    assert store.points(hours=1) == sorted(first, key=lambda own: (own.by, own.value, own.start))
    assert store.alerts() == alerts
    assert sum(own.texts for own in store.points(hours=1) if own.series == ("", "")) == 70 * 20


@pytest.mark.parametrize("step", [5, 40])
def test_many_runs_are_as_one(store: MonitorStore, tmp_path: Path, step: int) -> None:
    """CUSUMs, silences and buckets left out go on from run to run."""
    # Another firm's texts turn bad one day, two in four: no jump, and a drift of several runs.
    slow = [text for hour in range(80, 110) for text in texts(hour, 4, 2, "Cole")]
    quiet = [text for hour in range(80) for text in texts(hour, 4, hour % 5 == 0, "Cole")]
    all_texts = [*stream(120, BURST), *quiet, *slow]
    whole = MonitorStore(tmp_path / "whole.sqlite")
    whole.add(all_texts, "r1")
    judge(whole, 120)
    for hour in [*range(step, 120, step), 120]:
        store.add([text for text in all_texts if text.at < T + hour * HOUR], "r1")
        judge(store, hour)
    assert store.points(hours=1) == whole.points(hours=1)
    assert store.alerts() == whole.alerts()
    assert [own.point.cause for own in whole.alerts() if own.point.value == "Cole"][:1] == ["drift"]


def test_an_open_bucket_waits(store: MonitorStore) -> None:
    store.add(stream(72, range(71, 72)), "r1")
    assert judge(store, 71.9)[1] == []
    late = CONFIG.model_copy(update={"wait_hours": 2})
    assert judge(store, 73.9, late)[1] == []
    assert {own.point.start for own in judge(store, 74, late)[1]} == {T + 71 * HOUR}


def test_late_texts_change_no_verdict_and_count_in_history(store: MonitorStore) -> None:
    store.add(stream(50), "r1")
    judge(store, 50)
    before = store.points(hours=1)
    store.add([*texts(40, 5, 5, "Cole"), *stream(51)], "r1")
    points, alerts = judge(store, 51)
    assert alerts == []
    after = store.points(hours=1)
    assert [own for own in after if own.start < T + 50 * HOUR] == before
    # 200 negative texts of 1,000 in fifty hours, and five of five: (20 x 205.5 / 1006 + 205) / 1025.
    (every,) = (own for own in points if own.by == "")
    assert every.expected == pytest.approx((20 * 205.5 / 1006 + 205) / 1025)


def test_a_failure_while_writing_leaves_nothing_written(store: MonitorStore, tmp_path: Path) -> None:
    store.add(stream(72, BURST), "r1")
    file = tmp_path / "monitor.sqlite"
    trigger = "CREATE TRIGGER full BEFORE INSERT ON judged BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    with sqlite3.connect(file) as connection:
        connection.execute(trigger)
    connection.close()
    with pytest.raises(sqlite3.IntegrityError, match="disk full"):
        judge(store, 72)
    assert (store.points(hours=1), store.alerts(), store.judged_until()) == ([], [], None)
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TRIGGER full")
    connection.close()
    assert len(judge(store, 72)[1]) == 2


def test_only_what_histories_need_is_kept(store: MonitorStore) -> None:
    store.add(stream(120), "r1")
    judge(store, 120)
    # Four days of history before hour 120.
    assert store.first_text() == T + 24 * HOUR
    assert len(store.scored()) == 96 * 20


def test_another_length_goes_on_where_the_last_one_ended(store: MonitorStore) -> None:
    store.add(stream(72), "r1")
    judge(store, 72)
    days = CONFIG.model_copy(update={"bucket_hours": 24})
    store.add(stream(96, range(72, 96)), "r1")
    points, alerts = judge(store, 96, days)
    assert {own.start for own in points} == {T + timedelta(days=3)}
    assert {own.point.hours for own in alerts} == {24}
    assert store.judged_until() == T + timedelta(days=4)


def test_an_alert_of_the_past_is_not_posted(store: MonitorStore) -> None:
    store.add(stream(120, BURST), "r1")
    judge(store, 120, CONFIG.model_copy(update={"webhook_hours": 59}))
    # The burst's first hour ended at hour 61: exactly 59 before.
    assert (len(store.alerts("pending")), len(store.alerts("past"))) == (2, 0)


def test_time_going_back_judges_nothing(store: MonitorStore) -> None:
    store.add(stream(72), "r1")
    judge(store, 72)
    moment: datetime | None = store.judged_until()
    assert judge(store, 10) == ([], [])
    assert store.judged_until() == moment
