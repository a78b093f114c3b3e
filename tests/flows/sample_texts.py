"""Tasks on texts as a report has them, for the tests of pages and gates."""

from __future__ import annotations

from typing import Any

from flows.report import (
    ConfusedClasses,
    Confusion,
    KindScores,
    ReliabilityBin,
    ReplyScores,
    TextFigure,
    TextMetric,
    TextScores,
    ThresholdScores,
)
from ranking.reply.contract import ReplyKind
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


def reply_scores() -> ReplyScores:
    """Replies to the same texts, none of them labelled out of scope: what a hand-over is worth can't be told."""

    def scores(kind: ReplyKind, texts: int, precision: float) -> KindScores:
        parts = {"precision": figure(precision, 0.04, texts - 20), "recall": figure(precision - 0.1, 0.04, 500)}
        return KindScores(kind=kind, texts=texts, share=figure(texts / 800, 0.03, 800), **parts)

    def rows(kind: ReplyKind, served: float, found: dict[float, tuple[int, float]]) -> tuple[ThresholdScores, ...]:
        return tuple(
            ThresholdScores(threshold=least, served=least == served, scores=scores(kind, texts, precision))
            for least, (texts, precision) in found.items()
        )

    handed = KindScores(kind="hand_over", texts=200, share=figure(0.25, 0.03, 800), precision=None, recall=None)
    return ReplyScores(
        rows="texts of split test",
        n=800,
        kinds=(scores("template", 440, 0.9), scores("passages", 160, 0.7), handed),
        missed=57,
        lacking=1,
        intent=rows("template", 0.8, {0.5: (600, 0.8), 0.8: (440, 0.9), 0.95: (200, 0.955)}),
        similarity=rows("passages", 0.45, {0.3: (240, 0.6), 0.45: (160, 0.7), 0.5: (100, 0.745)}),
    )
