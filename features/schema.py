"""Names and types shared by every room: canonical columns, feature lists and the rows that cross a boundary.

A column or feature is named here once; other modules import the constant and never write the string again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

# --- canonical columns -------------------------------------------------------------------------------------------
USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
EVENT: Final = "event"
EVENT_ID: Final = "event_id"
TIMESTAMP: Final = "timestamp"
VALUE: Final = "value"
QUANTITY: Final = "quantity"
REQUEST_ID: Final = "request_id"
TEXT_ID: Final = "text_id"
TEXT: Final = "text"
SPLIT: Final = "split"
KIND: Final = "kind"
AVAILABLE_FROM: Final = "available_from"
AVAILABLE_TO: Final = "available_to"
UPDATED_AT: Final = "updated_at"

# Dense positions inside a catalogue (int32); position == row of the items / users table.
USER: Final = "user"
ITEM: Final = "item"
CATEGORY: Final = "category_code"
LABEL: Final = "label"
CUT: Final = "cut"

UTC: Final = pl.Datetime("us", "UTC")

# --- features as of a time ---------------------------------------------------------------------------------------
# Ages are days before the as-of time; decayed_N is the sum over purchases of exp(-age / N days).
USER_STATS: Final = (
    "purchases", "baskets", "distinct_items", "recency_days", "tenure_days", "basket_gap_days", "baskets_28d",
    "items_28d", "value_28d", "mean_basket_value", "mean_basket_items", "repeat_share", "exposures_56d", "responses",
    "response_rate",
)  # fmt: skip
HISTORY_ITEM: Final = "items"
HISTORY_STATS: Final = (
    "count", "quantity", "value", "last_age_days", "first_age_days", "decayed_90", "decayed_30", "mean_gap_days",
)  # fmt: skip
CATEGORY_STATS: Final = ("count", "distinct_items", "last_age_days", "decayed_90")
ITEM_STATS: Final = (
    "buyers", "purchases", "buyers_28d", "purchases_28d", "decayed_90", "trend", "repeat_rate", "mean_gap_days",
    "mean_price", "price_28d_ratio", "age_days", "recency_days",
)  # fmt: skip
# A user's history keeps the most recent entries by last purchase; 1,024 holds 99% of demo users whole.
MAX_HISTORY: Final = 1024
MAX_CATEGORIES: Final = 512

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class UserFeatures:
    """One user's behavioural features as of a time: the row that one online read returns.

    Attributes:
        user_id: the id asked for.
        known: whether the store held a row for it; an unknown user carries empty arrays and NaN stats.
        as_of: seconds since the epoch (UTC) that every age below counts back from; NaN when unknown.
        stats: float32 `[len(USER_STATS)]`.
        items: int32 `[n]` item positions, most recent purchase first.
        history: float32 `[n, len(HISTORY_STATS)]`.
        categories: int32 `[c]` category codes.
        category_stats: float32 `[c, len(CATEGORY_STATS)]`.
    """

    user_id: str
    known: bool
    as_of: float
    stats: Float32
    items: Int32
    history: Float32
    categories: Int32
    category_stats: Float32

    @classmethod
    def unknown(cls, user_id: str) -> UserFeatures:
        """Return the row of a user of whom nothing is known."""
        return cls(
            user_id=user_id,
            known=False,
            as_of=float("nan"),
            stats=np.full(len(USER_STATS), np.nan, np.float32),
            items=np.empty(0, np.int32),
            history=np.empty((0, len(HISTORY_STATS)), np.float32),
            categories=np.empty(0, np.int32),
            category_stats=np.empty((0, len(CATEGORY_STATS)), np.float32),
        )


def feature_schema_hash() -> str:
    """Return a sha256 over every feature list, so that a release and a feature store can tell that they agree."""
    lists = (USER_STATS, HISTORY_STATS, CATEGORY_STATS, ITEM_STATS)
    return hashlib.sha256(repr(lists).encode()).hexdigest()
