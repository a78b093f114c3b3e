"""Scored texts, points and alerts for the monitor's tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from flows.monitor.alert import Alert, Point, WorstText, alert_id
from flows.monitor.config import MonitorConfig
from flows.monitor.judging import Subject
from flows.monitor.store import ScoredText

T = datetime(2025, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CONFIG = MonitorConfig(task="tone", negative=("bad",), by=("firm",), history_days=4, adapt_hours=48)
SUBJECT = Subject(workspace="news", release="r1")


def texts(hour: int, count: int, negative: int, firm: str) -> Iterator[ScoredText]:
    """Yield an hour's texts about a firm, the first ones negative."""
    for place in range(count):
        yield ScoredText(
            text_id=f"{firm}-{hour}-{place}", text=f"<b>{firm}</b> {place}", at=T + hour * HOUR + place * HOUR / count,
            score=0.9 - place / 100, is_negative=place < negative, groups={"firm": firm},
        )  # fmt: skip


def stream(hours: int, burst: range = range(0)) -> list[ScoredText]:
    """Two firms of ten texts an hour, two of them negative; one firm's are all negative in the burst."""
    return [
        text
        for hour in range(hours)
        for firm in ("Acme", "Bolt")
        for text in texts(hour, 10, 10 if firm == "Acme" and hour in burst else 2, firm)
    ]


def alert(value: str = "Acme", hour: int = 0) -> Alert:
    start = T + hour * HOUR
    point = Point(
        by="firm", value=value, start=start, hours=1, texts=8, negative=6, expected=0.1, low=0.0, high=0.5, drift=0.0,
        limit=7.0, cause="jump", is_alert=True,
    )  # fmt: skip
    worst = WorstText(text_id="t", timestamp=start, score=0.97, text="Profits <i>fall</i>")
    return Alert(
        id=alert_id(point.series, start, 1), workspace="news", release="r1", task="tone", point=point, worst=(worst,)
    )
