from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from retrieval.encoder.adapt.penalties import L1, Anchor, ElasticWeights, anchors
from retrieval.encoder.train import TrainResult

Runner = Callable[..., TrainResult]


def test_l1_by_hand() -> None:
    matrix, vector = nn.Parameter(torch.tensor([[2.0, -3.0, 0.0]])), nn.Parameter(torch.tensor([5.0]))
    unreached = nn.Parameter(torch.tensor([[1.0]]))
    penalty = L1([matrix, vector, unreached], 0.5)
    matrix.grad, vector.grad = torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([1.0])
    penalty.add_gradients()
    # d/dw .5 |w| = .5 sign(w), on top of what the losses gave; vectors are left out.
    assert matrix.grad.tolist() == [[1.5, 0.5, 1.0]]
    assert vector.grad.tolist() == [1.0]
    assert unreached.grad is None


def test_elastic_weights_by_hand() -> None:
    weight, unreached = nn.Parameter(torch.tensor([3.0, -1.0])), nn.Parameter(torch.tensor([1.0]))
    held = [
        Anchor(parameter=weight, at=torch.tensor([1.0, 1.0]), fisher=torch.tensor([0.5, 2.0])),
        Anchor(parameter=unreached, at=torch.tensor([0.0]), fisher=torch.tensor([9.0])),
    ]
    weight.grad = torch.tensor([1.0, 0.0])
    ElasticWeights(held, 10.0).add_gradients()
    # 10 F (w - w0): 10 * .5 * 2 = 10 and 10 * 2 * -2 = -40, on top of (1, 0).
    assert weight.grad.tolist() == [11.0, -40.0]
    assert unreached.grad is None


def test_elastic_gradient_is_that_of_the_penalty() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    at, fisher = torch.randn(4, 3, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)
    (0.7 / 2 * (fisher * (weight - at) ** 2).sum()).backward()
    assert weight.grad is not None
    expected, weight.grad = weight.grad, torch.zeros_like(weight)
    ElasticWeights([Anchor(parameter=weight, at=at, fisher=fisher)], 0.7).add_gradients()
    torch.testing.assert_close(weight.grad, expected)


def test_the_fisher_diagonal_by_hand() -> None:
    weight, frozen = nn.Parameter(torch.tensor([2.0, 5.0])), nn.Parameter(torch.ones(1), requires_grad=False)
    other = nn.Parameter(torch.ones(1))
    batches = [{"a": 3 * weight[0], "b": weight[0] ** 2}, {"a": weight[1]}, {}, {"a": weight[0] * 0}]
    found = anchors([weight, frozen, other], batches)
    # Gradients (3 + 2 * 2, 0), (0, 1), nothing and (0, 0): squares (49, 1), and 0 for `other`; their mean is 50 / 3.
    assert [anchor.parameter for anchor in found] == [weight, other]
    assert found[0].fisher.tolist() == pytest.approx([49 * 3 / 50, 3 / 50])
    assert found[1].fisher.tolist() == [0.0]
    with torch.no_grad():
        weight.add_(1.0)
    assert found[0].at.tolist() == [2.0, 5.0]


def test_l1_makes_matrices_smaller(short: Runner) -> None:
    lines = {"steps": 20, "validate_every": 20, "weight_decay": 0.0, "learning_rate": 1e-2, "patience": 9}
    sizes = []
    for weight in (0.0, 0.05):
        result = short(l1=weight, clip=100.0, **lines)
        assert result.best.step == 20
        sizes.append(
            sum(float(p.detach().abs().sum()) for p in result.model.backbone.layers()[2].parameters() if p.ndim > 1)
        )
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize(
    "lines", [{"optimizer": "sgd", "learning_rate": 0.05, "head_learning_rate": 0.05}, {"layer_decay": 0.5}]
)
def test_other_optimisers_and_rates_learn(short: Runner, lines: dict[str, object]) -> None:
    result = short(**{"steps": 30, "validate_every": 10, **lines})
    assert result.best.mean < result.history[0].mean - 0.03
