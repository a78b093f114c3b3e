"""What the `monitor` section accepts, alone and beside the workspace's tasks."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from features.tasks import TaskSpec
from flows.monitor.config import MonitorConfig
from infra.errors import InvalidInputError

TASKS = [
    TaskSpec.model_validate({"on": "text", "label": {"type": "column", "column": "x"}, **task})
    for task in (
        {"name": "tone", "kind": "multiclass", "classes": ("bad", "good")},
        {"name": "feeling", "kind": "regression"},
        {"name": "urgent", "kind": "binary"},
        {"name": "slots", "kind": "token_tags"},
    )
]


def config(**lines: Any) -> MonitorConfig:
    return MonitorConfig.model_validate(lines)


@pytest.mark.parametrize(
    "lines",
    [
        {"task": "tone", "negative": ["bad"], "by": ["firm", "tone"]},
        {"task": "feeling", "below": -0.2},
        {"task": "urgent", "above": 0.5},
    ],
)
def test_each_kind_of_task_has_its_rule(lines: dict[str, Any]) -> None:
    config(**lines).check(TASKS)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"task": "tnoe", "negative": ["bad"]}, "section monitor: task: .*did you mean 'tone'"),
        ({"task": "tone", "negative": ["bda"]}, "section monitor: negative: .*did you mean 'bad'"),
        ({"task": "tone", "below": 0}, "expected task tone to be regression or binary, found multiclass"),
        ({"task": "feeling", "negative": ["bad"]}, "expected task feeling to be multiclass, found regression"),
        ({"task": "tone", "negative": ["bad"], "by": ["slots"]}, "by: expected .* found slots: token_tags"),
    ],
)
def test_a_rule_must_fit_its_task(lines: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        config(**lines).check(TASKS)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({}, "exactly one of negative, below and above, found none"),
        ({"negative": ["bad"], "above": 1}, "found negative and above"),
        ({"above": 1, "by": ["firm", "firm"]}, "expected unique names, found firm, firm"),
        ({"above": 1, "history_days": 7}, "adapt_hours: expected fewer than the 168 hours of the history, found 168"),
        ({"above": 1, "bucket_hours": 5}, "Input should be 1, 2, 3, 4, 6, 8, 12 or 24"),
        ({"above": 1, "webhook": "http://x"}, "Extra inputs are not permitted"),
    ],
)
def test_a_contradiction_is_named(lines: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(task="tone", **lines)


def test_lengths_in_buckets_round_up() -> None:
    own = config(
        task="urgent", above=0.5, bucket_hours=8, history_days=14, cool_down_hours=20, adapt_hours=9, rhythm="week"
    )
    # 14 x 24 / 8; 20 / 8 and 9 / 8 rounded up; 7 x 24 / 8.
    assert (own.history, own.cool_down, own.adapt, own.places) == (42, 3, 2, 21)
    assert config(task="urgent", above=0.5, bucket_hours=24, rhythm="day").places == 1
