"""What trends by segment of the users, as of a cut."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from features.groups import Groups
from features.schema import EVENT, ITEM, TIMESTAMP, USER
from flows.stages.data import Data, Mask
from retrieval.segments import Segments

# The window of the statistics that order what trends among all users (`buyers_28d`).
_WINDOW: Final = timedelta(days=28)


def trending_segments(data: Data, cut: datetime, eligible: Mask, column: str, smoothing: float) -> Segments:
    """Return what trends in each segment that a column of the users makes.

    Args:
        data: events; of those only purchases in the window before the cut are read.
        cut: the time.
        eligible: bool `[n_items]` as of the cut.
        column: of the users.
        smoothing: see `Segments.fit`.

    Raises:
        InvalidInputError: the users have no such column, or it makes no groups.
    """
    pairs = (
        data.events.filter(
            (pl.col(EVENT) == data.features.purchase_event)
            & pl.col(TIMESTAMP).is_between(cut - _WINDOW, cut, closed="left")
        )
        .select(USER, ITEM)
        .unique(maintain_order=True)
    )
    return Segments.fit(
        Groups.of(data.tables.users, column, "users").codes(data.tables.users),
        pairs[USER].to_numpy(),
        pairs[ITEM].to_numpy(),
        np.flatnonzero(eligible).astype(np.int32),
        smoothing,
    )
