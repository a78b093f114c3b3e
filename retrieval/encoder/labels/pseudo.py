"""Confident predictions as labels of texts that have none, with what held-out labels say of how safe that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from infra.errors import InvalidInputError, unknown_name
from retrieval.encoder.data import Bool, Float32, Float64
from retrieval.encoder.labels.config import PseudoLabelConfig
from retrieval.encoder.labels.probabilities import check_probabilities
from retrieval.encoder.labels.report import Agreement, ClassReport, PseudoLabelReport
from retrieval.encoder.tokens import Int64

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class PseudoLabels:
    """Predictions taken for labels.

    Attributes:
        rows: int64 `[m]` of the probabilities given, ascending.
        codes: float32 `[m]` class of each, as `TextData.labels` has it.
        confidence: float32 `[m]` its probability.
        report: what a person should read before using them.
    """

    rows: Int64
    codes: Float32
    confidence: Float32
    report: PseudoLabelReport


def pseudo_labels(
    probabilities: Float32,
    labelled: Bool,
    classes: Sequence[str],
    config: PseudoLabelConfig,
    *,
    held_out: Float32,
    held_out_labels: Float32,
) -> PseudoLabels:
    """Take the predictions that reach their class's threshold, on rows without a label.

    Args:
        probabilities: float32 `[n, classes]`, of `class_probabilities` or of a prompt.
        labelled: bool `[n]` rows that have a label of this task already; none of them is taken.
        classes: names by code; of a binary task, of 0 and of 1.
        config: thresholds and cap.
        held_out: float32 `[h, classes]` probabilities of rows that no training has seen; may be empty.
        held_out_labels: float32 `[h]` codes, NaN for none.

    Returns:
        The labels and their report.

    Raises:
        InvalidInputError: shapes differ, probabilities are none, or a threshold names no class.
    """
    _check(probabilities, labelled, classes, config, held_out, held_out_labels)
    best, top = probabilities.argmax(1), probabilities.max(1)
    limits = thresholds(best[~labelled], top[~labelled], classes, config)
    is_above = ~labelled & _reach(top, limits[best])
    surest = np.argsort(-top, kind="stable")
    surest = surest[is_above[surest]]
    rows = np.sort(np.concatenate([surest[best[surest] == code][: config.cap] for code in range(len(classes))]))
    known = ~np.isnan(held_out_labels)
    guess, sure = held_out[known].argmax(1), held_out[known].max(1)
    accepted, right = _reach(sure, limits[guess]), guess == held_out_labels[known]
    by_class = tuple(
        ClassReport(
            name=name,
            threshold=float(limits[code]),
            above=int((best[is_above] == code).sum()),
            taken=int((best[rows] == code).sum()),
            held_out=Agreement.of(right[accepted & (guess == code)]),
        )
        for code, name in enumerate(classes)
    )
    overall = Agreement.of(right[accepted])
    report = PseudoLabelReport(unlabelled=int((~labelled).sum()), taken=len(rows), held_out=overall, classes=by_class)
    log.info("pseudo_labels_taken", unlabelled=report.unlabelled, taken=report.taken, held_out=overall.model_dump())
    return PseudoLabels(rows=rows, codes=best[rows].astype(np.float32), confidence=top[rows], report=report)


def thresholds(best: Int64, top: Float32, classes: Sequence[str], config: PseudoLabelConfig) -> Float64:
    """Return the threshold of each class, float64 `[classes]`.

    `flexible` scales a class's threshold by b / (2 - b), where b is the number of its predictions that reach the
    declared threshold over the largest such number, or over the number of predictions that reach none if that is
    larger (FlexMatch; Zhang et al., 2021, with its warm-up and its convex mapping).

    Args:
        best: int64 `[n]` predicted class of each unlabelled row.
        top: float32 `[n]` its probability.
        classes: names by code.
        config: declared thresholds.
    """
    declared = np.array([config.by_class.get(name, config.threshold) for name in classes])
    if config.method == "fixed":
        return declared
    learnt = np.bincount(best[_reach(top, declared[best])], minlength=len(classes))
    effect = learnt / max(1, int(learnt.max()), len(best) - int(learnt.sum()))
    flexible: Float64 = np.minimum(declared, np.maximum(config.floor, declared * effect / (2 - effect)))
    return flexible


def _reach(top: Float32, limits: Float64) -> Bool:
    """Tell which probabilities are at their threshold or above, as float32: .95 reaches .95."""
    reached: Bool = top >= limits.astype(np.float32)
    return reached


def _check(
    probabilities: Float32,
    labelled: Bool,
    classes: Sequence[str],
    config: PseudoLabelConfig,
    held_out: Float32,
    held_out_labels: Float32,
) -> None:
    check_probabilities(probabilities, len(classes), "probabilities")
    check_probabilities(held_out, len(classes), "held_out")
    if len(labelled) != len(probabilities):
        raise InvalidInputError(
            f"labelled: expected a flag for each of {len(probabilities)} rows, found {len(labelled)}"
        )
    if len(held_out_labels) != len(held_out):
        raise InvalidInputError(
            f"held_out_labels: expected one for each of {len(held_out)} rows, found {len(held_out_labels)}"
        )
    for name in config.by_class:
        if name not in classes:
            raise InvalidInputError(f"by_class: {unknown_name('class', name, classes)}")
