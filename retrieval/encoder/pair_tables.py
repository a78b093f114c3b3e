"""Labelled pairs of users and items over some cuts: what can be drawn of them, how often, and a batch's labels.

A batch holds far fewer items than a cut, and a user's positives far more often than chance. The logit of a binary task
is therefore shifted in training by log P(item in batch | label 1) / P(item in batch | label 0), as in case-control
studies (King and Zeng, 2001), so that without the shift it stays a probability over the task's whole space.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from retrieval.encoder.batch import PairLabels
from retrieval.encoder.config import BatchConfig
from retrieval.encoder.data import CutData, EncoderTask, Float64
from retrieval.encoder.labelled_rows import space_weights
from retrieval.encoder.rows import Rows
from retrieval.encoder.tokens import Int64

Bool = npt.NDArray[np.bool_]


class PairTables:
    """Every pair task's rows; a row's owner is a user at a cut.

    Args:
        tasks: all heads; those on other rows are ignored, but for the weights of users.
        cuts: where labels come from.
        n_items: items of the catalogue.
        config: sizes of a batch.

    Attributes:
        open: tasks that span every item of a cut's universe.
        listed: tasks whose pairs are listed.
        universe: by open task bool `[cuts, n_items]`.
        cut_of: int64 `[n]` cut of each owner.
        weights: float64 `[n]` probability of drawing each owner.
        pool: positives of all open tasks.
        groups: by column of the users int32 `[n]` code of each owner, -1 for none.
    """

    def __init__(
        self, tasks: Sequence[EncoderTask], cuts: Sequence[CutData], n_items: int, config: BatchConfig
    ) -> None:
        self.n_items, self.config = n_items, config
        sizes = np.array([len(cut.users) for cut in cuts], np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        self.n_owners = int(offsets[-1])
        self.cut_of = np.repeat(np.arange(len(sizes)), sizes)
        pair_tasks = [task for task in tasks if task.on == "pair"]
        self.rows = {task.name: Rows.stack([cut.pairs.get(task.name) for cut in cuts], offsets) for task in pair_tasks}
        self.open = [task for task in pair_tasks if task.space == "all"]
        self.listed = [task for task in pair_tasks if task.space == "rows"]
        missing = np.zeros(n_items, bool)
        self.universe = {
            task.name: np.stack([cut.universe.get(task.name, missing) for cut in cuts])
            for task in self.open
            if len(cuts)
        }
        self.user_labels = {
            task.name: np.concatenate(
                [cut.user_labels.get(task.name, np.full(len(cut.users), np.nan, np.float32)) for cut in cuts]
                or [np.empty(0, np.float32)]
            )
            for task in tasks
            if task.on == "user"
        }
        columns = sorted({column for cut in cuts for column in cut.groups})
        self.groups = {column: np.concatenate([cut.groups[column] for cut in cuts]) for column in columns}
        # A binary task's two labels are drawn alike often; a number has no such halves.
        self.strata = {
            task.name: tuple(
                self.rows[task.name].only(label) if task.kind == "binary" else self.rows[task.name]
                for label in ((0.0, 1.0) if task.kind == "binary" else (0.0,))
            )
            for task in self.listed
        }
        self.pool = self._pool()
        self.weights = space_weights(self._members(), self.n_owners, config.task_exponent)
        self.own = draw_rate(self.pool.counts, config.positives)
        self.own_listed = {
            name: [draw_rate(rows.counts, config.rows) for rows in strata] for name, strata in self.strata.items()
        }

    def _pool(self) -> Rows:
        """Positives of all tasks that span every item, each (owner, item) once."""
        keys = [self.rows[task.name].owner * self.n_items + self.rows[task.name].item for task in self.open]
        merged = np.unique(np.concatenate(keys or [np.empty(0, np.int64)]))
        span = max(1, self.n_items)
        return Rows(merged // span, merged % span, np.ones(len(merged), np.float32), self.n_owners)

    def _members(self) -> list[Bool]:
        members = [np.asarray(flags.any(axis=1))[self.cut_of] for flags in self.universe.values()]
        members += [self.rows[task.name].counts > 0 for task in self.listed]
        return members + [~np.isnan(labels) for labels in self.user_labels.values()]

    def negative_probability(self, popularity: Float64) -> Float64:
        """Half by popularity to the 3/4, half uniform, over items of any open task's universe; float64 `[n_items]`."""
        spans = [flags.any(0) for flags in self.universe.values()]
        allowed = np.logical_or.reduce(spans) if spans else np.zeros(self.n_items, bool)
        if not allowed.any():
            return np.zeros(self.n_items)
        popular = np.where(allowed, np.maximum(popularity, 0.0) ** 0.75, 0.0)
        uniform = allowed / allowed.sum()
        chance: Float64 = 0.5 * popular / popular.sum() + 0.5 * uniform if popular.any() else uniform
        return chance

    def expected_draws(self) -> Float64:
        """Return how often a batch draws each item through its users, float64 `[n_items]`."""
        size = min(self.config.users, self.n_owners)
        expected = size * _through_owners(self.pool, self.weights * self.own, self.n_items)
        for task in self.listed:
            for rows, rate in zip(self.strata[task.name], self.own_listed[task.name], strict=True):
                expected += size * _through_owners(rows, self.weights * rate, self.n_items)
        return expected

    def draw_items(self, owners: Int64, rng: np.random.Generator) -> tuple[Int64, Int64, list[Int64]]:
        """Draw items of owners: (index into `owners` and item) of pooled positives, then the listed tasks' items."""
        own, spots = self.pool.draw(owners, self.config.positives, rng)
        listed = [
            table.item[table.draw(owners, self.config.rows, rng)[1]]
            for task in self.listed
            for table in self.strata[task.name]
        ]
        return own, self.pool.item[spots], listed

    def labels(
        self, owners: Int64, items: Int64, column: Int64, drawn: Bool, text_of: Int64, q: Float64
    ) -> Iterator[tuple[str, PairLabels]]:
        """Yield each pair task's labels; listed tasks first, whose draws also shift open tasks on the same pairs.

        Args:
            owners: int64 `[rows]` drawn.
            items: int64 `[items]` of the batch.
            column: int64 `[n_items]` place of each item in the batch, -1 for none.
            drawn: bool `[rows, items]` positives drawn for their own owner.
            text_of: int64 `[items]` number of each item's text: items of one text are never each other's negatives.
            q: float64 `[n_items]` probability that a batch holds the item.
        """
        shape = drawn.shape
        others, own = q[items][None, :], self.own[owners][:, None]
        listed_shift = np.full(shape, np.nan)
        empty = np.zeros(shape, bool)
        for task in self.listed:
            label, present = _matrix(self.rows[task.name], owners, column, shape)
            shift = np.zeros(shape)
            if task.kind == "binary":
                rate0, rate1 = (rate[owners][:, None] for rate in self.own_listed[task.name])
                pooled = (_matrix(self.pool, owners, column, shape)[0] > 0) & (label > 0)
                joint = 1 - (1 - rate1) * (1 - own) if pooled.sum() * 2 > (label > 0).sum() else rate1
                shift = _shift(others, joint, rate0)
                listed_shift = np.where(present, shift, listed_shift)
            yield task.name, pair_labels(label, present, empty, empty, shift)
        for task in self.open:
            label, listed = _matrix(self.rows[task.name], owners, column, shape)
            present = self.universe[task.name][self.cut_of[owners]][:, items] | listed
            shift = np.where(np.isnan(listed_shift), _shift(others, own, 0.0), listed_shift)
            excluded = ~present | same_text(label > 0, text_of) | (label > 0)
            yield task.name, pair_labels(label, present, drawn & (label > 0), excluded, shift)


