from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from infra.errors import InvalidInputError
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.labels.checks import check_few_labels, classes_of
from retrieval.encoder.labels.config import FewLabelsConfig

TASKS = (
    EncoderTask(name="topic", kind="multiclass", on="text", classes=("tea", "soap", "milk")),
    EncoderTask(name="urgent", kind="binary", on="text"),
    EncoderTask(name="tone", kind="regression", on="text"),
    EncoderTask(name="churn", kind="binary", on="user"),
)


def _config(few_labels: dict[str, Any], **lines: Any) -> EncoderConfig:
    return EncoderConfig.model_validate({"few_labels": few_labels, **lines})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"topci": {"warm_up": {}}}, r"few_labels: unknown task 'topci'; did you mean 'topic'"),
        (
            {"tone": {"warm_up": {}}},
            r"few_labels\.tone: expected .* task on texts \(topic, urgent\), found regression on text",
        ),
        ({"churn": {"pseudo": {}}}, "found binary on user"),
        ({"urgent": {"class_names": {}}}, r"few_labels\.urgent\.class_names: expected a multiclass task, found binary"),
        (
            {"topic": {"pseudo": {"by_class": {"sope": 0.9}}}},
            r"few_labels\.topic\.pseudo\.by_class: unknown class 'sope'; did you mean 'soap'",
        ),
        (
            {"topic": {"prompt": {"words": {"te": ["tea"]}}, "pseudo": {}}},
            r"prompt\.words: unknown class 'te'; did you mean 'tea'",
        ),
        ({"urgent": {"pseudo": {"by_class": {"yes": 0.9}}}}, r"unknown class 'yes' \(known: 0, 1\)"),
    ],
)
def test_entries_that_fit_no_task_are_refused(lines: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_few_labels(_config(lines), TASKS)


def test_a_hidden_layer_has_room_for_the_class_names() -> None:
    lines = {"topic": {"class_names": {}}}
    for hidden in (0, 6):
        check_few_labels(_config(lines, hidden=hidden), TASKS)
    with pytest.raises(InvalidInputError, match="expected hidden 0, or two units for each of 3 classes, found 5"):
        check_few_labels(_config(lines, hidden=5), TASKS)


def test_classes_by_code() -> None:
    assert [classes_of(task) for task in TASKS[:2]] == [("tea", "soap", "milk"), ("0", "1")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({}, "expected one of warm_up, pseudo and class_names, found none"),
        ({"prompt": {}}, "prompt: expected pseudo"),
        ({"psuedo": {}}, "psuedo"),
    ],
)
def test_lines_that_do_nothing_are_refused(lines: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FewLabelsConfig.model_validate(lines)


@pytest.mark.parametrize("line", ["prompt", "warm_up"])
def test_a_start_leaves_no_backbone_to_change(line: str) -> None:
    lines = {line: {}, "pseudo": {}}
    assert _config({"topic": lines}).few_labels["topic"].pseudo is not None
    with pytest.raises(ValidationError, match=rf"few_labels\.topic\.{line}: expected no start"):
        _config({"topic": lines}, start="encoder")
    assert _config({"topic": {"pseudo": {}, "class_names": {}}}, start="encoder").start is not None
