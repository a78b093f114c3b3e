from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BertModel

from infra.errors import InvalidInputError
from retrieval.encoder.relatedness.affinity import measure_affinity
from retrieval.encoder.relatedness.matrix import Affinity

Targets = Mapping[str, list[float]]


class Point(nn.Module):
    """A point in the plane; the loss of a task is its squared distance to the task's target."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(2))

    def losses(self, targets: Targets) -> dict[str, Tensor]:
        return {task: (self.place - torch.tensor(target)).square().sum() for task, target in targets.items()}


def _measure(point: Point, *batches: Targets, tasks: tuple[str, ...] = ("a", "b", "c"), rate: float = 0.1) -> Affinity:
    return measure_affinity(point, point.parameters(), point.losses, batches, tasks=tasks, rate=rate)


def test_quadratic_by_hand() -> None:
    """From (0, 0), targets a (1, 0), b (-1, 0) and c (1, 1); a step of rate .1 goes a fifth of the way."""
    found = _measure(Point(), {"a": [1, 0], "b": [-1, 0], "c": [1, 1]})
    # Losses before: 1, 1, 2. After a, at (.2, 0): .64, 1.44, .64 + 1. After b, at (-.2, 0): 1.44, .64, 1.44 + 1.
    # After c, at (.2, .2): .64 + .04, 1.44 + .04, .64 + .64.
    expected = [[0.36, -0.44, 0.18], [-0.44, 0.36, -0.22], [0.32, -0.48, 0.36]]
    np.testing.assert_allclose(found.matrix, expected, atol=1e-6)
    assert found.names == ("a", "b", "c")


def test_batches_are_averaged_where_both_tasks_are_present() -> None:
    found = _measure(Point(), {"a": [1, 0], "b": [-1, 0]}, {"a": [1, 0], "b": [2, 0]}, {"a": [1, 0]})
    # a on b: -.44 as above; in the second batch (2 - .2)^2 / 4 = .81, so .19. b on a there: at (.4, 0) .36, so .64.
    assert found.matrix[0, 1] == pytest.approx((-0.44 + 0.19) / 2, abs=1e-6)
    assert found.matrix[1, 0] == pytest.approx((-0.44 + 0.64) / 2, abs=1e-6)
    assert found.matrix[0, 0] == pytest.approx(0.36, abs=1e-6)
    np.testing.assert_array_equal(found.batches, [[3, 2, 0], [2, 2, 0], [0, 0, 0]])
    assert np.isnan(found.matrix[2]).all()
    assert np.isnan(found.matrix[:, 2]).all()


def test_tasks_apart_have_no_evidence_of_each_other() -> None:
    found = _measure(Point(), {"a": [1, 0]}, {"b": [-1, 0]}, tasks=("a", "b"))
    assert np.isnan(found.matrix[0, 1])
    assert np.isnan(found.matrix[1, 0])
    assert not found.has_pairs


def test_a_loss_of_zero_has_no_share_to_lose() -> None:
    found = _measure(Point(), {"a": [1, 0], "b": [0, 0]}, tasks=("a", "b"))
    assert np.isnan(found.matrix[0, 1])
    assert found.matrix[1, 0] == 0.0  # no gradient, no step


def test_other_losses_are_left_out() -> None:
    found = _measure(Point(), {"other": [1, 0], "a": [1, 0]}, tasks=("a",))
    np.testing.assert_allclose(found.matrix, [[0.36]], atol=1e-6)


def test_scale_of_a_loss_changes_its_row_alone() -> None:
    point, batch = Point(), {"a": [1.0, 0.0], "b": [-1.0, 0.0]}

    def scaled(targets: Targets) -> dict[str, Tensor]:
        return {task: loss * (2 if task == "a" else 1) for task, loss in point.losses(targets).items()}

    found = measure_affinity(point, point.parameters(), scaled, [batch], tasks=("a", "b"), rate=0.1)
    # The step on a is twice as long, to (.4, 0): .36 and 1.96. The step on b as before: 1.44 and .64.
    np.testing.assert_allclose(found.matrix, [[0.64, -0.96], [-0.44, 0.36]], atol=1e-6)


def test_losses_of_a_first_pass_are_not_compared() -> None:
    point, calls = Point(), iter(range(9))

    def settling(targets: Targets) -> dict[str, Tensor]:
        factor = 1.5 if next(calls) == 0 else 1.0
        return {task: loss * factor for task, loss in point.losses(targets).items()}

    batches = [{"a": [1.0, 0.0], "b": [-1.0, 0.0]}]
    found = measure_affinity(point, point.parameters(), settling, batches, tasks=("a", "b"), rate=0.1)
    np.testing.assert_allclose(found.matrix, [[0.36, -0.44], [-0.44, 0.36]], atol=1e-6)


class Tower(nn.Module):
    """A tiny BERT with dropout, and a linear head for each of two tasks."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.body = BertModel.from_pretrained(folder)
        torch.manual_seed(1)
        self.heads = nn.ModuleDict({task: nn.Linear(32, 1) for task in ("a", "b")})

    def losses(self, ids: Tensor) -> dict[str, Tensor]:
        pooled = self.body(input_ids=ids).last_hidden_state.mean(dim=1)
        return {task: (head(pooled).squeeze(1) - 3.0).square().mean() for task, head in self.heads.items()}

    def shared(self) -> list[nn.Parameter]:
        return list(self.body.parameters())


