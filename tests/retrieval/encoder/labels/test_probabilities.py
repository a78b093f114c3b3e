from __future__ import annotations

import numpy as np
import pytest

from infra.errors import InvalidInputError
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.labels.probabilities import check_probabilities, class_probabilities
from retrieval.encoder.layout import TaskEntry


def _heads() -> Heads:
    entries = (
        TaskEntry(name="topic", kind="multiclass", on="text", classes=("tea", "soap", "bread")),
        TaskEntry(name="urgent", kind="binary", on="text"),
        TaskEntry(name="tone", kind="regression", on="text"),
    )
    one = {"outer": np.array([[np.log(3), 0]], np.float32), "bias": np.zeros(1, np.float32)}
    three = {"outer": np.log(np.array([[2, 1], [1, 1], [1, 1]], np.float32)), "bias": np.zeros(3, np.float32)}
    return Heads({entry.name: entry for entry in entries}, {"topic": three, "urgent": one, "tone": one})


def test_each_class_has_a_column() -> None:
    vectors = np.eye(2, dtype=np.float32)
    # exp of the logits: (2, 1, 1) over 4, and equal ones.
    assert class_probabilities(_heads(), "topic", vectors) == pytest.approx(
        np.array([[1 / 2, 1 / 4, 1 / 4], [1 / 3] * 3])
    )
    # sigmoid(log 3) = 3 / 4, sigmoid(0) = 1 / 2.
    assert class_probabilities(_heads(), "urgent", vectors) == pytest.approx(np.array([[1 / 4, 3 / 4], [1 / 2, 1 / 2]]))


def test_a_number_has_no_classes() -> None:
    with pytest.raises(InvalidInputError, match="task tone: expected a binary or multiclass one, found regression"):
        class_probabilities(_heads(), "tone", np.eye(2, dtype=np.float32))


@pytest.mark.parametrize("bad", [[0.5, 0.6], [-0.1, 1.1], [np.nan, 1.0]])
def test_rows_that_are_no_distribution_are_named(bad: list[float]) -> None:
    check_probabilities(np.array([[0.25, 0.75]], np.float32), 2, "probabilities")
    with pytest.raises(InvalidInputError, match=r"held_out: expected rows .* in row 1"):
        check_probabilities(np.array([[0.25, 0.75], bad], np.float32), 2, "held_out")
    with pytest.raises(InvalidInputError, match=r"expected \[n, 3\] probabilities, found shape \(1, 2\)"):
        check_probabilities(np.array([[0.25, 0.75]], np.float32), 3, "held_out")
