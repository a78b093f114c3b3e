"""What reading a source found: one finding per rule, table and column, and the report that holds them all.

A rule that was checked and found nothing is in the report with a count of 0, so that a reader sees what was looked at.
"""

from __future__ import annotations

from typing import Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict
from rich.table import Table
from rich.text import Text

# error: the load fails. drop: the rows are left out. merge: rows of one key become one. cast: kept under another type.
# assume: kept by a declared assumption. exclude: left out by an option of the source, or overruled by it, and not bad.
Action = Literal["error", "drop", "merge", "cast", "assume", "exclude"]
FIRST_ROWS: Final = 3
# Of a value shown in a finding: a text may be pages long.
_SHOWN_CHARACTERS: Final = 80
# The row number a table was read with; a name that no source column has.
ROW: Final = "__row__"


class Finding(BaseModel):
    """One rule's outcome on one table.

    Attributes:
        table: canonical table name.
        column: the column concerned; several are joined by ", ".
        rule: the rule's name, such as `null_key`.
        action: what was done with the rows counted.
        count: how many rows.
        expected: what the rule asks for.
        found: what was there instead; empty when the count is 0.
        first_rows: the first rows concerned, as text: row number in the table as read (from 0) and key columns.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    column: str
    rule: str
    action: Action
    count: int
    expected: str
    found: str = ""
    first_rows: tuple[dict[str, str | None], ...] = ()

    def describe(self) -> str:
        """Return one line: place, rule, expected, found and the first rows."""
        rows = "; ".join(", ".join(f"{name}={value!r}" for name, value in row.items()) for row in self.first_rows)
        shown = f"; first rows: {rows}" if rows else ""
        return f"{self.table}.{self.column}: {self.rule}: expected {self.expected}, found {self.found}{shown}"


class TableRows(BaseModel):
    """How many rows of one table were read and how many were kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    read: int
    kept: int


class ValidationReport(BaseModel):
    """Everything that validation looked at, in the order in which it looked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tables: tuple[TableRows, ...]
    findings: tuple[Finding, ...]

    @property
    def dropped(self) -> int:
        """Rows left out for being bad, over all tables."""
        return sum(finding.count for finding in self.findings if finding.action == "drop")

    @property
    def merged(self) -> int:
        """Rows that were summed into another row of the same key."""
        return sum(finding.count for finding in self.findings if finding.action == "merge")

    def count(self, rule: str, table: str | None = None) -> int:
        """Return the rows that a rule counted, in one table or in all."""
        return sum(f.count for f in self.findings if f.rule == rule and table in (None, f.table))

    def render(self) -> Table:
        """Return the report as a rich table: the row counts, then each rule that counted something."""
        table = Table(title="Validation", title_justify="left")
        for heading in ("table", "column", "rule", "action"):
            table.add_column(heading)
        table.add_column("rows", justify="right")
        table.add_column("expected / found", overflow="fold")
        for rows in self.tables:
            table.add_row(rows.table, "", "rows kept", "", f"{rows.kept:,}", f"of {rows.read:,} read")
        table.add_section()
        for finding in self.findings:
            if finding.count:
                # Text, not markup: a value found in the data may hold square brackets.
                detail = Text(f"expected {finding.expected}; found {finding.found}")
                place = (finding.table, finding.column, finding.rule, finding.action, f"{finding.count:,}")
                table.add_row(*place, detail)
        quiet = sum(1 for finding in self.findings if not finding.count)
        table.caption = f"{quiet} more checks found nothing"
        return table


def first_rows(rows: pl.DataFrame, columns: list[str]) -> tuple[dict[str, str | None], ...]:
    """Return the first few rows as text: `row` (their number, when the frame has `ROW`) and the columns named."""
    head = rows.head(FIRST_ROWS)
    shown = [name for name in dict.fromkeys((ROW, *columns)) if name in rows.columns]
    values = {"row" if name == ROW else name: [_text(value) for value in head[name].to_list()] for name in shown}
    return tuple(dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True))


def _text(value: object) -> str | None:
    if value is None:
        return None
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
