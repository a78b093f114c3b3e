from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from retrieval.encoder.adapt.config import ResidualConfig
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.adapt.residual import Explained, make_residual
from retrieval.encoder.data import TrainingData
from retrieval.encoder.step import Plain
from retrieval.encoder.train import TrainResult

if TYPE_CHECKING:
    from conftest import Scene

Runner = Callable[..., TrainResult]


def test_at_its_start_the_term_is_the_labels_variance_over_itself(scene: Scene) -> None:
    """Every map starts as the constant mean: sum (y - mean)^2 / n / variance, which is 1 on the rows it comes from."""
    model, batch = scene.prepared.model, scene.batches[0]
    residual = make_residual(model.tasks, [batch], ResidualConfig(pairs=(("spend", "churn"),)))
    plain = Plain(model)
    explained = Explained(plain, model, residual, 0.5, scene.baselines)
    before, after = (look(batch, scene.prepared.pooler, model.tasks).losses for look in (plain, explained))
    n = len(batch.rows["spend"].label)
    # The deviation is that of a sample, n - 1 in its denominator.
    term = 0.5 * (n - 1) / n
    for name, loss in before.items():
        expected = term * scene.baselines[name] if name in ("spend", "churn") else 0.0
        assert float((after[name] - loss).detach()) == pytest.approx(expected, rel=1e-3, abs=1e-5), name


def test_the_term_reaches_the_explaining_head_once_a_relation_was_learnt(scene: Scene) -> None:
    model, batch = scene.prepared.model, scene.batches[0]
    residual = make_residual(model.tasks, [batch], ResidualConfig(pairs=(("churn", "spend"),)))
    explained = Explained(Plain(model), model, residual, 1.0, scene.baselines)

    def gradient() -> float:
        look = explained(batch, scene.prepared.pooler, model.tasks)
        alone = Plain(model)(batch, scene.prepared.pooler, model.tasks)
        term = look.losses["churn"] - alone.losses["churn"]
        (found,) = torch.autograd.grad(term, [model.heads["spend"].outer.bias])
        return float(found.abs().sum())

    assert gradient() == 0.0
    with torch.no_grad():
        for pair in residual.maps.values():
            pair[0] = 1.0
    assert gradient() > 0.0


@pytest.mark.parametrize("method", ["static", "mean", "famo"])
def test_maps_learn_with_the_heads(full_world: TrainingData, short: Runner, method: str) -> None:
    lines = {"steps": 3, "balance": {"method": method}}
    plain, explained = short(full_world, **lines), short(full_world, **lines, residual={"weight": 0.5})
    heads = [dict(result.model.heads.named_parameters()) for result in (plain, explained)]
    assert heads[0].keys() == heads[1].keys()  # the maps are no part of the model
    assert any(not torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_pairs_that_share_no_rows_are_refused(scene: Scene) -> None:
    tasks = scene.prepared.model.tasks
    for pairs, message in (
        ((("spend", "topic"),), r"binary or regression tasks with labels .*found 'topic'"),
        ((("spend", "urgent"),), "two tasks on the same rows, found spend and urgent"),
        ((("spend", "spend"),), "two tasks on the same rows, found spend and spend"),
    ):
        with pytest.raises(AdaptError, match=message):
            make_residual(tasks, scene.batches, ResidualConfig(pairs=pairs))
    unlabelled = [replace(batch, rows={}) for batch in scene.batches]
    assert {name for pair in make_residual(tasks, unlabelled, ResidualConfig()).pairs for name in pair} <= {
        task.name for task in tasks if task.on == "pair"
    }
