"""Signals: what encoder, collaborative filtering and sequence model say about each candidate, one float32 column each.

One function computes them for a training cut and for a request; only the source differs (the models fitted before the
cut, or the release being served). NaN means that the signal does not exist for that pair: a user the matrix
factorisation never saw, an item without a vector. It never means zero.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from features.schema import HISTORY_STATS, Float32, Int32, UserFeatures
from retrieval.encoder.head_runtime import Heads, product_logit
from retrieval.rows import ItemRows, LayeredRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retrieval.collaborative import Collaborative
    from retrieval.sequence.source import SequenceSource

ALS: Final = "als"
KNN: Final = "knn"
COSINE: Final = "cosine"
SEQUENCE: Final = "sequence"
PAIR_HEAD: Final = "head_"
USER_HEAD: Final = "user_head_"

_WEIGHT: Final = HISTORY_STATS.index("decayed_90")


@dataclass(frozen=True)
class SignalSchema:
    """Which columns a release's signals have, in order.

    Attributes:
        pair_tasks: tasks whose head scores a (user, item) pair.
        user_tasks: tasks whose head scores a user; broadcast over the candidates.
        sequence: whether there is a sequence model.
    """

    pair_tasks: tuple[str, ...] = ()
    user_tasks: tuple[str, ...] = ()
    sequence: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Column names: als, knn, cosine, one per pair head, one per user head, sequence."""
        heads = tuple(PAIR_HEAD + task for task in self.pair_tasks)
        users = (USER_HEAD + task for task in self.user_tasks)
        return (ALS, KNN, COSINE, *heads, *users, *((SEQUENCE,) if self.sequence else ()))

    @property
    def user_names(self) -> tuple[str, ...]:
        """The columns that depend on the user alone."""
        return tuple(USER_HEAD + task for task in self.user_tasks)

    @classmethod
    def of(cls, heads: Heads | None, *, sequence: bool = False) -> SignalSchema:
        """Return the columns of an encoder's binary heads; the contrastive head's opinion is the cosine."""
        if heads is None:
            return cls(sequence=sequence)
        entries = [entry for entry in heads.tasks.values() if entry.kind == "binary"]
        return cls(
            pair_tasks=tuple(entry.name for entry in entries if entry.on == "pair"),
            user_tasks=tuple(entry.name for entry in entries if entry.on == "user"),
            sequence=sequence,
        )


@dataclass(frozen=True)
class Signals:
    """Signal columns of n candidates of one user.

    Attributes:
        names: the columns' names, `SignalSchema.names`.
        columns: float32 `[n, len(names)]`; NaN where a signal does not exist.
    """

    names: tuple[str, ...]
    columns: Float32

    def column(self, name: str) -> Float32:
        """Return one column, float32 `[n]`."""
        return self.columns[:, self.names.index(name)]


class HeadSides:
    """An encoder's heads with the item half of every pair head computed once: a request then gathers n short rows.

    Args:
        heads: of the encoder.
        item_vectors: float32 `[n_items, d]` of length one.
    """

    def __init__(self, heads: Heads, item_vectors: Float32) -> None:
        self.heads = heads
        pairs = SignalSchema.of(heads).pair_tasks
        self._sides: dict[str, ItemRows] = {task: heads.item_side(task, item_vectors) for task in pairs}

    def over(self, item_vectors: ItemRows, encoded: Int32) -> HeadSides:
        """Return the same heads over vectors of which those at `encoded` (int32 positions) are new."""
        other = copy.copy(self)
        if len(encoded):
            vectors = item_vectors[encoded]
            other._sides = {
                task: LayeredRows.over(side, encoded, self.heads.item_side(task, vectors))
                for task, side in self._sides.items()
            }
        return other

    def pair_logits(self, task: str, vector: Float32, items: Int32) -> Float32:
        """Return logits float32 `[n]` of a user's vector `[d]` and items at int32 `[n]` positions, parents in them."""
        own = self.heads.side_logits(task, vector, self._sides[task][items])
        parent = self.heads.tasks[task].parent
        return own if parent is None else product_logit(self.pair_logits(parent, vector, items), own)

    def user_logit(self, task: str, vector: Float32) -> np.float32:
        """Return the logit of a user task for one vector `[d]`."""
        return np.float32(self.heads.row_logits(task, vector[None, :])[0])


