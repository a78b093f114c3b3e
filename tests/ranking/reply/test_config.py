"""The section's names are checked against the tasks, and its templates against what the data knows."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from features.tasks import ColumnLabel, TaskSpec
from infra.errors import InvalidInputError
from ranking.reply.config import Replies, ReplyConfig
from ranking.tags import slot_names

TASKS = tuple(
    TaskSpec.model_validate({"name": name, "kind": kind, "on": "text", "label": ColumnLabel(column=name)})
    for name, kind in (
        ("topic", "multiclass"), ("urgent", "binary"), ("answer", "contrastive"), ("entities", "token_tags"),
    )
)  # fmt: skip
CLASSES = {"topic": ("billing", "delivery"), "entities": ("O", "B-day", "I-day", "B-city")}


def replies(**values: Any) -> Replies:
    section = {"intent": "topic", "slots": "entities", "answers": "answer", **values}
    templates = section.pop("templates", {})
    return ReplyConfig.model_validate(section).replies(templates)


def test_every_line_takes_a_task_of_its_kind() -> None:
    ReplyConfig(intent="topic", in_scope="urgent", answers="answer", slots="entities").check(TASKS)
    for line, name, expected in (
        ("intent", "topics", r"reply\.intent: unknown multiclass task on texts 'topics'; did you mean 'topic'\?"),
        ("in_scope", "topic", r"reply\.in_scope: unknown binary task on texts 'topic'.*known: urgent"),
        ("answers", "urgent", r"reply\.answers: unknown contrastive task on texts 'urgent'.*known: answer"),
        ("slots", "answer", r"reply\.slots: unknown token_tags task on texts 'answer'.*known: entities"),
    ):
        with pytest.raises(InvalidInputError, match=expected):
            ReplyConfig.model_validate({"answers": "answer", line: name}).check(TASKS)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"in_scope": "urgent"}, "expected a task of intents .* or of answers"),
        ({"answers": "answer", "templates": {"billing": "hello"}}, "expected a task of intents .* beside templates"),
        ({"intent": "topic", "templates": {"billing": "{a.b}"}}, "expected plain"),
        ({"intent": "topic", "thresholds": {"intent": 1.5}}, "less than or equal to 1"),
    ],
)
def test_a_section_that_says_too_little_or_nonsense_is_refused(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        ReplyConfig.model_validate(section)


def test_placeholders_are_filled_by_tags_or_by_the_caller() -> None:
    assert slot_names("entities", CLASSES["entities"]) == ("day", "city")
    replies(templates={"billing": "On {day} in {city}: {sum}"}, given=["sum"]).check(CLASSES, ["body"])
    with pytest.raises(
        InvalidInputError, match=r"reply\.templates\.billing: neither .*: unknown slot 'dya'; did you mean 'day'\?"
    ):
        replies(templates={"billing": "On {dya}"}).check(CLASSES, [])
    with pytest.raises(InvalidInputError, match=r"unknown slot 'day'.*known: sum"):
        replies(templates={"billing": "On {day}"}, slots=None, given=["sum"]).check(CLASSES, [])


def test_intents_and_the_passage_column_must_be_there() -> None:
    with pytest.raises(InvalidInputError, match=r"task topic: unknown intent 'biling'; did you mean 'billing'\?"):
        replies(templates={"biling": "hello"}).check(CLASSES, [])
    replies(passage="title").check(CLASSES, [])
    with pytest.raises(InvalidInputError, match=r"reply\.passage: table items: unknown column 'bdy'.*'body'"):
        replies(passage="bdy").check(CLASSES, ["body"])
    # Without passages nobody reads the column.
    replies(passage="bdy", answers=None).check(CLASSES, [])
