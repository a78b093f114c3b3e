"""From the store's texts to verdicts: every bucket that has closed since the last run, of every series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from flows.monitor.alert import EVERY, Alert, Point, Series, alert_id
from flows.monitor.config import MonitorConfig
from flows.monitor.detection import ALL, Detector, Verdict
from flows.monitor.store import Count, MonitorStore

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Texts that an alert shows.
WORST: Final = 5


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What an alert says it is about: the workspace's name, and the release that scored."""

    workspace: str
    release: str


def judge_closed(
    store: MonitorStore, config: MonitorConfig, as_of: datetime, subject: Subject
) -> tuple[list[Point], list[Alert]]:
    """Judge every bucket that has closed since the last run; write points and alerts, all or none, and return them.

    Args:
        store: with every text that is to be read.
        config: the workspace's.
        as_of: a bucket that ends after it, less `wait_hours`, is still open.
        subject: named in alerts.
    """
    length = timedelta(hours=config.bucket_hours)
    end = (as_of - timedelta(hours=config.wait_hours) - _EPOCH) // length
    judged = store.judged_until() or store.first_text()
    if judged is None:
        return [], []
    first = (judged - _EPOCH) // length
    if first >= end:
        return [], []
    origin = first - config.history
    counts = store.counts(_EPOCH + origin * length, _EPOCH + end * length, config.bucket_hours)
    names = [EVERY, *sorted({row.series for row in counts} - {EVERY})]
    detector = _detector(config, names, counts, origin, end)
    _resume(detector, names, store.points(hours=config.bucket_hours, since=_EPOCH + origin * length))
    points = [
        _point(verdict, names[verdict.series], _EPOCH + (origin + bucket) * length, config.bucket_hours)
        for bucket in range(first - origin, end - origin)
        for verdict in detector.judge(bucket)
    ]
    alerts = list(_alerts(store, config, points, subject))
    post_since = as_of - timedelta(hours=config.webhook_hours)
    keep = _EPOCH + (end - config.history) * length
    store.decide(points, alerts, _EPOCH + end * length, post_since=post_since, keep=keep)
    return points, alerts


def _detector(
    config: MonitorConfig, names: Sequence[Series], counts: Sequence[Count], origin: int, end: int
) -> Detector:
    assert names[ALL] == EVERY
    rows = {series: row for row, series in enumerate(names)}
    texts, negative = (np.zeros((len(names), end - origin)) for _ in range(2))
    for count in counts:
        place = rows[count.series], count.bucket - origin
        texts[place], negative[place] = count.texts, count.negative
    return Detector.of(config, texts, negative, first=origin)


def _resume(detector: Detector, names: Sequence[Series], points: Sequence[Point]) -> None:
    """Bring a detector to where the last run left it: what was unusual, the CUSUMs, and who cools down."""
    rows = {series: row for row, series in enumerate(names)}
    length = timedelta(hours=detector.config.bucket_hours)
    for point in points:
        if point.series not in rows:
            continue
        row, bucket = rows[point.series], (point.start - _EPOCH) // length - detector.first
        silent = bucket < detector.silent_until[row]
        detector.unusual[row, bucket] = silent or point.cause is not None
        detector.drift[row] = point.drift
        if point.is_alert:
            detector.silent_until[row] = bucket + 1 + detector.config.cool_down


def _point(verdict: Verdict, series: Series, start: datetime, hours: int) -> Point:
    return Point(
        by=series.by, value=series.value, start=start, hours=hours, texts=verdict.texts, negative=verdict.negative,
        expected=verdict.expected, low=verdict.low, high=verdict.high, drift=verdict.drift, limit=verdict.limit,
        cause=verdict.cause, is_alert=verdict.is_alert,
    )  # fmt: skip


def _alerts(store: MonitorStore, config: MonitorConfig, points: Sequence[Point], subject: Subject) -> Iterator[Alert]:
    for point in points:
        if point.is_alert:
            end = point.start + timedelta(hours=point.hours)
            worst = store.worst(point.series, point.start, end, lowest=config.below is not None, limit=WORST)
            yield Alert(
                id=alert_id(point.series, point.start, point.hours), workspace=subject.workspace,
                release=subject.release, task=config.task, point=point, worst=tuple(worst),
            )  # fmt: skip
