"""Joint, user-centric batches: some users at some cuts, some items, and every task's labels between them.

A batch holds far fewer items than a cut, and a user's positives far more often than chance. The logit of a pair task
is therefore shifted in training by log P(item in batch | label 1) / P(item in batch | label 0), as in case-control
studies (King and Zeng, 2001), so that without the shift it stays a probability over the task's whole space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrieval.encoder.config import BatchConfig
from retrieval.encoder.data import CutData, EncoderTask, Float64
from retrieval.encoder.rows import Rows
from retrieval.encoder.tokens import Int64


@dataclass(frozen=True, kw_only=True)
class PairLabels:
    """One pair task's labels in a batch, each `[users, items]`.

    Attributes:
        label: float32.
        present: bool, whether the pair is in the task's space.
        drawn: bool, positives that were drawn for their own user; only contrastive tasks fill it.
        excluded: bool, pairs that are never a contrastive negative; only contrastive tasks fill it.
        shift: float32, added to the logit in training.
    """

    label: Tensor
    present: Tensor
    drawn: Tensor
    excluded: Tensor
    shift: Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step sees.

    Attributes:
        user_texts: int64 `[users]` token table positions.
        item_texts: int64 `[distinct texts]` token table positions.
        item_index: int64 `[items]` into `item_texts`.
        items: int64 `[items]` item positions.
        log_q: float32 `[items]` log probability that a batch holds the item.
        pairs: labels by pair task with at least one present entry.
        users: by user task, labels float32 and presence bool, each `[users]`.
    """

    user_texts: Int64
    item_texts: Int64
    item_index: Tensor
    items: Int64
    log_q: Tensor
    pairs: Mapping[str, PairLabels]
    users: Mapping[str, tuple[Tensor, Tensor]]


