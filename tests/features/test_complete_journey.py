from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.datasets.complete_journey import EXPOSURE, RESPONSE, read_complete_journey, weekly_promotions
from features.datasets.dataset import TITLE, DatasetMissingError
from features.datasets.journey_files import CompleteJourneyConfig, data_folder
from features.datasets.journey_items import CATEGORY_NAME, COUPON, ITEM_COLUMNS, PRODUCT, PRODUCT_TYPE
from features.schema import AVAILABLE_FROM, EVENT, ITEM, ITEM_ID, KIND, QUANTITY, TIMESTAMP, USER, USER_ID, VALUE
from features.schema import UTC as UTC_TYPE
from features.sources import load
from features.tables import PURCHASE, Tables, eligible_items, encode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RAW = data_folder(CompleteJourneyConfig())


def raw(name: str) -> pl.LazyFrame:
    return pl.scan_parquet(RAW / f"{name}.parquet")


def test_shapes_and_types(small_journey: Tables) -> None:
    assert tuple(small_journey.items.columns) == ITEM_COLUMNS
    assert small_journey.users.height == 120
    assert small_journey.events.schema[TIMESTAMP] == UTC_TYPE
    assert set(small_journey.events[EVENT].unique()) == {PURCHASE, EXPOSURE, RESPONSE}
    assert set(small_journey.items[KIND].unique()) == {PRODUCT, COUPON}
    # A user without demographics is still a user: the source has them for 801 of 2,469.
    assert small_journey.users["age"].null_count() > 0


def test_purchases_equal_the_source(small_journey: Tables) -> None:
    households = [int(user) for user in small_journey.users[USER_ID]]
    kept = raw("products").filter(~pl.col("department").is_in(["FUEL", "MISCELLANEOUS"]))
    source = (
        raw("transactions").filter(pl.col("household_id").is_in(households)).join(kept, on="product_id", how="semi")
    )
    total = source.select(pl.col("sales_value").sum(), pl.col("quantity").sum()).collect().row(0)
    purchases = small_journey.events.filter(pl.col(EVENT) == PURCHASE)
    # Sums are untouched by the merging of a receipt's lines.
    assert purchases[VALUE].sum() == pytest.approx(total[0])
    assert purchases[QUANTITY].sum() == total[1]


def test_exposures_are_each_coupon_of_each_campaign_of_a_household(small_journey: Tables) -> None:
    user = small_journey.events.filter(pl.col(EVENT) == EXPOSURE)[USER_ID][0]
    campaigns = raw("campaigns").filter(pl.col("household_id") == int(user))
    offers = campaigns.join(raw("coupons"), on="campaign_id").select("campaign_id", "coupon_upc").unique().collect()
    exposures = small_journey.events.filter((pl.col(EVENT) == EXPOSURE) & (pl.col(USER_ID) == user))
    assert exposures.height == offers.height
    assert set(exposures[ITEM_ID]) == {f"coupon-{upc}" for upc in offers["coupon_upc"]}


def test_campaigns_start_at_local_midnight(small_journey: Tables) -> None:
    starts = small_journey.events.filter(pl.col(EVENT) == EXPOSURE)[TIMESTAMP].dt.convert_time_zone("America/New_York")
    assert starts.dt.truncate("1d").eq(starts).all()


def test_every_response_follows_its_exposure(small_journey: Tables) -> None:
    exposed = (
        small_journey.events.filter(pl.col(EVENT) == EXPOSURE).group_by(USER_ID, ITEM_ID).agg(pl.col(TIMESTAMP).min())
    )
    answers = small_journey.events.filter(pl.col(EVENT) == RESPONSE)
    joined = answers.join(exposed, on=[USER_ID, ITEM_ID], how="left", suffix="_exposed")
    assert answers.height > 0
    assert (joined[TIMESTAMP] >= joined[f"{TIMESTAMP}_exposed"]).all()


def test_most_responses_stand_at_a_basket_of_their_day() -> None:
    # 1,935 of 2,102 redemptions meet a basket with a coupon discount on their New York day; the rest end their day.
    tables, _ = read_complete_journey(CompleteJourneyConfig(max_users=400))
    answers = tables.events.filter(pl.col(EVENT) == RESPONSE)
    baskets = tables.events.filter(pl.col(EVENT) == PURCHASE).select(USER_ID, TIMESTAMP).unique()
    at_basket = answers.join(baskets, on=[USER_ID, TIMESTAMP], how="semi").height
    local = answers[TIMESTAMP].dt.convert_time_zone("America/New_York").dt.time()
    day_end = (local == datetime(1, 1, 1, 23, 59, 59).time()).sum()
    assert at_basket / answers.height > 0.85
    assert at_basket + day_end >= answers.height * 0.99


