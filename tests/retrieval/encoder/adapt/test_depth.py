from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from retrieval.encoder.adapt.depth import by_depth, layer_rates
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.optimise import make_optimizer


def test_rates_by_layer_by_hand(tiny_bert: Path) -> None:
    backbone = load_backbone(BackboneConfig(name=str(tiny_bert)))
    rates = {id(p): rate for group, rate in layer_rates(backbone, 0.8, 0.5) for p in group}
    names = {name: rates[id(p)] for name, p in backbone.named_parameters()}
    # Three layers: .8 at the top, .8 / 2 and .8 / 4 below it, .8 / 8 for the embeddings.
    expected = {"encoder.layer.2.": 0.8, "encoder.layer.1.": 0.4, "encoder.layer.0.": 0.2, "embeddings.": 0.1}
    for start, rate in expected.items():
        found = {own for name, own in names.items() if name.startswith(f"model.{start}")}
        assert len(found) == 1
        assert found.pop() == pytest.approx(rate)
    assert all(name.startswith(tuple(f"model.{start}" for start in expected)) for name in names)


def test_a_last_norm_counts_to_the_top(tiny_llama: Path) -> None:
    backbone = load_backbone(BackboneConfig(name=str(tiny_llama)))
    groups = by_depth(backbone)
    assert len(groups) == 3  # embeddings and two layers
    assert list(groups[0]) == ["model.embed_tokens.weight"]
    assert "model.norm.weight" in groups[2]
    assert all(name.startswith("model.layers.0.") for name in groups[1])
    assert sum(len(group) for group in groups) == len(list(backbone.parameters()))


def test_without_decay_there_is_one_group(tiny_bert: Path) -> None:
    backbone = load_backbone(BackboneConfig(name=str(tiny_bert)))
    ((group, rate),) = layer_rates(backbone, 0.8, 1.0)
    assert rate == 0.8
    assert [id(p) for p in group] == [id(p) for p in backbone.parameters()]


def test_sgd_with_momentum_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([[2.0]]))
    optimizer = make_optimizer([([weight], 0.1)], weight_decay=0.5, method="sgd", momentum=0.9)
    found = []
    for _ in range(2):
        weight.grad = torch.tensor([[3.0]])
        optimizer.step()
        found.append(float(weight.detach()))
    # Velocity 3 + .5 * 2 = 4: 2 - .1 * 4 = 1.6. Then .9 * 4 + 3 + .5 * 1.6 = 7.4: 1.6 - .74 = .86.
    assert found == pytest.approx([1.6, 0.86])
