from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from features.tasks import TaskError
from flows.build import Build
from infra.errors import InvalidInputError

NOW = datetime(2024, 6, 1, tzinfo=UTC)
DAYS = timedelta(days=1)
TASKS: list[dict[str, Any]] = [
    {"name": "topic", "kind": "multiclass", "on": "text", "label": {"type": "column", "column": "topic"}},
    {"name": "purchase", "kind": "binary", "on": "pair", "label": {"type": "event", "event": "purchase"}},
    {"name": "late", "kind": "binary", "on": "text", "label": {"type": "column", "column": "late"}},
]
PROMPT = {"prompt": {"words": {"tea": ["tea"], "soap": ["soap"]}}, "pseudo": {}}


def _texts(**columns: list[Any]) -> dict[str, list[Any]]:
    """Weeks count back from now: two are the ranker's, the third stops training, the others train."""
    ages = [1, 13, 15, 20, 22, 30, 40]
    return {"text": [f"text {age}" for age in ages], "timestamp": [NOW - age * DAYS for age in ages], **columns}


LATE = [None, 1, None, 0, 1, None, 0]


def test_texts_without_any_label_come_along_but_not_those_of_the_rankers_time(shop: Callable[..., Build]) -> None:
    topic = [None, None, "tea", "tea", "soap", None, "tea"]
    data = shop("shop", _texts(topic=topic, late=LATE), TASKS).training_data()
    assert list(data.texts.texts) == ["text 22", "text 40"]
    assert list(data.validation_texts.texts) == ["text 15", "text 20"]
    # "text 1" has no label either, and lies in the ranker's time.
    assert list(data.unlabelled) == ["text 30"]


def test_a_task_without_a_label_has_the_classes_of_its_prompt(shop: Callable[..., Build]) -> None:
    build = shop("shop", _texts(topic=[None] * 7, late=LATE), TASKS, few_labels={"topic": PROMPT})
    data = build.training_data()
    assert [task.name for task in data.tasks] == ["topic", "purchase", "late"]
    assert data.tasks[0].classes == ("soap", "tea")
    assert list(data.texts.texts) == ["text 22", "text 40"]
    assert "topic" not in data.texts.labels
    np.testing.assert_array_equal(data.texts.labels["late"], [1, 0])
    assert list(data.unlabelled) == ["text 30", "text 15"]


def test_declared_classes_go_before_the_prompts(shop: Callable[..., Build]) -> None:
    tasks = [{**TASKS[0], "classes": ["tea", "soap", "milk"]}, *TASKS[1:]]
    build = shop("shop", _texts(topic=[None] * 7, late=LATE), tasks, few_labels={"topic": PROMPT})
    assert build.training_data().tasks[0].classes == ("tea", "soap", "milk")


def test_labels_go_before_the_prompts_words(shop: Callable[..., Build]) -> None:
    topic = [None, None, None, "tea", "soap", None, "milk"]
    build = shop("shop", _texts(topic=topic, late=LATE), TASKS, few_labels={"topic": PROMPT})
    data = build.training_data()
    assert data.tasks[0].classes == ("milk", "soap")
    np.testing.assert_array_equal(data.texts.labels["topic"], [1, 0])


def test_without_a_prompt_or_its_words_a_label_is_asked_for(shop: Callable[..., Build]) -> None:
    texts = _texts(topic=[None] * 7, late=LATE)
    with pytest.raises(TaskError, match="expected a label of at least one row to train on"):
        shop("one", texts, TASKS).training_data()
    nameless = {"topic": {"prompt": {}, "pseudo": {}}}
    with pytest.raises(InvalidInputError, match=r"task topic: expected two classes .*few_labels\.topic\.prompt\.words"):
        shop("two", texts, TASKS, few_labels=nameless).training_data()
