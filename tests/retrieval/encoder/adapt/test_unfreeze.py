from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from retrieval.encoder.adapt.unfreeze import Unfreezing
from retrieval.encoder.backbone import Backbone, load_backbone, set_trainable
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.optimise import make_optimizer
from retrieval.encoder.record import Best, Validation
from retrieval.encoder.train import TrainResult

if TYPE_CHECKING:
    from conftest import Scene

Runner = Callable[..., TrainResult]


def _open(backbone: Backbone) -> set[str]:
    """Name the parts in which some parameter learns; all of a part's must."""
    parts: dict[str, set[bool]] = {}
    for name, parameter in backbone.named_parameters():
        words = name.split(".")
        part = next((f"layer {w}" for w in words if w.isdigit()), words[1])
        parts.setdefault(part, set()).add(parameter.requires_grad)
    assert all(len(states) == 1 for states in parts.values())
    return {part for part, states in parts.items() if states == {True}}


def test_exactly_the_due_layers_are_open(tiny_bert: Path) -> None:
    backbone = load_backbone(BackboneConfig(name=str(tiny_bert)))
    unfreezing = Unfreezing(backbone, every=2)
    assert _open(backbone) == set()
    found = []
    for step in range(1, 10):
        unfreezing.at(step)
        found.append((_open(backbone), unfreezing.open))
    top = {"layer 2"}
    two, three = top | {"layer 1"}, top | {"layer 1", "layer 0"}
    every = three | {"embeddings"}
    stages = [(top, 1), (two, 2), (three, 3), (every, 4)]
    # Two steps a stage; from step 7 on everything is open.
    assert found == [stages[min(3, n // 2)] for n in range(9)]


def test_only_what_may_learn_is_opened(tiny_bert: Path) -> None:
    backbone = load_backbone(BackboneConfig(name=str(tiny_bert)))
    set_trainable(backbone, 2)
    unfreezing = Unfreezing(backbone, every=1)
    for step in range(1, 9):
        unfreezing.at(step)
    assert _open(backbone) == {"layer 2", "layer 1"}


def test_a_causal_model_opens_its_last_norm_first(tiny_llama: Path) -> None:
    backbone = load_backbone(BackboneConfig(name=str(tiny_llama)))
    unfreezing = Unfreezing(backbone, every=3)
    fresh = unfreezing.at(1)
    assert _open(backbone) == {"layer 1", "norm"}
    assert set(fresh) == {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert unfreezing.at(3) == {}
    assert all(name.startswith("model.layers.0.") for name in unfreezing.at(4))


def test_the_best_weights_know_a_layer_that_opened_after_them(tiny_bert: Path) -> None:
    """What was closed when the best weights were kept goes back to what it was then."""
    backbone = load_backbone(BackboneConfig(name=str(tiny_bert)))
    model = nn.ModuleDict({"backbone": backbone})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    unfreezing, best = Unfreezing(backbone, every=1), Best()
    unfreezing.at(1)
    best.offer(Validation(phase="finetune", step=1, losses={}, mean=0.5), model)
    best.weights |= {f"backbone.{name}": weight for name, weight in unfreezing.at(2).items()}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    best.restore(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("steps", "touched"), [(2, {"layer.2."}), (4, {"layer.2.", "layer.1."}), (6, {"layer.2.", "layer.1.", "layer.0."})]
)
def test_training_touches_the_open_layers_alone(short: Runner, tiny_bert: Path, steps: int, touched: set[str]) -> None:
    before = dict(load_backbone(BackboneConfig(name=str(tiny_bert))).named_parameters())
    # Rates low enough for the last validation to be the best one.
    result = short(
        train_layers=3, unfreeze={"every": 2}, steps=steps, validate_every=steps,
        learning_rate=1e-3, head_learning_rate=1e-4,
    )  # fmt: skip
    assert result.best.step == steps
    moved = {name for name, p in result.model.backbone.named_parameters() if not torch.equal(p, before[name])}
    assert {part for part in ("layer.0.", "layer.1.", "layer.2.") if any(part in name for name in moved)} == touched
    assert all("encoder.layer." in name for name in moved)


def test_cached_states_stay_right_while_layers_open(short: Runner) -> None:
    """Without room for a cache the same run gives the same weights, but for the cache's float16."""
    lines = {"train_layers": None, "unfreeze": {"every": 2}, "steps": 8, "validate_every": 8, "learning_rate": 1e-3}
    kept, anew = (short(cache_mb=size, **lines) for size in (8, 0))
    # States of size 4 in float16 are off by at most 2e-3, which a few steps of rate 1e-3 cannot make much of; states of
    # a layer below or above would change the loss by a tenth and more.
    assert kept.best.mean == pytest.approx(anew.best.mean, abs=5e-3)
    assert [v.mean for v in kept.history] == pytest.approx([v.mean for v in anew.history], abs=5e-3)


def test_layers_that_opened_after_the_best_step_end_as_they_began(short: Runner, tiny_bert: Path) -> None:
    before = dict(load_backbone(BackboneConfig(name=str(tiny_bert))).named_parameters())
    # The rate rises with every step, until it ruins what the first ones learnt.
    result = short(
        train_layers=3, unfreeze={"every": 10}, steps=30, validate_every=1, patience=99, task_patience=99,
        lr_warmup=1.0, learning_rate=1.0,
    )  # fmt: skip
    assert 0 < result.best.step <= 10
    assert result.steps == 30
    moved = {name for name, p in result.model.backbone.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all(name.startswith("model.encoder.layer.2.") for name in moved)


def test_what_is_closed_is_computed_once_and_stays_right(scene: Scene) -> None:
    """After the open layers have moved, states are the model's own again at every stage."""
    prepared, backbone = scene.prepared, scene.prepared.model.backbone
    texts = np.arange(len(prepared.pooler.table.lengths))
    unfreezing = Unfreezing(backbone, every=1)
    for step, frozen in enumerate((2, 1, 0, 0), 1):
        unfreezing.at(step)
        prepared = prepared.with_layers(unfreezing.open, 8)
        assert prepared.pooler.frozen == frozen
        for _ in range(2):
            with torch.no_grad():
                expected = backbone(*prepared.pooler.table.padded(texts))
            # float16 in the store.
            torch.testing.assert_close(prepared.pooler(texts).detach(), expected, atol=5e-3, rtol=0)
            backbone.zero_grad(set_to_none=True)
            prepared.pooler(texts).square().sum().backward()
            reached = {name for name, p in backbone.named_parameters() if p.grad is not None}
            assert reached == {name for name, p in backbone.named_parameters() if p.requires_grad}
            with torch.no_grad():
                for parameter in backbone.parameters():
                    if parameter.requires_grad:
                        parameter.add_(torch.randn_like(parameter) * 0.02)


@pytest.mark.parametrize("train_layers", [None, 2])
def test_a_causal_model_learns_while_layers_open(short: Runner, tiny_llama: Path, train_layers: int | None) -> None:
    backbone = {"name": str(tiny_llama), "max_tokens": {"user": 16, "item": 16, "text": 16}}
    result = short(backbone=backbone, train_layers=train_layers, unfreeze={"every": 5}, steps=30, validate_every=10)
    assert result.best.mean < result.history[0].mean - 0.05
    assert np.isfinite([v.mean for v in result.history]).all()


def test_layers_that_open_later_are_skipped_by_the_optimiser_until_then(tiny_bert: Path) -> None:
    backbone = load_backbone(BackboneConfig(name=str(tiny_bert)))
    optimizer = make_optimizer([(backbone.parameters(), 0.1)], weight_decay=0.1)
    Unfreezing(backbone, every=5).at(1)
    closed = {name: p.detach().clone() for name, p in backbone.named_parameters() if not p.requires_grad}
    backbone(torch.tensor([[2, 5, 3]]), torch.tensor([[1, 1, 1]])).sum().backward()
    optimizer.step()
    now = dict(backbone.named_parameters())
    assert closed
    assert all(torch.equal(weight, now[name]) for name, weight in closed.items())
    assert not any(now[name] in optimizer.state for name in closed)
