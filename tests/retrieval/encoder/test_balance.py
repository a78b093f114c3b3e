from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from retrieval.encoder.balance import Static, Uncertainty, balancer
from retrieval.encoder.config import BalanceConfig
from retrieval.encoder.optimise import make_optimizer


def test_static_gradient_by_hand() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    losses = {"a": x**2, "b": 5 * x}
    total = Static({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 10.0})(losses)
    total.backward()
    # (1/2 x^2 + 2/10 5x) / (1 + 2): value (4.5 + 3) / 3; slope (x + 1) / 3 = 4/3.
    assert float(total.detach()) == pytest.approx(2.5)
    assert x.grad is not None
    assert float(x.grad) == pytest.approx(4 / 3)


def test_static_is_invariant_to_a_loss_scale() -> None:
    raw = {"a": torch.tensor(0.3), "b": torch.tensor(0.9)}
    scaled = {"a": raw["a"] * 1000, "b": raw["b"]}
    weights = {"a": 1.0, "b": 1.0}
    first = Static(weights, {"a": 0.5, "b": 1.0})(raw)
    assert float(first) == pytest.approx(float(Static(weights, {"a": 500.0, "b": 1.0})(scaled)))


def test_uncertainty_gradient_by_hand() -> None:
    balance = Uncertainty({"a": 1.0}, {"a": 0.5})
    balance.log_variances["a"].data.fill_(math.log(2))
    x = torch.tensor(2.0, requires_grad=True)
    total = balance({"a": x})
    total.backward()
    # exp(-log 2) x / .5 + log 2 / 2 = x + log 2 / 2; slope in x 1; in s: -exp(-s) x / .5 + 1/2 = -2 + .5.
    assert float(total.detach()) == pytest.approx(2 + math.log(2) / 2)
    assert x.grad is not None
    assert float(x.grad) == pytest.approx(1.0)
    assert balance.log_variances["a"].grad is not None
    assert float(balance.log_variances["a"].grad) == pytest.approx(-1.5)


@pytest.mark.parametrize("method", ["static", "uncertainty"])
def test_an_absent_task_changes_nothing_of_its_own(method: str) -> None:
    """Head, its weight and its optimiser state stay bit for bit while only the other task is present."""
    balance = balancer(BalanceConfig.model_validate({"method": method}), {"here": 1.0, "absent": 1.0})
    shared, heads = nn.Linear(3, 3), {"here": nn.Linear(3, 1), "absent": nn.Linear(3, 1)}
    own = {name: [*head.parameters()] for name, head in heads.items()}
    if isinstance(balance, Uncertainty):
        for name, parameters in own.items():
            parameters.append(balance.log_variances[name])
    everything = [*shared.parameters(), *own["here"], *own["absent"]]
    optimizer = make_optimizer([(everything, 0.1)], weight_decay=0.1)

    def step(*present: str) -> None:
        states = shared(torch.ones(2, 3))
        optimizer.zero_grad(set_to_none=True)
        balance({name: heads[name](states).pow(2).mean() for name in present}).backward()
        optimizer.step()

    step("here", "absent")
    before = [p.detach().clone() for p in own["absent"]]
    moments = [{key: value.clone() for key, value in optimizer.state[p].items()} for p in own["absent"]]
    weight, moving = balance.weights()["absent"], [p.detach().clone() for p in own["here"]]
    step("here")
    assert all(torch.equal(old, new) for old, new in zip(before, own["absent"], strict=True))
    for old, parameter in zip(moments, own["absent"], strict=True):
        assert all(torch.equal(value, optimizer.state[parameter][key]) for key, value in old.items())
    assert balance.weights()["absent"] == weight
    assert not any(torch.equal(old, new) for old, new in zip(moving, own["here"], strict=True))