@pytest.fixture
def tower(tiny_bert: Path) -> Tower:
    return Tower(tiny_bert)


IDS = [torch.tensor([[2, 6, 7, 3], [2, 8, 9, 3]]), torch.tensor([[2, 10, 11, 3]])]


def _bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone().view(torch.uint8) for name, value in module.state_dict().items()}


def test_affinity_of_a_transformer_is_its_gradients_product(tower: Tower) -> None:
    """To first order L_j(w - rate g_i) = L_j - rate g_i . g_j, hence A[i, j] / rate = g_i . g_j / L_j."""
    found = measure_affinity(tower, tower.shared(), tower.losses, IDS[:1], tasks=("a", "b"), rate=1e-5)
    tower.eval()
    losses = tower.losses(IDS[0])
    gradients = {}
    for task, loss in losses.items():
        parts = torch.autograd.grad(loss, tower.shared(), retain_graph=True, allow_unused=True)
        gradients[task] = torch.cat([part.double().flatten() for part in parts if part is not None])
    expected = [
        [float(gradients[i] @ gradients[j]) / float(losses[j].detach()) for j in ("a", "b")] for i in ("a", "b")
    ]
    np.testing.assert_allclose(found.matrix / 1e-5, expected, rtol=0.05)


def test_weights_modes_and_gradients_stay_as_they_were(tower: Tower) -> None:
    tower.train()
    tower.body.embeddings.eval()
    tower.heads["a"].weight.grad = torch.ones(1, 32)
    with torch.no_grad():  # zero has two signs, and a step there and back would lose the negative one
        tower.body.embeddings.word_embeddings.weight[6] = -0.0
    weights, modes = _bits(tower), [part.training for part in tower.modules()]
    found = measure_affinity(tower, tower.parameters(), tower.losses, IDS, tasks=("a", "b"), rate=0.01)
    assert (found.matrix != 0).all()
    after = _bits(tower)
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert modes == [part.training for part in tower.modules()]
    gradients = {name: p.grad for name, p in tower.named_parameters() if p.grad is not None}
    assert list(gradients) == ["heads.a.weight"]
    assert torch.equal(gradients["heads.a.weight"], torch.ones(1, 32))


def test_dropout_is_off(tower: Tower) -> None:
    tower.train()
    runs = [
        measure_affinity(tower, tower.shared(), tower.losses, IDS, tasks=("a", "b"), rate=0.01).matrix for _ in range(2)
    ]
    np.testing.assert_array_equal(*runs)


def test_weights_come_back_from_a_failure(tower: Tower) -> None:
    weights, calls = _bits(tower), iter(range(9))

    def failing(ids: Tensor) -> dict[str, Tensor]:
        if next(calls) == 2:  # the pass for presence, the pass with a gradient, the pass after the step
            assert not torch.equal(tower.body.embeddings.word_embeddings.weight.view(torch.uint8), start)
            raise ConnectionError
        return tower.losses(ids)

    start = weights["body.embeddings.word_embeddings.weight"]
    tower.train()
    with pytest.raises(ConnectionError):
        measure_affinity(tower, tower.shared(), failing, IDS, tasks=("a", "b"), rate=0.01)
    after = _bits(tower)
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert all(part.training for part in tower.modules())


def test_frozen_parameters_are_no_part_of_the_step(tower: Tower) -> None:
    for parameter in tower.body.embeddings.parameters():
        parameter.requires_grad_(requires_grad=False)
    frozen = tower.body.embeddings.word_embeddings.weight.detach().clone()
    seen: list[bool] = []

    def watched(ids: Tensor) -> dict[str, Tensor]:
        seen.append(torch.equal(tower.body.embeddings.word_embeddings.weight, frozen))
        return tower.losses(ids)

    found = measure_affinity(tower, tower.shared(), watched, IDS[:1], tasks=("a", "b"), rate=0.01)
    assert all(seen)
    assert (found.matrix != 0).all()
    for parameter in tower.parameters():
        parameter.requires_grad_(requires_grad=False)
    with pytest.raises(InvalidInputError, match="at least one that requires a gradient, found none"):
        measure_affinity(tower, tower.shared(), tower.losses, IDS, tasks=("a", "b"), rate=0.01)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (lambda place: {"a": place[0] - 1}, "loss of a before a step: expected 0 or more, found -1.0"),
        (lambda place: {"a": place.sum() * float("nan")}, "before a step: expected 0 or more, found nan"),
        # At 1 the slope of exp(x^2) is 2e; the step of 100 goes to 1 - 200e, whose exponential overflows.
        (lambda place: {"a": (place[0] + 1).square().exp()}, "after a step on a at rate 100: .* found inf"),
    ],
)
def test_a_loss_out_of_range_is_told(losses: Callable[[Tensor], dict[str, Tensor]], message: str) -> None:
    point = Point()
    with pytest.raises(InvalidInputError, match=message):
        measure_affinity(point, point.parameters(), lambda _: losses(point.place), [None], tasks=("a",), rate=100.0)
    assert torch.equal(point.place.detach(), torch.zeros(2))
