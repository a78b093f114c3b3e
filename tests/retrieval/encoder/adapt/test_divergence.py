from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from retrieval.encoder.adapt.divergence import divergence, predict
from retrieval.encoder.losses import masked_bce, masked_cross_entropy, masked_squares
from retrieval.encoder.step import batch_features

if TYPE_CHECKING:
    from conftest import Scene


def _logit(*shares: float) -> Tensor:
    return torch.tensor([math.log(p / (1 - p)) for p in shares])


def test_bernoulli_divergence_by_hand() -> None:
    found = divergence("binary", _logit(0.5, 0.2), _logit(0.25, 0.2))
    # .5 log(.5 / .25) + .5 log(.5 / .75) = .5 log 2 + .5 log(2/3) = .1438; equal predictions are 0 apart.
    assert found.tolist() == pytest.approx([0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0.0], abs=1e-6)


@pytest.mark.parametrize("kind", ["multiclass", "contrastive", "token_tags"])
def test_categorical_divergence_by_hand(kind: str) -> None:
    target, own = torch.tensor([[0.5, 0.25, 0.25]]).log() + 3, torch.tensor([[0.25, 0.5, 0.25]]).log()
    # .5 log 2 - .25 log 2 + 0; a constant added to logits changes nothing.
    assert divergence(kind, target, own).tolist() == pytest.approx([0.25 * math.log(2)], abs=1e-6)


def test_two_numbers_are_a_squared_difference_apart() -> None:
    assert divergence("regression", torch.tensor([3.0]), torch.tensor([1.0])).tolist() == [4.0]


def test_extreme_logits_stay_finite() -> None:
    found = divergence("binary", torch.tensor([200.0, -200.0]), torch.tensor([-200.0, 200.0]))
    # 1 * (log 1 - log e^-200) + 0.
    assert found.tolist() == pytest.approx([200.0, 200.0])


def test_predictions_are_what_the_losses_read(scene: Scene) -> None:
    """From logits and presence every task's loss comes out, which proves shifts and masks."""
    model, batch = scene.prepared.model, scene.batches[0]
    with torch.no_grad():
        features = batch_features(model, batch, scene.prepared.pooler)
        losses = model.losses(batch, features)
        for task in model.tasks:
            found = predict(model, task, batch, features)
            assert found is not None
            assert found.present is not None
            if task.kind == "contrastive":
                pairs = batch.pairs[task.name]
                rest = torch.logsumexp(found.logits.masked_fill(pairs.excluded | pairs.drawn, -1e9), 1, keepdim=True)
                loss = functional.softplus(rest - found.logits)[pairs.drawn].mean()
                assert torch.equal(found.present, pairs.drawn.any(1))
            elif task.kind == "token_tags":
                loss = functional.cross_entropy(found.logits, batch.tags[task.name].code)
            else:
                label = (batch.pairs if task.on == "pair" else batch.rows)[task.name].label
                measure = {"binary": masked_bce, "regression": masked_squares, "multiclass": masked_cross_entropy}
                loss = measure[task.kind](found.logits, label, found.present)
            torch.testing.assert_close(loss, losses[task.name])


def test_tasks_without_labels_or_rows(scene: Scene) -> None:
    model = scene.prepared.model
    batch = replace(scene.batches[0], pairs={}, rows={}, tags={})
    with torch.no_grad():
        features = batch_features(model, batch, scene.prepared.pooler)
        found = {task.name: predict(model, task, batch, features) for task in model.tasks}
        assert found.pop("slots") is None
        assert all(own is not None and own.present is None for own in found.values())
        users = {view: rows for view, rows in features.vectors.items() if view == "user"}
        alone = {task.name: predict(model, task, batch, replace(features, vectors=users)) for task in model.tasks}
    assert {name for name, own in alone.items() if own is not None} == {"churn", "taste", "spend"}
