from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from structlog.testing import capture_logs

from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.batch import Batch, RowLabels
from retrieval.encoder.calibrate import (
    Calibration,
    HeldOutScores,
    calibrate,
    calibrated_tasks,
    cross_entropy,
    fit,
    fit_line,
)
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.step import batch_features
from retrieval.encoder.train import train


def test_the_factor_makes_a_head_as_sure_as_it_is_right() -> None:
    """Logits 0 and 4 claim odds of e^4; right 3 of 4 times means odds of 3: the factor is log(3) / 4."""
    logits = np.tile([0.0, 4.0], (40_000, 1))
    labels = np.tile([1, 1, 1, 0], 10_000)
    found = fit(logits, labels, offset=False)
    assert found.factor == pytest.approx(math.log(3) / 4, abs=1e-3)
    assert found.offset == 0
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert cross_entropy(logits, labels, found) == pytest.approx(entropy)


def test_the_offset_brings_another_rate() -> None:
    """A head that learnt among as many 1 as 0 meets 1 of 10, its slope twice too steep: factor .5, offset log(1/9)."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200_000)
    labels = (rng.random(len(truth)) < expit(truth - math.log(9))).astype(np.int64)
    found = fit(np.stack([np.zeros_like(truth), 2 * truth], axis=1), labels, offset=True)
    assert found.factor == pytest.approx(0.5, rel=0.03)
    assert found.offset == pytest.approx(-math.log(9), rel=0.03)


@settings(deadline=None, max_examples=30)
@given(scale=st.floats(0.5, 2), seed=st.integers(0, 100))
def test_the_scale_of_logits_makes_no_difference(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 4_000)
    logits = np.eye(3)[labels] + rng.normal(size=(4_000, 3))
    one, other = fit(logits, labels, offset=False), fit(logits * scale, labels, offset=False)
    assert other.factor * scale == pytest.approx(one.factor, rel=2e-2)
    assert cross_entropy(logits * scale, labels, other) == pytest.approx(cross_entropy(logits, labels, one), abs=1e-3)
    # One over the variance of the noise is the factor of its log likelihood.
    assert one.factor == pytest.approx(1, rel=0.2)


def test_a_line_brings_numbers_to_another_level() -> None:
    """Labels are half the numbers and 3 less; what is left is the noise's variance, 1."""
    rng = np.random.default_rng(0)
    values = rng.normal(10, 4, 100_000)
    labels = values / 2 - 3 + rng.normal(size=len(values))
    found = fit_line(values, labels)
    assert found.factor == pytest.approx(0.5, abs=0.01)
    assert found.offset == pytest.approx(-3, abs=0.1)
    # Two rows whose slope is 2: centred squares of .5, products of 1, and a variance of 1: (1 + 1) / (.5 + 1).
    assert fit_line(np.array([0.0, 1.0]), np.array([0.0, 2.0])).factor == pytest.approx(4 / 3)
    # Numbers that say the opposite are made as small as may be, not turned about.
    assert fit_line(values, -values).factor == pytest.approx(1 / 8)


def test_a_few_rows_make_no_head_certain() -> None:
    """Without priors the best factor of two rows that are right is infinite, and the offset of two that say 1 too."""
    assert 1 < fit(np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([1, 0]), offset=False).factor < 2
    assert 0 < fit(np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([1, 1]), offset=True).offset < 2


def test_links_and_pairs_are_left_alone() -> None:
    tasks = [
        EncoderTask(name="topic", kind="multiclass", on="text", classes=("a", "b")),
        EncoderTask(name="urgent", kind="binary", on="text"),
        EncoderTask(name="click", kind="binary", on="text"),
        EncoderTask(name="sale", kind="binary", on="text", parent="click"),
        EncoderTask(name="tone", kind="regression", on="text"),
        EncoderTask(name="purchase", kind="binary", on="pair"),
        EncoderTask(name="churn", kind="binary", on="user"),
        EncoderTask(name="age", kind="multiclass", on="user", classes=("a", "b")),
    ]
    assert [task.name for task in calibrated_tasks(tasks)] == ["topic", "urgent", "tone", "age"]