def test_a_coupon_is_described_by_the_products_of_its_first_campaign() -> None:
    tables, _ = read_complete_journey(CompleteJourneyConfig(max_users=400))
    coupons = tables.items.filter(pl.col(KIND) == COUPON)
    assert coupons[AVAILABLE_FROM].null_count() == 0
    starts = raw("campaign_descriptions").select("campaign_id", "start_date")
    offers = raw("coupons").join(starts, on="campaign_id").unique().collect()
    # A coupon whose later campaign has other products than its first.
    for upc, group in offers.group_by("coupon_upc", maintain_order=True):
        first = group.filter(pl.col("start_date") == pl.col("start_date").min())
        row = coupons.filter(pl.col(ITEM_ID) == f"coupon-{upc[0]}")
        if row.height and group["product_id"].n_unique() > first["product_id"].n_unique():
            break
    covered = raw("products").filter(pl.col("product_id").is_in(first["product_id"].unique().implode())).collect()
    counts = (
        covered.drop_nulls(PRODUCT_TYPE)[PRODUCT_TYPE]
        .value_counts()
        .sort("count", PRODUCT_TYPE, descending=[True, False])
    )
    assert row[PRODUCT_TYPE][0] == counts[PRODUCT_TYPE][0]
    titles = row[TITLE][0].lower()
    assert titles.startswith("coupon: ")
    for kind in counts[PRODUCT_TYPE][:3]:
        assert kind.lower() in titles


def test_product_titles_are_short_names(small_journey: Tables) -> None:
    assert small_journey.items[TITLE].null_count() == 0
    # Product 853643: APPLE SAUCE of 50 OZ in the category FRUIT - SHELF STABLE.
    row = small_journey.items.filter(pl.col(ITEM_ID) == "853643")
    assert row.select(TITLE, CATEGORY_NAME).rows() == [("Apple Sauce, 50 OZ", "FRUIT - SHELF STABLE")]


def test_a_larger_choice_of_users_contains_a_smaller_and_repeats() -> None:
    few, again, more = (read_complete_journey(CompleteJourneyConfig(max_users=n))[0] for n in (5, 5, 9))
    assert few.events.equals(again.events)
    assert set(few.users[USER_ID]) < set(more.users[USER_ID])
    # Only items that these users met.
    assert set(few.items[ITEM_ID]) <= set(few.events[ITEM_ID])


def test_what_options_leave_out_is_in_the_report() -> None:
    _, report = load(CompleteJourneyConfig(max_users=30), Path(), NOW)
    # 594 products are of the departments FUEL (16) and MISCELLANEOUS (578).
    assert report.count("excluded_department", "items") == 594
    _, everything = load(CompleteJourneyConfig(max_users=30, exclude_departments=()), Path(), NOW)
    assert everything.count("excluded_department") == 0
    events = {table.table: table.read for table in everything.tables}["events"]
    kept = {table.table: table.read for table in report.tables}["events"]
    assert events - kept == report.count("excluded_department", "events")


def test_a_campaign_of_a_household_without_transactions_is_counted(tmp_path: Path) -> None:
    for file in RAW.glob("*.parquet"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "campaigns.parquet").unlink()
    stranger = pl.DataFrame({"campaign_id": [1], "household_id": [999_999]})
    pl.concat([raw("campaigns").head(1).collect(), stranger]).write_parquet(tmp_path / "campaigns.parquet")
    _, report = load(CompleteJourneyConfig(path=tmp_path, max_users=30), Path(), NOW)
    coupons = raw("coupons").filter(pl.col("campaign_id") == 1).select(pl.col("coupon_upc").n_unique()).collect().item()
    assert report.count("unknown_user") == coupons


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError, match=str(tmp_path)):
        read_complete_journey(CompleteJourneyConfig(path=tmp_path))


def test_promotions_stay_lazy_and_start_with_their_week() -> None:
    promotions = weekly_promotions(CompleteJourneyConfig())
    assert isinstance(promotions, pl.LazyFrame)
    one = promotions.filter(pl.col(ITEM_ID) == "1000050").sort(TIMESTAMP).collect(engine="streaming")
    source = raw("promotions").filter((pl.col("product_id") == 1000050) & (pl.col("week") == 1)).collect()
    assert one["display_stores"][0] == (source["display_location"] != "0").sum()
    # Week 1 is Sunday 1 January alone; New York's midnight is 05:00 UTC in winter. Later weeks start on Mondays.
    assert one[TIMESTAMP][0] == datetime(2017, 1, 1, 5, tzinfo=UTC)
    assert (one[TIMESTAMP][1:].dt.convert_time_zone("America/New_York").dt.weekday() == 1).all()


def test_the_split_of_the_published_figures() -> None:
    """Cut 2017-12-04: 24,480 items with 5 households before it, 1,973 households with history and a purchase after."""
    tables, report = load(CompleteJourneyConfig(), Path(), NOW)
    # The source's transactions name 4,836 times a product that its products table lacks.
    assert report.count("unknown_item") == 4_836
    cut = datetime(2017, 12, 4, tzinfo=UTC)
    purchases = encode(tables).filter(pl.col(EVENT) == PURCHASE)
    eligible = eligible_items(tables.items, purchases, cut=cut)
    assert eligible.sum() == 24_480
    known = purchases.filter(pl.col(TIMESTAMP) < cut)[USER].unique()
    window = purchases.filter(pl.col(TIMESTAMP).is_between(cut, cut + timedelta(days=28), closed="left"))
    window = window.filter(pl.Series(eligible)[window[ITEM]])
    assert window[USER].unique().is_in(known.implode()).sum() == 1_973
