"""Tasks on texts as a report has them, for the tests of pages and gates."""

from __future__ import annotations

from typing import Any

from flows.report import ConfusedClasses, Confusion, ReliabilityBin, TextFigure, TextMetric, TextScores
from tests.flows.sample_figures import figure


def text_scores() -> tuple[TextScores, ...]:
    """A task of each kind: few classes, many, a probability, a number whose R2 is undefined, and answers."""

    def scores(name: str, kind: Any, figures: dict[TextMetric, tuple[float, float | None]], **parts: Any) -> TextScores:
        rows = [TextFigure(metric=m, figure=figure(v, 0.02, 800), constant=c) for m, (v, c) in figures.items()]
        return TextScores(task=name, kind=kind, rows="texts of split test", n=800, figures=tuple(rows), **parts)

    confused = (ConfusedClasses(label="card_lost", predicted="<b>card</b>", n=12, share=0.12),)
    bins = tuple(ReliabilityBin(predicted=p, observed=p * p, n=80) for p in (0.1, 0.3, 0.5, 0.7, 0.9))
    drawn = Confusion(classes=("billing", "delivery", "<i>other</i>"), counts=((90, 5, 5), (2, 97, 1), (0, 0, 0)))
    return (
        scores(
            "intent", "multiclass", {"accuracy": (0.91, 0.2), "macro_f1": (0.9, 0.1), "log_loss": (0.31, 1.5)},
            confusion=drawn, confused=confused,
        ),
        scores("fine_intent", "multiclass", {"accuracy": (0.8, None)}, confused=confused),
        scores("urgent", "binary", {"auc": (0.88, 0.5), "calibration": (1.1, 1.0)}, reliability=bins),
        scores("tone", "regression", {"rmse": (0.3, 0.5), "mae": (0.2, 0.4)}),
        scores("answer", "contrastive", {"recall_at_1": (0.7, 0.01), "mrr": (0.8, 0.05)}),
    )  # fmt: skip
