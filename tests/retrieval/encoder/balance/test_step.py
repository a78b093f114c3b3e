from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from retrieval.encoder.balance.config import BalanceConfig, GradientMethod, ScalarMethod
from retrieval.encoder.balance.make import TaskLoss, make_balance
from retrieval.encoder.balance.step import Balance
from retrieval.encoder.optimise import make_optimizer

GRADIENT_METHODS = get_args(GradientMethod)
EVERY = list(get_args(ScalarMethod) + get_args(GradientMethod))
LEVELS = ["feature", "parameter"]
ALL = ("click", "buy", "rate")


@dataclass
class Toy:
    """`click` and `rate` read the left tower, `buy` both.

    Attributes:
        towers: shared.
        heads: by task.
        unit: factor of each task's raw loss; 1 for those left out.
    """

    towers: nn.ModuleDict
    heads: nn.ModuleDict
    unit: Mapping[str, float] = field(default_factory=dict)

    def step(self, balance: Balance, present: Sequence[str], *, zero: bool = True) -> dict[str, Tensor]:
        """Fill the gradients of one fixed batch, and return the raw losses."""
        if zero:
            self.towers.zero_grad(set_to_none=True)
            self.heads.zero_grad(set_to_none=True)
        features = self.features()
        losses = self.losses(features, present)
        balance.backward(
            losses,
            features=list(features.values()),
            shared=list(self.towers.parameters()),
            heads=list(self.heads.parameters()),
        )
        return losses

    def features(self) -> dict[str, Tensor]:
        batch = torch.linspace(-1, 1, 12).reshape(4, 3)
        return {side: torch.tanh(tower(batch)) for side, tower in self.towers.items()}

    def losses(self, features: Mapping[str, Tensor], present: Sequence[str]) -> dict[str, Tensor]:
        found = {}
        for name in present:
            state = features["left"] + features["right"] if name == "buy" else features["left"]
            found[name] = self.unit.get(name, 1.0) * (self.heads[name](state) - 0.7).square().mean()
        return found

    def gradients(self) -> dict[str, Tensor | None]:
        """Return copies of all gradients by parameter name."""
        named = [*self.towers.named_parameters(), *self.heads.named_parameters()]
        return {name: None if p.grad is None else p.grad.clone() for name, p in named}


def make_toy(unit: Mapping[str, float] | None = None) -> Toy:
    torch.manual_seed(0)
    return Toy(
        towers=nn.ModuleDict({side: nn.Linear(3, 2) for side in ("left", "right")}),
        heads=nn.ModuleDict({name: nn.Linear(2, 1) for name in ALL}),
        unit=unit or {},
    )


@pytest.fixture
def toy() -> Toy:
    return make_toy()


def balance(method: str, tasks: dict[str, TaskLoss], **options: object) -> Balance:
    limits = {"lagrangian": {"limits": {"click": 0.1, "buy": 0.1}}} if method == "lagrangian" else {}
    return make_balance(BalanceConfig.model_validate({"method": method, **limits, **options}), tasks)


