"""The attributions in a terminal: each text with its words coloured, and its strongest words in figures."""

from __future__ import annotations

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.text import Text

from flows.attributions.page import format_value, visible
from flows.attributions.report import AttributionReport, ExplainedText, Segment
from flows.console_tables import simple_table

# Shares of the strongest word from which on a word is coloured, and set off.
_COLOURED: Final = 0.15
_STRONG: Final = 0.6


def render_attributions(report: AttributionReport, console: Console | None = None) -> None:
    """Print what explaining the texts gave; the same figures as the page, without the attention maps."""
    console = console or Console()
    console.rule(f"[bold]{escape(report.task)}")
    console.print(
        f"release [bold]{escape(report.release_id)}[/] of workspace [bold]{escape(report.workspace)}[/]; "
        "[cyan]cyan[/] words raise the head's logit, [red]red[/] ones lower it",
        highlight=False,
    )
    for row in report.texts:
        console.print(explained_text(report, row), highlight=False)


def explained_text(report: AttributionReport, row: ExplainedText) -> RenderableType:
    """Return one text's part: name, figures, the coloured text, and its strongest words."""
    found = row.attribution
    heading = Text.assemble("\n", (row.name, "bold"), *(f", given {name}" for name in row.given))
    heading.append(row.asked)
    figures = Text.assemble(
        ("logit ", "dim"), report.words_of(found.logit),
        ("  masked ", "dim"), f"{found.baseline_logit:z.3f}".replace("-", "−"),
        ("  delta ", "dim"), (format_value(found.delta), "yellow" if row.has_large_delta else ""),
    )  # fmt: skip
    table = simple_table("", "word", "share", right=frozenset({"share"}))
    for word in row.strongest:
        table.add_row(escape(visible(word.text)), format_value(word.value))
    if not row.has_large_delta:
        return Group(heading, figures, coloured(row.segments), table)
    warning = f"the delta is over a twentieth of the difference; more than {report.steps} steps lower it"
    return Group(heading, figures, coloured(row.segments), table, Text(warning, style="yellow"))


def coloured(segments: tuple[Segment, ...]) -> Text:
    """Return a text with its words in the colours of their values, what was cut off struck through."""
    text = Text()
    for segment in segments:
        text.append(segment.text, style=_style(segment))
    return text


def _style(segment: Segment) -> str:
    if not segment.is_read:
        return "dim strike"
    if abs(segment.strength) < _COLOURED:
        return ""
    colour = "cyan" if segment.strength > 0 else "red"
    return f"bold reverse {colour}" if abs(segment.strength) >= _STRONG else colour
