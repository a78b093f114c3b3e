"""Commands on the releases there are: list and tell apart, go back, make room."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from flows.cli.base import OUT, WorkspaceOption, app, checked_folder, say, workspace_folder


@app.command()
def rollback(context: typer.Context, workspace: WorkspaceOption = None) -> None:
    """Make the release before the current one current again."""
    # Not through Prefect, whose server takes seconds to start: whoever rolls back is in a hurry, and it is one rename.
    from infra.releases import ReleaseStore  # noqa: PLC0415

    store = ReleaseStore(workspace_folder(context, workspace).releases)
    say(f"rolled back to [bold]{escape(store.rollback())}[/]")


@app.command()
def releases(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    diff: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="Show what two releases differ in.")
    ] = None,
) -> None:
    """List the releases with the first metrics of their reports, the current one marked; or tell two of them apart."""
    from flows.console_releases import differences_tables, releases_table  # noqa: PLC0415 - see `base`
    from flows.release_words import headlines, release_differences  # noqa: PLC0415
    from infra.releases import ReleaseStore  # noqa: PLC0415

    folder = workspace_folder(context, workspace)
    if diff is not None:
        differing = release_differences(folder, *diff)
        for table in differences_tables(*diff, differing):
            OUT.print(table)
        if not differing:
            say("no difference found")
        return
    found = ReleaseStore(folder.releases).list()
    if found:
        OUT.print(releases_table(found, {row.release_id: headlines(folder, row.release_id) for row in found}))
    else:
        say("no release yet; `polyrank refresh model` makes one")


@app.command()
def prune(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    releases: Annotated[int, typer.Option(min=0, help="How many of the newest releases to keep.")] = 5,
    unused_days: Annotated[
        float, typer.Option("--unused-days", min=0, help="Remove steps that no run has used for so many days.")
    ] = 14,
) -> None:
    """Make room: remove old releases and unused steps. The current release and the one before it always stay."""
    folder = checked_folder(context, workspace)
    from flows.prune import prune as run  # noqa: PLC0415

    removed = run(folder, releases=releases, unused_days=unused_days)
    say(f"removed {len(removed.releases)} releases and {len(removed.steps)} steps")
    if removed.collections:
        say(f"dropped {len(removed.collections)} collections in Milvus")
    for name in (*removed.releases, *(step.name for step in removed.steps), *removed.collections):
        say(f"  {escape(name)}")
