"""R-Drop, mixup and FGM: each loss against its formula, and what a step may not leave behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.encoder.adapt.fgm import Adversarial, adversarial_step, perturbed
from retrieval.encoder.adapt.mixup import MIXED, Mixup, exchanged, mix
from retrieval.encoder.adapt.rdrop import RDrop
from retrieval.encoder.balance.config import BalanceConfig
from retrieval.encoder.balance.make import TaskLoss, make_balance
from retrieval.encoder.batch import Batch
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.model import Features
from retrieval.encoder.optimise import make_optimizer
from retrieval.encoder.packed import TextStates
from retrieval.encoder.step import (
    Look,
    Objective,
    Plain,
    Stepper,
    TextSource,
    batch_features,
    batch_states,
    read_features,
)
from retrieval.encoder.train import TrainResult

if TYPE_CHECKING:
    from conftest import Scene

Runner = Callable[..., TrainResult]


def _gradients(scene: Scene, objective: Objective, method: str = "static") -> dict[str, Tensor]:
    """Return every gradient that one step's objective gives."""
    model = scene.prepared.model
    model.zero_grad(set_to_none=True)
    tasks = {name: TaskLoss(kind="classification", baseline=loss, count=9) for name, loss in scene.baselines.items()}
    balance = make_balance(BalanceConfig.model_validate({"method": method}), tasks)
    look = objective(scene.batches[0], scene.prepared.pooler, model.tasks)
    balance.backward(
        look.losses,
        features=look.features,
        shared=[*model.backbone.parameters(), *model.projections.parameters()],
        heads=list(model.heads.parameters()),
    )
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_dropout_keeps_the_mean_and_zeroes_its_share(scene: Scene) -> None:
    model, batch = scene.prepared.model, scene.batches[0]
    states = TextStates(pooled=torch.ones(len(batch.texts), 32))
    with torch.no_grad():
        torch.manual_seed(0)
        dropped = functional.dropout(states.pooled, 0.25)
        torch.manual_seed(0)
        features = read_features(model, replace(batch, tags={}), states, dropout=0.25)
    place = np.searchsorted(batch.texts, batch.views["user"])
    expected = model.vectors(dropped[torch.from_numpy(place)], "user")
    torch.testing.assert_close(features.vectors["user"], expected)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.05)


def test_rdrop_by_hand(scene: Scene) -> None:
    """Every kind of task, against the formula written out on the two draws of dropout."""
    model, batch, pooler = scene.prepared.model, scene.batches[0], scene.prepared.pooler
    with torch.no_grad():
        torch.manual_seed(3)
        look = RDrop(model, 0.2, weight=3.0)(batch, pooler, model.tasks)
        torch.manual_seed(3)
        states = batch_states(model, batch, pooler)
        one, two = (read_features(model, batch, states, dropout=0.2) for _ in range(2))
        first, second = model.losses(batch, one), model.losses(batch, two)
        # A binary task: p log(p / q) + (1 - p) log((1 - p) / (1 - q)), both ways.
        labels = batch.rows["churn"]
        p, q = (torch.sigmoid(model.heads["churn"](f.vectors["user"])) for f in (one, two))
        both = (p - q) * (p / q).log() + ((1 - p) - (1 - q)) * ((1 - p) / (1 - q)).log()
        apart = {"churn": both[labels.present].mean() / 2}
        # Classes: sum of (p - q) log(p / q) over them.
        labels = batch.rows["topic"]
        p, q = (torch.softmax(model.heads["topic"](f.vectors["text"]), 1) for f in (one, two))
        apart["topic"] = ((p - q) * (p / q).log()).sum(1)[labels.present].mean() / 2
        # A number: the squared difference.
        numbers = [model.heads["rating"](f.vectors["user"], f.vectors["item"]) for f in (one, two)]
        apart["rating"] = (numbers[0] - numbers[1]).square()[batch.pairs["rating"].present].mean()
        # Retrieval: distributions over the batch's items, of users with a positive.
        scored = [model.heads["retrieval"](f.vectors["user"], f.vectors["item"]) - batch.log_q for f in (one, two)]
        p, q = (torch.softmax(logits, 1) for logits in scored)
        drawn = batch.pairs["retrieval"].drawn.any(1)
        apart["retrieval"] = ((p - q) * (p / q).log()).sum(1)[drawn].mean() / 2
    assert look.losses.keys() == first.keys()
    for name, between in apart.items():
        assert float(between) > 0
        torch.testing.assert_close(look.losses[name], (first[name] + second[name]) / 2 + 3.0 / 2 * between)
    torch.testing.assert_close(look.losses["slots"], first["slots"])


