"""The trends as one HTML page without outside references: a picture of each series, and the alerts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import PercentFormatter

from flows.charts import ACCENT, GRID, MUTED, SERIES, chart, svg
from flows.monitor.alert import EVERY, Alert, Point, Series
from flows.monitor.config import MonitorConfig
from flows.page_templates import page_templates

# More pictures, and more buckets in one, can't be read.
PICTURES: Final = 24
BUCKETS: Final = 240
LISTED: Final = 50
# Of hourly buckets in a hundred series, as many as are read and written within a few seconds.
TREND_DAYS: Final = 90


class Trend(NamedTuple):
    """A series' picture, and what to say of it."""

    label: str
    drawing: str
    texts: int
    alerts: int


def render_page(workspace: str, config: MonitorConfig, points: Sequence[Point], alerts: Sequence[Alert]) -> str:
    """Return the page.

    Args:
        workspace: its name.
        config: what is watched.
        points: buckets judged in the last `TREND_DAYS`, by series and time.
        alerts: all there are, by time.
    """
    series: dict[Series, list[Point]] = {}
    for point in points:
        series.setdefault(point.series, []).append(point)
    shown = [(name, series[name][-BUCKETS:]) for name in ordered(series)[:PICTURES]]
    trends = [
        Trend(name.label, trend_chart(name.label, own), sum(p.texts for p in own), sum(p.is_alert for p in own))
        for name, own in shown
    ]
    last = max((point.start + timedelta(hours=point.hours) for point in points), default=None)
    return page_templates(percent=_percent).get_template("monitor.html").render(
        workspace=workspace, config=config, trends=trends, series=len(series), alerts=list(alerts)[: -LISTED - 1 : -1],
        total=len(alerts), judged=len(points), days=TREND_DAYS, last=last,
    )  # fmt: skip


def ordered(series: dict[Series, list[Point]]) -> list[Series]:
    """Return all texts first, then series by the time of their last alert, then by how many texts they have."""

    def rank(name: Series) -> tuple[bool, float, int, Series]:
        own = series[name]
        last = max((point.start.timestamp() for point in own if point.is_alert), default=float("-inf"))
        return name != EVERY, -last, -sum(point.texts for point in own), name

    return sorted(series, key=rank)


def trend_chart(label: str, points: Sequence[Point]) -> str:
    """Return a series' share of negative texts by bucket over its expected range, alerts marked."""
    starts = _moments(points)
    with warnings.catch_warnings(), chart(height=2.6) as (canvas, axes):
        # Matplotlib measures text in its own font, which lacks some scripts; the page draws it in the reader's.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        low, high = [point.low for point in points], [point.high for point in points]
        axes.fill_between(starts, low, high, color=GRID, linewidth=0, step="mid")
        axes.plot(starts, [point.expected for point in points], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        axes.plot(starts, [point.share for point in points], color=ACCENT, linewidth=1.4, marker=".", markersize=3)
        alerts = [point for point in points if point.is_alert]
        axes.plot(
            _moments(alerts), [point.share for point in alerts], color=SERIES[4], marker="o",
            markersize=7, linestyle="none",
        )  # fmt: skip
        locator = AutoDateLocator(minticks=2, maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(-0.03, 1.03)
        axes.grid(visible=True, axis="y")
        axes.set_axisbelow(True)
        return svg(canvas, f"Share of negative texts, {label}")


def _moments(points: Sequence[Point]) -> npt.NDArray[np.datetime64]:
    """Return buckets' starts in UTC; numpy's times have no zone that the drawing could turn into the machine's."""
    return np.array([point.start.replace(tzinfo=None) for point in points], "datetime64[us]")


def _percent(value: float) -> str:
    return f"{value:.0%}"
