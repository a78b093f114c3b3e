"""Behavioural features as of a time: one computation for training, materialisation and a single user's event.

Every function sees only `AsOf`, which holds the events before the cut; an event at the cut or later cannot reach a
feature. A *purchase* is one (user, item, timestamp): rows of the same three are summed first, so a basket that lists an
item twice counts once. A *basket* is one distinct purchase timestamp of a user.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from features.rows import (
    CATEGORY_CODES_COLUMN,
    CATEGORY_COLUMNS,
    HISTORY_COLUMNS,
    HISTORY_ITEMS_COLUMN,
    ITEM_STATS_COLUMNS,
    USER_AS_OF_COLUMN,
    USER_STATS_COLUMNS,
)
from features.schema import (
    CATEGORY,
    CATEGORY_STATS,
    EVENT,
    HISTORY_STATS,
    ITEM,
    ITEM_STATS,
    MAX_CATEGORIES,
    MAX_HISTORY,
    QUANTITY,
    TIMESTAMP,
    USER,
    USER_STATS,
    VALUE,
    Int32,
)
from infra.errors import InvalidInputError, unknown_name

AGE: Final = "age_days"

_MICROSECONDS_A_DAY: Final = 86_400_000_000
_NAN: Final = float("nan")
_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
_WINDOW: Final = 28
_DECAYS: Final = (90, 30)
_PAIR: Final = "pair"
_PAIR_BASE: Final = 2**31


class FeatureConfig(BaseModel):
    """Which events and which column the features are computed from.

    Attributes:
        purchase_event: the event whose repetition is learnt (a purchase; a rating or a play elsewhere).
        exposure_event: the event that says an item was shown; None where a table has none.
        response_event: the answer to an exposure; None where a table has none.
        category_column: the items' column of the user x category features; None leaves them empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    purchase_event: str = "purchase"
    exposure_event: str | None = "exposure"
    response_event: str | None = "response"
    category_column: str | None = "category"


@dataclass(frozen=True, kw_only=True)
class AsOf:
    """Events before a cut, ready for every transform.

    Attributes:
        cut: time-zone aware; every age counts back from it.
        purchases: (user i32, item i32, timestamp, age_days f64, value f64, priced_quantity f64, quantity f64), one row
            per purchase, sorted by user and time; a missing quantity counts 1, a missing value 0; `priced_quantity`
            leaves out unpriced rows; decayed_N = exp(-age / N days).
        pairs: one row per (user, item) with HISTORY_STATS in f64, the most recently bought item of a user first.
        exposures: (user, item, age_days).
        responses: (user, item, age_days).
    """

    cut: datetime
    purchases: pl.DataFrame
    pairs: pl.DataFrame
    exposures: pl.DataFrame
    responses: pl.DataFrame


@dataclass(frozen=True, kw_only=True)
class FeatureFrames:
    """Every feature of one cut; user frames have a row for each user, the item frame for each item, in order."""

    cut: datetime
    user_stats: pl.DataFrame
    user_history: pl.DataFrame
    user_category: pl.DataFrame
    item_stats: pl.DataFrame


