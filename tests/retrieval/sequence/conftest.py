"""Histories that go round a ring of items, some of which nobody has touched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from features.schema import Float32
from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.histories import Histories
from retrieval.sequence.train import Trained, train

RING, COLD = 12, 3
CONFIG = SequenceConfig(
    length=6, width=16, blocks=2, heads=2, dropout=0.1, batch=64, epochs=12, held_out=20, learning_rate=0.01
)


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """What a model is trained on; after item i comes i + 1, after the last the first."""

    histories: Histories
    texts: Float32


@pytest.fixture(scope="session")
def ring() -> World:
    rng = np.random.default_rng(0)
    users = [(rng.integers(RING) + np.arange(rng.integers(3, 10))) % RING for _ in range(150)]
    positions = np.repeat(np.arange(len(users)), [len(items) for items in users]).astype(np.int32)
    histories = Histories.of(positions, np.concatenate(users).astype(np.int32), n_users=len(users))
    return World(histories=histories, texts=rng.standard_normal((RING + COLD, 5)).astype(np.float32))


@pytest.fixture(scope="session")
def trained(ring: World) -> Trained:
    return train(ring.histories, ring.texts, CONFIG, kinds=2)
