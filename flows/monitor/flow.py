"""The monitoring flow; each Prefect task is one call of a plain function."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.monitor.alert import Alert, Point
from flows.monitor.run import Monitor
from flows.monitor.scoring import Scored
from flows.workspace import Workspace
from infra.settings import Settings


@task(name="score new texts", cache_policy=NO_CACHE)
def score_task(monitor: Monitor) -> Scored:
    """Read the source, and score its new texts by the current release."""
    return monitor.score()


@task(name="judge closed buckets", cache_policy=NO_CACHE)
def judge_task(monitor: Monitor) -> tuple[list[Point], list[Alert]]:
    """Hold each series against its expected range."""
    return monitor.judge()


@task(name="write trends", cache_policy=NO_CACHE)
def write_task(monitor: Monitor) -> None:
    """Write alerts, trends and the page."""
    monitor.write()


@task(name="tell of alerts", cache_policy=NO_CACHE)
def tell_task(monitor: Monitor) -> None:
    """Log and post the alerts that wait."""
    monitor.tell()


@flow(name="monitor-texts", validate_parameters=False)
def monitor_texts(folder: str, as_of: datetime | None = None) -> dict[str, Any]:
    """Score new texts, keep trends of their negative share, and raise alerts; return what was done as JSON values.

    Args:
        folder: of the workspace.
        as_of: see nothing at or after it; None takes now.

    Raises:
        NotMonitoredError: the workspace has no `monitor` section.
        NothingPublishedError: no release is in service.
        MonitorBusyError: another run is under way.
        WebhookError: an alert wasn't received; it is kept, and the next run tries again.
    """
    monitor = Monitor.of(Workspace.load(folder), Settings.from_environment(), as_of)
    with monitor.alone():
        scored = score_task(monitor)
        points, alerts = judge_task(monitor)
        write_task(monitor)
        tell_task(monitor)
    return monitor.report(scored, points, alerts).model_dump(mode="json")
