"""The Complete Journey's catalogues: products and coupons as items, households as users."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from features.datasets.dataset import TITLE
from features.datasets.journey_files import (
    CAMPAIGN,
    COUPON_UPC,
    DEPARTMENT,
    HOUSEHOLD,
    PRODUCT_ID,
    START,
    coupon_id,
    local_day,
    scan,
)
from features.schema import AVAILABLE_FROM, ITEM_ID, KIND, USER_ID

PRODUCT: Final = "product"
COUPON: Final = "coupon"
CATEGORY_NAME: Final = "category"
PRODUCT_TYPE: Final = "product_type"
BRAND: Final = "brand"
PACKAGE_SIZE: Final = "package_size"
MANUFACTURER: Final = "manufacturer"
ITEM_COLUMNS: Final = (
    ITEM_ID, KIND, TITLE, DEPARTMENT, CATEGORY_NAME, PRODUCT_TYPE, BRAND, PACKAGE_SIZE, MANUFACTURER, AVAILABLE_FROM,
)  # fmt: skip

_SOURCE_CATEGORY: Final = "product_category"
_TYPES: Final = "types"
_COUNT: Final = "count"
_TITLE_TYPES: Final = 3


def read_items(folder: Path, excluded: pl.LazyFrame) -> pl.DataFrame:
    """Return products in order of id, then coupons.

    Args:
        folder: the source's files.
        excluded: products to leave out.
    """
    both = pl.concat([_products(folder, excluded), _coupons(folder)], how="diagonal")
    return both.select(ITEM_COLUMNS).collect()


def read_users(folder: Path, chosen: pl.DataFrame) -> pl.DataFrame:
    """Return the chosen households with their demographics, null where the source has none."""
    demographics = scan(folder, "demographics").collect()
    return chosen.join(demographics, on=HOUSEHOLD, how="left", maintain_order="left").select(
        pl.col(HOUSEHOLD).cast(pl.String).alias(USER_ID), pl.exclude(HOUSEHOLD)
    )


def _products(folder: Path, excluded: pl.LazyFrame) -> pl.LazyFrame:
    kind_of_goods = pl.coalesce(PRODUCT_TYPE, _SOURCE_CATEGORY, DEPARTMENT).str.to_titlecase()
    return (
        scan(folder, "products")
        .join(excluded, on=PRODUCT_ID, how="anti")
        .sort(PRODUCT_ID)
        .select(
            pl.col(PRODUCT_ID).cast(pl.String).alias(ITEM_ID),
            pl.lit(PRODUCT).alias(KIND),
            pl.concat_str(kind_of_goods, PACKAGE_SIZE, separator=", ", ignore_nulls=True).alias(TITLE),
            DEPARTMENT,
            pl.col(_SOURCE_CATEGORY).alias(CATEGORY_NAME),
            PRODUCT_TYPE,
            BRAND,
            PACKAGE_SIZE,
            pl.col("manufacturer_id").cast(pl.String).alias(MANUFACTURER),
        )
    )


def _coupons(folder: Path) -> pl.LazyFrame:
    """Coupons described by the products they covered in their first campaign.

    A coupon may return in a later campaign with other products; those are not known before, so they describe nothing.
    """
    starts = scan(folder, "campaign_descriptions").select(CAMPAIGN, START)
    offers = scan(folder, "coupons").join(starts, on=CAMPAIGN).unique()
    first = offers.filter(pl.col(START) == pl.col(START).min().over(COUPON_UPC))
    covered = first.select(COUPON_UPC, PRODUCT_ID).unique().join(scan(folder, "products"), on=PRODUCT_ID)
    coupons = offers.group_by(COUPON_UPC).agg(local_day(pl.col(START).min()).alias(AVAILABLE_FROM))
    attributes = {
        DEPARTMENT: DEPARTMENT,
        _SOURCE_CATEGORY: CATEGORY_NAME,
        PRODUCT_TYPE: PRODUCT_TYPE,
        BRAND: BRAND,
    }
    for source, name in attributes.items():
        coupons = coupons.join(_most_common(covered, source, name), on=COUPON_UPC, how="left")
    goods = pl.col(_TYPES).list.head(_TITLE_TYPES).list.join(", ").str.to_titlecase()
    more = pl.when(pl.col(_TYPES).list.len() > _TITLE_TYPES).then(pl.lit(" and more")).otherwise(pl.lit(""))
    return (
        coupons.join(_ranked(covered, PRODUCT_TYPE).agg(pl.col(PRODUCT_TYPE).alias(_TYPES)), on=COUPON_UPC, how="left")
        .sort(COUPON_UPC)
        .with_columns(
            coupon_id(),
            pl.lit(COUPON).alias(KIND),
            pl.coalesce(pl.format("Coupon: {}{}", goods, more), pl.lit("Coupon")).alias(TITLE),
        )
        .drop(COUPON_UPC, _TYPES)
    )


def _ranked(covered: pl.LazyFrame, column: str) -> pl.lazyframe.group_by.LazyGroupBy:
    """Group by coupon the values of a column, the most frequent first, ties by name."""
    return (
        covered.drop_nulls(column)
        .group_by(COUPON_UPC, column)
        .agg(pl.len().alias(_COUNT))
        .sort(COUPON_UPC, _COUNT, column, descending=[False, True, False])
        .group_by(COUPON_UPC, maintain_order=True)
    )


def _most_common(covered: pl.LazyFrame, column: str, name: str) -> pl.LazyFrame:
    return _ranked(covered, column).agg(pl.col(column).first().alias(name))
