"""The trend page: fit to be mailed, its texts data and never markup, its series in the order of their news."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from flows.monitor.alert import MonitorReport, Point, Series
from flows.monitor.console import render_monitor
from flows.monitor.page import PICTURES, ordered, render_page, trend_chart
from tests.flows.monitor.samples import CONFIG, HOUR, T, alert
from tests.flows.page_reader import PageReader, assert_fit_to_be_mailed


def points(value: str, hours: int = 6, alert_at: int | None = None, texts: int = 8) -> list[Point]:
    quiet = alert(value).point.model_copy(update={"negative": 1, "is_alert": False, "cause": None, "texts": texts})
    rows = [quiet.model_copy(update={"start": T + hour * HOUR}) for hour in range(hours)]
    if alert_at is not None:
        rows[alert_at] = alert(value, alert_at).point
    return rows


def test_the_page_shows_each_series_and_alert() -> None:
    every = [own.model_copy(update={"by": "", "value": ""}) for own in points("x")]
    html = render_page("<news>", CONFIG, [*every, *points("Acme", alert_at=3), *points("智能")], [alert(hour=3)])
    assert_fit_to_be_mailed(html)
    page = PageReader(html)
    labels = [image["aria-label"] for image in page.of("svg")]
    assert labels == [f"Share of negative texts, {name}" for name in ("all texts", "firm Acme", "firm 智能")]
    assert "Profits <i>fall</i>" in page.shown
    assert "<news>: share of negative texts" in page.shown
    assert "6 of 8 texts negative (75%); expected 10%, range 0% to 50%" in page.shown


def test_many_series_are_counted_and_not_all_drawn() -> None:
    html = render_page("news", CONFIG, [own for n in range(30) for own in points(f"firm {n:02}", 2)], [])
    assert f"Shown are {PICTURES} of 30 series" in PageReader(html).shown
    assert len(PageReader(html).of("svg")) == PICTURES


@pytest.mark.parametrize("hours", [1, 8, 24])
@pytest.mark.parametrize("count", [1, 2, 6, 7, 18, 45, 240])
def test_any_span_of_time_has_its_ticks(hours: int, count: int) -> None:
    """Matplotlib warns, here an error, where it finds no interval for the ticks that are allowed."""
    own = alert().point
    spread = [own.model_copy(update={"start": T + place * hours * HOUR, "hours": hours}) for place in range(count)]
    assert "<text" in trend_chart("x", spread)


def test_no_history_is_said() -> None:
    html = render_page("news", CONFIG, [], [])
    assert_fit_to_be_mailed(html)
    assert "No series has enough history yet: 30 texts." in PageReader(html).shown


def test_late_alerts_go_first_then_many_texts() -> None:
    named = {"old": points("old", alert_at=1), "new": points("new", alert_at=4), "big": points("big", texts=90)}
    found = {Series("firm", name): own for name, own in {"small": points("small"), **named}.items()}
    assert [name.value for name in ordered(found)] == ["new", "old", "big", "small"]


def test_the_terminal_shows_the_same() -> None:
    console = Console(file=StringIO(), width=120)
    report = MonitorReport(
        workspace="news", release="r1", as_of=T, new_texts=1200, rescored=0, late=3, undated=0, judged=7,
        alerts=(alert(),), page=Path("monitor.html"),
    )  # fmt: skip
    render_monitor(report, console)
    render_monitor(report.model_copy(update={"alerts": ()}), console)
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    assert "1,200 new texts, 7 buckets judged, 3 late, by release r1" in shown
    assert "firm Acme" in shown
    assert "Profits <i>fall</i>" in shown
    assert "no new alert" in shown
