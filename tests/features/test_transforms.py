"""Features by hand, and that none sees the cut or later. Times are days since 2020-01-01; the cut is day 100."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.rows import user_features, wide_user_rows
from features.schema import CATEGORY_STATS, HISTORY_STATS, ITEM_STATS, USER_STATS, Int32
from features.schema import UTC as UTC_DTYPE
from features.transforms import FeatureConfig, FeatureFrames, category_codes, compute
from infra.errors import InvalidInputError

START = datetime(2020, 1, 1, tzinfo=UTC)
CUT = START + timedelta(days=100)
CONFIG = FeatureConfig()
CODES = np.array([0, 0, 1, -1], np.int32)
NAN = math.nan

Row = tuple[int, int, str, float, float | None, float | None]


def events(*rows: Row) -> pl.DataFrame:
    """Rows of (user, item, event, day, value, quantity)."""
    columns = list(zip(*rows, strict=True)) or [()] * 6
    return pl.DataFrame(
        {
            "user": columns[0],
            "item": columns[1],
            "event": columns[2],
            "timestamp": [START + timedelta(days=day) for day in columns[3]],
            "value": columns[4],
            "quantity": columns[5],
        },
        schema={
            "user": pl.Int32, "item": pl.Int32, "event": pl.String, "timestamp": UTC_DTYPE,
            "value": pl.Float64, "quantity": pl.Float64,
        },
    )  # fmt: skip


# User 0 buys item 0 on days 10, 50 and 90 and item 1 on day 90 (twice in that basket); user 1 buys item 0 on day 95.
# User 2 buys nothing; item 2 is shown to users 0 and 1, user 0 answers; nobody buys items 2 and 3.
TABLE = events(
    (0, 0, "purchase", 10, 2.0, 1.0),
    (0, 0, "purchase", 50, 2.0, 1.0),
    (0, 0, "purchase", 90, 6.0, 2.0),
    (0, 1, "purchase", 90, 1.0, 1.0),
    (0, 1, "purchase", 90, 3.0, 1.0),
    (1, 0, "purchase", 95, 3.0, None),
    (0, 2, "exposure", 20, None, None),
    (0, 2, "exposure", 60, None, None),
    (1, 2, "exposure", 99, None, None),
    (0, 2, "response", 61, None, None),
)


def frames(table: pl.DataFrame, codes: Int32 = CODES) -> FeatureFrames:
    return compute(table, codes, CUT, n_users=3, config=CONFIG)


def assert_same(left: FeatureFrames, right: FeatureFrames, *, exact: bool = True) -> None:
    for name in ("user_stats", "user_history", "user_category", "item_stats"):
        assert_frame_equal(getattr(left, name), getattr(right, name), check_exact=exact)


def assert_no_future(table: pl.DataFrame, later: pl.DataFrame) -> None:
    """Events at the cut or after it change no feature of any user or item."""
    assert_same(frames(table), frames(pl.concat([table, later])))


def test_user_stats_by_hand() -> None:
    rows = frames(TABLE).user_stats
    assert rows["user"].to_list() == [0, 1, 2]
    assert rows["user_as_of"].to_list() == [CUT.timestamp()] * 3
    found = dict(zip(USER_STATS, rows.drop("user", "user_as_of").row(0), strict=True))
    assert found == pytest.approx(
        {
            "purchases": 4,  # item 0 on three days, item 1 on one (its two rows are one purchase)
            "baskets": 3,
            "distinct_items": 2,
            "recency_days": 10,
            "tenure_days": 90,
            "basket_gap_days": 40,  # (90 - 10) / (3 - 1)
            "baskets_28d": 1,  # day 90
            "items_28d": 2,
            "value_28d": 10,  # 6 + 1 + 3
            "mean_basket_value": 14 / 3,
            "mean_basket_items": 4 / 3,
            "repeat_share": 2 / 4,  # days 50 and 90 of item 0
            "exposures_56d": 1,  # day 60 is 40 days ago, day 20 is 80
            "responses": 1,
            "response_rate": 1 / 2,
        }
    )
    nobody = dict(zip(USER_STATS, rows.drop("user", "user_as_of").row(2), strict=True))
    dated = {"recency_days", "tenure_days", "basket_gap_days", "mean_basket_value", "mean_basket_items",
             "repeat_share", "response_rate"}  # fmt: skip
    assert nobody == pytest.approx({name: NAN if name in dated else 0 for name in USER_STATS}, nan_ok=True)


def test_user_history_by_hand() -> None:
    rows = frames(TABLE).user_history
    assert rows["history_items"].to_list() == [[0, 1], [0], []]
    matrix = np.array([rows[f"history_{name}"][0].to_list() for name in HISTORY_STATS]).T
    expected = [
        # count, quantity, value, last age, first age, sum exp(-age/90), sum exp(-age/30), (90 - 10) / 2
        [3, 4, 10, 10, 90, sum(math.exp(-age / 90) for age in (10, 50, 90)),
         sum(math.exp(-age / 30) for age in (10, 50, 90)), 40],
        [1, 2, 4, 10, 10, math.exp(-10 / 90), math.exp(-10 / 30), NAN],
    ]  # fmt: skip
    np.testing.assert_allclose(matrix, expected, rtol=1e-6)
    assert rows["history_quantity"][1].to_list() == [1.0]  # a missing quantity counts one


def test_user_category_by_hand() -> None:
    rows = frames(TABLE).user_category
    assert rows["category_codes"].to_list() == [[0], [0], []]
    found = [rows[f"category_{name}"][0].to_list() for name in CATEGORY_STATS]
    decayed = sum(math.exp(-age / 90) for age in (10, 50, 90)) + math.exp(-10 / 90)
    np.testing.assert_allclose(found, [[4], [2], [10], [decayed]], rtol=1e-6)


def test_item_stats_by_hand() -> None:
    rows = frames(TABLE).item_stats
    assert rows["item"].to_list() == [0, 1, 2, 3]
    found = dict(zip(ITEM_STATS, rows.drop("item").row(0), strict=True))
    assert found == pytest.approx(
        {
            "buyers": 2,
            "purchases": 4,
            "buyers_28d": 2,
            "purchases_28d": 2,  # days 90 and 95
            "decayed_90": sum(math.exp(-age / 90) for age in (5, 10, 50, 90)),
            "trend": 2 / 2,  # day 50 is 50 days ago, within 28 to 56: 2 / (1 + 1)
            "repeat_rate": 1 / 2,
            "mean_gap_days": 40,  # user 0 alone has gaps: 80 days over 2
            "mean_price": 13 / 5,  # 2 + 2 + 6 + 3 over 1 + 1 + 2 + 1
            "price_28d_ratio": (9 / 3) / (13 / 5),
            "age_days": 90,
            "recency_days": 5,
        },
        rel=1e-6,
    )
    nothing = dict(zip(ITEM_STATS, rows.drop("item").row(3), strict=True))
    zero = {"buyers", "purchases", "buyers_28d", "purchases_28d", "decayed_90", "trend"}
    assert nothing == pytest.approx({name: 0 if name in zero else NAN for name in ITEM_STATS}, nan_ok=True)


def test_planted_future_changes_nothing() -> None:
    planted = events(
        (2, 3, "purchase", 100, 9.0, 1.0),  # exactly at the cut
        (0, 0, "purchase", 100.001, 9.0, 1.0),
        (1, 2, "response", 120, None, None),
        (0, 3, "exposure", 5000, None, None),
    )
    assert_no_future(TABLE, planted)
    # The same events a moment before the cut do count: the test above can fail.
    early = planted.with_columns(timestamp=pl.lit(CUT - timedelta(microseconds=1)).cast(UTC_DTYPE))
    assert frames(pl.concat([TABLE, early])).user_stats["user_purchases"].to_list() == [5.0, 1.0, 1.0]


row = st.tuples(
    st.integers(0, 2),
    st.integers(0, 3),
    st.sampled_from(["purchase", "exposure", "response", "view"]),
    st.floats(0, 200).map(lambda day: round(day, 3)),
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 10),
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(row, max_size=30))
@example(rows=[(0, 0, "purchase", 0.0, 4.0, 1.175494351e-38)])  # a mean price beyond float32
def test_wild_tables(rows: list[Row]) -> None:
    table = events(*rows)
    before, later = table.filter(pl.col("timestamp") < CUT), table.filter(pl.col("timestamp") >= CUT)
    assert_no_future(before, later)
    assert_same(frames(table), frames(table.reverse()), exact=False)  # sums in another order
    computed = frames(table)
    assert computed.user_stats.height == computed.user_history.height == computed.user_category.height == 3
    assert computed.item_stats.height == 4
    stats = computed.item_stats.drop("item").to_numpy()
    assert not np.isinf(stats).any()
    for frame in (computed.user_stats, computed.item_stats):
        assert frame.null_count().sum_horizontal().item() == 0


def test_one_user_alone_has_the_same_rows() -> None:
    """What an event recomputes for one user equals what the refresh computed for all."""
    alone = compute(TABLE.filter(pl.col("user") == 0), CODES, CUT, n_users=1, config=CONFIG)
    everyone = frames(TABLE)
    for name in ("user_stats", "user_history", "user_category"):
        assert_frame_equal(getattr(alone, name), getattr(everyone, name).head(1), check_exact=True)


def test_rows_become_arrays() -> None:
    computed = frames(TABLE)
    wide = wide_user_rows(["ann", "bob", "cy"], computed.user_stats, computed.user_history, computed.user_category)
    found = user_features(wide)
    assert [user.user_id for user in found] == ["ann", "bob", "cy"]
    assert all(user.known and user.as_of == CUT.timestamp() for user in found)
    assert found[0].items.tolist() == [0, 1]
    assert found[0].history[:, HISTORY_STATS.index("count")].tolist() == [3.0, 1.0]
    assert found[1].history.shape == (1, len(HISTORY_STATS))
    assert found[2].history.shape == (0, len(HISTORY_STATS))
    assert found[2].category_stats.shape == (0, len(CATEGORY_STATS))
    assert found[0].stats.dtype == found[0].history.dtype == np.float32
    absent = user_features(wide.with_columns(user_as_of=pl.lit(None, pl.Float64)))
    assert not any(user.known for user in absent)


def test_a_long_history_keeps_the_most_recent_items() -> None:
    table = events(*[(0, item, "purchase", 99 - item / 1000, 1.0, 1.0) for item in range(1030)])
    computed = compute(table, np.full(1030, -1, np.int32), CUT, n_users=1, config=CONFIG)
    assert computed.user_history["history_items"][0].to_list() == list(range(1024))
    assert computed.user_category["category_codes"][0].to_list() == []


def test_category_codes_are_append_only() -> None:
    items = pl.DataFrame({"category": ["milk", None, "bread", "milk"]})
    codes, names = category_codes(items, "category")
    assert (codes.tolist(), names) == ([1, -1, 0, 1], ["bread", "milk"])
    more = pl.concat([items, pl.DataFrame({"category": ["apples"]})])
    codes, names = category_codes(more, "category", previous=names)
    assert (codes.tolist(), names) == ([1, -1, 0, 1, 2], ["bread", "milk", "apples"])
    assert category_codes(items, None)[0].tolist() == [-1] * 4
    with pytest.raises(InvalidInputError, match="did you mean 'category'"):
        category_codes(items, "categry")


def test_a_naive_cut_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="naive"):
        compute(TABLE, CODES, datetime(2020, 4, 10), n_users=3, config=CONFIG)
