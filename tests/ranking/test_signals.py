from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.schema import UserFeatures
from ranking.rows import CutData
from ranking.signals import CutSource, SignalSchema, compute_signals, knn_weights, user_logits

ITEMS = np.arange(100, dtype=np.int32)


@pytest.fixture
def source(cut_data: CutData) -> CutSource:
    assert isinstance(cut_data.source, CutSource)
    return cut_data.source


def test_columns_are_the_parts_own_scores(cut_data: CutData, source: CutSource, schema: SignalSchema) -> None:
    user = cut_data.users[3]
    found = compute_signals(source, schema, user, ITEMS)
    assert found.names == (
        "als", "knn", "cosine", "head_purchase", "head_coupon_response", "user_head_churn",
    )  # fmt: skip
    assert source.collaborative is not None
    assert source.sides is not None
    row = source.positions[user.user_id]
    als = source.collaborative.als_scores(row, ITEMS)
    assert np.array_equal(np.nan_to_num(found.column("als")), als)
    assert np.array_equal(found.column("knn"), source.collaborative.knn_scores(user.items, knn_weights(user), ITEMS))
    vector = source.user_vectors[row]
    assert found.column("cosine") == pytest.approx(source.item_vectors @ vector, abs=1e-6)
    direct = source.sides.heads.pair_logits("purchase", vector, source.item_vectors)
    assert found.column("head_purchase") == pytest.approx(direct, abs=1e-5)
    assert user_logits(source, schema, user.user_id)[0] == found.column("user_head_churn")[0]


def test_what_does_not_exist_is_missing(cut_data: CutData, source: CutSource, schema: SignalSchema) -> None:
    nobody = compute_signals(source, schema, UserFeatures.unknown("nobody"), ITEMS)
    assert np.isnan(nobody.columns).all()
    assert np.isnan(user_logits(source, schema, "nobody")).all()
    # nobody bought a coupon, so the factorisation never saw one: its zero vector is no opinion
    known = compute_signals(source, schema, cut_data.users[0], ITEMS)
    assert np.isnan(known.column("als")[90:]).all()
    without = compute_signals(replace(source, sides=None, collaborative=None), schema, cut_data.users[0], ITEMS)
    assert np.isnan(without.columns[:, [0, 1, 3, 4, 5]]).all()
    assert np.isfinite(without.column("cosine")).all()


def test_the_contrastive_head_is_no_column(schema: SignalSchema) -> None:
    assert schema.pair_tasks == ("purchase", "coupon_response")
    assert schema.user_tasks == ("churn",)
    assert SignalSchema.of(None).names == ("als", "knn", "cosine")
