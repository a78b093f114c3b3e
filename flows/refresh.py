"""The refresh flows: features, model and index. Each Prefect task is one call of a plain function.

A flow goes through the parts that its workspace has (`flows.parts`): of texts alone, only an encoder is trained.

Steps are resumed by `flows.steps`, not by Prefect's result cache: a step's folder is whole or absent whatever kills the
process, and the next run finds it with or without the server that saw the first one.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.build import Build
from flows.feature_steps import FeatureSteps
from flows.stages.release import ReleaseParts
from flows.stages.tables import logged_until
from flows.workspace import Workspace
from infra.errors import ConflictError
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking.layout import RANKING_DIR
from retrieval.layout import COLLABORATIVE_DIR, ENCODER_DIR, MERGE


class NothingToRefreshError(ConflictError):
    """An index is refreshed of items, for a published release, and one of the two is missing."""

    title = "Nothing to refresh"


def start(folder: str, as_of: datetime | None) -> Build:
    """Return the build of a workspace folder, its tables up to date."""
    return Build.start(Workspace.load(folder), Settings(), as_of)


@task(name="read and validate tables", cache_policy=NO_CACHE)
def tables_task(folder: str, as_of: datetime | None) -> Build:
    """Read the source where it changed."""
    return start(folder, as_of)


@task(name="compute features", cache_policy=NO_CACHE)
def features_task(features: FeatureSteps, cuts: tuple[datetime, ...]) -> None:
    """Compute the frames of each cut and write them to the feature store."""
    features.store(cuts)


@task(name="materialise online", cache_policy=NO_CACHE)
def materialise_task(build: Build) -> None:
    """Bring every user's row online."""
    assert build.features is not None
    build.features.materialise(build.as_of, logged_until(build.tables))


@task(name="train encoder", cache_policy=NO_CACHE)
def encoder_task(build: Build) -> Path:
    """Train and export the encoder."""
    return build.encoder()


@task(name="build scene", cache_policy=NO_CACHE, task_run_name="build scene {cut:%Y-%m-%d}")
def scene_task(build: Build, cut: datetime, encoder: Path, kept: Path | None = None) -> Path:
    """Embed, index and fit the models of behaviour as of a cut, or take over those of a release."""
    return build.scene(cut, encoder, kept)


@task(name="learn merge", cache_policy=NO_CACHE)
def merge_task(build: Build, encoder: Path) -> Path | None:
    """Fit the merge of a user's sources."""
    return build.merge(encoder)


@task(name="fit ranking", cache_policy=NO_CACHE)
def ranking_task(build: Build, encoder: Path) -> Path:
    """Fit trees, blend and calibration."""
    return build.models(encoder)


@task(name="write release", cache_policy=NO_CACHE)
def release_task(build: Build, parts: ReleaseParts, parent: str | None = None) -> str:
    """Write the release, or find the one that these parts made before."""
    return build.release(parts, parent)


@flow(name="refresh-features", validate_parameters=False)
def refresh_features(folder: str, as_of: datetime | None = None) -> None:
    """Read the source, compute features as of a time, and bring them to the offline and the online store.

    Without events the source is all there is to read.

    Args:
        folder: of the workspace.
        as_of: see nothing at or after it; None takes all data.
    """
    build = tables_task(folder, as_of)
    if build.features is not None:
        features_task(build.features, (build.as_of,))
        materialise_task(build)


@flow(name="refresh-model", validate_parameters=False)
def refresh_model(folder: str, as_of: datetime | None = None) -> str:
    """Train everything as of a time and write a release; it is not published.

    Args:
        folder: of the workspace.
        as_of: see nothing at or after it; None takes all data.

    Returns:
        The release's id.
    """
    build = tables_task(folder, as_of)
    # Before anything is trained: a mistake in a template shouldn't wait for it.
    replies = build.replies
    parts = build.workspace.config.parts
    ranked = build.plan.ranker if parts.ranking else ()
    if build.features is not None:
        features_task(build.features, (*ranked, build.as_of))
    encoder = encoder_task(build)
    for cut in ranked:
        scene_task(build, cut, encoder)
    scene = scene_task(build, build.as_of, encoder) if parts.items else None
    merge = merge_task(build, encoder) if parts.ranking else None
    models = ranking_task(build, encoder) if parts.ranking else None
    made = ReleaseParts(encoder=encoder, scene=scene, models=models, merge=merge, replies=replies)
    return release_task(build, made)


@flow(name="refresh-index", validate_parameters=False)
def refresh_index(folder: str, as_of: datetime | None = None) -> str:
    """Write a release with the current release's models and new vectors, index and item snapshot.

    Args:
        folder: of the workspace.
        as_of: see nothing at or after it; None takes all data.

    Returns:
        The release's id.

    Raises:
        NothingToRefreshError: no release is published, or the workspace has no items.
    """
    build = tables_task(folder, as_of)
    if not build.workspace.config.parts.items:
        raise NothingToRefreshError("expected items to index, found a source without; refresh the model")
    store = ReleaseStore(build.workspace.releases)
    current = store.current()
    if current is None:
        raise NothingToRefreshError("expected a published release whose models to keep, found none; refresh the model")
    parent = store.path(current)
    _require_parts(build, parent)
    kept = models = merge = None
    if build.features is not None:
        features_task(build.features, (build.as_of,))
        kept = parent
    if build.workspace.config.parts.ranking:
        models = parent
        merge = parent if (parent / MERGE).exists() else None
    encoder = parent / ENCODER_DIR
    scene = scene_task(build, build.as_of, encoder, kept)
    parts = ReleaseParts(encoder=encoder, scene=scene, models=models, merge=merge, replies=build.replies)
    return release_task(build, parts, current)


def _require_parts(build: Build, release: Path) -> None:
    """Check that a release has the models of every part of the workspace: they are kept, not made."""
    parts = build.workspace.config.parts
    for needed, path in ((parts.events, COLLABORATIVE_DIR), (parts.ranking, RANKING_DIR)):
        if needed and not (release / path).is_dir():
            raise NothingToRefreshError(
                f"release {release.name}: expected {path}/ to keep, found none, as it was built of another source or "
                "other tasks; refresh the model"
            )


__all__ = ["refresh_features", "refresh_index", "refresh_model"]
