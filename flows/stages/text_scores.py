"""How well a release's tasks on texts do on texts that trained nothing, by the runtime that serves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from features.column_labels import LabelColumn
from features.schema import SPLIT, TEXT, TIMESTAMP, Float32, Int32
from features.tables import TEST, Tables
from features.tasks import TaskSpec
from flows.report import ConfusedClasses, Confusion, ReliabilityBin, TextMetric, TextScores
from flows.report.texts import DRAWN_CLASSES, METRICS
from flows.stages import text_metrics
from flows.stages.tag_scores import TagCounts
from flows.stages.task_scores import reliability
from flows.stages.text_metrics import UNKNOWN, Float64, Statistic
from ranking.predictor import Predictor
from retrieval.encoder.head_runtime import Heads

_CONFUSED: Final = 10
# Scores of so many texts against all items at once: 1,000 x 100,000 float32 are 400 MB.
_BLOCK: Final = 1_000


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutTexts:
    """Texts to measure on.

    Attributes:
        tables: with these texts alone.
        rows: which they are, in words.
        vectors: float32 `[n, dim]` of each, by the served encoder.
    """

    tables: Tables
    rows: str
    vectors: Float32

    @classmethod
    def of(cls, tables: Tables, cut: datetime, predictor: Predictor) -> HeldOutTexts | None:
        """Return the texts of split `test`, else those dated at or after the cut; None without either, or a task."""
        if not any(task.on == "text" for task in predictor.tasks):
            return None
        texts, rows = tables.texts.clear(), f"texts of split {TEST}"
        if SPLIT in tables.texts.columns:
            texts = tables.texts.filter(pl.col(SPLIT) == TEST)
        if texts.is_empty() and TIMESTAMP in tables.texts.columns:
            texts, rows = tables.texts.filter(pl.col(TIMESTAMP) >= cut), f"texts from {cut:%Y-%m-%d %H:%M} on"
        if texts.is_empty():
            return None
        vectors = predictor.texts.encode(texts[TEXT].to_list())
        return cls(tables=replace(tables, texts=texts), rows=rows, vectors=vectors)


def text_scores(predictor: Predictor, held: HeldOutTexts, train: Tables) -> tuple[TextScores, ...]:
    """Return the figures of every task on texts that has a label among those held out.

    Args:
        predictor: of the release.
        held: what to measure on.
        train: the texts whose labels a constant predictor is made from.

    Raises:
        TaskError: a label that its task can't have.
    """
    heads = predictor.heads
    assert heads is not None, "every release of a flow has an encoder"
    found = []
    for task in (task for task in predictor.tasks if task.on == "text" and task.kind in METRICS):
        column = LabelColumn.of(task, held.tables)
        labelled = np.asarray(column.values.is_not_null().to_numpy(), bool)
        if labelled.any() and task.name in heads.tasks:
            own = _Task(
                spec=task, column=column.where(labelled), train=LabelColumn.of(task, train), held=held,
                texts=held.tables.texts[TEXT].filter(labelled), train_texts=train.texts[TEXT],
                vectors=held.vectors[labelled], predictor=predictor, heads=heads,
            )  # fmt: skip
            found.append(own.scores())
    return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    """One task, its labelled texts, and what predicts them."""

    spec: TaskSpec
    column: LabelColumn
    train: LabelColumn
    held: HeldOutTexts
    texts: pl.Series
    train_texts: pl.Series
    vectors: Float32
    predictor: Predictor
    heads: Heads

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """The model's classes, by this task's name."""
        return {self.spec.name: self.heads.tasks[self.spec.name].classes}

    def scores(self) -> TextScores:
        """Return the task's figures."""
        if self.spec.kind == "multiclass":
            return self._multiclass()
        if self.spec.kind == "token_tags":
            return self._tags()
        if self.spec.kind == "contrastive":
            ranks, constant = self._ranks(), self._constant_ranks()
            against = None if constant is None else text_metrics.answering(constant)
            return self._scores(text_metrics.answering(ranks), against)
        measure = text_metrics.binary if self.spec.kind == "binary" else text_metrics.regression
        truth = self.column.labels({}).astype(np.float64)
        found = self.heads.row_predictions(self.spec.name, self.vectors).astype(np.float64)
        known = self.train.labels({}).astype(np.float64)
        known = known[~np.isnan(known)]
        constant_of = measure(truth, np.full(len(truth), known.mean())) if len(known) else None
        bins = reliability(truth > 0, found) if self.spec.kind == "binary" else ()
        return self._scores(measure(truth, found), constant_of, bins)

    def _scores(
        self,
        statistics: Mapping[TextMetric, Statistic],
        constant: Mapping[TextMetric, Statistic] | None,
        bins: tuple[ReliabilityBin, ...] = (),
    ) -> TextScores:
        n = len(self.vectors)
        return TextScores(
            task=self.spec.name,
            kind=self.spec.kind,
            rows=self.held.rows,
            n=n,
            figures=text_metrics.figures(statistics, constant, n),
            reliability=bins,
        )

    def _multiclass(self) -> TextScores:
        truth = _codes(self.column, self.classes)
        found = self.heads.row_predictions(self.spec.name, self.vectors)
        known = _codes(self.train, self.classes)
        shares = np.bincount(known[known != UNKNOWN], minlength=found.shape[1]).astype(np.float32)
        constant = None
        if shares.any():
            constant = text_metrics.classification(truth, np.tile(shares / shares.sum(), (len(truth), 1)))
        scores = self._scores(text_metrics.classification(truth, found), constant)
        names = self.column.values.cast(pl.String).to_list()
        confusion, confused = confusions(names, found.argmax(axis=1), self.classes[self.spec.name])
        return scores.model_copy(update={"confusion": confusion, "confused": confused})

    def _tags(self) -> TextScores:
        labels, names = self.column.tags(self.texts, self.classes), self.classes[self.spec.name]
        found = self.predictor.texts.read(self.texts.to_list(), [self.spec.name]).tags[self.spec.name]
        train = self.train.tags(self.train_texts, self.classes)
        constant = TagCounts.constant(labels, found, names, train)
        return self._scores(
            TagCounts.of(labels, found, names).statistics, None if constant is None else constant.statistics
        )

    def _ranks(self) -> Float64:
        """Return the rank of each text's answering item among the eligible ones, float64 `[n]`; inf for none."""
        retriever = self.predictor.retriever
        assert retriever is not None, "a contrastive task on texts needs items"
        members = retriever.snapshot.eligible_positions
        vectors = np.asarray(retriever.item_vectors[members])
        places = _places(self.column.answers(self.held.tables.items), members)
        ranks = np.full(len(places), np.inf)
        for start in range(0, len(places), _BLOCK):
            rows = start + np.flatnonzero(places[start : start + _BLOCK] >= 0)
            ranks[rows] = ranks_of(self.vectors[rows] @ vectors.T, places[rows])
        return ranks

    def _constant_ranks(self) -> Float64 | None:
        """Return the ranks where items stand by how many training texts each answers, ties by position."""
        retriever = self.predictor.retriever
        assert retriever is not None, "a contrastive task on texts needs items"
        members = retriever.snapshot.eligible_positions
        known = _places(self.train.answers(self.held.tables.items), members)
        if not (known >= 0).any():
            return None
        counts = np.bincount(known[known >= 0], minlength=len(members))
        rank = np.empty(len(members))
        rank[np.argsort(-counts, kind="stable")] = np.arange(1, len(members) + 1)
        places = _places(self.column.answers(self.held.tables.items), members)
        return np.where(places >= 0, rank[np.maximum(places, 0)], np.inf)


def ranks_of(scores: Float32, places: Int32) -> Float64:
    """Return the rank from 1 of one item of each row, float64 `[n]`.

    Equal scores share their places' mean: items of one text can't be told apart, and a model that scores all items
    alike must not look perfect.

    Args:
        scores: float32 `[n, items]`.
        places: int32 `[n]`, the item's column.
    """
    own = scores[np.arange(len(scores)), places][:, None]
    ranks: Float64 = (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) + 1) / 2
    return ranks


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


def _codes(column: LabelColumn, classes: Mapping[str, Sequence[str]]) -> Int32:
    """Return int32 `[n]` class codes; `UNKNOWN` for a label that is no class, and for none."""
    return np.nan_to_num(column.labels(classes), nan=UNKNOWN).astype(np.int32)


def _places(positions: Int32, members: Int32) -> Int32:
    """Return the place of each item position among the eligible ones (both int32), -1 where it is not there."""
    if not len(members):
        return np.full(len(positions), -1, np.int32)
    found = np.searchsorted(members, positions).clip(max=len(members) - 1)
    return np.where(members[found] == positions, found, -1).astype(np.int32)
