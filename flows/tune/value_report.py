"""Task values as typed figures, in the terminal, and as one HTML page."""

from __future__ import annotations

from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict
from rich.console import Console
from rich.markup import escape

from flows.console_tables import simple_table
from flows.heatmap import heat_map
from flows.report import REPORT_HTML, REPORT_JSON, Figure
from flows.tune.charts import share_bars
from flows.tune.console import percent_cell
from flows.tune.page import study_templates
from flows.words import format_day
from infra.files import write_atomic
from retrieval.encoder.trial import Metric


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetValues(_Part):
    """What the other tasks are worth to one.

    Attributes:
        target: the task.
        metric: of its error.
        alone: its error, trained by itself.
        helpers: by task, its Shapley value: the share of the error alone that it takes away, as a mean over all orders
            in which tasks may join; negative where it does harm.
        together: share of the error alone that all of them take away: the sum of the above.
    """

    target: str
    metric: Metric
    alone: Figure
    helpers: dict[str, Figure]
    together: Figure


class TaskValuesReport(_Part):
    """Which task helps which, over seeds, on rows that no run read.

    Attributes:
        workspace: its name.
        as_of: nothing at or after it was read.
        created_at: when it was written.
        folder: where runs and report lie.
        seeds: of the runs.
        targets: by task.
        whole: by task, its Shapley value for the mean gain of all tasks in a subset.
        mean_gain: of all tasks together: the sum of `whole`.
    """

    workspace: str
    as_of: AwareDatetime
    created_at: AwareDatetime
    folder: str
    seeds: tuple[int, ...]
    targets: tuple[TargetValues, ...]
    whole: dict[str, Figure]
    mean_gain: Figure

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(row.target for row in self.targets)

    @property
    def matrix(self) -> list[list[float | None]]:
        """Percent of the column's error that the row's task takes away, `[T, T]`; None on the diagonal."""
        return [
            [100 * row.helpers[helper].value if helper in row.helpers else None for row in self.targets]
            for helper in self.tasks
        ]


def write_values(report: TaskValuesReport, folder: Path) -> None:
    """Write `report.json` and `report.html` into a folder, each atomically."""
    write_atomic(folder / REPORT_JSON, report.model_dump_json(indent=2).encode())
    write_atomic(folder / REPORT_HTML, render_values_page(report).encode())


def render_values_page(report: TaskValuesReport) -> str:
    """Return the page; every text of the report is escaped."""
    harms = [task for task, value in report.whole.items() if value.verdict == "below"]
    svg = {
        "matrix": heat_map(
            report.tasks, report.matrix, title="Percent of error saved", rows="task that joins", columns="effect on"
        ),
        "whole": share_bars(report.whole, "added to the mean gain, %", "Worth of each task to all", harms),
    }
    return study_templates().get_template("task_values.html").render(report=report, svg=svg)


def render_values(report: TaskValuesReport, console: Console) -> None:
    """Print which task helps which, and what each is worth to all."""
    seeds = f"{len(report.seeds)} seed{'s' if len(report.seeds) > 1 else ''}"
    console.rule(f"[bold]Task values of {escape(report.workspace)}")
    console.print(f"as of {format_day(report.as_of)}: Shapley values over every subset, {seeds}", highlight=False)
    table = simple_table("\nError saved by each task, % of the error alone", "task", *report.tasks, "all tasks")
    for helper in report.tasks:
        cells = [percent_cell(row.helpers[helper]) if helper in row.helpers else "–" for row in report.targets]
        table.add_row(escape(helper), *cells, percent_cell(report.whole[helper]))
    sums = (percent_cell(row.together) for row in report.targets)
    table.add_row("together", *sums, percent_cell(report.mean_gain), style="bold")
    table.caption = "a row's task joining, a column's task gaining; the last row is the sum"
    table.caption_justify = "left"
    console.print(table)
