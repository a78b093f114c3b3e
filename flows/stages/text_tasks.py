"""What a release says of held-out texts: its predictions of every task on them that has a label, and their metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl

from features.column_labels import LabelColumn, UnitTags
from features.schema import SPLIT, TEXT, TIMESTAMP, Float32, Int32
from features.tables import TEST, Tables
from features.tasks import TaskSpec
from flows.report import TextMetric
from flows.report.texts import METRICS
from flows.stages import text_metrics
from flows.stages.tag_scores import TagCounts
from flows.stages.text_metrics import UNKNOWN, Float64, Statistic
from ranking.predictor import Predictor
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.units import TextTags

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


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTask:
    """One task, its labelled texts, and what predicts them.

    Attributes:
        spec: the task.
        column: labels of `n` texts.
        texts: the same texts.
        vectors: float32 `[n, dim]` of them.
        tables: whose items answer.
        predictor: of the release.
        heads: its heads.
    """

    spec: TaskSpec
    column: LabelColumn
    texts: pl.Series
    vectors: Float32
    tables: Tables
    predictor: Predictor
    heads: Heads

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """The model's classes, by this task's name."""
        return {self.spec.name: self.heads.tasks[self.spec.name].classes}

    @property
    def names(self) -> Sequence[str]:
        """The model's classes."""
        return self.classes[self.spec.name]

    @cached_property
    def predictions(self) -> Float32:
        """What the head says of each text: float32 `[n]`, or `[n, classes]` of a multiclass task."""
        return self.heads.row_predictions(self.spec.name, self.vectors)

    @cached_property
    def truth(self) -> Float64:
        """Labels of a binary task or a regression, float64 `[n]`."""
        return self.column.labels({}).astype(np.float64)

    @cached_property
    def tags(self) -> UnitTags:
        """Labels of a tag task."""
        return self.column.tags(self.texts, self.classes)

    @cached_property
    def said(self) -> Sequence[TextTags]:
        """What a tag task says of each text's units."""
        return self.predictor.texts.read(self.texts.to_list(), [self.spec.name]).tags[self.spec.name]

    @property
    def members(self) -> Int32:
        """Positions of the items among which a contrastive task looks for the answer."""
        retriever = self.predictor.retriever
        assert retriever is not None, "a contrastive task on texts needs items"
        return retriever.snapshot.eligible_positions

    def statistics(self) -> Mapping[TextMetric, Statistic]:
        """Return the metrics of the kind of task, as functions of rows."""
        if self.spec.kind == "multiclass":
            return text_metrics.classification(codes_of(self.column, self.classes), self.predictions)
        if self.spec.kind == "token_tags":
            return TagCounts.of(self.tags, self.said, self.names).statistics
        if self.spec.kind == "contrastive":
            return text_metrics.answering(self._ranks())
        measure = text_metrics.binary if self.spec.kind == "binary" else text_metrics.regression
        return measure(self.truth, self.predictions.astype(np.float64))

    def _ranks(self) -> Float64:
        """Return the rank of each text's answering item among the eligible ones, float64 `[n]`; inf for none."""
        retriever = self.predictor.retriever
        assert retriever is not None, "a contrastive task on texts needs items"
        vectors = np.asarray(retriever.item_vectors[self.members])
        places = places_of(self.column.answers(self.tables.items), self.members)
        ranks = np.full(len(places), np.inf)
        for start in range(0, len(places), _BLOCK):
            rows = start + np.flatnonzero(places[start : start + _BLOCK] >= 0)
            ranks[rows] = ranks_of(self.vectors[rows] @ vectors.T, places[rows])
        return ranks


def labelled_tasks(predictor: Predictor, held: HeldOutTexts) -> Iterator[TextTask]:
    """Yield every task on texts that the release predicts and that has a label among those held out.

    Args:
        predictor: of the release.
        held: what to measure on.

    Raises:
        TaskError: a label that its task can't have.
    """
    heads = predictor.heads
    assert heads is not None, "every release of a flow has an encoder"
    for task in (task for task in predictor.tasks if task.on == "text" and task.kind in METRICS):
        column = LabelColumn.of(task, held.tables)
        labelled = np.asarray(column.values.is_not_null().to_numpy(), bool)
        if labelled.any() and task.name in heads.tasks:
            yield TextTask(
                spec=task, column=column.where(labelled), texts=held.tables.texts[TEXT].filter(labelled),
                vectors=held.vectors[labelled], tables=held.tables, predictor=predictor, heads=heads,
            )  # fmt: skip


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


def codes_of(column: LabelColumn, classes: Mapping[str, Sequence[str]]) -> Int32:
    """Return int32 `[n]` class codes; `UNKNOWN` for a label that is no class, and for none."""
    return np.nan_to_num(column.labels(classes), nan=UNKNOWN).astype(np.int32)


def places_of(positions: Int32, members: Int32) -> Int32:
    """Return the place of each item position among the eligible ones (both int32), -1 where it is not there."""
    if not len(members):
        return np.full(len(positions), -1, np.int32)
    found = np.searchsorted(members, positions).clip(max=len(members) - 1)
    return np.where(members[found] == positions, found, -1).astype(np.int32)
