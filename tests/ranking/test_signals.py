from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from features.schema import HISTORY_STATS, UserFeatures
from ranking.rows import CutData
from ranking.signals import CutSource, HeadSides, SignalSchema, compute_signals, knn_weights, user_logits
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.layout import TaskEntry
from retrieval.sequence.source import SequenceSource
from tests.retrieval.sequence.echo import echo_model, next_vector

ITEMS = np.arange(100, dtype=np.int32)


@pytest.fixture
def source(cut_data: CutData) -> CutSource:
    assert isinstance(cut_data.source, CutSource)
    return cut_data.source


def test_columns_are_the_parts_own_scores(cut_data: CutData, source: CutSource, schema: SignalSchema) -> None:
    user = cut_data.users[3]
    found = compute_signals(source, schema, user, ITEMS)
    assert found.names == (
        "als", "knn", "cosine", "head_purchase", "head_coupon_response", "user_head_churn", "user_head_club",
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
    assert np.isnan(without.columns[:, [0, 1, 3, 4, 5, 6]]).all()
    assert np.isfinite(without.column("cosine")).all()


def test_the_sequence_models_cosine_stands_last(cut_data: CutData, source: CutSource, schema: SignalSchema) -> None:
    user = cut_data.users[0]
    items = np.asarray(source.item_vectors)
    model = SequenceSource.of(echo_model(items), np.ones(len(items), bool), items)
    wider = replace(schema, sequence=True)
    assert wider.names == (*schema.names, "sequence")
    found = compute_signals(replace(source, sequence=model), wider, user, ITEMS)
    # Of this model what comes next is what is like the last item, of one basket that of the highest position.
    ages = user.history[:, HISTORY_STATS.index("last_age_days")]
    last = next_vector(items[user.items[ages == ages.min()].max()])
    np.testing.assert_allclose(found.column("sequence"), items[ITEMS] @ last, atol=1e-5)
    others = compute_signals(source, schema, user, ITEMS).columns
    np.testing.assert_array_equal(found.columns[:, :-1], others)
    assert np.isnan(compute_signals(source, wider, user, ITEMS).column("sequence")).all()


def test_only_binary_heads_on_pairs_and_users_are_columns(schema: SignalSchema) -> None:
    """Neither the contrastive heads nor what is said of users in numbers, of items or of texts."""
    assert schema.pair_tasks == ("purchase", "coupon_response")
    assert schema.user_tasks == ("churn", "club")
    assert SignalSchema.of(None).names == ("als", "knn", "cosine")


def test_a_childs_column_holds_its_parent() -> None:
    """By hand: with zero matrices a head's logit is its bias, and p(buy) = p(click) x p(buy given click)."""
    entries = {
        "click": TaskEntry(name="click", kind="binary", on="pair"),
        "buy": TaskEntry(name="buy", kind="binary", on="pair", parent="click"),
    }
    flat = {"left": (1, 2), "right": (1, 2), "user": (2,), "item": (2,)}
    # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4
    biases = {"click": 0.0, "buy": np.log(3)}
    arrays = {
        name: {key: np.zeros(shape, np.float32) for key, shape in flat.items()} | {"bias": np.array([bias], np.float32)}
        for name, bias in biases.items()
    }
    heads = Heads(entries, arrays)
    vectors = np.eye(2, dtype=np.float32)
    sides = HeadSides(heads, vectors)
    assert SignalSchema.of(heads).pair_tasks == ("click", "buy")
    items = np.arange(2, dtype=np.int32)
    assert expit(sides.pair_logits("buy", vectors[0], items)) == pytest.approx([3 / 8, 3 / 8])
    assert expit(sides.pair_logits("click", vectors[0], items)) == pytest.approx([1 / 2, 1 / 2])