@pytest.mark.parametrize("method", ["static", "mean"])
def test_features_cover_every_way_to_the_shared_layers(scene: Scene, method: str) -> None:
    """By features or by plain backward passes, the objectives' gradients are those of the sum of losses."""
    model = scene.prepared.model
    embedding = model.backbone.model.get_input_embeddings().weight

    def objectives() -> list[Objective]:
        return [
            RDrop(model, 0.2, weight=1.0),
            Mixup(model, 0.0, 0.5, np.random.default_rng(0)),
            Adversarial(Plain(model), embedding, 0.5, scene.baselines),
        ]

    for one, other in zip(objectives(), objectives(), strict=True):
        torch.manual_seed(0)
        found = _gradients(scene, one, method)
        model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        losses = other(scene.batches[0], scene.prepared.pooler, model.tasks).losses
        torch.stack([loss / scene.baselines[name] for name, loss in losses.items()]).mean().backward()
        expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert found.keys() == expected.keys()
        away = sum(float((found[name] - gradient).square().sum()) for name, gradient in expected.items())
        # Sums in another order differ by rounding; leaving out one way to the shared layers changes tenths.
        assert away**0.5 < 1e-3 * sum(float(gradient.square().sum()) for gradient in expected.values()) ** 0.5


def test_mixed_vectors_by_hand() -> None:
    features = Features(vectors={"user": torch.eye(3)[:2], "item": torch.eye(3)})
    mixed = mix(features, {"user": torch.tensor([1, 0])}, 0.8)
    # .8 e1 + .2 e2 has length sqrt(.64 + .04).
    length = (0.64 + 0.04) ** 0.5
    expected = torch.tensor([[0.8 / length, 0.2 / length, 0], [0.2 / length, 0.8 / length, 0]])
    torch.testing.assert_close(mixed.vectors["user"], expected)
    assert mixed.vectors["item"] is features.vectors["item"]


def test_mixup_mixes_losses_as_it_mixes_rows(scene: Scene) -> None:
    model, batch, pooler = scene.prepared.model, scene.batches[0], scene.prepared.pooler
    with torch.no_grad():
        look = Mixup(model, 0.0, 0.5, np.random.default_rng(5))(batch, pooler, model.tasks)
        rng = np.random.default_rng(5)
        features = batch_features(model, batch, pooler)
        lam = float(rng.beta(0.5, 0.5))
        partners = {v: torch.from_numpy(rng.permutation(len(r))) for v, r in features.vectors.items() if v in MIXED}
        user = partners["user"]
        vectors = features.vectors["user"]
        mixed = functional.normalize(lam * vectors + (1 - lam) * vectors[user], dim=1)
        logits, labels = model.heads["churn"](mixed), batch.rows["churn"]
        # Cross-entropy is linear in the label: with every label present, the mixed loss is that of the mixed label.
        assert bool(labels.present.all())
        label = lam * labels.label + (1 - lam) * labels.label[user]
        torch.testing.assert_close(look.losses["churn"], functional.binary_cross_entropy_with_logits(logits, label))
        pairs = batch.pairs["repurchase"]
        logits = model.heads["repurchase"](mixed, features.vectors["item"])
        own = functional.binary_cross_entropy_with_logits(
            (logits + pairs.shift)[pairs.present], pairs.label[pairs.present]
        )
        other = functional.binary_cross_entropy_with_logits(
            (logits + pairs.shift[user])[pairs.present[user]], pairs.label[user][pairs.present[user]]
        )
        torch.testing.assert_close(look.losses["repurchase"], lam * own + (1 - lam) * other)
        torch.testing.assert_close(look.losses["slots"], model.losses(batch, features)["slots"])
    assert 0 < lam < 1


def test_partners_bring_all_of_their_labels(scene: Scene) -> None:
    batch, tasks = scene.batches[0], scene.prepared.model.tasks
    turned = {view: torch.arange(len(rows)).flip(0) for view, rows in batch.views.items()}
    there = exchanged(batch, turned, tasks)
    back = exchanged(there, turned, tasks)
    assert there.tags == {}
    assert not torch.equal(there.pairs["purchase"].label, batch.pairs["purchase"].label)
    for name, own in batch.pairs.items():
        for field in ("label", "present", "drawn", "excluded", "shift"):
            assert torch.equal(getattr(there.pairs[name], field), getattr(own, field).flip(0))
            assert torch.equal(getattr(back.pairs[name], field), getattr(own, field))
    assert all(torch.equal(there.rows[name].label, own.label.flip(0)) for name, own in batch.rows.items())


def test_the_adversarial_step_has_its_length_and_direction() -> None:
    step = adversarial_step(torch.tensor([[3.0, 0.0], [0.0, -4.0]]), 2.0)
    # |g| = 5, so that the step is 2/5 g.
    torch.testing.assert_close(step, torch.tensor([[1.2, 0.0], [0.0, -1.6]]))
    assert float(step.norm()) == pytest.approx(2.0)
    assert torch.equal(adversarial_step(torch.zeros(2, 2), 2.0), torch.zeros(2, 2))


def test_weights_come_back_bit_for_bit_even_after_an_error() -> None:
    weight = nn.Parameter(torch.tensor([0.1, 1e-8, 3.0]))
    before = weight.detach().clone()
    inside: list[Tensor] = []

    def fail() -> None:
        with perturbed(weight, torch.tensor([1e6, 1.0, 0.3])):
            inside.append(weight.detach().clone())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    torch.testing.assert_close(inside[0], torch.tensor([1e6 + 0.1, 1.0, 3.3]))
    assert torch.equal(weight.detach(), before)


