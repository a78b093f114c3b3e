"""Metrics of predictions of texts, each with its bootstrap interval, and the same of a constant predictor.

A row is a text. A statistic is a function of rows, so that one resampling serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from features.schema import Float32, Int32
from flows.report import BesideRow, Figure, TextFigure, TextMetric
from retrieval.evaluate import auc, log_loss

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Rows = Int64
Statistic = Callable[[Rows], float]

# 500 resamples give interval ends a standard error of 5% of the half width.
_RESAMPLES: Final = 500
# A label that is no class of the model; it is never predicted.
UNKNOWN: Final = -1
_CLIP: Final = 1e-7


def classification(truth: Int32, probabilities: Float32) -> dict[TextMetric, Statistic]:
    """Return the statistics of a multiclass task.

    Args:
        truth: int32 `[n]` class codes, `UNKNOWN` for a label that is no class: always wrong.
        probabilities: float32 `[n, classes]`.
    """
    predicted = probabilities.argmax(axis=1)
    known = truth != UNKNOWN
    of_truth = np.where(known, probabilities[np.arange(len(truth)), np.where(known, truth, 0)], 0)
    losses = -np.log(np.clip(of_truth.astype(np.float64), _CLIP, 1))
    return {
        "accuracy": lambda rows: float((truth[rows] == predicted[rows]).mean()),
        "macro_f1": lambda rows: macro_f1(truth[rows], predicted[rows]),
        "log_loss": lambda rows: float(losses[rows].mean()),
    }


def macro_f1(truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> float:
    """Return the F1 of each class that is a label or a prediction, 2 hits / (labels + predictions), averaged.

    Args:
        truth: `[n]` class codes, `UNKNOWN` counting as a class.
        predicted: `[n]`.
    """
    codes = int(max(truth.max(), predicted.max())) + 2
    # One up, so that the unknown class is code 0.
    hits = np.bincount(truth[truth == predicted] + 1, minlength=codes)
    seen = np.bincount(truth + 1, minlength=codes) + np.bincount(predicted + 1, minlength=codes)
    return float((2 * hits[seen > 0] / seen[seen > 0]).mean())


def binary(truth: Float64, probabilities: Float64) -> dict[TextMetric, Statistic]:
    """Return the statistics of a binary task: float64 `[n]` labels 0 or 1, and probabilities.

    Precision and recall are those of a decision at one half; of a label that is never said there is no precision.
    """
    positive, found = truth > 0, probabilities.astype(np.float32)
    said = probabilities >= 0.5
    rightly, rightly_not = said & positive, ~said & ~positive
    return {
        "auc": lambda rows: auc(positive[rows], found[rows]),
        "log_loss": lambda rows: log_loss(positive[rows], found[rows]),
        "calibration": lambda rows: _ratio(probabilities[rows].mean(), truth[rows].mean()),
        "precision": lambda rows: _ratio(rightly[rows].sum(), said[rows].sum()),
        "recall": lambda rows: _ratio(rightly[rows].sum(), positive[rows].sum()),
        "precision_of_0": lambda rows: _ratio(rightly_not[rows].sum(), (~said)[rows].sum()),
        "recall_of_0": lambda rows: _ratio(rightly_not[rows].sum(), (~positive)[rows].sum()),
    }


def regression(truth: Float64, numbers: Float64) -> dict[TextMetric, Statistic]:
    """Return the statistics of a regression: float64 `[n]` labels and predictions."""
    squares, sizes = (numbers - truth) ** 2, np.abs(numbers - truth)
    return {
        "r2": lambda rows: 1 - _ratio(squares[rows].mean(), truth[rows].var()),
        "rmse": lambda rows: float(np.sqrt(squares[rows].mean())),
        "mae": lambda rows: float(sizes[rows].mean()),
    }


def tagging(hits: Int64, said: Int64, labelled: Int64) -> dict[TextMetric, Statistic]:
    """Return the statistics of a task on tags, of units whose tag isn't O.

    Args:
        hits: int64 `[n]` units of each text that have the right tag.
        said: units that were given a tag.
        labelled: units that have one.
    """
    return {"micro_f1": lambda rows: _ratio(2 * hits[rows].sum(), said[rows].sum() + labelled[rows].sum())}


def answering(ranks: Float64) -> dict[TextMetric, Statistic]:
    """Return the statistics of a contrastive task: float64 `[n]` rank of the answering item from 1, inf for none."""
    return {
        "recall_at_1": lambda rows: float((ranks[rows] <= 1).mean()),
        "recall_at_5": lambda rows: float((ranks[rows] <= 5).mean()),
        "mrr": lambda rows: float((1 / ranks[rows]).mean()),
    }


def figures(
    statistics: Mapping[TextMetric, Statistic], constant: Mapping[TextMetric, Statistic] | None, n: int
) -> tuple[TextFigure, ...]:
    """Return a figure for each statistic that is defined on all rows.

    Args:
        statistics: of the predictions.
        constant: the same of a constant predictor; None where there is none.
        n: rows.
    """
    draws = _draws(n)
    every: Rows = np.arange(n)
    found = []
    for metric, statistic in statistics.items():
        value = statistic(every)
        if np.isnan(value):
            continue
        against = np.nan if constant is None else constant[metric](every)
        figure = _figure(value, [statistic(rows) for rows in draws], n)
        found.append(TextFigure(metric=metric, figure=figure, constant=None if np.isnan(against) else float(against)))
    return tuple(found)


def beside_rows(
    task: str, candidate: Mapping[TextMetric, Statistic], current: Mapping[TextMetric, Statistic], n: int
) -> tuple[BesideRow, ...]:
    """Return the metrics of one task by two releases on the same texts, with paired intervals.

    Args:
        task: its name.
        candidate: statistics of one release's predictions.
        current: of the other's.
        n: rows.
    """
    draws = _draws(n)
    every: Rows = np.arange(n)
    rows = []
    for metric in candidate:
        first, second = candidate[metric], current[metric]
        values = first(every), second(every)
        # A calibration is best in the middle: of two, neither more nor less is better.
        if metric == "calibration" or np.isnan(values).any():
            continue
        resampled = np.array([(first(drawn), second(drawn)) for drawn in draws])
        rows.append(
            BesideRow(
                metric=metric,
                task=task,
                candidate=_figure(values[0], resampled[:, 0].tolist(), n),
                current=_figure(values[1], resampled[:, 1].tolist(), n),
                difference=_figure(values[0] - values[1], (resampled[:, 0] - resampled[:, 1]).tolist(), n),
            )
        )
    return tuple(rows)


def _draws(n: int) -> list[Rows]:
    """Return resamples of `n` rows, the same ones for every statistic."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, n, n) for _ in range(_RESAMPLES)]


def _figure(value: float, resampled: Sequence[float], n: int) -> Figure:
    """Return the value with its percentile interval; a resample in which it is undefined takes no part."""
    defined = [number for number in resampled if not np.isnan(number)]
    low, high = np.quantile(defined, [0.025, 0.975])
    return Figure(value=value, low=min(float(low), value), high=max(float(high), value), n=n)


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else float("nan")
