"""Publishing: verify, hold the report against the gate, then move one pointer; and moving it back."""

from __future__ import annotations

import structlog
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.report import REPORT_JSON, Report, read
from flows.workspace import Workspace
from infra.errors import NotFoundError
from infra.releases import ReleaseStore

log = structlog.get_logger(__name__)


class NoReleaseError(NotFoundError):
    """There is no release to publish."""

    title = "No release"


@task(name="verify and gate", cache_policy=NO_CACHE)
def gate_task(workspace: Workspace, release_id: str, without_comparison: bool) -> str | None:
    """Check every file's checksum, and the report against the workspace's gate."""
    return check_release(workspace, release_id, without_comparison=without_comparison)


@task(name="move the pointer", cache_policy=NO_CACHE)
def pointer_task(workspace: Workspace, release_id: str, over: str | None) -> None:
    """Make the release current, in place of the one that it was held against."""
    ReleaseStore(workspace.releases).publish(release_id, over=over)


@flow(name="publish", validate_parameters=False)
def publish(folder: str, release_id: str | None = None, without_comparison: bool = False) -> str:
    """Publish a release.

    Args:
        folder: of the workspace.
        release_id: None takes the newest.
        without_comparison: leave out the gate's `not_worse_than_current`, as where the comparison is void.

    Returns:
        The release's id.

    Raises:
        NoReleaseError: there is none.
        ReleaseCorruptError: a file is not what the manifest says.
        GateError: the report misses what the workspace asks for.
        PointerMovedError: another release became current meanwhile.
    """
    workspace = Workspace.load(folder)
    chosen = release_id or newest(workspace)
    pointer_task(workspace, chosen, gate_task(workspace, chosen, without_comparison))
    return chosen


@flow(name="rollback", validate_parameters=False)
def rollback(folder: str) -> str:
    """Make the release before the current one current again, and return its id."""
    return ReleaseStore(Workspace.load(folder).releases).rollback()


def newest(workspace: Workspace) -> str:
    """Return the id of the newest release.

    Raises:
        NoReleaseError: there is none.
    """
    found = ReleaseStore(workspace.releases).list()
    if not found:
        raise NoReleaseError(
            f"expected a release in {workspace.releases}, found none; `polyrank refresh model` makes one"
        )
    return found[0].release_id


def check_release(workspace: Workspace, release_id: str, *, without_comparison: bool = False) -> str | None:
    """Verify a release and hold its report against the gate; a gate that asks nothing needs no report.

    Args:
        workspace: whose gate.
        release_id: the candidate.
        without_comparison: leave out the rule on the current release.

    Returns:
        The current release, which the candidate was held against; None for none.

    Raises:
        ReleaseCorruptError: a file is not what the manifest says.
        NoReleaseError: the gate asks for a report and the release was never evaluated.
        GateError: the report misses what the workspace asks for.
    """
    store = ReleaseStore(workspace.releases)
    current = store.current()
    store.verify(release_id)
    gate = workspace.config.gate
    if gate.not_worse_than_current is not None and (without_comparison or current in (None, release_id)):
        told = "gate_without_comparison" if without_comparison else "gate_has_nothing_to_compare_with"
        log.warning(told, release=release_id, current=current)
        gate = gate.model_copy(update={"not_worse_than_current": None})
    if gate.asks:
        gate.check(report_of(workspace, release_id), current)
    return current


def report_of(workspace: Workspace, release_id: str) -> Report:
    """Return the last report of a release.

    Raises:
        NoReleaseError: it was never evaluated.
    """
    path = workspace.reports / release_id / REPORT_JSON
    if not path.is_file():
        raise NoReleaseError(
            f"the workspace's gate needs a report of release {release_id}, found none at {path}; "
            f"`polyrank evaluate {release_id}` makes one"
        )
    return read(path)
