"""What one training step sees: texts by view, and every task's labels between or on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrieval.encoder.tokens import Int64

# Whose texts a row of the batch is: a user's, an item's that pairs speak of, an item's with a label of its own, a free
# text. The two item views are apart because their items are drawn for different reasons.
View = Literal["user", "item", "item_row", "text"]


@dataclass(frozen=True, kw_only=True)
class PairLabels:
    """One pair task's labels, each `[rows, items]`; a row is a user, or a text that an item answers.

    Attributes:
        label: float32.
        present: bool, whether the pair carries a label.
        drawn: bool, positives that were drawn for their own row; only contrastive tasks fill it.
        excluded: bool, pairs that are never a contrastive negative; only contrastive tasks fill it.
        shift: float32, added to a binary task's logit in training.
    """

    label: Tensor
    present: Tensor
    drawn: Tensor
    excluded: Tensor
    shift: Tensor


@dataclass(frozen=True, kw_only=True)
class RowLabels:
    """One task's labels on the rows of a view.

    Attributes:
        label: float32 `[rows]`: 0 or 1, a number, or a class's code.
        present: bool `[rows]`.
    """

    label: Tensor
    present: Tensor


@dataclass(frozen=True, kw_only=True)
class TagLabels:
    """Tags on tokens of the view `text`: only a unit's first token carries one.

    Attributes:
        text: int64 `[units]` row of the view.
        token: int64 `[units]` position in that text.
        code: int64 `[units]`.
    """

    text: Tensor
    token: Tensor
    code: Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step sees; a task without any label has no entry anywhere.

    Attributes:
        views: int64 token table positions of each view's rows; equal ones are encoded once.
        items: int64 `[items]` item positions of the view `item`.
        log_q: float32 `[items]` log probability that a batch holds the item.
        pairs: by pair task, and by contrastive task on texts.
        rows: by task on users, items or texts.
        tags: by token-tag task.
        groups: by view and column int64 `[rows of the view]` code of the row's value; -1 where it has none.
    """

    views: Mapping[View, Int64]
    items: Int64
    log_q: Tensor
    pairs: Mapping[str, PairLabels] = field(default_factory=dict)
    rows: Mapping[str, RowLabels] = field(default_factory=dict)
    tags: Mapping[str, TagLabels] = field(default_factory=dict)
    groups: Mapping[View, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def texts(self) -> Int64:
        """Distinct token table positions of all views, ascending."""
        return np.unique(np.concatenate(list(self.views.values())))

    def labels(self, task: str) -> PairLabels | RowLabels | None:
        """Return a task's labels on pairs or on the rows of its view; None where the batch has none."""
        return self.pairs.get(task) or self.rows.get(task)

    @property
    def tagged(self) -> Int64:
        """Token table positions of the texts that carry tags, with repeats."""
        rows = [self.views["text"][tags.text.numpy()] for tags in self.tags.values()]
        return np.concatenate([*rows, np.empty(0, np.int64)])


def row_labels(labels: npt.NDArray[np.float32]) -> RowLabels | None:
    """Return labels of rows, float32 `[rows]` with NaN for none; None where no row has one."""
    found = torch.from_numpy(labels)
    present = ~found.isnan()
    return RowLabels(label=found.nan_to_num(), present=present) if bool(present.any()) else None
