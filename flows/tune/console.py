"""A search's report in the terminal: the same figures as its page."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.console_tables import simple_table
from flows.report import Figure
from flows.tune.report import TuneReport, error_name, in_percent
from flows.words import format_day, format_figure, format_interval, format_signed


def render_tuning(report: TuneReport, console: Console) -> None:
    """Print the gains, the winning configuration as lines of the workspace file, and what failed."""
    budget = f"{report.trials} trials on each of {len(report.searches)} sides, {len(report.seeds)} seeds"
    console.rule(f"[bold]Tuning of {escape(report.workspace)}")
    console.print(f"as of {format_day(report.as_of)}: {budget}", highlight=False)
    console.print(_gains(report))
    console.print("\n[bold]Best multi-task configuration[/]")
    # No wrapping: the lines are there to be copied.
    console.print(escape(report.best.rstrip()), soft_wrap=True, highlight=False)
    if report.failed or report.failed_runs:
        runs = len(report.failed_runs)
        console.print(f"\n[yellow]{report.failed} trials and {runs} runs of the comparison failed[/]", highlight=False)
        for search in report.searches:
            for row in search.failed:
                _dim(console, f"{search.side}, trial {row.number + 1}: {row.reason}")
        for words in report.failed_runs:
            _dim(console, words)


def percent_cell(figure: Figure | None) -> str:
    """Return a share in percent with its interval."""
    found = in_percent(figure)
    interval = format_interval(found, 1)
    return format_signed(found, 1) + (f" [dim]{interval}[/]" if interval else "")


def _dim(console: Console, words: str) -> None:
    console.print(f"  [dim]{escape(words)}[/]", highlight=False)


def _gains(report: TuneReport) -> Table:
    numbers = ("alone", "together", "gain, %")
    table = simple_table("\nError on rows that no trial read", "task", "error", *numbers, "", right=frozenset(numbers))
    for row in report.gains:
        errors = (format_figure(row.alone), format_figure(row.joint))
        loses = "[red]loses[/]" if row.loses else ""
        table.add_row(escape(row.task), error_name(row.metric), *errors, percent_cell(row.gain), loses)
    table.add_row("mean", "", "", "", percent_cell(report.mean_gain), "", style="bold")
    table.caption = "gain: share of the error of a task's own model that the multi-task model takes away"
    table.caption_justify = "left"
    return table
