"""The report as one HTML page without outside references: styles, plots and data all inside the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from flows import charts
from flows.group_charts import exposure_dots, group_dots
from flows.heatmap import heat_map
from flows.page_templates import page_templates
from flows.report import REPORT_HTML, REPORT_JSON, AuditReport, Figure, GroupComparison, Report, TextScores
from flows.words import (
    beside_name,
    format_bytes,
    format_day,
    format_figure,
    format_interval,
    format_seconds,
    format_signed,
    metric_name,
    text_metric_name,
)
from infra.files import write_atomic
from retrieval.encoder.relatedness.report import RelatednessReport

# Classes whose names have room below a drawing; of more, each has a number.
_NAMED_CLASSES: Final = 8
# Characters of a class's name beside a drawing: a longer one would leave the cells no room.
_CLASS_NAME: Final = 24


class ReportPaths(NamedTuple):
    """Where `write` left the report."""

    json: Path
    html: Path


def write(report: Report, folder: Path) -> ReportPaths:
    """Write `report.json` and `report.html` into a folder, each atomically.

    Args:
        report: what was found.
        folder: created when missing.

    Returns:
        Both paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = ReportPaths(json=folder / REPORT_JSON, html=folder / REPORT_HTML)
    write_atomic(paths.json, report.model_dump_json(indent=2).encode())
    write_atomic(paths.html, render_page(report).encode())
    return paths


def render_page(report: Report) -> str:
    """Return the page. Every text of the report is escaped: an item's title is data, never markup."""
    templates = page_templates(
        figure=format_figure, interval=format_interval, signed=format_signed, duration=format_seconds,
        size=format_bytes, day=format_day, best=best_value, metric=metric_name,
        text_metric=text_metric_name, beside=beside_name,
    )  # fmt: skip
    by_task = {name: [row for row in report.tasks if row.task == name] for name in report.task_names}
    svg = {
        "rankings": [charts.ranking_bars(table) for table in report.rankings],
        "reliability": {
            name: charts.reliability(rows) for name, rows in by_task.items() if any(row.reliability for row in rows)
        },
        "texts": {row.task: drawn for row in report.texts if (drawn := _text_drawing(row))},
        "training": charts.training_curves(report.training) if report.training else None,
        "relatedness": _relatedness(report.relatedness) if report.relatedness else [],
        "stages": charts.stage_bars(report.stages) if report.stages else None,
        "audit": _audited(report.audit) if report.audit else [],
        "exposure": [exposure_dots(table) for table in report.audit.exposure] if report.audit else [],
    }
    plan = [
        {"window": window, "left": left, "width": width}
        for window, (left, width) in zip(report.time_plan, _spans(report), strict=True)
    ]
    return templates.get_template("report.html").render(report=report, by_task=by_task, svg=svg, plan=plan)


def best_value(figures: Iterable[Figure | None], lowest: bool = False) -> float | None:
    """Return the best value of a column, to set it in bold; None when all are undefined."""
    values = [figure.value for figure in figures if figure is not None]
    return (min if lowest else max)(values, default=None)


def _text_drawing(scores: TextScores) -> str | None:
    """Return how classes are confused, or how probabilities hold; None for other tasks and for many classes."""
    if scores.reliability:
        return charts.text_reliability(scores)
    if scores.confusion is None:
        return None
    shares = [[count / max(1, sum(row)) for count in row] for row in scores.confusion.counts]
    names = [name if len(name) <= _CLASS_NAME else f"{name[: _CLASS_NAME - 1]}…" for name in scores.confusion.classes]
    numbers: list[str] = []
    if len(names) > _NAMED_CLASSES:
        numbers = [str(number) for number in range(1, len(names) + 1)]
        names = [f"{name}  {number}" for name, number in zip(names, numbers, strict=True)]
    title = f"Confusions of {scores.task}"
    return heat_map(names, shares, title=title, rows="label", columns="predicted", short=numbers)


class AuditCard(NamedTuple):
    """The metrics of one task, or of the shipped order, by one column: they share their groups."""

    title: str
    metrics: list[GroupComparison]
    drawings: list[str]


def _audited(audit: AuditReport) -> list[AuditCard]:
    """Return a card for each task and column of the users."""
    cards: dict[tuple[str, str | None], list[GroupComparison]] = {}
    for row in audit.comparisons:
        if row.on == "user":
            cards.setdefault((row.column, row.task), []).append(row)
    return [
        AuditCard(f"{task or 'shipped order'}, by {column}", rows, [group_dots(row, audit.k) for row in rows])
        for (column, task), rows in cards.items()
    ]


def _relatedness(found: RelatednessReport) -> list[tuple[str, str]]:
    """Return (caption, drawing) of the priors and, where it was measured, of the affinity."""
    drawn = [("What labels and declarations say", heat_map(found.names, found.prior, title="Relatedness of tasks"))]
    if found.affinity is not None:
        drawn.append(
            (
                "What a step on one task does to another's loss",
                heat_map(
                    found.names,
                    found.affinity,
                    title="Measured affinity of tasks",
                    rows="step on",
                    columns="effect on",
                    groups=found.groups.names,
                ),
            )
        )
    return drawn


def _spans(report: Report) -> list[tuple[float, float]]:
    """Return left edge and width of each window as percent of the plan's whole span."""
    if report.span is None:
        return []
    start, end = report.span
    whole = (end - start).total_seconds() or 1.0
    return [
        (100 * (window.cut - start).total_seconds() / whole, 100 * (window.end - window.cut).total_seconds() / whole)
        for window in report.time_plan
    ]