def as_of(events: pl.DataFrame, cut: datetime, config: FeatureConfig) -> AsOf:
    """Return the events before `cut`, aggregated to purchases.

    Args:
        events: encoded events (user i32, item i32, event, timestamp, value?, quantity?).
        cut: time-zone aware; events at or after it are left out.
        config: names of the events.

    Raises:
        InvalidInputError: when `cut` is naive.
    """
    if cut.tzinfo is None:
        raise InvalidInputError(f"cut: expected a time with a zone, found the naive {cut.isoformat()}")
    age = ((pl.lit(cut) - pl.col(TIMESTAMP)).dt.total_microseconds() / _MICROSECONDS_A_DAY).alias(AGE)
    before = events.lazy().filter(pl.col(TIMESTAMP) < cut)

    def of(event: str | None) -> pl.LazyFrame:
        return before.filter(pl.col(EVENT) == event if event is not None else pl.lit(False))

    quantity = pl.col(QUANTITY).fill_null(1.0)
    purchases = (
        of(config.purchase_event)
        .with_columns(_pair_key(ITEM))
        .group_by(_PAIR, TIMESTAMP)
        .agg(
            pl.col(VALUE).sum(),
            quantity.filter(pl.col(VALUE).is_not_null()).sum().alias("priced_quantity"),
            quantity.sum(),
        )
        .with_columns(age, *_pair_columns(ITEM))
        .with_columns((-pl.col(AGE) / days).exp().alias(f"decayed_{days}") for days in _DECAYS)
        .sort(USER, TIMESTAMP, ITEM)
    )
    pairs = (
        purchases.group_by(_PAIR)
        .agg(
            pl.len().alias("count"),
            pl.col(QUANTITY, VALUE, *(f"decayed_{days}" for days in _DECAYS)).sum(),
            pl.col(AGE).min().alias("last_age_days"),
            pl.col(AGE).max().alias("first_age_days"),
        )
        .with_columns(
            _ratio(pl.col("first_age_days") - pl.col("last_age_days"), pl.col("count") - 1).alias("mean_gap_days"),
            *_pair_columns(ITEM),
        )
        .sort(USER, "last_age_days", ITEM)
    )
    shown, answered = (of(event).select(USER, ITEM, age) for event in (config.exposure_event, config.response_event))
    frames = pl.collect_all([purchases, pairs, shown, answered])
    return AsOf(cut=cut, purchases=frames[0], pairs=frames[1], exposures=frames[2], responses=frames[3])


def compute(
    events: pl.DataFrame, categories: Int32, cut: datetime, *, n_users: int, config: FeatureConfig
) -> FeatureFrames:
    """Return every feature as of `cut`.

    Args:
        events: encoded events.
        categories: int32 `[n_items]` category code of each item, -1 where it has none; its length is `n_items`.
        cut: time-zone aware.
        n_users: rows of the users table.
        config: names of the events.
    """
    before = as_of(events, cut, config)
    return FeatureFrames(
        cut=cut,
        user_stats=user_stats(before, n_users),
        user_history=user_history(before, n_users),
        user_category=user_category(before, categories, n_users),
        item_stats=item_stats(before, len(categories)),
    )


def user_stats(before: AsOf, n_users: int) -> pl.DataFrame:
    """Return (user i32, user_as_of f64 epoch seconds, one f32 column per USER_STATS), one row per user in order.

    Counts of a user without events are 0, everything that divides or dates is NaN.
    """
    recent = pl.col(AGE) <= _WINDOW
    bought = before.purchases.group_by(USER).agg(
        pl.len().alias("purchases"),
        pl.col(TIMESTAMP).n_unique().alias("baskets"),
        pl.col(ITEM).n_unique().alias("distinct_items"),
        pl.col(AGE).min().alias("recency_days"),
        pl.col(AGE).max().alias("tenure_days"),
        pl.col(TIMESTAMP).filter(recent).n_unique().alias("baskets_28d"),
        pl.col(ITEM).filter(recent).n_unique().alias("items_28d"),
        pl.col(VALUE).filter(recent).sum().alias("value_28d"),
        pl.col(VALUE).sum().alias("value_total"),
    )
    shown = before.exposures.group_by(USER).agg(
        pl.len().alias("exposures"), (pl.col(AGE) <= 2 * _WINDOW).sum().alias("exposures_56d")
    )
    answered = before.responses.group_by(USER).agg(pl.len().alias("responses"))
    wide = _every(USER, n_users)
    for part in (bought, shown, answered):
        wide = wide.join(part, on=USER, how="left", maintain_order="left")
    dated = ("recency_days", "tenure_days")
    wide = wide.with_columns(pl.exclude(USER, *dated).fill_null(0), pl.col(dated).fill_null(_NAN)).with_columns(
        _ratio(pl.col("tenure_days") - pl.col("recency_days"), pl.col("baskets") - 1).alias("basket_gap_days"),
        _ratio(pl.col("value_total"), pl.col("baskets")).alias("mean_basket_value"),
        _ratio(pl.col("purchases"), pl.col("baskets")).alias("mean_basket_items"),
        # A purchase is a repeat unless it is the first of its (user, item): first ones number distinct_items.
        _ratio(pl.col("purchases") - pl.col("distinct_items"), pl.col("purchases")).alias("repeat_share"),
        _ratio(pl.col("responses"), pl.col("exposures")).alias("response_rate"),
    )
    return wide.select(
        USER, pl.lit(before.cut.timestamp()).alias(USER_AS_OF_COLUMN), *_floats(USER_STATS, USER_STATS_COLUMNS)
    )


