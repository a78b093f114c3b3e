"""What an alert says, and what a run of the monitor tells."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict

from flows.monitor.detection import Cause

ALL_TEXTS = "all texts"


class Series(NamedTuple):
    """What a series is of: a grouping and one of its values; both empty for all texts."""

    by: str
    value: str

    @property
    def label(self) -> str:
        """The series as people read it."""
        return f"{self.by} {self.value}" if self.by else ALL_TEXTS


EVERY = Series("", "")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Point(_Record):
    """One judged bucket of a series; shares are of negative texts.

    Attributes:
        by: the series' grouping; empty for all texts.
        value: its value there.
        start: of the bucket.
        hours: length of the bucket.
        texts: how many it has.
        negative: how many of them are negative.
        expected: expected share.
        low: least share inside the expected range.
        high: greatest share inside it.
        drift: the CUSUM after it.
        limit: of the CUSUM.
        cause: what put it out of range.
        is_alert: whether it raised an alert, which a series that cools down doesn't.
    """

    by: str
    value: str
    start: AwareDatetime
    hours: int
    texts: int
    negative: int
    expected: float
    low: float
    high: float
    drift: float
    limit: float
    cause: Cause | None
    is_alert: bool

    @property
    def series(self) -> Series:
        """What it is a point of."""
        return Series(self.by, self.value)

    @property
    def share(self) -> float:
        """Observed share of negative texts."""
        return self.negative / self.texts


class WorstText(_Record):
    """A negative text; `score` is the probability of the negative classes, or the task's number."""

    text_id: str
    timestamp: AwareDatetime
    score: float
    text: str


class Alert(_Record):
    """A bucket out of its expected range.

    Attributes:
        id: tells the series and the bucket; whoever receives one id twice has received one alert.
        workspace: the workspace's name.
        release: whose encoder scored the texts.
        task: that tells negative texts from others.
        point: the bucket, what was seen and what was expected.
        worst: the worst of its negative texts.
    """

    id: str
    workspace: str
    release: str
    task: str
    point: Point
    worst: tuple[WorstText, ...]

    @property
    def summary(self) -> str:
        """The alert in a sentence."""
        point = self.point
        what = {"jump": "a jump", "drift": "a drift over several buckets", None: ""}[point.cause]
        return (
            f"{point.series.label}: {point.negative} of {point.texts} texts negative ({point.share:.0%}) in the "
            f"{point.hours} h from {point.start:%Y-%m-%d %H:%M} UTC, expected {point.expected:.0%} "
            f"({point.low:.0%} to {point.high:.0%}): {what}"
        )


def alert_id(series: Series, start: datetime, hours: int) -> str:
    """Return the id of a bucket's alert: the same in every run."""
    parts = "\0".join((series.by, series.value, start.isoformat(), str(hours)))
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


class MonitorReport(_Record):
    """What one run did.

    Attributes:
        workspace: the workspace's name.
        release: that scored the new texts.
        as_of: nothing at or after it was read.
        new_texts: scored for the first time.
        rescored: scored before by another release or rule, and anew now, so that a history is of one model.
        late: new texts of buckets that had been judged: they count in later histories alone.
        undated: texts of the source without a time, which no bucket can hold.
        judged: buckets judged, over all series.
        alerts: raised by this run.
        page: the trend page.
    """

    workspace: str
    release: str
    as_of: AwareDatetime
    new_texts: int
    rescored: int
    late: int
    undated: int
    judged: int
    alerts: tuple[Alert, ...]
    page: Path