def draw_rate(counts: Int64, size: int) -> Float64:
    """Probability that one entry of a row is among `size` drawn from it, float64 `[n_rows]`."""
    return np.minimum(1.0, size / np.maximum(counts, 1))


def same_text(positive: Bool, text_of: Int64) -> Bool:
    """Return bool `[rows, items]`: the item's text is that of one of the row's positives."""
    found = np.zeros((len(positive), int(text_of.max(initial=-1)) + 1), bool)
    row, column = np.nonzero(positive)
    found[row, text_of[column]] = True
    return found[:, text_of]


def pair_labels(
    label: npt.NDArray[np.float32], present: Bool, drawn: Bool, excluded: Bool, shift: Float64
) -> PairLabels:
    """Return arrays `[rows, items]` as tensors."""
    return PairLabels(
        label=torch.from_numpy(label),
        present=torch.from_numpy(present),
        drawn=torch.from_numpy(drawn),
        excluded=torch.from_numpy(excluded),
        shift=torch.from_numpy(np.broadcast_to(shift, label.shape).astype(np.float32)),
    )


def _through_owners(rows: Rows, weights: Float64, n_items: int) -> Float64:
    """Expected draws of each item by one owner drawn, float64 `[n_items]`."""
    return np.bincount(rows.item, weights=weights[rows.owner], minlength=n_items).astype(np.float64)


def _shift(q: Float64, rate1: Float64, rate0: Float64 | float) -> Float64:
    """Return log P(in batch | 1) / P(in batch | 0) for own draw rates by label and the rate q through others."""
    shift: Float64 = np.log((1 - (1 - q) * (1 - rate1)) / (1 - (1 - q) * (1 - rate0)))
    return shift


def _matrix(rows: Rows, batch: Int64, column: Int64, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.float32], Bool]:
    """Scatter the entries of these rows whose item is in the batch: label and presence, each `shape`."""
    owner, spots = rows.take(batch)
    target = column[rows.item[spots]]
    keep = target >= 0
    label, present = np.zeros(shape, np.float32), np.zeros(shape, bool)
    label[owner[keep], target[keep]] = rows.label[spots[keep]]
    present[owner[keep], target[keep]] = True
    return label, present