def test_training_leaves_heads_calibrated(
    full_world: TrainingData, small_config: EncoderConfig, tmp_path: Path
) -> None:
    tasks = tuple(task for task in full_world.tasks if task.on == "text" and task.kind != "contrastive")
    data = TrainingData(
        tasks=tasks,
        texts=replace(full_world.texts, answers={}),
        validation_texts=replace(full_world.validation_texts, answers={}),
    )
    with capture_logs() as logs:
        result = train(data, small_config.model_copy(update={"steps": 20}), out=tmp_path, progress=False)
    told = {entry["task"]: entry for entry in logs if entry["event"] == "encoder_calibrated"}
    assert set(told) == {"topic", "urgent", "tone"}
    model, batcher, rng = (
        result.model,
        result.prepared.batcher(small_config.warmup.batch, "held_out"),
        np.random.default_rng(0),
    )
    held_out = [batcher(rng) for _ in range(small_config.validation_batches)]
    scores = HeldOutScores(model.tasks)
    with torch.no_grad():
        for batch in held_out:
            scores.look(model, batch, batch_features(model, batch, result.prepared.pooler))
    # Labels alone tell what a constant costs.
    rates, tones = (
        np.concatenate([batch.rows[name].label[batch.rows[name].present] for batch in held_out])
        for name in ("urgent", "tone")
    )
    rate = rates.mean()
    assert scores.constants() == {
        "urgent": pytest.approx(-rate * np.log(rate) - (1 - rate) * np.log(1 - rate)),
        "tone": pytest.approx(tones.var()),
    }
    # Three times as sure as it was, topic need not change any more; the prior, whose centre has moved, wants a little.
    assert told["topic"]["factor"] > 2
    assert scores.calibrations()["topic"].factor == pytest.approx(1, abs=0.1)


def test_numbers_that_are_all_one_calibrate_nothing(full_world: TrainingData, small_config: EncoderConfig) -> None:
    """A line through them would explain all, whatever was learnt."""
    model = MultiTaskEncoder(load_backbone(small_config.backbone), full_world.tasks, small_config)
    tone = RowLabels(label=torch.full((3,), 7.0), present=torch.ones(3, dtype=torch.bool))
    batch = Batch(
        views={"text": np.arange(3)}, items=np.empty(0, np.int64), log_q=torch.empty(0), rows={"tone": tone}
    )  # fmt: skip
    scores = HeldOutScores(model.tasks)
    with torch.no_grad():
        scores.look(model, batch, Features(vectors={"text": torch.eye(3, model.backbone.dim)}))
    assert (scores.calibrations(), scores.losses(), scores.constants()) == ({}, {}, {})


def test_heads_give_calibrated_logits(full_world: TrainingData, small_config: EncoderConfig) -> None:
    model = MultiTaskEncoder(load_backbone(small_config.backbone), full_world.tasks, small_config)
    text = Features(vectors={"text": torch.nn.functional.normalize(torch.randn(5, model.backbone.dim), dim=1)})
    tasks = [model.task("urgent"), model.task("topic")]
    assert tasks[0].energy == ("topic",)
    with torch.no_grad():
        for task in tasks:
            for parameter in model.heads[task.name].parameters():
                parameter.add_(torch.randn_like(parameter))
        before = [model.logits(task, text, {}) for task in tasks]
        calibrate(model, {"urgent": Calibration(factor=2.0, offset=-0.7), "topic": Calibration(factor=0.25)})
        urgent, topic = (model.logits(task, text, {}) for task in tasks)
    # Although it reads topic's classes, which are now less sure.
    assert torch.allclose(urgent, 2 * before[0] - 0.7, atol=1e-5)
    assert torch.allclose(topic, before[1] / 4, atol=1e-5)
