from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.schema import CATEGORY_STATS, HISTORY_STATS, ITEM_STATS, USER_STATS, UserFeatures
from ranking.assemble import FEATURES, assemble, feature_hash, feature_names
from ranking.rows import CutData, CutRows, assemble_lists
from ranking.signals import Signals, SignalSchema, compute_signals

SCHEMA = SignalSchema(("purchase", "coupon_response"), ("churn", "club"))


def columns(row: np.ndarray) -> dict[str, float]:
    return dict(zip(feature_names(SCHEMA.names), row.tolist(), strict=True))


def some_user(data: CutData) -> UserFeatures:
    return max(data.users, key=lambda user: len(user.items))


def signals_of(data: CutData, user: UserFeatures, items: np.ndarray) -> Signals:
    return compute_signals(data.source, SCHEMA, user, items)


def test_values_by_hand(cut_data: CutData) -> None:
    """Two history items; the candidate list holds one of them and one never bought."""
    stats = np.zeros(len(USER_STATS), np.float32)
    stats[USER_STATS.index("baskets")] = 8
    stats[USER_STATS.index("purchases")] = 20
    stats[USER_STATS.index("mean_basket_value")] = 30
    stats[USER_STATS.index("mean_basket_items")] = 10
    history = np.zeros((2, len(HISTORY_STATS)), np.float32)
    for name, values in {
        "count": (4, 1), "last_age_days": (6, 50), "mean_gap_days": (8, np.nan), "decayed_90": (2, 0.5),
        "decayed_30": (1, 0.1),
    }.items():  # fmt: skip
        history[:, HISTORY_STATS.index(name)] = values
    categories = np.zeros((1, len(CATEGORY_STATS)), np.float32)
    categories[0, CATEGORY_STATS.index("count")] = 10
    categories[0, CATEGORY_STATS.index("distinct_items")] = 4
    categories[0, CATEGORY_STATS.index("decayed_90")] = 4
    user = UserFeatures(
        user_id="nobody", known=True, as_of=0.0, stats=stats, items=np.array([13, 7], np.int32), history=history,
        categories=np.array([4], np.int32), category_stats=categories,
    )  # fmt: skip
    table = np.full((20, len(ITEM_STATS)), 2, np.float32)
    snapshot = replace(
        cut_data.snapshot,
        item_ids=[str(n) for n in range(20)], stats=table, titles=[""] * 20, eligible=np.ones(20, bool),
        attributes=cut_data.snapshot.attributes[:20], category_codes=(np.arange(20) % 9).astype(np.int32),
    )  # fmt: skip
    items = np.array([13, 5], np.int32)
    signals = Signals(SCHEMA.names, np.full((2, len(SCHEMA.names)), np.nan, np.float32))
    bought, other = (columns(row) for row in assemble(user, items, snapshot, signals))
    assert bought["history_count"] == 4
    assert bought["history_due"] == pytest.approx(6 / 8)
    assert bought["history_overdue_days"] == 6 - 8
    assert bought["history_basket_share"] == pytest.approx(4 / 8)
    assert bought["history_rank"] == 0  # decayed_90 2 is above 0.5
    assert bought["history_decay_ratio"] == pytest.approx(1 / 2)
    # item 13 has category 13 % 9 = 4, the user's one category
    assert bought["category_share"] == pytest.approx(10 / 20)
    assert bought["category_repeat"] == pytest.approx(10 / 4)
    assert bought["category_decay_share"] == 1
    assert bought["cross_due_by_item"] == pytest.approx(6 / 2)
    assert bought["cross_item_share_of_category"] == pytest.approx(2 / 4)
    assert bought["cross_price_to_user"] == pytest.approx(2 * 10 / 30)
    # category 4 holds items 4 and 13, 2 purchases each in 28 days: 2 / (2 + 2 + 1), times the user's 4 of the category
    assert bought["item_category_share"] == pytest.approx(2 / 5)
    assert bought["cross_category_demand"] == pytest.approx(4 * 2 / 5)
    assert bought["user_baskets"] == 8
    assert bought["item_buyers"] == 2
    assert all(np.isnan(value) for name, value in other.items() if name.startswith(("history_", "category_")))
    assert np.isnan(other["cross_due_by_item"])


def test_training_and_serving_rows_are_bit_equal(cut_data: CutData, cut_rows: list[CutRows]) -> None:
    rows = cut_rows[1]
    for number in (0, 7, 40):
        user, position = cut_data.users[number], cut_data.positions[number]
        mine = rows.users == position
        items = rows.items[mine]
        signals = signals_of(cut_data, user, items)
        online = assemble(user, items, cut_data.snapshot, signals)
        assert online.tobytes() == rows.features[mine].tobytes()


def test_a_row_does_not_depend_on_the_rest_of_the_list(cut_data: CutData) -> None:
    user, items = some_user(cut_data), np.arange(60, dtype=np.int32)
    signals = signals_of(cut_data, user, items)
    whole = assemble(user, items, cut_data.snapshot, signals)
    for row in (0, 31, 59):
        alone = assemble(user, items[[row]], cut_data.snapshot, Signals(signals.names, signals.columns[[row]]))
        assert alone[0].tobytes() == whole[row].tobytes()


@given(order=st.permutations(range(40)))
def test_permuting_the_list_permutes_the_rows(cut_data: CutData, order: list[int]) -> None:
    user, items = some_user(cut_data), np.arange(40, dtype=np.int32)
    signals = signals_of(cut_data, user, items)
    whole = assemble(user, items, cut_data.snapshot, signals)
    permuted = Signals(signals.names, signals.columns[order])
    assert assemble(user, items[order], cut_data.snapshot, permuted).tobytes() == whole[order].tobytes()


def test_an_unknown_user_gets_item_features_alone(cut_data: CutData) -> None:
    user, items = UserFeatures.unknown("nobody"), np.array([3, 4], np.int32)
    rows = assemble(user, items, cut_data.snapshot, signals_of(cut_data, user, items))
    for row, item in zip(rows, items, strict=True):
        found = columns(row)
        known = {name for name, value in found.items() if not np.isnan(value)}
        assert known <= {name for name in FEATURES if name.startswith("item_")}
        assert found["item_buyers"] == cut_data.snapshot.stats[item, ITEM_STATS.index("buyers")]


def test_no_candidates(cut_data: CutData) -> None:
    none = np.empty(0, np.int32)
    user = some_user(cut_data)
    assert assemble(user, none, cut_data.snapshot, signals_of(cut_data, user, none)).shape == (
        0, len(feature_names(SCHEMA.names)),
    )  # fmt: skip


def test_lists_fill_one_matrix(cut_data: CutData) -> None:
    lists = [np.array([1, 2], np.int32), np.empty(0, np.int32), np.array([5], np.int32)]
    features, signals = assemble_lists(cut_data.users[:3], lists, cut_data.snapshot, cut_data.source, SCHEMA)
    assert features.flags.c_contiguous
    assert features.shape == (3, len(feature_names(SCHEMA.names)))
    assert np.array_equal(features[:, -len(SCHEMA.names) :], signals.columns, equal_nan=True)


def test_the_hash_follows_names_and_order() -> None:
    assert feature_hash(("als", "knn")) != feature_hash(("knn", "als"))
    assert feature_hash(SCHEMA.names) == feature_hash(SCHEMA.names)


def test_names_are_unique() -> None:
    names = feature_names(SignalSchema(("purchase",), ("churn",)).names)
    assert len(set(names)) == len(names)
