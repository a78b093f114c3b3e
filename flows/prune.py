"""Making room: old releases, and steps that no run has used for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from flows.current_tables import latest_tables
from flows.steps import StepStore
from flows.workspace import Workspace
from infra.errors import InvalidInputError
from infra.files import PARTIAL_PREFIX
from infra.releases import ReleaseStore
from infra.settings import Settings
from retrieval.index import MilvusConfig
from retrieval.index.milvus_server import drop_unused
from retrieval.index.open import collection_of
from retrieval.layout import INDEX_DIR, INDEX_META

_INDEX: Final = f"{INDEX_DIR}/{INDEX_META}"


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was removed: names of releases, folders of steps, and collections in Milvus."""

    releases: tuple[str, ...]
    steps: tuple[Path, ...]
    collections: tuple[str, ...] = ()


def prune(folder: str, *, releases: int, unused_days: float) -> Pruned:
    """Remove old releases and steps of a workspace.

    The current release, the one a rollback leads to, the one that `encoder.start` names with those it came from, and
    the tables whose positions the next refresh continues always stay. A release holds hard links of its own, so it
    outlives the steps it was made from.

    Args:
        folder: of the workspace.
        releases: how many of the newest to keep.
        unused_days: steps that no run has used for so many days go; a later run builds them anew if it needs them.

    Raises:
        InvalidInputError: a negative number.
        IndexUnavailableError: the index lies in Milvus, which can't be reached.
    """
    if unused_days < 0:
        raise InvalidInputError(f"expected unused days >= 0, found {unused_days}")
    workspace = Workspace.load(folder)
    tables = latest_tables(workspace)
    steps = StepStore(workspace.runs).prune(
        datetime.now(UTC) - timedelta(days=unused_days), keep=() if tables is None else (tables,)
    )
    removed = ReleaseStore(workspace.releases).prune(releases, _started_from(workspace))
    return Pruned(releases=removed, steps=tuple(steps), collections=_unused_collections(workspace))


def _started_from(workspace: Workspace) -> Sequence[str]:
    """Return the releases of the workspace that its next training reads: where the encoder starts, and its parents."""
    start, store = workspace.config.encoder.start, ReleaseStore(workspace.releases)
    if start is None:
        return ()
    named = (workspace.folder / start.expanduser()).resolve()
    known = {info.release_id: info for info in store.list()}
    place = next((folder for folder in (named, named.parent) if folder.parent == store.root.resolve()), None)
    name, found = None if place is None else place.name, []
    while name in known:
        found.append(name)
        name = store.manifest(name).parent
    return found


def _unused_collections(workspace: Workspace) -> tuple[str, ...]:
    """Drop the collections of this workspace that neither a release nor a step is about; none while a step is built.

    A collection is filled before the step that names it is whole.
    """
    building = any(workspace.runs.glob(f"**/{PARTIAL_PREFIX}*"))
    if not isinstance(workspace.config.index, MilvusConfig) or building:
        return ()
    folders = [meta.parent for root in (workspace.releases, workspace.runs) for meta in root.glob(f"**/{_INDEX}")]
    used = [name for folder in folders if (name := collection_of(folder)) is not None]
    return tuple(drop_unused(workspace.config.name, used, Settings()))
