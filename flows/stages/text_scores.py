"""How well a release's tasks on texts do on texts that trained nothing, by the runtime that serves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from features.column_labels import LabelColumn
from features.schema import TEXT
from features.tables import Tables
from flows.report import ConfusedClasses, Confusion, TextMetric, TextScores
from flows.report.texts import DRAWN_CLASSES
from flows.stages import text_metrics
from flows.stages.tag_scores import TagCounts
from flows.stages.task_scores import reliability
from flows.stages.text_metrics import UNKNOWN, Float64, Statistic
from flows.stages.text_tasks import HeldOutTexts, TextTask, codes_of, labelled_tasks, places_of
from ranking.predictor import Predictor

_CONFUSED: Final = 10


def text_scores(predictor: Predictor, held: HeldOutTexts, train: Tables) -> tuple[TextScores, ...]:
    """Return the figures of every task on texts that has a label among those held out.

    Args:
        predictor: of the release.
        held: what to measure on.
        train: the texts whose labels a constant predictor is made from.

    Raises:
        TaskError: a label that its task can't have.
    """
    return tuple(
        _Scored(task, LabelColumn.of(task.spec, train), train.texts[TEXT]).scores(held.rows)
        for task in labelled_tasks(predictor, held)
    )


@dataclass(frozen=True, eq=False)
class _Scored:
    """A task, and the training labels that a constant predictor reads."""

    task: TextTask
    train: LabelColumn
    train_texts: pl.Series

    def scores(self, rows: str) -> TextScores:
        """Return the task's figures; `rows` says which texts they are of."""
        task, n = self.task, len(self.task.vectors)
        scores = TextScores(
            task=task.spec.name,
            kind=task.spec.kind,
            rows=rows,
            n=n,
            figures=text_metrics.figures(task.statistics(), self._constant(), n),
        )
        if task.spec.kind == "binary":
            bins = reliability(task.truth > 0, task.predictions.astype(np.float64))
            return scores.model_copy(update={"reliability": bins})
        if task.spec.kind == "multiclass":
            labels = task.column.values.cast(pl.String).to_list()
            confusion, confused = confusions(labels, task.predictions.argmax(axis=1), task.names)
            return scores.model_copy(update={"confusion": confusion, "confused": confused})
        return scores

    def _constant(self) -> Mapping[TextMetric, Statistic] | None:
        """Return the metrics of the best constant of the training labels; None without any."""
        kind = self.task.spec.kind
        if kind == "multiclass":
            return self._frequent_classes()
        if kind == "token_tags":
            train = self.train.tags(self.train_texts, self.task.classes)
            counts = TagCounts.constant(self.task.tags, self.task.said, self.task.names, train)
            return None if counts is None else counts.statistics
        if kind == "contrastive":
            ranks = self._frequent_answers()
            return None if ranks is None else text_metrics.answering(ranks)
        measure = text_metrics.binary if kind == "binary" else text_metrics.regression
        known = self.train.labels({}).astype(np.float64)
        known = known[~np.isnan(known)]
        return measure(self.task.truth, np.full(len(self.task.truth), known.mean())) if len(known) else None

    def _frequent_classes(self) -> Mapping[TextMetric, Statistic] | None:
        truth, known = codes_of(self.task.column, self.task.classes), codes_of(self.train, self.task.classes)
        counts = np.bincount(known[known != UNKNOWN], minlength=self.task.predictions.shape[1]).astype(np.float32)
        if not counts.any():
            return None
        return text_metrics.classification(truth, np.tile(counts / counts.sum(), (len(truth), 1)))

    def _frequent_answers(self) -> Float64 | None:
        """Return the ranks where items stand by how many training texts each answers, ties by position."""
        members, items = self.task.members, self.task.tables.items
        known = places_of(self.train.answers(items), members)
        if not (known >= 0).any():
            return None
        counts = np.bincount(known[known >= 0], minlength=len(members))
        rank = np.empty(len(members))
        rank[np.argsort(-counts, kind="stable")] = np.arange(1, len(members) + 1)
        places = places_of(self.task.column.answers(items), members)
        return np.where(places >= 0, rank[np.maximum(places, 0)], np.inf)


def confusions(
    labels: Sequence[str], predicted: np.ndarray, classes: Sequence[str]
) -> tuple[Confusion | None, tuple[ConfusedClasses, ...]]:
    """Return the counts by label and prediction where there are few classes, and the most frequent confusions.

    Args:
        labels: `[n]` names; one that is no class has a row of its own.
        predicted: int `[n]` class codes.
        classes: the model's.
    """
    names = [*classes, *sorted(set(labels) - set(classes))]
    place = {name: code for code, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (np.array([place[name] for name in labels]), predicted), 1)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    worst = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSED]
    confused = tuple(
        ConfusedClasses(
            label=names[row], predicted=names[column], n=int(wrong[row, column]),
            share=float(wrong[row, column] / counts[row].sum()),
        )
        for row, column in zip(*(axis.tolist() for axis in np.unravel_index(worst, wrong.shape)), strict=True)
        if wrong[row, column]
    )  # fmt: skip
    if len(names) > DRAWN_CLASSES:
        return None, confused
    return Confusion(classes=tuple(names), counts=tuple(map(tuple, counts.tolist()))), confused
