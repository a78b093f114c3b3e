"""The command line: each command checks its input, then calls one flow.

Exit codes: 0 done, 1 failed, 2 the input is wrong. Errors of ours are one message; `--debug` shows where they arose.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from flows.folder import WorkspaceFolder
from infra.errors import InvalidInputError, NotFoundError, PolyrankError

# Imports of flows, stages and tables stand inside the commands: prefect, torch and polars take seconds, and
# `polyrank --help`, a typing mistake or a missing workspace should answer at once.

DEMO_FOLDER: Final = Path("workspaces/demo")
# Unless the user's own environment says otherwise: the exception reaches us, so Prefect need not print it as well; a
# busy machine takes longer than the 20 s that the temporary server is given; and nothing is sent to anyone.
PREFECT_ENVIRONMENT: Final = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

# A module of ours that is missing is a fault of ours.
_ROOMS: Final = ("flows", "ranking", "retrieval", "features", "infra")
_out: Final = Console()
_err: Final = Console(stderr=True)


@dataclass
class Choices:
    """The options that stand before the command."""

    workspace: Path = Path()
    debug: bool = False


class ErrorGroup(TyperGroup):
    """Prints our errors as one message and turns them into exit codes."""

    def invoke(self, ctx: Any) -> Any:  # noqa: D102 - Click's own signature, whose type typer vendors
        try:
            return super().invoke(ctx)
        except PolyrankError as error:
            if isinstance(ctx.obj, Choices) and ctx.obj.debug:
                _err.print_exception()
            _err.print(f"[bold red]{escape(error.title)}:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(exit_code(error)) from error
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in _ROOMS:
                raise
            _err.print(
                f"[bold red]Package missing:[/] expected the package {package!r} for this command, found it not "
                r"installed; `pip install 'polyrank\[train]'` brings all that flows need",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
            raise typer.Exit(2) from error


def exit_code(error: PolyrankError) -> int:
    """Return 2 for what the caller can mend in the command or the workspace, else 1."""
    return 2 if isinstance(error, InvalidInputError | NotFoundError) else 1


def parse_as_of(text: str) -> datetime:
    """Return an ISO 8601 date or time as an aware UTC datetime; without a zone it is UTC.

    Raises:
        typer.BadParameter: not ISO 8601.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"expected an ISO 8601 date or time such as 2017-12-04 or 2017-12-04T06:00:00+01:00, found {text!r}"
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Folder with polyrank.yaml.", show_default="the current folder"),
]
AsOfOption = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        parser=parse_as_of,
        metavar="DATE",
        help="See nothing at or after this ISO date or time (UTC unless it has a zone).",
        show_default="all data",
    ),
]

