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
from features.groups import Groups
from features.schema import ITEM, LABEL, SPLIT, TEXT, TEXT_ID, USER
from features.splits import Bool, TimePlan, held_out_ids, split_texts, study_ids
from features.tables import TRAIN, VALIDATION, Tables
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
        test_texts: texts that no run of a study reads; empty outside studies.
        test: the same of users or items.
    """

    classes: Mapping[str, tuple[str, ...]]
    texts: TextData
    validation_texts: TextData
    train: Mapping[str, pl.DataFrame]
    held_out: Mapping[str, pl.DataFrame]
    test_texts: TextData
    test: Mapping[str, pl.DataFrame]

    def at(self, cut: datetime, plan: TimePlan) -> Mapping[str, pl.DataFrame]:
        """Return the labels of users and items at a cut; an item, whose text never changes, has its own but once."""
        if cut == plan.encoder_validation:
            return self.held_out
        if cut > plan.encoder_validation:
            return self.test
        if cut == plan.encoder_training[0]:
            return self.train
        return {name: frame for name, frame in self.train.items() if ITEM not in frame.columns}


def column_tasks(
    data: Data, tasks: Sequence[TaskSpec], plan: TimePlan, *, study: bool = False, groups: Sequence[str] = ()
) -> ColumnTasks:
    """Read and split the labels of every task whose label is of type column.

    Args:
        data: its texts lie before the release's as-of time.
        tasks: of the workspace.
        plan: no text at or after its oldest ranker cut is read.
        study: leave half of what is held out to a test that no run reads.
        groups: columns of the texts whose values tell groups.

    Raises:
        TaskError: an unknown column, a value that the task can't learn from, or nothing to train on.
        InvalidInputError: an encoder text names the label's column, a task filters items by one that isn't there, or
            every text trains by its split.
    """
    on_text = [task for task in tasks if task.on == "text"]
    on_rows = [task for task in tasks if task.on in _POSITIONS and isinstance(task.label, ColumnLabel)]
    train, held = labelled_parts(on_text, data.tables, plan)
    if SPLIT in train.texts.columns and train.texts.height and held.texts.is_empty():
        raise InvalidInputError(
            f"texts.{SPLIT}: expected labelled texts that stop training, of split {VALIDATION} or without a split (one "
            f"in ten of those is held out), found {train.texts.height} of split {TRAIN} alone"
        )
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
    in_test = study_ids(held.texts[TEXT_ID]) & study
    told = [Groups.of(data.tables.texts, column, "texts") for column in groups]
    row_parts: dict[str, dict[str, pl.DataFrame]] = {"train": {}, "held_out": {}, "test": {}}
    for name, (column, out) in rows.items():
        tests = out & study_ids(column.keys) & study
        for part, chosen in (("train", ~out), ("held_out", out & ~tests), ("test", tests)):
            row_parts[part][name] = _row_part(column, chosen, data, classes)
    return ColumnTasks(
        classes=classes,
        texts=_text_data(on_text, train, classes, told),
        validation_texts=_text_data(on_text, replace(held, texts=held.texts.filter(~in_test)), classes, told),
        test_texts=_text_data(on_text, replace(held, texts=held.texts.filter(in_test)), classes, told),
        train=row_parts["train"],
        held_out=row_parts["held_out"],
        test=row_parts["test"],
    )


def labelled_parts(tasks: Sequence[TaskSpec], tables: Tables, plan: TimePlan) -> tuple[Tables, Tables]:
    """Return the tables with the labelled texts that train, and with those held out."""
    train, held = split_texts(tables.texts.filter(_labelled(tasks, tables)), plan)
    return replace(tables, texts=train), replace(tables, texts=held)


def unlabelled_texts(tasks: Sequence[TaskSpec], tables: Tables, plan: TimePlan) -> list[str]:
    """Return the texts without a label of any of these tasks, from before the plan's oldest ranker cut."""
    if not tasks:
        return []
    return pl.concat(split_texts(tables.texts.filter(~_labelled(tasks, tables)), plan))[TEXT].to_list()


def _labelled(tasks: Sequence[TaskSpec], tables: Tables) -> pl.Expr:
    """Tell which texts carry a label of any of these tasks."""
    labels = [LabelColumn.of(task, tables).values.is_not_null() for task in tasks]
    return pl.any_horizontal(labels) if labels else pl.lit(False)


def _text_data(
    tasks: Sequence[TaskSpec], tables: Tables, classes: Mapping[str, tuple[str, ...]], groups: Sequence[Groups]
) -> TextData:
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
        groups={own.column: own.codes(tables.texts) for own in groups},
    )


def _row_part(column: LabelColumn, chosen: Bool, data: Data, classes: Mapping[str, tuple[str, ...]]) -> pl.DataFrame:
    """Return (position, label) of the labelled users or items among those chosen, bool `[n]`."""
    labels = column.labels(classes)
    known = ~np.isnan(labels) & chosen
    allowed = allowed_items(column.task, data.tables.items) if column.task.on == "item" else None
    if allowed is not None:
        known &= allowed
    positions = np.arange(len(labels), dtype=np.int32)
    return pl.DataFrame({_POSITIONS[column.task.on]: positions[known], LABEL: labels[known]})


def _check_hidden(task: TaskSpec, data: Data) -> None:
    """Refuse a label that stands in the text which is to predict it."""
    assert isinstance(task.label, ColumnLabel)
    template = data.texts.user if task.on == "user" else data.texts.item
    if f"{{{task.label.column}}}" in template:
        raise InvalidInputError(
            f"task {task.name}: expected texts.{task.on} without its label column {task.label.column!r}, "
            f"found {template!r}"
        )
