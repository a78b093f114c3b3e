"""A runner of short trainings, and a batch with a model to look at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrieval.encoder.batch import Batch
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.constants import constant_losses, start_heads
from retrieval.encoder.data import TrainingData
from retrieval.encoder.prepare import Prepared, prepare
from retrieval.encoder.train import TrainResult, train

Runner = Callable[..., TrainResult]


def changed(config: EncoderConfig, **update: Any) -> EncoderConfig:
    """Return the configuration with some lines changed and checked as a workspace's is."""
    return EncoderConfig.model_validate({**config.model_dump(), **update})


@dataclass
class Scene:
    """A model that has left its start, and batches to look at."""

    config: EncoderConfig
    prepared: Prepared
    batches: list[Batch]
    baselines: dict[str, float]


@pytest.fixture
def scene(full_world: TrainingData, small_config: EncoderConfig) -> Scene:
    """The full world on the tiny BERT, everything trainable, heads and projections off their start."""
    config = changed(small_config, train_layers=None)
    torch.manual_seed(0)
    prepared = prepare(full_world, config)
    batcher, rng = prepared.batcher(config.batch), np.random.default_rng(0)
    batches = [batcher(rng) for _ in range(3)]
    baselines = start_heads(prepared.model, constant_losses(prepared.model.tasks, batches, logq=True))
    with torch.no_grad():
        for part in (prepared.model.projections, prepared.model.heads):
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return Scene(config, prepared, batches, baselines)


@pytest.fixture
def short(world: TrainingData, small_config: EncoderConfig, tmp_path: Path) -> Runner:
    """Train a few steps without a warm-up; keyword arguments are lines of the configuration."""

    def run(data: TrainingData = world, *, replay: TrainingData | None = None, **lines: Any) -> TrainResult:
        warmup = {**small_config.warmup.model_dump(), "steps": 0}
        config = changed(small_config, **{"warmup": warmup, "steps": 6, "validate_every": 3, **lines})
        return train(data, config, out=tmp_path / "run", progress=False, replay=replay)

    return run