class Batcher:
    """Draws batches from one or more cuts.

    Args:
        tasks: heads whose labels a batch carries.
        cuts: where users and labels come from.
        user_texts: token table position of each cut's user texts, int64 `[n_users of the cut]`.
        item_texts: the same of every item, int64 `[n_items]`.
        popularity: float64 `[n_items]`.
        config: sizes.
    """

    def __init__(
        self, tasks: Sequence[EncoderTask], cuts: Sequence[CutData], *, user_texts: Sequence[Int64], item_texts: Int64,
        popularity: Float64, config: BatchConfig,
    ) -> None:  # fmt: skip
        self.tasks, self.cuts, self.config = tuple(tasks), tuple(cuts), config
        self.item_texts, self.user_texts = item_texts, np.concatenate(list(user_texts))
        sizes = np.array([len(cut.users) for cut in cuts])
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        self.cut_of = np.repeat(np.arange(len(sizes)), sizes)
        self.n_items = len(item_texts)
        self.rows = {
            task.name: Rows.stack([cut.pairs.get(task.name) for cut in cuts], offsets)
            for task in tasks
            if task.on == "pair"
        }
        self.open = [task for task in tasks if task.on == "pair" and task.space == "all"]
        self.listed = [task for task in tasks if task.on == "pair" and task.space == "rows"]
        missing = np.zeros(self.n_items, bool)
        self.universe = {
            task.name: np.stack([cut.universe.get(task.name, missing) for cut in cuts]) for task in self.open
        }
        self.user_labels = {
            task.name: np.concatenate(
                [cut.user_labels.get(task.name, np.full(len(cut.users), np.nan, np.float32)) for cut in cuts]
            )
            for task in tasks
            if task.on == "user"
        }
        self.by_label = {
            task.name: (self.rows[task.name].only(0), self.rows[task.name].only(1)) for task in self.listed
        }
        self.pool = self._pool()
        self.row_weights = self._row_weights()
        self._negative = self._negative_probability(popularity)
        self._rates()

    def _pool(self) -> Rows:
        """Positives of all tasks that span every item, each (row, item) once."""
        keys = [self.rows[task.name].owner * self.n_items + self.rows[task.name].item for task in self.open]
        merged = np.unique(np.concatenate(keys or [np.empty(0, np.int64)]))
        return Rows(
            merged // self.n_items, merged % self.n_items, np.ones(len(merged), np.float32), len(self.user_texts)
        )

    def _row_weights(self) -> Float64:
        """Probability of drawing each row: a task in proportion to n^a, then one of its rows.

        A row belongs to a task by its space, never by its labels: a user without positives is drawn like any other.
        """
        members = [np.asarray(flags.any(axis=1))[self.cut_of] for flags in self.universe.values()]
        members += [self.rows[task.name].counts > 0 for task in self.listed]
        members += [~np.isnan(labels) for labels in self.user_labels.values()]
        total = np.zeros(len(self.user_texts))
        for member in members:
            if member.any():
                total += member * float(member.sum()) ** (self.config.task_exponent - 1)
        weights: Float64 = total / total.sum() if total.any() else np.full(len(total), 1 / len(total))
        return weights

    def _negative_probability(self, popularity: Float64) -> Float64:
        """Half by popularity to the 3/4, half uniform, over items of any open task's universe."""
        spans = [flags.any(0) for flags in self.universe.values()]
        allowed = np.logical_or.reduce(spans) if spans else np.zeros(self.n_items, bool)
        if not allowed.any():
            return np.zeros(self.n_items)
        popular = np.where(allowed, np.maximum(popularity, 0.0) ** 0.75, 0.0)
        uniform = allowed / allowed.sum()
        chance: Float64 = 0.5 * popular / popular.sum() + 0.5 * uniform if popular.any() else uniform
        return chance

    def _rates(self) -> None:
        """Probabilities that a batch holds an item: through any user (q), or through its own user's draw."""
        size = min(self.config.users, len(self.user_texts))
        expected = self.config.negatives * self._negative
        self.own = _draw_rate(self.pool.counts, self.config.positives)
        self.own_listed = {}
        expected += size * _through_users(self.pool, self.row_weights * self.own, self.n_items)
        for task in self.listed:
            rates = []
            for rows in self.by_label[task.name]:
                rate = _draw_rate(rows.counts, self.config.rows)
                expected += size * _through_users(rows, self.row_weights * rate, self.n_items)
                rates.append(rate)
            self.own_listed[task.name] = (rates[0], rates[1])
        self.q = np.clip(1 - np.exp(-expected), 1e-9, 1 - 1e-9)

    @property
    def reachable(self) -> npt.NDArray[np.bool_]:
        """Items that a batch can hold, bool `[n_items]`."""
        flags: npt.NDArray[np.bool_] = self.q > 1e-8
        return flags

    def __call__(self, rng: np.random.Generator) -> Batch:
        """Draw one batch."""
        size = min(self.config.users, len(self.user_texts))
        size = min(size, int((self.row_weights > 0).sum()))
        rows = rng.choice(len(self.user_texts), size, replace=False, p=self.row_weights)
        own, spots = self.pool.draw(rows, self.config.positives, rng)
        drawn_items = self.pool.item[spots]
        parts = [drawn_items]
        for task in self.listed:
            for table in self.by_label[task.name]:
                parts.append(table.item[table.draw(rows, self.config.rows, rng)[1]])
        if self._negative.any():
            parts.append(rng.choice(self.n_items, self.config.negatives, p=self._negative))
        items = np.unique(np.concatenate(parts))
        column = np.full(self.n_items, -1, np.int64)
        column[items] = np.arange(len(items))
        drawn = np.zeros((len(rows), len(items)), bool)
        drawn[own, column[drawn_items]] = True
        texts, index = np.unique(self.item_texts[items], return_inverse=True)
        users = {name: torch.from_numpy(labels[rows]) for name, labels in self.user_labels.items()}
        return Batch(
            user_texts=self.user_texts[rows],
            item_texts=texts,
            item_index=torch.from_numpy(index.reshape(-1)),
            items=items,
            log_q=torch.from_numpy(np.log(self.q[items]).astype(np.float32)),
            pairs={
                name: labels
                for name, labels in self._pairs(rows, items, column, drawn, index.reshape(-1))
                if bool(labels.present.any())
            },
            users={
                name: (labels.nan_to_num(), ~labels.isnan())
                for name, labels in users.items()
                if not bool(labels.isnan().all())
            },
        )

    def _pairs(
        self, rows: Int64, items: Int64, column: Int64, drawn: npt.NDArray[np.bool_], index: Int64
    ) -> Iterator[tuple[str, PairLabels]]:
        """Yield each pair task's labels; listed tasks first, whose draws also shift open tasks on the same pairs."""
        shape = drawn.shape
        q, own = self.q[items][None, :], self.own[rows][:, None]
        listed_shift = np.full(shape, np.nan)
        empty = np.zeros(shape, bool)
        for task in self.listed:
            label, present = _matrix(self.rows[task.name], rows, column, shape)
            rate0, rate1 = (rate[rows][:, None] for rate in self.own_listed[task.name])
            pooled = (_matrix(self.pool, rows, column, shape)[0] > 0) & (label > 0)
            joint = 1 - (1 - rate1) * (1 - own) if pooled.sum() * 2 > (label > 0).sum() else rate1
            shift = _shift(q, joint, rate0)
            listed_shift = np.where(present, shift, listed_shift)
            yield task.name, _tensors(label, present, empty, empty, shift)
        for task in self.open:
            label, listed = _matrix(self.rows[task.name], rows, column, shape)
            present = self.universe[task.name][self.cut_of[rows]][:, items] | listed
            shift = np.where(np.isnan(listed_shift), _shift(q, own, 0.0), listed_shift)
            same_text = np.zeros((len(rows), int(index.max()) + 1), bool)
            user, column_of = np.nonzero(label)
            same_text[user, index[column_of]] = True
            excluded = ~present | same_text[:, index] | (label > 0)
            yield task.name, _tensors(label, present, drawn & (label > 0), excluded, shift)


