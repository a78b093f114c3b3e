"""Training data is checked once, where it enters: everything behind trusts it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from infra.errors import InvalidInputError, unknown_name

if TYPE_CHECKING:
    from retrieval.encoder.data import CutData, EncoderTask, Float32, Int32, TextData, TrainingData


class TrainingDataError(InvalidInputError):
    """Training data that contradicts itself."""


def check_training_data(data: TrainingData) -> None:
    """Check tasks, cuts and texts against each other.

    Raises:
        TrainingDataError: naming the task, the cut and what was expected.
    """
    n_items = len(data.item_texts)
    if len(data.popularity) != n_items:
        raise TrainingDataError(f"popularity: expected {n_items} values (one an item), found {len(data.popularity)}")
    if (data.validation is None) != (not data.train):
        found = f"{len(data.train)} and {'none' if data.validation is None else 'one'}"
        raise TrainingDataError(f"train: expected at least one training cut and one held out, or no cut, found {found}")
    if not data.train and not len(data.texts.texts):
        raise TrainingDataError("train: expected at least one training cut, or texts, found neither")
    _check_tasks(data.tasks)
    for number, cut in enumerate(data.cuts):
        _check_cut(cut, data.tasks, n_items, f"cut {number}")
    if data.test is not None and not data.train:
        raise TrainingDataError("test: expected no test cut without training cuts, found one")
    parts = {"texts": data.texts, "validation texts": data.validation_texts, "test texts": data.test_texts}
    for name, texts in parts.items():
        _check_texts(texts, data.tasks, n_items, name)
    for column, codes in data.item_groups.items():
        _check_groups(codes, n_items, f"item groups, column {column}")


def _check_tasks(tasks: Sequence[EncoderTask]) -> None:
    names = [task.name for task in tasks]
    if not names or len(set(names)) != len(names):
        raise TrainingDataError(f"tasks: expected distinct names, at least one, found {names}")
    known: dict[str, EncoderTask] = {}
    for task in tasks:
        if task.kind in ("multiclass", "token_tags") and len(task.classes) < 2:
            raise TrainingDataError(f"task {task.name}: expected at least two classes, found {list(task.classes)}")
        if task.parent is not None:
            _check_parent(task, known)
        for name in task.energy:
            _check_energy(task, name, known)
        known[task.name] = task


def _check_parent(task: EncoderTask, known: dict[str, EncoderTask]) -> None:
    if task.parent not in known:
        raise TrainingDataError(f"task {task.name}: parent: {unknown_name('task', str(task.parent), known)}")
    parent = known[task.parent]
    if (task.kind, parent.kind) != ("binary", "binary") or task.on != parent.on:
        raise TrainingDataError(
            f"task {task.name}: expected a binary task whose parent is binary and on the same rows, "
            f"found {task.kind} on {task.on} under {parent.kind} on {parent.on}"
        )


def _check_energy(task: EncoderTask, name: str, known: dict[str, EncoderTask]) -> None:
    if name not in known:
        raise TrainingDataError(f"task {task.name}: energy: {unknown_name('task', name, known)}")
    source = known[name]
    if (task.kind, task.on, source.kind, source.on) != ("binary", "text", "multiclass", "text"):
        raise TrainingDataError(
            f"task {task.name}: energy: expected a binary task on text that reads multiclass tasks on text, "
            f"found {task.kind} on {task.on} that reads {name}: {source.kind} on {source.on}"
        )


def _check_cut(cut: CutData, tasks: Sequence[EncoderTask], n_items: int, where: str) -> None:
    n_users = len(cut.users)
    if len(cut.user_texts) != n_users or n_users == 0:
        raise TrainingDataError(
            f"{where}: expected one text for each of {n_users} users (1 at least), found {len(cut.user_texts)}"
        )
    for column, codes in cut.groups.items():
        _check_groups(codes, n_users, f"{where}, groups, column {column}")
    for task in tasks:
        if task.on == "user":
            _check_labels(cut.user_labels.get(task.name), task, n_users, f"{where}, task {task.name}: user labels")
        elif task.on == "item":
            _check_labels(cut.item_labels.get(task.name), task, n_items, f"{where}, task {task.name}: item labels")
        elif task.on == "pair":
            _check_pairs(cut, task, n_items, f"{where}, task {task.name}")


def _check_groups(codes: Int32, rows: int, where: str) -> None:
    if len(codes) != rows:
        raise TrainingDataError(f"{where}: expected {rows} codes, found {len(codes)}")


def _check_pairs(cut: CutData, task: EncoderTask, n_items: int, where: str) -> None:
    rows = cut.pairs.get(task.name)
    if rows is None:
        return
    if len(rows.item) and not 0 <= int(rows.item.min()) <= int(rows.item.max()) < n_items:
        raise TrainingDataError(
            f"{where}: expected item positions in [0, {n_items}), found {rows.item.min()}..{rows.item.max()}"
        )
    if task.space == "all" and len(cut.universe.get(task.name, ())) != n_items:
        raise TrainingDataError(f"{where}: expected a universe of {n_items} flags for a task that spans all items")


def _check_labels(labels: Float32 | None, task: EncoderTask, rows: int, where: str) -> None:
    """Check the number of labels and, for classes, that each is a code."""
    if labels is None:
        return
    if len(labels) != rows:
        raise TrainingDataError(f"{where}: expected {rows}, found {len(labels)}")
    present = labels[~np.isnan(labels)]
    limit = {"multiclass": len(task.classes), "binary": 2}.get(task.kind)
    if limit is not None and not np.isin(present, np.arange(limit)).all():
        found = f"{present.min()}..{present.max()}"
        raise TrainingDataError(f"{where}: expected whole numbers in [0, {limit}), found {found}")


def _check_texts(data: TextData, tasks: Sequence[EncoderTask], n_items: int, where: str) -> None:
    for column, codes in data.groups.items():
        _check_groups(codes, len(data.texts), f"{where}, groups, column {column}")
    for task in (task for task in tasks if task.on == "text"):
        place = f"{where}, task {task.name}: labels"
        _check_labels(data.labels.get(task.name), task, len(data.texts), place)
        answers = data.answers.get(task.name)
        if answers is not None and len(answers) != len(data.texts):
            raise TrainingDataError(f"{place}: expected {len(data.texts)} answers, found {len(answers)}")
        if answers is not None and len(answers) and not -1 <= answers.min() <= answers.max() < n_items:
            raise TrainingDataError(f"{place}: expected item positions in [0, {n_items}), found {answers.max()}")
        tags = data.tags.get(task.name)
        if tags is not None and len(tags.code) and not 0 <= tags.code.min() <= tags.code.max() < len(task.classes):
            raise TrainingDataError(f"{place}: expected tags in [0, {len(task.classes)}), found {tags.code.max()}")
