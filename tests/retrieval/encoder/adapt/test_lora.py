from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from retrieval.encoder.adapt.config import LoraConfig
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.adapt.lora import Lora
from retrieval.encoder.backbone import Backbone, load_backbone
from retrieval.encoder.balance.config import BalanceConfig
from retrieval.encoder.balance.make import TaskLoss, make_balance
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.export import export
from retrieval.encoder.packed import TextPooler
from retrieval.encoder.step import Stepper
from retrieval.encoder.tokens import TokenTable, tokenize
from retrieval.encoder.train import TrainResult

if TYPE_CHECKING:
    from conftest import Scene

Runner = Callable[..., TrainResult]
TEXTS = ["user likes tea", "tea", "coffee number 3", "bread number 1 tea coffee"]


def _setup(folder: Path) -> tuple[Backbone, TokenTable]:
    config = BackboneConfig(name=str(folder))
    backbone = load_backbone(config)
    return backbone, tokenize(backbone.tokenizer, {"text": TEXTS}, config)[0]


def _away(lora: Lora) -> None:
    """Move the adapters off the identity."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)


@pytest.mark.parametrize("train_layers", [None, 1])
@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_llama"])
def test_merged_weights_compute_what_the_adapters_did(
    architecture: str, train_layers: int | None, request: pytest.FixtureRequest
) -> None:
    backbone, table = _setup(request.getfixturevalue(architecture))
    names = [name for name, _ in backbone.named_parameters()]
    pooler = TextPooler(backbone, table, train_layers=train_layers, cache_mb=0)
    texts = np.arange(len(table.lengths))
    with torch.no_grad():
        plain = pooler(texts)
        lora = Lora(backbone, LoraConfig(rank=2, alpha=4), train_layers)
        torch.testing.assert_close(pooler(texts), plain, atol=1e-6, rtol=0)  # adapters begin as nothing
        _away(lora)
        adapted = pooler(texts)
        assert float((adapted - plain).abs().max()) > 0.05
        # The packed path runs through the adapters as the model's own does.
        torch.testing.assert_close(backbone(*table.padded(texts)), adapted, atol=1e-5, rtol=0)
        lora.merge()
        torch.testing.assert_close(pooler(texts), adapted, atol=1e-5, rtol=0)
    assert [name for name, _ in backbone.named_parameters()] == names
    assert not hasattr(backbone.model, "peft_config")


def test_only_adapters_learn_and_only_in_the_top_layers(tiny_bert: Path) -> None:
    backbone, table = _setup(tiny_bert)
    lora = Lora(backbone, LoraConfig(rank=2), 1)
    learning = [name for name, p in backbone.named_parameters() if p.requires_grad]
    # Six linear layers in a BERT block, a pair of matrices each.
    assert len(learning) == len(lora.parameters()) == 12
    assert all("encoder.layer.2." in name and ".lora_" in name for name in learning)
    TextPooler(backbone, table, train_layers=1, cache_mb=1)(np.array([0, 1])).sum().backward()
    assert {name for name, p in backbone.named_parameters() if p.grad is not None} == set(learning)


def test_targets_by_name(tiny_bert: Path) -> None:
    backbone, _ = _setup(tiny_bert)
    with pytest.raises(AdaptError, match="unknown linear layer 'qury'; did you mean 'query'"):
        Lora(backbone, LoraConfig(targets=("value", "qury")), None)
    lora = Lora(backbone, LoraConfig(targets=("query", "value")), None)
    assert len(lora.parameters()) == 3 * 2 * 2


def test_dropout_is_on_between_its_switches_alone(tiny_bert: Path) -> None:
    backbone, table = _setup(tiny_bert)
    lora = Lora(backbone, LoraConfig(dropout=0.5), None)
    _away(lora)
    pooler, texts = TextPooler(backbone, table, train_layers=None, cache_mb=0), np.array([0])
    with torch.no_grad():
        assert torch.equal(pooler(texts), pooler(texts))
        lora.drop(on=True)
        assert not torch.equal(pooler(texts), pooler(texts))
        lora.drop(on=False)
        assert torch.equal(pooler(texts), pooler(texts))


def test_a_trained_model_is_exported_as_an_ordinary_one(short: Runner, tiny_bert: Path, tmp_path: Path) -> None:
    before = dict(load_backbone(BackboneConfig(name=str(tiny_bert))).named_parameters())
    result = short(lora={"rank": 4, "dropout": 0.1}, learning_rate=1e-2, steps=20, validate_every=10)
    assert result.best.mean < result.history[0].mean - 0.05
    after = dict(result.model.backbone.named_parameters())
    assert after.keys() == before.keys()
    moved = {name for name, p in after.items() if not torch.equal(p, before[name])}
    # Weights of linear layers in the top two blocks; no bias, norm or lower layer.
    assert len(moved) == 12
    assert all(name.startswith(("model.encoder.layer.1.", "model.encoder.layer.2.")) for name in moved)
    assert all(after[name].ndim == 2 for name in moved)
    report = export(result.model, result.config.backbone, tmp_path / "encoder", golden=TEXTS)
    assert report.vector_difference < 1e-5
    # The exported files hold these weights and no adapter.
    again = load_backbone(BackboneConfig(name=str(tmp_path / "encoder")))
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, after[name])


@pytest.mark.parametrize("method", ["static", "pcgrad"])
def test_a_causal_model_learns_by_adapters(short: Runner, tiny_llama: Path, method: str) -> None:
    """By PCGrad on the adapters' gradients as well."""
    backbone = {"name": str(tiny_llama), "max_tokens": {"user": 16, "item": 16, "text": 16}}
    result = short(
        backbone=backbone, train_layers=None, lora={"rank": 4}, balance={"method": method, "level": "lora"},
        learning_rate=1e-2, steps=20, validate_every=10,
    )  # fmt: skip
    assert result.best.mean < result.history[0].mean - 0.05