def _draw_rate(counts: Int64, size: int) -> Float64:
    """Probability that one entry of a row is among `size` drawn from it, float64 `[n_rows]`."""
    return np.minimum(1.0, size / np.maximum(counts, 1))


def _through_users(rows: Rows, weights: Float64, n_items: int) -> Float64:
    """Expected draws of each item by one user drawn, float64 `[n_items]`."""
    return np.bincount(rows.item, weights=weights[rows.owner], minlength=n_items).astype(np.float64)


def _shift(q: Float64, rate1: Float64, rate0: Float64 | float) -> Float64:
    """Return log P(in batch | 1) / P(in batch | 0) for own draw rates by label and the rate q through others."""
    shift: Float64 = np.log((1 - (1 - q) * (1 - rate1)) / (1 - (1 - q) * (1 - rate0)))
    return shift


def _matrix(
    rows: Rows, batch: Int64, column: Int64, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Scatter the entries of these rows whose item is in the batch: label and presence, each `shape`."""
    owner, spots = rows.take(batch)
    target = column[rows.item[spots]]
    keep = target >= 0
    label, present = np.zeros(shape, np.float32), np.zeros(shape, bool)
    label[owner[keep], target[keep]] = rows.label[spots[keep]]
    present[owner[keep], target[keep]] = True
    return label, present


def _tensors(
    label: npt.NDArray[np.float32], present: npt.NDArray[np.bool_], drawn: npt.NDArray[np.bool_],
    excluded: npt.NDArray[np.bool_], shift: Float64,
) -> PairLabels:  # fmt: skip
    return PairLabels(
        label=torch.from_numpy(label),
        present=torch.from_numpy(present),
        drawn=torch.from_numpy(drawn),
        excluded=torch.from_numpy(excluded),
        shift=torch.from_numpy(np.broadcast_to(shift, label.shape).astype(np.float32)),
    )
