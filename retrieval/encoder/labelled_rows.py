"""Rows with labels of their own: free texts, and items at a cut; how they are drawn, and what a batch gets of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from retrieval.encoder.batch import RowLabels, TagLabels, row_labels
from retrieval.encoder.data import CutData, EncoderTask, Float32, Float64, Int32, TextData
from retrieval.encoder.tokens import Int64, TokenTags, ragged_positions

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledRows:
    """Rows of one view.

    Attributes:
        positions: int64 `[n]` token table position of each.
        labels: by task float32 `[n]`, NaN for none.
        answers: by contrastive task int32 `[n]` item position, -1 for none.
        tags: by token-tag task.
        groups: by column int32 `[n]` codes, -1 for none.
    """

    positions: Int64
    labels: Mapping[str, Float32] = field(default_factory=dict)
    answers: Mapping[str, Int32] = field(default_factory=dict)
    tags: Mapping[str, TokenTags] = field(default_factory=dict)
    groups: Mapping[str, Int32] = field(default_factory=dict)

    @classmethod
    def of_texts(cls, data: TextData, positions: Int64, tags: Mapping[str, TokenTags]) -> LabelledRows:
        """Return free texts with everything that is known of them."""
        return cls(positions=positions, labels=data.labels, answers=data.answers, tags=tags, groups=data.groups)

    @classmethod
    def of_items(
        cls, tasks: Sequence[EncoderTask], cuts: Sequence[CutData], item_texts: Int64, groups: Mapping[str, Int32]
    ) -> LabelledRows:
        """Return a row for each item and cut at which an item task labels it."""
        names = [task.name for task in tasks if task.on == "item"]
        missing = np.full(len(item_texts), np.nan, np.float32)
        stacked = {
            name: np.concatenate([cut.item_labels.get(name, missing) for cut in cuts] or [missing[:0]])
            for name in names
        }
        known = ~np.all([np.isnan(labels) for labels in stacked.values()], axis=0) if names else np.zeros(0, bool)
        return cls(
            positions=np.tile(item_texts, len(cuts))[known] if names else item_texts[:0],
            labels={name: labels[known] for name, labels in stacked.items()},
            groups={name: np.tile(codes, len(cuts))[known] for name, codes in groups.items()} if names else {},
        )

    def members(self) -> list[Bool]:
        """Return which rows each task labels, bool `[n]` each."""
        return [
            *(~np.isnan(labels) for labels in self.labels.values()),
            *(items >= 0 for items in self.answers.values()),
            *(np.diff(tags.starts) > 0 for tags in self.tags.values()),
        ]

    def batch_labels(self, rows: Int64) -> tuple[dict[str, RowLabels], dict[str, TagLabels]]:
        """Return the labels of drawn rows, int64 `[m]`; a task without any has no entry."""
        found = {name: row_labels(labels[rows]) for name, labels in self.labels.items()}
        tags = {name: _tag_labels(own, rows) for name, own in self.tags.items()}
        return (
            {name: labels for name, labels in found.items() if labels is not None},
            {name: labels for name, labels in tags.items() if len(labels.code)},
        )


def space_weights(members: Sequence[Bool], n: int, exponent: float) -> Float64:
    """Return the probability of drawing each row, float64 `[n]`: a task in proportion to n_t^a, then one of its rows.

    A row belongs to a task by its space, never by its labels: a user without positives is drawn like any other.

    Args:
        members: by task bool `[n]`.
        n: rows.
        exponent: a.
    """
    total = np.zeros(n)
    for member in members:
        if member.any():
            total += member * float(member.sum()) ** (exponent - 1)
    if not total.any():
        return np.full(n, 1 / max(1, n))
    weights: Float64 = total / total.sum()
    return weights


def draw_rows(weights: Float64, size: int, rng: np.random.Generator) -> Int64:
    """Return at most `size` distinct rows, int64, by their weights; rows of weight zero are never drawn."""
    size = min(size, int((weights > 0).sum()))
    if size == 0:
        return np.empty(0, np.int64)
    return rng.choice(len(weights), size, replace=False, p=weights)


def _tag_labels(tags: TokenTags, rows: Int64) -> TagLabels:
    lengths = np.diff(tags.starts)[rows]
    spots = ragged_positions(tags.starts[rows], lengths)
    return TagLabels(
        text=torch.from_numpy(np.repeat(np.arange(len(rows)), lengths)),
        token=torch.from_numpy(tags.token[spots]),
        code=torch.from_numpy(tags.code[spots]),
    )
