"""Making room: old releases, and steps that no run has used for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.current_tables import latest_tables
from flows.steps import StepStore
from flows.workspace import Workspace
from infra.errors import InvalidInputError
from infra.releases import ReleaseStore


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was removed: names of releases, and folders of steps."""

    releases: tuple[str, ...]
    steps: tuple[Path, ...]


def prune(folder: str, *, releases: int, unused_days: float) -> Pruned:
    """Remove old releases and steps of a workspace.

    The current release, the one a rollback leads to and the tables whose positions the next refresh continues always
    stay. A release holds hard links of its own, so it outlives the steps it was made from.

    Args:
        folder: of the workspace.
        releases: how many of the newest to keep.
        unused_days: steps that no run has used for so many days go; a later run builds them anew if it needs them.

    Raises:
        InvalidInputError: a negative number.
    """
    if unused_days < 0:
        raise InvalidInputError(f"expected unused days >= 0, found {unused_days}")
    workspace = Workspace.load(folder)
    tables = latest_tables(workspace)
    steps = StepStore(workspace.runs).prune(
        datetime.now(UTC) - timedelta(days=unused_days), keep=() if tables is None else (tables,)
    )
    return Pruned(releases=ReleaseStore(workspace.releases).prune(releases), steps=tuple(steps))
