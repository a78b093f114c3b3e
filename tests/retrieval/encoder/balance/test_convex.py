from __future__ import annotations

import pytest
import torch

from retrieval.encoder.balance.convex import Convex, Static, by_volume
from retrieval.encoder.balance.scales import Scales


def static(importance: dict[str, float], baselines: dict[str, float]) -> Convex:
    return Convex(Scales(importance=importance, baselines=baselines), Static(importance))


def test_static_gradient_by_hand() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    losses = {"a": x**2, "b": 5 * x}
    total = static({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 10.0})(losses)
    total.backward()
    # (1/2 x^2 + 2/10 5x) / (1 + 2): value (4.5 + 3) / 3; slope (x + 1) / 3 = 4/3.
    assert float(total.detach()) == pytest.approx(2.5)
    assert x.grad is not None
    assert float(x.grad) == pytest.approx(4 / 3)


def test_static_is_invariant_to_a_loss_scale() -> None:
    raw = {"a": torch.tensor(0.3), "b": torch.tensor(0.9)}
    scaled = {"a": raw["a"] * 1000, "b": raw["b"]}
    weights = {"a": 1.0, "b": 1.0}
    first = static(weights, {"a": 0.5, "b": 1.0})(raw)
    assert float(first) == pytest.approx(float(static(weights, {"a": 500.0, "b": 1.0})(scaled)))


def test_static_weights_are_importance_over_baseline() -> None:
    assert static({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 10.0}).weights() == {"a": 0.5, "b": 0.2}


def test_a_present_task_without_importance_gives_0_and_no_nan() -> None:
    assert float(static({"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 1.0})({"a": torch.tensor(3.0)})) == 0


def test_volume_by_hand() -> None:
    # sqrt(900) = 30, 2 sqrt(100) = 20; the mean is 25.
    weights = by_volume({"a": 1.0, "b": 2.0}, {"a": 900, "b": 100}, 0.5)
    assert weights == pytest.approx({"a": 1.2, "b": 0.8})
    # 1/900 and 2/100 = 18/900: 2/19 and 36/19.
    assert by_volume({"a": 1.0, "b": 2.0}, {"a": 900, "b": 100}, -1) == pytest.approx({"a": 2 / 19, "b": 36 / 19})


def test_a_task_without_labels_counts_as_one() -> None:
    assert by_volume({"a": 1.0, "b": 1.0}, {"a": 0, "b": 1}, -1) == {"a": 1.0, "b": 1.0}
