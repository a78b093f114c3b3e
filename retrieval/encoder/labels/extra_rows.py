"""Pseudo-labels as rows to train on, beside the labelled ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from infra.errors import InvalidInputError
from retrieval.encoder.data import EncoderTask, Float32, Int32, Tags, TextData
from retrieval.encoder.labels.pseudo import PseudoLabels


def extra_rows(texts: Sequence[str], found: PseudoLabels, task: str, tasks: Sequence[EncoderTask]) -> TextData:
    """Return the texts that were given a label, with that label alone.

    Args:
        texts: `[n]` those whose probabilities were judged.
        found: which were taken.
        task: the task that they are labels of.
        tasks: all tasks; the others on texts get no label on these rows.

    Returns:
        A row for each pseudo-label.

    Raises:
        InvalidInputError: the task is no binary or multiclass one on texts.
    """
    own = [each for each in tasks if each.on == "text"]
    if not any(each.name == task and each.kind in ("binary", "multiclass") for each in own):
        fits = [each.name for each in own if each.kind in ("binary", "multiclass")]
        raise InvalidInputError(
            f"task: expected a binary or multiclass one on texts ({', '.join(fits)}), found {task!r}"
        )
    rows = len(found.rows)
    no_units = Tags(text=np.empty(0, np.int32), span=np.empty((0, 2), np.int32), code=np.empty(0, np.int32))
    return TextData(
        texts=[texts[row] for row in found.rows],
        labels={
            each.name: found.codes if each.name == task else _no_labels(rows)
            for each in own
            if each.kind not in ("contrastive", "token_tags")
        },
        answers={each.name: _no_answers(rows) for each in own if each.kind == "contrastive"},
        tags={each.name: no_units for each in own if each.kind == "token_tags"},
    )


def joined(first: TextData, second: TextData) -> TextData:
    """Return the rows of both, in this order; a task or column that one of them lacks has no label on its rows."""
    sizes = len(first.texts), len(second.texts)
    both = (first, second)
    return TextData(
        texts=[*first.texts, *second.texts],
        labels={
            name: np.concatenate([data.labels.get(name, _no_labels(n)) for data, n in zip(both, sizes, strict=True)])
            for name in {**first.labels, **second.labels}
        },
        answers={
            name: np.concatenate([data.answers.get(name, _no_answers(n)) for data, n in zip(both, sizes, strict=True)])
            for name in {**first.answers, **second.answers}
        },
        tags=dict(first.tags)
        | {
            name: _joined_tags(first.tags.get(name), replace(tags, text=tags.text + np.int32(sizes[0])))
            for name, tags in second.tags.items()
        },
        groups={
            name: np.concatenate([data.groups.get(name, _no_groups(n)) for data, n in zip(both, sizes, strict=True)])
            for name in {**first.groups, **second.groups}
        },
    )


def _joined_tags(first: Tags | None, second: Tags) -> Tags:
    if first is None:
        return second
    return Tags(
        text=np.concatenate([first.text, second.text]),
        span=np.concatenate([first.span, second.span]),
        code=np.concatenate([first.code, second.code]),
    )


def _no_labels(rows: int) -> Float32:
    return np.full(rows, np.nan, np.float32)


def _no_answers(rows: int) -> Int32:
    return np.full(rows, -1, np.int32)


def _no_groups(rows: int) -> Int32:
    return np.full(rows, -1, np.int32)
