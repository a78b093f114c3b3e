"""Tags of texts' units, those said against those labelled, counted text by text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.column_labels import UnitTags
from features.schema import Int32
from features.units import OUTSIDE
from flows.report import TextMetric
from flows.stages import text_metrics
from flows.stages.text_metrics import UNKNOWN, Int64, Statistic
from retrieval.encoder.units import TextTags


@dataclass(frozen=True, kw_only=True, eq=False)
class TagCounts:
    """Units whose tag isn't O, by text.

    Attributes:
        hits: int64 `[n]` units that have the right tag.
        said: int64 `[n]` units that were given a tag.
        labelled: int64 `[n]` units that have one.
    """

    hits: Int64
    said: Int64
    labelled: Int64

    @classmethod
    def of(cls, labels: UnitTags, found: Sequence[TextTags], classes: Sequence[str]) -> TagCounts:
        """Count what was said of each text; a unit without a tag of its own is given none.

        Args:
            labels: of `n` texts; a unit that they leave out has a tag that is no class, which is never right.
            found: what was said of each text's units.
            classes: names of the tags, by code.
        """
        outside = classes.index(OUTSIDE) if OUTSIDE in classes else UNKNOWN - 1
        said = [
            np.where(own.units.carries, np.nan_to_num(own.probabilities).argmax(axis=1), outside).astype(np.int32)
            for own in found
        ]
        return cls._counted(_codes(labels, found), said, outside)

    @classmethod
    def constant(
        cls, labels: UnitTags, found: Sequence[TextTags], classes: Sequence[str], train: UnitTags
    ) -> TagCounts | None:
        """Count the same where every unit is given the most frequent tag of training texts; None without any."""
        if not len(train.code):
            return None
        outside = classes.index(OUTSIDE) if OUTSIDE in classes else UNKNOWN - 1
        often = int(np.bincount(train.code).argmax())
        truth = _codes(labels, found)
        return cls._counted(truth, [np.full(len(own), often, np.int32) for own in truth], outside)

    @property
    def statistics(self) -> dict[TextMetric, Statistic]:
        """The statistics of what was said, over rows of texts."""
        return text_metrics.tagging(self.hits, self.said, self.labelled)

    @classmethod
    def _counted(cls, truth: Sequence[Int32], said: Sequence[Int32], outside: int) -> TagCounts:
        pairs = list(zip(truth, said, strict=True))
        return cls(
            hits=np.array([((own == other) & (own != outside)).sum() for own, other in pairs], np.int64),
            said=np.array([(other != outside).sum() for _, other in pairs], np.int64),
            labelled=np.array([(own != outside).sum() for own, _ in pairs], np.int64),
        )


def _codes(labels: UnitTags, found: Sequence[TextTags]) -> list[Int32]:
    """Return int32 `[units]` codes of each text's units, `UNKNOWN` for those that the labels leave out."""
    ends = np.searchsorted(labels.text, np.arange(len(found) + 1))
    codes = []
    for row, own in enumerate(found):
        known = slice(ends[row], ends[row + 1])
        whole = np.full(len(own.units.span), UNKNOWN, np.int32)
        whole[np.searchsorted(own.units.span[:, 0], labels.span[known, 0])] = labels.code[known]
        codes.append(whole)
    return codes
