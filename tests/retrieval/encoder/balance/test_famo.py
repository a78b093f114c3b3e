from __future__ import annotations

import math

import pytest
import torch

from retrieval.encoder.balance.famo import Famo
from retrieval.encoder.balance.scales import Scales


def famo(rate: float = 0.1, decay: float = 0.0, **importance: float) -> Famo:
    importance = importance or {"a": 1.0, "b": 1.0}
    return Famo(
        Scales(importance=importance, baselines=dict.fromkeys(importance, 2.0)), learning_rate=rate, weight_decay=decay
    )


def step(balance: Famo, **values: float) -> dict[str, float]:
    """Return the gradient by task at these raw losses."""
    losses = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
    balance(losses).backward()
    return {name: float(loss.grad) for name, loss in losses.items() if loss.grad is not None}


def observe(balance: Famo, **values: float) -> None:
    balance.observe({name: torch.tensor(value) for name, value in values.items()})


def test_gradient_by_hand() -> None:
    # Relative losses 1 and 4, z = 1/2 each: c = 1 / (1/2 / 1 + 1/2 / 4) = 1.6. c z / L = .8 and .2, over baseline 2.
    assert step(famo(), a=2.0, b=8.0) == pytest.approx({"a": 0.4, "b": 0.1})
    # With importances 1 and 3, z = 1/4 and 3/4: c = 1 / (1/4 + 3/16) = 16/7; c z / L = 4/7 and 3/7.
    balance = famo(a=1.0, b=3.0)
    assert step(balance, a=2.0, b=8.0) == pytest.approx({"a": 2 / 7, "b": 1.5 / 7})
    # In units of static's importance / baseline: times the sum of importances.
    assert balance.weights() == pytest.approx({"a": 8 / 7, "b": 6 / 7})


def test_one_task_has_the_gradient_of_its_relative_loss() -> None:
    assert step(famo(), a=5.0) == pytest.approx({"a": 0.5})


def test_a_loss_that_fell_more_loses_weight() -> None:
    balance = famo(rate=0.1)
    assert balance.needs_losses_after_step
    step(balance, a=2.0, b=2.0)
    observe(balance, a=1.0, b=2.0)
    # log falls by log 2 and 0; its mean under z is log 2 / 2, so the gradients are +- log 2 / 4, and Adam's first step
    # is its rate against their signs: w = -.1 and .1. At equal losses the weights are softmax(w) / baseline.
    low = 1 / (1 + math.exp(0.2))
    assert step(balance, a=2.0, b=2.0) == pytest.approx({"a": low / 2, "b": (1 - low) / 2}, rel=1e-5)


def test_a_unit_changes_the_length_and_not_the_direction() -> None:
    """Raw losses in other units, baselines unknown to have changed: the multipliers follow the unit."""
    balances = famo(), famo()
    units = {"a": 1000.0, "b": 1.0}
    for before, after in (((2.0, 3.0), (1.5, 2.9)), ((1.5, 2.9), (1.4, 2.0))):
        plain = step(balances[0], a=before[0], b=before[1])
        scaled = step(balances[1], a=before[0] * units["a"], b=before[1])
        # Multiplier x unit is what reaches the parameters.
        assert scaled["a"] * units["a"] / scaled["b"] == pytest.approx(plain["a"] / plain["b"], rel=1e-5)
        observe(balances[0], a=after[0], b=after[1])
        observe(balances[1], a=after[0] * units["a"], b=after[1])


def test_an_absent_task_keeps_its_logit_and_moments() -> None:
    balance, other = famo(decay=0.1), famo(decay=0.1)
    for each in (balance, other):
        step(each, a=2.0, b=2.0)
        observe(each, a=1.0, b=2.0)
    weight = balance.weights()["b"]
    # Alone, a task's own gradient is 0, but its weight decay and moments move it.
    step(balance, a=2.0)
    observe(balance, a=1.0)
    assert balance.weights()["b"] == weight
    # b's next step is as if the step without it had not been, up to a's part in it: equal for b alone.
    for each in (balance, other):
        step(each, b=2.0)
        observe(each, b=1.0)
    assert balance.logits["b"].item() == other.logits["b"].item()
    assert balance.logits["a"].item() != other.logits["a"].item()


def test_losses_of_another_batch_are_refused() -> None:
    balance = famo()
    step(balance, a=2.0)
    with pytest.raises(AssertionError, match="last scalarised"):
        observe(balance, b=2.0)
