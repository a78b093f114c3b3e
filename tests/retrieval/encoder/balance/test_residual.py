from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from retrieval.encoder.balance.residual import CrossTaskResidual, LabelScale, TaskRows

CLICK = LabelScale(kind="binary", mean=0.25, deviation=math.sqrt(0.1875))
RATE = LabelScale(kind="regression", mean=3.0, deviation=2.0)


def rows(logits: Tensor, labels: list[float], present: list[bool]) -> TaskRows:
    return TaskRows(logits=logits, labels=torch.tensor(labels), present=torch.tensor(present))


def set_map(residual: CrossTaskResidual, pair: str, slope: float, intercept: float) -> None:
    with torch.no_grad():
        residual.maps[pair].copy_(torch.tensor([slope, intercept]))


def test_maps_start_as_constants() -> None:
    residual = CrossTaskResidual({"click": CLICK, "rate": RATE})
    assert residual.pairs == (("click", "rate"), ("rate", "click"))
    logits = torch.tensor([9.0, -9.0, 0.0, 1.0], requires_grad=True)
    found = residual(
        {
            "click": rows(logits, [1, 0, 0, 0], [True] * 4),
            "rate": rows(logits * 2, [1.0, 5.0, 1.0, 5.0], [True] * 4),
        }
    )
    # A constant mean misses by the variance: 1 each.
    assert float(found.detach()) == pytest.approx(1.0)
    found.backward()
    assert torch.equal(logits.grad, torch.zeros(4))
    assert residual.maps["click<rate"].grad.abs().sum() > 0


def test_regression_of_a_binary_prediction_by_hand() -> None:
    residual = CrossTaskResidual({"click": CLICK, "rate": RATE}, pairs=[("rate", "click")])
    set_map(residual, "rate<click", 0.5, 0.25)
    logits = torch.tensor([1.0, 7.0, 3.0], requires_grad=True)
    found = residual(
        {
            "click": rows(logits, [1, 1, 0], [True, False, True]),
            "rate": rows(torch.zeros(3), [4.0, 4.0, 5.5], [True, True, True]),
        }
    )
    # Only rows 0 and 2 carry both. Guesses 3 + 2 (.5 z + .25) = 4.5 and 6.5, errors .5 and 1: (.25 + 1) / 2 / 4.
    assert float(found.detach()) == pytest.approx(0.15625)
    found.backward()
    # Slope: 2 error x guess's slope 1 / 2 rows / 4.
    assert logits.grad.tolist() == pytest.approx([0.125, 0.0, 0.25])


def test_binary_of_a_standardised_number_by_hand() -> None:
    residual = CrossTaskResidual({"click": CLICK, "rate": RATE}, pairs=[("click", "rate")])
    set_map(residual, "click<rate", 1.0, 0.0)
    # Predictions 3 and 3 + 2 log 3 are 0 and log 3 standardised: probabilities 1/2 and 3/4.
    predictions = torch.tensor([3.0, 3.0 + 2 * math.log(3)])
    found = residual(
        {
            "click": rows(torch.zeros(2), [1, 1], [True, True]),
            "rate": rows(predictions, [0.0, 0.0], [True, True]),
        }
    )
    # (1/4 + 1/16) / 2 over the variance 3/16.
    assert float(found.detach()) == pytest.approx(0.15625 / 0.1875)


def test_without_common_rows_there_is_no_loss_and_no_gradient() -> None:
    residual = CrossTaskResidual({"click": CLICK, "rate": RATE, "buy": CLICK})
    click = rows(torch.zeros(2), [1, 0], [True, False])
    assert residual({"click": click, "rate": rows(torch.zeros(2), [1, 0], [False, True])}) is None
    assert residual({"click": click}) is None
    found = residual({"click": click, "buy": rows(torch.ones(2), [1, 0], [True, True]), "other": click})
    found.backward()
    touched = {name for name, parameter in residual.maps.items() if parameter.grad is not None}
    assert touched == {"click<buy", "buy<click"}


def test_a_learnt_relation_lowers_it() -> None:
    torch.manual_seed(0)
    residual = CrossTaskResidual({"click": CLICK, "rate": RATE}, pairs=[("click", "rate")])
    z = torch.randn(400)
    label = (torch.rand(400) < torch.sigmoid(3 * z - 1)).float()
    batch = {
        "click": TaskRows(logits=z, labels=label, present=torch.ones(400, dtype=torch.bool)),
        "rate": TaskRows(logits=3 + 2 * z, labels=z, present=torch.ones(400, dtype=torch.bool)),
    }
    optimizer = torch.optim.Adam(residual.parameters(), lr=0.1)
    before = float(residual(batch).detach())
    for _ in range(200):
        optimizer.zero_grad()
        residual(batch).backward()
        optimizer.step()
    slope, intercept = residual.maps["click<rate"].tolist()
    assert slope == pytest.approx(3.0, abs=0.8)
    assert intercept == pytest.approx(-1.0, abs=0.4)
    assert float(residual(batch).detach()) < 0.7 * before