def test_the_balance_looks_at_adapters_alone(scene: Scene) -> None:
    """At the level `lora` the mean of the tasks' gradients is the static one, for adapters, projections and heads."""
    model, batch = scene.prepared.model, scene.batches[0]
    lora = Lora(model.backbone, LoraConfig(rank=2), None)
    _away(lora)
    tasks = {name: TaskLoss(kind="classification", baseline=loss, count=9) for name, loss in scene.baselines.items()}
    found = []
    for lines in ({"method": "static"}, {"method": "mean", "level": "lora"}):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        balance = make_balance(BalanceConfig.model_validate(lines), tasks)
        looked_at = lora.parameters() if "level" in lines else []
        step = Stepper(model, balance, optimizer, 1e9, lora=looked_at)
        step(batch, scene.prepared.pooler, model.tasks)
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert {id(p) for p in step.shared} == {id(p) for p in lora.parameters()}
    assert found[0].keys() == found[1].keys()
    assert "projections.user.weight" in found[0]
    away = sum(float((found[1][name] - gradient).square().sum()) for name, gradient in found[0].items())
    # A backward pass for each task rounds in another way than one for all: by a hundredth where it runs in bfloat16.
    assert away**0.5 < 0.03 * sum(float(gradient.square().sum()) for gradient in found[0].values()) ** 0.5


def test_dropout_of_adapters_is_part_of_training_and_of_no_validation(short: Runner) -> None:
    runs = [short(lora={"dropout": rate}, steps=3, validate_every=1).history for rate in (0.0, 0.5, 0.5)]
    assert runs[1] == runs[2]
    # At step 1 the adapters have moved by the warm-up's smallest rate; their dropout has changed by how much.
    assert [a.mean == b.mean for a, b in zip(runs[0], runs[1], strict=True)] == [True, False, False, False]


def test_adapters_open_layer_by_layer(short: Runner, tiny_bert: Path) -> None:
    before = dict(load_backbone(BackboneConfig(name=str(tiny_bert))).named_parameters())
    result = short(train_layers=3, lora={"rank": 4}, unfreeze={"every": 4}, steps=8, validate_every=8)
    moved = {name for name, p in result.model.backbone.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all(name.startswith(("model.encoder.layer.1.", "model.encoder.layer.2.")) for name in moved)