def assert_gradients_close(
    found: dict[str, Tensor | None], expected: dict[str, Tensor | None], rtol: float = 1e-4
) -> None:
    for name, gradient in expected.items():
        other = found[name]
        assert (gradient is None) == (other is None), name
        if gradient is not None and other is not None:
            torch.testing.assert_close(
                other, gradient, rtol=rtol, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize("present", [ALL, ("click", "rate"), ("buy",)])
@pytest.mark.parametrize("level", [*LEVELS, "lora"])
def test_the_mean_of_gradients_is_the_static_gradient(
    level: str, present: tuple[str, ...], toy: Toy, tasks: dict[str, TaskLoss]
) -> None:
    weights = {"click": 2.0, "buy": 0.5}
    toy.step(balance("static", tasks, weights=weights), present)
    expected = toy.gradients()
    mean = balance("mean", tasks, weights=weights, level=level)
    toy.step(mean, present)
    assert_gradients_close(toy.gradients(), expected)
    assert mean.weights() == pytest.approx(balance("static", tasks, weights=weights).weights())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_one_task_has_the_gradient_of_its_relative_loss(
    method: str, level: str, name: str, toy: Toy, tasks: dict[str, TaskLoss]
) -> None:
    (toy.losses(toy.features(), [name])[name] / tasks[name].baseline).backward()
    expected = toy.gradients()
    toy.step(balance(method, tasks, level=level), [name])
    assert_gradients_close(toy.gradients(), expected)


@pytest.mark.parametrize("method", EVERY)
def test_a_parameter_that_no_present_task_reaches_keeps_none(method: str, toy: Toy, tasks: dict[str, TaskLoss]) -> None:
    toy.step(balance(method, tasks), ["click", "rate"])
    reached = {name for name, gradient in toy.gradients().items() if gradient is not None}
    assert reached == {"left.weight", "left.bias", "click.weight", "click.bias", "rate.weight", "rate.bias"}


@pytest.mark.parametrize("method", EVERY)
def test_an_absent_task_changes_nothing_of_its_own(method: str, toy: Toy, tasks: dict[str, TaskLoss]) -> None:
    """Head, its weight and its optimiser state stay bit for bit while only the others are present."""
    rule = balance(method, tasks)
    own = {name: list(head.parameters()) for name, head in toy.heads.items()}
    if learnt := rule.parameters():
        for parameter, name in zip(learnt, tasks, strict=True):
            own[name].append(parameter)
    everything = [*toy.towers.parameters(), *(p for parameters in own.values() for p in parameters)]
    optimizer = make_optimizer([(everything, 0.1)], weight_decay=0.1)

    def step(*present: str) -> None:
        optimizer.zero_grad(set_to_none=True)
        toy.step(rule, present)
        optimizer.step()
        if rule.needs_losses_after_step:
            with torch.no_grad():
                rule.observe(toy.losses(toy.features(), present))

    step(*ALL)
    step(*ALL)
    before = [p.detach().clone() for p in own["buy"]]
    moments = [{key: value.clone() for key, value in optimizer.state[p].items()} for p in own["buy"]]
    weight, moving = rule.weights()["buy"], [p.detach().clone() for p in own["click"]]
    step("click", "rate")
    assert all(torch.equal(old, new) for old, new in zip(before, own["buy"], strict=True))
    for old, parameter in zip(moments, own["buy"], strict=True):
        assert old
        assert all(torch.equal(value, optimizer.state[parameter][key]) for key, value in old.items())
    # Random weights are new in every step, whoever is present.
    assert (rule.weights()["buy"] == weight) == (method != "random")
    assert not any(torch.equal(old, new) for old, new in zip(moving, own["click"], strict=True))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", EVERY)
def test_no_method_depends_on_a_loss_s_unit(method: str, level: str, tasks: dict[str, TaskLoss]) -> None:
    scaled = {**tasks, "buy": TaskLoss(kind="classification", baseline=tasks["buy"].baseline * 1000, count=100)}
    plain, other = make_toy(), make_toy({"buy": 1000.0})
    rules = balance(method, tasks, level=level), balance(method, scaled, level=level)
    for _ in range(3):
        for toy, rule in zip((plain, other), rules, strict=True):
            losses = toy.step(rule, ALL)
            if rule.needs_losses_after_step:
                rule.observe({name: loss.detach() * 0.9 for name, loss in losses.items()})
        assert_gradients_close(other.gradients(), plain.gradients(), rtol=1e-3)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_heads_keep_the_static_gradient(method: str, toy: Toy, tasks: dict[str, TaskLoss]) -> None:
    toy.step(balance("static", tasks), ALL)
    expected = toy.gradients()
    toy.step(balance(method, tasks), ALL)
    found = toy.gradients()
    heads = [name for name in expected if name.split(".")[0] in ALL]
    assert_gradients_close({n: found[n] for n in heads}, {n: expected[n] for n in heads})
    towers = [n for n in expected if n not in heads]
    same = all(torch.allclose(found[n], expected[n], rtol=1e-3) for n in towers)  # type: ignore[arg-type]
    # GradNorm starts at equal weights, and the mean opposes no task here.
    assert same == (method in {"mean", "gradnorm", "dualproj"})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", ["mean", "mgda", "pcgrad"])
def test_a_task_that_reaches_nothing_shared_holds_nobody_back(
    method: str, level: str, toy: Toy, tasks: dict[str, TaskLoss]
) -> None:
    both = ["click", "rate"]
    toy.step(balance(method, tasks, level=level), both)
    expected = toy.gradients()["left.weight"]
    rule = balance(method, tasks, level=level)
    features = toy.features()
    losses = toy.losses(features, both)
    # `buy` reads vectors of its own.
    losses["buy"] = (toy.heads["buy"](torch.ones(1, 2)) - 1).square().mean()
    toy.towers.zero_grad(set_to_none=True)
    toy.heads.zero_grad(set_to_none=True)
    rule.backward(
        losses,
        features=list(features.values()),
        shared=list(toy.towers.parameters()),
        heads=list(toy.heads.parameters()),
    )
    found = toy.gradients()
    assert expected is not None
    assert found["left.weight"] is not None
    # Means over three tasks instead of two.
    torch.testing.assert_close(found["left.weight"], expected * 2 / 3, rtol=1e-4, atol=1e-6)
    assert found["buy.weight"] is not None


@pytest.mark.parametrize("method", ["static", "mean", "config"])
def test_gradients_add_up_over_calls(method: str, toy: Toy, tasks: dict[str, TaskLoss]) -> None:
    rule = balance(method, tasks)
    toy.step(rule, ALL)
    once = toy.gradients()
    toy.step(rule, ALL, zero=False)
    twice = {name: None if gradient is None else gradient / 2 for name, gradient in toy.gradients().items()}
    assert_gradients_close(twice, once)


@pytest.mark.parametrize("level", LEVELS)
def test_frozen_features_and_parameters_are_left_out(level: str, toy: Toy, tasks: dict[str, TaskLoss]) -> None:
    toy.step(balance("static", tasks), ALL)
    expected = toy.gradients()
    toy.towers.requires_grad_(False)
    toy.step(balance("mgda", tasks, level=level), ALL)
    for name, gradient in toy.gradients().items():
        assert (gradient is None) == name.startswith(("left", "right"))
        if gradient is not None and expected[name] is not None:
            torch.testing.assert_close(gradient, expected[name])


def test_weights_of_a_weighting_are_its_last_multipliers(toy: Toy, tasks: dict[str, TaskLoss]) -> None:
    rule = balance("mgda", tasks)
    assert rule.weights() == pytest.approx({"click": 2.0, "buy": 5.0, "rate": 0.5})
    toy.step(rule, ALL)
    found = rule.weights()
    assert found != pytest.approx({"click": 2.0, "buy": 5.0, "rate": 0.5})
    # Multipliers over the sum of importances give the shared gradient.
    gradient = toy.gradients()["left.weight"]
    total = sum(loss * found[name] / 3 for name, loss in toy.losses(toy.features(), ALL).items())
    assert isinstance(total, Tensor)
    toy.towers.zero_grad(set_to_none=True)
    total.backward()
    torch.testing.assert_close(toy.gradients()["left.weight"], gradient, rtol=1e-4, atol=1e-6)


def test_a_half_format_feature_gets_its_own_format_back(tasks: dict[str, TaskLoss]) -> None:
    weight = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    features = weight * 2
    losses = {"click": features.float().sum(), "rate": -features.float().square().sum()}
    balance("pcgrad", tasks).backward(losses, features=[features], shared=[], heads=[])
    assert weight.grad is not None
    assert weight.grad.dtype == torch.bfloat16
    assert torch.isfinite(weight.grad).all()


def test_gradient_methods_ask_for_no_losses_after_the_step(tasks: dict[str, TaskLoss]) -> None:
    rule = balance("mgda", tasks)
    assert not rule.needs_losses_after_step
    assert rule.parameters() == []
    with pytest.raises(AssertionError, match="asks for losses"):
        rule.observe({})
    with pytest.raises(AssertionError, match="without a task"):
        rule.backward({}, features=[], shared=[], heads=[])