def user_history(before: AsOf, n_users: int) -> pl.DataFrame:
    """Return each user's purchases by item as lists, the most recently bought item first, at most MAX_HISTORY.

    Returns:
        (user i32, history_items list[i32], one list[f32] column per HISTORY_STATS), one row per user in order; empty
        lists for a user without purchases.
    """
    pairs = before.pairs.filter(pl.int_range(pl.len()).over(USER) < MAX_HISTORY)
    lists = pairs.group_by(USER, maintain_order=True).agg(
        pl.col(ITEM).alias(HISTORY_ITEMS_COLUMN), *_floats(HISTORY_STATS, HISTORY_COLUMNS)
    )
    return _with_lists(lists, n_users, (HISTORY_ITEMS_COLUMN, *HISTORY_COLUMNS))


def user_category(before: AsOf, categories: Int32, n_users: int) -> pl.DataFrame:
    """Return each user's purchases by category as lists in ascending order of the code.

    A user keeps at most MAX_CATEGORIES, those of the greatest decayed count. Items of code -1 are left out.

    Args:
        before: events before the cut.
        categories: int32 `[n_items]`.
        n_users: rows of the users table.

    Returns:
        (user i32, category_codes list[i32], one list[f32] column per CATEGORY_STATS), one row per user in order.
    """
    codes = pl.Series(CATEGORY, categories, dtype=pl.Int32)
    cells = (
        before.purchases.with_columns(codes.gather(before.purchases[ITEM]).alias(CATEGORY))
        .filter(pl.col(CATEGORY) >= 0)
        .with_columns(_pair_key(CATEGORY))
        .group_by(_PAIR)
        .agg(
            pl.len().alias("count"),
            pl.col(ITEM).n_unique().alias("distinct_items"),
            pl.col(AGE).min().alias("last_age_days"),
            pl.col("decayed_90").sum(),
        )
        .with_columns(*_pair_columns(CATEGORY))
        .sort([USER, "decayed_90", CATEGORY], descending=[False, True, False])
        .filter(pl.int_range(pl.len()).over(USER) < MAX_CATEGORIES)
        .sort(USER, CATEGORY)
    )
    lists = cells.group_by(USER, maintain_order=True).agg(
        pl.col(CATEGORY).alias(CATEGORY_CODES_COLUMN), *_floats(CATEGORY_STATS, CATEGORY_COLUMNS)
    )
    return _with_lists(lists, n_users, (CATEGORY_CODES_COLUMN, *CATEGORY_COLUMNS))


def item_stats(before: AsOf, n_items: int) -> pl.DataFrame:
    """Return (item i32, one f32 column per ITEM_STATS), one row per item in order.

    Counts of an item without purchases are 0, everything that divides or dates is NaN. `mean_gap_days` pools the gaps
    of all its buyers: the sum of (first - last age) over the sum of (count - 1).
    """
    sold = before.purchases.group_by(ITEM).agg(
        pl.len().alias("purchases"),
        pl.col("decayed_90", VALUE, "priced_quantity").sum(),
        pl.col(AGE).max().alias("age_days"),
        pl.col(AGE).min().alias("recency_days"),
    )
    last = before.purchases.filter(pl.col(AGE) <= _WINDOW)
    sold_28d = last.group_by(ITEM).agg(
        pl.col(USER).n_unique().alias("buyers_28d"),
        pl.len().alias("purchases_28d"),
        pl.col(VALUE).sum().alias("value_28d"),
        pl.col("priced_quantity").sum().alias("quantity_28d"),
    )
    earlier = pl.col(AGE).is_between(_WINDOW, 2 * _WINDOW, closed="right")
    sold_before = before.purchases.filter(earlier).group_by(ITEM).agg(pl.len().alias("purchases_before"))
    repeated = pl.col("count") >= 2
    buyers = before.pairs.group_by(ITEM).agg(
        pl.len().alias("buyers"),
        repeated.sum().alias("repeaters"),
        (pl.col("first_age_days") - pl.col("last_age_days")).sum().alias("gap_total"),
        (pl.col("count").cast(pl.Int64) - 1).sum().alias("gaps"),
    )
    wide = _every(ITEM, n_items)
    for part in (sold, sold_28d, sold_before, buyers):
        wide = wide.join(part, on=ITEM, how="left", maintain_order="left")
    dated = ("age_days", "recency_days")
    wide = wide.with_columns(pl.exclude(ITEM, *dated).fill_null(0), pl.col(dated).fill_null(_NAN)).with_columns(
        (pl.col("purchases_28d") / (pl.col("purchases_before") + 1)).alias("trend"),
        _ratio(pl.col("repeaters"), pl.col("buyers")).alias("repeat_rate"),
        _ratio(pl.col("gap_total"), pl.col("gaps")).alias("mean_gap_days"),
        _ratio(pl.col(VALUE), pl.col("priced_quantity")).alias("mean_price"),
        _ratio(pl.col("value_28d"), pl.col("quantity_28d")).alias("price_28d"),
    )
    wide = wide.with_columns(_ratio(pl.col("price_28d"), pl.col("mean_price")).alias("price_28d_ratio"))
    return wide.select(ITEM, *_floats(ITEM_STATS, ITEM_STATS_COLUMNS))


