from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.encoder import packed
from retrieval.encoder.backbone import Backbone, load_backbone, set_trainable
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.packed import PackedBert, TextPooler
from retrieval.encoder.tokens import TokenTable, tokenize

TEXTS = ["user likes tea", "tea", "coffee number 3", "", "bread number 1 tea coffee", "辣椒 soap"]


def _setup(folder: Path, pooling: str = "mean") -> tuple[Backbone, TokenTable]:
    config = BackboneConfig.model_validate({"name": str(folder), "pooling": pooling})
    backbone = load_backbone(config)
    return backbone, tokenize(backbone.tokenizer, {"text": TEXTS}, config)[0]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("train_layers", [None, 0, 1, 3])
def test_packed_states_equal_the_models_own(tiny_bert: Path, pooling: str, train_layers: int | None) -> None:
    backbone, table = _setup(tiny_bert, pooling)
    pooler = TextPooler(backbone, table, train_layers=train_layers, cache_mb=1)
    assert pooler.packed is not None
    texts = np.array([4, 0, 2, 2, 1, 3, 5])
    with torch.no_grad():
        expected = backbone(*table.padded(texts))
        # float16 keeps 11 bits: states of size 4 in the store are off by at most 4 / 2**11 = 2e-3.
        tolerance = 1e-5 if pooler.frozen == 0 else 5e-3
        for _ in ("computed", "from the store"):
            torch.testing.assert_close(pooler(texts), expected, atol=tolerance, rtol=0)


def test_gradients_equal_the_models_own(tiny_bert: Path) -> None:
    backbone, table = _setup(tiny_bert)
    texts = np.arange(len(table.lengths))
    gradients = []
    for pooled in (
        lambda: TextPooler(backbone, table, train_layers=None, cache_mb=0)(texts),
        lambda: backbone(*table.padded(texts)),
    ):
        backbone.zero_grad()
        (pooled() ** 2).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=2e-4, rtol=1e-3)


def test_store_is_bounded_and_frozen_layers_get_no_gradient(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, table = _setup(tiny_bert)
    set_trainable(backbone, 1)
    monkeypatch.setattr(packed, "CHUNK_TOKENS", 8)
    pooler = TextPooler(backbone, table, train_layers=1, cache_mb=0)
    texts = np.arange(len(table.lengths))
    pooler(texts).sum().backward()
    assert not pooler._store.known(texts).any()
    with_gradient = {name for name, p in backbone.named_parameters() if p.grad is not None}
    assert with_gradient
    assert all(name.startswith("model.encoder.layer.2.") for name in with_gradient)


def test_other_architectures_run_their_own_forward(tiny_llama: Path) -> None:
    config = BackboneConfig(name=str(tiny_llama))
    backbone = load_backbone(config)
    assert PackedBert.fit(backbone) is None
    table, _ = tokenize(backbone.tokenizer, {"text": TEXTS}, config)
    pooler = TextPooler(backbone, table, train_layers=1, cache_mb=1)
    texts = np.array([0, 1, 2])
    with torch.no_grad():
        torch.testing.assert_close(pooler(texts), backbone(*table.padded(texts)), atol=1e-5, rtol=0)
