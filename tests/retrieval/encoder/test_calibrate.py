from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.encoder.calibrate import ClassScores, best_sharpness, cross_entropy, sharpen
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import TrainingData
from retrieval.encoder.step import batch_features
from retrieval.encoder.train import train


def test_the_factor_makes_a_head_as_sure_as_it_is_right() -> None:
    """Logits 0 and 4 claim odds of e^4; right 3 of 4 times means odds of 3: the factor is log(3) / 4."""
    logits = np.tile([0.0, 4.0], (40_000, 1))
    labels = np.tile([1, 1, 1, 0], 10_000)
    assert best_sharpness(logits, labels) == pytest.approx(math.log(3) / 4, abs=1e-3)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert cross_entropy(logits, labels, math.log(3) / 4) == pytest.approx(entropy)


@settings(deadline=None, max_examples=30)
@given(scale=st.floats(0.5, 2), seed=st.integers(0, 100))
def test_the_scale_of_logits_makes_no_difference(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 4_000)
    logits = np.eye(3)[labels] + rng.normal(size=(4_000, 3))
    one, other = best_sharpness(logits, labels), best_sharpness(logits * scale, labels)
    assert other * scale == pytest.approx(one, rel=2e-2)
    left = cross_entropy(logits * scale, labels, other)
    assert left == pytest.approx(cross_entropy(logits, labels, one), abs=1e-3)
    # One over the variance of the noise is the factor of its log likelihood.
    assert one == pytest.approx(1, rel=0.2)


def test_a_few_rows_make_no_head_certain() -> None:
    """Unbounded, the best factor of two rows that are right is infinite."""
    assert 1 < best_sharpness(np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([1, 0])) < 2


def test_training_leaves_classes_calibrated(
    full_world: TrainingData, small_config: EncoderConfig, tmp_path: Path
) -> None:
    tasks = tuple(task for task in full_world.tasks if task.on == "text" and task.kind != "contrastive")
    data = TrainingData(
        tasks=tasks,
        texts=replace(full_world.texts, answers={}),
        validation_texts=replace(full_world.validation_texts, answers={}),
    )
    result = train(data, small_config.model_copy(update={"steps": 20}), out=tmp_path, progress=False)
    batcher, rng = result.prepared.batcher(small_config.batch, "held_out"), np.random.default_rng(0)

    def scores() -> ClassScores:
        found = ClassScores()
        with torch.no_grad():
            for batch in held_out:
                found.look(result.model, batch, batch_features(result.model, batch, result.prepared.pooler))
        return found

    held_out = [batcher(rng) for _ in range(small_config.validation_batches)]
    before = scores()
    assert set(before.sharpness()) == {task.name for task in tasks if task.kind == "multiclass"}
    # The prior, whose centre is the head's own scale, has moved with it.
    assert before.sharpness()["topic"] == pytest.approx(1, abs=0.05)
    sharpen(result.model, {"topic": 2.0})
    assert scores().losses()["topic"] == pytest.approx(before.losses()["topic"], rel=0.05)
    assert scores().sharpness()["topic"] == pytest.approx(0.5, abs=0.05)
