"""One run of the monitor, part by part: read and score, judge, write, tell. Each part can be repeated."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from features.schema import UTC as UTC_TYPE
from features.tables import read_tables
from flows.current_tables import refresh_tables
from flows.monitor.alert import Alert, MonitorReport, Point
from flows.monitor.config import MonitorConfig
from flows.monitor.judging import Subject, judge_closed
from flows.monitor.page import TREND_DAYS, render_page
from flows.monitor.scoring import Scored, Scorer, score_new
from flows.monitor.store import MonitorStore
from flows.monitor.webhook import Webhook, deliver
from flows.steps import StepStore
from flows.workspace import Workspace
from infra.errors import ConflictError, InvalidInputError
from infra.files import write_atomic
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking.predictor import Predictor

STORE: Final = "monitor.sqlite"
ALERTS: Final = "alerts.jsonl"
TRENDS: Final = "trends.parquet"
PAGE: Final = "monitor.html"
_LOCK: Final = "lock"
_TREND_COLUMNS: Final[dict[str, pl.DataType]] = {
    "by": pl.String(), "value": pl.String(), "start": UTC_TYPE, "hours": pl.Int64(), "texts": pl.Int64(),
    "negative": pl.Int64(), "expected": pl.Float64(), "low": pl.Float64(), "high": pl.Float64(), "drift": pl.Float64(),
    "limit": pl.Float64(), "cause": pl.String(), "is_alert": pl.Boolean(),
}  # fmt: skip


class NotMonitoredError(InvalidInputError):
    """The workspace has no `monitor` section."""

    title = "Nothing to monitor"


class NothingPublishedError(ConflictError):
    """Texts are scored by the release in service, and there is none."""

    title = "No release in service"


class MonitorBusyError(ConflictError):
    """Another run watches this workspace."""

    title = "Monitor is running"


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """A workspace's monitor at a time.

    Attributes:
        workspace: the folder and its config.
        config: its `monitor` section.
        settings: the environment.
        as_of: nothing at or after it is read; buckets that end after it are open.
        release_id: of the release in service.
    """

    workspace: Workspace
    config: MonitorConfig
    settings: Settings
    as_of: datetime
    release_id: str

    @classmethod
    def of(cls, workspace: Workspace, settings: Settings, as_of: datetime | None) -> Monitor:
        """Return the monitor of a workspace; without a time, now.

        Raises:
            NotMonitoredError: the workspace file has no such section.
            NothingPublishedError: no release is in service.
        """
        config = workspace.config.monitor
        if config is None:
            raise NotMonitoredError(
                f"{workspace.file}: expected a section monitor, found none; flows/monitor/README.md has one"
            )
        release_id = ReleaseStore(workspace.releases).current()
        if release_id is None:
            raise NothingPublishedError(
                "expected a published release, found none; `polyrank publish` makes one current"
            )
        moment = datetime.now(UTC) if as_of is None else as_of
        return cls(workspace=workspace, config=config, settings=settings, as_of=moment, release_id=release_id)

    @property
    def store(self) -> MonitorStore:
        """What it remembers."""
        return MonitorStore(self.workspace.monitor / STORE)

    @property
    def page(self) -> Path:
        """The trend page."""
        return self.workspace.monitor / PAGE

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the workspace's lock, which the kernel drops with the process: two runs would post an alert twice.

        Raises:
            MonitorBusyError: another run holds it.
        """
        self.workspace.monitor.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.workspace.monitor / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MonitorBusyError(f"{self.workspace.monitor}: expected no other run, found one under way") from error
        else:
            yield
        finally:
            os.close(handle)

    def score(self) -> Scored:
        """Read the source, and score its new texts."""
        texts = read_tables(refresh_tables(self.workspace, StepStore(self.workspace.runs))).texts
        predictor = Predictor.load(ReleaseStore(self.workspace.releases).path(self.release_id))
        scorer = Scorer(release_id=self.release_id, predictor=predictor, config=self.config)
        judged = self.store.judged_until()
        # Older texts are in no history any more.
        since = None if judged is None else judged - timedelta(days=self.config.history_days)
        return score_new(self.store, texts, scorer, since=since, until=self.as_of)

    def judge(self) -> tuple[list[Point], list[Alert]]:
        """Judge the buckets that have closed."""
        subject = Subject(workspace=self.workspace.config.name, release=self.release_id)
        return judge_closed(self.store, self.config, self.as_of, subject)

    def write(self) -> None:
        """Write alerts as JSON lines, and the last `TREND_DAYS` of the trends as Parquet and as a page."""
        hours = self.config.bucket_hours
        newest = self.store.newest_point(hours=hours)
        since = newest - timedelta(days=TREND_DAYS) if newest is not None else self.as_of
        alerts, points = self.store.alerts(), self.store.points(hours=hours, since=since)
        lines = "".join(f"{alert.model_dump_json()}\n" for alert in alerts)
        write_atomic(self.workspace.monitor / ALERTS, lines.encode())
        write_atomic(self.workspace.monitor / TRENDS, _parquet(points))
        write_atomic(self.page, render_page(self.workspace.config.name, self.config, points, alerts).encode())

    def tell(self) -> None:
        """Log and post the alerts that wait.

        Raises:
            WebhookError: some weren't received.
        """
        address = self.settings.alert_webhook
        deliver(self.store, None if address is None else Webhook(address, timeout_s=self.settings.timeout_s))

    def report(self, scored: Scored, points: list[Point], alerts: list[Alert]) -> MonitorReport:
        """Return what a run did."""
        return MonitorReport(
            workspace=self.workspace.config.name, release=self.release_id, as_of=self.as_of, new_texts=scored.new,
            rescored=scored.rescored, late=scored.late, undated=scored.undated, judged=len(points),
            alerts=tuple(alerts), page=self.page,
        )  # fmt: skip


def _parquet(points: Sequence[Point]) -> bytes:
    """Return judged buckets as a Parquet file, a row each."""
    buffer = io.BytesIO()
    rows = [point.model_dump() for point in points]
    pl.DataFrame(rows, schema=_TREND_COLUMNS, orient="row").write_parquet(buffer)
    return buffer.getvalue()
