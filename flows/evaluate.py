"""Evaluation: a release against the window after its as-of time, as a report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from features.schema import EVENT, TIMESTAMP
from flows.build import CANDIDATES, Build, load_data
from flows.page import write
from flows.publish import newest
from flows.report import (
    DataSummary,
    NextCommand,
    Report,
    StageRecord,
    ValidationRow,
    Window,
)
from flows.stages import findings
from flows.stages.relatedness import read_relatedness
from flows.stages.tables import read_validation
from flows.stages.train import read_training_run
from flows.workspace import Workspace
from infra.errors import InvalidInputError
from infra.releases import ReleaseStore
from infra.settings import Settings
from retrieval import layout
from retrieval.snapshot import ItemSnapshot

_CAUTIONS: Final = {
    "complete_journey": "The package that carries this data calls it simulated and not meant for research: read the "
    "figures as a demonstration, not as science.",
}


class NothingHeldOutError(InvalidInputError):
    """No event lies after the release's as-of time, so nothing can be measured."""

    title = "Nothing held out"


@flow(name="evaluate", validate_parameters=False)
def evaluate(folder: str, release_id: str | None = None, as_of: datetime | None = None) -> dict[str, Any]:
    """Measure a release on the window after its as-of time; write the report and return it as JSON values.

    Args:
        folder: of the workspace.
        release_id: None takes the current release, or the newest where none is published.
        as_of: see nothing at or after it, in the held-out window either; None takes all data.
    """
    return report_task(Workspace.load(folder), release_id, as_of).model_dump(mode="json")


@task(name="evaluate release", cache_policy=NO_CACHE)
def report_task(workspace: Workspace, release_id: str | None, as_of: datetime | None) -> Report:
    """Measure and write the report."""
    report = evaluate_release(workspace, release_id, as_of)
    write(report, workspace.reports / report.release_id)
    return report


def evaluate_release(
    workspace: Workspace, release_id: str | None, as_of: datetime | None, stages: Sequence[StageRecord] = ()
) -> Report:
    """Return the report of a release.

    Raises:
        NothingHeldOutError: no event lies after the release's as-of time.
    """
    store = ReleaseStore(workspace.releases)
    chosen = release_id or store.current() or newest(workspace)
    manifest = store.manifest(chosen)
    assert manifest.as_of is not None
    cut, release = manifest.as_of, store.path(chosen)
    build = Build.start(workspace, Settings(), cut)
    data = load_data(workspace, build.tables, as_of)
    held_out = data.events.filter(pl.col(TIMESTAMP) >= cut)
    if held_out.is_empty():
        raise NothingHeldOutError(
            f"release {chosen} is as of {cut.isoformat()}: expected events after it to measure on, found none"
            + (f" before {as_of.isoformat()}" if as_of else "")
        )
    window = findings.Window(data=data, cut=cut, horizon=workspace.config.time.horizon, users=build.users(cut))
    measured = findings.measure(release, window, CANDIDATES, workspace.config.audit)
    return Report(
        title=f"{workspace.config.name}: what the release is worth",
        workspace=workspace.config.name,
        release_id=chosen,
        as_of=cut,
        created_at=datetime.now(UTC),
        note=_CAUTIONS.get(workspace.config.source.type, ""),
        data=_summary(build, release),
        rankings=measured.rankings,
        tasks=measured.tasks,
        ablation=measured.ablation,
        audit=measured.audit,
        examples=measured.examples,
        time_plan=tuple(Window(role=window.role, cut=window.cut, end=window.end) for window in build.plan.windows()),
        training=read_training_run(release / layout.ENCODER_DIR),
        relatedness=read_relatedness(release / layout.ENCODER_DIR),
        index=measured.index,
        validation=_validation(build.tables),
        stages=tuple(stages),
        next_commands=next_commands(workspace.folder, measured.examples[0].user_id if measured.examples else "1"),
    )


def next_commands(folder: Path, user_id: str) -> tuple[NextCommand, ...]:
    """Return what to try after an evaluation."""
    place = f"-w {folder}"
    body = f'{{"user_id": "{user_id}", "k": 10}}'
    ask = f"curl -s localhost:8080/v1/recommend -H 'content-type: application/json' -d '{body}'"
    return (
        NextCommand(command=f"polyrank serve {place}", purpose="serve the release on http://localhost:8080"),
        NextCommand(command=ask, purpose="ask it for ten items"),
        NextCommand(command=f"polyrank releases {place}", purpose="list the releases"),
        NextCommand(command=f"polyrank refresh model {place}", purpose="build a release of all data"),
        NextCommand(command=f"polyrank rollback {place}", purpose="go back to the release before"),
    )


def _summary(build: Build, release: Path) -> DataSummary:
    events = build.data.events
    span = events.select(pl.col(TIMESTAMP).min().alias("first"), pl.col(TIMESTAMP).max().alias("last"))
    return DataSummary(
        users=build.data.n_users,
        items=build.data.n_items,
        eligible_items=int(ItemSnapshot.load(release / layout.SNAPSHOT).eligible.sum()),
        events=dict(events.group_by(EVENT).len().sort(EVENT).iter_rows()),
        first_event=span["first"][0],
        last_event=span["last"][0],
    )


def _validation(tables: Path) -> tuple[ValidationRow, ...]:
    found = read_validation(tables).findings
    return tuple(
        ValidationRow(table=row.table, column=row.column, rule=row.rule, action=row.action, count=row.count)
        for row in found
    )
