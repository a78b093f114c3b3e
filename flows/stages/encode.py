"""What the encoder trains on, and the vectors it gives: item texts once, user texts as of each cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from features.schema import EVENT, ITEM, TIMESTAMP, USER
from features.splits import TimePlan
from features.tasks import TaskSpec, allowed_items, labels
from features.texts import user_texts
from flows.stages.data import Data, Mask, only_eligible
from flows.stages.frames import frame_path
from infra.errors import InvalidInputError
from retrieval.encoder.data import CutData, EncoderTask, TrainingData, cut_data

_PURCHASES: Final = "user_purchases"

# The kinds of head that training knows; the others are declared, and refused here by name.
_TRAINABLE: Final = (("contrastive", "pair"), ("binary", "pair"), ("binary", "user"))


def encoder_tasks(tasks: Sequence[TaskSpec]) -> tuple[EncoderTask, ...]:
    """Return the heads of the workspace's tasks.

    Raises:
        InvalidInputError: a task of a kind that has no head yet.
    """
    heads = []
    for task in tasks:
        if (task.kind, task.on) not in _TRAINABLE:
            known = ", ".join(f"{kind} on {on}" for kind, on in _TRAINABLE)
            raise InvalidInputError(f"task {task.name}: expected one of {known}; found {task.kind} on {task.on}")
        heads.append(
            EncoderTask(
                name=task.name,
                kind="contrastive" if task.kind == "contrastive" else "binary",
                on="pair" if task.on == "pair" else "user",
                space="all" if task.space.type == "all" else "rows",
            )
        )
    return tuple(heads)


def training_data(
    data: Data, tasks: Sequence[TaskSpec], plan: TimePlan, frames: Mapping[datetime, Path]
) -> TrainingData:
    """Return item texts, user texts and labels of every encoder cut.

    Args:
        data: events before the release's as-of time.
        tasks: of the workspace.
        plan: its encoder cuts; no label at or after the oldest ranker cut is read.
        frames: folder of feature frames by cut.
    """
    newest = plan.encoder_training[0]
    bought = data.events.filter((pl.col(EVENT) == data.features.purchase_event) & (pl.col(TIMESTAMP) < newest))
    return TrainingData(
        tasks=encoder_tasks(tasks),
        item_texts=data.item_texts,
        popularity=np.bincount(bought[ITEM].to_numpy(), minlength=data.n_items).astype(np.float64),
        train=tuple(_cut(data, tasks, cut, plan, frames[cut]) for cut in plan.encoder_training),
        validation=_cut(data, tasks, plan.encoder_validation, plan, frames[plan.encoder_validation]),
    )


def texts_of_users(data: Data, frames: Path) -> tuple[pl.Series, pl.Series]:
    """Return positions (i32) and texts of the users with a purchase before the cut of `frames`, in order."""
    history = pl.read_parquet(frame_path(frames, "user_history"))
    texts = user_texts(data.tables.users, history, data.mentions, data.texts)
    active = pl.read_parquet(frame_path(frames, "user_stats"), columns=[_PURCHASES])[_PURCHASES] > 0
    return history[USER].filter(active), texts.filter(active)


def _cut(data: Data, tasks: Sequence[TaskSpec], cut: datetime, plan: TimePlan, frames: Path) -> CutData:
    users, texts = texts_of_users(data, frames)
    eligible = data.eligible(cut)
    found = {task.name: labels(task, data.events, cut, plan.horizon, data.tables.items) for task in tasks}
    pairs = {task.name: only_eligible(task, found[task.name], eligible) for task in tasks if task.on == "pair"}
    return cut_data(
        users.to_numpy(),
        texts.to_list(),
        pairs=pairs,
        user_labels={task.name: found[task.name] for task in tasks if task.on == "user"},
        universe={task.name: _universe(task, data, eligible) for task in tasks if _spans_all(task)},
    )


def _spans_all(task: TaskSpec) -> bool:
    return task.on == "pair" and task.space.type == "all"


def _universe(task: TaskSpec, data: Data, eligible: Mask) -> Mask:
    allowed = allowed_items(task, data.tables.items)
    return eligible if allowed is None else eligible & allowed.to_numpy()
