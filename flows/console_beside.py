"""The terminal's table of a release beside the current one."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.console_tables import simple_table
from flows.report import BesideCurrent
from flows.report.beside import Verdict
from flows.words import beside_name, format_figure, format_interval, format_signed

_VERDICTS: Final[dict[Verdict, str]] = {
    "better": "[green]better[/]",
    "worse": "[red]worse[/]",
    "level": "[dim]undecided[/]",
}


def render_beside(beside: BesideCurrent | None, console: Console) -> None:
    """Print both releases' metrics, or why they can't be compared; nothing where there was no other to compare."""
    if beside is None:
        return
    if beside.void:
        void = f"[yellow]not compared with the current release {escape(beside.release_id)}: {escape(beside.void)}[/]"
        console.print(void, highlight=False)
    elif beside.rows:
        console.print(_table(beside))


def _table(beside: BesideCurrent) -> Table:
    numbers = ("current", "this", "difference")
    title = f"\nBeside the current release {escape(beside.release_id)}"
    table = simple_table(title, "metric", *numbers, "verdict", right=frozenset(numbers))
    for row in beside.rows:
        difference = f"{format_signed(row.difference)} [dim]{format_interval(row.difference)}[/]"
        cells = (format_figure(row.current), format_figure(row.candidate), difference)
        table.add_row(escape(beside_name(row, beside.k)), *cells, _VERDICTS[row.verdict])
    if beside.note:
        table.caption, table.caption_justify = escape(beside.note), "left"
    return table
