"""Class probabilities of texts: from trained heads, checked, a column for each class also where there are two."""

from __future__ import annotations

import numpy as np

from infra.errors import InvalidInputError
from retrieval.encoder.data import Float32
from retrieval.encoder.head_runtime import Heads


def class_probabilities(heads: Heads, task: str, vectors: Float32) -> Float32:
    """Return what a head says of each class.

    Args:
        heads: of a trained encoder.
        task: a binary or multiclass task on users, items or texts.
        vectors: float32 `[n, dim]` unit vectors.

    Returns:
        float32 `[n, classes]`, rows of sum 1; a binary task's columns are 0 and 1.

    Raises:
        InvalidInputError: no such task, or one without classes.
    """
    found = heads.row_predictions(task, vectors)
    kind = heads.tasks[task].kind
    if kind not in ("binary", "multiclass"):
        raise InvalidInputError(f"task {task}: expected a binary or multiclass one, found {kind}")
    return np.stack([1 - found, found], axis=1) if kind == "binary" else found


def check_probabilities(probabilities: Float32, classes: int, where: str) -> None:
    """Check the shape of class probabilities, and that each row is a distribution.

    Raises:
        InvalidInputError: naming the argument and the first bad row.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != classes:
        raise InvalidInputError(f"{where}: expected [n, {classes}] probabilities, found shape {probabilities.shape}")
    # Written so that NaN is bad. Thousands of float32 classes add up to 1 within a few 1e-4.
    is_good = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < 1e-3)
    if not is_good.all():
        row = int(np.flatnonzero(~is_good)[0])
        raise InvalidInputError(
            f"{where}: expected rows of numbers from 0 on that add up to 1, "
            f"found {probabilities[row].tolist()} in row {row}"
        )
