from __future__ import annotations

import numpy as np
import pytest

from ranking import gbdt
from ranking.blend import BlendInputs, TaskBlend
from ranking.gbdt import GbdtConfig, TrainingRows, fit_binary
from ranking.terms import group_of, terms_of

NAMES = ("history_count", "item_buyers", "signal_als")


def test_by_hand() -> None:
    """als in the blend: 2 (x - 1) and .5 log, -1 and -.25 where missing; .3 x more of an item never bought, else .7.

    Trees: weight .8 around their mean .2.
    """
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3)).astype(np.float32)
    labels = (features[:, 1] > 0.5).astype(np.float32)
    rows = TrainingRows(
        names=NAMES,
        features=features,
        labels=labels,
        weights=np.ones(400, np.float32),
        groups=np.arange(400, dtype=np.int32) // 10,
    )
    booster = fit_binary(rows, GbdtConfig(rounds=3, num_leaves=4, min_data_in_leaf=5, feature_fraction=1.0, threads=1))
    raw = gbdt.predict_raw(booster, features[:3])
    names = ("collaborative/als", "collaborative/als_log", "gbdt/purchase", "collaborative/als@fresh")
    blend = TaskBlend(
        names=names,
        mean=(1.0, 0.0, 0.2, 0.0),
        scale=(1.0, 2.0, 1.0, 1.0),
        weights=(2.0, 1.0, 0.8, 0.3),
        missing=(-1.0, -0.25, 0.0, 0.7),
        bias=-2.0,
    )
    nan = np.nan
    columns = np.array([[3, 4, raw[0], nan], [nan, nan, raw[1], nan], [3, 4, raw[2], 3]], np.float32)
    inputs = BlendInputs(names, columns)
    terms = terms_of(blend, inputs, NAMES, features[:3], {"purchase": booster})
    assert terms.logits == pytest.approx(blend.logits(inputs), abs=1e-6)
    shap = gbdt.contributions(booster, features[:3])
    assert terms.base == pytest.approx(-2 + 0.8 * (shap[:, 3] - 0.2))
    assert terms.values[:, 1] == pytest.approx(0.8 * shap[:, 1])
    assert terms.values[:, 2] - 0.8 * shap[:, 2] == pytest.approx([2 * 2 + 0.5 * 4, -1 - 0.25, 6 + 0.3 * 3])
    assert terms.values[:, 0] - 0.8 * shap[:, 0] == pytest.approx([0.7, 0.7, 0.0])
    assert sum(terms.groups().values()) == pytest.approx(terms.logits)
    assert list(terms.groups()) == ["history", "item", "collaborative", "base"]


def test_trees_that_do_not_run_are_the_base() -> None:
    blend = TaskBlend(("gbdt/coupon",), (0.5,), (1.0,), (2.0,), (-0.4,), 1.0)
    inputs = BlendInputs(("gbdt/coupon",), np.full((2, 1), np.nan, np.float32))
    terms = terms_of(blend, inputs, NAMES, np.zeros((2, 3), np.float32), {})
    assert terms.base.tolist() == [0.6, 0.6]
    assert not terms.values.any()


@pytest.mark.parametrize(
    ("feature", "group"),
    [
        ("history_due", "history"),
        ("cross_price_to_user", "cross"),
        ("user_orders", "user"),
        ("signal_knn", "collaborative"),
        ("signal_sequence", "sequence"),
        ("signal_cosine", "encoder"),
        ("signal_user_head_churn", "encoder"),
    ],
)
def test_groups(feature: str, group: str) -> None:
    assert group_of(feature) == group
