from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from retrieval.encoder.adapt.limits import HeldOutLimits
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.constants import constant_losses, losses_elsewhere
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.heads import PairHead, RowHead
from retrieval.encoder.held_out import HeldOut
from retrieval.encoder.prepare import prepare
from retrieval.encoder.refined import Answers, HeldOutAnswers
from retrieval.encoder.step import batch_features


def entropy(rate: float) -> float:
    return -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)


def answers(logits: object, labels: object, *, shift: object = 0.0, weights: object = 1.0) -> Answers:
    rows = np.asarray(labels, np.float64)
    return Answers(
        logits=np.asarray(logits, np.float64),
        shift=np.broadcast_to(np.asarray(shift, np.float64), rows.shape),
        labels=rows,
        weights=np.broadcast_to(np.asarray(weights, np.float64), rows.shape),
    )


def test_what_is_left_is_what_the_order_does_not_tell() -> None:
    """Of pairs with logit 9 3 of 4 are right, of those with -9 1 of 4: however sure, the entropy of 1/4 is left."""
    logits, labels = np.repeat([9.0, -9.0], 40_000), np.tile([1, 1, 1, 0, 0, 0, 0, 1], 10_000).reshape(-1, 8)
    sure = answers(logits, np.concatenate([labels[:, :4].ravel(), labels[:, 4:].ravel()]))
    assert sure.refined() == pytest.approx(entropy(0.25), abs=1e-4)
    assert sure.constant() == pytest.approx(math.log(2), abs=1e-6)


def test_shifts_belong_to_the_sample_and_stay() -> None:
    """Where half the rows have a shift of 2, logits that know the rest are left as they are, and so is the constant."""
    rng = np.random.default_rng(0)
    logits, shift = rng.normal(-1, 1, 200_000), np.repeat([0.0, 2.0], 100_000)
    found = answers(logits, rng.random(len(logits)) < expit(logits + shift), shift=shift)
    truth = expit(logits + shift)
    assert found.refined() == pytest.approx(np.mean([entropy(p) for p in truth[::50]]), abs=0.01)
    level = answers(np.zeros(len(logits)), rng.random(len(logits)) < expit(-1 + shift), shift=shift)
    assert level.constant() == pytest.approx((entropy(float(expit(-1))) + entropy(float(expit(1)))) / 2, abs=0.01)


@settings(deadline=None, max_examples=20)
@given(factor=st.floats(0.3, 3), offset=st.floats(-2, 2), seed=st.integers(0, 100))
def test_how_sure_a_head_is_makes_no_difference(factor: float, offset: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=4_000)
    labels = rng.random(len(truth)) < expit(truth)
    assert answers(truth * factor + offset, labels).refined() == pytest.approx(
        answers(truth, labels).refined(), abs=2e-3
    )


def test_a_weight_counts_as_so_many_pairs() -> None:
    rng = np.random.default_rng(1)
    logits, labels, times = rng.normal(size=300), rng.random(300) < 0.3, rng.integers(1, 5, 300)
    many = answers(np.repeat(logits, times), np.repeat(labels, times))
    few = answers(logits, labels, weights=times)
    assert few.refined() == pytest.approx(many.refined(), abs=1e-6)
    assert few.constant() == pytest.approx(many.constant(), abs=1e-6)


def test_logits_that_are_no_numbers_have_no_loss() -> None:
    """As those of weights that a learning rate far too high has blown up."""
    assert math.isnan(answers([math.nan, 1.0], [1, 0]).refined())
    assert math.isnan(answers([math.inf, 1.0], [1, 0]).refined())


def test_a_few_pairs_make_no_head_certain() -> None:
    """Two that are right would cost nothing without priors."""
    assert 0.05 < answers([1.0, -1.0], [1, 0]).refined() < answers([1.0, -1.0], [1, 0]).constant()


def test_only_heads_that_ranking_calibrates_alone_are_looked_at() -> None:
    tasks = [
        EncoderTask(name="view", kind="binary", on="pair"),
        EncoderTask(name="sale", kind="binary", on="pair", parent="view"),
        EncoderTask(name="coupon", kind="binary", on="pair"),
        EncoderTask(name="rating", kind="regression", on="pair"),
        EncoderTask(name="churn", kind="binary", on="user"),
        EncoderTask(name="urgent", kind="binary", on="text"),
    ]
    assert [task.name for task in HeldOutAnswers(tasks).tasks] == ["coupon", "churn"]


def test_validations_do_not_ask_how_sure_a_head_is(full_world: TrainingData, small_config: EncoderConfig) -> None:
    torch.manual_seed(0)
    prepared = prepare(full_world, small_config)
    batcher, rng = prepared.batcher(small_config.warmup.batch, "held_out"), np.random.default_rng(0)
    batches = [batcher(rng) for _ in range(2)]
    model, table = prepared.model, prepared.pooler.table
    looked_at = [task.name for task in HeldOutAnswers(model.tasks).tasks]
    assert set(looked_at) == {"repurchase", "churn"}
    constants = constant_losses(model.tasks, batches, logq=model.logq)
    held_out = HeldOut(batches, table, losses_elsewhere(model.tasks, constants, batches, logq=model.logq))
    limits = HeldOutLimits(model, [], {}, 1.0)

    def losses() -> dict[str, float]:
        return held_out.losses(model, prepared.pooler, limits)

    def plain_loss(name: str) -> float:
        return float(model.losses(batches[0], batch_features(model, batches[0], prepared.pooler))[name])

    for name in looked_at:
        head = model.heads[name]
        assert isinstance(head, PairHead | RowHead)
        weight = head.left if isinstance(head, PairHead) else head.outer.weight
        with torch.no_grad():
            weight.add_(torch.randn_like(weight) / 20)
            before, plain = losses()[name], plain_loss(name)
            head.scale.mul_(2)
            head.bias.add_(2)
            assert losses()[name] == pytest.approx(before, abs=2e-2)
            assert plain_loss(name) > 1.5 * plain
