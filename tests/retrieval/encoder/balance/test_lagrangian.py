from __future__ import annotations

import pytest
import torch

from retrieval.encoder.balance.lagrangian import Lagrangian
from retrieval.encoder.balance.scales import Scales

SCALES = Scales(importance={"a": 1.0, "b": 3.0}, baselines={"a": 2.0, "b": 1.0})


def step(balance: Lagrangian, **values: float) -> dict[str, float]:
    """Return the gradient by task at these raw losses."""
    losses = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
    balance(losses).backward()
    return {name: float(loss.grad) for name, loss in losses.items() if loss.grad is not None}


def test_multiplier_and_gradient_by_hand() -> None:
    balance = Lagrangian(SCALES, {"a": 0.8}, eta=0.5, ceiling=10.0)
    # Static at first: 1/4 over baseline 2, 3/4 over 1.
    assert step(balance, a=2.0, b=1.0) == pytest.approx({"a": 0.125, "b": 0.75})
    # Relative loss 2 / 2 = 1; mu = .5 (1 - .8) = .1: a has (.25 + .1) / 2.
    assert balance.multipliers == pytest.approx({"a": 0.1})
    # (importance + mu x 4) / baseline = 1.4 / 2.
    assert balance.weights() == pytest.approx({"a": 0.7, "b": 3.0})
    assert step(balance, a=2.0, b=1.0) == pytest.approx({"a": 0.175, "b": 0.75})


def test_multiplier_returns_to_0_when_the_limit_holds() -> None:
    balance = Lagrangian(SCALES, {"a": 0.8}, eta=0.5, ceiling=10.0)
    for _ in range(5):
        step(balance, a=2.0, b=1.0)
    assert balance.multipliers["a"] == pytest.approx(0.5)
    # Relative loss .5, .3 below the limit: 4 steps of -.15 go below 0.
    for _ in range(4):
        step(balance, a=1.0, b=1.0)
    assert balance.multipliers == {"a": 0.0}
    assert step(balance, a=1.0, b=1.0) == pytest.approx({"a": 0.125, "b": 0.75})


def test_a_limit_out_of_reach_stops_at_the_ceiling() -> None:
    balance = Lagrangian(SCALES, {"a": 0.8}, eta=0.5, ceiling=0.15)
    for _ in range(3):
        step(balance, a=2.0)
    assert balance.multipliers == {"a": 0.15}


def test_an_absent_limited_task_keeps_its_multiplier() -> None:
    balance = Lagrangian(SCALES, {"a": 0.8}, eta=0.5, ceiling=10.0)
    step(balance, a=2.0)
    before = dict(balance.multipliers)
    step(balance, b=5.0)
    assert balance.multipliers == before


def test_a_gap_without_importance_counts_by_its_limit_alone() -> None:
    scales = Scales(importance={"a": 1.0, "gap": 0.0}, baselines={"a": 1.0, "gap": 1.0})
    balance = Lagrangian(scales, {"gap": 0.1}, eta=1.0, ceiling=10.0)
    assert step(balance, a=1.0, gap=0.3) == pytest.approx({"a": 1.0, "gap": 0.0})
    # mu = .3 - .1.
    assert step(balance, a=1.0, gap=0.3) == pytest.approx({"a": 1.0, "gap": 0.2})