class _Linear:
    """Losses 3 . w and 5 (5 . w of the second entry alone), of a vector instead of a batch."""

    def __init__(self, weight: nn.Parameter) -> None:
        self.weight, self.seen = weight, []

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:  # noqa: ARG002
        self.seen.append(self.weight.detach().clone())
        losses = {"a": 3 * self.weight.sum(), "b": 5 * self.weight[1]}
        return Look(losses=losses, features=[], states=TextStates(pooled=torch.zeros(0, 1)))


def test_fgm_by_hand(scene: Scene) -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    inner = _Linear(weight)
    objective = Adversarial(inner, weight, 2.0, {"a": 1.0, "b": 5.0})
    look = objective(scene.batches[0], scene.prepared.pooler, ())
    # The gradient of a + b / 5 is (3, 4), of length 5: the step is (1.2, 1.6).
    torch.testing.assert_close(inner.seen[1] - inner.seen[0], torch.tensor([1.2, 1.6]))
    # a: (9 + 3 * (3 + 2.8)) / 2 = 13.2; b: (10 + 5 * 3.6) / 2 = 14.
    assert [float(loss.detach()) for loss in look.losses.values()] == pytest.approx([13.2, 14.0])
    assert weight.tolist() == [1.0, 2.0]
    look.losses["b"].backward()
    # The step counts as a constant: the slope of b is 5 / 2 + 5 / 2.
    assert weight.grad is not None
    assert weight.grad.tolist() == [0.0, 5.0]


def test_the_embeddings_worst_step_raises_the_loss_and_is_undone(scene: Scene) -> None:
    model, pooler, batch = scene.prepared.model, scene.prepared.pooler, scene.batches[0]
    embedding = model.backbone.model.get_input_embeddings().weight
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    def relative(look: Look) -> float:
        return sum(float(loss.detach()) / scene.baselines[name] for name, loss in look.losses.items())

    plain = Plain(model)
    clean = relative(plain(batch, pooler, model.tasks))
    hard = relative(Adversarial(plain, embedding, 0.3, scene.baselines)(batch, pooler, model.tasks))
    assert hard > clean + 0.01
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    with torch.no_grad():  # as after a step, for a balance that asks
        again = relative(Adversarial(plain, embedding, 0.3, scene.baselines)(batch, pooler, model.tasks))
    assert again == pytest.approx(hard, rel=1e-5)


@pytest.mark.parametrize(
    "lines", [{"fgm": 0.5}, {"dropout": 0.2, "rdrop": 1.0}, {"augment": {"mixup": 0.4}, "dropout": 0.1}]
)
@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_llama"])
def test_training_learns_by_each(
    short: Runner, architecture: str, lines: dict[str, object], request: pytest.FixtureRequest
) -> None:
    backbone = {
        "name": str(request.getfixturevalue(architecture)), "max_tokens": {"user": 16, "item": 16, "text": 16}
    }  # fmt: skip
    result = short(backbone=backbone, train_layers=None, steps=20, validate_every=10, **lines)
    assert result.best.mean < result.history[0].mean - 0.03


@pytest.mark.parametrize("method", ["famo", "pcgrad", "uncertainty"])
def test_every_kind_of_balance_goes_with_all_of_them(short: Runner, full_world: object, method: str) -> None:
    result = short(
        full_world, train_layers=None, fgm=0.3, dropout=0.1, rdrop=0.5, l1=1e-6, balance={"method": method},
        warmup={"steps": 3}, task_patience=9,
    )  # fmt: skip
    assert set(result.best.losses) == set(result.baselines)
    assert np.isfinite(result.best.mean)


def test_the_default_step_is_the_plain_one(scene: Scene) -> None:
    """One step by hand and one by the stepper leave the same bits."""
    model, batch = scene.prepared.model, scene.batches[0]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    tasks = {name: TaskLoss(kind="classification", baseline=loss, count=9) for name, loss in scene.baselines.items()}
    found = []
    for by_hand in (True, False):
        model.load_state_dict(before, strict=False)
        model.zero_grad(set_to_none=True)
        optimizer = make_optimizer([(model.parameters(), 1e-3)], weight_decay=0.01)
        balance = make_balance(BalanceConfig(), tasks)
        if by_hand:
            losses = model.losses(batch, batch_features(model, batch, scene.prepared.pooler), model.tasks)
            balance.backward(losses, features=[], shared=[], heads=[])
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        else:
            Stepper(model, balance, optimizer, 1.0)(batch, scene.prepared.pooler, model.tasks)
        found.append({name: p.detach().clone() for name, p in model.named_parameters()})
    assert not torch.equal(found[0]["projections.user.weight"], before["projections.user.weight"])
    assert all(torch.equal(weight, found[1][name]) for name, weight in found[0].items())
