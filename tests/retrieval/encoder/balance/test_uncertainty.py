from __future__ import annotations

import math

import pytest
import torch

from retrieval.encoder.balance.scales import Scales
from retrieval.encoder.balance.uncertainty import Uncertainty


def test_uncertainty_gradient_by_hand() -> None:
    balance = Uncertainty(Scales(importance={"a": 1.0}, baselines={"a": 0.5}))
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


def test_a_regression_has_half_a_squared_error() -> None:
    balance = Uncertainty(Scales(importance={"a": 1.0}, baselines={"a": 0.5}), regression=["a"])
    balance.log_variances["a"].data.fill_(math.log(2))
    x = torch.tensor(2.0, requires_grad=True)
    balance({"a": x}).backward()
    # exp(-log 2) x / .5 / 2 + log 2 / 2 = x / 2 + ...; slope in x 1/2; in s: -1/2 x 4 / 2 + 1/2 = -1/2.
    assert x.grad is not None
    assert float(x.grad) == pytest.approx(0.5)
    assert balance.log_variances["a"].grad is not None
    assert float(balance.log_variances["a"].grad) == pytest.approx(-0.5)


def test_both_kinds_begin_at_the_static_weights() -> None:
    scales = Scales(importance={"a": 1.0, "b": 3.0}, baselines={"a": 0.5, "b": 2.0})
    balance = Uncertainty(scales, regression=["b"])
    assert balance.weights() == pytest.approx({"a": 2.0, "b": 1.5})
    a, b = torch.tensor(1.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    balance({"a": a, "b": b}).backward()
    # Static: importance / baseline / sum of importances = 1 / .5 / 4 and 3 / 2 / 4.
    assert a.grad is not None
    assert b.grad is not None
    assert (float(a.grad), float(b.grad)) == pytest.approx((0.5, 0.375))


def test_losses_after_the_step_are_refused() -> None:
    balance = Uncertainty(Scales(importance={"a": 1.0}, baselines={"a": 1.0}))
    assert not balance.needs_losses_after_step
    with pytest.raises(AssertionError, match="not asked for"):
        balance.observe({"a": torch.tensor(1.0)})
