"""What was shown to a user and not answered."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import polars as pl

from features.schema import EVENT, ITEM, TIMESTAMP
from features.transforms import FeatureConfig

_COUNT: Final = "count"


def unanswered(events: pl.DataFrame, since: datetime, config: FeatureConfig) -> dict[int, int]:
    """Return item -> how often it was shown at or after a time and after the user's last answer to it.

    An answer is a response or a purchase event, as `config` names them; nothing where it names no exposures.

    Args:
        events: of one user (item, event, timestamp).
        since: aware time.
        config: names the events.
    """
    answers = [config.purchase_event, config.response_event]
    answered = pl.col(TIMESTAMP).filter(pl.col(EVENT).is_in(answers)).max()
    later = answered.is_null() | (pl.col(TIMESTAMP) > answered)
    shown = (pl.col(EVENT) == config.exposure_event) & (pl.col(TIMESTAMP) >= since) & later
    found = events.group_by(ITEM).agg(shown.sum().alias(_COUNT)).filter(pl.col(_COUNT) > 0)
    return dict(zip(found[ITEM].to_list(), found[_COUNT].to_list(), strict=True))
