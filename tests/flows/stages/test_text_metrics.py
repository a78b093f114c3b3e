"""Metrics of texts by hand, their intervals, and what a constant is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from flows.report.texts import METRICS
from flows.stages.text_metrics import (
    UNKNOWN,
    answering,
    beside_rows,
    binary,
    classification,
    figures,
    macro_f1,
    regression,
)

EVERY = np.arange(4)


def values(statistics: dict, rows: np.ndarray = EVERY) -> dict[str, float]:  # type: ignore[type-arg]
    return {metric: statistic(rows) for metric, statistic in statistics.items()}


def test_classes_by_hand() -> None:
    truth = np.array([0, 0, 1, UNKNOWN], np.int32)
    probabilities = np.array([[0.5, 0.5 - 1e-7], [0.2, 0.8], [0.2, 0.8], [0.9, 0.1]], np.float32)
    found = values(classification(truth, probabilities))
    # Predictions 0, 1, 1, 0: right on the first and third; a label that is no class is never right.
    assert found["accuracy"] == 0.5
    # F1 of class 0: 2 x 1 / (2 labels + 2 predictions); of 1: 2 x 1 / (1 + 2); of the unknown one: 0.
    assert found["macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    # The unknown label costs -log 1e-7.
    assert found["log_loss"] == pytest.approx(-(math.log(0.5) + math.log(0.2) + math.log(0.8) + math.log(1e-7)) / 4)


def test_macro_f1_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, predicted = rng.integers(-1, 6, 30), rng.integers(0, 6, 30)
        expected = f1_score(truth, predicted, average="macro", zero_division=0)
        assert macro_f1(truth, predicted) == pytest.approx(expected)


def test_probabilities_by_hand() -> None:
    found = values(binary(np.array([1.0, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])))
    # Of four pairs of a positive and a negative, only .7 < .8 is in the wrong order.
    assert found["auc"] == 0.75
    assert found["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.2) + math.log(0.7) + math.log(0.9)) / 4)
    assert found["calibration"] == pytest.approx(2.5 / 2)
    # Three are said to be 1, two of them rightly; the one that is said to be 0 is one of two.
    assert (found["precision"], found["recall"]) == (pytest.approx(2 / 3), 1.0)
    assert (found["precision_of_0"], found["recall_of_0"]) == (1.0, 0.5)


def test_numbers_by_hand() -> None:
    found = values(regression(np.array([0.0, 0, 2, 2]), np.array([0.0, 1, 2, 4])))
    # Squares 0, 1, 0, 4, of a variance of 1; sizes 0, 1, 0, 2.
    assert found == {"r2": pytest.approx(1 - 1.25), "rmse": pytest.approx(math.sqrt(1.25)), "mae": 0.75}


def test_ranks_by_hand() -> None:
    found = values(answering(np.array([1.0, 2, 8, np.inf])))
    assert found == {"recall_at_1": 0.25, "recall_at_5": 0.5, "mrr": pytest.approx((1 + 1 / 2 + 1 / 8) / 4)}


def test_figures_have_intervals_over_texts_and_a_constants_value() -> None:
    truth = np.array([1.0, 0] * 200)
    sound, constant = binary(truth, np.where(truth > 0, 0.8, 0.3)), binary(truth, np.full(400, 0.5))
    found = {row.metric: row for row in figures(sound, constant, 400)}
    assert tuple(found) == METRICS["binary"]
    assert (found["auc"].figure.value, found["auc"].constant) == (1.0, 0.5)
    loss = found["log_loss"]
    assert loss.constant == pytest.approx(math.log(2))
    low, high = loss.figure.low, loss.figure.high
    assert low is not None
    assert high is not None
    # Losses are -log .8 and -log .7, .0668 from their mean: 1.96 standard errors are 1.96 x .0668 / 20 = .0065.
    assert (high - low) / 2 == pytest.approx(0.0065, rel=0.15)
    assert low < loss.figure.value < high


def test_what_is_undefined_is_left_out() -> None:
    one_class = figures(binary(np.ones(5), np.full(5, 0.9)), None, 5)
    assert {row.metric for row in one_class} == {"log_loss", "calibration", "precision", "recall"}
    assert all(row.constant is None for row in one_class)
    # A resample of two rows is often twice the same one, whose variance is 0: it takes no part.
    few = figures(regression(np.array([0.0, 1]), np.array([0.0, 1])), None, 2)
    assert few[0].figure.value == 1


def test_two_releases_on_the_same_texts_by_hand() -> None:
    """Of eight texts one release errs by 1 and the other by 2, each in every resample."""
    truth = np.zeros(8)
    rows = {
        row.metric: row for row in beside_rows("tone", regression(truth, truth + 1), regression(truth, truth - 2), 8)
    }
    # Labels that are all alike have no variance, so no R2.
    assert set(rows) == {"rmse", "mae"}
    mae = rows["mae"]
    assert (mae.candidate.value, mae.current.value, mae.difference.value) == (1.0, 2.0, -1.0)
    assert (mae.difference.low, mae.difference.high, mae.verdict) == (-1.0, -1.0, "better")


def test_a_calibration_is_not_compared() -> None:
    statistics = binary(np.array([1.0, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]))
    rows = beside_rows("urgent", statistics, statistics, 4)
    assert {row.metric for row in rows} == set(METRICS["binary"]) - {"calibration"}
    assert {row.verdict for row in rows} == {"level"}
