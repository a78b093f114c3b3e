"""Columns whose groups an option of training reads: whether the data carries them, and a task on their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.encoder.adapt.config import GroupColumn
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.config import Kind
from retrieval.encoder.data import EncoderTask, Int32, TrainingData


def require_groups(column: GroupColumn, data: TrainingData, tasks: Sequence[EncoderTask], where: str) -> None:
    """Check that an option has groups to read and tasks to read them for.

    Args:
        column: whose groups.
        data: of the run.
        tasks: that the option is for.
        where: the option's name, as errors show it.

    Raises:
        AdaptError: the training data carries no groups of the column, or there is no task.
    """
    held: Mapping[Kind, Sequence[Mapping[str, Int32]]] = {
        "user": [cut.groups for cut in data.train],
        "item": [data.item_groups],
        "text": [data.texts.groups],
    }
    if not any(column.column in groups for groups in held[column.on]):
        raise AdaptError(
            f"{where}: expected groups of {column.on} column {column.column!r} in the training data, found none"
        )
    if not tasks:
        found = ", ".join(f"{task.name} ({task.kind} on {task.on})" for task in data.tasks)
        raise AdaptError(f"{where}: expected a task whose rows groups of {column.on}s divide, found {found}")