app = typer.Typer(
    name="polyrank",
    help="Retrieval and ranking on a feature store, around one multi-task language-model encoder.",
    cls=ErrorGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
refresh_app = typer.Typer(help="Bring features, the model or the index up to date.", no_args_is_help=True)
app.add_typer(refresh_app, name="refresh")


@app.callback()
def main(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and every log line.")] = False,
) -> None:
    """Keep the options for the command, and send logs to standard error."""
    context.obj = Choices(workspace=workspace or Path(), debug=debug)
    if not debug:
        for name, value in PREFECT_ENVIRONMENT.items():
            os.environ.setdefault(name, value)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Made when missing.")] = Path()) -> None:
    """Write a workspace file to start from (The Complete Journey's, with comments)."""
    made = WorkspaceFolder.create(folder)
    _say(f"wrote [bold]{escape(str(made.file))}[/]; edit it, then `polyrank validate -w {escape(str(folder))}`")


@app.command()
def validate(context: typer.Context, workspace: WorkspaceOption = None) -> None:
    """Check the workspace file and the tables it names, and print what was found in them."""
    from features.sources import load  # noqa: PLC0415 - see the top
    from flows.workspace import Workspace  # noqa: PLC0415

    loaded = Workspace.load(_folder(context, workspace).folder)
    _say(f"[green]✓[/] {escape(str(loaded.file))}")
    config = loaded.config
    _, report = load(config.source, loaded.folder, datetime.now(UTC), rules=config.validation)
    _out.print(report.render())


@refresh_app.command("features")
def refresh_features(context: typer.Context, workspace: WorkspaceOption = None, as_of: AsOfOption = None) -> None:
    """Read and validate the tables, compute features, and put them into the feature store."""
    folder = _checked(context, workspace)
    from flows.refresh import refresh_features as flow  # noqa: PLC0415

    flow(folder, as_of)


@refresh_app.command("model")
def refresh_model(context: typer.Context, workspace: WorkspaceOption = None, as_of: AsOfOption = None) -> None:
    """Train everything anew and write a release; `polyrank publish` makes it the current one."""
    folder = _checked(context, workspace)
    from flows.refresh import refresh_model as flow  # noqa: PLC0415

    _say_release(flow(folder, as_of))


@refresh_app.command("index")
def refresh_index(context: typer.Context, workspace: WorkspaceOption = None, as_of: AsOfOption = None) -> None:
    """Write a release with the current models and new vectors, index and item snapshot."""
    folder = _checked(context, workspace)
    from flows.refresh import refresh_index as flow  # noqa: PLC0415

    _say_release(flow(folder, as_of))


@app.command()
def publish(
    context: typer.Context,
    release: Annotated[str | None, typer.Argument(help="Its name.", show_default="the newest")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Verify a release, hold it against the gate, and make it the current one."""
    folder = _checked(context, workspace)
    from flows.publish import publish as flow  # noqa: PLC0415

    _say(f"published [bold]{escape(str(flow(folder, release)))}[/]")


@app.command()
def rollback(context: typer.Context, workspace: WorkspaceOption = None) -> None:
    """Make the release before the current one current again."""
    # Not through Prefect, whose server takes seconds to start: whoever rolls back is in a hurry, and it is one rename.
    from infra.releases import ReleaseStore  # noqa: PLC0415

    store = ReleaseStore(_folder(context, workspace).releases)
    _say(f"rolled back to [bold]{escape(store.rollback())}[/]")


@app.command()
def releases(context: typer.Context, workspace: WorkspaceOption = None) -> None:
    """List the releases, the current one marked."""
    from flows.console import releases_table  # noqa: PLC0415
    from infra.releases import ReleaseStore  # noqa: PLC0415

    found = ReleaseStore(_folder(context, workspace).releases).list()
    if found:
        _out.print(releases_table(found))
    else:
        _say("no release yet; `polyrank refresh model` makes one")


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
    folder = _checked(context, workspace)
    from flows.prune import prune as run  # noqa: PLC0415 - see the top

    removed = run(folder, releases=releases, unused_days=unused_days)
    _say(f"removed {len(removed.releases)} releases and {len(removed.steps)} steps")
    for name in (*removed.releases, *(step.name for step in removed.steps)):
        _say(f"  {escape(name)}")


@app.command("label-queue")
def label_queue(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="A binary or multiclass task on texts.")],
    workspace: WorkspaceOption = None,
    out: Annotated[Path, typer.Option(help="The .csv or .parquet file to write.")] = Path("to_label.csv"),
    size: Annotated[int, typer.Option(min=1, help="How many texts, at most.")] = 100,
    measure: Annotated[
        Literal["margin", "entropy", "least_confidence"], typer.Option(help="What counts as uncertain.")
    ] = "margin",
) -> None:
    """List the texts whose labels would teach a task the most, by the current release."""
    folder = _checked(context, workspace)
    from flows.label_queue import queue_labels  # noqa: PLC0415 - see the top
    from retrieval.encoder.labels.config import LabelQueueConfig  # noqa: PLC0415

    rows = queue_labels(folder, task, out, LabelQueueConfig(size=size, measure=measure))
    _say(f"wrote {rows} texts to [bold]{escape(str(out))}[/]")


@app.command()
def evaluate(
    context: typer.Context,
    release: Annotated[str | None, typer.Argument(help="Its name.", show_default="the current one")] = None,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
) -> None:
    """Measure a release on the window after its as-of time; print the report and write it as JSON and HTML."""
    folder = _checked(context, workspace)
    from flows.console import render_console  # noqa: PLC0415
    from flows.evaluate import evaluate as flow  # noqa: PLC0415
    from flows.report import REPORT_HTML, REPORT_JSON, Report  # noqa: PLC0415

    report = Report.model_validate(flow(folder, release, as_of))
    render_console(report, _out)
    written = WorkspaceFolder.find(folder).reports / report.release_id
    for name in (REPORT_HTML, REPORT_JSON):
        if (written / name).is_file():
            _say(f"report: {escape(str(written / name))}")


@app.command()
def serve(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.", show_default="POLYRANK_HOST")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind.", show_default="POLYRANK_PORT")] = None,
    service: Annotated[
        Literal["all", "retrieval", "ranking"],
        typer.Option(help="One of the two alone; ranking then asks POLYRANK_RETRIEVAL_URL for candidates."),
    ] = "all",
) -> None:
    """Serve the current release over HTTP: retrieval and ranking in one process, or one of them."""
    folder = str(_folder(context, workspace).folder)
    from flows.serve import serve as run  # noqa: PLC0415

    run(folder, host, port, service)


@app.command()
def demo(
    context: typer.Context,
    folder: Annotated[Path, typer.Option(help="Made when missing.")] = DEMO_FOLDER,
) -> None:
    """Do the whole main job on real retail data: train, evaluate, publish, and show the report."""
    _configure_logging(context.find_root().obj)
    from flows.demo import demo as run  # noqa: PLC0415

    run(str(folder.resolve()))


def _folder(context: typer.Context, workspace: Path | None) -> WorkspaceFolder:
    """Return the workspace: the option after the command goes before the one in front of it."""
    choices: Choices = context.find_root().obj
    found = WorkspaceFolder.find(workspace or choices.workspace)
    _configure_logging(choices)
    return found


def _configure_logging(choices: Choices) -> None:
    """Send logs to standard error: warnings, as stages print lines of their own, unless POLYRANK_LOG_LEVEL is set."""
    from infra.settings import Settings  # noqa: PLC0415 - see the top
    from infra.telemetry import configure_logging  # noqa: PLC0415

    settings = Settings.from_environment()
    chosen = settings.log_level if "log_level" in settings.model_fields_set else "warning"
    configure_logging("debug" if choices.debug else chosen, json=settings.log_json)


def _checked(context: typer.Context, workspace: Path | None) -> str:
    """Return the folder once its file has been checked: a mistake in it shouldn't wait for Prefect's server."""
    place = _folder(context, workspace)
    from flows.workspace import Workspace  # noqa: PLC0415

    return str(Workspace.load(place.folder).folder)


def _say_release(release_id: str) -> None:
    _say(f"wrote release [bold]{escape(release_id)}[/]; `polyrank publish` makes it the current one")


def _say(text: str) -> None:
    _out.print(text, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app()
