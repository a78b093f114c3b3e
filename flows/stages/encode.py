"""What the encoder trains on: item texts once, user texts as of each cut, free texts, and every task's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from features.groups import Groups
from features.schema import EVENT, ITEM, TIMESTAMP, USER, Int32
from features.splits import TimePlan
from features.tasks import ColumnLabel, TaskSpec, allowed_items, labels
from features.texts import user_texts
from flows.stages.column_tasks import ColumnTasks, column_tasks
from flows.stages.data import Data, Mask, only_eligible
from flows.stages.frames import frame_path
from infra.errors import InvalidInputError
from retrieval.encoder.data import KINDS, CutData, EncoderTask, TrainingData, cut_data

_PURCHASES: Final = "user_purchases"


def encoder_tasks(tasks: Sequence[TaskSpec], classes: Mapping[str, tuple[str, ...]]) -> tuple[EncoderTask, ...]:
    """Return the heads of the workspace's tasks.

    Args:
        tasks: in order, a parent before its children.
        classes: of each multiclass and token-tag task.

    Raises:
        InvalidInputError: a task of a kind that has no head.
    """
    for task in tasks:
        if task.kind not in KINDS[task.on]:
            known = ", ".join(KINDS[task.on])
            raise InvalidInputError(f"task {task.name}: expected one of {known} on {task.on}, found {task.kind}")
    return tuple(
        EncoderTask(
            name=task.name,
            kind=task.kind,
            on=task.on,
            space="all" if task.on != "pair" or _spans_all(task) else "rows",
            classes=classes.get(task.name, ()),
            parent=task.parent,
            energy=task.energy,
            unit=task.label.unit if isinstance(task.label, ColumnLabel) else "word",
        )
        for task in tasks
    )


def training_data(
    data: Data, tasks: Sequence[TaskSpec], plan: TimePlan, frames: Mapping[datetime, Path], *,
    groups: Mapping[str, Sequence[str]] | None = None, study: bool = False,
) -> TrainingData:  # fmt: skip
    """Return item texts, user texts and labels of every encoder cut, and free texts with theirs.

    Args:
        data: events and texts before the release's as-of time.
        tasks: of the workspace.
        plan: its encoder cuts; no label at or after the oldest ranker cut is read.
        frames: folder of feature frames by cut; a study needs the oldest ranker cut's too. None where every task is on
            texts, which are read at no cut.
        groups: by `user`, `item` or `text` the columns whose values tell groups.
        study: add a test that no run reads: the oldest ranker cut, and half of the column labels held out.

    Raises:
        TaskError: a label column is unknown, or holds what its task can't learn from.
        InvalidInputError: a task of a kind that has no head; a column that makes no groups.
    """
    groups = groups or {}
    columns = column_tasks(data, tasks, plan, study=study, groups=groups.get("text", ()))
    user_groups = _codes(data.tables.users, groups.get("user", ()), "users")

    def at(cut: datetime) -> CutData:
        return _cut(data, tasks, cut, plan, frames[cut], columns, user_groups)

    newest = max(plan.encoder_training, default=plan.encoder_end)
    bought = data.events.filter((pl.col(EVENT) == data.features.purchase_event) & (pl.col(TIMESTAMP) < newest))
    return TrainingData(
        tasks=encoder_tasks(tasks, columns.classes),
        item_texts=data.item_texts,
        popularity=np.bincount(bought[ITEM].to_numpy(), minlength=data.n_items).astype(np.float64),
        train=tuple(at(cut) for cut in plan.encoder_training) if frames else (),
        validation=at(plan.encoder_validation) if frames else None,
        test=at(plan.encoder_end) if study and frames else None,
        texts=columns.texts,
        validation_texts=columns.validation_texts,
        test_texts=columns.test_texts,
        item_groups=_codes(data.tables.items, groups.get("item", ()), "items"),
    )


def texts_of_users(data: Data, frames: Path) -> tuple[pl.Series, pl.Series]:
    """Return positions (i32) and texts of the users with a purchase before the cut of `frames`, in order."""
    history = pl.read_parquet(frame_path(frames, "user_history"))
    texts = user_texts(data.tables.users, history, data.mentions, data.texts)
    active = pl.read_parquet(frame_path(frames, "user_stats"), columns=[_PURCHASES])[_PURCHASES] > 0
    return history[USER].filter(active), texts.filter(active)


def _codes(table: pl.DataFrame, columns: Sequence[str], where: str) -> dict[str, Int32]:
    return {column: Groups.of(table, column, where).codes(table) for column in columns}


def _cut(
    data: Data, tasks: Sequence[TaskSpec], cut: datetime, plan: TimePlan, frames: Path, columns: ColumnTasks,
    groups: Mapping[str, Int32],
) -> CutData:  # fmt: skip
    users, texts = texts_of_users(data, frames)
    eligible = data.eligible(cut)
    found = {
        task.name: labels(task, data.events, cut, plan.horizon, data.tables.items)
        for task in tasks
        if not isinstance(task.label, ColumnLabel)
    }
    found |= columns.at(cut, plan)
    on = {task.name: task.on for task in tasks}
    return cut_data(
        users.to_numpy(),
        texts.to_list(),
        pairs={task.name: only_eligible(task, found[task.name], eligible) for task in tasks if task.on == "pair"},
        user_labels={name: frame for name, frame in found.items() if on[name] == "user"},
        item_labels={name: frame for name, frame in found.items() if on[name] == "item"},
        universe={task.name: _universe(task, data, eligible) for task in tasks if _spans_all(task)},
        n_items=data.n_items,
        groups=groups,
    )


def _spans_all(task: TaskSpec) -> bool:
    """Tell whether every item of the universe without a label is a negative: a number has no such negatives."""
    return task.on == "pair" and task.space.type == "all" and task.kind != "regression"


def _universe(task: TaskSpec, data: Data, eligible: Mask) -> Mask:
    allowed = allowed_items(task, data.tables.items)
    return eligible if allowed is None else eligible & allowed
