"""The source `sequence`: the items that a user's last events lead to, by a release's sequence model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from features.schema import Float32, Int32, UserFeatures
from retrieval.rows import ItemRows, LayeredRows
from retrieval.scope import Scope
from retrieval.sequence.events import recent_events
from retrieval.sequence.runtime import SequenceFilesError, SequenceModel
from retrieval.sources import Ranking

Mask = npt.NDArray[np.bool_]

# Scores are cosines, so one less this much stands behind all others.
_BEHIND: Final = np.float32(2)


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceSource:
    """A model over the items of now; safe to use from many threads.

    Attributes:
        model: of the release.
        rows: float32 `[n_items, width]` of all items, those that came after the release by their texts.
        eligible: bool `[n_items]`: what is read of a history, as in training, and may be named.
        members: int32 `[m]` the eligible items.
        vectors: float32 `[m, width]` theirs, contiguous: a gather in each request would cost more than the product.
    """

    model: SequenceModel
    rows: ItemRows
    eligible: Mask
    members: Int32
    vectors: Float32

    @classmethod
    def of(cls, model: SequenceModel, eligible: Mask, item_vectors: ItemRows) -> Self:
        """Lay a model over items, of which it was trained on the first.

        Args:
            model: of the release.
            eligible: bool `[n_items]`.
            item_vectors: `[n_items, dim]` text vectors.

        Raises:
            SequenceFilesError: it was trained on text vectors of another length.
        """
        dim = item_vectors[0].shape[0] if len(item_vectors) else model.meta.text_dim
        if dim != model.meta.text_dim:
            raise SequenceFilesError(
                f"sequence: expected a model of text vectors of the release's {dim} dimensions, "
                f"found one of {model.meta.text_dim}"
            )
        rows: ItemRows = model.items
        new = np.arange(model.meta.items, len(item_vectors), dtype=np.int32)
        if len(new):
            rows = LayeredRows.over(rows, new, model.vectors_of(item_vectors[new]))
        members = np.flatnonzero(eligible).astype(np.int32)
        return cls(
            model=model, rows=rows, eligible=eligible, members=members, vectors=np.ascontiguousarray(rows[members])
        )

    def user_vector(self, user: UserFeatures) -> Float32 | None:
        """Return float32 `[width]` of length 1: a user after the last event; None without a history."""
        known = (user.items >= 0) & (user.items < len(self.eligible))
        known[known] = self.eligible[user.items[known]]
        read, gaps = recent_events(user.items[known], user.history[known], self.model.meta.config.length)
        if not len(read):
            return None
        return self.model.user_vector(read, np.zeros(len(read), np.int32), gaps, self.rows[read])

    def scores(self, user: UserFeatures, items: Int32) -> Float32:
        """Return float32 `[n]` cosines of items (int32 `[n]`) with a user's vector.

        NaN where there is none: for all without a history, and for items of it where the model isn't trained for what
        comes `again`.
        """
        vector = self.user_vector(user)
        if vector is None:
            return np.full(len(items), np.nan, np.float32)
        scores: Float32 = self.rows[items] @ vector
        if not self.model.meta.config.again:
            scores[np.isin(items, user.items)] = np.nan
        return scores

    def ranking(self, vector: Float32, bought: Int32, scope: Scope, n: int) -> Ranking:
        """Return at most `n` items of the scope by their cosine with a user's vector.

        Of a model that isn't trained for what comes `again`, items of the history come after all others, as no score
        of theirs means anything.

        Args:
            vector: float32 `[width]`.
            bought: int32 positions of the history.
            scope: what may be named.
            n: how many.
        """
        scores: Float32 = self.vectors @ vector
        if not self.model.meta.config.again:
            own = np.zeros(len(self.eligible), bool)
            own[bought] = True
            scores[own[self.members]] -= _BEHIND
        open_ = scope.allowed[self.members]
        scores[~open_] = -np.inf
        return Ranking.best(self.members, scores, min(n, int(np.count_nonzero(open_))))