def category_codes(
    items: pl.DataFrame, column: str | None, previous: list[str] | None = None
) -> tuple[Int32, list[str]]:
    """Return each item's category as a code, and the category that each code stands for.

    Args:
        items: the items table.
        column: its category column; None gives every item -1.
        previous: categories of an earlier refresh: they keep their codes, new ones follow in sorted order.

    Returns:
        int32 `[n_items]`, -1 where the category is null, and the list that a code indexes.

    Raises:
        InvalidInputError: the items have no such column.
    """
    known = list(previous or [])
    if column is None:
        return pl.Series([-1]).new_from_index(0, items.height).cast(pl.Int32).to_numpy(), known
    if column not in items.columns:
        raise InvalidInputError(f"table items: {unknown_name('column', column, items.columns)}")
    values = items[column].cast(pl.String)
    names = known + sorted(set(values.drop_nulls().unique()) - set(known))
    codes = values.replace_strict(names, list(range(len(names))), default=None, return_dtype=pl.Int32)
    return codes.fill_null(-1).to_numpy(), names


def _pair_key(second: str) -> pl.Expr:
    """Return one 64-bit key of (user, second): grouping by it takes under half the time of grouping by two columns."""
    return (pl.col(USER).cast(pl.Int64) * _PAIR_BASE + pl.col(second)).alias(_PAIR)


def _pair_columns(second: str) -> tuple[pl.Expr, pl.Expr]:
    key = pl.col(_PAIR)
    return (key // _PAIR_BASE).cast(pl.Int32).alias(USER), (key % _PAIR_BASE).cast(pl.Int32).alias(second)


def _ratio(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    """Return numerator / denominator in f64, NaN where the denominator isn't positive."""
    below = denominator.cast(pl.Float64)
    return pl.when(below > 0).then(numerator.cast(pl.Float64) / below).otherwise(_NAN)


def _floats(names: tuple[str, ...], columns: tuple[str, ...]) -> list[pl.Expr]:
    """Return the columns as f32; a value beyond f32 (a price over a quantity near 0) is held at its range, not inf."""
    return [
        pl.col(name).cast(pl.Float64).clip(-_FLOAT32_MAX, _FLOAT32_MAX).cast(pl.Float32).alias(column)
        for name, column in zip(names, columns, strict=True)
    ]


def _every(key: str, length: int) -> pl.DataFrame:
    return pl.DataFrame({key: pl.int_range(length, dtype=pl.Int32, eager=True)})


def _with_lists(lists: pl.DataFrame, n_users: int, columns: tuple[str, ...]) -> pl.DataFrame:
    """Return one row per user in order, an empty list where a user has none."""
    wide = _every(USER, n_users).join(lists, on=USER, how="left", maintain_order="left")
    return wide.with_columns(pl.col(column).fill_null(pl.lit([], dtype=lists.schema[column])) for column in columns)
