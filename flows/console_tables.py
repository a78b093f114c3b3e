"""What every table of the terminal is made of."""

from __future__ import annotations

from rich.table import Table

from flows.report import Figure
from flows.words import format_figure, format_interval


def simple_table(title: str, *columns: str, right: frozenset[str] = frozenset()) -> Table:
    """Return an empty table in the house's look.

    Args:
        title: its title.
        columns: headings.
        right: headings of number columns, set flush right and never wrapped.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for column in columns:
        number = column in right
        table.add_column(column, justify="right" if number else "left", no_wrap=number)
    return table


def figure_cell(figure: Figure | None, digits: int = 4) -> str:
    """Return a figure with its interval in a fainter colour."""
    interval = format_interval(figure, digits)
    return format_figure(figure, digits) + (f" [dim]{interval}[/]" if interval else "")
