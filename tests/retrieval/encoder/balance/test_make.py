from __future__ import annotations

from typing import get_args

import pytest
import torch

from retrieval.encoder.balance.config import BalanceConfig, ScalarMethod
from retrieval.encoder.balance.make import BLIND_TO_IMPORTANCE, BalanceError, TaskLoss, make_balance


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": {"clik": 2.0}}, r"balance\.weights: unknown task 'clik'; did you mean 'click'\?"),
        ({"dual": {"baselines": {"bay": 0.5}}}, r"balance\.dual\.baselines: unknown task 'bay'"),
        ({"method": "lagrangian", "lagrangian": {"limits": {"rat": 1.0}}}, r"balance\.lagrangian\.limits: unknown"),
        ({"weights": {"click": 0, "buy": 0, "rate": 0}}, r"expected a task with an importance above 0"),
    ],
)
def test_names_and_importances_are_checked(values: dict[str, object], message: str, tasks: dict[str, TaskLoss]) -> None:
    with pytest.raises(BalanceError, match=message):
        make_balance(BalanceConfig.model_validate(values), tasks)


@pytest.mark.parametrize("method", sorted(BLIND_TO_IMPORTANCE))
def test_importances_that_a_method_would_lose_are_refused(method: str, tasks: dict[str, TaskLoss]) -> None:
    config = BalanceConfig.model_validate({"method": method, "weights": {"click": 2.0}})
    with pytest.raises(BalanceError, match=f"equal importances for method '{method}'"):
        make_balance(config, tasks)
    assert make_balance(config.model_copy(update={"weights": {}}), tasks).weights()["click"] == 2.0


def test_volume_weights_by_hand(tasks: dict[str, TaskLoss]) -> None:
    # sqrt of 900, 100, 400: 30, 10, 20 over their mean 20; over baselines .5, .2, 2.
    weights = make_balance(BalanceConfig(method="volume"), tasks).weights()
    assert weights == pytest.approx({"click": 3.0, "buy": 2.5, "rate": 0.5})


def test_uncertainty_knows_regressions_by_their_kind(tasks: dict[str, TaskLoss]) -> None:
    balance = make_balance(BalanceConfig(method="uncertainty"), tasks)
    # s = 0, 0 and -log 2.
    assert [s.item() for s in balance.parameters()] == pytest.approx([0.0, 0.0, -0.693147])


def test_a_baseline_of_almost_0_is_luck_in_a_class_and_a_unit_in_a_number() -> None:
    tasks = {
        "class": TaskLoss(kind="classification", baseline=0.0, count=10),
        "number": TaskLoss(kind="regression", baseline=1e-9, count=10),
    }
    balance = make_balance(BalanceConfig(), tasks)
    assert balance.weights() == pytest.approx({"class": 1e6, "number": 1e9})


@pytest.mark.parametrize("method", get_args(ScalarMethod))
def test_weights_are_the_scalar_s_slopes(method: str, tasks: dict[str, TaskLoss]) -> None:
    """Up to the sum by which a step divides."""
    limits = {"lagrangian": {"limits": {"click": 0.1}}} if method == "lagrangian" else {}
    config = BalanceConfig.model_validate({"method": method, "weights": {"buy": 2.0}, **limits})
    balance = make_balance(config, tasks)
    losses = {name: torch.tensor(value, requires_grad=True) for name, value in zip(tasks, (0.7, 0.1, 3.0), strict=True)}
    for _ in range(3):
        weights = balance.weights()
        for loss in losses.values():
            loss.grad = None
        balance.backward(losses, features=[], shared=[], heads=[])
        if method == "famo":
            weights = balance.weights()  # they follow from the step's own losses
        slopes = {name: float(loss.grad) for name, loss in losses.items() if loss.grad is not None}
        ratio = sum(slopes.values()) / sum(weights.values())
        assert slopes == pytest.approx({name: weight * ratio for name, weight in weights.items()}, rel=1e-4)


def test_numbers_of_the_configuration_arrive(tasks: dict[str, TaskLoss]) -> None:
    """One step with extreme numbers against the same method's defaults."""
    options: dict[str, dict[str, object]] = {
        "volume": {"exponent": -1.0},
        "dual": {"eta": 5.0},
        "lagrangian": {"eta": 5.0, "limits": {"click": 0.1}},
        "dwa": {"window": 1, "temperature": 0.1},
        "famo": {"learning_rate": 1.0},
        "random": {"distribution": "dirichlet", "alpha": 1e4},
    }
    losses = [
        {name: torch.tensor(value, requires_grad=True) for name, value in zip(tasks, values, strict=True)}
        for values in ((2.0, 0.1, 3.0), (1.0, 0.2, 3.0))
    ]
    for method, numbers in options.items():
        needed = {"lagrangian": {"limits": {"click": 0.1}}} if method == "lagrangian" else {}
        found = []
        for extra in (needed, {method: numbers}):
            balance = make_balance(BalanceConfig.model_validate({"method": method, **extra}), tasks)
            for each in losses:
                balance.backward(each, features=[], shared=[], heads=[])
                assert balance.needs_losses_after_step == (method == "famo")
                if method == "famo":
                    balance.observe({"click": torch.tensor(0.1), "buy": each["buy"], "rate": each["rate"]})
            found.append(balance.weights())
        assert found[0] != pytest.approx(found[1], rel=0.05), method
        # So concentrated that every draw is close to the importances.
        assert method != "random" or found[1] == pytest.approx({"click": 2.0, "buy": 5.0, "rate": 0.5}, rel=0.05)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "gradnorm", "gradnorm": {"alpha": 0.0}},
        {"method": "gradnorm", "gradnorm": {"learning_rate": 0.5}},
        {"method": "cagrad", "surgery": {"cagrad_c": 5.0}},
        {"method": "fairgrad", "surgery": {"fairgrad_alpha": 0.0}},
        {"method": "gradvac", "surgery": {"gradvac_beta": 0.0}},
        {"method": "graddrop", "surgery": {"graddrop_leak": 1.0}},
        {"method": "graddrop", "seed": 1},
    ],
)
def test_numbers_of_gradient_methods_arrive(options: dict[str, object], tasks: dict[str, TaskLoss]) -> None:
    """Two steps on gradients that conflict, against the same method's defaults."""
    found = []
    for values in ({"method": options["method"]}, options):
        balance = make_balance(BalanceConfig.model_validate(values), tasks)
        source = torch.tensor([1.0, -2.0, 0.5, 0.1], requires_grad=True)
        for _ in range(2):
            source.grad = None
            features = source * 1
            losses = {
                "click": features.square().sum() / 4,
                "buy": (features - 1).square().sum() / 40,
                "rate": (features @ torch.tensor([-1.0, 0.5, 2.0, -0.1]) + 3).square() / 4,
            }
            balance.backward(losses, features=[features], shared=[], heads=[])
        assert source.grad is not None
        found.append(source.grad)
    assert not torch.allclose(found[0], found[1], rtol=1e-3)


def test_contrastive_tasks_weigh_six_times_unless_declared() -> None:
    kinds = {"retrieval": "contrastive", "answer": "contrastive", "buy": "binary"}
    config = BalanceConfig(weights={"answer": 0.5})
    assert config.for_tasks(kinds).weights == {"retrieval": 6.0, "answer": 0.5, "buy": 1.0}
    # It would be refused with other importances than equal ones, and nobody declared any.
    assert BalanceConfig(method="mgda").for_tasks(kinds).weights == {}
