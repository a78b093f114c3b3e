"""Evaluation: a release against the window after its as-of time and texts that trained nothing, as a report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from features.schema import EVENT, TIMESTAMP
from features.tables import TEST, read_tables
from flows.beside.compare import Evaluated, beside_current
from flows.build import CANDIDATES, Build
from flows.current_tables import load_data
from flows.page import write
from flows.publish import newest
from flows.report import (
    DataSummary,
    IndexRecall,
    NextCommand,
    ReplyScores,
    Report,
    StageRecord,
    TextScores,
    ValidationRow,
    Window,
)
from flows.stages import findings
from flows.stages.column_tasks import labelled_parts
from flows.stages.findings import index_recall
from flows.stages.relatedness import read_relatedness
from flows.stages.reply_scores import reply_scores
from flows.stages.tables import read_validation
from flows.stages.text_scores import text_scores
from flows.stages.text_tasks import HeldOutTexts
from flows.stages.train import read_training_run
from flows.workspace import Workspace
from infra.errors import InvalidInputError
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking.answers import LoadedRelease
from ranking.predictor import Predictor
from retrieval import layout
from retrieval.catalogue import items_seen
from retrieval.engine import Retriever

_CAUTIONS: Final = {
    "complete_journey": "The package that carries this data calls it simulated and not meant for research: read the "
    "figures as a demonstration, not as science.",
}


class NothingHeldOutError(InvalidInputError):
    """No event lies after the release's as-of time, and no text beside its training, so nothing can be measured."""

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
    """Return the report of a release: of each part that it has, what can be measured.

    Raises:
        NothingHeldOutError: neither events after the release's as-of time nor texts that trained nothing.
    """
    store = ReleaseStore(workspace.releases)
    chosen = release_id or store.current() or newest(workspace)
    manifest = store.manifest(chosen)
    assert manifest.as_of is not None
    cut, release = manifest.as_of, store.path(chosen)
    build = Build.start(workspace, Settings(), cut, items_seen(release))
    loaded = LoadedRelease.load(release)
    stored = read_tables(build.tables)
    seen = stored if as_of is None else stored.before(as_of)
    held = HeldOutTexts.of(seen, cut, loaded.predictor)
    texts = () if held is None else _texts(build, loaded.predictor, held)
    window = None if loaded.ranker is None else _window(build, as_of)
    measured = None
    if loaded.ranker is not None and window is not None:
        measured = findings.measure(release, loaded.ranker, window, CANDIDATES, workspace.config.audit)
    if measured is None and not texts:
        raise NothingHeldOutError(
            f"release {chosen} is as of {cut.isoformat()}: expected events, or labelled texts, after it "
            f"{f'and before {as_of.isoformat()} ' if as_of else ''}or labelled texts of split {TEST}, to measure on, "
            "found none"
        )
    shown = measured or findings.Findings()
    windows = build.plan.windows() if build.features is not None else ()
    return Report(
        title=f"{workspace.config.name}: what the release is worth",
        workspace=workspace.config.name,
        release_id=chosen,
        as_of=cut,
        created_at=datetime.now(UTC),
        note=_CAUTIONS.get(workspace.config.source.type, ""),
        data=_summary(build, loaded.retriever),
        beside=beside_current(
            Evaluated(build=build, release_id=chosen, loaded=loaded, window=window, tables=seen, held=held)
        ),
        rankings=shown.rankings,
        retrieval=shown.retrieval,
        tasks=shown.tasks,
        texts=texts,
        replies=_replies(loaded, held),
        ablation=shown.ablation,
        audit=shown.audit,
        examples=shown.examples,
        time_plan=tuple(Window(role=window.role, cut=window.cut, end=window.end) for window in windows),
        training=read_training_run(release / layout.ENCODER_DIR),
        relatedness=read_relatedness(release / layout.ENCODER_DIR),
        index=_index(loaded.retriever, held),
        validation=_validation(build.tables),
        stages=tuple(stages),
        next_commands=next_commands(workspace, shown.examples[0].user_id if shown.examples else None),
    )


def _window(build: Build, as_of: datetime | None) -> findings.Window | None:
    """Return what came after the release, features as of it; None where nothing came, or there are no events."""
    if build.features is None:
        return None
    data = load_data(build.workspace, build.tables, as_of, build.item_sequence)
    if data.events.filter(pl.col(TIMESTAMP) >= build.as_of).is_empty():
        return None
    users, horizon = build.features.users(build.as_of), build.workspace.config.time.horizon
    return findings.Window(data=data, cut=build.as_of, horizon=horizon, users=users)


def _texts(build: Build, predictor: Predictor, held: HeldOutTexts) -> tuple[TextScores, ...]:
    """Return the figures of the tasks on texts; training texts tell what a constant predictor would say."""
    on_text = [task for task in build.tasks if task.on == "text"]
    train, _ = labelled_parts(on_text, build.data.tables, build.plan)
    return text_scores(predictor, held, train)


def _replies(loaded: LoadedRelease, held: HeldOutTexts | None) -> ReplyScores | None:
    if loaded.replies is None or held is None:
        return None
    return reply_scores(loaded.predictor, loaded.replies, held)


def _index(retriever: Retriever | None, held: HeldOutTexts | None) -> tuple[IndexRecall, ...]:
    if retriever is None:
        return ()
    found = index_recall(retriever, retriever.user_vectors[:0] if held is None else held.vectors)
    return () if found is None else (found,)


def next_commands(workspace: Workspace, user_id: str | None) -> tuple[NextCommand, ...]:
    """Return what to try after an evaluation; `user_id` is somebody to recommend to, where that is served."""
    place = f"-w {workspace.folder}"
    path, body, purpose = "predict", '{"texts": ["hello"]}', "ask it what the tasks on texts say of one"
    if user_id is not None:
        path, body, purpose = "recommend", f'{{"user_id": "{user_id}", "k": 10}}', "ask it for ten items"
    elif workspace.config.parts.items:
        path, body, purpose = "candidates", '{"text": "hello", "k": 10}', "ask it for the ten items nearest to a text"
    ask = f"curl -s localhost:8080/v1/{path} -H 'content-type: application/json' -d '{body}'"
    return (
        NextCommand(command=f"polyrank serve {place}", purpose="serve the release on http://localhost:8080"),
        NextCommand(command=ask, purpose=purpose),
        NextCommand(command=f"polyrank releases {place}", purpose="list the releases"),
        NextCommand(command=f"polyrank refresh model {place}", purpose="build a release of all data"),
        NextCommand(command=f"polyrank rollback {place}", purpose="go back to the release before"),
    )


def _summary(build: Build, retriever: Retriever | None) -> DataSummary:
    events = build.data.events
    span = events.select(pl.col(TIMESTAMP).min().alias("first"), pl.col(TIMESTAMP).max().alias("last"))
    return DataSummary(
        users=build.data.n_users,
        items=build.data.n_items,
        texts=build.data.tables.texts.height,
        eligible_items=None if retriever is None else int(retriever.snapshot.eligible.sum()),
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
