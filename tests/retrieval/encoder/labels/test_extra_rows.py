from __future__ import annotations

import numpy as np
import pytest

from infra.errors import InvalidInputError
from retrieval.encoder.data import TextData, TrainingData
from retrieval.encoder.labels.config import PseudoLabelConfig
from retrieval.encoder.labels.extra_rows import extra_rows, joined
from retrieval.encoder.labels.pseudo import PseudoLabels, pseudo_labels


@pytest.fixture
def found() -> PseudoLabels:
    """Rows 0 and 2 of three are taken, as topics 1 and 3."""
    probabilities = np.array([[0, 1, 0, 0], [0.4, 0.6, 0, 0], [0, 0, 0, 1]], np.float32)
    return pseudo_labels(
        probabilities, np.zeros(3, bool), ("tea", "coffee", "bread", "soap"), PseudoLabelConfig(),
        held_out=probabilities[:0], held_out_labels=np.empty(0, np.float32),
    )  # fmt: skip


def test_extra_rows_carry_one_label_alone(full_world: TrainingData, found: PseudoLabels) -> None:
    extra = extra_rows(["my coffee", "what", "the soap"], found, "topic", full_world.tasks)
    assert list(extra.texts) == ["my coffee", "the soap"]
    assert extra.labels["topic"].tolist() == [1, 3]
    assert np.isnan(extra.labels["urgent"]).all()
    assert np.isnan(extra.labels["tone"]).all()
    assert extra.answers["answer"].tolist() == [-1, -1]
    assert len(extra.tags["slots"].code) == 0
    assert set(extra.labels) == {"topic", "urgent", "tone"}


def test_joined_rows_are_training_data(full_world: TrainingData, found: PseudoLabels) -> None:
    extra = extra_rows(["my coffee", "what", "the soap"], found, "topic", full_world.tasks)
    first, n = full_world.texts, len(full_world.texts.texts)
    both = joined(first, extra)
    data = TrainingData(tasks=full_world.tasks, item_texts=full_world.item_texts,
                        popularity=full_world.popularity, train=full_world.train, validation=full_world.validation,
                        texts=both)  # fmt: skip
    assert len(data.texts.texts) == n + 2
    for name, labels in first.labels.items():
        assert np.array_equal(both.labels[name], [*labels, *extra.labels[name]], equal_nan=True)
    assert both.answers["answer"].tolist() == [*first.answers["answer"], -1, -1]
    assert np.array_equal(both.tags["slots"].text, first.tags["slots"].text)
    # The other way round every tag moves with its text.
    turned = joined(extra, first)
    assert np.array_equal(turned.tags["slots"].text, first.tags["slots"].text + 2)
    assert turned.tags["slots"].text.dtype == np.int32


def test_a_task_that_one_part_lacks_has_no_label_there() -> None:
    one = TextData(texts=["a"], labels={"topic": np.array([1], np.float32)})
    two = TextData(texts=["b", "c"], answers={"answer": np.array([3, -1], np.int32)})
    both = joined(one, two)
    assert np.array_equal(both.labels["topic"], [1, np.nan, np.nan], equal_nan=True)
    assert both.answers["answer"].tolist() == [-1, 3, -1]


def test_rows_without_a_group_say_so() -> None:
    one = TextData(texts=["a"], groups={"channel": np.array([2], np.int32)})
    two = TextData(texts=["b", "c"], groups={"country": np.array([0, 1], np.int32)})
    both = joined(one, two)
    assert both.groups["channel"].tolist() == [2, -1, -1]
    assert both.groups["country"].tolist() == [-1, 0, 1]
    assert both.groups["channel"].dtype == np.int32


@pytest.mark.parametrize("task", ["tone", "slots", "churn", "nothing"])
def test_a_task_without_classes_on_texts_is_refused(full_world: TrainingData, found: PseudoLabels, task: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"on texts \(topic, urgent\), found '{task}'"):
        extra_rows(["a", "b", "c"], found, task, full_world.tasks)
