"""Predictions of single rows: users by their blends and by the encoder's heads, items and texts by heads alone.

A blend's probability is calibrated; a head's is the encoder's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from features.schema import Float32, Int32, UserFeatures
from infra.errors import InvalidInputError, unknown_name
from ranking.contract import ClassPrediction, Prediction, TaskAnswer
from ranking.tags import tags_prediction
from retrieval.encoder.layout import TaskOn

if TYPE_CHECKING:
    from ranking.predictor import Predictor
    from retrieval.encoder.head_runtime import Heads
    from retrieval.encoder.runtime import ReadTexts

# Classes that an answer names; the others' probabilities are left out.
MAX_CLASSES: Final = 5
_FIELDS: Final[dict[TaskOn, str]] = {"user": "user_ids", "item": "item_ids", "text": "texts"}

Answers = dict[str, list[TaskAnswer | None]]


class TaskUnavailableError(InvalidInputError):
    """A prediction was asked of a task that this release does not have for what was asked about."""

    title = "No such task"


def wanted_tasks(predictor: Predictor, release: str, on: TaskOn, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Return the tasks to predict on users, items or texts: those asked for, else all there are.

    Raises:
        TaskUnavailableError: one is not among them, or there are none; names those of every kind of row.
    """
    known = predictor.row_tasks(on)
    if not known:
        others = "; ".join(
            f"{', '.join(predictor.row_tasks(row)) or 'none'} on {row}s ({field})" for row, field in _FIELDS.items()
        )
        raise TaskUnavailableError(
            f"release {release} has no task on {on}s to predict: found {others}; "
            f"{', '.join(predictor.pair_tasks) or 'none'} on pairs of a user and an item (/v1/rank)"
        )
    for task in asked or ():
        if task not in known:
            raise TaskUnavailableError(f"release {release}: {unknown_name(f'{on} task', task, known)}")
    return known if asked is None else tuple(asked)


def of_users(predictor: Predictor, users: Sequence[UserFeatures], tasks: Sequence[str]) -> Answers:
    """Return each task's answers; None where nothing is known of the user, or the release holds no vector of hers."""
    assert predictor.retriever is not None, "a release with tasks on users has users"
    blended = predictor.blended(users, tasks)
    vectors = [predictor.retriever.user_vector(user.user_id) for user in users]
    rows = [row for row, vector in enumerate(vectors) if vector is not None]
    found: Answers = {}
    for task in tasks:
        if task in blended:
            found[task] = [None if np.isnan(value) else float(value) for value in blended[task]]
            continue
        found[task] = [None] * len(users)
        if rows:
            answers = _of_vectors(predictor.heads, task, np.stack([own for own in vectors if own is not None]))
            for row, answer in zip(rows, answers, strict=True):
                found[task][row] = answer
    return found


def of_items(predictor: Predictor, positions: Int32, tasks: Sequence[str]) -> Answers:
    """Return each task's answers for items at int32 `[n]` positions; None for -1 and where a task doesn't apply."""
    assert predictor.retriever is not None, "a release with tasks on items has items"
    vectors = predictor.retriever.item_vectors[positions]
    found: Answers = {}
    for task in tasks:
        allowed = predictor.item_filters[task]
        applies = (positions >= 0) if allowed is None else (positions >= 0) & allowed[positions]
        answers = _of_vectors(predictor.heads, task, vectors)
        found[task] = [answer if own else None for answer, own in zip(answers, applies.tolist(), strict=True)]
    return found


def of_texts(predictor: Predictor, texts: Sequence[str], tasks: Sequence[str]) -> Answers:
    """Return each task's answers, all from one pass of the text encoder.

    Raises:
        EncoderUnavailableError: the release has no text encoder that this version reads.
    """
    assert predictor.heads is not None
    entries = predictor.heads.tasks
    read = predictor.texts.read(texts, [task for task in tasks if entries[task].kind == "token_tags"])
    return of_read_texts(predictor.heads, texts, read, tasks)


def of_read_texts(heads: Heads, texts: Sequence[str], read: ReadTexts, tasks: Sequence[str]) -> Answers:
    """Return each task's answers of texts that the encoder has read, for every tag task among them."""
    entries = heads.tasks
    found: Answers = {}
    for task in tasks:
        if task in read.tags:
            both = zip(texts, read.tags[task], strict=True)
            found[task] = [tags_prediction(text, own, entries[task]) for text, own in both]
        else:
            found[task] = list(_of_vectors(heads, task, read.vectors))
    return found


def by_row(ids: Sequence[str], answers: Answers) -> list[Prediction]:
    """Return the contract's predictions, each with the tasks that have an answer for it."""
    return [
        Prediction(
            id=own, tasks={task: answer for task, column in answers.items() if (answer := column[row]) is not None}
        )
        for row, own in enumerate(ids)
    ]


def _of_vectors(heads: Heads | None, task: str, vectors: Float32) -> Sequence[TaskAnswer]:
    """Return one answer for each of the unit vectors, float32 `[n, dim]`."""
    assert heads is not None
    found = heads.row_predictions(task, vectors)
    if found.ndim == 1:
        numbers: list[float] = found.tolist()
        return numbers
    names = heads.tasks[task].classes
    best = np.argsort(-found, axis=1, kind="stable")[:, :MAX_CLASSES]
    return [
        _class_prediction([names[code] for code in codes], probabilities)
        for codes, probabilities in zip(best.tolist(), np.take_along_axis(found, best, axis=1).tolist(), strict=True)
    ]


def _class_prediction(names: Sequence[str], probabilities: Sequence[float]) -> ClassPrediction:
    return ClassPrediction(
        label=names[0], probability=probabilities[0], probabilities=dict(zip(names, probabilities, strict=True))
    )
