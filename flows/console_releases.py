"""The terminal's tables of releases: those there are, and what two of them differ in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from flows.console_tables import simple_table
from flows.release_words import Difference
from flows.words import format_bytes, format_day
from infra.releases import ReleaseInfo


def releases_table(releases: Sequence[ReleaseInfo], headlines: Mapping[str, Sequence[str]]) -> Table:
    """Return releases as a table.

    Args:
        releases: in the order to show.
        headlines: release id -> the first metrics of its last report, which stand under its name, as does whether it
            is current, and what it was made from.
    """
    table = simple_table("", "release", "as of", "written", "size", right=frozenset({"size"}))
    # A name is there to be copied: it is never cut, whatever the width.
    table.columns[0].no_wrap = True
    for row in releases:
        lines = [escape(row.release_id)]
        if row.current or row.previous:
            lines.append("  [green]● current[/]" if row.current else "  [dim]○ previous[/]")
        if row.parent:
            lines.append(f"  [dim]from {escape(row.parent)}[/]")
        lines += [f"  [dim]{escape(line)}[/]" for line in headlines.get(row.release_id, ())]
        as_of = format_day(row.as_of) if row.as_of else ""
        cells = ("\n".join(lines), as_of, format_day(row.created_at), format_bytes(row.total_bytes))
        table.add_row(*cells, style="bold" if row.current else "")
    return table


def differences_tables(first: str, second: str, found: Sequence[Difference]) -> Iterator[Table]:
    """Yield a table of each section in which two releases differ."""
    for section in dict.fromkeys([row.section for row in found]):
        table = simple_table(f"\n{section.capitalize()}", "", escape(first), escape(second))
        for row in found:
            if row.section == section:
                table.add_row(*(escape(cell) for cell in (row.what, row.first, row.second)))
        if section == "report":
            table.caption = "each by its own evaluation, which may be of another window"
            table.caption_justify = "left"
        yield table
