from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from infra.errors import InvalidInputError
from retrieval.encoder.labels.config import PseudoLabelConfig
from retrieval.encoder.labels.pseudo import PseudoLabels, pseudo_labels, thresholds
from retrieval.encoder.labels.report import wilson_lower

CLASSES = ("tea", "soap")
# Row by row the probability of tea.
TEA = [0.97, 0.95, 0.96, 0.94, 0.50, 0.10, 0.02, 0.99]
LABELLED = np.array([False, False, False, False, False, False, False, True])
HELD_OUT = [0.99, 0.96, 0.96, 0.80, 0.01, 0.03]
HELD_OUT_LABELS = np.array([0, 0, 1, 1, 1, np.nan], np.float32)


def _two(tea: list[float]) -> np.ndarray:
    return np.array([[p, 1 - p] for p in tea], np.float32).reshape(-1, 2)


def _take(**settings: object) -> PseudoLabels:
    config = PseudoLabelConfig.model_validate(settings)
    return pseudo_labels(_two(TEA), LABELLED, CLASSES, config, held_out=_two(HELD_OUT), held_out_labels=HELD_OUT_LABELS)


def test_thresholds_by_hand() -> None:
    found = _take(threshold=0.95)
    # Tea: .97, .95 and .96 reach .95, .94 doesn't, .99 has a label. Soap: .98 does, .90 doesn't.
    assert found.rows.tolist() == [0, 1, 2, 6]
    assert found.codes.tolist() == [0, 0, 0, 1]
    assert found.confidence.tolist() == pytest.approx([0.97, 0.95, 0.96, 0.98])
    # Held out: tea .99 and .96 right, .96 wrong, .80 too low; soap .99 right; the last row has no label to compare.
    report = found.report
    assert (report.unlabelled, report.taken) == (7, 4)
    assert (report.held_out.rows, report.held_out.right, report.held_out.share) == (4, 3, 0.75)
    tea, soap = report.classes
    assert (tea.name, tea.above, tea.taken, tea.held_out.rows, tea.held_out.right) == ("tea", 3, 3, 3, 2)
    assert (soap.name, soap.above, soap.taken, soap.held_out.rows, soap.held_out.right) == ("soap", 1, 1, 1, 1)


def test_a_class_may_have_a_threshold_of_its_own() -> None:
    found = _take(threshold=0.95, by_class={"soap": 0.9})
    # 1 - .10 = .90 reaches .90.
    assert found.rows.tolist() == [0, 1, 2, 5, 6]
    assert [entry.threshold for entry in found.report.classes] == [0.95, 0.9]
    with pytest.raises(InvalidInputError, match="by_class: unknown class 'soup'; did you mean 'soap'"):
        _take(by_class={"soup": 0.9})


def test_a_cap_takes_the_most_probable() -> None:
    found = _take(threshold=0.95, cap=2)
    assert found.rows.tolist() == [0, 2, 6]
    assert [(entry.above, entry.taken) for entry in found.report.classes] == [(3, 2), (1, 1)]
    # Among equals the first.
    equal = pseudo_labels(
        _two([0.97] * 4), np.zeros(4, bool), CLASSES, PseudoLabelConfig(cap=2),
        held_out=_two([]), held_out_labels=np.empty(0, np.float32),
    )  # fmt: skip
    assert equal.rows.tolist() == [0, 1]


def test_a_row_with_a_label_is_never_taken() -> None:
    none = pseudo_labels(
        _two(TEA), np.ones(8, bool), CLASSES, PseudoLabelConfig(threshold=0.0),
        held_out=_two(HELD_OUT), held_out_labels=HELD_OUT_LABELS,
    )  # fmt: skip
    assert (len(none.rows), none.report.unlabelled, none.report.taken) == (0, 0, 0)
    assert 7 not in _take(threshold=0.0).rows


