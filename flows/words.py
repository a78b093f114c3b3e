"""Figures, times and sizes in words, the same in the terminal and on the page."""

from __future__ import annotations

from datetime import datetime
from typing import get_args

from features.splits import UNDATED
from flows.report import AuditMetric, BesideRow, Figure, TextMetric


def format_figure(figure: Figure | None, digits: int = 4) -> str:
    """Return a figure's value, or a dash where it is undefined."""
    return "–" if figure is None else f"{figure.value:.{digits}f}"


def format_interval(figure: Figure | None, digits: int = 4) -> str:
    """Return "low to high", or nothing without an interval; the minus is the typographic one, and no zero has it."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{figure.low:z.{digits}f} to {figure.high:z.{digits}f}".replace("-", "−")


def format_signed(figure: Figure | None, digits: int = 4) -> str:
    """Return a difference with its sign; the minus is the typographic one."""
    return "–" if figure is None else f"{figure.value:+z.{digits}f}".replace("-", "−")


def metric_name(metric: AuditMetric, k: int) -> str:
    """Return what a metric of an audit is called, with the places `k` that an order's metrics read."""
    names: dict[AuditMetric, str] = {
        "auc": "AUC",
        "log_loss": "log loss",
        "calibration": "calibration",
        "selection": "selected",
        "ndcg": f"NDCG@{k}",
        "exposure": f"exposure@{k} less relevance",
    }
    return names[metric]


def text_metric_name(metric: TextMetric) -> str:
    """Return what a metric of a task on texts is called."""
    names: dict[TextMetric, str] = {
        "accuracy": "accuracy",
        "macro_f1": "macro F1",
        "micro_f1": "micro F1",
        "auc": "AUC",
        "log_loss": "log loss",
        "calibration": "calibration",
        "precision": "precision",
        "recall": "recall",
        "precision_of_0": "precision of 0",
        "recall_of_0": "recall of 0",
        "r2": "R²",
        "rmse": "RMSE",
        "mae": "MAE",
        "recall_at_1": "recall@1",
        "recall_at_5": "recall@5",
        "mrr": "MRR",
    }
    return names[metric]


def beside_name(row: BesideRow, k: int) -> str:
    """Return what a metric of two releases is called, with the places `k` that an order's metrics read."""
    orders: dict[str, str] = {"ndcg": f"NDCG@{k}", "recall": f"Recall@{k}", "mrr": "MRR"}
    if row.task is None:
        of = ", new to the user" if row.metric.startswith("new_items_") else ""
        return orders[row.metric.removeprefix("new_items_")] + of
    names: dict[str, str] = {metric: text_metric_name(metric) for metric in get_args(TextMetric)}
    return f"{row.task}, {names[row.metric]}"


def format_seconds(seconds: float) -> str:
    """Return a duration: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_bytes(count: int | None) -> str:
    """Return a size in kB, MB or GB (powers of ten), or a dash."""
    if count is None:
        return "–"
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def format_day(moment: datetime) -> str:
    """Return the date, with the time of day only where it isn't midnight; "undated" where the data has no times."""
    if moment == UNDATED:
        return "undated"
    return f"{moment:%Y-%m-%d}" if (moment.hour, moment.minute) == (0, 0) else f"{moment:%Y-%m-%d %H:%M}"
