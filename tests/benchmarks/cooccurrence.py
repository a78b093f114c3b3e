"""Items by how often they stand near those of a history: the baseline that sequence models are held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from features.schema import Float32
from retrieval.sequence.histories import Histories, Int64


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a score is made of.

    Attributes:
        window: how far apart two events may be.
        back: what an item that comes before another counts, where one that comes after counts 1.
        decay: how much less each older event of a history counts than the one after it.
        popularity: the power of an item's number of events that its score is divided by.
    """

    window: int = 5
    back: float = 0.5
    decay: float = 0.5
    popularity: float = 0.0


def counts(histories: Histories, n_items: int, settings: Settings) -> sparse.csr_array:
    """Return float32 `[n_items, n_items]`: of each item (row) the others near it, each pair over its distance."""
    user = np.repeat(np.arange(len(histories)), histories.lengths)
    rows, columns, values = [], [], []
    for distance in range(1, settings.window + 1):
        same = user[distance:] == user[:-distance]
        first, then = histories.items[:-distance][same], histories.items[distance:][same]
        rows += [first, then]
        columns += [then, first]
        values += [np.full(len(first), 1 / distance), np.full(len(first), settings.back / distance)]
    place = (np.concatenate(rows), np.concatenate(columns))
    near = sparse.csr_array((np.concatenate(values), place), shape=(n_items, n_items))
    events = np.maximum(np.bincount(histories.items, minlength=n_items), 1)
    return (near @ sparse.diags_array(events**-settings.popularity)).astype(np.float32).tocsr()


def scores(near: sparse.csr_array, histories: Histories, users: Int64, settings: Settings) -> Float32:
    """Return float32 `[users, n_items]`: the rows of a history's last 50 items, summed with decay, over their sum."""
    rows, columns, values = [], [], []
    for row, user in enumerate(users.tolist()):
        items = histories.user(user)[0][-50:][::-1]
        rows.append(np.full(len(items), row))
        columns.append(items)
        values.append(settings.decay ** np.arange(len(items)))
    place = (np.concatenate(rows), np.concatenate(columns))
    weights = sparse.csr_array((np.concatenate(values), place), shape=(len(users), near.shape[0]), dtype=np.float32)
    found = np.asarray((weights @ near).toarray(), np.float32)
    return found / np.maximum(found.sum(1, keepdims=True), np.float32(1e-9))
