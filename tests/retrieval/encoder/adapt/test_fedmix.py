"""FedMix on a batch's parties: against the paper's form by hand, and where the plain loss stays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from retrieval.encoder.adapt.config import FedmixConfig
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.adapt.fedmix import FedMixed
from retrieval.encoder.balance.config import BalanceConfig
from retrieval.encoder.balance.make import TaskLoss, make_balance
from retrieval.encoder.batch import Batch, View
from retrieval.encoder.data import TrainingData
from retrieval.encoder.step import Look, Plain, batch_features
from retrieval.encoder.train import TrainResult

if TYPE_CHECKING:
    from conftest import Scene

Runner = Callable[..., TrainResult]
BY_STORE = {"party": {"on": "user", "column": "store"}}
USERS = {"churn", "taste", "spend"}


def _halves(batch: Batch, view: View = "user") -> Tensor:
    """Return two parties in turn."""
    return torch.arange(len(batch.views[view])) % 2


def _look(
    scene: Scene, batch: Batch, *, parties: Tensor | None, on: View = "user", **lines: float | dict[str, str]
) -> Look:
    model = scene.prepared.model
    groups = {} if parties is None else {on: {"store": parties}}
    config = FedmixConfig.model_validate({**BY_STORE, **lines})
    objective = FedMixed(model, 0.0, config, torch.Generator().manual_seed(0))
    return objective(replace(batch, groups=groups), scene.prepared.pooler, model.tasks)


def _assert_plain(scene: Scene, look: Look, batch: Batch, but: frozenset[str] = frozenset()) -> None:
    model = scene.prepared.model
    plain = Plain(model)(batch, scene.prepared.pooler, model.tasks).losses
    assert look.losses.keys() == plain.keys()
    same = {name for name, loss in plain.items() if torch.allclose(loss, look.losses[name], rtol=1e-4)}
    assert same == plain.keys() - but


def test_mixed_losses_by_hand(scene: Scene) -> None:
    """Each party publishes one mean, of all its users: every row's partner is known."""
    model, batch, lam = scene.prepared.model, scene.batches[0], 0.15
    parties = _halves(batch)
    assert len(parties) == 16
    look = _look(scene, batch, parties=parties, ratio=lam, rows=8)
    _assert_plain(scene, look, batch, but=frozenset(USERS))
    with torch.no_grad():
        vectors = batch_features(model, batch, scene.prepared.pooler).vectors["user"]
    vectors = vectors.double()
    means = torch.stack([vectors[parties == party].mean(0) for party in (1, 0)])[parties]

    @torch.no_grad()
    def expected(name: str, rows: Callable[[Tensor, Tensor], Tensor], labels: Tensor) -> Tensor:
        assert bool(batch.rows[name].present.all())
        head, labels = copy.deepcopy(model.heads[name]).double(), labels.double()
        others = torch.stack([labels[parties == party].mean(0) for party in (1, 0)])[parties]

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return rows(head(functional.normalize(x, dim=1)), y)

        # (1 - lam) L(x, y) + lam L(x, y') + lam dL(x, y)/dx . x' at (1 - lam) x; the derivative by small differences.
        at, small = (1 - lam) * vectors, 1e-6
        along = (loss(at + small * means, labels) - loss(at - small * means, labels)) / (2 * small)
        return ((1 - lam) * loss(at, labels) + lam * loss(at, others) + lam * along).mean().float()

    def bernoulli(logits: Tensor, y: Tensor) -> Tensor:
        return -y * functional.logsigmoid(logits) - (1 - y) * functional.logsigmoid(-logits)

    codes = batch.rows["taste"].label.long()
    for name, rows, labels in (
        ("churn", bernoulli, batch.rows["churn"].label),
        ("spend", lambda values, y: (values - y).square(), batch.rows["spend"].label),
        ("taste", lambda logits, y: -(torch.log_softmax(logits, 1) * y).sum(1), functional.one_hot(codes, 4).float()),
    ):
        torch.testing.assert_close(look.losses[name], expected(name, rows, labels), rtol=2e-5, atol=0.0)


def test_the_plain_loss_stays_where_nothing_is_mixed(scene: Scene) -> None:
    batch = scene.batches[0]
    halves = _halves(batch)
    for parties, lines in (
        (halves, {"ratio": 0.0}),
        (torch.zeros_like(halves), {}),  # one party
        (torch.full_like(halves, -1), {}),  # none
        (None, {}),  # data without the column
        (halves, {"rows": 9}),  # no party has as many rows
    ):
        _assert_plain(scene, _look(scene, batch, parties=parties, **lines), batch)


@pytest.mark.parametrize(
    ("on", "view", "mixed"), [("item", "item_row", {"demand"}), ("text", "text", {"topic", "tone"})]
)
def test_parties_of_items_and_texts_mix_their_tasks(scene: Scene, on: str, view: View, mixed: set[str]) -> None:
    batch = scene.batches[0]
    look = _look(
        scene, batch, parties=_halves(batch, view), on=view, party={"on": on, "column": "store"}, rows=2, ratio=0.3
    )
    _assert_plain(scene, look, batch, but=frozenset(mixed | ({"urgent"} if on == "text" else set())))


@pytest.mark.parametrize("method", ["static", "mean"])
def test_gradients_are_those_of_the_sum_of_losses(scene: Scene, method: str) -> None:
    """By features or by plain backward passes, second derivatives included."""
    model, batch = scene.prepared.model, scene.batches[0]
    tasks = {name: TaskLoss(kind="classification", baseline=loss, count=9) for name, loss in scene.baselines.items()}
    model.zero_grad(set_to_none=True)
    look = _look(scene, batch, parties=_halves(batch), rows=4)
    make_balance(BalanceConfig.model_validate({"method": method}), tasks).backward(
        look.losses,
        features=look.features,
        shared=[*model.backbone.parameters(), *model.projections.parameters()],
        heads=list(model.heads.parameters()),
    )
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    losses = _look(scene, batch, parties=_halves(batch), rows=4).losses
    torch.stack([loss / scene.baselines[name] for name, loss in losses.items()]).mean().backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    away = sum(float((found[name] - gradient).square().sum()) for name, gradient in expected.items())
    assert away**0.5 < 0.02 * sum(float(gradient.square().sum()) for gradient in expected.values()) ** 0.5


@pytest.mark.parametrize("method", ["static", "famo", "pcgrad"])
def test_training_learns_by_it(short: Runner, full_world: TrainingData, method: str) -> None:
    cuts = [replace(cut, groups={"store": np.arange(len(cut.users), dtype=np.int32) % 2}) for cut in full_world.cuts]
    data = replace(full_world, train=tuple(cuts[:-1]), validation=cuts[-1])
    result = short(
        data, fedmix={**BY_STORE, "rows": 4}, balance={"method": method}, warmup={"steps": 8, "validate_every": 4},
        dropout=0.05,
    )  # fmt: skip
    first = result.history[0]
    assert result.best.mean < first.mean - 0.03
    assert any(result.best.losses[name] < first.losses[name] - 0.01 for name in USERS)


def test_data_without_parties_or_tasks_is_refused(short: Runner, world: TrainingData) -> None:
    with pytest.raises(AdaptError, match=r"fedmix.party: expected groups of user column 'store' .*, found none"):
        short(fedmix=BY_STORE)
    items = replace(world, item_groups={"store": np.zeros(40, np.int32)})
    with pytest.raises(
        AdaptError, match=r"fedmix.party: expected a task whose rows groups of items divide, found retr"
    ):
        short(items, fedmix={"party": {"on": "item", "column": "store"}})
