from __future__ import annotations

import pytest
import torch

from retrieval.encoder.balance.gradnorm import GradNorm
from retrieval.encoder.balance.protocols import Jacobian


def ask(weighting: GradNorm, lengths: dict[str, float], losses: dict[str, float]) -> list[float]:
    """Return the weights at orthogonal gradients of these lengths."""
    rows = torch.diag(torch.tensor(list(lengths.values())))
    jacobian = Jacobian(names=tuple(lengths), rows=rows, losses=torch.tensor([losses[name] for name in lengths]))
    return [float(weight) for weight in weighting(jacobian.gramian())]


def test_update_by_hand() -> None:
    weighting = GradNorm("ab", alpha=1.5, learning_rate=0.1)
    even = {"a": 0.9, "b": 0.9}
    assert ask(weighting, {"a": 1.0, "b": 3.0}, even) == pytest.approx([0.5, 0.5])
    # Mean length 2: a is short by 1, b long by 1. Slopes -1 x 1/2 and +1 x 3/2: w = 1.05 and .85, whose sum is 1.9.
    assert ask(weighting, {"a": 1.0, "b": 3.0}, even) == pytest.approx([1.05 / 1.9, 0.85 / 1.9])


def test_a_lagging_loss_gets_a_longer_gradient() -> None:
    weighting = GradNorm("ab", alpha=1.0, learning_rate=0.1)
    behind = {"a": 2.0, "b": 1.0}
    for _ in range(200):
        found = ask(weighting, {"a": 1.0, "b": 1.0}, behind)
    # Targets in the ratio 2 to 1.
    assert found[0] / found[1] == pytest.approx(2.0, rel=0.2)


def test_no_weight_ever_vanishes_or_changes_its_sign() -> None:
    weighting = GradNorm("ab", alpha=0.0, learning_rate=5.0)
    for _ in range(3):
        # b would fall to 1 - 5 x 3/2.
        found = ask(weighting, {"a": 1.0, "b": 3.0}, {"a": 1.0, "b": 1.0})
        assert all(weight > 0 for weight in found)
    assert weighting.weights["b"] < 0.05


def test_an_absent_task_keeps_its_weight() -> None:
    weighting = GradNorm("abc", alpha=1.5, learning_rate=0.1)
    lengths, losses = {"a": 1.0, "b": 3.0, "c": 2.0}, {"a": 1.0, "b": 0.5, "c": 2.0}
    ask(weighting, lengths, losses)
    before = dict(weighting.weights)
    ask(weighting, {"a": 1.0, "b": 3.0}, losses)
    assert weighting.weights["c"] == before["c"]
    assert weighting.weights["a"] != before["a"]
    assert sum(weighting.weights.values()) == pytest.approx(3.0)
