"""The terminal's tables of a report's texts: tasks, confusions, and what is replied."""

from __future__ import annotations

from typing import Final

from rich.markup import escape
from rich.table import Table

from flows.console_tables import figure_cell, simple_table
from flows.report import KindScores, Report
from flows.words import text_metric_name

# Of each task: the page lists more.
_CONFUSED: Final = 3
_REPLY_NUMBERS: Final = ("share", "judged", "precision", "recall")


def text_tables(report: Report) -> tuple[Table, ...]:
    """Return the tables; one without rows has nothing to show."""
    return _texts(report), _confused(report), _replies(report), _thresholds(report)


def _texts(report: Report) -> Table:
    numbers = ("value", "constant")
    table = simple_table("\nTasks on texts, held out", "task", "metric", *numbers, "texts", right=frozenset(numbers))
    for row in report.texts:
        for position, own in enumerate(row.figures):
            constant = "–" if own.constant is None else f"{own.constant:.4f}"
            task, n = (escape(row.task), f"{row.n:,}") if position == 0 else ("", "")
            table.add_row(task, text_metric_name(own.metric), figure_cell(own.figure), constant, n)
    rows = ", ".join(dict.fromkeys(row.rows for row in report.texts))
    table.caption = f"{rows}; constant: what the best answer that reads no text has"
    table.caption_justify = "left"
    return table


def _confused(report: Report) -> Table:
    """Return the most frequent confusions of classes; the page draws them all where they are few."""
    table = simple_table(
        "\nClasses taken for others", "task", "label", "predicted", "texts", right=frozenset({"texts"})
    )
    for row in report.texts:
        for pair in row.confused[:_CONFUSED]:
            share = f"{pair.n:,} [dim]{pair.share:.0%}[/]"
            table.add_row(escape(row.task), escape(pair.label), escape(pair.predicted), share)
    table.caption = "share: of the label's texts"
    table.caption_justify = "left"
    return table


def _replies(report: Report) -> Table:
    numbers = ("texts", *_REPLY_NUMBERS)
    table = simple_table("\nReplies to held-out texts", "reply", *numbers, right=frozenset(numbers))
    found = report.replies
    if found is None:
        return table
    for row in found.kinds:
        table.add_row(row.kind, f"{row.texts:,}", *_reply_cells(row))
    table.caption = (
        f"{found.n:,} {found.rows}; {found.missed:,} handed over by mistake, {found.lacking:,} lacked a slot\n"
        "precision: right of those judged; recall: right of those whose labels ask for it"
    )
    table.caption_justify = "left"
    return table


def _thresholds(report: Report) -> Table:
    """Return what other thresholds would give of the kind that each decides on."""
    table = simple_table("\nOther thresholds", "at least", *_REPLY_NUMBERS, right=frozenset(_REPLY_NUMBERS))
    found = report.replies
    for name, rows in (("intent", found.intent), ("similarity", found.similarity)) if found else ():
        for row in rows:
            mark = " ●" if row.served else ""
            table.add_row(f"{name} {row.threshold:g}{mark}", *_reply_cells(row.scores))
    table.caption = (
        "●: the release's; intent: of templates, similarity: of passages\n"
        "chosen by these texts, a threshold looks better than on new ones"
    )
    table.caption_justify = "left"
    return table


def _reply_cells(scores: KindScores) -> tuple[str, ...]:
    """Return the share, how many could be judged, precision and recall, as narrow as 80 columns need."""
    judged = "–" if scores.precision is None else f"{scores.precision.n:,}"
    return f"{scores.share.value:.3f}", judged, figure_cell(scores.precision, 3), figure_cell(scores.recall, 3)
