"""The command line's frame: the app, options that several commands take, errors as messages and exit codes.

Exit codes: 0 done, 1 failed, 2 the input is wrong. Errors of ours are one message; `--debug` shows where they arose.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from flows.folder import WorkspaceFolder
from infra.errors import InvalidInputError, NotFoundError, PolyrankError

# Imports of flows, stages and tables stand inside the commands: prefect, torch and polars take seconds, and
# `polyrank --help`, a typing mistake or a missing workspace should answer at once.

# Unless the user's own environment says otherwise: the exception reaches us, so Prefect need not print it as well; a
# busy machine takes longer than the 20 s that the temporary server is given; and nothing is sent to anyone.
PREFECT_ENVIRONMENT: Final = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

# A module of ours that is missing is a fault of ours.
_ROOMS: Final = ("flows", "ranking", "retrieval", "features", "infra")
OUT: Final = Console()
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


def workspace_folder(context: typer.Context, workspace: Path | None) -> WorkspaceFolder:
    """Return the workspace: the option after the command goes before the one in front of it."""
    choices: Choices = context.find_root().obj
    found = WorkspaceFolder.find(workspace or choices.workspace)
    configure_logs(choices)
    return found


def configure_logs(choices: Choices) -> None:
    """Send logs to standard error: warnings, as stages print lines of their own, unless POLYRANK_LOG_LEVEL is set."""
    from infra.settings import Settings  # noqa: PLC0415 - see the top
    from infra.telemetry import configure_logging  # noqa: PLC0415

    settings = Settings.from_environment()
    chosen = settings.log_level if "log_level" in settings.model_fields_set else "warning"
    configure_logging("debug" if choices.debug else chosen, json=settings.log_json)


def checked_folder(context: typer.Context, workspace: Path | None) -> str:
    """Return the folder once its file has been checked: a mistake in it shouldn't wait for Prefect's server."""
    place = workspace_folder(context, workspace)
    from flows.workspace import Workspace  # noqa: PLC0415

    return str(Workspace.load(place.folder).folder)


def say_release(release_id: str) -> None:
    """Tell which release was written, and what makes it current."""
    say(f"wrote release [bold]{escape(release_id)}[/]; `polyrank publish` makes it the current one")


def say(text: str) -> None:
    """Print a line with markup to standard output, never broken: it may be copied."""
    OUT.print(text, highlight=False, soft_wrap=True)
