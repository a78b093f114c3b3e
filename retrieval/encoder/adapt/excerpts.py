"""Parts of a batch: what some of its tasks read, or some of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from retrieval.encoder.batch import Batch, PairLabels, RowLabels, TagLabels, View
from retrieval.encoder.config import Kind
from retrieval.encoder.data import EncoderTask

# Where the labels on users, items and texts stand.
VIEW_OF: Mapping[Kind, View] = {"user": "user", "item": "item_row", "text": "text"}


def row_view(task: EncoderTask) -> View:
    """Return the view whose rows carry a task's labels; of a task on pairs, the user's side."""
    return "user" if task.on == "pair" else VIEW_OF[task.on]


def of_tasks(batch: Batch, tasks: Sequence[EncoderTask]) -> Batch:
    """Return a batch with the labels of these tasks alone, and no rows but those of the views that they read."""
    names = {task.name for task in tasks}
    read = {row_view(task) for task in tasks}
    if any(task.on == "pair" or task.kind == "contrastive" for task in tasks):
        read.add("item")
    return replace(
        batch,
        views={view: rows if view in read else rows[:0] for view, rows in batch.views.items()},
        pairs={name: own for name, own in batch.pairs.items() if name in names},
        rows={name: own for name, own in batch.rows.items() if name in names},
        tags={name: own for name, own in batch.tags.items() if name in names},
        groups={view: own for view, own in batch.groups.items() if view in read},
    )


def of_rows(batch: Batch, view: View, chosen: Tensor) -> Batch:
    """Return a batch with some rows of a view, which carry all of its labels.

    Args:
        batch: of tasks with the same `row_view`.
        view: that one.
        chosen: bool `[rows]`.
    """
    kept, place = chosen.nonzero().squeeze(1), chosen.cumsum(0) - 1
    own = batch.groups.get(view, {})
    return replace(
        batch,
        views={**batch.views, view: batch.views[view][np.asarray(chosen)]},
        pairs={name: pair_rows(labels, kept) for name, labels in batch.pairs.items()},
        rows={
            name: RowLabels(label=labels.label[kept], present=labels.present[kept])
            for name, labels in batch.rows.items()
        },
        tags={name: _tags(labels, chosen, place) for name, labels in batch.tags.items()},
        groups={**batch.groups, view: {column: codes[kept] for column, codes in own.items()}},
    )


def pair_rows(labels: PairLabels, rows: Tensor) -> PairLabels:
    """Return the labels of these rows, int64 `[n]`, in their order."""
    return PairLabels(
        label=labels.label[rows],
        present=labels.present[rows],
        drawn=labels.drawn[rows],
        excluded=labels.excluded[rows],
        shift=labels.shift[rows],
    )


def _tags(labels: TagLabels, chosen: Tensor, place: Tensor) -> TagLabels:
    held = chosen[labels.text]
    return TagLabels(text=place[labels.text[held]], token=labels.token[held], code=labels.code[held])


def labelled(batch: Batch, tasks: Sequence[EncoderTask], *, tokens: bool) -> list[EncoderTask]:
    """Return the tasks that have a loss on the batch.

    Args:
        batch: any.
        tasks: which.
        tokens: whether states of tokens are at hand, without which their tags can't be learnt.
    """
    return [task for task in tasks if _has_loss(batch, task, tokens=tokens)]


def _has_loss(batch: Batch, task: EncoderTask, *, tokens: bool) -> bool:
    if task.name in batch.tags:
        return tokens and len(batch.tags[task.name].code) > 0
    labels = batch.labels(task.name)
    if labels is None:
        return False
    return bool(
        (labels.drawn if isinstance(labels, PairLabels) and task.kind == "contrastive" else labels.present).any()
    )
