"""Commands that look into the encoder: what to label next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from flows.cli.base import WorkspaceOption, app, checked_folder, say


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