class SignalSource(Protocol):
    """The fitted parts that signals come from: a loaded release, or the models fitted before a training cut."""

    @property
    def collaborative(self) -> Collaborative | None:
        """The matrix factorisation and the item neighbours, if fitted."""

    @property
    def sides(self) -> HeadSides | None:
        """The encoder's task heads, if there is an encoder."""

    @property
    def sequence(self) -> SequenceSource | None:
        """The sequence model, if there is one."""

    @property
    def item_vectors(self) -> ItemRows:
        """Item vectors, float32 `[n_items, d]`, each of length one."""

    def user_vector(self, user_id: str) -> Float32 | None:
        """Return the user's vector, float32 `[d]` of length one, or None for a user without one."""

    def user_position(self, user_id: str) -> int | None:
        """Return the user's row in the factorisation, or None for a user it never saw."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CutSource:
    """The models fitted before one training cut, as a source of signals.

    Attributes:
        collaborative: fitted on events before the cut.
        sides: heads of the encoder.
        item_vectors: float32 `[n_items, d]`.
        user_vectors: float32 `[n_users, d]` of user texts as of the cut; a row of zeros is a user without a text.
        positions: user id -> row, in the vectors and in the factorisation alike.
        sequence: fitted on events before the cut.
    """

    collaborative: Collaborative | None
    sides: HeadSides | None
    item_vectors: Float32
    user_vectors: Float32
    positions: Mapping[str, int]
    sequence: SequenceSource | None = None

    def user_position(self, user_id: str) -> int | None:
        """Return the user's row, or None."""
        return self.positions.get(user_id)

    def user_vector(self, user_id: str) -> Float32 | None:
        """Return the user's vector, float32 `[d]`, or None."""
        row = self.positions.get(user_id)
        if row is None or row >= len(self.user_vectors) or not self.user_vectors[row].any():
            return None
        vector: Float32 = self.user_vectors[row]
        return vector


def knn_weights(user: UserFeatures) -> Float32:
    """Return the weight of each history item in the neighbour sum: its decayed count, float32 `[len(user.items)]`."""
    return np.ascontiguousarray(user.history[:, _WEIGHT])


def compute_signals(source: SignalSource, schema: SignalSchema, user: UserFeatures, items: Int32) -> Signals:
    """Return every signal of one user's candidates.

    Args:
        source: the fitted parts.
        schema: the columns to fill.
        user: the user's features; her history feeds the neighbour sum.
        items: int32 `[n]` item positions.
    """
    columns = np.full((len(items), len(schema.names)), np.nan, np.float32)
    _fill_collaborative(columns, source, user, items)
    if schema.sequence and source.sequence is not None:
        columns[:, -1] = source.sequence.scores(user, items)
    vector = source.user_vector(user.user_id)
    if vector is not None:
        _fill_encoder(columns, source, schema, vector, items)
    return Signals(schema.names, columns)


def user_logits(source: SignalSource, schema: SignalSchema, user_id: str) -> Float32:
    """Return the user heads' logits, float32 `[len(schema.user_tasks)]`; NaN for a user without a vector."""
    logits = np.full(len(schema.user_tasks), np.nan, np.float32)
    vector = source.user_vector(user_id)
    if vector is not None and source.sides is not None:
        for column, task in enumerate(schema.user_tasks):
            logits[column] = source.sides.user_logit(task, vector)
    return logits


def _fill_collaborative(columns: Float32, source: SignalSource, user: UserFeatures, items: Int32) -> None:
    if source.collaborative is None:
        return
    position = source.user_position(user.user_id)
    if position is not None:
        scores = source.collaborative.als_scores(position, items)
        # A user or an item that the factorisation never saw has a zero vector: an exact zero is no opinion.
        columns[:, 0] = np.where(scores == 0, np.float32(np.nan), scores)
    if len(user.items):
        columns[:, 1] = source.collaborative.knn_scores(user.items, knn_weights(user), items)


def _fill_encoder(columns: Float32, source: SignalSource, schema: SignalSchema, vector: Float32, items: Int32) -> None:
    columns[:, 2] = source.item_vectors[items] @ vector
    if source.sides is None:
        return
    for column, task in enumerate(schema.pair_tasks, start=3):
        columns[:, column] = source.sides.pair_logits(task, vector, items)
    for column, task in enumerate(schema.user_tasks, start=3 + len(schema.pair_tasks)):
        columns[:, column] = source.sides.user_logit(task, vector)
