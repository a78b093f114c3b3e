"""A sequence model without blocks, whose answers can be worked out by hand."""

from __future__ import annotations

import numpy as np

from features.schema import HISTORY_STATS, Float32, UserFeatures
from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.histories import GAPS
from retrieval.sequence.runtime import SequenceMeta, SequenceModel


def echo_model(items: Float32, *, turned: bool = False, again: bool = True, length: int = 50) -> SequenceModel:
    """Return a model whose user vector is the last item's, less its mean and of length 1; `turned` it is minus that.

    An item's vector is its text's.

    Args:
        items: float32 `[n, width]` rows of length 1.
        turned: whether what comes next is what is least like the last.
        again: see `SequenceConfig`.
        length: events read.
    """
    n, width = items.shape
    one = np.full(width, -1 if turned else 1, np.float32)
    weights: dict[str, Float32] = {
        "gain": np.ones((), np.float32), "norm.weight": one, "norm.bias": np.zeros(width, np.float32),
        "kind.weight": np.zeros((1, width), np.float32), "gap.weight": np.zeros((GAPS, width), np.float32),
        "projection": np.eye(width, dtype=np.float32), "text_mean": np.zeros(width, np.float32),
    }  # fmt: skip
    config = SequenceConfig(width=width, heads=1, blocks=0, again=again, length=length)
    meta = SequenceMeta(items=n, text_dim=width, kinds=1, deviation=1.0, scale=10.0, config=config)
    return SequenceModel(meta=meta, items=items, weights=weights)


def next_vector(last: Float32) -> Float32:
    """Return what the model makes of a last item's vector."""
    centred = last - last.mean()
    vector: Float32 = centred / np.linalg.norm(centred)
    return vector


def after(user: UserFeatures, item: int) -> UserFeatures:
    """Return a user's row once an item has been bought just now, for the first time."""
    row = np.zeros((1, len(HISTORY_STATS)), np.float32)
    row[0, [HISTORY_STATS.index("count"), HISTORY_STATS.index("decayed_90")]] = 1
    older = user.history.copy()
    for name in ("last_age_days", "first_age_days"):
        older[:, HISTORY_STATS.index(name)] += 1
    return UserFeatures(
        user_id=user.user_id,
        known=True,
        as_of=user.as_of + 86_400,
        stats=user.stats,
        items=np.concatenate([[item], user.items]).astype(np.int32),
        history=np.concatenate([row, older]),
        categories=user.categories,
        category_stats=user.category_stats,
    )
