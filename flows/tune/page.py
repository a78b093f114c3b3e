"""A search's report as one HTML page without outside references, as JSON, and its winner as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import jinja2

from flows.page_templates import page_templates
from flows.report import REPORT_HTML, REPORT_JSON
from flows.tune import charts
from flows.tune.config import Scalar
from flows.tune.report import TuneReport, error_name, in_percent
from flows.words import format_day, format_figure, format_interval, format_seconds, format_signed
from infra.files import write_atomic

BEST: Final = "best.yaml"


def write(report: TuneReport, folder: Path) -> None:
    """Write `report.json`, `report.html` and `best.yaml` into a folder, each atomically."""
    write_atomic(folder / REPORT_JSON, report.model_dump_json(indent=2).encode())
    write_atomic(folder / REPORT_HTML, render_page(report).encode())
    write_atomic(folder / BEST, report.best.encode())


def render_page(report: TuneReport) -> str:
    """Return the page; every text of the report is escaped."""
    svg = {
        "gains": charts.gain_chart(report.gains) if any(row.gain for row in report.gains) else None,
        "searches": [charts.search_chart(search) for search in report.searches],
        "importance": [
            (search.side, charts.importance_chart(search.importance)) for search in report.searches if search.importance
        ],
    }
    return study_templates().get_template("tune.html").render(report=report, svg=svg)


def study_templates() -> jinja2.Environment:
    """Return the environment that pages of studies are rendered in."""
    return page_templates(
        figure=format_figure, interval=format_interval, signed=format_signed, duration=format_seconds,
        day=format_day, percent=in_percent, value=format_value, error_name=error_name,
    )  # fmt: skip


def format_value(value: Scalar) -> str:
    """Return an option's value as the workspace file writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
