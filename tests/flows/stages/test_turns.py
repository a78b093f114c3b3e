"""Logged turns join the texts: unlabelled or by a person's label, and never into what is measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from features.tables import Tables
from features.tasks import ColumnLabel, TaskSpec
from flows.stages.turns import LoggedTurns, with_turns

T = datetime(2026, 3, 1, tzinfo=UTC)


def task(name: str, kind: str, **values: Any) -> TaskSpec:
    label = ColumnLabel(column=f"{name}_label")
    return TaskSpec.model_validate({"name": name, "kind": kind, "on": "text", "label": label, **values})


TOPIC, ANSWER = task("topic", "multiclass"), task("answer", "contrastive")
ITEMS = pl.DataFrame({"item_id": ["i1", "i2"]})
TEXTS = pl.DataFrame(
    {
        "text_id": ["a", "b", "c", "d"],
        "text": ["Tea?", "Bread!", "soap", "gift"],
        "topic_label": ["tea", "bread", None, None],
        "answer_label": ["i1", None, None, None],
        "split": ["train", "test", "validation", None],
    }
)


def logged(*rows: tuple[str, str | None, str | None], topic: TaskSpec | None = TOPIC) -> LoggedTurns:
    """Turns r0, r1, ... of (text, intent, item), a minute apart."""
    names = [f"r{row}" for row in range(len(rows))]
    times = [T + timedelta(minutes=row) for row in range(len(rows))]
    columns = dict(zip(("text", "intent", "item_id"), map(list, zip(*rows, strict=True)), strict=True))
    schema = {"text": pl.String, "intent": pl.String, "item_id": pl.String}
    frame = pl.DataFrame(columns, schema=schema).with_columns(
        pl.Series("request_id", names), pl.Series("timestamp", times, dtype=pl.Datetime("us", "UTC"))
    )
    return LoggedTurns(turns=frame, intent=topic, answers=ANSWER)


def added(turns: LoggedTurns, texts: pl.DataFrame = TEXTS) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the rows that the turns add, and what was counted by rule."""
    tables, findings = with_turns(Tables(items=ITEMS, texts=texts), turns)
    assert tables.texts.head(texts.height).equals(texts.with_columns(pl.col("topic_label").cast(pl.String)))
    return tables.texts.tail(-texts.height).to_dicts(), {own.rule: own.count for own in findings}


def row(name: str, text: str, topic: str | None = None, answer: str | None = None) -> dict[str, Any]:
    return {"text_id": f"turn-{name}", "text": text, "topic_label": topic, "answer_label": answer, "split": None}


def test_a_turn_is_a_text_with_what_feedback_said_of_it() -> None:
    rows, counts = added(logged(("coffee?", None, None), (" two teas ", "tea", None), ("bake", "bread", "i2")))
    assert rows == [row("r0", "coffee?"), row("r1", "two teas", "tea"), row("r2", "bake", "bread", "i2")]
    assert counts == {"logged_held_out": 0, "logged_unknown_label": 0}


def test_one_text_asked_twice_is_one_row_with_the_latest_labels() -> None:
    rows, _ = added(logged(("coffee?", "tea", "i1"), ("COFFEE", "coffee", None), ("coffee", None, None)))
    assert rows == [row("r0", "coffee?", "coffee", "i1")]


def test_nothing_repeats_a_text_that_is_measured() -> None:
    # "bread" is of the test and "Soap." of validation, however they are spelt.
    rows, counts = added(logged(("bread", "tea", None), ("Soap.", None, None)))
    assert (rows, counts["logged_held_out"]) == ([], 2)


def test_a_known_text_comes_again_with_a_label_alone() -> None:
    assert added(logged(("tea", None, None), ("Gift", None, None), (" ", None, None)))[0] == []
    assert added(logged(("gift", "gift", None)))[0] == [row("r0", "gift", "gift")]


def test_a_turn_that_came_back_by_the_source_is_the_sources() -> None:
    own = TEXTS.with_columns(text_id=pl.Series(["turn-r0", "b", "c", "d"]))
    rows, _ = added(logged(("coffee", "tea", None), ("milk", None, None)), own)
    assert rows == [row("r1", "milk")]


def test_a_label_that_nothing_knows_is_none() -> None:
    declared = task("topic", "multiclass", classes=["tea", "bread"])
    rows, counts = added(logged(("coffee", "coffee", "i9"), ("milk", "tea", "i2"), topic=declared))
    assert rows == [row("r0", "coffee"), row("r1", "milk", "tea", "i2")]
    assert counts["logged_unknown_label"] == 2
    # Without declared classes an intent is one that the release knew.
    assert added(logged(("coffee", "coffee", None)))[0] == [row("r0", "coffee", "coffee")]


def test_labels_of_no_task_are_left_in_the_log() -> None:
    rows, _ = added(LoggedTurns(turns=logged(("coffee", "tea", "i1")).turns, intent=None, answers=None))
    assert rows == [row("r0", "coffee")]


def test_a_turn_is_dated_where_texts_are() -> None:
    dated = TEXTS.with_columns(pl.lit(T).dt.cast_time_unit("us").alias("timestamp")).drop("split")
    ((first, second), _) = added(logged(("coffee", None, None), ("bread", "bread", None)), dated)
    assert (first["timestamp"], second["timestamp"]) == (T, T + timedelta(minutes=1))


@pytest.mark.parametrize("labels", [[1, 2, None, None], [1.5, None, None, None]])
def test_numbers_as_classes_become_their_names(labels: list[Any]) -> None:
    rows, _ = added(logged(("coffee", "3", None)), TEXTS.with_columns(topic_label=pl.Series(labels)))
    assert rows == [row("r0", "coffee", "3")]
