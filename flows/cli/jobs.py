"""Commands that make, measure, publish and serve releases; each checks its input, then calls one flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.markup import escape

from flows.cli.base import (
    OUT,
    AsOfOption,
    WorkspaceOption,
    app,
    checked_folder,
    configure_logs,
    say,
    say_release,
    workspace_folder,
)  # fmt: skip
from flows.folder import TEMPLATE, WorkspaceFolder, template_names

DEMO_FOLDER: Final = Path("workspaces/demo")

refresh_app = typer.Typer(help="Bring features, the model or the index up to date.", no_args_is_help=True)
app.add_typer(refresh_app, name="refresh")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Made when missing.")] = Path(),
    template: Annotated[str, typer.Option(help=f"One of {', '.join(template_names())}.")] = TEMPLATE,
) -> None:
    """Write a commented workspace file to start from: of a shop, of texts, or of texts and what answers them."""
    made = WorkspaceFolder.create(folder, template)
    say(f"wrote [bold]{escape(str(made.file))}[/]; edit it, then `polyrank validate -w {escape(str(folder))}`")


@app.command()
def validate(context: typer.Context, workspace: WorkspaceOption = None) -> None:
    """Check the workspace file and the tables it names, and print what was found in them."""
    from flows.current_tables import logged_items  # noqa: PLC0415 - see the top
    from flows.monitor.scoring import check_texts  # noqa: PLC0415
    from flows.replies import read_replies  # noqa: PLC0415
    from flows.stages.item_changes import load_changed  # noqa: PLC0415
    from flows.table_checks import check_named  # noqa: PLC0415
    from flows.workspace import Workspace  # noqa: PLC0415

    loaded = Workspace.load(workspace_folder(context, workspace).folder)
    say(f"[green]✓[/] {escape(str(loaded.file))}: a release of it holds {', '.join(loaded.config.parts.held)}")
    config = loaded.config
    tables, report, _ = load_changed(config.source, loaded.folder, config.validation, logged_items(loaded))
    OUT.print(report.render())
    check_named(config, tables)
    if config.monitor is not None:
        classes = [task.name for task in config.tasks if task.on == "text" and task.kind == "multiclass"]
        check_texts(tables.texts, config.monitor, classes)
    replies = read_replies(loaded, tables)
    if replies is not None:
        say(f"replies: {len(replies.templates)} templates, passages by {escape(replies.answers or 'no task')}")


@refresh_app.command("features")
def refresh_features(context: typer.Context, workspace: WorkspaceOption = None, as_of: AsOfOption = None) -> None:
    """Read and validate the tables, compute features, and put them into the feature store."""
    folder = checked_folder(context, workspace)
    from flows.refresh import refresh_features as flow  # noqa: PLC0415

    flow(folder, as_of)


@refresh_app.command("model")
def refresh_model(context: typer.Context, workspace: WorkspaceOption = None, as_of: AsOfOption = None) -> None:
    """Train everything anew and write a release; `polyrank publish` makes it the current one."""
    folder = checked_folder(context, workspace)
    from flows.refresh import refresh_model as flow  # noqa: PLC0415

    say_release(flow(folder, as_of))


@refresh_app.command("index")
def refresh_index(context: typer.Context, workspace: WorkspaceOption = None, as_of: AsOfOption = None) -> None:
    """Write a release with the current models and new vectors, index and item snapshot."""
    folder = checked_folder(context, workspace)
    from flows.refresh import refresh_index as flow  # noqa: PLC0415

    say_release(flow(folder, as_of))


@app.command()
def publish(
    context: typer.Context,
    release: Annotated[str | None, typer.Argument(help="Its name.", show_default="the newest")] = None,
    workspace: WorkspaceOption = None,
    without_comparison: Annotated[
        bool, typer.Option("--without-comparison", help="Don't hold it against the current release.")
    ] = False,
) -> None:
    """Verify a release, hold it against the gate, and make it the current one."""
    folder = checked_folder(context, workspace)
    from flows.publish import publish as flow  # noqa: PLC0415

    say(f"published [bold]{escape(str(flow(folder, release, without_comparison)))}[/]")


@app.command()
def evaluate(
    context: typer.Context,
    release: Annotated[str | None, typer.Argument(help="Its name.", show_default="the current one")] = None,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
) -> None:
    """Measure a release on the window after its as-of time; print the report and write it as JSON and HTML."""
    folder = checked_folder(context, workspace)
    from flows.console import render_console  # noqa: PLC0415
    from flows.evaluate import evaluate as flow  # noqa: PLC0415
    from flows.report import REPORT_HTML, REPORT_JSON, Report  # noqa: PLC0415

    report = Report.model_validate(flow(folder, release, as_of))
    render_console(report, OUT)
    written = WorkspaceFolder.find(folder).reports / report.release_id
    for name in (REPORT_HTML, REPORT_JSON):
        if (written / name).is_file():
            say(f"report: {escape(str(written / name))}")


@app.command()
def monitor(context: typer.Context, workspace: WorkspaceOption = None, as_of: AsOfOption = None) -> None:
    """Score new texts with the current release, keep trends of their negative share, and raise alerts."""
    folder = checked_folder(context, workspace)
    from flows.monitor.alert import MonitorReport  # noqa: PLC0415 - see the top
    from flows.monitor.console import render_monitor  # noqa: PLC0415
    from flows.monitor.flow import monitor_texts as flow  # noqa: PLC0415

    report = MonitorReport.model_validate(flow(folder, as_of))
    render_monitor(report, OUT)
    say(f"page: {escape(str(report.page))}")


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
    folder = str(workspace_folder(context, workspace).folder)
    from flows.serve import serve as run  # noqa: PLC0415

    run(folder, host, port, service)


@app.command("phrase-server")
def phrase_server(
    context: typer.Context,
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    host: Annotated[str | None, typer.Option(help="Address to bind.", show_default="POLYRANK_HOST")] = None,
    port: Annotated[int, typer.Option(help="Port to bind.")] = 8090,
) -> None:
    """Serve a causal language model that puts replies into words: `POLYRANK_PHRASING_URL=http://127.0.0.1:8090/v1`."""
    configure_logs(context.find_root().obj)
    from flows.phrase_server.app import serve as run  # noqa: PLC0415

    run(model, host, port)


@app.command()
def demo(
    context: typer.Context,
    folder: Annotated[Path, typer.Option(help="Made when missing.")] = DEMO_FOLDER,
) -> None:
    """Do the whole main job on real retail data: train, evaluate, publish, and show the report."""
    configure_logs(context.find_root().obj)
    from flows.demo import demo as run  # noqa: PLC0415

    run(str(folder.resolve()))