def test_flexible_thresholds_by_hand() -> None:
    best = np.array([0] * 6 + [1] * 4)
    top = np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.6, 0.9, 0.9, 0.6, 0.6], np.float32)
    config = PseudoLabelConfig(threshold=0.8, method="flexible", floor=0.1)
    # 5 of class 0 and 2 of class 1 reach .8, 3 reach none: b = 5 / 5 and 2 / 5; .8 x 1 and .8 x .4 / 1.6 = .2.
    assert thresholds(best, top, CLASSES, config) == pytest.approx([0.8, 0.2])
    # A floor holds, and never lifts a threshold above the declared one.
    assert thresholds(best, top, CLASSES, config.model_copy(update={"floor": 0.7})) == pytest.approx([0.8, 0.7])
    assert thresholds(best, top, CLASSES, config.model_copy(update={"floor": 0.9})) == pytest.approx([0.8, 0.8])
    # While most reach none, they are the measure: 1 of class 0 and 1 of class 1 of 10, b = 1 / 8: .8 x .125 / 1.875.
    few = np.full(10, 0.6, np.float32)
    few[[0, 9]] = 0.9
    assert thresholds(best, few, CLASSES, config.model_copy(update={"floor": 0})) == pytest.approx([0.8 / 15] * 2)
    # A class that is never predicted, and no row at all.
    assert thresholds(best[:6], top[:6], CLASSES, config) == pytest.approx([0.8, 0.1])
    assert thresholds(best[:0], top[:0], CLASSES, config) == pytest.approx([0.1, 0.1])


def test_labelled_rows_have_no_say_in_flexible_thresholds() -> None:
    tea = [0.99, 0.99, 0.01, 0.01, 0.01]
    labelled = np.array([False, False, False, True, True])
    found = pseudo_labels(
        _two(tea), labelled, CLASSES, PseudoLabelConfig(threshold=0.9, method="flexible", floor=0.0),
        held_out=_two([]), held_out_labels=np.empty(0, np.float32),
    )  # fmt: skip
    # Two of tea, one of soap: b = 1 and 1 / 2: .9 x .5 / 1.5 = .3.
    assert [entry.threshold for entry in found.report.classes] == pytest.approx([0.9, 0.3])


def test_three_of_three_are_no_proof() -> None:
    # (1 + z2 / 6 - z sqrt(z2 / 36)) / (1 + z2 / 3) = 1 / (1 + z2 / 3) with z2 = 3.8416.
    assert wilson_lower(3, 3) == pytest.approx(1 / (1 + 3.8416 / 3))
    # .5 +- : (.5 + z2 / 200 - 1.96 sqrt(.25 / 100 + z2 / 40,000)) / (1 + z2 / 100).
    half = 1.96 * math.sqrt(0.0025 + 3.8416 / 40_000)
    assert wilson_lower(50, 100) == pytest.approx((0.5 + 3.8416 / 200 - half) / 1.038416)
    assert wilson_lower(0, 0) == wilson_lower(0, 5) == 0.0


def test_nothing_held_out_is_said() -> None:
    found = pseudo_labels(
        _two(TEA), LABELLED, CLASSES, PseudoLabelConfig(),
        held_out=_two([]), held_out_labels=np.empty(0, np.float32),
    )  # fmt: skip
    agreement = found.report.held_out
    assert (agreement.rows, agreement.share, agreement.at_least) == (0, None, 0.0)
    assert '"share":null' in found.report.model_dump_json()


def test_parts_of_different_lengths_are_refused() -> None:
    config, empty = PseudoLabelConfig(), np.empty(0, np.float32)
    with pytest.raises(InvalidInputError, match="labelled: expected a flag for each of 8 rows, found 3"):
        pseudo_labels(_two(TEA), np.zeros(3, bool), CLASSES, config, held_out=_two([]), held_out_labels=empty)
    with pytest.raises(InvalidInputError, match="held_out_labels: expected one for each of 6 rows, found 0"):
        pseudo_labels(_two(TEA), LABELLED, CLASSES, config, held_out=_two(HELD_OUT), held_out_labels=empty)
    with pytest.raises(ValidationError, match="threshold"):
        PseudoLabelConfig(threshold=1.5)
