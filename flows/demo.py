"""The demo: the whole main job on The Complete Journey, as of one day, measured on the four weeks after it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from prefect import flow
from rich.console import Console

from flows.console import render_console
from flows.evaluate import evaluate
from flows.folder import WORKSPACE_FILE, WorkspaceFolder
from flows.page import write
from flows.publish import publish
from flows.refresh import refresh_features, refresh_model
from flows.report import Report, StageRecord
from flows.steps import STEP_FILE, StepRecord
from flows.workspace import Workspace
from infra.telemetry import StageTimer

# The split of the demo: trained on what came before, measured on the 28 days after.
CUT: Final = datetime(2017, 12, 4, tzinfo=UTC)


def demo(folder: str) -> None:
    """Build, measure and publish a release of the demo's data, and show the report."""
    console = Console()
    workspace = demo_workspace(Path(folder))
    console.print(f"[bold]Polyrank demo[/] in {workspace.folder}: a release as of {CUT:%Y-%m-%d}, measured on 28 days")
    report = Report.model_validate(run_demo(str(workspace.folder)))
    paths = write(report, workspace.reports / report.release_id)
    render_console(report, console)
    console.print(f"report: {paths.html}\nfigures: {paths.json}", highlight=False, soft_wrap=True)


@flow(name="demo", validate_parameters=False)
def run_demo(folder: str) -> dict[str, Any]:
    """Run every flow once: features, model, evaluation, publishing; one parent flow is one start of the server."""
    workspace = Workspace.load(folder)
    started, timer = datetime.now(UTC), StageTimer()
    with timer.stage("flow: refresh features"):
        refresh_features(folder, CUT)
    with timer.stage("flow: refresh model"):
        release_id = refresh_model(folder, CUT)
    with timer.stage("flow: evaluate"):
        report = Report.model_validate(evaluate(folder, release_id))
    with timer.stage("flow: publish"):
        publish(folder, release_id)
    flows = [
        StageRecord(name=stage.stage, seconds=stage.seconds, peak_rss_bytes=stage.peak_rss_bytes)
        for stage in timer.stages
    ]
    steps = built_steps(workspace.runs, started)
    return report.model_copy(update={"stages": (*steps, *flows)}).model_dump(mode="json")


def demo_workspace(folder: Path) -> Workspace:
    """Return the demo's workspace, written when the folder has none."""
    if not (folder / WORKSPACE_FILE).is_file():
        WorkspaceFolder.create(folder)
    return Workspace.load(folder)


def built_steps(runs: Path, since: datetime) -> list[StageRecord]:
    """Return the steps that were built or reused since a time, in the order in which they were built."""
    found = []
    for path in runs.glob(f"*/{STEP_FILE}"):
        if path.stat().st_mtime >= since.timestamp():
            record = StepRecord.model_validate(json.loads(path.read_bytes()))
            found.append((record.finished_at, record))
    return [
        StageRecord(
            name=f"step: {record.label}",
            seconds=record.seconds,
            peak_rss_bytes=record.peak_rss_bytes,
            reused=finished < since,
            inside=True,
        )
        for finished, record in sorted(found, key=lambda entry: entry[0])
    ]
