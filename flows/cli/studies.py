"""Commands that study a release and its encoder: why an answer is as it is, what to label next, how to train it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from flows.cli.base import OUT, AsOfOption, WorkspaceOption, app, checked_folder, say


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
    folder = checked_folder(context, workspace)
    from flows.label_queue import queue_labels  # noqa: PLC0415 - see the top
    from retrieval.encoder.labels.config import LabelQueueConfig  # noqa: PLC0415

    rows = queue_labels(folder, task, out, LabelQueueConfig(size=size, measure=measure))
    say(f"wrote {rows} texts to [bold]{escape(str(out))}[/]")


@app.command()
def attribute(  # noqa: PLR0913, PLR0917 - a parameter is an option
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="Whose head to explain.")],
    workspace: WorkspaceOption = None,
    text: Annotated[list[str] | None, typer.Option(help="A text to explain; repeat it for more.")] = None,
    user: Annotated[str | None, typer.Option(help="A user_id: its text as of the release's time.")] = None,
    item: Annotated[str | None, typer.Option(help="An item_id.")] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="Of a multiclass task, or a tag.", show_default="likeliest")
    ] = None,
    unit: Annotated[
        int | None, typer.Option(help="Of a tag task: the word or character whose tag to explain, from 1.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the integral; more make its error smaller.")] = 50,
    layer: Annotated[int | None, typer.Option(help="Of the attention map, from 1.", show_default="highest")] = None,
    release: Annotated[str | None, typer.Option(help="Its name.", show_default="the current one")] = None,
) -> None:
    """Show which words of a text make a head say what it says, and where the encoder attends."""
    folder = checked_folder(context, workspace)
    from flows.attributions.attribute import AttributeRequest, attribute_texts  # noqa: PLC0415 - see `base`
    from flows.attributions.console import render_attributions  # noqa: PLC0415

    report = attribute_texts(
        folder,
        AttributeRequest(
            task=task, texts=tuple(text or ()), user_id=user, item_id=item, label=label, unit=unit, steps=steps,
            layer=layer, release=release,
        ),
    )  # fmt: skip
    render_attributions(report, OUT)
    say(f"page: {escape(str(report.page))}")


@app.command()
def explain(
    context: typer.Context,
    user: Annotated[str, typer.Option(help="A user_id, as the online store knows her now.")],
    item: Annotated[str, typer.Option(help="An item_id.")],
    workspace: WorkspaceOption = None,
    task: Annotated[str | None, typer.Option(help="Whose logit to take apart.", show_default="the main task")] = None,
    objective: Annotated[
        str | None, typer.Option(help="A declared objective, or a formula.", show_default="default")
    ] = None,
    release: Annotated[str | None, typer.Option(help="Its name.", show_default="the current one")] = None,
) -> None:
    """Show why an item stands where it stands in a user's list: its score, and every part of a task's logit."""
    folder = checked_folder(context, workspace)
    from flows.console_explain import render_explanation  # noqa: PLC0415 - see `base`
    from flows.explain import explain_item  # noqa: PLC0415

    render_explanation(explain_item(folder, user, item, task=task, objective=objective, release=release), OUT)


TasksOption = Annotated[
    list[str] | None, typer.Option("--task", help="A task to study; repeat it for each.", show_default="all tasks")
]
SeedsOption = Annotated[int, typer.Option(min=1, help="Runs of each winner on rows that no search read.")]


@app.command()
def tune(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
    trials: Annotated[int, typer.Option(min=1, help="For the joint model, and as many for each task alone.")] = 20,
    seeds: SeedsOption = 3,
    task: TasksOption = None,
    hours: Annotated[
        float | None, typer.Option(min=0, help="Begin no round of trials after it.", show_default="no limit")
    ] = None,
) -> None:
    """Search the encoder's settings, joint against single-task with one budget; a stopped search goes on."""
    folder = checked_folder(context, workspace)
    from flows.report import REPORT_HTML  # noqa: PLC0415 - see `base`
    from flows.tune.console import render_tuning  # noqa: PLC0415
    from flows.tune.study import tune as run  # noqa: PLC0415

    limit = None if hours is None else timedelta(hours=hours)
    report = run(folder, trials=trials, seeds=seeds, as_of=as_of, tasks=task, timeout=limit, console=OUT)
    render_tuning(report, OUT)
    say(f"report: {escape(str(Path(report.folder) / REPORT_HTML))}")


@app.command("task-values")
def task_values(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    as_of: AsOfOption = None,
    seeds: SeedsOption = 3,
    task: TasksOption = None,
) -> None:
    """Tell what each task is worth to the others (Shapley values): trains every subset of up to five tasks."""
    folder = checked_folder(context, workspace)
    from flows.report import REPORT_HTML  # noqa: PLC0415 - see `base`
    from flows.task_values import task_values as run  # noqa: PLC0415
    from flows.tune.value_report import render_values  # noqa: PLC0415

    report = run(folder, seeds=seeds, as_of=as_of, tasks=task, console=OUT)
    render_values(report, OUT)
    say(f"report: {escape(str(Path(report.folder) / REPORT_HTML))}")
