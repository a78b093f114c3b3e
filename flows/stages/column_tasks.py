"""Labels that stand in columns, as training takes them: of texts, users and items, each split once.

Such a label has no window. Dated texts are split by the plan's times; undated ones, and users and items, by their ids,
so that no row which trains the encoder also stops its training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from features.column_labels import LabelColumn
from features.schema import ITEM, LABEL, TEXT, USER
from features.splits import Bool, TimePlan, held_out_ids, split_texts
from features.tables import Tables
from features.tasks import ColumnLabel, TaskSpec, allowed_items
from flows.stages.data import Data
from infra.errors import InvalidInputError
from retrieval.encoder.data import Tags, TextData

_POSITIONS: Final = {"user": USER, "item": ITEM}
_CLASSIFYING: Final = ("multiclass", "token_tags")


@dataclass(frozen=True, kw_only=True)
class ColumnTasks:
    """What the columns of texts, users and items teach.

    Attributes:
        classes: names by code, of each multiclass and token-tag task.
        texts: training texts.
        validation_texts: those held out.
        train: by task on users or items (user or item i32, label f32), the rows that train.
        held_out: the same of the others.
    """

    classes: Mapping[str, tuple[str, ...]]
    texts: TextData
    validation_texts: TextData
    train: Mapping[str, pl.DataFrame]
    held_out: Mapping[str, pl.DataFrame]

    def at(self, cut: datetime, plan: TimePlan) -> Mapping[str, pl.DataFrame]:
        """Return the labels of users and items at a cut; an item, whose text never changes, has its own but once."""
        if cut == plan.encoder_validation:
            return self.held_out
        if cut == plan.encoder_training[0]:
            return self.train
        return {name: frame for name, frame in self.train.items() if ITEM not in frame.columns}


def column_tasks(data: Data, tasks: Sequence[TaskSpec], plan: TimePlan) -> ColumnTasks:
    """Read and split the labels of every task whose label is of type column.

    Args:
        data: its texts lie before the release's as-of time.
        tasks: of the workspace.
        plan: no text at or after its oldest ranker cut is read.

    Raises:
        TaskError: an unknown column, a value that the task can't learn from, or nothing to train on.
        InvalidInputError: an encoder text names the label's column, or a task filters items by one that isn't there.
    """
    on_text = [task for task in tasks if task.on == "text"]
    on_rows = [task for task in tasks if task.on in _POSITIONS and isinstance(task.label, ColumnLabel)]
    train, held = _labelled_parts(on_text, data.tables, plan)
    columns = {task.name: LabelColumn.of(task, train) for task in on_text}
    rows: dict[str, tuple[LabelColumn, Bool]] = {}
    for task in on_rows:
        _check_hidden(task, data)
        column = LabelColumn.of(task, data.tables)
        rows[task.name] = column, held_out_ids(column.keys)
        columns[task.name] = column.where(~rows[task.name][1])
    for column in columns.values():
        column.require_any()
    classes = {name: column.classes() for name, column in columns.items() if column.task.kind in _CLASSIFYING}
    parts = {name: _row_parts(column, out, data, classes) for name, (column, out) in rows.items()}
    return ColumnTasks(
        classes=classes,
        texts=_text_data(on_text, train, classes),
        validation_texts=_text_data(on_text, held, classes),
        train={name: part for name, (part, _) in parts.items()},
        held_out={name: part for name, (_, part) in parts.items()},
    )


def _labelled_parts(tasks: Sequence[TaskSpec], tables: Tables, plan: TimePlan) -> tuple[Tables, Tables]:
    """Return the tables with the labelled texts that train, and with those held out."""
    labels = [LabelColumn.of(task, tables).values.is_not_null() for task in tasks]
    texts = tables.texts.filter(pl.any_horizontal(labels)) if labels else tables.texts.clear()
    train, held = split_texts(texts, plan)
    return replace(tables, texts=train), replace(tables, texts=held)


def _text_data(tasks: Sequence[TaskSpec], tables: Tables, classes: Mapping[str, tuple[str, ...]]) -> TextData:
    columns = {task.name: LabelColumn.of(task, tables) for task in tasks}
    texts = tables.texts[TEXT]
    tags = {name: own.tags(texts, classes) for name, own in columns.items() if own.task.kind == "token_tags"}
    return TextData(
        texts=texts.to_list(),
        labels={
            name: own.labels(classes)
            for name, own in columns.items()
            if own.task.kind in ("binary", "regression", "multiclass")
        },
        answers={name: own.answers(tables.items) for name, own in columns.items() if own.task.kind == "contrastive"},
        tags={name: Tags(text=own.text, span=own.span, code=own.code) for name, own in tags.items()},
    )


def _row_parts(
    column: LabelColumn, held: Bool, data: Data, classes: Mapping[str, tuple[str, ...]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (position, label) of the labelled users or items that train, and of those held out."""
    labels = column.labels(classes)
    known = ~np.isnan(labels)
    allowed = allowed_items(column.task, data.tables.items) if column.task.on == "item" else None
    if allowed is not None:
        known &= allowed.to_numpy()
    positions = np.arange(len(labels), dtype=np.int32)
    train, out = (
        pl.DataFrame({_POSITIONS[column.task.on]: positions[part], LABEL: labels[part]})
        for part in (known & ~held, known & held)
    )
    return train, out


def _check_hidden(task: TaskSpec, data: Data) -> None:
    """Refuse a label that stands in the text which is to predict it."""
    assert isinstance(task.label, ColumnLabel)
    template = data.texts.user if task.on == "user" else data.texts.item
    if f"{{{task.label.column}}}" in template:
        raise InvalidInputError(
            f"task {task.name}: expected texts.{task.on} without its label column {task.label.column!r}, "
            f"found {template!r}"
        )
