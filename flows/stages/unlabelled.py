"""What the encoder trains on where labels are few: texts without any, and tasks that a prompt alone teaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from features.column_labels import LabelColumn
from features.splits import TimePlan
from features.tasks import TaskSpec
from flows.stages.column_tasks import labelled_parts, unlabelled_texts
from flows.stages.data import Data
from flows.stages.encode import encoder_tasks, training_data
from infra.errors import InvalidInputError
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import TrainingData


def encoder_data(
    data: Data, tasks: Sequence[TaskSpec], plan: TimePlan, frames: Mapping[datetime, Path], config: EncoderConfig
) -> TrainingData:
    """Return `training_data`, the texts without any label, and heads for the tasks without any that have a prompt.

    Args:
        data: events and texts before the release's as-of time.
        tasks: of the workspace.
        plan: its encoder cuts; no text at or after the oldest ranker cut is read.
        frames: folder of feature frames by cut.
        config: names columns of groups, and tasks with a prompt.

    Raises:
        TaskError: a label column is unknown, or holds what its task can't learn from.
        InvalidInputError: a task of a kind that has no head; no label, and no two classes named.
    """
    on_text = [task for task in tasks if task.on == "text"]
    classes = _named_classes(on_text, data, plan, config)
    prompted = [task for task in tasks if task.name in classes]
    labelled = [task for task in tasks if task.name not in classes]
    found = training_data(data, labelled, plan, frames, groups=config.group_columns)
    heads = {head.name: head for head in (*found.tasks, *encoder_tasks(prompted, classes))}
    return replace(
        found,
        tasks=tuple(heads[task.name] for task in tasks),
        unlabelled=unlabelled_texts(on_text, data.tables, plan),
    )


def _named_classes(
    tasks: Sequence[TaskSpec], data: Data, plan: TimePlan, config: EncoderConfig
) -> dict[str, tuple[str, ...]]:
    """Return the classes of the tasks with a prompt and without a label: those declared, else those of its words."""
    train, _ = labelled_parts(tasks, data.tables, plan)
    prompts = {name: own.prompt for name, own in config.few_labels.items() if own.prompt is not None}
    found: dict[str, tuple[str, ...]] = {}
    for task in (task for task in tasks if task.name in prompts and task.kind in ("binary", "multiclass")):
        if LabelColumn.of(task, train).values.is_not_null().any():
            continue
        names = () if task.kind == "binary" else task.classes or tuple(sorted(prompts[task.name].words))
        if task.kind == "multiclass" and len(names) < 2:
            raise InvalidInputError(
                f"task {task.name}: expected two classes at least, declared or named by "
                f"encoder.few_labels.{task.name}.prompt.words, because no text has a label; found {list(names)}"
            )
        found[task.name] = names
    return found
