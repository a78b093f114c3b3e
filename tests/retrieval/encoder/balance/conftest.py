"""Three tasks of both kinds, with baselines far apart."""

from __future__ import annotations

import pytest

from retrieval.encoder.balance.make import TaskLoss


@pytest.fixture
def tasks() -> dict[str, TaskLoss]:
    return {
        "click": TaskLoss(kind="classification", baseline=0.5, count=900),
        "buy": TaskLoss(kind="classification", baseline=0.2, count=100),
        "rate": TaskLoss(kind="regression", baseline=2.0, count=400),
    }
